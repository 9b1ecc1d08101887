//! Fuzzes the link and every channel but the display's: any bytes of a server.
//!
//! A record's kind: the two highest bits name the channel (0 main with its agent, 1 inputs, 2 cursor, 3 the
//! link itself), the others are the message's type; of an inputs message with bit 12 or 13 the channel is playback
//! or record. Its body is the message's, or bytes of the link.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use vidi_fuzz::{LINKED, message, mutate, records, setup};
use vidi_spice::{
    Agent, ClipboardKind, CursorChannel, CursorEvent, FileOffer, InputsChannel, MainChannel,
    PlaybackChannel, PlaybackEvent, Point, RecordChannel, SOUND_CHANNELS_MAX,
    SOUND_PACKET_BYTES_MAX, Scancode, SoundCodec,
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
    let opened = main.receive(&LINKED).is_ok()
        && inputs.receive(&LINKED).is_ok()
        && cursor.receive(&LINKED).is_ok()
        && playback.receive(&LINKED).is_ok()
        && record_channel.receive(&LINKED).is_ok();
    assert!(opened, "the link is sound");
    for record in records(input) {
        let bytes = message(record.kind & 0x3fff, &record.body);
        let goes_on = match record.kind >> 14 {
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
            _ => link.receive(&record.body).is_ok() && take_main(&mut link, &mut Agent::default()),
        };
        if !goes_on {
            return;
        }
    }
});

/// Of an inputs message: the channel is another.
const PLAYBACK: u16 = 1 << 12;
const RECORD: u16 = 1 << 13;

fn take_main(main: &mut MainChannel, agent: &mut Agent) -> bool {
    loop {
        match main.next_event() {
            Ok(Some(event)) => drop(agent.handle(&event)),
            Ok(None) => break,
            Err(_) => return false,
        }
    }
    agent.request(ClipboardKind::Text);
    agent.offer(ClipboardKind::Png);
    agent.resize(800, 600);
    agent.send_file(&FileOffer { id: 1, name: "a/b\n".to_owned(), size: 9 });
    agent.file_data(1, vec![7; 3].into());
    drop(agent.take_file_events());
    let goes_on = agent.transmit(main).is_ok();
    while main.poll_transmit().is_some() {}
    goes_on
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
