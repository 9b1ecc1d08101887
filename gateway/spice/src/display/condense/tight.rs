//! Bitmaps without what lies beside them. A guest's driver may hand over whole lines of the screen, of which
//! the picture is a part (Linux's qxl does): for a letter the server then sends ten times its pixels.

use bytes::{BufMut, Bytes, BytesMut};

use crate::channel::{HEADER_BYTES, put_mini_header};
use crate::wire::Reader;

use super::super::draw::Base;
use super::super::image::{TOP_DOWN, kind as image};
use super::super::numbers::server;
use super::effect::BITMAP_HEAD_BYTES;

/// Place of the stride in `ImageDescriptor` with its bitmap: behind descriptor, format, flags, columns, rows.
const STRIDE: usize = 18 + 2 + 8;

/// The same message with rows as long as the picture is wide; none where they are, or where it is no copy of
/// a bitmap of 32 bits a pixel that is the last in its message.
pub(super) fn tightened(message: &Bytes) -> Option<Bytes> {
    let [low, high, _size @ ..] = message.first_chunk::<HEADER_BYTES>()?;
    if u16::from_le_bytes([*low, *high]) != server::DRAW_COPY {
        return None;
    }
    let body = message.slice(HEADER_BYTES..);
    let (data_at, row, stride) = rows(&body)?;
    let (head, data) = body.split_at_checked(data_at)?;
    let height = data.len() / stride;
    let mut tight = BytesMut::with_capacity(HEADER_BYTES + data_at + row * height);
    put_mini_header(server::DRAW_COPY, data_at + row * height, &mut tight);
    tight.put_slice(head);
    let field = HEADER_BYTES + data_at - BITMAP_HEAD_BYTES + STRIDE;
    let row_field = u32::try_from(row).ok()?;
    tight.get_mut(field..field + 4)?.copy_from_slice(&row_field.to_le_bytes());
    data.chunks_exact(stride).for_each(|line| tight.put_slice(line.get(..row).unwrap_or_default()));
    Some(tight.freeze())
}

/// Where the bitmap's rows begin, how many bytes of each are the picture's, and how many each has: more.
fn rows(body: &Bytes) -> Option<(usize, usize, usize)> {
    let mut reader = Reader::new(body, "copy");
    Base::read(&mut reader).ok()?;
    let source = reader.pointer().ok()??;
    // Area, operation, scale mode, mask: flags, position, picture.
    reader.bytes(16 + 2 + 1 + 1 + 8).ok()?;
    if reader.pointer().ok()?.is_some() {
        return None;
    }
    let fields = body.len() - reader.remaining();
    let mut image = reader.at(source, "image").ok()?;
    let (_id, kind, _flags) = (image.u64().ok()?, image.u8().ok()?, image.u8().ok()?);
    let (width, height) = (image.u32().ok()?, image.u32().ok()?);
    if kind != image::BITMAP {
        return None;
    }
    let (format, flags) = (image.u8().ok()?, image.u8().ok()?);
    let sides = (image.u32().ok()?, image.u32().ok()?);
    let (stride, palette) = (image.u32().ok()?, image.u32().ok()?);
    let plain = matches!(format, 8 | 9) && flags & !TOP_DOWN == 0 && palette == 0;
    let (row, stride) =
        (usize::try_from(width).ok()?.checked_mul(4)?, usize::try_from(stride).ok()?);
    let whole = stride.checked_mul(usize::try_from(height).ok()?)?;
    let fits = sides == (width, height) && 0 < row && row < stride && whole == image.remaining();
    // What is written anew is nothing of the copy's own.
    let fits = fits && usize::try_from(source).is_ok_and(|source| fields <= source);
    (plain && fits).then(|| (body.len() - whole, row, stride))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `draw_copy` of a bitmap of 3 x 2 whose rows have so many bytes, and so many more behind.
    fn copy(stride: u32, format: u8, behind: usize) -> Bytes {
        let mut body = BytesMut::new();
        let put = |body: &mut BytesMut, words: &[u32]| {
            words.iter().for_each(|word| body.put_u32_le(*word));
        };
        // Surface, target, one clip, pointer to the image, area.
        put(&mut body, &[0, 10, 20, 12, 23]);
        body.put_u8(1);
        put(&mut body, &[1, 10, 20, 12, 23, 21 + 20 + 36, 0, 0, 2, 3]);
        body.put_slice(&[8, 0, 0]);
        body.put_bytes(0, 13);
        body.put_u64_le(7);
        body.put_slice(&[image::BITMAP, 1]);
        put(&mut body, &[3, 2]);
        body.put_slice(&[format, TOP_DOWN]);
        put(&mut body, &[3, 2, stride, 0]);
        for line in 0..2_u8 {
            body.put_bytes(line + 1, 12);
            body.put_bytes(0xee, usize::try_from(stride).unwrap() - 12);
        }
        body.put_bytes(9, behind);
        let mut message = BytesMut::new();
        put_mini_header(server::DRAW_COPY, body.len(), &mut message);
        message.put_slice(&body);
        message.freeze()
    }

    #[test]
    fn what_lies_beside_a_picture_is_left_out() {
        let tight = copy(12, 8, 0);
        assert_eq!(tightened(&copy(4096, 8, 0)), Some(tight.clone()));
        assert_eq!(tightened(&tight), None, "nothing lies beside it");
    }

    #[test]
    fn what_is_not_understood_stays_as_it_is() {
        assert_eq!(tightened(&copy(4096, 5, 0)), None, "pixels of another size");
        assert_eq!(tightened(&copy(4096, 8, 1)), None, "something follows");
        let message = copy(4096, 8, 0);
        for end in 0..message.len() {
            assert_eq!(tightened(&message.slice(..end)), None);
        }
    }
}
