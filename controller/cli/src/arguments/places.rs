//! The command line for tenants, users, templates, hosts and hours used.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::placement::{Explanation, HostUpdate, WhatIf};
use super::{Deletion, Yes};

const PUBLISH: &str = "\
To bring it to a pool step by step, watched, and back by itself when it fails: vidictl rollout start.

Example:
  vidictl template create debian --from /srv/debian-13 --draft
  vidictl template publish debian 4f1c22ab";

/// Golden images.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TemplateCommand {
    /// Upload a folder with a `template.toml` as a version of a template, and publish it.
    Create {
        /// Its id: a-z, 0-9, dashes.
        name: String,
        /// The folder.
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// For people [default: the name in `template.toml`].
        #[arg(long)]
        display_name: Option<String>,
        /// Only keep it: new desktops go on to get the version that is published.
        #[arg(long)]
        draft: bool,
    },
    /// List templates and their published versions.
    List,
    /// List the versions of a template, oldest first: which is published, which desktops have.
    Versions {
        /// Its id.
        name: String,
    },
    /// Let new desktops get this version; free desktops of pools are replaced, all at once.
    #[command(after_long_help = PUBLISH)]
    Publish {
        /// Its id.
        name: String,
        /// The version's digest, or the beginning of it.
        version: String,
    },
    /// Let new desktops get the version that they got before the published one.
    RollBack {
        /// Its id.
        name: String,
    },
    /// Forget a version that nothing uses.
    DeleteVersion {
        /// The template's id.
        name: String,
        /// The version's digest, or the beginning of it.
        version: String,
    },
    /// Delete a template that no desktop uses, with all its versions.
    Delete(Deletion),
}

const ENROLL: &str = "\
The token goes to standard output, what to do with it to standard error. It is good once, for an
hour. On the new machine, with the packages vidi-agent or vidi-gateway installed, as root:
  vidi-agent join TOKEN
  vidi-gateway join TOKEN

The token holds the addresses of `advertise` in the controller's /etc/vidi/controller.toml: the new
machine has to reach one of them.";

const DRAIN: &str = "\
Nothing new is placed on the host and its desktops are stopped: those in use when their session ends,
or at once with --stop-in-use. Its desktops cannot be started until `host uncordon`.

Example, before maintenance:
  vidictl host drain host-7 --wait && ssh host-7 reboot
  vidictl host uncordon host-7";

const RULE: &str = "\
The rules of a tenant, of the template and of the pool add up. Desktops that have a host stay there.
`host explain` says of each host which label it has not.

Examples:
  vidictl host update h7 --label gpu=yes
  vidictl --tenant school host rule pools/cad-lab gpu=yes
  vidictl --tenant school host rule tenant customer=school
  vidictl --tenant school host rule pools/cad-lab";

fn label(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = parts.ok_or_else(|| "KEY=VALUE is expected".to_owned())?;
    Ok((key.to_owned(), value.to_owned()))
}

const UNKNOWN: &str = "\
After a restore of an old backup the desktops made since are unknown to the controller: they run on,
and are never touched. This destroys one, for good.";

/// KVM machines.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// List hosts: state, memory, desktops, problems.
    List,
    /// Show all that is known of one.
    Get {
        /// Its id.
        host: String,
    },
    /// Say what it fails together with, and label it.
    Update(HostUpdate),
    /// Say which labels a host must have for the desktops of a tenant, a template or a pool.
    #[command(after_long_help = RULE)]
    Rule {
        /// Whose desktops: a pool's or template's name as pools/NAME or templates/NAME, or `tenant` for all.
        target: String,
        /// KEY=VALUE, as in `host update --label`; none: any host will do.
        #[arg(value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
    },
    /// List these rules.
    Rules,
    /// Show how much memory there is, how much is given, and how many failures it would stand.
    Capacity,
    /// Show every host with what keeps it from taking a desktop, or what it is worth.
    Explain(Explanation),
    /// Show how many desktops of a template would fit, where, and what a failure would take with it.
    Simulate(WhatIf),
    /// Print a one-use token with which a machine joins: one line to paste there.
    #[command(after_long_help = ENROLL)]
    EnrollToken {
        /// What the machine becomes.
        #[arg(long, value_enum, default_value_t = EnrollRole::Agent)]
        role: EnrollRole,
        /// The id that it gets [default: its host name].
        #[arg(long)]
        id: Option<String>,
    },
    /// Place nothing new on it; what runs there goes on.
    Cordon {
        /// Its id.
        host: String,
    },
    /// Take back a cordon or a drain.
    Uncordon {
        /// Its id.
        host: String,
    },
    /// Cordon it and stop its desktops.
    #[command(after_long_help = DRAIN)]
    Drain {
        /// Its id.
        host: String,
        /// Do not wait for sessions: end them.
        #[arg(long)]
        stop_in_use: bool,
        /// Return when nothing runs there any more.
        #[arg(long)]
        wait: bool,
        /// With --wait: at most so many seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 600)]
        timeout: u32,
    },
    /// Destroy a desktop on a host that the controller does not know, with what is on it.
    #[command(after_long_help = UNKNOWN)]
    RemoveUnknown {
        /// The host's id.
        host: String,
        /// The desktop's whole id, as `host get` lists it among the foreign desktops.
        desktop: String,
        /// Whether to ask first.
        #[command(flatten)]
        yes: Yes,
    },
    /// Forget a host that is not connected and has no desktops; it can join again with a new token.
    Delete {
        /// Its id.
        host: String,
        /// Whether to ask first.
        #[command(flatten)]
        yes: Yes,
    },
}

/// What a machine becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EnrollRole {
    /// A host: it runs desktops.
    Agent,
    /// A gateway: browsers come to it.
    Gateway,
}

const ROLES: &str = "\
Roles in the tenant: admin, helpdesk, auditor, user.
Roles in the whole installation, which only an operator gives: operator, installation-auditor.

Example:
  vidictl user create ana --display-name \"Ana García\" --role user,helpdesk";

/// Local users.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Make a user; the password (8 letters or more) is read from standard input or asked for.
    #[command(after_long_help = ROLES)]
    Create {
        /// a-z, 0-9, dots, dashes, underscores.
        name: String,
        /// For people.
        #[arg(long)]
        display_name: Option<String>,
        /// More than once, or with commas, for more roles.
        #[arg(long, visible_alias = "roles", value_delimiter = ',')]
        role: Vec<String>,
    },
    /// List users and their roles.
    List,
    /// Change a user's name or roles.
    #[command(after_long_help = ROLES)]
    Update {
        /// Which.
        name: String,
        /// For people.
        #[arg(long)]
        display_name: Option<String>,
        /// The roles from now on, in place of those there are; `--role ''` takes all away.
        #[arg(long, visible_alias = "roles", value_delimiter = ',')]
        role: Vec<String>,
    },
    /// Set a password, read from standard input or asked for; ends the user's sign-ins.
    #[command(alias = "set-password")]
    Passwd {
        /// Whose.
        name: String,
    },
    /// Delete a user to whom no desktop is assigned; ends the user's sign-ins.
    Delete(Deletion),
}

const QUOTA: &str = "\
What is there when a quota is lowered stays; there is no more of it until there is less than the quota.
`none` takes a limit away.

Example:
  vidictl tenant update school --desktops 300 --running-desktops 120 --memory-mib none";

/// What changes of a tenant.
#[derive(Clone, Debug, Args)]
pub(crate) struct TenantUpdate {
    /// Its id.
    pub name: String,
    /// For people.
    #[arg(long)]
    pub display_name: Option<String>,
    /// Desktops at most, on or off.
    #[arg(long, value_name = "COUNT|none", value_parser = most)]
    pub desktops: Option<Most>,
    /// Desktops that are on at most.
    #[arg(long, value_name = "COUNT|none", value_parser = most)]
    pub running_desktops: Option<Most>,
    /// Virtual processors of those at most.
    #[arg(long, value_name = "COUNT|none", value_parser = most)]
    pub vcpus: Option<Most>,
    /// Memory that those are charged on their hosts at most, MiB.
    #[arg(long, value_name = "MIB|none", value_parser = most)]
    pub memory_mib: Option<Most>,
    /// Sessions at most, waiting ones too.
    #[arg(long, value_name = "COUNT|none", value_parser = most)]
    pub sessions: Option<Most>,
}

const BRAND: &str = "\
What is not given stays; '' takes it back. People of a tenant see it at https://GATEWAY/?tenant=TENANT
before they sign in, and always after that.

Example:
  vidictl tenant brand school --product-name Lakeside --accent '#7a1f3d' --logo school.png";

/// How the pages look to a tenant's people.
#[derive(Clone, Debug, Args)]
pub(crate) struct TenantBrand {
    /// The tenant's id.
    pub name: String,
    /// In place of Vidi's name.
    #[arg(long)]
    pub product_name: Option<String>,
    /// The colour of buttons on a light page, #rrggbb: dark enough for white text.
    #[arg(long, value_name = "COLOUR")]
    pub accent: Option<String>,
    /// The same on a dark page: light enough for it.
    #[arg(long, value_name = "COLOUR")]
    pub accent_dark: Option<String>,
    /// A PNG file of at most 64 KiB.
    #[arg(long, value_name = "FILE")]
    pub logo: Option<PathBuf>,
}

/// A limit, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Most(pub Option<u32>);

fn most(text: &str) -> Result<Most, String> {
    if text == "none" {
        return Ok(Most(None));
    }
    let count = text.parse().map_err(|_error| "a number or `none` is expected".to_owned())?;
    Ok(Most(Some(count)))
}

/// Customers.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Make a tenant; --tenant TENANT then names it in other commands.
    Create {
        /// Its id: a-z, 0-9, dashes.
        name: String,
        /// For people.
        #[arg(long)]
        display_name: Option<String>,
    },
    /// List tenants.
    List,
    /// Show a tenant: its quota and what it has of it.
    Get {
        /// Its id.
        name: String,
    },
    /// Change a tenant's name or quota.
    #[command(after_long_help = QUOTA)]
    Update(TenantUpdate),
    /// Choose how the pages look to a tenant's people.
    #[command(after_long_help = BRAND)]
    Brand(TenantBrand),
    /// Delete a tenant without users, templates and desktops.
    Delete(Deletion),
}

/// Hours used.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = "\
Running: the desktop was on. Connected: somebody was looking at it. What goes on now counts up to
now; months begin at midnight UTC. Desktops and users that are gone are kept for 400 days.

Example:
  vidictl usage --month 2026-11 --user ana
  vidictl --tenant school usage --month 2026-11 --csv > school-2026-11.csv")]
pub(crate) struct UsageArguments {
    /// A month, such as 2026-11 [default: this one].
    #[arg(long, value_name = "YYYY-MM")]
    pub month: Option<String>,
    /// Only this user's.
    #[arg(long)]
    pub user: Option<String>,
    /// Lines of comma-separated values (RFC 4180) with seconds, for a spreadsheet or a bill.
    #[arg(long)]
    pub csv: bool,
}
