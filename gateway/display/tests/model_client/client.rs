//! A browser that draws what it gets, with slots and decoders, and knows what is not exact.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use openh264::decoder::Decoder;
use openh264::formats::YUVSource;
use vidi_display::ViewerId;

use crate::picture::{Picture, draw, long, put, short};

/// A browser that draws what it gets.
pub(crate) struct Client {
    pub(crate) id: ViewerId,
    pub(crate) socket: VecDeque<Bytes>,
    pub(crate) wire: VecDeque<Bytes>,
    pub(crate) unanswered: VecDeque<u32>,
    pub(crate) picture: Picture,
    /// Of which pixels it was said that they are not exact.
    pub(crate) inexact: Vec<bool>,
    /// What it remembers: columns, rows, pixels.
    pub(crate) slots: BTreeMap<u32, Picture>,
    /// A frame is under way that says of itself that it shows no moment of the guest's picture.
    pub(crate) is_partial: bool,
    /// By region.
    pub(crate) decoders: BTreeMap<u8, Decoder>,
    /// Slots that it can spare.
    pub(crate) slots_max: u32,
    /// The number of the guest's picture that was last shown.
    pub(crate) shown: usize,
    /// Something was drawn, and no frame ended since.
    pub(crate) amid_frame: bool,
    /// The part of a clipboard that came, of which more follows.
    pub(crate) part: Vec<u8>,
    /// Numbers of the pieces that came whole.
    pub(crate) pasted: Vec<usize>,
    /// How many pieces were copied before it came, of which it is told nothing.
    pub(crate) copied_before: usize,
}

impl Client {
    /// Takes a part of a clipboard; how many are whole with it.
    pub(crate) fn paste(&mut self, body: &[u8], copied: &[Bytes]) -> usize {
        self.part.extend_from_slice(&body[4..]);
        if body[1] != 0 {
            return 0;
        }
        let whole = std::mem::take(&mut self.part);
        let known = copied.iter().position(|piece| *piece == whole);
        self.pasted.push(known.expect("nobody copied this"));
        1
    }

    pub(crate) fn draw(&mut self, kind: u8, body: &[u8]) {
        let is_exact = kind != 6 || body[9] & 1 == 0;
        match kind {
            2 => {
                draw(&mut self.picture, kind, body);
                self.inexact = vec![false; self.picture.2.len()];
                self.slots.clear();
                self.is_partial = false;
            }
            4 => {
                // The marks go with the pixels.
                let marks = self.inexact.iter().map(|mark| u32::from(*mark)).collect();
                let mut marks = (self.picture.0, self.picture.1, marks);
                draw(&mut marks, kind, body);
                self.inexact = marks.2.iter().map(|mark| *mark == 1).collect();
                draw(&mut self.picture, kind, body);
            }
            18 => self.draw_video(body),
            29 => self.is_partial = true,
            19 => drop(self.decoders.remove(&body[0])),
            3 | 5 | 6 => {
                self.mark(body, !is_exact);
                draw(&mut self.picture, kind, body);
            }
            16 | 17 => {
                assert!(!body.is_empty() && body.len().is_multiple_of(8));
                for entry in body.chunks(8) {
                    self.draw_slot(kind, short(entry, 0), short(entry, 2), long(entry, 4));
                }
            }
            _ => {}
        }
    }

    pub(crate) fn draw_video(&mut self, body: &[u8]) {
        let (region, is_key) = (body[8], body[9] == 1);
        let decoder = self.decoders.entry(region).or_insert_with(|| {
            assert!(is_key, "a stream begins amid");
            Decoder::new().unwrap()
        });
        let shown = decoder.decode(&body[16..]).unwrap().expect("no picture comes of it");
        let size = [short(body, 12), short(body, 14)].map(|side| usize::try_from(side).unwrap());
        assert_eq!(shown.dimensions(), (size[0], size[1]));
        self.mark(body, true);
        // As wrong as can be.
        put(&mut self.picture, body, |_, _, _| 0xbad);
    }

    /// The area of this record is exact now, or is not.
    fn mark(&mut self, body: &[u8], is_inexact: bool) {
        let mut marks = (self.picture.0, self.picture.1, vec![0; self.picture.2.len()]);
        put(&mut marks, body, |_, _, _| 1);
        for (mark, drawn) in self.inexact.iter_mut().zip(marks.2) {
            *mark = if drawn == 1 { is_inexact } else { *mark };
        }
    }

    pub(crate) fn draw_slot(&mut self, kind: u8, x: u32, y: u32, slot: u32) {
        let (width, height) = (64.min(self.picture.0 - x), 64.min(self.picture.1 - y));
        let stride = self.picture.0;
        let at = |column, row| usize::try_from((y + row) * stride + x + column).unwrap();
        let pixels = (0..height).flat_map(|row| (0..width).map(move |column| (column, row)));
        if kind == 16 {
            assert!(slot < self.slots_max, "more is kept than it can spare");
            let kept = pixels.map(|(column, row)| {
                assert!(!self.inexact[at(column, row)], "what is not exact is kept");
                self.picture.2[at(column, row)]
            });
            let kept = kept.collect();
            self.slots.insert(slot, (width, height, kept));
        } else {
            let kept = self.slots.get(&slot).expect("the slot holds nothing");
            assert_eq!((kept.0, kept.1), (width, height));
            for ((column, row), pixel) in pixels.zip(&kept.2) {
                self.picture.2[at(column, row)] = *pixel;
                self.inexact[at(column, row)] = false;
            }
        }
    }

    /// Whether its picture is this one wherever nobody said that it is not.
    pub(crate) fn shows(&self, picture: &Picture) -> bool {
        (self.picture.0, self.picture.1) == (picture.0, picture.1)
            && (self.picture.2.iter().zip(&picture.2))
                .zip(&self.inexact)
                .all(|((shown, real), inexact)| *inexact || shown == real)
    }
}
