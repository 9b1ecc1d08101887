//! The installation's two certificate authorities, with keys that are wrapped where they are stored.

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKey, SanType,
};
use vidi_kit::Clock;
use vidi_kit::tls::{CONTROLLER_NAME, Role, dns_name, uri_name};
use vidi_proto::store::v1::Authority as AuthorityRecord;
use zeroize::Zeroizing;

use crate::model::Sealed;
use crate::ports::{Authority, AuthorityError, Issued};

/// Life of a daemon's certificate; renewed at two thirds.
pub const DAEMON_LIFE: Duration = Duration::from_secs(24 * 3_600);
/// Life of a page's certificate: browsers refuse more than 398 days.
const PAGE_LIFE: Duration = Duration::from_secs(397 * 24 * 3_600);
/// Life of a CA.
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// Certificates begin this much in the past: clocks of a cluster differ.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(300);
/// Largest signing request that is parsed, in bytes; ours are below 400.
const CSR_BYTES_MAX: usize = 8_192;
/// Names in a page's certificate.
pub const PAGE_NAMES_MAX: usize = 64;
/// Bytes of the key in `controller.key`: AES-256.
const KEY_BYTES: usize = 32;

/// Which of the two authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Daemons.
    Internal,
    /// Pages, and nothing else.
    Page,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::Page => "page",
        }
    }
}

/// Why the keys are not usable.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key file cannot be read or made.
    #[error("cannot access the key file {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not 64 hexadecimal letters.
    #[error(
        "the key file {0} is damaged: 64 hexadecimal letters are expected; restore it from a backup"
    )]
    Malformed(PathBuf),
    /// There is a store but no key.
    #[error(
        "the key file {0} is missing, and the store was made with one: restore it from a backup, or \
         copy it from another controller"
    )]
    Missing(PathBuf),
    /// The first start on a store that several controllers share.
    #[error(
        "the key file {0} is missing: on etcd it is not made by itself, since every controller needs \
         the same; make it once (`openssl rand -hex 32`), readable for root only, and copy it to \
         each controller"
    )]
    NotSupplied(PathBuf),
    /// The key does not open what is stored.
    #[error(
        "the key file {0} is not the one that this store was made with: restore the right one from \
         a backup, or copy it from another controller"
    )]
    Wrong(PathBuf),
    /// The library fails, or what is stored is not a CA.
    #[error("a certificate authority cannot be made or read")]
    Certificate(#[source] rcgen::Error),
}

/// The key of `controller.key`, which wraps the keys in the store.
pub struct WrappingKey {
    path: PathBuf,
    key: LessSafeKey,
}

impl fmt::Debug for WrappingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WrappingKey").field("path", &self.path).finish_non_exhaustive()
    }
}

impl WrappingKey {
    /// Reads the key file.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = match fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(KeyError::Missing(path.to_owned()));
            }
            Err(source) => return Err(KeyError::File { path: path.to_owned(), source }),
        };
        let malformed = || KeyError::Malformed(path.to_owned());
        let bytes = Zeroizing::new(from_hex(text.trim()).ok_or_else(malformed)?);
        if bytes.len() != KEY_BYTES {
            return Err(malformed());
        }
        let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_| malformed())?;
        Ok(Self { path: path.to_owned(), key: LessSafeKey::new(key) })
    }

    /// Reads the key file, or makes it (0600) when it is not there.
    pub fn load_or_make(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::Missing(_)) => {
                let bytes = Zeroizing::new(rand::random::<[u8; KEY_BYTES]>());
                let text = Zeroizing::new(format!("{}\n", to_hex(bytes.as_slice())));
                let in_file = |source| KeyError::File { path: path.to_owned(), source };
                if let Some(folder) = path.parent() {
                    vidi_kit::files::make_folder(folder, 0o755).map_err(in_file)?;
                }
                vidi_kit::files::write_atomically(path, text.as_bytes(), 0o600).map_err(in_file)?;
                Self::load(path)
            }
            done => done,
        }
    }

    /// Reads the key file, which must have been supplied for a new installation.
    pub fn load_supplied(path: &Path) -> Result<Self, KeyError> {
        Self::load(path).map_err(|error| match error {
            KeyError::Missing(path) => KeyError::NotSupplied(path),
            other => other,
        })
    }

    fn wrap(&self, purpose: &str, mut bytes: Vec<u8>) -> Result<Sealed, KeyError> {
        let nonce = rand::random::<[u8; NONCE_LEN]>();
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(purpose),
                &mut bytes,
            )
            .map_err(|_| KeyError::Wrong(self.path.clone()))?;
        Ok(Sealed { wrapped: bytes, nonce: nonce.to_vec() })
    }

    fn unwrap(&self, purpose: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let wrong = || KeyError::Wrong(self.path.clone());
        let nonce = Nonce::try_assume_unique_for_key(&sealed.nonce).map_err(|_| wrong())?;
        let mut bytes = Zeroizing::new(sealed.wrapped.clone());
        let length = self
            .key
            .open_in_place(nonce, Aad::from(purpose), &mut bytes)
            .map_err(|_| wrong())?
            .len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// A new CA, its key wrapped.
pub fn make_authority(
    clock: &Clock,
    key: &WrappingKey,
    purpose: Purpose,
    installation: &str,
) -> Result<AuthorityRecord, KeyError> {
    let pair = KeyPair::generate().map_err(KeyError::Certificate)?;
    let mut params = valid_for(clock, CA_LIFE);
    let short: String = installation.chars().take(8).collect();
    params.distinguished_name = common_name(&format!("Vidi {} CA {short}", purpose.as_str()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&pair).map_err(KeyError::Certificate)?;
    let Sealed { wrapped, nonce } = key.wrap(purpose.as_str(), pair.serialize_der())?;
    let certificate = certificate.der().to_vec();
    Ok(AuthorityRecord { certificate, wrapped_key: wrapped, nonce })
}

/// Both authorities, ready to sign.
pub struct LocalAuthority {
    clock: Clock,
    installation: String,
    internal: Signer,
    page: Signer,
    key: Arc<WrappingKey>,
}

struct Signer {
    certificate: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for LocalAuthority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LocalAuthority")
            .field("installation", &self.installation)
            .finish_non_exhaustive()
    }
}

impl LocalAuthority {
    /// Unwraps the keys of both.
    pub fn open(
        clock: Clock,
        key: &Arc<WrappingKey>,
        installation: String,
        internal: &AuthorityRecord,
        page: &AuthorityRecord,
    ) -> Result<Self, KeyError> {
        let internal = Signer::open(key, Purpose::Internal, internal)?;
        let page = Signer::open(key, Purpose::Page, page)?;
        Ok(Self { clock, installation, internal, page, key: Arc::clone(key) })
    }

    fn sign(
        &self,
        signer: &Signer,
        mut params: CertificateParams,
        key: &PublicKey,
    ) -> Result<Issued, AuthorityError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let not_after_ms = params.not_after.unix_timestamp().saturating_mul(1_000);
        let certificate = params.signed_by(key, &signer.issuer).map_err(cannot_sign)?;
        Ok(Issued { certificate: certificate.der().to_vec(), not_after_ms })
    }
}

impl Authority for LocalAuthority {
    fn installation(&self) -> &str {
        &self.installation
    }

    fn cas(&self) -> Vec<Vec<u8>> {
        vec![self.internal.certificate.clone()]
    }

    fn page_cas(&self) -> Vec<Vec<u8>> {
        vec![self.page.certificate.clone()]
    }

    fn issue(&self, role: Role, id: &str, csr: &[u8]) -> Result<Issued, AuthorityError> {
        let key = key_of(csr)?;
        let mut params = valid_for(&self.clock, DAEMON_LIFE);
        params.distinguished_name = common_name(&format!("{role} {id}"));
        let uri = uri_name(&self.installation, role, id);
        params.subject_alt_names = vec![
            SanType::URI(uri.as_str().try_into().map_err(|_| bad_name(&uri))?),
            dns(&dns_name(role, id))?,
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        match role {
            Role::Controller => {
                params.subject_alt_names.push(dns(CONTROLLER_NAME)?);
                params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            }
            Role::Relay | Role::Gateway => {
                params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            }
            Role::Agent => {}
        }
        self.sign(&self.internal, params, &key)
    }

    fn issue_page(&self, csr: &[u8], names: &[String]) -> Result<Issued, AuthorityError> {
        let key = key_of(csr)?;
        if PAGE_NAMES_MAX < names.len() {
            return Err(bad_name(&format!("{} names, at most {PAGE_NAMES_MAX}", names.len())));
        }
        let mut params = valid_for(&self.clock, PAGE_LIFE);
        let own = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        for name in own.iter().chain(names) {
            let san = page_name(name)?;
            if !params.subject_alt_names.contains(&san) {
                params.subject_alt_names.push(san);
            }
        }
        params.distinguished_name = common_name("Vidi");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&self.page, params, &key)
    }

    fn seal(&self, purpose: &str, secret: &[u8]) -> Option<Sealed> {
        self.key.wrap(purpose, secret.to_vec()).ok()
    }

    fn unseal(&self, purpose: &str, sealed: &Sealed) -> Option<Zeroizing<Vec<u8>>> {
        self.key.unwrap(purpose, sealed).ok()
    }
}

impl Signer {
    fn open(
        key: &WrappingKey,
        purpose: Purpose,
        record: &AuthorityRecord,
    ) -> Result<Self, KeyError> {
        let (wrapped, nonce) = (record.wrapped_key.clone(), record.nonce.clone());
        let pkcs8 = key.unwrap(purpose.as_str(), &Sealed { wrapped, nonce })?;
        let pair = KeyPair::try_from(pkcs8.as_slice()).map_err(KeyError::Certificate)?;
        let certificate = record.certificate.clone();
        let issuer = Issuer::from_ca_cert_der(&certificate.as_slice().into(), pair)
            .map_err(KeyError::Certificate)?;
        Ok(Self { certificate, issuer })
    }
}

/// The key that a request proves to hold; everything else in it is ignored.
fn key_of(csr: &[u8]) -> Result<PublicKey, AuthorityError> {
    if CSR_BYTES_MAX < csr.len() {
        return Err(AuthorityError::BadRequest);
    }
    CertificateSigningRequestParams::from_der(&csr.into())
        .map(|request| request.public_key)
        .map_err(|_| AuthorityError::BadRequest)
}

fn valid_for(clock: &Clock, life: Duration) -> CertificateParams {
    let now = Duration::from_millis(u64::try_from(clock.now_ms()).unwrap_or(0));
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.not_before = epoch + now.saturating_sub(CLOCK_DIFFERENCE);
    params.not_after = epoch + now.saturating_add(life);
    params
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // X.520 allows 64 letters.
    name.push(DnType::CommonName, text.chars().take(64).collect::<String>());
    name
}

fn page_name(name: &str) -> Result<SanType, AuthorityError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let plain = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-')
    };
    let wildcard_free = name.strip_prefix("*.").unwrap_or(name);
    if 253 < name.len() || !wildcard_free.split('.').all(plain) {
        return Err(bad_name(name));
    }
    dns(name)
}

fn dns(name: &str) -> Result<SanType, AuthorityError> {
    name.try_into().map(SanType::DnsName).map_err(|_| bad_name(name))
}

fn bad_name(name: &str) -> AuthorityError {
    AuthorityError::BadName(name.chars().take(80).collect())
}

fn cannot_sign(error: rcgen::Error) -> AuthorityError {
    AuthorityError::Sign(Box::new(error))
}

/// Lower-case hexadecimal.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs
        .iter()
        .map(|pair| {
            str::from_utf8(pair).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vidi_kit::tls::{CertificateName, generate_key_and_csr};

    fn authority(folder: &Path) -> (LocalAuthority, AuthorityRecord, AuthorityRecord) {
        let clock = Clock::manual(1_800_000_000_000);
        let key = Arc::new(WrappingKey::load_or_make(&folder.join("controller.key")).unwrap());
        let internal = make_authority(&clock, &key, Purpose::Internal, "inst").unwrap();
        let page = make_authority(&clock, &key, Purpose::Page, "inst").unwrap();
        let both = LocalAuthority::open(clock, &key, "inst".to_owned(), &internal, &page).unwrap();
        (both, internal, page)
    }

    #[test]
    fn names_come_from_the_controller_and_never_from_the_request() {
        let folder = tempfile::tempdir().unwrap();
        let (authority, ..) = authority(folder.path());
        let pair = KeyPair::generate().unwrap();
        let wished = CertificateParams::new(vec!["controller.vidi.internal".to_owned()]).unwrap();
        let csr = wished.serialize_request(&pair).unwrap();
        let issued = authority.issue(Role::Agent, "h1", csr.der()).unwrap();
        let der = issued.certificate.into();
        let name = CertificateName::read(&der).unwrap();
        assert_eq!((name.role, name.id.as_str()), (Role::Agent, "h1"));
        assert_eq!(name.not_after_ms - 1_800_000_000_000, 24 * 3_600_000);
        let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        let text = format!("{:?}", names.value.general_names);
        assert!(text.contains("h1.agent.vidi.internal") && !text.contains("controller"), "{text}");
        for damaged in [&b""[..], b"x", &csr.der()[..40], &[0; CSR_BYTES_MAX + 1]] {
            assert!(matches!(
                authority.issue(Role::Agent, "h1", damaged),
                Err(AuthorityError::BadRequest)
            ));
        }
    }

    #[test]
    fn a_page_has_the_loopback_names_and_those_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let (authority, ..) = authority(folder.path());
        let (_, csr) = generate_key_and_csr().unwrap();
        let names = ["vdi.example.org", "10.0.0.7", "localhost"].map(str::to_owned);
        let issued = authority.issue_page(&csr, &names).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&issued.certificate).unwrap();
        let found = parsed.subject_alternative_name().unwrap().unwrap();
        assert_eq!(found.value.general_names.len(), 5);
        assert_eq!(authority.cas().len(), 1);
        assert_ne!(authority.cas(), authority.page_cas());
        for wrong in ["", "a b", "https://x", "a/b", "..", &"a".repeat(300)] {
            let refused = authority.issue_page(&csr, &[(*wrong).to_owned()]);
            assert!(matches!(refused, Err(AuthorityError::BadName(_))), "{wrong}");
        }
    }

    #[test]
    fn a_secret_opens_for_its_purpose_only_and_is_not_seen_in_its_wrapped_form() {
        let folder = tempfile::tempdir().unwrap();
        let (authority, ..) = authority(folder.path());
        let sealed = authority.seal("machines of a", b"open sesame").unwrap();
        assert!(!sealed.wrapped.windows(4).any(|part| part == b"open"));
        assert_eq!(format!("{sealed:?}"), "Sealed(..)");
        let opened = authority.unseal("machines of a", &sealed).unwrap();
        assert_eq!(opened.as_slice(), b"open sesame");
        assert!(authority.unseal("machines of b", &sealed).is_none());
        let mut damaged = sealed;
        damaged.wrapped[0] ^= 1;
        assert!(authority.unseal("machines of a", &damaged).is_none());
        damaged.nonce.clear();
        assert!(authority.unseal("machines of a", &damaged).is_none());
    }

    #[test]
    fn only_the_right_key_file_opens_the_authorities() {
        let folder = tempfile::tempdir().unwrap();
        let (_, internal, page) = authority(folder.path());
        let other = Arc::new(WrappingKey::load_or_make(&folder.path().join("other.key")).unwrap());
        let open = |key: &Arc<WrappingKey>, internal: &AuthorityRecord| {
            LocalAuthority::open(Clock::manual(0), key, "inst".to_owned(), internal, &page)
        };
        assert!(matches!(open(&other, &internal), Err(KeyError::Wrong(_))));
        let right = Arc::new(WrappingKey::load(&folder.path().join("controller.key")).unwrap());
        assert!(open(&right, &internal).is_ok());
        // One authority's key does not pass for the other's.
        assert!(matches!(open(&right, &page), Err(KeyError::Wrong(_))));
        let missing = folder.path().join("none");
        assert!(matches!(WrappingKey::load(&missing), Err(KeyError::Missing(_))));
        fs::write(&missing, "abc").unwrap();
        assert!(matches!(WrappingKey::load(&missing), Err(KeyError::Malformed(_))));
    }
}
