//! `vidi-agent`: makes a host's desktops what the controller wants.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tokio::sync::watch;
use tracing::warn;
use vidi_agent::adapters::journal::SledJournal;
use vidi_agent::config::{AGENT_METRICS_PORT, AccelerationChoice, AgentConfig};
use vidi_agent::model::observed::HostState;
use vidi_agent::model::wanted::WantedSet;
use vidi_agent::ports::Journal;
use vidi_agent::reconcile::{Parts, Reconciler, acceleration};
use vidi_agent::rpc::controller_link::{ControllerLink, Hello, LinkParts, own_names};
use vidi_agent::rpc::relay_door::{self, RelayDoor};
use vidi_agent::telemetry;
use vidi_agent::{doctor, join};
use vidi_hypervisor::acceleration::{AccelerationOptions, repair_kvm_device};
use vidi_hypervisor::adapters::linux_host::LinuxHost;
use vidi_hypervisor::adapters::local_volumes::LocalVolumes;
use vidi_hypervisor::libvirt::{LibvirtHypervisor, LibvirtOptions};
use vidi_hypervisor::{Acceleration, Hypervisor};
use vidi_kit::commands::{AgentArguments, AgentCommand};
use vidi_kit::telemetry::{Health, start_logs, start_metrics};
use vidi_kit::tls::Role;
use vidi_kit::{Clock, Tasks, daemon};

fn main() -> ExitCode {
    const PROGRAM: &str = "vidi-agent";
    let AgentArguments { daemon, command } = AgentArguments::parse();
    let path = daemon.config.clone();
    match command {
        None => daemon::run(PROGRAM, &daemon, AgentConfig::load, run),
        Some(AgentCommand::Doctor { json }) => {
            daemon::run_command(PROGRAM, &daemon, AgentConfig::load, |config| async move {
                doctor::doctor(config, path.as_deref(), json).await
            })
        }
        Some(AgentCommand::Join(arguments)) => {
            // The default file need not be there.
            daemon::run_command(PROGRAM, &daemon, AgentConfig::load, |config| async move {
                match join::join(config, path, arguments).await {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(error) => daemon::fail(PROGRAM, &error, 1),
                }
            })
        }
    }
}

async fn run(config: AgentConfig) -> Result<(), anyhow::Error> {
    start_logs(&config.telemetry)?;
    let tasks = Tasks::new();
    let health = Health::default();
    let metrics = (AGENT_METRICS_PORT, telemetry::AGENT_METRICS);
    start_metrics(&tasks, &config.telemetry, metrics, health.clone()).await?;
    // Not polled again: either the process ends now, or starting has.
    let started = tokio::select! {
        biased;
        terminated = vidi_kit::tasks::terminated() => terminated.context("cannot wait for signals"),
        started = start(&tasks, config, health) => match started {
            Ok(()) => vidi_kit::tasks::terminated().await.context("cannot wait for signals"),
            Err(error) => Err(error),
        },
    };
    tasks.stop().await;
    started
}

async fn start(tasks: &Tasks, config: AgentConfig, health: Health) -> Result<(), anyhow::Error> {
    vidi_kit::files::make_folder(&config.state, 0o700)
        .with_context(|| format!("cannot make the state folder {}", config.state.display()))?;
    let journal = SledJournal::open(&config.state.join("journal"))?;
    let journaled = journal.load().await?;
    // Before the controller is there: what runs goes on anyway, and the socket is a cheap promise.
    let relay_socket = relay_door::listen(&config.relay_socket)?;
    health.starts_with("it waits for its own certificate from the controller");
    let folder = config.state.join("identity");
    let identity = vidi_kit::enroll::identity(
        tasks,
        &Clock::system(),
        &config.controller,
        Role::Agent,
        &folder,
    )
    .await?;
    let own = own_names(&identity).context("the agent's certificate is not usable")?;
    repair_kvm_device();
    let hypervisor: Arc<dyn Hypervisor> = Arc::new(LibvirtHypervisor::open(LibvirtOptions {
        uri: config.libvirt.clone(),
        installation: own.installation,
        host: own.host.clone(),
    })?);
    let images = config.images.join(own.installation.to_string());
    let (publish, state) = watch::channel(HostState::default());
    let hello = Hello {
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        relay_port: config.relay.port,
        relay_advertise: config.relay.advertise.clone(),
    };
    let link = ControllerLink::start(
        tasks,
        LinkParts {
            addresses: config.controller.addresses.clone(),
            identity,
            own,
            hello,
            state: state.clone(),
            first_wanted: WantedSet { desktops: journaled.wanted.clone(), ..WantedSet::default() },
        },
    );
    let parts = Parts {
        hypervisor: Arc::clone(&hypervisor),
        volumes: Arc::new(LocalVolumes::open(images)?),
        memory: Arc::new(LinuxHost),
        source: Arc::new(link.clone()),
        journal: Arc::new(journal),
        wanted: link.wanted.clone(),
        ready_max: Duration::from_secs(config.desktops.ready_secs.into()),
        acceleration: acceleration::start(
            tasks,
            Arc::clone(&hypervisor),
            acceleration_options(&config),
        ),
    };
    telemetry::watch(&health, &link, &state);
    let reconciler = Reconciler::new(tasks, parts, journaled, publish);
    health.loop_turns("reconcile", reconciler.pulse(), telemetry::ROUND_SECS_MAX);
    let _reconciling = tasks.spawn("reconcile", reconciler.run());
    let door = RelayDoor::new(link, hypervisor, state);
    let _serving = tasks.spawn("relay-door", door.serve(tasks.clone(), relay_socket));
    health.started();
    Ok(())
}

fn acceleration_options(config: &AgentConfig) -> AccelerationOptions {
    let guest = config.probe_image.as_deref().and_then(|folder| {
        acceleration::probe_guest(folder)
            .inspect_err(|error| warn!(error, "The micro image for the probe is not usable"))
            .ok()
    });
    AccelerationOptions {
        forced: match config.acceleration {
            AccelerationChoice::Probe => None,
            AccelerationChoice::Kvm => Some(Acceleration::Kvm),
            AccelerationChoice::Tcg => Some(Acceleration::Tcg),
        },
        guest,
        cache_file: config.state.join("acceleration.json"),
    }
}
