//! A picture that records of the protocol draw, and the decoders of its images.

use std::io::Cursor;

/// Columns, rows, pixels `0x00RRGGBB`.
pub(crate) type Picture = (u32, u32, Vec<u32>);

pub(crate) fn records(message: &[u8]) -> Vec<(u8, &[u8])> {
    let mut records = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let length = usize::try_from(long(rest, 4)).unwrap();
        records.push((rest[0], &rest[8..8 + length]));
        rest = &rest[8 + length..];
    }
    records
}

pub(crate) fn short(bytes: &[u8], at: usize) -> u32 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]]).into()
}

pub(crate) fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn draw(picture: &mut Picture, kind: u8, body: &[u8]) {
    let color = |bytes: &[u8]| u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
    match kind {
        2 => {
            let (width, height) = (long(body, 0), long(body, 4));
            // Not black: what is never drawn must be noticed.
            let pixels = vec![0xdead_beef; usize::try_from(width * height).unwrap()];
            *picture = (width, height, pixels);
        }
        3 => put(picture, body, |_, _, _| color(&body[8..])),
        4 => {
            let before = picture.clone();
            let (x0, y0) = (short(body, 8), short(body, 10));
            put(picture, body, |_, x, y| {
                before.2[usize::try_from((y0 + y) * before.0 + x0 + x).unwrap()]
            });
        }
        5 => put(picture, body, |width, x, y| {
            color(&body[8 + usize::try_from(y * width + x).unwrap() * 4..])
        }),
        6 => {
            let (width, height) = (short(body, 4), short(body, 6));
            let colors = match body[8] {
                1 => decode_png(&body[12..], width, height),
                2 => decode_webp(&body[12..], width, height),
                3 => decode_jpeg(&body[12..], width, height),
                4 => decode_palette(&body[12..], width, height),
                other => panic!("codec {other}"),
            };
            put(picture, body, |width, x, y| {
                color(&colors[usize::try_from(y * width + x).unwrap() * 3..])
            });
        }
        _ => {}
    }
}

pub(crate) fn put(picture: &mut Picture, body: &[u8], pixel: impl Fn(u32, u32, u32) -> u32) {
    let (left, top) = (short(body, 0), short(body, 2));
    let (width, height) = (short(body, 4), short(body, 6));
    assert!(left + width <= picture.0 && top + height <= picture.1, "drawn outside the view");
    for y in 0..height {
        for x in 0..width {
            let at = usize::try_from((top + y) * picture.0 + left + x).unwrap();
            picture.2[at] = pixel(width, x, y);
        }
    }
}

fn decode_webp(data: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut decoder = image_webp::WebPDecoder::new(Cursor::new(data)).unwrap();
    assert_eq!(decoder.dimensions(), (width, height));
    assert!(!decoder.has_alpha());
    let mut colors = vec![0; decoder.output_buffer_size().unwrap()];
    decoder.read_image(&mut colors).unwrap();
    colors
}

fn decode_jpeg(data: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut decoder = zune_jpeg::JpegDecoder::new(Cursor::new(data));
    let colors = decoder.decode().unwrap();
    let size = decoder.dimensions().unwrap();
    assert_eq!(size, (usize::try_from(width).unwrap(), usize::try_from(height).unwrap()));
    colors
}

fn decode_palette(data: &[u8], width: u32, height: u32) -> Vec<u8> {
    let count = usize::from(data[0]) + 1;
    let (palette, rows) = data[1..].split_at(count * 3);
    let bits = [(2, 1), (4, 2), (16, 4), (256, 8)].iter().find(|(most, _)| count <= *most);
    let bits = bits.unwrap().1;
    let (width, height) = (usize::try_from(width).unwrap(), usize::try_from(height).unwrap());
    let stride = (width * bits).div_ceil(8);
    assert_eq!(rows.len(), stride * height);
    let mut colors = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let byte = rows[y * stride + x * bits / 8];
            let shift = 8 - bits - x * bits % 8;
            let number = usize::from(byte >> shift) & ((1 << bits) - 1);
            colors.extend_from_slice(&palette[number * 3..number * 3 + 3]);
        }
    }
    colors
}

fn decode_png(data: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut decoder = png::Decoder::new(Cursor::new(data));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().unwrap();
    let mut colors = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut colors).unwrap();
    assert_eq!((info.width, info.height), (width, height));
    assert_eq!(info.color_type, png::ColorType::Rgb);
    colors
}
