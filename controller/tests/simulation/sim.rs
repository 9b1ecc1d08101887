//! What all actors of a run share: its seed, its time, its log, the store, and what is really so.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use vidi_controller::model::{Answer, Change, Refusal, World};
use vidi_controller::reconcile::{Call, Handle};
use vidi_kit::ids::TenantId;
use vidi_kit::{Clock, Tasks};

use crate::checker::Checker;
use crate::dice::Dice;
use crate::store::Backing;
use crate::truth::Truth;

/// When the run begins, ms since the epoch.
pub(crate) const START_MS: i64 = 1_700_000_000_000;
/// A caller waits this long for an answer.
const CALL_MS_MAX: u64 = 10_000;

/// How big a run is and how much goes wrong in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) seed: u64,
    pub(crate) controllers: u64,
    pub(crate) hosts: u64,
    pub(crate) gateways: u64,
    pub(crate) users: u64,
    /// How long things go wrong, minutes.
    pub(crate) busy_minutes: u64,
    /// Nothing goes wrong but what guests do.
    pub(crate) gentle: bool,
    /// It follows a script, and nothing is left to chance.
    pub(crate) scripted: bool,
}

impl Shape {
    /// What a seed stands for.
    pub(crate) fn of(seed: u64) -> Self {
        let dice = Dice::of(seed, "shape");
        Self {
            seed,
            controllers: 1 + dice.below(3),
            hosts: 2 + dice.below(4),
            gateways: 2 + dice.below(2),
            users: 4 + dice.below(7),
            busy_minutes: 10 + dice.below(20),
            gentle: dice.below(5) == 0,
            scripted: false,
        }
    }
}

/// What happened, line by line.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) text: String,
    /// How often each kind of fault was made.
    pub(crate) faults: BTreeMap<&'static str, u64>,
    /// Things that must not be so.
    pub(crate) violations: Vec<String>,
}

/// A controller's life, from its start to its death.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) name: String,
    /// It is gone: nothing that it still does has any effect.
    pub(crate) dead: AtomicBool,
    pub(crate) killed: Notify,
    /// It stands still.
    pub(crate) paused: AtomicBool,
    resumed: Bell,
    /// Links that were made to it.
    pub(crate) links: AtomicU64,
}

impl Life {
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            dead: AtomicBool::new(false),
            killed: Notify::new(),
            paused: AtomicBool::new(false),
            resumed: Bell::default(),
            links: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Resolves when it moves; never when it is dead.
    pub(crate) async fn moves(&self) {
        let mut heard = self.resumed.rung();
        while self.paused.load(Ordering::SeqCst) {
            self.resumed.next(&mut heard).await;
        }
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    /// It stands still, or goes on.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::SeqCst);
        self.resumed.ring();
    }

    /// Resolves when it is gone.
    pub(crate) async fn gone(&self) {
        while !self.is_dead() {
            self.killed.notified().await;
        }
    }
}

/// Wakes everybody who waits, in the order in which they began to: tokio's `watch` wakes in an order of its
/// own, and a seed would not be the same run twice.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    rung: AtomicU64,
    waiting: Notify,
}

impl Bell {
    /// How often it has rung.
    pub(crate) fn rung(&self) -> u64 {
        self.rung.load(Ordering::SeqCst)
    }

    pub(crate) fn ring(&self) {
        self.rung.fetch_add(1, Ordering::SeqCst);
        self.waiting.notify_waiters();
    }

    /// Resolves when it has rung since `heard`. Cancel-safe.
    pub(crate) async fn next(&self, heard: &mut u64) {
        while self.rung() == *heard {
            // Nothing else runs between the look and the wait: there is one thread.
            self.waiting.notified().await;
        }
        *heard = self.rung();
    }
}

/// A controller that serves.
#[derive(Clone, Debug)]
pub(crate) struct Serving {
    pub(crate) life: Arc<Life>,
    pub(crate) handle: Handle,
    news: Arc<Bell>,
}

impl Serving {
    pub(crate) fn new(life: Arc<Life>, handle: Handle, tasks: &Tasks) -> Self {
        let news = Arc::new(Bell::default());
        let (mut worlds, bell) = (handle.watch(), Arc::clone(&news));
        let _ringing = tasks.spawn("news", async move {
            while worlds.changed().await.is_ok() {
                worlds.mark_unchanged();
                bell.ring();
            }
        });
        Self { life, handle, news }
    }

    /// The newest world, and how often it had changed.
    pub(crate) fn world(&self, heard: &mut u64) -> Arc<World> {
        *heard = self.news.rung();
        self.handle.world()
    }

    /// Resolves when the world has changed since. Cancel-safe.
    pub(crate) async fn changed(&self, heard: u64) {
        self.news.next(&mut { heard }).await;
    }
}

/// Why a call gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// Nobody knows whether it was done.
    Lost,
    /// It was not done.
    Refused(Refusal),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Sim {
    pub(crate) shape: Shape,
    pub(crate) clock: Clock,
    pub(crate) tasks: Tasks,
    pub(crate) store: Backing,
    /// Controllers that serve, by name.
    pub(crate) serving: Mutex<BTreeMap<String, Serving>>,
    /// Nothing goes wrong any more, and nobody wants anything any more.
    calm: AtomicBool,
    pub(crate) calmed: Notify,
    pub(crate) violated: Notify,
    log: Mutex<Log>,
    truth: Mutex<Truth>,
    checker: Mutex<Checker>,
    /// Calls, by number.
    calls: AtomicU64,
    /// Those that were answered with success.
    pub(crate) answered: Mutex<Vec<String>>,
}

impl Sim {
    pub(crate) fn new(shape: Shape) -> Arc<Self> {
        Arc::new(Self {
            shape,
            clock: Clock::of_runtime(START_MS),
            tasks: Tasks::new(),
            store: Backing::default(),
            serving: Mutex::default(),
            calm: AtomicBool::new(false),
            calmed: Notify::new(),
            violated: Notify::new(),
            log: Mutex::default(),
            truth: Mutex::default(),
            checker: Mutex::default(),
            calls: AtomicU64::new(0),
            answered: Mutex::default(),
        })
    }

    pub(crate) fn dice(&self, name: &str) -> Dice {
        let Shape { seed, scripted, .. } = self.shape;
        if scripted { Dice::steady(seed, name) } else { Dice::of(seed, name) }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    pub(crate) fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn checker(&self) -> MutexGuard<'_, Checker> {
        self.checker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One line.
    pub(crate) fn say(&self, who: &str, what: &str) {
        let gone = self.now_ms() - START_MS;
        let (secs, ms) = (gone / 1_000, gone % 1_000);
        let (hours, minutes, secs) = (secs / 3_600, secs / 60 % 60, secs % 60);
        let mut log = self.log();
        let _fits = writeln!(log.text, "{hours:02}:{minutes:02}:{secs:02}.{ms:03} {who}: {what}");
    }

    /// A fault is made.
    pub(crate) fn fault(&self, kind: &'static str, who: &str) {
        *self.log().faults.entry(kind).or_default() += 1;
        self.say(who, kind);
    }

    /// Something is so that must not be.
    pub(crate) fn violate(&self, what: String) {
        self.say("checker", &what);
        self.log().violations.push(what);
        self.violated.notify_one();
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::SeqCst)
    }

    /// Whether something of this chance goes wrong now.
    pub(crate) fn goes_wrong(&self, dice: &Dice, permille: u64) -> bool {
        !self.shape.gentle && !self.is_calm() && dice.permille(permille)
    }

    pub(crate) fn calm_down(&self) {
        self.calm.store(true, Ordering::SeqCst);
        self.calmed.notify_waiters();
        self.say("run", "faults stop");
    }

    /// Waits for a time in between; less when the faults stop.
    pub(crate) async fn idle(&self, dice: &Dice, least_ms: u64, most_ms: u64) {
        let calmed = self.calmed.notified();
        if self.is_calm() {
            return;
        }
        // Cancel-safe: both only wait.
        tokio::select! {
            biased;
            () = calmed => {}
            () = dice.wait(least_ms, most_ms) => {}
        }
    }

    /// A controller that says that it leads.
    pub(crate) fn leader(&self, dice: &Dice) -> Option<Serving> {
        let serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        let leading: Vec<Serving> =
            serving.values().filter(|one| one.handle.standing().leading).cloned().collect();
        dice.pick(&leading).cloned()
    }

    /// Asks a controller over a network.
    pub(crate) async fn call(&self, dice: &Dice, change: Change) -> Result<Answer, CallError> {
        let Some(Serving { life, handle, .. }) = self.leader(dice) else {
            dice.wait(100, 1_000).await;
            return Err(CallError::Lost);
        };
        dice.wait(0, 5).await;
        if self.goes_wrong(dice, 10) {
            self.fault("request lost", &life.name);
            dice.wait(100, CALL_MS_MAX).await;
            return Err(CallError::Lost);
        }
        let number = self.calls.fetch_add(1, Ordering::SeqCst).to_string();
        let call = Call::new("root".to_owned(), number.clone(), "Call".to_owned());
        let asking = async {
            life.moves().await;
            let answer = call.scope(handle.change(change)).await;
            life.moves().await;
            answer
        };
        // Cancel-safe: a change that was asked for goes on without its caller.
        let answer = tokio::select! {
            biased;
            () = life.gone() => return Err(CallError::Lost),
            answer = asking => answer,
            () = dice.wait(CALL_MS_MAX, CALL_MS_MAX) => return Err(CallError::Lost),
        };
        dice.wait(0, 5).await;
        if self.goes_wrong(dice, 10) {
            self.fault("answer lost", &life.name);
            return Err(CallError::Lost);
        }
        if answer.is_ok() {
            self.answered.lock().unwrap_or_else(PoisonError::into_inner).push(number);
        }
        answer.map_err(CallError::Refused)
    }
}

/// The one tenant.
pub(crate) fn tenant() -> TenantId {
    "t".parse().unwrap()
}

/// The end of an id, for people.
pub(crate) fn short(id: impl std::fmt::Display) -> String {
    let text = id.to_string();
    text.get(text.len().saturating_sub(5)..).unwrap_or_default().to_owned()
}

/// The ends of ids.
pub(crate) fn shorts<T: std::fmt::Display>(ids: &BTreeSet<T>) -> String {
    ids.iter().map(short).collect::<Vec<_>>().join(" ")
}
