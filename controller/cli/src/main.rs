//! The command line of Vidi.

mod arguments;
mod ask;
mod audit;
mod batches;
mod connect;
mod desktops;
mod display_policy;
mod failure;
mod groups;
mod host_rules;
mod hosts;
mod machines;
mod manual;
mod named;
mod operations;
mod output;
mod people;
mod placement;
mod pools;
mod rollouts;
mod schedule;
mod sessions;
mod template;
mod templates;
mod tenants;
mod when;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command, Global};

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
            drop(writeln!(std::io::stderr(), "error: {}", failure::describe(&error)));
            if error.is::<tonic::Status>() {
                // By it the daemons' logs say more.
                drop(writeln!(std::io::stderr(), "trace: {}", connect::run_trace()));
            }
            failure::exit_code(&error)
        }
    }
}

async fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    match command {
        Command::SignIn { user } => people::sign_in(global, user).await,
        Command::SignOut => people::sign_out(global).await,
        Command::Whoami => people::whoami(global).await,
        Command::User(command) => people::user(global, command).await,
        Command::Group(command) => groups::group(global, command).await,
        Command::Tenant(command) => tenants::tenant(global, command).await,
        Command::Usage(arguments) => tenants::usage(global, arguments).await,
        Command::Audit(command) => audit::audit(global, command).await,
        Command::Template(command) => templates::template(global, command).await,
        Command::Host(command) => hosts::host(global, command).await,
        Command::Desktop(command) => desktops::desktop(global, command).await,
        Command::Pool(command) => pools::pool(global, command).await,
        Command::Rollout(command) => rollouts::rollout(global, command).await,
        Command::Batch(command) => batches::batch(global, command).await,
        Command::Machine(command) => machines::machine(global, command).await,
        Command::Session(command) => sessions::session(global, command).await,
        Command::App(command) => sessions::app(global, command).await,
        Command::Operation(command) => operations::operation(global, command).await,
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { folder, configurations } => {
            manual::pages(&folder, configurations.as_deref())
        }
    }
}
