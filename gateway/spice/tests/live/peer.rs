//! spice-gtk, the client that everybody knows: as the program `spicy-screenshot`, and kept attached by a
//! few lines of Python, which also choose the compression.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::qemu::{Address, parse_ppm};

type Pixels = (u32, u32, Vec<u8>);

/// spice-gtk, attached until it is dropped.
pub(crate) struct Peer {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    file: PathBuf,
}

impl Peer {
    /// Attaches it and waits for its first picture. `compression` is a number of
    /// `SpiceImageCompression`; 0 leaves it to the server.
    pub(crate) fn attach(address: &Address, folder: &Path, compression: u8) -> Self {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/live/peer.py");
        let file = folder.join("peer.ppm");
        let mut process = Command::new("/usr/bin/python3")
            .args([program, &uri(address), &compression.to_string()])
            .arg(&file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut peer = Self { process, input, output, file };
        peer.expect("shown");
        peer
    }

    /// What it shows, once nothing is drawn for a while.
    pub(crate) fn picture(&mut self) -> Pixels {
        self.input.write_all(b"picture\n").unwrap();
        self.expect("written");
        parse_ppm(&std::fs::read(&self.file).unwrap())
    }

    fn expect(&mut self, word: &str) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(
            line.trim(),
            word,
            "spice-gtk is gone: are gir1.2-spiceclientglib-2.0 and python3-gi there?"
        );
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Best effort: it may be gone.
        let _gone = self.process.kill();
        let _status = self.process.wait();
    }
}

/// The picture of `spicy-screenshot`: the first that a new client gets, in the server's compression.
pub(crate) fn spicy_screenshot(address: &Address, folder: &Path) -> Pixels {
    let file = folder.join("spicy.ppm");
    let out = Command::new("spicy-screenshot")
        .arg(format!("--uri={}", uri(address)))
        .arg(format!("--out-file={}", file.display()))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    parse_ppm(&std::fs::read(&file).unwrap())
}

fn uri(address: &Address) -> String {
    match address {
        Address::Unix(path) => format!("spice+unix://{}", path.display()),
        Address::Tcp(address) => format!("spice://{address}"),
    }
}
