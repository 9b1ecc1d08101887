//! What every daemon does first and last: read the configuration, run, and say why it ends.

use std::error::Error;
use std::future::Future;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::config::{ConfigError, DaemonArgs, EXIT_BAD_CONFIG};
use crate::transport::describe;

/// Runs `serve` with what `load` reads, or only says that the configuration is good. Makes aws-lc-rs
/// the process's TLS provider. What ends the process is said on standard error: logs may not have
/// been started.
pub fn run<C, F, E>(
    program: &str,
    arguments: &DaemonArgs,
    load: impl FnOnce(Option<&Path>) -> Result<C, ConfigError>,
    serve: impl FnOnce(C) -> F,
) -> ExitCode
where
    F: Future<Output = Result<(), E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let config = match load(arguments.config.as_deref()) {
        Ok(config) => config,
        Err(error) => return fail(program, &error, EXIT_BAD_CONFIG),
    };
    if arguments.check_config {
        return ExitCode::SUCCESS;
    }
    crate::tls::install_provider();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(program, &error, 1),
    };
    match runtime.block_on(serve(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(program, error.into().as_ref(), 1),
    }
}

/// Runs a command of a daemon's program that ends by itself, with the daemon's configuration; what is
/// left running when it ends, ends with the process.
pub fn run_command<C, F>(
    program: &str,
    arguments: &DaemonArgs,
    load: impl FnOnce(Option<&Path>) -> Result<C, ConfigError>,
    command: impl FnOnce(C) -> F,
) -> ExitCode
where
    F: Future<Output = ExitCode>,
{
    let config = match load(arguments.config.as_deref()) {
        Ok(config) => config,
        Err(error) => return fail(program, &error, EXIT_BAD_CONFIG),
    };
    crate::tls::install_provider();
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let code = runtime.block_on(command(config));
            runtime.shutdown_background();
            code
        }
        Err(error) => fail(program, &error, 1),
    }
}

/// Says on standard error why a program ends.
pub fn fail(program: &str, error: &dyn Error, code: u8) -> ExitCode {
    // Standard error may be closed; the exit code says the rest.
    drop(writeln!(std::io::stderr(), "{program}: {}", describe(error)));
    ExitCode::from(code)
}
