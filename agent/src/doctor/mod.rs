//! `vidi-agent doctor`: looks at everything that desktops need on this host, and says what to do about
//! what is missing. Changes nothing.
//!
//! ```text
//!  run ─┬─ machine   processor, KVM, memory, KSM, pressure, clock
//!       ├─ programs  QEMU and its SPICE, libvirt, virtlogd, domains of others
//!       ├─ storage   folders, space, who gets through, AppArmor, journal
//!       └─ links     ports, the relay's socket, the daemons, certificate, controller
//! ```
//! Every check runs by itself, with a time limit: one that hangs is a finding too.

mod access;
mod links;
mod machine;
mod programs;
mod storage;

use std::fmt;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use vidi_kit::transport::describe;

use crate::config::{AgentConfig, RELAY_CONFIG, RelayConfig};

/// The longest that one check may take. libvirt's first answer takes 8 s on a slow machine.
const CHECK_SECS_MAX: Duration = Duration::from_secs(15);

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// Works, and deserves a look.
    Warn,
    /// Desktops cannot be run, or not be reached.
    Fail,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at; stable, for programs.
    pub check: &'static str,
    /// How bad it is.
    pub result: Grade,
    /// What was found, for people.
    pub found: String,
    /// What to do; empty where nothing is to be done.
    pub advice: String,
}

impl Finding {
    /// As it should be.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, result: Grade::Ok, found: found.into(), advice: String::new() }
    }

    /// Deserves a look.
    pub fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, result: Grade::Warn, found: found.into(), advice: advice.into() }
    }

    /// Does not work.
    pub fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, result: Grade::Fail, found: found.into(), advice: advice.into() }
    }
}

/// All findings, in a fixed order.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The worst of them.
    pub result: Grade,
    /// One or more for each check.
    pub checks: Vec<Finding>,
}

impl Report {
    fn of(checks: Vec<Finding>) -> Self {
        let result = checks.iter().map(|it| it.result).max().unwrap_or(Grade::Ok);
        Self { result, checks }
    }

    /// Without what is as it should be.
    pub fn only_what_is_wrong(&self) -> String {
        let wrong = self.checks.iter().filter(|it| it.result != Grade::Ok);
        lines(&wrong.cloned().collect::<Vec<_>>()).trim_end().to_owned()
    }

    /// As `vidi-agent doctor --help` documents it.
    pub const fn exit_code(&self) -> u8 {
        match self.result {
            Grade::Ok => 0,
            Grade::Warn => 1,
            Grade::Fail => 2,
        }
    }
}

fn lines(checks: &[Finding]) -> String {
    let width = checks.iter().map(|it| it.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in checks {
        let word = match finding.result {
            Grade::Ok => "OK",
            Grade::Warn => "WARN",
            Grade::Fail => "FAIL",
        };
        text += &format!("{word:4}  {:width$}  {}\n", finding.check, finding.found);
        if !finding.advice.is_empty() {
            text += &format!("{:4}  {:width$}  -> {}\n", "", "", finding.advice);
        }
    }
    text
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&lines(&self.checks))?;
        let count = |result| self.checks.iter().filter(|it| it.result == result).count();
        let (fails, warns) = (count(Grade::Fail), count(Grade::Warn));
        match (fails, warns) {
            (0, 0) => write!(formatter, "\nAll is well."),
            (0, warns) => write!(formatter, "\nIt works; {warns} to look at."),
            (fails, warns) => {
                write!(formatter, "\n{fails} to mend, {warns} to look at.")
            }
        }
    }
}

type Check = Pin<Box<dyn Future<Output = Vec<Finding>> + Send>>;

/// `vidi-agent doctor`: looks, prints, and gives the exit code. The relay's configuration lies beside
/// the agent's.
pub async fn doctor(config: AgentConfig, path: Option<&Path>, json: bool) -> ExitCode {
    let relay_path = path.map_or(PathBuf::from(RELAY_CONFIG), |it| it.with_file_name("relay.toml"));
    let relay = match relay_path.exists() {
        true => RelayConfig::load(Some(&relay_path)),
        false => Ok(RelayConfig::default()),
    };
    let report = match relay {
        Ok(relay) => run(&config, &relay).await,
        Err(error) => {
            let advice = "correct it; the relay does not start like this";
            let mut checks = run(&config, &RelayConfig::default()).await.checks;
            checks.push(Finding::fail("relay-configuration", describe(&error), advice));
            Report::of(checks)
        }
    };
    let text = if json { as_json(&report) } else { report.to_string() };
    // A reader that went away is no finding.
    drop(writeln!(std::io::stdout(), "{text}"));
    ExitCode::from(report.exit_code())
}

fn as_json(report: &Report) -> String {
    serde_json::to_string(report).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"))
}

/// All checks, side by side.
pub async fn run(config: &AgentConfig, relay: &RelayConfig) -> Report {
    let mut checks = essential_checks(config);
    let own = || (config.clone(), relay.clone());
    let (agent, relay_config) = own();
    checks.push(limited("port", async move { links::ports(&agent, &relay_config).await }));
    let (agent, relay_config) = own();
    checks.push(limited("relay-socket", async move { links::relay(&agent, &relay_config).await }));
    checks.push(blocking(config, "certificate", links::certificate));
    let (agent, _) = own();
    checks.push(limited("controller", async move { links::controllers(&agent).await }));
    finish(checks).await
}

/// What has to be right before a machine can become a host.
pub async fn essentials(config: &AgentConfig) -> Report {
    finish(essential_checks(config)).await
}

fn essential_checks(config: &AgentConfig) -> Vec<Check> {
    let blocking = |name, check| blocking(config, name, check);
    let for_libvirt = config.clone();
    vec![
        blocking("processor", |_| machine::processor()),
        blocking("kvm", |_| machine::kvm()),
        limited("qemu", programs::qemu()),
        limited("libvirt", async move { programs::libvirt(&for_libvirt).await }),
        blocking("virtlogd", programs::virtlogd),
        blocking("images", storage::images),
        blocking("apparmor", storage::apparmor),
        blocking("journal", storage::journal),
        blocking("memory", |_| machine::memory()),
        blocking("ksm", |_| machine::ksm()),
        blocking("pressure", |_| machine::pressure()),
        blocking("clock", |_| machine::clock()),
    ]
}

/// Files may lie on storage that hangs: not on the runtime's own threads.
fn blocking(
    config: &AgentConfig,
    name: &'static str,
    check: fn(&AgentConfig) -> Vec<Finding>,
) -> Check {
    let config = config.clone();
    limited(name, async move {
        tokio::task::spawn_blocking(move || check(&config)).await.unwrap_or_default()
    })
}

async fn finish(checks: Vec<Check>) -> Report {
    // Started together and waited for in order.
    let mut started = Vec::new();
    for check in checks {
        #[expect(
            clippy::disallowed_methods,
            reason = "a command that ends by itself; what hangs is left behind with the process"
        )]
        started.push(tokio::spawn(check));
    }
    let mut findings = Vec::new();
    for check in started {
        match check.await {
            Ok(found) => findings.extend(found),
            Err(error) => findings.push(Finding::fail(
                "doctor",
                format!("a check broke: {error}"),
                "report this with the output of vidi-agent doctor --json",
            )),
        }
    }
    Report::of(findings)
}

fn limited(
    name: &'static str,
    check: impl Future<Output = Vec<Finding>> + Send + 'static,
) -> Check {
    Box::pin(async move {
        tokio::time::timeout(CHECK_SECS_MAX, check).await.unwrap_or_else(|_elapsed| {
            let found = format!("no answer within {} s", CHECK_SECS_MAX.as_secs());
            vec![Finding::fail(name, found, "look why it hangs, then run this again")]
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_check_that_hangs_is_a_finding() {
        let hanging = limited("storage", std::future::pending());
        let quick = limited("quick", async { vec![Finding::ok("quick", "yes")] });
        let report = finish(vec![hanging, quick]).await;
        assert_eq!(report.checks[0].result, Grade::Fail);
        assert_eq!(report.checks[1].result, Grade::Ok);
        assert_eq!(report.exit_code(), 2);
        assert!(report.checks[0].found.contains("15 s"));
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst_finding() {
        let code = |findings| Report::of(findings).exit_code();
        assert_eq!(code(vec![]), 0);
        assert_eq!(code(vec![Finding::ok("a", "x")]), 0);
        assert_eq!(code(vec![Finding::warn("a", "x", "y"), Finding::ok("b", "x")]), 1);
        assert_eq!(code(vec![Finding::fail("a", "x", "y"), Finding::warn("b", "x", "y")]), 2);
    }

    #[test]
    fn people_read_the_advice_below_what_was_found() {
        let report = Report::of(vec![
            Finding::ok("kvm", "fine"),
            Finding::fail("libvirt", "no answer", "start it"),
        ]);
        assert_eq!(
            report.to_string(),
            "OK    kvm      fine\nFAIL  libvirt  no answer\n               -> start it\n\n\
             1 to mend, 0 to look at."
        );
    }
}
