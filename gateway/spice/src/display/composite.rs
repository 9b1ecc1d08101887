//! Compositing as the X Rendering Extension has it (`spice.proto`, `Composite`).

use crate::error::SpiceError;
use crate::geometry::Point;
use crate::unsupported::{Feature, Operation};
use crate::wire::Reader;

use super::DisplayChannel;
use super::draw::Base;
use super::operations::{Drawn, SizedTexture, alpha_of, painted};
use super::paint::{
    Affine, Alpha, Filter, Operator, Paint, Placement, Repeat, Rule, Source, Through,
};

impl DisplayChannel {
    /// `Composite`: flags u32, image, and, as the flags say, an image as mask, a transform of the
    /// image, a transform of the mask (6 x u32 each, 16.16); origin of the image, of the mask.
    pub(super) fn draw_composite(&mut self, base: &Base, reader: &mut Reader<'_>) -> Drawn {
        let flags = CompositeFlags(reader.u32()?);
        let image = self.pointed_image(reader)?;
        let mask = if flags.has_mask() { Some(self.pointed_image(reader)?) } else { None };
        let mut transform = |is_there: bool| {
            if is_there { matrix(reader) } else { Ok(IDENTITY) }
        };
        let source_matrix = transform(flags.has_source_transform())?;
        let mask_matrix = transform(flags.has_mask_transform())?;
        let (source_origin, mask_origin) = (reader.point16()?, reader.point16()?);

        let unknown = Feature::Operation(Operation::Composite);
        let (Some(operator), Some(source_filter), Some(mask_filter)) =
            (flags.operator(), flags.source_filter(), flags.mask_filter())
        else {
            return Err(unknown.into());
        };
        let surface = self.surface(base.surface)?;
        let destination =
            if flags.destination_is_opaque() { Alpha::Opaque } else { alpha_of(surface.format) };
        let source = transformed(
            self.texture(image)?,
            Affine {
                matrix: source_matrix,
                origin: corner(base, source_origin),
                repeat: flags.source_repeat(),
                filter: source_filter,
            },
            flags.source_is_opaque(),
        );
        let (mask, through) = match mask {
            None => (Source::Color(0), Through::Nothing),
            Some(image) => {
                let affine = Affine {
                    matrix: mask_matrix,
                    origin: corner(base, mask_origin),
                    repeat: flags.mask_repeat(),
                    filter: mask_filter,
                };
                let mask = transformed(self.texture(image)?, affine, flags.mask_is_opaque());
                (mask, flags.through())
            }
        };
        let rects = base.rects(&surface.bounds())?;
        let rule = Rule::Mix { operator, through, destination };
        Ok(painted(Paint { source, mask, ..Paint::new(surface, rects, rule) }))
    }
}

/// Flags of `Composite` (`spice.proto`, `composite_flags`).
#[derive(Clone, Copy, Debug)]
struct CompositeFlags(u32);

impl CompositeFlags {
    fn field(self, shift: u32, bits: u32) -> u8 {
        let [field, ..] = ((self.0 >> shift) & ((1 << bits) - 1)).to_le_bytes();
        field
    }

    const fn has(self, bit: u32) -> bool {
        self.0 & (1 << bit) != 0
    }

    fn operator(self) -> Option<Operator> {
        Operator::from_wire(self.field(0, 8))
    }

    fn source_filter(self) -> Option<Filter> {
        filter(self.field(8, 3))
    }

    fn mask_filter(self) -> Option<Filter> {
        filter(self.field(11, 3))
    }

    fn source_repeat(self) -> Repeat {
        repeat(self.field(14, 2))
    }

    fn mask_repeat(self) -> Repeat {
        repeat(self.field(16, 2))
    }

    const fn through(self) -> Through {
        if self.has(18) { Through::Components } else { Through::Alpha }
    }

    const fn has_mask(self) -> bool {
        self.has(19)
    }

    const fn has_source_transform(self) -> bool {
        self.has(20)
    }

    const fn has_mask_transform(self) -> bool {
        self.has(21)
    }

    const fn source_is_opaque(self) -> bool {
        self.has(22)
    }

    const fn mask_is_opaque(self) -> bool {
        self.has(23)
    }

    const fn destination_is_opaque(self) -> bool {
        self.has(24)
    }
}

/// `pixman_filter_t`: fast, good, best, nearest, bilinear; the others need parameters that the
/// protocol does not carry.
const fn filter(number: u8) -> Option<Filter> {
    match number {
        0 | 3 => Some(Filter::Nearest),
        1 | 2 | 4 => Some(Filter::Bilinear),
        _ => None,
    }
}

/// `pixman_repeat_t`
const fn repeat(number: u8) -> Repeat {
    match number {
        0 => Repeat::None,
        1 => Repeat::Normal,
        2 => Repeat::Pad,
        _ => Repeat::Reflect,
    }
}

/// The transform that changes nothing.
const IDENTITY: [i32; 6] = [1 << 16, 0, 0, 0, 1 << 16, 0];

/// `Transform`: two rows of three, 16.16 fixed point.
fn matrix(reader: &mut Reader<'_>) -> Result<[i32; 6], SpiceError> {
    let mut matrix = [0; 6];
    for number in &mut matrix {
        *number = reader.i32()?;
    }
    Ok(matrix)
}

/// The destination pixel that belongs to pixel (0, 0) when `origin` belongs to the corner.
fn corner(base: &Base, origin: Point) -> Point {
    let (left, top) = (base.target.left, base.target.top);
    Point::new(left.saturating_sub(origin.x), top.saturating_sub(origin.y))
}

/// A texture seen through a transform, by the plainest placement that does it.
fn transformed(sized: SizedTexture, affine: Affine, is_opaque: bool) -> Source {
    let alpha = if is_opaque { Alpha::Opaque } else { sized.alpha };
    let Point { x, y } = affine.origin;
    let placement = match (affine.matrix, affine.repeat, x.checked_neg().zip(y.checked_neg())) {
        (IDENTITY, Repeat::None, Some((x, y))) => Placement::Shifted(Point::new(x, y)),
        (IDENTITY, Repeat::Normal, _) => Placement::Tiled(affine.origin),
        _ => Placement::Affine(affine),
    };
    Source::Texture { texture: sized.texture, placement, alpha }
}
