//! The guest's sound on its way to viewers, and a viewer's voice on its way to the guest.
//!
//! ```text
//!   guest's packets ─▶ a short queue for each viewer ──▶ beside the picture, or dropped
//!   viewers' samples ─▶ the one that is heard ─────────▶ guest
//! ```

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use vidi_spice::{PlaybackEvent, RecordEvent, SoundForm};

use crate::protocol::{Speech, ToldState, media};
use crate::session::ViewerId;

/// Packets that wait for one viewer: 200 ms of 10 ms each. Sound that is older is worth nothing.
const PACKETS_MAX: usize = 20;
/// Bytes that wait for one viewer, whatever a server calls a packet.
const WAITING_BYTES_MAX: usize = 64 << 10;
/// After so many packets a frame end is due, so that the browser acknowledges what it hears.
const PACKETS_PER_END: usize = 10;
/// Samples that wait for the guest: what a session takes at once, far below.
const SAMPLES_MAX: usize = 256 << 10;

/// What guest and viewers hear of each other.
#[derive(Debug)]
pub(crate) struct Sound {
    allowed: bool,
    /// The guest's playback channel is open.
    is_linked: bool,
    form: Option<SoundForm>,
    is_muted: bool,
    volume: u16,
    listeners: BTreeMap<ViewerId, Listener>,
    figures: SoundFigures,
}

/// Packets that went to viewers or did not, since the last time they were taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoundFigures {
    /// Handed over.
    pub sent: u64,
    /// Dropped because the line was full or the browser silent.
    pub dropped: u64,
}

/// What waits for one viewer.
#[derive(Debug, Default)]
pub(crate) struct Listener {
    /// Whole records. INVARIANT: at most [`PACKETS_MAX`], of [`WAITING_BYTES_MAX`] bytes.
    waiting: VecDeque<Bytes>,
    bytes: usize,
    /// Packets since a frame end.
    unended: usize,
}

/// What waits, for one message.
#[derive(Debug)]
pub(crate) struct Heard {
    /// Whole records.
    pub(crate) records: Vec<u8>,
    /// A frame end is due behind them.
    pub(crate) end_is_due: bool,
}

impl Sound {
    pub(crate) fn new(allowed: bool) -> Self {
        Self {
            allowed,
            is_linked: false,
            form: None,
            is_muted: false,
            volume: u16::MAX,
            listeners: BTreeMap::new(),
            figures: SoundFigures::default(),
        }
    }

    /// Whether viewers hear the guest.
    pub(crate) const fn is_offered(&self) -> bool {
        self.allowed && self.is_linked
    }

    pub(crate) fn allow(&mut self, allowed: bool) {
        self.allowed = allowed;
        if !allowed {
            self.drop_all();
        }
    }

    /// Whether the policy lets them.
    pub(crate) const fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// The guest's channel is open, or closed.
    pub(crate) fn linked(&mut self, is_linked: bool) {
        if self.is_linked != is_linked {
            self.is_linked = is_linked;
            self.form = None;
        }
    }

    pub(crate) fn add_viewer(&mut self, viewer: ViewerId) -> Option<ToldState> {
        self.listeners.insert(viewer, Listener::default());
        self.is_offered().then(|| self.state())
    }

    pub(crate) fn remove_viewer(&mut self, viewer: ViewerId) {
        self.listeners.remove(&viewer);
    }

    /// Takes an event of the playback channel; what all viewers are to be told, if anything.
    pub(crate) fn event(&mut self, event: &PlaybackEvent) -> Option<ToldState> {
        match event {
            PlaybackEvent::Packet { codec, time, data } => {
                if let Some(form) = self.form.filter(|_| self.is_offered()) {
                    let record = media::sound(form, *codec, *time, data);
                    for listener in self.listeners.values_mut() {
                        self.figures.dropped += listener.push(record.clone());
                    }
                }
                return None;
            }
            PlaybackEvent::Started(form) => self.form = Some(*form),
            PlaybackEvent::Stopped => self.form = None,
            PlaybackEvent::Volume(volume) => self.volume = volume.loudest(),
            PlaybackEvent::Muted(is_muted) => self.is_muted = *is_muted,
            PlaybackEvent::Common(_) => return None,
        }
        self.is_offered().then(|| self.state())
    }

    /// What all viewers are told of the guest's mixer.
    pub(crate) fn state(&self) -> ToldState {
        media::sound_state(self.form.is_some(), self.is_muted, self.volume)
    }

    /// What waits for a viewer, taken out.
    pub(crate) fn take(&mut self, viewer: ViewerId) -> Option<Heard> {
        let listener = self.listeners.get_mut(&viewer)?;
        let packets = listener.waiting.len();
        if packets == 0 {
            return None;
        }
        let records = listener.waiting.drain(..).fold(Vec::new(), |mut records, packet| {
            records.extend_from_slice(&packet);
            records
        });
        listener.bytes = 0;
        listener.unended += packets;
        let end_is_due = PACKETS_PER_END <= listener.unended;
        self.figures.sent += u64::try_from(packets).unwrap_or(0);
        Some(Heard { records, end_is_due })
    }

    /// A frame end went behind what the viewer was sent.
    pub(crate) fn ended(&mut self, viewer: ViewerId) {
        if let Some(listener) = self.listeners.get_mut(&viewer) {
            listener.unended = 0;
        }
    }

    /// Counted since the last time.
    pub(crate) fn take_figures(&mut self) -> SoundFigures {
        std::mem::take(&mut self.figures)
    }

    fn drop_all(&mut self) {
        for listener in self.listeners.values_mut() {
            *listener = Listener::default();
        }
    }
}

impl Listener {
    /// Lets a packet wait; how many older ones are dropped for it.
    fn push(&mut self, packet: Bytes) -> u64 {
        self.bytes += packet.len();
        self.waiting.push_back(packet);
        let mut dropped = 0;
        while PACKETS_MAX < self.waiting.len() || WAITING_BYTES_MAX < self.bytes {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.bytes -= oldest.len();
            dropped += 1;
        }
        dropped
    }
}

/// Whose voice the guest hears.
#[derive(Debug)]
pub(crate) struct Microphone {
    allowed: bool,
    /// The guest's record channel is open.
    is_linked: bool,
    /// Somebody in the guest records.
    wanted: Option<SoundForm>,
    speaker: Option<ViewerId>,
    waiting: VecDeque<Speech>,
    bytes: usize,
    /// The viewers are to be told.
    is_news: bool,
}

impl Microphone {
    pub(crate) const fn new(allowed: bool) -> Self {
        Self {
            allowed,
            is_linked: false,
            wanted: None,
            speaker: None,
            waiting: VecDeque::new(),
            bytes: 0,
            is_news: false,
        }
    }

    /// Whether the guest can hear a viewer.
    pub(crate) const fn is_offered(&self) -> bool {
        self.allowed && self.is_linked
    }

    pub(crate) fn allow(&mut self, allowed: bool) {
        self.allowed = allowed;
        if !allowed {
            self.fall_silent();
        }
    }

    /// Whether the policy lets them.
    pub(crate) const fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// The guest's channel is open, or closed.
    pub(crate) fn linked(&mut self, is_linked: bool) {
        if self.is_linked != is_linked {
            self.is_linked = is_linked;
            self.is_news |= self.wanted.take().is_some();
            self.fall_silent();
        }
    }

    /// Takes an event of the record channel.
    pub(crate) fn event(&mut self, event: &RecordEvent) {
        self.wanted = match event {
            RecordEvent::Started(form) => Some(*form),
            RecordEvent::Stopped => None,
            RecordEvent::Common(_) => return,
        };
        self.is_news = true;
        if self.wanted.is_none() {
            self.fall_silent();
        }
    }

    /// Takes what a viewer with control says.
    pub(crate) fn speech(&mut self, viewer: ViewerId, speech: &Speech) {
        match speech {
            Speech::Off => self.remove_viewer(viewer),
            Speech::Samples(samples) => {
                let is_heard = self.is_offered()
                    && self.wanted.is_some()
                    && self.speaker.is_none_or(|speaker| speaker == viewer);
                if !is_heard || SAMPLES_MAX < self.bytes + samples.len() {
                    return;
                }
                self.is_news |= self.speaker.replace(viewer).is_none();
                self.bytes += samples.len();
                self.waiting.push_back(speech.clone());
            }
        }
    }

    /// The viewer is silent, gone, or may no longer speak.
    pub(crate) fn remove_viewer(&mut self, viewer: ViewerId) {
        if self.speaker == Some(viewer) {
            self.fall_silent();
        }
    }

    /// The next thing for the guest.
    pub(crate) fn next(&mut self) -> Option<Speech> {
        let next = self.waiting.pop_front()?;
        if let Speech::Samples(samples) = &next {
            self.bytes -= samples.len();
        }
        Some(next)
    }

    /// Whether there is something new to tell since the last time.
    pub(crate) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.is_news)
    }

    /// What a viewer is told.
    pub(crate) fn state(&self, viewer: ViewerId) -> ToldState {
        let wanted = self.wanted.filter(|_| self.is_offered());
        media::microphone(wanted, wanted.is_some() && self.speaker == Some(viewer))
    }

    fn fall_silent(&mut self) {
        if self.speaker.take().is_some() {
            self.waiting.clear();
            self.bytes = 0;
            self.waiting.push_back(Speech::Off);
            self.is_news = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use vidi_spice::{SoundCodec, Volume};

    use super::*;

    const ANA: ViewerId = ViewerId(1);
    const BEA: ViewerId = ViewerId(2);
    const FORM: SoundForm = SoundForm { channels: 2, rate: 48_000 };

    fn packet(time: u32, bytes: usize) -> PlaybackEvent {
        PlaybackEvent::Packet { codec: SoundCodec::Opus, time, data: vec![7; bytes].into() }
    }

    fn playing() -> Sound {
        let mut sound = Sound::new(true);
        sound.linked(true);
        assert!(sound.add_viewer(ANA).is_some());
        assert!(sound.event(&PlaybackEvent::Started(FORM)).is_some());
        sound
    }

    /// Media times of the records.
    fn times(heard: &Heard) -> Vec<u8> {
        let mut times = Vec::new();
        let mut rest = &heard.records[..];
        while let [20, _, _, _, length, high, _, _, after @ ..] = rest {
            let length = usize::from(u16::from_le_bytes([*length, *high]));
            times.push(after[8]);
            rest = &after[length..];
        }
        times
    }

    #[test]
    fn sound_waits_200_ms_and_the_oldest_is_dropped() {
        let mut sound = playing();
        for time in 0..25 {
            assert_eq!(sound.event(&packet(time, 100)), None);
        }
        let heard = sound.take(ANA).unwrap();
        assert_eq!(times(&heard), (5..25).collect::<Vec<u8>>());
        assert!(heard.end_is_due);
        assert!(sound.take(ANA).is_none());
        assert_eq!(sound.take_figures(), SoundFigures { sent: 20, dropped: 5 });
        assert_eq!(sound.take_figures(), SoundFigures::default());
        for time in 0..3 {
            sound.event(&packet(time, 40_000));
        }
        assert_eq!(times(&sound.take(ANA).unwrap()), [2], "nor more than 64 KiB");
    }

    #[test]
    fn every_tenth_packet_asks_for_an_acknowledgement() {
        let mut sound = playing();
        let mut ends = 0;
        for time in 0..100 {
            sound.event(&packet(time, 10));
            if sound.take(ANA).unwrap().end_is_due {
                sound.ended(ANA);
                ends += 1;
            }
        }
        assert_eq!(ends, 10);
    }

    #[test]
    fn the_guests_mixer_is_told_and_nothing_where_sound_is_not_allowed() {
        let mut sound = playing();
        let volume = PlaybackEvent::Volume(Volume { channels: vec![256, 512] });
        assert_eq!(sound.event(&volume).unwrap().record[8..], [1, 0, 0, 2]);
        assert_eq!(sound.event(&PlaybackEvent::Muted(true)).unwrap().record[8..], [1, 1, 0, 2]);
        assert_eq!(sound.event(&PlaybackEvent::Stopped).unwrap().record[8..], [0, 1, 0, 2]);
        sound.event(&PlaybackEvent::Started(FORM));
        sound.event(&packet(1, 10));
        sound.allow(false);
        assert!(sound.take(ANA).is_none(), "what waited is not sent");
        assert_eq!(sound.event(&volume), None);
        sound.event(&packet(1, 10));
        assert!(sound.take(ANA).is_none());
        assert_eq!(sound.add_viewer(BEA), None);
    }

    fn wanted() -> Microphone {
        let mut microphone = Microphone::new(true);
        microphone.linked(true);
        microphone.event(&RecordEvent::Started(FORM));
        assert!(microphone.take_news());
        microphone
    }

    fn said(bytes: usize) -> Speech {
        Speech::Samples(vec![1; bytes].into())
    }

    #[test]
    fn one_viewer_is_heard_until_it_is_silent() {
        let mut microphone = wanted();
        microphone.speech(ANA, &said(2));
        microphone.speech(BEA, &said(4));
        assert!(microphone.take_news());
        assert_eq!(microphone.state(ANA).record[8..10], [1, 1]);
        assert_eq!(microphone.state(BEA).record[8..10], [1, 0]);
        assert_eq!(microphone.next(), Some(said(2)));
        assert_eq!(microphone.next(), None);
        microphone.speech(BEA, &Speech::Off);
        microphone.speech(ANA, &said(2));
        microphone.speech(ANA, &Speech::Off);
        assert_eq!(microphone.next(), Some(Speech::Off), "what waited is not said");
        microphone.speech(BEA, &said(4));
        assert_eq!(microphone.next(), Some(said(4)));
        microphone.remove_viewer(BEA);
        assert_eq!(microphone.next(), Some(Speech::Off));
    }

    #[test]
    fn nobody_is_heard_where_nobody_listens_or_it_is_not_allowed() {
        let mut microphone = wanted();
        microphone.event(&RecordEvent::Stopped);
        microphone.speech(ANA, &said(2));
        assert_eq!(microphone.next(), None);
        let mut microphone = wanted();
        microphone.speech(ANA, &said(2));
        microphone.allow(false);
        assert_eq!(microphone.next(), Some(Speech::Off));
        microphone.speech(ANA, &said(2));
        assert_eq!(microphone.next(), None);
        assert_eq!(microphone.state(ANA).record[8], 0);
        let mut flooded = wanted();
        for _record in 0..1000 {
            flooded.speech(ANA, &said(4000));
        }
        assert!(flooded.bytes <= SAMPLES_MAX);
    }
}
