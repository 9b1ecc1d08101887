//! Gateways: they show sessions, say every 10 s which, and close what they are told to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use vidi_controller::model::{Answer, Change, Granted, UsageKind, Way};
use vidi_controller::plan::presence::{Present, to_close};
use vidi_kit::ids::{DesktopId, GatewayId, SessionId, UserId};

use crate::dice::Dice;
use crate::sim::{CallError, Serving, Sim, short, tenant};
use crate::truth::Attached;

const PRESENCE_PERIOD: Duration = Duration::from_secs(10);
/// Who hears nothing for this long takes the link to be gone, ms.
const SILENCE_MS: u64 = 35_000;
/// How far counted time may be off when a gateway, its link or its controller is gone: what it was
/// believed for, and the minute that a controller tells that it is there.
const DOUBT_MS: i64 = 100_000;

/// One gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) sim: Arc<Sim>,
    pub(crate) id: GatewayId,
    dice: Dice,
    alive: AtomicBool,
    news: Notify,
    /// The link breaks.
    pub(crate) cut: Notify,
}

impl Gateway {
    pub(crate) fn begin(sim: &Arc<Sim>, name: &str) -> Arc<Self> {
        let gateway = Arc::new(Self {
            sim: Arc::clone(sim),
            id: name.parse().unwrap(),
            dice: sim.dice(name),
            alive: AtomicBool::new(true),
            news: Notify::new(),
            cut: Notify::new(),
        });
        let links = Arc::clone(&gateway);
        let _links = sim.tasks.spawn("gateway", async move { links.keep_linked().await });
        gateway
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::SeqCst)
    }

    /// Some people read for a while.
    fn idle_secs(&self, sessions: &BTreeMap<SessionId, u64>) -> BTreeMap<SessionId, u32> {
        let idle = |id: &SessionId| (*id, u32::try_from(self.dice.below(100)).unwrap());
        sessions.keys().map(idle).collect()
    }

    /// The sessions that it shows.
    fn shown(&self) -> BTreeMap<SessionId, u64> {
        let truth = self.sim.truth();
        let own = truth.attached.iter().filter(|(_, one)| one.gateway == self.id);
        own.map(|(id, one)| (*id, one.epoch)).collect()
    }

    /// Shows a session to its user, if its desktop can be reached; what the controller refuses, or
    /// nothing.
    pub(crate) async fn attach(
        &self,
        session: SessionId,
        (user, token): (&UserId, &str),
    ) -> Result<bool, CallError> {
        let change = Change::IssueGrant {
            gateway: self.id.clone(),
            token_sha256: token.to_owned(),
            tenant: tenant(),
            session,
            problem: String::new(),
        };
        let granted = match self.sim.call(&self.dice, change).await? {
            Answer::Granted(granted) => granted,
            other => unreachable!("{other:?}"),
        };
        self.dice.wait(5, 100).await;
        let Granted { epoch, way: Way::Relay { desktop, host, .. }, user: of, .. } = granted else {
            return Ok(false);
        };
        if of != *user {
            self.sim.violate(format!("I4: a grant for {of} was given to {user}"));
        }
        let now_ms = self.sim.now_ms();
        let mut truth = self.sim.truth();
        let machine = truth.machines.get(&host).filter(|machine| machine.powered);
        let domain = machine.and_then(|machine| machine.domains.get(&desktop));
        let known = truth.epochs.get(&session).copied().unwrap_or(0);
        if !domain.is_some_and(|domain| domain.runs()) || epoch <= known || !self.is_alive() {
            return Ok(false);
        }
        let before = truth.detach(session, now_ms);
        truth.epochs.insert(session, epoch);
        let gateway = self.id.clone();
        truth.attached.insert(session, Attached { gateway, epoch, desktop });
        truth.connect(desktop, user, now_ms);
        if before.is_some() {
            truth.doubt(desktop, UsageKind::Connected, DOUBT_MS);
        }
        let seen_by = truth.seen_by.entry(desktop).or_default();
        seen_by.insert(user.clone());
        let count = seen_by.len();
        drop(truth);
        // One of a group's is shown to many, one after the other.
        let checker = self.sim.checker();
        let known = checker.world.desktop(&tenant(), desktop);
        let pooled = known.is_some_and(|known| known.spec.pool.is_some());
        drop(checker);
        if pooled && count != 1 {
            self.sim.violate(format!("I4: {} was shown to {count} users", short(desktop)));
        }
        let what = format!("{user} sees {} in {}, epoch {epoch}", short(desktop), short(session));
        self.sim.say(self.id.as_str(), &what);
        self.news.notify_one();
        Ok(true)
    }

    /// Nobody wants to see it here any more.
    pub(crate) fn leave(&self, session: SessionId) {
        let now_ms = self.sim.now_ms();
        let mut truth = self.sim.truth();
        let here = truth.attached.get(&session).is_some_and(|one| one.gateway == self.id);
        if here {
            truth.detach(session, now_ms);
        }
        drop(truth);
        self.news.notify_one();
    }

    /// It dies with everything that it shows, and is back after a while.
    pub(crate) async fn die(&self, least_ms: u64, most_ms: u64) {
        self.fall();
        self.sim.idle(&self.dice, least_ms, most_ms).await;
        self.rise();
    }

    /// It dies with everything that it shows.
    pub(crate) fn fall(&self) {
        self.alive.store(false, Ordering::SeqCst);
        self.sim.fault("gateway dies", self.id.as_str());
        self.doubt();
        for session in self.shown().into_keys() {
            self.leave(session);
        }
        self.cut.notify_one();
    }

    /// It is back.
    pub(crate) fn rise(&self) {
        self.alive.store(true, Ordering::SeqCst);
        self.sim.say(self.id.as_str(), "is back");
    }

    /// How long its sessions are seen cannot be known exactly now.
    fn doubt(&self) {
        let mut truth = self.sim.truth();
        let shown = truth.attached.values().filter(|one| one.gateway == self.id);
        let desktops: Vec<DesktopId> = shown.map(|one| one.desktop).collect();
        for id in desktops {
            truth.doubt(id, UsageKind::Connected, DOUBT_MS);
        }
    }

    async fn keep_linked(&self) {
        loop {
            while !self.is_alive() {
                self.dice.wait(200, 1_000).await;
            }
            self.dice.wait(100, 2_000).await;
            let Some(serving) = self.sim.leader(&self.dice) else { continue };
            let (life, handle) = (Arc::clone(&serving.life), serving.handle.clone());
            let number = life.links.fetch_add(1, Ordering::SeqCst) + 1;
            self.sim.say(self.id.as_str(), &format!("link {number} to {}", life.name));
            // Cancel-safe: a change that was asked for goes on without its caller.
            let why = tokio::select! {
                biased;
                () = life.gone() => "the controller is gone",
                () = self.cut.notified() => "cut",
                why = self.serve(number, &serving) => why,
            };
            self.sim.say(self.id.as_str(), &format!("link {number} ends: {why}"));
            self.doubt();
            let (dice, gateway) = (self.dice.clone(), self.id.clone());
            let _ending = self.sim.tasks.spawn("link-end", async move {
                dice.wait(0, if why == "cut" { SILENCE_MS } else { 100 }).await;
                life.moves().await;
                let change = Change::GatewayUnlinked { gateway, link: number };
                drop(handle.change_when_free(change).await);
            });
        }
    }

    async fn serve(&self, number: u64, serving: &Serving) -> &'static str {
        let Serving { life, handle, .. } = serving;
        let mut heard = 0;
        let mut beat = tokio::time::interval(PRESENCE_PERIOD);
        loop {
            life.moves().await;
            // Cancel-safe: all of them only wait.
            let tells = tokio::select! {
                biased;
                _ = beat.tick() => true,
                () = self.news.notified() => true,
                () = serving.changed(heard) => false,
            };
            if tells {
                let sessions = self.shown();
                self.dice.wait(0, 20).await;
                let gateway = self.id.clone();
                let peer_address = format!("{gateway}:7445");
                let idle_secs = self.idle_secs(&sessions);
                let change = Change::GatewayPresence {
                    gateway,
                    link: number,
                    sessions,
                    idle_secs,
                    peer_address,
                };
                if handle.change(change).await.is_err() {
                    return "its presence was refused";
                }
            }
            let world = serving.world(&mut heard);
            let (tenant, shown) = (tenant(), self.shown());
            let present = |(id, epoch): (SessionId, u64)| {
                let name = id.to_string();
                (id, Present { tenant: tenant.clone(), name, epoch, idle_secs: 0 })
            };
            let present: BTreeMap<SessionId, Present> = shown.into_iter().map(present).collect();
            for (session, _, _) in to_close(&world, &self.id, &present) {
                self.sim.say(self.id.as_str(), &format!("closes {}", short(session)));
                self.leave(session);
            }
        }
    }
}
