//! Tells whether a screenshot shows more than one colour: the guest has drawn something.

use std::io::Cursor;

use crate::ports::Screenshot;

/// Memory for decoding one screenshot.
const DECODED_BYTES_MAX: usize = 256 << 20;
/// Bytes of a pixel in a portable pixmap with 8 bits.
const PIXMAP_PIXEL_BYTES: usize = 3;

/// Whether two pixels differ; the error says why the picture cannot be read.
pub fn has_many_colours(screenshot: &Screenshot) -> Result<bool, String> {
    match screenshot.mime_type.as_str() {
        "image/png" => png_has_many_colours(&screenshot.bytes),
        "image/x-portable-pixmap" => pixmap_has_many_colours(&screenshot.bytes),
        other => Err(format!("a picture of type {other:?} is not known")),
    }
}

fn png_has_many_colours(bytes: &[u8]) -> Result<bool, String> {
    let limits = png::Limits { bytes: DECODED_BYTES_MAX };
    let decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    let mut reader = decoder.read_info().map_err(|error| error.to_string())?;
    let pixel_bytes = reader.info().bytes_per_pixel();
    let mut first: Option<Vec<u8>> = None;
    while let Some(row) = reader.next_row().map_err(|error| error.to_string())? {
        for pixel in row.data().chunks_exact(pixel_bytes) {
            let first = first.get_or_insert_with(|| pixel.to_vec());
            if first.as_slice() != pixel {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// P6 as netpbm(5) has it and QEMU writes it: magic, size and depth, each ended by a line feed.
fn pixmap_has_many_colours(bytes: &[u8]) -> Result<bool, String> {
    let mut parts = bytes.splitn(4, |byte| *byte == b'\n');
    let (magic, pixels) = (parts.next(), parts.nth(2));
    match (magic, pixels) {
        (Some(b"P6"), Some(pixels)) => {
            let mut pixels = pixels.chunks_exact(PIXMAP_PIXEL_BYTES);
            let first = pixels.next();
            Ok(pixels.any(|pixel| Some(pixel) != first))
        }
        _ => Err("it is not a portable pixmap".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(pixels: [[u8; 3]; 2]) -> Screenshot {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 2, 1);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&pixels.concat()).unwrap();
        writer.finish().unwrap();
        Screenshot { mime_type: "image/png".to_owned(), bytes: bytes.into() }
    }

    #[test]
    fn one_colour_is_no_picture_and_two_are() {
        assert_eq!(has_many_colours(&png([[1, 2, 3], [1, 2, 3]])), Ok(false));
        assert_eq!(has_many_colours(&png([[1, 2, 3], [1, 2, 4]])), Ok(true));
        assert_eq!(pixmap_has_many_colours(b"P6\n2 1\n255\nabcabc"), Ok(false));
        assert_eq!(pixmap_has_many_colours(b"P6\n2 1\n255\nabcabd"), Ok(true));
        assert!(pixmap_has_many_colours(b"P5").is_err() && png_has_many_colours(b"x").is_err());
    }
}
