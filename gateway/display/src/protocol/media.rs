//! Records of sound, microphone and files, in both directions (`docs/display-protocol.md`, "Sound",
//! "Microphone", "Files").

use std::fmt;

use bytes::Bytes;
use vidi_spice::{FileFailure, SoundCodec, SoundForm};

use super::ToldState;
use super::records::put_record;

/// Longest part of a file in one record, from the document.
pub(super) const FILE_PART_BYTES_MAX: usize = 60 * 1024;
/// Longest name of a file, from the document.
const NAME_BYTES_MAX: usize = 1024;
/// `u8 what`, 3 bytes reserved, `u32 file` before what a file's record carries.
pub(super) const FILE_FIELDS_BYTES: usize = 8;

/// Types of the records.
const SOUND: u8 = 20;
const SOUND_STATE: u8 = 21;
const MICROPHONE: u8 = 22;
const TRANSFER: u8 = 23;

/// Record 77 of a browser.
#[derive(Clone, PartialEq, Eq)]
pub enum FileMessage {
    /// A file is to be put into the guest.
    Start {
        /// The browser's number for it.
        file: u32,
        /// Its length in bytes.
        size: u64,
        /// What to call it.
        name: String,
    },
    /// Its next bytes.
    Data {
        /// Which.
        file: u32,
        /// The bytes.
        data: Bytes,
    },
    /// The person gives it up.
    Cancel {
        /// Which.
        file: u32,
    },
}

impl fmt::Debug for FileMessage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { file, size, .. } => write!(formatter, "file {file} of {size} bytes"),
            Self::Data { file, data } => write!(formatter, "{} bytes of file {file}", data.len()),
            Self::Cancel { file } => write!(formatter, "file {file} is given up"),
        }
    }
}

/// Record 78 of a browser: what its microphone heard. It is shown in no log.
#[derive(Clone, PartialEq, Eq)]
pub enum Speech {
    /// It is switched off.
    Off,
    /// Samples of one channel, 16 bits, little endian.
    Samples(Bytes),
}

impl fmt::Debug for Speech {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => formatter.write_str("off"),
            Self::Samples(samples) => write!(formatter, "{} bytes", samples.len()),
        }
    }
}

/// How a file gets on, as record 23 tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransferState {
    /// 1: the browser may send as far as `room`.
    Open { taken: u64, room: u64 },
    /// 2: it is whole in the guest.
    Done { size: u64 },
    /// 3: it is not.
    Failed { taken: u64, why: Denial },
}

/// Why a file does not come into the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    /// The guest, or the way to it.
    Guest(FileFailure),
    /// 5: it is not allowed.
    Policy,
}

impl Denial {
    /// The reason's number, and the room on the guest's disk.
    const fn numbers(self) -> (u8, u64) {
        match self {
            Self::Guest(FileFailure::NoRoom(free)) => (1, free),
            Self::Guest(FileFailure::NobodyThere) => (2, 0),
            Self::Guest(FileFailure::Locked) => (3, 0),
            Self::Guest(FileFailure::Disabled) => (4, 0),
            Self::Policy => (5, 0),
            Self::Guest(FileFailure::TooMany) => (6, 0),
            Self::Guest(FileFailure::AgentGone) => (7, 0),
            Self::Guest(FileFailure::Broken) => (8, 0),
            Self::Guest(FileFailure::Cancelled) => (9, 0),
        }
    }
}

/// Record 20.
pub(crate) fn sound(form: SoundForm, codec: SoundCodec, time: u32, data: &[u8]) -> Bytes {
    let codec = match codec {
        SoundCodec::Opus => 1,
        SoundCodec::Pcm => 2,
    };
    let mut record = Vec::new();
    put_record(&mut record, SOUND, |out| {
        out.extend_from_slice(&[codec, form.channels, 0, 0]);
        out.extend_from_slice(&form.rate.to_le_bytes());
        out.extend_from_slice(&time.to_le_bytes());
        out.extend_from_slice(data);
    });
    record.into()
}

/// Record 21.
pub(crate) fn sound_state(is_playing: bool, is_muted: bool, volume: u16) -> ToldState {
    let [low, high] = volume.to_le_bytes();
    ToldState::new(SOUND_STATE, &[is_playing.into(), is_muted.into(), low, high])
}

/// Record 22.
pub(crate) fn microphone(wanted: Option<SoundForm>, is_heard: bool) -> ToldState {
    let mut body = vec![wanted.is_some().into(), is_heard.into(), 0, 0];
    body.extend_from_slice(&wanted.map_or(0, |form| form.rate).to_le_bytes());
    ToldState::new(MICROPHONE, &body)
}

/// Record 23.
pub(crate) fn put_transfer(file: u32, state: TransferState, out: &mut Vec<u8>) {
    let (number, reason, taken, room) = match state {
        TransferState::Open { taken, room } => (1, 0, taken, room),
        TransferState::Done { size } => (2, 0, size, size),
        TransferState::Failed { taken, why } => {
            let (reason, free) = why.numbers();
            (3, reason, taken, free)
        }
    };
    put_record(out, TRANSFER, |out| {
        out.extend_from_slice(&file.to_le_bytes());
        out.extend_from_slice(&[number, reason, 0, 0]);
        out.extend_from_slice(&taken.to_le_bytes());
        out.extend_from_slice(&room.to_le_bytes());
    });
}

/// `u8 what`, 3 bytes reserved, `u32 file`, then by `what`; the inner `None` is something else that it
/// wants.
pub(super) fn decode_file(body: &[u8]) -> Option<Option<FileMessage>> {
    let (&[what, _, _, _, a, b, c, d], rest) = body.split_first_chunk::<FILE_FIELDS_BYTES>()?;
    let file = u32::from_le_bytes([a, b, c, d]);
    Some(Some(match what {
        1 => {
            let (size, name) = rest.split_first_chunk::<8>()?;
            if NAME_BYTES_MAX < name.len() {
                return None;
            }
            let name = std::str::from_utf8(name).ok()?.to_owned();
            FileMessage::Start { file, size: u64::from_le_bytes(*size), name }
        }
        2 => FileMessage::Data { file, data: Bytes::copy_from_slice(rest) },
        3 if rest.is_empty() => FileMessage::Cancel { file },
        3 => return None,
        _ => return Some(None),
    }))
}

/// `u8 what`, 3 bytes reserved, then samples; the inner `None` is something else that it wants.
pub(super) fn decode_speech(body: &[u8]) -> Option<Option<Speech>> {
    let (&[what, _, _, _], samples) = body.split_first_chunk::<4>()?;
    match what {
        0 if samples.is_empty() => Some(Some(Speech::Off)),
        1 if samples.len() % 2 == 0 => Some(Some(Speech::Samples(Bytes::copy_from_slice(samples)))),
        0 | 1 => None,
        _ => Some(None),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(bytes: &[u8], expected: Expect) {
        let words: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        expected.assert_eq(&words.join(" "));
    }

    #[test]
    fn the_gateways_records_have_the_documented_bytes() {
        let form = SoundForm { channels: 2, rate: 48_000 };
        check(
            &sound(form, SoundCodec::Opus, 0x0102, b"ab"),
            expect!["14 00 00 00 0e 00 00 00 01 02 00 00 80 bb 00 00 02 01 00 00 61 62"],
        );
        check(
            &sound_state(true, false, 0xff01).record,
            expect!["15 00 00 00 04 00 00 00 01 00 01 ff"],
        );
        check(
            &microphone(Some(form), true).record,
            expect!["16 00 00 00 08 00 00 00 01 01 00 00 80 bb 00 00"],
        );
        check(
            &microphone(None, false).record,
            expect!["16 00 00 00 08 00 00 00 00 00 00 00 00 00 00 00"],
        );
        let transfer = |state| {
            let mut out = Vec::new();
            put_transfer(7, state, &mut out);
            out
        };
        check(
            &transfer(TransferState::Open { taken: 1, room: 0x0004_0001 }),
            expect![
                "17 00 00 00 18 00 00 00 07 00 00 00 01 00 00 00 01 00 00 00 00 00 00 00 01 00 04 00 00 00 00 00"
            ],
        );
        check(
            &transfer(TransferState::Failed {
                taken: 2,
                why: Denial::Guest(FileFailure::NoRoom(9)),
            }),
            expect![
                "17 00 00 00 18 00 00 00 07 00 00 00 03 01 00 00 02 00 00 00 00 00 00 00 09 00 00 00 00 00 00 00"
            ],
        );
        check(
            &transfer(TransferState::Done { size: 5 }),
            expect![
                "17 00 00 00 18 00 00 00 07 00 00 00 02 00 00 00 05 00 00 00 00 00 00 00 05 00 00 00 00 00 00 00"
            ],
        );
    }

    #[test]
    fn the_browsers_records_are_read() {
        let start =
            [&[1, 0, 0, 0, 7, 0, 0, 0][..], &5_000_000_000_u64.to_le_bytes(), b"a"].concat();
        let name = "a".to_owned();
        assert_eq!(
            decode_file(&start),
            Some(Some(FileMessage::Start { file: 7, size: 5_000_000_000, name }))
        );
        assert_eq!(format!("{:?}", decode_file(&start)), "Some(Some(file 7 of 5000000000 bytes))");
        let data = Bytes::from_static(b"xy");
        assert_eq!(
            decode_file(b"\x02\0\0\0\x07\0\0\0xy"),
            Some(Some(FileMessage::Data { file: 7, data }))
        );
        assert_eq!(
            decode_file(b"\x03\0\0\0\x07\0\0\0"),
            Some(Some(FileMessage::Cancel { file: 7 }))
        );
        assert_eq!(decode_file(b"\x09\0\0\0\x07\0\0\0"), Some(None), "a wish of later");
        for malformed in
            [&b""[..], b"\x01\0\0\0\x07\0\0", b"\x01\0\0\0\x07\0\0\0\0", b"\x03\0\0\0\x07\0\0\0x"]
        {
            assert_eq!(decode_file(malformed), None);
        }
        let bad_name = [&start[..], b"\xff"].concat();
        assert_eq!(decode_file(&bad_name), None);
        let long = [&start[..], &[b'x'; NAME_BYTES_MAX]].concat();
        assert_eq!(decode_file(&long), None);
        assert_eq!(decode_speech(b"\0\0\0\0"), Some(Some(Speech::Off)));
        let samples = Bytes::from_static(b"abcd");
        assert_eq!(decode_speech(b"\x01\0\0\0abcd"), Some(Some(Speech::Samples(samples))));
        assert_eq!(decode_speech(b"\x05\0\0\0"), Some(None));
        for malformed in [&b"\x01\0\0"[..], b"\0\0\0\0a", b"\x01\0\0\0abc"] {
            assert_eq!(decode_speech(malformed), None);
        }
    }
}
