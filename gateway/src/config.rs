//! `/etc/vidi/gateway.toml`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vidi_display::Policy;
use vidi_kit::config::{ConfigError, ControllerAccess, TelemetryConfig};

/// Where the configuration lies when none is named.
pub const DEFAULT_PATH: &str = "/etc/vidi/gateway.toml";
/// Port of metrics and health on loopback.
pub const METRICS_PORT: u16 = 9443;

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
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DisplayConfig {
    /// Which ways the clipboard goes.
    pub clipboard: ClipboardWays,
    /// Whether guests' screens follow the browser's window.
    pub resize: bool,
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
        Self { clipboard: ClipboardWays::Both, resize: true }
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
            let Policy { clipboard_to_guest, clipboard_from_guest, resize } =
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
    fn a_certificate_without_its_key_is_refused() {
        let mut config = Config::default();
        assert!(config.check().is_ok());
        config.https.certificate = PathBuf::from("/etc/vidi/page.pem");
        assert!(config.check().is_err());
    }
}
