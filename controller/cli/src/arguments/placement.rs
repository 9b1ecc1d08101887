//! The command line for where desktops go.

use clap::Args;

const UPDATE: &str = "\
Hosts of one failure domain fail together: a rack, a power supply. Pools are spread over the domains, and
as many as `headroom_domains` says may fail and all desktops still fit on the rest. Without one a host
fails alone.

Examples:
  vidictl host update host-7 --failure-domain rack-2 --label cpu=icelake --label owner=lab
  vidictl host update host-7 --remove-label owner --failure-domain ''";

const EXPLAIN: &str = "\
The host with the most points gets it; of a pool no host gets more than a quarter where four can take it.

Examples:
  vidictl host explain --desktop \"Ana's desktop\"
  vidictl host explain --template debian --pool kiosk";

const SIMULATE: &str = "\
Nothing is changed. What is said of a loss: how many desktops are in the failure domain, and for how many
of them there would be no room elsewhere.

Examples:
  vidictl host simulate --template debian --desktops 200
  vidictl host simulate --template debian --desktops 200 --failure-domain rack-2";

/// What operators say of a host.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = UPDATE)]
pub(crate) struct HostUpdate {
    /// Its id.
    pub(crate) host: String,
    /// What it fails together with; '' for nothing.
    #[arg(long, value_name = "NAME")]
    pub(crate) failure_domain: Option<String>,
    /// A label to set, more than once for more.
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// A label to take away, more than once for more.
    #[arg(long, value_name = "KEY")]
    pub(crate) remove_label: Vec<String>,
}

/// Of what a placement is explained.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = EXPLAIN)]
pub(crate) struct Explanation {
    /// A desktop, as if it were not there yet.
    #[arg(long, required_unless_present = "template", conflicts_with = "template")]
    pub(crate) desktop: Option<String>,
    /// A new desktop of this template.
    #[arg(long)]
    pub(crate) template: Option<String>,
    /// With --template: of this pool.
    #[arg(long, requires = "template")]
    pub(crate) pool: Option<String>,
}

/// What if there were so many more.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = SIMULATE)]
pub(crate) struct WhatIf {
    /// Of this template's newest version.
    #[arg(long)]
    pub(crate) template: String,
    /// How many, at most 10000.
    #[arg(long, value_name = "COUNT")]
    pub(crate) desktops: u32,
    /// Together with what this pool has.
    #[arg(long)]
    pub(crate) pool: Option<String>,
    /// Whose loss is looked at: a name, or hosts/HOST [default: the three that weigh most].
    #[arg(long, value_name = "NAME")]
    pub(crate) failure_domain: Option<String>,
}
