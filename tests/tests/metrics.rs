//! What the daemons count, what they say they count, and what docs/operations.md says: the same.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use vidi_kit::process;
use vidi_kit::telemetry::{COMMON, Metric};
use vidi_tests::{before_tests, root, rust_files};

/// Heading of each table in docs/operations.md, and what it tells of.
const DAEMONS: [(&str, &[Metric]); 4] = [
    ("### Metrics of vidi-controller", vidi_controller::telemetry::METRICS),
    ("### Metrics of vidi-agent", vidi_agent::telemetry::AGENT_METRICS),
    ("### Metrics of vidi-relay", vidi_agent::telemetry::RELAY_METRICS),
    ("### Metrics of vidi-gateway", vidi_gateway::telemetry::METRICS),
];
const EVERY_DAEMON: &str = "### Metrics of every daemon";

fn row(metric: &Metric) -> String {
    let labels: Vec<String> =
        metric.labels.names().iter().map(|name| format!("`{name}`")).collect();
    let kind = metric.kind.word();
    format!("| `{}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.help)
}

#[test]
fn the_tables_in_the_manual_are_those_of_the_programs() {
    let manual = fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let mut faults = String::new();
    let mut check = |heading: &str, expected: Vec<String>| {
        let section = manual.split(heading).nth(1).unwrap_or_default();
        let section = section.split("\n#").next().unwrap_or_default();
        let rows: Vec<&str> = section.lines().filter(|line| line.starts_with("| `")).collect();
        if rows != expected {
            writeln!(faults, "{heading}: the rows should be\n{}", expected.join("\n")).unwrap();
        }
    };
    for (heading, metrics) in DAEMONS {
        check(heading, metrics.iter().map(row).collect());
    }
    let own =
        process::METRICS.map(|(name, kind, help)| format!("| `{name}` | {kind} |  | {help} |"));
    check(EVERY_DAEMON, COMMON.iter().map(row).chain(own).collect());
    assert!(faults.is_empty(), "docs/operations.md\n{faults}");
}

#[test]
fn names_follow_the_conventions_and_no_two_daemons_share_one() {
    let mut seen = BTreeSet::new();
    for (_, metrics) in DAEMONS {
        for metric in metrics {
            assert!(seen.insert(metric.name), "{} is there twice", metric.name);
            let is_counter = metric.kind.word() == "counter";
            assert_eq!(is_counter, metric.name.ends_with("_total"), "{}", metric.name);
            let is_histogram = metric.kind.word() == "histogram";
            assert!(!is_histogram || metric.name.ends_with("_seconds"), "{}", metric.name);
            for label in metric.labels.names() {
                let forbidden = ["desktop", "session", "user", "trace", "address"];
                assert!(!forbidden.contains(&label), "{}: nobody bounds {label}", metric.name);
            }
        }
    }
}

/// What is counted is in a table, and what is in a table is counted somewhere.
#[test]
fn every_name_in_the_sources_is_in_a_table_and_the_other_way_round() {
    let tables = DAEMONS.iter().flat_map(|(_, metrics)| *metrics).chain(COMMON);
    let told: BTreeSet<&str> = tables.map(|metric| metric.name).collect();
    let mut counted = BTreeSet::new();
    for crate_folder in ["proto/kit", "controller", "agent", "agent/hypervisor", "gateway"] {
        for path in rust_files(&root().join(crate_folder).join("src")) {
            let text = fs::read_to_string(&path).unwrap();
            for call in ["counter!(", "gauge!(", "histogram!("] {
                for rest in before_tests(&text).split(call).skip(1) {
                    let name =
                        rest.trim_start().strip_prefix('"').and_then(|name| name.split('"').next());
                    counted.extend(name.map(ToOwned::to_owned));
                }
            }
        }
    }
    let counted: BTreeSet<&str> = counted.iter().map(String::as_str).collect();
    assert!(
        30 < counted.len(),
        "only {} were found: the test looks in the wrong place",
        counted.len()
    );
    let unknown: Vec<_> = counted.difference(&told).collect();
    let idle: Vec<_> = told.difference(&counted).collect();
    assert!(
        unknown.is_empty() && idle.is_empty(),
        "in no table: {unknown:?}; never counted: {idle:?}"
    );
}
