//! What is really so, whatever controllers believe: machines with their domains, and who sees which
//! desktop.

use std::collections::{BTreeMap, BTreeSet};

use vidi_controller::model::{HostReport, Observed, Power, UsageKind};
use vidi_controller::plan::usage::GAP_MS;
use vidi_controller::plan::wanted::WantedDesktop;
use vidi_kit::ids::{DesktopId, GatewayId, HostId, SessionId, UserId};

use crate::dice::Dice;

/// How late a gateway's word about a change may come where nothing goes wrong, ms.
const BLUR_MS: i64 = 2_000;

/// From when to when, ms since the epoch; without an end it goes on.
pub(crate) type Span = (i64, Option<i64>);

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) machines: BTreeMap<HostId, Machine>,
    /// Who has a session attached.
    pub(crate) attached: BTreeMap<SessionId, Attached>,
    /// The highest epoch that any relay has seen of a session.
    pub(crate) epochs: BTreeMap<SessionId, u64>,
    /// Who saw a desktop's picture last.
    last_seen_by: BTreeMap<DesktopId, UserId>,
    /// Who has ever seen a desktop's picture.
    pub(crate) seen_by: BTreeMap<DesktopId, BTreeSet<UserId>>,
    /// When what really went on, ms since the epoch; the last one may be open.
    pub(crate) went_on: BTreeMap<(DesktopId, UsageKind), Vec<Span>>,
    /// How long nobody could know it exactly, ms.
    pub(crate) doubt_ms: BTreeMap<(DesktopId, UsageKind), i64>,
    /// The same, of all of them.
    pub(crate) doubt_all_ms: i64,
}

/// A session that a gateway shows.
#[derive(Clone, Debug)]
pub(crate) struct Attached {
    pub(crate) gateway: GatewayId,
    pub(crate) epoch: u64,
    pub(crate) desktop: DesktopId,
}

/// A machine with its agent's memory.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    pub(crate) memory_mib: u64,
    /// It has power, and its agent runs.
    pub(crate) powered: bool,
    pub(crate) agent_runs: bool,
    pub(crate) domains: BTreeMap<DesktopId, Domain>,
    /// The journalled wanted set.
    pub(crate) wanted: BTreeMap<DesktopId, Wish>,
    /// By which link and of which number that is.
    pub(crate) wanted_link: u64,
    pub(crate) wanted_number: u64,
}

/// What is wanted of a desktop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) generation: u64,
    pub(crate) on: bool,
    pub(crate) force_off: bool,
    pub(crate) destroy: bool,
}

/// A volume, and what runs from it.
#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) phase: Phase,
    /// When this phase ends by itself, ms since the epoch.
    until_ms: i64,
    /// When the power that is told began.
    since_ms: i64,
    ready_ms: i64,
    starts: u64,
    failures: u32,
    /// Its guest has shut it down, or it has failed, for the wish of this generation.
    off_by_guest: Option<u64>,
    failed: Option<u64>,
}

/// What is being done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Preparing,
    Off,
    Starting,
    Running,
    Stopping,
    Removing,
}

/// Whether a desktop begins or ends to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    Runs,
    Rests,
    /// Something that its agent reports.
    Other,
}

impl From<&WantedDesktop> for Wish {
    fn from(one: &WantedDesktop) -> Self {
        let spec = &one.desktop.spec;
        Self {
            generation: spec.generation,
            on: spec.host_power_on(),
            force_off: spec.force_off,
            destroy: spec.deleting,
        }
    }
}

impl Domain {
    pub(crate) fn runs(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Stopping)
    }

    fn enter(&mut self, phase: Phase, now_ms: i64, until_ms: i64) {
        let word = |phase| matches!(phase, Phase::Running | Phase::Stopping);
        if !(word(self.phase) && word(phase)) {
            self.since_ms = now_ms;
        }
        self.phase = phase;
        self.until_ms = until_ms;
    }
}

impl Truth {
    /// What goes on begins or ends.
    pub(crate) fn note(&mut self, id: DesktopId, kind: UsageKind, begins: bool, now_ms: i64) {
        let times = self.went_on.entry((id, kind)).or_default();
        match times.last_mut() {
            Some((_, end @ None)) if !begins => *end = Some(now_ms),
            Some((_, None)) => {}
            // Who is back soon was never gone; just at the limit it may be either.
            Some((_, end @ Some(_)))
                if kind == UsageKind::Connected
                    && end.is_some_and(|end_ms| now_ms - end_ms < GAP_MS + BLUR_MS) =>
            {
                let gone_ms = end.map_or(0, |end_ms| now_ms - end_ms);
                *end = None;
                if GAP_MS - BLUR_MS < gone_ms {
                    self.doubt(id, kind, gone_ms);
                }
            }
            _ if begins => times.push((now_ms, None)),
            _ => {}
        }
    }

    /// A user sees a desktop. Who comes soon after somebody else is not that one come back.
    pub(crate) fn connect(&mut self, id: DesktopId, user: &UserId, now_ms: i64) {
        let before = self.last_seen_by.insert(id, user.clone());
        let times = self.went_on.entry((id, UsageKind::Connected)).or_default();
        let rests = times.last().is_some_and(|(_, end)| end.is_some());
        if rests && before.is_some_and(|before| before != *user) {
            times.push((now_ms, None));
        } else {
            self.note(id, UsageKind::Connected, true, now_ms);
        }
    }

    /// How often it began or ended, and how long it went on.
    pub(crate) fn total(&self, id: DesktopId, kind: UsageKind, now_ms: i64) -> (i64, i64) {
        let times = self.went_on.get(&(id, kind)).map_or(&[][..], Vec::as_slice);
        let spans = times.iter().map(|(start, end)| end.unwrap_or(now_ms) - start);
        (i64::try_from(times.len() * 2).unwrap(), spans.sum())
    }

    pub(crate) fn doubt(&mut self, id: DesktopId, kind: UsageKind, ms: i64) {
        *self.doubt_ms.entry((id, kind)).or_default() += ms;
    }

    /// Nobody sees this session any more.
    pub(crate) fn detach(&mut self, session: SessionId, now_ms: i64) -> Option<Attached> {
        let attached = self.attached.remove(&session)?;
        self.note(attached.desktop, UsageKind::Connected, false, now_ms);
        Some(attached)
    }
}

impl Machine {
    /// What a moment brings to one desktop; none when nothing changes.
    pub(crate) fn step(
        &mut self,
        id: DesktopId,
        now_ms: i64,
        dice: &Dice,
        failing: u64,
    ) -> Option<News> {
        let wish = self.wanted.get(&id).copied();
        let Some(domain) = self.domains.get_mut(&id) else {
            let wish = wish.filter(|wish| wish.on && !wish.destroy)?;
            let until_ms = now_ms + dice.ms(300, 4_000);
            let (off_by_guest, failed) = (None, None);
            let domain = Domain {
                phase: Phase::Preparing,
                until_ms,
                since_ms: now_ms,
                ready_ms: 0,
                starts: 0,
                failures: 0,
                off_by_guest,
                failed,
            };
            self.domains.insert(id, domain);
            return Some(if wish.on { News::Other } else { News::Rests });
        };
        let done = domain.until_ms <= now_ms;
        let wanted_on = wish.is_some_and(|wish| wish.on && !wish.destroy);
        let destroy = wish.is_some_and(|wish| wish.destroy);
        match domain.phase {
            Phase::Preparing if done => {
                domain.enter(Phase::Off, now_ms, now_ms);
                Some(News::Other)
            }
            Phase::Off if destroy => {
                domain.enter(Phase::Removing, now_ms, now_ms + dice.ms(50, 800));
                None
            }
            Phase::Off => {
                let generation = wish?.generation;
                let over = domain.off_by_guest == Some(generation);
                if !wanted_on || over || domain.failed == Some(generation) {
                    return None;
                }
                domain.enter(Phase::Starting, now_ms, now_ms + dice.ms(300, 3_000));
                domain.starts += 1;
                Some(News::Other)
            }
            Phase::Starting if done => Some(domain.started(wish, now_ms, dice, failing)),
            Phase::Running if destroy => {
                domain.enter(Phase::Off, now_ms, now_ms);
                Some(News::Rests)
            }
            Phase::Running if wish.is_some() && !wanted_on => {
                let force = wish.is_some_and(|wish| wish.force_off);
                let ms = if force { dice.ms(50, 500) } else { dice.ms(500, 12_000) };
                domain.enter(Phase::Stopping, now_ms, now_ms + ms);
                None
            }
            Phase::Stopping if done || destroy => {
                domain.enter(Phase::Off, now_ms, now_ms);
                Some(News::Rests)
            }
            Phase::Removing if done => {
                self.domains.remove(&id);
                Some(News::Other)
            }
            Phase::Running if domain.ready_ms != 0 && domain.ready_ms <= now_ms => {
                domain.ready_ms = 0;
                Some(News::Other)
            }
            _ => None,
        }
    }

    /// Its process ends, and nobody wanted that; or its own guest shuts it down.
    pub(crate) fn end(&mut self, id: DesktopId, by_guest: bool, now_ms: i64) -> bool {
        let wish = self.wanted.get(&id).map(|wish| wish.generation);
        let domain = self.domains.get_mut(&id).filter(|domain| domain.phase == Phase::Running);
        let Some(domain) = domain else { return false };
        if by_guest {
            domain.off_by_guest = wish;
        }
        domain.enter(Phase::Off, now_ms, now_ms);
        true
    }

    /// Everything that ran is off; gives what ran.
    pub(crate) fn lose_power(&mut self, now_ms: i64) -> Vec<DesktopId> {
        self.powered = false;
        self.agent_runs = false;
        let mut ran = Vec::new();
        for (id, domain) in &mut self.domains {
            if domain.runs() {
                ran.push(*id);
            }
            match domain.phase {
                Phase::Starting | Phase::Running | Phase::Stopping => {
                    domain.enter(Phase::Off, now_ms, now_ms);
                }
                Phase::Preparing | Phase::Off | Phase::Removing => {}
            }
        }
        ran
    }

    /// What its agent says.
    pub(crate) fn report(&self, link: u64, now_ms: i64) -> HostReport {
        let observed = |(id, wish): (&DesktopId, &Wish)| {
            let Some(domain) = self.domains.get(id) else {
                let power = if wish.on { Power::Preparing } else { Power::Off };
                let seen = Observed { generation: wish.generation, power, ..Observed::default() };
                return (!wish.destroy).then_some((*id, seen));
            };
            Some((*id, domain.observed(*wish, now_ms)))
        };
        HostReport {
            cpus: 8,
            memory_total_mib: self.memory_mib,
            memory_available_mib: self.memory_mib,
            acceleration: "kvm".to_owned(),
            unknown: self
                .domains
                .keys()
                .filter(|id| !self.wanted.contains_key(id))
                .copied()
                .collect(),
            wanted_received: self.wanted_link == link,
            wanted_number: self.wanted_number,
            desktops: self.wanted.iter().filter_map(observed).collect(),
            ..HostReport::default()
        }
    }
}

impl Domain {
    fn started(&mut self, wish: Option<Wish>, now_ms: i64, dice: &Dice, failing: u64) -> News {
        if dice.permille(failing) {
            self.failures += 1;
            self.enter(Phase::Off, now_ms, now_ms);
            if 2 < self.failures {
                self.failures = 0;
                self.failed = wish.map(|wish| wish.generation);
            }
            return News::Other;
        }
        self.failures = 0;
        self.enter(Phase::Running, now_ms, i64::MAX);
        self.ready_ms = now_ms + dice.ms(1_000, 15_000);
        News::Runs
    }

    fn observed(&self, wish: Wish, now_ms: i64) -> Observed {
        let over = self.off_by_guest == Some(wish.generation);
        let rests = !wish.on || wish.destroy || over;
        let power = match self.phase {
            Phase::Preparing => Power::Preparing,
            Phase::Starting => Power::Starting,
            Phase::Running | Phase::Stopping => Power::Running,
            Phase::Off if self.failed == Some(wish.generation) => {
                Power::Failed("its machine ended again and again".to_owned())
            }
            Phase::Off if rests => Power::Off,
            Phase::Off => Power::Starting,
            Phase::Removing => Power::Off,
        };
        Observed {
            generation: wish.generation,
            power,
            ready: self.phase == Phase::Running && (self.ready_ms == 0 || self.ready_ms <= now_ms),
            reason: String::new(),
            acceleration: "kvm".to_owned(),
            start_count: self.starts,
            since_ms: self.since_ms,
        }
    }
}
