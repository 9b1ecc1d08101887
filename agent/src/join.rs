//! `vidi-agent join`: makes this machine a host of an installation.

use std::path::{Path, PathBuf};

use vidi_kit::commands::JoinArguments;
use vidi_kit::join::{JoinError, Joining, say};
use vidi_kit::tls::Role;

use crate::config::{AGENT_CONFIG, AgentConfig};
use crate::doctor::{self, Grade};

/// What a host runs.
const SERVICES: [&str; 2] = ["vidi-agent", "vidi-relay"];

/// Why this machine is no host.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// It could not run a desktop.
    #[error(
        "this machine cannot run desktops yet: mend what is marked FAIL above, then paste the line \
         again; the token was not used up. --force joins all the same"
    )]
    Unfit,
    /// It could not be let in.
    #[error(transparent)]
    Join(#[from] JoinError),
}

/// Looks whether this machine can run desktops, then uses the token up and starts the services.
pub async fn join(
    config: AgentConfig,
    path: Option<PathBuf>,
    arguments: JoinArguments,
) -> Result<(), HostError> {
    let force = arguments.force;
    let joining = Joining {
        role: Role::Agent,
        config: path.unwrap_or_else(|| Path::new(AGENT_CONFIG).to_owned()),
        identity: config.state.join("identity"),
        state: config.state.clone(),
        id: config.controller.id.clone(),
        arguments,
    };
    let token = joining.token()?;
    let report = doctor::essentials(&config).await;
    if report.result != Grade::Ok {
        say(&report.only_what_is_wrong());
    }
    if report.result == Grade::Fail && !force {
        return Err(HostError::Unfit);
    }
    let name = joining.join(token).await?;
    say(&format!("joined: host {} of installation {}", name.id, name.installation));
    say(&joining.start(&SERVICES));
    say(
        "`vidictl host list` shows it once it is connected; `vidi-agent doctor` says what it lacks",
    );
    Ok(())
}
