//! Fuzzes the display channel and the engine behind it: any messages of a server, drawn and sent. The same
//! messages go through a relay's condenser to a second client, which has to understand what the first does,
//! and to show the same when all is at rest.
//!
//! A record's kind is the message's, its body the message's body. A condenser looks at pictures that are larger
//! than an input may be: with bit 15 and without bit 14 the kind is the low ten bits, bits 10 to 13 are sixteenths
//! of a second that pass after it, and the body is `u8 columns, u8 rows, u8 seed`, and then the message up to the
//! pixels, which are made here.
#![no_main]

use std::collections::BTreeMap;
use std::time::Duration;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use vidi_display::framebuffer::Framebuffer;
use vidi_display::{Effect, Policy, Session, ViewerRights, encode};
use vidi_fuzz::{LINKED, Record, hello, message, mutate, records, setup};
use vidi_spice::display::{Condenser, DisplayEvent, Step};
use vidi_spice::{Compression, DisplayChannel, GlzDictionary, ImageTransfer};

/// `SPICE_MSG_DISPLAY_SURFACE_CREATE`
const SURFACE_CREATE: u16 = 314;
/// Pixels of the dictionary's window.
const WINDOW_PIXELS: u32 = 1 << 16;
/// A film's share of the line between host and gateway.
const VIDEO_MBIT_S: u32 = 30;
/// What rests so long is exact.
const REST: Duration = Duration::from_millis(250);
/// Of a record's kind: its pixels are made here.
const DRAWN: u16 = 0b10 << 14;
const DRAWN_MASK: u16 = 0b11 << 14;
/// Pixels that are made for one input: 24 pictures of 128 x 128, a film with something besides.
const DRAWN_PIXELS_MAX: usize = 24 << 14;
/// `SPICE_MSG_DISPLAY_COPY_BITS`, `_INVAL_LIST`, `_DRAW_FILL` and `_DRAW_COPY`
const COPY_BITS: u16 = 104;
const INVAL_LIST: u16 = 105;
const DRAW_FILL: u16 = 302;
const DRAW_COPY: u16 = 304;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate(data, size, max_size, seed)
});

fuzz_target!(|input: &[u8]| {
    let dictionary = GlzDictionary::new(WINDOW_PIXELS);
    let asked = [Some(Compression::Off), Some(Compression::Lz), Some(Compression::AutoGlz), None];
    let compression = asked.get(input.len() % asked.len()).copied().flatten();
    let transfer = ImageTransfer { compression, dictionary };
    let mut channel = DisplayChannel::with_images(setup(), transfer);
    let mut relayed = Relayed::new(compression);
    let mut session = Session::new(Policy::default());
    let _viewer = session.add_viewer(hello(), ViewerRights::Control);
    let mut bytes = LINKED.clone();
    for (id, format, primary) in [(0_u32, 32_u32, 1_u32), (1, 96, 0), (2, 8, 0)] {
        let body: Vec<u8> =
            [id, 64, 48, format, primary].iter().flat_map(|it| it.to_le_bytes()).collect();
        bytes.extend(message(SURFACE_CREATE, &body));
    }
    let mut now = Duration::ZERO;
    let mut server = Server::default();
    if !server.heard(&bytes, &mut channel, &mut session, now) {
        return;
    }
    relayed.receive(&bytes, now);
    for record in records(input) {
        let (record, time) = server.say(record);
        let bytes = message(record.kind, &record.body);
        if !server.heard(&bytes, &mut channel, &mut session, now) {
            return;
        }
        relayed.receive(&bytes, now);
        now += time;
        session.drained();
        carry_out(&mut session, now);
    }
    relayed.rest(now);
    if server.is_sound {
        relayed.compare(&mut session);
    }
});

/// What a server has said.
#[derive(Debug)]
struct Server {
    drawn: usize,
    /// Sizes of the images that are in the cache for sure.
    kept: BTreeMap<u64, [u32; 2]>,
    /// Whether all drawings could be carried out: a condenser believes what an image in the cache is said to be.
    is_sound: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self { drawn: 0, kept: BTreeMap::new(), is_sound: true }
    }
}

impl Server {
    /// The message of a record, and the time that passes after it.
    fn say(&mut self, mut record: Record) -> (Record, Duration) {
        let mut time = Duration::from_millis(20);
        if record.kind & DRAWN_MASK == DRAWN {
            time += Duration::from_secs(1) / 16 * u32::from(record.kind >> 10 & 0b1111);
            record.kind &= 0x3ff;
            let (head, body) = record.body.split_first_chunk().unwrap_or((&[0; 3], &[]));
            let [columns, rows, seed] = *head;
            let pixels = usize::from(columns) * usize::from(rows);
            let fits = self.drawn + pixels <= DRAWN_PIXELS_MAX;
            self.drawn += if fits { pixels } else { 0 };
            let mut body = body.to_vec();
            body.extend(picture(columns, if fits { rows } else { 0 }, seed));
            record.body = body;
        }
        match record.kind {
            DRAW_COPY => {
                if self.copied(&record.body).is_none() {
                    self.kept.clear();
                }
            }
            COPY_BITS | INVAL_LIST | DRAW_FILL => {}
            // There could be any images in it.
            _ => self.kept.clear(),
        }
        (record, time)
    }

    /// What the first client makes of it; whether it goes on.
    fn heard(
        &mut self,
        bytes: &[u8],
        channel: &mut DisplayChannel,
        session: &mut Session,
        now: Duration,
    ) -> bool {
        let mut goes_on = channel.receive(bytes).is_ok();
        while goes_on {
            match channel.next_event() {
                Ok(Some(event)) => {
                    self.is_sound &= !matches!(event, DisplayEvent::Unsupported(_));
                    let _refused = session.display_event(&event, now);
                }
                Ok(None) => break,
                Err(_) => goes_on = false,
            }
        }
        while channel.poll_transmit().is_some() {}
        goes_on
    }

    /// Notes the image of a copy; none if there is more to it.
    fn copied(&mut self, body: &[u8]) -> Option<()> {
        // The clip; the image, its area, operation and scale mode, and a mask.
        let clip = match body.get(20)? {
            0 => 0,
            1 => 4 + 16 * usize::try_from(word(body, 21)?).ok()?,
            _ => return None,
        };
        let image = body.get(usize::try_from(word(body, 21 + clip)?).ok()?..)?;
        let mask = word(body, clip + 21 + 4 + 16 + 2 + 1 + 9)?;
        let (number, size) = (image.first_chunk()?, [word(image, 10)?, word(image, 14)?]);
        let number = u64::from_le_bytes(*number);
        let (kind, flags) = (*image.get(8)?, *image.get(9)?);
        match kind {
            // From the cache, both ways.
            103 | 106 => self.is_sound &= self.kept.get(&number) == Some(&size),
            _ if flags & 0b101 != 0 => {
                let size = if kind == 0 { [word(image, 20)?, word(image, 24)?] } else { size };
                self.kept.insert(number, size);
            }
            _ => {}
        }
        (mask == 0).then_some(())
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

/// Pixels of 32 bits. What the two highest bits of the seed say: like a photograph, the same with alpha, like text,
/// text between whose sampled rows there is noise.
fn picture(columns: u8, rows: u8, seed: u8) -> Vec<u8> {
    let step = (rows / 32).max(1);
    let pixel = |x: u32, y: u32| {
        let mixed = (x / 3 * 7 + y / 5 * 31 + u32::from(seed)).wrapping_mul(0x9e37_79b9);
        let value = |slope: u32| (slope + (mixed >> 27)).to_le_bytes()[0];
        let photo = [value(x + u32::from(seed)), value(y), value(x / 2 + y / 2), 0];
        let text =
            if (x / 8 + y / 4 + u32::from(seed)).is_multiple_of(5) { 0x3c } else { 0xf0_f0f0_u32 };
        match seed >> 6 {
            0 => photo,
            1 => [photo[0], photo[1], photo[2], value(x)],
            3 if !y.is_multiple_of(u32::from(step)) => {
                (x * 0x0101_7f35 + y).wrapping_mul(mixed | 1).rotate_left(x % 32).to_le_bytes()
            }
            _ => text.to_le_bytes(),
        }
    };
    let places = (0..u32::from(rows)).flat_map(|y| (0..u32::from(columns)).map(move |x| (x, y)));
    places.flat_map(|(x, y)| pixel(x, y)).collect()
}

/// A client behind a relay.
struct Relayed {
    condenser: Condenser,
    client: DisplayChannel,
    shown: Framebuffer,
}

impl Relayed {
    fn new(compression: Option<Compression>) -> Self {
        let dictionary = GlzDictionary::new(WINDOW_PIXELS);
        let transfer = ImageTransfer { compression, dictionary };
        let mut client = DisplayChannel::with_images(setup(), transfer);
        let first = client.poll_transmit().expect("a client speaks first");
        let condenser = Condenser::for_client(&first, VIDEO_MBIT_S).expect("it is a display");
        Self { condenser, client, shown: Framebuffer::default() }
    }

    fn receive(&mut self, bytes: &[u8], now: Duration) {
        // As sockets give it.
        let (one, other) = bytes.split_at(bytes.len() / 2);
        for portion in [one, other] {
            assert!(self.condenser.has_room(), "nothing is being packed");
            self.condenser.receive(portion);
            self.pass_on(now);
        }
        if self.condenser.wakes().is_some_and(|at| at <= now) {
            self.condenser.wake(now);
            self.pass_on(now);
        }
    }

    /// Nothing comes any more.
    fn rest(&mut self, now: Duration) {
        let now = now + REST;
        self.condenser.wake(now);
        self.pass_on(now);
        assert_eq!(self.condenser.wakes(), None, "all is exact");
    }

    /// What rests is the same with and without a relay.
    fn compare(&self, session: &mut Session) {
        let shown =
            self.shown.primary().map(|plane| (plane.width(), plane.height(), plane.pixels()));
        let plain = session.picture();
        assert_eq!(shown.map(|it| (it.0, it.1)), plain.map(|it| (it.0, it.1)), "another size");
        let (Some((width, _, shown)), Some((_, _, plain))) = (shown, plain) else { return };
        for ((one, other), at) in shown.iter().zip(plain).zip(0..) {
            let (x, y) = (at % width, at / width);
            assert_eq!(one, other, "at {x}, {y} a relay makes {one:08x} of {other:08x}");
        }
    }

    fn pass_on(&mut self, now: Duration) {
        while let Some(step) = self.condenser.step(now) {
            match step {
                Step::Send(bytes) => {
                    self.client.receive(&bytes).expect("the first client took it");
                    while let Some(event) = self.client.next_event().expect("as did the first") {
                        draw(&mut self.shown, &event);
                    }
                    while self.client.poll_transmit().is_some() {}
                }
                Step::Pack(packing) => self.condenser.packed(&packing.run(), now),
            }
        }
    }
}

/// Draws as the engine does.
fn draw(shown: &mut Framebuffer, event: &DisplayEvent) {
    let _refused = match event {
        DisplayEvent::SurfaceCreated(surface) => shown.create(surface),
        DisplayEvent::Copy(copy) => shown.copy(copy).map(drop),
        DisplayEvent::Fill(fill) => shown.fill(fill),
        DisplayEvent::Combine(combine) => shown.combine(combine),
        DisplayEvent::CopyBits(copy) => shown.copy_bits(copy),
        DisplayEvent::Paint(paint) => shown.paint(paint),
        DisplayEvent::SurfaceDestroyed(id) => {
            shown.destroy(*id);
            Ok(())
        }
        _ => Ok(()),
    };
}

/// Does what the engine decides, at once.
fn carry_out(session: &mut Session, now: Duration) {
    while let Some(effect) = session.poll(now) {
        match effect {
            Effect::Encode(job) => session.encoded(job.id, encode(&job)),
            Effect::Send { viewer, message } => session.sent(viewer, message.len(), now),
            _ => {}
        }
    }
}
