//! What a placement costs: the controller's own scheduler places desktops of 64 templates and pools at random on
//! a large fleet, with headroom for a rack; on one thread, by its processor time. One line of JSON.

mod fleet;

use std::io::Write;
use std::time::Duration;

use clap::Parser;
use rustix::time::{ClockId, clock_gettime};

use fleet::{MIXED, PLAIN, Simulated};

/// Placements of one turn; then as many others leave, so that the fleet stays as full as it is.
const TURN: usize = 1_000;
/// Placements between two snapshots of the world: what fits into one commit.
const ROUND: usize = 50;

#[derive(Debug, Parser)]
struct Arguments {
    /// Hosts, in racks of 25.
    #[arg(long, default_value_t = 5_000)]
    hosts: usize,
    /// Placements that are measured.
    #[arg(long, default_value_t = 20_000)]
    decisions: usize,
    /// For what happens at random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Hosts of 512 GiB without anything on them, one template of 4 GiB and no pool.
    #[arg(long)]
    plain: bool,
}

fn main() -> std::io::Result<()> {
    let Arguments { hosts, decisions, seed, plain } = Arguments::parse();
    let mut fleet = Simulated::new(hosts, seed, if plain { PLAIN } else { MIXED });
    fleet.fill();
    let mut took = Vec::with_capacity(decisions);
    let mut nowhere = 0;
    let mut settling = Duration::ZERO;
    while took.len() < decisions {
        fleet.wish(TURN);
        nowhere += decide(&fleet, &mut took);
        settling += settle(&mut fleet);
        fleet.settle_down(TURN);
    }
    let sum: Duration = took.iter().sum();
    took.sort_unstable();
    let percentile = |hundredths: usize| {
        let at = (took.len() * hundredths / 100).min(took.len().saturating_sub(1));
        took.get(at).copied().map_or(0.0, micros)
    };
    let count = took.len().max(1) as f64;
    writeln!(
        std::io::stdout(),
        "{{\"hosts\":{hosts},\"desktops\":{},\"decisions\":{},\"nowhere\":{nowhere},\"can_lose\":{},\
         \"per_s\":{:.0},\"p50_us\":{:.2},\"p99_us\":{:.2},\"settled_us\":{:.2}}}",
        fleet.world.desktops.len(),
        took.len(),
        fleet.world.fleet.can_lose(),
        count / sum.as_secs_f64(),
        percentile(50),
        percentile(99),
        micros(settling) / count,
    )
}

/// Decides for everybody who waits: a host is chosen and charged. Answers for how many there was none.
fn decide(fleet: &Simulated, took: &mut Vec<Duration>) -> usize {
    let mut world = fleet.world.clone();
    let mut snapshot = world.clone();
    let mut nowhere = 0;
    for (index, (_, number)) in fleet.waiting.iter().enumerate() {
        if index % ROUND == 0 {
            snapshot = world.clone();
        }
        let began = processor_time();
        let placed = fleet.decide(&mut world, *number);
        took.push(processor_time() - began);
        nowhere += usize::from(!placed);
    }
    drop(snapshot);
    nowhere
}

/// The same as a round of the controller does it, all rows and indexes of the world with it.
fn settle(fleet: &mut Simulated) -> Duration {
    let waiting = fleet.waiting.clone();
    let mut snapshot = fleet.world.clone();
    let began = processor_time();
    for (index, (id, _)) in waiting.into_iter().enumerate() {
        if index % ROUND == 0 {
            snapshot = fleet.world.clone();
        }
        fleet.place(id);
    }
    let took = processor_time() - began;
    drop(snapshot);
    took
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// What this thread has had of a processor.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}
