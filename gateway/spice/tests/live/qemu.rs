//! A QEMU of the tests' own: its monitor, its screenshots and the address of its SPICE server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::wire::READ_MAX;

/// A QEMU, killed when dropped.
pub(crate) struct Desktop {
    process: Child,
    monitor: (ChildStdin, BufReader<ChildStdout>),
    folder: PathBuf,
    pub(crate) address: Address,
}

/// Where the SPICE server listens. Over a UNIX socket it compresses nothing.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// A connection to it.
pub(crate) trait Socket: Read + Write {}
impl Socket for UnixStream {}
impl Socket for TcpStream {}

impl Address {
    pub(crate) fn connect(&self) -> Box<dyn Socket> {
        match self {
            Self::Unix(path) => {
                let socket = UnixStream::connect(path).unwrap();
                socket.set_read_timeout(Some(READ_MAX)).unwrap();
                Box::new(socket)
            }
            Self::Tcp(address) => {
                let socket = TcpStream::connect(address).unwrap();
                socket.set_read_timeout(Some(READ_MAX)).unwrap();
                Box::new(socket)
            }
        }
    }
}

/// A folder of this name and process.
pub(crate) fn folder(name: &str) -> PathBuf {
    let folder = format!("vidi-spice-{}-{name}", std::process::id());
    let folder = std::env::temp_dir().join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

impl Desktop {
    /// Starts a machine that shows its BIOS on this display device; `name` tells its folder apart.
    pub(crate) fn start(name: &str, device: &str, ticket: &[&str]) -> Self {
        let folder = folder(name);
        let socket = folder.join("spice");
        let spice = match ticket {
            [] => format!("unix=on,addr={},disable-ticketing=on", socket.display()),
            _ => format!("unix=on,addr={},password-secret=ticket", socket.display()),
        };
        let more = ["-device", device, "-device", "qemu-xhci", "-device", "usb-tablet"];
        Self::run(folder, Address::Unix(socket), &spice, &[&more, ticket].concat())
    }

    /// Starts a machine with a sound card.
    pub(crate) fn start_with_sound(name: &str) -> Self {
        let folder = folder(name);
        let socket = folder.join("spice");
        let spice = format!("unix=on,addr={},disable-ticketing=on", socket.display());
        let card = ["-device", "VGA", "-audiodev", "spice,id=sound", "-device", "ich9-intel-hda"];
        let codec = ["-device", "hda-duplex,audiodev=sound"];
        Self::run(folder, Address::Unix(socket), &spice, &[&card[..], &codec].concat())
    }

    /// Starts a machine whose SPICE server listens on a free port, with these `-spice` options.
    pub(crate) fn start_over_tcp(folder: PathBuf, options: &str, arguments: &[&str]) -> Self {
        // Free now; should another take it first, QEMU says so and the test fails by name.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let port = address.port();
        let spice = format!("port={port},addr=127.0.0.1,disable-ticketing=on,{options}");
        Self::run(folder, Address::Tcp(address), &spice, arguments)
    }

    fn run(folder: PathBuf, address: Address, spice: &str, arguments: &[&str]) -> Self {
        let mut process = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg", "-m", "64", "-display", "none", "-nodefaults"])
            .args(["-nic", "none", "-qmp", "stdio"])
            .args(arguments)
            .args(["-spice", spice])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut desktop = Self { process, monitor: (input, output), folder, address };
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

    /// Moves the machine to another that waits for it, and says to its viewers that they find it there.
    pub(crate) fn move_to(&mut self, other: &Self, incoming: SocketAddr) {
        let Address::Tcp(viewers) = other.address else { unreachable!("it is reached over TCP") };
        let (host, port) = (viewers.ip(), viewers.port());
        self.command(&format!(
            r#"{{"execute":"client_migrate_info","arguments":{{"protocol":"spice","hostname":"{host}","port":{port}}}}}"#
        ));
        self.command(&format!(r#"{{"execute":"migrate","arguments":{{"uri":"tcp:{incoming}"}}}}"#));
    }

    /// QEMU's own picture: width, height, red-green-blue bytes.
    pub(crate) fn screenshot(&mut self) -> (u32, u32, Vec<u8>) {
        self.screenshot_with("")
    }

    /// The picture of the display device with this id.
    pub(crate) fn screenshot_of(&mut self, device: &str) -> (u32, u32, Vec<u8>) {
        self.screenshot_with(&format!(r#","device":"{device}","head":0"#))
    }

    fn screenshot_with(&mut self, more: &str) -> (u32, u32, Vec<u8>) {
        let file = self.folder.join("screen.ppm");
        let name = file.display().to_string();
        self.command(&format!(
            r#"{{"execute":"screendump","arguments":{{"filename":"{name}"{more}}}}}"#
        ));
        parse_ppm(&std::fs::read(&file).unwrap())
    }

    /// Where what belongs to it may lie; goes with it.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

/// Width, height, red-green-blue bytes of a picture in the format P6.
pub(crate) fn parse_ppm(picture: &[u8]) -> (u32, u32, Vec<u8>) {
    let mut fields = picture.splitn(4, |byte| byte.is_ascii_whitespace());
    let mut field = || fields.next().unwrap();
    assert_eq!(field(), b"P6");
    let mut number = || String::from_utf8(field().to_vec()).unwrap().parse::<u32>().unwrap();
    let (width, height) = (number(), number());
    let pixels = field().strip_prefix(b"255\n").unwrap().to_vec();
    (width, height, pixels)
}

impl Drop for Desktop {
    fn drop(&mut self) {
        // Best effort: the process may be gone and the folder with it.
        let _gone = self.process.kill();
        let _status = self.process.wait();
        let _removed = std::fs::remove_dir_all(&self.folder);
    }
}
