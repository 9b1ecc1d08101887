//! The rules of the house that no compiler checks: who may name whom, how big a file may be, what
//! documents must say.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use vidi_tests::{before_tests, root, rust_files};

/// Folder of a crate, and the crates of ours that it may depend on. Controller, agent and gateway
/// meet only in the contract.
const CRATES: &[(&str, &[&str])] = &[
    ("gateway/spice", &[]),
    ("proto", &[]),
    ("proto/kit", &["vidi-proto"]),
    ("gateway/display", &["vidi-spice"]),
    ("agent/hypervisor", &["vidi-proto", "vidi-kit"]),
    ("controller", &["vidi-proto", "vidi-kit"]),
    ("controller/cli", &["vidi-proto", "vidi-kit"]),
    ("agent", &["vidi-proto", "vidi-kit", "vidi-hypervisor", "vidi-spice"]),
    ("gateway", &["vidi-proto", "vidi-kit", "vidi-spice", "vidi-display"]),
];

/// What files that only decide may not name.
const IMPURE: &[&str] = &[
    "tokio",
    "tonic",
    "async fn",
    "serde::",
    "prost",
    "crate::ports",
    "crate::adapters",
    "crate::rpc",
    "crate::reconcile",
];

/// Part of a path, and what files there may not name.
const LAYERS: &[(&str, &[&str])] = &[
    ("/src/model/", IMPURE),
    ("/src/plan/", IMPURE),
    (
        "/src/ports.rs",
        &["tonic::", "etcd", "sled", "virt::", "axum", "rustls", "ldap", "crate::adapters"],
    ),
    (
        "/src/reconcile/",
        &["tonic::", "crate::adapters", "crate::rpc", "crate::http", "crate::ws", "crate::raw"],
    ),
    ("/src/adapters/", &["crate::plan", "crate::reconcile", "crate::rpc"]),
    ("gateway/spice/src/", &["tokio", "std::time::Instant", "SystemTime"]),
    ("gateway/display/src/", &["tokio", "std::time::Instant", "SystemTime"]),
];

const FILE_LINES_MAX: usize = 500;

/// Words that belong to somebody's machine or working day, not to the project.
const FOREIGN_WORDS: &[&str] = &["/root/", "/home/"];

#[test]
fn crates_depend_in_one_direction() {
    let mut faults = String::new();
    for (folder, allowed) in CRATES {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        for line in manifest.lines().filter(|line| line.starts_with("vidi-")) {
            let name = line.split(['.', ' ', '=']).next().unwrap();
            if !allowed.contains(&name) {
                writeln!(faults, "{folder}/Cargo.toml: may not depend on {name}").unwrap();
            }
        }
        let own_lints = *folder == "proto";
        if !own_lints && !manifest.contains("[lints]\nworkspace = true") {
            writeln!(faults, "{folder}/Cargo.toml: does not take the workspace's lints").unwrap();
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn files_keep_to_their_layer_and_size() {
    let mut faults = String::new();
    let mut files = 0;
    for (folder, _) in CRATES {
        for path in rust_files(&root().join(folder).join("src")) {
            files += 1;
            check_file(&path, &fs::read_to_string(&path).unwrap(), &mut faults);
        }
    }
    assert!(50 < files, "only {files} files were found: the test looks in the wrong place");
    assert!(faults.is_empty(), "\n{faults}");
}

fn check_file(path: &Path, text: &str, faults: &mut String) {
    let name = path.strip_prefix(root()).unwrap().display().to_string();
    let body = before_tests(text);
    let lines = if name.ends_with("/tests.rs") { 0 } else { body.lines().count() };
    if FILE_LINES_MAX < lines {
        writeln!(faults, "{name}: {lines} lines before its tests, {FILE_LINES_MAX} are enough")
            .unwrap();
    }
    if !text.starts_with("//!") {
        writeln!(faults, "{name}: does not say on its first line what it is for").unwrap();
    }
    for word in FOREIGN_WORDS.iter().filter(|word| text.contains(**word)) {
        writeln!(faults, "{name}: names `{word}`").unwrap();
    }
    let code: String = body
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    for (layer, banned) in LAYERS.iter().filter(|(layer, _)| format!("/{name}").contains(layer)) {
        for word in banned.iter().filter(|word| code.contains(**word)) {
            writeln!(faults, "{name}: {layer} may not name `{}`", word.trim()).unwrap();
        }
    }
}

/// Who needs much memory for a moment is told to give it back, however it is started.
#[test]
fn controller_gateway_and_relay_give_memory_back() {
    let packaging = root().join("packaging");
    let read = |name: &str| fs::read_to_string(packaging.join(name)).unwrap();
    let setting = |text: &str, name: &str| {
        let value = text.split(&format!("{name}=")).nth(1).unwrap_or_default();
        value.chars().take_while(char::is_ascii_digit).collect::<String>()
    };
    let quickstart = read("quickstart");
    for name in ["MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"] {
        let value = setting(&quickstart, name);
        assert!(!value.is_empty(), "packaging/quickstart does not set {name}");
        for unit in ["vidi-controller", "vidi-gateway", "vidi-agent.vidi-relay"] {
            let unit = format!("deb/{unit}.service");
            assert_eq!(setting(&read(&unit), name), value, "{name} in packaging/{unit}");
        }
    }
}

/// Every error reason of the contract is explained to those who program against it.
#[test]
fn documents_keep_up_with_the_contract() {
    let proto = fs::read_to_string(root().join("proto/vidi/v1/common.proto")).unwrap();
    let document = fs::read_to_string(root().join("docs/api.md")).unwrap();
    let reasons: Vec<&str> = proto
        .lines()
        .filter_map(|line| line.trim().strip_prefix("ERROR_REASON_"))
        .filter_map(|line| line.split(' ').next())
        .filter(|reason| *reason != "UNSPECIFIED")
        .collect();
    assert!(10 < reasons.len());
    let missing: Vec<_> =
        reasons.iter().filter(|reason| !document.contains(&format!("`{reason}`"))).collect();
    assert!(missing.is_empty(), "docs/api.md does not explain {missing:?}");
}

/// Links between the documents lead to files and headings that are there.
#[test]
fn links_of_documents_lead_somewhere() {
    let mut faults = String::new();
    let mut links = 0;
    let mut documents = vec![root().join("README.md"), root().join("packaging/images/README.md")];
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    documents.extend(docs.filter(|path| path.extension().is_some_and(|it| it == "md")));
    for document in &documents {
        let text = fs::read_to_string(document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            links += 1;
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => document.clone(),
                _ => document.parent().unwrap().join(file),
            };
            let found = heading.is_empty()
                || fs::read_to_string(&target)
                    .is_ok_and(|text| headings(&text).iter().any(|one| one == heading));
            if !target.exists() || !found {
                writeln!(faults, "{}: {link}", document.display()).unwrap();
            }
        }
    }
    assert!(10 < links, "only {links} links were found: the test looks in the wrong place");
    assert!(faults.is_empty(), "links to nowhere:\n{faults}");
}

/// The anchors of a document's headings, as code forges make them.
fn headings(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept = words.chars().filter(|it| it.is_alphanumeric() || " -_".contains(*it));
            kept.map(|it| if it == ' ' { '-' } else { it }).collect()
        })
        .collect()
}

#[test]
fn locks_hold_no_address_and_scripts_can_be_run() {
    let lock = fs::read_to_string(root().join("gateway/web/package-lock.json")).unwrap();
    assert!(!lock.contains("\"resolved\": \"http"), "package-lock.json names a registry");
    for script in [".ci/run", "tests/run", "packaging/quickstart", "packaging/images/build"] {
        let mode = fs::metadata(root().join(script)).unwrap().permissions();
        assert!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o111 != 0, "{script}");
    }
}
