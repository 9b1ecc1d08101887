//! The certificate that browsers see: the operator's own, or one from the installation's page CA.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::sync::watch;
use tracing::{info, warn};
use vidi_kit::files::{make_folder, write_atomically};
use vidi_kit::{Backoff, Clock, Tasks};
use vidi_proto::v1::CertifyPageRequest;
use vidi_proto::v1::gateway_link_client::GatewayLinkClient;

use crate::adapters::controller::Controller;
use crate::config::HttpsConfig;
use crate::error::GatewayError;

/// A kept certificate with less left than this is replaced.
const LEFT_MS_MIN: i64 = 30 * 24 * 3_600 * 1_000;
/// How often the kept certificate's age is looked at.
const CHECK_PERIOD: Duration = Duration::from_secs(24 * 3_600);

/// TLS for the pages; a self-made certificate is replaced before it ends.
pub async fn tls_config(
    tasks: &Tasks,
    clock: &Clock,
    config: &HttpsConfig,
    folder: &Path,
    controller: &Controller,
) -> Result<watch::Receiver<Arc<ServerConfig>>, GatewayError> {
    if !config.certificate.as_os_str().is_empty() {
        let given = from_files(&config.certificate, &config.key)?;
        // The sender goes: a given certificate changes with a restart only.
        return Ok(watch::channel(Arc::new(given)).1);
    }
    make_folder(folder, 0o700)?;
    let maker = Maker {
        clock: clock.clone(),
        names: names(config),
        folder: folder.to_owned(),
        controller: controller.clone(),
    };
    let first = match maker.kept() {
        Some(kept) => kept,
        None => maker.make_with_patience().await,
    };
    let (sender, receiver) = watch::channel(Arc::new(first));
    let stop = tasks.stop_token();
    let _renewing = tasks.spawn("page-certificate", async move {
        let renewing = async {
            loop {
                tokio::time::sleep(CHECK_PERIOD).await;
                if maker.kept().is_none() {
                    sender.send_replace(Arc::new(maker.make_with_patience().await));
                }
            }
        };
        // Cancel-safe: files are written whole or not at all.
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = renewing => {}
        }
    });
    Ok(receiver)
}

struct Maker {
    clock: Clock,
    names: Vec<String>,
    folder: PathBuf,
    controller: Controller,
}

impl Maker {
    /// The kept certificate, if it is for the same names and lives long enough.
    fn kept(&self) -> Option<ServerConfig> {
        let names = std::fs::read_to_string(self.folder.join("names")).ok()?;
        if names.lines().ne(self.names.iter().map(String::as_str)) {
            return None;
        }
        let chain = read_chain(&self.folder.join("cert.pem")).ok()?;
        let (_, parsed) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
        let end_ms = parsed.validity().not_after.timestamp().saturating_mul(1_000);
        if end_ms.saturating_sub(self.clock.now_ms()) < LEFT_MS_MIN {
            return None;
        }
        from_files(&self.folder.join("cert.pem"), &self.folder.join("key.pem")).ok()
    }

    async fn make_with_patience(&self) -> ServerConfig {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        loop {
            match self.make().await {
                Ok(config) => return config,
                Err(error) => {
                    warn!(%error, "No page certificate yet");
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    async fn make(&self) -> Result<ServerConfig, GatewayError> {
        let wrong = |error: rcgen::Error| GatewayError::PageCertificate(error.to_string());
        let key = rcgen::KeyPair::generate().map_err(wrong)?;
        let csr = rcgen::CertificateParams::default().serialize_request(&key).map_err(wrong)?;
        let Some(channel) = self.controller.connected().await else {
            return Err(GatewayError::ControllerAway);
        };
        let request = CertifyPageRequest { csr: csr.der().to_vec(), names: self.names.clone() };
        let answer = GatewayLinkClient::new(channel).certify_page(request).await?.into_inner();
        let mut chain = vec![CertificateDer::from(answer.certificate)];
        chain.extend(answer.chain.into_iter().map(CertificateDer::from));
        self.keep(&chain, &key)?;
        info!(names = ?self.names, "Page certificate made");
        server_config(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    fn keep(&self, chain: &[CertificateDer<'_>], key: &rcgen::KeyPair) -> Result<(), GatewayError> {
        let pem: String = chain
            .iter()
            .map(|one| pem::encode(&pem::Pem::new("CERTIFICATE", one.as_ref())))
            .collect();
        write_atomically(&self.folder.join("key.pem"), key.serialize_pem().as_bytes(), 0o600)?;
        write_atomically(&self.folder.join("cert.pem"), pem.as_bytes(), 0o644)?;
        write_atomically(&self.folder.join("names"), self.names.join("\n").as_bytes(), 0o644)?;
        Ok(())
    }
}

/// localhost, loopback, the machine's name and its addresses, and what the configuration adds.
fn names(config: &HttpsConfig) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    names.extend((!host.is_empty()).then_some(host));
    names.extend(own_address().map(|address| address.to_string()));
    names.extend(config.names.iter().cloned());
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// The address from which this machine would reach others; nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // A documentation address (RFC 5737): connecting a datagram socket only picks the route.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_unspecified())
}

fn from_files(certificate: &Path, key: &Path) -> Result<ServerConfig, GatewayError> {
    let chain = read_chain(certificate)?;
    let key = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| GatewayError::PageCertificate(format!("{}: {error}", key.display())))?;
    server_config(chain, key)
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, GatewayError> {
    let wrong = |error: rustls::pki_types::pem::Error| {
        GatewayError::PageCertificate(format!("{}: {error}", path.display()))
    };
    CertificateDer::pem_file_iter(path).map_err(wrong)?.collect::<Result<_, _>>().map_err(wrong)
}

fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<ServerConfig, GatewayError> {
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| GatewayError::PageCertificate(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
