//! The guest's sound channels: opened beside the picture's, opened anew where other listeners want
//! another form, closed without loss of the picture when they fail.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tracing::debug;
use vidi_display::protocol::Speech;
use vidi_display::{Session, SoundWish};
use vidi_spice::{
    ChannelKind, ChannelName, LinkSetup, PlaybackChannel, PlaybackEvent, RecordChannel,
    RecordEvent, SoundCodec, SpiceError,
};

use crate::error::GatewayError;
use crate::ports::{Attachment, ChannelPipe};
use crate::reconcile::guest::{Guest, SpiceChannel, Wire};

type Opening = BoxFuture<'static, Result<ChannelPipe, GatewayError>>;
/// How a channel's link is begun.
type Setup = Box<dyn Fn() -> LinkSetup + Send + Sync>;

/// The sound channels of one attachment.
pub struct GuestSound {
    attachment: Arc<dyn Attachment>,
    setup: Setup,
    has_playback: bool,
    has_record: bool,
    /// What was wanted last.
    wish: SoundWish,
    playback: Line<PlaybackChannel>,
    record: Line<RecordChannel>,
}

/// One channel that may be missing.
enum Line<C> {
    Closed,
    Opening(Opening),
    Open(Box<Wire<C>>),
}

impl fmt::Debug for GuestSound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("GuestSound").field("wish", &self.wish).finish_non_exhaustive()
    }
}

impl<C: SpiceChannel> Line<C> {
    const fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }

    /// Waits for the channel, or for bytes on it. Cancel-safe: what opens is kept and polled again, and
    /// bytes are handed over in the step in which they are taken.
    async fn wake(&mut self, channel: impl FnOnce() -> C) {
        let problem = match self {
            Self::Closed => return std::future::pending().await,
            Self::Opening(opening) => match opening.await {
                Ok(pipe) => {
                    let mut wire = Wire::new(channel(), pipe);
                    wire.transmit();
                    *self = Self::Open(Box::new(wire));
                    return;
                }
                Err(error) => error.to_string(),
            },
            Self::Open(wire) => match wire.receive().await {
                Ok(true) => return,
                Ok(false) => "the desktop closed it".to_owned(),
                Err(error) => error.to_string(),
            },
        };
        debug!(problem, "A sound channel is lost");
        *self = Self::Closed;
    }

    /// All events that are there; a channel that cannot be followed is closed.
    fn events<E>(&mut self, next: impl Fn(&mut C) -> Result<Option<E>, SpiceError>) -> Vec<E> {
        let mut events = Vec::new();
        if let Self::Open(wire) = self {
            loop {
                match next(&mut wire.channel) {
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => break,
                    Err(error) => {
                        debug!(%error, "A sound channel cannot be followed");
                        *self = Self::Closed;
                        break;
                    }
                }
            }
        }
        events
    }

    fn transmit(&mut self) -> bool {
        match self {
            Self::Open(wire) => wire.transmit(),
            Self::Closed | Self::Opening(_) => true,
        }
    }
}

impl GuestSound {
    /// None is open yet. `channels` are the server's, `setup` begins a link to one of them.
    pub(super) fn new(
        attachment: Arc<dyn Attachment>,
        channels: &[ChannelName],
        setup: Setup,
    ) -> Self {
        let has = |kind| channels.iter().any(|channel| channel.kind == kind && channel.id == 0);
        Self {
            attachment,
            setup,
            has_playback: has(ChannelKind::Playback),
            has_record: has(ChannelKind::Record),
            wish: SoundWish::default(),
            playback: Line::Closed,
            record: Line::Closed,
        }
    }

    /// Opens and closes what is wanted now. What failed is tried again only when another form is.
    fn want(&mut self, wish: SoundWish) {
        let before = std::mem::replace(&mut self.wish, wish);
        if wish.playback != before.playback {
            self.playback = match wish.playback {
                Some(_) if self.has_playback => Line::Opening(self.open()),
                Some(_) | None => Line::Closed,
            };
        }
        if wish.record != before.record {
            self.record = if wish.record && self.has_record {
                Line::Opening(self.open())
            } else {
                Line::Closed
            };
        }
    }

    fn open(&self) -> Opening {
        let attachment = Arc::clone(&self.attachment);
        Box::pin(async move { attachment.open().await })
    }

    /// Waits for either channel. Cancel-safe: [`Line::wake`] is.
    pub(super) async fn wake(&mut self) {
        let Self { setup, wish, playback, record, .. } = self;
        let codec = wish.playback.unwrap_or(SoundCodec::Pcm);
        tokio::select! {
            biased;
            () = playback.wake(|| PlaybackChannel::new(setup(), codec)) => {}
            () = record.wake(|| RecordChannel::new(setup())) => {}
        }
    }

    /// Sends what the channels have to say; `false` when the server does not take it now.
    pub(super) fn transmit(&mut self) -> bool {
        let sent = [self.playback.transmit(), self.record.transmit()];
        sent.into_iter().all(|sent| sent)
    }

    /// Lets the guest hear somebody, or nobody any more.
    pub(super) fn speak(&mut self, speech: &Speech) {
        if let Line::Open(wire) = &mut self.record {
            match speech {
                Speech::Samples(samples) => {
                    // The channel drops what is too much long before its limit.
                    let said: Result<(), SpiceError> = wire.channel.speak(samples);
                    if let Err(error) = said {
                        debug!(%error, "The microphone is not taken");
                    }
                }
                Speech::Off => wire.channel.fall_silent(),
            }
        }
    }
}

/// Brings the guest's sound to the engine, and what the engine wants of sound to the guest.
pub(super) fn attend(guest: &mut Guest, display: &mut Session) {
    guest.sound.want(display.sound_wish());
    for event in guest.sound.playback.events(PlaybackChannel::next_event) {
        if !matches!(event, PlaybackEvent::Common(_)) {
            display.playback_event(&event);
        }
    }
    for event in guest.sound.record.events(RecordChannel::next_event) {
        if !matches!(event, RecordEvent::Common(_)) {
            display.record_event(&event);
        }
    }
    display.sound_linked(!guest.sound.playback.is_closed(), !guest.sound.record.is_closed());
}
