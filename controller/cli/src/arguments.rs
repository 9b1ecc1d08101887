//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Manages a Vidi installation.
#[derive(Debug, Parser)]
#[command(name = "vidictl", version)]
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
pub(crate) struct Global {
    /// The local controller's socket.
    #[arg(long, global = true, value_name = "PATH", default_value = "/run/vidi/controller.sock")]
    pub socket: PathBuf,
    /// A controller over the network, instead of the socket; needs a sign-in.
    #[arg(long, global = true, value_name = "HOST:PORT", requires = "ca")]
    pub server: Option<String>,
    /// The installation's CA certificate (`ca.pem` in a controller's or an agent's state folder).
    #[arg(long, global = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The file that keeps the sign-in; by default it is used over the network and for other users
    /// than root.
    #[arg(long, global = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The tenant.
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
    /// Sign in and keep the sign-in; the password is read from standard input or asked for.
    SignIn {
        /// The user's name.
        user: String,
    },
    /// End the sign-in.
    SignOut,
    /// Say who you are and what you may do.
    Whoami,
    /// Golden images.
    #[command(subcommand)]
    Template(TemplateCommand),
    /// Desktops.
    #[command(subcommand)]
    Desktop(DesktopCommand),
    /// KVM machines.
    #[command(subcommand)]
    Host(HostCommand),
    /// Local users.
    #[command(subcommand)]
    User(UserCommand),
    /// Who is on which desktop.
    #[command(subcommand)]
    Session(SessionCommand),
    /// The caller's menu.
    #[command(subcommand)]
    App(AppCommand),
    /// Long-running changes.
    #[command(subcommand)]
    Operation(OperationCommand),
}

/// Golden images.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TemplateCommand {
    /// Upload a folder with a `template.toml` as the newest version of a template.
    Create {
        /// Its id: a-z, 0-9, dashes.
        name: String,
        /// The folder.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// For people; by default the name in `template.toml`.
        #[arg(long)]
        display_name: Option<String>,
    },
    /// List templates.
    List,
    /// Delete a template that no desktop uses.
    Delete {
        /// Its id.
        name: String,
    },
}

/// Desktops. DESKTOP is an id, the beginning of one, or a display name, where only one has it.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DesktopCommand {
    /// Make a desktop.
    Create {
        /// From this template's newest version.
        #[arg(long)]
        template: String,
        /// For people; by default the template's name.
        #[arg(long)]
        name: Option<String>,
        /// Kept for this user.
        #[arg(long)]
        user: Option<String>,
        /// Start it at once.
        #[arg(long)]
        start: bool,
        /// When to return.
        #[command(flatten)]
        wait: Wait,
    },
    /// List desktops.
    List,
    /// Show one.
    Get {
        /// Which.
        desktop: String,
    },
    /// Start it.
    Start {
        /// Which.
        desktop: String,
        /// When to return.
        #[command(flatten)]
        wait: Wait,
    },
    /// Ask the guest to shut down, then force it.
    Stop {
        /// Which.
        desktop: String,
        /// Pull the plug.
        #[arg(long)]
        force: bool,
        /// When to return.
        #[command(flatten)]
        wait: Wait,
    },
    /// Destroy it and what is on it.
    Delete {
        /// Which.
        desktop: String,
        /// When to return.
        #[command(flatten)]
        wait: Wait,
    },
    /// Show changes as they happen, until interrupted.
    Watch,
}

/// When to return.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Wait {
    /// Return when it has happened, not when it has begun.
    #[arg(long)]
    pub wait: bool,
    /// Wait at most so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub timeout: u32,
}

/// KVM machines.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// List hosts.
    List,
    /// Show one.
    Get {
        /// Its id.
        host: String,
    },
    /// Print a one-use token with which a daemon on another machine enrols.
    EnrollToken {
        /// agent or gateway.
        #[arg(long, default_value = "agent")]
        role: String,
        /// The id that the daemon gets; by default its host name.
        #[arg(long)]
        id: Option<String>,
    },
}

/// Local users.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Make a user; the password is read from standard input or asked for.
    Create {
        /// a-z, 0-9, dots, dashes, underscores.
        name: String,
        /// For people.
        #[arg(long)]
        display_name: Option<String>,
        /// operator, admin, helpdesk, auditor or user; more than once for more roles.
        #[arg(long)]
        role: Vec<String>,
    },
    /// List users.
    List,
    /// Delete a user.
    Delete {
        /// Which.
        name: String,
    },
    /// Set a password, read from standard input or asked for; ends the user's sign-ins.
    SetPassword {
        /// Whose.
        name: String,
    },
}

/// Who is on which desktop.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List sessions.
    List,
    /// End a session.
    Release {
        /// Its id.
        session: String,
    },
}

/// The caller's menu.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AppCommand {
    /// List what the caller can open.
    List,
    /// Claim the desktop behind an entry.
    Open {
        /// The entry's id.
        app: String,
    },
}

/// Long-running changes.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum OperationCommand {
    /// List operations.
    List,
    /// Show one.
    Get {
        /// Its id.
        operation: String,
    },
    /// Wait until it ends; fails when it failed.
    Wait {
        /// Its id.
        operation: String,
        /// Wait at most so many seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 600)]
        timeout: u32,
    },
}
