//! The same frozen guest drawn by this library and by spice-gtk, pixel by pixel: images of every format
//! through every compression, and whole screens of each display device over either kind of socket.
//!
//! Left out is what only this library draws: of bitmaps whose bits are in the other order (1 and 4 bits,
//! little endian) spice-gtk and the server itself make a fatal error and end.

use vidi_spice::{Compression, GlzDictionary, ImageTransfer};

use crate::images::{
    DICTIONARY_PIXELS, Likeness, compare, draw, link, places, screen, show, start,
};
use crate::peer::{Peer, spicy_screenshot};
use crate::qemu::{Desktop, folder};

type Pixels = (u32, u32, Vec<u8>);

/// Pictures that are taken of a screen on which a caret blinks, until two are of the same moment.
const MOMENTS_MAX: u32 = 40;

/// What a server is told to do, in its options and by a client that may choose.
struct Way {
    compression: Compression,
    /// `-spice image-compression=`; QEMU knows no LZ4.
    server: &'static str,
    options: &'static str,
    likeness: Likeness,
}

const fn exact(compression: Compression, server: &'static str, options: &'static str) -> Way {
    Way { compression, server, options, likeness: Likeness::Exact }
}

const NO_WAN: &str = "zlib-glz-wan-compression=never,jpeg-wan-compression=never,";

#[test]
fn spice_gtk_agrees_on_bitmaps() {
    check(&exact(Compression::Off, "off", NO_WAN));
}

#[test]
fn spice_gtk_agrees_on_quic() {
    check(&exact(Compression::Quic, "quic", NO_WAN));
}

#[test]
fn spice_gtk_agrees_on_lz() {
    check(&exact(Compression::Lz, "lz", NO_WAN));
}

#[test]
fn spice_gtk_agrees_on_glz() {
    check(&exact(Compression::Glz, "glz", NO_WAN));
}

#[test]
fn spice_gtk_agrees_on_glz_inside_zlib() {
    check(&exact(Compression::Glz, "glz", "zlib-glz-wan-compression=always,"));
}

#[test]
fn spice_gtk_agrees_on_lz4() {
    check(&exact(Compression::Lz4, "off", NO_WAN));
}

#[test]
fn spice_gtk_agrees_on_a_choice_by_content() {
    check(&exact(Compression::AutoGlz, "auto_glz", NO_WAN));
    check(&exact(Compression::AutoLz, "auto_lz", NO_WAN));
}

/// JPEG is lossy, and its decoders may round differently.
#[test]
fn spice_gtk_is_near_on_jpeg() {
    let options = "jpeg-wan-compression=always,";
    let likeness = Likeness::Near;
    check(&Way { compression: Compression::Quic, server: "quic", options, likeness });
}

#[test]
fn spice_gtk_agrees_on_a_screen_of_qxl() {
    check_device("qxl-vga");
}

#[test]
fn spice_gtk_agrees_on_a_screen_of_virtio() {
    check_device("virtio-vga");
}

#[test]
fn spice_gtk_agrees_on_a_screen_of_vga() {
    check_device("VGA");
}

/// Draws the same on two machines, one shown by this library and one by spice-gtk; then both take the
/// whole screen of the first, as new clients do.
fn check(way: &Way) {
    let number = way.compression.number();
    let name = format!("gtk-{number}-{}", way.options.len());
    let options = format!("image-compression={},{}", way.server, way.options);
    let (mut desktop, mut guests) = start(&format!("{name}-ours"), &options, 1);
    let (mut main, session) = link(&desktop);
    let (mut display, mut picture) = show(&desktop, 0, session, transfer(way.compression));
    draw(&mut guests[0], &mut places());
    let (other, mut others) = start(&format!("{name}-theirs"), &options, 1);
    let mut peer = Peer::attach(&other.address, other.folder(), number);
    draw(&mut others[0], &mut places());
    let mut difference = String::new();
    let alike = (0..MOMENTS_MAX).any(|_| {
        while display.pump(&mut |event| picture.apply(event)) {}
        main.pump(&mut |_event| {});
        if !guests[0].is_idle() || !others[0].is_idle() {
            return false;
        }
        difference.clear();
        compare(&picture.visible(), &peer.picture(), way.likeness, &mut difference)
    });
    assert!(alike, "drawn, {:?}: {difference}", way.compression);
    drop((peer, other, display, main));

    let theirs = spicy_screenshot(&desktop.address, desktop.folder());
    if way.likeness == Likeness::Exact {
        assert_alike(&desktop.screenshot(), &theirs, way, "spicy-screenshot");
    }
    let ours = screen(&desktop, transfer(way.compression));
    assert_alike(&ours, &theirs, way, "whole");
}

fn assert_alike(ours: &Pixels, theirs: &Pixels, way: &Way, what: &str) {
    let mut difference = String::new();
    let alike = compare(ours, theirs, way.likeness, &mut difference);
    assert!(alike, "{what}, {:?}: {difference}", way.compression);
}

fn transfer(compression: Compression) -> ImageTransfer {
    ImageTransfer {
        compression: Some(compression),
        dictionary: GlzDictionary::new(DICTIONARY_PIXELS),
    }
}

/// The screen of a machine's firmware: over a UNIX socket, and over TCP in each compression.
fn check_device(device: &str) {
    let mut unix = Desktop::start(&format!("gtk-{device}"), device, &[]);
    check_moment(&mut unix, ImageTransfer::uncompressed(), device);
    drop(unix);
    for (compression, server) in [
        (Compression::Off, "off"),
        (Compression::Quic, "quic"),
        (Compression::Glz, "glz"),
        (Compression::Lz, "lz"),
        (Compression::AutoGlz, "auto_glz"),
        (Compression::AutoLz, "auto_lz"),
    ] {
        let what = format!("{device}-{server}");
        let options = format!("image-compression={server},streaming-video=off,{NO_WAN}");
        let options = options.trim_end_matches(',');
        let folder = folder(&format!("gtk-{what}"));
        let mut tcp = Desktop::start_over_tcp(folder, options, &["-device", device]);
        check_moment(&mut tcp, transfer(compression), &what);
    }
}

/// Both clients and QEMU see the same at one moment.
fn check_moment(desktop: &mut Desktop, transfer: ImageTransfer, what: &str) {
    let alike = (0..MOMENTS_MAX).any(|_| {
        let ours = screen(desktop, transfer_anew(&transfer));
        let theirs = spicy_screenshot(&desktop.address, desktop.folder());
        let colors = theirs.2.iter().collect::<std::collections::BTreeSet<_>>().len();
        1 < colors && ours == theirs && desktop.screenshot() == theirs
    });
    assert!(alike, "{what}: spice-gtk never showed the same picture");
}

/// A new session has a new dictionary.
fn transfer_anew(transfer: &ImageTransfer) -> ImageTransfer {
    let dictionary = GlzDictionary::new(transfer.dictionary.window_pixels());
    ImageTransfer { dictionary, ..transfer.clone() }
}
