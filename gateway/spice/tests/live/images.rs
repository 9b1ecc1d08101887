//! Images of every format that a guest has, through every compression of a real server: the
//! picture equals QEMU's own in every pixel, and the wire had the types that are meant.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use vidi_spice::{
    Capabilities, Channel, ChannelEvent, ChannelKind, Compression, DisplayChannel, DisplayEvent,
    GlzDictionary, ImageTransfer, MainChannel, MainEvent, Message, SurfaceId,
};

use crate::guest::{Bitmap, Guest, Machine};
use crate::picture::Picture;
use crate::qemu::{Desktop, folder};
use crate::wire::{Connection, SILENT_READS_MAX, Wire, setup, setup_of};

/// The picture: a cell for each format, drawing and orientation.
const WIDTH: u32 = 1024;
const HEIGHT: u32 = 768;
/// The image of a cell: odd, so that no depth fills its last byte.
const IMAGE: [u32; 2] = [97, 71];
const CELL: [u32; 2] = [102, 76];
/// `SpiceBitmapFmt` that the server itself can draw.
const FORMATS: [u8; 7] = [2, 4, 5, 6, 7, 8, 9];
/// Those that it only passes on: their bits are in the other order, next to their like.
const SWAPPED: [(u8, u8); 2] = [(1, 2), (3, 4)];
/// Four screens full.
pub(crate) const DICTIONARY_PIXELS: u32 = 4 * WIDTH * HEIGHT;

/// Types of images on the wire (`SpiceImageType`).
mod kind {
    pub(super) const BITMAP: u8 = 0;
    pub(super) const QUIC: u8 = 1;
    pub(super) const LZ_PALETTE: u8 = 100;
    pub(super) const LZ_RGB: u8 = 101;
    pub(super) const GLZ_RGB: u8 = 102;
    pub(super) const FROM_CACHE: u8 = 103;
    pub(super) const SURFACE: u8 = 104;
    pub(super) const JPEG: u8 = 105;
    pub(super) const FROM_CACHE_LOSSLESS: u8 = 106;
    pub(super) const ZLIB_GLZ_RGB: u8 = 107;
    pub(super) const JPEG_ALPHA: u8 = 108;
    pub(super) const LZ4: u8 = 109;
}

/// `SPICE_MSG_DISPLAY_DRAW_COPY`
const DRAW_COPY: u16 = 304;

#[test]
fn bitmaps_equal_the_screenshot() {
    let seen = check(Compression::Off, "", Likeness::Exact);
    assert_eq!(seen.keys().collect::<Vec<_>>(), [&kind::BITMAP, &kind::FROM_CACHE, &kind::SURFACE]);
}

#[test]
fn quic_equals_the_screenshot() {
    let seen = check(Compression::Quic, "", Likeness::Exact);
    assert!(seen[&kind::QUIC] >= 8 * 3, "{seen:?}");
}

#[test]
fn lz_equals_the_screenshot() {
    let seen = check(Compression::Lz, "", Likeness::Exact);
    assert!(seen[&kind::LZ_RGB] >= 8 * 3 && seen[&kind::LZ_PALETTE] >= 8 * 3, "{seen:?}");
}

#[test]
fn glz_equals_the_screenshot() {
    let seen = check(Compression::Glz, "zlib-glz-wan-compression=never,", Likeness::Exact);
    assert!(seen[&kind::GLZ_RGB] >= 8 * 3, "{seen:?}");
}

#[test]
fn glz_inside_zlib_equals_the_screenshot() {
    let seen = check(Compression::Glz, "zlib-glz-wan-compression=always,", Likeness::Exact);
    assert!(seen[&kind::ZLIB_GLZ_RGB] >= 8 * 2, "{seen:?}");
}

#[test]
fn lz4_equals_the_screenshot() {
    let seen = check(Compression::Lz4, "", Likeness::Exact);
    assert!(seen[&kind::LZ4] >= 8 * 2, "{seen:?}");
}

#[test]
fn a_choice_by_content_equals_the_screenshot() {
    let seen = check(Compression::AutoGlz, "zlib-glz-wan-compression=never,", Likeness::Exact);
    assert!(seen[&kind::QUIC] > 0 && seen[&kind::GLZ_RGB] > 0, "{seen:?}");
}

#[test]
fn jpeg_is_like_the_screenshot() {
    let seen = check(Compression::Quic, "jpeg-wan-compression=always,", Likeness::Near);
    assert!(seen[&kind::JPEG] > 0 && seen[&kind::JPEG_ALPHA] > 0, "{seen:?}");
    assert!(seen.contains_key(&kind::FROM_CACHE_LOSSLESS), "{seen:?}");
}

/// Thousandths of a step of colour by which JPEG of quality 85 may change these drawings on
/// average; measured 789.
const NEAR_THOUSANDTHS: u64 = 1000;

/// How alike pictures are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Likeness {
    Exact,
    /// As JPEG of quality 85 leaves them.
    Near,
}

/// A display channel, and the types of the images that it was sent, with their numbers.
pub(crate) struct Tapped {
    display: DisplayChannel,
    tap: Channel,
    seen: BTreeMap<u8, usize>,
}

impl Wire for Tapped {
    type Event = DisplayEvent;

    fn feed(&mut self, bytes: &[u8]) {
        self.display.receive(bytes).unwrap();
        self.tap.receive(bytes).unwrap();
        while let Some(event) = self.tap.next_event().unwrap() {
            if let ChannelEvent::Message(Message { kind: DRAW_COPY, body, .. }) = event {
                *self.seen.entry(image_type(&body)).or_default() += 1;
            }
        }
        while self.tap.poll_transmit().is_some() {}
    }

    fn event(&mut self) -> Option<DisplayEvent> {
        self.display.next_event().unwrap()
    }

    fn outgoing(&mut self) -> Option<bytes::Bytes> {
        self.display.poll_transmit()
    }
}

/// The type of the image in a copy: surface u32, box, clip, pointer to the image u32.
fn image_type(body: &[u8]) -> u8 {
    let number = |at: usize| {
        usize::try_from(u32::from_le_bytes(*body[at..].first_chunk().unwrap())).unwrap()
    };
    let clip = if body[20] == 0 { 0 } else { 4 + 16 * number(21) };
    body[number(21 + clip) + 8]
}

/// A TCP server that compresses so, and what it showed: numbers of images by type.
fn check(compression: Compression, options: &str, likeness: Likeness) -> BTreeMap<u8, usize> {
    let (mut desktop, mut guests) =
        start(&format!("{compression:?}-{}", options.len()), options, 1);
    let guest = &mut guests[0];
    let (mut main, session) = link(&desktop);
    let dictionary = GlzDictionary::new(DICTIONARY_PIXELS);
    let transfer = ImageTransfer { compression: Some(compression), dictionary };
    let (mut display, mut picture) = show(&desktop, 0, session, transfer);
    let mut places = places();
    draw(guest, &mut places);

    let mut difference = String::new();
    let alike = (0..SILENT_READS_MAX).any(|_| {
        while display.pump(&mut |event| picture.apply(event)) {}
        main.pump(&mut |_event| {});
        if !guest.is_idle() {
            return false;
        }
        difference.clear();
        compare(&picture.visible(), &desktop.screenshot(), likeness, &mut difference)
    });
    assert!(alike, "{compression:?} {:?}: {difference}", display.channel.seen);

    let pairs = draw_swapped(guest, &mut places);
    let alike = (0..SILENT_READS_MAX).any(|_| {
        while display.pump(&mut |event| picture.apply(event)) {}
        pairs.iter().all(|[one, other]| cell(&picture, *one) == cell(&picture, *other))
    });
    assert!(alike, "{compression:?}: the order of bits matters");
    for (surface, drawing) in [(1, DRAWINGS[0]), (2, DRAWINGS[3])] {
        let pixels = picture.surface(SurfaceId(surface)).unwrap();
        check_alpha(pixels, drawing, likeness);
    }
    check_alpha_alone(guest, &mut display, &mut picture);
    display.channel.seen
}

/// The pixels of a drawing with alpha, on a surface that keeps it.
fn check_alpha(pixels: &[[u8; 4]], drawing: Drawing, likeness: Likeness) {
    let [width, height] = IMAGE;
    let drawn = (0..height).flat_map(|y| (0..width).map(move |x| drawing(x, y)));
    for (one, other) in pixels.iter().zip(drawn) {
        match likeness {
            Likeness::Exact => assert_eq!(*one, other),
            Likeness::Near => assert_eq!(one[3], other[3]),
        }
    }
}

/// A bitmap that is alpha alone, which the server only passes on.
fn check_alpha_alone(guest: &mut Guest, display: &mut Connection<Tapped>, picture: &mut Picture) {
    guest.create_surface(3, IMAGE);
    let image = guest.image(&bitmap(10, DRAWINGS[0], false, false));
    guest.copy(image, 3, [0, 0]);
    let [width, height] = IMAGE;
    let drawn = (0..height).flat_map(|y| (0..width).map(move |x| DRAWINGS[0](x, y)));
    let expected: Vec<_> = drawn.map(|[blue, ..]| [0, 0, 0, blue]).collect();
    let alike = (0..SILENT_READS_MAX).any(|_| {
        while display.pump(&mut |event| picture.apply(event)) {}
        picture.surface(SurfaceId(3)).is_some_and(|pixels| pixels == expected)
    });
    assert!(alike, "{:?}", display.channel.seen);
}

/// A machine with so many devices, that listens on TCP with these options.
pub(crate) fn start(name: &str, options: &str, devices: u32) -> (Desktop, Vec<Guest>) {
    let folder = folder(&format!("images-{name}"));
    let machine = Machine::new(&folder, devices);
    let options = format!("{options}streaming-video=off");
    let arguments: Vec<&str> = machine.arguments.iter().map(String::as_str).collect();
    let desktop = Desktop::start_over_tcp(folder, &options, &arguments);
    (desktop, machine.boot([WIDTH, HEIGHT]))
}

/// Its main channel, and the session.
pub(crate) fn link(desktop: &Desktop) -> (Connection<MainChannel>, u32) {
    let mut main = Connection::open(&desktop.address, MainChannel::new(setup(0, "")));
    let session = main.wait(|event| match event {
        MainEvent::Init(init) => Some(init.session_id),
        _ => None,
    });
    main.wait(|event| matches!(event, MainEvent::Channels(_)).then_some(()));
    (main, session)
}

/// The whole screen as a new client of this library gets it.
pub(crate) fn screen(desktop: &Desktop, transfer: ImageTransfer) -> (u32, u32, Vec<u8>) {
    let (_main, session) = link(desktop);
    let (mut display, mut picture) = show(desktop, 0, session, transfer);
    for _ in 0..SILENT_READS_MAX {
        if !display.pump(&mut |event| picture.apply(event)) && picture.colors() > 1 {
            return picture.visible();
        }
    }
    panic!("the screen never is still")
}

/// A display channel with its first picture.
pub(crate) fn show(
    desktop: &Desktop,
    channel_id: u8,
    session: u32,
    transfer: ImageTransfer,
) -> (Connection<Tapped>, Picture) {
    let setup = || setup_of(channel_id, session, "");
    let display = DisplayChannel::with_images(setup(), transfer);
    let tap = Channel::new(ChannelKind::Display, Capabilities::default(), setup());
    let display = Tapped { display, tap, seen: BTreeMap::new() };
    let mut display = Connection::open(&desktop.address, display);
    let mut picture = Picture::default();
    for _ in 0..SILENT_READS_MAX {
        display.pump(&mut |event| picture.apply(event));
        if picture.marked {
            return (display, picture);
        }
    }
    panic!("display {channel_id} shows nothing")
}

#[test]
fn two_displays_share_one_dictionary_whichever_is_read_first() {
    let options = "zlib-glz-wan-compression=never,";
    let (mut desktop, mut guests) = start("two", options, 2);
    let (mut main, session) = link(&desktop);
    let dictionary = GlzDictionary::new(DICTIONARY_PIXELS);
    let transfer = ImageTransfer { compression: Some(Compression::Glz), dictionary };
    let (mut one, mut one_picture) = show(&desktop, 0, session, transfer.clone());
    let (mut other, mut other_picture) = show(&desktop, 1, session, transfer);
    let mut waited = 0;
    for (round, place) in places().enumerate().take(24) {
        // The same picture on both: the second image is in the dictionary.
        let [first, second] = guests.as_mut_slice() else { panic!("two devices") };
        let drawing = [DRAWINGS[0], DRAWINGS[2]][round % 2];
        for guest in [first, second] {
            let image = guest.image(&bitmap(8, drawing, round % 3 == 0, false));
            guest.copy(image, 0, place);
            while !guest.is_idle() {}
            // A tenth of a second, in which the server packs and sends it.
            main.pump(&mut |_event| {});
        }
        other.pump(&mut |event| other_picture.apply(event));
        waited += usize::from(other.channel.display.awaited_image().is_some());
        one.pump(&mut |event| one_picture.apply(event));
    }
    let alike = (0..SILENT_READS_MAX).any(|_| {
        while one.pump(&mut |event| one_picture.apply(event)) {}
        while other.pump(&mut |event| other_picture.apply(event)) {}
        one_picture.visible() == desktop.screenshot_of("qxl0")
            && other_picture.visible() == desktop.screenshot_of("qxl1")
    });
    assert!(alike, "{:?} {:?}", one.channel.seen, other.channel.seen);
    assert!(waited > 0, "no image of the second display referred to one of the first");
}

/// The left top corners of all cells.
pub(crate) fn places() -> impl Iterator<Item = [u32; 2]> {
    (0..HEIGHT / CELL[1])
        .flat_map(|row| (0..WIDTH / CELL[0]).map(move |column| [column * CELL[0], row * CELL[1]]))
}

/// The pixels of a cell.
fn cell(picture: &Picture, [left, top]: [u32; 2]) -> Vec<u8> {
    let (width, _, bytes) = picture.visible();
    let index = |x: u32, y: u32| usize::try_from(3 * (y * width + x)).unwrap();
    let row = |y: u32| &bytes[index(left, top + y)..index(left + CELL[0], top + y)];
    (0..CELL[1]).flat_map(row).copied().collect()
}

/// A cell for each format, drawing and orientation; the last ones from the cache and from another
/// surface.
pub(crate) fn draw(guest: &mut Guest, places: &mut impl Iterator<Item = [u32; 2]>) {
    for drawing in DRAWINGS {
        for format in FORMATS {
            for top_down in [true, false] {
                let image = guest.image(&bitmap(format, drawing, top_down, false));
                guest.copy(image, 0, places.next().unwrap());
            }
        }
    }
    for format in [2, 5, 8, 9] {
        let image = guest.image(&bitmap(format, DRAWINGS[3], true, true));
        for _ in 0..2 {
            guest.copy(image, 0, places.next().unwrap());
        }
    }
    for (id, drawing) in [(1, DRAWINGS[0]), (2, DRAWINGS[3])] {
        guest.create_surface(id, IMAGE);
        let image = guest.image(&bitmap(9, drawing, id == 1, false));
        guest.copy(image, id, [0, 0]);
        let surface = guest.surface_image(id, IMAGE);
        guest.copy(surface, 0, places.next().unwrap());
    }
}

/// Cells that are to be the same, drawn with bits in one order and in the other.
fn draw_swapped(
    guest: &mut Guest,
    places: &mut impl Iterator<Item = [u32; 2]>,
) -> Vec<[[u32; 2]; 2]> {
    let mut pairs = Vec::new();
    for (one, other) in SWAPPED {
        for drawing in [DRAWINGS[0], DRAWINGS[2]] {
            let pair = [places.next().unwrap(), places.next().unwrap()];
            for (format, place) in [one, other].into_iter().zip(pair) {
                let image = guest.image(&bitmap(format, drawing, true, false));
                guest.copy(image, 0, place);
            }
            pairs.push(pair);
        }
    }
    pairs
}

type Drawing = fn(u32, u32) -> [u8; 4];

/// A photograph's slopes, noise, text, and fields of one colour; blue, green, red, alpha.
const DRAWINGS: [Drawing; 4] = [
    |x, y| [low(x + y), low(2 * x), low(3 * y), low(255 - x)],
    |x, y| {
        let mixed =
            (x.wrapping_mul(0x9e37_79b9) ^ y.wrapping_mul(0x85eb_ca6b)).wrapping_mul(0xc2b2_ae35);
        (mixed ^ (mixed >> 15)).to_le_bytes()
    },
    |x, y| {
        if (x / 9 + y / 5) % 4 == 0 && (x * 7 + y * 3) % 5 < 2 {
            [20, 20, 60, 255]
        } else {
            [235; 4]
        }
    },
    |x, y| [low(40 * (x / 20)), low(50 * (y / 20)), 128, if y < 30 { 255 } else { 9 }],
];

fn low(value: u32) -> u8 {
    value.to_le_bytes()[0]
}

/// A drawing in one of the bitmap formats.
fn bitmap(format: u8, drawing: Drawing, top_down: bool, cached: bool) -> Bitmap {
    let [width, height] = IMAGE;
    let (bits, colors) = match format {
        1 | 2 => (1, 2),
        3 | 4 => (4, 16),
        5 => (8, 256),
        10 => (8, 0),
        6 => (16, 0),
        7 => (24, 0),
        _ => (32, 0),
    };
    let stride = (width * bits).div_ceil(8);
    let row = |y: u32| -> Vec<u8> {
        let pixels = (0..width).map(|x| drawing(x, y));
        let high = |keep: u32| pixels.clone().map(move |[blue, ..]| u32::from(blue) >> (8 - keep));
        match format {
            1 => gather(high(1), 8, |value, place| value << place),
            2 => gather(high(1), 8, |value, place| value << (7 - place)),
            3 => gather(high(4), 2, |value, place| value << (4 * place)),
            4 => gather(high(4), 2, |value, place| value << (4 - 4 * place)),
            5 | 10 => high(8).map(low).collect(),
            6 => pixels.flat_map(|[b, g, r, _]| rgb555([b, g, r])).collect(),
            7 => pixels.flat_map(|[b, g, r, _]| [b, g, r]).collect(),
            _ => pixels.flatten().collect(),
        }
    };
    let rows: Vec<Vec<u8>> = (0..height).map(row).collect();
    let rows =
        if top_down { rows.concat() } else { rows.into_iter().rev().collect::<Vec<_>>().concat() };
    let palette =
        (0..colors).map(|index: u32| index.wrapping_mul(0x0035_2b17) & 0x00ff_ffff).collect();
    Bitmap { format, width, height, stride, top_down, palette, rows, cached }
}

fn gather(values: impl Iterator<Item = u32>, count: usize, put: fn(u32, u32) -> u32) -> Vec<u8> {
    let values: Vec<u32> = values.collect();
    let byte = |some: &[u32]| low((0..).zip(some).map(|(place, value)| put(*value, place)).sum());
    values.chunks(count).map(byte).collect()
}

fn rgb555(colors: [u8; 3]) -> [u8; 2] {
    let [blue, green, red] = colors.map(|color| u16::from(color >> 3));
    (red << 10 | green << 5 | blue).to_le_bytes()
}

/// Whether two pictures are alike; says where they are not.
pub(crate) fn compare(
    (width, height, ours): &(u32, u32, Vec<u8>),
    (their_width, their_height, theirs): &(u32, u32, Vec<u8>),
    likeness: Likeness,
    difference: &mut String,
) -> bool {
    if (width, height) != (their_width, their_height) {
        write!(difference, "{width}x{height} and {their_width}x{their_height}").unwrap();
        return false;
    }
    let apart = ours.iter().zip(theirs).map(|(one, other)| u64::from(one.abs_diff(*other)));
    let cell = |index: usize| {
        let pixel = u32::try_from(index / 3).unwrap();
        (pixel / width / CELL[1], pixel % width / CELL[0])
    };
    if likeness == Likeness::Near {
        // Noise is what JPEG changes most, and nobody sees it.
        let noise = 2 * FORMATS.len()..4 * FORMATS.len();
        let place = |(row, column)| usize::try_from(row * (WIDTH / CELL[0]) + column).unwrap();
        let seen = apart.enumerate().filter(|(index, _)| !noise.contains(&place(cell(*index))));
        let (sum, count) = seen.fold((0, 0), |(sum, count), (_, apart)| (sum + apart, count + 1));
        let mean = sum * 1000 / count;
        write!(difference, "{mean} thousandths apart").unwrap();
        return mean < NEAR_THOUSANDTHS;
    }
    let mut cells = BTreeMap::<_, usize>::new();
    for (index, _) in apart.enumerate().filter(|(_, apart)| *apart > 0) {
        *cells.entry(cell(index)).or_default() += 1;
    }
    write!(difference, "values apart by cell (row, column): {cells:?}").unwrap();
    cells.is_empty()
}
