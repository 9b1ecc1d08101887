//! Reads the header of a qcow2 image (QEMU, docs/interop/qcow2.txt) without opening what it names.
//!
//! `qemu-img` follows a hostile image's references; these checks come before it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

const MAGIC: u32 = 0x5146_49fb;
/// Bytes of a version 3 header up to and with `incompatible_features`.
const HEADER_BYTES: usize = 80;
/// Bit of `incompatible_features`: the data lies in another file.
const EXTERNAL_DATA_FILE: u64 = 1 << 2;
/// "The backing file name ... must not be longer than 1023 bytes".
const BACKING_NAME_BYTES_MAX: u32 = 1023;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The file below, as it is written in the image.
    pub(super) backing: Option<String>,
    /// Size of the disk that the guest sees.
    pub(super) disk_bytes: u64,
}

/// Reads the header of `path`. The inner result is what is wrong with the image.
pub(super) fn read_header(path: &Path) -> io::Result<Result<Header, String>> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    file.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut bytes)?;
    let (offset, length, disk_bytes) = match parse(&bytes) {
        Ok(fields) => fields,
        Err(text) => return Ok(Err(text)),
    };
    if offset == 0 {
        return Ok(Ok(Header { backing: None, disk_bytes }));
    }
    let mut name = Vec::new();
    file.seek(SeekFrom::Start(offset))?;
    file.take(u64::from(length)).read_to_end(&mut name)?;
    Ok(String::from_utf8(name)
        .map(|name| Header { backing: Some(name), disk_bytes })
        .map_err(|_| "the name of its backing file is not UTF-8".to_owned()))
}

/// Offset and length of the backing file's name (0: none) and the disk's size.
fn parse(bytes: &[u8]) -> Result<(u64, u32, u64), String> {
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    };
    let long = |at: usize| -> Option<u64> {
        Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
    };
    let too_short = || "it is too short for a qcow2 image".to_owned();
    if word(0) != Some(MAGIC) {
        return Err("it is not a qcow2 image".to_owned());
    }
    let version = word(4).ok_or_else(too_short)?;
    let offset = long(8).ok_or_else(too_short)?;
    let length = word(16).ok_or_else(too_short)?;
    let disk_bytes = long(24).ok_or_else(too_short)?;
    let encryption = word(32).ok_or_else(too_short)?;
    let features = if version < 3 { 0 } else { long(72).ok_or_else(too_short)? };
    if !(2..=3).contains(&version) {
        return Err(format!("qcow2 version {version} is not known"));
    }
    if encryption != 0 {
        return Err("it is encrypted".to_owned());
    }
    if features & EXTERNAL_DATA_FILE != 0 {
        return Err("its data lies in another file".to_owned());
    }
    if offset != 0 && BACKING_NAME_BYTES_MAX < length {
        return Err("the name of its backing file is too long".to_owned());
    }
    Ok((offset, length, disk_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC.to_be_bytes());
        bytes[7] = 3;
        bytes[24..32].copy_from_slice(&(16_u64 << 20).to_be_bytes());
        bytes
    }

    #[test]
    fn a_plain_image_has_a_size_and_nothing_below() {
        assert_eq!(parse(&header()), Ok((0, 0, 16 << 20)));
    }

    #[test]
    fn an_image_that_reaches_other_files_or_is_cut_is_refused() {
        let mut external = header();
        external[79] = 4;
        assert_eq!(parse(&external).unwrap_err(), "its data lies in another file");
        let mut encrypted = header();
        encrypted[35] = 1;
        assert_eq!(parse(&encrypted).unwrap_err(), "it is encrypted");
        for length in 0..HEADER_BYTES {
            assert!(parse(&header()[..length]).is_err(), "{length}");
        }
    }
}
