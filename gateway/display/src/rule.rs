//! In which form a part of the picture goes to a browser: the one place where this is decided.
//!
//! Lossy forms and video regions belong here too once they exist: with the rate of change of the
//! area as one more argument.

use vidi_spice::Rect;

use crate::protocol::{BrowserHello, Codec};

/// Up to here plain pixels beat an encoded image with its headers and its decoder's start.
const RAW_PIXELS_MAX: u64 = 256;

/// A form of a part of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One colour, `0x00RRGGBB`.
    Fill(u32),
    /// Plain pixels.
    Raw,
    /// An encoded image.
    Image(Codec),
}

/// The form of `area`; `solid` is its colour if it has only one.
pub(crate) fn form(area: &Rect, solid: Option<u32>, browser: &BrowserHello) -> Form {
    match solid {
        Some(pixel) => Form::Fill(pixel),
        None if area.area() <= RAW_PIXELS_MAX => Form::Raw,
        None if browser.webp => Form::Image(Codec::WebP),
        None => Form::Image(Codec::Png),
    }
}
