//! What the server sent that this library does not carry out, by name.

use std::fmt;

use crate::geometry::{Rect, SurfaceId};

/// A message that was understood but not carried out: the picture inside `area` may be wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// What is missing here.
    pub feature: Feature,
    /// Where it was to be drawn, with the destination rectangle; `None` if it draws nothing.
    pub place: Option<(SurfaceId, Rect)>,
}

/// A part of SPICE that is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// A compressed image.
    Image(ImageCodec),
    /// A bitmap format (`enums.h`, `SpiceBitmapFmt`).
    BitmapFormat(u8),
    /// An image that the server believes to be in our cache, by its id.
    UncachedImage(u64),
    /// A palette that the server believes to be in our cache, by its id.
    UncachedPalette(u64),
    /// A drawing operation.
    Operation(Operation),
    /// A raster operation of a copy (`enums.h`, `SpiceRopd`).
    RasterOperation(u16),
    /// A 1-bit mask on a drawing operation.
    Mask,
    /// A brush that is an image.
    PatternBrush,
    /// A copy that scales from another surface.
    ScaledSurface,
    /// A scaled copy of more than the image holds.
    ScaledOutside,
    /// A drawing on, or from, a surface that does not exist.
    UnknownSurface(SurfaceId),
    /// A video stream, with its codec (`enums.h`, `SpiceVideoCodecType`).
    Stream(u8),
    /// A migration to another host.
    Migration,
    /// A message of an unknown type.
    Message(u16),
}

/// Image encodings of SPICE (`enums.h`, `SpiceImageType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageCodec {
    /// 1
    Quic,
    /// 100
    LzPalette,
    /// 101
    LzRgb,
    /// 102
    GlzRgb,
    /// 105
    Jpeg,
    /// 107
    ZlibGlzRgb,
    /// 108
    JpegAlpha,
    /// 109
    Lz4,
    /// Any other number.
    Other(u8),
}

/// Drawing operations (`spice.proto`, `DisplayChannel`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// DRAW_OPAQUE
    Opaque,
    /// DRAW_BLEND
    Blend,
    /// DRAW_ROP3
    Rop3,
    /// DRAW_STROKE
    Stroke,
    /// DRAW_TEXT
    Text,
    /// DRAW_TRANSPARENT
    Transparent,
    /// DRAW_ALPHA_BLEND
    AlphaBlend,
    /// DRAW_COMPOSITE
    Composite,
    /// GL_SCANOUT_UNIX and GL_DRAW
    Gl,
}

impl Unsupported {
    /// Something that draws nothing.
    pub(crate) const fn nowhere(feature: Feature) -> Self {
        Self { feature, place: None }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(codec) => write!(formatter, "image compressed with {codec:?}"),
            Self::BitmapFormat(number) => write!(formatter, "bitmap of format {number}"),
            Self::UncachedImage(id) => write!(formatter, "image {id:#x} that is not cached"),
            Self::UncachedPalette(id) => write!(formatter, "palette {id:#x} that is not cached"),
            Self::Operation(operation) => write!(formatter, "drawing operation {operation:?}"),
            Self::RasterOperation(bits) => write!(formatter, "raster operation {bits:#x}"),
            Self::Mask => formatter.write_str("drawing through a mask"),
            Self::PatternBrush => formatter.write_str("brush that is a pattern"),
            Self::ScaledSurface => formatter.write_str("scaled copy of a surface"),
            Self::ScaledOutside => formatter.write_str("scaled copy from outside an image"),
            Self::UnknownSurface(id) => write!(formatter, "surface {} that does not exist", id.0),
            Self::Stream(codec) => write!(formatter, "video stream of codec {codec}"),
            Self::Migration => formatter.write_str("migration to another host"),
            Self::Message(kind) => write!(formatter, "message of type {kind}"),
        }
    }
}
