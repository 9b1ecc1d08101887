//! The command line for desktops, who is on them, and the changes that go on.

use clap::{Subcommand, ValueEnum};

use super::{Wait, Yes};

const CREATE: &str = "\
Examples:
  vidictl desktop create --template debian --name \"Ana's desktop\" --user ana --start --wait
  vidictl desktop create --template kiosk --after-use delete

It is made from the template's newest version and keeps that version. A click on it in the browser
starts it where it is off.";

const DELETE: &str = "\
What is on the desktop's disk is lost for good; a session on it ends at once.

Examples:
  vidictl desktop delete \"Ana's desktop\"
  vidictl desktop delete 0192f3aa --yes --wait";

/// Desktops. DESKTOP is an id, the beginning of one (4 letters or more), or a display name, where
/// only one has it.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DesktopCommand {
    /// Make a desktop from a template and place it on a host.
    #[command(after_long_help = CREATE)]
    Create {
        /// From this template's newest version.
        #[arg(long)]
        template: String,
        /// For people [default: the template's name].
        #[arg(long)]
        name: Option<String>,
        /// Kept for this user; nobody else sees it on a menu.
        #[arg(long)]
        user: Option<String>,
        /// What becomes of it when a session on it has ended, because its user released it or was
        /// gone for longer than the controller's disconnect_secs.
        #[arg(long, value_enum, default_value_t = AfterUse::Stop)]
        after_use: AfterUse,
        /// Start it at once.
        #[arg(long)]
        start: bool,
        /// When to return.
        #[command(flatten)]
        wait: Wait,
    },
    /// List desktops: whose, in what state since when, on which host, and who is on them.
    List,
    /// Show all that is known of one.
    Get {
        /// Id, beginning of an id, or name.
        desktop: String,
    },
    /// Start it; with --wait until its guest has answered and its first picture is drawn.
    Start {
        /// Id, beginning of an id, or name.
        desktop: String,
        /// When to return.
        #[command(flatten)]
        wait: Wait,
    },
    /// Ask the guest to shut down; after a time limit pull the plug. A session on it ends.
    Stop {
        /// Id, beginning of an id, or name.
        desktop: String,
        /// Pull the plug at once: unsaved work is lost.
        #[arg(long)]
        force: bool,
        /// When to return.
        #[command(flatten)]
        wait: Wait,
    },
    /// Stop it and start it again; a session on it goes on.
    Restart {
        /// Id, beginning of an id, or name.
        desktop: String,
        /// Pull the plug instead of asking the guest: unsaved work is lost.
        #[arg(long)]
        force: bool,
        /// When to return.
        #[command(flatten)]
        wait: Wait,
    },
    /// Destroy it and what is on it.
    #[command(after_long_help = DELETE)]
    Delete {
        /// Id, beginning of an id, or name.
        desktop: String,
        /// Whether to ask first.
        #[command(flatten)]
        yes: Yes,
        /// When to return.
        #[command(flatten)]
        wait: Wait,
    },
    /// Show changes as they happen, until interrupted.
    Watch,
}

/// What becomes of a desktop when its session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AfterUse {
    /// It goes on running for its next session.
    Keep,
    /// It is shut down and keeps its disk; a click starts it again.
    Stop,
    /// It is destroyed with its disk.
    Delete,
}

/// Who is on which desktop.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SessionCommand {
    /// List sessions: who, on which desktop, connected or not, since when.
    List,
    /// End a session; its desktop then does what its --after-use says.
    Release {
        /// Its id, as `session list` shows it.
        session: String,
        /// Whether to ask first, where the desktop would be destroyed.
        #[command(flatten)]
        yes: Yes,
    },
}

/// The caller's menu.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AppCommand {
    /// List what you can open.
    List,
    /// Claim the desktop behind an entry, as a click in the browser does.
    Open {
        /// The entry's id, as `app list` shows it.
        app: String,
    },
}

/// Long-running changes.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum OperationCommand {
    /// List operations that go on or have ended lately.
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
