//! Links all channels to a real QEMU over its UNIX socket and compares the picture with QEMU's
//! own screenshot.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::panic, reason = "a fault of the server is a failed test")]
#![expect(clippy::indexing_slicing, reason = "a place outside is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use vidi_spice::display::{Copy, CopySource, Surface};
use vidi_spice::{
    ChannelKind, CommonEvent, CursorChannel, CursorEvent, DisplayChannel, DisplayEvent,
    InputsChannel, InputsEvent, LinkSetup, MainChannel, MainEvent, Password, Point, Refusal,
    Scancode, SpiceError, SurfaceId, TicketSeed,
};

/// How long one read waits for the server.
const READ_MAX: Duration = Duration::from_millis(100);
/// Reads without a byte before the server counts as silent: 40 s.
const SILENT_READS_MAX: u32 = 400;

/// A QEMU with a BIOS screen, killed when dropped.
struct Desktop {
    process: Child,
    monitor: (ChildStdin, BufReader<ChildStdout>),
    folder: PathBuf,
}

impl Desktop {
    /// Starts a machine with this display device; `name` tells its folder apart.
    fn start(name: &str, device: &str, ticket: &[&str]) -> Self {
        let folder = format!("vidi-spice-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("spice");
        let mut process = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg", "-m", "64", "-display", "none", "-nodefaults"])
            .args(["-device", device, "-device", "qemu-xhci", "-device", "usb-tablet"])
            .args(["-nic", "none", "-qmp", "stdio"])
            .args(ticket)
            .arg("-spice")
            .arg(match ticket {
                [] => format!("unix=on,addr={},disable-ticketing=on", socket.display()),
                _ => format!("unix=on,addr={},password-secret=ticket", socket.display()),
            })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut desktop = Self { process, monitor: (input, output), folder };
        // The greeting comes when the machine, its SPICE server included, is made.
        let mut greeting = String::new();
        desktop.monitor.1.read_line(&mut greeting).unwrap();
        assert!(greeting.contains("QMP"), "greeting: {greeting}");
        desktop.command(r#"{"execute":"qmp_capabilities"}"#);
        desktop
    }

    fn command(&mut self, json: &str) {
        writeln!(self.monitor.0, "{json}").unwrap();
        loop {
            let mut answer = String::new();
            assert_ne!(self.monitor.1.read_line(&mut answer).unwrap(), 0, "QEMU went away");
            assert!(!answer.contains("\"error\""), "{json}: {answer}");
            if answer.contains("\"return\"") {
                return;
            }
        }
    }

    /// QEMU's own picture: width, height, red-green-blue bytes.
    fn screenshot(&mut self) -> (u32, u32, Vec<u8>) {
        let file = self.folder.join("screen.ppm");
        let file_name = file.display().to_string();
        self.command(&format!(
            r#"{{"execute":"screendump","arguments":{{"filename":"{file_name}"}}}}"#
        ));
        let picture = std::fs::read(&file).unwrap();
        let mut fields = picture.splitn(4, |byte| byte.is_ascii_whitespace());
        let mut field = || fields.next().unwrap();
        assert_eq!(field(), b"P6");
        let mut number = || String::from_utf8(field().to_vec()).unwrap().parse::<u32>().unwrap();
        let (width, height) = (number(), number());
        let pixels = field().strip_prefix(b"255\n").unwrap().to_vec();
        (width, height, pixels)
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        // Best effort: the process may be gone and the folder with it.
        let _gone = self.process.kill();
        let _status = self.process.wait();
        let _removed = std::fs::remove_dir_all(&self.folder);
    }
}

/// One of the four channels over its socket.
trait Wire {
    type Event: std::fmt::Debug;
    fn feed(&mut self, bytes: &[u8]);
    fn event(&mut self) -> Option<Self::Event>;
    fn outgoing(&mut self) -> Option<bytes::Bytes>;
}

macro_rules! wire {
    ($channel:ty, $event:ty) => {
        impl Wire for $channel {
            type Event = $event;
            fn feed(&mut self, bytes: &[u8]) {
                self.receive(bytes).unwrap();
            }
            fn event(&mut self) -> Option<Self::Event> {
                self.next_event().unwrap()
            }
            fn outgoing(&mut self) -> Option<bytes::Bytes> {
                self.poll_transmit()
            }
        }
    };
}
wire!(MainChannel, MainEvent);
wire!(DisplayChannel, DisplayEvent);
wire!(InputsChannel, InputsEvent);
wire!(CursorChannel, CursorEvent);

struct Connection<C> {
    socket: UnixStream,
    channel: C,
}

impl<C: Wire> Connection<C> {
    fn open(folder: &Path, channel: C) -> Self {
        let socket = UnixStream::connect(folder.join("spice")).unwrap();
        socket.set_read_timeout(Some(READ_MAX)).unwrap();
        Self { socket, channel }
    }

    fn flush(&mut self) {
        while let Some(bytes) = self.channel.outgoing() {
            self.socket.write_all(&bytes).unwrap();
        }
    }

    /// The events that are there, after one read unless there are some already; whether any byte
    /// came.
    fn pump(&mut self, on: &mut impl FnMut(C::Event)) -> bool {
        self.flush();
        let mut buffer = vec![0; 1 << 16];
        let count = match self.socket.read(&mut buffer) {
            Ok(0) => panic!("the server closed the channel"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => panic!("{error}"),
        };
        self.channel.feed(&buffer[..count]);
        while let Some(event) = self.channel.event() {
            on(event);
        }
        self.flush();
        count > 0
    }

    /// Reads until `wanted` finds its event.
    fn wait<T>(&mut self, mut wanted: impl FnMut(&C::Event) -> Option<T>) -> T {
        for _ in 0..SILENT_READS_MAX {
            let mut found = None;
            self.pump(&mut |event| {
                if found.is_none() {
                    found = wanted(&event);
                }
            });
            if let Some(found) = found {
                return found;
            }
        }
        panic!("the server did not send what was expected")
    }
}

/// Surfaces as BGRX, as a display engine keeps them.
#[derive(Default)]
struct Picture {
    surfaces: BTreeMap<SurfaceId, (Surface, Vec<[u8; 4]>)>,
    primary: Option<SurfaceId>,
    marked: bool,
}

impl Picture {
    fn apply(&mut self, event: DisplayEvent) {
        match event {
            DisplayEvent::Common(CommonEvent::Unsupported(unsupported))
            | DisplayEvent::Unsupported(unsupported) => {
                panic!("unsupported: {}", unsupported.feature)
            }
            DisplayEvent::SurfaceCreated(surface) => {
                let pixels = vec![[0, 0, 0, 255]; (surface.width * surface.height) as usize];
                self.surfaces.insert(surface.id, (surface, pixels));
                if surface.primary {
                    self.primary = Some(surface.id);
                }
            }
            DisplayEvent::SurfaceDestroyed(id) => {
                self.surfaces.remove(&id);
            }
            DisplayEvent::Mark => self.marked = true,
            DisplayEvent::Copy(copy) => self.copy(&copy),
            DisplayEvent::Fill(fill) => {
                let (surface, pixels) = self.surfaces.get_mut(&fill.surface).unwrap();
                for rect in fill.rects {
                    for y in rect.top..rect.bottom {
                        for x in rect.left..rect.right {
                            pixels[y as usize * surface.width as usize + x as usize] = fill.color;
                        }
                    }
                }
            }
            DisplayEvent::CopyBits(bits) => self.copy(&Copy {
                surface: bits.surface,
                rects: bits.rects,
                source: CopySource::Surface(bits.surface),
                offset: bits.offset,
            }),
            DisplayEvent::Combine(combine) => panic!("not expected here: {combine:?}"),
            DisplayEvent::Common(_) | DisplayEvent::Reset | DisplayEvent::Monitors(_) => {}
        }
    }

    fn copy(&mut self, copy: &Copy) {
        // A snapshot of the source makes overlap harmless.
        let (width, source) = match &copy.source {
            CopySource::Surface(id) => {
                let (surface, pixels) = &self.surfaces[id];
                (surface.width as usize, pixels.clone())
            }
            CopySource::Pixels(image) => {
                let rows = (0..image.height).flat_map(|y| image.row(y).unwrap().as_chunks().0);
                (image.width as usize, rows.copied().collect())
            }
        };
        let (surface, pixels) = self.surfaces.get_mut(&copy.surface).unwrap();
        for rect in &copy.rects {
            for y in rect.top..rect.bottom {
                for x in rect.left..rect.right {
                    let from = (y + copy.offset.y) as usize * width + (x + copy.offset.x) as usize;
                    pixels[y as usize * surface.width as usize + x as usize] = source[from];
                }
            }
        }
    }

    fn colors(&self) -> usize {
        let visible = self.primary.and_then(|id| self.surfaces.get(&id));
        visible.map_or(0, |(_, pixels)| pixels.iter().collect::<BTreeSet<_>>().len())
    }

    /// Width, height, red-green-blue bytes of what the user sees.
    fn visible(&self) -> (u32, u32, Vec<u8>) {
        let (surface, pixels) = &self.surfaces[&self.primary.unwrap()];
        assert!(pixels.iter().all(|[_, _, _, alpha]| *alpha == 255), "alpha is 255 everywhere");
        let bytes = pixels.iter().flat_map(|[blue, green, red, _]| [*red, *green, *blue]);
        (surface.width, surface.height, bytes.collect())
    }
}

fn setup(connection_id: u32, password: &str) -> LinkSetup {
    let seed = TicketSeed::generate(&mut rand::rng());
    LinkSetup { channel_id: 0, connection_id, password: Password::new(password).unwrap(), seed }
}

#[test]
fn a_picture_from_qxl_equals_its_own_screenshot() {
    check_device("qxl-vga");
}

#[test]
fn a_picture_from_virtio_equals_its_own_screenshot() {
    check_device("virtio-vga");
}

#[test]
fn a_picture_from_vga_equals_its_own_screenshot() {
    check_device("VGA");
}

#[test]
fn a_ticket_opens_the_channel_and_another_one_does_not() {
    let ticket = ["-object", "secret,id=ticket,data=open-sesame"];
    let desktop = Desktop::start("ticket", "VGA", &ticket);
    let mut wrong = Connection::open(&desktop.folder, MainChannel::new(setup(0, "sesame")));
    let refusal = (0..SILENT_READS_MAX).find_map(|_| {
        wrong.flush();
        let mut buffer = [0; 4096];
        let count = wrong.socket.read(&mut buffer).unwrap_or(0);
        wrong.channel.feed(&buffer[..count]);
        wrong.channel.next_event().err()
    });
    assert_eq!(refusal, Some(SpiceError::Refused(Refusal::PermissionDenied)));
    let mut right = Connection::open(&desktop.folder, MainChannel::new(setup(0, "open-sesame")));
    right.wait(|event| matches!(event, MainEvent::Init(_)).then_some(()));
}

/// Opens all channels of a machine with this display device and compares pictures.
fn check_device(device: &str) {
    let mut desktop = Desktop::start(device, device, &[]);
    let folder = desktop.folder.clone();
    let mut main = Connection::open(&folder, MainChannel::new(setup(0, "")));
    let session = main.wait(|event| match event {
        MainEvent::Init(init) => Some(init.session_id),
        _ => None,
    });
    let channels = main.wait(|event| match event {
        MainEvent::Channels(channels) => Some(channels.clone()),
        _ => None,
    });
    for kind in [ChannelKind::Display, ChannelKind::Inputs, ChannelKind::Cursor] {
        assert!(channels.iter().any(|name| name.kind == kind), "{kind:?} in {channels:?}");
    }
    let mut display = Connection::open(&folder, DisplayChannel::new(setup(session, "")));
    let mut picture = Picture::default();
    for _ in 0..SILENT_READS_MAX {
        display.pump(&mut |event| picture.apply(event));
        if picture.marked && picture.colors() > 1 {
            break;
        }
    }
    assert!(picture.marked && picture.colors() > 1, "{} colours", picture.colors());

    let mut inputs = Connection::open(&folder, InputsChannel::new(setup(session, "")));
    let key = Scancode::plain(0x1e).unwrap();
    inputs.channel.key_down(key).unwrap();
    inputs.channel.key_up(key).unwrap();
    for step in 0..30 {
        inputs.channel.move_to(Point::new(step, 2 * step), 0).unwrap();
    }
    inputs.wait(|event| matches!(event, InputsEvent::Locks(_)).then_some(()));
    let mut cursor = Connection::open(&folder, CursorChannel::new(setup(session, "")));
    cursor.wait(|event| matches!(event, CursorEvent::Set { .. }).then_some(()));

    // The text cursor blinks: try again when it did so between picture and screenshot.
    let equal = (0..SILENT_READS_MAX).any(|_| {
        while display.pump(&mut |event| picture.apply(event)) {}
        picture.visible() == desktop.screenshot()
    });
    assert!(equal, "the picture never equalled QEMU's own");
}
