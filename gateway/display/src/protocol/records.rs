//! How records lie in a message: each a header of type, view and length, then its body.

use super::FIRST_VIEW;

/// Bytes before the body of a record: type, view, reserved, length.
pub const HEADER_BYTES: usize = 8;

/// A state that a viewer is told; a newer one of its kind replaces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldState {
    pub(crate) kind: u8,
    pub(crate) record: Vec<u8>,
}

impl ToldState {
    pub(super) fn new(kind: u8, body: &[u8]) -> Self {
        let mut record = Vec::with_capacity(HEADER_BYTES + body.len());
        put_record(&mut record, kind, |out| out.extend_from_slice(body));
        Self { kind, record }
    }
}

/// Types and bodies of the records of a message; one that is cut off ends them.
pub fn records(message: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = message;
    std::iter::from_fn(move || {
        let (&[kind, _, _, _, a, b, c, d], after) = rest.split_first_chunk::<HEADER_BYTES>()?;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
        let (body, next) = after.split_at_checked(length)?;
        rest = next;
        Some((kind, body))
    })
}

/// Appends a record whose body `write_body` appends.
pub(super) fn put_record(out: &mut Vec<u8>, kind: u8, write_body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[kind, FIRST_VIEW, 0, 0, 0, 0, 0, 0]);
    let body = out.len();
    write_body(out);
    // A body is a picture of at most 65535 by 65535 pixels cut into images of bounded size, or less.
    let length = u32::try_from(out.len() - body).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(start + 4..body) {
        field.copy_from_slice(&length.to_le_bytes());
    }
}
