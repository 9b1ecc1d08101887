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
    /// Which store: `sled`.
    pub store: StoreKind,
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// `host:port` under which other machines reach this controller, for enrolment tokens; empty: the
    /// host name and the port of `listen`.
    pub advertise: Vec<String>,
    /// Where gRPC is served to processes of this machine.
    pub socket: PathBuf,
    /// The key that wraps the keys in the store.
    pub key_file: PathBuf,
    /// This controller's id; empty: the host name.
    pub id: String,
    /// When somebody is taken as gone.
    pub presence: PresenceConfig,
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

impl PresenceConfig {
    /// As the plans take it.
    pub fn limits(&self) -> Limits {
        let disconnect_ms = i64::try_from(self.disconnect_secs.saturating_mul(1_000));
        Limits { disconnect_ms: disconnect_ms.unwrap_or(i64::MAX) }
    }
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self { disconnect_secs: 600 }
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
            store: StoreKind::Sled,
            listen: ([0, 0, 0, 0], 7443).into(),
            advertise: Vec::new(),
            socket: PathBuf::from("/run/vidi/controller.sock"),
            key_file: PathBuf::from("/etc/vidi/controller.key"),
            id: String::new(),
            presence: PresenceConfig::default(),
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
    if config.store == StoreKind::Etcd {
        let text = "\"etcd\" is not supported yet: use \"sled\"".to_owned();
        return Err(value("store", text));
    }
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
    for address in &config.advertise {
        let port = address.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
        if !matches!(port, Some((host, Ok(_))) if !host.is_empty()) {
            return Err(value("advertise", format!("\"{address}\" is not host:port")));
        }
    }
    Ok(config)
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
        assert_eq!(config.presence.limits().disconnect_ms, 600_000);
        let short = read_text("[presence]\ndisconnect_secs = 15").unwrap();
        assert_eq!(short.presence.limits().disconnect_ms, 15_000);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("listne = \"0.0.0.0:1\"", "listne"),
            ("[telemetry]\nlogs = \"x\"", "logs"),
            ("store = \"etcd\"", "not supported yet"),
            ("store = \"redis\"", "redis"),
            ("listen = \"everywhere\"", "listen"),
            ("state = \"relative\"", "state"),
            ("id = \"Not An Id\"", "id"),
            ("advertise = [\"host\"]", "advertise"),
            ("[presence]\ndisconnect_secs = 9", "presence.disconnect_secs"),
            ("[presence]\ndisconnect_secs = 0", "presence.disconnect_secs"),
            ("[presence]\ndisconnect_secs = 2592001", "30 days"),
            ("[presence]\ndisconnect_secs = 1.5", "disconnect_secs"),
            ("[presence]\ndisconnects = 15", "disconnects"),
        ] {
            let error = read_text(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
        let long = format!("socket = \"/{}\"", "x".repeat(120));
        assert!(read_text(&long).expect_err("long").contains("socket"));
    }
}
