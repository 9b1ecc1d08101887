//! Claims at a fixed rate, however long the answers take; what they took, what followed, and whether any
//! desktop was given twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::Code;
use vidi_proto::v1::session_service_client::SessionServiceClient;
use vidi_proto::v1::{ListAppsRequest, OpenAppRequest, Session, SessionState};

use crate::agents::Common;
use crate::people::{People, TENANT, user_id};
use crate::say::{cpu_ms, ms, percentile};

/// Claims that are on their way where no rate is given.
const IN_FLIGHT: usize = 128;
/// A refill that takes longer does not come.
const REFILL_WAIT_MAX: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK_PERIOD: Duration = Duration::from_millis(20);

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Volley<'a> {
    /// The pool; none: each user's own desktop.
    pub(crate) pool: Option<&'a str>,
    /// Claims a second; 0: as fast as they are answered, 128 at a time.
    pub(crate) rate: u32,
    /// Claims, each of another user.
    pub(crate) count: usize,
    /// The controller's process.
    pub(crate) pid: u32,
}

struct Answered {
    user: usize,
    latency: Duration,
    at: Instant,
    session: Result<Session, Code>,
}

/// Fires; gives the report.
pub(crate) async fn fire(common: &Arc<Common>, people: &Arc<People>, volley: Volley<'_>) -> Value {
    let apps = apps(people, volley).await;
    common.note_seen();
    let cpu_before = cpu_ms(volley.pid);
    let began = Instant::now();
    let answers = send_all(people, &apps, volley).await;
    let cpu_claims = cpu_ms(volley.pid) - cpu_before;
    let answered: Vec<&Answered> = answers.iter().filter(|one| one.session.is_ok()).collect();
    if volley.pool.is_some() {
        let until = Instant::now() + REFILL_WAIT_MAX;
        while common.seen() < answered.len() && Instant::now() < until {
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    }
    let cpu_all = cpu_ms(volley.pid) - cpu_before;
    let mut moments: Vec<Instant> = answered.iter().map(|one| one.at).collect();
    moments.sort_unstable();
    let last = moments.last().copied().unwrap_or(began);
    // The nth desktop that an agent hears of follows from the nth claim.
    let seen = common.take_seen();
    let refills: Vec<Duration> =
        seen.iter().zip(&moments).map(|(seen, at)| seen.saturating_duration_since(*at)).collect();
    let latencies: Vec<Duration> = answered.iter().map(|one| one.latency).collect();
    let mut refused = BTreeMap::<String, usize>::new();
    for code in answers.iter().filter_map(|one| one.session.as_ref().err()) {
        *refused.entry(format!("{code:?}")).or_default() += 1;
    }
    let sessions = answered.iter().filter_map(|one| one.session.as_ref().ok());
    let with_desktop = sessions.filter(|one| !one.desktop.is_empty()).count();
    let (doubles, wrong) = audit(people, &answers).await;
    let claims = as_f64(answered.len().max(1));
    json!({
        "event": "claims", "count": volley.count, "answered": answered.len(),
        "with_desktop": with_desktop, "refused": refused,
        "p50_ms": percentile(&latencies, 0.5), "p99_ms": percentile(&latencies, 0.99),
        "max_ms": percentile(&latencies, 1.0),
        "per_s": as_f64(answered.len()) / (last - began).as_secs_f64().max(0.001),
        "doubles": doubles, "wrong": wrong,
        "refills": refills.len(), "refill_p50_ms": percentile(&refills, 0.5),
        "refill_p99_ms": percentile(&refills, 0.99),
        "cpu_ms_per_claim": cpu_claims / claims, "cpu_ms_per_claim_and_refill": cpu_all / claims,
    })
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "small counts")]
pub(crate) fn as_f64(count: usize) -> f64 {
    count as f64
}

/// The app that each user opens.
async fn apps(people: &People, volley: Volley<'_>) -> Vec<String> {
    if let Some(pool) = volley.pool {
        return vec![people.app_of(pool); volley.count];
    }
    let mut apps = Vec::new();
    for user in 0..volley.count {
        let mut client = SessionServiceClient::new(people.gateway(user));
        let menu = client.list_apps(people.request(user, ListAppsRequest {})).await.unwrap();
        apps.push(menu.into_inner().apps.first().unwrap().name.clone());
    }
    apps
}

async fn send_all(people: &Arc<People>, apps: &[String], volley: Volley<'_>) -> Vec<Answered> {
    let room = Arc::new(Semaphore::new(if volley.rate == 0 { IN_FLIGHT } else { volley.count }));
    let began = Instant::now();
    let mut asking = Vec::with_capacity(apps.len());
    for (user, app) in apps.iter().enumerate() {
        let place = Arc::clone(&room).acquire_owned().await.unwrap();
        let mut intended = Instant::now();
        if volley.rate != 0 {
            let number = u32::try_from(user).unwrap();
            intended = began + Duration::from_secs(1) * number / volley.rate;
            tokio::time::sleep_until(intended).await;
        }
        let (people, app) = (Arc::clone(people), app.clone());
        let tasks = people.tasks().clone();
        asking.push(tasks.spawn("claim", async move {
            let mut client = SessionServiceClient::new(people.gateway(user));
            let request_id = uuid::Uuid::now_v7().to_string();
            let request = people.request(user, OpenAppRequest { name: app, request_id });
            let answer = client.open_app(request).await;
            let at = Instant::now();
            drop(place);
            let session = answer.map(tonic::Response::into_inner).map_err(|status| status.code());
            Answered { user, latency: at - intended, at, session }
        }));
    }
    let mut answers = Vec::with_capacity(asking.len());
    for one in asking {
        answers.push(one.await.unwrap().unwrap());
    }
    answers
}

/// How many desktops were given to two sessions or two users, by the answers and by what is listed
/// afterwards; and how many claims are not listed as they were answered.
async fn audit(people: &People, answers: &[Answered]) -> (usize, usize) {
    let listed = people.sessions().await;
    let mut owners = BTreeMap::<&str, BTreeSet<(&str, &str)>>::new();
    let answered = answers.iter().filter_map(|one| Some((one.user, one.session.as_ref().ok()?)));
    let live = listed.iter().filter(|one| one.state() != SessionState::Ended);
    for session in answered.clone().map(|(_, session)| session).chain(live) {
        if !session.desktop.is_empty() {
            let owner = (session.name.as_str(), session.user.as_str());
            owners.entry(&session.desktop).or_default().insert(owner);
        }
    }
    let doubles = owners.values().filter(|owners| 1 < owners.len()).count();
    let by_name: BTreeMap<&str, &Session> =
        listed.iter().map(|one| (one.name.as_str(), one)).collect();
    let desktops = people.desktops().await;
    let sessions_of: BTreeMap<&str, &str> = desktops
        .iter()
        .filter_map(|one| Some((one.name.as_str(), one.status.as_ref()?.session.as_str())))
        .collect();
    let is_kept = |(user, session): (usize, &Session)| {
        let name = format!("{TENANT}/users/{}", user_id(user));
        let kept = by_name.get(session.name.as_str()).filter(|kept| {
            kept.user == name && (session.desktop.is_empty() || kept.desktop == session.desktop)
        });
        let holder = sessions_of.get(session.desktop.as_str());
        kept.is_some() && (session.desktop.is_empty() || holder == Some(&session.name.as_str()))
    };
    let wrong = answered.filter(|one| !is_kept(*one)).count();
    (doubles, wrong)
}

/// Claims, one after another and again until it is answered with a desktop: how long until the first
/// answer, and until the first desktop.
pub(crate) async fn first(people: &People, user: usize, pool: Option<&str>) -> (f64, f64) {
    let began = Instant::now();
    let mut answered = None;
    let mut app = pool.map(|pool| people.app_of(pool));
    loop {
        let mut client = SessionServiceClient::new(people.gateway(user));
        if app.is_none() {
            let menu = client.list_apps(people.request(user, ListAppsRequest {})).await;
            app = menu.ok().and_then(|menu| Some(menu.into_inner().apps.first()?.name.clone()));
        }
        if let Some(name) = &app {
            let request = OpenAppRequest { name: name.clone(), request_id: String::new() };
            let asked = client.open_app(people.request(user, request)).await;
            if let Ok(session) = asked.map(tonic::Response::into_inner) {
                let first = *answered.get_or_insert_with(|| ms(began.elapsed()));
                if !session.desktop.is_empty() {
                    return (first, ms(began.elapsed()));
                }
            }
        }
        tokio::time::sleep(LOOK_PERIOD).await;
    }
}
