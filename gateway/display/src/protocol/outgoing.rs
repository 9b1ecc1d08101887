//! Records from the gateway to the browser (`docs/display-protocol.md`, "Gateway to browser").

use vidi_spice::{ClipboardKind, Point, Rect};

use super::monitors::{Monitor, put_monitors};
use super::records::put_record;
use super::{VERSION, kind};

/// Longest text of a status record; a sentence or two for people.
const STATUS_TEXT_BYTES_MAX: usize = 1024;

/// How the pixels of an image record are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// 1: PNG, which every browser decodes.
    Png = 1,
    /// 2: WebP, lossless here.
    WebP = 2,
    /// 3: JPEG, never exact.
    Jpeg = 3,
    /// 4: numbers of colours, for small things.
    Palette = 4,
}

/// Which pointer records the guest wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointerMode {
    /// 1: positions on the picture.
    Absolute,
    /// 2: movements.
    Relative,
}

/// The state in a status record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// 1: connected to the desktop.
    Connected,
    /// 2: the way to the desktop is being made.
    Connecting,
    /// 3: somebody paused the desktop from outside.
    Paused,
    /// 4: the session is over.
    Ended,
}

/// One record. Rectangles have edges in `0..=65535` and are not empty: those of a clipped area of
/// a surface are.
#[derive(Clone, Copy, Debug)]
pub enum Record<'a> {
    /// Type 1.
    Hello {
        /// The viewer may type and point.
        may_control: bool,
    },
    /// Type 2: the size of the view; what was drawn before is void.
    Size {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// Type 3: one colour.
    Fill {
        /// Where.
        area: Rect,
        /// `0x00RRGGBB`.
        pixel: u32,
    },
    /// Type 4: pixels that the browser already has.
    Copy {
        /// Where to; its size is that of the source.
        destination: Rect,
        /// Top left of where from.
        source: Point,
    },
    /// Type 5: plain pixels.
    Raw {
        /// Where.
        area: Rect,
        /// `0x00RRGGBB` each, top row first, as many as `area` has.
        pixels: &'a [u32],
    },
    /// Type 6: encoded pixels.
    Image {
        /// Where; the image has this size.
        area: Rect,
        /// How it is encoded.
        codec: Codec,
        /// Whether the picture is exact with it; if not, exact pixels follow in a later frame.
        is_exact: bool,
        /// The encoded image.
        data: &'a [u8],
    },
    /// Type 7: a consistent picture is complete.
    FrameEnd {
        /// Its number.
        sequence: u32,
    },
    /// Type 8: the shape of the pointer.
    Cursor(CursorPicture<'a>),
    /// Type 9: where the guest sees the pointer, where it has no absolute one.
    CursorPosition {
        /// Column.
        x: u16,
        /// Row.
        y: u16,
    },
    /// Type 10.
    PointerMode(PointerMode),
    /// Type 11: bits 1 scroll, 2 number, 4 caps.
    LockKeys(u8),
    /// Type 30: the guest fetched what its clipboard was offered.
    Fetched,
    /// Type 12.
    Status {
        /// What is going on.
        state: SessionState,
        /// The same for people; cut at [`STATUS_TEXT_BYTES_MAX`].
        text: &'a str,
    },
    /// Type 13: the body of the ping.
    Pong([u8; 8]),
    /// Type 14: a part of what somebody copied in the guest.
    Clipboard {
        /// What the whole is.
        kind: ClipboardKind,
        /// Whether more parts follow.
        more: bool,
        /// The bytes.
        data: &'a [u8],
    },
    /// Type 15: bits 1 the guest takes the clipboard, 2 it gives its own, 4 its screen follows, 8 it
    /// takes files, 16 it has sound, 32 it takes a microphone.
    Abilities(u8),
    /// Type 16: these tiles are to be remembered.
    Keep(&'a [TileSlot]),
    /// Type 17: these tiles are to be drawn from memory.
    Recall(&'a [TileSlot]),
    /// Type 18: a picture of a video region.
    Video(VideoPicture<'a>),
    /// Type 19: a video region is over.
    VideoEnd {
        /// Its number.
        region: u8,
    },
    /// Type 28: which parts of the picture the guest's monitors show.
    Monitors {
        /// How many it can have.
        most: u8,
        /// Those that are on.
        monitors: &'a [Monitor],
    },
    /// Type 29: the open frame shows more than one moment of the guest's picture.
    Partial,
}

/// A tile of the picture and a slot of the browser's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileSlot {
    /// Left edge.
    pub x: u16,
    /// Top edge.
    pub y: u16,
    /// Number of the slot.
    pub slot: u32,
}

/// One picture of a video region on the wire.
#[derive(Clone, Copy, Debug)]
pub struct VideoPicture<'a> {
    /// Where; the picture is stretched to it.
    pub area: Rect,
    /// The number of the region.
    pub region: u8,
    /// Whether decoding may begin here.
    pub is_key: bool,
    /// Columns of the decoded picture.
    pub width: u16,
    /// Rows of the decoded picture.
    pub height: u16,
    /// One access unit of H.264.
    pub data: &'a [u8],
}

/// The shape of a pointer on the wire.
#[derive(Clone, Copy, Debug)]
pub struct CursorPicture<'a> {
    /// Whether the guest shows it.
    pub visible: bool,
    /// Hotspot column.
    pub hotspot_x: u16,
    /// Hotspot row.
    pub hotspot_y: u16,
    /// Columns; 0 asks for the browser's own pointer.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// Red, green, blue, alpha bytes, `width * height * 4` of them.
    pub rgba: &'a [u8],
}

impl Record<'_> {
    /// Appends the record, header and body, to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        put_record(out, self.kind(), |out| self.write_body(out));
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => 1,
            Self::Size { .. } => kind::SIZE,
            Self::Fill { .. } => kind::FILL,
            Self::Copy { .. } => kind::COPY,
            Self::Raw { .. } => kind::RAW,
            Self::Image { .. } => kind::IMAGE,
            Self::FrameEnd { .. } => kind::FRAME_END,
            Self::Cursor(_) => 8,
            Self::CursorPosition { .. } => 9,
            Self::PointerMode(_) => 10,
            Self::LockKeys(_) => 11,
            Self::Status { .. } => kind::STATUS,
            Self::Pong(_) => 13,
            Self::Clipboard { .. } => 14,
            Self::Abilities(_) => 15,
            Self::Keep(_) => 16,
            Self::Recall(_) => kind::RECALL,
            Self::Video(_) => kind::VIDEO,
            Self::VideoEnd { .. } => 19,
            Self::Monitors { .. } => 28,
            Self::Partial => kind::PARTIAL,
            Self::Fetched => 30,
        }
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Hello { may_control } => {
                put(out, VERSION);
                put(out, u16::from(may_control));
            }
            Self::Size { width, height } => {
                out.extend_from_slice(&width.to_le_bytes());
                out.extend_from_slice(&height.to_le_bytes());
            }
            Self::Fill { area, pixel } => {
                put_rect(out, area);
                out.extend_from_slice(&opaque(pixel));
            }
            Self::Copy { destination, source } => {
                put_rect(out, destination);
                put(out, edge(source.x));
                put(out, edge(source.y));
            }
            Self::Raw { area, pixels } => {
                put_rect(out, area);
                out.reserve(pixels.len() * 4);
                out.extend(pixels.iter().flat_map(|&pixel| opaque(pixel)));
            }
            Self::Image { area, codec, is_exact, data } => {
                put_rect(out, area);
                out.extend_from_slice(&[codec as u8, u8::from(!is_exact), 0, 0]);
                out.extend_from_slice(data);
            }
            Self::FrameEnd { sequence } => out.extend_from_slice(&sequence.to_le_bytes()),
            Self::Cursor(picture) => put_cursor(out, &picture),
            Self::CursorPosition { x, y } => {
                put(out, x);
                put(out, y);
            }
            Self::PointerMode(mode) => out.push(match mode {
                PointerMode::Absolute => 1,
                PointerMode::Relative => 2,
            }),
            Self::Fetched => {}
            Self::LockKeys(bits) => out.push(bits),
            Self::Status { state, text } => {
                out.push(match state {
                    SessionState::Connected => 1,
                    SessionState::Connecting => 2,
                    SessionState::Paused => 3,
                    SessionState::Ended => 4,
                });
                let end = text.floor_char_boundary(STATUS_TEXT_BYTES_MAX);
                out.extend_from_slice(text.get(..end).unwrap_or_default().as_bytes());
            }
            Self::Pong(body) => out.extend_from_slice(&body),
            Self::Clipboard { kind, more, data } => {
                let kind = match kind {
                    ClipboardKind::Text => 1,
                    ClipboardKind::Png => 2,
                };
                out.extend_from_slice(&[kind, u8::from(more), 0, 0]);
                out.extend_from_slice(data);
            }
            Self::Abilities(bits) => out.push(bits),
            Self::Keep(tiles) | Self::Recall(tiles) => put_tiles(out, tiles),
            Self::Video(picture) => put_video(out, &picture),
            Self::Monitors { most, monitors } => put_monitors(out, most, monitors),
            Self::Partial => {}
            Self::VideoEnd { region } => out.extend_from_slice(&[region, 0, 0, 0]),
        }
    }
}

fn put_tiles(out: &mut Vec<u8>, tiles: &[TileSlot]) {
    for TileSlot { x, y, slot } in tiles {
        put(out, *x);
        put(out, *y);
        out.extend_from_slice(&slot.to_le_bytes());
    }
}

fn put_video(out: &mut Vec<u8>, picture: &VideoPicture<'_>) {
    put_rect(out, picture.area);
    out.extend_from_slice(&[picture.region, u8::from(picture.is_key), 0, 0]);
    put(out, picture.width);
    put(out, picture.height);
    out.extend_from_slice(picture.data);
}

fn put_cursor(out: &mut Vec<u8>, picture: &CursorPicture<'_>) {
    out.extend_from_slice(&[u8::from(picture.visible), 0]);
    for field in [picture.hotspot_x, picture.hotspot_y, picture.width, picture.height] {
        put(out, field);
    }
    out.extend_from_slice(picture.rgba);
}

fn put(out: &mut Vec<u8>, field: u16) {
    out.extend_from_slice(&field.to_le_bytes());
}

pub(super) fn put_rect(out: &mut Vec<u8>, area: Rect) {
    put(out, edge(area.left));
    put(out, edge(area.top));
    put(out, u16::try_from(area.width()).unwrap_or(u16::MAX));
    put(out, u16::try_from(area.height()).unwrap_or(u16::MAX));
}

/// Surfaces have at most 16384 columns and rows, so nothing is cut here.
fn edge(value: i32) -> u16 {
    u16::try_from(value.max(0)).unwrap_or(u16::MAX)
}

/// Red, green, blue, 255 of `0x00RRGGBB`.
const fn opaque(pixel: u32) -> [u8; 4] {
    let [_, red, green, blue] = pixel.to_be_bytes();
    [red, green, blue, 255]
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use expect_test::{Expect, expect};

    use super::*;

    fn check(record: Record<'_>, expected: Expect) {
        let mut bytes = Vec::new();
        record.write(&mut bytes);
        let mut shown = String::new();
        for byte in bytes {
            write!(shown, "{byte:02x} ").unwrap();
        }
        expected.assert_eq(shown.trim());
    }

    #[test]
    fn records_have_the_documented_bytes() {
        let area = Rect::new(1, 2, 4, 3);
        check(Record::Hello { may_control: true }, expect!["01 00 00 00 04 00 00 00 01 00 01 00"]);
        check(
            Record::Size { width: 1024, height: 768 },
            expect!["02 00 00 00 08 00 00 00 00 04 00 00 00 03 00 00"],
        );
        check(
            Record::Fill { area, pixel: 0x0011_2233 },
            expect!["03 00 00 00 0c 00 00 00 01 00 02 00 03 00 01 00 11 22 33 ff"],
        );
        check(
            Record::Copy { destination: area, source: Point::new(7, 258) },
            expect!["04 00 00 00 0c 00 00 00 01 00 02 00 03 00 01 00 07 00 02 01"],
        );
        check(
            Record::Raw { area, pixels: &[0x0011_2233, 0, 0x00ff_0000] },
            expect![
                "05 00 00 00 14 00 00 00 01 00 02 00 03 00 01 00 11 22 33 ff 00 00 00 ff ff 00 00 ff"
            ],
        );
        check(
            Record::Image { area, codec: Codec::WebP, is_exact: true, data: b"RIFF" },
            expect!["06 00 00 00 10 00 00 00 01 00 02 00 03 00 01 00 02 00 00 00 52 49 46 46"],
        );
        check(
            Record::Image { area, codec: Codec::Jpeg, is_exact: false, data: b"\xff\xd8" },
            expect!["06 00 00 00 0e 00 00 00 01 00 02 00 03 00 01 00 03 01 00 00 ff d8"],
        );
        check(
            Record::FrameEnd { sequence: 0x0102_0304 },
            expect!["07 00 00 00 04 00 00 00 04 03 02 01"],
        );
        check(
            Record::Cursor(CursorPicture {
                visible: true,
                hotspot_x: 1,
                hotspot_y: 0,
                width: 2,
                height: 1,
                rgba: &[1, 2, 3, 4, 5, 6, 7, 8],
            }),
            expect![
                "08 00 00 00 12 00 00 00 01 00 01 00 00 00 02 00 01 00 01 02 03 04 05 06 07 08"
            ],
        );
        check(
            Record::CursorPosition { x: 5, y: 6 },
            expect!["09 00 00 00 04 00 00 00 05 00 06 00"],
        );
        check(Record::PointerMode(PointerMode::Relative), expect!["0a 00 00 00 01 00 00 00 02"]);
        check(Record::LockKeys(5), expect!["0b 00 00 00 01 00 00 00 05"]);
        check(Record::Fetched, expect!["1e 00 00 00 00 00 00 00"]);
        check(
            Record::Status { state: SessionState::Ended, text: "bye" },
            expect!["0c 00 00 00 04 00 00 00 04 62 79 65"],
        );
        check(
            Record::Pong([1, 2, 3, 4, 5, 6, 7, 8]),
            expect!["0d 00 00 00 08 00 00 00 01 02 03 04 05 06 07 08"],
        );
        check(
            Record::Clipboard { kind: ClipboardKind::Png, more: true, data: b"\x89PNG" },
            expect!["0e 00 00 00 08 00 00 00 02 01 00 00 89 50 4e 47"],
        );
        check(Record::Abilities(5), expect!["0f 00 00 00 01 00 00 00 05"]);
    }

    #[test]
    fn records_of_tiles_and_video_have_the_documented_bytes() {
        let tiles = [TileSlot { x: 64, y: 128, slot: 7 }, TileSlot { x: 0, y: 1, slot: 0x0102 }];
        check(
            Record::Keep(&tiles[..1]),
            expect!["10 00 00 00 08 00 00 00 40 00 80 00 07 00 00 00"],
        );
        check(
            Record::Recall(&tiles),
            expect!["11 00 00 00 10 00 00 00 40 00 80 00 07 00 00 00 00 00 01 00 02 01 00 00"],
        );
        check(
            Record::Video(VideoPicture {
                area: Rect::new(1, 2, 4, 3),
                region: 3,
                is_key: true,
                width: 640,
                height: 360,
                data: &[0, 0, 0, 1],
            }),
            expect![
                "12 00 00 00 14 00 00 00 01 00 02 00 03 00 01 00 03 01 00 00 80 02 68 01 00 00 00 01"
            ],
        );
        check(Record::Partial, expect!["1d 00 00 00 00 00 00 00"]);
        check(Record::VideoEnd { region: 3 }, expect!["13 00 00 00 04 00 00 00 03 00 00 00"]);
    }

    #[test]
    fn a_long_status_is_cut_between_characters() {
        let text = "ü".repeat(STATUS_TEXT_BYTES_MAX);
        let mut bytes = Vec::new();
        Record::Status { state: SessionState::Connecting, text: &text[2..] }.write(&mut bytes);
        assert!(std::str::from_utf8(&bytes[9..]).is_ok());
        assert!(bytes.len() <= 9 + STATUS_TEXT_BYTES_MAX);
    }
}
