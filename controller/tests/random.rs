//! Random wishes, hosts that answer, err, forget and vanish, and controllers that die between any two
//! commits: the invariants hold at every commit, and in the end everything ends.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod invariants;

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;
use vidi_controller::model::schedule::Schedule;
use vidi_controller::model::{
    Change, DesktopTarget, DisplayPolicy, EndCause, GatewayLive, Guest, Host, HostHello, HostLive,
    HostReport, ImageFile, Manifest, Observed, Place, PoolKind, PoolSettings, PoolUsers, Power,
    Presence, Readiness, ReleasePolicy, Row, SignIn, Standing, Step, Tenant, UsageKind, User,
    Video, World,
};
use vidi_controller::plan::presence::judged;
use vidi_controller::plan::settle::settle;
use vidi_controller::plan::usage::{ALIVE_PERIOD_MS, GAP_MS, alive};
use vidi_controller::plan::wanted::{WantedDesktop, wanted};
use vidi_controller::plan::{View, decide, pools};
use vidi_controller::ports::{COMMIT_OPERATIONS_MAX, Write};
use vidi_controller::records;
use vidi_kit::ids::{DesktopId, HostId, PoolId, SessionId, TenantId, UserId};

const MINUTE_MS: i64 = 60_000;
const SECOND_MS: i64 = 1_000;
const DESKTOPS_MAX: usize = 4;
const USERS: [&str; 4] = ["ana", "ben", "cy", "dan"];

/// One thing that happens; the number picks what it happens to.
#[derive(Clone, Copy, Debug)]
enum Event {
    Create {
        start: bool,
        ben: bool,
        policy: u8,
    },
    Start(usize),
    Stop(usize, bool),
    Restart(usize, bool),
    Delete(usize),
    Open(usize, bool),
    Release(usize),
    Grant(usize),
    /// The gateway says that it has this session attached, by its newest grant.
    Attach(usize),
    /// The gateway says that it has none.
    Detach,
    /// A host does what is wanted of it, up to a point, and reports.
    Report {
        host: usize,
        outcome: u8,
    },
    HostGone(usize),
    /// A host has not been heard for longer than the grace time.
    HostSilent(usize),
    Cordon(usize),
    /// With or without ending sessions.
    Drain(usize, bool),
    Uncordon(usize),
    /// The controller dies before it has settled what was decided.
    Crash,
    Wait,
    /// A few seconds pass.
    Tick,
    /// A pool is made, or changed.
    Pool {
        dedicated: bool,
        min_spare: u32,
        max_desktops: u32,
    },
    /// With or without force.
    DeletePool(bool, bool),
    Resume(bool),
    /// One of four users claims a desktop of a pool.
    Claim {
        dedicated: bool,
        user: usize,
    },
    /// The template has another version.
    Publish(u8),
}

fn event() -> impl Strategy<Value = Event> {
    let pick = 0..DESKTOPS_MAX;
    prop_oneof![
        2 => (any::<bool>(), any::<bool>(), 0..3u8)
            .prop_map(|(start, ben, policy)| Event::Create { start, ben, policy }),
        1 => (pick.clone(), any::<bool>()).prop_map(|(one, force)| Event::Restart(one, force)),
        2 => pick.clone().prop_map(Event::Attach),
        1 => Just(Event::Detach),
        3 => Just(Event::Tick),
        1 => pick.clone().prop_map(Event::Start),
        1 => (pick.clone(), any::<bool>()).prop_map(|(one, force)| Event::Stop(one, force)),
        1 => pick.clone().prop_map(Event::Delete),
        2 => (pick.clone(), any::<bool>()).prop_map(|(one, ben)| Event::Open(one, ben)),
        1 => pick.clone().prop_map(Event::Release),
        1 => pick.prop_map(Event::Grant),
        6 => (0..2usize, 0..6u8).prop_map(|(host, outcome)| Event::Report { host, outcome }),
        1 => (0..2usize).prop_map(Event::HostGone),
        1 => (0..2usize).prop_map(Event::HostSilent),
        1 => (0..2usize).prop_map(Event::Cordon),
        1 => (0..2usize, any::<bool>()).prop_map(|(host, now)| Event::Drain(host, now)),
        2 => (0..2usize).prop_map(Event::Uncordon),
        1 => Just(Event::Crash),
        1 => Just(Event::Wait),
        2 => (any::<bool>(), 0..4u32, 1..6u32).prop_map(|(dedicated, min_spare, max_desktops)| {
            Event::Pool { dedicated, min_spare: min_spare.min(max_desktops), max_desktops }
        }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(one, force)| Event::DeletePool(one, force)),
        1 => any::<bool>().prop_map(Event::Resume),
        5 => (any::<bool>(), 0..USERS.len())
            .prop_map(|(dedicated, user)| Event::Claim { dedicated, user }),
        1 => (0..3u8).prop_map(Event::Publish),
    ]
}

struct Simulation {
    stored: BTreeMap<String, Bytes>,
    world: World,
    now_ms: i64,
    ids: u128,
    /// What the desktops had by our own watch: while their stored power was running, and while their
    /// session was attached in the eyes of the controller, ms.
    ran_ms: BTreeMap<DesktopId, i64>,
    connected_ms: BTreeMap<DesktopId, i64>,
    /// How far a desktop's connected time may be off, ms.
    doubt_ms: i64,
    /// Who was ever let into a floating desktop.
    seen: BTreeMap<DesktopId, UserId>,
}

impl Simulation {
    fn new() -> Self {
        let world = World::default();
        let mut one = Self {
            stored: BTreeMap::new(),
            world,
            now_ms: 1_000,
            ids: 1,
            ran_ms: BTreeMap::new(),
            connected_ms: BTreeMap::new(),
            doubt_ms: 0,
            seen: BTreeMap::new(),
        };
        let tenant = tenant();
        let named = |display_name: &str| Tenant {
            display_name: display_name.to_owned(),
            create_ms: 0,
            ..Tenant::default()
        };
        let mut rows = vec![Row::Tenant(tenant.clone(), named("t"))];
        for host in 0..2 {
            rows.push(Row::Host(self::host(host), Host::default()));
        }
        for user in USERS {
            let record = User {
                display_name: user.to_owned(),
                roles: vec!["user".to_owned()],
                password_hash: String::new(),
                create_ms: 0,
            };
            let (tenant, id) = (tenant.clone(), user.parse().unwrap());
            let user_id = user.parse().unwrap();
            let sign_in =
                SignIn { tenant: tenant.clone(), user: user_id, create_ms: 0, expire_ms: i64::MAX };
            rows.push(Row::User(tenant, id, record));
            rows.push(Row::SignIn(user.to_owned(), sign_in));
        }
        one.commit(rows.into_iter().map(Step::Put).collect());
        one.publish(0);
        one
    }

    fn publish(&mut self, version: u8) {
        let disk = ImageFile { file: "d".to_owned(), sha256: "0".repeat(64), size_bytes: 1 };
        let (video, readiness) = (Video::Qxl, Readiness::Helper);
        let guest = Guest { memory_mib: 512, vcpus: 1, video, readiness, sound: false };
        let manifest = Manifest { disk, kernel: None, initrd: None, cmdline: String::new(), guest };
        self.ask(Change::PutTemplate {
            tenant: tenant(),
            template: "micro".parse().unwrap(),
            display_name: String::new(),
            digest: format!("sha256:{version:02}"),
            manifest,
            draft: false,
        });
    }

    /// What a commit does: all or nothing; then the invariants hold of what is stored.
    fn commit(&mut self, steps: Vec<Step>) {
        if steps.is_empty() {
            return;
        }
        let keys: BTreeMap<_, _> = steps.iter().map(|step| (step.key(), step.clone())).collect();
        assert!(keys.len() < COMMIT_OPERATIONS_MAX, "fits one commit");
        assert_eq!(keys.len(), steps.len(), "a plan writes each key once");
        for step in steps {
            self.check_single_use(&step);
            if let Step::Put(Row::Allocation(host, ..)) = &step {
                let host = self.world.hosts.get(host).unwrap();
                assert!(!host.cordoned, "nothing new is placed on a cordoned host");
            }
            match records::write(&step) {
                Write::Put { key, value } => drop(self.stored.insert(key, value)),
                Write::Delete { key } => drop(self.stored.remove(&key)),
            }
            let made = match &step {
                Step::Put(Row::Spec(_, id, spec))
                    if self.world.desktop(&tenant(), *id).is_none() =>
                {
                    spec.pool
                }
                _ => None,
            };
            self.world.apply(step);
            if let Some(pool) = made {
                self.check_cap(pool);
            }
        }
        let stored = self.reload();
        invariants::check(&stored);
        let newest = self.world.usage_newest.iter();
        assert!(newest.eq(stored.usage_newest.iter()), "the index is that of what is stored");
    }

    /// Nobody is let into a floating desktop that another user was let into.
    fn check_single_use(&mut self, step: &Step) {
        let Step::Put(Row::Session(_, _, session)) = step else { return };
        let Place::Desktop(id) = session.place else { return };
        let desktop = self.world.desktop(&tenant(), id);
        if desktop.is_some_and(|one| one.spec.is_single_use()) {
            let first = self.seen.entry(id).or_insert_with(|| session.user.clone());
            assert_eq!(*first, session.user, "{id} has a second user");
        }
    }

    /// A pool that has just made a desktop has no more than it may.
    fn check_cap(&self, pool: PoolId) {
        let known = self.world.pool(&tenant(), pool).unwrap();
        let desktops = self.world.desktops.values();
        let those = desktops.filter(|one| one.spec.pool == Some(pool) && !one.spec.deleting);
        let max = usize::try_from(known.settings.max_desktops).unwrap();
        assert!(those.count() <= max, "{pool} has more than it may");
        assert!(known.suspended.is_none(), "{pool} is suspended and makes one");
    }

    fn reload(&self) -> World {
        let mut world = World { started_ms: self.now_ms, ..World::default() };
        for (key, value) in &self.stored {
            world.put(records::row(key, value, self.now_ms).unwrap().unwrap());
        }
        world.alive_before_ms = world.alive_ms;
        world
    }

    fn ask(&mut self, change: Change) {
        self.ids += 2;
        let view = View {
            world: &self.world,
            now_ms: self.now_ms,
            trace: None,
            new_id: Uuid::from_u128(self.ids),
            new_operation: Uuid::from_u128(self.ids + 1),
        };
        if let Ok(decided) = decide(view, change) {
            self.commit(decided.steps);
        }
    }

    fn settle(&mut self) {
        const PASSES_MAX: usize = 60;
        for _ in 0..PASSES_MAX {
            let mut all: Vec<_> = self.world.desktops.iter().map(|(key, _)| key.clone()).collect();
            let open = self.world.open_operations.iter();
            all.extend(open.map(|((tenant, id, _), _)| (tenant.clone(), *id)));
            let mut quiet = true;
            for (tenant, id) in all {
                let steps = settle(&self.world, &tenant, id, self.now_ms);
                quiet &= steps.is_empty();
                self.commit(steps);
            }
            let pools: Vec<_> = self.world.pools.iter().map(|((_, id), _)| *id).collect();
            for pool in pools {
                let first = self.ids + 1;
                let mut ids = (first..first + 8).map(Uuid::from_u128);
                let steps = pools::settle(&self.world, &tenant(), pool, self.now_ms, &mut ids);
                self.ids += 8;
                quiet &= steps.is_empty();
                self.commit(steps);
            }
            let steps = pools::given_up(&self.world, self.now_ms);
            quiet &= steps.is_empty();
            self.commit(steps);
            if quiet {
                check_standings(&self.world);
                self.check_drains();
                return;
            }
        }
        unreachable!("the plans do not come to rest: {:?}", self.world.desktops);
    }

    /// On a host that is drained nothing is wanted on but what is in use and waited for.
    fn check_drains(&self) {
        for (_, desktop) in self.world.desktops.iter() {
            let host = desktop.status.host.as_ref().and_then(|host| self.world.hosts.get(host));
            let Some(host) = host.filter(|host| host.draining) else { continue };
            let in_use = desktop.status.session.is_some();
            let waits = in_use && !host.stop_in_use;
            assert!(!desktop.spec.power_on || waits, "a drained host has a desktop that is on");
        }
    }

    fn desktop(&self, pick: usize) -> Option<DesktopId> {
        self.world.desktops.iter().nth(pick).map(|((_, id), _)| *id)
    }

    fn session(&self, pick: usize) -> Option<SessionId> {
        let mut newest: Vec<_> = self.world.sessions.iter().map(|((_, id), _)| *id).collect();
        newest.reverse();
        newest.get(pick).copied()
    }

    fn target(&self, pick: usize) -> Option<DesktopTarget> {
        let desktop = self.desktop(pick)?;
        Some(DesktopTarget { tenant: tenant(), desktop, etag: String::new(), request: None })
    }

    fn happen(&mut self, event: Event) -> Option<()> {
        match event {
            Event::Open(pick, ben) => {
                let app = self.world.apps.iter().nth(pick).map(|((_, app), _)| app.clone())?;
                self.ask(Change::OpenApp { tenant: tenant(), app, user: user(ben), request: None });
            }
            Event::Release(pick) => {
                let (session, cause) = (self.session(pick)?, EndCause::Released);
                self.ask(Change::ReleaseSession { tenant: tenant(), session, cause });
            }
            Event::Grant(pick) => {
                let (session, gateway) = (self.session(pick)?, "edge".parse().unwrap());
                let known = self.world.session(&tenant(), session)?;
                let token_sha256 = known.user.to_string();
                if matches!(known.place, Place::Pool(_)) {
                    // As the reconciler does with one that is refused for now.
                    self.world.seek(&tenant(), session, self.now_ms);
                }
                let (tenant, problem) = (tenant(), String::new());
                self.ask(Change::IssueGrant { gateway, token_sha256, tenant, session, problem });
            }
            Event::Report { host, outcome } => self.report(&self::host(host), outcome),
            Event::HostGone(host) => {
                self.world.remove_host_live(&self::host(host));
                self.touch(&self::host(host));
            }
            Event::HostSilent(host) => {
                let live = HostLive { silent: true, ..HostLive::default() };
                self.world.set_host_live(self::host(host), live);
                self.touch(&self::host(host));
            }
            Event::Cordon(host) => {
                self.ask(Change::CordonHost { host: self::host(host), etag: String::new() });
            }
            Event::Drain(host, stop_in_use) => {
                let (host, etag) = (self::host(host), String::new());
                self.ask(Change::DrainHost { host, etag, stop_in_use });
            }
            Event::Uncordon(host) => {
                self.ask(Change::UncordonHost { host: self::host(host), etag: String::new() });
            }
            Event::Attach(pick) => {
                let session = self.session(pick)?;
                let epoch = self.world.session(&tenant(), session)?.epoch;
                self.present(BTreeMap::from([(session, epoch)]));
            }
            Event::Detach => self.present(BTreeMap::new()),
            Event::Crash => {
                self.world = self.reload();
                self.doubt_ms += ALIVE_PERIOD_MS + GAP_MS;
            }
            Event::Wait => {
                for _ in 0..14 {
                    self.pass(MINUTE_MS / 2);
                }
            }
            Event::Tick => self.pass(4 * SECOND_MS),
            Event::Create { .. }
            | Event::Start(_)
            | Event::Stop(..)
            | Event::Restart(..)
            | Event::Delete(_) => return self.wish(event),
            Event::Pool { .. }
            | Event::DeletePool(..)
            | Event::Resume(_)
            | Event::Claim { .. }
            | Event::Publish(_) => return self.pool_event(event),
        }
        Some(())
    }

    fn pool_event(&mut self, event: Event) -> Option<()> {
        let etag = String::new();
        match event {
            Event::Pool { dedicated, min_spare, max_desktops } => {
                let (tenant, pool) = (tenant(), pool(dedicated));
                let settings = Box::new(settings(dedicated, min_spare, max_desktops));
                let validate_only = false;
                self.ask(if self.world.pool(&tenant, pool).is_some() {
                    Change::UpdatePool { tenant, pool, settings, etag, validate_only }
                } else {
                    Change::CreatePool { tenant, pool, settings, request: None, validate_only }
                });
            }
            Event::DeletePool(dedicated, force) => {
                let (tenant, pool) = (tenant(), pool(dedicated));
                self.ask(Change::DeletePool { tenant, pool, etag, force });
            }
            Event::Resume(dedicated) => {
                let (tenant, pool) = (tenant(), pool(dedicated));
                self.ask(Change::ResumePool { tenant, pool, etag });
            }
            Event::Claim { dedicated, user } => {
                let app = self.world.pool(&tenant(), pool(dedicated))?.app_id.clone();
                let user = USERS.get(user)?.parse().unwrap();
                self.ask(Change::OpenApp { tenant: tenant(), app, user, request: None });
            }
            Event::Publish(version) => self.publish(version),
            _ => unreachable!("{event:?} is of no pool"),
        }
        Some(())
    }

    /// As the links do when a host's news is taken.
    fn touch(&mut self, host: &HostId) {
        let there: Vec<_> = self.world.allocations_of(host).map(|(id, _)| id).collect();
        there.into_iter().for_each(|id| self.world.touch(tenant(), id));
    }

    /// What somebody wants of a desktop.
    fn wish(&mut self, event: Event) -> Option<()> {
        match event {
            Event::Create { start, ben, policy } => {
                let own = self.world.desktops.values().filter(|one| one.spec.pool.is_none());
                if DESKTOPS_MAX <= own.count() {
                    return None;
                }
                let release_policy = match policy {
                    0 => ReleasePolicy::Keep,
                    1 => ReleasePolicy::Stop,
                    _ => ReleasePolicy::Delete,
                };
                self.ask(Change::CreateDesktop {
                    tenant: tenant(),
                    template: "micro".parse().unwrap(),
                    display_name: "Desk".to_owned(),
                    assigned_user: Some(user(ben)),
                    start,
                    release_policy,
                    display_policy: DisplayPolicy::default(),
                    request: None,
                    validate_only: false,
                });
            }
            Event::Start(pick) => {
                let target = self.target(pick)?;
                self.ask(Change::StartDesktop { target });
            }
            Event::Stop(pick, force) => {
                let target = self.target(pick)?;
                self.ask(Change::StopDesktop { target, force });
            }
            Event::Restart(pick, force) => {
                let target = self.target(pick)?;
                self.ask(Change::RestartDesktop { target, force });
            }
            Event::Delete(pick) => {
                let target = self.target(pick)?;
                self.ask(Change::DeleteDesktop { target });
            }
            _ => unreachable!("{event:?} is no wish"),
        }
        Some(())
    }

    /// Time passes; the leader says that it is there when that is due.
    fn pass(&mut self, span_ms: i64) {
        for ((_, id), desktop) in self.world.desktops.iter() {
            if desktop.status.power == Power::Running {
                *self.ran_ms.entry(*id).or_default() += span_ms;
            }
            let session = desktop.status.session.and_then(|id| self.world.session(&tenant(), id));
            if session.is_some_and(|one| one.presence == Presence::Connected) {
                *self.connected_ms.entry(*id).or_default() += span_ms;
            }
        }
        self.now_ms += span_ms;
        self.commit(alive(&self.world, self.now_ms).into_iter().collect());
    }

    /// Takes a gateway's word as the reconciler does, and lets follow what follows at once.
    fn present(&mut self, sessions: BTreeMap<SessionId, u64>) {
        let live =
            GatewayLive { link: 1, heard_ms: self.now_ms, sessions, ..GatewayLive::default() };
        self.world.gateways.insert("edge".parse().unwrap(), live);
        self.doubt_ms += GAP_MS;
        let known: Vec<_> = self.world.live_sessions.iter().map(|(id, _)| *id).collect();
        for id in known {
            let session = self.world.session(&tenant(), id).unwrap();
            if let Some(next) = judged(&self.world, id, session, self.now_ms) {
                self.world.put(Row::Session(tenant(), id, next));
            }
        }
        self.settle();
    }

    /// The faults are over: whoever waits gets a desktop or has gone, and pools have the spares they want.
    fn come_to_rest(&mut self) {
        for number in 0..2 {
            self.happen(Event::Uncordon(number));
        }
        for dedicated in [true, false] {
            self.happen(Event::Resume(dedicated));
        }
        for _ in 0..5 {
            for number in 0..2 {
                self.report(&host(number), 5);
            }
            self.settle();
            self.pass(15 * SECOND_MS);
        }
        for _ in 0..16 {
            self.settle();
            for number in 0..2 {
                self.report(&host(number), 5);
            }
        }
        self.settle();
        let waits = self.world.all_waiting().map(|(_, pool, id)| (pool, id));
        assert_eq!(waits.collect::<Vec<_>>(), [], "nobody waits for ever");
        for ((_, id), known) in self.world.pools.iter().filter(|(_, known)| !known.deleting) {
            let status = self.world.pool_status(&tenant(), *id, self.now_ms);
            let spare = status.ready + status.preparing;
            let PoolSettings { min_spare, max_desktops, .. } = known.settings;
            let wanted = min_spare.min(max_desktops.saturating_sub(status.claimed));
            assert_eq!(spare, wanted, "{id} has its spares: {status:?} {known:?}");
            let unplaced = self.world.pool_standing(&tenant(), *id, Standing::Unplaced).count();
            assert_eq!(status.ready + u32::try_from(unplaced).unwrap(), wanted, "{status:?}");
        }
    }

    /// What the intervals say of a kind, ms.
    fn counted(&self, kind: UsageKind) -> BTreeMap<DesktopId, i64> {
        let mut sums = BTreeMap::new();
        for (key, interval) in self.world.usage.iter().filter(|(key, _)| key.kind == kind) {
            let end_ms = interval.end_ms.unwrap_or(self.now_ms);
            *sums.entry(key.desktop).or_default() += end_ms - key.start_ms;
        }
        // What ran for no time at all ran all the same.
        sums.retain(|_, sum_ms| *sum_ms != 0);
        sums
    }

    fn check_account(&self) {
        assert_eq!(self.counted(UsageKind::Running), self.ran_ms, "hours run");
        let counted = self.counted(UsageKind::Connected);
        let desktops = counted.keys().chain(self.connected_ms.keys());
        for id in desktops {
            let of = |sums: &BTreeMap<DesktopId, i64>| sums.get(id).copied().unwrap_or(0);
            let off_ms = (of(&counted) - of(&self.connected_ms)).abs();
            assert!(off_ms <= self.doubt_ms, "connected time is {off_ms} ms off");
        }
    }

    fn report(&mut self, host: &HostId, outcome: u8) {
        // What is to be destroyed is there until the host has come to it.
        let there = |one: &WantedDesktop| !one.desktop.spec.deleting || outcome < 4;
        let desktops = wanted(&self.world, host).into_iter().filter(there).map(|one| {
            let generation = one.desktop.spec.generation;
            let (power, ready) = match (outcome, one.desktop.spec.host_power_on()) {
                (0, _) => (Power::Preparing, false),
                (1, true) => (Power::Starting, false),
                (2, true) => (Power::Running, false),
                (3, _) => (Power::Failed("bad luck".to_owned()), false),
                (4, _) | (_, false) => (Power::Off, false),
                (_, true) => (Power::Running, true),
            };
            (one.id, Observed { generation, power, ready, ..Observed::default() })
        });
        let report = HostReport {
            memory_total_mib: 2_048,
            memory_available_mib: 2_048,
            acceleration: "kvm".to_owned(),
            wanted_received: true,
            wanted_number: self.world.sequence,
            desktops: desktops.collect(),
            ..HostReport::default()
        };
        let hello = HostHello { relay_address: "h:1".to_owned(), ..HostHello::default() };
        let live = HostLive { link: 1, report: Some(report), hello, ..HostLive::default() };
        self.world.set_host_live(host.clone(), live);
        self.touch(host);
    }
}

/// Each desktop of a pool stands as the index says; so it is when everything was looked at.
fn check_standings(world: &World) {
    for ((tenant, pool), _) in world.pools.iter() {
        for standing in Standing::ALL {
            for id in world.pool_standing(tenant, *pool, standing) {
                assert_eq!(Standing::of(world, tenant, id), Some(standing), "{id}");
            }
        }
    }
}

fn pool(dedicated: bool) -> PoolId {
    if dedicated { "own" } else { "float" }.parse().unwrap()
}

fn settings(dedicated: bool, min_spare: u32, max_desktops: u32) -> PoolSettings {
    let (kind, release_policy) = match dedicated {
        true => (PoolKind::Dedicated, ReleasePolicy::Stop),
        false => (PoolKind::Floating, ReleasePolicy::Delete),
    };
    PoolSettings {
        display_name: "Pool".to_owned(),
        template: "micro".parse().unwrap(),
        kind,
        min_spare,
        max_desktops,
        users: PoolUsers::Everyone,
        disconnect_secs: Some(60),
        max_session_secs: dedicated.then_some(3_600),
        idle_secs: None,
        user_sessions_max: None,
        schedule: Schedule::default(),
        forecast: false,
        release_policy,
        display_policy: DisplayPolicy::default(),
    }
}

fn tenant() -> TenantId {
    "default".parse().unwrap()
}

fn host(number: usize) -> HostId {
    format!("host-{number}").parse().unwrap()
}

fn user(ben: bool) -> UserId {
    if ben { "ben" } else { "ana" }.parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]
    #[test]
    fn whatever_happens_the_invariants_hold_and_everything_ends(
        events in prop::collection::vec((event(), any::<bool>()), 1..80),
    ) {
        let mut one = Simulation::new();
        for (event, settled) in events {
            one.happen(event);
            if settled {
                one.settle();
            }
        }
        one.settle();
        one.check_account();
        one.come_to_rest();
        one.check_account();
        // Everybody deletes everything, the hosts answer: nothing may be left.
        one.world = one.reload();
        for dedicated in [true, false] {
            one.happen(Event::DeletePool(dedicated, true));
        }
        for pick in 0..one.world.desktops.len() {
            one.happen(Event::Delete(pick));
        }
        for _ in 0..3 {
            for number in 0..2 {
                one.report(&host(number), 5);
            }
            one.settle();
        }
        prop_assert!(one.world.desktops.is_empty(), "{:?}", one.world.desktops);
        prop_assert!(one.world.pools.is_empty() && one.world.all_waiting().next().is_none());
        prop_assert!(one.world.allocations.is_empty());
        prop_assert!(one.world.open_operations.is_empty(), "{:?}", one.world.operations);
        prop_assert!(one.world.live_sessions.is_empty());
        prop_assert!(one.world.unplaced.is_empty() && one.world.apps.is_empty());
        prop_assert!(one.world.user_desktops.is_empty() && one.world.fleet.is_idle());
        prop_assert!(one.world.tenant_operations.is_empty() && one.world.tenant_desktops.is_empty());
        prop_assert!(one.world.usage.values().all(|one| one.end_ms.is_some()));
        one.check_account();
    }
}

/// No host ever comes: the operation's ten minutes and the session's are over in the same round.
#[test]
fn a_session_that_ends_as_its_desktop_is_undone_is_written_once() {
    let mut one = Simulation::new();
    let creation = Event::Create { start: false, ben: false, policy: 0 };
    for event in [creation, Event::Open(0, false), Event::Stop(0, false), Event::Wait, Event::Wait]
    {
        one.happen(event);
    }
    one.settle();
    assert!(one.world.desktops.is_empty() && one.world.live_sessions.is_empty());
}

/// Of two users one comes back after a long failure of everything, and the leader says that it is there.
#[test]
fn who_does_not_come_back_was_connected_until_the_failure() {
    let mut one = Simulation::new();
    let creation = Event::Create { start: true, ben: false, policy: 0 };
    let answer = Event::Report { host: 0, outcome: 5 };
    for event in [creation, creation, answer, Event::Open(0, false), Event::Open(1, false)] {
        one.happen(event);
        one.settle();
    }
    one.happen(Event::Grant(0));
    one.happen(Event::Grant(1));
    let sessions: Vec<_> =
        one.world.sessions.iter().map(|((_, id), one)| (*id, one.epoch)).collect();
    one.present(sessions.iter().copied().collect());
    one.happen(Event::Wait);
    one.now_ms += 60 * MINUTE_MS;
    one.happen(Event::Crash);
    one.present(sessions.iter().take(1).copied().collect());
    for _ in 0..5 {
        one.happen(Event::Tick);
        one.settle();
    }
    let counted = one.counted(UsageKind::Connected);
    let connected_ms = sessions.iter().map(|(id, _)| {
        let session = one.world.session(&tenant(), *id).unwrap();
        counted.get(&session.place.counted_as()).copied().unwrap_or(0)
    });
    // Seven minutes before it; and who is back was never gone.
    let [back, gone] = connected_ms.collect::<Vec<_>>().try_into().unwrap();
    assert!(67 * MINUTE_MS <= back, "{back}");
    assert!((6 * MINUTE_MS..=7 * MINUTE_MS).contains(&gone), "{gone}");
}
