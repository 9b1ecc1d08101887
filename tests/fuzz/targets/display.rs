//! Fuzzes the display channel and the engine behind it: any messages of a server, drawn and sent.
//!
//! A record's kind is the message's, its body the message's body.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use vidi_display::{Effect, Policy, Session, ViewerRights, encode};
use vidi_fuzz::{LINKED, hello, message, mutate, records, setup};
use vidi_spice::{DisplayChannel, GlzDictionary, ImageTransfer};

/// `SPICE_MSG_DISPLAY_SURFACE_CREATE`
const SURFACE_CREATE: u16 = 314;
/// Pixels of the dictionary's window.
const WINDOW_PIXELS: u32 = 1 << 16;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate(data, size, max_size, seed)
});

fuzz_target!(|input: &[u8]| {
    let dictionary = GlzDictionary::new(WINDOW_PIXELS);
    let transfer = ImageTransfer { compression: None, dictionary };
    let mut channel = DisplayChannel::with_images(setup(), transfer);
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
    let mut now = Duration::ZERO;
    for record in records(input) {
        if channel.receive(&message(record.kind, &record.body)).is_err() {
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
        now += Duration::from_millis(20);
        session.drained();
        carry_out(&mut session, now);
    }
});

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
