//! The command lines of the daemons. They are in one place because the manual is made from them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::DaemonArgs;

/// The control plane: decides which desktops there are, where they run, and who may reach them.
#[derive(Clone, Debug, Parser)]
#[command(name = "vidi-controller", version, after_help = CONTROLLER_EXAMPLES)]
#[command(disable_help_subcommand = true)]
pub struct ControllerArguments {
    /// What every daemon has.
    #[command(flatten)]
    pub daemon: DaemonArgs,
    /// Something else than to serve.
    #[command(subcommand)]
    pub command: Option<ControllerCommand>,
}

const CONTROLLER_EXAMPLES: &str = "\
Examples:
  vidi-controller backup /var/backups/vidi/monday     everything that is stored, in one file
  vidi-controller restore /var/backups/vidi/monday    into an empty store";

/// What `vidi-controller` does beside serving.
#[derive(Clone, Debug, Subcommand)]
pub enum ControllerCommand {
    /// Write everything that is stored to a file.
    #[command(after_help = BACKUP_MORE)]
    Backup {
        /// The file; one that is there is replaced when the new one is whole.
        file: PathBuf,
    },
    /// Put a backup into the store.
    #[command(after_help = RESTORE_MORE)]
    Restore {
        /// The file that `vidi-controller backup` has written.
        file: PathBuf,
        /// Also where the store holds something: that is gone then.
        #[arg(long)]
        replace: bool,
    },
}

const BACKUP_MORE: &str = "\
As root, on a controller's machine; controllers go on meanwhile, and none need be up. The file is of one
moment and carries a digest. It holds secrets, readable with the key file only: keep both, apart from
each other. The templates' files are not in it.

Exit codes:
  0   the backup is there and was read back
  1   there is none; what is wrong is said
  64  the configuration is bad";

const RESTORE_MORE: &str = "\
As root, while all controllers are stopped. Everybody has to sign in again. Desktops of the backup are in
doubt until their hosts or somebody say what they are; desktops that the backup does not know stay on
their hosts. Nothing is destroyed.

Exit codes:
  0   restored
  1   not restored; what is wrong is said
  64  the configuration is bad";

/// Carries SPICE channels between gateways and this host's desktops; it alone listens on a host.
#[derive(Clone, Debug, Parser)]
#[command(name = "vidi-relay", version)]
pub struct RelayArguments {
    /// What every daemon has.
    #[command(flatten)]
    pub daemon: DaemonArgs,
}

const AGENT_EXAMPLES: &str = "\
Examples:
  vidi-agent doctor        what this host lacks, and what to do about it
  vidi-agent join TOKEN    make this machine a host; `vidictl host enroll-token` prints the line";

/// Makes this host's desktops what the controller wants.
#[derive(Clone, Debug, Parser)]
#[command(name = "vidi-agent", version, after_help = AGENT_EXAMPLES)]
#[command(disable_help_subcommand = true)]
pub struct AgentArguments {
    /// What every daemon has.
    #[command(flatten)]
    pub daemon: DaemonArgs,
    /// Something else than to serve.
    #[command(subcommand)]
    pub command: Option<AgentCommand>,
}

const DOCTOR_MORE: &str = "\
Looks and changes nothing; may run before anything is installed, as any user (root sees more), and
beside a running agent. Each check has a time limit.

Exit codes:
  0   all is well
  1   something deserves a look (WARN)
  2   something does not work (FAIL)
  64  the configuration is bad";

/// What `vidi-agent` does beside serving.
#[derive(Clone, Debug, Subcommand)]
pub enum AgentCommand {
    /// Say what this host lacks for running desktops, and what to do about it.
    #[command(after_help = DOCTOR_MORE)]
    Doctor {
        /// One JSON object for programs.
        #[arg(long)]
        json: bool,
    },
    /// Make this machine a host of an installation.
    #[command(after_help = JOIN_MORE)]
    Join(JoinArguments),
}

/// The edge: ends browsers' TLS and the desktops' SPICE.
#[derive(Clone, Debug, Parser)]
#[command(name = "vidi-gateway", version, disable_help_subcommand = true)]
pub struct GatewayArguments {
    /// What every daemon has.
    #[command(flatten)]
    pub daemon: DaemonArgs,
    /// Something else than to serve.
    #[command(subcommand)]
    pub command: Option<GatewayCommand>,
}

/// What `vidi-gateway` does beside serving.
#[derive(Clone, Debug, Subcommand)]
pub enum GatewayCommand {
    /// Make this machine a gateway of an installation.
    #[command(after_help = JOIN_MORE)]
    Join(JoinArguments),
}

const JOIN_MORE: &str = "\
`vidictl host enroll-token`, with `--role gateway` for a gateway, prints the line to paste. Joining
writes the controllers' addresses into the configuration, gets this machine's certificate and, where
systemd runs, starts the services. A token is good once, for an hour; one that could not be used
because this machine lacks something is not used up.

Exit codes:
  0   joined
  1   not joined; what is wrong is said
  64  the configuration is bad";

/// `join`.
#[derive(Clone, Debug, Args)]
pub struct JoinArguments {
    /// What `vidictl host enroll-token` printed, beginning with vidi1.
    pub token: String,
    /// The id of this machine in the installation [default: its host name].
    #[arg(long)]
    pub id: Option<String>,
    /// Join although this machine has joined before, or lacks something.
    #[arg(long)]
    pub force: bool,
}
