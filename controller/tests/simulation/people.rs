//! Users: they sign in, open what is on their menu, work, vanish and come back.

use std::sync::Arc;
use std::time::Duration;

use vidi_controller::model::{
    Answer, Change, EndCause, Place, Refusal, RequestKey, SignIn, UsageKind, World,
};
use vidi_kit::ids::{AppId, SessionId, UserId};

use crate::dice::Dice;
use crate::gateways::Gateway;
use crate::sim::{CallError, Sim, short, tenant};

/// A user asks for the picture again and again for this long, ms.
const PATIENCE_MS: i64 = 300_000;
/// Who follows a script clicks again after this.
const CLICKS_AGAIN: Duration = Duration::from_secs(30);

/// One user.
pub(crate) struct Person {
    sim: Arc<Sim>,
    user: UserId,
    dice: Dice,
    gateways: Vec<Arc<Gateway>>,
    token: String,
    tokens: u64,
}

impl Person {
    pub(crate) fn begin(sim: &Arc<Sim>, name: &str, gateways: &[Arc<Gateway>]) {
        let mut person = Self::new(sim, name, gateways);
        let _lives = sim.tasks.spawn("person", async move { person.live().await });
    }

    /// Somebody who does nothing by himself.
    pub(crate) fn new(sim: &Arc<Sim>, name: &str, gateways: &[Arc<Gateway>]) -> Self {
        Self {
            sim: Arc::clone(sim),
            user: name.parse().unwrap(),
            dice: sim.dice(name),
            gateways: gateways.to_vec(),
            token: String::new(),
            tokens: 0,
        }
    }

    /// Opens a pool and looks at its picture until somebody ends this.
    pub(crate) async fn stay(&mut self, pool: AppId) {
        while self.token.is_empty() && !self.sign_in().await {
            self.dice.wait(1_000, 1_000).await;
        }
        loop {
            if let Some(session) = self.open(pool.clone()).await {
                // Cancel-safe: who has had enough of waiting clicks again.
                while let Ok(Some(_)) = tokio::time::timeout(CLICKS_AGAIN, self.seek(session)).await
                {
                    self.work(session, i64::MAX).await;
                }
            }
            self.dice.wait(1_000, 1_000).await;
        }
    }

    async fn live(&mut self) {
        while !self.sim.is_calm() {
            self.sim.idle(&self.dice, 1_000, 90_000).await;
            if self.token.is_empty() && !self.sign_in().await {
                continue;
            }
            let Some(app) = self.choose() else { continue };
            if let Some(session) = self.open(app).await {
                self.visit(session).await;
            }
        }
    }

    async fn sign_in(&mut self) -> bool {
        self.tokens += 1;
        let token = format!("{}-{}", self.user, self.tokens);
        let now_ms = self.sim.now_ms();
        let record = SignIn {
            tenant: tenant(),
            user: self.user.clone(),
            create_ms: now_ms,
            expire_ms: now_ms + 24 * 3_600_000,
        };
        let change = Change::CreateSignIn { token_sha256: token.clone(), record };
        let signed_in = self.sim.call(&self.dice, change).await.is_ok();
        if signed_in {
            self.token = token;
        }
        signed_in
    }

    /// Something on the menu.
    fn choose(&self) -> Option<AppId> {
        let world = self.sim.leader(&self.dice)?.handle.world();
        let apps: Vec<AppId> = menu(&world, &self.user);
        self.dice.pick(&apps).cloned()
    }

    async fn open(&self, app: AppId) -> Option<SessionId> {
        const TRIES_MAX: u64 = 6;
        let id = format!("{}-{}", self.user, self.dice.below(u64::MAX));
        let request = self.dice.permille(700).then_some(RequestKey {
            id,
            body_sha256: [7; 32],
            by: format!("tenants/t/users/{}", self.user),
        });
        for _ in 0..TRIES_MAX {
            let (tenant, user) = (tenant(), self.user.clone());
            let (app, request) = (app.clone(), request.clone());
            match self.sim.call(&self.dice, Change::OpenApp { tenant, app, user, request }).await {
                Ok(Answer::Session(_, session)) => {
                    self.sim.say(self.user.as_str(), &format!("opens {}", short(session)));
                    return Some(session);
                }
                Ok(other) => unreachable!("{other:?}"),
                Err(CallError::Lost) => {}
                Err(CallError::Refused(refusal)) if passes(&refusal) => {}
                Err(CallError::Refused(_)) => return None,
            }
            self.dice.wait(200, 3_000).await;
        }
        None
    }

    /// Until the user has had enough of it.
    async fn visit(&mut self, session: SessionId) {
        const STAYS_MAX: u64 = 4;
        for _ in 0..STAYS_MAX {
            let Some(gateway) = self.seek(session).await else { break };
            let wanted_ms = self.sim.now_ms() + self.dice.ms(5_000, 600_000);
            let stayed = self.work(session, wanted_ms).await;
            gateway.leave(session);
            if self.sim.is_calm() || (stayed && self.dice.permille(600)) {
                break;
            }
            if stayed {
                // Home and back, or to another browser.
                self.sim.idle(&self.dice, 500, 240_000).await;
            }
        }
        if self.dice.permille(400) {
            let (tenant, cause) = (tenant(), EndCause::Released);
            let change = Change::ReleaseSession { tenant, session, cause };
            drop(self.sim.call(&self.dice, change).await);
        }
    }

    /// Asks for the picture until it is there.
    async fn seek(&mut self, session: SessionId) -> Option<Arc<Gateway>> {
        let until_ms = self.sim.now_ms() + PATIENCE_MS;
        while self.sim.now_ms() < until_ms && !self.sim.is_calm() {
            let alive: Vec<Arc<Gateway>> =
                self.gateways.iter().filter(|one| one.is_alive()).cloned().collect();
            if let Some(gateway) = self.dice.pick(&alive) {
                match gateway.attach(session, (&self.user, &self.token)).await {
                    Ok(true) => return Some(Arc::clone(gateway)),
                    Ok(false) | Err(CallError::Lost) => {}
                    Err(CallError::Refused(Refusal::SignedOut)) => {
                        self.token.clear();
                        return None;
                    }
                    Err(CallError::Refused(Refusal::NotFound { .. })) => return None,
                    Err(CallError::Refused(_)) => {}
                }
            }
            self.dice.wait(1_000, 4_000).await;
        }
        None
    }

    /// Whether the picture was there till the end.
    async fn work(&self, session: SessionId, until_ms: i64) -> bool {
        while self.sim.now_ms() < until_ms && !self.sim.is_calm() {
            self.dice.wait(400, 1_500).await;
            let mut truth = self.sim.truth();
            let Some(attached) = truth.attached.get(&session).cloned() else { return false };
            let runs = truth.machines.values().any(|machine| {
                machine.domains.get(&attached.desktop).is_some_and(|domain| domain.runs())
            });
            if !runs {
                // The desktop is gone from under it: its gateway seeks it again.
                let now_ms = self.sim.now_ms();
                truth.detach(session, now_ms);
                truth.doubt(attached.desktop, UsageKind::Connected, 15_000);
                return false;
            }
        }
        true
    }
}

/// What a user may open.
fn menu(world: &World, user: &UserId) -> Vec<AppId> {
    let own = |place: Place| match place {
        Place::Desktop(id) => world
            .desktop(&tenant(), id)
            .is_some_and(|desktop| world.desktop_is_for(&tenant(), id, desktop, user)),
        Place::Pool(id) => world
            .pool(&tenant(), id)
            .is_some_and(|pool| world.pool_is_for(&tenant(), id, pool, user)),
        Place::Machine(_) => false,
    };
    world.apps.iter().filter(|(_, place)| own(***place)).map(|((_, app), _)| app.clone()).collect()
}

/// A later try may succeed.
fn passes(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::StoreUnavailable(_) | Refusal::NotLeader | Refusal::Busy)
}
