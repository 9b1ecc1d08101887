//! The ways of the state tables in docs/desktop-life.md, and which of them were gone.

use std::collections::BTreeSet;

use uuid::Uuid;
use vidi_controller::model::{
    Assignment, AssignmentEvent, EndCause, Power, PowerEvent, Presence, SessionEvent,
};
use vidi_kit::ids::{SessionId, UserId};

/// From one state of a table to another; none where it stays.
pub(crate) fn way(table: &str, from: &str, to: &str) -> Option<String> {
    (from != to).then(|| format!("{table}: {from} to {to}"))
}

/// All ways that the tables allow.
pub(crate) fn all() -> BTreeSet<String> {
    power().chain(session()).chain(assignment()).collect()
}

fn power() -> impl Iterator<Item = String> {
    let failed = Power::Failed(String::new());
    let states =
        [Power::Preparing, Power::Off, Power::Starting, Power::Running, Power::Saved, failed];
    let wishes = [PowerEvent::Start, PowerEvent::Stop];
    let events: Vec<PowerEvent> =
        wishes.into_iter().chain(states.clone().map(PowerEvent::Observed)).collect();
    states.into_iter().flat_map(move |state| {
        let next = |event| way("power", state.word(), state.next(event).word());
        events.iter().filter_map(next).collect::<Vec<_>>()
    })
}

fn session() -> impl Iterator<Item = String> {
    let over = || EndCause::Released;
    let states = [
        Presence::Opening,
        Presence::Connected,
        Presence::Disconnected(0),
        Presence::Ended(over()),
    ];
    states.into_iter().flat_map(move |state| {
        let events = [SessionEvent::Attached, SessionEvent::Detached(0), SessionEvent::End(over())];
        let next = |event| way("session", state.word(), state.next(&event).word());
        events.into_iter().filter_map(next).collect::<Vec<_>>()
    })
}

fn assignment() -> impl Iterator<Item = String> {
    let user: UserId = "ana".parse().unwrap();
    let session = SessionId::new(Uuid::nil());
    let states =
        [Assignment::Free, Assignment::Claimed(session), Assignment::Assigned(user.clone())];
    states.into_iter().flat_map(move |state| {
        let events = [
            AssignmentEvent::Claim(session, user.clone()),
            AssignmentEvent::Release(session, Some(user.clone())),
            AssignmentEvent::Release(session, None),
        ];
        let next = |event| {
            let next = state.next(&event).ok()?;
            way("assignment", state.word(), next.word())
        };
        events.into_iter().filter_map(next).collect::<Vec<_>>()
    })
}
