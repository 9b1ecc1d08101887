//! Roll-outs, and messages to users.

use std::time::Duration;

use anyhow::bail;
use vidi_proto::v1::message_service_client::MessageServiceClient;
use vidi_proto::v1::pool_service_client::PoolServiceClient;
use vidi_proto::v1::rollout_service_client::RolloutServiceClient;
use vidi_proto::v1::template_service_client::TemplateServiceClient;
use vidi_proto::v1::{
    CancelRolloutRequest, CreateRolloutRequest, GetPoolRequest, GetRolloutRequest,
    ListRolloutsRequest, ListRolloutsResponse, ListTemplateVersionsRequest, MessageDesktopRequest,
    MessageSessionRequest, PauseRolloutRequest, ResumeRolloutRequest, RollBackRolloutRequest,
    Rollout, RolloutPlan, RolloutState, RolloutStatus, TemplateVersion,
};

use crate::arguments::{Global, RolloutCommand, RolloutStart, Wait};
use crate::connect::{Api, all_pages, connect};
use crate::failure::Failure;
use crate::named::{pick, whole_name};
use crate::output::{Table, done, plain, short, show};
use crate::pools::pool_name;
use crate::when::{moment, since};

/// How often a roll-out is looked at that is waited for.
const LOOK_PERIOD: Duration = Duration::from_secs(2);
/// Letters of a digest that are shown.
const DIGEST_CHARS: usize = 19;
/// Fewest letters of a digest, without "sha256:", that are taken for it.
const DIGEST_CHARS_MIN: usize = 6;

type Client = RolloutServiceClient<Api>;

/// Roll-outs.
pub(crate) async fn rollout(global: &Global, command: RolloutCommand) -> anyhow::Result<()> {
    let api = connect(global).await?;
    let mut client = RolloutServiceClient::new(api.clone());
    let etag = String::new();
    let rollout = match command {
        RolloutCommand::Start(start) => return begin(global, api, start).await,
        RolloutCommand::List { pool } => {
            let pool = pool.map(|pool| pool_name(global, &pool)).unwrap_or_default();
            let rollouts = list(global, &mut client, &pool).await?;
            let all = ListRolloutsResponse { rollouts, next_page_token: String::new() };
            return show(global.output, "ListRolloutsResponse", &all, |all| table(&all.rollouts));
        }
        RolloutCommand::Show { rollout } => {
            let request = GetRolloutRequest { name: find(global, &mut client, &rollout).await? };
            client.get_rollout(request).await?
        }
        RolloutCommand::Pause { rollout } => {
            let name = find(global, &mut client, &rollout).await?;
            client.pause_rollout(PauseRolloutRequest { name, etag }).await?
        }
        RolloutCommand::Resume { rollout } => {
            let name = find(global, &mut client, &rollout).await?;
            client.resume_rollout(ResumeRolloutRequest { name, etag }).await?
        }
        RolloutCommand::Cancel { rollout } => {
            let name = find(global, &mut client, &rollout).await?;
            client.cancel_rollout(CancelRolloutRequest { name, etag }).await?
        }
        RolloutCommand::RollBack { rollout } => {
            let name = find(global, &mut client, &rollout).await?;
            client.roll_back_rollout(RollBackRolloutRequest { name, etag }).await?
        }
    };
    show(global.output, "Rollout", &rollout.into_inner(), one_rollout)
}

async fn begin(global: &Global, api: Api, start: RolloutStart) -> anyhow::Result<()> {
    let RolloutStart { pool, version, canaries, wave, ready, soak, failures, wait } = start;
    let pool = pool_name(global, &pool);
    let mut pools = PoolServiceClient::new(api.clone());
    let known = pools.get_pool(GetPoolRequest { name: pool.clone() }).await?;
    let template = known.into_inner().template;
    let request = CreateRolloutRequest {
        parent: format!("tenants/{}", global.tenant),
        rollout: Some(Rollout {
            pool,
            digest: version_named(api.clone(), &template, &version).await?,
            plan: Some(RolloutPlan {
                canaries,
                wave_percent: wave,
                ready_secs: ready,
                soak_secs: soak,
                failures_max: failures,
            }),
            ..Rollout::default()
        }),
        request_id: uuid::Uuid::new_v4().to_string(),
        validate_only: false,
    };
    let mut client = RolloutServiceClient::new(api);
    let begun = client.create_rollout(request).await?.into_inner();
    let ended = followed(&mut client, begun, wait).await?;
    show(global.output, "Rollout", &ended, one_rollout)?;
    let status = ended.status.unwrap_or_default();
    match status.state() {
        RolloutState::RollingBack | RolloutState::RolledBack => bail!("{}", plain(&status.reason)),
        RolloutState::Running | RolloutState::Paused if wait.wait => {
            let reason = plain(&status.reason);
            let (secs, id) = (wait.timeout, short(&ended.name));
            let text = format!("it goes on after {secs} s: {reason}; vidictl rollout show {id}");
            Err(Failure::TimeOver(text).into())
        }
        _ => Ok(()),
    }
}

/// Looks at it until its end, or for so long as was said.
async fn followed(client: &mut Client, mut one: Rollout, wait: Wait) -> anyhow::Result<Rollout> {
    let looks = if wait.wait { u64::from(wait.timeout) / LOOK_PERIOD.as_secs() } else { 0 };
    for _ in 0..looks {
        if one.end_time.is_some() {
            break;
        }
        tokio::time::sleep(LOOK_PERIOD).await;
        let request = GetRolloutRequest { name: one.name.clone() };
        one = client.get_rollout(request).await?.into_inner();
    }
    Ok(one)
}

async fn list(global: &Global, client: &mut Client, pool: &str) -> anyhow::Result<Vec<Rollout>> {
    let parent = format!("tenants/{}", global.tenant);
    all_pages(async |page_token| {
        let (parent, pool) = (parent.clone(), pool.to_owned());
        let request = ListRolloutsRequest { parent, page_size: 0, page_token, pool };
        let page = client.list_rollouts(request).await?.into_inner();
        Ok((page.rollouts, page.next_page_token))
    })
    .await
}

async fn find(global: &Global, client: &mut Client, wanted: &str) -> anyhow::Result<String> {
    if let Some(name) = whole_name(&global.tenant, "rollouts", wanted) {
        return Ok(name);
    }
    let all = list(global, client, "").await?;
    Ok(pick("rollout", all, wanted, |one| (&one.name, ""))?.name)
}

/// All versions of a template, oldest first.
pub(crate) async fn versions(api: Api, template: &str) -> anyhow::Result<Vec<TemplateVersion>> {
    let mut client = TemplateServiceClient::new(api);
    all_pages(async |page_token| {
        let parent = template.to_owned();
        let request = ListTemplateVersionsRequest { parent, page_size: 0, page_token };
        let page = client.list_template_versions(request).await?.into_inner();
        Ok((page.versions, page.next_page_token))
    })
    .await
}

/// The digest of a template's version that is meant by the beginning of it.
pub(crate) async fn version_named(
    api: Api,
    template: &str,
    wanted: &str,
) -> anyhow::Result<String> {
    let hex = wanted.trim_start_matches("sha256:");
    let all = versions(api, template).await?;
    let fits = |one: &TemplateVersion| {
        DIGEST_CHARS_MIN <= hex.len() && one.digest.trim_start_matches("sha256:").starts_with(hex)
    };
    let mut found: Vec<String> = all.into_iter().filter(fits).map(|one| one.digest).collect();
    match (found.pop(), found.len()) {
        (Some(digest), 0) => Ok(digest),
        (Some(_), more) => bail!("\"{wanted}\" fits {} versions: give more letters", more + 1),
        (None, _) => Err(Failure::NotThere(format!(
            "template {} has no version \"{wanted}\" (give {DIGEST_CHARS_MIN} letters or more): \
             vidictl template versions {} shows all",
            short(template),
            short(template)
        ))
        .into()),
    }
}

/// The beginning of a version's digest.
pub(crate) fn short_digest(digest: &str) -> String {
    digest.chars().take(DIGEST_CHARS).collect()
}

fn state(status: &RolloutStatus) -> &'static str {
    match status.state() {
        RolloutState::Running => "running",
        RolloutState::Paused => "paused",
        RolloutState::RollingBack => "rolling back",
        RolloutState::Done => "done",
        RolloutState::RolledBack => "rolled back",
        RolloutState::Cancelled => "cancelled",
        RolloutState::Unspecified => "unknown",
    }
}

fn table(rollouts: &[Rollout]) -> Table {
    let mut table =
        Table::new(["ROLLOUT", "POOL", "VERSION", "STATE", "BEGAN", "FAILED", "REASON"]);
    for one in rollouts {
        let status = one.status.clone().unwrap_or_default();
        let began = since(one.create_time.as_ref());
        table.row([
            short(&one.name),
            short(&one.pool),
            short_digest(&one.digest),
            state(&status).to_owned(),
            if began.is_empty() { began } else { format!("{began} ago") },
            status.failed.to_string(),
            status.reason,
        ]);
    }
    table
}

fn one_rollout(one: &Rollout) -> Table {
    let status = one.status.clone().unwrap_or_default();
    let plan = one.plan.unwrap_or_default();
    let step = match status.step {
        0 => "canaries".to_owned(),
        wave => format!("wave {wave}"),
    };
    let new = format!(
        "{} ready, {} on their way, {} used",
        status.ready, status.preparing, status.claimed
    );
    let old = format!("{} free, {} used", status.old_free, status.old_claimed);
    let failures = status.failures.iter().map(|one| {
        let name = short(&one.desktop);
        format!("{name}: {}", one.reason)
    });
    let failures: Vec<String> = failures.collect();
    let goes_on = one.end_time.is_none();
    let plan = format!(
        "{} canaries, waves of {} %, ready in {} s, watched for {} s, {} failures",
        plan.canaries, plan.wave_percent, plan.ready_secs, plan.soak_secs, plan.failures_max
    );
    Table::of_fields([
        ("Roll-out", short(&one.name)),
        ("Pool", short(&one.pool)),
        ("Version", one.digest.clone()),
        ("Before", status.from_digest.clone()),
        ("State", state(&status).to_owned()),
        ("Reason", status.reason.clone()),
        ("Step", if goes_on { step } else { String::new() }),
        ("New version", if goes_on { new } else { String::new() }),
        ("Old version", if goes_on { old } else { String::new() }),
        ("Failed", status.failed.to_string()),
        ("Failures", failures.join("; ")),
        ("Plan", plan),
        ("Began", moment(one.create_time.as_ref())),
        ("Ended", moment(one.end_time.as_ref())),
    ])
}

/// Tells whoever is on a desktop something.
pub(crate) async fn message_desktop(
    global: &Global,
    api: Api,
    name: String,
    text: String,
) -> anyhow::Result<()> {
    let request_id = uuid::Uuid::new_v4().to_string();
    let request = MessageDesktopRequest { name, text, request_id };
    let told = MessageServiceClient::new(api).message_desktop(request).await?.into_inner();
    done(global.output, &format!("sent to {}", short(&told.user)))
}

/// Tells the user of a session something.
pub(crate) async fn message_session(
    global: &Global,
    api: Api,
    name: String,
    text: String,
) -> anyhow::Result<()> {
    let request_id = uuid::Uuid::new_v4().to_string();
    let request = MessageSessionRequest { name, text, request_id };
    let told = MessageServiceClient::new(api).message_session(request).await?.into_inner();
    done(global.output, &format!("sent to {}", short(&told.user)))
}
