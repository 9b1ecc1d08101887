//! A machine that moves from one QEMU to another: its viewer links there and sees it go on.

use std::net::TcpListener;

use vidi_spice::{DisplayChannel, MainEvent, MoveTarget};

use crate::images::link;
use crate::picture::Picture;
use crate::qemu::{Address, Desktop, folder};
use crate::wire::{Connection, SILENT_READS_MAX, setup};

/// Both QEMUs are the same machine, as a move wants it.
const MACHINE: [&str; 2] = ["-device", "VGA"];

#[test]
fn a_machine_that_moves_is_seen_where_it_went() {
    let incoming = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let waiting = format!("tcp:{incoming}");
    let mut source = Desktop::start_over_tcp(folder("moves-from"), "", &MACHINE);
    let arguments = [&MACHINE[..], &["-incoming", &waiting]].concat();
    let mut target = Desktop::start_over_tcp(folder("moves-to"), "", &arguments);

    let (mut main, session) = link(&source);
    let mut display = Connection::open(&source.address, DisplayChannel::new(setup(session, "")));
    let before = picture_of(&mut display, &mut source);
    source.move_to(&target, incoming);
    let moved = main.wait(|event| match event {
        MainEvent::Moved(target) => Some(target.clone()),
        MainEvent::Moving(_) => panic!("it asked for a connection beforehand"),
        _ => None,
    });
    let Address::Tcp(there) = target.address.clone() else { panic!("it is reached over TCP") };
    let host = there.ip().to_string();
    assert_eq!(moved, MoveTarget { host, port: Some(there.port()), tls_port: None });

    let (_main, session) = link(&target);
    let mut display = Connection::open(&target.address, DisplayChannel::new(setup(session, "")));
    let after = picture_of(&mut display, &mut target);
    assert_eq!((before.0, before.1), (after.0, after.1), "the picture is as large as before");
}

/// The picture once it equals QEMU's own, and is not of one colour.
fn picture_of(
    display: &mut Connection<DisplayChannel>,
    desktop: &mut Desktop,
) -> (u32, u32, Vec<u8>) {
    let mut picture = Picture::default();
    let found = (0..2 * SILENT_READS_MAX).find_map(|_| {
        while display.pump(&mut |event| picture.apply(event)) {}
        let own = desktop.screenshot();
        let is_drawn = picture.marked && picture.colors() > 1;
        (is_drawn && picture.visible() == own).then_some(own)
    });
    found.expect("the picture never equalled QEMU's own")
}
