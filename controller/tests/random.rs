//! Random wishes, hosts that answer, err, forget and vanish, and controllers that die between any two
//! commits: the invariants hold at every commit, and in the end everything ends.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod invariants;

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;
use vidi_controller::model::{
    Change, DesktopTarget, Guest, Host, HostHello, HostLive, HostReport, ImageFile, Manifest,
    Observed, Power, Readiness, Row, SignIn, Step, Tenant, User, Video, World,
};
use vidi_controller::plan::settle::settle;
use vidi_controller::plan::wanted::wanted;
use vidi_controller::plan::{View, decide};
use vidi_controller::ports::{COMMIT_OPERATIONS_MAX, Write};
use vidi_controller::records;
use vidi_kit::ids::{DesktopId, HostId, SessionId, TenantId};

const MINUTE_MS: i64 = 60_000;
const DESKTOPS_MAX: usize = 4;

/// One thing that happens; the number picks what it happens to.
#[derive(Clone, Copy, Debug)]
enum Event {
    Create {
        start: bool,
        ben: bool,
    },
    Start(usize),
    Stop(usize, bool),
    Delete(usize),
    Open(usize, bool),
    Release(usize),
    Grant(usize),
    /// A host does what is wanted of it, up to a point, and reports.
    Report {
        host: usize,
        outcome: u8,
    },
    HostGone(usize),
    /// The controller dies before it has settled what was decided.
    Crash,
    Wait,
}

fn event() -> impl Strategy<Value = Event> {
    let pick = 0..DESKTOPS_MAX;
    prop_oneof![
        2 => (any::<bool>(), any::<bool>()).prop_map(|(start, ben)| Event::Create { start, ben }),
        1 => pick.clone().prop_map(Event::Start),
        1 => (pick.clone(), any::<bool>()).prop_map(|(one, force)| Event::Stop(one, force)),
        1 => pick.clone().prop_map(Event::Delete),
        2 => (pick.clone(), any::<bool>()).prop_map(|(one, ben)| Event::Open(one, ben)),
        1 => pick.clone().prop_map(Event::Release),
        1 => pick.prop_map(Event::Grant),
        6 => (0..2usize, 0..6u8).prop_map(|(host, outcome)| Event::Report { host, outcome }),
        1 => (0..2usize).prop_map(Event::HostGone),
        1 => Just(Event::Crash),
        1 => Just(Event::Wait),
    ]
}

struct Simulation {
    stored: BTreeMap<String, Bytes>,
    world: World,
    now_ms: i64,
    ids: u128,
}

impl Simulation {
    fn new() -> Self {
        let world = World::default();
        let mut one = Self { stored: BTreeMap::new(), world, now_ms: 1_000, ids: 1 };
        let tenant = tenant();
        let named =
            |display_name: &str| Tenant { display_name: display_name.to_owned(), create_ms: 0 };
        let mut rows = vec![Row::Tenant(tenant.clone(), named("t"))];
        for host in 0..2 {
            rows.push(Row::Host(self::host(host), Host { create_ms: 0 }));
        }
        for user in ["ana", "ben"] {
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
        let disk = ImageFile { file: "d".to_owned(), sha256: "0".repeat(64), size_bytes: 1 };
        let (video, readiness) = (Video::Qxl, Readiness::Helper);
        let guest = Guest { memory_mib: 512, vcpus: 1, video, readiness };
        let manifest = Manifest { disk, kernel: None, initrd: None, cmdline: String::new(), guest };
        one.ask(Change::PutTemplate {
            tenant,
            template: "micro".parse().unwrap(),
            display_name: String::new(),
            digest: "sha256:00".to_owned(),
            manifest,
        });
        one
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
            match records::write(&step) {
                Write::Put { key, value } => drop(self.stored.insert(key, value)),
                Write::Delete { key } => drop(self.stored.remove(&key)),
            }
            self.world.apply(step);
        }
        invariants::check(&self.reload());
    }

    fn reload(&self) -> World {
        let mut world = World { started_ms: self.now_ms, ..World::default() };
        for (key, value) in &self.stored {
            world.put(records::row(key, value, self.now_ms).unwrap().unwrap());
        }
        world
    }

    fn ask(&mut self, change: Change) {
        self.ids += 2;
        let view = View {
            world: &self.world,
            now_ms: self.now_ms,
            new_id: Uuid::from_u128(self.ids),
            new_operation: Uuid::from_u128(self.ids + 1),
        };
        if let Ok(decided) = decide(view, change) {
            self.commit(decided.steps);
        }
    }

    fn settle(&mut self) {
        const PASSES_MAX: usize = 20;
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
            if quiet {
                return;
            }
        }
        unreachable!("the plans do not come to rest: {:?}", self.world.desktops);
    }

    fn desktop(&self, pick: usize) -> Option<DesktopId> {
        self.world.desktops.iter().nth(pick).map(|((_, id), _)| *id)
    }

    fn session(&self, pick: usize) -> Option<SessionId> {
        self.world.sessions.iter().nth(pick).map(|((_, id), _)| *id)
    }

    fn target(&self, pick: usize) -> Option<DesktopTarget> {
        let desktop = self.desktop(pick)?;
        Some(DesktopTarget { tenant: tenant(), desktop, etag: String::new(), request: None })
    }

    fn happen(&mut self, event: Event) -> Option<()> {
        match event {
            Event::Create { start, ben } => {
                if DESKTOPS_MAX <= self.world.desktops.len() {
                    return None;
                }
                self.ask(Change::CreateDesktop {
                    tenant: tenant(),
                    template: "micro".parse().unwrap(),
                    display_name: "Desk".to_owned(),
                    assigned_user: Some(user(ben)),
                    start,
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
            Event::Delete(pick) => {
                let target = self.target(pick)?;
                self.ask(Change::DeleteDesktop { target });
            }
            Event::Open(pick, ben) => {
                let app = self.world.apps.iter().nth(pick).map(|((_, app), _)| app.clone())?;
                self.ask(Change::OpenApp { tenant: tenant(), app, user: user(ben), request: None });
            }
            Event::Release(pick) => {
                let (session, reason) = (self.session(pick)?, "left".to_owned());
                self.ask(Change::ReleaseSession { tenant: tenant(), session, reason });
            }
            Event::Grant(pick) => {
                let (session, gateway) = (self.session(pick)?, "edge".parse().unwrap());
                let token_sha256 = "ana".to_owned();
                self.ask(Change::IssueGrant { gateway, token_sha256, tenant: tenant(), session });
            }
            Event::Report { host, outcome } => self.report(&self::host(host), outcome),
            Event::HostGone(host) => drop(self.world.hosts_live.remove(&self::host(host))),
            Event::Crash => self.world = self.reload(),
            Event::Wait => self.now_ms += 7 * MINUTE_MS,
        }
        Some(())
    }

    fn report(&mut self, host: &HostId, outcome: u8) {
        let desktops = wanted(&self.world, host).into_iter().map(|one| {
            let generation = one.desktop.spec.generation;
            let (power, ready) = match (outcome, one.desktop.spec.power_on) {
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
            memory_total_mib: 1_024,
            memory_available_mib: 1_024,
            acceleration: "kvm".to_owned(),
            wanted_received: true,
            desktops: desktops.collect(),
            ..HostReport::default()
        };
        let hello = HostHello { relay_address: "h:1".to_owned(), ..HostHello::default() };
        let live = HostLive { link: 1, report: Some(report), hello, ..HostLive::default() };
        self.world.hosts_live.insert(host.clone(), live);
    }
}

fn tenant() -> TenantId {
    "default".parse().unwrap()
}

fn host(number: usize) -> HostId {
    format!("host-{number}").parse().unwrap()
}

fn user(ben: bool) -> vidi_kit::ids::UserId {
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
        // Everybody deletes everything, the hosts answer: nothing may be left.
        one.world = one.reload();
        for pick in 0..DESKTOPS_MAX {
            one.happen(Event::Delete(pick));
        }
        for _ in 0..3 {
            for number in 0..2 {
                one.report(&host(number), 5);
            }
            one.settle();
        }
        prop_assert!(one.world.desktops.is_empty(), "{:?}", one.world.desktops);
        prop_assert!(one.world.allocations.is_empty());
        prop_assert!(one.world.open_operations.is_empty(), "{:?}", one.world.operations);
        prop_assert!(one.world.live_sessions.is_empty());
        prop_assert!(one.world.unplaced.is_empty() && one.world.apps.is_empty());
        prop_assert!(one.world.user_desktops.is_empty() && one.world.host_templates.is_empty());
        prop_assert!(one.world.host_charges.values().all(|charge| **charge == 0));
    }
}
