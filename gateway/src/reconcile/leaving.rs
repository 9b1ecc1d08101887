//! The end of every viewer: gone by itself, or closed with a word that says why.

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, info};
use vidi_display::protocol::{Record, SessionState};
use vidi_display::{ViewerId, ViewerRights};

use crate::model::{CloseCode, Ending};
use crate::reconcile::registry::ToViewer;
use crate::reconcile::session::SessionTask;

/// What guests are told without the session's user; the codes are in docs/display-protocol.md.
pub(super) const USER_AWAY: &str = "USER_AWAY: the session's user is not connected";

impl SessionTask {
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

    /// The session's user is gone: nobody types in its absence.
    fn without_owner(&mut self) {
        for guest in self.people.guests() {
            if self.display.rights(guest) == Some(ViewerRights::Control) {
                self.display.set_rights(guest, ViewerRights::Look);
            }
        }
        self.tell_people();
    }
}

/// Closes a socket; who is let go is told why by a status before. A full queue means a socket that is
/// stuck: it is dropped instead.
pub(super) fn last_words(outgoing: &mpsc::Sender<ToViewer>, code: CloseCode, text: &str) {
    if code == CloseCode::LetGo {
        let mut status = Vec::new();
        Record::Status { state: SessionState::Ended, text }.write(&mut status);
        drop(outgoing.try_send(ToViewer::Message(status.into())));
    }
    drop(outgoing.try_send(ToViewer::Close(code, text.to_owned())));
}
