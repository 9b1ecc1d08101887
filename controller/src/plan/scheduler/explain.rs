//! Why a host is chosen, or none: the obstacle or the points of each, and the sentence for people.

use std::fmt;

use vidi_kit::ids::HostId;

use super::scan::keeps;
use super::{STARTING_MAX, Wanted, choose_of, judging, required};
use crate::model::World;
use crate::model::fleet::{Fleet, Headroom, HostState, merit};

/// Hosts that a sentence names; a person reads it.
const NAMED_HOSTS_MAX: usize = 8;

/// Why a host cannot take a desktop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// It is being drained.
    Draining,
    /// It is cordoned.
    Cordoned,
    /// It is not connected.
    Away,
    /// It has not reported yet.
    Unreported,
    /// It does not know, or cannot say, how it runs guests.
    Unable,
    /// What may be charged is charged.
    Charged,
    /// Its memory is really used up.
    UsedUp,
    /// It starts as many desktops as it may at once.
    Starting,
    /// Its room is kept for the desktops of hosts that fail.
    Headroom,
    /// It has not the labels that are asked for.
    Labels,
}

impl Obstacle {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Draining,
        Self::Cordoned,
        Self::Away,
        Self::Unreported,
        Self::Unable,
        Self::Charged,
        Self::UsedUp,
        Self::Starting,
        Self::Headroom,
        Self::Labels,
    ];

    /// What is said of one host.
    fn of_one(self, charge_mib: u64, problems: &str) -> String {
        match self {
            Self::Draining => "is being drained".to_owned(),
            Self::Cordoned => "is cordoned".to_owned(),
            Self::Away => "is not connected".to_owned(),
            Self::Unreported => "has not reported yet".to_owned(),
            Self::Unable if problems.is_empty() => {
                "does not know yet how it runs guests".to_owned()
            }
            Self::Unable => format!("cannot run guests: {problems}"),
            Self::Charged => format!("has no {charge_mib} MiB of memory left to give"),
            Self::UsedUp => format!("has less than {charge_mib} MiB of memory free"),
            Self::Starting => format!("is starting {STARTING_MAX} desktops, as many as it may"),
            Self::Headroom => {
                "has to keep its room for the desktops of a host that fails".to_owned()
            }
            Self::Labels => "has not the labels that the host rules ask for".to_owned(),
        }
    }

    /// What is said of many.
    fn of_many(self, charge_mib: u64) -> String {
        match self {
            Self::Draining => "are being drained".to_owned(),
            Self::Cordoned => "are cordoned".to_owned(),
            Self::Away => "are not connected".to_owned(),
            Self::Unreported => "have not reported yet".to_owned(),
            Self::Unable => "cannot run guests".to_owned(),
            Self::Charged => format!("have no {charge_mib} MiB of memory left to give"),
            Self::UsedUp => format!("have less than {charge_mib} MiB of memory free"),
            Self::Starting => "are starting as many desktops as they may".to_owned(),
            Self::Headroom => {
                "have to keep their room for the desktops of hosts that fail".to_owned()
            }
            Self::Labels => "have not the labels that the host rules ask for".to_owned(),
        }
    }
}

/// What a host that can take a desktop is worth, in points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Points {
    /// Desktops of the same template share memory.
    pub sharing: u32,
    /// The image is there.
    pub image: u32,
    /// The fuller the better.
    pub packing: u32,
    /// Against it: desktops that are starting.
    pub starting: u32,
    /// Against it: memory that is really short.
    pub pressure: u32,
    /// Against it: the pool's desktops in its failure domain.
    pub spread: u32,
}

impl Points {
    /// All together.
    pub fn sum(&self) -> i64 {
        let Self { sharing, image, packing, starting, pressure, spread } = *self;
        let gains = i64::from(sharing) + i64::from(image) + i64::from(packing);
        gains - i64::from(starting) - i64::from(pressure) - i64::from(spread)
    }
}

/// One host, as a decision sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// Which.
    pub host: HostId,
    /// Its points, or the sentence why it cannot take it.
    pub judged: Result<Points, (Obstacle, String)>,
    /// It is the one.
    pub chosen: bool,
}

/// Every host by name, with what refused it or what it is worth.
pub fn considered(world: &World, wanted: &Wanted<'_>) -> Vec<Considered> {
    let domains = world.limits.headroom_domains;
    let (fleet, headroom) = judging(&world.fleet, domains, wanted.charge_mib);
    let required = required(world, wanted);
    let chosen = choose_of(&world.fleet, domains, wanted, &required);
    let kept = world.hosts.iter().filter_map(|(host, _)| Some((host, fleet.slot(host)?)));
    kept.map(|(host, slot)| {
        let judged = match obstacle((&fleet, &headroom), slot, wanted, &required) {
            Some(obstacle) => Err((obstacle, sentence(world, (obstacle, host), wanted, &required))),
            None => Ok(points(&fleet, slot, wanted)),
        };
        Considered { host: host.clone(), judged, chosen: chosen == Some(slot) }
    })
    .collect()
}

/// The sentence that says why no host can take it: the first hosts by name, then about how many more for which
/// reason; nothing that changes by the minute.
pub fn why_not(world: &World, wanted: &Wanted<'_>) -> String {
    if world.hosts.is_empty() {
        return "no host has joined yet".to_owned();
    }
    let (fleet, headroom) = judging(&world.fleet, world.limits.headroom_domains, wanted.charge_mib);
    let required = required(world, wanted);
    let mut named = Vec::new();
    let mut others = [0_usize; Obstacle::ALL.len()];
    for (host, _) in world.hosts.iter() {
        let Some(slot) = fleet.slot(host) else { continue };
        let Some(obstacle) = obstacle((&fleet, &headroom), slot, wanted, &required) else {
            continue;
        };
        if named.len() < NAMED_HOSTS_MAX {
            let why = sentence(world, (obstacle, host), wanted, &required);
            named.push(format!("{host} {why}"));
        } else {
            let counts = Obstacle::ALL.iter().zip(&mut others);
            counts.filter(|(one, _)| **one == obstacle).for_each(|(_, count)| *count += 1);
        }
    }
    let others = Obstacle::ALL.iter().zip(others).filter(|(_, count)| 0 < *count);
    let others = others.map(|(obstacle, count)| {
        format!("{} more {}", About(count), obstacle.of_many(wanted.charge_mib))
    });
    let reasons: Vec<String> = named.into_iter().chain(others).collect();
    format!("no host can take it: {}", reasons.join("; "))
}

/// A count to one digit, so that the sentence stays the same for a while.
struct About(usize);

impl fmt::Display for About {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut unit = 1;
        while 10 <= self.0 / unit {
            unit *= 10;
        }
        let count = self.0 / unit * unit;
        if unit == 1 { write!(formatter, "{count}") } else { write!(formatter, "about {count}") }
    }
}

/// What is said of one host: of labels, which it has not.
fn sentence(
    world: &World,
    (obstacle, host): (Obstacle, &HostId),
    wanted: &Wanted<'_>,
    required: &[(String, String)],
) -> String {
    let labels = world.hosts.get(host).map(|kept| &kept.labels);
    let lacks = |(key, value): &&(String, String)| {
        labels.and_then(|labels| labels.get(key)).is_none_or(|has| has != value)
    };
    let missing = required.iter().filter(lacks).map(|(key, value)| format!("{key}={value}"));
    match obstacle {
        Obstacle::Labels => {
            format!("has not the label {}", missing.collect::<Vec<_>>().join(", "))
        }
        _ => obstacle.of_one(wanted.charge_mib, &problems(world, host)),
    }
}

fn problems(world: &World, host: &HostId) -> String {
    let live = world.hosts_live.get(host);
    let report = live.and_then(|live| live.report.as_ref());
    report.map(|report| report.problems.join("; ")).unwrap_or_default()
}

/// What keeps a host from taking it: the filters of the scan, one by one.
pub(super) fn obstacle(
    (fleet, headroom): (&Fleet, &Headroom),
    slot: u32,
    wanted: &Wanted<'_>,
    required: &[(String, String)],
) -> Option<Obstacle> {
    let facts = fleet.facts(slot);
    let charge_mib = u32::try_from(wanted.charge_mib).unwrap_or(u32::MAX);
    match facts.state {
        HostState::Draining => return Some(Obstacle::Draining),
        HostState::Cordoned => return Some(Obstacle::Cordoned),
        HostState::Unknown | HostState::Away => return Some(Obstacle::Away),
        HostState::Unreported => return Some(Obstacle::Unreported),
        HostState::Unable => return Some(Obstacle::Unable),
        HostState::Open => {}
    }
    if !fleet.labels().having(required).has(slot) {
        return Some(Obstacle::Labels);
    }
    let spare_mib = facts.chargeable_mib.saturating_sub(facts.charged_mib);
    if spare_mib < charge_mib || spare_mib == 0 {
        return Some(Obstacle::Charged);
    }
    if facts.available_mib < charge_mib {
        return Some(Obstacle::UsedUp);
    }
    if wanted.starts && STARTING_MAX <= fleet.of(slot, |piece| &piece.starting) {
        return Some(Obstacle::Starting);
    }
    let on = (fleet, headroom, fleet.cut());
    let kept = headroom.is_wide(wanted.charge_mib)
        || fleet.piece(slot).is_some_and(|(piece, at)| keeps(on, piece, at, charge_mib));
    (!kept).then_some(Obstacle::Headroom)
}

fn points(fleet: &Fleet, slot: u32, wanted: &Wanted<'_>) -> Points {
    let facts = fleet.facts(slot);
    let template = fleet.template(wanted.tenant, wanted.template);
    let count = template.map_or(0, |template| template.on(slot));
    let image = if count == 0 { 0 } else { merit::IMAGE };
    let pool = wanted.pool.and_then(|pool| fleet.pool(wanted.tenant, pool));
    let spread = pool.map_or(0, |pool| {
        let there = pool.domains.get(fleet.of(slot, |piece| &piece.domain));
        merit::spread(there, merit::spread_factor(pool.hosts.all() + 1))
    });
    Points {
        sharing: merit::sharing(count) - image,
        image,
        packing: merit::packing(facts.charged_mib, facts.chargeable_mib),
        starting: merit::starting(fleet.of(slot, |piece| &piece.starting)),
        pressure: merit::pressure(facts.available_mib, facts.total_mib),
        spread,
    }
}
