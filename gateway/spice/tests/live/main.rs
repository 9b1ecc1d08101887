//! Links all channels to a real QEMU and compares the picture with QEMU's own screenshot.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::panic, reason = "a fault of the server is a failed test")]
#![expect(clippy::indexing_slicing, reason = "a place outside is a failed test")]

mod differential;
mod films;
mod guest;
mod images;
mod moving;
mod peer;
mod picture;
mod qemu;
mod wire;

use vidi_spice::{
    ChannelKind, CommonEvent, CursorChannel, CursorEvent, DisplayChannel, InputsChannel,
    InputsEvent, MainChannel, MainEvent, PlaybackChannel, PlaybackEvent, Point, RecordChannel,
    RecordEvent, Refusal, Scancode, SoundCodec, SpiceError,
};

use picture::Picture;
use qemu::Desktop;
use wire::{Connection, SILENT_READS_MAX, Wire, setup};

#[test]
fn a_picture_from_qxl_equals_its_own_screenshot() {
    check_device("qxl-vga");
}

#[test]
fn a_picture_from_virtio_equals_its_own_screenshot() {
    check_device("virtio-vga");
}

#[test]
fn a_picture_from_vga_equals_its_own_screenshot() {
    check_device("VGA");
}

#[test]
fn a_ticket_opens_the_channel_and_another_one_does_not() {
    let ticket = ["-object", "secret,id=ticket,data=open-sesame"];
    let desktop = Desktop::start("ticket", "VGA", &ticket);
    let mut wrong = Connection::open(&desktop.address, MainChannel::new(setup(0, "sesame")));
    let refusal = (0..SILENT_READS_MAX).find_map(|_| {
        wrong.flush();
        let mut buffer = [0; 4096];
        let count = wrong.socket.read(&mut buffer).unwrap_or(0);
        wrong.channel.feed(&buffer[..count]);
        wrong.channel.next_event().err()
    });
    assert_eq!(refusal, Some(SpiceError::Refused(Refusal::PermissionDenied)));
    let mut right = Connection::open(&desktop.address, MainChannel::new(setup(0, "open-sesame")));
    right.wait(|event| matches!(event, MainEvent::Init(_)).then_some(()));
}

#[test]
fn a_sound_card_has_a_channel_for_each_way_and_each_form() {
    let desktop = Desktop::start_with_sound("sound");
    let mut main = Connection::open(&desktop.address, MainChannel::new(setup(0, "")));
    let session = main.wait(|event| match event {
        MainEvent::Init(init) => Some(init.session_id),
        _ => None,
    });
    let channels = main.wait(|event| match event {
        MainEvent::Channels(channels) => Some(channels.clone()),
        _ => None,
    });
    for kind in [ChannelKind::Playback, ChannelKind::Record] {
        assert!(channels.iter().any(|name| name.kind == kind), "{kind:?} in {channels:?}");
    }
    // The second link of the same session replaces the first: how a form is changed.
    for codec in [SoundCodec::Opus, SoundCodec::Pcm] {
        let channel = PlaybackChannel::new(setup(session, ""), codec);
        let mut playback = Connection::open(&desktop.address, channel);
        let is_linked = |event: &PlaybackEvent| {
            matches!(event, PlaybackEvent::Common(CommonEvent::Linked(_))).then_some(())
        };
        playback.wait(is_linked);
    }
    let mut record = Connection::open(&desktop.address, RecordChannel::new(setup(session, "")));
    record.wait(|event| matches!(event, RecordEvent::Common(CommonEvent::Linked(_))).then_some(()));
}

/// Opens all channels of a machine with this display device and compares pictures.
fn check_device(device: &str) {
    let mut desktop = Desktop::start(device, device, &[]);
    let address = desktop.address.clone();
    let mut main = Connection::open(&address, MainChannel::new(setup(0, "")));
    let session = main.wait(|event| match event {
        MainEvent::Init(init) => Some(init.session_id),
        _ => None,
    });
    let channels = main.wait(|event| match event {
        MainEvent::Channels(channels) => Some(channels.clone()),
        _ => None,
    });
    for kind in [ChannelKind::Display, ChannelKind::Inputs, ChannelKind::Cursor] {
        assert!(channels.iter().any(|name| name.kind == kind), "{kind:?} in {channels:?}");
    }
    let mut display = Connection::open(&address, DisplayChannel::new(setup(session, "")));
    let mut picture = Picture::default();
    for _ in 0..SILENT_READS_MAX {
        display.pump(&mut |event| picture.apply(event));
        if picture.marked && picture.colors() > 1 {
            break;
        }
    }
    assert!(picture.marked && picture.colors() > 1, "{} colours", picture.colors());

    let mut inputs = Connection::open(&address, InputsChannel::new(setup(session, "")));
    let key = Scancode::plain(0x1e).unwrap();
    inputs.channel.key_down(key).unwrap();
    inputs.channel.key_up(key).unwrap();
    for step in 0..30 {
        inputs.channel.move_to(Point::new(step, 2 * step), 0).unwrap();
    }
    inputs.wait(|event| matches!(event, InputsEvent::Locks(_)).then_some(()));
    let mut cursor = Connection::open(&address, CursorChannel::new(setup(session, "")));
    cursor.wait(|event| matches!(event, CursorEvent::Set { .. }).then_some(()));

    // The text cursor blinks: try again when it did so between picture and screenshot.
    let equal = (0..SILENT_READS_MAX).any(|_| {
        while display.pump(&mut |event| picture.apply(event)) {}
        picture.visible() == desktop.screenshot()
    });
    assert!(equal, "the picture never equalled QEMU's own");
}
