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
mod quiet;
mod run;
mod sim;
mod store;
mod truth;
mod watcher;

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

/// Each deliberate fault is noticed within these seeds.
#[cfg(feature = "mutants")]
#[test]
fn every_mutant_is_caught() {
    use vidi_controller::mutants::{Mutant, choose};
    const SEEDS_MAX: u64 = 200;
    let mut story = String::new();
    let mut caught = 0;
    for mutant in Mutant::ALL {
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
    let total = u64::try_from(Mutant::ALL.len()).unwrap();
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
        Mutant::HandsOn => "I4:",
        Mutant::OperationsGoOn => "I5:",
        Mutant::GoneAtOnce => "I6:",
        Mutant::IntervalStaysOpen => "I7:",
        Mutant::NoRefill => "I8:",
        Mutant::RefillOverMax => "I9:",
        Mutant::GenerationKept => "I11:",
        Mutant::EndUnseen => "I12:",
        Mutant::Unfenced => "fence:",
    }
}

/// The figures, for whoever asked for them.
fn tell(outcomes: &[Outcome]) {
    let hours = outcomes.iter().map(|one| one.virtual_ms).sum::<i64>() / 3_600_000;
    let violations = outcomes.iter().map(|one| one.violations.len()).sum::<usize>();
    let faults: u64 = outcomes.iter().map(|one| one.faults).sum();
    let commits: u64 = outcomes.iter().map(|one| one.commits).sum();
    let visited: std::collections::BTreeSet<&String> =
        outcomes.iter().flat_map(|one| &one.visited).collect();
    results(&[
        line("violations", u64::try_from(violations).unwrap(), "count"),
        line("seeds", u64::try_from(outcomes.len()).unwrap(), "count"),
        line("virtual_hours", u64::try_from(hours).unwrap(), "h"),
        line("faults", faults, "count"),
        line("commits", commits, "count"),
        line("states_visited", u64::try_from(visited.len()).unwrap(), "count"),
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
