//! `vidi-gateway`: wires the parts together and runs until told to stop.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use tokio::sync::watch;
use tracing::info;
use vidi_gateway::adapters::controller::{Controller, tickets};
use vidi_gateway::adapters::relay::RelayDial;
use vidi_gateway::config::{Config, METRICS_PORT};
use vidi_gateway::http::router::Edge;
use vidi_gateway::http::{page_certificate, server};
use vidi_gateway::reconcile::registry::Registry;
use vidi_kit::config::DaemonArgs;
use vidi_kit::telemetry::{Readiness, start_logs, start_metrics};
use vidi_kit::tls::Role;
use vidi_kit::{Clock, Tasks, tasks};

/// The edge gateway of Vidi.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    daemon: DaemonArgs,
}

fn main() -> ExitCode {
    let args = Args::parse();
    vidi_kit::daemon::run("vidi-gateway", &args.daemon, Config::load, run)
}

async fn run(config: Config) -> anyhow::Result<()> {
    start_logs(&config.telemetry)?;
    let (tasks, clock, readiness) = (Tasks::new(), Clock::system(), Readiness::default());
    start_metrics(&tasks, &config.telemetry, METRICS_PORT, readiness.clone()).await?;
    // Asked for first: a port in use is said at once.
    let listener = vidi_kit::transport::bind(config.https.listen).await?;
    let identity = vidi_kit::enroll::identity(
        &tasks,
        &clock,
        &config.controller,
        Role::Gateway,
        &config.state.join("pki"),
    )
    .await?;
    let controller = Controller::connect(&tasks, &config.controller, identity.clone(), readiness);
    let page_folder = config.state.join("page");
    let tls =
        page_certificate::tls_config(&tasks, &clock, &config.https, &page_folder, &controller)
            .await?;
    let (presence, presence_receiver) = watch::channel(Default::default());
    let endings = controller.link(&tasks, presence_receiver);
    let dial = Arc::new(RelayDial::new(identity, tasks.clone()));
    let registry = Registry::new(tasks.clone(), tickets(&controller), dial, presence, endings);
    let edge = Edge { controller, registry, clock };
    info!(address = %config.https.listen, "gateway is open");
    let _serving = tasks.spawn("https", server::serve(tasks.clone(), listener, tls, edge));
    tasks::terminated().await?;
    info!("gateway stops");
    tasks.stop().await;
    Ok(())
}
