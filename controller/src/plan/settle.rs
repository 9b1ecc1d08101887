//! What follows from the state of one desktop: a place, what was observed, the end of its session
//! and its operations, its intervals of use, its own end. Looked at again and again until nothing follows.

use vidi_kit::ids::{DesktopId, OperationId, TenantId};

use super::desktops::{destroyed, follow_policy, started_again, switch_off};
use super::operations::{self, Seen};
use super::placement::charged_mib;
use super::presence::{away, disconnect_ms, gone_since, idled, outlived};
use super::rollouts;
use super::scheduler::{Wanted, place};
use super::sessions::{ended, released};
use super::usage;
use super::{doubt, hosts};
use crate::model::{
    Allocation, Desktop, EndCause, Key, Observed, Operation, OperationKind, Power, PowerEvent,
    Reason, Row, Step, World,
};
use crate::mutants::{self, Mutant};

/// Bytes of a reason that are kept; it comes from a host.
const REASON_BYTES_MAX: usize = 512;
/// Operations of one desktop that one settlement looks at, so that its steps fit one commit; the
/// rest is looked at in the next.
const OPERATIONS_MAX: usize = 64;

/// The steps that follow for one desktop, to be written in one piece; none when it is settled.
pub fn settle(world: &World, tenant: &TenantId, id: DesktopId, now_ms: i64) -> Vec<Step> {
    let mut settling = Settling { world, tenant, id, now_ms, steps: Vec::new() };
    match world.desktop(tenant, id) {
        Some(before) => {
            let mut desktop = (**before).clone();
            settling.place(&mut desktop);
            settling.observe(&mut desktop);
            doubt::settle(world, id, &mut desktop, now_ms);
            settling.reap(&mut desktop);
            settling.drain(&mut desktop);
            settling.end_session(&mut desktop);
            settling.use_once(&mut desktop);
            if settling.is_gone(&desktop) {
                settling.steps.extend(usage::follow(world, tenant, id, None, now_ms));
                settling.remove(before);
                settling.end_operations(None, None);
            } else {
                let hopeless = settling.end_operations(Some(&desktop), Some(before));
                if hopeless {
                    settling.abandon_session(&desktop);
                    settling.remove(before);
                } else {
                    let intervals = usage::follow(world, tenant, id, Some(&desktop), now_ms);
                    settling.steps.extend(intervals);
                    settling.write(before, desktop);
                }
            }
        }
        None => {
            settling.end_operations(None, None);
            settling.steps.extend(usage::follow(world, tenant, id, None, now_ms));
        }
    }
    settling.steps
}

struct Settling<'a> {
    world: &'a World,
    tenant: &'a TenantId,
    id: DesktopId,
    now_ms: i64,
    steps: Vec<Step>,
}

impl Settling<'_> {
    fn put(&mut self, row: Row) {
        self.steps.push(Step::Put(row));
    }

    /// A desktop without a host gets one, if one can take it.
    fn place(&mut self, desktop: &mut Desktop) {
        let moves = mutants::on(Mutant::SilenceIsDeath) && self.world.is_host_silent(desktop);
        if (desktop.status.host.is_some() && !moves)
            || desktop.spec.deleting
            || doubt::is_left_alone(&desktop.spec)
        {
            return;
        }
        let spec = &desktop.spec;
        let version = self.world.version(self.tenant, &spec.template, &spec.template_digest);
        let Some(version) = version else {
            desktop.status.reason = "its template's version is gone".to_owned();
            return;
        };
        let memory_mib = charged_mib(version.manifest.guest.memory_mib);
        let wanted = Wanted {
            tenant: self.tenant,
            template: &spec.template,
            pool: spec.pool,
            charge_mib: if mutants::on(Mutant::ChargesNothing) { 0 } else { memory_mib },
            starts: spec.host_power_on(),
        };
        match place(self.world, &wanted) {
            Ok(host) => {
                let allocation = Allocation { tenant: self.tenant.clone(), memory_mib };
                self.put(Row::Allocation(host.clone(), self.id, allocation));
                desktop.status.host = Some(host);
                // How long it is on its way counts from here.
                desktop.status.power_since_ms = self.now_ms;
                desktop.status.reason = String::new();
            }
            Err(why) => desktop.status.reason = why,
        }
    }

    /// Takes what its host says, if that answers the newest wish.
    fn observe(&self, desktop: &mut Desktop) {
        let Some(seen) = self.world.observed(desktop, self.id) else { return };
        if desktop.spec.deleting {
            self.take_power(desktop, seen);
            return;
        }
        if seen.generation < desktop.spec.generation {
            return;
        }
        let shut_down_by_itself = desktop.spec.host_power_on()
            && seen.power == Power::Off
            && desktop.status.observed_generation == desktop.spec.generation
            && matches!(desktop.status.power, Power::Starting | Power::Running);
        self.take_power(desktop, seen);
        desktop.status.reason = shorten(&seen.reason);
        if matches!(desktop.status.power, Power::Failed(_)) {
            desktop.status.reason = String::new();
        }
        desktop.status.acceleration.clone_from(&seen.acceleration);
        desktop.status.observed_generation = seen.generation;
        if shut_down_by_itself {
            desktop.spec.power_on = false;
            desktop.spec.generation += 1;
        }
        let rests = matches!(desktop.status.power, Power::Off | Power::Saved | Power::Failed(_));
        if desktop.spec.restarting && rests {
            started_again(desktop);
        }
    }

    /// Since when it is so the host knows best, within what is known here.
    fn take_power(&self, desktop: &mut Desktop, seen: &Observed) {
        let status = &mut desktop.status;
        let power = status.power.next(&PowerEvent::Observed(shortened(seen)));
        if power.word() != status.power.word() {
            let seen_ms = if seen.since_ms == 0 { self.now_ms } else { seen.since_ms };
            status.power_since_ms = seen_ms.max(status.power_since_ms).min(self.now_ms);
        }
        status.power = power;
    }

    /// Ends a session of which nobody wants to see the desktop any more.
    fn reap(&mut self, desktop: &mut Desktop) {
        let Some(session) = desktop.status.session else { return };
        let known = self.world.session(self.tenant, session).filter(|one| one.is_live());
        let Some(known) = known else { return };
        let since_ms = gone_since(self.world, desktop, known);
        let disconnect_ms = disconnect_ms(self.world, self.tenant, known);
        let away = since_ms.and_then(|since_ms| away(disconnect_ms, since_ms, self.now_ms));
        let cause = away
            .or_else(|| outlived(self.world, self.tenant, known, self.now_ms))
            .or_else(|| idled(self.world, self.tenant, (session, known)));
        let Some(cause) = cause else { return };
        self.put(ended(self.tenant, session, known, cause, self.now_ms));
        if let Some(status) = released(desktop, session) {
            desktop.status = status;
            let policy = self.world.release_policy(self.tenant, &desktop.spec);
            follow_policy(desktop, policy, self.now_ms);
        }
    }

    /// A host that is drained has its desktops switched off: those in use when their session has ended,
    /// unless it cannot wait.
    fn drain(&mut self, desktop: &mut Desktop) {
        let Some(host) = hosts::draining(self.world, desktop) else { return };
        if desktop.spec.deleting {
            return;
        }
        if let Some(session) = desktop.status.session {
            let known = self.world.session(self.tenant, session).filter(|one| one.is_live());
            if known.is_some() && !host.stop_in_use {
                return;
            }
            if let Some(known) = known {
                let cause = EndCause::HostServiced;
                self.put(ended(self.tenant, session, known, cause, self.now_ms));
            }
            if let Some(status) = released(desktop, session) {
                desktop.status = status;
            }
        }
        switch_off(desktop, self.now_ms);
    }

    /// A session ends with its desktop: when that is deleted, off or failed.
    fn end_session(&mut self, desktop: &mut Desktop) {
        let Some(session) = desktop.status.session else { return };
        let known = self.world.session(self.tenant, session).filter(|one| one.is_live());
        if let Some(known) = known {
            let Some(cause) = ends_sessions(desktop) else { return };
            if cause == EndCause::Failed {
                let (world, of) = (self.world, (self.id, &*desktop));
                self.steps.extend(rollouts::failed_in_use(world, self.tenant, of, self.now_ms));
            }
            self.put(ended(self.tenant, session, known, cause, self.now_ms));
        }
        if let Some(status) = released(desktop, session) {
            desktop.status = status;
        }
    }

    /// A desktop of a floating pool goes with its user, whatever ended the session.
    fn use_once(&self, desktop: &mut Desktop) {
        let used = desktop.spec.assigned_user.is_some() && desktop.status.session.is_none();
        if used && desktop.spec.is_single_use() && !desktop.spec.deleting && !desktop.spec.restored
        {
            if mutants::on(Mutant::HandsOn) {
                desktop.spec.assigned_user = None;
                return;
            }
            destroyed(desktop, self.now_ms);
        }
    }

    /// The session of a desktop that is undone, where it has not ended for another reason just now.
    fn abandon_session(&mut self, desktop: &Desktop) {
        let Some(session) = desktop.status.session else { return };
        let known = self.world.session(self.tenant, session).filter(|one| one.is_live());
        if let Some(known) = known {
            self.put(ended(self.tenant, session, known, EndCause::NoHost, self.now_ms));
        }
    }

    /// Whether a desktop that is deleted has left its host: only the host's whole word counts.
    fn is_gone(&self, desktop: &Desktop) -> bool {
        if !desktop.spec.deleting {
            return false;
        }
        let Some(host) = &desktop.status.host else { return true };
        if mutants::on(Mutant::GoneAtOnce) {
            return true;
        }
        let live = self.world.hosts_live.get(host).filter(|live| live.is_linked());
        live.and_then(|live| live.report.as_ref()).is_some_and(|report| {
            // A report from before the order would not have it either, if it was made just now.
            let key = (self.tenant.clone(), self.id);
            let ordered = self.world.deleting.get(&key).map_or(u64::MAX, |since| **since);
            let answers = report.wanted_received && ordered <= report.wanted_number;
            answers && !report.desktops.contains_key(&self.id)
        })
    }

    /// Removes every key of the desktop.
    fn remove(&mut self, desktop: &Desktop) {
        // What was decided before about the rows that go now is void.
        let id = self.id;
        self.steps.retain(|step| match step.key() {
            Key::Allocation(_, of) | Key::Spec(_, of) | Key::Status(_, of) => of != id,
            _ => true,
        });
        self.steps.push(Step::Delete(Key::Spec(self.tenant.clone(), id)));
        self.steps.push(Step::Delete(Key::Status(self.tenant.clone(), id)));
        if let Some(host) = &desktop.status.host {
            self.steps.push(Step::Delete(Key::Allocation(host.clone(), id)));
        }
    }

    /// Ends the operations that are at their end. Answers whether the desktop must be undone: it
    /// was to be made and there is no host for it.
    fn end_operations(&mut self, desktop: Option<&Desktop>, before: Option<&Desktop>) -> bool {
        if desktop.is_none() && mutants::on(Mutant::OperationsGoOn) {
            return false;
        }
        let ready = desktop.is_some_and(|desktop| self.world.is_ready(desktop, self.id));
        let host_silent = before.is_some_and(|before| self.world.is_host_silent(before));
        let seen = Seen { desktop, ready, host_silent, now_ms: self.now_ms };
        let open = self.world.operations_open(self.tenant, self.id);
        let judged: Vec<(OperationId, Operation)> = open
            .iter()
            .take(OPERATIONS_MAX)
            .map(|(id, operation)| (*id, operations::judged(operation, seen)))
            .collect();
        let hopeless = judged.iter().any(|(_, operation)| {
            operation.kind == OperationKind::Create
                && matches!(&operation.end, Some((_, Err(error))) if error.reason == Reason::NoHost)
        });
        let gone = Seen { desktop: None, ..seen };
        for ((id, before), (_, mut after)) in open.iter().zip(judged) {
            if hopeless && after.end.is_none() {
                after = operations::judged(before, gone);
            }
            if **before != after {
                self.put(Row::Operation(*id, after));
            }
        }
        hopeless
    }

    fn write(&mut self, before: &Desktop, after: Desktop) {
        if after.spec != before.spec {
            self.put(Row::Spec(self.tenant.clone(), self.id, after.spec));
        }
        if after.status != before.status {
            self.put(Row::Status(self.tenant.clone(), self.id, after.status));
        }
    }
}

/// Why the state of a desktop ends a session on it; none where it does not.
fn ends_sessions(desktop: &Desktop) -> Option<EndCause> {
    let Desktop { spec, status } = desktop;
    if spec.deleting {
        return Some(EndCause::Destroyed);
    }
    match status.power {
        Power::Off | Power::Saved if !spec.power_on => Some(EndCause::SwitchedOff),
        Power::Failed(_) if !spec.power_on || spec.generation <= status.observed_generation => {
            Some(EndCause::Failed)
        }
        Power::Preparing
        | Power::Off
        | Power::Starting
        | Power::Running
        | Power::Saved
        | Power::Failed(_) => None,
    }
}

fn shortened(seen: &Observed) -> Power {
    match &seen.power {
        Power::Failed(reason) => Power::Failed(shorten(reason)),
        power => power.clone(),
    }
}

fn shorten(text: &str) -> String {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}
