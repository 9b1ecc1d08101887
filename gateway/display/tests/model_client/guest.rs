//! What happens in a run: a guest that draws, and all that moves bytes.

use proptest::prelude::*;
use vidi_spice::display::{
    Combine, Copy, CopyBits, CopySource, DisplayEvent, Fill, Paint, Pixels, Surface, SurfaceFormat,
};
use vidi_spice::{Point, Rect, SurfaceId};

pub(crate) const ID: SurfaceId = SurfaceId(0);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Fill {
        rect: Rect,
        shade: u8,
    },
    Invert {
        rect: Rect,
    },
    Mix {
        rect: Rect,
        offset: Point,
    },
    Picture {
        rect: Rect,
        seed: u32,
    },
    /// Of 256 colours.
    Noise {
        rect: Rect,
        seed: u32,
    },
    Photo {
        rect: Rect,
        seed: u32,
    },
    /// Soft, with a texture: one of a moving picture.
    Movie {
        rect: Rect,
        seed: u32,
    },
    CopyBits {
        rect: Rect,
        offset: Point,
    },
    Surface {
        width: u32,
        height: u32,
    },
    DestroySurface,
    /// Pictures that move, 40 ms apart.
    Film {
        rect: Rect,
        count: u32,
    },
    Key {
        which: usize,
    },
    Drained,
    Wait {
        millis: u64,
    },
    Encode {
        which: usize,
    },
    Write {
        which: usize,
        count: usize,
    },
    Receive {
        which: usize,
        count: usize,
    },
    Acknowledge {
        which: usize,
    },
    Join {
        webp: bool,
        h264: bool,
        slots: u32,
    },
    Leave {
        which: usize,
    },
    Refresh {
        which: usize,
    },
    Copied {
        length: usize,
    },
}

pub(crate) const fn surface(width: u32, height: u32) -> Surface {
    Surface { id: ID, width, height, format: SurfaceFormat::Xrgb32, primary: true }
}

pub(crate) fn event(step: Step) -> DisplayEvent {
    match step {
        Step::Fill { rect, shade } => DisplayEvent::Fill(Fill {
            surface: ID,
            rects: vec![rect],
            color: [shade, shade / 2, 0, 255],
        }),
        Step::Invert { rect } => DisplayEvent::Combine(Combine {
            surface: ID,
            rects: vec![rect],
            and: u32::MAX,
            xor: 0x00ff_ffff,
        }),
        Step::Mix { rect, offset } => {
            // Source xor destination, from the picture itself.
            let source = CopySource::Surface(ID);
            let paint = Paint::blit(&surface(450, 280), vec![rect], 0x66, source, offset);
            DisplayEvent::Paint(Box::new(paint))
        }
        Step::Picture { rect, seed } => {
            copy(rect, |x, y| ((x / 7) * 0x0011_0103).wrapping_add((y / 5).wrapping_mul(seed)))
        }
        Step::Noise { rect, seed } => copy(rect, |x, y| (noise(x, y, seed) & 0xff) * 0x0001_0101),
        Step::Movie { rect, seed } => copy(rect, |x, y| {
            let (red, green) = ((x * 2 + seed * 5) & 255, (y * 2 + x / 2 + seed * 3) & 255);
            (red << 16) | (green << 8) | ((x + y) & 255)
        }),
        Step::Photo { rect, seed } => copy(rect, |x, y| noise(x, y, seed)),
        Step::CopyBits { rect, offset } => {
            DisplayEvent::CopyBits(CopyBits { surface: ID, rects: vec![rect], offset })
        }
        _ => unreachable!("{step:?} draws nothing"),
    }
}

pub(crate) const fn noise(x: u32, y: u32, seed: u32) -> u32 {
    (x.wrapping_mul(0x9e37_79b1) ^ y.wrapping_mul(0x85eb_ca77) ^ seed)
        .wrapping_mul(0xc2b2_ae3d)
        .rotate_left(13)
}

pub(crate) fn copy(rect: Rect, pixel: impl Fn(u32, u32) -> u32) -> DisplayEvent {
    let (width, height) = (rect.width(), rect.height());
    let data: Vec<u8> = (0..height)
        .flat_map(|y| (0..width).map(move |x| (x, y)))
        .flat_map(|(x, y)| pixel(x, y).to_le_bytes())
        .collect();
    let stride = usize::try_from(width).unwrap() * 4;
    DisplayEvent::Copy(Copy {
        surface: ID,
        rects: vec![rect],
        source: CopySource::Pixels(Pixels { width, height, stride, data: data.into() }),
        offset: Point::new(-rect.left, -rect.top),
    })
}

pub(crate) fn rects() -> impl Strategy<Value = Rect> {
    (0..450_i32, 0..280_i32, 1..450_i32, 1..280_i32)
        .prop_map(|(left, top, width, height)| Rect::new(left, top, left + width, top + height))
}

pub(crate) fn small_rects() -> impl Strategy<Value = Rect> {
    (0..450_i32, 0..280_i32, 1..20_i32, 1..20_i32)
        .prop_map(|(left, top, width, height)| Rect::new(left, top, left + width, top + height))
}

pub(crate) fn steps() -> impl Strategy<Value = Step> {
    let any_client = 0..3_usize;
    prop_oneof![
        3 => (rects(), any::<u8>()).prop_map(|(rect, shade)| Step::Fill { rect, shade }),
        1 => rects().prop_map(|rect| Step::Invert { rect }),
        1 => (rects(), -40..40_i32, -40..40_i32)
            .prop_map(|(rect, x, y)| Step::Mix { rect, offset: Point::new(x, y) }),
        3 => (rects(), any::<u32>()).prop_map(|(rect, seed)| Step::Picture { rect, seed }),
        4 => (small_rects(), any::<u32>()).prop_map(|(rect, seed)| Step::Picture { rect, seed }),
        2 => (rects(), any::<u32>()).prop_map(|(rect, seed)| Step::Noise { rect, seed }),
        2 => (rects(), 0..4_u32).prop_map(|(rect, seed)| Step::Photo { rect, seed }),
        4 => (rects(), -40..40_i32, -40..40_i32).prop_map(|(rect, x, y)| Step::CopyBits {
            rect,
            offset: Point::new(x, y),
        }),
        1 => (100..500_u32, 100..300_u32)
            .prop_map(|(width, height)| Step::Surface { width, height }),
        1 => Just(Step::DestroySurface),
        6 => Just(Step::Drained),
        8 => (0..30_u64).prop_map(|millis| Step::Wait { millis }),
        2 => (100..700_u64).prop_map(|millis| Step::Wait { millis }),
        12 => any::<usize>().prop_map(|which| Step::Encode { which }),
        8 => (any_client.clone(), 1..4_usize)
            .prop_map(|(which, count)| Step::Write { which, count }),
        8 => (any_client.clone(), 1..4_usize)
            .prop_map(|(which, count)| Step::Receive { which, count }),
        6 => any_client.clone().prop_map(|which| Step::Acknowledge { which }),
        2 => (any::<bool>(), any::<bool>(), 0..30_u32)
            .prop_map(|(webp, h264, slots)| Step::Join { webp, h264, slots }),
        1 => (rects(), 14..20_u32).prop_map(|(rect, count)| Step::Film { rect, count }),
        2 => any_client.clone().prop_map(|which| Step::Key { which }),
        1 => any_client.clone().prop_map(|which| Step::Leave { which }),
        1 => any_client.prop_map(|which| Step::Refresh { which }),
        2 => prop_oneof![0..10_usize, 0..100_000_usize].prop_map(|length| Step::Copied { length }),
    ]
}
