//! The cursor channel: shape and place of the pointer (`spice.proto`, `CursorChannel`).

mod shape;

use std::collections::BTreeMap;

pub use shape::{CURSOR_SIDE_MAX, CursorShape};

use crate::channel::{Channel, CommonEvent, Message, too_large};
use crate::delegate::delegate_to_channel;
use crate::error::SpiceError;
use crate::geometry::Point;
use crate::link::{Capabilities, ChannelKind, LinkSetup};
use crate::unsupported::{Feature, Unsupported};
use crate::wire::Reader;

/// Shapes that are kept; spice-server keeps 256 (`CLIENT_CURSOR_CACHE_SIZE`).
const SHAPES_MAX: usize = 512;
/// Bytes of all shapes that are kept: 256 of the usual 64 x 64, or 16 of the largest.
const SHAPE_BYTES_MAX: usize = 16 << 20;

/// `SPICE_CURSOR_FLAGS_NONE`
const FLAG_NONE: u16 = 1;
/// `SPICE_CURSOR_FLAGS_CACHE_ME`
const FLAG_CACHE_ME: u16 = 2;
/// `SPICE_CURSOR_FLAGS_FROM_CACHE`
const FLAG_FROM_CACHE: u16 = 4;

/// `SPICE_MSG_CURSOR_*`
mod server {
    pub(super) const INIT: u16 = 101;
    pub(super) const RESET: u16 = 102;
    pub(super) const SET: u16 = 103;
    pub(super) const MOVE: u16 = 104;
    pub(super) const HIDE: u16 = 105;
    pub(super) const TRAIL: u16 = 106;
    pub(super) const INVAL_ONE: u16 = 107;
    pub(super) const INVAL_ALL: u16 = 108;
}

/// A cursor channel connection.
#[derive(Debug)]
pub struct CursorChannel {
    channel: Channel,
    shapes: BTreeMap<u64, CursorShape>,
}

/// What the cursor channel tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorEvent {
    /// Something that any channel may tell.
    Common(CommonEvent),
    /// The pointer is this from now on.
    Set {
        /// Where its hot spot is; matters in server mouse mode only.
        position: Point,
        /// Whether it is shown.
        visible: bool,
        /// Its shape; `None` means no pointer at all.
        shape: Option<CursorShape>,
    },
    /// The pointer was moved by the guest, and is shown.
    Moved(Point),
    /// The pointer is hidden until it moves or is set.
    Hidden,
    /// The pointer is gone until it is set.
    Reset,
    /// The pointer is to leave a trail.
    Trail {
        /// Pictures in the trail.
        length: u16,
        /// How often, in the guest's unit (milliseconds).
        frequency: u16,
    },
}

delegate_to_channel!(CursorChannel, CursorEvent);

impl CursorChannel {
    /// A cursor channel that begins to link.
    pub fn new(setup: LinkSetup) -> Self {
        Self::over(Channel::new(ChannelKind::Cursor, Capabilities::default(), setup))
    }

    pub(crate) const fn over(channel: Channel) -> Self {
        Self { channel, shapes: BTreeMap::new() }
    }

    fn handle(&mut self, message: &Message) -> Result<Option<CursorEvent>, SpiceError> {
        let mut reader = Reader::new(&message.body, "cursor message");
        Ok(Some(match message.kind {
            server::INIT => {
                self.shapes.clear();
                let position = reader.point16()?;
                let (_trail_length, _trail_frequency) = (reader.u16()?, reader.u16()?);
                self.set(position, &mut reader)?
            }
            server::SET => {
                let position = reader.point16()?;
                self.set(position, &mut reader)?
            }
            server::MOVE => CursorEvent::Moved(reader.point16()?),
            server::HIDE => CursorEvent::Hidden,
            server::RESET => {
                self.shapes.clear();
                CursorEvent::Reset
            }
            server::TRAIL => CursorEvent::Trail { length: reader.u16()?, frequency: reader.u16()? },
            server::INVAL_ONE => {
                self.shapes.remove(&reader.u64()?);
                return Ok(None);
            }
            server::INVAL_ALL => {
                self.shapes.clear();
                return Ok(None);
            }
            other => unsupported(Feature::Message(other)),
        }))
    }

    /// visible u8, then `Cursor`: flags u16, header unless NONE (id u64, type u8, width u16,
    /// height u16, hot spot u16 twice), data to the end.
    fn set(&mut self, position: Point, reader: &mut Reader<'_>) -> Result<CursorEvent, SpiceError> {
        let visible = reader.u8()? != 0;
        let flags = reader.u16()?;
        if flags & FLAG_NONE != 0 {
            return Ok(CursorEvent::Set { position, visible, shape: None });
        }
        let (id, kind) = (reader.u64()?, reader.u8()?);
        let size = [reader.u16()?, reader.u16()?];
        let hot_spot = [reader.u16()?, reader.u16()?];
        if flags & FLAG_FROM_CACHE != 0 {
            return Ok(match self.shapes.get(&id) {
                Some(shape) => CursorEvent::Set { position, visible, shape: Some(shape.clone()) },
                None => unsupported(Feature::UncachedImage(id)),
            });
        }
        let shape = shape::decode(kind, size, hot_spot, &reader.rest())?;
        if flags & FLAG_CACHE_ME != 0 {
            self.keep(id, &shape)?;
        }
        Ok(CursorEvent::Set { position, visible, shape: Some(shape) })
    }

    fn keep(&mut self, id: u64, shape: &CursorShape) -> Result<(), SpiceError> {
        self.shapes.insert(id, shape.clone());
        let bytes: usize = self.shapes.values().map(|shape| shape.rgba.len()).sum();
        for (what, value, limit) in [
            ("number of cached pointers", self.shapes.len(), SHAPES_MAX),
            ("cached pointers in bytes", bytes, SHAPE_BYTES_MAX),
        ] {
            if value > limit {
                return Err(too_large(what, u64::try_from(value).unwrap_or(u64::MAX), limit));
            }
        }
        Ok(())
    }
}

const fn unsupported(feature: Feature) -> CursorEvent {
    CursorEvent::Common(CommonEvent::Unsupported(Unsupported::nowhere(feature)))
}

#[cfg(test)]
mod tests;
