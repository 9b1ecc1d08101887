//! The desktops of one simulated host: what was asked for becomes so after a while, without a timer for
//! each.

use vidi_proto::v1::{HostReport, ObservedDesktop, Power, WantedPower, WantedSet};

/// A guest that is asked to go off, or to be destroyed, takes this long.
const OFF_MS: u32 = 100;
/// Steps from off to ready: prepared, started, running, ready.
const STEPS: u32 = 3;
const CPUS: u32 = 64;
/// Hosts of 512 GiB.
const MEMORY_MIB: u64 = 512 << 10;
const IMAGES_FREE_MIB: u64 = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Off,
    Preparing,
    Starting,
    Running,
    Ready,
}

/// One desktop, in few bytes: there may be a hundred thousand.
#[derive(Debug)]
struct Guest {
    id: u128,
    generation: u64,
    since_ms: i64,
    memory_mib: u32,
    starts: u32,
    /// When it goes on, in milliseconds of the program; 0: it stays as it is.
    due_ms: u32,
    stage: Stage,
    is_wanted_on: bool,
    is_going: bool,
    /// The newest wanted set names it.
    is_known: bool,
}

/// All of one host.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    /// In the order of their ids.
    list: Vec<Guest>,
    number: u64,
    has_set: bool,
}

/// The time, for guests: of the program and of the day.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Milliseconds since the program began; never 0.
    pub(crate) ms: u32,
    /// Milliseconds since the epoch.
    pub(crate) day_ms: i64,
}

impl Guests {
    /// A new connection: nothing was asked for on it.
    pub(crate) fn forget_set(&mut self) {
        self.has_set = false;
    }

    /// Whether a set came on this connection.
    pub(crate) fn has_set(&self) -> bool {
        self.has_set
    }

    /// Takes what is wanted; gives how many desktops are new.
    pub(crate) fn take(&mut self, set: &WantedSet, now: Now, ready_ms: u32) -> usize {
        let mut new = 0;
        self.has_set = true;
        self.number = set.number;
        for guest in &mut self.list {
            guest.is_known = false;
        }
        for wanted in &set.desktops {
            let Some(id) = parse(&wanted.id) else { continue };
            let found = self.list.binary_search_by_key(&id, |guest| guest.id);
            let index = match found {
                Ok(index) => index,
                Err(_) if wanted.destroy => continue,
                Err(index) => {
                    new += 1;
                    self.list.insert(index, Guest::new(id, now));
                    index
                }
            };
            let Some(guest) = self.list.get_mut(index) else { continue };
            guest.is_known = true;
            guest.generation = wanted.generation;
            let settings = wanted.manifest.as_ref().and_then(|one| one.guest.as_ref());
            guest.memory_mib = settings.map_or(guest.memory_mib, |one| one.memory_mib);
            guest.is_wanted_on = wanted.power() == WantedPower::On && !wanted.destroy;
            if wanted.destroy && !guest.is_going {
                guest.is_going = true;
                guest.due_ms = now.ms + OFF_MS;
            }
            guest.follow(now, ready_ms);
        }
        new
    }

    /// Lets happen what is due; gives whether anything did.
    pub(crate) fn advance(&mut self, now: Now, ready_ms: u32) -> bool {
        let mut changed = false;
        self.list.retain_mut(|guest| {
            if guest.due_ms == 0 || now.ms < guest.due_ms {
                return true;
            }
            changed = true;
            if guest.is_going {
                return false;
            }
            guest.step(now);
            guest.follow(now, ready_ms);
            true
        });
        changed
    }

    /// When the next thing is due, in milliseconds of the program.
    pub(crate) fn next_due_ms(&self) -> Option<u32> {
        self.list.iter().map(|guest| guest.due_ms).filter(|due| *due != 0).min()
    }

    /// As the agent reports it.
    pub(crate) fn report(&self) -> HostReport {
        let used: u64 =
            self.list.iter().filter(|one| one.runs()).map(|one| u64::from(one.memory_mib)).sum();
        let known = self.list.iter().filter(|guest| guest.is_known || !self.has_set);
        let unknown = self.list.iter().filter(|guest| !guest.is_known && self.has_set);
        HostReport {
            cpus: CPUS,
            memory_total_mib: MEMORY_MIB,
            memory_available_mib: MEMORY_MIB.saturating_sub(used),
            acceleration: "kvm".to_owned(),
            libvirt_version: "9.0.0".to_owned(),
            qemu_version: "7.2.0".to_owned(),
            images_free_mib: IMAGES_FREE_MIB,
            desktops: known.map(Guest::observed).collect(),
            unknown: unknown.map(|guest| text(guest.id)).collect(),
            wanted_received: self.has_set,
            wanted_number: self.number,
            ..HostReport::default()
        }
    }
}

impl Guest {
    fn new(id: u128, now: Now) -> Self {
        Self {
            id,
            generation: 0,
            since_ms: now.day_ms,
            memory_mib: 0,
            starts: 0,
            due_ms: 0,
            stage: Stage::Off,
            is_wanted_on: false,
            is_going: false,
            is_known: true,
        }
    }

    fn runs(&self) -> bool {
        matches!(self.stage, Stage::Starting | Stage::Running | Stage::Ready)
    }

    /// Sets out for what is wanted, if it is not on its way.
    fn follow(&mut self, now: Now, ready_ms: u32) {
        if self.is_going || self.due_ms != 0 {
            return;
        }
        match (self.is_wanted_on, self.stage) {
            (true, Stage::Ready) | (false, Stage::Off) => {}
            (true, Stage::Off) => {
                self.become_at(Stage::Preparing, now);
                self.starts += 1;
                self.due_ms = now.ms + ready_ms / STEPS;
            }
            (true, _) => self.due_ms = now.ms + ready_ms / STEPS,
            (false, _) => self.due_ms = now.ms + OFF_MS,
        }
    }

    fn step(&mut self, now: Now) {
        self.due_ms = 0;
        let next = match (self.is_wanted_on, self.stage) {
            (false, _) => Stage::Off,
            (true, Stage::Off) => Stage::Off,
            (true, Stage::Preparing) => Stage::Starting,
            (true, Stage::Starting) => Stage::Running,
            (true, Stage::Running | Stage::Ready) => Stage::Ready,
        };
        self.become_at(next, now);
    }

    fn become_at(&mut self, stage: Stage, now: Now) {
        // Being ready is not another power: it does not begin anew.
        if !(self.stage == Stage::Running && stage == Stage::Ready) {
            self.since_ms = now.day_ms;
        }
        self.stage = stage;
    }

    fn observed(&self) -> ObservedDesktop {
        let power = match self.stage {
            Stage::Off => Power::Off,
            Stage::Preparing => Power::Preparing,
            Stage::Starting => Power::Starting,
            Stage::Running | Stage::Ready => Power::Running,
        };
        ObservedDesktop {
            id: text(self.id),
            generation: self.generation,
            power: power.into(),
            reason: String::new(),
            ready: self.stage == Stage::Ready,
            acceleration: "kvm".to_owned(),
            start_count: u64::from(self.starts),
            since_ms: self.since_ms,
        }
    }
}

fn parse(id: &str) -> Option<u128> {
    id.parse::<vidi_kit::ids::DesktopId>().ok().map(|id| id.uuid().as_u128())
}

fn text(id: u128) -> String {
    uuid::Uuid::from_u128(id).hyphenated().to_string()
}

#[cfg(test)]
mod tests {
    use vidi_proto::v1::WantedDesktop;

    use super::*;

    const ID: &str = "018f2f7e-0000-7000-8000-000000000001";

    fn at(ms: u32) -> Now {
        Now { ms, day_ms: i64::from(ms) }
    }

    fn set(power: WantedPower, destroy: bool) -> WantedSet {
        let (id, power) = (ID.to_owned(), power.into());
        let desktop = WantedDesktop { id, generation: 7, power, destroy, ..Default::default() };
        WantedSet { desktops: vec![desktop], number: 3 }
    }

    fn seen(guests: &Guests) -> Vec<(Power, bool)> {
        guests.report().desktops.iter().map(|one| (one.power(), one.ready)).collect()
    }

    #[test]
    fn a_desktop_becomes_ready_step_by_step_and_goes_when_told() {
        let mut guests = Guests::default();
        assert_eq!(guests.take(&set(WantedPower::On, false), at(1), 300), 1);
        assert_eq!(seen(&guests), [(Power::Preparing, false)]);
        assert_eq!(guests.next_due_ms(), Some(101));
        assert!(!guests.advance(at(100), 300));
        for (ms, power, ready) in [
            (101, Power::Starting, false),
            (201, Power::Running, false),
            (301, Power::Running, true),
        ] {
            assert!(guests.advance(at(ms), 300));
            assert_eq!(seen(&guests), [(power, ready)]);
        }
        assert_eq!(guests.next_due_ms(), None);
        let report = guests.report();
        assert_eq!(
            report.desktops.first().map(|one| (one.generation, one.start_count)),
            Some((7, 1))
        );
        assert_eq!(guests.take(&set(WantedPower::Off, false), at(400), 300), 0);
        assert!(guests.advance(at(500), 300));
        assert_eq!(seen(&guests), [(Power::Off, false)]);
        guests.take(&set(WantedPower::Off, true), at(500), 300);
        assert!(guests.advance(at(600), 300));
        assert_eq!(seen(&guests), []);
    }

    #[test]
    fn what_a_set_leaves_out_is_kept_and_told_as_unknown() {
        let mut guests = Guests::default();
        guests.take(&set(WantedPower::On, false), at(1), 300);
        guests.take(&WantedSet { desktops: Vec::new(), number: 4 }, at(2), 300);
        let report = guests.report();
        assert_eq!((report.desktops.len(), report.unknown), (0, vec![ID.to_owned()]));
    }
}
