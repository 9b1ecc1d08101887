//! A film that a guest draws, through a real server and the condenser of a relay: fewer bytes, and the
//! picture equals QEMU's own as soon as it rests.

use std::time::Duration;

use vidi_spice::display::{Condensed, Condenser, Step};
use vidi_spice::{DisplayChannel, DisplayEvent, ImageTransfer};

use crate::guest::{Bitmap, Image};
use crate::images::{link, start};
use crate::picture::Picture;
use crate::wire::{Connection, SILENT_READS_MAX, Wire, setup};

const FRAME: Duration = Duration::from_millis(33);
/// What rests so long is exact.
const REST: Duration = Duration::from_millis(300);
const FRAMES: u8 = 6;
const ROUNDS: usize = 4;

/// A display channel behind a condenser, whose clock the test moves.
struct Relayed {
    display: DisplayChannel,
    condenser: Option<Condenser>,
    now: Duration,
    /// Bytes of the server, and what became of them.
    bytes: [usize; 2],
    condensed: Condensed,
}

impl Relayed {
    fn go_on(&mut self) {
        let Some(condenser) = &mut self.condenser else { return };
        condenser.wake(self.now);
        while let Some(step) = condenser.step(self.now) {
            match step {
                Step::Send(bytes) => {
                    self.bytes[1] += bytes.len();
                    self.display.receive(&bytes).unwrap();
                }
                Step::Pack(packing) => condenser.packed(&packing.run(), self.now),
            }
        }
        let Condensed { rough, lz4, exact } = condenser.take_condensed();
        self.condensed.rough += rough;
        self.condensed.lz4 += lz4;
        self.condensed.exact += exact;
    }
}

impl Wire for Relayed {
    type Event = DisplayEvent;

    fn feed(&mut self, bytes: &[u8]) {
        self.bytes[0] += bytes.len();
        if let Some(condenser) = &mut self.condenser {
            condenser.receive(bytes);
        }
        self.go_on();
    }

    fn event(&mut self) -> Option<DisplayEvent> {
        self.display.next_event().unwrap()
    }

    fn outgoing(&mut self) -> Option<bytes::Bytes> {
        let bytes = self.display.poll_transmit()?;
        if self.condenser.is_none() {
            self.condenser = Some(Condenser::for_client(&bytes, 40).unwrap());
        }
        Some(bytes)
    }
}

/// A frame like a photograph, another one for each number.
fn frame(number: u8, [width, height]: [u32; 2], cached: bool) -> Bitmap {
    let pixel = |x: u32, y: u32| {
        let mixed = (x / 2 * 31 + y / 3 * 17 + u32::from(number)).wrapping_mul(0x9e37_79b9) >> 27;
        let value = |slope: u32| (slope + mixed + 40 * u32::from(number)).to_le_bytes()[0];
        [value(x), value(y), value(x / 2 + y / 2), 0]
    };
    let rows = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let rows = rows.flat_map(|(x, y)| pixel(x, y)).collect();
    let (stride, palette) = (4 * width, Vec::new());
    Bitmap { format: 8, width, height, stride, top_down: true, palette, rows, cached }
}

#[test]
fn a_film_takes_few_bytes_and_is_exact_when_it_rests() {
    let (mut desktop, mut guests) = start("film", "", 1);
    let guest = &mut guests[0];
    let (mut main, session) = link(&desktop);
    let display = DisplayChannel::with_images(setup(session, ""), ImageTransfer::uncompressed());
    let (condensed, bytes) = (Condensed::default(), [0; 2]);
    let now = Duration::from_secs(1);
    let relayed = Relayed { display, condenser: None, now, bytes, condensed };
    let mut display = Connection::open(&desktop.address, relayed);
    let mut picture = Picture::default();
    while !picture.marked {
        display.pump(&mut |event| picture.apply(event));
    }

    let mut film = |size, cached| -> Vec<Image> {
        (0..FRAMES).map(|number| guest.image(&frame(number, size, cached))).collect()
    };
    // One whose frames the client is to keep: the second time they are only named.
    let films = [(film([480, 320], false), [0, 0]), (film([160, 160], true), [500, 400])];
    for _round in 0..ROUNDS {
        for number in 0..usize::from(FRAMES) {
            for (frames, place) in &films {
                guest.copy(frames[number], 0, *place);
            }
            while !guest.is_idle() {}
            display.channel.now += FRAME;
            // All of it, or the server leaves out what is drawn over.
            while display.pump(&mut |event| picture.apply(event)) {}
        }
    }
    let alike = (0..SILENT_READS_MAX).any(|_| {
        while display.pump(&mut |event| picture.apply(event)) {}
        main.pump(&mut |_event| {});
        display.channel.now += REST;
        display.pump(&mut |event| picture.apply(event));
        guest.is_idle() && picture.visible() == desktop.screenshot()
    });
    let Relayed { bytes: [before, after], condensed, .. } = display.channel;
    assert!(alike, "{condensed:?}");
    assert!(condensed.rough > 5 && condensed.exact > 0, "{condensed:?}");
    assert!(after < before / 2, "{after} bytes of {before}");
}
