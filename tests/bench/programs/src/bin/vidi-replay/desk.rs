//! The screen that is replayed: its pixels, who looks at it, what each of them still has to be sent.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::messages::Images;
use crate::picture::{Area, BIT, BITS, BLACK, Color, Picture};

/// Drawings that wait for one client before the guest has to wait: spice-server's own limit
/// (`MAX_PIPE_SIZE`).
const WAITING_MAX: usize = 50;
/// Where keys are shown: a number of how many came, and letters below it.
const ECHO: Area = Area { x: 16, y: 48, width: 256, height: 64 };
/// Rows of one colour of the wallpaper.
const BANDS_HEIGHT: u16 = 8;
const PHOTO: Area = Area { x: 560, y: 380, width: 240, height: 160 };

/// One change of the screen.
#[derive(Debug)]
pub(crate) enum Op {
    Surface { width: u16, height: u16, again: bool },
    Image { area: Area, pixels: Bytes },
    Fill { area: Area, color: Color },
    Copy { area: Area, from: (u16, u16) },
}

/// A change on its way to a client.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub(crate) op: Arc<Op>,
    /// Whether, and as what, it is told when its last byte has left.
    pub(crate) mark: Option<Arc<str>>,
}

/// One client's display channel.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) number: u64,
    pub(crate) images: Images,
    queue: Mutex<VecDeque<Waiting>>,
    /// There is something to send.
    pub(crate) filled: Notify,
    gone: AtomicBool,
}

/// Who is sent changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    All,
    Only(Images),
}

#[derive(Debug)]
struct Screen {
    picture: Picture,
    clients: Vec<Arc<Client>>,
    audience: Audience,
    keys: u16,
    next_number: u64,
}

/// The screen.
#[derive(Debug)]
pub(crate) struct Desk {
    screen: Mutex<Screen>,
    /// A client took something from its queue, or left.
    emptied: Notify,
}

impl Desk {
    pub(crate) fn new(width: u16, height: u16) -> Self {
        let screen = Screen {
            picture: desktop(width, height),
            clients: Vec::new(),
            audience: Audience::All,
            keys: 0,
            next_number: 1,
        };
        Self { screen: Mutex::new(screen), emptied: Notify::new() }
    }

    pub(crate) fn size(&self) -> (u16, u16) {
        let screen = self.screen.lock().unwrap();
        (screen.picture.width, screen.picture.height)
    }

    /// A client's display channel: it is sent the whole picture first.
    pub(crate) fn join(&self, images: Images) -> Arc<Client> {
        let mut screen = self.screen.lock().unwrap();
        let client = Arc::new(Client {
            number: screen.next_number,
            images,
            queue: Mutex::default(),
            filled: Notify::new(),
            gone: AtomicBool::new(false),
        });
        screen.next_number += 1;
        screen.clients.push(Arc::clone(&client));
        for op in screen.whole(false) {
            client.push(Waiting { op: Arc::new(op), mark: None });
        }
        client
    }

    pub(crate) fn leave(&self, client: &Client) {
        client.gone.store(true, Ordering::SeqCst);
        self.screen.lock().unwrap().clients.retain(|one| one.number != client.number);
        self.emptied.notify_waiters();
    }

    /// Changes who is sent what happens; they begin with the whole picture.
    pub(crate) fn show_to(&self, audience: Audience) {
        let mut screen = self.screen.lock().unwrap();
        screen.audience = audience;
        let whole = screen.whole_image();
        screen.send(Waiting { op: Arc::new(whole), mark: None });
    }

    /// A new screen of this size.
    pub(crate) fn resize(&self, width: u16, height: u16) {
        let mut screen = self.screen.lock().unwrap();
        screen.picture = desktop(width, height);
        for op in screen.whole(true) {
            screen.send(Waiting { op: Arc::new(op), mark: None });
        }
    }

    /// Draws, and sends it; `mark` is told when its last byte has left.
    pub(crate) fn put(&self, op: Op, mark: Option<&str>) {
        let mut screen = self.screen.lock().unwrap();
        screen.apply(&op);
        screen.send(Waiting { op: Arc::new(op), mark: mark.map(Arc::from) });
    }

    pub(crate) fn image(&self, (x, y): (u16, u16), picture: Picture, mark: Option<&str>) {
        let area = Area { x, y, ..picture.area() };
        self.put(Op::Image { area, pixels: picture.pixels.into() }, mark);
    }

    /// Waits until the guest may go on drawing.
    pub(crate) async fn room(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            let full = {
                let screen = self.screen.lock().unwrap();
                screen.audience().any(|client| WAITING_MAX <= client.queue.lock().unwrap().len())
            };
            if !full {
                return;
            }
            emptied.await;
        }
    }

    /// A key was pressed: it is shown at once.
    pub(crate) fn key(&self, code: u32) {
        let at = now_ns();
        let mut screen = self.screen.lock().unwrap();
        screen.keys = screen.keys.wrapping_add(1);
        let count = screen.keys;
        say(&format!(r#"{{"event":"key","code":{code},"count":{count},"at":{at}}}"#));
        let mut echo = Picture::new(ECHO.width, ECHO.height);
        echo.number(0, 0, count);
        echo.text(0, 24, &format!("key {count} is {code}"), BLACK);
        let op = Op::Image { area: ECHO, pixels: echo.pixels.into() };
        screen.apply(&op);
        let mark = format!("key {count}");
        screen.send(Waiting { op: Arc::new(op), mark: Some(mark.into()) });
    }

    /// The next change for this client.
    pub(crate) fn next(&self, client: &Client) -> Option<Waiting> {
        let next = client.queue.lock().unwrap().pop_front();
        if next.is_some() {
            self.emptied.notify_waiters();
        }
        next
    }
}

impl Screen {
    fn audience(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.clients.iter().filter(|client| match self.audience {
            Audience::All => true,
            Audience::Only(images) => client.images == images,
        })
    }

    fn send(&self, waiting: Waiting) {
        for client in self.audience() {
            client.push(waiting.clone());
        }
    }

    fn whole(&self, again: bool) -> [Op; 2] {
        let Picture { width, height, .. } = self.picture;
        [Op::Surface { width, height, again }, self.whole_image()]
    }

    fn whole_image(&self) -> Op {
        let pixels = Bytes::copy_from_slice(&self.picture.pixels);
        Op::Image { area: self.picture.area(), pixels }
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Surface { .. } => {}
            Op::Image { area, pixels } => self.picture.paste(*area, pixels),
            Op::Fill { area, color } => self.picture.fill(*area, *color),
            Op::Copy { area, from: (x, y) } => {
                let moved = self.picture.cut(Area { x: *x, y: *y, ..*area });
                self.picture.paste(*area, &moved);
            }
        }
    }
}

impl Client {
    /// As spice-server, which takes from a client's queue what is drawn over before it was sent.
    fn push(&self, waiting: Waiting) {
        let mut queue = self.queue.lock().unwrap();
        if let Op::Image { area, .. } = &*waiting.op {
            let reads = queue.iter().rposition(|one| matches!(*one.op, Op::Copy { .. }));
            let mut index = 0;
            queue.retain(|one| {
                let kept = reads.is_some_and(|last| index <= last);
                index += 1;
                kept || !matches!(&*one.op, Op::Image { area: other, .. } if area.covers(other))
            });
        }
        queue.push_back(waiting);
        self.filled.notify_one();
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }
}

/// A desktop as somebody leaves it who goes for a coffee: a plain wallpaper, a window of text with a photo.
fn desktop(width: u16, height: u16) -> Picture {
    let mut picture = Picture::new(width, height);
    for y in (0..height).step_by(BANDS_HEIGHT.into()) {
        let shade = (u32::from(y) * 200 / u32::from(height)) as u8;
        let band = Area { x: 0, y, width, height: BANDS_HEIGHT.min(height - y) };
        picture.fill(band, [40, 60 + shade / 3, 90 + shade / 2]);
    }
    let window = Area { x: 0, y: 0, width: width * 7 / 8, height: height * 7 / 8 };
    picture.fill(window, [250, 250, 250]);
    for line in 0..(window.height / 20).saturating_sub(8) {
        let text =
            format!("{line:3} The quick brown fox jumps over the lazy dog, and writes it down.");
        picture.text(16, 130 + line * 20, &text, BLACK);
    }
    if PHOTO.x + PHOTO.width <= window.width && PHOTO.y + PHOTO.height <= window.height {
        picture.paste(PHOTO, &Picture::photo(PHOTO.width, PHOTO.height, 1).pixels);
    }
    picture.fill(Area { x: 16, y: 16, width: BIT * BITS, height: 2 * BIT }, [255, 255, 255]);
    picture
}

/// One line of the report on standard output.
pub(crate) fn say(line: &str) {
    // Who reads it may be gone; then the end of standard input ends this program.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

/// `CLOCK_MONOTONIC` in nanoseconds: the clock of Node's `process.hrtime`.
pub(crate) fn now_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
