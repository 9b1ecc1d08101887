//! Fuzzes the image codecs: any packed bytes, as drawings of two display channels with one dictionary.
//!
//! A record's kind: the low byte is the image's type (`enums.h`, `SPICE_IMAGE_TYPE_*`), bit 8 says which
//! channel draws it, bits 9 to 15 are the low bits of its number. Its body: `u8 width, u8 height`, then
//! what the image's type wants, whose sizes are filled in here.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use vidi_fuzz::{LINKED, Record, message, mutate, records, setup};
use vidi_spice::display::{CopySource, DisplayEvent};
use vidi_spice::{DisplayChannel, GlzDictionary, ImageTransfer};

/// `SPICE_MSG_DISPLAY_DRAW_COPY`
const DRAW_COPY: u16 = 304;
/// `SPICE_MSG_DISPLAY_SURFACE_CREATE`
const SURFACE_CREATE: u16 = 314;
/// Pixels of the dictionary's window: few, so that it overflows too.
const WINDOW_PIXELS: u32 = 1 << 16;

/// Where a drawing's image begins: base 21, pointer 4, area 16, operation 2, scaling 1, mask 13.
const IMAGE_AT: u32 = 57;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate(data, size, max_size, seed)
});

fuzz_target!(|input: &[u8]| {
    let transfer =
        ImageTransfer { compression: None, dictionary: GlzDictionary::new(WINDOW_PIXELS) };
    let mut channels = [channel(&transfer), channel(&transfer)];
    for record in records(input) {
        let Some(body) = draw(&record) else { continue };
        let [first, second] = &mut channels;
        let (one, other) = if record.kind & 0x100 == 0 { (first, second) } else { (second, first) };
        if one.receive(&message(DRAW_COPY, &body)).is_err() || take(one).is_err() {
            return;
        }
        // What this image brought may be what the other channel waits for.
        if take(other).is_err() {
            return;
        }
    }
});

/// A display channel with a surface that keeps alpha.
fn channel(transfer: &ImageTransfer) -> DisplayChannel {
    let mut channel = DisplayChannel::with_images(setup(), transfer.clone());
    let words: [u32; 5] = [0, 300, 300, 96, 1];
    let body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    drop(channel.receive(&[&LINKED[..], &message(SURFACE_CREATE, &body)].concat()));
    let _nothing_refused = take(&mut channel);
    channel
}

/// Takes what there is, and checks it.
fn take(channel: &mut DisplayChannel) -> Result<(), ()> {
    while let Some(event) = channel.next_event().map_err(drop)? {
        let DisplayEvent::Copy(copy) = event else { continue };
        let CopySource::Pixels(pixels) = &copy.source else { continue };
        for y in 0..pixels.height {
            let row = pixels.row(y);
            assert!(row.is_some(), "a row is missing");
        }
    }
    Ok(())
}

/// DRAW_COPY of a record's image, at its own size.
fn draw(record: &Record) -> Option<Vec<u8>> {
    let [kind, high] = record.kind.to_le_bytes();
    let (&[width, height], data) = record.body.split_first_chunk::<2>()?;
    let (width, height) = (u32::from(width), u32::from(height));
    let mut body = Vec::new();
    let mut word = |value: u32| body.extend(value.to_le_bytes());
    // Surface, box.
    [0, 0, 0, height, width].into_iter().for_each(&mut word);
    body.push(0);
    let mut word = |value: u32| body.extend(value.to_le_bytes());
    word(IMAGE_AT);
    [0, 0, height, width].into_iter().for_each(&mut word);
    body.extend([8, 0, 0]);
    body.extend([0; 13]);
    // Number, type, flags, size.
    body.extend(u64::from(high >> 1).to_le_bytes());
    body.extend([kind, 0]);
    body.extend(width.to_le_bytes());
    body.extend(height.to_le_bytes());
    pack(kind, data, &mut body);
    Some(body)
}

/// What follows an image's descriptor (`spice.proto`, `Image`).
fn pack(kind: u8, data: &[u8], body: &mut Vec<u8>) {
    let size = |data: &[u8]| u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes();
    match kind {
        // LZ_PLT: flags u8, size, palette, data. The palette stands behind the data.
        100 => {
            let (palette, data) = data.split_at(data.len().min(64));
            let at = u32::try_from(body.len() + 9 + data.len()).unwrap_or(u32::MAX);
            body.push(0);
            body.extend(size(data));
            body.extend(at.to_le_bytes());
            body.extend(data);
            body.extend(1_u64.to_le_bytes());
            body.extend(u16::try_from(palette.len() / 4).unwrap_or_default().to_le_bytes());
            body.extend(palette);
        }
        // ZLIB_GLZ: size when unpacked, size, data.
        107 => {
            let (unpacked, data) = data.split_at(data.len().min(2));
            let [low, high] = unpacked.try_into().unwrap_or([0, 1]);
            body.extend(u32::from(u16::from_le_bytes([low, high])).to_le_bytes());
            body.extend(size(data));
            body.extend(data);
        }
        // JPEG_ALPHA: flags u8, size of the JPEG, size of both, data.
        108 => {
            let (fields, data) = data.split_at(data.len().min(3));
            let [flags, low, high] = fields.try_into().unwrap_or([0; 3]);
            body.push(flags);
            body.extend(u32::from(u16::from_le_bytes([low, high])).to_le_bytes());
            body.extend(size(data));
            body.extend(data);
        }
        // QUIC, LZ_RGB, GLZ_RGB, JPEG, LZ4: size, data.
        1 | 101 | 102 | 105 | 109 => {
            body.extend(size(data));
            body.extend(data);
        }
        // BITMAP, caches, surfaces: as it is.
        _ => body.extend(data),
    }
}
