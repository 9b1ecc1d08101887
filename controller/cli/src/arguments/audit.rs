//! The command line of the audit log.

use clap::{Args, Subcommand};

const LIST: &str = "\
Examples:
  vidictl audit list --user ana
  vidictl audit list --method DeleteDesktop --all
  vidictl audit list --target tenants/school/pools/lab --refused";

const VERIFY: &str = "\
Each block of the log has the hash of the one before. This asks for all of them and computes the hashes
anew. Who could write to the store could make all of them anew: keep the line that this prints somewhere
else, and give it with --known the next time. The controllers' logs have a hash for every 256th block.";

/// Who changed what.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// List calls that changed something or were refused, newest first.
    #[command(after_long_help = LIST)]
    List(AuditList),
    /// Check that nobody changed the record.
    #[command(after_long_help = VERIFY)]
    Verify {
        /// A block's hash as an earlier run printed it.
        #[arg(long, value_name = "NUMBER:SHA256", value_parser = known)]
        known: Option<Known>,
    },
}

/// Which calls.
#[derive(Clone, Debug, Args)]
pub(crate) struct AuditList {
    /// Only this user's; `root` is who has a controller's machine.
    #[arg(long)]
    pub user: Option<String>,
    /// Only calls with this in their name.
    #[arg(long)]
    pub method: Option<String>,
    /// Only about resources whose name begins so.
    #[arg(long)]
    pub target: Option<String>,
    /// Only what was refused.
    #[arg(long)]
    pub refused: bool,
    /// Of all tenants, and what is of none.
    #[arg(long)]
    pub all: bool,
    /// At most so many.
    #[arg(long, value_name = "COUNT", default_value_t = 200)]
    pub limit: u32,
}

/// A block's hash that somebody has kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// Of which block.
    pub number: u64,
    /// Lower-case hex.
    pub sha256: String,
}

fn known(text: &str) -> Result<Known, String> {
    let wrong = || "a block's number, a colon and its hash are expected".to_owned();
    let (number, sha256) = text.split_once(':').ok_or_else(wrong)?;
    let number = number.parse().map_err(|_error| wrong())?;
    let good = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
    let sha256 = sha256.to_ascii_lowercase();
    good.then_some(Known { number, sha256 }).ok_or_else(wrong)
}
