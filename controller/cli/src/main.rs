//! The command line of Vidi.

mod arguments;
mod connect;
mod desktops;
mod output;
mod people;
mod places;
mod template;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tonic::Status;
use tonic_types::StatusExt;

use crate::arguments::{Arguments, Command, Global};

/// Exit code of a command that failed; clap ends with 2 when it is called wrongly.
const EXIT_FAILED: u8 = 1;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(&arguments.global, arguments.command)),
        Err(error) => Err(error.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; the exit code says the rest.
            drop(writeln!(std::io::stderr(), "error: {}", describe(&error)));
            ExitCode::from(EXIT_FAILED)
        }
    }
}

async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    match command {
        Command::SignIn { user } => people::sign_in(global, user).await,
        Command::SignOut => people::sign_out(global).await,
        Command::Whoami => people::whoami(global).await,
        Command::User(command) => people::user(global, command).await,
        Command::Template(command) => places::template(global, command).await,
        Command::Host(command) => places::host(global, command).await,
        Command::Desktop(command) => desktops::desktop(global, command).await,
        Command::Session(command) => desktops::session(global, command).await,
        Command::App(command) => desktops::app(global, command).await,
        Command::Operation(command) => desktops::operation(global, command).await,
    }
}

/// The server's sentence and its reason, or our own error and its causes.
fn describe(error: &anyhow::Error) -> String {
    let Some(status) = error.downcast_ref::<Status>() else { return format!("{error:#}") };
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone());
    let reason = reason.unwrap_or_else(|| format!("{:?}", status.code()));
    format!("{} [{reason}]", status.message())
}
