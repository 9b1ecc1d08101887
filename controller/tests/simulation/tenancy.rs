//! What must hold of a tenant with every commit: its quota, and the record of who asked for what.

use std::collections::BTreeMap;

use vidi_controller::model::audit::AuditBlock;
use vidi_controller::model::quota::Amounts;

use crate::checker::Checker;
use crate::sim::{Sim, tenant};

impl Checker {
    /// No quota is exceeded by anything that was just added.
    pub(crate) fn check_quota(&mut self) {
        let after = self.counted();
        let before = std::mem::replace(&mut self.amounts, after);
        if after != self.world.quota_used(&tenant()) {
            self.finds("I9: what a tenant has is counted wrong".to_owned());
        }
        let quota = self.world.quota(&tenant()).cloned().unwrap_or_default();
        // What was decided before the quota was changed may be written in the same commit.
        let earlier = std::mem::replace(&mut self.quota, quota.clone());
        for (kind, limit) in quota.limits {
            let (before, after) = (before.get(kind), after.get(kind));
            let within = earlier.limits.get(&kind).is_none_or(|limit| after <= *limit);
            if limit < after && before < after && !within {
                self.finds(format!("I9: quota of {limit} {}: {after} are there", kind.words()));
            }
        }
    }

    /// Counted anew, one by one.
    fn counted(&self) -> Amounts {
        let tenant = tenant();
        let desktops = self.world.desktops.values().fold(Amounts::default(), |sum, one| {
            let spec = &one.spec;
            let version = self.world.version(&tenant, &spec.template, &spec.template_digest);
            sum.plus(Amounts::of_desktop(spec, version.map(|one| &one.manifest.guest)))
        });
        let sessions = self.world.sessions.values().filter(|one| one.is_live()).count();
        Amounts { sessions: u64::try_from(sessions).unwrap(), ..desktops }
    }

    /// A block is the one that follows, with the hash of the one before.
    pub(crate) fn judge_audit(&mut self, number: u64, block: &AuditBlock) {
        let before = self.world.audit.last().map(|(number, block)| (*number, block.sha256));
        let (last, sha256) = before.unwrap_or_default();
        if number != last + 1 || block.previous != sha256 || !block.is_whole(number) {
            self.finds(format!("I10: block {number} is not chained to block {last}"));
        }
    }

    /// The head is the newest block's.
    pub(crate) fn check_audit(&mut self) {
        let newest = self.world.audit.last().map(|(number, block)| (*number, block.sha256));
        let head = self.world.audit_head;
        if newest.unwrap_or_default() != (head.number, head.sha256) {
            self.finds(format!("I10: the head is block {}", head.number));
        }
    }
}

/// Whether every call that was answered with success is recorded, once. What nobody got an answer to may be.
pub(crate) fn unrecorded(sim: &Sim) -> Vec<String> {
    let answered = sim.answered.lock().unwrap().clone();
    let checker = sim.checker();
    let mut recorded = BTreeMap::<String, u32>::new();
    for block in checker.world.audit.values() {
        for entry in block.entries() {
            *recorded.entry(entry.address).or_default() += entry.count;
        }
    }
    let times = |call: &String| recorded.get(call).copied().unwrap_or(0);
    let wrong = answered.iter().filter(|call| times(call) != 1);
    wrong.map(|call| format!("I10: call {call} is recorded {} times", times(call))).collect()
}
