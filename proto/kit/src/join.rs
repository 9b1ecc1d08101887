//! `join`: makes a machine part of an installation with one pasted token.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use vidi_proto::v1::EnrollTokenContents;

use crate::Clock;
use crate::commands::JoinArguments;
use crate::enroll::{EnrollError, decode_token, with_token};
use crate::tls::{CertificateName, Identity, Role, TlsError};

/// Where services are started by somebody.
const SYSTEMD: &str = "/run/systemd/system";
/// Largest configuration that is edited, in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Why a machine did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token is for another kind of daemon.
    #[error(
        "the token is for a {given}: run vidi-{given} join, or ask for one with --role {wanted}"
    )]
    OtherRole {
        /// What it is for.
        given: String,
        /// What was to join.
        wanted: Role,
    },
    /// There is a good certificate already.
    #[error(
        "this machine is {role} {id} of installation {installation} already; join with --force to \
         leave that behind"
    )]
    Joined {
        /// As what.
        role: Role,
        /// As whom.
        id: String,
        /// Where.
        installation: String,
    },
    /// No certificate.
    #[error(transparent)]
    Enroll(#[from] EnrollError),
    /// The certificate's files.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Something cannot be written.
    #[error("cannot write {path}: {source}; run this as root")]
    Write {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The configuration cannot be edited by a program.
    #[error("write this into {path} yourself and try again: [controller] addresses = {addresses}")]
    Edit {
        /// The configuration.
        path: PathBuf,
        /// As a TOML array.
        addresses: String,
    },
}

/// Who joins, and where its things are.
#[derive(Clone, Debug)]
pub struct Joining {
    /// As what.
    pub role: Role,
    /// The configuration that the controllers' addresses are written into.
    pub config: PathBuf,
    /// The daemon's state folder.
    pub state: PathBuf,
    /// The certificate's folder within it.
    pub identity: PathBuf,
    /// The id in the configuration; empty: the machine's name.
    pub id: String,
    /// The command line.
    pub arguments: JoinArguments,
}

impl Joining {
    /// Reads the token and refuses one that cannot be right, before anything is changed.
    pub fn token(&self) -> Result<EnrollTokenContents, JoinError> {
        let token = decode_token(&self.arguments.token)?;
        if token.role != self.role.as_str() {
            return Err(JoinError::OtherRole { given: token.role, wanted: self.role });
        }
        // One that cannot be read is as good as none: it is replaced.
        let kept = Identity::load(&self.identity).ok().flatten();
        match kept.filter(|kept| Clock::system().now_ms() < kept.name.not_after_ms) {
            Some(kept) if !self.arguments.force => Err(JoinError::Joined {
                role: kept.name.role,
                id: kept.name.id,
                installation: kept.name.installation,
            }),
            Some(_) | None => Ok(token),
        }
    }

    /// Writes the addresses, uses the token up, gives the files to the daemon's own user.
    pub async fn join(&self, token: EnrollTokenContents) -> Result<CertificateName, JoinError> {
        self.write_addresses(&token.addresses)?;
        let owner = self.owner();
        for folder in [&self.state, &self.identity] {
            let existed = folder.exists();
            crate::files::make_folder(folder, 0o700).map_err(|error| wrong(folder, error))?;
            if !existed {
                give(folder, owner)?;
            }
        }
        let id = self.arguments.id.as_deref().unwrap_or(&self.id);
        let identity = with_token(token, self.role, id, &self.identity).await?;
        for file in ["key.pem", "ca.pem", "cert.pem"] {
            give(&self.identity.join(file), owner)?;
        }
        Ok(identity.name)
    }

    fn write_addresses(&self, addresses: &[String]) -> Result<(), JoinError> {
        let path = &self.config;
        let text = match std::fs::metadata(path) {
            Ok(metadata) if CONFIG_BYTES_MAX < metadata.len() => {
                return Err(self.by_hand(addresses));
            }
            Ok(_) => std::fs::read_to_string(path).map_err(|error| wrong(path, error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(wrong(path, error)),
        };
        let edited = with_addresses(&text, addresses).ok_or_else(|| self.by_hand(addresses))?;
        if edited == text {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| wrong(folder, error))?;
        }
        let kept = std::fs::metadata(path).ok();
        let mode = kept.as_ref().map_or(0o644, |kept| kept.mode() & 0o777);
        crate::files::write_atomically(path, edited.as_bytes(), mode)
            .map_err(|error| wrong(path, error))?;
        give(path, kept.map(|kept| (kept.uid(), kept.gid())))
    }

    fn by_hand(&self, addresses: &[String]) -> JoinError {
        JoinError::Edit { path: self.config.clone(), addresses: array(addresses) }
    }

    /// Who owns the state, or will: the user that the package made.
    fn owner(&self) -> Option<(u32, u32)> {
        if let Ok(metadata) = std::fs::metadata(&self.state) {
            return Some((metadata.uid(), metadata.gid()));
        }
        let users = std::fs::read_to_string("/etc/passwd").ok()?;
        let name = format!("vidi-{}", self.role);
        let line = users.lines().find(|line| line.split(':').next() == Some(name.as_str()))?;
        let mut numbers = line.split(':').skip(2).map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }

    /// Starts the services where systemd runs and the installed configuration was used; else says
    /// what is to be started. Gives a sentence for people.
    pub fn start(&self, services: &[&str]) -> String {
        let installed = self.config.starts_with("/etc/vidi") && Path::new(SYSTEMD).exists();
        if !installed {
            let folder = self.config.parent().unwrap_or(Path::new("/etc/vidi"));
            let commands = services.iter().map(|service| {
                let short = service.trim_start_matches("vidi-");
                format!("{service} --config {}", folder.join(format!("{short}.toml")).display())
            });
            return format!("now start: {}", commands.collect::<Vec<_>>().join("; "));
        }
        for verb in ["enable", "restart"] {
            let done =
                Command::new("systemctl").arg(verb).args(services).stdin(Stdio::null()).status();
            if !done.is_ok_and(|status| status.success()) {
                return format!(
                    "systemctl {verb} {} failed: journalctl says why",
                    services.join(" ")
                );
            }
        }
        format!("started: {}", services.join(", "))
    }
}

/// Prints a line for people.
pub fn say(line: &str) {
    // A reader that went away is no reason to stop half-way.
    drop(writeln!(io::stdout(), "{line}"));
}

fn wrong(path: &Path, source: io::Error) -> JoinError {
    JoinError::Write { path: path.to_owned(), source }
}

fn give(path: &Path, owner: Option<(u32, u32)>) -> Result<(), JoinError> {
    let Some((user, group)) = owner.filter(|_| rustix::process::geteuid().is_root()) else {
        return Ok(());
    };
    std::os::unix::fs::chown(path, Some(user), Some(group)).map_err(|error| wrong(path, error))
}

fn array(addresses: &[String]) -> String {
    let quoted: Vec<_> = addresses.iter().map(|address| format!("{address:?}")).collect();
    format!("[{}]", quoted.join(", "))
}

/// The configuration with these addresses in `[controller]`, its comments and all else as they were;
/// none where that cannot be done line by line. The commented lines of the installed file are used.
fn with_addresses(text: &str, addresses: &[String]) -> Option<String> {
    let uncommented = |line: &str| line.trim_start_matches(['#', ' ']).trim_end().to_owned();
    let is_key = |line: &str| uncommented(line).starts_with("addresses = [");
    let wanted = format!("addresses = {}", array(addresses));
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let table = lines.iter().position(|line| line.trim_end() == "[controller]");
    let table = table.or_else(|| lines.iter().position(|line| uncommented(line) == "[controller]"));
    match table {
        None => lines.extend(["".to_owned(), "[controller]".to_owned(), wanted]),
        Some(table) => {
            let ends = |line: &String| uncommented(line).starts_with('[') && line.ends_with(']');
            let end = lines.iter().skip(table + 1).position(ends);
            let end = end.map_or(lines.len(), |length| table + 1 + length);
            let within = || lines.iter().enumerate().take(end).skip(table + 1);
            let key = within().find(|(_, line)| !line.starts_with('#') && is_key(line));
            let key = key.or_else(|| within().find(|(_, line)| is_key(line))).map(|(at, _)| at);
            match key.and_then(|key| lines.get_mut(key)) {
                Some(line) => *line = wanted,
                None => lines.insert(table + 1, wanted),
            }
            "[controller]".clone_into(lines.get_mut(table)?);
        }
    }
    let edited = format!("{}\n", lines.join("\n").trim_start_matches('\n'));
    (read_addresses(&edited).as_deref() == Some(addresses)).then_some(edited)
}

fn read_addresses(text: &str) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct File {
        controller: Table,
    }
    #[derive(Deserialize)]
    struct Table {
        addresses: Vec<String>,
    }
    toml::from_str::<File>(text).ok().map(|file| file.controller.addresses)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enroll::encode_token;

    fn edited(text: &str) -> Option<String> {
        with_addresses(text, &["c.example:7443".to_owned()])
    }

    #[test]
    fn addresses_are_written_where_they_belong_and_nothing_else_changes() {
        let wanted = "addresses = [\"c.example:7443\"]";
        for (text, expected) in [
            ("", format!("[controller]\n{wanted}\n")),
            ("state = \"/s\"\n", format!("state = \"/s\"\n\n[controller]\n{wanted}\n")),
            (
                "[controller]\naddresses = [\"a:1\"] # old\nid = \"x\"\n[telemetry]\nlog = \"info\"\n",
                format!("[controller]\n{wanted}\nid = \"x\"\n[telemetry]\nlog = \"info\"\n"),
            ),
            ("[controller]\nid = \"x\"\n", format!("[controller]\n{wanted}\nid = \"x\"\n")),
            (
                "# a = 1\n\n# [controller]\n# Where.\n# addresses = [\"127.0.0.1:7443\"]\n\n# id = \"\"\n",
                format!("# a = 1\n\n[controller]\n# Where.\n{wanted}\n\n# id = \"\"\n"),
            ),
        ] {
            assert_eq!(edited(text), Some(expected), "{text}");
        }
        // Twice is as good as once.
        let once = edited("state = \"/s\"\n").unwrap();
        assert_eq!(edited(&once).as_deref(), Some(once.as_str()));
    }

    #[test]
    fn a_file_that_is_too_clever_is_left_to_people() {
        assert_eq!(edited("controller = { id = \"x\" }\n"), None);
        assert_eq!(edited("[controller]\naddresses = [\n  \"a:1\",\n]\n"), None);
        assert_eq!(edited("not toml"), None);
    }

    #[test]
    fn a_token_of_another_role_is_refused_and_names_the_right_command() {
        let folder = tempfile::tempdir().unwrap();
        let token = EnrollTokenContents { role: "gateway".to_owned(), ..Default::default() };
        let arguments = JoinArguments { token: encode_token(&token), id: None, force: false };
        let joining = Joining {
            role: Role::Agent,
            config: folder.path().join("agent.toml"),
            state: folder.path().to_owned(),
            identity: folder.path().join("identity"),
            id: String::new(),
            arguments,
        };
        let error = joining.token().expect_err("other role").to_string();
        assert!(error.contains("vidi-gateway join") && error.contains("--role agent"), "{error}");
    }
}
