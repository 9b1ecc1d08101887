//! Completions for shells, and the manual pages of vidictl, of the daemons and of their configurations.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, bail};
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use vidi_kit::commands::{AgentArguments, ControllerArguments, GatewayArguments, RelayArguments};

use crate::arguments::Arguments;

const MANUAL: &str = "Vidi";
/// Largest configuration that becomes a page, in bytes.
const CONFIGURATION_BYTES_MAX: u64 = 256 * 1024;

/// Prints a shell's completion script.
pub(crate) fn completions(shell: Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "vidictl", &mut script);
    let mut out = io::stdout().lock();
    match out.write_all(&script).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Writes all pages into `folder`: section 1 for vidictl and each of its commands, section 8 for the
/// daemons, and section 5 for each `NAME.toml` of `configurations`, as `vidi-NAME.toml.5`.
pub(crate) fn pages(folder: &Path, configurations: Option<&Path>) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut vidictl = Arguments::command();
    vidictl.build();
    command_pages(vidictl, folder)?;
    for daemon in [
        ControllerArguments::command(),
        RelayArguments::command(),
        AgentArguments::command(),
        GatewayArguments::command(),
    ] {
        daemon_page(daemon, folder)?;
    }
    let Some(configurations) = configurations else { return Ok(()) };
    let cannot = || format!("cannot read {}", configurations.display());
    for entry in fs::read_dir(configurations).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path.extension().is_some_and(|it| it == "toml") {
            configuration_page(&path, folder)?;
        }
    }
    Ok(())
}

fn command_pages(command: Command, folder: &Path) -> anyhow::Result<()> {
    for part in command.get_subcommands().filter(|part| !part.is_hide_set()) {
        command_pages(part.clone(), folder)?;
    }
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let notes = command.get_after_long_help().map(ToString::to_string);
    let has_parts = command.has_subcommands();
    let man = Man::new(command).manual(MANUAL).source(source());
    let mut page = first_sections(&man)?;
    if has_parts {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(notes) = notes {
        let mut roff = Roff::new();
        roff.control("SH", ["NOTES"]);
        verbatim(&mut roff, &notes);
        roff.to_writer(&mut page)?;
    }
    write(folder, &format!("{name}.1"), &page)
}

fn source() -> String {
    format!("Vidi {}", env!("CARGO_PKG_VERSION"))
}

/// A page from its title to the options.
fn first_sections(man: &Man) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    Ok(page)
}

/// One page, with the daemon's commands in it.
fn daemon_page(mut command: Command, folder: &Path) -> anyhow::Result<()> {
    command.build();
    let name = command.get_name().to_owned();
    let parts: Vec<Command> = command.get_subcommands().cloned().collect();
    let man = Man::new(command).section("8").manual(MANUAL).source(source());
    let mut page = first_sections(&man)?;
    let mut roff = Roff::new();
    if !parts.is_empty() {
        roff.control("SH", ["COMMANDS"]);
    }
    for mut part in parts {
        let help = part.render_long_help().to_string();
        roff.control("SS", [part.get_name()]);
        verbatim(&mut roff, &help);
    }
    daemon_sections(&mut roff, &name);
    roff.to_writer(&mut page)?;
    write(folder, &format!("{name}.8"), &page)
}

fn daemon_sections(roff: &mut Roff, name: &str) {
    let short = name.strip_prefix("vidi-").unwrap_or(name);
    let entry = |roff: &mut Roff, term: &str, text: &str| {
        roff.control("TP", []);
        roff.text([roman(term)]);
        roff.text([roman(text)]);
    };
    roff.control("SH", ["FILES"]);
    let configuration = format!("/etc/vidi/{short}.toml");
    let about =
        format!("The configuration, see vidi-{short}.toml(5). A missing file means defaults.");
    entry(roff, &configuration, &about);
    entry(roff, &format!("/var/lib/vidi/{short}"), "State and certificates.");
    roff.control("SH", ["SIGNALS"]);
    entry(roff, "SIGTERM, SIGINT", "End in order. Desktops and their sessions go on.");
    roff.control("SH", ["EXIT STATUS"]);
    entry(roff, "0", "Ended by a signal.");
    entry(roff, "1", "Could not start or go on; why is said on standard error.");
    entry(roff, "64", "The configuration is bad; what is wrong is said.");
    roff.control("SH", ["ENVIRONMENT"]);
    entry(roff, "VIDI_LOG", "What to log, as in [telemetry] log, and before it.");
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(
        "vidictl(1), vidi-controller(8), vidi-agent(8), vidi-relay(8), vidi-gateway(8)",
    )]);
}

/// The commented configuration as it is: it explains itself.
fn configuration_page(path: &Path, folder: &Path) -> anyhow::Result<()> {
    let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if CONFIGURATION_BYTES_MAX < fs::metadata(path)?.len() {
        bail!("{} is larger than {CONFIGURATION_BYTES_MAX} bytes", path.display());
    }
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut roff = Roff::new();
    let (title, source) = (format!("vidi-{name}.toml"), source());
    roff.control("TH", [title.as_str(), "5", "", source.as_str(), MANUAL]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("vidi-{name}.toml - configuration of vidi-{name}"))]);
    roff.control("SH", ["SYNOPSIS"]);
    roff.text([roman(format!("/etc/vidi/{name}.toml"))]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([roman(format!(
        "TOML. The file that is installed names every key; what is commented out there is the \
         default. vidi-{name} --check-config says what is wrong with a file."
    ))]);
    verbatim(&mut roff, &text);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(format!("vidi-{name}(8)"))]);
    write(folder, &format!("vidi-{name}.toml.5"), roff.render().as_bytes())
}

fn verbatim(roff: &mut Roff, text: &str) {
    roff.control("PP", []);
    roff.control("nf", []);
    for line in text.trim_end().lines() {
        if line.is_empty() {
            roff.control("sp", []);
        } else {
            roff.text([roman(line)]);
        }
    }
    roff.control("fi", []);
}

fn write(folder: &Path, name: &str, page: &[u8]) -> anyhow::Result<()> {
    let path = folder.join(name);
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_every_command_daemon_and_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let configurations = folder.path().join("etc");
        fs::create_dir(&configurations).unwrap();
        fs::write(configurations.join("agent.toml"), "# How.\n\n.odd = 'x'\n").unwrap();
        let out = folder.path().join("man");
        pages(&out, Some(&configurations)).unwrap();
        let page = |name: &str| fs::read_to_string(out.join(name)).unwrap();
        assert!(page("vidictl.1").contains("Exit codes"));
        assert!(page("vidictl-desktop-create.1").contains("after"));
        assert!(page("vidictl-host-drain.1").contains("stop"));
        for daemon in ["controller", "relay", "agent", "gateway"] {
            let page = page(&format!("vidi-{daemon}.8"));
            assert!(page.contains(".TH vidi") && page.contains("64"), "{page}");
        }
        assert!(page("vidi-agent.8").contains("doctor"));
        let configuration = page("vidi-agent.toml.5");
        // A line that begins with a dot would be a command of the formatter.
        assert!(!configuration.contains("\n.odd"), "{configuration}");
    }

    #[test]
    fn each_shell_gets_a_script_that_knows_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "vidictl", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("enroll-token") && script.contains("uncordon"), "{shell}");
        }
    }
}
