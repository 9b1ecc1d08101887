//! Writes the audit log: what was done in the commit that does it, what was refused with the next one.

use std::sync::Arc;

use tracing::info;

use super::calling::Call;
use crate::model::audit::{AuditBlock, AuditEntry, AuditHead};
use crate::model::{Row, Step, World};
use crate::mutants::{self, Mutant};

/// Kinds of refused calls that wait for a commit; what is beyond is only counted.
const WAITING_MAX: usize = 256;
/// A block's hash is told to the log this often, so that the chain has a witness outside of the store.
const BLOCKS_PER_WITNESS: u64 = 256;

/// What is still to be written.
#[derive(Debug, Default)]
pub(super) struct Auditing {
    waiting: Vec<AuditEntry>,
    /// Entries for which there was no room.
    omitted: u32,
}

/// Calls that one commit does.
pub(super) type Done = Vec<(Arc<Call>, AuditEntry)>;

impl Auditing {
    /// Takes the entry of a call that was refused.
    pub(super) fn wait(&mut self, entry: AuditEntry) {
        metrics::counter!("vidi_controller_audit_entries_total", "result" => "refused")
            .increment(1);
        if let Some(like) = self.waiting.iter_mut().find(|one| one.is_like(&entry)) {
            like.count = like.count.saturating_add(entry.count);
        } else if self.waiting.len() < WAITING_MAX {
            self.waiting.push(entry);
        } else {
            self.omitted = self.omitted.saturating_add(entry.count);
            metrics::counter!("vidi_controller_audit_entries_total", "result" => "omitted")
                .increment(1);
        }
    }

    /// Whether something is to be written though nothing else is.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The steps that write down what is done and what waits.
    pub(super) fn steps(&self, world: &World, now_ms: i64, done: &Done) -> Vec<Step> {
        let mut entries = self.waiting.clone();
        if 0 < self.omitted {
            entries.push(AuditEntry {
                at_ms: now_ms,
                who: "controller".to_owned(),
                detail: "more refused calls than are written down".to_owned(),
                outcome: "OMITTED".to_owned(),
                count: self.omitted,
                ..AuditEntry::default()
            });
        }
        entries.extend(done.iter().map(|(_, entry)| entry.clone()));
        if entries.is_empty() {
            return Vec::new();
        }
        let before = world.audit_head;
        let chained = if mutants::on(Mutant::Unchained) {
            AuditHead { sha256: [0; 32], ..before }
        } else {
            before
        };
        let (number, block) = AuditBlock::behind(&chained, &entries);
        let head = AuditHead { number, sha256: block.sha256, ..before };
        vec![Step::Put(Row::Audit(number, block)), Step::Put(Row::AuditHead(head))]
    }

    /// What [`Self::steps`] gave is durable.
    pub(super) fn written(&mut self, world: &World, done: &Done) {
        self.waiting.clear();
        self.omitted = 0;
        for (call, _) in done {
            call.note();
            metrics::counter!("vidi_controller_audit_entries_total", "result" => "done")
                .increment(1);
        }
        let AuditHead { number, sha256, .. } = world.audit_head;
        if number.is_multiple_of(BLOCKS_PER_WITNESS) {
            let sha256: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            info!(block = number, sha256, "Audit log");
        }
    }
}
