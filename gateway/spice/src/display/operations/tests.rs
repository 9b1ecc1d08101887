//! Every drawing operation, from the wire to the pixels of a surface, against what a few lines
//! say that each pixel must become.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::channel::Channel;
use crate::display::event::{CopySource, DisplayEvent, Surface};
use crate::display::numbers::server;
use crate::display::{DisplayChannel, ImageTransfer, View, form};
use crate::geometry::{Point, Rect, SurfaceId};
use crate::link::ChannelKind;
use crate::test_support::{Body, Pointed as Wire, message};

impl Wire {
    fn base(surface: u32, target: Rect, clip: Option<&[Rect]>) -> Self {
        let body = wire_rect(Body::default().u32(surface), &target);
        let body = match clip {
            None => body.u8(0),
            Some(clip) => {
                let count = u32::try_from(clip.len()).unwrap();
                clip.iter().fold(body.u8(1).u32(count), wire_rect)
            }
        };
        Self::new(body)
    }

    fn rect(self, rect: &Rect) -> Self {
        self.add(|body| wire_rect(body, rect))
    }

    fn point(self, x: i32, y: i32) -> Self {
        self.add(|body| body.i32s(&[x, y]))
    }

    fn brush(self, brush: &TestBrush) -> Self {
        match brush {
            TestBrush::None => self.add(|body| body.u8(0)),
            TestBrush::Solid(color) => self.add(|body| body.u8(1).u32(*color)),
            TestBrush::Pattern { image, x, y } => {
                self.add(|body| body.u8(2)).pointer(image.wire()).point(*x, *y)
            }
        }
    }

    fn mask(self, mask: Option<&TestMask>) -> Self {
        let Some(mask) = mask else { return self.add(|body| body.bytes(&[0; 13])) };
        let flags = u8::from(mask.inverted);
        self.add(|body| body.u8(flags)).point(mask.x, mask.y).pointer(mask.wire())
    }
}

fn wire_rect(body: Body, rect: &Rect) -> Body {
    body.i32s(&[rect.top, rect.left, rect.bottom, rect.right])
}

/// An image with alpha, top row first.
#[derive(Clone, Debug)]
struct TestImage {
    width: i32,
    pixels: Vec<u32>,
}

#[derive(Clone, Debug)]
enum TestBrush {
    None,
    Solid(u32),
    Pattern { image: TestImage, x: i32, y: i32 },
}

#[derive(Clone, Debug)]
struct TestMask {
    width: i32,
    bits: Vec<bool>,
    inverted: bool,
    x: i32,
    y: i32,
}

impl TestImage {
    fn height(&self) -> i32 {
        i32::try_from(self.pixels.len()).unwrap() / self.width
    }

    fn at(&self, x: i32, y: i32) -> Option<u32> {
        let inside = (0..self.width).contains(&x) && (0..self.height()).contains(&y);
        inside.then(|| self.pixels[usize::try_from(y * self.width + x).unwrap()])
    }

    fn tiled(&self, x: i32, y: i32) -> u32 {
        self.at(x.rem_euclid(self.width), y.rem_euclid(self.height())).unwrap()
    }

    /// A BITMAP of format RGBA.
    fn wire(&self) -> Body {
        let [width, height] = [self.width, self.height()].map(|side| u32::try_from(side).unwrap());
        let body = Body::default().u64(1).u8(0).u8(0).u32(width).u32(height);
        let body = body.u8(9).u8(4).u32(width).u32(height).u32(4 * width).u32(0);
        self.pixels.iter().fold(body, |body, pixel| body.u32(*pixel))
    }
}

impl TestBrush {
    fn at(&self, x: i32, y: i32) -> u32 {
        match self {
            Self::None => 0,
            Self::Solid(color) => *color,
            Self::Pattern { image, x: left, y: top } => image.tiled(x - left, y - top),
        }
    }
}

impl TestMask {
    fn height(&self) -> i32 {
        i32::try_from(self.bits.len()).unwrap() / self.width
    }

    /// Whether a pixel is drawn that is so far from the left top corner of the destination.
    fn draws(&self, x: i32, y: i32) -> bool {
        let (x, y) = (x + self.x, y + self.y);
        let inside = (0..self.width).contains(&x) && (0..self.height()).contains(&y);
        inside && self.bits[usize::try_from(y * self.width + x).unwrap()] != self.inverted
    }

    /// A BITMAP of format 1BIT_BE, bottom row first.
    fn wire(&self) -> Body {
        let [width, height] = [self.width, self.height()].map(|side| u32::try_from(side).unwrap());
        let stride = width.div_ceil(8);
        let body = Body::default().u64(2).u8(0).u8(0).u32(width).u32(height);
        let body = body.u8(2).u8(0).u32(width).u32(height).u32(stride).u32(0);
        let rows = self.bits.chunks(usize::try_from(self.width).unwrap()).rev();
        rows.fold(body, |body, row| {
            row.chunks(8).fold(body, |body, eight| {
                let bits = eight.iter().enumerate();
                body.u8(bits.fold(0, |byte, (place, set)| byte | (u8::from(*set) << (7 - place))))
            })
        })
    }
}

/// Surfaces that do what events say, in the plainest way.
#[derive(Debug)]
struct Screen {
    display: DisplayChannel,
    surfaces: BTreeMap<SurfaceId, (Surface, Vec<u32>)>,
}

impl Screen {
    /// Surface 0 is the picture, of 8 x 4; 1 has alpha, 2 only may have, 3 to 6 have 555, 565, 8
    /// and 1 bits, and all of those are 4 x 4.
    fn new() -> Self {
        let transfer = ImageTransfer::uncompressed();
        let display = DisplayChannel::over(Channel::opened(ChannelKind::Display), 0, transfer);
        let mut screen = Self { display, surfaces: BTreeMap::new() };
        let small = [(1, 96), (2, 32), (3, 16), (4, 80), (5, 8), (6, 1)];
        screen.tell(server::SURFACE_CREATE, words(&[0, 8, 4, 32, 1]));
        for (id, format) in small {
            screen.tell(server::SURFACE_CREATE, words(&[id, 4, 4, format, 0]));
        }
        screen
    }

    /// Sends a message and draws what comes of it; whether there was anything to draw.
    fn tell(&mut self, kind: u16, body: Vec<u8>) -> bool {
        self.display.receive(&message(kind, &body)).unwrap();
        let mut drew = false;
        while let Some(event) = self.display.next_event().unwrap() {
            drew = true;
            self.draw(event);
        }
        drew
    }

    fn draw(&mut self, event: DisplayEvent) {
        match event {
            DisplayEvent::SurfaceCreated(surface) => {
                let count = usize::try_from(surface.width * surface.height).unwrap();
                self.surfaces.insert(surface.id, (surface, vec![0; count]));
            }
            DisplayEvent::Fill(fill) => {
                self.change(fill.surface, &fill.rects, |_, _, _| u32::from_le_bytes(fill.color));
            }
            DisplayEvent::Combine(combine) => {
                self.change(combine.surface, &combine.rects, |_, _, pixel| {
                    (pixel & combine.and) ^ combine.xor
                });
            }
            DisplayEvent::Copy(copy) => {
                let before = self.surfaces.clone();
                self.change(copy.surface, &copy.rects, |x, y, _| {
                    let (x, y) = (x + copy.offset.x, y + copy.offset.y);
                    match &copy.source {
                        CopySource::Pixels(pixels) => {
                            let row = pixels.row(u32::try_from(y).unwrap()).unwrap();
                            let at = 4 * usize::try_from(x).unwrap();
                            u32::from_le_bytes(row[at..at + 4].try_into().unwrap())
                        }
                        CopySource::Surface(id) => pixel_of(&before[id], x, y),
                    }
                });
            }
            DisplayEvent::CopyBits(copy) => {
                let before = self.surfaces[&copy.surface].clone();
                self.change(copy.surface, &copy.rects, |x, y, _| {
                    pixel_of(&before, x + copy.offset.x, y + copy.offset.y)
                });
            }
            DisplayEvent::Paint(paint) => {
                let before = self.surfaces.clone();
                let views = |id| {
                    before.get(&id).map(|(surface, pixels)| View {
                        width: surface.width,
                        height: surface.height,
                        pixels,
                    })
                };
                let mut painting = paint.begin(&views).unwrap();
                self.change(paint.surface(), paint.rects(), |x, y, pixel| {
                    let mut row = [pixel];
                    painting.row(x, y, &mut row);
                    row[0]
                });
            }
            other => panic!("{other:?}"),
        }
    }

    fn change(
        &mut self,
        id: SurfaceId,
        rects: &[Rect],
        mut pixel: impl FnMut(i32, i32, u32) -> u32,
    ) {
        let (surface, pixels) = self.surfaces.get_mut(&id).unwrap();
        for rect in rects {
            assert!(surface.bounds().contains(rect) && !rect.is_empty(), "{rect:?}");
            for y in rect.top..rect.bottom {
                for x in rect.left..rect.right {
                    let place = usize::try_from(y * surface.bounds().right + x).unwrap();
                    let kept = if surface.primary { form::COLORS } else { u32::MAX };
                    pixels[place] = pixel(x, y, pixels[place]) & kept;
                }
            }
        }
    }

    fn pixels(&self, id: u32) -> &[u32] {
        &self.surfaces[&SurfaceId(id)].1
    }

    fn at(&self, id: u32, x: i32, y: i32) -> u32 {
        pixel_of(&self.surfaces[&SurfaceId(id)], x, y)
    }

    /// Puts an image onto the left top corner of a surface.
    fn put(&mut self, id: u32, image: &TestImage) {
        let target = Rect::new(0, 0, image.width, image.height());
        let wire = Wire::base(id, target, None).pointer(image.wire()).rect(&target);
        self.tell(server::DRAW_COPY, wire.add(|body| body.u16(8).u8(1)).mask(None).build());
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().fold(Body::default(), |body, word| body.u32(*word)).0
}

fn pixel_of((surface, pixels): &(Surface, Vec<u32>), x: i32, y: i32) -> u32 {
    pixels[usize::try_from(y * surface.bounds().right + x).unwrap()]
}

fn solid(width: i32, height: i32, pixel: u32) -> TestImage {
    TestImage { width, pixels: vec![pixel; usize::try_from(width * height).unwrap()] }
}

fn images(width: i32, height: i32) -> impl Strategy<Value = TestImage> {
    let count = usize::try_from(width * height).unwrap();
    vec(any::<u32>(), count).prop_map(move |pixels| TestImage { width, pixels })
}

fn sized_images() -> impl Strategy<Value = TestImage> {
    (1..7_i32, 1..5_i32).prop_flat_map(|(width, height)| images(width, height))
}

fn brushes() -> impl Strategy<Value = TestBrush> {
    prop_oneof![
        Just(TestBrush::None),
        any::<u32>().prop_map(TestBrush::Solid),
        (sized_images(), -9..9_i32, -9..9_i32).prop_map(|(image, x, y)| TestBrush::Pattern {
            image,
            x,
            y
        }),
    ]
}

fn masks() -> impl Strategy<Value = Option<TestMask>> {
    let mask = (1..12_i32, 1..6_i32, any::<bool>(), -2..4_i32, -2..4_i32).prop_flat_map(
        |(width, height, inverted, x, y)| {
            let count = usize::try_from(width * height).unwrap();
            vec(any::<bool>(), count).prop_map(move |bits| TestMask { width, bits, inverted, x, y })
        },
    );
    prop::option::of(mask)
}

fn rects() -> impl Strategy<Value = Rect> {
    (-2..8_i32, -2..4_i32, 0..10_i32, 0..6_i32)
        .prop_map(|(left, top, width, height)| Rect::new(left, top, left + width, top + height))
}

/// Disjoint rectangles, as servers send them.
fn clips() -> impl Strategy<Value = Option<Vec<Rect>>> {
    prop::option::of((0..8_i32, 0..4_i32).prop_map(|(x, y)| {
        vec![Rect::new(0, 0, x, y), Rect::new(x, y, 8, 4), Rect::new(x + 1, 0, 9, y)]
    }))
}

/// Whether a pixel is inside of the destination and of the clip.
fn is_hit(x: i32, y: i32, target: &Rect, clip: Option<&[Rect]>) -> bool {
    let inside =
        |rect: &Rect| (rect.left..rect.right).contains(&x) && (rect.top..rect.bottom).contains(&y);
    inside(target) && clip.is_none_or(|clip| clip.iter().any(inside))
}

/// What all tests of raster operations vary.
#[derive(Clone, Debug)]
struct Case {
    before: TestImage,
    source: TestImage,
    /// Where in the source the destination's left top corner is.
    corner: (i32, i32),
    brush: TestBrush,
    mask: Option<TestMask>,
    target: Rect,
    clip: Option<Vec<Rect>>,
}

fn cases() -> impl Strategy<Value = Case> {
    (images(8, 4), sized_images(), (-2..4_i32, -2..4_i32), brushes(), masks(), rects(), clips())
        .prop_map(|(before, source, corner, brush, mask, target, clip)| Case {
            before,
            source,
            corner,
            brush,
            mask,
            target,
            clip,
        })
}

impl Case {
    fn base(&self, surface: u32) -> Wire {
        Wire::base(surface, self.target, self.clip.as_deref())
    }

    fn area(&self) -> Rect {
        let (x, y) = self.corner;
        let width = self.target.right - self.target.left;
        Rect::new(x, y, x + width, y + self.target.bottom - self.target.top)
    }

    fn sourced(&self, surface: u32) -> Wire {
        self.base(surface).pointer(self.source.wire()).rect(&self.area())
    }

    /// Draws, and compares all pixels with what `rule` makes of brush, source and destination;
    /// nothing is drawn where a source is read and there is none.
    fn check(
        &self,
        (kind, body): (u16, Vec<u8>),
        reads_source: bool,
        rule: impl Fn(u32, u32, u32) -> u32,
    ) -> Result<(), TestCaseError> {
        let mut screen = Screen::new();
        screen.put(0, &self.before);
        screen.tell(kind, body);
        for y in 0..4 {
            for x in 0..8 {
                let before = self.before.at(x, y).unwrap();
                let (right, down) = (x - self.target.left, y - self.target.top);
                let source = self.source.at(right + self.corner.0, down + self.corner.1);
                let is_drawn = is_hit(x, y, &self.target, self.clip.as_deref())
                    && self.mask.as_ref().is_none_or(|mask| mask.draws(right, down))
                    && (source.is_some() || !reads_source);
                let brush = self.brush.at(x, y);
                let expected =
                    if is_drawn { rule(brush, source.unwrap_or(0), before) } else { before };
                let found = screen.at(0, x, y);
                prop_assert_eq!(found, expected & form::COLORS, "at {}, {}", x, y);
            }
        }
        Ok(())
    }
}

/// What a descriptor says, for one that names one operation.
fn described(descriptor: u16, [over, over_flag]: [u32; 2], [under, under_flag]: [u32; 2]) -> u32 {
    let flip = |flag: u32, value: u32| {
        if u32::from(descriptor) & flag != 0 { !value } else { value }
    };
    let (a, b) = (flip(over_flag, over), flip(under_flag, under));
    let inverted = |value| flip(1 << 10, value);
    match descriptor & 0x3f8 {
        0x008 => inverted(a),
        0x010 => inverted(a | b),
        0x020 => inverted(a & b),
        0x040 => inverted(a ^ b),
        0x080 => 0,
        0x100 => !0,
        _ => !under,
    }
}

fn descriptors() -> impl Strategy<Value = u16> {
    let flags = prop::sample::select(vec![0, 1, 2, 4, 5, 6, 0x400, 0x401, 0x406_u16]);
    (flags, 3..10_u16).prop_map(|(flags, operation)| flags | (1 << operation))
}

const SOURCE_FLAG: u32 = 1;
const BRUSH_FLAG: u32 = 2;
const DESTINATION_FLAG: u32 = 4;

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..Default::default() })]

    #[test]
    fn rop3_is_its_truth_table_at_every_pixel(case in cases(), code: u8) {
        let wire = case.sourced(0).brush(&case.brush).add(|body| body.u8(code).u8(1));
        let drawing = (server::DRAW_ROP3, wire.mask(case.mask.as_ref()).build());
        case.check(drawing, true, |brush, source, destination| {
            (0..32).fold(0, |result, place| {
                let bit = |pixel: u32| (pixel >> place) & 1;
                let row = 4 * bit(brush) + 2 * bit(source) + bit(destination);
                result | (u32::from((code >> row) & 1) << place)
            })
        })?;
    }

    #[test]
    fn fills_mix_brush_and_destination(case in cases(), descriptor in descriptors()) {
        let wire = case.base(0).brush(&case.brush).add(|body| body.u16(descriptor));
        let drawing = (server::DRAW_FILL, wire.mask(case.mask.as_ref()).build());
        case.check(drawing, false, |brush, _, destination| {
            described(descriptor, [brush, BRUSH_FLAG], [destination, DESTINATION_FLAG])
        })?;
    }

    #[test]
    fn copies_and_blends_mix_source_and_destination(
        case in cases(), descriptor in descriptors(), blend: bool,
    ) {
        let kind = if blend { server::DRAW_BLEND } else { server::DRAW_COPY };
        let wire = case.sourced(0).add(|body| body.u16(descriptor).u8(1));
        let drawing = (kind, wire.mask(case.mask.as_ref()).build());
        case.check(drawing, true, |_, source, destination| {
            described(descriptor, [source, SOURCE_FLAG], [destination, DESTINATION_FLAG])
        })?;
    }

    #[test]
    fn opaque_drawings_mix_brush_and_source(case in cases(), descriptor in descriptors()) {
        let wire = case.sourced(0).brush(&case.brush).add(|body| body.u16(descriptor).u8(1));
        let drawing = (server::DRAW_OPAQUE, wire.mask(case.mask.as_ref()).build());
        case.check(drawing, true, |brush, source, _| {
            described(descriptor, [brush, BRUSH_FLAG], [source, SOURCE_FLAG])
        })?;
    }

    #[test]
    fn constants_go_through_masks(case in cases(), number in 0..3_usize) {
        let kind = [server::DRAW_BLACKNESS, server::DRAW_WHITENESS, server::DRAW_INVERS][number];
        let drawing = (kind, case.base(0).mask(case.mask.as_ref()).build());
        case.check(drawing, false, |_, _, destination| [0, !0, !destination][number])?;
    }

    #[test]
    fn transparent_drawings_leave_out_one_colour(mut case in cases(), key in 0..3_u32) {
        let few = case.source.pixels.iter_mut();
        few.for_each(|pixel| *pixel &= 0xff00_0003);
        case.mask = None;
        let wire = case.sourced(0).add(|body| body.u32(99).u32(key | 0x5500_0000));
        case.check((server::DRAW_TRANSPARENT, wire.build()), true, |_, source, destination| {
            if source & form::COLORS == key { destination } else { source }
        })?;
    }

    #[test]
    fn an_alpha_blend_is_over_within_a_rounding(mut case in cases(), strength: u8) {
        // Colours multiplied by alpha are not above it.
        for pixel in &mut case.source.pixels {
            let [blue, green, red, alpha] = pixel.to_le_bytes();
            *pixel = u32::from_le_bytes([blue.min(alpha), green.min(alpha), red.min(alpha), alpha]);
        }
        let area = case.area();
        let wire = case.base(0).add(|body| body.u8(0).u8(strength)).pointer(case.source.wire());
        let mut screen = Screen::new();
        screen.put(0, &case.before);
        screen.tell(server::DRAW_ALPHA_BLEND, wire.rect(&area).build());
        for y in 0..4 {
            for x in 0..8 {
                let before = case.before.at(x, y).unwrap().to_le_bytes();
                let (right, down) = (x - case.target.left, y - case.target.top);
                let source = case.source.at(right + case.corner.0, down + case.corner.1);
                let source = source.filter(|_| is_hit(x, y, &case.target, case.clip.as_deref()));
                let [blue, green, red, alpha] = source.unwrap_or(0).to_le_bytes().map(f64::from);
                let strength = f64::from(strength) / 255.0;
                let rest = 1.0 - alpha * strength / 255.0;
                let found = screen.at(0, x, y).to_le_bytes();
                for (channel, color) in [blue, green, red].into_iter().enumerate() {
                    let expected = color * strength + f64::from(before[channel]) * rest;
                    let error = (f64::from(found[channel]) - expected).abs();
                    prop_assert!(error <= 2.0, "{found:?} for {expected} in {channel}");
                }
            }
        }
    }

    #[test]
    fn a_surface_may_be_drawn_onto_itself(
        before in images(8, 4), code: u8, x in -8..8_i32, y in -4..4_i32,
    ) {
        // By way of a copy of itself as an image, which must give the same.
        let target = Rect::new(0, 0, 8, 4);
        let area = target.moved(Point::new(x, y));
        let surface = Body::default().u64(1).u8(104).u8(0).u32(8).u32(4).u32(0);
        let image = TestImage {
            width: 8, pixels: before.pixels.iter().map(|pixel| pixel & form::COLORS).collect(),
        };
        let drawn = |part: Body| {
            let wire = Wire::base(0, target, None).pointer(part).rect(&area);
            let wire = wire.brush(&TestBrush::Solid(0x12_3456)).add(|body| body.u8(code).u8(1));
            let mut screen = Screen::new();
            screen.put(0, &before);
            screen.tell(server::DRAW_ROP3, wire.mask(None).build());
            screen.pixels(0).to_vec()
        };
        prop_assert_eq!(drawn(surface), drawn(image.wire()));
    }
}

/// The digits of a picture: each pixel as one hexadecimal digit of its lowest 4 bits.
fn picture(screen: &Screen, id: u32) -> String {
    let width = usize::try_from(screen.surfaces[&SurfaceId(id)].0.width).unwrap();
    let rows = screen.pixels(id).chunks(width).map(|row| {
        row.iter().map(|pixel| char::from_digit(pixel & 15, 16).unwrap()).collect::<String>()
    });
    rows.collect::<Vec<_>>().join(" ")
}

/// A stroke of lines through these points, in pixels.
fn stroke(lines: &[(u8, &[[i32; 2]])], style: Option<(u8, &[i32])>, brush: &TestBrush) -> Wire {
    let count = u32::try_from(lines.len()).unwrap();
    let path = lines.iter().fold(Body::default().u32(count), |body, (flags, points)| {
        let body = body.u8(*flags).u32(u32::try_from(points.len()).unwrap());
        points.iter().fold(body, |body, [x, y]| body.i32s(&[16 * x, 16 * y]))
    });
    let wire = Wire::base(0, Rect::new(0, 0, 8, 4), None).pointer(path);
    let wire = match style {
        None => wire.add(|body| body.u8(0)),
        Some((flags, lengths)) => {
            let style =
                lengths.iter().fold(Body::default(), |body, length| body.i32s(&[16 * length]));
            let count = u8::try_from(lengths.len()).unwrap();
            wire.add(|body| body.u8(flags).u8(count)).pointer(style)
        }
    };
    wire.brush(brush)
}

#[test]
fn strokes_draw_each_pixel_of_an_outline_once() {
    const INVERT: u16 = 1 << 6;
    let outline: (u8, &[[i32; 2]]) = (0b1011, &[[1, 0], [6, 0], [6, 3], [1, 3]]);
    let mut screen = Screen::new();
    let wire = stroke(&[outline], None, &TestBrush::Solid(0xf));
    screen.tell(server::DRAW_STROKE, wire.add(|body| body.u16(INVERT).u16(0)).build());
    assert_eq!(picture(&screen, 0), "0ffffff0 0f0000f0 0f0000f0 0ffffff0");
    // Without the flag that closes it, the last side is missing, and the last point is left out.
    let open = (0b0011, outline.1);
    let wire = stroke(&[open], None, &TestBrush::Solid(0xf));
    screen.tell(server::DRAW_STROKE, wire.add(|body| body.u16(INVERT).u16(0)).build());
    assert_eq!(picture(&screen, 0), "00000000 0f000000 0f000000 0f000000");
}

#[test]
fn strokes_have_styles_patterns_and_several_lines() {
    const PUT: u16 = 1 << 3;
    let lines: [(u8, &[[i32; 2]]); 2] = [(0b0011, &[[0, 0], [8, 0]]), (0b0011, &[[0, 2], [7, 2]])];
    let mut screen = Screen::new();
    let wire = stroke(&lines, Some((8, &[3, 2])), &TestBrush::Solid(5));
    screen.tell(server::DRAW_STROKE, wire.add(|body| body.u16(PUT).u16(0)).build());
    assert_eq!(picture(&screen, 0), "55500555 00000000 55500550 00000000");
    let mut screen = Screen::new();
    let image = TestImage { width: 3, pixels: vec![1, 2, 3, 4, 5, 6] };
    let pattern = TestBrush::Pattern { image, x: 1, y: 1 };
    let wire = stroke(&lines, Some((12, &[3, 2])), &pattern);
    screen.tell(server::DRAW_STROKE, wire.add(|body| body.u16(PUT).u16(0)).build());
    assert_eq!(picture(&screen, 0), "00064000 00000000 00064000 00000000");
}

#[test]
fn curves_go_through_their_ends_and_stay_inside_of_their_control_points() {
    let curve: (u8, &[[i32; 2]]) = (0b1_0011, &[[0, 0], [0, 4], [7, 4], [7, 0]]);
    let mut screen = Screen::new();
    let wire = stroke(&[curve], None, &TestBrush::Solid(1));
    screen.tell(server::DRAW_STROKE, wire.add(|body| body.u16(8).u16(0)).build());
    // B(t) = ((1-t)^3, ...): at t = 1/2 it is at (3.5, 3).
    let pixels = picture(&screen, 0);
    assert_eq!(pixels.matches('1').count(), 9, "{pixels}");
    let rows: Vec<&str> = pixels.split(' ').collect();
    assert!(rows[0].starts_with('1') && rows[3][2..6].contains('1'), "{pixels}");
}

/// A DRAW_TEXT of two glyphs of 2 x 2 beside each other at (1, 1).
fn text(flags: u8, data: [&[u8]; 2], back: &Rect, brushes: [&TestBrush; 2]) -> Vec<u8> {
    let string = Body::default().u16(2).u8(flags);
    let string = data
        .iter()
        .zip([1, 3])
        .fold(string, |body, (data, x)| body.i32s(&[x, 3, 0, -2]).u16(2).u16(2).bytes(data));
    let wire = Wire::base(0, Rect::new(0, 0, 8, 4), None).pointer(string).rect(back);
    wire.brush(brushes[0]).brush(brushes[1]).add(|body| body.u16(8).u16(8)).build()
}

#[test]
fn text_is_put_through_its_glyphs_over_its_background() {
    let (fore, back) = (TestBrush::Solid(7), TestBrush::Solid(2));
    let data: [&[u8]; 2] = [&[0x80, 0x40], &[0xc0, 0x00]];
    let nowhere = Rect::default();
    let mut screen = Screen::new();
    screen.tell(server::DRAW_TEXT, text(1, data, &nowhere, [&fore, &TestBrush::None]));
    assert_eq!(picture(&screen, 0), "00000000 00700000 07077000 00000000");
    let mut screen = Screen::new();
    let behind = Rect::new(1, 0, 5, 3);
    screen.tell(server::DRAW_TEXT, text(1 | 8, data, &behind, [&fore, &back]));
    assert_eq!(picture(&screen, 0), "02222000 07277000 02722000 00000000");
    // Each event reports only what it draws on.
    let body = text(1, data, &behind, [&TestBrush::None, &back]);
    let mut screen = Screen::new();
    screen.tell(server::DRAW_TEXT, body);
    assert_eq!(picture(&screen, 0), "02222000 02222000 02222000 00000000");
}

#[test]
fn smooth_text_blends_brush_and_destination() {
    let white = TestBrush::Solid(0x00ff_ffff);
    let four: [&[u8]; 2] = [&[0x0f, 0x80], &[0, 0]];
    let nowhere = Rect::default();
    let mut screen = Screen::new();
    screen.tell(server::DRAW_TEXT, text(2, four, &nowhere, [&white, &TestBrush::None]));
    let row = |screen: &Screen, y: i32| [1, 2].map(|x| screen.at(0, x, y) & 0xff);
    assert_eq!([row(&screen, 1), row(&screen, 2)], [[0x80, 0], [0, 0xf0]]);
    let eight: [&[u8]; 2] = [&[0, 64, 128, 255], &[0; 4]];
    let mut screen = Screen::new();
    screen.put(0, &solid(8, 4, 0x40_4040));
    screen.tell(server::DRAW_TEXT, text(4, eight, &nowhere, [&white, &TestBrush::None]));
    // 64 + (255 - 64) x coverage / 255
    assert_eq!([row(&screen, 1), row(&screen, 2)], [[160, 255], [64, 112]]);
    let image = TestImage { width: 2, pixels: vec![0x11, 0x22] };
    let pattern = TestBrush::Pattern { image, x: 0, y: 0 };
    let mut screen = Screen::new();
    screen.tell(server::DRAW_TEXT, text(4, eight, &nowhere, [&pattern, &TestBrush::None]));
    assert_eq!(row(&screen, 1), [0x11, 0x11]);
}

#[test]
fn scaled_drawings_take_the_nearest_or_slide() {
    let image = TestImage { width: 2, pixels: vec![0x40, 0x80] };
    let drawn = |mode: u8, target: Rect, kind: u16| {
        let area = Rect::new(0, 0, 2, 1);
        let wire = Wire::base(0, target, None).pointer(image.wire()).rect(&area);
        let wire = wire.add(|body| body.u16(8).u8(mode)).mask(None);
        let mut screen = Screen::new();
        screen.tell(kind, wire.build());
        screen.pixels(0)[..8].to_vec()
    };
    let target = Rect::new(2, 0, 6, 1);
    let nearest = drawn(1, target, server::DRAW_COPY);
    assert_eq!(nearest, [0, 0, 0x40, 0x40, 0x80, 0x80, 0, 0]);
    let smooth = drawn(0, target, server::DRAW_BLEND);
    assert_eq!(smooth, [0, 0, 0x30, 0x50, 0x70, 0x60, 0, 0]);
    let cut = drawn(1, Rect::new(-2, 0, 2, 1), server::DRAW_COPY);
    assert_eq!(cut, [0x80, 0x80, 0, 0, 0, 0, 0, 0]);
}

/// A COMPOSITE of an image onto a part of a surface.
struct Composite {
    flags: u32,
    image: Body,
    mask: Option<Body>,
    transform: Option<[i32; 6]>,
    origin: [i16; 2],
}

impl Composite {
    fn of(operator: u32, image: &TestImage) -> Self {
        let image = image.wire();
        Self { flags: operator, image, mask: None, transform: None, origin: [0, 0] }
    }

    fn build(self, surface: u32, target: Rect) -> Vec<u8> {
        let has_mask = u32::from(self.mask.is_some()) << 19;
        let flags = self.flags | has_mask | (u32::from(self.transform.is_some()) << 20);
        let wire = Wire::base(surface, target, None).add(|body| body.u32(flags));
        let mut wire = wire.pointer(self.image);
        if let Some(mask) = self.mask {
            wire = wire.pointer(mask);
        }
        if let Some(transform) = self.transform {
            wire = wire.add(|body| body.i32s(&transform));
        }
        let origin = self.origin.map(i16::to_le_bytes);
        wire.add(|body| body.bytes(&origin[0]).bytes(&origin[1]).u32(0)).build()
    }
}

fn composited(surface: u32, target: Rect, before: u32, composite: Composite) -> Vec<u32> {
    let mut screen = Screen::new();
    screen.put(surface, &solid(4, 4, before));
    screen.tell(server::DRAW_COMPOSITE, composite.build(surface, target));
    screen.pixels(surface).to_vec()
}

#[test]
fn composites_use_operator_alpha_and_opaque_flags() {
    let one = Rect::new(0, 0, 1, 1);
    let half = solid(1, 1, 0x8000_4080);
    let first = |surface, before, composite| composited(surface, one, before, composite)[0];
    assert_eq!(first(1, 0xffff_ffff, Composite::of(3, &half)), 0xff7f_bfff);
    assert_eq!(first(1, 0x4000_0000, Composite::of(3, &half)), 0xa000_4080);
    assert_eq!(first(1, 0x4000_0000, Composite::of(1, &half)), 0x8000_4080);
    // IN: as much of the source as there is destination; on the screen there is all of it.
    assert_eq!(first(1, 0x8000_0000, Composite::of(5, &half)), 0x4000_2040);
    assert_eq!(first(0, 0, Composite::of(5, &half)), 0x4080);
    // The source without its alpha covers all.
    let opaque = Composite { flags: 3 | 1 << 22, ..Composite::of(3, &half) };
    assert_eq!(first(1, 0xffff_ffff, opaque), 0xff00_4080);
    // The destination without its alpha counts as opaque.
    let opaque = Composite { flags: 5 | 1 << 24, ..Composite::of(5, &half) };
    assert_eq!(first(1, 0x0000_0000, opaque) & form::COLORS, 0x4080);
    // Onto surfaces of alpha alone, of which one bit is left if there is but one.
    assert_eq!(first(5, 0x4000_0000, Composite::of(12, &half)), 0xc000_0000);
    assert_eq!(first(6, 0x0000_0000, Composite::of(12, &half)), 0xff00_0000);
    // Onto 5 bits of each colour.
    assert_eq!(first(3, 0, Composite::of(1, &solid(1, 1, 0xffff_8107))) & form::COLORS, 0xff_8400);
}

#[test]
fn composites_go_through_masks() {
    let one = Rect::new(0, 0, 2, 1);
    let masked = |flags: u32, mask: Body| {
        let white = solid(2, 1, 0xffff_ffff);
        let composite = Composite { flags, mask: Some(mask), ..Composite::of(3, &white) };
        composited(1, one, 0xff00_0000, composite)[..2].to_vec()
    };
    let mask = TestImage { width: 2, pixels: vec![0x8011_2233, 0xff00_80ff] };
    assert_eq!(masked(3, mask.wire()), [0xff80_8080, 0xffff_ffff]);
    assert_eq!(masked(3 | 1 << 18, mask.wire()), [0xff11_2233, 0xff00_80ff]);
    assert_eq!(masked(3 | 1 << 23, mask.wire()), [0xffff_ffff, 0xffff_ffff]);
    // A bitmap of alpha alone (8BIT_A).
    let alpha = Body::default().u64(3).u8(0).u8(0).u32(2).u32(1);
    let alpha = alpha.u8(10).u8(4).u32(2).u32(1).u32(2).u32(0).bytes(&[0x40, 0x00]);
    assert_eq!(masked(3, alpha), [0xff40_4040, 0xff00_0000]);
}

#[test]
fn composites_transform_and_repeat_their_source() {
    let row = Rect::new(0, 0, 4, 1);
    let image = TestImage { width: 2, pixels: vec![0xff00_0001, 0xff00_0002] };
    let drawn = |flags: u32, transform: Option<[i32; 6]>, origin: [i16; 2]| {
        let composite =
            Composite { flags: 1 | flags, transform, origin, ..Composite::of(1, &image) };
        let pixels = composited(1, row, 0, composite);
        pixels[..4].iter().map(|pixel| pixel & 15).collect::<Vec<_>>()
    };
    const ONE: i32 = 1 << 16;
    let (normal, pad, reflect) = (1 << 14, 2 << 14, 3 << 14);
    assert_eq!(drawn(0, None, [0, 0]), [1, 2, 0, 0]);
    assert_eq!(drawn(0, None, [-1, 0]), [0, 1, 2, 0]);
    assert_eq!(drawn(normal, None, [1, 5]), [2, 1, 2, 1]);
    assert_eq!(drawn(pad, None, [-1, -3]), [1, 1, 2, 2]);
    assert_eq!(drawn(reflect, None, [0, 0]), [1, 2, 2, 1]);
    let twice = [ONE / 2, 0, 0, 0, ONE, 0];
    assert_eq!(drawn(3 << 8, Some(twice), [0, 0]), [1, 1, 2, 2]);
    let mirrored = [-ONE, 0, 2 * ONE, 0, ONE, 0];
    assert_eq!(drawn(3 << 8, Some(mirrored), [0, 0]), [2, 1, 0, 0]);
    let turned = [0, ONE, 0, ONE, 0, 0];
    assert_eq!(drawn(0, Some(turned), [0, 0]), [1, 0, 0, 0]);
}

#[test]
fn surfaces_off_the_screen_keep_their_alpha_for_later() {
    let pixels = vec![0x8000_0040; 16];
    let image = TestImage { width: 4, pixels };
    let one = Rect::new(0, 0, 1, 1);
    let blended = |from: u32, flags: u8| {
        let mut screen = Screen::new();
        screen.put(from, &image);
        let surface = Body::default().u64(1).u8(104).u8(0).u32(4).u32(4).u32(from);
        let wire = Wire::base(0, one, None).add(|body| body.u8(flags).u8(255));
        screen.put(0, &solid(1, 1, 0xff));
        screen.tell(server::DRAW_ALPHA_BLEND, wire.pointer(surface).rect(&one).build());
        screen.at(0, 0, 0)
    };
    // 0x40 + 0xff x 127 / 255
    assert_eq!(blended(1, 0), 0xbf);
    assert_eq!(blended(2, 0), 0x40);
    assert_eq!(blended(2, 2), 0xbf);
}

#[test]
fn undefined_alpha_counts_only_where_a_drawing_declares_it() {
    let one = Rect::new(0, 0, 1, 1);
    // 32BIT, bottom-up or top-down, with an alpha byte of 0x80 that means nothing yet.
    let image = |bitmap_flags: u8, image_flags: u8| {
        let body = Body::default().u64(1).u8(0).u8(image_flags).u32(1).u32(1);
        let body = body.u8(8).u8(bitmap_flags).u32(1).u32(1).u32(4).u32(0);
        body.u32(0x8000_0040)
    };
    let surface = || Body::default().u64(1).u8(104).u8(0).u32(4).u32(4).u32(2);
    let blended = |first: Option<Body>, source: Body| {
        let mut screen = Screen::new();
        screen.put(0, &solid(1, 1, 0xff));
        if let Some(image) = first {
            let wire = Wire::base(2, one, None).pointer(image).rect(&one);
            let wire = wire.add(|body| body.u16(8).u8(1)).mask(None);
            screen.tell(server::DRAW_COPY, wire.build());
        }
        let wire = Wire::base(0, one, None).add(|body| body.u8(2).u8(255));
        screen.tell(server::DRAW_ALPHA_BLEND, wire.pointer(source).rect(&one).build());
        screen.at(0, 0, 0)
    };
    for bitmap_flags in [0, 4] {
        assert_eq!(blended(None, image(bitmap_flags, 0)), 0x40);
        assert_eq!(blended(Some(image(bitmap_flags, 0)), surface()), 0xbf);
        // HIGH_BITS_SET: it is 255, whatever is there.
        assert_eq!(blended(Some(image(bitmap_flags, 2)), surface()), 0x40);
    }
}

#[test]
fn surfaces_of_few_bits_hold_what_they_can() {
    let image = TestImage { width: 2, pixels: vec![0xff08_0c17, 0x7fff_ffff] };
    let held = |surface: u32| {
        let mut screen = Screen::new();
        screen.put(surface, &image);
        screen.pixels(surface)[..2].to_vec()
    };
    assert_eq!(
        held(3).iter().map(|pixel| pixel & form::COLORS).collect::<Vec<_>>(),
        [0x08_0810, 0xff_ffff]
    );
    assert_eq!(
        held(4).iter().map(|pixel| pixel & form::COLORS).collect::<Vec<_>>(),
        [0x08_0c10, 0xff_ffff]
    );
    assert_eq!(held(5), [0xff00_0000, 0x7f00_0000]);
    assert_eq!(held(6), [0xff00_0000, 0x0000_0000]);
    let mut screen = Screen::new();
    let fill = |surface| Wire::base(surface, Rect::new(0, 0, 1, 1), None);
    for (surface, color, expected) in [
        (1, 0x1234_5678, 0x1234_5678),
        (2, 0x1234_5678, 0x1234_5678),
        (5, 0x1234_5678, 0x7800_0000),
        (6, 0x1234_5679, 0xff00_0000),
    ] {
        let wire = fill(surface).brush(&TestBrush::Solid(color)).add(|body| body.u16(8));
        screen.tell(server::DRAW_FILL, wire.mask(None).build());
        assert_eq!(screen.at(surface, 0, 0), expected, "surface {surface}");
    }
}

#[test]
fn surfaces_of_alpha_alone_have_no_colours() {
    let target = Rect::new(0, 0, 1, 1);
    for (surface, inverted) in [(5, 0x8700_0000), (6, 0xff00_0000)] {
        let mut screen = Screen::new();
        let wire = Wire::base(surface, target, None).brush(&TestBrush::Solid(0x78));
        screen.tell(server::DRAW_FILL, wire.add(|body| body.u16(8)).mask(None).build());
        screen.tell(server::DRAW_INVERS, Wire::base(surface, target, None).mask(None).build());
        assert_eq!(screen.at(surface, 0, 0), inverted);
        let all = TestMask { width: 1, bits: vec![true], inverted: false, x: 0, y: 0 };
        for mask in [None, Some(&all)] {
            screen
                .tell(server::DRAW_BLACKNESS, Wire::base(surface, target, None).mask(mask).build());
            assert_eq!(screen.at(surface, 0, 0), 0);
            screen
                .tell(server::DRAW_WHITENESS, Wire::base(surface, target, None).mask(mask).build());
            assert_eq!(screen.at(surface, 0, 0), form::ALPHA);
        }
    }
}

#[test]
fn masks_come_from_the_cache_and_from_surfaces() {
    let target = Rect::new(0, 0, 4, 1);
    let cached = |kind: u8| Body::default().u64(2).u8(kind).u8(0).u32(4).u32(1);
    let fill = |color: u32, mask: Body| {
        let wire = Wire::base(0, target, None).brush(&TestBrush::Solid(color));
        wire.add(|body| body.u16(8).u8(0)).point(0, 0).pointer(mask).build()
    };
    let mut screen = Screen::new();
    let bits = Body::default().u64(2).u8(0).u8(1).u32(4).u32(1);
    let bits = bits.u8(1).u8(4).u32(4).u32(1).u32(1).u32(0).u8(0b0101);
    screen.tell(server::DRAW_FILL, fill(1, bits));
    assert_eq!(screen.pixels(0)[..4], [1, 0, 1, 0]);
    screen.tell(server::DRAW_FILL, fill(2, cached(103)));
    assert_eq!(screen.pixels(0)[..4], [2, 0, 2, 0]);
    screen.put(6, &TestImage { width: 2, pixels: vec![0, 0xff00_0000] });
    let surface = Body::default().u64(1).u8(104).u8(0).u32(4).u32(4).u32(6);
    screen.tell(server::DRAW_FILL, fill(3, surface));
    assert_eq!(screen.pixels(0)[..4], [2, 3, 2, 0]);
}

/// What ends the channel when a hostile message is drawn.
fn refusal(kind: u16, body: Vec<u8>) -> String {
    let mut screen = Screen::new();
    let large = words(&[0, 7680, 4352, 32, 1]);
    screen.display.receive(&message(server::SURFACE_CREATE, &large)).unwrap();
    screen.display.next_event().unwrap();
    screen.display.receive(&message(kind, &body)).unwrap();
    // Not by unwrap_err, which would print what was drawn.
    screen.display.next_event().err().map_or("drawn".to_owned(), |error| error.to_string())
}

#[test]
fn what_one_message_may_cost_is_limited() {
    let whole = Rect::of_size(7680, 4352);
    let three = [whole, whole, whole];
    let wire = Wire::base(0, whole, Some(&three)).brush(&TestBrush::Solid(0));
    assert_eq!(
        refusal(server::DRAW_FILL, wire.add(|body| body.u16(8)).mask(None).build()),
        "the server's drawing in pixels is 100270080, more than the 66846720 that are allowed"
    );
    let zigzag: Vec<[i32; 2]> = (0..300).map(|turn| [0, turn % 2 * 4351]).collect();
    let lines: [(u8, &[[i32; 2]]); 1] = [(0b0011, &zigzag)];
    let mut wire = stroke(&lines, None, &TestBrush::Solid(0));
    wire.body.0[4..20].copy_from_slice(&wire_rect(Body::default(), &whole).0);
    assert_eq!(
        refusal(server::DRAW_STROKE, wire.add(|body| body.u16(8).u16(0)).build()),
        "the server's stroke in runs of pixels is 1048577, more than the 1048576 that are allowed"
    );
    let across: Vec<[i32; 2]> = (0..9000).map(|turn| [turn % 2 * 7679, 0]).collect();
    let lines: [(u8, &[[i32; 2]]); 1] = [(0b0011, &across)];
    let mut wire = stroke(&lines, Some((8, &[0, 9])), &TestBrush::Solid(0));
    wire.body.0[4..20].copy_from_slice(&wire_rect(Body::default(), &whole).0);
    assert_eq!(
        refusal(server::DRAW_STROKE, wire.add(|body| body.u16(8).u16(0)).build()),
        "the server's stroke in pixels is 66846721, more than the 66846720 that are allowed"
    );
    let points = vec![[0, 0]; (1 << 20) + 1];
    let lines: [(u8, &[[i32; 2]]); 1] = [(0b0011, &points)];
    let wire = stroke(&lines, None, &TestBrush::Solid(0));
    assert_eq!(
        refusal(server::DRAW_STROKE, wire.add(|body| body.u16(8).u16(0)).build()),
        "the server's path in points is 1048577, more than the 1048576 that are allowed"
    );
    let clip = vec![Rect::new(0, 0, 1, 1); 16_384];
    let lines: [(u8, &[[i32; 2]]); 1] = [(0b0011, &[[0, 0], [0, 1], [0, 0]])];
    let strokes = |count: usize| {
        let lines = vec![lines[0]; count];
        let path = stroke(&lines, None, &TestBrush::Solid(0));
        let wire = Wire::base(0, whole, Some(&clip));
        let wire = wire.pointer(path.parts[0].1.clone()).add(|body| body.u8(0));
        let wire = wire.brush(&TestBrush::Solid(0)).add(|body| body.u16(8).u16(0));
        refusal(server::DRAW_STROKE, wire.build())
    };
    assert_eq!(
        strokes(5000),
        "the server's stroke times its clip is 81920000, more than the 67108864 that are allowed"
    );
    assert_eq!(
        strokes(100),
        "the server's clipped stroke in runs of pixels is 1048577, more than the 1048576 that are \
         allowed"
    );
    let rows = vec![Rect::new(0, 0, 7680, 1); 8000];
    let lines: [(u8, &[[i32; 2]]); 2] = [(0b0011, &[[0, 0], [7680, 0]]); 2];
    let path = stroke(&lines, None, &TestBrush::Solid(0));
    let wire = Wire::base(0, whole, Some(&rows));
    let wire = wire.pointer(path.parts[0].1.clone()).add(|body| body.u8(0));
    let wire = wire.brush(&TestBrush::Solid(0)).add(|body| body.u16(8).u16(0));
    assert_eq!(
        refusal(server::DRAW_STROKE, wire.build()),
        "the server's clipped stroke in pixels is 122880000, more than the 66846720 that are allowed"
    );
    let string = Body::default().u16(1).u8(4).i32s(&[0, 0, 0, 0]).u16(60_000).u16(60_000);
    let wire = Wire::base(0, whole, None).pointer(string).rect(&whole);
    let brush = TestBrush::Solid(1);
    assert_eq!(
        refusal(server::DRAW_TEXT, wire.brush(&brush).brush(&brush).build()),
        "the server's text is cut short; the stream is damaged, connect again"
    );
}
