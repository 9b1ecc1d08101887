//! Guests of a session: they ask, its user answers, and what they may do changes.

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, info};
use vidi_display::protocol::{AskedFor, Part, Record, SessionState, SharingMessage};
use vidi_display::{ViewerId, ViewerRights};

use crate::model::{CloseCode, Ending, Terms};
use crate::reconcile::people::{Door, WITHOUT_OWNER_SECS_MAX};
use crate::reconcile::registry::{ToViewer, Viewer};
use crate::reconcile::session::SessionTask;

/// What those are told who are not let in, or let go; the codes are in docs/display-protocol.md.
const REFUSED: &str = "REFUSED_BY_USER: the session's user has said no";
const NOT_ANSWERED: &str = "NOT_ANSWERED: the session's user has not answered";
const REMOVED: &str = "REMOVED: the session's user has ended your visit";
const USER_AWAY: &str = "USER_AWAY: the session's user is not connected";
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
        let id = match self.display.add_viewer(hello, rights) {
            Ok(id) => id,
            Err(error) => return refuse(CloseCode::TryAgain, &error.to_string()),
        };
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

    /// What time alone brings about.
    pub(super) fn follow_time(&mut self) {
        self.expire_guests();
        self.keep_marked();
        self.retry_recording();
    }

    fn expire_guests(&mut self) {
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

    /// The session's user is gone: nobody types in its absence.
    pub(super) fn without_owner(&mut self) {
        for guest in self.people.guests() {
            if self.display.rights(guest) == Some(ViewerRights::Control) {
                self.display.set_rights(guest, ViewerRights::Look);
            }
        }
        self.tell_people();
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

    /// A viewer is gone, whoever it is.
    pub(super) fn remove(&mut self, id: ViewerId) {
        let had_owner = self.people.owner().is_some();
        let rights = self.display.rights(id);
        self.people.remove(id, rights, Instant::now());
        self.display.remove_viewer(id);
        self.figures.left(id);
        self.incoming.remove(&id);
        self.viewers.remove(&id);
        self.recorder_lost(id);
        if had_owner && self.people.owner().is_none() {
            self.without_owner();
            self.tell_presence();
        } else {
            self.tell_people();
        }
        if self.people.is_empty() {
            self.lonely_since.get_or_insert(Instant::now());
            self.stop_recording();
        }
    }

    /// Ends the session here, where it is not attached by a later grant than the ending is about.
    pub(super) fn ends(&mut self, ending: &Ending) -> bool {
        let is_old = |of: u64| self.epoch().is_some_and(|epoch| of <= epoch);
        if ending.epoch.is_some_and(is_old) {
            debug!("A word of an attachment before this one is passed over");
            return false;
        }
        info!(reason = ending.text, "The session has ended here");
        self.end(ending.code, &ending.text);
        true
    }

    /// Tells every viewer that the session is over, or is so here.
    pub(super) fn end(&mut self, code: CloseCode, text: &str) {
        if code == CloseCode::Ended {
            self.display.status(SessionState::Ended, text);
            self.carry_out();
        }
        self.close_all(code, text);
    }

    /// Closes everybody; what is only the user's matter is told guests in another way.
    pub(super) fn close_all(&mut self, code: CloseCode, text: &str) {
        match code {
            // They are served where the session is now.
            CloseCode::TakenOver => self.close_guests(CloseCode::TryAgain, text),
            CloseCode::SignedOut => self.close_guests(CloseCode::LetGo, USER_AWAY),
            _ => {}
        }
        let ids: Vec<ViewerId> = self.viewers.keys().copied().collect();
        for id in ids {
            self.let_go(id, code, text);
        }
    }

    /// Closes all guests.
    pub(super) fn close_guests(&mut self, code: CloseCode, text: &str) {
        for guest in self.people.guests() {
            self.let_go(guest, code, text);
        }
    }

    /// Closes one viewer, which is then no longer here.
    pub(super) fn let_go(&mut self, id: ViewerId, code: CloseCode, text: &str) {
        if let Some(outgoing) = self.viewers.get(&id) {
            last_words(outgoing, code, text);
        }
        self.remove(id);
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

    /// Who of the two kinds it is.
    pub(super) fn is_guest(viewer: &Viewer) -> bool {
        viewer.visitor.part != Part::Owner
    }
}

/// Closes a socket; who is let go is told why by a status before. A full queue means a socket that is
/// stuck: it is dropped instead.
fn last_words(outgoing: &mpsc::Sender<ToViewer>, code: CloseCode, text: &str) {
    if code == CloseCode::LetGo {
        let mut status = Vec::new();
        Record::Status { state: SessionState::Ended, text }.write(&mut status);
        drop(outgoing.try_send(ToViewer::Message(status.into())));
    }
    drop(outgoing.try_send(ToViewer::Close(code, text.to_owned())));
}

fn count(what: &'static str) {
    metrics::counter!("vidi_gateway_guests_total", "what" => what).increment(1);
}
