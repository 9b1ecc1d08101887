//! In which form a part of the picture goes to a browser: the one place where this is decided.
//!
//! What it is decided from is described in `docs/display-protocol.md`, "Flow".

use std::time::Duration;

use crate::encoding::Coding;
use crate::parts::Part;
use crate::protocol::BrowserHello;

/// Up to here plain pixels beat an encoded image with its headers and its decoder's start.
const RAW_PIXELS_MAX: u64 = 256;

/// Up to here numbers of colours do, where there are few, and no decoder has to be waited for: a tile
/// (`docs/display-protocol.md`, "Palette images").
const PALETTE_PIXELS_MAX: u64 = 4096;

/// From here on a photo's pixels are worth the headers of a JPEG, about 600 bytes.
const JPEG_PIXELS_MIN: u64 = 1024;

/// What is known of one viewer's browser and line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    pub(crate) browser: &'a BrowserHello,
    /// Of what is not exact, 1 to 100.
    pub(crate) quality: u8,
}

impl Line<'_> {
    /// A photo goes exactly at once where it takes the line no longer than this.
    pub(crate) const EXACT_TIME_MAX: Duration = Duration::from_millis(50);
}

/// A form of a part of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One colour, `0x00RRGGBB`.
    Fill(u32),
    /// Numbers of colours if it has few, else the other form.
    Palette(OrElse),
    /// Plain pixels.
    Raw,
    /// An encoded image.
    Image(Coding),
}

/// The form of what has too many colours for a palette.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrElse {
    Raw,
    Image(Coding),
}

impl OrElse {
    pub(crate) const fn form(self) -> Form {
        match self {
            Self::Raw => Form::Raw,
            Self::Image(coding) => Form::Image(coding),
        }
    }
}

/// The form of a part.
pub(crate) fn form(part: &Part, line: &Line<'_>) -> Form {
    let pixels = part.area.area();
    if let Some(pixel) = part.solid {
        return Form::Fill(pixel);
    }
    if part.is_lossy && JPEG_PIXELS_MIN <= pixels {
        return Form::Image(Coding::Jpeg { quality: line.quality });
    }
    let exact = if pixels <= RAW_PIXELS_MAX {
        OrElse::Raw
    } else if line.browser.webp {
        OrElse::Image(Coding::WebP)
    } else {
        OrElse::Image(Coding::Png)
    };
    if line.browser.palette && pixels <= PALETTE_PIXELS_MAX {
        return Form::Palette(exact);
    }
    exact.form()
}
