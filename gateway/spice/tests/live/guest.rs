//! A guest without a processor: it drives QEMU's QXL device over the qtest protocol, so that a
//! test decides every byte of every drawing command (`spice/qxl_dev.h`).
//!
//! The machine's only program halts it at the reset vector. Addresses of PCI are given out here.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Where the machine's first QXL device is on its PCI bus; others follow.
const SLOT: u32 = 5;
/// Where its four regions go: memory, more memory, ROM and ports. Those of others follow.
const RAM: u64 = 0xc000_0000;
const VRAM: u64 = 0xd000_0000;
const ROM: u64 = 0xe000_0000;
const PORTS: u64 = 0xc000;
/// From one device's ports to the next one's.
const PORTS_STEP: u64 = 0x100;
/// Bytes of the first region, QEMU's default.
const RAM_BYTES: u64 = 64 << 20;
/// Where commands and images may lie in it: behind the picture, QEMU's default of 16 MiB.
const HEAP: u64 = 16 << 20;
/// Place of a field in `QXLRom`.
const ROM_RAM_HEADER: u64 = 44;
/// Places of fields in `QXLRam`.
const RING_PRODUCED: u64 = 4112;
const RING_CONSUMED: u64 = 4120;
const RING_ITEMS: u64 = 4128;
const MEMORY_SLOT: u64 = 5276;
const CREATE_SURFACE: u64 = 5292;
/// Commands that the ring holds.
const RING_SIZE: u32 = 32;

/// Ports of QXL (`QXL_IO_*`).
mod port {
    pub(super) const NOTIFY_COMMAND: u64 = 0;
    pub(super) const RESET: u64 = 5;
    pub(super) const MEMORY_SLOT_ADD: u64 = 8;
    pub(super) const CREATE_PRIMARY: u64 = 12;
}

/// `QXL_CMD_DRAW`
const COMMAND_DRAW: u32 = 1;
/// `QXL_CMD_SURFACE`
const COMMAND_SURFACE: u32 = 5;
/// `QXL_DRAW_COPY`
const DRAW_COPY: u8 = 3;
/// `SPICE_ROPD_OP_PUT`
const OP_PUT: u16 = 8;
/// `QXL_BITMAP_DIRECT`
const BITMAP_DIRECT: u8 = 1;
/// `QXL_BITMAP_TOP_DOWN`
const BITMAP_TOP_DOWN: u8 = 4;
/// `QXL_IMAGE_CACHE`
const IMAGE_CACHE: u8 = 1;

/// The arguments of a machine whose QXL device is driven from here.
#[derive(Debug)]
pub(crate) struct Machine {
    listener: UnixListener,
    pub(crate) arguments: Vec<String>,
    devices: u32,
}

/// The connection by which devices are reached, one line at a time.
type Test = Rc<RefCell<BufReader<UnixStream>>>;

/// The driver of one device.
pub(crate) struct Guest {
    test: Test,
    slot: u32,
    ram: u64,
    ports: u64,
    ram_header: u64,
    /// The next free byte, from the start of the first region.
    free: u64,
    produced: u32,
    images: u32,
}

/// A bitmap in the guest's memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image {
    address: u64,
    width: u32,
    height: u32,
    /// The surface that it is.
    surface: Option<u32>,
}

/// What a bitmap is made of.
#[derive(Clone, Debug)]
pub(crate) struct Bitmap {
    /// `SpiceBitmapFmt`
    pub(crate) format: u8,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) stride: u32,
    pub(crate) top_down: bool,
    /// 0x00rrggbb; none for formats without.
    pub(crate) palette: Vec<u32>,
    pub(crate) rows: Vec<u8>,
    /// Whether the client is to keep it.
    pub(crate) cached: bool,
}

impl Machine {
    /// With so many devices, `qxl0` and on.
    pub(crate) fn new(folder: &Path, devices: u32) -> Self {
        let program = halting_program(folder);
        let socket = folder.join("qtest");
        let listener = UnixListener::bind(&socket).unwrap();
        let socket = format!("unix:{}", socket.display());
        let program = program.to_str().unwrap();
        let fixed = ["-machine", "pc", "-bios", program, "-vga", "none", "-qtest", &socket];
        let fixed = fixed.into_iter().chain(["-qtest-log", "/dev/null"]).map(str::to_owned);
        let device = |index| {
            let model = if index == 0 { "qxl-vga" } else { "qxl" };
            ["-device".to_owned(), format!("{model},id=qxl{index},addr={}", SLOT + index)]
        };
        let arguments = fixed.chain((0..devices).flat_map(device)).collect();
        Self { listener, arguments, devices }
    }

    /// Takes the machine's connection and makes a picture of this size on each device.
    pub(crate) fn boot(self, size: [u32; 2]) -> Vec<Guest> {
        let (socket, _address) = self.listener.accept().unwrap();
        let test = Rc::new(RefCell::new(BufReader::new(socket)));
        (0..self.devices).map(|index| Guest::boot(Rc::clone(&test), index, size)).collect()
    }
}

impl Guest {
    fn boot(test: Test, index: u32, [width, height]: [u32; 2]) -> Self {
        let step = u64::from(index);
        let (ram, rom) = (RAM + step * RAM_BYTES, ROM + step * RAM_BYTES);
        let (slot, ports) = (SLOT + index, PORTS + step * PORTS_STEP);
        let (ram_header, free, produced, images) = (0, HEAP, 0, 1000 * index);
        let mut guest = Self { test, slot, ram, ports, ram_header, free, produced, images };
        let vram = VRAM + step * RAM_BYTES;
        for (register, address) in [(0x10, ram), (0x14, vram), (0x18, rom), (0x1c, ports)] {
            guest.configure(register, u32::try_from(address).unwrap());
        }
        // Answer to both ports and memory.
        guest.configure(0x04, 3);
        guest.ram_header = ram + u64::from(guest.read(rom + ROM_RAM_HEADER));
        guest.out(port::RESET, 0);
        let slot = [ram, ram + RAM_BYTES].into_iter().flat_map(u64::to_le_bytes);
        guest.write(guest.ram_header + MEMORY_SLOT, &slot.collect::<Vec<_>>());
        guest.out(port::MEMORY_SLOT_ADD, 1);
        // Stride, format xRGB, position, mouse mode, flags, type, memory.
        let mut surface = words(&[width, height, 4 * width, 32, 0, 1, 0, 0]);
        surface.extend(physical(0).to_le_bytes());
        guest.write(guest.ram_header + CREATE_SURFACE, &surface);
        guest.out(port::CREATE_PRIMARY, 0);
        guest
    }

    /// Puts a bitmap into memory.
    pub(crate) fn image(&mut self, bitmap: &Bitmap) -> Image {
        let Bitmap { width, height, .. } = *bitmap;
        let data = self.store(&bitmap.rows);
        self.images += 1;
        let palette = match bitmap.palette.as_slice() {
            [] => 0,
            colors => {
                let mut palette = u64::from(self.images).to_le_bytes().to_vec();
                palette.extend(u16::try_from(colors.len()).unwrap().to_le_bytes());
                palette.extend(words(colors));
                physical(self.store(&palette))
            }
        };
        let flags = BITMAP_DIRECT | if bitmap.top_down { BITMAP_TOP_DOWN } else { 0 };
        let mut image = self.descriptor(0, bitmap.cached, [width, height]);
        image.extend([bitmap.format, flags]);
        image.extend(words(&[width, height, bitmap.stride]));
        image.extend([palette, physical(data)].into_iter().flat_map(u64::to_le_bytes));
        Image { address: self.store(&image), width, height, surface: None }
    }

    /// An image that is a surface.
    pub(crate) fn surface_image(&mut self, surface: u32, [width, height]: [u32; 2]) -> Image {
        let mut image = self.descriptor(104, false, [width, height]);
        image.extend(words(&[surface]));
        // QEMU reads as much as the largest form of an image.
        image.extend([0; 32]);
        Image { address: self.store(&image), width, height, surface: Some(surface) }
    }

    /// Makes a surface that nobody sees, with alpha.
    pub(crate) fn create_surface(&mut self, id: u32, [width, height]: [u32; 2]) {
        let memory = self.store(&vec![0; usize::try_from(4 * width * height).unwrap()]);
        let mut command = 0_u64.to_le_bytes().to_vec();
        command.extend(words(&[id]));
        command.push(0);
        command.extend(words(&[0, 96, width, height, 4 * width]));
        command.extend(physical(memory).to_le_bytes());
        self.submit(COMMAND_SURFACE, &command);
    }

    /// Draws an image with its left top corner at a place of a surface.
    pub(crate) fn copy(&mut self, image: Image, surface: u32, [x, y]: [u32; 2]) {
        let Image { width, height, surface: source, .. } = image;
        let mut command = 0_u64.to_le_bytes().to_vec();
        command.extend(words(&[surface]));
        // Blends with what is there, a copy, without a picture of itself.
        command.extend([0, DRAW_COPY, 0]);
        command.extend(words(&[0; 4]));
        command.extend(words(&[y, x, y + height, x + width]));
        // No clip: type u32, data u64. Time. Up to three surfaces that are read, and what of them.
        command.extend(words(&[0, 0, 0, 0]));
        command.extend(words(&[source.unwrap_or(u32::MAX), u32::MAX, u32::MAX]));
        command.extend(words(&[0, 0, height, width]));
        command.extend(words(&[0; 8]));
        command.extend(physical(image.address).to_le_bytes());
        command.extend(words(&[0, 0, height, width]));
        command.extend(OP_PUT.to_le_bytes());
        // Scale mode; no mask: flags, place, bitmap.
        command.extend([0; 1 + 1 + 8 + 8]);
        self.submit(COMMAND_DRAW, &command);
    }

    /// Whether the device has taken all commands.
    pub(crate) fn is_idle(&self) -> bool {
        self.read(self.ram_header + RING_CONSUMED) == self.produced
    }

    fn descriptor(&mut self, kind: u8, cached: bool, [width, height]: [u32; 2]) -> Vec<u8> {
        self.images += 1;
        let mut image = (u64::from(self.images) << 32).to_le_bytes().to_vec();
        image.extend([kind, if cached { IMAGE_CACHE } else { 0 }]);
        image.extend(words(&[width, height]));
        image
    }

    fn store(&mut self, bytes: &[u8]) -> u64 {
        let address = self.free;
        self.free = (address + u64::try_from(bytes.len()).unwrap()).next_multiple_of(16);
        assert!(self.free < RAM_BYTES - (1 << 20), "the guest's memory is full");
        self.write(self.ram + address, bytes);
        address
    }

    fn submit(&mut self, kind: u32, command: &[u8]) {
        let address = self.store(command);
        while self.produced - self.read(self.ram_header + RING_CONSUMED) >= RING_SIZE {}
        let place = u64::from(self.produced % RING_SIZE) * 16;
        let mut item = physical(address).to_le_bytes().to_vec();
        item.extend(words(&[kind, 0]));
        self.write(self.ram_header + RING_ITEMS + place, &item);
        self.produced += 1;
        self.write(self.ram_header + RING_PRODUCED, &self.produced.to_le_bytes());
        self.out(port::NOTIFY_COMMAND, 0);
    }

    /// Writes a register of the device's PCI configuration.
    fn configure(&self, register: u32, value: u32) {
        self.ask(&format!("outl 0xcf8 {:#x}", 0x8000_0000 | self.slot << 11 | register));
        self.ask(&format!("outl 0xcfc {value:#x}"));
    }

    fn out(&self, port: u64, value: u8) {
        self.ask(&format!("outb {:#x} {value:#x}", self.ports + port));
    }

    fn read(&self, address: u64) -> u32 {
        let answer = self.ask(&format!("readl {address:#x}"));
        let number = answer.strip_prefix("OK 0x").unwrap_or_else(|| panic!("{answer}"));
        u32::try_from(u64::from_str_radix(number, 16).unwrap()).unwrap()
    }

    fn write(&self, address: u64, bytes: &[u8]) {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.ask(&format!("write {address:#x} {:#x} 0x{digits}", bytes.len()));
    }

    fn ask(&self, line: &str) -> String {
        let mut test = self.test.borrow_mut();
        test.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        test.read_line(&mut answer).unwrap();
        assert!(answer.starts_with("OK"), "{}: {answer}", line.split(' ').next().unwrap());
        answer.trim_end().to_owned()
    }
}

/// A ROM that does nothing: at the reset vector, no interrupts, halt, and again.
fn halting_program(folder: &Path) -> PathBuf {
    let mut rom = vec![0; 1 << 16];
    rom[0xfff0..0xfff4].copy_from_slice(&[0xfa, 0xf4, 0xeb, 0xfd]);
    let file = folder.join("halt.rom");
    std::fs::write(&file, rom).unwrap();
    file
}

/// An address as commands have it: memory slot 1, generation 0.
fn physical(address: u64) -> u64 {
    1 << 56 | address
}

fn words(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
