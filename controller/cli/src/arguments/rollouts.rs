//! The command line for roll-outs, changes of many desktops, and messages.

use clap::{Args, Subcommand};

use super::{Wait, Yes};

const START: &str = "\
First the canaries: desktops of the new version beside the others. When all have been ready for --soak
seconds, waves follow until no free desktop of the old version is left. A desktop that somebody uses is
never touched: one of a floating pool is replaced after its user, one that belongs to a user keeps its
version. With one failure more than --failures it goes back by itself.

Examples:
  vidictl rollout start kiosk 4f1c22ab --canaries 2 --soak 300
  vidictl rollout start kiosk 4f1c22ab --wave 10 --failures 1 --wait";

/// Roll-outs: a version of a template comes to a pool step by step. ROLLOUT is an id, or the beginning of
/// one (4 letters or more), as `vidictl rollout list` shows it.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Begin one.
    #[command(after_long_help = START)]
    Start(RolloutStart),
    /// List roll-outs, oldest first: to which pool, where they are, what failed.
    List {
        /// Only those of this pool.
        #[arg(long)]
        pool: Option<String>,
    },
    /// Show all that is known of one.
    #[command(visible_alias = "get")]
    Show {
        /// Id, or the beginning of one.
        rollout: String,
    },
    /// Make no more desktops of the new version, until it is resumed.
    Pause {
        /// Id, or the beginning of one.
        rollout: String,
    },
    /// Go on.
    Resume {
        /// Id, or the beginning of one.
        rollout: String,
    },
    /// End it where it is: desktops of the new version are used up, new ones have the old version.
    Cancel {
        /// Id, or the beginning of one.
        rollout: String,
    },
    /// Go back: free desktops of the new version are replaced by those of the old one.
    RollBack {
        /// Id, or the beginning of one.
        rollout: String,
    },
}

/// A new roll-out.
#[derive(Clone, Debug, Args)]
pub(crate) struct RolloutStart {
    /// To the desktops of this pool.
    pub(crate) pool: String,
    /// The version's digest, or the beginning of it: `vidictl template versions` shows them.
    pub(crate) version: String,
    /// Desktops of the new version that are made first.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(crate) canaries: u32,
    /// How many more each wave makes, percent of the pool's desktops.
    #[arg(long, value_name = "PERCENT", default_value_t = 25)]
    pub(crate) wave: u32,
    /// A desktop of the new version that is not ready after this has failed.
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub(crate) ready: u32,
    /// So long the desktops of a step must have been ready before the next.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) soak: u32,
    /// Failures that it stands.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub(crate) failures: u32,
    /// When to return.
    #[command(flatten)]
    pub(crate) wait: Wait,
}

const BATCH: &str = "\
Without any choice all desktops of the tenant are meant. --dry-run says how many that are.

Examples:
  vidictl batch restart --pool kiosk --idle --wait
  vidictl batch message --pool class-3b \"The exam ends in five minutes.\"
  vidictl batch stop --template debian --at-a-time 50";

/// The same with many desktops, some at a time.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum BatchCommand {
    /// Start desktops.
    #[command(after_long_help = BATCH)]
    Start(BatchArguments),
    /// Ask the guests to shut down; after a time limit pull the plug. Sessions on them end.
    #[command(after_long_help = BATCH)]
    Stop {
        /// Which, and how.
        #[command(flatten)]
        batch: BatchArguments,
        /// Pull the plug at once: unsaved work is lost.
        #[arg(long)]
        force: bool,
        /// Whether to ask first.
        #[command(flatten)]
        yes: Yes,
    },
    /// Stop desktops and start them again; sessions on them go on.
    #[command(after_long_help = BATCH)]
    Restart {
        /// Which, and how.
        #[command(flatten)]
        batch: BatchArguments,
        /// Pull the plug instead of asking the guests: unsaved work is lost.
        #[arg(long)]
        force: bool,
        /// Whether to ask first.
        #[command(flatten)]
        yes: Yes,
    },
    /// Show a message to all who have a session on one of the desktops.
    #[command(after_long_help = BATCH)]
    Message {
        /// What they read.
        text: String,
        /// Which, and how.
        #[command(flatten)]
        batch: BatchArguments,
    },
}

/// Which desktops, and how.
#[derive(Clone, Debug, Args)]
pub(crate) struct BatchArguments {
    /// Of this pool.
    #[arg(long)]
    pub(crate) pool: Option<String>,
    /// Of this template.
    #[arg(long)]
    pub(crate) template: Option<String>,
    /// Assigned to this user.
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Placed on this host; for operators.
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// These, by their ids: more than once, or with commas.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub(crate) desktop: Vec<String>,
    /// Only those on which somebody has a session.
    #[arg(long)]
    pub(crate) used: bool,
    /// Only those on which nobody has a session.
    #[arg(long, conflicts_with = "used")]
    pub(crate) idle: bool,
    /// So many at a time.
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub(crate) at_a_time: u32,
    /// Only say how many desktops are meant.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// When to return.
    #[command(flatten)]
    pub(crate) wait: Wait,
}
