//! The command line for physical machines.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::Deletion;
use super::desktops::PolicyFlags;

const CREATE: &str = "\
The password, where the machine asks for one, is read from standard input or asked for; it is never
shown again.

Examples:
  vidictl machine create --name \"Lab 7\" --address lab-7.example.org:5901 --tls-ca ca.pem --password
  vidictl machine create --name Press --address 10.0.0.7:5900 --no-tls --user ana

--tls-ca takes the CA that the machine's certificate descends from, or that certificate itself. Without
TLS the picture and all that is typed pass the network in the clear.";

/// Physical machines. MACHINE is an id, the beginning of one (4 letters or more), or a display name, where
/// only one has it.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum MachineCommand {
    /// Put a machine with a SPICE server on menus.
    #[command(after_long_help = CREATE)]
    Create {
        /// For people [default: the host of its address].
        #[arg(long)]
        name: Option<String>,
        /// Of its SPICE server, as the gateways reach it; behind commas where else it may be.
        #[arg(long, value_name = "HOST:PORT")]
        address: String,
        /// How it is reached.
        #[command(flatten)]
        trust: Trust,
        /// It asks for a SPICE password: read it from standard input or ask for it.
        #[arg(long)]
        password: bool,
        /// Only on this user's menu [default: on everybody's of the tenant].
        #[arg(long)]
        user: Option<String>,
        /// What passes between it and browsers.
        #[command(flatten)]
        policy: PolicyFlags,
    },
    /// List machines: who is on them, and why one was not reached.
    List,
    /// Show all that is known of one.
    #[command(visible_alias = "get")]
    Show {
        /// Id, beginning of an id, or name.
        machine: String,
    },
    /// Change what is given. A session on it goes on, the next attachment follows; but with --user that of
    /// somebody else ends. A machine with a password that is to be reached in another way wants --password.
    Update(MachineUpdate),
    /// Take a machine off the menus; a session on it ends.
    Delete(Deletion),
}

/// What of a machine changes.
#[derive(Clone, Debug, Args)]
pub(crate) struct MachineUpdate {
    /// Id, beginning of an id, or name.
    pub(crate) machine: String,
    /// For people.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Of its SPICE server; behind commas where else it may be.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) address: Option<String>,
    /// How it is reached.
    #[command(flatten)]
    pub(crate) trust: NewTrust,
    /// Set its SPICE password, read from standard input or asked for.
    #[arg(long)]
    pub(crate) password: bool,
    /// It asks for no password any more.
    #[arg(long, conflicts_with = "password")]
    pub(crate) no_password: bool,
    /// Only on this user's menu; `--user ''`: on everybody's.
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// What passes between it and browsers.
    #[command(flatten)]
    pub(crate) policy: PolicyFlags,
}

/// How a new machine is reached.
#[derive(Clone, Debug, Args)]
pub(crate) struct Trust {
    /// Over TLS: the CA of its certificate, or the certificate itself, in PEM.
    #[arg(long, value_name = "FILE", required_unless_present = "no_tls")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Without TLS: everybody on the way can read along.
    #[arg(long, conflicts_with_all = ["tls_ca", "host_name"])]
    pub(crate) no_tls: bool,
    /// What its certificate is issued to [default: the host of its address].
    #[arg(long, value_name = "NAME")]
    pub(crate) host_name: Option<String>,
}

/// How a machine is reached from now on.
#[derive(Clone, Debug, Args)]
pub(crate) struct NewTrust {
    /// Over TLS: the CA of its certificate, or the certificate itself, in PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Without TLS: everybody on the way can read along.
    #[arg(long, conflicts_with = "tls_ca")]
    pub(crate) no_tls: bool,
    /// What its certificate is issued to; empty: the host of its address.
    #[arg(long, value_name = "NAME")]
    pub(crate) host_name: Option<String>,
}
