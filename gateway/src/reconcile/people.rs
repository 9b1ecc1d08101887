//! Who is at one session: its user, guests, and those who ask to be let in. Decides; the session's task
//! acts.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use vidi_display::protocol::{AskedFor, Asking, Part, Person, ToldState};
use vidi_display::{ViewerId, ViewerRights};

use crate::model::Visitor;

/// Who asks and gets no answer in this time is let go: the user looks elsewhere.
const ASKED_SECS_MAX: Duration = Duration::from_secs(60);
/// Guests stay this long without the session's user: a reload, a short loss of the network.
pub(super) const WITHOUT_OWNER_SECS_MAX: Duration = Duration::from_secs(60);
/// Who was let in and comes back within this time is let in as before.
const RETURN_SECS_MAX: Duration = Duration::from_secs(60);
/// Who was refused may ask again after this.
const REFUSED_SECS: Duration = Duration::from_secs(60);
/// A person may ask so often in [`ASKS_PERIOD`].
const ASKS_MAX: usize = 3;
const ASKS_PERIOD: Duration = Duration::from_secs(300);
/// Who ask at the same time; more would cover the user's screen.
const ASKING_MAX: usize = 4;
/// Guests at the same time, with those who ask.
const GUESTS_MAX: usize = 12;
/// Persons whose tries are remembered: more than can be there at a time.
const REMEMBERED_MAX: usize = 256;

/// Everybody at one session.
#[derive(Debug, Default)]
pub(super) struct People {
    seats: BTreeMap<ViewerId, Seat>,
    /// The session's user, here or away.
    pub(super) owner_user: String,
    next_request: u32,
    tries: VecDeque<Try>,
    left: VecDeque<(Instant, String, ViewerRights)>,
    /// Since when guests are here without the session's user.
    pub(super) alone_since: Option<Instant>,
}

#[derive(Debug)]
struct Seat {
    visitor: Visitor,
    request: Option<Pending>,
    /// Without a pending request for entry: the guest is in.
    is_in: bool,
}

#[derive(Debug)]
struct Pending {
    number: u32,
    what: AskedFor,
    since: Instant,
}

#[derive(Debug)]
struct Try {
    at: Instant,
    user: String,
    refused: bool,
}

/// Whether somebody may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// The user is asked.
    Ask,
    /// It was let in lately.
    Return(ViewerRights),
    /// There are too many, or this one asks too often.
    TooMany,
    /// The session's user is not connected.
    OwnerAway,
}

impl People {
    /// The viewer of the session's user.
    pub(super) fn owner(&self) -> Option<ViewerId> {
        self.seats.iter().find(|(_, seat)| seat.visitor.part == Part::Owner).map(|(id, _)| *id)
    }

    /// Nobody is here.
    pub(super) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// All guests, those who ask with them.
    pub(super) fn guests(&self) -> Vec<ViewerId> {
        let guests = self.seats.iter().filter(|(_, seat)| seat.visitor.part != Part::Owner);
        guests.map(|(id, _)| *id).collect()
    }

    /// A guest's other window, which a newer one replaces.
    pub(super) fn earlier(&self, user: &str) -> Option<ViewerId> {
        self.seats.iter().find(|(_, seat)| seat.visitor.user == user).map(|(id, _)| *id)
    }

    /// What becomes of a guest that comes now.
    pub(super) fn door(&mut self, visitor: &Visitor, now: Instant) -> Door {
        self.forget(now);
        if self.owner().is_none() {
            return Door::OwnerAway;
        }
        if GUESTS_MAX <= self.guests().len() {
            return Door::TooMany;
        }
        if let Some((_, _, rights)) = self.left.iter().rfind(|(_, user, _)| *user == visitor.user) {
            return Door::Return(*rights);
        }
        let own = self.tries.iter().filter(|one| one.user == visitor.user);
        let is_refused = |one: &Try| one.refused && now.duration_since(one.at) < REFUSED_SECS;
        let asking = self.seats.values().filter(|seat| !seat.is_in).count();
        let (tries, refused) = own.fold((0, false), |(tries, refused), one| {
            (tries + usize::from(!one.refused), refused || is_refused(one))
        });
        if refused || ASKS_MAX <= tries || ASKING_MAX <= asking {
            return Door::TooMany;
        }
        Door::Ask
    }

    fn forget(&mut self, now: Instant) {
        self.tries.retain(|one| now.duration_since(one.at) < ASKS_PERIOD);
        self.left.retain(|(at, _, _)| now.duration_since(*at) < RETURN_SECS_MAX);
        self.tries.drain(..self.tries.len().saturating_sub(REMEMBERED_MAX));
        self.left.drain(..self.left.len().saturating_sub(REMEMBERED_MAX));
    }

    /// The session's user is here.
    pub(super) fn add_owner(&mut self, id: ViewerId, visitor: Visitor) {
        self.owner_user.clone_from(&visitor.user);
        self.seats.insert(id, Seat { visitor, request: None, is_in: true });
        self.alone_since = None;
    }

    /// A guest that came back.
    pub(super) fn add_guest(&mut self, id: ViewerId, visitor: Visitor) {
        self.left.retain(|(_, user, _)| *user != visitor.user);
        self.seats.insert(id, Seat { visitor, request: None, is_in: true });
    }

    /// A guest that asks.
    pub(super) fn add_asking(&mut self, id: ViewerId, visitor: Visitor, now: Instant) {
        self.tries.push_back(Try { at: now, user: visitor.user.clone(), refused: false });
        self.seats.insert(id, Seat { visitor, request: None, is_in: false });
        self.ask(id, AskedFor::Entry, now);
    }

    /// A viewer is gone by itself: its rights are kept for a while.
    pub(super) fn remove(&mut self, id: ViewerId, rights: Option<ViewerRights>, now: Instant) {
        let Some(Seat { visitor, is_in, .. }) = self.seats.remove(&id) else { return };
        if visitor.part == Part::Owner {
            self.alone_since = self.owner().is_none().then_some(now);
        } else if let Some(rights) = rights.filter(|_| is_in) {
            self.left.push_back((now, visitor.user, rights));
        }
    }

    /// A viewer is sent away: it is not let in again as before.
    pub(super) fn send_away(&mut self, id: ViewerId, refused: bool, now: Instant) {
        if let Some(Seat { visitor, .. }) = self.seats.remove(&id) {
            self.left.retain(|(_, user, _)| *user != visitor.user);
            if refused {
                self.tries.push_back(Try { at: now, user: visitor.user, refused });
            }
        }
    }

    /// A guest asks for something; asked again it is the same request.
    pub(super) fn ask(&mut self, id: ViewerId, what: AskedFor, now: Instant) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        if seat.visitor.part == Part::Owner || seat.request.is_some() {
            return;
        }
        self.next_request = self.next_request.wrapping_add(1);
        seat.request = Some(Pending { number: self.next_request, what, since: now });
    }

    /// A guest's request is settled or taken back.
    pub(super) fn settle(&mut self, id: ViewerId) {
        if let Some(seat) = self.seats.get_mut(&id) {
            seat.request = None;
        }
    }

    /// The guest is let in.
    pub(super) fn let_in(&mut self, id: ViewerId) {
        if let Some(seat) = self.seats.get_mut(&id) {
            seat.request = None;
            seat.is_in = true;
        }
    }

    /// Whether a viewer is in, its user or a guest.
    pub(super) fn is_in(&self, id: ViewerId) -> bool {
        self.seats.get(&id).is_some_and(|seat| seat.is_in)
    }

    /// Who asks with this request, and for what.
    pub(super) fn request(&self, number: u32) -> Option<(ViewerId, AskedFor)> {
        let pending = |seat: &Seat| {
            let request = seat.request.as_ref().filter(|request| request.number == number);
            request.map(|request| request.what)
        };
        self.seats.iter().find_map(|(id, seat)| Some((*id, pending(seat)?)))
    }

    /// The viewer with this number.
    pub(super) fn find(&self, number: u32) -> Option<ViewerId> {
        self.seats.keys().find(|id| id.number() == number).copied()
    }

    /// Who is this, for logs.
    pub(super) fn user(&self, id: ViewerId) -> &str {
        self.seats.get(&id).map_or("", |seat| &seat.visitor.user)
    }

    /// Those whose request nobody has answered in time, and for what they asked.
    pub(super) fn unanswered(&self, now: Instant) -> Vec<(ViewerId, AskedFor)> {
        let late = |seat: &Seat| {
            let request = seat.request.as_ref()?;
            (ASKED_SECS_MAX <= now.duration_since(request.since)).then_some(request.what)
        };
        self.seats.iter().filter_map(|(id, seat)| Some((*id, late(seat)?))).collect()
    }

    /// When something is to be done although nothing happens.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let requests = self.seats.values().filter_map(|seat| seat.request.as_ref());
        let answers = requests.map(|request| request.since + ASKED_SECS_MAX).min();
        let alone = self.alone_since.filter(|_| !self.seats.is_empty());
        let alone = alone.map(|since| since + WITHOUT_OWNER_SECS_MAX);
        [answers, alone].into_iter().flatten().min()
    }

    /// Record 24 for one viewer.
    pub(super) fn people(
        &self,
        you: ViewerId,
        rights: impl Fn(ViewerId) -> Option<ViewerRights>,
    ) -> ToldState {
        ToldState::people(self.seats.iter().filter(|(_, seat)| seat.is_in).map(|(id, seat)| {
            Person {
                viewer: id.number(),
                rights: rights(*id).unwrap_or(ViewerRights::Look),
                is_you: *id == you,
                part: seat.visitor.part,
                name: &seat.visitor.name,
            }
        }))
    }

    /// Record 25.
    pub(super) fn requests(&self) -> ToldState {
        ToldState::requests(self.seats.values().filter_map(|seat| {
            let request = seat.request.as_ref()?;
            Some(Asking {
                request: request.number,
                what: request.what,
                part: seat.visitor.part,
                name: &seat.visitor.name,
            })
        }))
    }

    /// The guests that are in, for people.
    pub(super) fn guest_names(&self) -> impl Iterator<Item = &str> {
        let guests =
            self.seats.values().filter(|seat| seat.is_in && seat.visitor.part != Part::Owner);
        guests.map(|seat| seat.visitor.name.as_str())
    }

    /// All viewers that are in.
    pub(super) fn present(&self) -> Vec<ViewerId> {
        self.seats.iter().filter(|(_, seat)| seat.is_in).map(|(id, _)| *id).collect()
    }
}
