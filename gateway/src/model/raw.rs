//! Tickets by which a client of others reaches a desktop: each opens one set of channels, once.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use vidi_kit::ids::DesktopId;

/// A ticket that has opened nothing by then is dead.
pub const TICKET_SECS_MAX: Duration = Duration::from_secs(30);
/// Tickets that wait for one desktop, and so for its one user; an older one makes way.
const WAITING_MAX: usize = 4;
/// Desktops of one gateway for which there are tickets or open sets, as many as it holds sessions.
const DESKTOPS_MAX: usize = 2_000;

/// SHA-256 of a ticket: the ticket itself is nowhere kept.
pub type TicketHash = [u8; 32];

/// Whose ticket it is, and for what.
#[derive(Clone, PartialEq, Eq)]
pub struct Owner {
    /// The session that it opens, by its resource name.
    pub session: String,
    /// Its user's sign-in token: what is done later is done with that person's rights.
    pub token: String,
}

impl fmt::Debug for Owner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Owner").field("session", &self.session).finish_non_exhaustive()
    }
}

/// Which channel a ticket was shown for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Main: the first of a set.
    Main,
    /// Another: one of an open set.
    Other,
}

/// What a ticket opens.
#[derive(Debug, PartialEq, Eq)]
pub enum Claimed<S> {
    /// A new set, for this owner; say [`Tickets::opened`] or [`Tickets::ended`].
    New(Owner),
    /// One more channel of this set.
    Open(S),
}

/// All tickets that are good for something, by desktop; `S` is an open set of channels.
#[derive(Debug)]
pub struct Tickets<S> {
    desktops: BTreeMap<DesktopId, Vec<Entry<S>>>,
}

#[derive(Debug)]
struct Entry<S> {
    hash: TicketHash,
    state: State<S>,
}

#[derive(Debug)]
enum State<S> {
    /// Nobody has shown it; good before this time.
    Waiting(Duration, Owner),
    /// Its set is being opened.
    Opening,
    Open(S),
}

impl<S> Default for Tickets<S> {
    fn default() -> Self {
        Self { desktops: BTreeMap::new() }
    }
}

impl<S: Clone> Tickets<S> {
    /// Makes a ticket good for 30 s; `false` where there are too many.
    pub fn issue(
        &mut self,
        desktop: DesktopId,
        hash: TicketHash,
        owner: Owner,
        now: Duration,
    ) -> bool {
        self.sweep(now);
        if DESKTOPS_MAX <= self.desktops.len() && !self.desktops.contains_key(&desktop) {
            return false;
        }
        let entries = self.desktops.entry(desktop).or_default();
        let is_waiting = |entry: &Entry<S>| matches!(entry.state, State::Waiting(..));
        if WAITING_MAX <= entries.iter().filter(|entry| is_waiting(entry)).count()
            && let Some(oldest) = entries.iter().position(is_waiting)
        {
            entries.remove(oldest);
        }
        entries.push(Entry { hash, state: State::Waiting(now + TICKET_SECS_MAX, owner) });
        true
    }

    /// Whether any ticket is good for this desktop now: nobody else's bytes are listened to.
    pub fn awaits(&mut self, desktop: DesktopId, now: Duration) -> bool {
        self.sweep(now);
        self.desktops.contains_key(&desktop)
    }

    /// What this ticket opens. Asking for main uses it up.
    pub fn claim(
        &mut self,
        desktop: DesktopId,
        hash: &TicketHash,
        shown: Shown,
        now: Duration,
    ) -> Option<Claimed<S>> {
        self.sweep(now);
        let entry = self.find(desktop, hash)?;
        match (&entry.state, shown) {
            (State::Waiting(_, owner), Shown::Main) => {
                let owner = owner.clone();
                entry.state = State::Opening;
                Some(Claimed::New(owner))
            }
            (State::Open(set), Shown::Other) => Some(Claimed::Open(set.clone())),
            (State::Waiting(..), Shown::Other)
            | (State::Opening, Shown::Main | Shown::Other)
            | (State::Open(_), Shown::Main) => None,
        }
    }

    /// The set of this ticket is open.
    pub fn opened(&mut self, desktop: DesktopId, hash: &TicketHash, set: S) {
        if let Some(entry) = self.find(desktop, hash) {
            entry.state = State::Open(set);
        }
    }

    /// The set of this ticket is gone, or did not come to be: the ticket is dead.
    pub fn ended(&mut self, desktop: DesktopId, hash: &TicketHash) {
        if let Some(entries) = self.desktops.get_mut(&desktop) {
            entries.retain(|entry| !is_equal(&entry.hash, hash));
            if entries.is_empty() {
                self.desktops.remove(&desktop);
            }
        }
    }

    fn find(&mut self, desktop: DesktopId, hash: &TicketHash) -> Option<&mut Entry<S>> {
        // All are looked at: how long it takes says nothing.
        let mut found = None;
        for entry in self.desktops.get_mut(&desktop)? {
            if is_equal(&entry.hash, hash) {
                found = Some(entry);
            }
        }
        found
    }

    fn sweep(&mut self, now: Duration) {
        self.desktops.retain(|_, entries| {
            entries
                .retain(|entry| !matches!(entry.state, State::Waiting(until, _) if until <= now));
            !entries.is_empty()
        });
    }
}

/// In the same time whatever they hold.
fn is_equal(one: &TicketHash, other: &TicketHash) -> bool {
    one.iter().zip(other).fold(0, |different, (one, other)| different | (one ^ other)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: TicketHash = [7; 32];

    fn owner() -> Owner {
        Owner { session: "tenants/t/sessions/s".to_owned(), token: "secret".to_owned() }
    }

    fn issued() -> (Tickets<u8>, DesktopId) {
        let (mut tickets, desktop) = (Tickets::default(), DesktopId::generate());
        assert!(tickets.issue(desktop, HASH, owner(), Duration::ZERO));
        (tickets, desktop)
    }

    #[test]
    fn a_ticket_opens_one_set_and_is_dead_with_it() {
        let (mut tickets, desktop) = issued();
        let now = Duration::from_secs(29);
        assert_eq!(tickets.claim(desktop, &HASH, Shown::Other, now), None, "main comes first");
        let first = tickets.claim(desktop, &HASH, Shown::Main, now);
        assert_eq!(first, Some(Claimed::New(owner())));
        for shown in [Shown::Main, Shown::Other] {
            assert_eq!(tickets.claim(desktop, &HASH, shown, now), None, "{shown:?} while it opens");
        }
        tickets.opened(desktop, &HASH, 5);
        let late = Duration::from_secs(10_000);
        assert_eq!(tickets.claim(desktop, &HASH, Shown::Other, late), Some(Claimed::Open(5)));
        assert_eq!(tickets.claim(desktop, &HASH, Shown::Main, now), None, "it is used");
        tickets.ended(desktop, &HASH);
        assert_eq!(tickets.claim(desktop, &HASH, Shown::Other, late), None);
        assert!(!tickets.awaits(desktop, late) && tickets.desktops.is_empty());
    }

    #[test]
    fn a_ticket_is_dead_after_30_seconds_and_for_any_other_desktop() {
        let (mut tickets, desktop) = issued();
        let now = Duration::from_secs(1);
        assert_eq!(tickets.claim(DesktopId::generate(), &HASH, Shown::Main, now), None);
        assert_eq!(tickets.claim(desktop, &[8; 32], Shown::Main, now), None);
        assert!(tickets.awaits(desktop, now) && !tickets.awaits(DesktopId::generate(), now));
        assert_eq!(tickets.claim(desktop, &HASH, Shown::Main, TICKET_SECS_MAX), None);
        assert!(!tickets.awaits(desktop, TICKET_SECS_MAX));
    }

    #[test]
    fn the_oldest_of_too_many_tickets_makes_way_and_open_sets_stay() {
        let (mut tickets, desktop) = issued();
        let now = Duration::ZERO;
        assert!(tickets.claim(desktop, &HASH, Shown::Main, now).is_some());
        tickets.opened(desktop, &HASH, 1);
        for number in 10..15 {
            assert!(tickets.issue(desktop, [number; 32], owner(), now));
        }
        assert_eq!(tickets.claim(desktop, &[10; 32], Shown::Main, now), None);
        assert!(tickets.claim(desktop, &[11; 32], Shown::Main, now).is_some());
        assert_eq!(tickets.claim(desktop, &HASH, Shown::Other, now), Some(Claimed::Open(1)));
    }

    #[test]
    fn there_are_never_more_desktops_than_may_be() {
        let (mut tickets, desktop) = issued();
        for _ in 1..DESKTOPS_MAX {
            assert!(tickets.issue(DesktopId::generate(), HASH, owner(), Duration::ZERO));
        }
        assert!(!tickets.issue(DesktopId::generate(), HASH, owner(), Duration::ZERO));
        assert!(tickets.issue(desktop, [8; 32], owner(), Duration::ZERO));
        assert!(tickets.issue(DesktopId::generate(), HASH, owner(), TICKET_SECS_MAX));
    }

    #[test]
    fn what_is_printed_of_an_owner_is_no_secret() {
        assert!(!format!("{:?}", owner()).contains("secret"));
    }
}
