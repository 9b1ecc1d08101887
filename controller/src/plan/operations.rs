//! When an operation on a desktop has ended, and how; otherwise where it is.

use crate::model::{Desktop, Operation, OperationError, OperationKind, Power, Reason};

/// A new desktop waits this long for a host.
pub const HOST_WAIT_MS_MAX: i64 = 10 * 60 * 1_000;
/// An operation that waits longer than this for its host or guest has failed. A first start may
/// fetch an image of tens of GiB. Deletions alone wait until their host is back.
pub const OPERATION_MS_MAX: i64 = 60 * 60 * 1_000;

/// What an operation is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The desktop, with its newest observation; none when it is gone.
    pub desktop: Option<&'a Desktop>,
    /// It is ready.
    pub ready: bool,
    /// Its host has not been heard for more than the grace time.
    pub host_silent: bool,
    /// Now, ms since the epoch.
    pub now_ms: i64,
}

/// The operation as it is now.
pub fn judged(operation: &Operation, seen: Seen<'_>) -> Operation {
    let mut next = operation.clone();
    match verdict(operation, seen) {
        Verdict::Goes(stage) => next.stage = stage,
        Verdict::Done => {
            next.stage = "done".to_owned();
            next.end = Some((seen.now_ms, Ok(())));
        }
        Verdict::Failed(reason, message) => {
            next.stage = "failed".to_owned();
            next.end = Some((seen.now_ms, Err(OperationError { reason, message })));
        }
    }
    next
}

enum Verdict {
    Goes(String),
    Done,
    Failed(Reason, String),
}

fn verdict(operation: &Operation, seen: Seen<'_>) -> Verdict {
    let Some(desktop) = seen.desktop else {
        return match operation.kind {
            // What was destroyed is off.
            OperationKind::Delete | OperationKind::Stop => Verdict::Done,
            OperationKind::Create | OperationKind::Start | OperationKind::Restart => {
                Verdict::Failed(Reason::NotFound, "the desktop was deleted".to_owned())
            }
        };
    };
    if operation.kind == OperationKind::Delete {
        return Verdict::Goes(stage(desktop, seen));
    }
    if desktop.spec.deleting && operation.kind != OperationKind::Stop {
        let message = "the desktop is being deleted: make another one".to_owned();
        return Verdict::Failed(Reason::WrongState, message);
    }
    let wanted_on = match operation.kind {
        OperationKind::Create | OperationKind::Delete => desktop.spec.power_on,
        OperationKind::Start | OperationKind::Restart => true,
        OperationKind::Stop => false,
    };
    if wanted_on != desktop.spec.power_on {
        let message = if wanted_on {
            "it was switched off meanwhile: start it again if it is still needed"
        } else {
            "it was started meanwhile: stop it again if it is not needed"
        };
        return Verdict::Failed(Reason::WrongState, message.to_owned());
    }
    let answered = desktop.spec.generation <= desktop.status.observed_generation;
    // While it restarts, off is only half of the way.
    if answered && !desktop.spec.restarting {
        match &desktop.status.power {
            Power::Failed(reason) => return Verdict::Failed(Reason::WrongState, reason.clone()),
            Power::Running if wanted_on && seen.ready => return Verdict::Done,
            Power::Off | Power::Saved if !wanted_on => return Verdict::Done,
            Power::Preparing | Power::Off | Power::Starting | Power::Running | Power::Saved => {}
        }
    }
    let age_ms = seen.now_ms.saturating_sub(operation.create_ms);
    if desktop.status.host.is_none() && HOST_WAIT_MS_MAX <= age_ms {
        return Verdict::Failed(Reason::NoHost, desktop.status.reason.clone());
    }
    if OPERATION_MS_MAX <= age_ms {
        return if seen.host_silent {
            let message = "its host has not answered for too long: see to the agent there";
            Verdict::Failed(Reason::HostUnreachable, message.to_owned())
        } else {
            let message = "it took too long: look at the desktop's reason and its host's problems";
            Verdict::Failed(Reason::WrongState, message.to_owned())
        };
    }
    Verdict::Goes(stage(desktop, seen))
}

/// Where it is, for people.
fn stage(desktop: &Desktop, seen: Seen<'_>) -> String {
    let Some(host) = &desktop.status.host else {
        return format!("waits for a host: {}", desktop.status.reason);
    };
    if seen.host_silent {
        return format!("waits for host {host}, which does not answer");
    }
    if desktop.spec.deleting {
        return format!("host {host} removes it");
    }
    if desktop.status.observed_generation < desktop.spec.generation {
        return format!("sent to host {host}");
    }
    let doing = match &desktop.status.power {
        Power::Preparing => "host prepares it",
        _ if desktop.spec.restarting => "waits for the guest to shut down, then starts it again",
        Power::Running if desktop.spec.power_on => "waits for the guest",
        Power::Running => "waits for the guest to shut down",
        Power::Starting | Power::Off | Power::Saved | Power::Failed(_) if desktop.spec.power_on => {
            "host starts it"
        }
        Power::Starting | Power::Off | Power::Saved | Power::Failed(_) => "host stops it",
    };
    if desktop.status.reason.is_empty() {
        doing.to_owned()
    } else {
        format!("{doing}: {}", desktop.status.reason)
    }
}
