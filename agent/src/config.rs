//! `/etc/vidi/agent.toml` and `/etc/vidi/relay.toml`.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use vidi_kit::config::{ConfigError, ControllerAccess, TelemetryConfig, check_socket_path};

/// The agent's configuration where none is named.
pub const AGENT_CONFIG: &str = "/etc/vidi/agent.toml";
/// The relay's.
pub const RELAY_CONFIG: &str = "/etc/vidi/relay.toml";
/// Where the relay listens for gateways.
pub const RELAY_PORT: u16 = 7444;
/// Where the agent's metrics and health are.
pub const AGENT_METRICS_PORT: u16 = 9442;
/// Where the relay's metrics and health are.
pub const RELAY_METRICS_PORT: u16 = 9444;
/// A film of 1920 x 1080 with 30 frames in a second looks good with it.
const VIDEO_MBIT_S: u32 = 30;
/// One Mbit/s is a slide show; ten times a network's usual speed is a slip of the finger.
const VIDEO_MBIT_S_MAX: u32 = 10_000;
const RELAY_SOCKET: &str = "/run/vidi/relay.sock";
/// A desktop that is emulated on a busy machine takes 3 minutes to boot.
const READY_SECS: u32 = 600;
/// Nothing boots sooner than the first; after a day nobody waits any more.
const READY_SECS_RANGE: RangeInclusive<u32> = 10..=86_400;

/// The agent's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentConfig {
    /// Journal and certificate.
    pub state: PathBuf,
    /// Images and overlays, in a folder for each installation; QEMU's own user must get through.
    pub images: PathBuf,
    /// URI of the libvirt daemon.
    pub libvirt: String,
    /// How guests run.
    pub acceleration: AccelerationChoice,
    /// Where the relay of this machine comes for sockets and its certificate.
    pub relay_socket: PathBuf,
    /// What is told to the controller about the relay.
    pub relay: RelayTable,
    /// How desktops are run.
    pub desktops: DesktopsTable,
    /// Folder with the micro image that the probe of the acceleration boots; none: not KVM.
    pub probe_image: Option<PathBuf>,
    /// How to reach the control plane.
    pub controller: ControllerAccess,
    /// Logs, metrics and health.
    pub telemetry: TelemetryConfig,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            state: PathBuf::from("/var/lib/vidi/agent"),
            images: PathBuf::from("/var/lib/vidi/images"),
            libvirt: "qemu:///system".to_owned(),
            acceleration: AccelerationChoice::default(),
            relay_socket: PathBuf::from(RELAY_SOCKET),
            relay: RelayTable::default(),
            desktops: DesktopsTable::default(),
            probe_image: None,
            controller: ControllerAccess::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

/// `acceleration`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum AccelerationChoice {
    /// Boot a small guest with KVM and see; TCG where that fails.
    #[default]
    Probe,
    /// KVM, unproved.
    Kvm,
    /// QEMU's own translation: slow, runs everywhere.
    Tcg,
}

/// `[relay]` of `agent.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelayTable {
    /// Where the relay of this machine listens.
    pub port: u16,
    /// `host` or `host:port` for gateways; empty: the address that the controller sees.
    pub advertise: String,
}

impl Default for RelayTable {
    fn default() -> Self {
        Self { port: RELAY_PORT, advertise: String::new() }
    }
}

/// `[desktops]` of `agent.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DesktopsTable {
    /// A guest that is not ready so long after its start, in seconds, hangs: its machine is ended and
    /// started again.
    pub ready_secs: u32,
}

impl Default for DesktopsTable {
    fn default() -> Self {
        Self { ready_secs: READY_SECS }
    }
}

impl AgentConfig {
    /// Reads and checks the file; `None` is the default one, which may be missing.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let config: Self = vidi_kit::config::load(path, Path::new(AGENT_CONFIG))?;
        check_socket_path("relay_socket", &config.relay_socket)?;
        check_socket_path("controller.socket", &config.controller.socket)?;
        let value = |key, text: &str| Err(ConfigError::Value { key, text: text.to_owned() });
        if config.libvirt.is_empty() {
            return value("libvirt", "it is empty; the usual one is \"qemu:///system\"");
        }
        if config.relay.port == 0 {
            return value("relay.port", &format!("0 is not a port; the usual one is {RELAY_PORT}"));
        }
        if !READY_SECS_RANGE.contains(&config.desktops.ready_secs) {
            let (least, most) = (READY_SECS_RANGE.start(), READY_SECS_RANGE.end());
            let text = format!("{least} to {most} is possible; the usual one is {READY_SECS}");
            return value("desktops.ready_secs", &text);
        }
        if !config.state.is_absolute() || !config.images.is_absolute() {
            return value("state", "state and images have to be absolute paths");
        }
        Ok(config)
    }
}

/// The relay's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelayConfig {
    /// Key and certificate.
    pub state: PathBuf,
    /// Where gateways come.
    pub listen: SocketAddr,
    /// The agent's socket.
    pub agent_socket: PathBuf,
    /// What a film on one desktop may take of the network to the gateway, in Mbit/s; 0 leaves it as it
    /// is, which is up to 2 Gbit/s.
    pub video_mbit_s: u32,
    /// Logs, metrics and health.
    pub telemetry: TelemetryConfig,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            state: PathBuf::from("/var/lib/vidi/relay"),
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, RELAY_PORT)),
            agent_socket: PathBuf::from(RELAY_SOCKET),
            video_mbit_s: VIDEO_MBIT_S,
            telemetry: TelemetryConfig::default(),
        }
    }
}

impl RelayConfig {
    /// Reads and checks the file; `None` is the default one, which may be missing.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let config: Self = vidi_kit::config::load(path, Path::new(RELAY_CONFIG))?;
        check_socket_path("agent_socket", &config.agent_socket)?;
        if VIDEO_MBIT_S_MAX < config.video_mbit_s {
            let text =
                format!("0 to {VIDEO_MBIT_S_MAX} is possible; the usual one is {VIDEO_MBIT_S}");
            return Err(ConfigError::Value { key: "video_mbit_s", text });
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<AgentConfig, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        AgentConfig::load(Some(file.path()))
    }

    #[test]
    fn a_full_file_is_read() {
        let config = load(
            r#"
            state = "/s"
            images = "/i"
            libvirt = "qemu+unix:///system?socket=/run/x"
            acceleration = "tcg"
            relay_socket = "/r.sock"
            probe_image = "/p"
            [relay]
            port = 7
            advertise = "host.example"
            [desktops]
            ready_secs = 900
            [controller]
            addresses = ["127.0.0.1:1"]
            [telemetry]
            listen = "127.0.0.1:0"
            "#,
        )
        .unwrap();
        assert_eq!(config.acceleration, AccelerationChoice::Tcg);
        assert_eq!((config.relay.port, config.relay.advertise.as_str()), (7, "host.example"));
        assert_eq!(config.desktops.ready_secs, 900);
        assert_eq!(config.controller.addresses, ["127.0.0.1:1"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, word) in [
            ("libvrt = \"x\"", "libvrt"),
            ("[relay]\nprt = 1", "prt"),
            ("acceleration = \"fast\"", "fast"),
            ("libvirt = \"\"", "libvirt"),
            ("[relay]\nport = 0", "relay.port"),
            ("[desktops]\nready_secs = 9", "desktops.ready_secs"),
            (&format!("relay_socket = \"/{}\"", "x".repeat(100)), "relay_socket"),
            ("state = \"here\"", "absolute"),
        ] {
            let said = load(text).expect_err(text).to_string();
            assert!(said.contains(word), "{text}: {said}");
        }
    }
}
