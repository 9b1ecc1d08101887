//! What is copied on one side to be pasted on the other: put together, checked, and offered.
//!
//! ```text
//!   viewer's parts ─▶ Assembly ─▶ offered ──Offer──▶ guest asks ──Give──▶ guest
//!   guest offers ──Request──▶ guest gives ─▶ each viewer with control
//! ```

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use vidi_spice::{Agent, AgentEvent, ClipboardKind, ClipboardPiece, FileOffer, Rect};

use crate::policy::Policy;
use crate::protocol::ClipboardPart;
use crate::session::ViewerId;

/// A guest's agent takes over what it is offered within this time. A key that pastes, right behind a
/// piece that was long under way, would paste what was there before.
pub(crate) const TAKE_OVER_TIME: Duration = Duration::from_millis(150);

/// How every PNG begins (its specification, section 5.2).
const PNG_SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// What the guest's agent is told, in the words of [`Agent`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentCommand {
    /// There is something to paste.
    Offer(ClipboardKind),
    /// What was offered is no longer there.
    Release,
    /// What was offered, or nothing.
    Give(Option<ClipboardPiece>),
    /// What was copied in the guest is wanted.
    Request(ClipboardKind),
    /// A file is to be put into the guest.
    SendFile(FileOffer),
    /// The next bytes of one.
    FileData {
        /// Its number.
        id: u32,
        /// The bytes.
        data: Bytes,
    },
    /// One is given up.
    CancelFile(u32),
    /// Screens of these sizes at these places are wanted, by their numbers; an empty one is off.
    Arrange(Vec<Rect>),
}

/// The clipboard between one guest and its viewers.
#[derive(Debug)]
pub(crate) struct Clipboard {
    policy: Policy,
    /// The agent is there and can.
    has_agent: bool,
    /// Viewers of whose piece more follows.
    amid: BTreeSet<ViewerId>,
    /// The piece that was begun last, whosever it is.
    assembly: Option<Assembly>,
    /// What the guest can have when it asks.
    offered: Option<ClipboardPiece>,
    commands: VecDeque<AgentCommand>,
}

#[derive(Debug)]
struct Assembly {
    viewer: ViewerId,
    kind: ClipboardKind,
    /// INVARIANT: at most as many as the kind may have.
    data: Vec<u8>,
}

impl AgentCommand {
    /// Tells a guest's agent.
    pub fn apply(self, agent: &mut Agent) {
        match self {
            Self::Offer(kind) => agent.offer(kind),
            Self::Release => agent.release(),
            Self::Give(piece) => agent.give(piece),
            Self::Request(kind) => agent.request(kind),
            Self::SendFile(offer) => agent.send_file(&offer),
            Self::FileData { id, data } => agent.file_data(id, data),
            Self::CancelFile(id) => agent.cancel_file(id),
            Self::Arrange(screens) => agent.arrange(&screens),
        }
    }
}

impl Clipboard {
    pub(crate) const fn new(policy: Policy) -> Self {
        Self {
            policy,
            has_agent: false,
            amid: BTreeSet::new(),
            assembly: None,
            offered: None,
            commands: VecDeque::new(),
        }
    }

    /// From now on only this is allowed; the guest gets no longer what it may not have.
    pub(crate) fn allow(&mut self, policy: Policy) {
        self.policy = policy;
        if !self.takes() {
            self.assembly = None;
            if self.offered.take().is_some() {
                self.commands.push_back(AgentCommand::Release);
            }
        }
    }

    /// Whether the guest takes what viewers copy.
    pub(crate) const fn takes(&self) -> bool {
        self.has_agent && self.policy.clipboard_to_guest
    }

    /// Whether viewers get what is copied in the guest.
    pub(crate) const fn gives(&self) -> bool {
        self.has_agent && self.policy.clipboard_from_guest
    }

    /// Takes an event of the agent; what viewers are to get, if anything. `is_watched` says whether
    /// there is a viewer that may have it.
    pub(crate) fn agent_event(
        &mut self,
        event: &AgentEvent,
        is_watched: bool,
    ) -> Option<ClipboardPiece> {
        match event {
            AgentEvent::Abilities(abilities) => {
                self.has_agent = abilities.clipboard;
                self.assembly = None;
                self.offered = None;
            }
            AgentEvent::Offered { text, png } => {
                self.offered = None;
                let kind = match (text, png) {
                    (true, _) => Some(ClipboardKind::Text),
                    (false, true) => Some(ClipboardKind::Png),
                    (false, false) => None,
                };
                if let Some(kind) = kind.filter(|_| self.gives() && is_watched) {
                    self.commands.push_back(AgentCommand::Request(kind));
                }
            }
            AgentEvent::Given(piece) => {
                return Some(piece.clone()).filter(|piece| self.gives() && is_sound(piece));
            }
            AgentEvent::Released => {
                let emptied = ClipboardPiece { kind: ClipboardKind::Text, data: Bytes::new() };
                return Some(emptied).filter(|_| self.gives());
            }
            AgentEvent::File(..) => {}
            AgentEvent::Asked(kind) => {
                let piece = self.offered.clone().filter(|piece| Some(piece.kind) == *kind);
                self.commands.push_back(AgentCommand::Give(piece));
            }
        }
        None
    }

    /// Takes a part of what a viewer with control has copied.
    pub(crate) fn part(&mut self, viewer: ViewerId, part: &ClipboardPart) {
        let kind = part.kind;
        let is_first = !self.amid.remove(&viewer);
        if part.more {
            self.amid.insert(viewer);
        }
        if is_first {
            let data = Vec::new();
            self.assembly = self.takes().then_some(Assembly { viewer, kind, data });
        }
        let is_its = |held: &Assembly| held.viewer == viewer;
        let Some(mut assembly) = self.assembly.take_if(|held| is_its(held)) else { return };
        let length = assembly.data.len() + part.data.len();
        if assembly.kind != kind || kind.bytes_max() < length {
            return;
        }
        assembly.data.extend_from_slice(&part.data);
        if part.more {
            self.assembly = Some(assembly);
        } else {
            self.offer(ClipboardPiece { kind, data: assembly.data.into() });
        }
    }

    /// The viewer is gone, and with it what it had begun.
    pub(crate) fn remove_viewer(&mut self, viewer: ViewerId) {
        self.amid.remove(&viewer);
        self.assembly.take_if(|held| held.viewer == viewer);
    }

    /// The next thing for the agent.
    pub(crate) fn next(&mut self) -> Option<AgentCommand> {
        self.commands.pop_front()
    }

    fn offer(&mut self, piece: ClipboardPiece) {
        if piece.kind == ClipboardKind::Text && piece.data.is_empty() {
            self.offered = None;
            self.commands.push_back(AgentCommand::Release);
        } else if is_sound(&piece) {
            self.commands.push_back(AgentCommand::Offer(piece.kind));
            self.offered = Some(piece);
        }
    }
}

/// Whether the bytes are something, and what they are said to be.
fn is_sound(piece: &ClipboardPiece) -> bool {
    match piece.kind {
        ClipboardKind::Text => !piece.data.is_empty() && std::str::from_utf8(&piece.data).is_ok(),
        ClipboardKind::Png => piece.data.starts_with(PNG_SIGNATURE),
    }
}

#[cfg(test)]
mod tests {
    use vidi_spice::{AgentAbilities, PNG_BYTES_MAX, Scancode, TEXT_BYTES_MAX};

    use super::*;
    use crate::protocol::{BrowserHello, ViewerMessage, records};
    use crate::session::{Effect, Session, ViewerRights};

    const ANA: ViewerId = ViewerId(1);
    const BEA: ViewerId = ViewerId(2);

    fn allowing(policy: Policy) -> Clipboard {
        let mut clipboard = Clipboard::new(policy);
        agent(&mut clipboard, true);
        clipboard
    }

    fn agent(clipboard: &mut Clipboard, is_there: bool) {
        let abilities = AgentAbilities { clipboard: is_there, monitors: is_there, files: false };
        assert_eq!(clipboard.agent_event(&AgentEvent::Abilities(abilities), true), None);
    }

    fn text(data: &str) -> ClipboardPiece {
        let data = Bytes::copy_from_slice(data.as_bytes());
        ClipboardPiece { kind: ClipboardKind::Text, data }
    }

    fn part(data: &[u8], more: bool) -> ClipboardPart {
        ClipboardPart { kind: ClipboardKind::Text, more, data: Bytes::copy_from_slice(data) }
    }

    fn commands(clipboard: &mut Clipboard) -> Vec<AgentCommand> {
        std::iter::from_fn(|| clipboard.next()).collect()
    }

    const ASKED: AgentEvent = AgentEvent::Asked(Some(ClipboardKind::Text));
    const OFFER: AgentCommand = AgentCommand::Offer(ClipboardKind::Text);

    #[test]
    fn a_viewers_piece_is_put_together_offered_and_given_as_often_as_the_guest_asks() {
        let mut clipboard = allowing(Policy::default());
        for (data, more) in [(&b"gr\xc3"[..], true), (b"", true), (b"\xbc\xc3\x9f", false)] {
            assert_eq!(commands(&mut clipboard), []);
            clipboard.part(ANA, &part(data, more));
        }
        assert_eq!(commands(&mut clipboard), [OFFER]);
        for _asked in 0..2 {
            clipboard.agent_event(&ASKED, true);
            assert_eq!(commands(&mut clipboard), [AgentCommand::Give(Some(text("grüß")))]);
        }
        clipboard.agent_event(&AgentEvent::Asked(Some(ClipboardKind::Png)), true);
        assert_eq!(commands(&mut clipboard), [AgentCommand::Give(None)]);
        clipboard.part(ANA, &part(b"", false));
        clipboard.agent_event(&ASKED, true);
        assert_eq!(commands(&mut clipboard), [AgentCommand::Release, AgentCommand::Give(None)]);
    }

    #[test]
    fn what_is_too_large_or_not_what_it_says_is_not_offered() {
        let mut clipboard = allowing(Policy::default());
        clipboard.part(ANA, &part(&vec![b'x'; TEXT_BYTES_MAX], true));
        clipboard.part(ANA, &part(b"y", true));
        clipboard.part(ANA, &part(b"the end", false));
        clipboard.part(ANA, &part(b"\xff", false));
        let png = |data: &[u8], more| {
            let data = Bytes::copy_from_slice(data);
            ClipboardPart { kind: ClipboardKind::Png, more, data }
        };
        clipboard.part(ANA, &png(b"<svg>", false));
        clipboard.part(ANA, &png(b"", false));
        clipboard.part(ANA, &png(PNG_SIGNATURE, true));
        clipboard.part(ANA, &part(b"another kind", false));
        assert_eq!(commands(&mut clipboard), []);
        clipboard.part(ANA, &part(&vec![b'x'; TEXT_BYTES_MAX], false));
        let largest = [PNG_SIGNATURE, &vec![0; PNG_BYTES_MAX - PNG_SIGNATURE.len()]].concat();
        clipboard.part(ANA, &png(&largest, false));
        assert_eq!(commands(&mut clipboard), [OFFER, AgentCommand::Offer(ClipboardKind::Png)]);
    }

    #[test]
    fn the_piece_that_was_begun_last_counts_and_parts_of_two_are_not_mixed() {
        let mut clipboard = allowing(Policy::default());
        clipboard.part(ANA, &part(b"an", true));
        clipboard.part(BEA, &part(b"be", true));
        clipboard.part(ANA, &part(b"a", false));
        assert_eq!(commands(&mut clipboard), []);
        clipboard.part(BEA, &part(b"a", false));
        clipboard.agent_event(&ASKED, true);
        assert_eq!(commands(&mut clipboard), [OFFER, AgentCommand::Give(Some(text("bea")))]);
        clipboard.part(ANA, &part(b"half", true));
        clipboard.remove_viewer(ANA);
        clipboard.part(ANA, &part(b"whole", false));
        clipboard.agent_event(&ASKED, true);
        assert_eq!(commands(&mut clipboard), [OFFER, AgentCommand::Give(Some(text("whole")))]);
    }

    #[test]
    fn an_agent_that_goes_in_the_middle_takes_the_piece_with_it() {
        let mut clipboard = allowing(Policy::default());
        clipboard.part(ANA, &part(b"be", true));
        agent(&mut clipboard, false);
        assert!(!clipboard.takes() && !clipboard.gives());
        clipboard.part(ANA, &part(b"for", true));
        agent(&mut clipboard, true);
        clipboard.part(ANA, &part(b"e", false));
        assert_eq!(commands(&mut clipboard), []);
        clipboard.part(ANA, &part(b"after", false));
        assert_eq!(commands(&mut clipboard), [OFFER]);
    }

    #[test]
    fn text_is_asked_for_before_a_picture_and_only_where_somebody_may_have_it() {
        let mut clipboard = allowing(Policy::default());
        let offered = |text, png| AgentEvent::Offered { text, png };
        for (event, is_watched, asked) in [
            (offered(true, true), true, Some(ClipboardKind::Text)),
            (offered(false, true), true, Some(ClipboardKind::Png)),
            (offered(false, false), true, None),
            (offered(true, true), false, None),
        ] {
            assert_eq!(clipboard.agent_event(&event, is_watched), None);
            let asked: Vec<_> = asked.into_iter().map(AgentCommand::Request).collect();
            assert_eq!(commands(&mut clipboard), asked);
        }
        assert_eq!(clipboard.agent_event(&AgentEvent::Given(text("a")), true), Some(text("a")));
        assert_eq!(clipboard.agent_event(&AgentEvent::Given(text("")), true), None);
        let svg = ClipboardPiece { kind: ClipboardKind::Png, data: Bytes::from_static(b"<svg>") };
        assert_eq!(clipboard.agent_event(&AgentEvent::Given(svg), true), None);
        assert_eq!(clipboard.agent_event(&AgentEvent::Released, true), Some(text("")));
    }

    #[test]
    fn what_is_not_allowed_goes_neither_way() {
        let to_guest = Policy { clipboard_from_guest: false, ..Policy::default() };
        let mut clipboard = allowing(to_guest);
        clipboard.agent_event(&AgentEvent::Offered { text: true, png: false }, true);
        assert_eq!(commands(&mut clipboard), []);
        assert_eq!(clipboard.agent_event(&AgentEvent::Given(text("a")), true), None);
        assert_eq!(clipboard.agent_event(&AgentEvent::Released, true), None);
        clipboard.part(ANA, &part(b"a", false));
        assert_eq!(commands(&mut clipboard), [OFFER]);

        let from_guest = Policy { clipboard_to_guest: false, ..Policy::default() };
        let mut clipboard = allowing(from_guest);
        clipboard.part(ANA, &part(b"a", false));
        clipboard.agent_event(&ASKED, true);
        assert_eq!(commands(&mut clipboard), [AgentCommand::Give(None)]);
        clipboard.agent_event(&AgentEvent::Offered { text: true, png: false }, true);
        assert_eq!(commands(&mut clipboard), [AgentCommand::Request(ClipboardKind::Text)]);
    }

    #[test]
    fn what_is_allowed_no_longer_is_not_given_any_more() {
        let nothing = Policy { clipboard_to_guest: false, ..Policy::default() };
        let mut clipboard = allowing(Policy::default());
        clipboard.part(ANA, &part(b"a", false));
        clipboard.part(ANA, &part(b"be", true));
        clipboard.allow(Policy { clipboard_from_guest: false, ..Policy::default() });
        clipboard.agent_event(&ASKED, true);
        let given = AgentCommand::Give(Some(text("a")));
        assert_eq!(commands(&mut clipboard), [OFFER, given], "it may have that still");
        clipboard.allow(nothing);
        clipboard.agent_event(&ASKED, true);
        assert_eq!(commands(&mut clipboard), [AgentCommand::Release, AgentCommand::Give(None)]);
        clipboard.allow(nothing);
        clipboard.allow(Policy::default());
        clipboard.part(ANA, &part(b"fore", false));
        assert_eq!(commands(&mut clipboard), [], "the beginning is gone");
    }

    fn session_with_viewer() -> (Session, ViewerId) {
        let mut session = Session::default();
        let abilities = AgentAbilities { clipboard: true, monitors: false, files: false };
        session.agent_event(&AgentEvent::Abilities(abilities));
        let hello = BrowserHello { webp: true, ..BrowserHello::default() };
        let viewer = session.add_viewer(hello, ViewerRights::Control).unwrap();
        (session, viewer)
    }

    /// What the guest and its agent are told now.
    fn told(session: &mut Session, now: Duration) -> Vec<String> {
        std::iter::from_fn(|| session.poll(now))
            .filter_map(|effect| match effect {
                Effect::Input(event) => Some(format!("{event:?}")),
                Effect::Agent(command) => Some(format!("{command:?}")),
                Effect::Send { .. } | Effect::Encode(_) | Effect::Speak(_) => None,
            })
            .collect()
    }

    #[test]
    fn a_key_right_behind_a_piece_waits_until_the_guest_has_taken_it_over() {
        const MS: Duration = Duration::from_millis(1);
        let (mut session, viewer) = session_with_viewer();
        let key = |down| ViewerMessage::Key { down, key: Scancode::plain(0x2f).unwrap() };
        session.viewer_message(viewer, &ViewerMessage::Clipboard(part(b"a", false)), MS);
        session.viewer_message(viewer, &key(true), MS);
        assert_eq!(told(&mut session, MS), ["Offer(Text)"]);
        assert_eq!(session.next_deadline(), Some(151 * MS));
        session.remove_viewer(viewer);
        assert_eq!(told(&mut session, 150 * MS), [""; 0]);
        let keys = told(&mut session, 151 * MS);
        assert_eq!(keys.len(), 2, "pressed, and let go since the viewer is gone: {keys:?}");
        assert_eq!(session.next_deadline(), None);

        let (mut session, viewer) = session_with_viewer();
        session.viewer_message(viewer, &ViewerMessage::Clipboard(part(b"a", false)), MS);
        for _key in 0..1000 {
            session.viewer_message(viewer, &key(true), MS);
        }
        assert_eq!(told(&mut session, MS).len(), 1 + 1000 - 256, "a flood does not wait");
        session.display_closed();
        assert_eq!(told(&mut session, MS).len(), 256, "nothing waits for a guest that is gone");
    }

    #[test]
    fn viewers_with_control_hear_when_the_guest_fetches_what_it_was_offered() {
        let (mut session, viewer) = session_with_viewer();
        let hello = BrowserHello { webp: true, ..BrowserHello::default() };
        let other = session.add_viewer(hello, ViewerRights::Look).unwrap();
        let heard = |session: &mut Session| {
            let mut who = Vec::new();
            while let Some(effect) = session.poll(Duration::ZERO) {
                let Effect::Send { viewer, message, .. } = effect else { continue };
                who.extend((message[0] == 30 && message.len() == 8).then_some(viewer));
            }
            who
        };
        assert_eq!(heard(&mut session), []);
        let offer = ViewerMessage::Clipboard(part(b"a", false));
        session.viewer_message(viewer, &offer, Duration::ZERO);
        assert_eq!(heard(&mut session), []);
        session.agent_event(&ASKED);
        assert_eq!(heard(&mut session), [viewer]);
        session.agent_event(&AgentEvent::Asked(None));
        assert_eq!(heard(&mut session), []);
        assert_ne!(viewer, other);
    }

    /// The abilities that viewers are told now; `waiting` grows by what their sockets have not taken.
    fn abilities(session: &mut Session, waiting: &mut usize) -> Vec<u8> {
        let mut bits = Vec::new();
        while let Some(effect) = session.poll(Duration::ZERO) {
            let Effect::Send { message, .. } = effect else { panic!("{effect:?}") };
            *waiting += message.len();
            bits.extend(records(&message).filter(|(kind, _)| *kind == 15).map(|(_, body)| body[0]));
        }
        bits
    }

    #[test]
    fn a_viewer_learns_that_what_it_offered_was_not_allowed_for_a_while() {
        let (mut session, _viewer) = session_with_viewer();
        assert_eq!(abilities(&mut session, &mut 0), [3]);
        for clipboard_to_guest in [false, true, true] {
            session.allow(Policy { clipboard_to_guest, ..Policy::default() });
        }
        assert_eq!(abilities(&mut session, &mut 0), [0, 3]);
    }

    #[test]
    fn a_viewer_whose_socket_is_full_learns_that_the_guest_forgot_what_it_was_offered() {
        let (mut session, viewer) = session_with_viewer();
        let mut waiting = 0;
        assert_eq!(abilities(&mut session, &mut waiting), [3]);
        for _ping in 0..10_000 {
            session.viewer_message(viewer, &ViewerMessage::Ping([0; 8]), Duration::ZERO);
            assert_eq!(abilities(&mut session, &mut waiting), []);
        }
        for clipboard in [false, true] {
            let abilities = AgentAbilities { clipboard, monitors: false, files: false };
            session.agent_event(&AgentEvent::Abilities(abilities));
        }
        assert_eq!(abilities(&mut session, &mut waiting), [], "its socket is full");
        session.sent(viewer, waiting, Duration::ZERO);
        assert_eq!(abilities(&mut session, &mut waiting), [0, 3]);
    }
}
