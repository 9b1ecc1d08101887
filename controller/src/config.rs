//! `/etc/vidi/controller.toml`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vidi_kit::config::{ConfigError, TelemetryConfig, check_socket_path, load};
use vidi_kit::ids::HostId;

use crate::model::Limits;

/// Where the configuration is looked for when nothing else is said.
pub const DEFAULT_PATH: &str = "/etc/vidi/controller.toml";

/// Less than a gateway needs to find its way back would end sessions that are looked at; never to end
/// one would keep every desktop running.
const DISCONNECT_SECS: std::ops::RangeInclusive<u64> = 10..=30 * 24 * 3_600;
/// Members of etcd; more than 7 voters only make it slower.
const ENDPOINTS_MAX: usize = 9;
/// Bytes of the prefix: it is repeated with each key.
const PREFIX_BYTES_MAX: usize = 64;
/// Failure domains that may be asked to fail together; each is looked at with every placement.
const HEADROOM_DOMAINS_MAX: usize = 8;
/// Longest host name that is taken as an id, in bytes; a label of DNS has 63.
const ID_BYTES_MAX: usize = 63;

/// The controller's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControllerConfig {
    /// Folder of the store and of the first password.
    pub state: PathBuf,
    /// Folder of the templates' files; empty: `images` in `state`.
    pub images: PathBuf,
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// `host:port` under which other machines reach this controller, then those of all others, for
    /// enrolment tokens; other controllers tell the first one while this one leads. Empty: the host name
    /// and the port of `listen`.
    pub advertise: Vec<String>,
    /// Where gRPC is served to processes of this machine.
    pub socket: PathBuf,
    /// The key that wraps the keys in the store.
    pub key_file: PathBuf,
    /// This controller's id; empty: the host name.
    pub id: String,
    /// Which store.
    pub store: StoreConfig,
    /// When somebody is taken as gone.
    pub presence: PresenceConfig,
    /// Where desktops go.
    pub scheduler: SchedulerConfig,
    /// Logs, metrics, health.
    pub telemetry: TelemetryConfig,
}

/// When somebody is taken as gone.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PresenceConfig {
    /// A session that nobody has been connected to for so many seconds ends, and its desktop goes the
    /// way of its release policy; 10 s to 30 days.
    pub disconnect_secs: u64,
}

/// Where desktops go.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SchedulerConfig {
    /// So many failure domains may fail together and all desktops still fit on the other hosts: nothing
    /// is placed that would take this away. A single domain has nowhere to go and is filled. 0 to 8.
    pub headroom_domains: usize,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self { headroom_domains: Limits::default().headroom_domains }
    }
}

impl ControllerConfig {
    /// What the plans need of it.
    pub fn limits(&self) -> Limits {
        let disconnect_ms = i64::try_from(self.presence.disconnect_secs.saturating_mul(1_000));
        let headroom_domains = self.scheduler.headroom_domains;
        Limits { disconnect_ms: disconnect_ms.unwrap_or(i64::MAX), headroom_domains }
    }
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self { disconnect_secs: 600 }
    }
}

/// Which store, and where etcd is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Which.
    pub kind: StoreKind,
    /// `https://host:port` of each member of etcd.
    pub endpoints: Vec<String>,
    /// CA of etcd's servers, PEM.
    pub ca_file: PathBuf,
    /// Certificate with which this controller comes to etcd, PEM.
    pub certificate_file: PathBuf,
    /// Its key, PEM.
    pub certificate_key_file: PathBuf,
    /// Before all keys in etcd, so that others can use it too.
    pub prefix: String,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            kind: StoreKind::Sled,
            endpoints: Vec::new(),
            ca_file: PathBuf::new(),
            certificate_file: PathBuf::new(),
            certificate_key_file: PathBuf::new(),
            prefix: "/vidi/1/".to_owned(),
        }
    }
}

impl StoreConfig {
    /// Files of certificates with their keys in the configuration.
    fn files(&self) -> [(&'static str, &Path); 3] {
        [
            ("store.ca_file", &self.ca_file),
            ("store.certificate_file", &self.certificate_file),
            ("store.certificate_key_file", &self.certificate_key_file),
        ]
    }

    /// Whether etcd is reached with TLS, with the certificates.
    pub fn has_tls(&self) -> bool {
        self.files().iter().any(|(_, path)| !path.as_os_str().is_empty())
    }
}

/// Which store.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// Embedded, for one machine.
    #[default]
    Sled,
    /// etcd, for many.
    Etcd,
}

impl Default for ControllerConfig {
    fn default() -> Self {
        Self {
            state: PathBuf::from("/var/lib/vidi/controller"),
            images: PathBuf::new(),
            listen: ([0, 0, 0, 0], 7443).into(),
            advertise: Vec::new(),
            socket: PathBuf::from("/run/vidi/controller.sock"),
            key_file: PathBuf::from("/etc/vidi/controller.key"),
            id: String::new(),
            store: StoreConfig::default(),
            presence: PresenceConfig::default(),
            scheduler: SchedulerConfig::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

/// Reads and checks the configuration, and fills in what depends on the machine.
pub fn read(path: Option<&Path>) -> Result<ControllerConfig, ConfigError> {
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    check(load(path, Path::new(DEFAULT_PATH))?, &hostname)
}

fn check(mut config: ControllerConfig, hostname: &str) -> Result<ControllerConfig, ConfigError> {
    let value = |key, text: String| ConfigError::Value { key, text };
    check_store(&config.store)?;
    check_socket_path("socket", &config.socket)?;
    for (key, path) in [("state", &config.state), ("key_file", &config.key_file)] {
        if !path.is_absolute() {
            return Err(value(key, format!("{} is not an absolute path", path.display())));
        }
    }
    if config.images.as_os_str().is_empty() {
        config.images = config.state.join("images");
    }
    if config.id.is_empty() {
        config.id = id_of(hostname);
    }
    if let Err(error) = config.id.parse::<HostId>() {
        return Err(value("id", error.to_string()));
    }
    if config.advertise.is_empty() {
        config.advertise = vec![format!("{hostname}:{}", config.listen.port())];
    }
    if !DISCONNECT_SECS.contains(&config.presence.disconnect_secs) {
        let text = format!(
            "{} is not between {} (10 s) and {} (30 days)",
            config.presence.disconnect_secs,
            DISCONNECT_SECS.start(),
            DISCONNECT_SECS.end()
        );
        return Err(value("presence.disconnect_secs", text));
    }
    if HEADROOM_DOMAINS_MAX < config.scheduler.headroom_domains {
        let domains = config.scheduler.headroom_domains;
        let text = format!("{domains} is more than {HEADROOM_DOMAINS_MAX}");
        return Err(value("scheduler.headroom_domains", text));
    }
    for address in &config.advertise {
        let port = address.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
        if !matches!(port, Some((host, Ok(_))) if !host.is_empty()) {
            return Err(value("advertise", format!("\"{address}\" is not host:port")));
        }
    }
    Ok(config)
}

fn check_store(store: &StoreConfig) -> Result<(), ConfigError> {
    let refuse = |key, text: String| Err(ConfigError::Value { key, text });
    if store.kind == StoreKind::Sled {
        if !store.endpoints.is_empty() {
            let text = "endpoints are for `kind = \"etcd\"`, and the kind is \"sled\"".to_owned();
            return refuse("store.endpoints", text);
        }
        return Ok(());
    }
    if store.endpoints.is_empty() || ENDPOINTS_MAX < store.endpoints.len() {
        let text = format!("etcd needs 1 to {ENDPOINTS_MAX} endpoints, as \"https://etcd1:2379\"");
        return refuse("store.endpoints", text);
    }
    for endpoint in &store.endpoints {
        if let Some(text) = fault_of(endpoint, store.has_tls()) {
            return refuse("store.endpoints", text);
        }
    }
    for (key, path) in store.files() {
        if store.has_tls() && !path.is_absolute() {
            let text = format!(
                "\"{}\" is not an absolute path; etcd's CA, a certificate and its key belong \
                 together",
                path.display()
            );
            return refuse(key, text);
        }
    }
    let prefix = &store.prefix;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte);
    let is_good = prefix.starts_with('/') && prefix.ends_with('/') && prefix.bytes().all(plain);
    if !is_good || PREFIX_BYTES_MAX < prefix.len() {
        let text = format!(
            "\"{prefix}\" is not a prefix as \"/vidi/1/\": letters, digits and -_. between \
             slashes, at most {PREFIX_BYTES_MAX} bytes"
        );
        return refuse("store.prefix", text);
    }
    Ok(())
}

/// What is wrong with an endpoint of etcd.
fn fault_of(endpoint: &str, has_tls: bool) -> Option<String> {
    let shape = || Some(format!("\"{endpoint}\" is not as \"https://etcd1:2379\""));
    let Ok(uri) = endpoint.parse::<http::Uri>() else { return shape() };
    let (Some(scheme), Some(host), Some(_port)) = (uri.scheme_str(), uri.host(), uri.port_u16())
    else {
        return shape();
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match scheme {
        _ if !matches!(uri.path(), "" | "/") || uri.query().is_some() => shape(),
        "https" if has_tls => None,
        "https" => Some(format!(
            "\"{endpoint}\" needs `ca_file`, `certificate_file` and `certificate_key_file`"
        )),
        "http" if has_tls => {
            Some(format!("\"{endpoint}\" is without TLS, and certificates are given: use https"))
        }
        "http" if is_here => None,
        "http" => Some(format!(
            "\"{endpoint}\" is without TLS: that is for addresses of this machine (127.0.0.1) \
             only, since the store holds secrets; use https"
        )),
        _ => shape(),
    }
}

/// A machine's name made fit for an id.
fn id_of(hostname: &str) -> String {
    let short = hostname.split('.').next().unwrap_or_default().to_lowercase();
    let plain: String = short
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-')
        .take(ID_BYTES_MAX)
        .collect();
    let plain = plain.trim_matches('-');
    if plain.is_empty() { "controller".to_owned() } else { plain.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<ControllerConfig, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("controller.toml");
        std::fs::write(&path, text).unwrap();
        load(Some(&path), Path::new("/none"))
            .and_then(|config| check(config, "Node_7.example.org"))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_file_means_the_defaults_of_one_machine() {
        let config = read_text("").unwrap();
        assert_eq!(config.listen.port(), 7443);
        assert_eq!(config.images, Path::new("/var/lib/vidi/controller/images"));
        assert_eq!(config.id, "node7");
        assert_eq!(config.advertise, ["Node_7.example.org:7443"]);
        assert_eq!(config.limits(), Limits { disconnect_ms: 600_000, headroom_domains: 1 });
        let short = read_text("[presence]\ndisconnect_secs = 15").unwrap();
        assert_eq!(short.limits().disconnect_ms, 15_000);
        let filled = read_text("[scheduler]\nheadroom_domains = 0").unwrap();
        assert_eq!(filled.limits().headroom_domains, 0);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("listne = \"0.0.0.0:1\"", "listne"),
            ("[telemetry]\nlogs = \"x\"", "logs"),
            ("store = \"etcd\"", "store"),
            ("[store]\nkind = \"redis\"", "redis"),
            ("[store]\nendpoints = [\"https://e:2379\"]", "the kind is"),
            ("listen = \"everywhere\"", "listen"),
            ("state = \"relative\"", "state"),
            ("id = \"Not An Id\"", "id"),
            ("advertise = [\"host\"]", "advertise"),
            ("[presence]\ndisconnect_secs = 9", "presence.disconnect_secs"),
            ("[presence]\ndisconnect_secs = 0", "presence.disconnect_secs"),
            ("[presence]\ndisconnect_secs = 2592001", "30 days"),
            ("[presence]\ndisconnect_secs = 1.5", "disconnect_secs"),
            ("[presence]\ndisconnects = 15", "disconnects"),
            ("[scheduler]\nheadroom_domains = 9", "scheduler.headroom_domains"),
            ("[scheduler]\nheadroom_domains = -1", "headroom_domains"),
        ] {
            let error = read_text(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
        let tls = "ca_file = \"/a\"\ncertificate_file = \"/b\"\ncertificate_key_file = \"/c\"";
        let here = "endpoints = [\"http://127.0.0.1:2379\", \"http://[::1]:2379\"]";
        let there = "endpoints = [\"https://e1:2379\"]";
        for (text, expected) in [
            (String::new(), "1 to 9 endpoints"),
            (there.to_owned(), "needs `ca_file`"),
            ("endpoints = [\"http://e1:2379\"]".to_owned(), "this machine"),
            ("endpoints = [\"e1:2379\"]".to_owned(), "is not as"),
            ("endpoints = [\"https://e1\"]".to_owned(), "is not as"),
            ("endpoints = [\"https://e1:2379/x\"]".to_owned(), "is not as"),
            (format!("{here}\n{tls}"), "use https"),
            (format!("{there}\nca_file = \"/a\""), "store.certificate_file"),
            (format!("{here}\nprefix = \"vidi\""), "store.prefix"),
            (format!("{here}\nprefix = \"/ä/\""), "store.prefix"),
        ] {
            let error = read_text(&format!("[store]\nkind = \"etcd\"\n{text}")).expect_err(&text);
            assert!(error.contains(expected), "{text}: {error}");
        }
        let etcd = |text: &str| read_text(&format!("[store]\nkind = \"etcd\"\n{text}")).unwrap();
        assert!(!etcd(here).store.has_tls());
        assert!(etcd(&format!("{there}\n{tls}")).store.has_tls());
        let long = format!("socket = \"/{}\"", "x".repeat(120));
        assert!(read_text(&long).expect_err("long").contains("socket"));
    }
}
