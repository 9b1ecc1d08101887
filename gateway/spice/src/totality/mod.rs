//! No bytes make a channel panic, and whatever it gives is within its limits.

mod drawings;

use std::sync::LazyLock;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rsa::pkcs8::EncodePublicKey;

use drawings::drawing;

use crate::channel::Channel;
use crate::cursor::{CURSOR_SIDE_MAX, CursorChannel, CursorEvent};
use crate::display::{
    CopySource, DisplayEvent, Paint, SURFACE_PIXELS_MAX, SURFACE_SIDE_MAX, View, tests::display,
};
use crate::geometry::{Rect, SurfaceId};
use crate::inputs::InputsChannel;
use crate::link::ChannelKind;
use crate::main_channel::MainChannel;
use crate::playback::{
    PlaybackChannel, PlaybackEvent, SOUND_CHANNELS_MAX, SOUND_PACKET_BYTES_MAX, SOUND_RATE_MAX,
};
use crate::record::RecordChannel;
use crate::test_support::{Body, key_pair, message, setup};

static PUBLIC_KEY: LazyLock<Vec<u8>> =
    LazyLock::new(|| key_pair().to_public_key().to_public_key_der().unwrap().into_vec());

/// Numbers that decoders stumble over, among any others.
pub(crate) fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0..20_u32,
        2 => prop::sample::select(vec![104, 0xffff, 0x7fff_ffff, 0x8000_0000, u32::MAX]),
        1 => any::<u32>(),
    ]
}

/// Any body made of such numbers.
pub(crate) fn body() -> impl Strategy<Value = Vec<u8>> {
    vec(
        prop_oneof![
            number().prop_map(|value| value.to_le_bytes().to_vec()),
            any::<u8>().prop_map(|value| vec![value]),
            (0..8_u16).prop_map(|value| value.to_le_bytes().to_vec()),
        ],
        0..40,
    )
    .prop_map(|parts| parts.concat())
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![0..10_u16, 100..126_u16, 300..325_u16];
    vec((kind, body()).prop_map(|(kind, body)| message(kind, &body)), 1..8)
        .prop_map(|messages| messages.concat())
}

/// Messages of the sound channels, many of them well-formed.
fn sound_stream() -> impl Strategy<Value = Vec<u8>> {
    let any = (100..109_u16, body()).prop_map(|(kind, body)| message(kind, &body));
    let start =
        (101..104_u16, 0..10_u32, 0..3_u16, number()).prop_map(|(kind, channels, format, rate)| {
            let body = Body::default().u32(channels).u16(format).u32(rate);
            message(kind, &body.0)
        });
    let good = (1..9_u32, 8000..192_000_u32).prop_map(|(channels, rate)| {
        let start = Body::default().u32(channels).u16(1).u32(rate);
        [message(101, &start.0), message(103, &start.0)].concat()
    });
    let mode = (0..4_u16).prop_map(|mode| message(102, &Body::default().u32(0).u16(mode).0));
    vec(prop_oneof![2 => any, 1 => start, 2 => good, 1 => mode], 1..12)
        .prop_map(|messages| messages.concat())
}

fn surface_bounds(surfaces: &[(SurfaceId, Rect)], id: SurfaceId) -> Rect {
    let found = surfaces.iter().rev().find(|(known, _)| *known == id);
    found.map(|(_, bounds)| *bounds).expect("events name surfaces that exist")
}

/// Takes all events of a display channel and checks what their documentation promises; how many
/// of them draw, and how many of those by a rule.
fn check_display(bytes: &[u8]) -> [usize; 2] {
    let (mut drawn, mut painted) = (0, 0);
    let mut display = display();
    let mut surfaces =
        vec![(SurfaceId(0), Rect::of_size(8, 4)), (SurfaceId(1), Rect::of_size(4, 4))];
    display.receive(bytes).unwrap();
    while let Ok(Some(event)) = display.next_event() {
        let (surface, rects, source) = match event {
            DisplayEvent::SurfaceCreated(surface) => {
                assert!(surface.width.max(surface.height) <= SURFACE_SIDE_MAX);
                let bounds = Rect::of_size(surface.width, surface.height);
                assert!(bounds.area() <= SURFACE_PIXELS_MAX);
                surfaces.push((surface.id, bounds));
                continue;
            }
            DisplayEvent::SurfaceDestroyed(id) => {
                surfaces.retain(|(known, _)| *known != id);
                continue;
            }
            DisplayEvent::Copy(copy) => {
                let bounds = match &copy.source {
                    CopySource::Pixels(pixels) => {
                        assert!(pixels.row(pixels.height - 1).is_some());
                        let bytes = u64::try_from(pixels.data.len()).unwrap();
                        assert!(bytes <= 4 * SURFACE_PIXELS_MAX);
                        Rect::of_size(pixels.width, pixels.height)
                    }
                    CopySource::Surface(id) => surface_bounds(&surfaces, *id),
                };
                (copy.surface, copy.rects, Some((bounds, copy.offset)))
            }
            DisplayEvent::CopyBits(bits) => {
                let bounds = surface_bounds(&surfaces, bits.surface);
                (bits.surface, bits.rects, Some((bounds, bits.offset)))
            }
            DisplayEvent::Fill(fill) => (fill.surface, fill.rects, None),
            DisplayEvent::Combine(combine) => (combine.surface, combine.rects, None),
            DisplayEvent::Paint(paint) => {
                check_painting(&paint, &surfaces);
                painted += 1;
                (paint.surface(), paint.rects().to_vec(), None)
            }
            _ => continue,
        };
        drawn += 1;
        let bounds = surface_bounds(&surfaces, surface);
        assert!(!rects.is_empty());
        for rect in rects {
            assert!(!rect.is_empty() && bounds.contains(&rect), "{rect:?} in {bounds:?}");
            if let Some((source, offset)) = source {
                assert!(source.contains(&rect.moved(offset)), "{rect:?} from {source:?}");
            }
        }
    }
    [drawn, painted]
}

/// Draws on made-up pixels: nothing that is read is missing, and nothing panics.
fn check_painting(paint: &Paint, surfaces: &[(SurfaceId, Rect)]) {
    let pixels = vec![0x8123_4567; 200_000];
    let view = |id| {
        let bounds = surface_bounds(surfaces, id);
        Some(View { width: bounds.width(), height: bounds.height(), pixels: &pixels })
    };
    let mut painting = paint.begin(&view).unwrap();
    for rect in paint.rects().iter().filter(|rect| rect.area() < 10_000) {
        let mut row = vec![0x7654_3210; usize::try_from(rect.width()).unwrap()];
        (rect.top..rect.bottom).for_each(|y| painting.row(rect.left, y, &mut row));
    }
}

#[test]
fn the_generated_messages_get_past_the_first_checks() {
    let mut runner = TestRunner::deterministic();
    let (mut drawn, mut painted) = (0, 0);
    for _message in 0..2000 {
        let [all, by_rule] = check_display(&drawing().new_tree(&mut runner).unwrap().current());
        drawn += all;
        painted += by_rule;
    }
    assert!(drawn > 500 && painted > 200, "only {drawn} effects, {painted} of them by a rule");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn display_effects_keep_their_promises_for_any_messages(bytes in stream()) {
        check_display(&bytes);
    }

    #[test]
    fn display_effects_keep_their_promises_for_damaged_drawings(bytes in drawing()) {
        check_display(&bytes);
    }

    #[test]
    fn cursors_are_whole_for_any_messages(bytes in stream()) {
        let mut cursor = CursorChannel::over(Channel::opened(ChannelKind::Cursor));
        cursor.receive(&bytes).unwrap();
        while let Ok(Some(event)) = cursor.next_event() {
            if let CursorEvent::Set { shape: Some(shape), .. } = event {
                prop_assert!(shape.width.max(shape.height) <= CURSOR_SIDE_MAX);
                prop_assert!(shape.hot_x < shape.width && shape.hot_y < shape.height);
                let pixels = usize::from(shape.width) * usize::from(shape.height);
                prop_assert_eq!(shape.rgba.len(), 4 * pixels);
            }
        }
    }

    #[test]
    fn main_and_inputs_end_for_any_messages(bytes in stream()) {
        let mut main = MainChannel::over(Channel::opened(ChannelKind::Main));
        main.receive(&bytes).unwrap();
        while let Ok(Some(_)) = main.next_event() {}
        let mut inputs = InputsChannel::over(Channel::opened(ChannelKind::Inputs));
        inputs.receive(&bytes).unwrap();
        while let Ok(Some(_)) = inputs.next_event() {}
    }

    #[test]
    fn sounds_keep_their_limits_for_any_messages(bytes in sound_stream()) {
        let mut playback = PlaybackChannel::over(Channel::opened(ChannelKind::Playback));
        playback.receive(&bytes).unwrap();
        while let Ok(Some(event)) = playback.next_event() {
            match event {
                PlaybackEvent::Started(form) => {
                    prop_assert!((1..=SOUND_CHANNELS_MAX).contains(&form.channels));
                    prop_assert!((1..=SOUND_RATE_MAX).contains(&form.rate));
                }
                PlaybackEvent::Packet { data, .. } => {
                    prop_assert!((1..=SOUND_PACKET_BYTES_MAX).contains(&data.len()));
                }
                _ => {}
            }
        }
        let mut record = RecordChannel::over(Channel::opened(ChannelKind::Record));
        record.receive(&bytes).unwrap();
        while let Ok(Some(_)) = record.next_event() {
            record.speak(&[1; 4001]).unwrap();
            prop_assert!(record.poll_transmit().is_none_or(|sent| sent.len() < 70_000));
        }
    }

    #[test]
    fn a_link_ends_for_any_reply(front in 0..24_usize, bytes in vec(any::<u8>(), 0..400)) {
        let mut reply = Body::default().bytes(b"REDQ").u32(2).u32(2).u32(186).u32(0).0;
        reply.truncate(front);
        reply.extend(bytes);
        let mut main = MainChannel::new(setup());
        main.receive(&reply).unwrap();
        while let Ok(Some(_)) = main.next_event() {}
    }

    #[test]
    fn a_link_ends_for_any_damaged_key(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut key = PUBLIC_KEY.clone();
        for (index, value) in changes {
            let place = index.index(key.len());
            key[place] = value;
        }
        let reply = Body::default().bytes(b"REDQ").u32(2).u32(2).u32(186).u32(0).bytes(&key);
        let reply = reply.u32(1).u32(1).u32(178).u32(0b1011).u32(0).u32(0);
        let mut main = MainChannel::new(setup());
        main.receive(&reply.0).unwrap();
        while let Ok(Some(_)) = main.next_event() {}
    }
}
