//! The record channel: a microphone for the guest (`spice.proto`, `RecordChannel`).
//!
//! What is recorded goes as plain samples in packets of [`PACKET_FRAMES`]: spice-server before 0.15.2
//! lays what it takes into a ring of 8,192 frames and spoils a packet that lies over the ring's end
//! (server/sound.cpp, `snd_record_handle_write`), so only packets whose length divides it are right.
//! Opus packets have 480 frames and would be spoiled six times a second.

use bytes::{BufMut, BytesMut};

use crate::channel::{Channel, CommonEvent, Message};
use crate::delegate::delegate_to_channel;
use crate::error::SpiceError;
use crate::link::{Capabilities, ChannelKind, LinkSetup};
use crate::playback::SoundForm;
use crate::unsupported::{Feature, Unsupported};
use crate::wire::Reader;

/// Samples of each channel in one packet: 10.7 ms at 48 kHz.
const PACKET_FRAMES: usize = 512;
/// Bytes that may wait to be sent: a third of a second of 48 kHz stereo. What comes while the server
/// takes nothing is dropped.
const UNSENT_BYTES_MAX: usize = 64 << 10;
/// The multimedia time that is said: servers do not look at it.
const TIME: u32 = 0;

/// `SPICE_RECORD_CAP_VOLUME`
const CAPABILITY_VOLUME: u32 = 1;

/// `SPICE_MSG_RECORD_*`
mod server {
    pub(super) const START: u16 = 101;
    pub(super) const STOP: u16 = 102;
    pub(super) const VOLUME: u16 = 103;
    pub(super) const MUTE: u16 = 104;
}

/// `SPICE_MSGC_RECORD_*`
mod client {
    pub(super) const DATA: u16 = 101;
    pub(super) const MODE: u16 = 102;
    pub(super) const START_MARK: u16 = 103;
}

/// `SPICE_AUDIO_DATA_MODE_RAW`
const MODE_RAW: u16 = 1;

/// A record channel connection.
#[derive(Debug)]
pub struct RecordChannel {
    channel: Channel,
    /// Set between START and STOP.
    wanted: Option<SoundForm>,
    /// Samples that make no whole packet yet, as they are sent.
    rest: BytesMut,
}

/// What the record channel tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordEvent {
    /// Something that any channel may tell.
    Common(CommonEvent),
    /// A program in the guest records, in this form.
    Started(SoundForm),
    /// Nobody records any more.
    Stopped,
}

delegate_to_channel!(RecordChannel, RecordEvent);

impl RecordChannel {
    /// A record channel that begins to link.
    pub fn new(setup: LinkSetup) -> Self {
        let capabilities = Capabilities::of(&[CAPABILITY_VOLUME]);
        Self::over(Channel::new(ChannelKind::Record, capabilities, setup))
    }

    pub(crate) fn over(channel: Channel) -> Self {
        Self { channel, wanted: None, rest: BytesMut::new() }
    }

    /// Sends samples of one channel, 16 bits little endian, at the rate that is wanted; each goes to
    /// all channels that the guest records. Passed over while nobody records.
    pub fn speak(&mut self, samples: &[u8]) -> Result<(), SpiceError> {
        let Some(form) = self.wanted else { return Ok(()) };
        if UNSENT_BYTES_MAX < self.channel.unsent() {
            self.rest.clear();
            return Ok(());
        }
        let frame = 2 * usize::from(form.channels);
        let packet = frame * PACKET_FRAMES;
        for sample in samples.chunks_exact(2) {
            for _channel in 0..form.channels {
                self.rest.put_slice(sample);
            }
            if packet <= self.rest.len() {
                let data = self.rest.split();
                self.send_packet(&data)?;
            }
        }
        Ok(())
    }

    /// The person speaks no more: what makes no whole packet is forgotten.
    pub fn fall_silent(&mut self) {
        self.rest.clear();
    }

    /// `data`: time u32, samples.
    fn send_packet(&mut self, samples: &[u8]) -> Result<(), SpiceError> {
        let mut body = Vec::with_capacity(4 + samples.len());
        body.put_u32_le(TIME);
        body.put_slice(samples);
        self.channel.send(client::DATA, &body)
    }

    fn handle(&mut self, message: &Message) -> Result<Option<RecordEvent>, SpiceError> {
        let mut reader = Reader::new(&message.body, "record channel message");
        Ok(match message.kind {
            server::START => {
                let form = SoundForm::read(&mut reader)?;
                self.wanted = Some(form);
                self.rest.clear();
                // `mode`: time u32, mode u16; `start_mark`: time u32
                let mut mode = Vec::with_capacity(6);
                mode.put_u32_le(TIME);
                mode.put_u16_le(MODE_RAW);
                self.channel.send(client::MODE, &mode)?;
                self.channel.send(client::START_MARK, &TIME.to_le_bytes())?;
                Some(RecordEvent::Started(form))
            }
            server::STOP => {
                self.rest.clear();
                self.wanted.take().map(|_| RecordEvent::Stopped)
            }
            // The guest's own mixer; the person has one too.
            server::VOLUME | server::MUTE => None,
            other => {
                let unsupported = Unsupported::nowhere(Feature::Message(other));
                Some(RecordEvent::Common(CommonEvent::Unsupported(unsupported)))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{Body, message};

    fn record() -> RecordChannel {
        RecordChannel::over(Channel::opened(ChannelKind::Record))
    }

    fn started(channels: u32) -> RecordChannel {
        let mut record = record();
        let start = Body::default().u32(channels).u16(1).u32(48_000);
        record.receive(&message(101, &start.0)).unwrap();
        let form = SoundForm { channels: u8::try_from(channels).unwrap(), rate: 48_000 };
        assert_eq!(record.next_event(), Ok(Some(RecordEvent::Started(form))));
        let said = [message(102, &[0, 0, 0, 0, 1, 0]), message(103, &[0; 4])].concat();
        assert_eq!(record.poll_transmit().as_deref(), Some(&said[..]));
        record
    }

    #[test]
    fn nothing_is_sent_to_a_guest_that_does_not_record() {
        let mut quiet = record();
        quiet.speak(&[1; 4096]).unwrap();
        assert_eq!(quiet.poll_transmit(), None);
        let mut stopped = started(2);
        stopped.receive(&message(102, &[])).unwrap();
        assert_eq!(stopped.next_event(), Ok(Some(RecordEvent::Stopped)));
        stopped.speak(&[1; 4096]).unwrap();
        assert_eq!(stopped.poll_transmit(), None);
    }

    #[test]
    fn one_channel_is_said_to_all_in_packets_that_fill_the_servers_ring() {
        let mut record = started(2);
        let samples: Vec<u8> = (0..600_u16).flat_map(u16::to_le_bytes).collect();
        // In any portions, and an odd byte is no sample.
        record.speak(&samples[..999]).unwrap();
        assert_eq!(record.poll_transmit(), None);
        record.speak(&samples[998..]).unwrap();
        let both = |value: u16| [value.to_le_bytes(), value.to_le_bytes()].concat();
        let packet = [vec![0; 4], (0..512_u16).flat_map(both).collect()].concat();
        assert_eq!(record.poll_transmit().as_deref(), Some(&message(101, &packet)[..]));
        record.fall_silent();
        record.speak(&samples[..1022]).unwrap();
        assert_eq!(record.poll_transmit(), None, "what was left is not said later");
    }

    #[test]
    fn a_server_that_takes_nothing_is_not_waited_for() {
        let mut record = started(1);
        for _second in 0..100 {
            record.speak(&[7; 96_000]).unwrap();
        }
        assert!(record.poll_transmit().unwrap().len() < 64_000 + 97_000 + 1000);
    }
}
