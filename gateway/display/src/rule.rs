//! In which form pixels go to a browser that it cannot copy or recall, and that are no video.
//!
//! The whole rule is in `docs/display-protocol.md`, "Flow"; here are its points 4 to 6. Which parts
//! need not be exact is decided before (`picture/frame.rs`).

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

/// A form of a part of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// One colour, `0x00RRGGBB`.
    Fill(u32),
    /// Numbers of colours if they are to be tried and are few, else an encoded image, or plain pixels.
    Pixels { tries_palette: bool, coding: Option<Coding> },
}

/// The form of a part.
pub(crate) fn form(part: &Part, line: &Line<'_>) -> Form {
    let pixels = part.area.area();
    if let Some(pixel) = part.solid {
        return Form::Fill(pixel);
    }
    if part.is_lossy && JPEG_PIXELS_MIN <= pixels {
        let coding = Some(Coding::Jpeg { quality: line.quality });
        return Form::Pixels { tries_palette: false, coding };
    }
    let lossless = if line.browser.webp { Coding::WebP } else { Coding::Png };
    Form::Pixels {
        tries_palette: line.browser.palette && pixels <= PALETTE_PIXELS_MAX,
        coding: (RAW_PIXELS_MAX < pixels).then_some(lossless),
    }
}
