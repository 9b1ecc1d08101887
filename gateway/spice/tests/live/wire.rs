//! SPICE channels over sockets that wait.

use std::io::ErrorKind;
use std::time::Duration;

use vidi_spice::{
    CursorChannel, CursorEvent, DisplayChannel, DisplayEvent, InputsChannel, InputsEvent,
    LinkSetup, MainChannel, MainEvent, Password, PlaybackChannel, PlaybackEvent, RecordChannel,
    RecordEvent, TicketSeed,
};

use crate::qemu::{Address, Socket};

/// How long one read waits for the server.
pub(crate) const READ_MAX: Duration = Duration::from_millis(100);
/// Reads without a byte before the server counts as silent: 40 s.
pub(crate) const SILENT_READS_MAX: u32 = 400;

/// A channel over its socket.
pub(crate) trait Wire {
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
wire!(PlaybackChannel, PlaybackEvent);
wire!(RecordChannel, RecordEvent);

pub(crate) struct Connection<C> {
    pub(crate) socket: Box<dyn Socket>,
    pub(crate) channel: C,
}

impl<C: Wire> Connection<C> {
    pub(crate) fn open(address: &Address, channel: C) -> Self {
        Self { socket: address.connect(), channel }
    }

    pub(crate) fn flush(&mut self) {
        while let Some(bytes) = self.channel.outgoing() {
            self.socket.write_all(&bytes).unwrap();
        }
    }

    /// The events that are there, after one read unless there are some already; whether any byte
    /// came.
    pub(crate) fn pump(&mut self, on: &mut impl FnMut(C::Event)) -> bool {
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
    pub(crate) fn wait<T>(&mut self, mut wanted: impl FnMut(&C::Event) -> Option<T>) -> T {
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

pub(crate) fn setup(connection_id: u32, password: &str) -> LinkSetup {
    setup_of(0, connection_id, password)
}

pub(crate) fn setup_of(channel_id: u8, connection_id: u32, password: &str) -> LinkSetup {
    let seed = TicketSeed::generate(&mut rand::rng());
    LinkSetup { channel_id, connection_id, password: Password::new(password).unwrap(), seed }
}
