//! Fuzzes what a browser sends: any records, decoded and handed to a session with a picture, and on to the
//! guest's inputs and agent.
//!
//! A record's kind: the low byte is its type, bit 15 makes it the last of its message, bits 8 to 14 are
//! sixteenths of a second that pass after it. Its body is the record's.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use vidi_display::protocol::{Speech, decode};
use vidi_display::{AgentCommand, Effect, Policy, Session, ViewerRights, encode};
use vidi_fuzz::{LINKED, agent_says, hello, main_init, mutate, records, setup};
use vidi_spice::display::{DisplayEvent, Fill, Surface, SurfaceFormat};
use vidi_spice::{
    Agent, ClipboardKind, InputsChannel, MainChannel, RecordChannel, RecordEvent, Rect, SoundForm,
    SurfaceId,
};

/// `VD_AGENT_ANNOUNCE_CAPABILITIES`, `VD_AGENT_CLIPBOARD`, `VD_AGENT_CLIPBOARD_REQUEST`,
/// `VD_AGENT_FILE_XFER_STATUS`
const ANNOUNCE: u32 = 6;
const CLIPBOARD: u32 = 4;
const REQUEST: u32 = 8;
const STATUS: u32 = 11;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate(data, size, max_size, seed)
});

fuzz_target!(|input: &[u8]| {
    let mut session = Session::new(Policy::default());
    let surface = Surface {
        id: SurfaceId(0),
        width: 100,
        height: 80,
        format: SurfaceFormat::Xrgb32,
        primary: true,
    };
    let mut now = Duration::ZERO;
    let _refused = session.display_event(&DisplayEvent::SurfaceCreated(surface), now);
    session.sound_linked(true, true);
    let form = SoundForm { channels: 2, rate: 48_000 };
    session.record_event(&RecordEvent::Started(form));
    let mut guest = Guest::new(&mut session);
    let Ok(viewer) = session.add_viewer(hello(), ViewerRights::Control) else { return };
    let mut message = Vec::new();
    for (number, record) in records(input).enumerate() {
        let [kind, rest] = record.kind.to_le_bytes();
        let length = u32::try_from(record.body.len()).unwrap_or(u32::MAX);
        message.extend([kind, 0, 0, 0]);
        message.extend(length.to_le_bytes());
        message.extend(&record.body);
        if rest & 0x80 == 0 {
            continue;
        }
        let Ok(decoded) = decode(&std::mem::take(&mut message)) else { return };
        for one in &decoded {
            session.viewer_message(viewer, one, now);
        }
        let shade = u32::try_from(number).unwrap_or_default();
        let rects = vec![Rect::of_size(20 + shade % 60, 30)];
        let fill = Fill {
            surface: SurfaceId(0),
            rects,
            color: shade.wrapping_mul(0x0001_0203).to_le_bytes(),
        };
        let _refused = session.display_event(&DisplayEvent::Fill(fill), now);
        now += Duration::from_millis(u64::from(rest & 0x7f) * 1000 / 16);
        session.drained();
        while let Some(effect) = session.poll(now) {
            match effect {
                Effect::Encode(job) => session.encoded(job.id, encode(&job)),
                Effect::Send { viewer, message } => session.sent(viewer, message.len(), now),
                Effect::Input(event) => {
                    let taken = event.apply(&mut guest.inputs, 0);
                    assert!(taken.is_ok(), "the guest reads all: {taken:?}");
                    while guest.inputs.poll_transmit().is_some() {}
                }
                Effect::Agent(command) => guest.hear(command, &mut session),
                Effect::Speak(speech) => guest.speak(&speech),
            }
        }
    }
});

/// A guest that takes all that it is sent.
struct Guest {
    main: MainChannel,
    agent: Agent,
    inputs: InputsChannel,
    microphone: RecordChannel,
}

impl Guest {
    fn new(session: &mut Session) -> Self {
        let mut guest = Self {
            main: MainChannel::new(setup()),
            agent: Agent::default(),
            inputs: InputsChannel::new(setup()),
            microphone: RecordChannel::new(setup()),
        };
        let linked = guest.inputs.receive(&LINKED).is_ok()
            && guest.microphone.receive(&LINKED).is_ok()
            && matches!(guest.inputs.next_event(), Ok(Some(_)))
            && matches!(guest.microphone.next_event(), Ok(Some(_)));
        assert!(linked, "the link is sound");
        guest.say(&[&LINKED[..], &main_init()].concat(), session);
        // No answer asked for; every ability.
        let able = [0, !(1_u32 << 13)];
        let able: Vec<u8> = able.iter().flat_map(|word| word.to_le_bytes()).collect();
        guest.say(&agent_says(ANNOUNCE, &able), session);
        assert!(guest.agent.abilities().files, "the agent is there");
        guest
    }

    /// What the guest says, and what the engine makes of it.
    fn say(&mut self, bytes: &[u8], session: &mut Session) {
        let mut heard = self.main.receive(bytes).is_ok();
        while let Ok(Some(event)) = self.main.next_event() {
            for event in self.agent.handle(&event) {
                session.agent_event(&event);
            }
        }
        heard &= self.agent.transmit(&mut self.main).is_ok();
        assert!(heard, "the guest is sound");
        while self.main.poll_transmit().is_some() {}
        for event in self.agent.take_file_events() {
            session.agent_event(&event);
        }
    }

    fn hear(&mut self, command: AgentCommand, session: &mut Session) {
        let answer = match &command {
            // The agent takes every file and all of it.
            AgentCommand::SendFile(offer) => {
                let ready = [offer.id, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
                Some((STATUS, ready))
            }
            AgentCommand::Offer(kind) => {
                let kind = if *kind == ClipboardKind::Text { 1 } else { 2 };
                Some((REQUEST, vec![0, 0, 0, 0, kind, 0, 0, 0]))
            }
            AgentCommand::Request(kind) => {
                let kind = if *kind == ClipboardKind::Text { 1 } else { 2 };
                Some((CLIPBOARD, vec![0, 0, 0, 0, kind, 0, 0, 0, b'x']))
            }
            _ => None,
        };
        command.apply(&mut self.agent);
        self.say(&[], session);
        if let Some((kind, body)) = answer {
            self.say(&agent_says(kind, &body), session);
        }
    }

    fn speak(&mut self, speech: &Speech) {
        match speech {
            Speech::Samples(samples) => drop(self.microphone.speak(samples)),
            Speech::Off => self.microphone.fall_silent(),
        }
        while self.microphone.poll_transmit().is_some() {}
    }
}
