//! GLZ: LZ over the pixels of this image and of earlier ones (spice-gtk, `decode-glz.c`,
//! `decode-glz-tmpl.c`).
//!
//! Header, big endian: magic u32, version u32, type and top down u8, width u32, height u32,
//! stride u32, number u64, images in its window before it u32. Then tokens as in LZ, except that
//! a copy names an image, by how many numbers ago it was, and the place in it.

use bytes::Bytes;

use super::dictionary::{Added, Found, GlzDictionary};
use super::input::Input;
use super::lz::{LITERALS, MAGIC, UNITS_PER_BYTE_MAX, VERSION};
use super::repeat::{check_room, repeat};
use super::{Size, Unpacked, check_expansion};
use crate::display::bitmap::{Format, rgb555};
use crate::error::SpiceError;

const WHAT: &str = "glz image";
/// In the byte of the type.
const TOP_DOWN: u8 = 1 << 4;

/// A GLZ image that is being decoded.
///
/// It can be taken up again when it had to wait, without doing anything twice.
#[derive(Debug)]
pub(crate) struct Glz {
    packed: Bytes,
    /// Bytes that are done with.
    taken: usize,
    format: Format,
    size: Size,
    top_down: bool,
    id: u64,
    head_distance: u32,
    pixels: Vec<[u8; 4]>,
    /// Alpha of the first pixels, after all colours.
    alphas: Vec<u8>,
}

/// How far decoding got.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Done(Unpacked),
    /// It goes on when the dictionary has this image.
    Awaits(u64),
}

/// Whether something stopped a pass over the input.
enum Pass {
    Ended,
    Awaits(u64),
}

struct Copy {
    /// How many numbers ago its image was; 0 is the image itself.
    images: u64,
    /// Pixels back from here in the same image, or from the start of another.
    place: usize,
    /// Without the type's bias.
    length: usize,
}

enum Token {
    Literals(usize),
    Copy(Copy),
}

/// What an image can refer to; remembers the last image that was asked for.
struct Source<'a> {
    dictionary: &'a GlzDictionary,
    id: u64,
    last: Option<(u64, Bytes)>,
}

impl Glz {
    /// Reads the header.
    pub(crate) fn open(
        packed: Bytes,
        size: Size,
        dictionary: &GlzDictionary,
    ) -> Result<Self, SpiceError> {
        let mut input = Input::new(&packed, WHAT);
        if input.u32()? != MAGIC || input.u32()? != VERSION {
            return Err(input.malformed("it does not begin as lz 1.1"));
        }
        let kind = input.u8()?;
        let format = Format::from_wire(kind & 15);
        let Some(format @ (Format::Rgb555 | Format::Bgr24 | Format::Bgrx32 | Format::Bgra32)) =
            format
        else {
            return Err(input.malformed("its type is not one of glz"));
        };
        size.agree(WHAT, input.u32()?, input.u32()?)?;
        let _stride = input.u32()?;
        let (id, head_distance) = (input.u64()?, input.u32()?);
        dictionary.check_size(size)?;
        check_expansion(WHAT, input.remaining(), size.area(), UNITS_PER_BYTE_MAX)?;
        let taken = packed.len() - input.remaining();
        let (pixels, alphas) = (Vec::new(), Vec::new());
        let top_down = kind & TOP_DOWN != 0;
        Ok(Self { packed, taken, format, size, top_down, id, head_distance, pixels, alphas })
    }

    /// Its number in the dictionary.
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// Goes on until the image is whole and in the dictionary, or needs one that is not.
    pub(crate) fn resume(&mut self, dictionary: &GlzDictionary) -> Result<Progress, SpiceError> {
        let packed = self.packed.clone();
        let mut input = Input::new(packed.get(self.taken..).unwrap_or_default(), WHAT);
        let mut source = Source { dictionary, id: self.id, last: None };
        let mut pass = self.make_pixels(&mut input, &mut source)?;
        if matches!(pass, Pass::Ended) && self.format == Format::Bgra32 {
            pass = self.make_alphas(&mut input, &mut source)?;
        }
        self.taken = packed.len() - input.remaining();
        if let Pass::Awaits(id) = pass {
            return Ok(Progress::Awaits(id));
        }
        for ([_, _, _, alpha], value) in self.pixels.iter_mut().zip(&self.alphas) {
            *alpha = *value;
        }
        let format = if self.format == Format::Bgra32 { Format::Bgra32 } else { Format::Bgrx32 };
        let pixels = std::mem::take(&mut self.pixels);
        let unpacked = Unpacked::of_pixels(format, self.size, self.top_down, pixels);
        match dictionary.add(self.id, self.head_distance, unpacked.data.clone())? {
            Added::Yes => Ok(Progress::Done(unpacked)),
            Added::Awaits(id) => {
                // Whole as it is; only its place in the dictionary is missing.
                self.pixels = unpacked.data.as_chunks().0.to_vec();
                Ok(Progress::Awaits(id))
            }
        }
    }

    fn make_pixels(
        &mut self,
        input: &mut Input<'_>,
        source: &mut Source<'_>,
    ) -> Result<Pass, SpiceError> {
        let (bias, packed_pixel) = if self.format == Format::Rgb555 { (1, 2) } else { (0, 3) };
        let make = if self.format == Format::Rgb555 { high_and_low } else { bgr };
        self.pixels.reserve_exact(self.size.area() - self.pixels.len());
        while self.pixels.len() < self.size.area() {
            let before = input.clone();
            match token(input)? {
                Token::Literals(count) => {
                    check_room(WHAT, self.pixels.len(), count, self.size.area())?;
                    let literals = input.take(count.saturating_mul(packed_pixel))?;
                    self.pixels.extend(literals.chunks_exact(packed_pixel).map(make));
                }
                Token::Copy(Copy { images, place, length }) => {
                    let count = length.saturating_add(bias);
                    check_room(WHAT, self.pixels.len(), count, self.size.area())?;
                    if images == 0 {
                        repeat(WHAT, &mut self.pixels, place.saturating_add(1), count)?;
                        continue;
                    }
                    let Some(image) = source.image(images)? else {
                        *input = before;
                        return Ok(Pass::Awaits(source.id - images));
                    };
                    self.pixels.extend_from_slice(part(image, place, count)?);
                }
            }
        }
        Ok(Pass::Ended)
    }

    fn make_alphas(
        &mut self,
        input: &mut Input<'_>,
        source: &mut Source<'_>,
    ) -> Result<Pass, SpiceError> {
        const BIAS: usize = 2;
        while self.alphas.len() < self.size.area() {
            let before = input.clone();
            match token(input)? {
                Token::Literals(count) => {
                    check_room(WHAT, self.alphas.len(), count, self.size.area())?;
                    self.alphas.extend_from_slice(input.take(count)?);
                }
                Token::Copy(Copy { images, place, length }) => {
                    let count = length.saturating_add(BIAS);
                    check_room(WHAT, self.alphas.len(), count, self.size.area())?;
                    if images == 0 {
                        repeat(WHAT, &mut self.alphas, place.saturating_add(1), count)?;
                        continue;
                    }
                    let Some(image) = source.image(images)? else {
                        *input = before;
                        return Ok(Pass::Awaits(source.id - images));
                    };
                    let part = part(image, place, count)?;
                    self.alphas.extend(part.iter().map(|[_, _, _, alpha]| *alpha));
                }
            }
        }
        Ok(Pass::Ended)
    }
}

impl Source<'_> {
    /// The image of `images` numbers ago; `None` if it is still to come.
    fn image(&mut self, images: u64) -> Result<Option<&[[u8; 4]]>, SpiceError> {
        const GONE: SpiceError = SpiceError::Malformed {
            what: WHAT,
            problem: "it refers to an image that is not in its window",
        };
        let id = self.id.checked_sub(images).ok_or(GONE)?;
        if self.last.as_ref().is_none_or(|(last, _)| *last != id) {
            self.last = match self.dictionary.find(id) {
                Found::Here(pixels) => Some((id, pixels)),
                Found::Coming => return Ok(None),
                Found::Gone => return Err(GONE),
            };
        }
        Ok(self.last.as_ref().map(|(_, pixels)| pixels.as_chunks().0))
    }
}

fn part(image: &[[u8; 4]], place: usize, count: usize) -> Result<&[[u8; 4]], SpiceError> {
    image.get(place..place.saturating_add(count)).ok_or(SpiceError::Malformed {
        what: WHAT,
        problem: "it refers to pixels beyond an earlier image",
    })
}

/// A copy: length 3 bits, long place 1 bit, place 4 bits, length's continuation, place 8 bits;
/// then 2 bits for the number of bytes that name the image, and 6 bits: of that name with a short
/// place; else whether the place has a last byte, and 5 bits of it. Low bits come first.
fn token(input: &mut Input<'_>) -> Result<Token, SpiceError> {
    let control = input.u8()?;
    if control < LITERALS {
        return Ok(Token::Literals(usize::from(control) + 1));
    }
    let mut length = usize::from(control >> 5);
    if length == 7 {
        length = input.extension()?.saturating_add(length);
    }
    let mut place = usize::from(control & 15) | usize::from(input.u8()?) << 4;
    let third = input.u8()?;
    let name_bytes = third >> 6;
    let images = if control & 16 == 0 {
        little_endian(input, name_bytes)? << 6 | u64::from(third & 63)
    } else {
        let images = little_endian(input, name_bytes)?;
        place |= usize::from(third & 31) << 12;
        if third & 32 != 0 {
            place |= usize::from(input.u8()?) << 17;
        }
        images
    };
    Ok(Token::Copy(Copy { images, place, length }))
}

/// A number of up to 3 bytes.
fn little_endian(input: &mut Input<'_>, bytes: u8) -> Result<u64, SpiceError> {
    (0..bytes).try_fold(0, |sum, index| Ok(sum | u64::from(input.u8()?) << (8 * index)))
}

fn high_and_low(packed: &[u8]) -> [u8; 4] {
    rgb555(u16::from_be_bytes(packed.first_chunk().copied().unwrap_or_default()))
}

fn bgr(packed: &[u8]) -> [u8; 4] {
    let [blue, green, red] = packed.first_chunk().copied().unwrap_or_default();
    [blue, green, red, 255]
}

#[cfg(test)]
mod tests {
    use super::super::samples::{Pixel, glz_copy, glz_header, glz_tokens, pictures};
    use super::*;

    fn opaque(pixels: Vec<Pixel>) -> Vec<Pixel> {
        pixels.into_iter().map(|[b, g, r, _]| [b, g, r, 255]).collect()
    }

    fn glz(kind: u8, size: Size, (id, head): (u64, u32), tokens: &[u8]) -> Bytes {
        [&glz_header(kind, size, id, head), tokens].concat().into()
    }

    fn run(packed: &Bytes, size: Size, dictionary: &GlzDictionary) -> Result<Progress, SpiceError> {
        Glz::open(packed.clone(), size, dictionary)?.resume(dictionary)
    }

    #[test]
    fn images_come_back_with_what_they_take_from_earlier_ones() {
        let dictionary = GlzDictionary::new(1 << 20);
        let mut earlier: Vec<Vec<Pixel>> = Vec::new();
        let (mut packed_bytes, mut pixels_made) = (0, 0);
        for (id, (size, pixels)) in (0_u32..).zip(pictures()) {
            let pixels = opaque(pixels);
            let ago = (1_u32..).zip(earlier.iter().rev());
            let ago: Vec<_> = ago.map(|(images, image)| (images, image.as_slice())).collect();
            let tokens = glz_tokens(&pixels, &ago);
            let packed = glz(8 | 16, size, (id.into(), id), &tokens);
            let done = run(&packed, size, &dictionary).unwrap();
            let Progress::Done(unpacked) = done else { panic!("{done:?}") };
            assert_eq!((unpacked.format, unpacked.top_down), (Format::Bgrx32, true));
            assert_eq!(unpacked.data, pixels.as_flattened());
            packed_bytes += packed.len();
            pixels_made += pixels.len();
            earlier.push(pixels);
        }
        assert!(packed_bytes < 3 * pixels_made, "{packed_bytes} bytes for {pixels_made} pixels");
    }

    #[test]
    fn every_form_of_a_copy_finds_its_image_and_its_place() {
        let long = Size::new(1 << 14, 16).unwrap();
        let pixel = |index: usize| {
            let [low, high, more, ..] = index.to_le_bytes();
            [low, high, more, 255]
        };
        let image: Vec<Pixel> = (0..long.area()).map(pixel).collect();
        let size = Size::new(400, 1).unwrap();
        for images in [1_u32, 63, 64, 255, 256, 16_383, 16_384, 65_536, 1 << 22] {
            for place in [0, 15, 4095, 4096, 131_071, 131_072, 200_000] {
                let dictionary = GlzDictionary::new(1 << 20);
                let id = 1_u64 << 23;
                let data = Bytes::from(image.clone().into_flattened());
                dictionary.add(id - u64::from(images), 0, data).unwrap();
                let mut tokens = vec![0, 1, 2, 3];
                glz_copy(&mut tokens, images, place, 6);
                glz_copy(&mut tokens, images, place, 393);
                let packed = glz(8, size, (id, 0), &tokens);
                let done = run(&packed, size, &dictionary).unwrap();
                let Progress::Done(unpacked) = done else { panic!("{done:?}") };
                let from = &image[place..];
                let expected = [&[[1, 2, 3, 255]], &from[..6], &from[..393]].concat();
                assert_eq!(
                    unpacked.data,
                    expected.as_flattened(),
                    "{images} images, place {place}"
                );
            }
        }
    }

    #[test]
    fn sixteen_bits_and_alpha_have_their_own_lengths() {
        let dictionary = GlzDictionary::new(100);
        let size = Size::new(5, 1).unwrap();
        // One pixel, then it again: 3 + 1 times.
        let mut tokens = vec![0, 0x7c, 0x1f];
        glz_copy(&mut tokens, 0, 0, 3);
        let done = run(&glz(6, size, (0, 0), &tokens), size, &dictionary);
        let Ok(Progress::Done(unpacked)) = done else { panic!("{done:?}") };
        assert_eq!(unpacked.data, [255, 0, 255, 255].repeat(5));

        // The colours of that image; alpha 9, then it again, 2 + 2 times.
        let mut tokens = Vec::new();
        glz_copy(&mut tokens, 1, 0, 5);
        tokens.extend([0, 9]);
        glz_copy(&mut tokens, 0, 0, 2);
        let done = run(&glz(9, size, (1, 1), &tokens), size, &dictionary);
        let Ok(Progress::Done(unpacked)) = done else { panic!("{done:?}") };
        assert_eq!(
            (unpacked.data, unpacked.format),
            ([255, 0, 255, 9].repeat(5).into(), Format::Bgra32)
        );

        // Both planes of that one.
        let mut tokens = Vec::new();
        glz_copy(&mut tokens, 1, 0, 5);
        glz_copy(&mut tokens, 1, 0, 3);
        let done = run(&glz(9, size, (2, 2), &tokens), size, &dictionary);
        let Ok(Progress::Done(again)) = done else { panic!("{done:?}") };
        assert_eq!(again.data, [255, 0, 255, 9].repeat(5));
    }

    #[test]
    fn an_image_waits_for_one_of_another_channel_and_goes_on_where_it_was() {
        let dictionary = GlzDictionary::new(100);
        let size = Size::new(4, 1).unwrap();
        let mut tokens = vec![0, 1, 1, 1];
        glz_copy(&mut tokens, 2, 1, 1);
        glz_copy(&mut tokens, 1, 0, 2);
        let packed = glz(8, size, (2, 2), &tokens);
        let mut glz_image = Glz::open(packed, size, &dictionary).unwrap();
        for _ in 0..2 {
            assert_eq!(glz_image.resume(&dictionary), Ok(Progress::Awaits(0)));
            assert_eq!(glz_image.pixels, [[1, 1, 1, 255]]);
        }
        let other = Size::new(2, 1).unwrap();
        run(&glz(8, other, (0, 0), &[1, 5, 5, 5, 6, 6, 6]), other, &dictionary).unwrap();
        assert_eq!(glz_image.resume(&dictionary), Ok(Progress::Awaits(1)));
        run(&glz(8, other, (1, 1), &[1, 7, 7, 7, 8, 8, 8]), other, &dictionary).unwrap();
        let done = glz_image.resume(&dictionary).unwrap();
        let Progress::Done(unpacked) = done else { panic!("{done:?}") };
        let grey = |value| [value, value, value, 255];
        assert_eq!(unpacked.data, [grey(1), grey(6), grey(7), grey(8)].as_flattened());
    }

    #[test]
    fn an_image_waits_for_room_with_all_its_pixels() {
        let dictionary = GlzDictionary::new(2);
        let size = Size::new(2, 1).unwrap();
        let literals = [1, 5, 5, 5, 6, 6, 6];
        for id in 1..5 {
            let done = run(&glz(8, size, (id, 0), &literals), size, &dictionary);
            assert!(matches!(done, Ok(Progress::Done(_))));
        }
        let packed = glz(8, size, (5, 0), &literals);
        let mut last = Glz::open(packed, size, &dictionary).unwrap();
        assert_eq!(last.resume(&dictionary), Ok(Progress::Awaits(0)));
        run(&glz(8, size, (0, 0), &literals), size, &dictionary).unwrap();
        let Ok(Progress::Done(unpacked)) = last.resume(&dictionary) else { panic!("{last:?}") };
        assert_eq!(unpacked.data, [5, 5, 5, 255, 6, 6, 6, 255][..]);
    }

    #[test]
    fn references_to_what_is_not_there_are_refused() {
        let dictionary = GlzDictionary::new(100);
        let size = Size::new(2, 1).unwrap();
        let first = glz(8, size, (0, 0), &[1, 5, 5, 5, 6, 6, 6]);
        assert!(run(&first, size, &dictionary).is_ok());
        let copies =
            [(1, 1, 2), (1, 2, 1), (1, usize::from(u16::MAX), 2), (2, 0, 2), (9, 0, 2), (0, 0, 1)];
        for (images, place, length) in copies {
            let mut tokens = Vec::new();
            glz_copy(&mut tokens, images, place, length);
            let refused = run(&glz(8, size, (1, 1), &tokens), size, &dictionary);
            assert!(refused.is_err(), "{images} {place} {length}: {refused:?}");
        }
        assert!(run(&first, size, &dictionary).is_err(), "its number was used");
        let released = glz(8, size, (1, 0), &[1, 5, 5, 5, 6, 6, 6]);
        assert!(run(&released, size, &dictionary).is_ok());
        let mut tokens = Vec::new();
        glz_copy(&mut tokens, 2, 0, 2);
        assert!(run(&glz(8, size, (2, 0), &tokens), size, &dictionary).is_err(), "it was released");
        let large = Size::new(101, 1).unwrap();
        assert!(run(&glz(8, large, (2, 0), &[0; 500]), large, &dictionary).is_err());
    }

    #[test]
    fn a_cut_image_is_refused() {
        let (size, pixels) = pictures().swap_remove(33);
        let packed = glz(8, size, (0, 0), &glz_tokens(&opaque(pixels), &[]));
        for end in 0..packed.len() {
            let cut = run(&packed.slice(..end), size, &GlzDictionary::new(1 << 20));
            assert!(cut.is_err(), "cut at {end} of {}", packed.len());
        }
    }
}
