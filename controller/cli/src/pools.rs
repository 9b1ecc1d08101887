//! Pools.

use std::collections::BTreeSet;

use anyhow::bail;
use vidi_proto::v1::pool_service_client::PoolServiceClient;
use vidi_proto::v1::{
    ChangeKind, CreatePoolRequest, DeletePoolRequest, DisplayPolicy, ForecastPoolRequest,
    GetPoolRequest, ListPoolsRequest, ListPoolsResponse, Pool, PoolKind, PoolStatus, ReleasePolicy,
    ResumePoolRequest, UpdatePoolRequest, WatchPoolsRequest,
};

use crate::arguments::{
    AfterSession, Deletion, Format, Global, Kind, PoolCommand, PoolCreation, PoolUpdate, Switch,
};
use crate::ask::confirm;
use crate::connect::{Api, PAGE_SIZE_MAX, all_pages, connect};
use crate::display_policy::{policy_fields, with_flags};
use crate::named::mask;
use crate::output::{Table, done, json, plain, print, short, show};
use crate::schedule::{self, expected, line, next};
use crate::when::{moment, since};

/// Pools.
pub(crate) async fn pool(global: &Global, command: PoolCommand) -> anyhow::Result<()> {
    let mut client = PoolServiceClient::new(connect(global).await?);
    match command {
        PoolCommand::Create(creation) => {
            let pool = client.create_pool(creation_request(global, *creation)).await?.into_inner();
            show(global.output, "Pool", &pool, one_pool)
        }
        PoolCommand::List => {
            let all = list(global, &mut client).await?;
            show(global.output, "ListPoolsResponse", &all, |all| pools(&all.pools))
        }
        PoolCommand::Show { pool } => {
            let pool = get(global, &mut client, &pool).await?;
            show(global.output, "Pool", &pool, one_pool)
        }
        PoolCommand::Update(update) => {
            let before = get(global, &mut client, &update.pool).await?;
            let request = update_request(global, before, *update)?;
            let pool = client.update_pool(request).await?.into_inner();
            show(global.output, "Pool", &pool, one_pool)
        }
        PoolCommand::Delete { deletion: Deletion { name, yes }, force } => {
            let pool = get(global, &mut client, &name).await?;
            confirm(yes, &what_is_lost(&pool, force))?;
            let request = DeletePoolRequest { name: pool.name, etag: String::new(), force };
            client.delete_pool(request).await?;
            done(global.output, &format!("pool {name} deleted: its desktops are being destroyed"))
        }
        PoolCommand::Forecast { pool, day } => {
            let name = pool_name(global, &pool);
            let request = ForecastPoolRequest { name, day: day.unwrap_or_default() };
            let found = client.forecast_pool(request).await?.into_inner();
            show(global.output, "ForecastPoolResponse", &found, schedule::day)
        }
        PoolCommand::Watch => watch(global, client).await,
        PoolCommand::Resume { pool } => {
            let name = pool_name(global, &pool);
            let request = ResumePoolRequest { name, etag: String::new() };
            let pool = client.resume_pool(request).await?.into_inner();
            show(global.output, "Pool", &pool, one_pool)
        }
    }
}

/// `tenants/{t}/pools/{p}` of an id, or what is one already.
pub(crate) fn pool_name(global: &Global, pool: &str) -> String {
    if pool.starts_with("tenants/") {
        return pool.to_owned();
    }
    format!("tenants/{}/pools/{pool}", global.tenant)
}

async fn watch(global: &Global, mut client: PoolServiceClient<Api>) -> anyhow::Result<()> {
    let parent = format!("tenants/{}", global.tenant);
    let request = WatchPoolsRequest { parent, resume_token: String::new() };
    let mut changes = client.watch_pools(request).await?.into_inner();
    while let Some(change) = changes.message().await? {
        if global.output == Format::Json {
            print(&json("WatchPoolsResponse", &change)?)?;
            continue;
        }
        let (kind, Some(pool)) = (change.kind(), &change.pool) else { continue };
        let status = pool.status.clone().unwrap_or_default();
        let name = short(&pool.name);
        print(&match kind {
            ChangeKind::Deleted => format!("{name}: deleted"),
            _ => format!(
                "{name}: {} ready, {} preparing, {} in use, {} waiting, {}",
                status.ready,
                status.preparing,
                status.claimed,
                status.waiting,
                plain(&state(&status))
            ),
        })?;
    }
    bail!("the controller ended the watch")
}

fn creation_request(global: &Global, creation: PoolCreation) -> CreatePoolRequest {
    let PoolCreation {
        pool: pool_id,
        template,
        name,
        kind,
        spare,
        max,
        user,
        everyone,
        times,
        sizes,
        after_use,
        policy,
    } = creation;
    let parent = format!("tenants/{}", global.tenant);
    let kind = match kind {
        Kind::Floating => PoolKind::Floating,
        Kind::Dedicated => PoolKind::Dedicated,
    };
    let pool = Pool {
        display_name: name.unwrap_or_default(),
        template: format!("{parent}/templates/{template}"),
        kind: kind.into(),
        min_spare: spare,
        max_desktops: max,
        users: user.iter().map(|user| user_name(global, user)).collect(),
        everyone,
        disconnect_secs: times.disconnect_secs.unwrap_or_default(),
        max_session_secs: times.max_session_secs.unwrap_or_default(),
        idle_secs: times.idle_secs.unwrap_or_default(),
        user_sessions_max: times.user_sessions_max.unwrap_or_default(),
        forecast: sizes.forecast == Some(Switch::On),
        time_zone: sizes.time_zone.unwrap_or_default(),
        schedule: sizes.rule,
        release_policy: policy_of(after_use).into(),
        display_policy: Some(with_flags(DisplayPolicy::default(), &policy)),
        ..Pool::default()
    };
    let request_id = uuid::Uuid::new_v4().to_string();
    CreatePoolRequest { parent, pool_id, pool: Some(pool), request_id, validate_only: false }
}

/// Changes what was given, nothing else.
fn update_request(
    global: &Global,
    before: Pool,
    update: PoolUpdate,
) -> anyhow::Result<UpdatePoolRequest> {
    let PoolUpdate {
        pool: _,
        name,
        spare,
        max,
        user,
        add_user,
        remove_user,
        everyone,
        times,
        sizes,
        no_rules,
        after_use,
        policy,
    } = update;
    let old = before.display_policy.unwrap_or_default();
    let policy = with_flags(old, &policy);
    let users_given = !(user.is_empty() && add_user.is_empty() && remove_user.is_empty());
    let mut users: BTreeSet<String> = match (everyone, user.as_slice()) {
        (true, _) => BTreeSet::new(),
        (false, []) => before.users.into_iter().collect(),
        (false, users) => users.iter().map(|user| user_name(global, user)).collect(),
    };
    users.extend(add_user.iter().map(|user| user_name(global, user)));
    for user in &remove_user {
        users.remove(&user_name(global, user));
    }
    let fields = [
        ("display_name", name.is_some()),
        ("min_spare", spare.is_some()),
        ("max_desktops", max.is_some()),
        ("users", users_given || everyone),
        ("everyone", users_given || everyone),
        ("disconnect_secs", times.disconnect_secs.is_some()),
        ("max_session_secs", times.max_session_secs.is_some()),
        ("idle_secs", times.idle_secs.is_some()),
        ("user_sessions_max", times.user_sessions_max.is_some()),
        ("time_zone", sizes.time_zone.is_some()),
        ("schedule", no_rules || !sizes.rule.is_empty()),
        ("forecast", sizes.forecast.is_some()),
        ("release_policy", after_use.is_some()),
        ("display_policy", policy != old),
    ];
    let update_mask = Some(mask(fields, "at least one of the options")?);
    let pool = Pool {
        name: before.name,
        // Users and policy are sent whole: what somebody else changed meanwhile must not be undone.
        etag: before.etag,
        display_name: name.unwrap_or_default(),
        min_spare: spare.unwrap_or_default(),
        max_desktops: max.unwrap_or_default(),
        users: users.into_iter().collect(),
        everyone,
        disconnect_secs: times.disconnect_secs.unwrap_or_default(),
        max_session_secs: times.max_session_secs.unwrap_or_default(),
        idle_secs: times.idle_secs.unwrap_or_default(),
        user_sessions_max: times.user_sessions_max.unwrap_or_default(),
        forecast: sizes.forecast == Some(Switch::On),
        time_zone: sizes.time_zone.unwrap_or_default(),
        schedule: sizes.rule,
        release_policy: policy_of(after_use).into(),
        display_policy: Some(policy),
        ..Pool::default()
    };
    Ok(UpdatePoolRequest { pool: Some(pool), update_mask, validate_only: false })
}

fn policy_of(after_use: Option<AfterSession>) -> ReleasePolicy {
    match after_use {
        None => ReleasePolicy::Unspecified,
        Some(AfterSession::Keep) => ReleasePolicy::Keep,
        Some(AfterSession::Stop) => ReleasePolicy::Stop,
    }
}

fn user_name(global: &Global, user: &str) -> String {
    format!("tenants/{}/users/{user}", global.tenant)
}

async fn get(
    global: &Global,
    client: &mut PoolServiceClient<Api>,
    pool: &str,
) -> anyhow::Result<Pool> {
    let name = pool_name(global, pool);
    Ok(client.get_pool(GetPoolRequest { name }).await?.into_inner())
}

async fn list(
    global: &Global,
    client: &mut PoolServiceClient<Api>,
) -> anyhow::Result<ListPoolsResponse> {
    let pools = all_pages(async |page_token| {
        let parent = format!("tenants/{}", global.tenant);
        let request = ListPoolsRequest { parent, page_size: PAGE_SIZE_MAX, page_token };
        let page = client.list_pools(request).await?.into_inner();
        Ok((page.pools, page.next_page_token))
    })
    .await?;
    Ok(ListPoolsResponse { pools, next_page_token: String::new() })
}

/// What goes with a pool, for the question before it is deleted.
fn what_is_lost(pool: &Pool, force: bool) -> String {
    let status = pool.status.clone().unwrap_or_default();
    let shown = plain(&pool.display_name);
    let mut text = format!(
        "\"{shown}\" is taken off the menus and its {} desktops are destroyed.",
        status.desktops
    );
    if force && 0 < status.claimed {
        text += &format!(
            " {} of them are somebody's: their sessions end, and everything on them is lost.",
            status.claimed
        );
    }
    text
}

fn pools(pools: &[Pool]) -> Table {
    let mut table = Table::new([
        "POOL",
        "NAME",
        "KIND",
        "TEMPLATE",
        "READY",
        "PREPARING",
        "IN USE",
        "WAITING",
        "MAX",
        "STATE",
    ]);
    for pool in pools {
        let status = pool.status.clone().unwrap_or_default();
        table.row([
            short(&pool.name),
            pool.display_name.clone(),
            kind(pool).to_owned(),
            short(&pool.template),
            status.ready.to_string(),
            status.preparing.to_string(),
            status.claimed.to_string(),
            status.waiting.to_string(),
            pool.max_desktops.to_string(),
            state(&status),
        ]);
    }
    table
}

fn kind(pool: &Pool) -> &'static str {
    match pool.kind() {
        PoolKind::Floating => "floating",
        PoolKind::Dedicated => "dedicated",
        PoolKind::Unspecified => "",
    }
}

/// In one sentence, the most serious first.
fn state(status: &PoolStatus) -> String {
    if status.deleting {
        return "being deleted".to_owned();
    }
    match (&status.suspended, status.problem.as_str()) {
        (Some(suspended), _) => {
            format!("suspended {}: {}", since(suspended.since.as_ref()), suspended.reason)
        }
        (None, "") => "in order".to_owned(),
        (None, problem) => problem.to_owned(),
    }
}

fn one_pool(pool: &Pool) -> Table {
    let status = pool.status.clone().unwrap_or_default();
    let users = match pool.everyone {
        true => "everyone".to_owned(),
        false => pool.users.iter().map(|user| short(user)).collect::<Vec<_>>().join(", "),
    };
    let after_use = match (pool.kind(), pool.release_policy()) {
        (PoolKind::Floating, _) | (_, ReleasePolicy::Delete) => "is destroyed",
        (_, ReleasePolicy::Keep) => "goes on running",
        (_, ReleasePolicy::Stop | ReleasePolicy::Unspecified) => "is shut down",
    };
    let waits = match status.ready_secs {
        0 => String::new(),
        secs => format!("{secs} s"),
    };
    let fields = [
        ("pool", short(&pool.name)),
        ("name", pool.display_name.clone()),
        ("state", state(&status)),
        ("kind", kind(pool).to_owned()),
        ("template", short(&pool.template)),
        ("ready", format!("{} (wanted {})", status.ready, status.spare_wanted)),
        ("preparing", status.preparing.to_string()),
        ("in use", status.claimed.to_string()),
        ("waiting", status.waiting.to_string()),
        (
            "desktops",
            format!("{} of {}", status.desktops, usual(status.max_desktops, pool.max_desktops)),
        ),
        ("spare", usual(status.min_spare, pool.min_spare)),
        ("ready after", waits),
        ("users", users),
        ("after use", after_use.to_owned()),
        ("away for", seconds(pool.disconnect_secs, "the controller's disconnect_secs")),
        ("lasts for", seconds(pool.max_session_secs, "any time")),
        ("untouched for", seconds(pool.idle_secs, "any time")),
        ("open at once", most(pool.user_sessions_max)),
        ("clocks of", if pool.time_zone.is_empty() { "UTC" } else { &pool.time_zone }.to_owned()),
        ("rules", pool.schedule.iter().map(line).collect::<Vec<_>>().join("; ")),
        ("next change", next(status.next_change.as_ref())),
        ("expected", expected(status.forecast.as_ref(), pool.forecast)),
        ("app", short(&pool.app)),
        ("made", moment(pool.create_time.as_ref())),
    ];
    let policy = policy_fields(&pool.display_policy.unwrap_or_default());
    Table::of_fields(fields.into_iter().chain(policy))
}

/// What counts now, and what does without its schedule where that is something else.
fn usual(now: u32, usual: u32) -> String {
    if now == usual { now.to_string() } else { format!("{now} (else {usual})") }
}

fn most(count: u32) -> String {
    if count == 0 { "any number".to_owned() } else { count.to_string() }
}

fn seconds(secs: u32, none: &str) -> String {
    if secs == 0 { none.to_owned() } else { format!("{secs} s") }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use vidi_proto::v1::PoolSuspension;

    use super::*;
    use crate::arguments::{Arguments, Command};

    /// The command of a line, as it is typed.
    fn typed(line: &str) -> (Global, PoolCommand) {
        let words = std::iter::once("vidictl").chain(line.split(' '));
        let Arguments { global, command } = Arguments::try_parse_from(words).unwrap();
        let Command::Pool(command) = command else { panic!("{line} is no command for pools") };
        (global, command)
    }

    fn changed(line: &str, before: Pool) -> anyhow::Result<UpdatePoolRequest> {
        let (global, PoolCommand::Update(update)) = typed(line) else { panic!("{line}") };
        update_request(&global, before, *update)
    }

    #[test]
    fn a_pool_is_for_somebody_and_has_a_most() {
        let line = "pool create kiosk --template debian --max 4 --user ana,ben --sound off";
        let (global, PoolCommand::Create(creation)) = typed(line) else { panic!("{line}") };
        let request = creation_request(&global, *creation);
        let pool = request.pool.unwrap();
        assert_eq!(
            (request.parent.as_str(), request.pool_id.as_str()),
            ("tenants/default", "kiosk")
        );
        assert_eq!(pool.users, ["tenants/default/users/ana", "tenants/default/users/ben"]);
        assert_eq!((pool.min_spare, pool.max_desktops, pool.everyone), (1, 4, false));
        assert_eq!(pool.kind(), PoolKind::Floating);
        assert_eq!(pool.template, "tenants/default/templates/debian");
        for wrong in [
            "pool create kiosk --template debian --max 4",
            "pool create kiosk --template debian --everyone",
            "pool create kiosk --template debian --max 4 --everyone --user ana",
            "pool update kiosk --everyone --add-user ana",
            "pool update kiosk --user ana --remove-user ben",
        ] {
            let words = std::iter::once("vidictl").chain(wrong.split(' '));
            assert!(Arguments::try_parse_from(words).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_what_is_given_changes_and_users_come_and_go_beside_the_others() {
        let name = |user: &str| format!("tenants/default/users/{user}");
        let before = Pool {
            name: "tenants/default/pools/office".to_owned(),
            etag: "e".to_owned(),
            users: vec![name("ana"), name("ben")],
            ..Pool::default()
        };
        assert!(changed("pool update office", before.clone()).is_err());
        let request = changed("pool update office --spare 0", before.clone()).unwrap();
        assert_eq!(request.update_mask.unwrap().paths, ["min_spare"]);
        let line = "pool update office --add-user eva --remove-user ben";
        let request = changed(line, before.clone()).unwrap();
        assert_eq!(request.update_mask.unwrap().paths, ["users", "everyone"]);
        let pool = request.pool.unwrap();
        assert_eq!((pool.users, pool.everyone), (vec![name("ana"), name("eva")], false));
        assert_eq!(pool.etag, "e");
        let all = changed("pool update office --everyone", before).unwrap().pool.unwrap();
        assert_eq!((all.users, all.everyone), (vec![], true));
    }

    #[test]
    fn a_list_says_why_a_pool_is_not_as_it_should_be() {
        let state = |status: PoolStatus| {
            let pool = Pool {
                name: "tenants/t/pools/office".to_owned(),
                kind: PoolKind::Dedicated.into(),
                max_desktops: 9,
                status: Some(status),
                ..Pool::default()
            };
            let table = pools(&[pool]).to_string();
            let row = table.lines().nth(1).unwrap().to_owned();
            assert!(row.starts_with("office"), "{row}");
            row.rsplit("  ").next().unwrap().to_owned()
        };
        assert_eq!(state(PoolStatus::default()), "in order");
        let problem = "at its 9 desktops".to_owned();
        assert_eq!(state(PoolStatus { problem, ..PoolStatus::default() }), "at its 9 desktops");
        let suspended = PoolSuspension { since: None, reason: "no disk".to_owned() };
        let status = PoolStatus { suspended: Some(suspended), ..PoolStatus::default() };
        assert_eq!(state(status.clone()), "suspended : no disk");
        assert_eq!(state(PoolStatus { deleting: true, ..status }), "being deleted");
    }

    #[test]
    fn the_question_before_deleting_says_what_of_somebodys_goes() {
        let status = PoolStatus { desktops: 7, claimed: 3, ..PoolStatus::default() };
        let pool =
            Pool { display_name: "Office".to_owned(), status: Some(status), ..Pool::default() };
        let plain = "\"Office\" is taken off the menus and its 7 desktops are destroyed.";
        assert_eq!(what_is_lost(&pool, false), plain);
        let forced = what_is_lost(&pool, true);
        assert!(
            forced.starts_with(plain) && forced.contains("3 of them are somebody's"),
            "{forced}"
        );
    }
}
