//! The command line.

mod audit;
mod desktops;
mod groups;
mod machines;
mod placement;
mod places;
mod pools;
mod rollouts;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use audit::{AuditCommand, AuditList, Known};
pub(crate) use desktops::{
    AfterUse, AppCommand, DesktopCommand, OperationCommand, PolicyFlags, SessionCommand, Switch,
    Ways, When,
};
pub(crate) use groups::{GroupCommand, GroupSettings};
pub(crate) use machines::{MachineCommand, MachineUpdate};
pub(crate) use placement::{Explanation, HostUpdate, WhatIf};
pub(crate) use places::{
    EnrollRole, HostCommand, Most, TemplateCommand, TenantBrand, TenantCommand, TenantUpdate,
    UsageArguments, UserCommand,
};
pub(crate) use pools::{AfterSession, Kind, PoolCommand, PoolCreation, PoolUpdate};
pub(crate) use rollouts::{BatchArguments, BatchCommand, RolloutCommand, RolloutStart};

/// Said at the end of `vidictl --help` and in the manual.
const MORE: &str = "\
On the machine of a controller root needs no sign-in. From elsewhere:
  vidictl --server controller.example:7443 --ca ca.pem sign-in ana

First steps:
  vidictl template create debian --from /var/lib/vidi/templates/debian
  vidictl user create ana --role user
  vidictl desktop create --template debian --user ana --start --wait
  vidictl desktop list

For programs: -o json prints one line of JSON with the field names of the API.

Exit codes:
  0  done
  1  the controller refused it, or it failed
  2  the command line is wrong
  3  no controller answers
  4  you are not signed in, or your roles do not allow it
  5  there is no such thing, or it belongs to somebody else
  6  the time given to wait is over; it may still happen
  7  a question was answered with no; nothing was changed";

/// Manages a Vidi installation: users, templates, desktops, pools, hosts, sessions.
#[derive(Debug, Parser)]
#[command(name = "vidictl", version, after_long_help = MORE, disable_help_subcommand = true)]
pub(crate) struct Arguments {
    /// Where and how to ask.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Where and how to ask")]
pub(crate) struct Global {
    /// The local controller's socket.
    #[arg(long, global = true, value_name = "PATH", default_value = "/run/vidi/controller.sock")]
    pub socket: PathBuf,
    /// Controllers over the network, instead of the socket: one, or several with commas between them, of
    /// which the one that leads is found; needs --ca and a sign-in.
    #[arg(long, global = true, value_name = "HOST:PORT", value_delimiter = ',', requires = "ca")]
    pub server: Vec<String>,
    /// The installation's CA certificate: `ca.pem` in the identity folder of any daemon.
    #[arg(long, global = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The file that keeps the sign-in [default: ~/.config/vidi/token, but none for root on the
    /// socket].
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The tenant whose things are meant.
    #[arg(long, global = true, default_value = "default")]
    pub tenant: String,
    /// Tables for people or JSON for programs.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns.
    Table,
    /// One JSON value; field names are those of the API.
    Json,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Make, start, stop and delete desktops; see who is on them.
    #[command(subcommand, visible_alias = "desktops")]
    Desktop(DesktopCommand),
    /// Desktops of one template for many users, some of them kept ready.
    #[command(subcommand, visible_alias = "pools")]
    Pool(PoolCommand),
    /// Physical machines with a SPICE server, on the same menus.
    #[command(subcommand, visible_alias = "machines")]
    Machine(MachineCommand),
    /// See hosts, let one join, take one out of use.
    #[command(subcommand, visible_alias = "hosts")]
    Host(HostCommand),
    /// Golden images that desktops are made from.
    #[command(subcommand, visible_alias = "templates")]
    Template(TemplateCommand),
    /// Bring a version of a template to a pool step by step, and back when it fails.
    #[command(subcommand, visible_alias = "rollouts")]
    Rollout(RolloutCommand),
    /// Start, stop, restart or message many desktops at once.
    #[command(subcommand)]
    Batch(BatchCommand),
    /// People who sign in with a password kept here.
    #[command(subcommand, visible_alias = "users")]
    User(UserCommand),
    /// Groups of users: roles, pools and desktops for many at once.
    #[command(subcommand, visible_alias = "groups")]
    Group(GroupCommand),
    /// Customers of this installation; nothing crosses them.
    #[command(subcommand, visible_alias = "tenants")]
    Tenant(TenantCommand),
    /// Who is on which desktop.
    #[command(subcommand, visible_alias = "sessions")]
    Session(SessionCommand),
    /// Hours that desktops ran and people were connected.
    Usage(UsageArguments),
    /// Who changed what, and what was refused.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Long-running changes.
    #[command(subcommand, visible_alias = "operations")]
    Operation(OperationCommand),
    /// Your own menu, as the browser shows it.
    #[command(subcommand, visible_alias = "apps")]
    App(AppCommand),
    /// Sign in and keep the sign-in; the password is read from standard input or asked for.
    SignIn {
        /// The user's name in --tenant.
        user: String,
    },
    /// End the sign-in and forget it.
    SignOut,
    /// Say who you are and what you may do.
    Whoami,
    /// Print a completion script for a shell.
    #[command(after_long_help = COMPLETIONS)]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Write the manual pages of vidictl and of the daemons.
    #[command(hide = true)]
    Man {
        /// Into this folder.
        folder: PathBuf,
        /// Also a page for each commented configuration (NAME.toml) of this folder.
        #[arg(long, value_name = "DIR")]
        configurations: Option<PathBuf>,
    },
}

const COMPLETIONS: &str = "\
The packages install these already. By hand:
  vidictl completions bash > /etc/bash_completion.d/vidictl
  vidictl completions zsh > /usr/local/share/zsh/site-functions/_vidictl
  vidictl completions fish > ~/.config/fish/completions/vidictl.fish";

/// When to return.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Wait {
    /// Return when it has happened, not when it has begun.
    #[arg(long)]
    pub wait: bool,
    /// With --wait: at most so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub timeout: u32,
}

/// Whether to ask before something is lost.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Yes {
    /// Do not ask. Without a terminal nothing is asked either.
    #[arg(short, long)]
    pub yes: bool,
}

/// What is deleted, and whether to ask first.
#[derive(Clone, Debug, Args)]
pub(crate) struct Deletion {
    /// Its id.
    pub name: String,
    /// Whether to ask first.
    #[command(flatten)]
    pub yes: Yes,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_part_of_it_explained() {
        Arguments::command().debug_assert();
        let mut unexplained = Vec::new();
        let mut left = vec![Arguments::command()];
        let mut seen = 0;
        while let Some(command) = left.pop() {
            seen += 1;
            if command.get_about().is_none() {
                unexplained.push(command.get_name().to_owned());
            }
            for argument in command.get_arguments().filter(|it| it.get_help().is_none()) {
                unexplained.push(format!("{} {}", command.get_name(), argument.get_id()));
            }
            left.extend(command.get_subcommands().cloned());
        }
        assert!(40 < seen, "{seen}");
        assert!(unexplained.is_empty(), "{unexplained:?}");
    }
}
