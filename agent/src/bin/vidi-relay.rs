//! `vidi-relay`: what gateways reach on a host.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use tokio::sync::watch;
use tracing::info;
use vidi_agent::config::{RELAY_METRICS_PORT, RelayConfig};
use vidi_agent::rpc::agent_line::{AgentLine, AgentNews};
use vidi_agent::rpc::relay_service::RelayService;
use vidi_agent::telemetry::RELAY_METRICS;
use vidi_kit::commands::RelayArguments;
use vidi_kit::telemetry::{Health, start_logs, start_metrics};
use vidi_kit::tls::{Identity, IdentityReceiver};
use vidi_kit::{Clock, Tasks};

fn main() -> ExitCode {
    let arguments = RelayArguments::parse();
    vidi_kit::daemon::run("vidi-relay", &arguments.daemon, RelayConfig::load, run)
}

async fn run(config: RelayConfig) -> Result<(), anyhow::Error> {
    start_logs(&config.telemetry)?;
    let tasks = Tasks::new();
    let terminated = vidi_kit::tasks::terminated();
    let health = Health::default();
    let metrics = (RELAY_METRICS_PORT, RELAY_METRICS);
    start_metrics(&tasks, &config.telemetry, metrics, health.clone()).await?;
    vidi_kit::files::make_folder(&config.state, 0o700)
        .with_context(|| format!("cannot make the state folder {}", config.state.display()))?;
    let listener = vidi_kit::transport::bind(config.listen).await?;
    let (agent, news) = AgentLine::start(
        &tasks,
        Clock::system(),
        config.agent_socket.clone(),
        config.state.clone(),
    );
    let AgentNews { identity, policy, connected } = news;
    let certified = identity.clone();
    health.needs("agent", move || match *connected.borrow() {
        true => Ok(()),
        false => Err("it is not connected; what is attached goes on".to_owned()),
    });
    health.needs("certificate", move || match certified.borrow().as_deref() {
        Some(identity) if Clock::system().now_ms() < identity.name.not_after_ms => Ok(()),
        Some(_) => Err("it has expired; the agent brings a new one from the controller".to_owned()),
        None => Err("there is none yet; the agent brings it from the controller".to_owned()),
    });
    health.started();
    let service = RelayService::start(&tasks, agent, policy, config.video_mbit_s);
    let serving = async {
        let identity = first_identity(&tasks, identity).await?;
        info!(address = %config.listen, id = identity.borrow().name.id, "Gateways are served");
        service.serve(listener, identity).await.context("cannot serve gateways")
    };
    // Not polled again: either the process ends now, or serving has.
    let done = tokio::select! {
        biased;
        terminated = terminated => terminated.context("cannot wait for signals"),
        served = serving => served,
    };
    tasks.stop().await;
    done
}

/// Waits for the first certificate; the receiver then follows the later ones.
async fn first_identity(
    tasks: &Tasks,
    mut news: watch::Receiver<Option<Arc<Identity>>>,
) -> Result<IdentityReceiver, anyhow::Error> {
    let first = news.wait_for(Option::is_some).await?.clone();
    let first = first.context("there is no certificate")?;
    let (sender, receiver) = watch::channel(first);
    let group = tasks.clone();
    let _following = tasks.spawn("follow-identity", async move {
        loop {
            // Cancel-safe: a change that was not taken is seen by the next look.
            tokio::select! {
                biased;
                () = group.stopping() => return,
                changed = news.changed() => if changed.is_err() { return },
            }
            if let Some(identity) = news.borrow_and_update().clone() {
                sender.send_replace(identity);
            }
        }
    });
    Ok(receiver)
}
