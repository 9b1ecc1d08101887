//! The command line of groups.

use clap::{Args, Subcommand};

use super::Deletion;

const GROUP: &str = "\
Every member has the group's roles beside the own ones, and what the group opens on the menu: pools by
their ids, and desktops by theirs that are of no pool and assigned to nobody.

Example:
  vidictl group create class-7b --open maths-lab --open 0198c1a2-5e6f-7a8b-9c0d-112233445566
  vidictl group add class-7b ana ben carla";

/// Groups of users.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Make a group.
    #[command(after_long_help = GROUP)]
    Create {
        /// Its id: a-z, 0-9, dashes.
        name: String,
        /// What it gives its members.
        #[command(flatten)]
        settings: GroupSettings,
    },
    /// List groups.
    List,
    /// Show a group.
    Get {
        /// Its id.
        name: String,
    },
    /// List who is in a group.
    Members {
        /// Its id.
        name: String,
    },
    /// Change what a group gives its members; what is not given stays.
    #[command(after_long_help = GROUP)]
    Update {
        /// Its id.
        name: String,
        /// What it gives its members.
        #[command(flatten)]
        settings: GroupSettings,
    },
    /// Put users into a group.
    Add {
        /// The group's id.
        name: String,
        /// Who.
        #[arg(required = true)]
        users: Vec<String>,
    },
    /// Take users out of a group.
    Remove {
        /// The group's id.
        name: String,
        /// Who.
        #[arg(required = true)]
        users: Vec<String>,
    },
    /// Delete a group of at most 100 members; they lose what it gave, sessions that are open go on.
    Delete(Deletion),
}

/// What a group gives its members.
#[derive(Clone, Debug, Args)]
pub(crate) struct GroupSettings {
    /// For people.
    #[arg(long)]
    pub display_name: Option<String>,
    /// A role that members have; more than once, or with commas, for more. `--role ''` takes all away.
    #[arg(long, visible_alias = "roles", value_delimiter = ',')]
    pub role: Vec<String>,
    /// A pool or a desktop on members' menus; more than once, or with commas, for more. `--open ''` takes all
    /// away.
    #[arg(long, visible_alias = "opens", value_delimiter = ',')]
    pub open: Vec<String>,
}
