//! `vidi-gateway`: wires the parts together and runs until told to stop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use tokio::sync::watch;
use tracing::{error, info};
use vidi_gateway::adapters::controller::{Controller, tickets};
use vidi_gateway::adapters::dial::AnyDial;
use vidi_gateway::adapters::direct::DirectDial;
use vidi_gateway::adapters::recordings::RecordingFolder;
use vidi_gateway::adapters::relay::RelayDial;
use vidi_gateway::config::{Config, DEFAULT_PATH, METRICS_PORT};
use vidi_gateway::http::addresses::Addresses;
use vidi_gateway::http::router::Edge;
use vidi_gateway::http::{page_certificate, server};
use vidi_gateway::raw::Raw;
use vidi_gateway::reconcile::registry::{Reach, Registry};
use vidi_gateway::rpc::peer::PeerService;
use vidi_gateway::telemetry::METRICS;
use vidi_kit::commands::{GatewayArguments, GatewayCommand, JoinArguments};
use vidi_kit::join::{JoinError, Joining, say};
use vidi_kit::telemetry::{Health, start_logs, start_metrics};
use vidi_kit::tls::Role;
use vidi_kit::{Clock, Tasks, daemon, tasks};

fn main() -> ExitCode {
    const PROGRAM: &str = "vidi-gateway";
    let GatewayArguments { daemon, command } = GatewayArguments::parse();
    let path = daemon.config.clone();
    match command {
        None => daemon::run(PROGRAM, &daemon, Config::load, run),
        Some(GatewayCommand::Join(arguments)) => {
            daemon::run_command(PROGRAM, &daemon, Config::load, |config| async move {
                match join(&config, path, arguments).await {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(error) => daemon::fail(PROGRAM, &error, 1),
                }
            })
        }
    }
}

/// Makes this machine a gateway of an installation.
async fn join(
    config: &Config,
    path: Option<PathBuf>,
    arguments: JoinArguments,
) -> Result<(), JoinError> {
    let joining = Joining {
        role: Role::Gateway,
        config: path.unwrap_or_else(|| PathBuf::from(DEFAULT_PATH)),
        identity: config.state.join("pki"),
        state: config.state.clone(),
        id: config.controller.id.clone(),
        arguments,
    };
    let name = joining.join(joining.token()?).await?;
    say(&format!("joined: gateway {} of installation {}", name.id, name.installation));
    say(&joining.start(&["vidi-gateway"]));
    say(&format!("browsers come to https://THIS-MACHINE:{}/", config.https.listen.port()));
    Ok(())
}

async fn run(config: Config) -> anyhow::Result<()> {
    start_logs(&config.telemetry)?;
    let (tasks, clock, health) = (Tasks::new(), Clock::system(), Health::default());
    start_metrics(&tasks, &config.telemetry, (METRICS_PORT, METRICS), health.clone()).await?;
    // Asked for first: a port in use is said at once.
    let listener = vidi_kit::transport::bind(config.https.listen).await?;
    let peers = vidi_kit::transport::bind(config.peer.listen).await?;
    health.starts_with("it waits for its own certificate from the controller");
    let identity = vidi_kit::enroll::identity(
        &tasks,
        &clock,
        &config.controller,
        Role::Gateway,
        &config.state.join("pki"),
    )
    .await?;
    let (presence, presence_receiver) = watch::channel(Default::default());
    let own = (identity.clone(), config.peer.address());
    let (controller, endings) =
        Controller::link(&tasks, &config.controller, own, presence_receiver);
    health.starts_with("it waits for the page certificate");
    let page_folder = config.state.join("page");
    let tls =
        page_certificate::tls_config(&tasks, &clock, &config.https, &page_folder, &controller)
            .await?;
    let own = identity.clone();
    let relay = RelayDial::new(identity, tasks.clone());
    let direct = DirectDial::new(tasks.clone(), config.machines.networks()?);
    let dial = Arc::new(AnyDial { relay, direct });
    let who = (config.state.as_path(), controller.own_id());
    let recordings = RecordingFolder::open(&tasks, &clock, who, &config.recording)?;
    let reach = Reach {
        tickets: tickets(&controller),
        dial,
        policy: config.display.policy(),
        clock: clock.clone(),
        sharing: config.display.sharing,
        recordings: Some(Arc::new(recordings.clone())),
    };
    let registry = Registry::new(tasks.clone(), reach, presence, endings);
    let linked = controller.clone();
    health.needs("controller", move || linked.judge_link());
    let brandings = Arc::default();
    let raw = Raw::new(config.raw.origins);
    let edge = Edge { controller, registry, raw, recordings, brandings, clock };
    let serving_peers = PeerService::new(edge.clone()).serve(peers, own);
    let _serving_peers = tasks.spawn("peers", async move {
        if let Err(error) = serving_peers.await {
            error!(%error, "Other gateways are not served any more");
        }
    });
    info!(address = %config.https.listen, "Gateway is open");
    let addresses = Addresses::new(config.https.connections_per_address);
    let serving = server::serve(tasks.clone(), listener, tls, edge, addresses);
    let _serving = tasks.spawn("https", serving);
    health.started();
    tasks::terminated().await?;
    info!("Gateway stops");
    tasks.stop().await;
    Ok(())
}
