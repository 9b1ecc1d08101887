//! Configuration files: TOML, unknown keys are errors, and what is wrong is said with its place.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Exit code for a bad configuration (`EX_USAGE` of sysexits.h).
pub const EXIT_BAD_CONFIG: u8 = 64;

/// Longest path of a Unix socket that this project accepts, in bytes; `sun_path` holds 108.
pub const SOCKET_PATH_BYTES_MAX: usize = 100;

/// The command line that every daemon has.
#[derive(Clone, Debug, clap::Args)]
pub struct DaemonArgs {
    /// Configuration file, instead of the one in /etc/vidi.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Read the configuration, say what is wrong with it, and exit (64 when it is bad).
    #[arg(long)]
    pub check_config: bool,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file's text is not what it should be; the text names the key and the line.
    #[error("the configuration {path} is not valid: {text}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's words.
        text: String,
    },
    /// A value is out of its limits.
    #[error("the configuration's {key} is not valid: {text}")]
    Value {
        /// The key, with its table.
        key: &'static str,
        /// What is wrong and what to do.
        text: String,
    },
}

/// Reads `path`, or `default_path` when none is given; a default file that is not there means an
/// empty configuration.
pub fn load<T: DeserializeOwned>(
    path: Option<&Path>,
    default_path: &Path,
) -> Result<T, ConfigError> {
    let file = path.unwrap_or(default_path);
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
            String::new()
        }
        Err(source) => return Err(ConfigError::Read { path: file.to_owned(), source }),
    };
    parse(&text, file)
}

fn parse<T: DeserializeOwned>(text: &str, file: &Path) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Parse {
        path: file.to_owned(),
        text: error.to_string().trim_end().to_owned(),
    })
}

/// Refuses a socket path that the kernel would cut.
pub fn check_socket_path(key: &'static str, path: &Path) -> Result<(), ConfigError> {
    let length = path.as_os_str().len();
    if SOCKET_PATH_BYTES_MAX < length {
        return Err(ConfigError::Value {
            key,
            text: format!(
                "{} is {length} bytes long; a socket's path has at most {SOCKET_PATH_BYTES_MAX}",
                path.display()
            ),
        });
    }
    Ok(())
}

/// `[telemetry]`: logs, metrics and health.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// What to log, in the syntax of tracing's `EnvFilter`; `VIDI_LOG` in the environment wins.
    pub log: String,
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// Where `/metrics`, `/live` and `/ready` are served; `none` when the key is the empty string.
    pub listen: Option<SocketAddr>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self { log: "info".to_owned(), log_format: LogFormat::Text, listen: None }
    }
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[controller]` of agent and gateway: how to reach the control plane.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControllerAccess {
    /// `host:port` of every controller.
    pub addresses: Vec<String>,
    /// The local controller's socket; used to enrol without a token where it is there.
    pub socket: PathBuf,
    /// File with an enrolment token, for a machine without a controller.
    pub enroll_token_file: PathBuf,
    /// The id to enrol with; empty: the host name.
    pub id: String,
}

impl Default for ControllerAccess {
    fn default() -> Self {
        Self {
            addresses: vec!["127.0.0.1:7443".to_owned()],
            socket: PathBuf::from("/run/vidi/controller.sock"),
            enroll_token_file: PathBuf::from("/etc/vidi/enroll.token"),
            id: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_an_error_that_names_it() {
        let result: Result<ControllerAccess, _> =
            parse("adresses = []", Path::new("/etc/vidi/agent.toml"));
        let text = result.expect_err("misspelt").to_string();
        assert!(text.contains("adresses") && text.contains("/etc/vidi/agent.toml"), "{text}");
    }

    #[test]
    fn a_default_file_that_is_not_there_means_the_defaults() {
        let config: ControllerAccess = load(None, Path::new("/nonexistent/vidi.toml")).unwrap();
        assert_eq!(config.addresses, ["127.0.0.1:7443"]);
        assert!(
            load::<ControllerAccess>(Some(Path::new("/nonexistent")), Path::new("/x")).is_err()
        );
    }
}
