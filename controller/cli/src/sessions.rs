//! Who is on which desktop, and the caller's own menu.

use anyhow::bail;
use prost_types::Timestamp;
use vidi_proto::v1::desktop_service_client::DesktopServiceClient;
use vidi_proto::v1::session_service_client::SessionServiceClient;
use vidi_proto::v1::{
    App, GetDesktopRequest, GetSessionRequest, ListAppsRequest, ListSessionsRequest,
    ListSessionsResponse, OpenAppRequest, ReleasePolicy, ReleaseSessionRequest, Session,
    SessionState, WatchSessionsRequest,
};

use crate::arguments::{AppCommand, Format, Global, SessionCommand, Yes};
use crate::ask::confirm;
use crate::connect::{Api, all_pages, connect};
use crate::output::{Table, json, plain, print, short, show};
use crate::rollouts::message_session;
use crate::when::since;

/// Sessions.
pub(crate) async fn session(global: &Global, command: SessionCommand) -> anyhow::Result<()> {
    let api = connect(global).await?;
    let mut client = SessionServiceClient::new(api.clone());
    let parent = format!("tenants/{}", global.tenant);
    match command {
        SessionCommand::List => {
            let sessions = all_pages(async |page_token| {
                let parent = parent.clone();
                let request = ListSessionsRequest { parent, page_size: 0, page_token };
                let page = client.list_sessions(request).await?.into_inner();
                Ok((page.sessions, page.next_page_token))
            })
            .await?;
            let all = ListSessionsResponse { sessions, next_page_token: String::new() };
            show(global.output, "ListSessionsResponse", &all, |all| sessions_table(&all.sessions))
        }
        SessionCommand::Message { session, text } => {
            message_session(global, api, format!("{parent}/sessions/{session}"), text).await
        }
        SessionCommand::Watch => watch(global, client, parent).await,
        SessionCommand::Release { session, yes } => {
            let name = format!("{parent}/sessions/{session}");
            ask_where_a_desktop_goes_with_it(api, &name, yes).await?;
            let session = client.release_session(ReleaseSessionRequest { name }).await?;
            show(global.output, "Session", &session.into_inner(), |one| {
                sessions_table(std::slice::from_ref(one))
            })
        }
    }
}

async fn watch(
    global: &Global,
    mut client: SessionServiceClient<Api>,
    parent: String,
) -> anyhow::Result<()> {
    let request = WatchSessionsRequest { parent, resume_token: String::new() };
    let mut changes = client.watch_sessions(request).await?.into_inner();
    while let Some(change) = changes.message().await? {
        if global.output == Format::Json {
            print(&json("WatchSessionsResponse", &change)?)?;
            continue;
        }
        let Some(session) = change.session else { continue };
        let who = on_it(&session.user, session.state(), session.state_since.as_ref());
        let line = format!("{} {who} {}", short(&session.name), plain(&session.end_reason));
        print(line.trim_end())?;
    }
    bail!("the controller ended the watch")
}

async fn ask_where_a_desktop_goes_with_it(api: Api, name: &str, yes: Yes) -> anyhow::Result<()> {
    let request = GetSessionRequest { name: name.to_owned() };
    let session = SessionServiceClient::new(api.clone()).get_session(request).await?.into_inner();
    if session.desktop.is_empty() {
        return Ok(());
    }
    let request = GetDesktopRequest { name: session.desktop };
    // Who may end a session may not always see its desktop.
    let Ok(desktop) = DesktopServiceClient::new(api).get_desktop(request).await else {
        return Ok(());
    };
    let desktop = desktop.into_inner();
    if desktop.spec.as_ref().map(|spec| spec.release_policy()) != Some(ReleasePolicy::Delete) {
        return Ok(());
    }
    let display_name = plain(&desktop.display_name);
    confirm(yes, &format!("\"{display_name}\" is destroyed when its session ends."))
}

/// Who is on a desktop or machine: `ana, connected 5 min`; empty for nobody.
pub(crate) fn on_it(user: &str, state: SessionState, since_time: Option<&Timestamp>) -> String {
    if user.is_empty() {
        return String::new();
    }
    let (user, state, since) = (short(user), session_state(state), since(since_time));
    format!("{user}, {state} {since}").trim_end().to_owned()
}

/// A session's state in one word.
fn session_state(state: SessionState) -> &'static str {
    match state {
        SessionState::Opening => "opening",
        SessionState::Connected => "connected",
        SessionState::Disconnected => "disconnected",
        SessionState::Ended => "ended",
        SessionState::Unspecified => "unknown",
    }
}

/// What a session is on, or the pool that it waits for.
fn place(session: &Session) -> String {
    match &session.queue {
        Some(_) => format!("pool {}", short(&session.pool)),
        None => short(if session.machine.is_empty() { &session.desktop } else { &session.machine }),
    }
}

fn state_of(session: &Session) -> String {
    match session.queue.as_ref().map(|queue| (queue.position, queue.estimate_secs)) {
        None => session_state(session.state()).to_owned(),
        Some((position, 0)) => format!("waiting, number {position}"),
        Some((position, secs)) => format!("waiting, number {position}, about {secs} s"),
    }
}

/// Why it has ended, or does not go on.
fn reason(session: &Session) -> String {
    let waits = session.queue.as_ref().map_or("", |queue| queue.reason.as_str());
    let known = [session.end_reason.as_str(), waits, session.problem.as_str()];
    known.into_iter().find(|text| !text.is_empty()).unwrap_or_default().to_owned()
}

fn sessions_table(sessions: &[Session]) -> Table {
    let mut table =
        Table::new(["SESSION", "USER", "DESKTOP", "STATE", "SINCE", "GATEWAY", "REASON"]);
    for session in sessions {
        table.row([
            short(&session.name),
            short(&session.user),
            place(session),
            state_of(session),
            since(session.state_since.as_ref()),
            session.gateway.clone(),
            reason(session),
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
            show(global.output, "Session", &session, |one| {
                sessions_table(std::slice::from_ref(one))
            })
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
            short(if app.machine.is_empty() { &app.desktop } else { &app.machine }),
        ]);
    }
    table
}
