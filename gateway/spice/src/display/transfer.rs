//! How images are to travel from the server: what the client's part of it is to say
//! (`spice.proto`, `init`, `preferred_compression`).

use bytes::BufMut;

use crate::codec::dictionary::GlzDictionary;
use crate::link::Capabilities;

use super::cache;

/// `SPICE_DISPLAY_CAP_MONITORS_CONFIG`
const CAPABILITY_MONITORS_CONFIG: u32 = 1;
/// `SPICE_DISPLAY_CAP_LZ4_COMPRESSION`
const CAPABILITY_LZ4: u32 = 5;
/// `SPICE_DISPLAY_CAP_PREF_COMPRESSION`
pub(super) const CAPABILITY_PREFERRED_COMPRESSION: u32 = 6;
/// `SPICE_DISPLAY_CAP_MULTI_CODEC`; together with no codec: no video streams.
const CAPABILITY_MULTI_CODEC: u32 = 8;
/// Of our own: messages of a relay may come between the server's. Servers do not know it.
pub(super) const CAPABILITY_BESIDE: u32 = 31;
/// Window of a GLZ dictionary that no image fits into, so that none uses it.
const NO_WINDOW_PIXELS: u32 = 1;
/// Our number for the GLZ dictionary at the server: one for all display channels of a session.
const DICTIONARY: u8 = 1;

/// How images travel from the server; every display channel of a session gets a clone of one.
#[derive(Clone, Debug)]
pub struct ImageTransfer {
    /// What to ask the server for; `None` leaves it to its own configuration.
    pub compression: Option<Compression>,
    /// The images that GLZ images refer to.
    pub dictionary: GlzDictionary,
}

/// How a server compresses images (`enums.h`, `SpiceImageCompression`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// 1: not at all.
    Off,
    /// 2: QUIC for photographs, GLZ for all else.
    AutoGlz,
    /// 3: QUIC for photographs, LZ for all else.
    AutoLz,
    /// 4
    Quic,
    /// 5
    Glz,
    /// 6
    Lz,
    /// 7
    Lz4,
}

impl ImageTransfer {
    /// For a server on the same host, or behind a relay that compresses: images come as they are.
    pub fn uncompressed() -> Self {
        let dictionary = GlzDictionary::new(NO_WINDOW_PIXELS);
        Self { compression: Some(Compression::Off), dictionary }
    }

    pub(super) fn capabilities() -> Capabilities {
        Capabilities::of(&[
            CAPABILITY_MONITORS_CONFIG,
            CAPABILITY_LZ4,
            CAPABILITY_PREFERRED_COMPRESSION,
            CAPABILITY_MULTI_CODEC,
            CAPABILITY_BESIDE,
        ])
    }

    /// `init`: cache id u8, cache size in pixels i64, dictionary id u8, its window in pixels i32.
    pub(super) fn init(&self, cache_id: u8) -> Vec<u8> {
        let mut init = Vec::with_capacity(14);
        init.put_u8(cache_id);
        init.put_u64_le(cache::PIXMAP_CACHE_PIXELS);
        init.put_u8(DICTIONARY);
        init.put_u32_le(self.dictionary.window_pixels());
        init
    }
}

impl Compression {
    /// `SpiceImageCompression`
    pub const fn number(self) -> u8 {
        match self {
            Self::Off => 1,
            Self::AutoGlz => 2,
            Self::AutoLz => 3,
            Self::Quic => 4,
            Self::Glz => 5,
            Self::Lz => 6,
            Self::Lz4 => 7,
        }
    }
}
