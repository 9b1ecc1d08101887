//! The playback channel: the guest's sound (`spice.proto`, `PlaybackChannel`).
//!
//! The server sends Opus where the client says that it can and where the guest plays at a rate that
//! Opus has (48 kHz), and plain samples otherwise; MODE tells which before the data. Packets are
//! passed on as they are: nothing is decoded here.

use bytes::Bytes;

use crate::channel::{Channel, CommonEvent, Message, too_large};
use crate::delegate::delegate_to_channel;
use crate::error::SpiceError;
use crate::link::{Capabilities, ChannelKind, LinkSetup};
use crate::unsupported::{Feature, Unsupported};
use crate::wire::Reader;

/// Most channels of a sound: stereo is what servers have.
pub const SOUND_CHANNELS_MAX: u8 = 8;
/// Most samples a second of one channel.
pub const SOUND_RATE_MAX: u32 = 192_000;
/// Bytes of one packet: spice-server sends 10 ms, which are 1,920 at most.
pub const SOUND_PACKET_BYTES_MAX: usize = 64 << 10;

/// `SPICE_PLAYBACK_CAP_*`; CELT is not among ours.
mod capability {
    pub(super) const VOLUME: u32 = 1;
    pub(super) const OPUS: u32 = 3;
}

/// `SPICE_MSG_PLAYBACK_*`
mod server {
    pub(super) const DATA: u16 = 101;
    pub(super) const MODE: u16 = 102;
    pub(super) const START: u16 = 103;
    pub(super) const STOP: u16 = 104;
    pub(super) const VOLUME: u16 = 105;
    pub(super) const MUTE: u16 = 106;
    pub(super) const LATENCY: u16 = 107;
}

/// `enums.h`, `SpiceAudioDataMode`
mod mode {
    pub(super) const RAW: u16 = 1;
    pub(super) const OPUS: u16 = 3;
}

/// `enums.h`, `SpiceAudioFmt`: S16, the only one.
const FORMAT_S16: u16 = 1;

/// A playback channel connection.
#[derive(Debug)]
pub struct PlaybackChannel {
    channel: Channel,
    codec: Option<SoundCodec>,
    /// Set between START and STOP.
    playing: Option<SoundForm>,
}

/// How the samples of a packet are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoundCodec {
    /// One Opus packet.
    Opus,
    /// 16 bits, little endian, channels interleaved.
    Pcm,
}

/// Channels and rate of a sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoundForm {
    /// 1 to [`SOUND_CHANNELS_MAX`].
    pub channels: u8,
    /// Samples a second of each channel, 1 to [`SOUND_RATE_MAX`].
    pub rate: u32,
}

/// A volume as a guest's mixer sets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Of each channel, 0 to 65,535. At most [`SOUND_CHANNELS_MAX`].
    pub channels: Vec<u16>,
}

/// What the playback channel tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaybackEvent {
    /// Something that any channel may tell.
    Common(CommonEvent),
    /// The guest begins to play.
    Started(SoundForm),
    /// A part of what it plays, in the form of the last start.
    Packet {
        /// How it is packed.
        codec: SoundCodec,
        /// The server's multimedia clock in milliseconds, when it is to be heard.
        time: u32,
        /// The samples, at most [`SOUND_PACKET_BYTES_MAX`] bytes.
        data: Bytes,
    },
    /// It plays no more.
    Stopped,
    /// It is to be heard so loud.
    Volume(Volume),
    /// It is to be silent, or no longer.
    Muted(bool),
}

impl SoundForm {
    /// `channels` u32, `format` u16, `frequency` u32, as in START of both sound channels.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, SpiceError> {
        let (channels, format, rate) = (reader.u32()?, reader.u16()?, reader.u32()?);
        if format != FORMAT_S16 {
            return Err(reader.malformed("its samples have another format than 16 bits"));
        }
        if rate == 0 || channels == 0 {
            return Err(reader.malformed("it has no channels or no rate"));
        }
        if SOUND_RATE_MAX < rate {
            let limit = usize::try_from(SOUND_RATE_MAX).unwrap_or(usize::MAX);
            return Err(too_large("sound's rate", rate.into(), limit));
        }
        match u8::try_from(channels) {
            Ok(channels) if channels <= SOUND_CHANNELS_MAX => Ok(Self { channels, rate }),
            _ => Err(too_large("sound's channels", channels.into(), SOUND_CHANNELS_MAX.into())),
        }
    }
}

impl Volume {
    /// `nchannels` u8, then a u16 each.
    fn read(reader: &mut Reader<'_>) -> Result<Self, SpiceError> {
        let count = reader.u8()?;
        if SOUND_CHANNELS_MAX < count {
            let limit = usize::from(SOUND_CHANNELS_MAX);
            return Err(too_large("volume's channels", count.into(), limit));
        }
        let channels = (0..count).map(|_| reader.u16()).collect::<Result<_, _>>()?;
        Ok(Self { channels })
    }

    /// The loudest channel, 0 to 65,535; full where there is none.
    pub fn loudest(&self) -> u16 {
        self.channels.iter().copied().max().unwrap_or(u16::MAX)
    }
}

delegate_to_channel!(PlaybackChannel, PlaybackEvent);

impl PlaybackChannel {
    /// A playback channel that begins to link; `best` is the most that its listeners play.
    pub fn new(setup: LinkSetup, best: SoundCodec) -> Self {
        let capabilities = match best {
            SoundCodec::Opus => Capabilities::of(&[capability::VOLUME, capability::OPUS]),
            SoundCodec::Pcm => Capabilities::of(&[capability::VOLUME]),
        };
        Self::over(Channel::new(ChannelKind::Playback, capabilities, setup))
    }

    pub(crate) const fn over(channel: Channel) -> Self {
        Self { channel, codec: None, playing: None }
    }

    fn handle(&mut self, message: &Message) -> Result<Option<PlaybackEvent>, SpiceError> {
        let mut reader = Reader::new(&message.body, "playback channel message");
        Ok(match message.kind {
            server::START => {
                let form = SoundForm::read(&mut reader)?;
                self.playing = Some(form);
                Some(PlaybackEvent::Started(form))
            }
            server::STOP => self.playing.take().map(|_| PlaybackEvent::Stopped),
            server::MODE => {
                // time u32, mode u16
                let _time = reader.u32()?;
                self.codec = match reader.u16()? {
                    mode::RAW => Some(SoundCodec::Pcm),
                    mode::OPUS => Some(SoundCodec::Opus),
                    _ => return Err(reader.malformed("its mode was not asked for")),
                };
                None
            }
            server::DATA => {
                let (time, data) = (reader.u32()?, reader.rest());
                if SOUND_PACKET_BYTES_MAX < data.len() {
                    let limit = SOUND_PACKET_BYTES_MAX;
                    return Err(too_large("packet of sound", message.body.len() as u64, limit));
                }
                let codec = self.codec.filter(|_| self.playing.is_some() && !data.is_empty());
                codec.map(|codec| PlaybackEvent::Packet { codec, time, data })
            }
            server::VOLUME => Some(PlaybackEvent::Volume(Volume::read(&mut reader)?)),
            server::MUTE => Some(PlaybackEvent::Muted(reader.u8()? != 0)),
            // How long to wait for a video that the server itself compresses; there is none here.
            server::LATENCY => None,
            other => {
                let unsupported = Unsupported::nowhere(Feature::Message(other));
                Some(PlaybackEvent::Common(CommonEvent::Unsupported(unsupported)))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{Body, message};
    use expect_test::{Expect, expect};

    fn check(messages: &[(u16, Body)], expected: Expect) {
        let mut playback = PlaybackChannel::over(Channel::opened(ChannelKind::Playback));
        for (kind, body) in messages {
            playback.receive(&message(*kind, &body.0)).unwrap();
        }
        let mut lines = Vec::new();
        loop {
            match playback.next_event() {
                Ok(Some(event)) => lines.push(format!("{event:?}")),
                Ok(None) => break,
                Err(error) => {
                    lines.push(error.to_string());
                    break;
                }
            }
        }
        expected.assert_eq(&lines.join("\n"));
    }

    fn start(channels: u32, format: u16, rate: u32) -> (u16, Body) {
        (103, Body::default().u32(channels).u16(format).u32(rate).u32(7))
    }

    fn mode(number: u16) -> (u16, Body) {
        (102, Body::default().u32(1).u16(number))
    }

    #[test]
    fn what_is_played_between_start_and_stop_is_told_with_its_form() {
        let data = |bytes: &[u8]| (101, Body::default().u32(9).bytes(bytes));
        check(
            &[
                data(b"x"),
                mode(3),
                start(2, 1, 48_000),
                data(b"ab"),
                mode(1),
                data(b"cd"),
                data(b""),
            ],
            expect![[r#"
                Started(SoundForm { channels: 2, rate: 48000 })
                Packet { codec: Opus, time: 9, data: b"ab" }
                Packet { codec: Pcm, time: 9, data: b"cd" }"#]],
        );
        let stop = || (104, Body::default());
        check(
            &[mode(1), start(1, 1, 44_100), stop(), data(b"ab"), stop()],
            expect![[r#"
                Started(SoundForm { channels: 1, rate: 44100 })
                Stopped"#]],
        );
    }

    #[test]
    fn volume_and_silence_are_told() {
        check(
            &[
                (105, Body::default().u8(2).u16(100).u16(0xffff)),
                (106, Body::default().u8(1)),
                (107, Body::default().u32(200)),
                (106, Body::default().u8(0)),
            ],
            expect![[r#"
                Volume(Volume { channels: [100, 65535] })
                Muted(true)
                Muted(false)"#]],
        );
        assert_eq!(Volume { channels: vec![3, 9] }.loudest(), 9);
        assert_eq!(Volume { channels: Vec::new() }.loudest(), u16::MAX);
    }

    #[test]
    fn what_no_server_sends_is_refused() {
        check(
            &[start(9, 1, 48_000)],
            expect!["the server's sound's channels is 9, more than the 8 that are allowed"],
        );
        check(
            &[start(2, 2, 48_000)],
            expect![
                "the server's playback channel message is not valid: its samples have another format than 16 bits"
            ],
        );
        check(
            &[start(0, 1, 48_000)],
            expect![
                "the server's playback channel message is not valid: it has no channels or no rate"
            ],
        );
        check(
            &[start(2, 1, 200_000)],
            expect!["the server's sound's rate is 200000, more than the 192000 that are allowed"],
        );
        check(
            &[mode(2)],
            expect![
                "the server's playback channel message is not valid: its mode was not asked for"
            ],
        );
        let loud = Body::default().u8(9).bytes(&[0; 18]);
        check(
            &[(105, loud)],
            expect!["the server's volume's channels is 9, more than the 8 that are allowed"],
        );
        let long = Body::default().u32(0).bytes(&vec![0; SOUND_PACKET_BYTES_MAX + 1]);
        check(
            &[(101, long)],
            expect!["the server's packet of sound is 65541, more than the 65536 that are allowed"],
        );
    }

    #[test]
    fn opus_is_asked_for_only_by_who_plays_it() {
        use crate::test_support::setup;
        let caps = |codec| {
            let mut channel = PlaybackChannel::new(setup(), codec);
            let sent = channel.poll_transmit().unwrap();
            u32::from_le_bytes(sent[sent.len() - 4..].try_into().unwrap())
        };
        assert_eq!(caps(SoundCodec::Opus), 0b1010);
        assert_eq!(caps(SoundCodec::Pcm), 0b10);
    }
}
