//! Guests of a session: they ask, its user answers, and what they may do changes.

use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tracing::info;
use vidi_display::protocol::{AskedFor, Part, SharingMessage};
use vidi_display::{ViewerId, ViewerRights};

use crate::model::{CloseCode, Terms};
use crate::reconcile::leaving::{USER_AWAY, last_words};
use crate::reconcile::people::{Door, WITHOUT_OWNER_SECS_MAX};
use crate::reconcile::registry::Viewer;
use crate::reconcile::session::SessionTask;

/// What those are told who are not let in, or let go; the codes are in docs/display-protocol.md.
const REFUSED: &str = "REFUSED_BY_USER: the session's user has said no";
const NOT_ANSWERED: &str = "NOT_ANSWERED: the session's user has not answered";
const REMOVED: &str = "REMOVED: the session's user has ended your visit";
const TOO_MANY: &str = "TOO_MANY: too many ask, or you have asked too often; try later";
const REPLACED: &str = "you have opened the session somewhere else";

impl SessionTask {
    /// Somebody who is not the session's user wants to look.
    pub(super) fn view_guest(&mut self, viewer: Viewer) {
        let Viewer { hello, visitor, incoming, outgoing, .. } = viewer;
        let now = Instant::now();
        // The socket's queue is new and has room.
        let refuse = |code, text: &str| last_words(&outgoing, code, text);
        if !(self.registry.reach().sharing && self.terms.sharing) {
            return refuse(CloseCode::NotYours, "this session is not shared");
        }
        let earlier = self.people.earlier(&visitor.user);
        let door = match earlier.filter(|earlier| self.people.is_in(*earlier)) {
            // Another window of somebody who is in: a reload whose old socket has not ended yet.
            Some(earlier) => {
                Door::Return(self.display.rights(earlier).unwrap_or(ViewerRights::Look))
            }
            None => self.people.door(&visitor, now),
        };
        let rights = match door {
            Door::Ask => ViewerRights::Wait,
            Door::Return(rights) => rights,
            Door::TooMany => return refuse(CloseCode::LetGo, TOO_MANY),
            Door::OwnerAway => return refuse(CloseCode::LetGo, USER_AWAY),
        };
        if let Some(earlier) = earlier {
            self.let_go(earlier, CloseCode::TakenOver, REPLACED);
        }
        // Who comes with control has the guest's screen set to the window at once; a guest's window, which
        // was not asked about, takes no size and no monitors from the user.
        let at_first = if rights == ViewerRights::Wait { rights } else { ViewerRights::Look };
        let id = match self.display.add_viewer(hello, at_first) {
            Ok(id) => id,
            Err(error) => return refuse(CloseCode::TryAgain, &error.to_string()),
        };
        self.display.set_rights(id, rights);
        info!(guest = visitor.user, asks = rights == ViewerRights::Wait, "A guest comes");
        count(if rights == ViewerRights::Wait { "asked" } else { "returned" });
        self.figures.arrived(id, None);
        self.viewers.insert(id, outgoing);
        self.incoming.insert(id, ReceiverStream::new(incoming));
        if rights == ViewerRights::Wait {
            self.people.add_asking(id, visitor, now);
        } else {
            self.people.add_guest(id, visitor);
        }
        self.tell_people();
    }

    /// A record 79 to 82.
    pub(super) fn sharing(&mut self, id: ViewerId, message: SharingMessage) {
        let is_owner = self.people.owner() == Some(id);
        match message {
            SharingMessage::Answer { request, rights } if is_owner => self.answer(request, rights),
            SharingMessage::Rights { viewer, rights } if is_owner => {
                let guest = self.people.find(viewer).filter(|guest| *guest != id);
                match (guest.filter(|guest| self.people.is_in(*guest)), rights) {
                    (Some(guest), Some(rights)) => self.give(guest, rights),
                    (Some(guest), None) => {
                        count("removed");
                        self.people.send_away(guest, true, Instant::now());
                        self.let_go(guest, CloseCode::LetGo, REMOVED);
                    }
                    (None, _) => {}
                }
            }
            SharingMessage::Control { wanted } if !is_owner && self.people.is_in(id) => {
                match (wanted, self.display.rights(id)) {
                    (true, Some(ViewerRights::Look)) => {
                        self.people.ask(id, AskedFor::Control, Instant::now());
                    }
                    (true, _) => {}
                    (false, _) => {
                        self.people.settle(id);
                        self.display.set_rights(id, ViewerRights::Look);
                    }
                }
                self.tell_people();
            }
            SharingMessage::Record { on } if is_owner => self.record(on),
            // Whoever may not is passed over, as a key is.
            SharingMessage::Answer { .. }
            | SharingMessage::Rights { .. }
            | SharingMessage::Control { .. }
            | SharingMessage::Record { .. } => {}
        }
    }

    fn answer(&mut self, request: u32, rights: Option<ViewerRights>) {
        let Some((guest, what)) = self.people.request(request) else { return };
        match (rights, what) {
            (Some(rights), _) => {
                count("allowed");
                self.people.let_in(guest);
                self.give(guest, rights);
            }
            (None, AskedFor::Control) => {
                self.people.settle(guest);
                self.tell_people();
            }
            (None, AskedFor::Entry) => {
                count("refused");
                self.people.send_away(guest, true, Instant::now());
                self.let_go(guest, CloseCode::LetGo, REFUSED);
            }
        }
    }

    fn give(&mut self, guest: ViewerId, rights: ViewerRights) {
        info!(guest = self.people.user(guest), ?rights, "A guest's rights");
        self.people.settle(guest);
        self.display.set_rights(guest, rights);
        self.tell_people();
    }

    /// Lets go of those whom nobody has answered, and of all guests where the session's user stays away.
    pub(super) fn expire_guests(&mut self) {
        let now = Instant::now();
        for (guest, what) in self.people.unanswered(now) {
            match what {
                AskedFor::Entry => {
                    self.people.send_away(guest, false, now);
                    self.let_go(guest, CloseCode::LetGo, NOT_ANSWERED);
                }
                AskedFor::Control => {
                    self.people.settle(guest);
                    self.tell_people();
                }
            }
        }
        let alone = self
            .people
            .alone_since
            .is_some_and(|since| WITHOUT_OWNER_SECS_MAX <= now.duration_since(since));
        if alone {
            self.close_guests(CloseCode::LetGo, USER_AWAY);
        }
    }

    /// The controller says anew what holds.
    pub(super) fn follow(&mut self, terms: Terms) {
        // What holds for one that is not attached comes with its next attachment.
        if self.epoch().is_some() && self.terms != terms {
            info!("What the session's desktop allows has changed");
            self.follow_terms(terms);
        }
    }

    /// What holds may have changed: the session was attached again, or somebody has changed it.
    pub(super) fn follow_terms(&mut self, terms: Terms) {
        self.display.allow(self.registry.reach().policy.and(terms.policy));
        self.terms = terms;
        if !(self.registry.reach().sharing && self.terms.sharing) {
            self.close_guests(CloseCode::NotYours, "this session is not shared any more");
        }
        self.recorder_follows_terms();
        self.keep_recording();
        self.tell_people();
    }

    /// Records 24 and 25 to whom they are for.
    pub(super) fn tell_people(&mut self) {
        for id in self.people.present() {
            let state = self.people.people(id, |other| self.display.rights(other));
            self.display.tell(id, state);
        }
        if let Some(owner) = self.people.owner() {
            self.display.tell(owner, self.people.requests());
        }
        self.tell_recording();
        self.mark();
    }

    /// Whether it is somebody else than the session's user.
    pub(super) fn is_guest(viewer: &Viewer) -> bool {
        viewer.visitor.part != Part::Owner
    }
}

fn count(what: &'static str) {
    metrics::counter!("vidi_gateway_guests_total", "what" => what).increment(1);
}
