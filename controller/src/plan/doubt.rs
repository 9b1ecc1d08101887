//! Desktops of a backup that was restored: what has become of them since is not known, so nothing is done
//! to them that cannot be undone, until their host or somebody says what they are.
//!
//! ```text
//!  wanted on ────────▶ its host is told so and answers ──────────▶ known again
//!  wanted off ───────▶ its host is not told of it ── somebody acts ─▶ known again
//!  free, of a pool ──▶ its host is not told of it, nobody gets it; gone if its host does not have it
//! ```
//! A desktop that was free then may be somebody's by now, with that person's work on it.

use vidi_kit::ids::DesktopId;

use super::desktops::destroyed;
use crate::model::{Desktop, DesktopSpec, World};

/// What its host is not told of: it neither starts it nor ends it, and calls it unknown if it has it.
pub(super) const fn is_left_alone(spec: &DesktopSpec) -> bool {
    spec.restored && !spec.deleting && (!spec.power_on || is_spare(spec))
}

/// Nobody had it, and anybody of its pool was to get it.
const fn is_spare(spec: &DesktopSpec) -> bool {
    spec.pool.is_some() && spec.assigned_user.is_none()
}

/// Whether it may be somebody's by now whom the backup does not know: nothing makes it everybody's.
pub(super) const fn may_be_anybodys(spec: &DesktopSpec) -> bool {
    spec.restored && !spec.deleting && is_spare(spec)
}

/// The desktop as it is when somebody says what shall be of it; none where nothing was in doubt.
pub(super) fn decided_anew(desktop: &Desktop) -> Option<Desktop> {
    let mut desktop = desktop.spec.restored.then(|| desktop.clone())?;
    desktop.spec.restored = false;
    desktop.spec.generation += 1;
    Some(desktop)
}

/// What its host says makes it known again: that it is as it is wanted, or that there is no such thing.
pub(super) fn settle(world: &World, id: DesktopId, desktop: &mut Desktop, now_ms: i64) {
    if !desktop.spec.restored || desktop.spec.deleting {
        return;
    }
    if is_spare(&desktop.spec) {
        if is_nowhere(world, id, desktop) {
            destroyed(desktop, now_ms);
        }
        return;
    }
    let answered =
        world.observed(desktop, id).is_some_and(|seen| desktop.spec.generation <= seen.generation);
    // One that is for a single user is that user's until it is opened or deleted.
    if answered && !desktop.spec.is_single_use() {
        desktop.spec.restored = false;
    }
}

/// Whether the host where it was placed says that it has none, or it was never placed.
fn is_nowhere(world: &World, id: DesktopId, desktop: &Desktop) -> bool {
    let Some(host) = &desktop.status.host else { return true };
    let live = world.hosts_live.get(host).filter(|live| live.is_linked());
    live.and_then(|live| live.report.as_ref()).is_some_and(|report| {
        report.wanted_received
            && !report.unknown.contains(&id)
            && !report.desktops.contains_key(&id)
    })
}
