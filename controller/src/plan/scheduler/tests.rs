//! The scan against the obvious: the same choice on random worlds, and what it promises of headroom, charges and
//! shares, by trying.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use vidi_kit::ids::{DesktopId, HostId, PoolId, TemplateId, TenantId};

use super::*;
use crate::model::fleet::{FailureDomain, merit};
use crate::model::{
    Allocation, DesktopSpec, DesktopStatus, DisplayPolicy, Host, HostLive, HostReport, Key, Power,
    ReleasePolicy, Row, Step,
};

const TOTAL_MIB: [u64; 3] = [1_000, 2_000, 6_000];
const CHARGES_MIB: [u64; 4] = [100, 250, 333, 700];

fn tenant() -> TenantId {
    "t".parse().unwrap()
}

fn host(number: u8) -> HostId {
    // Not in the order of the numbers, so that slots are not in the order of names.
    format!("h{}", (number * 7 + 3) % 10).parse().unwrap()
}

fn template(number: u8) -> TemplateId {
    format!("x{number}").parse().unwrap()
}

fn pool(number: u8) -> Option<PoolId> {
    (0 < number).then(|| format!("p{number}").parse().unwrap())
}

fn report(total_mib: u64, available_percent: u64) -> HostReport {
    HostReport {
        memory_total_mib: total_mib,
        memory_available_mib: total_mib * available_percent / 100,
        acceleration: "kvm".to_owned(),
        ..HostReport::default()
    }
}

fn live(total_mib: u64, available_percent: u64) -> HostLive {
    HostLive { link: 1, report: Some(report(total_mib, available_percent)), ..HostLive::default() }
}

fn spec(template: TemplateId, pool: Option<PoolId>) -> DesktopSpec {
    DesktopSpec {
        display_name: String::new(),
        template,
        template_digest: String::new(),
        assigned_user: None,
        power_on: true,
        force_off: false,
        deleting: false,
        generation: 1,
        create_ms: 0,
        app_id: "a".parse().unwrap(),
        restarting: false,
        release_policy: ReleasePolicy::Delete,
        display_policy: DisplayPolicy::default(),
        trace: None,
        pool,
        restored: false,
    }
}

/// Puts a desktop where it was chosen to be, as `settle` does.
fn put(world: &mut World, host: HostId, template: u8, pool_number: u8, charge_mib: u64) {
    let id = DesktopId::generate();
    world.put(Row::Spec(tenant(), id, spec(self::template(template), pool(pool_number))));
    let one = Allocation { tenant: tenant(), memory_mib: charge_mib };
    world.put(Row::Allocation(host.clone(), id, one));
    let status = DesktopStatus { host: Some(host), ..DesktopStatus::default() };
    world.put(Row::Status(tenant(), id, status));
}

#[derive(Clone, Debug)]
enum Event {
    Place {
        template: u8,
        pool: u8,
        charge: usize,
        starts: bool,
    },
    /// The desktop of this rank runs from now on.
    Run(usize),
    Delete(usize),
    Keep {
        host: u8,
        cordoned: bool,
        domain: u8,
    },
    Report {
        host: u8,
        total: usize,
        available_percent: u64,
    },
    Unlink(u8),
    Lose(u8),
}

fn event() -> impl Strategy<Value = Event> {
    let host = || 0..6u8;
    prop_oneof![
        12 => (0..3u8, 0..3u8, 0..CHARGES_MIB.len(), prop::bool::weighted(0.8))
            .prop_map(|(template, pool, charge, starts)| Event::Place { template, pool, charge, starts }),
        4 => (0..40usize).prop_map(Event::Run),
        2 => (0..40usize).prop_map(Event::Delete),
        1 => (host(), prop::bool::weighted(0.2), 0..4u8)
            .prop_map(|(host, cordoned, domain)| Event::Keep { host, cordoned, domain }),
        2 => (host(), 0..TOTAL_MIB.len(), 0..=100u64)
            .prop_map(|(host, total, available_percent)| Event::Report { host, total, available_percent }),
        1 => host().prop_map(Event::Unlink),
        1 => host().prop_map(Event::Lose),
    ]
}

fn keep(number: u8, cordoned: bool, domain: u8) -> Row {
    let failure_domain = if domain == 0 { String::new() } else { format!("rack-{domain}") };
    Row::Host(host(number), Host { cordoned, failure_domain, ..Host::default() })
}

fn happen(world: &mut World, event: Event) {
    let nth = |world: &World, rank: usize| {
        world.desktops.iter().nth(rank).map(|((_, id), one)| (*id, one.clone()))
    };
    match event {
        Event::Place { template: number, pool: pool_number, charge, starts } => {
            let template = template(number);
            let charge_mib = CHARGES_MIB[charge];
            let tenant = tenant();
            let pool = pool(pool_number);
            let wanted = Wanted { tenant: &tenant, template: &template, pool, charge_mib, starts };
            if let Ok(host) = place(world, &wanted) {
                put(world, host, number, pool_number, charge_mib);
            }
        }
        Event::Run(rank) => {
            if let Some((id, desktop)) = nth(world, rank) {
                let status = DesktopStatus { power: Power::Running, ..desktop.status.clone() };
                world.put(Row::Status(tenant(), id, status));
            }
        }
        Event::Delete(rank) => {
            if let Some((id, desktop)) = nth(world, rank) {
                let host = desktop.status.host.clone().unwrap();
                world.delete(&Key::Allocation(host, id));
                world.delete(&Key::Spec(tenant(), id));
            }
        }
        Event::Keep { host, cordoned, domain } => world.put(keep(host, cordoned, domain)),
        Event::Report { host: number, total, available_percent } => {
            world.set_host_live(host(number), live(TOTAL_MIB[total], available_percent));
        }
        Event::Unlink(number) => world.set_host_live(host(number), HostLive::default()),
        Event::Lose(number) => {
            world.set_host_live(host(number), HostLive { silent: true, ..HostLive::default() });
        }
    }
}

/// A host as the rows and the news have it, with nothing kept from before.
struct Plain {
    host: HostId,
    domain: String,
    open: bool,
    lost: bool,
    spare_mib: u64,
    charged_mib: u64,
    charges_mib: Vec<u64>,
    available_mib: u64,
    total_mib: u64,
    starting: u32,
    of_template: u32,
    of_pool: u32,
}

fn plain(world: &World, wanted: &Wanted<'_>) -> Vec<Plain> {
    let one = |host: &HostId, kept: &Host| {
        let live = world.hosts_live.get(host);
        let report = live.filter(|live| live.is_linked()).and_then(|live| live.report.clone());
        let desktops: Vec<_> = world
            .desktops
            .values()
            .filter(|desktop| desktop.status.host.as_ref() == Some(host))
            .collect();
        let count = |of: &dyn Fn(&DesktopSpec) -> bool| {
            u32::try_from(desktops.iter().filter(|desktop| of(&desktop.spec)).count()).unwrap()
        };
        let charges_mib: Vec<u64> =
            world.allocations_of(host).map(|(_, one)| one.memory_mib).collect();
        let charged_mib = charges_mib.iter().sum();
        let total_mib = report.as_ref().map_or(0, |report| report.memory_total_mib);
        let open = !kept.cordoned && report.is_some();
        let domain = if kept.failure_domain.is_empty() {
            format!("own {host}")
        } else {
            kept.failure_domain.clone()
        };
        let starting =
            desktops.iter().filter(|desktop| desktop.status.power != Power::Running).count();
        Plain {
            host: host.clone(),
            domain,
            open,
            lost: !kept.cordoned && live.is_some_and(|live| live.silent),
            spare_mib: if open { (total_mib * 95 / 100).saturating_sub(charged_mib) } else { 0 },
            charged_mib,
            charges_mib,
            available_mib: report.map_or(0, |report| report.memory_available_mib),
            total_mib,
            starting: u32::try_from(starting).unwrap(),
            of_template: count(&|spec| spec.template == *wanted.template),
            of_pool: wanted.pool.map_or(0, |pool| count(&|spec| spec.pool == Some(pool))),
        }
    };
    world.hosts.iter().map(|(host, kept)| one(host, kept)).collect()
}

/// Every choice of `count` of these.
fn choices(of: &[String], count: usize) -> Vec<BTreeSet<String>> {
    match (count, of.split_first()) {
        (0, _) => vec![BTreeSet::new()],
        (_, None) => Vec::new(),
        (_, Some((first, rest))) => {
            let mut with = choices(rest, count - 1);
            for one in &mut with {
                one.insert(first.clone());
            }
            with.into_iter().chain(choices(rest, count)).collect()
        }
    }
}

/// How many domains must be able to fail, and every choice of them.
fn failures(hosts: &[Plain], wanted: usize) -> Vec<BTreeSet<String>> {
    let of = |which: &dyn Fn(&&Plain) -> bool| -> BTreeSet<String> {
        hosts.iter().filter(which).map(|host| host.domain.clone()).collect()
    };
    let (lost, open) = (of(&|host| host.lost).len(), of(&|host| host.open).len());
    let all: Vec<String> = of(&|host| !host.lost).into_iter().collect();
    choices(&all, wanted.saturating_sub(lost).min(open.saturating_sub(1)))
}

/// The rule of headroom as it is written down, for each failure on its own.
fn keeps_headroom(hosts: &[Plain], domains: usize, charge_mib: u64) -> bool {
    let charges = hosts.iter().flat_map(|host| &host.charges_mib).copied();
    let charges: Vec<u64> = charges.chain([charge_mib]).collect();
    let largest_mib = *charges.iter().max().unwrap();
    let smallest_mib = *charges.iter().min().unwrap();
    let sure_mib = |spare_mib: u64| {
        spare_mib.saturating_sub(largest_mib - 1).max(spare_mib / largest_mib * smallest_mib)
    };
    failures(hosts, domains).iter().all(|failed| {
        let fails = |host: &&Plain| failed.contains(&host.domain);
        let homeless_mib: u64 =
            hosts.iter().filter(fails).filter(|host| !host.lost).map(|host| host.charged_mib).sum();
        let rest = hosts.iter().filter(|host| !fails(host));
        let sure_mib: u64 = rest.map(|host| sure_mib(host.spare_mib)).sum();
        failed.is_empty() || homeless_mib <= sure_mib
    })
}

/// Where it would go, looked at host by host.
fn reference(world: &World, wanted: &Wanted<'_>) -> Option<HostId> {
    let charge_mib = wanted.charge_mib;
    let mut hosts = plain(world, wanted);
    let mut takers = Vec::new();
    let all: u32 = hosts.iter().map(|host| host.of_pool).sum::<u32>() + 1;
    for at in 0..hosts.len() {
        let one = &hosts[at];
        let fits = charge_mib <= one.spare_mib
            && charge_mib <= one.available_mib
            && (!wanted.starts || one.starting < 20);
        if !one.open || !fits {
            continue;
        }
        hosts[at].spare_mib -= charge_mib;
        hosts[at].charged_mib += charge_mib;
        let kept = keeps_headroom(&hosts, world.limits.headroom_domains, charge_mib);
        hosts[at].spare_mib += charge_mib;
        hosts[at].charged_mib -= charge_mib;
        if kept {
            takers.push(at);
        }
    }
    let spread = takers.len() >= 4 && wanted.pool.is_some();
    takers
        .into_iter()
        .map(|at| &hosts[at])
        .filter(|one| !spread || one.of_pool < all.div_ceil(4))
        .max_by_key(|one| {
            let in_domain: u32 = hosts
                .iter()
                .filter(|other| other.domain == one.domain)
                .map(|other| other.of_pool)
                .sum();
            let chargeable_mib = one.total_mib * 95 / 100;
            let image = if one.of_template == 0 { 0 } else { 300 };
            let sharing = 10 * one.of_template.min(32);
            let packing = (one.charged_mib * 300 / chargeable_mib.max(1)).min(300);
            let wanted_mib = one.total_mib / 10;
            let short_mib = wanted_mib.saturating_sub(one.available_mib);
            let pressure = short_mib * 900 / wanted_mib.max(1);
            let factor = (2_000_u64 << 16) / u64::from(all);
            let against = (u64::from(in_domain) * factor) >> 16;
            let points = i64::from(image + sharing) + i64::try_from(packing).unwrap()
                - i64::from(20 * one.starting)
                - i64::try_from(pressure + against).unwrap();
            (points, Reverse(one.host.clone()))
        })
        .map(|one| one.host.clone())
}

/// Whether the desktops of every choice of failed domains do fit on the rest, the smallest first, each where
/// there is least room: as badly as it can be done.
fn survives(hosts: &[Plain], domains: usize) -> bool {
    failures(hosts, domains).iter().all(|failed| {
        let (gone, rest): (Vec<_>, Vec<_>) =
            hosts.iter().partition(|host| failed.contains(&host.domain));
        let mut rooms_mib: Vec<u64> = rest.iter().map(|host| host.spare_mib).collect();
        let gone = gone.iter().filter(|host| !host.lost);
        let mut charges_mib: Vec<u64> = gone.flat_map(|host| host.charges_mib.clone()).collect();
        charges_mib.sort_unstable();
        charges_mib.into_iter().all(|charge_mib| {
            let fitting = rooms_mib.iter_mut().filter(|room_mib| charge_mib <= **room_mib);
            fitting.min().map(|room_mib| *room_mib -= charge_mib).is_some()
        })
    })
}

/// Every question that can be asked here.
fn questions(ask: &mut dyn FnMut(&Wanted<'_>)) {
    let tenant = tenant();
    for number in 0..3 {
        let template = template(number);
        for (pool, charge_mib) in [(None, 90), (pool(1), 250), (pool(2), 700), (pool(3), 900)] {
            let starts = charge_mib != 250;
            ask(&Wanted { tenant: &tenant, template: &template, pool, charge_mib, starts });
        }
    }
}

fn empty_world(headroom_domains: usize) -> World {
    let mut world = World::default();
    world.limits.headroom_domains = headroom_domains;
    world
}

/// The rows of a world in another order and into an empty one: what it is, without how it came about.
fn rebuilt(world: &World) -> World {
    let mut next = empty_world(world.limits.headroom_domains);
    for ((host, id), one) in world.allocations.iter() {
        next.apply(Step::Put(Row::Allocation(host.clone(), *id, (**one).clone())));
    }
    for ((tenant, id), one) in world.desktops.iter() {
        next.apply(Step::Put(Row::Spec(tenant.clone(), *id, one.spec.clone())));
        next.apply(Step::Put(Row::Status(tenant.clone(), *id, one.status.clone())));
    }
    for (host, one) in world.hosts.iter() {
        next.apply(Step::Put(Row::Host(host.clone(), (**one).clone())));
    }
    for (host, one) in world.hosts_live.iter() {
        next.set_host_live(host.clone(), (**one).clone());
    }
    next
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_scan_chooses_what_the_obvious_way_chooses(
        hosts in prop::collection::vec((0..TOTAL_MIB.len(), 0..4u8), 0..7),
        events in prop::collection::vec(event(), 0..60),
        headroom in 0..4usize,
    ) {
        let mut world = empty_world(headroom);
        for (number, (total, domain)) in (0..).zip(hosts) {
            world.put(keep(number, false, domain));
            world.set_host_live(host(number), live(TOTAL_MIB[total], 100));
        }
        for event in events {
            happen(&mut world, event);
            let mut wrong = None;
            questions(&mut |wanted| {
                let slot = choose(&world.fleet, headroom, wanted);
                let found = slot.and_then(|slot| world.fleet.host(slot)).cloned();
                let expected = reference(&world, wanted);
                if found != expected {
                    wrong = Some(format!("{wanted:?}: {found:?} instead of {expected:?}"));
                }
            });
            prop_assert_eq!(wrong, None);
        }
        let again = rebuilt(&world);
        let mut same = true;
        questions(&mut |wanted| same &= place(&world, wanted) == place(&again, wanted));
        prop_assert!(same, "the same world gives the same answer, however it came about");
        prop_assert_eq!(world.fleet.headroom(headroom), again.fleet.headroom(headroom));
        prop_assert_eq!(world.fleet.can_lose(), again.fleet.can_lose());
    }

    #[test]
    fn no_sequence_of_placements_takes_headroom_or_charges_more_than_there_is(
        hosts in prop::collection::vec((0..TOTAL_MIB.len(), 0..4u8), 1..7),
        placements in prop::collection::vec((0..3u8, 0..3u8, 0..CHARGES_MIB.len()), 1..80),
        headroom in 0..3usize,
    ) {
        let mut world = empty_world(headroom);
        for (number, (total, domain)) in (0..).zip(hosts) {
            world.put(keep(number, false, domain));
            world.set_host_live(host(number), live(TOTAL_MIB[total], 100));
        }
        for (template, pool, charge) in placements {
            happen(&mut world, Event::Place { template, pool, charge, starts: false });
            let tenant = tenant();
            let template = self::template(template);
            let any = Wanted { tenant: &tenant, template: &template, pool: None, charge_mib: 1, starts: false };
            let now = plain(&world, &any);
            prop_assert!(survives(&now, headroom), "what fails fits on the rest");
            for one in now {
                prop_assert!(one.charged_mib <= one.total_mib * 95 / 100, "{} is overcharged", one.host);
            }
        }
    }

    #[test]
    fn explanations_agree_with_the_choice(
        events in prop::collection::vec(event(), 1..60),
        headroom in 0..3usize,
    ) {
        let mut world = empty_world(headroom);
        for number in 0..6 {
            world.put(keep(number, false, number % 3));
            world.set_host_live(host(number), live(2_000, 100));
        }
        for event in events {
            happen(&mut world, event);
        }
        let mut wrong = None;
        questions(&mut |wanted| {
            let all = considered(&world, wanted);
            let chosen: Vec<_> = all.iter().filter(|one| one.chosen).collect();
            let placed = place(&world, wanted).ok();
            let named = chosen.first().map(|one| one.host.clone());
            let takers = all.iter().filter(|one| one.judged.is_ok()).count();
            if placed != named || (placed.is_none() && takers != 0) {
                wrong = Some(format!("{wanted:?}: {placed:?}, explained as {all:?}"));
            }
            // Where no pool is spread, the best has the most points.
            if let (Some(one), None) = (chosen.first(), wanted.pool) {
                let most = all.iter().filter_map(|one| one.judged.as_ref().ok()).map(Points::sum).max();
                if one.judged.as_ref().ok().map(Points::sum) != most {
                    wrong = Some(format!("{wanted:?}: {all:?}"));
                }
            }
        });
        prop_assert_eq!(wrong, None);
    }
}

/// Hosts that are linked, each alone: name, memory, what is charged.
fn world(hosts: &[(&str, u64, u64)]) -> World {
    let mut world = empty_world(0);
    for (name, total_mib, charged_mib) in hosts {
        let host: HostId = name.parse().unwrap();
        world.put(Row::Host(host.clone(), Host::default()));
        world.set_host_live(host.clone(), live(*total_mib, 100));
        if 0 < *charged_mib {
            let one = Allocation { tenant: tenant(), memory_mib: *charged_mib };
            world.put(Row::Allocation(host, DesktopId::generate(), one));
        }
    }
    world
}

fn placed(world: &World, charge_mib: u64) -> Placed {
    let (tenant, template) = (tenant(), template(0));
    let (pool, starts) = (None, true);
    place(world, &Wanted { tenant: &tenant, template: &template, pool, charge_mib, starts })
}

#[test]
fn the_fullest_host_that_fits_is_taken() {
    let world = world(&[("a", 1_000, 0), ("b", 1_000, 500), ("c", 1_000, 900)]);
    assert_eq!(placed(&world, 400), Ok("b".parse().unwrap()));
    assert_eq!(placed(&world, 900), Ok("a".parse().unwrap()));
}

#[test]
fn a_host_with_the_template_comes_first() {
    let mut world = world(&[("a", 10_000, 0), ("b", 10_000, 5_000)]);
    put(&mut world, "a".parse().unwrap(), 0, 0, 1);
    assert_eq!(placed(&world, 100), Ok("a".parse().unwrap()));
}

#[test]
fn it_says_why_no_host_fits() {
    let mut world = world(&[("a", 1_000, 900), ("b", 1_000, 0)]);
    world.set_host_live("b".parse().unwrap(), HostLive::default());
    let why = placed(&world, 100).unwrap_err();
    let expected = "no host can take it: a has no 100 MiB of memory left to give; \
                    b is not connected";
    assert_eq!(why, expected);
    assert_eq!(placed(&World::default(), 1), Err("no host has joined yet".to_owned()));
}

#[test]
fn of_many_hosts_it_says_about_how_many_for_which_reason() {
    let mut world = World::default();
    for number in 100..160 {
        let host: HostId = format!("h{number}").parse().unwrap();
        world.put(Row::Host(host.clone(), Host { cordoned: number < 110, ..Host::default() }));
    }
    let why = placed(&world, 100).unwrap_err();
    assert!(why.starts_with("no host can take it: h100 is cordoned; h101 is cordoned;"), "{why}");
    assert!(why.ends_with("; 2 more are cordoned; about 50 more are not connected"), "{why}");
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
fn a_host_starts_only_so_many_at_once() {
    let mut world = world(&[("a", 100_000, 0)]);
    for _ in 0..STARTING_MAX {
        let host = placed(&world, 100).unwrap();
        put(&mut world, host, 0, 0, 100);
    }
    let why = placed(&world, 100).unwrap_err();
    assert_eq!(why, "no host can take it: a is starting 20 desktops, as many as it may");
    happen(&mut world, Event::Run(3));
    assert!(placed(&world, 100).is_ok());
}

#[test]
fn one_host_alone_is_filled_and_of_two_one_may_fail() {
    let mut alone = world(&[("a", 1_000, 0)]);
    alone.limits.headroom_domains = 1;
    assert!(placed(&alone, 950).is_ok());
    let mut two = world(&[("a", 1_000, 0), ("b", 1_000, 0)]);
    two.limits.headroom_domains = 1;
    assert!(two.fleet.can_lose() == 1);
    let mut count = 0;
    while let Ok(host) = placed(&two, 100) {
        put(&mut two, host, 0, 0, 100);
        happen(&mut two, Event::Run(count));
        count += 1;
    }
    assert_eq!(count, 9, "nine fit on one of them");
    let why = placed(&two, 100).unwrap_err();
    assert!(why.contains("b has to keep its room for the desktops of a host that fails"), "{why}");
    // The one is lost: what was kept for that is there to be used.
    two.set_host_live("a".parse().unwrap(), HostLive { silent: true, ..HostLive::default() });
    assert!(placed(&two, 100).is_ok());
}

#[test]
fn a_pool_is_spread_over_racks_and_no_host_gets_more_than_a_quarter() {
    let mut world = empty_world(1);
    for number in 0..8 {
        world.put(keep(number, false, 1 + number % 2));
        world.set_host_live(host(number), live(64_000, 100));
    }
    let (tenant, template) = (tenant(), template(0));
    for count in 0..40 {
        let wanted = Wanted {
            tenant: &tenant,
            template: &template,
            pool: pool(1),
            charge_mib: 500,
            starts: true,
        };
        let host = place(&world, &wanted).unwrap();
        put(&mut world, host, 0, 1, 500);
        happen(&mut world, Event::Run(count));
    }
    let mut hosts: BTreeMap<HostId, u32> = BTreeMap::new();
    let mut racks: BTreeMap<String, u32> = BTreeMap::new();
    for desktop in world.desktops.values() {
        let host = desktop.status.host.clone().unwrap();
        *racks.entry(world.hosts.get(&host).unwrap().failure_domain.clone()).or_default() += 1;
        *hosts.entry(host).or_default() += 1;
    }
    assert!(hosts.values().all(|count| *count <= 10), "{hosts:?}");
    assert!(racks.values().all(|count| (16..=24).contains(count)), "{racks:?}");
}

#[test]
fn a_simulation_says_how_many_fit_and_what_a_rack_takes_with_it() {
    let mut world = empty_world(1);
    for number in 0..4 {
        world.put(keep(number, false, 1 + number % 2));
        world.set_host_live(host(number), live(1_000, 100));
    }
    let (tenant, template) = (tenant(), template(0));
    let (pool, charge_mib, starts) = (None, 100, true);
    let wanted = Wanted { tenant: &tenant, template: &template, pool, charge_mib, starts };
    let rack = FailureDomain::Named("rack-1".to_owned());
    let what_if = simulate(&world, &wanted, 100, Some(&rack));
    // Nine fit on each of the two that are left.
    assert_eq!(what_if.placed, 18);
    assert_eq!(what_if.hosts.values().sum::<u32>(), 18);
    assert_eq!(what_if.can_lose, 1);
    assert!(what_if.why_not.contains("has to keep its room"), "{}", what_if.why_not);
    let [loss] = what_if.losses.as_slice() else { panic!("{:?}", what_if.losses) };
    assert_eq!((&loss.domain, loss.homeless), (&rack, 0));
    world.limits.headroom_domains = 0;
    let what_if = simulate(&world, &wanted, 36, Some(&rack));
    assert_eq!((what_if.placed, what_if.can_lose), (36, 0));
    assert_eq!(what_if.why_not, "");
    assert_eq!(what_if.losses[0], Loss { domain: rack, placed: 18, desktops: 18, homeless: 18 });
    assert!(world.desktops.is_empty() && world.fleet.is_idle(), "nothing came of it");
    assert_eq!(merit::sharing(40), merit::sharing(32));
}
