//! What the server sent that this library does not carry out, by name.
//!
//! Each is named where it is met, [`Unsupported`] says where the picture may be wrong then, and nothing of
//! it is among our capabilities. What is left out, and why no server that keeps to the protocol misses it:
//!
//! | what | why |
//! | --- | --- |
//! | glyphs that are outlines | `spice.proto` has no layout for them, `String` is bitmaps of 1, 4 or 8 bits; the reference renderer stops at any other, too |
//! | filters of DRAW_COMPOSITE beyond nearest and means (`PIXMAN_FILTER_CONVOLUTION` and later) | their parameters are not in the message |
//! | operators of DRAW_COMPOSITE that pixman does not have | there is nothing to compute |
//! | GL_SCANOUT_UNIX, GL_DRAW | a descriptor of the server's own GPU, for a client on its host that says it can (`SPICE_DISPLAY_CAP_GL_SCANOUT`) |
//! | streams of VP8, VP9, H.264, H.265 | sent only to who says it decodes them; drawings come instead |
//! | moves with a connection made beforehand, seamless or not | sent only to who says it can; the server says afterwards where it went ([`crate::MainEvent::Moved`]) |
//! | migration data of single channels | of seamless moves only |
//! | CELT of the sound channels | sent only to who says it can; there is Opus and PCM |
//! | the background mode of dashed lines | no renderer draws the gaps; the reference leaves them |

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
    /// An image of an unknown type (`enums.h`, `SpiceImageType`).
    ImageType(u8),
    /// A bitmap format (`enums.h`, `SpiceBitmapFmt`).
    BitmapFormat(u8),
    /// An image that the server believes to be in our cache, by its id.
    UncachedImage(u64),
    /// An earlier image of the GLZ dictionary that no display channel has brought, by its number.
    AwaitedImage(u64),
    /// A palette that the server believes to be in our cache, by its id.
    UncachedPalette(u64),
    /// A drawing operation, or the form of it that no server is known to send.
    Operation(Operation),
    /// A drawing on, or from, a surface that does not exist.
    UnknownSurface(SurfaceId),
    /// A video stream that is not Motion JPEG, with its codec (`enums.h`, `SpiceVideoCodecType`).
    Stream(u8),
    /// A part of a move to another host that belongs to ways of moving which are not taken.
    Migration,
    /// A message of an unknown type.
    Message(u16),
}

/// Drawing operations (`spice.proto`, `DisplayChannel`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// DRAW_TEXT with glyphs that are not bitmaps: the protocol has no layout for others.
    Text,
    /// DRAW_COMPOSITE with an operator or a filter that pixman does not have, or a filter whose
    /// parameters SPICE does not carry.
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
            Self::ImageType(number) => write!(formatter, "image of type {number}"),
            Self::BitmapFormat(number) => write!(formatter, "bitmap of format {number}"),
            Self::UncachedImage(id) => write!(formatter, "image {id:#x} that is not cached"),
            Self::AwaitedImage(id) => write!(formatter, "reference to image {id} before it came"),
            Self::UncachedPalette(id) => write!(formatter, "palette {id:#x} that is not cached"),
            Self::Operation(operation) => write!(formatter, "drawing operation {operation:?}"),
            Self::UnknownSurface(id) => write!(formatter, "surface {} that does not exist", id.0),
            Self::Stream(codec) => write!(formatter, "video stream of codec {codec}"),
            Self::Migration => formatter.write_str("migration to another host"),
            Self::Message(kind) => write!(formatter, "message of type {kind}"),
        }
    }
}
