//! The command line for desktops, who is on them, and the changes that go on.

use clap::{Args, Subcommand, ValueEnum};

use super::{Wait, Yes};

const CREATE: &str = "\
Examples:
  vidictl desktop create --template debian --name \"Ana's desktop\" --user ana --start --wait
  vidictl desktop create --template kiosk --after-use delete

It is made from the template's newest version and keeps that version. A click on it in the browser
starts it where it is off.";

const UPDATE: &str = "\
A session that is shown follows a changed policy within 20 s.

Examples:
  vidictl desktop update \"Ana's desktop\" --clipboard to-guest --files off --watermark on
  vidictl desktop update 0192f3aa --name \"Reception\" --after-use keep";

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
        /// What passes between it and browsers.
        #[command(flatten)]
        policy: PolicyFlags,
        /// Start it at once.
        #[arg(long)]
        start: bool,
        /// When to return.
        #[command(flatten)]
        wait: Wait,
    },
    /// Change its name, what becomes of it after use, or what passes between it and browsers.
    #[command(after_long_help = UPDATE)]
    Update {
        /// Id, beginning of an id, or name.
        desktop: String,
        /// For people. Its entry on menus keeps its id.
        #[arg(long)]
        name: Option<String>,
        /// What becomes of it when a session on it has ended.
        #[arg(long, value_enum)]
        after_use: Option<AfterUse>,
        /// What passes between it and browsers; what is not given stays as it is.
        #[command(flatten)]
        policy: PolicyFlags,
    },
    /// List desktops: whose, in what state since when, on which host, and who is on them.
    List {
        /// Only those of this pool.
        #[arg(long)]
        pool: Option<String>,
    },
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
    /// Keep it for a user, with all that is on it: one without a pool, or one of a dedicated pool for a user of
    /// that pool.
    Assign {
        /// Id, beginning of an id, or name.
        desktop: String,
        /// The user's id.
        user: String,
    },
    /// Keep it for nobody. One of a dedicated pool leaves the pool: nobody finds what was somebody's by a
    /// click.
    Unassign {
        /// Id, beginning of an id, or name.
        desktop: String,
    },
    /// Show a message over its picture to whoever has a session on it.
    Message {
        /// Id, beginning of an id, or name.
        desktop: String,
        /// What they read.
        text: String,
    },
    /// Show changes as they happen, until interrupted.
    Watch,
}

/// What passes between a desktop and browsers, beside picture and input.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct PolicyFlags {
    /// Which ways the clipboard goes [default for a new one: both].
    #[arg(long, value_enum, value_name = "WAYS")]
    pub(crate) clipboard: Option<Ways>,
    /// Files from the browser into the desktop [default for a new one: on].
    #[arg(long, value_enum, value_name = "ON|OFF")]
    pub(crate) files: Option<Switch>,
    /// Sound out of the desktop [default for a new one: on].
    #[arg(long, value_enum, value_name = "ON|OFF")]
    pub(crate) sound: Option<Switch>,
    /// The browser's microphone into the desktop [default for a new one: on].
    #[arg(long, value_enum, value_name = "ON|OFF")]
    pub(crate) microphone: Option<Switch>,
    /// Whether its user may let others of the tenant in [default for a new one: on].
    #[arg(long, value_enum, value_name = "ON|OFF")]
    pub(crate) sharing: Option<Switch>,
    /// The display as SPICE itself, for other SPICE clients; not beside any restriction, recording or
    /// watermark [default for a new one: off].
    #[arg(long, value_enum, value_name = "ON|OFF")]
    pub(crate) raw: Option<Switch>,
    /// When the picture is recorded; its viewers see that it is [default for a new one: never].
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(crate) recording: Option<When>,
    /// Draw the names of those who look and the time into the picture that is sent [default for a new
    /// one: off].
    #[arg(long, value_enum, value_name = "ON|OFF")]
    pub(crate) watermark: Option<Switch>,
}

/// Which ways a clipboard goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ways {
    /// Into the desktop and out of it.
    Both,
    /// Only into it.
    ToGuest,
    /// Only out of it.
    FromGuest,
    /// Neither.
    Off,
}

/// Whether something is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// When a picture is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// Never.
    Never,
    /// When its user starts it.
    OnRequest,
    /// From the first viewer to the last.
    Always,
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
    /// Show a message over the picture to its user.
    Message {
        /// Its id, as `session list` shows it.
        session: String,
        /// What the user reads.
        text: String,
    },
    /// End a session; its desktop then does what its --after-use says.
    Release {
        /// Its id, as `session list` shows it.
        session: String,
        /// Whether to ask first, where the desktop would be destroyed.
        #[command(flatten)]
        yes: Yes,
    },
    /// Show changes as they happen, until interrupted; ended sessions once.
    Watch,
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
    /// Begin nothing more of an operation on many desktops.
    Cancel {
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
