//! What a guest tells on its channels, handed to the display engine.

use std::time::Duration;

use tracing::{debug, warn};
use vidi_display::Session;
use vidi_spice::{AgentEvent, CommonEvent, DisplayEvent, InputsEvent, MainEvent, MoveTarget};

use crate::error::GatewayError;
use crate::ports::{Ticket, Way};
use crate::reconcile::figures::{count_clipboard, count_file};
use crate::reconcile::guest::Guest;

/// What the agent has told.
pub(super) fn tell_agent_events(guest: &mut Guest, display: &mut Session) {
    for event in guest.take_agent_events() {
        if let AgentEvent::Given(piece) = &event {
            count_clipboard("from_guest", piece.data.len());
        }
        count_file(&event);
        display.agent_event(&event);
    }
}

/// What the agent has told of files; whether there was anything.
pub(super) fn tell_file_events(guest: &mut Guest, display: &mut Session) -> bool {
    let events = guest.agent.take_file_events();
    for event in &events {
        count_file(event);
        display.agent_event(event);
    }
    !events.is_empty()
}

/// Mouse mode, agent, and where the desktop goes.
pub(super) fn handle_main(guest: &mut Guest, display: &mut Session) -> Result<(), GatewayError> {
    while let Some(event) = guest.main_event()? {
        tell_agent_events(guest, display);
        match event {
            MainEvent::MouseMode(modes) => display.mouse_mode(modes.current),
            MainEvent::Common(CommonEvent::Disconnecting(why)) => {
                return Err(GatewayError::Spice(why.to_string()));
            }
            MainEvent::Moved(target) => return Err(GatewayError::Moved(target)),
            _ => {}
        }
    }
    Ok(())
}

/// What is drawn, as much of it as it is this session's turn for.
pub(super) fn handle_display(
    guest: &mut Guest,
    display: &mut Session,
    now: Duration,
) -> Result<(), GatewayError> {
    while let Some(event) = guest.display_event(now)? {
        if let DisplayEvent::Unsupported(what) = &event {
            debug!(?what, "The guest draws what is not carried out");
            metrics::counter!("vidi_gateway_unsupported_draws_total").increment(1);
        }
        if let Err(error) = guest.carry_out(|| display.display_event(&event, now)) {
            debug!(%error, "A drawing of the guest is refused");
        }
    }
    if guest.is_quiet() {
        display.drained();
    }
    Ok(())
}

/// The lock keys.
pub(super) fn handle_inputs(guest: &mut Guest, display: &mut Session) -> Result<(), GatewayError> {
    while let Some(event) = guest.inputs_event()? {
        if let InputsEvent::Locks(locks) = event {
            display.locks(locks);
        }
    }
    Ok(())
}

/// The pointer.
pub(super) fn handle_cursor(guest: &mut Guest, display: &mut Session) -> Result<(), GatewayError> {
    while let Some(event) = guest.cursor_event()? {
        display.cursor_event(&event);
    }
    Ok(())
}

/// Whether a machine that says that it moved is followed: if its record has the address. One of an agent is
/// where its controller says, and whatever else a server names is not dialled: what it names may be anything
/// that this gateway can reach.
pub(super) fn prefer_moved(ticket: &mut Ticket, target: &MoveTarget) -> bool {
    let Way::Direct(direct) = &mut ticket.way else { return false };
    let is_followed = direct.prefer(target);
    if !is_followed {
        warn!(
            host = target.host,
            "A machine says that it moved to an address that is not among its own; give it there"
        );
    }
    let outcome = if is_followed { "followed" } else { "refused" };
    metrics::counter!("vidi_gateway_moves_total", "outcome" => outcome).increment(1);
    is_followed
}
