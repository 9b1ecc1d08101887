//! Where images, overlays and the journal lie: there, roomy, passable for QEMU's user.

use std::fs;
use std::io;
use std::path::Path;

use super::Finding;
use super::access::{User, owner_and_mode};
use super::machine::unreadable;
use crate::config::AgentConfig;

/// Below this no template of a real desktop fits, MiB.
const FREE_FAIL_MIB: u64 = 1_024;
/// Below this it is soon full, MiB.
const FREE_WARN_MIB: u64 = 10_240;
/// QEMU's own user: Debian's name, Fedora's name.
const QEMU_USERS: &[&str] = &["libvirt-qemu", "qemu"];

/// The folder of images and overlays.
pub(super) fn images(config: &AgentConfig) -> Vec<Finding> {
    const CHECK: &str = "images";
    let folder = config.images.as_path();
    let shown = folder.display();
    // Before the first start only what is above it exists.
    let Some(there) = folder.ancestors().find(|path| path.exists()) else {
        let found = format!("nothing on the way to {shown} exists");
        return vec![Finding::fail(CHECK, found, "correct images in agent.toml")];
    };
    if !there.is_dir() {
        let found = format!("{} is not a folder", there.display());
        return vec![Finding::fail(CHECK, found, "correct images in agent.toml")];
    }
    let mut findings = vec![space(CHECK, folder, there)];
    findings.extend(way(there));
    findings
}

fn space(check: &'static str, folder: &Path, there: &Path) -> Finding {
    let free_mib = match rustix::fs::statvfs(there) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize) / (1 << 20),
        Err(error) => return unreadable(check, &there.display().to_string(), &error.into()),
    };
    let new = if folder == there { "" } else { " (made at the first start)" };
    let found = format!("{}{new}: {free_mib} MiB free", folder.display());
    let advice = "make room there, or set images in agent.toml to a larger file system";
    match free_mib {
        ..FREE_FAIL_MIB => Finding::fail(check, found, advice),
        FREE_FAIL_MIB..FREE_WARN_MIB => Finding::warn(check, found, advice),
        _ => Finding::ok(check, found),
    }
}

/// Whether QEMU's own user gets to the folder.
fn way(folder: &Path) -> Option<Finding> {
    const CHECK: &str = "images-way";
    let Some(user) = User::first_of(QEMU_USERS) else {
        let found = format!("this machine has none of the users {}", QEMU_USERS.join(", "));
        return Some(Finding::warn(CHECK, found, "apt install libvirt-daemon-system"));
    };
    Some(match user.stopped_at(folder) {
        Ok(None) => Finding::ok(CHECK, format!("{} gets through to it", user.name)),
        Ok(Some((stop, mode))) => Finding::fail(
            CHECK,
            format!("{} may not pass {} (mode {mode:04o})", user.name, stop.display()),
            format!("chmod o+x {}, or set images in agent.toml to another place", stop.display()),
        ),
        Err(error) => unreadable(CHECK, &folder.display().to_string(), &error),
    })
}

/// Where AppArmor confines guests, libvirt's helper has to read images.
pub(super) fn apparmor(config: &AgentConfig) -> Vec<Finding> {
    const CHECK: &str = "apparmor";
    const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
    const PROFILE: &str = "/etc/apparmor.d/usr.lib.libvirt.virt-aa-helper";
    const LOCAL: &str = "/etc/apparmor.d/local/usr.lib.libvirt.virt-aa-helper";
    if fs::read_to_string(ENABLED).ok().as_deref().map(str::trim) != Some("Y") {
        return vec![Finding::ok(CHECK, "AppArmor is off")];
    }
    if !Path::new(PROFILE).exists() {
        return vec![Finding::ok(CHECK, "AppArmor does not confine libvirt's guests")];
    }
    let rules = match fs::read_to_string(LOCAL) {
        Ok(rules) => rules,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return vec![unreadable(CHECK, LOCAL, &error)],
    };
    vec![apparmor_rule(CHECK, &rules, &config.images, LOCAL)]
}

fn apparmor_rule(check: &'static str, rules: &str, images: &Path, local: &str) -> Finding {
    let rule = format!("{}/** r,", images.display());
    if rules.lines().any(|line| line.trim() == rule) {
        return Finding::ok(check, format!("libvirt's helper may read {}", images.display()));
    }
    Finding::fail(
        check,
        format!(
            "AppArmor does not let libvirt's helper read {}: no guest starts",
            images.display()
        ),
        format!(
            "echo '{rule}' >> {local} && apparmor_parser -r \
             /etc/apparmor.d/usr.lib.libvirt.virt-aa-helper"
        ),
    )
}

/// The agent's journal. It is not opened: the agent has it.
pub(super) fn journal(config: &AgentConfig) -> Vec<Finding> {
    const CHECK: &str = "journal";
    let journal = config.state.join("journal");
    let shown = journal.display().to_string();
    if !config.state.exists() {
        let found = format!("{} is not there yet: made at the first start", config.state.display());
        return vec![Finding::ok(CHECK, found)];
    }
    let entries = match fs::read_dir(&journal) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return vec![Finding::ok(CHECK, format!("{shown} is not there yet"))];
        }
        Err(error) => return vec![unreadable(CHECK, &shown, &error)],
    };
    let rights = owner_and_mode(&journal).unwrap_or_default();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_file()
            && let Err(error) = fs::File::open(&path)
        {
            let found = format!("{} cannot be read: {error}", path.display());
            let advice =
                "run this as root; the agent's own user has to own it, see vidi-agent.service";
            return vec![Finding::warn(CHECK, found, advice)];
        }
    }
    vec![Finding::ok(CHECK, format!("{shown} can be read ({rights})"))]
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use super::super::Grade;
    use super::*;

    fn config(folder: &Path) -> AgentConfig {
        AgentConfig {
            images: folder.join("images"),
            state: folder.join("state"),
            ..AgentConfig::default()
        }
    }

    #[test]
    fn a_rule_for_the_configured_folder_is_wanted() {
        let images = PathBuf::from("/srv/images");
        let rules = "# mine\n/srv/images/** r,\n";
        assert_eq!(apparmor_rule("a", rules, &images, "/l").result, Grade::Ok);
        let finding = apparmor_rule("a", "/var/lib/vidi/images/** r,", &images, "/l");
        assert_eq!(finding.result, Grade::Fail);
        assert!(finding.advice.contains("/srv/images/** r,"), "{}", finding.advice);
    }

    #[test]
    fn a_folder_that_stops_qemus_user_fails_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        fs::create_dir(&config.images).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let findings = images(&config);
        assert!(findings[0].found.contains("MiB free"), "{findings:?}");
        if User::first_of(QEMU_USERS).is_some() {
            assert_eq!(findings[1].result, Grade::Fail);
            assert!(findings[1].advice.contains(folder.path().to_str().unwrap()));
        }
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_fails() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        fs::write(&config.images, "").unwrap();
        assert_eq!(images(&config)[0].result, Grade::Fail);
    }

    #[test]
    fn what_is_made_at_the_first_start_may_be_missing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(journal(&config(folder.path()))[0].result, Grade::Ok);
    }
}
