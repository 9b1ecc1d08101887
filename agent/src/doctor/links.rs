//! What connects this host: ports, the relay's socket, the daemons, certificate, controllers.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Code, Status};
use vidi_kit::Clock;
use vidi_kit::controllers::leader_of;
use vidi_kit::tls::{CONTROLLER_NAME, CertificateName, Identity};
use vidi_kit::transport::{connect_tls, describe};
use vidi_proto::v1::WhoAmIRequest;
use vidi_proto::v1::sign_in_service_client::SignInServiceClient;

use super::Finding;
use super::machine::unreadable;
use crate::config::{AGENT_METRICS_PORT, AgentConfig, RELAY_METRICS_PORT, RelayConfig};

/// A daemon of this machine answers at once, or not at all.
const HEALTH_SECS_MAX: Duration = Duration::from_secs(3);
/// Longest answer of a health check that is read, in bytes.
const HEALTH_BYTES_MAX: usize = 4_096;
/// One controller: connect, handshake, one call.
const CONTROLLER_SECS_MAX: Duration = Duration::from_secs(6);
/// Controllers that are asked.
const CONTROLLERS_MAX: usize = 8;
/// Clocks may differ by so much: grants are good for 30 s, and agents measure the difference.
const SKEW_MS_MAX: i64 = 5_000;
/// A certificate is renewed at two thirds of its life: one that ends sooner is overdue.
const CERTIFICATE_LEFT_MIN_MS: i64 = 60 * 60 * 1_000;
/// Processes and descriptors that are looked through for the owner of a port.
const DESCRIPTORS_MAX: usize = 200_000;

/// Whose certificate this machine has.
pub(super) fn own_name(config: &AgentConfig) -> Option<CertificateName> {
    Identity::load(&config.state.join("identity")).ok().flatten().map(|identity| identity.name)
}

/// The port on which gateways come.
pub(super) async fn ports(config: &AgentConfig, relay: &RelayConfig) -> Vec<Finding> {
    const CHECK: &str = "port";
    let port = relay.listen.port();
    if port != config.relay.port {
        return vec![Finding::fail(
            CHECK,
            format!(
                "the relay listens on {port}, and the controller is told {}",
                config.relay.port
            ),
            "give [relay] port in agent.toml and listen in relay.toml the same port",
        )];
    }
    vec![match TcpListener::bind(relay.listen).await {
        Ok(_free) => Finding::ok(CHECK, format!("{} is free for vidi-relay", relay.listen)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => in_use(CHECK, relay.listen),
        Err(error) => Finding::fail(
            CHECK,
            format!("nobody can listen on {}: {error}", relay.listen),
            "correct listen in relay.toml: an address of this machine and a port above 1023",
        ),
    }]
}

fn in_use(check: &'static str, address: SocketAddr) -> Finding {
    match listener_of(address.port()) {
        Some(program) if program == "vidi-relay" => {
            Finding::ok(check, format!("vidi-relay listens on {address}"))
        }
        Some(program) => Finding::fail(
            check,
            format!("{program} listens on {address}"),
            "stop it, or give relay.toml and [relay] of agent.toml another port",
        ),
        None => Finding::warn(
            check,
            format!("somebody listens on {address}; who cannot be seen"),
            "run this as root",
        ),
    }
}

/// The program that listens on a TCP port, where this user may see it (proc_pid_net(5)).
fn listener_of(port: u16) -> Option<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    let inodes: HashSet<String> =
        tables.iter().flatten().flat_map(|table| inodes_listening(table, port)).collect();
    let mut looked_at = 0;
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.flatten() {
            looked_at += 1;
            if DESCRIPTORS_MAX < looked_at {
                return None;
            }
            let Ok(target) = fs::read_link(descriptor.path()) else { continue };
            let target = target.to_string_lossy().into_owned();
            let inode = target.strip_prefix("socket:[").and_then(|it| it.strip_suffix(']'));
            if inode.is_some_and(|inode| inodes.contains(inode)) {
                let name = fs::read_to_string(process.path().join("comm")).ok()?;
                return Some(name.trim().to_owned());
            }
        }
    }
    None
}

/// Lines are `sl local_address rem_address st ... uid timeout inode`; state 0A listens.
fn inodes_listening(table: &str, port: u16) -> Vec<String> {
    const LISTENS: &str = "0A";
    let port = format!(":{port:04X}");
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields
        .filter(|fields| {
            fields.get(1).is_some_and(|local| local.ends_with(&port))
                && fields.get(3) == Some(&LISTENS)
        })
        .filter_map(|fields| fields.get(9).map(|&inode| inode.to_owned()))
        .collect()
}

/// The daemons of this host, and the socket between them.
pub(super) async fn relay(config: &AgentConfig, relay: &RelayConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    if config.relay_socket != relay.agent_socket {
        findings.push(Finding::fail(
            "relay-socket",
            format!(
                "the agent listens on {}, the relay comes to {}",
                config.relay_socket.display(),
                relay.agent_socket.display()
            ),
            "give relay_socket in agent.toml and agent_socket in relay.toml the same path",
        ));
    } else {
        let listens = fs::read_to_string("/proc/net/unix").is_ok_and(|table| {
            table.lines().any(|line| line.ends_with(&format!(" {}", config.relay_socket.display())))
        });
        let path = config.relay_socket.display();
        findings.push(if listens {
            Finding::ok("relay-socket", format!("the agent listens on {path}"))
        } else {
            let found = format!("nobody listens on {path}");
            Finding::warn("relay-socket", found, "start the agent: systemctl start vidi-agent")
        });
    }
    let address = |listen: Option<SocketAddr>, port| {
        listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port)))
    };
    let agent_at = address(config.telemetry.listen, AGENT_METRICS_PORT);
    findings.push(daemon("agent", "vidi-agent", agent_at).await);
    let relay_at = address(relay.telemetry.listen, RELAY_METRICS_PORT);
    findings.push(daemon("relay", "vidi-relay", relay_at).await);
    findings
}

async fn daemon(check: &'static str, program: &str, address: SocketAddr) -> Finding {
    let asked = tokio::time::timeout(HEALTH_SECS_MAX, ask_ready(address)).await;
    match asked.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into())) {
        Ok((true, _)) => Finding::ok(check, format!("{program} runs and is ready ({address})")),
        Ok((false, why)) => Finding::warn(
            check,
            format!("{program} runs and is not ready: {why}"),
            format!("journalctl -u {program} -n 20 says more"),
        ),
        Err(error) => Finding::warn(
            check,
            format!("{program} does not answer on {address}: {error}"),
            format!("start it: systemctl start {program}; journalctl -u {program} says why not"),
        ),
    }
}

/// `GET /ready`: whether it is, and what it says.
async fn ask_ready(address: SocketAddr) -> io::Result<(bool, String)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /ready HTTP/1.0\r\nhost: localhost\r\n\r\n").await?;
    let mut answer = vec![0; HEALTH_BYTES_MAX];
    let mut length = 0;
    while let Some(rest) = answer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest).await? {
            0 => break,
            read => length += read,
        }
    }
    answer.truncate(length);
    let text = String::from_utf8_lossy(&answer);
    let ready = text.split(' ').nth(1) == Some("200");
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((ready, body.split_whitespace().collect::<Vec<_>>().join(" ")))
}

/// The certificate that makes this machine a host.
pub(super) fn certificate(config: &AgentConfig) -> Vec<Finding> {
    const CHECK: &str = "certificate";
    let folder = config.state.join("identity");
    let join =
        "on the controller's machine: vidictl host enroll-token; paste the line it prints here";
    let identity = match Identity::load(&folder) {
        Ok(Some(identity)) => identity,
        Ok(None) if config.controller.socket.exists() => {
            let found =
                "none yet; the controller's socket is here, so the agent gets one by itself";
            return vec![Finding::ok(CHECK, found)];
        }
        Ok(None) if readable(&config.state) => {
            let found = "this machine has not joined an installation";
            return vec![Finding::warn(CHECK, found, join)];
        }
        Ok(None) | Err(_) if !readable(&folder) => {
            let found = format!("{} cannot be read by this user", folder.display());
            return vec![Finding::warn(CHECK, found, "run this as root")];
        }
        Ok(None) => return vec![Finding::warn(CHECK, "none", join)],
        Err(error) => {
            let found = describe(&error);
            let advice = format!("remove {} and join again: {join}", folder.display());
            return vec![Finding::fail(CHECK, found, advice)];
        }
    };
    vec![judge(CHECK, &identity.name, Clock::system().now_ms(), join)]
}

fn readable(folder: &Path) -> bool {
    !matches!(fs::read_dir(folder), Err(error) if error.kind() == io::ErrorKind::PermissionDenied)
}

fn judge(check: &'static str, name: &CertificateName, now_ms: i64, join: &str) -> Finding {
    let whose = format!("host {} of installation {}", name.id, name.installation);
    let left_ms = name.not_after_ms.saturating_sub(now_ms);
    if now_ms < name.not_before_ms {
        let advice = "set this machine's clock; the controller's is ahead of it";
        return Finding::fail(check, format!("{whose}: not valid yet"), advice);
    }
    if left_ms <= 0 {
        let id = &name.id;
        let advice = format!("join again under the same id, with --id {id}: {join}");
        return Finding::fail(check, format!("{whose}: has expired"), advice);
    }
    let hours = left_ms / 3_600_000;
    if left_ms < CERTIFICATE_LEFT_MIN_MS {
        let found = format!("{whose}: ends within the hour and was not renewed");
        return Finding::warn(check, found, "see the check \"controller\"");
    }
    Finding::ok(check, format!("{whose}, good for {hours} more hours"))
}

/// Whether controllers answer, are who they should be, and agree on the time.
pub(super) async fn controllers(config: &AgentConfig) -> Vec<Finding> {
    const CHECK: &str = "controller";
    let folder = config.state.join("identity");
    let identity = match Identity::load(&folder) {
        Ok(Some(identity)) => identity,
        Ok(None) => return only_reached(config).await,
        Err(error) => return vec![unreadable(CHECK, "the certificate", &io::Error::other(error))],
    };
    let mut findings = Vec::new();
    for address in config.controller.addresses.iter().take(CONTROLLERS_MAX) {
        let asked = tokio::time::timeout(CONTROLLER_SECS_MAX, ask_controller(address, &identity));
        findings.push(match asked.await {
            Ok(Ok(controller_ms)) => agreed(CHECK, address, controller_ms),
            Ok(Err(text)) => Finding::fail(CHECK, text, refused_advice(address)),
            Err(_elapsed) => {
                let found = silent(address, CONTROLLER_SECS_MAX);
                Finding::fail(CHECK, found, refused_advice(address))
            }
        });
    }
    if findings.is_empty() {
        let advice = "set [controller] addresses in agent.toml";
        findings.push(Finding::fail(CHECK, "no address is configured", advice));
    }
    findings
}

fn silent(address: &str, within: Duration) -> String {
    format!("{address} does not answer within {} s", within.as_secs())
}

fn refused_advice(address: &str) -> String {
    format!(
        "is vidi-controller running there, and does the network let this machine reach {address} \
         (TCP)? A wrong certificate means another installation: correct [controller] addresses in \
         agent.toml"
    )
}

/// Its time by the answer's `date`, where there is one; milliseconds since the epoch.
async fn ask_controller(address: &str, identity: &Identity) -> Result<Option<i64>, String> {
    let config = identity.client_config().map_err(|error| describe(&error))?;
    let channel = connect_tls(address, CONTROLLER_NAME, config)
        .await
        .map_err(|error| format!("{address}: {}", describe(&error)))?;
    let answer = SignInServiceClient::new(channel).who_am_i(WhoAmIRequest {}).await;
    let date = match &answer {
        Ok(answer) => answer.metadata().get("date").cloned(),
        // One that stands by says so, and who leads: it is as it should be.
        Err(status) if is_away(status) && leader_of(status).is_none() => {
            return Err(format!("{address}: {}", status.message()));
        }
        // A host may not ask who it is: an answer all the same.
        Err(status) => status.metadata().get("date").cloned(),
    };
    Ok(date.and_then(|date| http_date_ms(date.to_str().ok()?)))
}

fn is_away(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
}

fn agreed(check: &'static str, address: &str, controller_ms: Option<i64>) -> Finding {
    let Some(controller_ms) = controller_ms else {
        return Finding::ok(check, format!("{address} answers with the right certificate"));
    };
    // The answer's time is in whole seconds.
    let apart_ms = Clock::system().now_ms().saturating_sub(controller_ms.saturating_add(500)).abs();
    if SKEW_MS_MAX < apart_ms {
        let found =
            format!("{address} answers; its clock and this one are {} s apart", apart_ms / 1_000);
        return Finding::warn(check, found, "keep both clocks: systemd-timesyncd or chrony");
    }
    Finding::ok(check, format!("{address} answers with the right certificate and the same time"))
}

/// Before this machine has joined nothing but the way can be proved.
async fn only_reached(config: &AgentConfig) -> Vec<Finding> {
    const CHECK: &str = "controller";
    let mut findings = Vec::new();
    for address in config.controller.addresses.iter().take(CONTROLLERS_MAX) {
        let dialling = tokio::time::timeout(HEALTH_SECS_MAX, TcpStream::connect(address));
        findings.push(match dialling.await {
            Ok(Ok(_stream)) => Finding::ok(
                CHECK,
                format!("{address} can be reached; its certificate is not known yet"),
            ),
            Ok(Err(error)) => {
                let advice = "joining writes the right address; see also [controller] addresses";
                Finding::warn(CHECK, format!("{address} cannot be reached: {error}"), advice)
            }
            Err(_elapsed) => {
                let found = silent(address, HEALTH_SECS_MAX);
                Finding::warn(CHECK, found, refused_advice(address))
            }
        });
    }
    findings
}

/// `Sun, 22 Nov 2026 08:51:59 GMT` (RFC 9110, 5.6.7), milliseconds since the epoch.
fn http_date_ms(text: &str) -> Option<i64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    // What comes from a peer must not overflow below.
    let number = |text: &str| text.parse::<u16>().ok().map(i64::from);
    let mut words = text.split_once(", ")?.1.split(' ');
    let day = number(words.next()?)?;
    let month = i64::try_from(MONTHS.find(words.next()?)? / 3 + 1).ok()?;
    let year = number(words.next()?)?;
    let mut clock = words.next()?.split(':').map(number);
    let (hours, minutes, secs) = (clock.next()??, clock.next()??, clock.next()??);
    // Days of the civil calendar, with years that begin in March.
    let (shifted_year, shifted_month) =
        if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * shifted_year + shifted_year / 4 - shifted_year / 100
        + shifted_year / 400
        + (153 * shifted_month + 2) / 5
        + day
        - 719_469;
    Some((((days * 24 + hours) * 60 + minutes) * 60 + secs) * 1_000)
}

#[cfg(test)]
mod tests {
    use vidi_kit::tls::Role;

    use super::super::Grade;
    use super::*;

    #[test]
    fn a_date_of_http_is_read() {
        assert_eq!(http_date_ms("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date_ms("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777_000));
        assert_eq!(http_date_ms("Thu, 29 Feb 2024 12:00:00 GMT"), Some(1_709_208_000_000));
        assert_eq!(http_date_ms("yesterday"), None);
        assert_eq!(http_date_ms("Sun, 06 Nov 9223372036854775807 08:49:37 GMT"), None);
    }

    #[test]
    fn a_certificate_is_judged_by_the_time() {
        let name = CertificateName {
            installation: "i".to_owned(),
            role: Role::Agent,
            id: "h".to_owned(),
            not_before_ms: 1_000,
            not_after_ms: 86_400_000,
        };
        let grade = |now_ms| judge("c", &name, now_ms, "join").result;
        assert_eq!(grade(0), Grade::Fail);
        assert_eq!(grade(2_000), Grade::Ok);
        assert_eq!(grade(86_000_000), Grade::Warn);
        assert_eq!(grade(86_400_000), Grade::Fail);
        assert!(judge("c", &name, 86_400_000, "join").advice.contains("--id h"));
    }

    #[tokio::test]
    async fn a_port_in_use_is_told_with_the_program_that_has_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let program = listener_of(address.port()).unwrap();
        let own = fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(program, own.trim());
        let config = AgentConfig {
            relay: crate::config::RelayTable { port: address.port(), advertise: String::new() },
            ..AgentConfig::default()
        };
        let relay = RelayConfig { listen: address, ..RelayConfig::default() };
        let finding = ports(&config, &relay).await.remove(0);
        assert_eq!(finding.result, Grade::Fail);
        assert!(finding.found.starts_with(&program), "{}", finding.found);
        drop(listener);
        assert_eq!(ports(&config, &relay).await[0].result, Grade::Ok);
        let other = AgentConfig::default();
        assert!(ports(&other, &relay).await[0].advice.contains("same port"));
    }

    #[tokio::test]
    async fn a_daemon_is_asked_whether_it_is_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = async {
            for answer in ["200 OK\r\n\r\n", "503 Not\r\n\r\nit waits for libvirt\n"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 100];
                let _read = stream.read(&mut request).await.unwrap();
                stream.write_all(format!("HTTP/1.0 {answer}").as_bytes()).await.unwrap();
            }
        };
        let asking = async {
            assert_eq!(daemon("agent", "vidi-agent", address).await.result, Grade::Ok);
            let waiting = daemon("agent", "vidi-agent", address).await;
            assert!(waiting.found.ends_with("it waits for libvirt"), "{}", waiting.found);
        };
        tokio::join!(serving, asking);
        drop(listener);
        assert!(daemon("agent", "vidi-agent", address).await.advice.contains("systemctl start"));
    }
}
