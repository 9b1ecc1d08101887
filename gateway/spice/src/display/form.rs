//! Pixels of each surface format in one shape, 0xaarrggbb, and back (`enums.h`, `SpiceSurfaceFmt`).
//!
//! 5 and 6 bit colours are widened by repeating their high bits, so that white stays white and
//! every bitwise operation may come before or after. Alpha alone is kept in the alpha byte.

use super::bitmap;
use super::event::{Surface, SurfaceFormat};

/// Blue, green and red of a pixel.
pub(super) const COLORS: u32 = 0x00ff_ffff;
/// Alpha of a pixel.
pub(super) const ALPHA: u32 = 0xff00_0000;

impl SurfaceFormat {
    /// A colour in a message, which has the form of the surface that it is for.
    pub(super) fn widen(self, color: u32) -> u32 {
        let [low, high, ..] = color.to_le_bytes();
        let half = u16::from_le_bytes([low, high]);
        match self {
            Self::Xrgb32 | Self::Argb32 => color,
            Self::Rgb555 => u32::from_le_bytes(bitmap::rgb555(half)),
            Self::Rgb565 => u32::from_le_bytes(bitmap::rgb565(half)),
            Self::Alpha8 => u32::from_le_bytes([0, 0, 0, low]),
            Self::Alpha1 if low & 1 != 0 => ALPHA,
            Self::Alpha1 => 0,
        }
    }

    /// What a surface of this format keeps of a pixel.
    pub(super) fn narrow(self, pixel: u32) -> u32 {
        let [blue, green, red, _] = pixel.to_le_bytes().map(u16::from);
        match self {
            Self::Xrgb32 | Self::Argb32 => pixel,
            Self::Rgb555 => {
                let five = (blue >> 3) | ((green >> 3) << 5) | ((red >> 3) << 10);
                u32::from_le_bytes(bitmap::rgb555(five))
            }
            Self::Rgb565 => {
                let six = (blue >> 3) | ((green >> 2) << 5) | ((red >> 3) << 11);
                u32::from_le_bytes(bitmap::rgb565(six))
            }
            Self::Alpha8 => pixel & ALPHA,
            // The highest bit decides, as in pixman.
            Self::Alpha1 if pixel & 0x8000_0000 != 0 => ALPHA,
            Self::Alpha1 => 0,
        }
    }

    /// The bits of a pixel that a surface of this format has.
    pub(super) const fn kept(self) -> u32 {
        match self {
            Self::Xrgb32 | Self::Argb32 => u32::MAX,
            Self::Rgb555 | Self::Rgb565 => COLORS,
            Self::Alpha8 | Self::Alpha1 => ALPHA,
        }
    }

    /// Whether every pixel of 32 bits is kept as it is.
    pub(super) const fn keeps_all(self) -> bool {
        self.kept() == u32::MAX
    }

    /// Whether its pixels have an alpha of their own.
    pub(super) const fn has_alpha(self) -> bool {
        matches!(self, Self::Argb32 | Self::Alpha8 | Self::Alpha1)
    }
}

impl Surface {
    /// The bits of its pixels that can ever be read. Off the screen that includes alpha bytes that
    /// its format leaves undefined, since a drawing may declare them alpha.
    pub(super) const fn kept(&self) -> u32 {
        if self.primary { COLORS } else { self.format.kept() }
    }

    pub(super) const fn keeps_alpha(&self) -> bool {
        self.kept() & ALPHA != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_widened_is_kept() {
        for format in [SurfaceFormat::Rgb555, SurfaceFormat::Rgb565, SurfaceFormat::Alpha8] {
            for color in 0..=0xffff {
                let pixel = format.widen(color);
                assert_eq!(format.narrow(pixel), pixel, "{format:?} {color:#x}");
            }
        }
        assert_eq!(SurfaceFormat::Rgb565.narrow(0x12ff_fb07), 0xffff_fb00);
        assert_eq!(SurfaceFormat::Alpha1.narrow(0x80ff_ffff), ALPHA);
        assert_eq!(SurfaceFormat::Alpha1.narrow(0x7fff_ffff), 0);
    }
}
