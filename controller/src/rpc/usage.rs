//! Hours used: the intervals of use, summed per desktop and user.

use std::collections::BTreeMap;

use prost_types::Timestamp;
use tonic::{Request, Response, Status};
use vidi_kit::ids::{DesktopId, MachineId, TenantId, UserId};
use vidi_proto::v1::usage_service_server::UsageService;
use vidi_proto::v1::{ListUsageRequest, ListUsageResponse, Usage};

use super::Parts;
use super::authorization::Access;
use super::caller::Caller;
use super::names;
use super::page::Query;
use super::status::{invalid_field, not_allowed, not_found};
use super::users::timestamp;
use super::wire::{child, desktop_name, machine_name};
use crate::model::{Presence, UsageInterval, UsageKey, UsageKind, World};
use crate::plan::usage::attached_until;

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// The service.
#[derive(Debug)]
pub struct UsageRpc {
    parts: Parts,
}

impl UsageRpc {
    /// Over these parts.
    pub fn new(parts: &Parts) -> Self {
        Self { parts: parts.clone() }
    }
}

#[tonic::async_trait]
impl UsageService for UsageRpc {
    async fn list_usage(
        &self,
        request: Request<ListUsageRequest>,
    ) -> Result<Response<ListUsageResponse>, Status> {
        let access = Access::of(&request)?;
        let asked = request.get_ref();
        let tenant = names::tenant("parent", &asked.parent)?;
        let world = self.parts.handle.world();
        check_tenant(&access, &world, &tenant)?;
        let user = whose(&access, &tenant, &asked.user)?;
        let now_ms = self.parts.clock.now_ms();
        let span = span(asked, now_ms)?;
        let ends = [&asked.start_time, &asked.end_time].map(|time| time.map(|time| time.seconds));
        // A page belongs to the whole question.
        let question = format!("{} {} {ends:?}", asked.parent, asked.user);
        let query = Query::new("usage", &question, asked.page_size, &asked.page_token)?;
        let sums = summed(&world, &tenant, span, now_ms);
        let found: Vec<_> = sums
            .into_iter()
            .map(|(of, sum)| (token(&of), of, sum))
            .filter(|(token, _, _)| query.after.as_ref().is_none_or(|after| after < token))
            .filter(|(_, (_, of), _)| user.is_none() || *of == user)
            .take(query.size + 1)
            .collect();
        let next_page_token = query.next(&found, |(token, _, _)| token.clone());
        let usage = found
            .into_iter()
            .take(query.size)
            .map(|(_, of, sum)| on_wire(&tenant, of, sum))
            .collect();
        Ok(Response::new(ListUsageResponse { usage, next_page_token }))
    }
}

/// What a tenant that is gone has used is there for those who run the installation.
fn check_tenant(access: &Access, world: &World, tenant: &TenantId) -> Result<(), Status> {
    if access.everywhere() && !world.usage_of(tenant).is_empty() {
        return Ok(());
    }
    access.check_list(world, tenant)
}

/// Whose usage is listed; none: everybody's. Who does not see the tenant sees the own.
fn whose(access: &Access, tenant: &TenantId, asked: &str) -> Result<Option<UserId>, Status> {
    let wanted = if asked.is_empty() {
        None
    } else {
        let (of, user) = child::<UserId>("user", asked, "users")?;
        if of != *tenant {
            return Err(not_found("user", asked));
        }
        Some(user)
    };
    if access.covers(tenant) {
        return Ok(wanted);
    }
    match access.caller() {
        Caller::User(who) if wanted.as_ref().is_none_or(|user| *user == who.user) => {
            Ok(Some(who.user.clone()))
        }
        _ => Err(not_allowed()),
    }
}

/// From when to when, ms since the epoch; not beyond now.
fn span(asked: &ListUsageRequest, now_ms: i64) -> Result<(i64, i64), Status> {
    let start_ms = match asked.start_time {
        Some(time) => millis("start_time", time)?,
        None => month_start_ms(now_ms),
    };
    let end_ms = match asked.end_time {
        Some(time) => millis("end_time", time)?,
        None => now_ms,
    };
    if end_ms < start_ms {
        return Err(invalid_field("end_time", "it is not before start_time"));
    }
    Ok((start_ms, end_ms.min(now_ms)))
}

pub(super) fn millis(field: &str, time: Timestamp) -> Result<i64, Status> {
    let rule = || invalid_field(field, "a time between 1970 and 9999 is expected");
    let known = 0..=253_402_300_799_i64;
    let nanos = (0..1_000_000_000).contains(&time.nanos);
    if !known.contains(&time.seconds) || !nanos {
        return Err(rule());
    }
    Ok(time.seconds * 1_000 + i64::from(time.nanos / 1_000_000))
}

/// The first of the month, UTC, in which this moment is.
fn month_start_ms(now_ms: i64) -> i64 {
    // As in 2026-11-22T09:00:00Z.
    let written = timestamp(now_ms).to_string();
    let day: i64 = written.get(8..10).and_then(|day| day.parse().ok()).unwrap_or(1);
    (now_ms.div_euclid(DAY_MS) - day + 1) * DAY_MS
}

type Of = (DesktopId, Option<UserId>);

/// What one user had of one desktop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sum {
    display_name: String,
    running_ms: i64,
    connected_ms: i64,
    running_now: bool,
    connected_now: bool,
    machine: bool,
}

fn summed(
    world: &World,
    tenant: &TenantId,
    (start_ms, end_ms): (i64, i64),
    now_ms: i64,
) -> BTreeMap<Of, Sum> {
    let mut sums = BTreeMap::<Of, Sum>::new();
    for (key, interval) in world.usage_of(tenant) {
        let (until_ms, now) = until(world, key, interval, now_ms);
        let length_ms = until_ms.min(end_ms).saturating_sub(key.start_ms.max(start_ms));
        let within = 0 < length_ms || (now && start_ms <= now_ms && key.start_ms <= end_ms);
        if !within {
            continue;
        }
        let sum = sums.entry((key.desktop, interval.user.clone())).or_default();
        // In the order of time: the newest name stays.
        sum.display_name.clone_from(&interval.display_name);
        sum.machine = interval.machine;
        match key.kind {
            UsageKind::Running => {
                sum.running_ms += length_ms.max(0);
                sum.running_now |= now;
            }
            UsageKind::Connected => {
                sum.connected_ms += length_ms.max(0);
                sum.connected_now |= now;
            }
        }
    }
    sums
}

/// Until when an interval lasts, and whether it goes on. One whose viewer is away for a moment is
/// open, but not counted on.
fn until(world: &World, key: &UsageKey, interval: &UsageInterval, now_ms: i64) -> (i64, bool) {
    if let Some(end_ms) = interval.end_ms {
        return (end_ms, false);
    }
    let session = interval.session.and_then(|id| world.session(&key.tenant, id));
    match session.filter(|session| matches!(session.presence, Presence::Disconnected(_))) {
        Some(away) => (attached_until(world, away, now_ms).min(now_ms), false),
        None => (now_ms, true),
    }
}

fn token((desktop, user): &Of) -> String {
    format!("{desktop}/{}", user.as_ref().map(UserId::as_str).unwrap_or_default())
}

fn on_wire(tenant: &TenantId, (desktop, user): Of, sum: Sum) -> Usage {
    let secs = |ms: i64| u64::try_from(ms / 1_000).unwrap_or(0);
    let name = |is_such: bool, name: String| if is_such { name } else { String::new() };
    Usage {
        desktop: name(!sum.machine, desktop_name(tenant, desktop)),
        machine: name(sum.machine, machine_name(tenant, MachineId::new(desktop.uuid()))),
        desktop_display_name: sum.display_name,
        user: user.map(|user| format!("tenants/{tenant}/users/{user}")).unwrap_or_default(),
        running_secs: secs(sum.running_ms),
        connected_secs: secs(sum.connected_ms),
        running_now: sum.running_now,
        connected_now: sum.connected_now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Row;

    #[test]
    fn the_month_begins_at_its_first_midnight() {
        let check = |now_secs: i64, start_secs: i64| {
            assert_eq!(month_start_ms(now_secs * 1_000), start_secs * 1_000, "{now_secs}");
        };
        // 2026-11-22, 2024-02-29, 2024-03-01, 2025-12-31 23:59:59, 2026-01-01, 2100-02-28, 1970.
        check(1_795_338_000, 1_793_491_200);
        check(1_709_164_800, 1_706_745_600);
        check(1_709_251_200, 1_709_251_200);
        check(1_767_225_599, 1_764_547_200);
        check(1_767_225_600, 1_767_225_600);
        check(4_107_456_000, 4_105_123_200);
        check(0, 0);
    }

    #[test]
    fn sums_are_clipped_to_the_span_and_open_intervals_count_to_now() {
        let (tenant, desktop) = ("t".parse::<TenantId>().unwrap(), DesktopId::generate());
        let mut world = World::default();
        for (kind, start_ms, end_ms) in [
            (UsageKind::Running, 1_000, Some(11_000)),
            (UsageKind::Running, 20_000, None),
            (UsageKind::Connected, 2_000, Some(4_000)),
        ] {
            let key = UsageKey { tenant: tenant.clone(), desktop, start_ms, kind };
            let user = Some("ana".parse().unwrap());
            let display_name = "Desk".to_owned();
            let interval =
                UsageInterval { user, display_name, end_ms, session: None, machine: false };
            world.put(Row::Usage(key, interval));
        }
        let check = |span, expected: Option<(i64, i64, bool)>| {
            let sums = summed(&world, &tenant, span, 30_000);
            let sum = sums.values().next();
            let found = sum.map(|sum| (sum.running_ms, sum.connected_ms, sum.running_now));
            assert_eq!(found, expected, "{span:?}");
        };
        check((0, 30_000), Some((20_000, 2_000, true)));
        check((5_000, 30_000), Some((16_000, 0, true)));
        check((3_000, 5_000), Some((2_000, 1_000, false)));
        check((12_000, 19_000), None);
        check((25_000, 26_000), Some((1_000, 0, true)));
        check((11_000, 20_000), Some((0, 0, true)));
    }
}
