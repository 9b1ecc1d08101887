//! Where a desktop goes: hard filters over all hosts, then the best score; and why none fits.

use std::cmp::Reverse;

use vidi_kit::ids::{HostId, TemplateId, TenantId};

use crate::model::{Host, HostLive, Placed, World};

/// Memory charged for a desktop until it is measured, in tenths of its maximum.
const CHARGED_TENTHS: u64 = 7;
/// Of a host's memory, in hundredths: what may be charged; the rest is the host's own.
const CHARGEABLE_PERCENT: u64 = 95;
/// Hosts that an explanation names; a person reads it.
const EXPLAINED_HOSTS_MAX: usize = 8;

/// Memory charged for a desktop of this maximum, MiB.
pub fn charged_mib(memory_mib: u32) -> u64 {
    (u64::from(memory_mib) * CHARGED_TENTHS).div_ceil(10)
}

/// The host for a desktop that is charged `charge_mib`. The sentence that says why there is none
/// holds nothing that changes by the minute.
pub fn place(world: &World, tenant: &TenantId, template: &TemplateId, charge_mib: u64) -> Placed {
    let mut best: Option<(Score<'_>, &HostId)> = None;
    let mut reasons = Vec::new();
    for (host, one) in world.hosts.iter() {
        let live = world.hosts_live.get(host).map(|live| &**live);
        let charged_mib = world.host_charges.get(host).map_or(0, |charge| **charge);
        match cordon(one).or_else(|| refusal(live, charged_mib, charge_mib)) {
            Some(reason) if reasons.len() < EXPLAINED_HOSTS_MAX => {
                reasons.push(format!("{host} {reason}"));
            }
            Some(_) => {}
            None => {
                let score = score(world, (host, tenant, template), live, charged_mib);
                if best.as_ref().is_none_or(|(other, _)| *other < score) {
                    best = Some((score, host));
                }
            }
        }
    }
    match best {
        Some((_, host)) => Ok(host.clone()),
        None if reasons.is_empty() => Err("no host has joined yet".to_owned()),
        None => Err(format!("no host can take it: {}", reasons.join("; "))),
    }
}

/// Template affinity (its pages are shared and its image is there), then packing, then the name, so
/// that the same world gives the same answer.
type Score<'a> = (bool, u64, Reverse<&'a HostId>);

fn score<'a>(
    world: &World,
    (host, tenant, template): (&'a HostId, &TenantId, &TemplateId),
    live: Option<&HostLive>,
    charged_mib: u64,
) -> Score<'a> {
    let key = (host.clone(), tenant.clone(), template.clone());
    let report = live.and_then(|live| live.report.as_ref());
    let total_mib = report.map_or(0, |report| report.memory_total_mib).max(1);
    let used_permille = charged_mib.saturating_mul(1_000) / total_mib;
    (world.host_templates.contains_key(&key), used_permille, Reverse(host))
}

fn cordon(host: &Host) -> Option<String> {
    let why = if host.draining { "is being drained" } else { "is cordoned" };
    host.cordoned.then(|| why.to_owned())
}

fn refusal(live: Option<&HostLive>, charged_mib: u64, charge_mib: u64) -> Option<String> {
    let Some(live) = live.filter(|live| live.is_linked()) else {
        return Some("is not connected".to_owned());
    };
    let Some(report) = &live.report else {
        return Some("has not reported yet".to_owned());
    };
    if report.acceleration.is_empty() {
        let problems = report.problems.join("; ");
        return Some(if problems.is_empty() {
            "does not know yet how it runs guests".to_owned()
        } else {
            format!("cannot run guests: {problems}")
        });
    }
    let chargeable_mib = report.memory_total_mib.saturating_mul(CHARGEABLE_PERCENT) / 100;
    if chargeable_mib < charged_mib.saturating_add(charge_mib) {
        return Some(format!("has no {charge_mib} MiB of memory left to give"));
    }
    if report.memory_available_mib < charge_mib {
        return Some(format!("has less than {charge_mib} MiB of memory free"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Allocation, HostReport, Row};

    fn world(hosts: &[(&str, u64, u64)]) -> World {
        let mut world = World::default();
        for (name, total, charged) in hosts {
            let host: HostId = name.parse().unwrap();
            world.put(Row::Host(host.clone(), Host::default()));
            let report = HostReport {
                memory_total_mib: *total,
                memory_available_mib: *total,
                acceleration: "kvm".to_owned(),
                ..HostReport::default()
            };
            let live = HostLive { link: 1, report: Some(report), ..HostLive::default() };
            world.hosts_live.insert(host.clone(), live);
            if 0 < *charged {
                let tenant = "t".parse().unwrap();
                let one = Allocation { tenant, memory_mib: *charged };
                world.put(Row::Allocation(host, vidi_kit::ids::DesktopId::generate(), one));
            }
        }
        world
    }

    fn placed(world: &World, charge_mib: u64) -> Placed {
        place(world, &"t".parse().unwrap(), &"micro".parse().unwrap(), charge_mib)
    }

    #[test]
    fn the_fullest_host_that_fits_is_taken() {
        let world = world(&[("a", 1_000, 0), ("b", 1_000, 500), ("c", 1_000, 900)]);
        assert_eq!(placed(&world, 400), Ok("b".parse().unwrap()));
        assert_eq!(placed(&world, 900), Ok("a".parse().unwrap()));
    }

    #[test]
    fn a_host_with_the_template_comes_first() {
        let mut world = world(&[("a", 1_000, 0), ("b", 1_000, 500)]);
        let key = ("a".parse().unwrap(), "t".parse().unwrap(), "micro".parse().unwrap());
        world.host_templates.insert(key, 1);
        assert_eq!(placed(&world, 100), Ok("a".parse().unwrap()));
    }

    #[test]
    fn it_says_why_no_host_fits() {
        let mut world = world(&[("a", 1_000, 900), ("b", 1_000, 0)]);
        let live = HostLive::default();
        world.hosts_live.insert("b".parse().unwrap(), live);
        let why = placed(&world, 100).unwrap_err();
        let expected = "no host can take it: a has no 100 MiB of memory left to give; \
                        b is not connected";
        assert_eq!(why, expected);
        assert_eq!(placed(&World::default(), 1), Err("no host has joined yet".to_owned()));
    }

    #[test]
    fn a_host_that_takes_nothing_new_says_so() {
        let mut world = world(&[("a", 1_000, 0), ("b", 1_000, 0)]);
        let cordoned = Host { cordoned: true, ..Host::default() };
        world.put(Row::Host("a".parse().unwrap(), cordoned.clone()));
        assert_eq!(placed(&world, 100), Ok("b".parse().unwrap()));
        world.put(Row::Host("b".parse().unwrap(), Host { draining: true, ..cordoned }));
        let expected = "no host can take it: a is cordoned; b is being drained";
        assert_eq!(placed(&world, 100), Err(expected.to_owned()));
    }

    #[test]
    fn seven_tenths_are_charged_rounded_up() {
        assert_eq!(charged_mib(1_024), 717);
        assert_eq!(charged_mib(64), 45);
    }
}
