//! Who a daemon is, and TLS 1.3 both ways with it.
//!
//! A certificate carries a URI SAN `vidi://<installation>/<role>/<id>` (who may) and a DNS SAN
//! `<id>.<role>.vidi.internal` (whom one dials); controllers also `controller.vidi.internal`.
//! Nothing is ever read from the common name.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::sync::watch;
use x509_parser::extensions::GeneralName;

use crate::files::write_atomically;

/// The name that every controller's certificate carries.
pub const CONTROLLER_NAME: &str = "controller.vidi.internal";
/// ALPN of gRPC.
const ALPN_HTTP2: &[u8] = b"h2";

/// What a certificate lets its holder be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A controller.
    Controller,
    /// The agent of a host.
    Agent,
    /// The relay of a host.
    Relay,
    /// An edge gateway.
    Gateway,
}

impl Role {
    /// As in certificates and tokens.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Agent => "agent",
            Self::Relay => "relay",
            Self::Gateway => "gateway",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = TlsError;

    fn from_str(text: &str) -> Result<Self, TlsError> {
        [Self::Controller, Self::Agent, Self::Relay, Self::Gateway]
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or(TlsError::NotOurs("role"))
    }
}

/// Why TLS cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of the identity cannot be read or written.
    #[error("cannot access {path}")]
    File {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file's content is not what it should be.
    #[error("{0} is not valid PEM of the expected kind")]
    Pem(String),
    /// rustls refuses the certificates or the key.
    #[error("the certificates are refused")]
    Rustls(#[from] rustls::Error),
    /// The list of trusted CAs is not usable.
    #[error("the trusted certificate authorities are not usable")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// A certificate lacks what ours carry.
    #[error("the certificate is not one of this installation: its {0} is missing or wrong")]
    NotOurs(&'static str),
    /// The key or the signing request could not be made.
    #[error("cannot make a key and its signing request")]
    Generate(#[from] rcgen::Error),
}

/// `<id>.<role>.vidi.internal`.
pub fn dns_name(role: Role, id: &str) -> String {
    format!("{id}.{role}.vidi.internal")
}

/// `vidi://<installation>/<role>/<id>`.
pub fn uri_name(installation: &str, role: Role, id: &str) -> String {
    format!("vidi://{installation}/{role}/{id}")
}

/// A certificate, its key, and whom to trust.
pub struct Identity {
    /// End certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: PrivateKeyDer<'static>,
    /// Trusted CAs.
    pub cas: Vec<CertificateDer<'static>>,
    /// Whose it is, read from the certificate.
    pub name: CertificateName,
}

/// What a certificate of ours says about its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateName {
    /// The installation.
    pub installation: String,
    /// The role.
    pub role: Role,
    /// The id within the role.
    pub id: String,
    /// Start of validity, ms since the epoch.
    pub not_before_ms: i64,
    /// End of validity, ms since the epoch.
    pub not_after_ms: i64,
}

impl CertificateName {
    /// Reads the URI SAN of a certificate that was already verified.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, TlsError> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|_| TlsError::NotOurs("encoding"))?;
        let names = parsed
            .subject_alternative_name()
            .ok()
            .flatten()
            .ok_or(TlsError::NotOurs("alternative name"))?;
        let uri = names
            .value
            .general_names
            .iter()
            .find_map(|name| match name {
                GeneralName::URI(uri) => uri.strip_prefix("vidi://"),
                _ => None,
            })
            .ok_or(TlsError::NotOurs("URI"))?;
        let mut parts = uri.split('/');
        let (Some(installation), Some(role), Some(id), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TlsError::NotOurs("URI"));
        };
        Ok(Self {
            installation: installation.to_owned(),
            role: role.parse()?,
            id: id.to_owned(),
            not_before_ms: parsed.validity().not_before.timestamp().saturating_mul(1_000),
            not_after_ms: parsed.validity().not_after.timestamp().saturating_mul(1_000),
        })
    }
}

impl Identity {
    /// From DER parts.
    pub fn new(
        certificate: Vec<u8>,
        key_pkcs8: Vec<u8>,
        cas: Vec<Vec<u8>>,
    ) -> Result<Self, TlsError> {
        let certificate = CertificateDer::from(certificate);
        Ok(Self {
            name: CertificateName::read(&certificate)?,
            chain: vec![certificate],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key_pkcs8)),
            cas: cas.into_iter().map(CertificateDer::from).collect(),
        })
    }

    /// Reads `cert.pem`, `key.pem` and `ca.pem` of a folder; `None` when there is no certificate yet.
    pub fn load(folder: &Path) -> Result<Option<Self>, TlsError> {
        if !folder.join("cert.pem").exists() {
            return Ok(None);
        }
        let certificate = read_pem(folder, "cert.pem")?;
        let key = read_pem(folder, "key.pem")?;
        let cas = read_pem(folder, "ca.pem")?;
        let first = |blocks: Vec<Vec<u8>>, name: &str| {
            blocks.into_iter().next().ok_or_else(|| TlsError::Pem(name.to_owned()))
        };
        Self::new(first(certificate, "cert.pem")?, first(key, "key.pem")?, cas).map(Some)
    }

    /// Writes the three files, the certificate last, so that a crash in between is seen as none.
    pub fn save(&self, folder: &Path) -> Result<(), TlsError> {
        let write = |name: &str, text: String, mode| {
            let path = folder.join(name);
            write_atomically(&path, text.as_bytes(), mode)
                .map_err(|source| TlsError::File { path: path.display().to_string(), source })
        };
        let certificates = |list: &[CertificateDer<'_>]| {
            list.iter()
                .map(|one| pem::encode(&pem::Pem::new("CERTIFICATE", one.as_ref())))
                .collect()
        };
        write("key.pem", pem::encode(&pem::Pem::new("PRIVATE KEY", self.key.secret_der())), 0o600)?;
        write("ca.pem", certificates(&self.cas), 0o644)?;
        write("cert.pem", certificates(&self.chain), 0o644)
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for ca in &self.cas {
            roots.add(ca.clone())?;
        }
        Ok(roots)
    }

    /// For dialling another daemon with this identity.
    pub fn client_config(&self) -> Result<ClientConfig, TlsError> {
        let mut config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())?;
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
        Ok(config)
    }

    /// For accepting others. With [`ClientCertificate::Optional`] a caller may come without a
    /// certificate; one of another CA is refused in every case.
    pub fn server_config(&self, clients: ClientCertificate) -> Result<ServerConfig, TlsError> {
        let builder = WebPkiClientVerifier::builder(Arc::new(self.roots()?));
        let verifier = match clients {
            ClientCertificate::Required => builder.build()?,
            ClientCertificate::Optional => builder.allow_unauthenticated().build()?,
        };
        let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
        // Each connection begins with a whole handshake, so that a certificate is judged anew. rustls would
        // reserve some 30 KiB for sessions to be resumed.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Identity").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Whether a listener lets callers in who show no certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Only daemons of this installation.
    Required,
    /// People too, who show a token instead.
    Optional,
}

/// The current identity; changes when the certificate is renewed.
pub type IdentityReceiver = watch::Receiver<Arc<Identity>>;

/// For dialling with trust in given CAs and no certificate of one's own (enrolment, `vidictl`).
pub fn anonymous_client_config(cas: &[Vec<u8>]) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        roots.add(CertificateDer::from(ca.clone()))?;
    }
    let mut config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![ALPN_HTTP2.to_vec()];
    Ok(config)
}

/// A new P-256 key (PKCS#8, DER) and a signing request for it (PKCS#10, DER).
pub fn generate_key_and_csr() -> Result<(Vec<u8>, Vec<u8>), TlsError> {
    let key = rcgen::KeyPair::generate()?;
    let csr = rcgen::CertificateParams::default().serialize_request(&key)?;
    Ok((key.serialize_der(), csr.der().to_vec()))
}

/// Makes aws-lc-rs the process's only TLS provider; call once in main, and in tests. Asking again is
/// harmless.
pub fn install_provider() {
    // An error means that a provider is installed already, and there is only this one to install.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

fn read_pem(folder: &Path, name: &str) -> Result<Vec<Vec<u8>>, TlsError> {
    let path = folder.join(name);
    let text = std::fs::read(&path)
        .map_err(|source| TlsError::File { path: path.display().to_string(), source })?;
    let blocks = pem::parse_many(text).map_err(|_| TlsError::Pem(path.display().to_string()))?;
    Ok(blocks.into_iter().map(pem::Pem::into_contents).collect())
}
