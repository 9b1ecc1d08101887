//! What messages cost, counted in pixels before they are drawn: few bytes can ask for much work.
//!
//! A unit is what it takes to write one pixel, about a nanosecond. The factors are estimates, by what is
//! read and multiplied for a pixel; they say which drawing is dear, not how long it takes.

use crate::error::SpiceError;
use crate::geometry::Rect;

use super::event::{CopySource, DisplayEvent};
use super::paint::{Filter, Paint, Placement, Rule, Source, Texture};

/// Units that one message may cost: a surface of the largest size, scaled as a whole with means of four
/// pixels, which no server asks for more than once at a time. A second or two of a processor.
pub const WORK_PER_MESSAGE_MAX: u64 = 1 << 30;

/// Of each message, whatever it says.
const MESSAGE: u64 = 100;
/// Of each rectangle or run of pixels.
const RECTANGLE: u64 = 8;
/// Of each pixel of a picture that comes as it is, or with a palette.
pub(super) const BITMAP: u64 = 2;
/// Of each pixel that is unpacked by copying: LZ, GLZ, LZ4.
pub(super) const COPIED: u64 = 4;
/// Of each pixel that is computed: QUIC, JPEG.
pub(super) const COMPUTED: u64 = 6;
/// Of each pixel of a glyph.
const GLYPH: u64 = 4;
/// Pairs of a run of pixels and a rectangle of a clip that are compared for one unit.
const COMPARISONS: u64 = 2;

/// What has been done since it was asked for last, and for the message under way.
#[derive(Debug, Default)]
pub(super) struct Work {
    message: u64,
    untold: u64,
}

impl Work {
    /// Another message is handled.
    pub(super) fn begin(&mut self) {
        self.message = 0;
        self.untold = self.untold.saturating_add(MESSAGE);
    }

    /// Counts what is about to be done, or refuses it.
    pub(super) fn add(&mut self, units: u64) -> Result<(), SpiceError> {
        self.message = self.message.saturating_add(units);
        self.untold = self.untold.saturating_add(units);
        let (value, limit) = (self.message, WORK_PER_MESSAGE_MAX);
        if value > limit {
            let what = "drawing, counted in pixels times what each costs,";
            return Err(SpiceError::TooLarge { what, value, limit });
        }
        Ok(())
    }

    /// What was counted since the last time.
    pub(super) fn take(&mut self) -> u64 {
        std::mem::take(&mut self.untold)
    }
}

/// Cutting so many runs to so many rectangles.
pub(super) fn of_clipping(runs: usize, rects: usize) -> u64 {
    let pairs = u64::try_from(runs.saturating_mul(rects)).unwrap_or(u64::MAX);
    pairs / COMPARISONS
}

/// Putting glyphs together inside of `bounds`.
pub(super) fn of_glyphs(areas: impl Iterator<Item = Rect>, bounds: &Rect) -> u64 {
    areas.fold(bounds.area(), |sum, area| {
        let pixels = area.intersect(bounds).area().saturating_mul(GLYPH);
        sum.saturating_add(pixels).saturating_add(RECTANGLE)
    })
}

/// What carrying out an event costs its owner.
pub(super) fn of_event(event: &DisplayEvent) -> u64 {
    match event {
        DisplayEvent::SurfaceCreated(surface) => surface.bounds().area(),
        DisplayEvent::Copy(copy) => {
            let twice = matches!(copy.source, CopySource::Surface(_));
            of_rects(&copy.rects, if twice { 2 } else { 1 })
        }
        DisplayEvent::Fill(fill) => of_rects(&fill.rects, 1),
        DisplayEvent::Combine(combine) => of_rects(&combine.rects, 1),
        DisplayEvent::CopyBits(bits) => of_rects(&bits.rects, 1),
        DisplayEvent::Paint(paint) => of_rects(&paint.rects, of_pixel(paint)),
        DisplayEvent::Common(_)
        | DisplayEvent::SurfaceDestroyed(_)
        | DisplayEvent::Mark
        | DisplayEvent::Reset
        | DisplayEvent::Monitors(_)
        | DisplayEvent::Unsupported(_) => 0,
    }
}

fn of_rects(rects: &[Rect], pixel: u64) -> u64 {
    rects.iter().fold(0, |sum, rect| {
        let pixels = rect.area().saturating_mul(pixel);
        sum.saturating_add(pixels).saturating_add(RECTANGLE)
    })
}

fn of_pixel(paint: &Paint) -> u64 {
    let rule = match paint.rule {
        Rule::ColorKey(_) => 2,
        Rule::Raster(_) => 4,
        Rule::Mix { .. } => 12,
    };
    let cover = paint.cover.as_ref().map_or(0, |cover| 2 + of_source(&cover.source));
    let itself = if paint.reads_itself() { 2 } else { 0 };
    let inputs = [&paint.source, &paint.brush, &paint.mask].map(of_source);
    inputs.into_iter().fold(rule + cover + itself, |sum, input| sum + input)
}

fn of_source(source: &Source) -> u64 {
    let Source::Texture { texture, placement, .. } = source else { return 0 };
    let read = match texture {
        Texture::Pixels(_) | Texture::Surface(_) | Texture::Levels(_) => 1,
        Texture::Bits(_) => 3,
    };
    match placement {
        Placement::Shifted(_) => read,
        Placement::Tiled(_) => 2 + read,
        Placement::Affine(affine) => match affine.filter {
            Filter::Nearest => 5 + read,
            Filter::Bilinear => 20 + 4 * read,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::DisplayChannel;
    use crate::display::numbers::server;
    use crate::display::tests::display;
    use crate::test_support::{Body, message};

    /// The largest surface there is, as number 2.
    const LARGEST: [i32; 2] = [7680, 4352];
    const AREA: u64 = 7680 * 4352;

    fn with_largest() -> DisplayChannel {
        let mut channel = display();
        channel.take_work();
        let surface = Body::default().u32(2).u32(7680).u32(4352).u32(96).u32(0);
        channel.receive(&message(server::SURFACE_CREATE, &surface.0)).unwrap();
        channel.next_event().unwrap().unwrap();
        assert_eq!(channel.take_work(), MESSAGE + AREA, "it is made of pixels");
        channel
    }

    /// What one message costs, or why it is refused.
    fn work(channel: &mut DisplayChannel, kind: u16, body: &Body) -> Result<u64, SpiceError> {
        channel.receive(&message(kind, &body.0)).unwrap();
        while channel.next_event()?.is_some() {}
        Ok(channel.take_work())
    }

    /// The whole largest surface as destination, this often as its clip.
    fn base(times: u32) -> Body {
        let [width, height] = LARGEST;
        let body = Body::default().u32(2).i32s(&[0, 0, height, width]).u8(1).u32(times);
        (0..times).fold(body, |body, _| body.i32s(&[0, 0, height, width]))
    }

    /// An image of the surface itself behind `fields`, which begin with a pointer to it.
    fn of_itself(base: Body, before: &[u8], after: &[u8]) -> Body {
        let at = u32::try_from(base.0.len() + before.len() + 4 + after.len()).unwrap();
        let body = base.bytes(before).u32(at).bytes(after);
        body.u64(0).u8(104).u8(0).u32(7680).u32(4352).u32(2)
    }

    #[test]
    fn a_fill_costs_its_pixels_and_the_message() {
        let fill = base(1).u8(1).u32(7).u16(8).bytes(&[0; 13]);
        let cost = work(&mut with_largest(), server::DRAW_FILL, &fill);
        assert_eq!(cost, Ok(MESSAGE + RECTANGLE + AREA));
    }

    #[test]
    fn the_largest_surface_may_be_scaled_as_a_whole_but_not_twice_in_one_message() {
        let area = Body::default().i32s(&[0, 0, 99, 77]).u16(8).u8(0).bytes(&[0; 13]).0;
        let mut channel = with_largest();
        let once = work(&mut channel, server::DRAW_COPY, &of_itself(base(1), &[], &area)).unwrap();
        assert!((AREA * 24..=WORK_PER_MESSAGE_MAX).contains(&once), "{once}");
        let twice = work(&mut channel, server::DRAW_COPY, &of_itself(base(2), &[], &area));
        let value = 2 * (once - MESSAGE);
        assert!(
            matches!(twice, Err(SpiceError::TooLarge { value: told, limit: WORK_PER_MESSAGE_MAX, .. }) if told == value),
            "{twice:?}"
        );
        let reason = twice.unwrap_err().to_string();
        assert!(reason.contains("counted in pixels") && reason.contains("1073741824"), "{reason}");
    }

    #[test]
    fn what_is_dear_for_few_bytes_is_refused_before_it_is_drawn() {
        // 150 bytes: source and mask through transforms, means of four pixels, over the whole surface.
        let flags: u32 = 3 | 4 << 8 | 4 << 11 | 3 << 14 | 3 << 16 | 1 << 18 | 1 << 19 | 3 << 20;
        let matrix = [0x8000, 3, 5, 7, 0x9000, 11];
        let after = Body::default().u32(21 + 20 + 8).i32s(&matrix).i32s(&matrix).bytes(&[0; 8]).0;
        let composite = of_itself(base(1), &flags.to_le_bytes(), &after);
        let at = u32::try_from(composite.0.len() - 22).unwrap();
        let mut bytes = composite.0;
        // The mask is the same image.
        let mask = 21 + 4 + 16 + 4 + 4;
        bytes[mask..mask + 4].copy_from_slice(&at.to_le_bytes());
        let composite = Body(bytes);
        let mut channel = with_largest();
        let cost = work(&mut channel, server::DRAW_COMPOSITE, &composite);
        assert!(matches!(cost, Err(SpiceError::TooLarge { .. })), "{cost:?}");
        // What a window system does all day stays far below.
        let small = Body::default().u32(2).i32s(&[0, 0, 1080, 1920]).u8(0);
        let fill = small.u8(1).u32(7).u16(0x40).bytes(&[0; 13]);
        let cost = work(&mut with_largest(), server::DRAW_FILL, &fill).unwrap();
        assert!(cost < WORK_PER_MESSAGE_MAX / 400, "{cost}");
    }
}
