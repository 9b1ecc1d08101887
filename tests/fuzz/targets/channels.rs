//! Fuzzes the link and every channel but the display's: any bytes of a server.
//!
//! A record's kind: the two highest bits name the channel (0 main with its agent, 1 inputs, 2 cursor, 3 the
//! link itself), the others are the message's type. Of a main message with bit 13 the type is one of the agent's
//! messages, and the body that one's, and with bit 8 the client has copied and dropped something; of an inputs message with bit 12 or 13 the channel is playback or record.
//! Otherwise its body is the message's, or bytes of the link: of the server's side of it to clients of others
//! with bit 12, of the link that is made in their name with bit 13.
#![no_main]

use std::sync::{LazyLock, Mutex};

use bytes::BytesMut;
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use rand::SeedableRng;
use rand::rngs::StdRng;
use vidi_fuzz::{LINKED, agent_says, message, mutate, records, setup};
use vidi_spice::{
    Agent, AgentEvent, ChannelKind, ClipboardKind, ClipboardPiece, CursorChannel, CursorEvent,
    FILES_MAX, FileFailure, FileOffer, FileStatus, InputsChannel, LinkRequest, MainChannel,
    PassedLink, PlaybackChannel, PlaybackEvent, Point, RecordChannel, SOUND_CHANNELS_MAX,
    SOUND_PACKET_BYTES_MAX, Scancode, ServerKey, SoundCodec, link_refusal, offered,
};

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate(data, size, max_size, seed)
});

fuzz_target!(|input: &[u8]| {
    let mut main = MainChannel::new(setup());
    let mut inputs = InputsChannel::new(setup());
    let mut cursor = CursorChannel::new(setup());
    let mut playback = PlaybackChannel::new(setup(), SoundCodec::Opus);
    let mut record_channel = RecordChannel::new(setup());
    let mut link = MainChannel::new(setup());
    let mut agent = Agent::default();
    let mut side = ServersSide::default();
    let opened = main.receive(&LINKED).is_ok()
        && inputs.receive(&LINKED).is_ok()
        && cursor.receive(&LINKED).is_ok()
        && playback.receive(&LINKED).is_ok()
        && record_channel.receive(&LINKED).is_ok();
    assert!(opened, "the link is sound");
    for record in records(input) {
        let bytes = message(record.kind & 0x3fff, &record.body);
        let goes_on = match record.kind >> 14 {
            0 if record.kind & AGENT != 0 => {
                let bytes = agent_says((record.kind & 0xff).into(), &record.body);
                if record.kind & WISHES != 0 {
                    wish(&mut agent);
                }
                main.receive(&bytes).is_ok() && take_main(&mut main, &mut agent)
            }
            0 => main.receive(&bytes).is_ok() && take_main(&mut main, &mut agent),
            1 if record.kind & PLAYBACK != 0 => {
                let bytes = message(record.kind & 0xfff, &record.body);
                playback.receive(&bytes).is_ok() && take_playback(&mut playback)
            }
            1 if record.kind & RECORD != 0 => {
                let bytes = message(record.kind & 0xfff, &record.body);
                record_channel.receive(&bytes).is_ok() && take_record(&mut record_channel)
            }
            1 => inputs.receive(&bytes).is_ok() && take_inputs(&mut inputs),
            2 => cursor.receive(&bytes).is_ok() && take_cursor(&mut cursor),
            _ if record.kind & SERVING != 0 => side.hear_client(&record.body),
            _ if record.kind & PASSED != 0 => side.hear_server(&record.body),
            _ => link.receive(&record.body).is_ok() && take_main(&mut link, &mut Agent::default()),
        };
        if !goes_on {
            return;
        }
    }
});

/// Of a main message: it is one of the agent's.
const AGENT: u16 = 1 << 13;
/// Of one of the agent's messages: the client wants something before.
const WISHES: u16 = 1 << 8;
/// Of an inputs message: the channel is another.
const PLAYBACK: u16 = 1 << 12;
const RECORD: u16 = 1 << 13;
/// Of bytes of a link: it is another.
const SERVING: u16 = 1 << 12;
const PASSED: u16 = 1 << 13;

/// For the first ticket of a process: a key is made in a tenth of a second, and opens one.
static KEY: LazyLock<Mutex<Option<ServerKey>>> = LazyLock::new(|| {
    let key = ServerKey::generate(&mut StdRng::seed_from_u64(7)).ok();
    let reply = key.as_ref().map(|key| key.reply(offered(ChannelKind::Main)));
    assert!(reply.is_some_and(|reply| reply.starts_with(b"REDQ")), "a key replies");
    Mutex::new(key)
});

/// A client of others before us, and the link that is made in its name.
#[derive(Debug, Default)]
struct ServersSide {
    input: BytesMut,
    request: Option<LinkRequest>,
    passed: Option<PassedLink>,
}

impl ServersSide {
    fn hear_client(&mut self, bytes: &[u8]) -> bool {
        self.input.extend_from_slice(bytes);
        let request = match (self.request, LinkRequest::read(&mut self.input)) {
            (Some(request), _) | (None, Ok(Some(request))) => request,
            (None, Ok(None)) => return true,
            (None, Err(refusal)) => {
                assert!(!link_refusal(refusal).is_empty(), "a refusal is a message");
                return false;
            }
        };
        if self.request.is_none() {
            let _told = (offered(request.kind), request.compression());
            let password = setup().password;
            self.passed = Some(PassedLink::start(&request, password, setup().seed));
        }
        self.request = Some(request);
        match request.read_ticket(&mut self.input) {
            Ok(Some(ticket)) => {
                let key = KEY.lock().ok().and_then(|mut key| key.take());
                drop(key.and_then(|key| key.open(&ticket, &mut StdRng::seed_from_u64(7))));
                true
            }
            Ok(None) => true,
            Err(_) => false,
        }
    }

    fn hear_server(&mut self, bytes: &[u8]) -> bool {
        let Some(passed) = &mut self.passed else { return true };
        let goes_on = passed.receive(bytes).is_ok();
        while passed.poll_transmit().is_some() {}
        goes_on
    }
}

fn take_main(main: &mut MainChannel, agent: &mut Agent) -> bool {
    loop {
        match main.next_event() {
            Ok(Some(event)) => {
                for event in agent.handle(&event) {
                    answer(agent, event);
                }
            }
            Ok(None) => break,
            Err(_) => return false,
        }
    }
    let goes_on = agent.transmit(main).is_ok();
    for event in agent.take_file_events() {
        answer(agent, event);
    }
    while main.poll_transmit().is_some() {}
    goes_on
}

fn wish(agent: &mut Agent) {
    agent.offer(ClipboardKind::Png);
    // One more than may be on their way.
    for id in (0..).take(FILES_MAX + 1) {
        let size = u64::from(id) * 9;
        agent.send_file(&FileOffer { id, name: "a/b\n:".to_owned(), size });
    }
}

/// As the engine and its viewers would.
fn answer(agent: &mut Agent, event: AgentEvent) {
    match event {
        AgentEvent::Offered { text, .. } => {
            agent.request(if text { ClipboardKind::Text } else { ClipboardKind::Png });
        }
        AgentEvent::Given(piece) => {
            assert!(piece.data.len() <= piece.kind.bytes_max(), "a piece keeps to its limit");
            agent.offer(piece.kind);
        }
        AgentEvent::Released => agent.release(),
        AgentEvent::Asked(kind) => {
            let data = b"one\ntwo"[..].into();
            agent.give(kind.map(|kind| ClipboardPiece { kind, data }));
        }
        AgentEvent::File(id, FileStatus::Ready) => agent.file_data(id, vec![7; 5].into()),
        AgentEvent::File(id, FileStatus::Taken(5)) => agent.file_data(id, vec![7; 4].into()),
        AgentEvent::File(id, FileStatus::Failed(FileFailure::TooMany)) => agent.cancel_file(id),
        AgentEvent::File(..) | AgentEvent::Abilities(_) => {}
    }
}

fn take_inputs(inputs: &mut InputsChannel) -> bool {
    loop {
        match inputs.next_event() {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(_) => return false,
        }
    }
    let typed = Scancode::plain(0x1e).is_some_and(|key| inputs.key_down(key).is_ok());
    let goes_on = typed && inputs.move_to(Point::new(3, 4), 0).is_ok();
    while inputs.poll_transmit().is_some() {}
    goes_on
}

fn take_cursor(cursor: &mut CursorChannel) -> bool {
    loop {
        match cursor.next_event() {
            Ok(Some(CursorEvent::Set { shape: Some(shape), .. })) => {
                let pixels = usize::from(shape.width) * usize::from(shape.height);
                assert_eq!(shape.rgba.len(), 4 * pixels, "a shape is whole");
                assert!(shape.hot_x < shape.width && shape.hot_y < shape.height);
            }
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(_) => return false,
        }
    }
    while cursor.poll_transmit().is_some() {}
    true
}

fn take_playback(playback: &mut PlaybackChannel) -> bool {
    loop {
        match playback.next_event() {
            Ok(Some(PlaybackEvent::Started(form))) => {
                assert!(1 <= form.channels && form.channels <= SOUND_CHANNELS_MAX);
            }
            Ok(Some(PlaybackEvent::Packet { data, .. })) => {
                assert!(!data.is_empty() && data.len() <= SOUND_PACKET_BYTES_MAX);
            }
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(_) => return false,
        }
    }
    while playback.poll_transmit().is_some() {}
    true
}

fn take_record(record: &mut RecordChannel) -> bool {
    loop {
        match record.next_event() {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(_) => return false,
        }
    }
    let goes_on = record.speak(&[1; 4001]).is_ok();
    while record.poll_transmit().is_some() {}
    goes_on
}
