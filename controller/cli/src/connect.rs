//! How a controller is reached, and as whom.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, bail};
use rustls::ClientConfig;
use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use vidi_kit::Backoff;
use vidi_kit::controllers::{self, leader_of};
use vidi_kit::tls::{CONTROLLER_NAME, anonymous_client_config, install_provider};
use vidi_kit::trace::{self, TraceId};
use vidi_kit::transport::{connect_tls, connect_unix, describe};
use vidi_proto::v1::WhoAmIRequest;
use vidi_proto::v1::sign_in_service_client::SignInServiceClient;

use crate::arguments::Global;
use crate::failure::Failure;

/// Another controller leads within seconds of the end of the one before; who waits longer is told.
const TAKING_OVER_SECS_MAX: Duration = Duration::from_secs(15);
/// Longest password or token that is read, in bytes.
const SECRET_BYTES_MAX: u64 = 4_096;

/// A channel that carries the sign-in.
pub(crate) type Api = InterceptedService<Channel, Bearer>;

/// The trace of this run: what the daemons' logs say of it has this id.
pub(crate) fn run_trace() -> TraceId {
    static TRACE: OnceLock<TraceId> = OnceLock::new();
    *TRACE.get_or_init(TraceId::generate)
}

/// Puts the sign-in and the trace into every request.
#[derive(Clone, Debug)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        trace::carry(request.metadata_mut().as_mut(), run_trace());
        Ok(request)
    }
}

/// Connects as the options say.
pub(crate) async fn connect(global: &Global) -> anyhow::Result<Api> {
    Ok(InterceptedService::new(channel(global).await?, bearer(global)?))
}

/// Connects as nobody: for signing in.
pub(crate) async fn connect_anonymously(global: &Global) -> anyhow::Result<Api> {
    Ok(InterceptedService::new(channel(global).await?, Bearer(None)))
}

/// Pages that one list may have: a controller that never ends must not keep us.
const PAGES_MAX: usize = 10_000;

/// The largest page that the controller gives.
pub(crate) const PAGE_SIZE_MAX: i32 = 1_000;

/// Everything of a list; `ask` gets a page token and gives a page and the next token.
pub(crate) async fn all_pages<T>(
    mut ask: impl AsyncFnMut(String) -> Result<(Vec<T>, String), Status>,
) -> anyhow::Result<Vec<T>> {
    let (mut all, mut token) = (Vec::new(), String::new());
    for _ in 0..PAGES_MAX {
        let (page, next) = ask(token).await?;
        all.extend(page);
        if next.is_empty() {
            return Ok(all);
        }
        token = next;
    }
    bail!("the list does not end after {PAGES_MAX} pages")
}

async fn channel(global: &Global) -> anyhow::Result<Channel> {
    if global.server.is_empty() {
        let socket = &global.socket;
        return connect_unix(socket.clone()).await.map_err(|error| {
            let text = describe(&error);
            Failure::Away(format!(
                "no controller answers at {}: {text}\nIs it running (systemctl status \
                 vidi-controller), or should --server and --ca name one elsewhere?",
                socket.display()
            ))
            .into()
        });
    }
    install_provider();
    let path = global.ca.as_deref().context("--server needs --ca")?;
    let config = anonymous_client_config(&read_cas(path)?)?;
    let until = Instant::now() + TAKING_OVER_SECS_MAX;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
    loop {
        let finding = controllers::ask(&global.server, |address| leading(address, config.clone()));
        let status = match finding.await {
            Ok(channel) => return Ok(channel),
            Err(status) => status,
        };
        if leader_of(&status).is_none() {
            let (servers, text) = (global.server.join(", "), status.message());
            return Err(Failure::Away(format!("no controller answers at {servers}: {text}")).into());
        }
        if until <= Instant::now() {
            return Err(status.into());
        }
        tokio::time::sleep(backoff.next_wait()).await;
    }
}

/// A connection to the controller at this address, if it leads.
async fn leading(address: String, config: ClientConfig) -> Result<Channel, Status> {
    let channel = connect_tls(&address, CONTROLLER_NAME, config)
        .await
        .map_err(|error| Status::unavailable(describe(&error)))?;
    // Whoever asks without a sign-in is refused by one that leads, but in another way.
    match SignInServiceClient::new(channel.clone()).who_am_i(WhoAmIRequest {}).await {
        Err(status) if status.code() == Code::Unavailable => Err(status),
        Ok(_) | Err(_) => Ok(channel),
    }
}

fn read_cas(path: &Path) -> anyhow::Result<Vec<Vec<u8>>> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let wrong = || format!("{} is not a PEM file with certificates", path.display());
    let cas = CertificateDer::pem_file_iter(path)
        .with_context(wrong)?
        .map(|one| one.map(|der| der.to_vec()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(wrong)?;
    if cas.is_empty() { bail!(wrong()) } else { Ok(cas) }
}

fn bearer(global: &Global) -> anyhow::Result<Bearer> {
    // On the local socket root is the operator already.
    let is_root_here = global.server.is_empty() && rustix::process::getuid().is_root();
    if global.token_file.is_none() && is_root_here {
        return Ok(Bearer(None));
    }
    let Ok(token) = std::fs::read_to_string(token_path(global)?) else { return Ok(Bearer(None)) };
    let value =
        format!("Bearer {}", token.trim()).parse().context("the kept sign-in is damaged")?;
    Ok(Bearer(Some(value)))
}

/// Where the sign-in is kept.
pub(crate) fn token_path(global: &Global) -> anyhow::Result<PathBuf> {
    if let Some(path) = &global.token_file {
        return Ok(std::path::absolute(path)?);
    }
    let folder =
        |name: &str| std::env::var_os(name).filter(|one| !one.is_empty()).map(PathBuf::from);
    let config = folder("XDG_CONFIG_HOME")
        .or_else(|| folder("HOME").map(|home| home.join(".config")))
        .context("neither XDG_CONFIG_HOME nor HOME is set: give --token-file")?;
    Ok(config.join("vidi").join("token"))
}

/// Keeps a sign-in, readable for its owner only.
pub(crate) fn keep_token(global: &Global, token: &str) -> anyhow::Result<PathBuf> {
    let path = token_path(global)?;
    let cannot = || format!("cannot write {}", path.display());
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        vidi_kit::files::make_folder(folder, 0o700).with_context(cannot)?;
    }
    vidi_kit::files::write_atomically(&path, format!("{token}\n").as_bytes(), 0o600)
        .with_context(cannot)?;
    Ok(path)
}

/// A password: asked for without showing it, or the first line of standard input.
pub(crate) fn read_password(prompt: &str) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        write!(std::io::stderr(), "{prompt}: ")?;
        show_typing("-echo");
        let mut line = String::new();
        let read = stdin.read_line(&mut line);
        show_typing("echo");
        writeln!(std::io::stderr())?;
        read?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let mut text = String::new();
    stdin.lock().take(SECRET_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

/// stty(1); where there is none the password is shown, as by any plain prompt.
fn show_typing(setting: &str) {
    let stty = Command::new("stty").arg(setting).stdin(Stdio::inherit()).status();
    drop(stty);
}
