//! Desktops.

use anyhow::bail;
use vidi_proto::v1::desktop_service_client::DesktopServiceClient;
use vidi_proto::v1::{
    AssignDesktopRequest, Assignment, ChangeKind, CreateDesktopRequest, DeleteDesktopRequest,
    Desktop, DesktopSpec, DesktopStatus, DisplayPolicy, GetDesktopRequest, ListDesktopsRequest,
    ListDesktopsResponse, Power, ReleasePolicy, RestartDesktopRequest, StartDesktopRequest,
    StopDesktopRequest, UnassignDesktopRequest, UpdateDesktopRequest, WatchDesktopsRequest,
};

use crate::arguments::{AfterUse, DesktopCommand, Format, Global, PolicyFlags, Wait, Yes};
use crate::ask::confirm;
use crate::connect::{Api, PAGE_SIZE_MAX, all_pages, connect};
use crate::display_policy::{policy_fields, with_flags};
use crate::named::{mask, pick, there, whole_name};
use crate::operations::follow;
use crate::output::{Table, json, plain, print, short, show};
use crate::pools::pool_name;
use crate::rollouts::message_desktop;
use crate::sessions::on_it;
use crate::when::{moment, since};

/// Desktops.
pub(crate) async fn desktop(global: &Global, command: DesktopCommand) -> anyhow::Result<()> {
    let api = connect(global).await?;
    let mut client = DesktopServiceClient::new(api.clone());
    match command {
        DesktopCommand::Create { template, name, user, after_use, policy, start, wait } => {
            let parent = format!("tenants/{}", global.tenant);
            let request = CreateDesktopRequest {
                template: format!("{parent}/templates/{template}"),
                assigned_user: user.map(|it| format!("{parent}/users/{it}")).unwrap_or_default(),
                display_name: name.unwrap_or_default(),
                parent,
                start,
                request_id: uuid::Uuid::new_v4().to_string(),
                validate_only: false,
                release_policy: policy_of(after_use).into(),
                display_policy: Some(with_flags(DisplayPolicy::default(), &policy)),
            };
            let operation = client.create_desktop(request).await?.into_inner();
            follow(global, api, operation, wait).await
        }
        DesktopCommand::Update { desktop, name, after_use, policy } => {
            let before = find(global, &mut client, &desktop).await?;
            let request = update(before, name, after_use, &policy)?;
            let after = client.update_desktop(request).await?.into_inner();
            show(global.output, "Desktop", &after, one_desktop)
        }
        DesktopCommand::List { pool } => {
            let pool = pool.map(|pool| pool_name(global, &pool)).unwrap_or_default();
            let all = list(global, &mut client, &pool).await?;
            show(global.output, "ListDesktopsResponse", &all, |all| desktops(&all.desktops))
        }
        DesktopCommand::Get { desktop } => {
            let desktop = find(global, &mut client, &desktop).await?;
            show(global.output, "Desktop", &desktop, one_desktop)
        }
        DesktopCommand::Start { desktop, wait } => {
            let name = find(global, &mut client, &desktop).await?.name;
            let request = StartDesktopRequest { name, ..StartDesktopRequest::default() };
            let operation = client.start_desktop(request).await?.into_inner();
            follow(global, api, operation, wait).await
        }
        DesktopCommand::Stop { desktop, force, wait } => {
            let name = find(global, &mut client, &desktop).await?.name;
            let request = StopDesktopRequest { name, force, ..StopDesktopRequest::default() };
            let operation = client.stop_desktop(request).await?.into_inner();
            follow(global, api, operation, wait).await
        }
        DesktopCommand::Restart { desktop, force, wait } => {
            let name = find(global, &mut client, &desktop).await?.name;
            let request = RestartDesktopRequest { name, force, ..RestartDesktopRequest::default() };
            let operation = client.restart_desktop(request).await?.into_inner();
            follow(global, api, operation, wait).await
        }
        DesktopCommand::Delete { desktop, yes, wait } => {
            let desktop = find(global, &mut client, &desktop).await?;
            delete(global, api, &desktop, yes, wait).await
        }
        DesktopCommand::Assign { desktop, user } => {
            assign(global, client, &desktop, Some(&user)).await
        }
        DesktopCommand::Unassign { desktop } => assign(global, client, &desktop, None).await,
        DesktopCommand::Message { desktop, text } => {
            let name = find(global, &mut client, &desktop).await?.name;
            message_desktop(global, api, name, text).await
        }
        DesktopCommand::Watch => watch(global, client).await,
    }
}

/// Keeps a desktop for a user, or for nobody.
async fn assign(
    global: &Global,
    mut client: DesktopServiceClient<Api>,
    desktop: &str,
    user: Option<&str>,
) -> anyhow::Result<()> {
    let Desktop { name, etag, .. } = find(global, &mut client, desktop).await?;
    let after = match user {
        Some(user) => {
            let user = format!("tenants/{}/users/{user}", global.tenant);
            client.assign_desktop(AssignDesktopRequest { name, user, etag }).await?
        }
        None => client.unassign_desktop(UnassignDesktopRequest { name, etag }).await?,
    };
    show(global.output, "Desktop", &after.into_inner(), one_desktop)
}

/// Changes what was given, nothing else.
fn update(
    before: Desktop,
    name: Option<String>,
    after_use: Option<AfterUse>,
    flags: &PolicyFlags,
) -> anyhow::Result<UpdateDesktopRequest> {
    let old = before.spec.and_then(|spec| spec.display_policy).unwrap_or_default();
    let policy = with_flags(old, flags);
    let fields = [
        ("display_name", name.is_some()),
        ("spec.release_policy", after_use.is_some()),
        ("spec.display_policy", policy != old),
    ];
    let update_mask = Some(mask(fields, "--name, --after-use, or a policy other than it has")?);
    let spec = DesktopSpec {
        release_policy: after_use.map(policy_of).unwrap_or_default().into(),
        display_policy: Some(policy),
        ..DesktopSpec::default()
    };
    let desktop = Desktop {
        name: before.name,
        display_name: name.unwrap_or_default(),
        // The policy is sent whole: what somebody else changed meanwhile must not be undone.
        etag: before.etag,
        spec: Some(spec),
        ..Desktop::default()
    };
    Ok(UpdateDesktopRequest { desktop: Some(desktop), update_mask })
}

async fn delete(
    global: &Global,
    api: Api,
    desktop: &Desktop,
    yes: Yes,
    wait: Wait,
) -> anyhow::Result<()> {
    confirm(yes, &what_is_lost(desktop))?;
    let name = desktop.name.clone();
    let request = DeleteDesktopRequest { name, ..DeleteDesktopRequest::default() };
    let operation = DesktopServiceClient::new(api.clone()).delete_desktop(request).await?;
    follow(global, api, operation.into_inner(), wait).await
}

/// What goes with a desktop, for the question before it is destroyed.
fn what_is_lost(desktop: &Desktop) -> String {
    let spec = desktop.spec.clone().unwrap_or_default();
    let status = desktop.status.clone().unwrap_or_default();
    let whose = match short(&spec.assigned_user).as_str() {
        "" => String::new(),
        user => format!(" of {user}"),
    };
    let mut text = format!(
        "\"{}\"{whose} ({}) is destroyed, and everything on its disk is lost.",
        plain(&desktop.display_name),
        short(&desktop.name)
    );
    if !status.session_user.is_empty() {
        text += &format!(" {} is on it now and is cut off.", short(&status.session_user));
    }
    text
}

fn policy_of(after_use: AfterUse) -> ReleasePolicy {
    match after_use {
        AfterUse::Keep => ReleasePolicy::Keep,
        AfterUse::Stop => ReleasePolicy::Stop,
        AfterUse::Delete => ReleasePolicy::Delete,
    }
}

async fn list(
    global: &Global,
    client: &mut DesktopServiceClient<Api>,
    pool: &str,
) -> anyhow::Result<ListDesktopsResponse> {
    let desktops = all_pages(async |page_token| {
        let parent = format!("tenants/{}", global.tenant);
        let request = ListDesktopsRequest {
            parent,
            page_size: PAGE_SIZE_MAX,
            page_token,
            pool: pool.to_owned(),
        };
        let page = client.list_desktops(request).await?.into_inner();
        Ok((page.desktops, page.next_page_token))
    })
    .await?;
    Ok(ListDesktopsResponse { desktops, next_page_token: String::new() })
}

/// By id, by the beginning of one, or by display name, where only one fits.
async fn find(
    global: &Global,
    client: &mut DesktopServiceClient<Api>,
    wanted: &str,
) -> anyhow::Result<Desktop> {
    if let Some(name) = whole_name(&global.tenant, "desktops", wanted)
        && let Some(found) = there(client.get_desktop(GetDesktopRequest { name }).await)?
    {
        return Ok(found);
    }
    let all = list(global, client, "").await?.desktops;
    pick("desktop", all, wanted, |one| (&one.name, &one.display_name))
}

/// The name of the desktop that is meant.
pub(crate) async fn named(global: &Global, wanted: &str) -> anyhow::Result<String> {
    let mut client = DesktopServiceClient::new(connect(global).await?);
    Ok(find(global, &mut client, wanted).await?.name)
}

async fn watch(global: &Global, mut client: DesktopServiceClient<Api>) -> anyhow::Result<()> {
    let parent = format!("tenants/{}", global.tenant);
    let request = WatchDesktopsRequest { parent, resume_token: String::new() };
    let mut changes = client.watch_desktops(request).await?.into_inner();
    while let Some(change) = changes.message().await? {
        if global.output == Format::Json {
            print(&json("WatchDesktopsResponse", &change)?)?;
            continue;
        }
        let kind = match change.kind() {
            ChangeKind::Added => "added",
            ChangeKind::Modified => "changed",
            ChangeKind::Deleted => "deleted",
            ChangeKind::Bookmark | ChangeKind::Unspecified => continue,
        };
        let desktop = change.desktop.unwrap_or_default();
        let status = desktop.status.clone().unwrap_or_default();
        let line = format!(
            "{kind:8} {} {:24} {} {}",
            short(&desktop.name),
            plain(&desktop.display_name),
            state_of(&desktop),
            plain(&status.reason)
        );
        print(line.trim_end())?;
    }
    bail!("the controller ended the watch")
}

fn desktops(desktops: &[Desktop]) -> Table {
    let mut table = Table::new([
        "DESKTOP", "NAME", "USER", "STATE", "SINCE", "HOST", "ON IT", "TEMPLATE", "POOL", "REASON",
    ]);
    for desktop in desktops {
        let spec = desktop.spec.clone().unwrap_or_default();
        let status = desktop.status.clone().unwrap_or_default();
        table.row([
            short(&desktop.name),
            desktop.display_name.clone(),
            short(&spec.assigned_user),
            state_of(desktop),
            since(status.power_since.as_ref()),
            short(&status.host),
            who_is_on(&status),
            short(&spec.template),
            short(&spec.pool),
            status.reason,
        ]);
    }
    table
}

fn who_is_on(status: &DesktopStatus) -> String {
    on_it(&status.session_user, status.session_state(), status.session_state_since.as_ref())
}

fn one_desktop(desktop: &Desktop) -> Table {
    let spec = desktop.spec.clone().unwrap_or_default();
    let status = desktop.status.clone().unwrap_or_default();
    let assignment = match status.assignment() {
        Assignment::Free => "free",
        Assignment::Claimed => "claimed",
        Assignment::Assigned => "assigned",
        Assignment::Unspecified => "",
    };
    let after_use = match spec.release_policy() {
        ReleasePolicy::Keep => "goes on running",
        ReleasePolicy::Stop | ReleasePolicy::Unspecified => "is shut down",
        ReleasePolicy::Delete => "is destroyed",
    };
    let fields = [
        ("desktop", short(&desktop.name)),
        ("name", desktop.display_name.clone()),
        ("state", state_of(desktop)),
        ("since", moment(status.power_since.as_ref())),
        ("reason", status.reason.clone()),
        ("host", short(&status.host)),
        ("runs as", status.acceleration.clone()),
        ("assignment", assignment.to_owned()),
        ("user", short(&spec.assigned_user)),
        ("pool", short(&spec.pool)),
        ("on it", who_is_on(&status)),
        ("session", short(&status.session)),
        ("after use", after_use.to_owned()),
        ("template", short(&spec.template)),
        ("version", spec.template_digest),
        ("made", moment(desktop.create_time.as_ref())),
        ("generation", format!("{} (seen {})", spec.generation, status.observed_generation)),
    ];
    let policy = policy_fields(&spec.display_policy.unwrap_or_default());
    Table::of_fields(fields.into_iter().chain(policy))
}

fn state_of(desktop: &Desktop) -> String {
    let status = desktop.status.clone().unwrap_or_default();
    let power = match status.power() {
        Power::Running if status.ready => "ready",
        Power::Running => "running",
        Power::Preparing => "preparing",
        Power::Off => "off",
        Power::Starting => "starting",
        Power::Saved => "saved",
        Power::Failed => "failed",
        Power::Unspecified => "unknown",
    };
    let restarting = desktop.spec.as_ref().is_some_and(|spec| spec.restarting);
    let restarting = if restarting { " (restarting)" } else { "" };
    let away = if status.host_unreachable { " (host away)" } else { "" };
    format!("{power}{restarting}{away}")
}

#[cfg(test)]
mod tests {
    use vidi_proto::v1::Permission;

    use super::*;
    use crate::arguments::Switch;

    #[test]
    fn only_what_is_given_changes_and_nothing_given_is_refused() {
        let flags = PolicyFlags::default();
        let policy = DisplayPolicy { watermark: true, ..DisplayPolicy::default() };
        let spec = DesktopSpec { display_policy: Some(policy), ..DesktopSpec::default() };
        let before = Desktop { etag: "e".to_owned(), spec: Some(spec), ..Desktop::default() };
        assert!(update(before.clone(), None, None, &flags).is_err());
        let flags = PolicyFlags { files: Some(Switch::Off), ..flags };
        let request = update(before, None, None, &flags).unwrap();
        assert_eq!(request.update_mask.unwrap().paths, ["spec.display_policy"]);
        let desktop = request.desktop.unwrap();
        let sent = desktop.spec.unwrap().display_policy.unwrap();
        assert_eq!(sent, DisplayPolicy { files: Permission::Denied.into(), ..policy });
        assert_eq!(desktop.etag, "e");
    }

    #[test]
    fn the_question_before_destroying_says_whose_it_is_and_who_is_cut_off() {
        let mut desktop = Desktop {
            name: "tenants/t/desktops/0190".to_owned(),
            display_name: "Office".to_owned(),
            spec: Some(DesktopSpec {
                assigned_user: "tenants/t/users/ana".to_owned(),
                ..DesktopSpec::default()
            }),
            ..Desktop::default()
        };
        assert_eq!(
            what_is_lost(&desktop),
            "\"Office\" of ana (0190) is destroyed, and everything on its disk is lost."
        );
        desktop.status = Some(DesktopStatus {
            session_user: "tenants/t/users/ben".to_owned(),
            ..DesktopStatus::default()
        });
        assert!(what_is_lost(&desktop).ends_with("ben is on it now and is cut off."));
    }
}
