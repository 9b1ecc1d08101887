//! The agent's protocol, byte for byte and in any chunks.

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::channel::Channel;
use crate::error::Refusal;
use crate::geometry::Rect;
use crate::link::ChannelKind;
use crate::main_channel::{MouseMode, MouseModes, SessionInit};
use crate::test_support::Body;
use crate::totality::{body, number};

/// Monitors, clipboard by demand, selection, limit, no release on regrab, grab serial: as
/// spice-vdagent 0.22 has them.
pub(super) const LINUX: u32 = 1 << 1 | 1 << 5 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 16 | 1 << 17;
/// Monitors, clipboard by demand, CRLF, limit: as vd_agent-win has them.
pub(super) const WINDOWS: u32 = 1 << 1 | 1 << 5 | 1 << 9 | 1 << 10;

pub(super) struct Guest {
    pub(super) agent: Agent,
    main: MainChannel,
}

impl Guest {
    /// An agent that is there, with so many tokens.
    pub(super) fn greeted(tokens: u32) -> Self {
        let main = MainChannel::over(Channel::opened(ChannelKind::Main));
        let mut guest = Self { agent: Agent::default(), main };
        let mouse = MouseModes { client_possible: true, current: MouseMode::Client };
        let init = SessionInit {
            session_id: 1,
            display_channels_hint: 1,
            mouse,
            agent_connected: true,
            agent_tokens: tokens,
            multi_media_time: 0,
        };
        assert_eq!(guest.agent.handle(&MainEvent::Init(init)), []);
        guest
    }

    /// One that has answered, whatever it can.
    pub(super) fn answered(capabilities: u32) -> Self {
        let mut guest = Self::greeted(1000);
        guest.says(6, &Body::default().u32(0).u32(capabilities));
        guest
    }

    /// One that has answered, with tokens for all that follows.
    pub(super) fn ready(capabilities: u32) -> Self {
        let mut guest = Self::greeted(1000);
        let events = guest.says(6, &Body::default().u32(0).u32(capabilities));
        let abilities = AgentAbilities { clipboard: true, monitors: true, files: true };
        assert_eq!(events, [AgentEvent::Abilities(abilities)]);
        guest.sent();
        guest
    }

    pub(super) fn says(&mut self, kind: u32, body: &Body) -> Vec<AgentEvent> {
        let bytes = agent_message(kind, &body.0);
        bytes.chunks(CHUNK_BYTES_MAX).flat_map(|chunk| self.chunk(chunk)).collect()
    }

    pub(super) fn chunk(&mut self, chunk: &[u8]) -> Vec<AgentEvent> {
        self.agent.handle(&MainEvent::AgentData(Bytes::copy_from_slice(chunk)))
    }

    /// Messages of the main channel, type and body.
    pub(super) fn sent(&mut self) -> Vec<(u16, Vec<u8>)> {
        self.agent.transmit(&mut self.main).unwrap();
        let bytes = self.main.poll_transmit().unwrap_or_default();
        let mut messages = Vec::new();
        let mut rest = &bytes[..];
        while let Some((head, after)) = rest.split_at_checked(6) {
            let size = u32::from_le_bytes(head[2..].try_into().unwrap());
            let (body, after) = after.split_at(usize::try_from(size).unwrap());
            messages.push((u16::from_le_bytes([head[0], head[1]]), body.to_vec()));
            rest = after;
        }
        messages
    }

    /// The agent's messages in the data that was sent: type and body.
    pub(super) fn told(&mut self) -> Vec<(u32, Vec<u8>)> {
        let mut bytes = Vec::new();
        loop {
            let sent = self.sent();
            if sent.is_empty() {
                break;
            }
            bytes.extend(sent.into_iter().filter(|(kind, _)| *kind == 107).flat_map(|sent| sent.1));
        }
        let mut messages = Vec::new();
        let mut rest = &bytes[..];
        while let Some(header) = rest.first_chunk() {
            let header: &[u8; HEADER_BYTES] = header;
            let size = usize::try_from(Header::read(header).size).unwrap();
            let kind = u32::from_le_bytes(header[4..8].try_into().unwrap());
            messages.push((kind, rest[HEADER_BYTES..HEADER_BYTES + size].to_vec()));
            rest = &rest[HEADER_BYTES + size..];
        }
        messages
    }
}

fn agent_message(kind: u32, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len()).unwrap();
    Body::default().u32(1).u32(kind).u64(0).u32(size).bytes(body).0
}

fn text(data: &'static [u8]) -> ClipboardPiece {
    ClipboardPiece { kind: ClipboardKind::Text, data: Bytes::from_static(data) }
}

fn check(told: &[(u32, Vec<u8>)], expected: Expect) {
    let lines: Vec<String> =
        told.iter().map(|(kind, body)| format!("{kind}: {body:02x?}")).collect();
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn the_first_word_is_our_capabilities_and_the_agents_answer_makes_it_ready() {
    let mut guest = Guest::greeted(10);
    let sent = guest.sent();
    assert_eq!(sent[0], (106, vec![32, 0, 0, 0]), "AGENT_START grants tokens");
    let announced = Body::default().u32(1).u32(0x0003_4066).0;
    assert_eq!(sent[1..], [(107, agent_message(6, &announced))]);
    // An agent that has just started asks too; what it says before its answer is meant for another.
    assert_eq!(guest.says(6, &Body::default().u32(1).u32(LINUX)), []);
    assert_eq!(guest.says(7, &Body::default().u32(0).u32(0).u32(1)), []);
    check(&guest.told(), expect!["6: [00, 00, 00, 00, 66, 40, 03, 00]"]);
    let abilities = AgentAbilities { clipboard: true, monitors: true, files: true };
    let events = guest.says(6, &Body::default().u32(0).u32(LINUX));
    assert_eq!(events, [AgentEvent::Abilities(abilities)]);
    check(&guest.told(), expect!["14: [00, 00, 80, 00]"]);
    assert_eq!(guest.agent.abilities(), abilities);
}

#[test]
fn what_is_copied_in_the_guest_is_asked_for_and_given() {
    let mut guest = Guest::ready(LINUX);
    let grab = Body::default().u32(0).u32(0).u32(3).u32(2).u32(1);
    assert_eq!(guest.says(7, &grab), [AgentEvent::Offered { text: true, png: true }]);
    guest.agent.request(ClipboardKind::Text);
    check(&guest.told(), expect!["8: [00, 00, 00, 00, 01, 00, 00, 00]"]);
    let data = Body::default().u32(0).u32(1).bytes("grüß\r\n\0".as_bytes());
    let given = guest.says(4, &data);
    assert_eq!(
        given,
        [AgentEvent::Given(text("grüß\r\n".as_bytes()))],
        "a Unix text stays as it is"
    );
    assert_eq!(format!("{given:?}"), "[Given(Text of 8 bytes)]", "its words are in no log");
    assert_eq!(guest.says(9, &Body::default().u32(0)), [AgentEvent::Released]);
    assert_eq!(guest.says(9, &Body::default().u32(0)), [], "released once");
    assert_eq!(guest.says(4, &data), [], "nobody asks for it any more");
}

#[test]
fn what_is_offered_is_given_when_the_guest_asks() {
    let mut guest = Guest::ready(LINUX);
    let asks = Body::default().u32(0).u32(1);
    assert_eq!(guest.says(8, &asks), [], "nothing was offered");
    guest.agent.offer(ClipboardKind::Text);
    check(&guest.told(), expect!["7: [00, 00, 00, 00, 00, 00, 00, 00, 01, 00, 00, 00]"]);
    assert_eq!(guest.says(8, &asks), [AgentEvent::Asked(Some(ClipboardKind::Text))]);
    guest.agent.give(Some(text(b"a\r\nb\n")));
    let asks_for_a_picture = Body::default().u32(0).u32(5);
    assert_eq!(guest.says(8, &asks_for_a_picture), [AgentEvent::Asked(None)]);
    guest.agent.give(None);
    guest.agent.release();
    check(
        &guest.told(),
        expect![[r#"
            4: [00, 00, 00, 00, 01, 00, 00, 00, 61, 0a, 62, 0a]
            4: [00, 00, 00, 00, 00, 00, 00, 00]
            9: [00, 00, 00, 00]"#]],
    );
}

#[test]
fn an_agent_without_selections_and_with_windows_lines_is_spoken_to_in_its_way() {
    let mut guest = Guest::ready(WINDOWS);
    guest.agent.offer(ClipboardKind::Text);
    guest.agent.give(Some(text(b"a\r\nb\n\r")));
    check(
        &guest.told(),
        expect![[r#"
            7: [01, 00, 00, 00]
            4: [01, 00, 00, 00, 61, 0d, 0a, 62, 0d, 0a, 0d]"#]],
    );
    // It does not know that a grab may follow a grab.
    guest.agent.offer(ClipboardKind::Png);
    check(
        &guest.told(),
        expect![[r#"
            9: []
            7: [02, 00, 00, 00]"#]],
    );
    let offered = guest.says(7, &Body::default().u32(1));
    assert_eq!(offered, [AgentEvent::Offered { text: true, png: false }]);
    guest.agent.request(ClipboardKind::Text);
    let given = guest.says(4, &Body::default().u32(1).bytes(b"a\r\nb"));
    assert_eq!(given, [AgentEvent::Given(text(b"a\nb"))]);
}

#[test]
fn the_screens_height_stands_before_its_width_which_is_even() {
    let mut guest = Guest::ready(LINUX);
    guest.agent.arrange(&[Rect::of_size(1281, 719)]);
    check(
        &guest.told(),
        expect![
            "2: [01, 00, 00, 00, 00, 00, 00, 00, cf, 02, 00, 00, 00, 05, 00, 00, 20, 00, 00, 00, 00, 00, 00, 00, 00, 00, 00, 00]"
        ],
    );
}

#[test]
fn several_screens_have_places_and_those_that_are_off_no_size() {
    let screens = [Rect::new(0, 0, 1281, 719), Rect::default(), Rect::new(1280, 0, 1920, 480)];
    let told = |capabilities| {
        let mut guest = Guest::ready(capabilities);
        guest.agent.arrange(&screens);
        guest.told()
    };
    let words = |of: &[u32]| of.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let first = [719, 1280, 32, 0, 0];
    let third = [480, 640, 32, 1280, 0];
    let sparse = [&[3, 1][..], &first, &[0, 0, 32, 0, 0], &third].concat();
    assert_eq!(told(LINUX | (1 << 7)), [(2, words(&sparse))]);
    let dense = [&[2, 1][..], &first, &third].concat();
    assert_eq!(told(LINUX), [(2, words(&dense))]);
}

#[test]
fn only_the_clipboard_counts_and_not_what_is_marked_with_the_mouse() {
    let mut guest = Guest::ready(LINUX);
    assert_eq!(guest.says(7, &Body::default().u32(1).u32(0).u32(1)), []);
    let grab = Body::default().u32(0).u32(0).u32(1);
    assert_eq!(guest.says(7, &grab), [AgentEvent::Offered { text: true, png: false }]);
}

#[test]
fn when_both_copy_at_once_the_client_has_it() {
    let mut guest = Guest::ready(LINUX);
    guest.agent.offer(ClipboardKind::Text);
    guest.told();
    assert_eq!(guest.says(7, &Body::default().u32(0).u32(0).u32(1)), [], "its number is ours");
    let asked = guest.says(8, &Body::default().u32(0).u32(1));
    assert_eq!(asked, [AgentEvent::Asked(Some(ClipboardKind::Text))], "ours is still offered");
    let offered = guest.says(7, &Body::default().u32(0).u32(1).u32(1));
    assert_eq!(offered, [AgentEvent::Offered { text: true, png: false }]);
    guest.agent.offer(ClipboardKind::Text);
    check(&guest.told(), expect!["7: [00, 00, 00, 00, 02, 00, 00, 00, 01, 00, 00, 00]"]);
}

#[test]
fn without_tokens_the_newest_of_each_kind_waits() {
    let mut guest = Guest::greeted(1);
    assert_eq!(guest.sent().len(), 2, "the start needs no token");
    guest.says(6, &Body::default().u32(0).u32(LINUX));
    for size in [640, 800, 1024] {
        guest.agent.arrange(&[Rect::of_size(size, 600)]);
        guest.agent.offer(ClipboardKind::Text);
        for _asked in 0..100 {
            guest.agent.give(Some(text(b"old")));
        }
    }
    guest.agent.offer(ClipboardKind::Png);
    assert_eq!(guest.sent(), []);
    assert_eq!(guest.agent.handle(&MainEvent::AgentTokens(1)), []);
    assert_eq!(guest.sent().len(), 1);
    guest.agent.handle(&MainEvent::AgentTokens(100));
    check(
        &guest.told(),
        expect![[r#"
            2: [01, 00, 00, 00, 00, 00, 00, 00, 58, 02, 00, 00, 00, 04, 00, 00, 20, 00, 00, 00, 00, 00, 00, 00, 00, 00, 00, 00]
            7: [00, 00, 00, 00, 00, 00, 00, 00, 02, 00, 00, 00]"#]],
    );
}

#[test]
fn a_large_piece_goes_in_chunks_each_for_a_token_and_never_floods_the_channel() {
    let mut guest = Guest::ready(LINUX);
    guest.agent.offer(ClipboardKind::Png);
    let data = Bytes::from(vec![7; PNG_BYTES_MAX]);
    guest.agent.give(Some(ClipboardPiece { kind: ClipboardKind::Png, data: data.clone() }));
    guest.agent.tokens = 3;
    let sent = guest.sent();
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().all(|(kind, body)| *kind == 107 && body.len() <= CHUNK_BYTES_MAX));
    assert_eq!(guest.sent(), []);
    guest.agent.handle(&MainEvent::AgentTokens(u32::MAX));
    guest.agent.transmit(&mut guest.main).unwrap();
    assert!(guest.main.unsent() < UNSENT_BYTES_MAX + 2 * CHUNK_BYTES_MAX);
    let rest: usize = std::iter::from_fn(|| Some(guest.sent()).filter(|sent| !sent.is_empty()))
        .flatten()
        .map(|(_, body)| body.len())
        .sum();
    let first: usize = sent.iter().map(|(_, body)| body.len()).sum();
    assert_eq!(first + rest, 32 + HEADER_BYTES + 8 + data.len(), "the grab is 32 bytes");
}

#[test]
fn chunks_are_paid_back() {
    let mut guest = Guest::ready(LINUX);
    let mut paid = 0;
    for _chunk in 0..100 {
        guest.says(3, &Body::default().u32(2).u32(1));
        for (kind, body) in guest.sent() {
            assert_eq!(kind, 108);
            paid += u32::from_le_bytes(body.try_into().unwrap());
        }
    }
    assert!((101 - TOKENS_PER_RETURN..=101).contains(&paid), "{paid} of 101");
}

#[test]
fn what_is_too_large_or_unknown_is_skipped_to_its_end() {
    let mut guest = Guest::ready(LINUX);
    let grab = |serial| Body::default().u32(0).u32(serial).u32(2).u32(1);
    guest.says(7, &grab(0));
    guest.agent.request(ClipboardKind::Text);
    let large = Body::default().u32(0).u32(1).bytes(&vec![b'x'; TEXT_BYTES_MAX + 1]);
    assert_eq!(guest.says(4, &large), []);
    assert_eq!(guest.says(4000, &Body::default().bytes(&[0xff; 5000])), []);
    assert_eq!(guest.says(7, &Body::default().bytes(&[0xff; 5000])), []);
    assert_eq!(guest.says(7, &Body::default().u8(0)), [], "it is cut short");
    let largest = Body::default().u32(0).u32(1).bytes(&vec![b'x'; TEXT_BYTES_MAX]);
    let given = guest.says(4, &largest);
    assert!(matches!(&given[..], [AgentEvent::Given(piece)] if piece.data.len() == TEXT_BYTES_MAX));
    let longer_as_text = Body::default().u32(0).u32(1).bytes(&vec![0xff; TEXT_BYTES_MAX]);
    assert_eq!(guest.says(4, &longer_as_text), [], "replacements make it too long");
    assert_eq!(guest.says(7, &grab(1)), [AgentEvent::Offered { text: true, png: true }]);
}

#[test]
fn an_agent_that_goes_takes_everything_with_it_and_starts_anew() {
    let mut guest = Guest::ready(LINUX);
    guest.agent.offer(ClipboardKind::Text);
    guest.agent.give(Some(ClipboardPiece {
        kind: ClipboardKind::Png,
        data: Bytes::from(vec![7; 100_000]),
    }));
    guest.agent.tokens = 3;
    assert_eq!(guest.sent().len(), 3);
    let half = agent_message(4, &[0; 50]);
    guest.chunk(&half[..30]);
    let gone = AgentEvent::Abilities(AgentAbilities::default());
    assert_eq!(guest.agent.handle(&MainEvent::AgentDisconnected(Refusal::None)), [gone]);
    guest.agent.offer(ClipboardKind::Text);
    guest.agent.arrange(&[Rect::of_size(800, 600)]);
    guest.agent.handle(&MainEvent::AgentTokens(9));
    assert_eq!(guest.sent(), []);
    assert_eq!(guest.agent.handle(&MainEvent::AgentConnected(Some(10))), []);
    let announced = agent_message(6, &Body::default().u32(1).u32(0x0003_4066).0);
    assert_eq!(guest.sent(), [(106, vec![32, 0, 0, 0]), (107, announced)]);
}

#[test]
fn an_agent_that_breaks_the_framing_is_left_alone_until_it_starts_anew() {
    let gone = [AgentEvent::Abilities(AgentAbilities::default())];
    for damage in [vec![0; CHUNK_BYTES_MAX + 1], vec![2; HEADER_BYTES]] {
        let mut guest = Guest::ready(LINUX);
        assert_eq!(guest.chunk(&damage), gone);
        assert_eq!(guest.says(6, &Body::default().u32(0).u32(LINUX)), []);
        guest.agent.handle(&MainEvent::AgentConnected(Some(10)));
        assert_eq!(guest.says(6, &Body::default().u32(0).u32(LINUX)).len(), 1);
    }
}

/// What an agent may say once it is ready, message by message.
fn messages() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let kind = prop_oneof![4 => Just(4_u32), 3 => Just(7), 1 => 6..10_u32, 1 => 0..20_u32];
    let number = prop_oneof![3 => Just(1_u32), 1 => 0..4_u32];
    let message = (kind, proptest::collection::vec(number, 0..3), "[a-z\r\n]{0,3000}");
    proptest::collection::vec(message, 0..12).prop_map(move |messages| {
        let mut serial = 0;
        let mut bytes = Vec::new();
        for (kind, numbers, data) in messages {
            let body = Body::default().u32(0);
            let body = if kind == 7 { body.u32(serial) } else { body };
            let body = numbers.iter().fold(body, |body, number| body.u32(*number));
            bytes.push(agent_message(kind, &body.bytes(data.as_bytes()).0));
            serial += u32::from(kind == 7);
        }
        bytes
    })
}

/// Everything that the agent tells of messages, each in chunks of these lengths; each offer is
/// asked for.
fn tell(messages: &[Vec<u8>], lengths: &[usize]) -> Vec<AgentEvent> {
    let mut guest = Guest::ready(LINUX);
    let mut events = Vec::new();
    let mut lengths = lengths.iter().cycle();
    for message in messages {
        let mut rest = &message[..];
        while !rest.is_empty() {
            let length = lengths.next().map_or(CHUNK_BYTES_MAX, |length| *length);
            let (chunk, after) = rest.split_at(length.min(rest.len()));
            for event in guest.chunk(chunk) {
                if matches!(event, AgentEvent::Offered { .. }) {
                    guest.agent.request(ClipboardKind::Text);
                }
                events.push(event);
            }
            rest = after;
        }
    }
    events
}

#[test]
fn some_generated_messages_give_a_text() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let given = (0..300)
        .flat_map(|_| {
            tell(&messages().new_tree(&mut runner).unwrap().current(), &[CHUNK_BYTES_MAX])
        })
        .filter(|event| matches!(event, AgentEvent::Given(_)))
        .count();
    assert!(given > 20, "only {given} texts");
}

proptest! {
    #[test]
    fn a_message_in_any_chunks_tells_the_same(
        messages in messages(),
        lengths in proptest::collection::vec(1..CHUNK_BYTES_MAX, 1..8),
    ) {
        prop_assert_eq!(tell(&messages, &lengths), tell(&messages, &[CHUNK_BYTES_MAX]));
    }

    #[test]
    fn messages_that_share_chunks_tell_the_same(
        messages in messages(),
        length in 1..CHUNK_BYTES_MAX,
    ) {
        let mut guests = [Guest::ready(LINUX), Guest::ready(LINUX)];
        let bytes = messages.concat();
        let [together, apart] = &mut guests;
        let shared: Vec<_> = bytes.chunks(length).flat_map(|chunk| together.chunk(chunk)).collect();
        let alone: Vec<_> = (messages.iter())
            .flat_map(|message| message.chunks(CHUNK_BYTES_MAX))
            .flat_map(|chunk| apart.chunk(chunk))
            .collect();
        prop_assert_eq!(shared, alone);
    }

    #[test]
    fn an_agent_keeps_its_limits_for_any_messages(
        parts in proptest::collection::vec((0..18_u32, body(), proptest::option::weighted(0.1, number())), 1..30),
        cuts in proptest::collection::vec(1..300_usize, 1..6),
        tokens in number(),
    ) {
        let mut bytes = Body::default().u32(1).u32(6).u64(0).u32(8).u32(0).u32(u32::MAX);
        for (kind, body, size) in parts {
            let size = size.unwrap_or(u32::try_from(body.len()).unwrap());
            bytes = bytes.u32(1).u32(kind).u64(0).u32(size).bytes(&body);
        }
        let mut main = MainChannel::over(Channel::opened(ChannelKind::Main));
        let mut agent = Agent::default();
        agent.handle(&MainEvent::AgentConnected(Some(tokens)));
        let mut rest = bytes.0.as_slice();
        for cut in cuts.into_iter().cycle() {
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            for event in agent.handle(&MainEvent::AgentData(chunk.to_vec().into())) {
                match event {
                    AgentEvent::Given(piece) => {
                        prop_assert!(piece.data.len() <= piece.kind.bytes_max());
                    }
                    AgentEvent::Offered { .. } => agent.request(ClipboardKind::Png),
                    AgentEvent::Asked(_) => agent.give(None),
                    AgentEvent::Abilities(_) => agent.offer(ClipboardKind::Text),
                    AgentEvent::Released => agent.arrange(&[Rect::of_size(1, 1)]),
                    AgentEvent::File(id, _) => agent.file_data(id, Bytes::from_static(b"x")),
                }
            }
            agent.transmit(&mut main).unwrap();
            prop_assert!(main.poll_transmit().is_none_or(|sent| sent.len() < 128 << 10));
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
    }
}
