//! The zlib stream around a GLZ image (spice-gtk, `decode-zlib.c`).

use std::io::Read;

use bytes::Bytes;
use flate2::bufread::ZlibDecoder;

use super::check_expansion;
use crate::error::SpiceError;

const WHAT: &str = "zlib image";
/// Bytes that one byte of deflate can make at most (zlib's own figure is 1032).
const BYTES_PER_BYTE_MAX: usize = 1040;

/// The stream's `size` bytes, no more and no fewer.
pub(crate) fn unpack(packed: &[u8], size: u32) -> Result<Bytes, SpiceError> {
    let wanted = usize::try_from(size).unwrap_or(usize::MAX);
    check_expansion(WHAT, packed.len(), wanted, BYTES_PER_BYTE_MAX)?;
    let mut out = Vec::new();
    let read = ZlibDecoder::new(packed).take(u64::from(size)).read_to_end(&mut out);
    match read {
        Ok(count) if count == wanted => Ok(out.into()),
        Ok(_) => Err(SpiceError::Truncated { what: WHAT }),
        Err(_) => Err(SpiceError::Malformed { what: WHAT, problem: "its zlib stream is damaged" }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_stream_gives_as_many_bytes_as_it_announces() {
        let bytes = b"wide windows with wide walls, wide windows".repeat(9);
        let mut encoder =
            flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&bytes).unwrap();
        let packed = encoder.finish().unwrap();
        let size = u32::try_from(bytes.len()).unwrap();
        assert_eq!(unpack(&packed, size).unwrap(), bytes);
        assert!(unpack(&packed, size + 1).is_err());
        assert!(unpack(&packed[..packed.len() / 2], size).is_err());
        assert!(unpack(b"not deflated", 9).is_err());
        assert_eq!(unpack(&packed, u32::MAX), Err(SpiceError::Truncated { what: WHAT }));
    }
}
