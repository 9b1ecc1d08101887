//! `/etc/vidi/gateway.toml`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vidi_display::Policy;
use vidi_kit::config::{ConfigError, ControllerAccess, TelemetryConfig};

use crate::model::{Network, Networks};

/// Where the configuration lies when none is named.
pub const DEFAULT_PATH: &str = "/etc/vidi/gateway.toml";
/// Port of metrics and health on loopback.
pub const METRICS_PORT: u16 = 9443;
/// Port for other gateways.
const PEER_PORT: u16 = 7445;

/// An office of 300 people behind one address, each with a desktop; a tenth of all that a gateway takes.
const CONNECTIONS_PER_ADDRESS: usize = 1_000;

/// Everything that can be configured.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Folder of the gateway's own keys.
    pub state: PathBuf,
    /// The pages.
    pub https: HttpsConfig,
    /// What desktops and browsers share beside the picture.
    pub display: DisplayConfig,
    /// Recordings of sessions.
    pub recording: RecordingConfig,
    /// The way to physical machines.
    pub machines: MachinesConfig,
    /// The way from other gateways.
    pub peer: PeerConfig,
    /// The display as SPICE itself, for other viewers.
    pub raw: RawConfig,
    /// How to reach the control plane.
    pub controller: ControllerAccess,
    /// Logs, metrics and health.
    pub telemetry: TelemetryConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state: PathBuf::from("/var/lib/vidi/gateway"),
            https: HttpsConfig::default(),
            display: DisplayConfig::default(),
            recording: RecordingConfig::default(),
            machines: MachinesConfig::default(),
            peer: PeerConfig::default(),
            raw: RawConfig::default(),
            controller: ControllerAccess::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

/// `[https]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpsConfig {
    /// Where browsers connect.
    pub listen: SocketAddr,
    /// More names for the self-made certificate, and for the check of a request's `Host`.
    pub names: Vec<String>,
    /// A certificate chain of one's own, PEM; empty: one from the installation's page CA.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Connections that one address may hold; 0: no limit, as behind a balancer, where all browsers
    /// come from its address.
    pub connections_per_address: usize,
}

impl Default for HttpsConfig {
    fn default() -> Self {
        Self {
            listen: ([0, 0, 0, 0], 8443).into(),
            names: Vec::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            connections_per_address: CONNECTIONS_PER_ADDRESS,
        }
    }
}

/// `[display]`.
#[expect(clippy::struct_excessive_bools, reason = "each is a key of its own")]
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DisplayConfig {
    /// Which ways the clipboard goes.
    pub clipboard: ClipboardWays,
    /// Whether guests' screens follow the browser's window.
    pub resize: bool,
    /// Whether files go from browsers into desktops.
    pub files: bool,
    /// Whether browsers get desktops' sound.
    pub sound: bool,
    /// Whether desktops get browsers' microphones.
    pub microphone: bool,
    /// Whether users may let others of their tenant in.
    pub sharing: bool,
}

/// `[recording]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordingConfig {
    /// Where they lie; empty: in `recordings` below `state`. Gateways that are given the same folder list
    /// and show each other's.
    pub folder: PathBuf,
    /// Days for which a recording is kept.
    pub keep_days: u32,
    /// Longest recording, in MiB.
    pub mib_max: u32,
    /// Longest recording, in hours.
    pub hours_max: u32,
}

impl Default for RecordingConfig {
    fn default() -> Self {
        Self { folder: PathBuf::new(), keep_days: 30, mib_max: 4_096, hours_max: 24 }
    }
}

/// `[machines]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MachinesConfig {
    /// Networks in which physical machines are dialled, as `10.20.0.0/16`; none: everywhere but on the
    /// gateway's own machine and on its links.
    pub networks: Vec<String>,
}

impl MachinesConfig {
    /// The same, read.
    pub fn networks(&self) -> Result<Networks, ConfigError> {
        let networks: Result<_, _> =
            self.networks.iter().map(|one| one.parse::<Network>()).collect();
        let wrong = |text| ConfigError::Value { key: "[machines] networks", text };
        Ok(Networks::new(networks.map_err(wrong)?))
    }
}

/// `[peer]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PeerConfig {
    /// Where other gateways connect.
    pub listen: SocketAddr,
    /// Where they are told to, `host:port`; empty: the address from which the controller sees this
    /// gateway, and the port of `listen`.
    pub advertise: String,
}

impl PeerConfig {
    /// What the controller is told: `host:port`, or a port alone.
    pub fn address(&self) -> String {
        match self.advertise.as_str() {
            "" => format!(":{}", self.listen.port()),
            given => given.to_owned(),
        }
    }
}

impl Default for PeerConfig {
    fn default() -> Self {
        Self { listen: ([0, 0, 0, 0], PEER_PORT).into(), advertise: String::new() }
    }
}

/// `[raw]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// Origins of pages with a SPICE web client, as `https://viewer.example`, beside the gateway's own.
    pub origins: Vec<String>,
}

/// Which ways the clipboard goes.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClipboardWays {
    /// Into the desktop and out of it.
    Both,
    /// Only into it.
    ToGuest,
    /// Only out of it.
    FromGuest,
    /// Neither.
    Off,
}

impl Default for DisplayConfig {
    fn default() -> Self {
        Self {
            clipboard: ClipboardWays::Both,
            resize: true,
            files: true,
            sound: true,
            microphone: true,
            sharing: true,
        }
    }
}

impl DisplayConfig {
    /// The same in the display engine's words.
    pub const fn policy(&self) -> Policy {
        use ClipboardWays::{Both, FromGuest, ToGuest};
        Policy {
            clipboard_to_guest: matches!(self.clipboard, Both | ToGuest),
            clipboard_from_guest: matches!(self.clipboard, Both | FromGuest),
            resize: self.resize,
            files: self.files,
            sound: self.sound,
            microphone: self.microphone,
        }
    }
}

impl Config {
    /// Reads and checks the configuration.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let config: Self = vidi_kit::config::load(path, Path::new(DEFAULT_PATH))?;
        config.check().map(|()| config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let given = !self.https.certificate.as_os_str().is_empty();
        if given == self.https.key.as_os_str().is_empty() {
            return Err(ConfigError::Value {
                key: "[https] certificate",
                text: "certificate and key are given together or not at all".to_owned(),
            });
        }
        let RecordingConfig { keep_days, mib_max, hours_max, .. } = self.recording;
        let folder = &self.recording.folder;
        if !folder.as_os_str().is_empty() && !folder.is_absolute() {
            return Err(ConfigError::Value {
                key: "[recording] folder",
                text: format!("{} is not a path from the root on", folder.display()),
            });
        }
        if [keep_days, mib_max, hours_max].contains(&0) {
            return Err(ConfigError::Value {
                key: "[recording]",
                text: "keep_days, mib_max and hours_max are 1 or more".to_owned(),
            });
        }
        self.machines.networks()?;
        for origin in &self.raw.origins {
            let host = origin.strip_prefix("https://").or(origin.strip_prefix("http://"));
            if !host.is_some_and(|host| !host.is_empty() && !host.contains(['/', ' '])) {
                return Err(ConfigError::Value {
                    key: "[raw] origins",
                    text: format!("`{origin}` is not a scheme, a host and no path"),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clipboard_goes_the_ways_that_are_allowed() {
        let ways = |text: &str| {
            let config: Config = toml::from_str(text).unwrap();
            let Policy { clipboard_to_guest, clipboard_from_guest, resize, .. } =
                config.display.policy();
            (clipboard_to_guest, clipboard_from_guest, resize)
        };
        assert_eq!(ways(""), (true, true, true));
        assert_eq!(ways("[display]\nclipboard = \"both\"\nresize = false"), (true, true, false));
        assert_eq!(ways("[display]\nclipboard = \"to_guest\""), (true, false, true));
        assert_eq!(ways("[display]\nclipboard = \"from_guest\""), (false, true, true));
        assert_eq!(ways("[display]\nclipboard = \"off\""), (false, false, true));
        assert!(toml::from_str::<Config>("[display]\nclipboard = \"of\"").is_err());
    }

    #[test]
    fn a_network_that_is_none_is_told() {
        let check = |network: &str| {
            let machines = MachinesConfig { networks: vec![network.to_owned()] };
            Config { machines, ..Config::default() }.check()
        };
        assert!(check("10.20.0.0/16").is_ok());
        let told = check("10.20.0.0").unwrap_err().to_string();
        assert!(told.contains("[machines] networks") && told.contains("10.20.0.0"), "{told}");
    }

    #[test]
    fn an_origin_has_a_scheme_and_no_path() {
        let check = |origin: &str| {
            let raw = RawConfig { origins: vec![origin.to_owned()] };
            Config { raw, ..Config::default() }.check().is_ok()
        };
        assert!(check("https://viewer.example:8000"));
        for origin in ["*", "viewer.example", "https://", "https://viewer.example/", "null"] {
            assert!(!check(origin), "{origin}");
        }
    }

    #[test]
    fn a_certificate_without_its_key_is_refused() {
        let mut config = Config::default();
        assert!(config.check().is_ok());
        config.https.certificate = PathBuf::from("/etc/vidi/page.pem");
        assert!(config.check().is_err());
    }
}
