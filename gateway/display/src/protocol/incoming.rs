//! Records from the browser to the gateway (`docs/display-protocol.md`, "Browser to gateway").
//!
//! The decoder is total: every message gives records or says what is wrong with it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use vidi_spice::{ClipboardKind, Scancode};

use super::media::{FILE_FIELDS_BYTES, FILE_PART_BYTES_MAX};
use super::{
    FIRST_VIEW, FileMessage, HEADER_BYTES, MonitorWindow, SharingMessage, Speech, VERSION, media,
    monitors, sharing,
};

/// Longest message a browser may send, from the document.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// Longest record with its header, from the document; those of the clipboard and of files may be longer.
const RECORD_BYTES_MAX: usize = 4096;

/// Longest part of a clipboard in one record, from the document.
const CLIPBOARD_PART_BYTES_MAX: usize = 60 * 1024;

/// Most bytes of one scan code, from the document.
const SCAN_CODE_BYTES_MAX: usize = 6;

/// The type of the record with a part of a file.
const FILE: u8 = 77;

/// The type of the record with a part of a clipboard.
const CLIPBOARD: u8 = 74;

/// `u8 kind, u8 flags, u16 reserved` before the bytes of a clipboard.
const CLIPBOARD_FIELDS_BYTES: usize = 4;

/// One record of a browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViewerMessage {
    /// Type 65.
    Hello(BrowserHello),
    /// Type 66: a frame was presented.
    Ack {
        /// Its number.
        sequence: u32,
        /// What drawing it took.
        draw_time: Duration,
    },
    /// Type 67.
    Key {
        /// Pressed, or released.
        down: bool,
        /// Which key.
        key: Scancode,
    },
    /// Type 68: absolute mode.
    Pointer {
        /// Column.
        x: u16,
        /// Row.
        y: u16,
        /// Buttons held now.
        buttons: Buttons,
    },
    /// Type 69: relative mode.
    PointerDelta {
        /// Columns to the right.
        dx: i16,
        /// Rows downwards.
        dy: i16,
        /// Buttons held now.
        buttons: Buttons,
    },
    /// Type 70.
    Wheel {
        /// Steps; positive is up, away from the user.
        clicks: i8,
        /// Buttons held now.
        buttons: Buttons,
    },
    /// Type 71: lets go of every key and button.
    ReleaseAll,
    /// Type 72: answered with these bytes.
    Ping([u8; 8]),
    /// Type 73: the whole picture again.
    Refresh,
    /// Type 74.
    Clipboard(ClipboardPart),
    /// Type 77.
    File(FileMessage),
    /// Type 78.
    Speech(Speech),
    /// Types 79 to 82.
    Sharing(SharingMessage),
    /// Type 75: the place for the picture has this size.
    Window {
        /// Columns in device pixels.
        width: u16,
        /// Rows in device pixels.
        height: u16,
    },
    /// Type 83: the places for the pictures of several monitors, from left to right.
    Windows(Vec<MonitorWindow>),
    /// Type 76: video cannot be decoded.
    CannotDecode {
        /// Of which region.
        region: u8,
        /// What it wants instead.
        wants: VideoWish,
    },
}

/// What a browser that cannot decode a video region wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoWish {
    /// 1: no video any more.
    Never,
    /// 2: a key frame, to begin anew.
    KeyFrame,
}

/// A part of what a person copied. It is shown in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct ClipboardPart {
    /// What the whole is.
    pub kind: ClipboardKind,
    /// Whether more parts follow.
    pub more: bool,
    /// The bytes.
    pub data: Bytes,
}

impl fmt::Debug for ClipboardPart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.more { ", more follows" } else { "" };
        write!(formatter, "{:?} of {} bytes{more}", self.kind, self.data.len())
    }
}

/// What a browser says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BrowserHello {
    /// It decodes WebP.
    pub webp: bool,
    /// It decodes H.264 and draws video regions.
    pub h264: bool,
    /// It draws palette images.
    pub palette: bool,
    /// It plays Opus.
    pub opus: bool,
    /// Memory that it can spare for tiles, 0 for none.
    pub tile_cache_bytes: u32,
    /// Columns of its window in device pixels.
    pub width: u16,
    /// Rows of its window in device pixels.
    pub height: u16,
}

/// The set of held buttons: bits 1 left, 2 middle, 4 right, 8 back, 16 forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Buttons(u8);

impl Buttons {
    /// Bits that name a button.
    const ALL: u8 = 31;

    /// The set with these bits; bits that name no button are dropped.
    pub const fn new(bits: u8) -> Self {
        Self(bits & Self::ALL)
    }

    /// The bits.
    pub const fn bits(self) -> u8 {
        self.0
    }
}

/// What is wrong with a message of a browser; the socket is to be closed with code 1002.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("message of {0} bytes is longer than {MESSAGE_BYTES_MAX}; send shorter ones")]
    MessageTooLong(usize),
    /// Longer than a record of its type may be.
    #[error("record of type {kind} is longer than {limit} bytes")]
    RecordTooLong {
        /// Its type.
        kind: u8,
        /// What is allowed, with the header.
        limit: usize,
    },
    /// Ends inside a record.
    #[error("message ends inside a record; send whole records")]
    Truncated,
    /// A type the document does not have, or that only the gateway sends.
    #[error("record type {0} is not one a browser sends")]
    UnknownType(u8),
    /// A body of the wrong length or content.
    #[error("record of type {kind} has a malformed body of {length} bytes")]
    Body {
        /// Its type.
        kind: u8,
        /// Length of the body in bytes.
        length: usize,
    },
    /// Another version of the protocol.
    #[error("protocol version {0} is not spoken here, only {VERSION}; reload the page")]
    Version(u16),
}

/// Decodes a whole WebSocket message. Records of views that do not exist are checked and dropped:
/// a view can go away while a browser still points at it. So are keys that no guest knows.
pub fn decode(message: &[u8]) -> Result<Vec<ViewerMessage>, Malformed> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err(Malformed::MessageTooLong(message.len()));
    }
    let mut records = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let (header, after) =
            rest.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed::Truncated)?;
        let &[kind, view, reserved_low, reserved_high, a, b, c, d] = header;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let limit = match kind {
            CLIPBOARD => HEADER_BYTES + CLIPBOARD_FIELDS_BYTES + CLIPBOARD_PART_BYTES_MAX,
            FILE => HEADER_BYTES + FILE_FIELDS_BYTES + FILE_PART_BYTES_MAX,
            _ => RECORD_BYTES_MAX,
        };
        if length > limit - HEADER_BYTES {
            return Err(Malformed::RecordTooLong { kind, limit });
        }
        let (body, after) = after.split_at_checked(length).ok_or(Malformed::Truncated)?;
        let record = decode_body(kind, body)?;
        if [reserved_low, reserved_high] != [0, 0] {
            return Err(Malformed::Body { kind, length });
        }
        if view == FIRST_VIEW {
            records.extend(record);
        }
        rest = after;
    }
    Ok(records)
}

fn decode_body(kind: u8, body: &[u8]) -> Result<Option<ViewerMessage>, Malformed> {
    let malformed = Malformed::Body { kind, length: body.len() };
    let record = match kind {
        65 => decode_hello(body).ok_or(malformed)?,
        66 => decode_ack(body).ok_or(malformed),
        67 => return decode_key(body).ok_or(malformed),
        68 => decode_pointer(body).ok_or(malformed),
        69 => decode_delta(body).ok_or(malformed),
        70 => match *body {
            [clicks, buttons] => Ok(ViewerMessage::Wheel {
                clicks: i8::from_le_bytes([clicks]),
                buttons: Buttons::new(buttons),
            }),
            _ => Err(malformed),
        },
        71 if body.is_empty() => Ok(ViewerMessage::ReleaseAll),
        72 => body.try_into().map(ViewerMessage::Ping).map_err(|_length| malformed),
        73 if body.is_empty() => Ok(ViewerMessage::Refresh),
        CLIPBOARD => return decode_clipboard(body).ok_or(malformed),
        75 => decode_window(body).ok_or(malformed),
        76 => return decode_cannot_decode(body).ok_or(malformed),
        FILE => {
            let message = media::decode_file(body).ok_or(malformed)?;
            return Ok(message.map(ViewerMessage::File));
        }
        78 => {
            let speech = media::decode_speech(body).ok_or(malformed)?;
            return Ok(speech.map(ViewerMessage::Speech));
        }
        79..=82 => sharing::decode(kind, body).map(ViewerMessage::Sharing).ok_or(malformed),
        83 => monitors::decode_windows(body).map(ViewerMessage::Windows).ok_or(malformed),
        71 | 73 => Err(malformed),
        _ => Err(Malformed::UnknownType(kind)),
    };
    record.map(Some)
}

/// `u16 version, u16 flags, u32 tile cache bytes, u16 width, u16 height`
fn decode_hello(body: &[u8]) -> Option<Result<ViewerMessage, Malformed>> {
    let body: &[u8; 12] = body.try_into().ok()?;
    let &[v0, v1, f0, f1, t0, t1, t2, t3, w0, w1, h0, h1] = body;
    let flags = u16::from_le_bytes([f0, f1]);
    let version = u16::from_le_bytes([v0, v1]);
    if version != VERSION {
        return Some(Err(Malformed::Version(version)));
    }
    Some(Ok(ViewerMessage::Hello(BrowserHello {
        webp: flags & 1 != 0,
        h264: flags & 2 != 0,
        palette: flags & 4 != 0,
        opus: flags & 8 != 0,
        tile_cache_bytes: u32::from_le_bytes([t0, t1, t2, t3]),
        width: u16::from_le_bytes([w0, w1]),
        height: u16::from_le_bytes([h0, h1]),
    })))
}

/// `u32 sequence, u32 draw time in microseconds`
fn decode_ack(body: &[u8]) -> Option<ViewerMessage> {
    let &[a, b, c, d, e, f, g, h] = <&[u8; 8]>::try_from(body).ok()?;
    let draw_time = Duration::from_micros(u64::from(u32::from_le_bytes([e, f, g, h])));
    Some(ViewerMessage::Ack { sequence: u32::from_le_bytes([a, b, c, d]), draw_time })
}

/// `u8 down, u8 count, count bytes`; the inner `None` is a key that no guest knows.
fn decode_key(body: &[u8]) -> Option<Option<ViewerMessage>> {
    let (&[down, count], code) = body.split_first_chunk::<2>()?;
    let lengths = 1..=SCAN_CODE_BYTES_MAX;
    if down > 1 || code.len() != usize::from(count) || !lengths.contains(&code.len()) {
        return None;
    }
    let key = match *code {
        [code] => Scancode::plain(code),
        // Print screen, with the shift that old keyboards put around it.
        [0xe0, 0x2a, 0xe0, code] | [0xe0, code] => Scancode::extended(code),
        [0xe1, 0x1d, 0x45] | [0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5] => Some(Scancode::PAUSE),
        _ => None,
    };
    Some(key.map(|key| ViewerMessage::Key { down: down == 1, key }))
}

/// `u8 kind, u8 flags, u16 reserved`, bytes; the inner `None` is a kind that is not carried over.
fn decode_clipboard(body: &[u8]) -> Option<Option<ViewerMessage>> {
    let (&[kind, flags, _, _], data) = body.split_first_chunk::<CLIPBOARD_FIELDS_BYTES>()?;
    let kind = match kind {
        1 => ClipboardKind::Text,
        2 => ClipboardKind::Png,
        _ => return Some(None),
    };
    let data = Bytes::copy_from_slice(data);
    Some(Some(ViewerMessage::Clipboard(ClipboardPart { kind, more: flags & 1 != 0, data })))
}

/// `u16 width, u16 height`
fn decode_window(body: &[u8]) -> Option<ViewerMessage> {
    let &[w0, w1, h0, h1] = <&[u8; 4]>::try_from(body).ok()?;
    let (width, height) = (u16::from_le_bytes([w0, w1]), u16::from_le_bytes([h0, h1]));
    Some(ViewerMessage::Window { width, height })
}

/// `u8 region, u8 what, u16 reserved`; the inner `None` is something else that it wants.
fn decode_cannot_decode(body: &[u8]) -> Option<Option<ViewerMessage>> {
    let &[region, what, _, _] = <&[u8; 4]>::try_from(body).ok()?;
    let wants = match what {
        1 => VideoWish::Never,
        2 => VideoWish::KeyFrame,
        _ => return Some(None),
    };
    Some(Some(ViewerMessage::CannotDecode { region, wants }))
}

/// `u16 x, u16 y, u8 buttons, u8 reserved`
fn decode_pointer(body: &[u8]) -> Option<ViewerMessage> {
    let &[x0, x1, y0, y1, buttons, _] = <&[u8; 6]>::try_from(body).ok()?;
    Some(ViewerMessage::Pointer {
        x: u16::from_le_bytes([x0, x1]),
        y: u16::from_le_bytes([y0, y1]),
        buttons: Buttons::new(buttons),
    })
}

/// `i16 dx, i16 dy, u8 buttons, u8 reserved`
fn decode_delta(body: &[u8]) -> Option<ViewerMessage> {
    let &[x0, x1, y0, y1, buttons, _] = <&[u8; 6]>::try_from(body).ok()?;
    Some(ViewerMessage::PointerDelta {
        dx: i16::from_le_bytes([x0, x1]),
        dy: i16::from_le_bytes([y0, y1]),
        buttons: Buttons::new(buttons),
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 0, 0, 0];
        bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn check(message: &[u8], expected: Expect) {
        expected.assert_eq(&match decode(message) {
            Ok(records) => format!("{records:?}"),
            Err(malformed) => malformed.to_string(),
        });
    }

    #[test]
    fn the_documented_records_are_read() {
        check(
            &record(65, &[1, 0, 5, 0, 0, 0, 0, 4, 0, 4, 0, 3]),
            expect![
                "[Hello(BrowserHello { webp: true, h264: false, palette: true, opus: false, tile_cache_bytes: 67108864, width: 1024, height: 768 })]"
            ],
        );
        check(
            &record(66, &[1, 2, 0, 0, 10, 0, 0, 0]),
            expect!["[Ack { sequence: 513, draw_time: 10µs }]"],
        );
        check(
            &record(67, &[1, 2, 0xe0, 0x48]),
            expect!["[Key { down: true, key: Scancode(Extended(72)) }]"],
        );
        check(
            &record(68, &[1, 0, 2, 1, 0xff, 0]),
            expect!["[Pointer { x: 1, y: 258, buttons: Buttons(31) }]"],
        );
        check(
            &record(69, &[0xff, 0xff, 1, 0, 1, 0]),
            expect!["[PointerDelta { dx: -1, dy: 1, buttons: Buttons(1) }]"],
        );
        check(&record(70, &[0xfe, 0]), expect!["[Wheel { clicks: -2, buttons: Buttons(0) }]"]);
        check(
            &[record(71, &[]), record(72, &[1, 2, 3, 4, 5, 6, 7, 8]), record(73, &[])].concat(),
            expect!["[ReleaseAll, Ping([1, 2, 3, 4, 5, 6, 7, 8]), Refresh]"],
        );
        check(
            &[record(74, b"\x01\x01\0\0gr"), record(74, &[2, 2, 0, 0]), record(74, &[3, 0, 0, 0])]
                .concat(),
            expect!["[Clipboard(Text of 2 bytes, more follows), Clipboard(Png of 0 bytes)]"],
        );
        check(&record(75, &[0, 5, 1, 2]), expect!["[Window { width: 1280, height: 513 }]"]);
    }

    #[test]
    fn malformed_messages_say_what_is_wrong() {
        check(
            &vec![0; MESSAGE_BYTES_MAX + 1],
            expect!["message of 65537 bytes is longer than 65536; send shorter ones"],
        );
        check(&[71, 0, 0], expect!["message ends inside a record; send whole records"]);
        check(
            &[71, 0, 0, 0, 1, 0, 0, 0],
            expect!["message ends inside a record; send whole records"],
        );
        check(&[72, 0, 0, 0, 0, 0, 1, 0], expect!["record of type 72 is longer than 4096 bytes"]);
        let part = |length| record(74, &[&[1, 0, 0, 0][..], &vec![b'x'; length]].concat());
        check(&part(CLIPBOARD_PART_BYTES_MAX), expect!["[Clipboard(Text of 61440 bytes)]"]);
        check(
            &part(CLIPBOARD_PART_BYTES_MAX + 1),
            expect!["record of type 74 is longer than 61452 bytes"],
        );
        check(
            &record(74, &[1, 0, 0]),
            expect!["record of type 74 has a malformed body of 3 bytes"],
        );
        check(&record(75, &[1, 0]), expect!["record of type 75 has a malformed body of 2 bytes"]);
        check(
            &[71, 0, 1, 0, 0, 0, 0, 0],
            expect!["record of type 71 has a malformed body of 0 bytes"],
        );
        check(&record(1, &[]), expect!["record type 1 is not one a browser sends"]);
        check(&record(67, &[1, 0]), expect!["record of type 67 has a malformed body of 2 bytes"]);
        check(
            &record(67, &[1, 7, 1, 2, 3, 4, 5, 6, 7]),
            expect!["record of type 67 has a malformed body of 9 bytes"],
        );
        check(
            &record(67, &[2, 1, 1]),
            expect!["record of type 67 has a malformed body of 3 bytes"],
        );
        check(
            &record(65, &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            expect!["protocol version 2 is not spoken here, only 1; reload the page"],
        );
    }

    #[test]
    fn records_of_an_unknown_view_are_dropped() {
        let mut bytes = record(71, &[]);
        bytes[1] = 3;
        assert_eq!(decode(&bytes), Ok(Vec::new()));
    }

    #[test]
    fn keys_that_no_guest_knows_are_dropped_and_the_long_ones_are_known() {
        let keys = |code: &[u8]| {
            let count = u8::try_from(code.len()).unwrap();
            decode(&record(67, &[&[1, count], code].concat())).unwrap()
        };
        assert_eq!(keys(&[0xf2]), []);
        assert_eq!(keys(&[0xe0, 0xe0]), []);
        let down = |key| [ViewerMessage::Key { down: true, key }];
        assert_eq!(keys(&[0xe1, 0x1d, 0x45]), down(Scancode::PAUSE));
        assert_eq!(keys(&[0xe0, 0x2a, 0xe0, 0x37]), down(Scancode::extended(0x37).unwrap()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(
            message in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _outcome = decode(&message);
        }

        #[test]
        fn no_body_makes_the_decoder_panic(
            kind in 60_u8..90,
            body in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let outcome = decode(&record(kind, &body));
            prop_assert!(outcome.is_err() || outcome.unwrap().len() <= 1);
        }
    }
}
