//! The command line for pools.

use clap::{Args, Subcommand, ValueEnum};
use vidi_proto::v1::ScheduleRule;

use super::Deletion;
use super::desktops::{PolicyFlags, Switch};
use crate::schedule::rule;

const CREATE: &str = "\
Examples:
  vidictl pool create kiosk --template debian --spare 5 --max 40 --everyone
  vidictl pool create office --template debian --kind dedicated --spare 2 --max 60 --user ana,ben

Its first desktops are begun at once. Each takes the memory of the template while it runs, used or not:
--spare is what it costs that nobody waits.

--kind floating: a desktop is destroyed with everything on it as soon as its user is done, or was away for
too long; nobody else ever gets it. --kind dedicated: a user's first click takes a desktop, and it stays
that user's.";

const UPDATE: &str = "\
A desktop that somebody uses is not touched: what is too many goes when nobody has it. Kind and template
never change: make another pool.

Examples:
  vidictl pool update kiosk --spare 10 --max 80
  vidictl pool update kiosk --time-zone Europe/Rome --rule 'mon-fri 07:30-18:00 spare=10'
  vidictl pool update kiosk --rule 'daily 22:00-06:00 max=0' --rule 'mon-fri 07:30-18:00 spare=10'
  vidictl pool update office --add-user eva --remove-user ben";

const DELETE: &str = "\
Refused while somebody uses one of its desktops or, in a dedicated pool, has one. --force ends their
sessions and destroys their desktops, with everything on them.";

/// Pools: desktops of one template for a set of users, some of them kept ready. POOL is an id, as
/// `vidictl pool list` shows it.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum PoolCommand {
    /// Make a pool and its first desktops.
    #[command(after_long_help = CREATE)]
    Create(Box<PoolCreation>),
    /// List pools: desktops ready, on their way and in use, who waits, and what is wrong.
    List,
    /// Show all that is known of one.
    #[command(visible_alias = "get")]
    Show {
        /// Its id.
        pool: String,
    },
    /// Change what is given.
    #[command(after_long_help = UPDATE)]
    Update(Box<PoolUpdate>),
    /// Take a pool off the menus and destroy its desktops.
    #[command(after_long_help = DELETE)]
    Delete {
        /// Which, and whether to ask first.
        #[command(flatten)]
        deletion: Deletion,
        /// Also where somebody uses or has a desktop of it.
        #[arg(long)]
        force: bool,
    },
    /// Show how a day would go quarter by quarter: who is expected, how many desktops would be kept free.
    Forecast {
        /// Its id.
        pool: String,
        /// A day as 2026-11-30, by the pool's clocks [default: today].
        #[arg(long)]
        day: Option<String>,
    },
    /// Show changes as they happen, until interrupted.
    Watch,
    /// Make desktops again, where it was suspended since one after the other failed.
    Resume {
        /// Its id.
        pool: String,
    },
}

/// A new pool.
#[derive(Clone, Debug, Args)]
pub(crate) struct PoolCreation {
    /// Its id: a-z, 0-9, dashes.
    pub(crate) pool: String,
    /// Desktops are made from this template's newest version.
    #[arg(long)]
    pub(crate) template: String,
    /// For people, on their menus [default: its id].
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Whether a desktop outlives its user's session.
    #[arg(long, value_enum, default_value_t = Kind::Floating)]
    pub(crate) kind: Kind,
    /// Free desktops that are kept ready.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub(crate) spare: u32,
    /// Desktops there may be at any time, used and unused.
    #[arg(long, value_name = "COUNT")]
    pub(crate) max: u32,
    /// On these users' menus: more than once, or with commas.
    #[arg(
        long,
        visible_alias = "users",
        value_delimiter = ',',
        required_unless_present = "everyone"
    )]
    pub(crate) user: Vec<String>,
    /// On the menus of all users of the tenant.
    #[arg(long, conflicts_with = "user")]
    pub(crate) everyone: bool,
    /// For how long sessions last.
    #[command(flatten)]
    pub(crate) times: Times,
    /// When it is of another size.
    #[command(flatten)]
    pub(crate) sizes: Sizes,
    /// What becomes of a dedicated desktop when its session ends [default: stop].
    #[arg(long, value_enum)]
    pub(crate) after_use: Option<AfterSession>,
    /// What passes between its desktops and browsers.
    #[command(flatten)]
    pub(crate) policy: PolicyFlags,
}

/// What of a pool changes.
#[derive(Clone, Debug, Args)]
pub(crate) struct PoolUpdate {
    /// Its id.
    pub(crate) pool: String,
    /// For people, on their menus.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Free desktops that are kept ready.
    #[arg(long, value_name = "COUNT")]
    pub(crate) spare: Option<u32>,
    /// Desktops there may be at any time, used and unused.
    #[arg(long, value_name = "COUNT")]
    pub(crate) max: Option<u32>,
    /// On these users' menus from now on, in place of those it was on.
    #[arg(long, visible_alias = "users", value_delimiter = ',', conflicts_with_all = ["add_user", "remove_user"])]
    pub(crate) user: Vec<String>,
    /// On these users' menus, too.
    #[arg(long, value_name = "USER", value_delimiter = ',')]
    pub(crate) add_user: Vec<String>,
    /// Not on these users' menus any more; what they have open goes on.
    #[arg(long, value_name = "USER", value_delimiter = ',')]
    pub(crate) remove_user: Vec<String>,
    /// On the menus of all users of the tenant.
    #[arg(long, conflicts_with_all = ["user", "add_user", "remove_user"])]
    pub(crate) everyone: bool,
    /// For how long sessions last.
    #[command(flatten)]
    pub(crate) times: Times,
    /// When it is of another size; the rules that are given replace all it has.
    #[command(flatten)]
    pub(crate) sizes: Sizes,
    /// No rules any more: it is always of the same size.
    #[arg(long, conflicts_with = "rule")]
    pub(crate) no_rules: bool,
    /// What becomes of a dedicated desktop when its session ends.
    #[arg(long, value_enum)]
    pub(crate) after_use: Option<AfterSession>,
    /// What passes between its desktops and browsers; what is not given stays as it is.
    #[command(flatten)]
    pub(crate) policy: PolicyFlags,
}

/// For how long sessions last.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct Times {
    /// A session ends when nobody was connected to it for so long; 0: the controller's own
    /// disconnect_secs.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) disconnect_secs: Option<u32>,
    /// A session ends when it has lasted for so long, used or not; 0: never for this.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) max_session_secs: Option<u32>,
    /// A session ends when somebody was connected to it for so long without touching keyboard or mouse; 0:
    /// never for this.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) idle_secs: Option<u32>,
    /// A click is refused to who has so many desktops of pools open, this one counted; 0: never for this.
    #[arg(long, value_name = "COUNT")]
    pub(crate) user_sessions_max: Option<u32>,
}

/// When a pool is of another size.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Sizes {
    /// By whose clocks the rules go: an IANA name, as Europe/Rome [default for a new one: UTC].
    #[arg(long, value_name = "ZONE")]
    pub(crate) time_zone: Option<String>,
    /// A rule of its schedule, more than once for several; the first one that holds counts:
    /// "mon-fri 07:30-18:00 spare=10 max=60".
    #[arg(long, value_name = "RULE", value_parser = rule)]
    pub(crate) rule: Vec<ScheduleRule>,
    /// Keep as many desktops free as people are expected, where those are more than --spare [default for a
    /// new one: off].
    #[arg(long, value_enum, value_name = "ON|OFF")]
    pub(crate) forecast: Option<Switch>,
}

/// Whether a desktop outlives its user's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// It is destroyed after its user.
    Floating,
    /// It stays its user's.
    Dedicated,
}

/// What becomes of a dedicated desktop when its session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AfterSession {
    /// It goes on running for its user.
    Keep,
    /// It is shut down and keeps its disk; a click starts it again.
    Stop,
}
