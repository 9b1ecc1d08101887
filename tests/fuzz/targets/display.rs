//! Fuzzes the display channel and the engine behind it: any messages of a server, drawn and sent. The same
//! messages go through a relay's condenser to a second client, which has to understand what the first does.
//!
//! A record's kind is the message's, its body the message's body.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use vidi_display::{Effect, Policy, Session, ViewerRights, encode};
use vidi_fuzz::{LINKED, hello, message, mutate, records, setup};
use vidi_spice::display::{Condenser, Step};
use vidi_spice::{Compression, DisplayChannel, GlzDictionary, ImageTransfer};

/// `SPICE_MSG_DISPLAY_SURFACE_CREATE`
const SURFACE_CREATE: u16 = 314;
/// Pixels of the dictionary's window.
const WINDOW_PIXELS: u32 = 1 << 16;
/// A film's share of the line between host and gateway.
const VIDEO_MBIT_S: u32 = 30;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate(data, size, max_size, seed)
});

fuzz_target!(|input: &[u8]| {
    let dictionary = GlzDictionary::new(WINDOW_PIXELS);
    let asked = [Some(Compression::Off), Some(Compression::Lz), Some(Compression::AutoGlz), None];
    let compression = asked.get(input.len() % asked.len()).copied().flatten();
    let transfer = ImageTransfer { compression, dictionary };
    let mut channel = DisplayChannel::with_images(setup(), transfer);
    let mut relayed = Relayed::new(compression);
    let mut session = Session::new(Policy::default());
    let _viewer = session.add_viewer(hello(), ViewerRights::Control);
    let mut bytes = LINKED.clone();
    for (id, format, primary) in [(0_u32, 32_u32, 1_u32), (1, 96, 0), (2, 8, 0)] {
        let body: Vec<u8> =
            [id, 64, 48, format, primary].iter().flat_map(|it| it.to_le_bytes()).collect();
        bytes.extend(message(SURFACE_CREATE, &body));
    }
    if channel.receive(&bytes).is_err() {
        return;
    }
    relayed.receive(&bytes, Duration::ZERO);
    let mut now = Duration::ZERO;
    for record in records(input) {
        let bytes = message(record.kind, &record.body);
        if channel.receive(&bytes).is_err() {
            return;
        }
        loop {
            match channel.next_event() {
                Ok(Some(event)) => {
                    let _refused = session.display_event(&event, now);
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
        while channel.poll_transmit().is_some() {}
        relayed.receive(&bytes, now);
        now += Duration::from_millis(20);
        session.drained();
        carry_out(&mut session, now);
    }
});

/// A client behind a relay.
struct Relayed {
    condenser: Condenser,
    client: DisplayChannel,
}

impl Relayed {
    fn new(compression: Option<Compression>) -> Self {
        let dictionary = GlzDictionary::new(WINDOW_PIXELS);
        let transfer = ImageTransfer { compression, dictionary };
        let mut client = DisplayChannel::with_images(setup(), transfer);
        let first = client.poll_transmit().expect("a client speaks first");
        let condenser = Condenser::for_client(&first, VIDEO_MBIT_S).expect("it is a display");
        Self { condenser, client }
    }

    fn receive(&mut self, bytes: &[u8], now: Duration) {
        self.condenser.receive(bytes);
        self.pass_on(now);
        if self.condenser.wakes().is_some_and(|at| at <= now) {
            self.condenser.wake(now);
            self.pass_on(now);
        }
    }

    fn pass_on(&mut self, now: Duration) {
        while let Some(step) = self.condenser.step(now) {
            match step {
                Step::Send(bytes) => {
                    self.client.receive(&bytes).expect("the first client took it");
                    while self.client.next_event().expect("the first client took it").is_some() {}
                    while self.client.poll_transmit().is_some() {}
                }
                Step::Pack(packing) => self.condenser.packed(&packing.run(), now),
            }
        }
    }
}

/// Does what the engine decides, at once.
fn carry_out(session: &mut Session, now: Duration) {
    while let Some(effect) = session.poll(now) {
        match effect {
            Effect::Encode(job) => session.encoded(job.id, encode(&job)),
            Effect::Send { viewer, message } => session.sent(viewer, message.len(), now),
            _ => {}
        }
    }
}
