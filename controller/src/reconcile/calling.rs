//! On whose behalf a change is asked for: known to whatever runs for a call, and written down with what
//! the call changes.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::model::about::{About, about};
use crate::model::audit::{AuditEntry, OK};
use crate::model::{Answer, Change, Row, Step};
use vidi_kit::trace::TraceId;

tokio::task_local! {
    static CURRENT: Arc<Call>;
}

/// A call that may change something.
#[derive(Debug, Default)]
pub struct Call {
    who: String,
    address: String,
    method: String,
    /// It was written down.
    noted: AtomicBool,
    /// What it is about, as soon as that is known.
    about: Mutex<About>,
}

impl Call {
    /// By whom, from where, which. Who is not known yet is empty.
    pub fn new(who: String, address: String, method: String) -> Arc<Self> {
        Arc::new(Self { who, address, method, ..Self::default() })
    }

    /// Runs `work` for this call.
    pub async fn scope<F: Future>(self: Arc<Self>, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// For which call this runs; a task that was spawned has forgotten it.
    pub(super) fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Keeps what the call is about before it is asked for.
    pub(super) fn asks(&self, change: &Change) {
        *self.about.lock().unwrap_or_else(PoisonError::into_inner) = about(change);
    }

    /// Keeps the resource that a call is about which is refused before it asks for anything.
    pub fn refused_about(target: impl FnOnce() -> String) {
        let _no_call = CURRENT.try_with(|call| {
            call.about.lock().unwrap_or_else(PoisonError::into_inner).target = target();
        });
    }

    /// The entry of a call that was done.
    pub(super) fn done(
        &self,
        now_ms: i64,
        trace: Option<TraceId>,
        (answer, steps): (&Answer, &[Step]),
    ) -> AuditEntry {
        let mut entry = self.entry(now_ms, trace, OK.to_owned());
        match answer {
            Answer::Session(_, session) if entry.target.contains("/apps/") => {
                entry.detail = format!("session {session}");
            }
            Answer::Operation(_) => {
                let begun = steps.iter().find_map(|step| match step {
                    Step::Put(Row::Operation(_, one)) => Some(one),
                    _ => None,
                });
                if let Some(one) = begun {
                    entry.target = format!("tenants/{}/desktops/{}", one.tenant, one.desktop);
                }
            }
            Answer::Machine(machine) => entry.target = format!("{}/{machine}", entry.target),
            Answer::EnrollId(id) => entry.detail = format!("{} as {id}", entry.detail),
            _ => {}
        }
        entry
    }

    /// The entry of a call that was refused for this reason; none when it was written down, or nobody
    /// knows who asked: strangers must not fill the log.
    pub fn refused(
        &self,
        now_ms: i64,
        trace: Option<TraceId>,
        reason: String,
    ) -> Option<AuditEntry> {
        let known = !self.who.is_empty() && !self.noted.load(Ordering::SeqCst);
        known.then(|| self.entry(now_ms, trace, reason))
    }

    /// It is written down.
    pub(super) fn note(&self) {
        self.noted.store(true, Ordering::SeqCst);
    }

    fn entry(&self, at_ms: i64, trace: Option<TraceId>, outcome: String) -> AuditEntry {
        let About { target, detail, who } =
            self.about.lock().unwrap_or_else(PoisonError::into_inner).clone();
        AuditEntry {
            at_ms,
            who: if self.who.is_empty() { who } else { self.who.clone() },
            address: self.address.clone(),
            method: self.method.clone(),
            target,
            detail,
            outcome,
            count: 1,
            trace: trace.map(|trace| trace.to_string()).unwrap_or_default(),
        }
    }
}
