//! The fleet simulation: controllers, hosts, gateways and people in one process, by one seed, in virtual
//! time, with the production code in the middle; a checker looks at everything after every step.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod agents;
mod checker;
mod controllers;
mod dice;
mod faults;
mod gateways;
mod operators;
mod people;
mod provider;
mod quiet;
mod rollouts;
mod run;
mod scenario;
mod scribe;
mod sim;
mod store;
mod tables;
mod tenancy;
mod truth;
mod watcher;

use std::collections::BTreeSet;
#[cfg(feature = "mutants")]
use std::fmt::Write as _;

use run::{Outcome, run};

/// Seeds that every run of the tests takes.
const SEEDS: u64 = 40;

/// A figure of the environment.
fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn the_same_seed_is_the_same_run_to_the_byte() {
    for seed in [3, 4, 5, 6] {
        let (one, other) = (run(seed), run(seed));
        if let Some((one, other)) = one.log.lines().zip(other.log.lines()).find(|(a, b)| a != b) {
            panic!("{one}\n{other}");
        }
        assert_eq!(one.log, other.log);
    }
}

#[test]
fn every_invariant_holds_whatever_goes_wrong() {
    const STORIES_MAX: usize = 3;
    let first = asked("VIDI_SIM_FIRST_SEED").unwrap_or(1);
    let seeds = asked("VIDI_SIM_SEEDS").unwrap_or(SEEDS);
    let (mut outcomes, mut stories) = (Vec::new(), Vec::new());
    for seed in first..first + seeds {
        let outcome = run(seed);
        if let Some(path) = std::env::var_os("VIDI_SIM_LOG") {
            std::fs::write(path, &outcome.log).unwrap();
        }
        if !outcome.violations.is_empty() {
            stories.push(outcome.story());
        }
        outcomes.push(Outcome { log: String::new(), ..outcome });
        if STORIES_MAX <= stories.len() {
            break;
        }
    }
    tell(&outcomes);
    assert!(stories.is_empty(), "{}", stories.join("\n\n"));
}

/// Text scenarios that operators read: what is done, and what is to be seen then. `VIDI_SIM_SCENARIO` names
/// one, whose story is shown; `VIDI_SIM_BLESS` writes down what was seen as what is expected.
#[test]
fn every_scenario_goes_as_it_is_written() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/scenarios");
    let bless = std::env::var_os("VIDI_SIM_BLESS").is_some();
    let one = std::env::var_os("VIDI_SIM_SCENARIO").map(std::path::PathBuf::from);
    let mut files: Vec<_> = match &one {
        Some(file) => vec![file.clone()],
        None => std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect(),
    };
    files.retain(|file| file.extension().is_some_and(|ending| ending == "txt"));
    files.sort();
    assert!(!files.is_empty(), "there are no scenarios");
    let mut stories = Vec::new();
    for file in files {
        let (seen, wrong) = scenario::run_file(&file, bless);
        if one.is_some() {
            println!("{seen}");
        }
        if !wrong.is_empty() {
            stories.push(format!(
                "{}
{wrong}",
                file.display()
            ));
        }
    }
    assert!(stories.is_empty(), "{}", stories.join("\n"));
}

/// Each deliberate fault is noticed within these seeds.
#[cfg(feature = "mutants")]
#[test]
fn every_mutant_is_caught() {
    use vidi_controller::mutants::{Mutant, choose};
    const SEEDS_MAX: u64 = 200;
    let mut story = String::new();
    let mut caught = 0;
    // One alone, where somebody looks at that one.
    let only = std::env::var("VIDI_SIM_MUTANT").ok();
    let asked = |mutant: &Mutant| only.as_ref().is_none_or(|only| format!("{mutant:?}") == *only);
    let all: Vec<Mutant> = Mutant::ALL.into_iter().filter(asked).collect();
    for mutant in all.iter().copied() {
        choose(Some(mutant));
        let found = (1..=SEEDS_MAX).find_map(|seed| {
            let outcome = run(seed);
            let what = outcome.violations.iter().find(|what| what.starts_with(sign(mutant)))?;
            Some(format!("seed {seed}, {what}"))
        });
        choose(None);
        caught += u64::from(found.is_some());
        let found = found.unwrap_or_else(|| "NOT CAUGHT".to_owned());
        writeln!(story, "{mutant:?}: {found}").unwrap();
    }
    println!("{story}");
    let total = u64::try_from(all.len()).unwrap();
    results(&[line("mutants_caught", caught, "count"), line("mutants", total, "count")]);
    assert_eq!(caught, total, "{story}");
}

/// How what is said about this fault begins.
#[cfg(feature = "mutants")]
const fn sign(mutant: vidi_controller::mutants::Mutant) -> &'static str {
    use vidi_controller::mutants::Mutant;
    match mutant {
        Mutant::SilenceIsDeath => "I1:",
        Mutant::ChargesNothing => "I2:",
        Mutant::ClaimsTwice => "I3:",
        Mutant::HandsOn | Mutant::StaysInPool => "I4:",
        Mutant::OperationsGoOn => "I5:",
        Mutant::GoneAtOnce => "I6:",
        Mutant::IntervalStaysOpen => "I7:",
        Mutant::NoRefill => "I8:",
        Mutant::RefillOverMax => "I9:",
        Mutant::GenerationKept => "I11:",
        Mutant::EndUnseen => "I12:",
        Mutant::IgnoresQuota => "I9: quota",
        Mutant::RolloutAtOnce => "I9: roll-out",
        Mutant::Unchained => "I10:",
        Mutant::Unfenced => "fence:",
    }
}

/// The figures, for whoever asked for them.
#[expect(clippy::print_stdout, reason = "who runs many seeds reads them")]
fn tell(outcomes: &[Outcome]) {
    let hours = outcomes.iter().map(|one| one.virtual_ms).sum::<i64>() / 3_600_000;
    let violations = outcomes.iter().map(|one| one.violations.len()).sum::<usize>();
    let faults: u64 = outcomes.iter().map(|one| one.faults).sum();
    let commits: u64 = outcomes.iter().map(|one| one.commits).sum();
    let all = tables::all();
    let visited: BTreeSet<String> = outcomes.iter().flat_map(|one| one.visited.clone()).collect();
    let missed: Vec<&String> = all.difference(&visited).collect();
    let (ways, gone) = (all.len(), all.len() - missed.len());
    println!("of {ways} ways of the state tables these were not gone: {missed:?}");
    results(&[
        line("violations", u64::try_from(violations).unwrap(), "count"),
        line("seeds", u64::try_from(outcomes.len()).unwrap(), "count"),
        line("virtual_hours", u64::try_from(hours).unwrap(), "h"),
        line("faults", faults, "count"),
        line("commits", commits, "count"),
        line("states_visited", u64::try_from(visited.difference(&all).count()).unwrap(), "count"),
        line("state_ways_gone", u64::try_from(gone).unwrap(), "count"),
        line("state_ways_gone_percent", u64::try_from(gone * 100 / ways).unwrap(), "%"),
    ]);
}

fn line(metric: &str, value: u64, unit: &str) -> String {
    format!(r#"{{"bench":"sim","metric":"{metric}","value":{value},"unit":"{unit}"}}"#)
}

/// Shows the figures, and keeps them where that is wanted.
#[expect(clippy::print_stdout, reason = "who runs many seeds reads them")]
fn results(lines: &[String]) {
    let text = format!("{}\n", lines.join("\n"));
    println!("{text}");
    if let Some(path) = std::env::var_os("VIDI_SIM_RESULTS") {
        std::fs::write(path, text).unwrap();
    }
}
