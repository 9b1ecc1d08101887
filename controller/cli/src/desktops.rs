//! Desktops, who is on them, and the changes that go on.

use anyhow::bail;
use vidi_proto::v1::desktop_service_client::DesktopServiceClient;
use vidi_proto::v1::operation::Result as Outcome;
use vidi_proto::v1::operation_service_client::OperationServiceClient;
use vidi_proto::v1::session_service_client::SessionServiceClient;
use vidi_proto::v1::{
    App, Assignment, ChangeKind, CreateDesktopRequest, DeleteDesktopRequest, Desktop,
    GetOperationRequest, ListAppsRequest, ListDesktopsRequest, ListDesktopsResponse,
    ListOperationsRequest, ListOperationsResponse, ListSessionsRequest, ListSessionsResponse,
    OpenAppRequest, Operation, Power, ReleaseSessionRequest, Session, SessionState,
    StartDesktopRequest, StopDesktopRequest, WaitOperationRequest, WatchDesktopsRequest,
};

use crate::arguments::{
    AppCommand, DesktopCommand, Format, Global, OperationCommand, SessionCommand, Wait,
};
use crate::connect::{Api, connect};
use crate::output::{Table, json, print, short, show};

/// Shortest beginning of an id that is taken for it.
const ID_CHARS_MIN: usize = 4;
/// Longest wait that one request asks for; the contract allows 600.
const WAIT_SECS_MAX: u32 = 60;

/// Desktops.
pub(crate) async fn desktop(global: &Global, command: DesktopCommand) -> anyhow::Result<()> {
    let api = connect(global).await?;
    let mut client = DesktopServiceClient::new(api.clone());
    let parent = format!("tenants/{}", global.tenant);
    match command {
        DesktopCommand::Create { template, name, user, start, wait } => {
            let request = CreateDesktopRequest {
                template: format!("{parent}/templates/{template}"),
                assigned_user: user.map(|it| format!("{parent}/users/{it}")).unwrap_or_default(),
                display_name: name.unwrap_or_default(),
                parent,
                start,
                request_id: uuid::Uuid::new_v4().to_string(),
                validate_only: false,
                ..Default::default()
            };
            let operation = client.create_desktop(request).await?.into_inner();
            follow(global, api, operation, wait).await
        }
        DesktopCommand::List => {
            let all = list(global, &mut client).await?;
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
        DesktopCommand::Delete { desktop, wait } => {
            let name = find(global, &mut client, &desktop).await?.name;
            let request = DeleteDesktopRequest { name, ..DeleteDesktopRequest::default() };
            let operation = client.delete_desktop(request).await?.into_inner();
            follow(global, api, operation, wait).await
        }
        DesktopCommand::Watch => watch(global, client).await,
    }
}

async fn list(
    global: &Global,
    client: &mut DesktopServiceClient<Api>,
) -> anyhow::Result<ListDesktopsResponse> {
    let mut all = ListDesktopsResponse::default();
    loop {
        let request = ListDesktopsRequest {
            parent: format!("tenants/{}", global.tenant),
            page_size: 0,
            page_token: all.next_page_token.clone(),
        };
        let page = client.list_desktops(request).await?.into_inner();
        all.desktops.extend(page.desktops);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            return Ok(all);
        }
    }
}

/// By id, by the beginning of one, or by display name, where only one fits.
async fn find(
    global: &Global,
    client: &mut DesktopServiceClient<Api>,
    wanted: &str,
) -> anyhow::Result<Desktop> {
    pick(list(global, client).await?.desktops, wanted)
}

fn pick(desktops: Vec<Desktop>, wanted: &str) -> anyhow::Result<Desktop> {
    let fits = |desktop: &Desktop| {
        let id = short(&desktop.name);
        let begins = ID_CHARS_MIN <= wanted.len() && id.starts_with(wanted);
        desktop.name == wanted || begins || desktop.display_name == wanted
    };
    let mut found: Vec<_> = desktops.into_iter().filter(fits).collect();
    match (found.pop(), found.len()) {
        (Some(desktop), 0) => Ok(desktop),
        (Some(_), more) => bail!("\"{wanted}\" fits {} desktops: give the whole id", more + 1),
        (None, _) => bail!("there is no desktop \"{wanted}\", or it is not yours"),
    }
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
        let state = state_of(&desktop);
        let reason = status.reason;
        let line = format!(
            "{kind:8} {} {:24} {state} {reason}",
            short(&desktop.name),
            desktop.display_name
        );
        print(line.trim_end())?;
    }
    bail!("the controller ended the watch")
}

fn desktops(desktops: &[Desktop]) -> Table {
    let mut table = Table::new(["DESKTOP", "NAME", "STATE", "HOST", "USER", "TEMPLATE", "REASON"]);
    for desktop in desktops {
        let spec = desktop.spec.clone().unwrap_or_default();
        let status = desktop.status.clone().unwrap_or_default();
        table.row([
            short(&desktop.name),
            desktop.display_name.clone(),
            state_of(desktop),
            short(&status.host),
            short(&spec.assigned_user),
            short(&spec.template),
            status.reason,
        ]);
    }
    table
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
    Table::of_fields([
        ("desktop", short(&desktop.name)),
        ("name", desktop.display_name.clone()),
        ("state", state_of(desktop)),
        ("reason", status.reason),
        ("host", short(&status.host)),
        ("runs as", status.acceleration),
        ("assignment", assignment.to_owned()),
        ("user", short(&spec.assigned_user)),
        ("session", short(&status.session)),
        ("template", short(&spec.template)),
        ("version", spec.template_digest),
        ("generation", format!("{} (seen {})", spec.generation, status.observed_generation)),
    ])
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
    let away = if status.host_unreachable { " (host away)" } else { "" };
    format!("{power}{away}")
}

/// Sessions.
pub(crate) async fn session(global: &Global, command: SessionCommand) -> anyhow::Result<()> {
    let mut client = SessionServiceClient::new(connect(global).await?);
    let parent = format!("tenants/{}", global.tenant);
    match command {
        SessionCommand::List => {
            let mut all = ListSessionsResponse::default();
            loop {
                let page_token = all.next_page_token.clone();
                let request =
                    ListSessionsRequest { parent: parent.clone(), page_size: 0, page_token };
                let page = client.list_sessions(request).await?.into_inner();
                all.sessions.extend(page.sessions);
                all.next_page_token = page.next_page_token;
                if all.next_page_token.is_empty() {
                    break;
                }
            }
            show(global.output, "ListSessionsResponse", &all, |all| sessions(&all.sessions))
        }
        SessionCommand::Release { session } => {
            let request = ReleaseSessionRequest { name: format!("{parent}/sessions/{session}") };
            let session = client.release_session(request).await?.into_inner();
            show(global.output, "Session", &session, |one| sessions(std::slice::from_ref(one)))
        }
    }
}

fn sessions(sessions: &[Session]) -> Table {
    let mut table = Table::new(["SESSION", "USER", "DESKTOP", "STATE", "GATEWAY", "REASON"]);
    for session in sessions {
        let state = match session.state() {
            SessionState::Opening => "opening",
            SessionState::Connected => "connected",
            SessionState::Disconnected => "disconnected",
            SessionState::Ended => "ended",
            SessionState::Unspecified => "unknown",
        };
        table.row([
            short(&session.name),
            short(&session.user),
            short(&session.desktop),
            state.to_owned(),
            session.gateway.clone(),
            session.end_reason.clone(),
        ]);
    }
    table
}

/// The caller's menu.
pub(crate) async fn app(global: &Global, command: AppCommand) -> anyhow::Result<()> {
    let mut client = SessionServiceClient::new(connect(global).await?);
    match command {
        AppCommand::List => {
            let apps = client.list_apps(ListAppsRequest {}).await?.into_inner();
            show(global.output, "ListAppsResponse", &apps, |all| apps_table(&all.apps))
        }
        AppCommand::Open { app } => {
            let name = format!("tenants/{}/apps/{app}", global.tenant);
            let request_id = uuid::Uuid::new_v4().to_string();
            let session = client.open_app(OpenAppRequest { name, request_id }).await?.into_inner();
            show(global.output, "Session", &session, |one| sessions(std::slice::from_ref(one)))
        }
    }
}

fn apps_table(apps: &[App]) -> Table {
    let mut table = Table::new(["APP", "NAME", "STATE", "DESKTOP"]);
    for app in apps {
        table.row([
            short(&app.name),
            app.display_name.clone(),
            app.state.clone(),
            short(&app.desktop),
        ]);
    }
    table
}

/// Operations.
pub(crate) async fn operation(global: &Global, command: OperationCommand) -> anyhow::Result<()> {
    let api = connect(global).await?;
    let mut client = OperationServiceClient::new(api.clone());
    let name = |id: &str| format!("operations/{id}");
    match command {
        OperationCommand::List => {
            let mut all = ListOperationsResponse::default();
            loop {
                let page_token = all.next_page_token.clone();
                let request = ListOperationsRequest { page_size: 0, page_token };
                let page = client.list_operations(request).await?.into_inner();
                all.operations.extend(page.operations);
                all.next_page_token = page.next_page_token;
                if all.next_page_token.is_empty() {
                    break;
                }
            }
            show(global.output, "ListOperationsResponse", &all, |all| operations(&all.operations))
        }
        OperationCommand::Get { operation } => {
            let request = GetOperationRequest { name: name(&operation) };
            let operation = client.get_operation(request).await?.into_inner();
            show(global.output, "Operation", &operation, |one| {
                operations(std::slice::from_ref(one))
            })
        }
        OperationCommand::Wait { operation, timeout } => {
            let request = GetOperationRequest { name: name(&operation) };
            let operation = client.get_operation(request).await?.into_inner();
            follow(global, api, operation, Wait { wait: true, timeout }).await
        }
    }
}

/// Shows an operation, at once or when it has ended; one that failed is an error.
async fn follow(
    global: &Global,
    api: Api,
    mut operation: Operation,
    wait: Wait,
) -> anyhow::Result<()> {
    let mut client = OperationServiceClient::new(api);
    let mut left_secs = if wait.wait { wait.timeout } else { 0 };
    while !operation.done && left_secs != 0 {
        let timeout_secs = left_secs.min(WAIT_SECS_MAX);
        let request = WaitOperationRequest { name: operation.name.clone(), timeout_secs };
        operation = client.wait_operation(request).await?.into_inner();
        left_secs -= timeout_secs;
    }
    show(global.output, "Operation", &operation, |one| operations(std::slice::from_ref(one)))?;
    match &operation.result {
        Some(Outcome::Error(error)) => bail!("{} [{}]", error.message, error.reason),
        Some(Outcome::Resource(_)) => Ok(()),
        None if wait.wait && !operation.done => {
            bail!("it still goes on after {} s: {}", wait.timeout, operation.stage)
        }
        None => Ok(()),
    }
}

fn operations(operations: &[Operation]) -> Table {
    let mut table = Table::new(["OPERATION", "KIND", "DESKTOP", "STATE", "STAGE"]);
    for operation in operations {
        let state = match &operation.result {
            Some(Outcome::Error(error)) => format!("failed: {}", error.message),
            _ if operation.done => "done".to_owned(),
            _ => "going on".to_owned(),
        };
        table.row([
            short(&operation.name),
            operation.kind.clone(),
            short(&operation.target),
            state,
            operation.stage.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_desktop_is_found_by_what_fits_only_one() {
        let desktop = |id: &str, display_name: &str| Desktop {
            name: format!("tenants/default/desktops/{id}"),
            display_name: display_name.to_owned(),
            ..Desktop::default()
        };
        let all = vec![
            desktop("0190aaaa-1", "Office"),
            desktop("0190aaaa-2", "Office"),
            desktop("0190bbbb-3", "Lab"),
        ];
        let found = |wanted: &str| pick(all.clone(), wanted).map(|one| short(&one.name)).ok();
        assert_eq!(found("Lab").as_deref(), Some("0190bbbb-3"));
        assert_eq!(found("0190bb").as_deref(), Some("0190bbbb-3"));
        assert_eq!(found("0190aaaa-2").as_deref(), Some("0190aaaa-2"));
        assert_eq!(found("Office"), None);
        assert_eq!(found("019"), None);
        assert_eq!(found("none"), None);
    }
}
