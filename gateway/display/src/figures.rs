//! What parts of the picture are sent as: counted by form, for whoever runs the gateway.

use crate::protocol::{Codec, HEADER_BYTES, kind, records};

/// A form in which a part of the picture goes to a browser (`docs/display-protocol.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureForm {
    /// One colour.
    Fill,
    /// Moved within the picture.
    Copy,
    /// A tile that the browser remembers.
    Recall,
    /// Numbers of colours.
    Palette,
    /// Plain pixels.
    Raw,
    /// PNG.
    Png,
    /// Lossless WebP.
    WebP,
    /// JPEG, never exact.
    Jpeg,
    /// A picture of a video region.
    Video,
}

/// How much went in one form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Parts of the picture; of recalls, tiles.
    pub parts: u64,
    /// Bytes of their records.
    pub bytes: u64,
}

/// How much went in each form.
#[derive(Clone, Copy, Debug, Default)]
pub struct PictureFigures([Sent; PictureForm::ALL.len()]);

impl PictureForm {
    /// Each of them, in the order above.
    pub const ALL: [Self; 9] = [
        Self::Fill,
        Self::Copy,
        Self::Recall,
        Self::Palette,
        Self::Raw,
        Self::Png,
        Self::WebP,
        Self::Jpeg,
        Self::Video,
    ];

    /// What it is called in figures.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fill => "fill",
            Self::Copy => "copy",
            Self::Recall => "recall",
            Self::Palette => "palette",
            Self::Raw => "raw",
            Self::Png => "png",
            Self::WebP => "webp",
            Self::Jpeg => "jpeg",
            Self::Video => "video",
        }
    }

    /// That of a record, and how many parts it draws.
    fn of(kind: u8, body: &[u8]) -> Option<(Self, u64)> {
        /// Bytes of a tile and its slot in a record 17.
        const SLOT_BYTES: usize = 8;
        /// Where a record 6 has its codec.
        const CODEC_AT: usize = 8;
        let is = |codec: Codec| body.get(CODEC_AT) == Some(&(codec as u8));
        let form = match kind {
            kind::FILL => Self::Fill,
            kind::COPY => Self::Copy,
            kind::RAW => Self::Raw,
            kind::IMAGE if is(Codec::Png) => Self::Png,
            kind::IMAGE if is(Codec::WebP) => Self::WebP,
            kind::IMAGE if is(Codec::Jpeg) => Self::Jpeg,
            kind::IMAGE if is(Codec::Palette) => Self::Palette,
            kind::RECALL => {
                let tiles = u64::try_from(body.len() / SLOT_BYTES).unwrap_or(u64::MAX);
                return Some((Self::Recall, tiles));
            }
            kind::VIDEO => Self::Video,
            _ => return None,
        };
        Some((form, 1))
    }
}

impl PictureFigures {
    /// Counts the parts in a message of whole records.
    pub(crate) fn count(&mut self, message: &[u8]) {
        for (kind, body) in records(message) {
            if let Some((form, parts)) = PictureForm::of(kind, body)
                && let Some(sent) = self.0.get_mut(form as usize)
            {
                sent.parts += parts;
                sent.bytes += u64::try_from(HEADER_BYTES + body.len()).unwrap_or(u64::MAX);
            }
        }
    }

    /// Those forms in which anything went.
    pub fn each(&self) -> impl Iterator<Item = (PictureForm, Sent)> {
        PictureForm::ALL.into_iter().zip(self.0).filter(|(_, sent)| 0 < sent.parts)
    }
}

#[cfg(test)]
mod tests {
    use vidi_spice::Rect;

    use super::*;
    use crate::protocol::{Record, TileSlot};

    #[test]
    fn parts_are_counted_by_form() {
        let area = Rect::new(1, 2, 4, 3);
        let image = |codec| Record::Image { area, codec, is_exact: true, data: &[7; 30] };
        let tile = TileSlot { x: 0, y: 64, slot: 3 };
        let mut message = Vec::new();
        for record in [
            Record::Fill { area, pixel: 5 },
            image(Codec::Palette),
            image(Codec::Palette),
            Record::Keep(&[tile]),
            Record::Recall(&[tile; 3]),
            image(Codec::WebP),
            Record::FrameEnd { sequence: 9 },
        ] {
            record.write(&mut message);
        }
        let mut figures = PictureFigures::default();
        figures.count(&message);
        let sent = |parts, bytes| Sent { parts, bytes };
        let expected = [
            (PictureForm::Fill, sent(1, 20)),
            (PictureForm::Recall, sent(3, 32)),
            (PictureForm::Palette, sent(2, 100)),
            (PictureForm::WebP, sent(1, 50)),
        ];
        assert_eq!(figures.each().collect::<Vec<_>>(), expected);
        figures.count(&[6, 0, 0, 0, 200, 0, 0, 0, 1]);
        figures.count(&[6, 0, 0]);
        assert_eq!(figures.each().collect::<Vec<_>>(), expected, "what is cut off is no part");
    }
}
