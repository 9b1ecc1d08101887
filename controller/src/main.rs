//! The controller's process: reads the configuration, starts the parts, stops them in order.

use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tracing::{info, warn};
use vidi_controller::adapters::etcd::EtcdStore;
use vidi_controller::adapters::images::ImageFolder;
use vidi_controller::adapters::local_directory::LocalDirectory;
use vidi_controller::adapters::sled::SledStore;
use vidi_controller::backup::{Existing, command};
use vidi_controller::bootstrap::KeyFile;
use vidi_controller::config::{self, ControllerConfig, StoreKind};
use vidi_controller::error::StartupError;
use vidi_controller::ports::{Authority, Store};
use vidi_controller::reconcile::Handle;
use vidi_controller::rpc::forward::Forward;
use vidi_controller::rpc::{Parts, server};
use vidi_controller::{bootstrap, reconcile, telemetry};
use vidi_kit::commands::{ControllerArguments, ControllerCommand};
use vidi_kit::grant::GrantSigner;
use vidi_kit::tasks::terminated;
use vidi_kit::telemetry::{Health, start_logs, start_metrics};
use vidi_kit::tls::IdentityReceiver;
use vidi_kit::transport::{bind, bind_unix};
use vidi_kit::{Backoff, Chance, Clock, Tasks, files};

const PROGRAM: &str = "vidi-controller";
/// Port of metrics and health, on loopback.
const METRICS_PORT: u16 = 9441;
/// Everybody may connect to the local socket: the peer's uid decides what they may do.
const SOCKET_MODE: u32 = 0o666;

fn main() -> ExitCode {
    let ControllerArguments { daemon, command } = ControllerArguments::parse();
    let Some(command) = command else {
        return vidi_kit::daemon::run(PROGRAM, &daemon, config::read, run);
    };
    vidi_kit::daemon::run_command(PROGRAM, &daemon, config::read, |config| async move {
        let done = match command {
            ControllerCommand::Backup { file } => command::back_up(&config, &file).await,
            ControllerCommand::Restore { file, replace } => {
                let existing = if replace { Existing::Replace } else { Existing::Refuse };
                command::put_back(&config, &file, existing).await
            }
        };
        match done {
            Ok(text) => {
                // Standard output may be closed; the exit code says the rest.
                drop(writeln!(std::io::stdout(), "{text}"));
                ExitCode::SUCCESS
            }
            Err(error) => vidi_kit::daemon::fail(PROGRAM, &error, 1),
        }
    })
}

async fn run(config: ControllerConfig) -> Result<(), StartupError> {
    start_logs(&config.telemetry)?;
    let (tasks, health) = (Tasks::new(), Health::default());
    let broken = match start(&config, &tasks, &health).await {
        Ok(broken) => broken,
        Err(error) => {
            tasks.stop().await;
            return Err(error);
        }
    };
    // Cancel-safe: both arms only wait, and the other is not asked again.
    let ended = tokio::select! {
        biased;
        stopping = terminated() => stopping.map_err(in_io("cannot wait for signals")),
        why = broken => Err(why),
    };
    health.starts_with("it stops");
    info!("Stopping");
    tasks.stop().await;
    // A stale socket would only be a slower error for the next caller.
    drop(std::fs::remove_file(&config.socket));
    ended
}

/// Resolves when the store cannot be used any more.
type Broken = Pin<Box<dyn Future<Output = StartupError> + Send>>;

/// A store that is open.
struct Opened<'a> {
    store: Arc<dyn Store>,
    broken: Broken,
    bytes: telemetry::StoreBytes,
    key_file: KeyFile<'a>,
}

async fn open_store<'a>(
    config: &'a ControllerConfig,
    tasks: &Tasks,
) -> Result<Opened<'a>, StartupError> {
    match config.store.kind {
        StoreKind::Sled => {
            let folder = config.state.join("store");
            let store = SledStore::open(&folder)?;
            let broken = store.broken();
            Ok(Opened {
                store: Arc::new(store),
                broken: Box::pin(async move { StartupError::StoreBroken(broken.await) }),
                bytes: Box::new(move || telemetry::folder_bytes(&folder)),
                key_file: KeyFile::Own(&config.key_file),
            })
        }
        StoreKind::Etcd => {
            let settings = command::settings(config, config.state.join("etcd-mark"));
            let store = EtcdStore::open(settings, tasks).await?;
            let broken = store.broken();
            Ok(Opened {
                bytes: Box::new(store.bytes()),
                store: Arc::new(store),
                broken: Box::pin(async move { StartupError::EtcdBroken(broken.await) }),
                key_file: KeyFile::Shared(&config.key_file),
            })
        }
    }
}

/// Starts all parts; what it answers resolves when the store cannot be used any more.
async fn start(
    config: &ControllerConfig,
    tasks: &Tasks,
    health: &Health,
) -> Result<Broken, StartupError> {
    make_folders(config)?;
    // The port before the store: a second controller is told at once, and nothing is touched.
    let listener = bind(config.listen).await.map_err(in_io("the port cannot be had"))?;
    let metrics = (METRICS_PORT, telemetry::METRICS);
    start_metrics(tasks, &config.telemetry, metrics, health.clone()).await?;
    health.starts_with("it reads the store");
    let Opened { store, broken, bytes, key_file } = open_store(config, tasks).await?;
    let clock = Clock::system();
    let opened = bootstrap::open(store.as_ref(), &clock, key_file, &config.state).await?;
    let authority: Arc<dyn Authority> = Arc::new(opened);
    bootstrap::publish_cas(authority.as_ref(), &config.state)?;
    let identity = bootstrap::identity(tasks, &clock, &authority, &config.id)?;
    let signer = GrantSigner::generate().map_err(|error| StartupError::Io {
        what: "cannot make the grant-signing key".to_owned(),
        source: std::io::Error::other(error),
    })?;
    let images =
        ImageFolder::open(&config.images).map_err(in_io("cannot make the images' folder"))?;
    let directory = Arc::new(LocalDirectory::new(Arc::clone(&store))?);
    let (handle, first) =
        reconcile::stand_by(tasks, Arc::clone(&store), clock.clone(), own(config));
    let public_key = signer.public_key();
    let broken = match config.store.kind {
        // Nobody else can lead: who comes before this one does would only be sent away.
        StoreKind::Sled => {
            health.starts_with("it waits until it leads");
            first.wait().await?;
            bootstrap::publish_grant_key(&handle, &config.id, public_key).await?;
            broken
        }
        StoreKind::Etcd => {
            publish_when_leading(tasks, handle.clone(), config.id.clone(), public_key);
            broken_or_never(broken, first)
        }
    };
    let (watched, watching) = (handle.clone(), clock.clone());
    let parts = Parts {
        handle,
        store,
        authority,
        directory,
        clock,
        tasks: tasks.clone(),
        signer: Arc::new(signer),
        controller: config.id.clone(),
        addresses: config.advertise.clone(),
        images: Arc::new(images),
        forward: forward(config, &identity),
    };
    let routes = server::routes(&parts)?;
    let local = bind_unix(&config.socket, SOCKET_MODE).map_err(in_io("no local socket"))?;
    server::serve_unix(&parts, routes.clone(), local);
    server::serve_tls(&parts, routes, listener, identity);
    // Who reads there that this one leads or stands by can call it.
    telemetry::watch(health, &watched, watching, bytes);
    health.started();
    info!(listen = %config.listen, socket = %config.socket.display(), id = config.id, "Controller is up");
    Ok(broken)
}

/// On sled there is no other that leads.
fn forward(config: &ControllerConfig, identity: &IdentityReceiver) -> Option<Arc<Forward>> {
    let shared = config.store.kind == StoreKind::Etcd;
    shared.then(|| Arc::new(Forward::new(identity.clone())))
}

fn own(config: &ControllerConfig) -> reconcile::Own {
    // On sled there is nobody else to tell it.
    let address = match config.store.kind {
        StoreKind::Sled => None,
        StoreKind::Etcd => config.advertise.first().cloned(),
    };
    reconcile::Own {
        id: config.id.clone(),
        address: address.unwrap_or_default(),
        limits: config.limits(),
        chance: Chance::system(),
    }
}

/// A controller that finds that it can never lead is of no use as a standby either.
fn broken_or_never(broken: Broken, first: reconcile::FirstLead) -> Broken {
    let never = async move {
        match first.wait().await {
            Err(why @ reconcile::StartError::Store(_)) => StartupError::from(why),
            // It leads, or stops.
            Ok(()) | Err(reconcile::StartError::Stopped) => std::future::pending().await,
        }
    };
    Box::pin(async move {
        // Cancel-safe: both only wait, and the other is not asked again.
        tokio::select! {
            biased;
            why = broken => why,
            why = never => why,
        }
    })
}

/// Agents hear of this controller's grant-signing key as soon as it leads.
fn publish_when_leading(tasks: &Tasks, handle: Handle, id: String, public_key: Vec<u8>) {
    let stop = tasks.stop_token();
    let publishing = async move {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut stands = handle.watch_standing();
        while stands.wait_for(|standing| standing.leading).await.is_ok() {
            match bootstrap::publish_grant_key(&handle, &id, public_key.clone()).await {
                Ok(()) => return,
                Err(error) => warn!(%error, "The grant-signing key is not published yet"),
            }
            tokio::time::sleep(backoff.next_wait()).await;
        }
    };
    let _publishing = tasks.spawn("publish-grant-key", async move {
        // Cancel-safe: the next process has a key of its own.
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = publishing => {}
        }
    });
}

fn make_folders(config: &ControllerConfig) -> Result<(), StartupError> {
    let socket_folder = config.socket.parent().map(|folder| (folder, 0o755));
    let state_folder = (config.state.as_path(), 0o700);
    for (folder, mode) in socket_folder.into_iter().chain([state_folder]) {
        files::make_folder(folder, mode)
            .map_err(in_io(format!("cannot make the folder {}", folder.display())))?;
    }
    Ok(())
}

fn in_io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> StartupError {
    let what = what.into();
    move |source| StartupError::Io { what, source }
}
