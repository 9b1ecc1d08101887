//! Reading the fields of one message, never beyond its end.

use bytes::Bytes;

use crate::error::SpiceError;
use crate::geometry::{Point, Rect};

/// A place in a message body. Pointers in `spice.proto` (`*field`, `@ptr`) are u32 offsets from
/// the start of the body, 0 meaning none.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    body: &'a Bytes,
    at: usize,
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads `body`, named `what` in errors, from its start.
    pub(crate) const fn new(body: &'a Bytes, what: &'static str) -> Self {
        Self { body, at: 0, what }
    }

    /// Reads the same body from `offset`, naming what is there `what`.
    pub(crate) fn at(&self, offset: u32, what: &'static str) -> Result<Self, SpiceError> {
        match usize::try_from(offset) {
            Ok(at) if at <= self.body.len() => Ok(Self { body: self.body, at, what }),
            _ => Err(SpiceError::Malformed { what, problem: "its offset is outside the message" }),
        }
    }

    /// An error about what is being read.
    pub(crate) const fn malformed(&self, problem: &'static str) -> SpiceError {
        SpiceError::Malformed { what: self.what, problem }
    }

    /// Bytes that are left.
    pub(crate) const fn remaining(&self) -> usize {
        self.body.len().saturating_sub(self.at)
    }

    /// The next `count` bytes, sharing the message's memory.
    pub(crate) fn bytes(&mut self, count: usize) -> Result<Bytes, SpiceError> {
        if count > self.remaining() {
            return Err(SpiceError::Truncated { what: self.what });
        }
        let start = self.at;
        self.at += count;
        Ok(self.body.slice(start..self.at))
    }

    /// All bytes that are left, sharing the message's memory.
    pub(crate) fn rest(&mut self) -> Bytes {
        let start = self.at.min(self.body.len());
        self.at = self.body.len();
        self.body.slice(start..)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], SpiceError> {
        let field = self.body.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        match field {
            Some(field) => {
                self.at += N;
                Ok(*field)
            }
            None => Err(SpiceError::Truncated { what: self.what }),
        }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, SpiceError> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, SpiceError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, SpiceError> {
        self.array().map(i16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, SpiceError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, SpiceError> {
        self.array().map(i32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, SpiceError> {
        self.array().map(u64::from_le_bytes)
    }

    /// u32 offset; `None` for 0.
    pub(crate) fn pointer(&mut self) -> Result<Option<u32>, SpiceError> {
        Ok(Some(self.u32()?).filter(|offset| *offset != 0))
    }

    /// `spice.proto`, `Point`: i32 x, i32 y.
    pub(crate) fn point(&mut self) -> Result<Point, SpiceError> {
        Ok(Point { x: self.i32()?, y: self.i32()? })
    }

    /// `spice.proto`, `Point16`: i16 x, i16 y.
    pub(crate) fn point16(&mut self) -> Result<Point, SpiceError> {
        Ok(Point { x: i32::from(self.i16()?), y: i32::from(self.i16()?) })
    }

    /// `spice.proto`, `Rect`: i32 top, i32 left, i32 bottom, i32 right.
    pub(crate) fn rect(&mut self) -> Result<Rect, SpiceError> {
        let (top, left) = (self.i32()?, self.i32()?);
        let (bottom, right) = (self.i32()?, self.i32()?);
        Ok(Rect { left, top, right, bottom })
    }
}
