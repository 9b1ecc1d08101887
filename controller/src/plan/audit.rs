//! What of the audit log is old enough to go. The chain keeps its end: the hash of the newest block that
//! was dropped.

use super::expiry::KEPT_MS;
use crate::model::audit::{AUDIT_BYTES_MAX, AuditHead};
use crate::model::{Key, Row, Step, World};

/// Blocks are kept this long: as long as hours used, with which they are compared.
pub const AUDIT_KEPT_MS: i64 = 400 * KEPT_MS;

/// At most `steps_max` steps; the next round takes the rest.
pub fn dropped(world: &World, now_ms: i64, steps_max: usize) -> Vec<Step> {
    dropped_over(AUDIT_BYTES_MAX, world, now_ms, steps_max)
}

fn dropped_over(bytes_max: u64, world: &World, now_ms: i64, steps_max: usize) -> Vec<Step> {
    let mut bytes = world.audit_bytes;
    let mut head = world.audit_head;
    let mut steps = Vec::new();
    for (number, block) in world.audit.iter().take(steps_max.saturating_sub(1)) {
        let since_ms = block.entries().next_back().map_or(0, |entry| entry.at_ms);
        let old = AUDIT_KEPT_MS <= now_ms.saturating_sub(since_ms);
        // The newest stays: the next one is chained to it.
        if !(old || bytes_max < bytes) || *number == head.number {
            break;
        }
        bytes = bytes.saturating_sub(block.bytes());
        head = AuditHead { base_number: *number, base_sha256: block.sha256, ..head };
        steps.push(Step::Delete(Key::Audit(*number)));
    }
    if !steps.is_empty() {
        steps.push(Step::Put(Row::AuditHead(head)));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::audit::{AuditBlock, AuditEntry};

    fn record(world: &mut World, at_ms: i64, detail: &str) {
        let entry = AuditEntry { at_ms, detail: detail.to_owned(), ..AuditEntry::default() };
        let entries = vec![entry; 20];
        let (number, block) = AuditBlock::behind(&world.audit_head, &entries);
        let head = AuditHead { number, sha256: block.sha256, ..world.audit_head };
        world.put(Row::Audit(number, block));
        world.put(Row::AuditHead(head));
    }

    #[test]
    fn the_oldest_go_by_age_and_by_size_and_the_chain_goes_on_from_the_last_of_them() {
        let mut world = World::default();
        for at_ms in 1..=5 {
            record(&mut world, at_ms, "x");
        }
        assert_eq!(dropped(&world, AUDIT_KEPT_MS, 100), []);
        let steps = dropped(&world, AUDIT_KEPT_MS + 2, 100);
        assert_eq!(steps.len(), 3, "two blocks and the head");
        steps.into_iter().for_each(|step| world.apply(step));
        let (first, block) = world.audit.iter().next().unwrap();
        assert_eq!((*first, block.previous), (3, world.audit_head.base_sha256));
        assert_eq!(world.audit_head.base_number, 2);
        let all = dropped(&world, i64::MAX, 100);
        assert_eq!(all.len(), 3, "the newest stays");
        assert_eq!(dropped(&world, i64::MAX, 2).len(), 2, "one at a time");
        let bytes_max = world.audit_bytes - 1;
        let steps = dropped_over(bytes_max, &world, 7, 100);
        assert_eq!(steps.len(), 2, "one block and the head");
        steps.into_iter().for_each(|step| world.apply(step));
        assert!(world.audit_bytes <= bytes_max);
        let counted: u64 = world.audit.values().map(|block| block.bytes()).sum();
        assert_eq!(counted, world.audit_bytes);
    }
}
