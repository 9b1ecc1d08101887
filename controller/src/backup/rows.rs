//! What an entry of a backup becomes in a store that it is restored into: the same, except where what was
//! true then would do harm now.

use bytes::Bytes;
use vidi_proto::store::v1::BackupEntry;

use crate::model::{
    EndCause, Host, OperationError, Presence, Reason, RolloutState, Row, Session, SessionEvent,
};
use crate::ports::Write;
use crate::records::{self, RecordError};

/// Generations go on so far behind those of the backup: no store was ever changed so often since, so what
/// hosts and callers remember is never taken for what comes.
const GENERATIONS_AHEAD: u64 = 1_000_000;
/// Why sessions and operations of a backup have ended.
const WHY: &str = "the store was restored from a backup";
/// Keys that are not restored. Sign-ins and tokens may have been revoked or used since; a request that is
/// repeated now was answered by another store; who leads is not in a backup.
const LEFT_OUT: [&str; 4] = ["signin/", "enroll/", "request/", "leader"];

/// The write that restores an entry; none for what is left out.
pub(super) fn restored(entry: BackupEntry, now_ms: i64) -> Result<Option<Write>, RecordError> {
    let BackupEntry { key, value } = entry;
    if LEFT_OUT.iter().any(|prefix| key.starts_with(prefix)) || key == super::RESTORED_KEY {
        return Ok(None);
    }
    let value = match records::row(&key, &value, now_ms)?.and_then(|row| changed(row, now_ms)) {
        Some(row) => records::value(&row),
        None => Bytes::from(value),
    };
    Ok(Some(Write::put(key, value)))
}

/// The row as it is from now on; none where that is as it was.
fn changed(row: Row, now_ms: i64) -> Option<Row> {
    Some(match row {
        Row::Spec(tenant, id, mut spec) if !spec.deleting => {
            spec.restored = true;
            // Nothing is unplugged or restarted because it was to be once.
            (spec.force_off, spec.restarting) = (false, false);
            spec.generation = spec.generation.saturating_add(GENERATIONS_AHEAD);
            Row::Spec(tenant, id, spec)
        }
        Row::Status(tenant, id, mut status) => {
            status.session = None;
            Row::Status(tenant, id, status)
        }
        Row::Session(tenant, id, one) if one.is_live() => {
            let end = SessionEvent::End(EndCause::Told(WHY.to_owned()));
            let presence: Presence = one.presence.next(&end);
            Row::Session(tenant, id, Session { presence, since_ms: now_ms, ..one })
        }
        Row::Operation(id, mut one) if one.end.is_none() => {
            let error = OperationError { reason: Reason::WrongState, message: WHY.to_owned() };
            one.end = Some((now_ms, Err(error)));
            Row::Operation(id, one)
        }
        // What goes on by itself over many desktops is begun again by somebody who has looked.
        Row::Rollout(tenant, id, mut one) if one.state == RolloutState::Running => {
            (one.state, one.reason) = (RolloutState::Paused, WHY.to_owned());
            Row::Rollout(tenant, id, one)
        }
        Row::Batch(id, mut one) if one.end_ms.is_none() => {
            (one.cancelled, one.all_begun, one.end_ms) = (true, true, Some(now_ms));
            one.open.clear();
            Row::Batch(id, one)
        }
        // What was being emptied then may be in use again; that nothing is placed there does no harm.
        Row::Host(host, one) => {
            let removing = std::collections::BTreeSet::new();
            Row::Host(host, Host { draining: false, stop_in_use: false, removing, ..one })
        }
        Row::Pool(tenant, id, mut one) => {
            one.generation = one.generation.saturating_add(GENERATIONS_AHEAD);
            Row::Pool(tenant, id, one)
        }
        Row::Machine(tenant, id, mut one) => {
            one.generation = one.generation.saturating_add(GENERATIONS_AHEAD);
            Row::Machine(tenant, id, one)
        }
        _as_it_was => return None,
    })
}
