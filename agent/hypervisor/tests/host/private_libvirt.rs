//! A system libvirt for one test, by `packaging/private-libvirt`.

use std::path::{Path, PathBuf};
use std::process::Command;

use vidi_kit::ids::DesktopId;

/// Runs while this lives.
pub(crate) struct PrivateLibvirt {
    folder: PathBuf,
    /// Where it listens.
    pub(crate) uri: String,
}

impl PrivateLibvirt {
    /// Starts one in a folder of its own below `/tmp`: socket paths are short there.
    pub(crate) fn start(name: &str) -> Self {
        let folder = PathBuf::from(format!("/tmp/vidi-test-{}-{name}", std::process::id()));
        let uri = run("start", &folder);
        Self { folder, uri }
    }

    /// Its folder, which QEMU's user can pass.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Kills the daemon as a crash does; its QEMUs go on.
    pub(crate) fn kill_daemon(&self) {
        let pid = std::fs::read_to_string(self.folder.join("libvirtd.pid")).unwrap();
        let status = Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap();
        assert!(status.success());
    }

    /// Sends a desktop's QEMU a signal.
    pub(crate) fn kill_qemu(&self, id: DesktopId, signal: &str) {
        let pid = self.folder.join(format!("run/qemu/vidi-{id}.pid"));
        let pid = std::fs::read_to_string(pid).unwrap();
        let status = Command::new("kill").args([&format!("-{signal}"), pid.trim()]).status();
        assert!(status.unwrap().success());
    }

    /// Starts the daemon again.
    pub(crate) fn start_again(&self) {
        assert_eq!(run("start", &self.folder), self.uri);
    }

    /// Runs virsh, as another tool would.
    pub(crate) fn virsh(&self, arguments: &[&str]) -> String {
        let output =
            Command::new("virsh").args(["-q", "-c", &self.uri]).args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "virsh {arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for PrivateLibvirt {
    fn drop(&mut self) {
        run("stop", &self.folder);
        // What stays behind is in /tmp.
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn run(action: &str, folder: &Path) -> String {
    let script = crate::repository().join("packaging/private-libvirt");
    let output = Command::new(script).arg(action).arg(folder).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "private-libvirt {action} failed: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
