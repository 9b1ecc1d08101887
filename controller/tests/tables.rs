//! The tables of docs/desktop-life.md say what the code does.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use vidi_controller::contract::cause_from_wire;
use vidi_controller::model::{
    Assignment, AssignmentEvent, EndCause, Power, PowerEvent, Presence, SessionEvent, Standing,
};
use vidi_kit::ids::{SessionId, UserId};
use vidi_proto::v1::SessionEndCause;

const DOCUMENT: &str = include_str!("../../docs/desktop-life.md");

/// The rows of the first table under a heading, without its header.
fn table(heading: &str) -> Vec<Vec<String>> {
    let section = DOCUMENT.split(&format!("# {heading}\n")).nth(1).unwrap();
    let rows = section.lines().skip_while(|line| !line.starts_with('|'));
    rows.take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

fn powers() -> [Power; 6] {
    let failed = Power::Failed("why".to_owned());
    [Power::Preparing, Power::Off, Power::Starting, Power::Running, Power::Saved, failed]
}

#[test]
fn the_table_of_power_is_the_code() {
    let events = || {
        let wishes = [PowerEvent::Start, PowerEvent::Stop];
        wishes.into_iter().chain(powers().map(PowerEvent::Observed))
    };
    let code: Vec<Vec<String>> = powers()
        .iter()
        .map(|state| {
            let cells = events().map(|event| state.next(&event).word().to_owned());
            std::iter::once(state.word().to_owned()).chain(cells).collect()
        })
        .collect();
    assert_eq!(table("Power"), code);
}

#[test]
fn the_table_of_assignment_is_the_code() {
    let user: UserId = "ana".parse().unwrap();
    let other: UserId = "ben".parse().unwrap();
    let (own, foreign) = (SessionId::generate(), SessionId::generate());
    let states = [Assignment::Free, Assignment::Claimed(own), Assignment::Assigned(user.clone())];
    let events = [
        AssignmentEvent::Claim(foreign, user.clone()),
        AssignmentEvent::Claim(foreign, other),
        AssignmentEvent::Release(own, Some(user.clone())),
        AssignmentEvent::Release(foreign, Some(user.clone())),
    ];
    let cell = |state: &Assignment, event: &AssignmentEvent| {
        state.next(event).map_or("refused", |next| next.word()).to_owned()
    };
    let code: Vec<Vec<String>> = states
        .iter()
        .map(|state| {
            let cells = events.iter().map(|event| cell(state, event));
            std::iter::once(state.word().to_owned()).chain(cells).collect()
        })
        .collect();
    assert_eq!(table("Assignment"), code);
    let claimed = Assignment::Claimed(own);
    assert_eq!(claimed.next(&AssignmentEvent::Claim(own, user)), Ok(claimed.clone()));
    let released = claimed.next(&AssignmentEvent::Release(own, None));
    assert_eq!(released, Ok(Assignment::Free));
}

#[test]
fn the_table_of_standings_names_each_in_its_order() {
    let words = table("In a pool").into_iter().map(|row| row[0].clone());
    let code = Standing::ALL.map(|standing| format!("{standing:?}").to_lowercase());
    assert_eq!(words.collect::<Vec<_>>(), code);
}

#[test]
fn the_table_of_sessions_is_the_code() {
    let states = [
        Presence::Opening,
        Presence::Connected,
        Presence::Disconnected(1),
        Presence::Ended(EndCause::Released),
    ];
    let events =
        [SessionEvent::Attached, SessionEvent::Detached(2), SessionEvent::End(EndCause::NoHost)];
    let code: Vec<Vec<String>> = states
        .iter()
        .map(|state| {
            let cells = events.iter().map(|event| state.next(event).word().to_owned());
            std::iter::once(state.word().to_owned()).chain(cells).collect()
        })
        .collect();
    assert_eq!(table("Session"), code);
    let kept = Presence::Disconnected(1).next(&SessionEvent::Detached(2));
    assert_eq!(kept, Presence::Disconnected(1), "since the first time");
    let ended = Presence::Ended(EndCause::Released);
    assert_eq!(ended.next(&SessionEvent::End(EndCause::NoHost)), ended);
}

#[test]
fn the_table_of_causes_is_the_contract_and_the_code() {
    let code: Vec<Vec<String>> = (1..)
        .map_while(|number| SessionEndCause::try_from(number).ok())
        .map(|cause| {
            let name = cause.as_str_name().trim_start_matches("SESSION_END_CAUSE_");
            let in_words = cause_from_wire(cause, 600, String::new()).to_string();
            vec![format!("`{name}`"), in_words]
        })
        .collect();
    let table = table("Why it ended").into_iter();
    assert_eq!(table.map(|row| row[..2].to_vec()).collect::<Vec<_>>(), code);
}
