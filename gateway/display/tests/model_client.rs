//! Whatever a guest draws, and however slowly bytes, jobs and acknowledgements move, each viewer
//! ends with the guest's picture, and shows at each frame end what the guest showed at one moment.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::indexing_slicing, reason = "a failed index is a failed test")]
#![expect(clippy::panic, reason = "a panic is a failed test")]

use std::collections::{BTreeMap, VecDeque};
use std::io::Cursor;
use std::time::Duration;

use bytes::Bytes;
use openh264::decoder::Decoder;
use openh264::formats::YUVSource;
use proptest::prelude::*;
use vidi_display::protocol::{BrowserHello, ViewerMessage};
use vidi_display::{
    Effect, EncodeJob, IN_SOCKET_MESSAGES_MAX, Session, ViewerId, ViewerRights, encode,
};
use vidi_spice::display::{
    Combine, Copy, CopyBits, CopySource, DisplayEvent, Fill, Paint, Pixels, Surface, SurfaceFormat,
};
use vidi_spice::{
    AgentAbilities, AgentEvent, ClipboardKind, ClipboardPiece, CursorEvent, Point, Rect, Scancode,
    SurfaceId,
};

const ID: SurfaceId = SurfaceId(0);

#[derive(Clone, Copy, Debug)]
enum Step {
    Fill {
        rect: Rect,
        shade: u8,
    },
    Invert {
        rect: Rect,
    },
    Mix {
        rect: Rect,
        offset: Point,
    },
    Picture {
        rect: Rect,
        seed: u32,
    },
    /// Of 256 colours.
    Noise {
        rect: Rect,
        seed: u32,
    },
    Photo {
        rect: Rect,
        seed: u32,
    },
    /// Soft, with a texture: one of a moving picture.
    Movie {
        rect: Rect,
        seed: u32,
    },
    CopyBits {
        rect: Rect,
        offset: Point,
    },
    Surface {
        width: u32,
        height: u32,
    },
    DestroySurface,
    /// Pictures that move, 40 ms apart.
    Film {
        rect: Rect,
        count: u32,
    },
    Key {
        which: usize,
    },
    Drained,
    Wait {
        millis: u64,
    },
    Encode {
        which: usize,
    },
    Write {
        which: usize,
        count: usize,
    },
    Receive {
        which: usize,
        count: usize,
    },
    Acknowledge {
        which: usize,
    },
    Join {
        webp: bool,
        h264: bool,
        slots: u32,
    },
    Leave {
        which: usize,
    },
    Refresh {
        which: usize,
    },
    Copied {
        length: usize,
    },
}

type Picture = (u32, u32, Vec<u32>);

/// A browser that draws what it gets.
struct Client {
    id: ViewerId,
    socket: VecDeque<Bytes>,
    wire: VecDeque<Bytes>,
    unanswered: VecDeque<u32>,
    picture: Picture,
    /// Of which pixels it was said that they are not exact.
    inexact: Vec<bool>,
    /// What it remembers: columns, rows, pixels.
    slots: BTreeMap<u32, Picture>,
    /// A frame is under way that says of itself that it shows no moment of the guest's picture.
    is_partial: bool,
    /// By region.
    decoders: BTreeMap<u8, Decoder>,
    /// Slots that it can spare.
    slots_max: u32,
    /// The number of the guest's picture that was last shown.
    shown: usize,
    /// Something was drawn, and no frame ended since.
    amid_frame: bool,
    /// The part of a clipboard that came, of which more follows.
    part: Vec<u8>,
    /// Numbers of the pieces that came whole.
    pasted: Vec<usize>,
    /// How many pieces were copied before it came, of which it is told nothing.
    copied_before: usize,
}

struct World {
    session: Session,
    now: Duration,
    jobs: Vec<EncodeJob>,
    clients: Vec<Client>,
    /// Every picture that the guest has shown.
    pictures: Vec<Picture>,
    copies: usize,
    images: usize,
    image_pixels: u32,
    /// Tiles drawn from memory.
    recalls: usize,
    /// Images that are not exact.
    lossy: usize,
    bytes: usize,
    videos: usize,
    /// When a viewer had everything exactly that had not.
    exact_at: Duration,
    /// What was copied in the guest.
    copied: Vec<Bytes>,
    /// How many pieces viewers got whole.
    pasted: usize,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            session: Session::default(),
            now: Duration::ZERO,
            jobs: Vec::new(),
            clients: Vec::new(),
            pictures: Vec::new(),
            copies: 0,
            images: 0,
            image_pixels: 0,
            recalls: 0,
            lossy: 0,
            bytes: 0,
            videos: 0,
            exact_at: Duration::ZERO,
            copied: Vec::new(),
            pasted: 0,
        };
        let abilities = AgentAbilities { clipboard: true, monitors: false, files: false };
        world.session.agent_event(&AgentEvent::Abilities(abilities));
        world.surface(450, 280);
        world
    }

    fn surface(&mut self, width: u32, height: u32) {
        self.draw(&DisplayEvent::SurfaceCreated(surface(width, height)));
    }

    fn draw(&mut self, event: &DisplayEvent) {
        let _unknown_surface = self.session.display_event(event, self.now);
        if let Some((width, height, pixels)) = self.session.picture() {
            self.pictures.push((width, height, pixels.to_vec()));
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Fill { .. }
            | Step::Invert { .. }
            | Step::Mix { .. }
            | Step::Picture { .. }
            | Step::Noise { .. }
            | Step::Photo { .. }
            | Step::Movie { .. }
            | Step::CopyBits { .. } => self.draw(&event(step)),
            Step::Surface { width, height } => self.surface(width, height),
            Step::DestroySurface => {
                self.session.display_event(&DisplayEvent::SurfaceDestroyed(ID), self.now).unwrap();
            }
            Step::Drained => self.session.drained(),
            Step::Copied { length } => {
                let text = format!("{} {}", self.copied.len(), "x".repeat(length));
                let piece = ClipboardPiece { kind: ClipboardKind::Text, data: text.into() };
                self.copied.push(piece.data.clone());
                self.session.agent_event(&AgentEvent::Given(piece));
            }
            Step::Wait { millis } => self.now += Duration::from_millis(millis),
            Step::Encode { which } => {
                if !self.jobs.is_empty() {
                    let job = self.jobs.remove(which % self.jobs.len());
                    self.session.encoded(job.id, encode(&job));
                }
            }
            Step::Join { webp, h264, slots } => {
                if self.clients.len() < 3 {
                    self.join(webp, h264, slots);
                }
            }
            Step::Film { rect, count } => {
                for seed in 0..count {
                    self.now += Duration::from_millis(40);
                    self.draw(&event(Step::Movie { rect, seed }));
                    self.step(Step::Drained);
                    self.step(Step::Encode { which: 0 });
                }
            }
            Step::Write { which, .. }
            | Step::Receive { which, .. }
            | Step::Acknowledge { which }
            | Step::Leave { which }
            | Step::Key { which }
            | Step::Refresh { which } => {
                if !self.clients.is_empty() {
                    self.client_step(which % self.clients.len(), step);
                }
            }
        }
        self.poll();
    }

    fn join(&mut self, webp: bool, h264: bool, slots: u32) {
        let tile_cache_bytes = slots * 16_384 + 7;
        let (width, height) = (800, 600);
        let browser = BrowserHello {
            webp,
            h264,
            palette: webp,
            tile_cache_bytes,
            width,
            height,
            ..BrowserHello::default()
        };
        let id = self.session.add_viewer(browser, ViewerRights::Control).unwrap();
        self.clients.push(Client {
            id,
            socket: VecDeque::new(),
            wire: VecDeque::new(),
            unanswered: VecDeque::new(),
            picture: (0, 0, Vec::new()),
            inexact: Vec::new(),
            slots: BTreeMap::new(),
            is_partial: false,
            decoders: BTreeMap::new(),
            slots_max: slots,
            shown: self.pictures.len().saturating_sub(1),
            amid_frame: false,
            part: Vec::new(),
            pasted: Vec::new(),
            copied_before: self.copied.len(),
        });
    }

    fn client_step(&mut self, index: usize, step: Step) {
        let client = &mut self.clients[index];
        match step {
            Step::Write { count, .. } => {
                for message in client.socket.drain(..count.min(client.socket.len())) {
                    self.session.sent(client.id, message.len(), self.now);
                    client.wire.push_back(message);
                }
            }
            Step::Receive { count, .. } => {
                let count = count.min(client.wire.len());
                for message in client.wire.drain(..count).collect::<Vec<Bytes>>() {
                    for (kind, body) in records(&message) {
                        self.copies += usize::from(kind == 4);
                        if kind == 6 {
                            self.images += 1;
                            self.image_pixels += short(body, 4) * short(body, 6);
                        }
                        self.recalls += usize::from(kind == 17) * body.len() / 8;
                        self.lossy += usize::from(kind == 6 && body[8] == 3);
                        self.bytes += 8 + body.len();
                        self.videos += usize::from(kind == 18);
                        let was_inexact = client.inexact.contains(&true);
                        client.draw(kind, body);
                        if was_inexact && !client.inexact.contains(&true) {
                            self.exact_at = self.now;
                        }
                        client.amid_frame = (2..7).contains(&kind)
                            || [17, 18].contains(&kind)
                            || client.amid_frame && kind != 7;
                        if kind == 14 {
                            assert!(!client.amid_frame, "a clipboard stands before a frame's end");
                            assert!(body.len() <= 4 + 16 * 1024, "the part is too long");
                            self.pasted += client.paste(body, &self.copied);
                        }
                        if kind == 7 {
                            let known = &self.pictures[client.shown..];
                            let at = known.iter().position(|picture| client.shows(picture));
                            if !std::mem::take(&mut client.is_partial) {
                                client.shown +=
                                    at.expect("a frame end shows no picture of the guest");
                            }
                            client.unanswered.push_back(long(body, 0));
                        }
                    }
                }
            }
            Step::Acknowledge { .. } => {
                if let Some(sequence) = client.unanswered.pop_front() {
                    let draw_time = Duration::from_micros(300);
                    let message = ViewerMessage::Ack { sequence, draw_time };
                    self.session.viewer_message(client.id, &message, self.now);
                }
            }
            Step::Key { .. } => {
                let key = Scancode::plain(0x1e).unwrap();
                let message = ViewerMessage::Key { down: true, key };
                self.session.viewer_message(client.id, &message, self.now);
            }
            Step::Refresh { .. } => {
                self.session.viewer_message(client.id, &ViewerMessage::Refresh, self.now);
            }
            _ => {
                self.session.remove_viewer(client.id);
                self.clients.remove(index);
            }
        }
    }

    fn poll(&mut self) {
        while let Some(effect) = self.session.poll(self.now) {
            match effect {
                Effect::Encode(job) => self.jobs.push(job),
                Effect::Send { viewer, message } => {
                    let mut clients = self.clients.iter_mut();
                    let client = clients.find(|client| client.id == viewer).unwrap();
                    client.socket.push_back(message);
                    assert!(client.socket.len() <= IN_SOCKET_MESSAGES_MAX, "the queue overflows");
                }
                Effect::Input(_) | Effect::Agent(_) | Effect::Speak(_) => {}
            }
        }
    }

    /// Lets everything move until nothing is left to do.
    fn settle(&mut self) {
        self.step(Step::Drained);
        for _round in 0..1000 {
            for _job in 0..self.jobs.len() {
                self.step(Step::Encode { which: 0 });
            }
            for which in 0..self.clients.len() {
                self.step(Step::Write { which, count: usize::MAX });
                self.step(Step::Receive { which, count: usize::MAX });
                while !self.clients[which].unanswered.is_empty() {
                    self.step(Step::Acknowledge { which });
                }
            }
            let idle =
                self.jobs.is_empty() && self.clients.iter().all(|client| client.socket.is_empty());
            match self.session.next_deadline() {
                Some(deadline) if idle => self.now = self.now.max(deadline),
                None if idle => return,
                Some(_) | None => {}
            }
            self.poll();
        }
        panic!("the session never comes to rest");
    }

    fn assert_equal(&mut self) {
        let Some((width, height, pixels)) = self.session.picture() else { return };
        for client in &self.clients {
            let came = client.copied_before..self.copied.len();
            assert!(client.pasted.is_sorted(), "an older clipboard came after a newer");
            assert!(client.pasted.iter().all(|number| came.contains(number)), "it is told the old");
            assert_eq!(client.pasted.last().copied(), came.last(), "the newest did not come");
            assert_eq!((client.picture.0, client.picture.1), (width, height));
            assert!(!client.inexact.contains(&true), "something stays inexact");
            assert!(client.picture.2 == pixels, "a viewer's picture differs from the guest's");
        }
    }
}

impl Client {
    /// Takes a part of a clipboard; how many are whole with it.
    fn paste(&mut self, body: &[u8], copied: &[Bytes]) -> usize {
        self.part.extend_from_slice(&body[4..]);
        if body[1] != 0 {
            return 0;
        }
        let whole = std::mem::take(&mut self.part);
        let known = copied.iter().position(|piece| *piece == whole);
        self.pasted.push(known.expect("nobody copied this"));
        1
    }

    fn draw(&mut self, kind: u8, body: &[u8]) {
        let is_exact = kind != 6 || body[9] & 1 == 0;
        match kind {
            2 => {
                draw(&mut self.picture, kind, body);
                self.inexact = vec![false; self.picture.2.len()];
                self.slots.clear();
                self.is_partial = false;
            }
            4 => {
                // The marks go with the pixels.
                let marks = self.inexact.iter().map(|mark| u32::from(*mark)).collect();
                let mut marks = (self.picture.0, self.picture.1, marks);
                draw(&mut marks, kind, body);
                self.inexact = marks.2.iter().map(|mark| *mark == 1).collect();
                draw(&mut self.picture, kind, body);
            }
            18 => self.draw_video(body),
            29 => self.is_partial = true,
            19 => drop(self.decoders.remove(&body[0])),
            3 | 5 | 6 => {
                let mut marks = (self.picture.0, self.picture.1, vec![0; self.picture.2.len()]);
                put(&mut marks, body, |_, _, _| 1);
                for (mark, drawn) in self.inexact.iter_mut().zip(marks.2) {
                    *mark = if drawn == 1 { !is_exact } else { *mark };
                }
                draw(&mut self.picture, kind, body);
            }
            16 | 17 => {
                assert!(!body.is_empty() && body.len().is_multiple_of(8));
                for entry in body.chunks(8) {
                    self.draw_slot(kind, short(entry, 0), short(entry, 2), long(entry, 4));
                }
            }
            _ => {}
        }
    }

    fn draw_video(&mut self, body: &[u8]) {
        let (region, is_key) = (body[8], body[9] == 1);
        let decoder = self.decoders.entry(region).or_insert_with(|| {
            assert!(is_key, "a stream begins amid");
            Decoder::new().unwrap()
        });
        let shown = decoder.decode(&body[16..]).unwrap().expect("no picture comes of it");
        let size = [short(body, 12), short(body, 14)].map(|side| usize::try_from(side).unwrap());
        assert_eq!(shown.dimensions(), (size[0], size[1]));
        let mut marks = (self.picture.0, self.picture.1, vec![0; self.picture.2.len()]);
        put(&mut marks, body, |_, _, _| 1);
        for (mark, drawn) in self.inexact.iter_mut().zip(marks.2) {
            *mark |= drawn == 1;
        }
        // As wrong as can be.
        put(&mut self.picture, body, |_, _, _| 0xbad);
    }

    fn draw_slot(&mut self, kind: u8, x: u32, y: u32, slot: u32) {
        let (width, height) = (64.min(self.picture.0 - x), 64.min(self.picture.1 - y));
        let stride = self.picture.0;
        let at = |column, row| usize::try_from((y + row) * stride + x + column).unwrap();
        let pixels = (0..height).flat_map(|row| (0..width).map(move |column| (column, row)));
        if kind == 16 {
            assert!(slot < self.slots_max, "more is kept than it can spare");
            let kept = pixels.map(|(column, row)| {
                assert!(!self.inexact[at(column, row)], "what is not exact is kept");
                self.picture.2[at(column, row)]
            });
            let kept = kept.collect();
            self.slots.insert(slot, (width, height, kept));
        } else {
            let kept = self.slots.get(&slot).expect("the slot holds nothing");
            assert_eq!((kept.0, kept.1), (width, height));
            for ((column, row), pixel) in pixels.zip(&kept.2) {
                self.picture.2[at(column, row)] = *pixel;
                self.inexact[at(column, row)] = false;
            }
        }
    }

    /// Whether its picture is this one wherever nobody said that it is not.
    fn shows(&self, picture: &Picture) -> bool {
        (self.picture.0, self.picture.1) == (picture.0, picture.1)
            && (self.picture.2.iter().zip(&picture.2))
                .zip(&self.inexact)
                .all(|((shown, real), inexact)| *inexact || shown == real)
    }
}

const fn surface(width: u32, height: u32) -> Surface {
    Surface { id: ID, width, height, format: SurfaceFormat::Xrgb32, primary: true }
}

fn event(step: Step) -> DisplayEvent {
    let all = Rect::of_size(450, 280);
    match step {
        Step::Fill { rect, shade } => DisplayEvent::Fill(Fill {
            surface: ID,
            rects: vec![rect],
            color: [shade, shade / 2, 0, 255],
        }),
        Step::Invert { rect } => DisplayEvent::Combine(Combine {
            surface: ID,
            rects: vec![rect],
            and: u32::MAX,
            xor: 0x00ff_ffff,
        }),
        Step::Mix { rect, offset } => {
            // Source xor destination, from the picture itself.
            let source = CopySource::Surface(ID);
            let paint = Paint::blit(&surface(450, 280), vec![rect], 0x66, source, offset);
            DisplayEvent::Paint(Box::new(paint))
        }
        Step::Picture { rect, seed } => {
            copy(rect, |x, y| ((x / 7) * 0x0011_0103).wrapping_add((y / 5).wrapping_mul(seed)))
        }
        Step::Noise { rect, seed } => copy(rect, |x, y| (noise(x, y, seed) & 0xff) * 0x0001_0101),
        Step::Movie { rect, seed } => copy(rect, |x, y| {
            let (red, green) = ((x * 2 + seed * 5) & 255, (y * 2 + x / 2 + seed * 3) & 255);
            (red << 16) | (green << 8) | ((x + y) & 255)
        }),
        Step::Photo { rect, seed } => copy(rect, |x, y| noise(x, y, seed)),
        Step::CopyBits { rect, offset } => {
            DisplayEvent::CopyBits(CopyBits { surface: ID, rects: vec![rect], offset })
        }
        _ => DisplayEvent::Fill(Fill { surface: ID, rects: vec![all], color: [0; 4] }),
    }
}

const fn noise(x: u32, y: u32, seed: u32) -> u32 {
    (x.wrapping_mul(0x9e37_79b1) ^ y.wrapping_mul(0x85eb_ca77) ^ seed)
        .wrapping_mul(0xc2b2_ae3d)
        .rotate_left(13)
}

fn copy(rect: Rect, pixel: impl Fn(u32, u32) -> u32) -> DisplayEvent {
    let (width, height) = (rect.width(), rect.height());
    let data: Vec<u8> = (0..height)
        .flat_map(|y| (0..width).map(move |x| (x, y)))
        .flat_map(|(x, y)| pixel(x, y).to_le_bytes())
        .collect();
    let stride = usize::try_from(width).unwrap() * 4;
    DisplayEvent::Copy(Copy {
        surface: ID,
        rects: vec![rect],
        source: CopySource::Pixels(Pixels { width, height, stride, data: data.into() }),
        offset: Point::new(-rect.left, -rect.top),
    })
}

fn records(message: &[u8]) -> Vec<(u8, &[u8])> {
    let mut records = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let length = usize::try_from(long(rest, 4)).unwrap();
        records.push((rest[0], &rest[8..8 + length]));
        rest = &rest[8 + length..];
    }
    records
}

fn short(bytes: &[u8], at: usize) -> u32 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]]).into()
}

fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn draw(picture: &mut Picture, kind: u8, body: &[u8]) {
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

fn put(picture: &mut Picture, body: &[u8], pixel: impl Fn(u32, u32, u32) -> u32) {
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
    let mut reader = png::Decoder::new(Cursor::new(data)).read_info().unwrap();
    let mut colors = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut colors).unwrap();
    assert_eq!((info.width, info.height), (width, height));
    assert_eq!(info.color_type, png::ColorType::Rgb);
    colors
}

fn rects() -> impl Strategy<Value = Rect> {
    (0..450_i32, 0..280_i32, 1..450_i32, 1..280_i32)
        .prop_map(|(left, top, width, height)| Rect::new(left, top, left + width, top + height))
}

fn small_rects() -> impl Strategy<Value = Rect> {
    (0..450_i32, 0..280_i32, 1..20_i32, 1..20_i32)
        .prop_map(|(left, top, width, height)| Rect::new(left, top, left + width, top + height))
}

fn steps() -> impl Strategy<Value = Step> {
    let any_client = 0..3_usize;
    prop_oneof![
        3 => (rects(), any::<u8>()).prop_map(|(rect, shade)| Step::Fill { rect, shade }),
        1 => rects().prop_map(|rect| Step::Invert { rect }),
        1 => (rects(), -40..40_i32, -40..40_i32)
            .prop_map(|(rect, x, y)| Step::Mix { rect, offset: Point::new(x, y) }),
        3 => (rects(), any::<u32>()).prop_map(|(rect, seed)| Step::Picture { rect, seed }),
        4 => (small_rects(), any::<u32>()).prop_map(|(rect, seed)| Step::Picture { rect, seed }),
        2 => (rects(), any::<u32>()).prop_map(|(rect, seed)| Step::Noise { rect, seed }),
        2 => (rects(), 0..4_u32).prop_map(|(rect, seed)| Step::Photo { rect, seed }),
        4 => (rects(), -40..40_i32, -40..40_i32).prop_map(|(rect, x, y)| Step::CopyBits {
            rect,
            offset: Point::new(x, y),
        }),
        1 => (100..500_u32, 100..300_u32)
            .prop_map(|(width, height)| Step::Surface { width, height }),
        1 => Just(Step::DestroySurface),
        6 => Just(Step::Drained),
        8 => (0..30_u64).prop_map(|millis| Step::Wait { millis }),
        2 => (100..700_u64).prop_map(|millis| Step::Wait { millis }),
        12 => any::<usize>().prop_map(|which| Step::Encode { which }),
        8 => (any_client.clone(), 1..4_usize)
            .prop_map(|(which, count)| Step::Write { which, count }),
        8 => (any_client.clone(), 1..4_usize)
            .prop_map(|(which, count)| Step::Receive { which, count }),
        6 => any_client.clone().prop_map(|which| Step::Acknowledge { which }),
        2 => (any::<bool>(), any::<bool>(), 0..30_u32)
            .prop_map(|(webp, h264, slots)| Step::Join { webp, h264, slots }),
        1 => (rects(), 14..20_u32).prop_map(|(rect, count)| Step::Film { rect, count }),
        2 => any_client.clone().prop_map(|which| Step::Key { which }),
        1 => any_client.clone().prop_map(|which| Step::Leave { which }),
        1 => any_client.prop_map(|which| Step::Refresh { which }),
        2 => prop_oneof![0..10_usize, 0..100_000_usize].prop_map(|length| Step::Copied { length }),
    ]
}

proptest! {
    #[test]
    fn every_viewer_ends_with_the_guests_picture(
        steps in proptest::collection::vec(steps(), 1..120),
    ) {
        let mut world = World::new();
        world.step(Step::Join { webp: true, h264: true, slots: 40 });
        for step in steps {
            world.step(step);
        }
        world.settle();
        world.assert_equal();
        // One that comes to a quiet session gets the same.
        world.clients.truncate(2);
        world.join(false, false, 3);
        world.settle();
        world.assert_equal();
    }
}

/// With a full socket, changes a part that waits: it is replaced, and what was there is never sent.
#[test]
fn what_waits_for_the_socket_is_superseded() {
    let mut world = World::new();
    world.surface(640, 480);
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    world.step(Step::Noise { rect: Rect::of_size(640, 480), seed: 5 });
    world.step(Step::Drained);
    while !world.jobs.is_empty() {
        world.step(Step::Encode { which: 0 });
    }
    let below = Rect::new(0, 300, 640, 480);
    for seed in 10..13 {
        world.step(Step::Noise { rect: below, seed });
        world.step(Step::Drained);
        world.step(Step::Wait { millis: 16 });
    }
    // The socket is full: nothing can be told before it has room, and then the newest is.
    assert!(world.jobs.is_empty());
    world.step(Step::Write { which: 0, count: usize::MAX });
    assert!(!world.jobs.is_empty());
    world.settle();
    world.assert_equal();
    let frames = world.session.viewer_statistics(world.clients[0].id).unwrap().frames;
    assert_eq!(frames, 1);
    assert!(world.image_pixels < 640 * 480 * 5 / 4, "{} pixels were sent", world.image_pixels);
}

#[test]
fn a_guest_that_changes_all_the_time_does_not_keep_frames_from_ending() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    for seed in 0..60 {
        world.step(Step::Noise { rect: Rect::of_size(450, 280), seed });
        world.step(Step::Drained);
        world.step(Step::Wait { millis: 16 });
        world.step(Step::Encode { which: 0 });
        world.step(Step::Write { which: 0, count: 1 });
        world.step(Step::Receive { which: 0, count: 1 });
        world.step(Step::Acknowledge { which: 0 });
    }
    let frames = world.session.viewer_statistics(world.clients[0].id).unwrap().frames;
    assert!(frames >= 12, "{frames} frames in 60 intervals");
    world.settle();
    world.assert_equal();
}

#[test]
fn a_frame_that_is_given_up_does_not_hold_back_the_next() {
    let mut world = World::new();
    world.surface(640, 480);
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    world.step(Step::Noise { rect: Rect::of_size(640, 480), seed: 5 });
    world.step(Step::Drained);
    for _job in 0..2 {
        world.step(Step::Encode { which: 0 });
    }
    let frames =
        |world: &World| world.session.viewer_statistics(world.clients[0].id).unwrap().frames;
    assert!(world.clients[0].socket.iter().map(Bytes::len).sum::<usize>() > 64 * 1024);
    assert_eq!(frames(&world), 0, "the frame is open, and more than the credit is on its way");
    world.step(Step::Surface { width: 320, height: 200 });
    world.settle();
    world.assert_equal();
    assert_eq!(frames(&world), 1);
}

#[test]
fn a_socket_that_takes_nothing_is_given_few_messages() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    for number in 0..1000_u16 {
        let id = world.clients[0].id;
        world.session.viewer_message(id, &ViewerMessage::Ping([1; 8]), world.now);
        world.session.cursor_event(&CursorEvent::Moved(Point::new(number.into(), 5)));
        let rect = Rect::new(number.into(), 5, i32::from(number) + 3, 8);
        world.step(Step::Fill { rect, shade: 99 });
        world.step(Step::Acknowledge { which: 0 });
        world.step(Step::Wait { millis: 16 });
    }
    assert_eq!(world.clients[0].socket.len(), IN_SOCKET_MESSAGES_MAX);
    world.settle();
    world.assert_equal();
}

#[test]
fn scrolling_is_sent_as_copies() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    world.surface(200, 150);
    let whole = Rect::of_size(200, 150);
    world.step(Step::Picture { rect: whole, seed: 0x0001_0203 });
    world.settle();
    let before = world.image_pixels;
    for line in 0..20 {
        let rect = Rect::new(0, 0, 200, 134);
        world.step(Step::CopyBits { rect, offset: Point::new(0, 16) });
        let rect = Rect::new(0, 134, 200, 150);
        world.step(Step::Fill { rect, shade: line });
        world.step(Step::Drained);
        if line % 3 == 0 {
            world.settle();
            world.assert_equal();
        }
    }
    world.settle();
    world.assert_equal();
    assert_eq!(world.copies, 20);
    let images = world.image_pixels - before;
    assert!(images < 20 * 16 * 200 * 2, "{images} pixels came as images, not only the new lines");
}

#[test]
fn a_picture_larger_than_the_credit_arrives_in_slices_and_at_once() {
    let mut world = World::new();
    world.surface(640, 480);
    world.step(Step::Noise { rect: Rect::of_size(640, 480), seed: 5 });
    world.step(Step::Drained);
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    // Nothing is acknowledged, and still the whole picture comes.
    for _round in 0..200 {
        while !world.jobs.is_empty() {
            world.step(Step::Encode { which: 0 });
        }
        let waiting: usize = world.clients[0].socket.iter().map(Bytes::len).sum();
        assert!(waiting < 512 * 1024, "{waiting} bytes wait in the socket");
        world.step(Step::Write { which: 0, count: 1 });
        world.step(Step::Receive { which: 0, count: 1 });
    }
    world.assert_equal();
    assert_eq!(world.clients[0].unanswered.len(), 1);
    // Without the acknowledgement there is no second frame; with it there is.
    world.step(Step::Fill { rect: Rect::of_size(640, 480), shade: 9 });
    world.step(Step::Wait { millis: 100 });
    assert!(world.clients[0].socket.is_empty());
    world.step(Step::Acknowledge { which: 0 });
    assert!(!world.clients[0].socket.is_empty());
}

#[test]
fn the_first_change_is_shown_when_drained_and_the_next_after_16_ms() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    world.settle();
    world.step(Step::Wait { millis: 1000 });
    let dot = |shade| Step::Fill { rect: Rect::new(5, 5, 9, 9), shade };
    world.step(dot(1));
    assert!(world.clients[0].socket.is_empty(), "the guest may still be drawing");
    assert_eq!(world.session.next_deadline(), Some(world.now + Duration::from_millis(2)));
    world.step(Step::Drained);
    assert_eq!(world.clients[0].socket.len(), 1);
    world.step(dot(2));
    world.step(Step::Drained);
    assert_eq!(world.clients[0].socket.len(), 1);
    assert_eq!(world.session.next_deadline(), Some(world.now + Duration::from_millis(16)));
    world.step(Step::Wait { millis: 16 });
    assert_eq!(world.clients[0].socket.len(), 2);
    world.step(dot(3));
    world.step(Step::Wait { millis: 16 });
    assert_eq!(world.clients[0].socket.len(), 3, "a guest that never pauses is shown too");
}

#[test]
fn viewers_of_one_session_share_what_is_encoded() {
    let mut world = World::new();
    for _viewer in 0..3 {
        world.step(Step::Join { webp: true, h264: true, slots: 40 });
    }
    world.step(Step::Picture { rect: Rect::of_size(200, 150), seed: 77 });
    world.step(Step::Drained);
    assert_eq!(world.jobs.len(), 1);
    world.settle();
    world.assert_equal();
    assert_eq!(world.images, 3);
}

/// Frames and whole clipboards that a viewer gets in this time, over a wire with this many bytes
/// per millisecond, from a guest that changes all the time.
fn over_a_slow_wire(bytes_per_milli: usize, millis: u32, length: Option<usize>) -> (u64, usize) {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    if let Some(length) = length {
        world.step(Step::Copied { length });
    }
    let mut credit = 0;
    for milli in 0..millis {
        world.step(Step::Wait { millis: 1 });
        world.step(Step::Noise { rect: Rect::of_size(40, 40), seed: milli });
        world.step(Step::Drained);
        while !world.jobs.is_empty() {
            world.step(Step::Encode { which: 0 });
        }
        credit += bytes_per_milli;
        while let Some(next) = world.clients[0].socket.front().map(Bytes::len) {
            if credit < next {
                break;
            }
            credit -= next;
            world.step(Step::Write { which: 0, count: 1 });
            world.step(Step::Receive { which: 0, count: 1 });
            while !world.clients[0].unanswered.is_empty() {
                world.step(Step::Acknowledge { which: 0 });
            }
        }
        credit = credit.min(bytes_per_milli + (1 << 16));
    }
    let frames = world.session.viewer_statistics(world.clients[0].id).unwrap().frames;
    (frames, world.pasted)
}

#[test]
fn a_clipboard_comes_beside_a_picture_that_never_rests_and_hardly_slows_it() {
    for bytes_per_milli in [125, 1250, 12_500] {
        let (alone, _) = over_a_slow_wire(bytes_per_milli, 3000, None);
        let (beside, pasted) =
            over_a_slow_wire(bytes_per_milli, 3000, Some(20 * bytes_per_milli * 3));
        assert_eq!(pasted, 1, "at {bytes_per_milli} bytes/ms it does not come");
        let (frames, _) = over_a_slow_wire(bytes_per_milli, 3000, Some(1 << 20));
        assert!(alone * 6 / 10 <= frames, "{frames} frames beside a long one, {alone} alone");
        assert!(alone * 8 / 10 <= beside, "{beside} frames beside a short one, {alone} alone");
    }
}

#[test]
fn a_clipboard_comes_in_parts_to_a_viewer_that_rests_and_the_newest_wins() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    world.settle();
    for length in [1 << 20, 5, 1 << 20] {
        world.step(Step::Copied { length });
    }
    world.settle();
    world.assert_equal();
    // The first was begun and is finished, the second waited and was replaced.
    assert_eq!(world.clients[0].pasted, [0, 2]);
    world.join(true, false, 0);
    world.settle();
    assert_eq!(world.clients[1].pasted, [], "a new viewer is told nothing old");
}

#[test]
fn abilities_are_told_after_hello_and_when_they_change() {
    fn told(world: &mut World) -> Vec<(u8, Vec<u8>)> {
        let messages = std::mem::take(&mut world.clients[0].socket);
        let records = messages.iter().flat_map(|message| records(message));
        let kept = records.filter(|(kind, _)| [1, 15].contains(kind));
        kept.map(|(kind, body)| (kind, body.to_vec())).collect()
    }
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    assert_eq!(told(&mut world), [(1, vec![1, 0, 1, 0]), (15, vec![3])]);
    let abilities = AgentAbilities { clipboard: true, monitors: true, files: true };
    for _again in 0..2 {
        world.session.agent_event(&AgentEvent::Abilities(abilities));
    }
    world.poll();
    assert_eq!(told(&mut world), [(15, vec![15])]);
    world.session.display_closed();
    world.poll();
    assert_eq!(told(&mut world), [(15, vec![0])]);
}

/// Bytes and recalled tiles since the last call.
fn spent(world: &mut World) -> (usize, usize) {
    (std::mem::take(&mut world.bytes), std::mem::take(&mut world.recalls))
}

#[test]
fn a_menu_that_was_open_before_costs_a_few_bytes_a_tile() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    let desktop = Step::Picture { rect: Rect::of_size(450, 280), seed: 0x0001_0203 };
    let menu = Step::Picture { rect: Rect::new(20, 20, 220, 200), seed: 0x0031_0b07 };
    world.step(desktop);
    world.settle();
    let (first, _) = spent(&mut world);
    for round in 0..4 {
        for step in [menu, desktop] {
            world.step(Step::Wait { millis: 600 });
            world.step(step);
            world.settle();
            world.assert_equal();
            let (bytes, recalls) = spent(&mut world);
            if round > 0 {
                assert_eq!(recalls, 16, "every tile that changed comes from memory");
                assert!(bytes < 16 * 16 + 40, "{bytes} bytes for what was there before");
            }
        }
    }
    assert!(first > 500);
}

#[test]
fn a_blinking_caret_costs_less_than_2_kbit_each_second() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    let letters = Step::Picture { rect: Rect::of_size(450, 280), seed: 0x0001_0203 };
    world.step(letters);
    world.settle();
    let caret = Rect::new(100, 100, 101, 116);
    for blink in 0..8 {
        if blink == 4 {
            spent(&mut world);
        }
        world.step(Step::Wait { millis: 530 });
        world.step(Step::Invert { rect: caret });
        world.settle();
    }
    // Keep or recall, and the frame's end.
    let (bytes, recalls) = spent(&mut world);
    assert_eq!((bytes, recalls), (4 * (16 + 12), 4));
    world.assert_equal();
}

#[test]
fn what_is_drawn_anew_as_it_was_costs_nothing() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 0 });
    let same = Step::Picture { rect: Rect::of_size(450, 280), seed: 0x0001_0203 };
    world.step(same);
    world.settle();
    let frames = world.session.viewer_statistics(world.clients[0].id).unwrap().frames;
    spent(&mut world);
    for _again in 0..5 {
        world.step(Step::Wait { millis: 100 });
        world.step(same);
        world.settle();
    }
    assert_eq!(spent(&mut world), (0, 0));
    assert_eq!(world.session.viewer_statistics(world.clients[0].id).unwrap().frames, frames);
    world.assert_equal();
}

#[test]
fn a_photo_on_an_unknown_line_comes_quickly_and_then_exactly_within_a_second() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    world.settle();
    spent(&mut world);
    // A slow line: the rate that it has is known from pictures that took long.
    let photo = Rect::new(10, 10, 330, 250);
    for seed in 0..8 {
        world.step(Step::Photo { rect: photo, seed });
        world.step(Step::Drained);
        while !world.jobs.is_empty() {
            world.step(Step::Encode { which: 0 });
        }
        // On a slow line messages are short, and few wait at once.
        for _message in 0..32 {
            world.step(Step::Write { which: 0, count: usize::MAX });
        }
        world.step(Step::Wait { millis: 100 });
        for _message in 0..32 {
            world.step(Step::Receive { which: 0, count: usize::MAX });
        }
        world.step(Step::Acknowledge { which: 0 });
    }
    assert!(world.lossy > 5, "only {} images were not exact", world.lossy);
    assert!(world.clients[0].inexact.contains(&true));
    let quiet_since = world.now;
    world.settle();
    world.assert_equal();
    let took = world.exact_at - quiet_since;
    assert!(took < Duration::from_secs(1), "it was exact after {took:?}");
}

#[test]
fn letters_and_windows_are_never_inexact() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 0 });
    for seed in 0..60 {
        world.step(Step::Picture { rect: Rect::of_size(450, 280), seed: seed * 0x0001_0305 });
        world.step(Step::Drained);
        world.step(Step::Wait { millis: 30 });
        world.settle();
    }
    assert_eq!(world.lossy, 0);
    world.assert_equal();
}

#[test]
fn what_moves_is_sent_as_video_and_then_exactly() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    world.step(Step::Join { webp: true, h264: true, slots: 0 });
    world.step(Step::Join { webp: true, h264: false, slots: 40 });
    world.settle();
    let rect = Rect::new(37, 21, 301, 221);
    for seed in 0..75 {
        world.now += Duration::from_millis(40);
        world.step(Step::Movie { rect, seed });
        world.step(Step::Drained);
        for _round in 0..3 {
            while !world.jobs.is_empty() {
                world.step(Step::Encode { which: 0 });
            }
            for which in 0..3 {
                world.step(Step::Write { which, count: usize::MAX });
                world.step(Step::Receive { which, count: usize::MAX });
                while !world.clients[which].unanswered.is_empty() {
                    world.step(Step::Acknowledge { which });
                }
            }
        }
    }
    let videos = world.videos;
    assert!(videos > 80, "only {videos} pictures were sent as video to two viewers");
    let quiet_since = world.now;
    world.settle();
    world.assert_equal();
    let took = world.exact_at - quiet_since;
    assert!(took < Duration::from_secs(1), "it was exact after {took:?}");
}

#[test]
fn an_answer_to_a_key_does_not_wait_for_a_picture_that_fills_the_line() {
    let mut world = World::new();
    world.surface(640, 480);
    world.step(Step::Join { webp: true, h264: false, slots: 40 });
    world.settle();
    world.step(Step::Wait { millis: 1000 });
    let whole = Rect::new(0, 32, 640, 480);
    world.step(Step::Noise { rect: whole, seed: 5 });
    world.step(Step::Drained);
    world.step(Step::Encode { which: 0 });
    assert!(!world.clients[0].socket.is_empty(), "the picture is under way");
    world.step(Step::Key { which: 0 });
    let letter = Rect::new(10, 8, 18, 24);
    world.step(Step::Picture { rect: letter, seed: 3 });
    world.step(Step::Drained);
    // Only what waits in the socket is before it.
    for _message in 0..2 {
        world.step(Step::Write { which: 0, count: usize::MAX });
        world.step(Step::Receive { which: 0, count: usize::MAX });
    }
    assert_eq!(world.clients[0].unanswered.len(), 1, "no frame has ended");
    let at = 8 * 640 + 10;
    let newest = &world.pictures.last().unwrap().2;
    assert_eq!(world.clients[0].picture.2[at..at + 8], newest[at..at + 8]);
    world.settle();
    world.assert_equal();
}

#[test]
fn a_picture_that_rests_takes_little_memory_and_comes_back() {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    world.step(Step::Picture { rect: Rect::of_size(450, 280), seed: 0x0001_0203 });
    let before = world.session.pixel_bytes();
    assert_eq!(before, 450 * 280 * 4);
    world.settle();
    let packed = world.session.pixel_bytes();
    assert!(packed * 10 < before, "{packed} bytes of {before}");
    // What comes is drawn on what was there, and a new viewer sees it all.
    world.draw(&event(Step::Invert { rect: Rect::new(5, 5, 90, 90) }));
    world.step(Step::Drained);
    world.settle();
    world.assert_equal();
    world.step(Step::Wait { millis: 31_000 });
    assert!(world.session.pixel_bytes() * 10 < before);
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    world.settle();
    world.assert_equal();
}
