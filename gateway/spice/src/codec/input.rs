//! Reading packed images, never beyond their end; numbers in LZ, GLZ and LZ4 are big endian.

use crate::error::SpiceError;

/// What is left of a packed image.
#[derive(Clone, Debug)]
pub(super) struct Input<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Input<'a> {
    /// Reads `packed`, named `what` in errors, from its start.
    pub(super) const fn new(packed: &'a [u8], what: &'static str) -> Self {
        Self { rest: packed, what }
    }

    pub(super) const fn what(&self) -> &'static str {
        self.what
    }

    /// Bytes that are left.
    pub(super) const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// An error about what is being read.
    pub(super) const fn malformed(&self, problem: &'static str) -> SpiceError {
        SpiceError::Malformed { what: self.what, problem }
    }

    pub(super) const fn truncated(&self) -> SpiceError {
        SpiceError::Truncated { what: self.what }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], SpiceError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(|| self.truncated())?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], SpiceError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| self.truncated())?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, SpiceError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, SpiceError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, SpiceError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, SpiceError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A length's continuation: bytes to add up, of which the first that is not 255 is the last.
    pub(super) fn extension(&mut self) -> Result<usize, SpiceError> {
        let mut sum = 0_usize;
        loop {
            let byte = self.u8()?;
            sum = sum.saturating_add(usize::from(byte));
            if byte != 255 {
                return Ok(sum);
            }
        }
    }
}
