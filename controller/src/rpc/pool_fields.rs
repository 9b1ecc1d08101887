//! Pools on the wire, and what a caller chooses of one, read and judged.

use tonic::Status;
use vidi_kit::ids::{PoolId, TemplateId, TenantId, UserId};
use vidi_proto::v1::{
    ForecastBasis, ForecastQuarter, Pool, PoolForecast, PoolKind, PoolSizeChange, PoolStatus,
    PoolSuspension, ReleasePolicy, ScheduleRule, Weekday,
};

use super::desktop_fields;
use super::status::{invalid_field, not_found};
use super::users::timestamp;
use super::wire::{check_display_name, child, pool_name};
use crate::contract::{display_policy_to_wire, policy_to_wire};
use crate::model::forecast::{Basis, Expected};
use crate::model::pool::POOL_USERS_MAX;
use crate::model::schedule::{DayTime, Days, RULES_MAX, Rule, Schedule, Size, Zone};
use crate::model::{self, PoolSettings, PoolUsers, World};
use crate::plan::pools::forecast::Quarter;
use crate::plan::pools::problem;

/// Fields that an update can name.
const FIELDS: [&str; 14] = [
    "display_name",
    "min_spare",
    "max_desktops",
    USERS,
    EVERYONE,
    "disconnect_secs",
    "max_session_secs",
    "release_policy",
    "display_policy",
    "time_zone",
    "schedule",
    "forecast",
    "idle_secs",
    "user_sessions_max",
];
const USERS: &str = "users";
const EVERYONE: &str = "everyone";

/// Refuses an update of what cannot be changed.
pub(super) fn check_paths(paths: &[String]) -> Result<(), Status> {
    match paths.iter().find(|path| !FIELDS.contains(&path.as_str())) {
        Some(wrong) => {
            let rule = format!("\"{wrong}\" is none of {}", FIELDS.join(", "));
            Err(invalid_field("update_mask", &rule))
        }
        None => Ok(()),
    }
}

/// What was, with what an update names. Who names `users` or `everyone` alone means it: the other follows.
pub(super) fn merged(before: Pool, asked: &Pool, paths: &[String]) -> Pool {
    let mut after = before;
    let named = |field: &str| paths.is_empty() || paths.iter().any(|path| path == field);
    let numbers = [
        ("min_spare", &mut after.min_spare, asked.min_spare),
        ("max_desktops", &mut after.max_desktops, asked.max_desktops),
        ("disconnect_secs", &mut after.disconnect_secs, asked.disconnect_secs),
        ("max_session_secs", &mut after.max_session_secs, asked.max_session_secs),
        ("idle_secs", &mut after.idle_secs, asked.idle_secs),
        ("user_sessions_max", &mut after.user_sessions_max, asked.user_sessions_max),
    ];
    for (field, to, from) in numbers {
        if named(field) {
            *to = from;
        }
    }
    if named("display_name") {
        after.display_name.clone_from(&asked.display_name);
    }
    match (named(USERS), named(EVERYONE)) {
        (true, true) => {
            after.users.clone_from(&asked.users);
            after.everyone = asked.everyone;
        }
        (true, false) => {
            after.users.clone_from(&asked.users);
            after.everyone &= asked.users.is_empty();
        }
        (false, true) => {
            after.everyone = asked.everyone;
            if asked.everyone {
                after.users.clear();
            }
        }
        (false, false) => {}
    }
    if named("time_zone") {
        after.time_zone.clone_from(&asked.time_zone);
    }
    if named("schedule") {
        after.schedule.clone_from(&asked.schedule);
    }
    if named("forecast") {
        after.forecast = asked.forecast;
    }
    if named("release_policy") {
        after.release_policy = asked.release_policy;
    }
    if named("display_policy") {
        after.display_policy = asked.display_policy;
    }
    after
}

/// What is chosen of a pool, judged.
pub(super) fn settings(
    (tenant, id): (&TenantId, PoolId),
    asked: &Pool,
) -> Result<PoolSettings, Status> {
    check_display_name(&asked.display_name)?;
    let (of, template) = child::<TemplateId>("template", &asked.template, "templates")?;
    if of != *tenant {
        return Err(not_found("template", &asked.template));
    }
    let kind = match asked.kind() {
        PoolKind::Floating => model::PoolKind::Floating,
        PoolKind::Dedicated => model::PoolKind::Dedicated,
        PoolKind::Unspecified => {
            return Err(invalid_field("kind", "floating or dedicated is expected"));
        }
    };
    // What says nothing is what the kind is for.
    let unsaid = asked.release_policy == i32::from(ReleasePolicy::Unspecified);
    let release_policy = match kind {
        model::PoolKind::Floating if unsaid => model::ReleasePolicy::Delete,
        model::PoolKind::Floating | model::PoolKind::Dedicated => {
            desktop_fields::release_policy(asked.release_policy)?
        }
    };
    let named = !asked.display_name.is_empty();
    let some = |secs: u32| (secs != 0).then_some(secs);
    let settings = PoolSettings {
        display_name: if named { asked.display_name.clone() } else { id.to_string() },
        template,
        kind,
        min_spare: asked.min_spare,
        max_desktops: asked.max_desktops,
        users: users(tenant, asked)?,
        disconnect_secs: some(asked.disconnect_secs),
        max_session_secs: some(asked.max_session_secs),
        idle_secs: some(asked.idle_secs),
        user_sessions_max: some(asked.user_sessions_max),
        schedule: schedule(asked)?,
        forecast: asked.forecast,
        release_policy,
        display_policy: desktop_fields::display_policy(asked.display_policy.as_ref())?,
    };
    settings.check().map_err(|(field, rule)| invalid_field(field, rule))?;
    Ok(settings)
}

/// When it is of another size.
fn schedule(asked: &Pool) -> Result<Schedule, Status> {
    let zone = Zone::find(&asked.time_zone).ok_or_else(|| {
        invalid_field("time_zone", "the IANA name of a time zone is expected, as Europe/Rome")
    })?;
    if RULES_MAX < asked.schedule.len() {
        return Err(invalid_field("schedule", "at most 16 rules are expected"));
    }
    let time = |field: &str, text: &str| {
        text.parse::<DayTime>().map_err(|error| invalid_field(field, &error.to_string()))
    };
    let rules = asked.schedule.iter().map(|rule| {
        Ok(Rule {
            days: days(rule)?,
            from: time("schedule.from", &rule.from)?,
            to: time("schedule.to", &rule.to)?,
            min_spare: rule.min_spare,
            max_desktops: rule.max_desktops,
        })
    });
    Ok(Schedule { zone, rules: rules.collect::<Result<_, Status>>()? })
}

fn days(rule: &ScheduleRule) -> Result<Days, Status> {
    if rule.days.is_empty() {
        return Ok(Days::ALL);
    }
    let days = rule.days.iter().map(|number| {
        let day = (*number).checked_sub(i32::from(Weekday::Monday)).map(u8::try_from);
        let day = day.and_then(Result::ok).filter(|day| *day < 7);
        day.ok_or_else(|| invalid_field("schedule.days", "days of the week are expected"))
    });
    Ok(Days::of(days.collect::<Result<Vec<u8>, Status>>()?))
}

fn rule_on_wire(rule: &Rule) -> ScheduleRule {
    let all = rule.days == Days::ALL;
    let days = rule.days.iter().filter(|_| !all);
    ScheduleRule {
        days: days.map(|day| i32::from(day) + i32::from(Weekday::Monday)).collect(),
        from: rule.from.to_string(),
        to: rule.to.to_string(),
        min_spare: rule.min_spare,
        max_desktops: rule.max_desktops,
    }
}

/// Whose menus it is on.
fn users(tenant: &TenantId, asked: &Pool) -> Result<PoolUsers, Status> {
    if asked.everyone {
        let nobody = asked.users.is_empty();
        let twice = || invalid_field(USERS, "none is expected where the pool is for everyone");
        return nobody.then_some(PoolUsers::Everyone).ok_or_else(twice);
    }
    if POOL_USERS_MAX < asked.users.len() {
        return Err(invalid_field(USERS, "at most 5,000 are allowed: more are everyone"));
    }
    let users = asked.users.iter().map(|name| {
        let (of, user) = child::<UserId>(USERS, name, "users")?;
        if of == *tenant { Ok(user) } else { Err(not_found("user", name)) }
    });
    users.collect::<Result<_, _>>().map(PoolUsers::Listed)
}

/// A pool as it is now.
pub(super) fn on_wire(
    world: &World,
    (tenant, id): (&TenantId, PoolId),
    one: &model::Pool,
    now_ms: i64,
) -> Pool {
    let seen = world.pool_status(tenant, id, now_ms);
    let suspended = one.suspended.as_ref().map(|suspended| PoolSuspension {
        since: Some(timestamp(suspended.since_ms)),
        reason: suspended.reason.clone(),
    });
    let Size { min_spare, max_desktops } = one.size_at(now_ms);
    let next = one.next_size(now_ms).map(|(at_ms, size)| PoolSizeChange {
        time: Some(timestamp(at_ms)),
        min_spare: size.min_spare,
        max_desktops: size.max_desktops,
        clock: one.settings.schedule.zone.shown(at_ms),
    });
    let status = PoolStatus {
        desktops: seen.desktops,
        ready: seen.ready,
        preparing: seen.preparing,
        claimed: seen.claimed,
        waiting: seen.waiting,
        spare_wanted: seen.spare_wanted,
        suspended,
        deleting: one.deleting,
        ready_secs: seen.ready_secs.unwrap_or_default(),
        problem: problem(world, tenant, id, now_ms).unwrap_or_default(),
        min_spare,
        max_desktops,
        next_change: next,
        forecast: world.pool_expected(tenant, id, now_ms).map(|one| forecast_on_wire(&one)),
    };
    Pool {
        create_time: Some(timestamp(one.create_ms)),
        etag: World::pool_etag(one),
        app: format!("tenants/{tenant}/apps/{}", one.app_id),
        status: Some(status),
        ..settings_on_wire(tenant, id, &one.settings)
    }
}

fn forecast_on_wire(one: &Expected) -> PoolForecast {
    let (basis, as_when) = match one.basis {
        Basis::Nothing => (ForecastBasis::Unspecified, "nobody has come at such a time"),
        Basis::Weeks => (ForecastBasis::Weeks, "as at this time of the week before"),
        Basis::Minutes => (ForecastBasis::Minutes, "as in the last minutes"),
    };
    let ahead_secs = u32::try_from(one.ahead_ms / 1_000).unwrap_or(u32::MAX);
    let people = thousandths(one.thousandths);
    let about = (one.thousandths + 500) / 1_000;
    let reason = match one.basis {
        Basis::Nothing => as_when.to_owned(),
        Basis::Weeks | Basis::Minutes => {
            format!("{about} people are expected in the next {ahead_secs} s, {as_when}")
        }
    };
    PoolForecast { spare: one.spare, people, ahead_secs, basis: basis.into(), reason }
}

/// A quarter of an hour of a day.
pub(super) fn quarter_on_wire(zone: &Zone, one: &Quarter) -> ForecastQuarter {
    let shown = zone.shown(one.begin_ms);
    let clock = shown.split_once(' ').map_or("", |(_, clock)| clock);
    ForecastQuarter {
        begin: Some(timestamp(one.begin_ms)),
        min_spare: one.size.min_spare,
        max_desktops: one.size.max_desktops,
        people: one.mean_thousandths.map(thousandths),
        spare: one.spare,
        clock: clock.to_owned(),
    }
}

/// Of numbers that are far below what a float holds exactly.
fn thousandths(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / 1_000.0
}

pub(super) fn settings_on_wire(tenant: &TenantId, id: PoolId, one: &PoolSettings) -> Pool {
    let kind = match one.kind {
        model::PoolKind::Floating => PoolKind::Floating,
        model::PoolKind::Dedicated => PoolKind::Dedicated,
    };
    let (users, everyone) = match &one.users {
        PoolUsers::Everyone => (Vec::new(), true),
        PoolUsers::Listed(users) => {
            (users.iter().map(|user| format!("tenants/{tenant}/users/{user}")).collect(), false)
        }
    };
    Pool {
        name: pool_name(tenant, id),
        display_name: one.display_name.clone(),
        template: format!("tenants/{tenant}/templates/{}", one.template),
        kind: kind.into(),
        min_spare: one.min_spare,
        max_desktops: one.max_desktops,
        users,
        everyone,
        disconnect_secs: one.disconnect_secs.unwrap_or_default(),
        max_session_secs: one.max_session_secs.unwrap_or_default(),
        idle_secs: one.idle_secs.unwrap_or_default(),
        user_sessions_max: one.user_sessions_max.unwrap_or_default(),
        time_zone: one.schedule.zone.name().to_owned(),
        schedule: one.schedule.rules.iter().map(rule_on_wire).collect(),
        forecast: one.forecast,
        release_policy: policy_to_wire(one.release_policy).into(),
        display_policy: Some(display_policy_to_wire(one.display_policy)),
        ..Pool::default()
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;

    fn pool() -> Pool {
        Pool {
            template: "tenants/t/templates/debian".to_owned(),
            kind: PoolKind::Floating.into(),
            min_spare: 2,
            max_desktops: 5,
            everyone: true,
            ..Pool::default()
        }
    }

    fn judged(asked: &Pool) -> Result<PoolSettings, Status> {
        let (tenant, id) = ("t".parse().unwrap(), "kiosk".parse().unwrap());
        settings((&tenant, id), asked)
    }

    #[test]
    fn what_says_nothing_is_what_the_kind_is_for_and_what_was_sent_comes_back() {
        let floating = judged(&pool()).unwrap();
        assert_eq!(floating.release_policy, model::ReleasePolicy::Delete);
        assert_eq!(floating.display_name, "kiosk");
        let (tenant, id) = ("t".parse().unwrap(), "kiosk".parse().unwrap());
        let back = settings_on_wire(&tenant, id, &floating);
        assert_eq!(judged(&back).unwrap(), floating);
        let dedicated = Pool {
            kind: PoolKind::Dedicated.into(),
            everyone: false,
            users: vec!["tenants/t/users/ana".to_owned()],
            max_session_secs: 3_600,
            ..pool()
        };
        let dedicated = judged(&dedicated).unwrap();
        assert_eq!(dedicated.release_policy, model::ReleasePolicy::Stop);
        let back = settings_on_wire(&tenant, id, &dedicated);
        assert_eq!(back.users, ["tenants/t/users/ana"]);
        assert_eq!(judged(&back).unwrap(), dedicated);
    }

    #[test]
    fn each_field_that_cannot_be_is_named() {
        let keep = ReleasePolicy::Keep.into();
        let (dedicated, delete) = (PoolKind::Dedicated.into(), ReleasePolicy::Delete.into());
        let ana = || vec!["tenants/t/users/ana".to_owned()];
        let many = vec!["tenants/t/users/ana".to_owned(); POOL_USERS_MAX + 1];
        let odd = vec!["ana".to_owned()];
        for (field, wrong) in [
            ("display_name", Pool { display_name: "x".repeat(201), ..pool() }),
            ("template", Pool { template: "debian".to_owned(), ..pool() }),
            ("kind", Pool { kind: 0, ..pool() }),
            ("kind", Pool { kind: 77, ..pool() }),
            ("max_desktops", Pool { max_desktops: 0, ..pool() }),
            ("max_desktops", Pool { max_desktops: 10_001, ..pool() }),
            ("min_spare", Pool { min_spare: 6, ..pool() }),
            ("users", Pool { users: ana(), ..pool() }),
            ("users", Pool { users: odd, everyone: false, ..pool() }),
            ("users", Pool { users: many, everyone: false, ..pool() }),
            ("disconnect_secs", Pool { disconnect_secs: 9, ..pool() }),
            ("max_session_secs", Pool { max_session_secs: 1, ..pool() }),
            ("release_policy", Pool { release_policy: keep, ..pool() }),
            ("release_policy", Pool { kind: dedicated, release_policy: delete, ..pool() }),
            ("release_policy", Pool { release_policy: 77, ..pool() }),
        ] {
            let refused = judged(&wrong).unwrap_err();
            let details = refused.get_error_details();
            assert_eq!(details.error_info().unwrap().reason, "INVALID_FIELD", "{wrong:?}");
            assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
        }
        let foreign = Pool { template: "tenants/other/templates/debian".to_owned(), ..pool() };
        assert_eq!(judged(&foreign).unwrap_err().code(), tonic::Code::NotFound);
        let users = vec!["tenants/other/users/ana".to_owned()];
        let foreign = Pool { users, everyone: false, ..pool() };
        assert_eq!(judged(&foreign).unwrap_err().code(), tonic::Code::NotFound);
    }

    #[test]
    fn an_update_changes_what_it_names_and_everyone_and_some_exclude_each_other() {
        let ana = vec!["tenants/t/users/ana".to_owned()];
        let asked = Pool { min_spare: 1, users: ana.clone(), ..Pool::default() };
        let paths =
            |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
        let one = merged(pool(), &asked, &paths(&["min_spare"]));
        assert_eq!((one.min_spare, one.max_desktops, one.everyone), (1, 5, true));
        let some = merged(pool(), &asked, &paths(&["users"]));
        assert_eq!((some.everyone, &some.users), (false, &ana));
        let everyone = Pool { everyone: true, ..Pool::default() };
        let all = merged(some, &everyone, &paths(&["everyone"]));
        assert_eq!((all.everyone, all.users.len()), (true, 0));
        let whole = merged(pool(), &asked, &[]);
        assert_eq!((whole.max_desktops, whole.everyone, whole.users), (0, false, ana));
        assert_eq!((whole.kind, whole.template), (pool().kind, pool().template));
    }
}
