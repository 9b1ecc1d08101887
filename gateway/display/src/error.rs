//! What can be wrong with what a guest or a caller asks for.

use vidi_spice::SurfaceId;
use vidi_spice::display::{SURFACE_PIXELS_MAX, SURFACE_SIDE_MAX, SURFACES_MAX};

use crate::framebuffer::SURFACE_BYTES_MAX;
use crate::session::VIEWERS_MAX;

/// A refusal. Nothing has changed; the session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DisplayError {
    /// A surface without pixels, or with too many.
    #[error(
        "surface of {width} x {height} pixels: sides must be 1 to {SURFACE_SIDE_MAX}, and it may \
         have {SURFACE_PIXELS_MAX} pixels"
    )]
    SurfaceSize {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// The guest's surfaces would need too much memory.
    #[error(
        "no room for a surface of {width} x {height} pixels: a session has at most \
         {SURFACES_MAX} surfaces and {SURFACE_BYTES_MAX} bytes; lower the guest's resolution"
    )]
    TooManySurfaces {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// A drawing on, or from, a surface that was never made or was refused.
    #[error("drawing with surface {}, which does not exist", .0.0)]
    UnknownSurface(SurfaceId),
    /// One more viewer than a session may have.
    #[error("the session has {VIEWERS_MAX} viewers already; close one of them")]
    TooManyViewers,
}
