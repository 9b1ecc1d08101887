//! What the scripts of `packaging` promise and no run of the whole installation shows.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use vidi_tests::root;

/// All that quickstart needs before it begins to change anything; with no more than these it cannot.
const HARMLESS: [&str; 7] = ["bash", "dirname", "mkdir", "cat", "sed", "grep", "id"];

#[test]
fn quickstart_refuses_another_libvirt_than_the_one_its_desktops_are_on() {
    let folder = tempfile::tempdir().unwrap();
    let (programs, state) = (folder.path().join("bin"), folder.path().join("state"));
    fs::create_dir_all(state.join("etc")).unwrap();
    fs::create_dir(&programs).unwrap();
    for program in HARMLESS {
        symlink(Path::new("/usr/bin").join(program), programs.join(program)).unwrap();
    }
    let configuration = state.join("etc/agent.toml");
    let quickstart = |uri: &str| {
        let mut command = Command::new(root().join("packaging/quickstart"));
        command.args(["up", "--yes", "--libvirt", uri, "--state"]).arg(&state);
        errors(&command.env("PATH", &programs).output().unwrap())
    };
    let refused = "desktops are on the libvirt";
    assert!(!quickstart("qemu:///session").contains(refused), "there is no installation yet");
    fs::write(&configuration, "libvirt = \"qemu+unix:///system?socket=x\"\n").unwrap();
    let said = quickstart("qemu:///session");
    assert!(said.contains(&format!("{refused} qemu+unix:///system?socket=x,")), "{said}");
    assert!(said.contains("quickstart down --purge --state"), "{said}");
    let said = quickstart("qemu+unix:///system?socket=x");
    assert!(!said.contains(refused), "{said}");
    // What the agent takes where nothing is said.
    fs::write(&configuration, "# libvirt = \"qemu:///session\"\n").unwrap();
    let said = quickstart("qemu:///session");
    assert!(said.contains(&format!("{refused} qemu:///system,")), "{said}");
}

#[test]
fn quickstart_sees_each_name_of_a_list() {
    let text = fs::read_to_string(root().join("packaging/quickstart")).unwrap();
    let function: String =
        text.split_inclusive('\n').skip_while(|line| !line.starts_with("names()")).collect();
    let function = function.split_inclusive("\n}\n").next().unwrap();
    let mut bash = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &format!("{function}\nnames templates")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // One line, as vidictl prints it.
    let list = r#"{"templates":[{"name":"tenants/default/templates/desktop","display_name":"a"},{"name":"tenants/default/templates/micro"}],"next_page_token":""}"#;
    writeln!(bash.stdin.take().unwrap(), "{list}").unwrap();
    let output = bash.wait_with_output().unwrap();
    assert!(output.status.success());
    let names = String::from_utf8(output.stdout).unwrap();
    assert_eq!(names, "tenants/default/templates/desktop\ntenants/default/templates/micro\n");
}

#[test]
fn the_two_images_that_were_asked_for_last_stay_in_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, recipes) = (folder.path().join("cache"), folder.path().join("images"));
    fs::create_dir_all(recipes.join("one")).unwrap();
    fs::copy(root().join("packaging/images/build"), recipes.join("build")).unwrap();
    let recipe = recipes.join("one/build");
    let text = "#!/bin/sh\nmade=$XDG_CACHE_HOME/vidi/images/one/$RECIPE\nmkdir -p $made\n\
                echo \"# recipe $RECIPE\" >$made/template.toml\necho $made\n";
    fs::write(&recipe, text).unwrap();
    fs::set_permissions(&recipe, fs::Permissions::from_mode(0o755)).unwrap();
    let made = cache.join("vidi/images/one");
    fs::create_dir_all(made.join(".work")).unwrap();
    let build = |key: &str| {
        let mut command = Command::new(recipes.join("build"));
        let output = command.arg("one").env("XDG_CACHE_HOME", &cache).env("RECIPE", key).output();
        let output = output.unwrap();
        let printed = String::from_utf8(output.stdout.clone()).unwrap();
        assert_eq!(Path::new(printed.trim_end()), made.join(key));
        errors(&output)
    };
    assert_eq!(build("a") + &build("b") + &build("a"), "");
    let said = build("c");
    assert!(said.contains("removing") && said.contains("/one/b:"), "{said}");
    let left: BTreeSet<_> =
        fs::read_dir(&made).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".work", "a", "c"].map(Into::into).into());
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
