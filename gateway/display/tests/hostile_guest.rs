//! Whatever events come from a guest, however wrong, the session goes on.

use std::time::Duration;

use proptest::prelude::*;
use vidi_display::protocol::BrowserHello;
use vidi_display::{Effect, Session, ViewerRights, encode};
use vidi_spice::display::{
    Combine, Copy, CopyBits, CopySource, DisplayEvent, Fill, Head, Monitors, Paint, Pixels,
    Surface, SurfaceFormat,
};
use vidi_spice::{Point, Rect, SurfaceId};

fn edges() -> impl Strategy<Value = i32> {
    prop_oneof![
        1 => Just(i32::MIN),
        1 => Just(i32::MAX),
        1 => Just(16_384),
        1 => any::<i32>(),
        6 => -5..130_i32,
    ]
}

fn points() -> impl Strategy<Value = Point> {
    (edges(), edges()).prop_map(|(x, y)| Point::new(x, y))
}

fn rects() -> impl Strategy<Value = Vec<Rect>> {
    let rect = (edges(), edges(), edges(), edges())
        .prop_map(|(left, top, right, bottom)| Rect::new(left, top, right, bottom));
    proptest::collection::vec(rect, 0..4)
}

fn ids() -> impl Strategy<Value = SurfaceId> {
    (0..3_u32).prop_map(SurfaceId)
}

fn sides() -> impl Strategy<Value = u32> {
    prop_oneof![1 => Just(0), 1 => Just(u32::MAX), 1 => Just(16_385), 8 => 1..200_u32]
}

/// Images that may claim more than they hold.
fn images() -> impl Strategy<Value = Pixels> {
    (sides(), sides(), prop_oneof![1 => Just(usize::MAX), 5 => 0..900_usize], 0..60_000_usize)
        .prop_map(|(width, height, stride, length)| {
            let data: Vec<u8> = (0..length).map(|number| number.to_le_bytes()[0]).collect();
            Pixels { width, height, stride, data: data.into() }
        })
}

fn events() -> impl Strategy<Value = DisplayEvent> {
    let format = SurfaceFormat::Xrgb32;
    let target = move |id| Surface { id, width: 100, height: 100, format, primary: true };
    let sources =
        || prop_oneof![images().prop_map(CopySource::Pixels), ids().prop_map(CopySource::Surface),];
    prop_oneof![
        (ids(), sides(), sides(), any::<bool>()).prop_map(|(id, width, height, primary)| {
            let format = SurfaceFormat::Xrgb32;
            DisplayEvent::SurfaceCreated(Surface { id, width, height, format, primary })
        }),
        ids().prop_map(DisplayEvent::SurfaceDestroyed),
        (ids(), rects(), any::<[u8; 4]>()).prop_map(|(surface, rects, color)| {
            DisplayEvent::Fill(Fill { surface, rects, color })
        }),
        (ids(), rects(), any::<u32>(), any::<u32>()).prop_map(|(surface, rects, and, xor)| {
            DisplayEvent::Combine(Combine { surface, rects, and, xor })
        }),
        (ids(), rects(), sources(), points()).prop_map(|(surface, rects, source, offset)| {
            DisplayEvent::Copy(Copy { surface, rects, source, offset })
        }),
        (ids(), rects(), any::<u16>(), 0..6_u32).prop_map(
            |(surface, areas, allowed_max, first)| {
                let head = |(id, area)| Head { id, surface, area };
                DisplayEvent::Monitors(Monitors {
                    allowed_max,
                    heads: (first..).zip(areas).map(head).collect(),
                })
            }
        ),
        (ids(), rects(), points()).prop_map(|(surface, rects, offset)| {
            DisplayEvent::CopyBits(CopyBits { surface, rects, offset })
        }),
        (ids(), rects(), any::<u8>(), sources(), points()).prop_map(
            move |(id, rects, code, source, offset)| {
                let paint = Paint::blit(&target(id), rects, code, source, offset);
                DisplayEvent::Paint(Box::new(paint))
            }
        ),
    ]
}

proptest! {
    #[test]
    fn no_event_makes_the_session_panic(events in proptest::collection::vec(events(), 1..40)) {
        let mut session = Session::default();
        let browser = BrowserHello {
            webp: true,
            h264: true,
            palette: true,
            tile_cache_bytes: 1 << 20,
            ..BrowserHello::default()
        };
        let viewer = session.add_viewer(browser, ViewerRights::Control).unwrap();
        let mut now = Duration::ZERO;
        for event in events {
            let _refusal = session.display_event(&event, now);
            now += Duration::from_millis(20);
            while let Some(effect) = session.poll(now) {
                match effect {
                    Effect::Encode(job) => session.encoded(job.id, encode(&job)),
                    Effect::Send { message, .. } => session.sent(viewer, message.len(), now),
                    Effect::Input(_) | Effect::Agent(_) | Effect::Speak(_) => {}
                }
            }
        }
    }
}
