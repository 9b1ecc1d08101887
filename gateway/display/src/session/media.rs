//! What passes between guest and viewers beside picture and input: sound, a voice, files.

use std::time::Duration;

use bytes::Bytes;
use vidi_spice::{AgentEvent, PlaybackEvent, RecordEvent, SoundCodec};

use super::{Effect, Session, ViewerId, ViewerRights};
use crate::files::Files;
use crate::policy::Policy;
use crate::protocol::{FileMessage, Speech};
use crate::sound::{Microphone, Sound, SoundFigures};
use crate::viewer::Viewer;

/// What is wanted of a guest's sound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoundWish {
    /// What it plays, in the best form that all viewers play.
    pub playback: Option<SoundCodec>,
    /// A microphone.
    pub record: bool,
}

/// All of it.
#[derive(Debug)]
pub(crate) struct Media {
    pub(super) sound: Sound,
    pub(super) microphone: Microphone,
    pub(super) files: Files,
}

impl Media {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            sound: Sound::new(policy.sound),
            microphone: Microphone::new(policy.microphone),
            files: Files::new(policy.files),
        }
    }

    pub(super) fn allow(&mut self, policy: Policy) {
        self.sound.allow(policy.sound);
        self.microphone.allow(policy.microphone);
        self.files.allow(policy.files);
    }

    pub(super) fn agent_event(&mut self, event: &AgentEvent) {
        match event {
            AgentEvent::Abilities(abilities) => self.files.agent(abilities.files),
            AgentEvent::File(id, status) => self.files.status(*id, *status),
            AgentEvent::Offered { .. }
            | AgentEvent::Given(_)
            | AgentEvent::Released
            | AgentEvent::Asked(_) => {}
        }
    }

    /// Tells a viewer that is new, or may something else now, what it is to know.
    pub(super) fn add_viewer(&mut self, id: ViewerId, viewer: &mut Viewer, rights: ViewerRights) {
        if rights == ViewerRights::Wait {
            return;
        }
        if let Some(state) = self.sound.add_viewer(id) {
            viewer.tell(state);
        }
        if rights == ViewerRights::Control {
            viewer.tell(self.microphone.state(id));
        }
    }

    /// A viewer may do something else from now on.
    pub(super) fn rights_changed(
        &mut self,
        id: ViewerId,
        viewer: &mut Viewer,
        rights: ViewerRights,
    ) {
        self.remove_viewer(id);
        self.add_viewer(id, viewer, rights);
    }

    pub(super) fn remove_viewer(&mut self, id: ViewerId) {
        self.sound.remove_viewer(id);
        self.microphone.remove_viewer(id);
        self.files.remove_viewer(id);
    }

    /// The next thing for the guest.
    pub(super) fn next(&mut self) -> Option<Effect> {
        let speech = self.microphone.next().map(Effect::Speak);
        speech.or_else(|| self.files.next().map(Effect::Agent))
    }

    /// Tells viewers with control what is new about the microphone.
    pub(super) fn tell_news<'a>(
        &mut self,
        viewers: impl Iterator<Item = (ViewerId, &'a mut (Viewer, ViewerRights))>,
    ) {
        if self.microphone.take_news() {
            for (id, (viewer, rights)) in viewers {
                if *rights == ViewerRights::Control {
                    viewer.tell(self.microphone.state(id));
                }
            }
        }
    }

    /// The next message for a viewer, before any of the picture.
    pub(super) fn next_message(
        &mut self,
        id: ViewerId,
        viewer: &mut Viewer,
        now: Duration,
    ) -> Option<Bytes> {
        if !viewer.has_spare_room() {
            return None;
        }
        let heard = if viewer.is_late(now) { None } else { self.sound.take(id) };
        let end_is_due = heard.as_ref().is_some_and(|heard| heard.end_is_due);
        let mut message = heard.map(|heard| heard.records).unwrap_or_default();
        if self.files.has_news(id) {
            self.files.write(id, &mut message);
        }
        if message.is_empty() {
            return None;
        }
        let (message, ended) = viewer.hand_beside(message, end_is_due, now);
        if ended {
            self.sound.ended(id);
        }
        Some(message)
    }
}

impl Session {
    /// Which of the guest's sound channels are open.
    pub fn sound_linked(&mut self, playback: bool, record: bool) {
        let before = self.abilities();
        self.media.sound.linked(playback);
        self.media.microphone.linked(record);
        self.abilities_changed(before);
    }

    /// Applies an event of the playback channel.
    pub fn playback_event(&mut self, event: &PlaybackEvent) {
        if let Some(state) = self.media.sound.event(event) {
            let viewers = self.viewers.values_mut();
            for (viewer, _) in viewers.filter(|(_, rights)| rights.may_see()) {
                viewer.tell(state.clone());
            }
        }
    }

    /// Applies an event of the record channel.
    pub fn record_event(&mut self, event: &RecordEvent) {
        self.media.microphone.event(event);
    }

    /// What is wanted of the guest's sound: as much as all viewers play.
    pub fn sound_wish(&self) -> SoundWish {
        let mut viewers = self.viewers.values().filter(|(_, rights)| rights.may_see());
        let all = viewers.all(|(viewer, _)| viewer.plays_opus());
        let codec = if all { SoundCodec::Opus } else { SoundCodec::Pcm };
        SoundWish {
            playback: self.media.sound.is_allowed().then_some(codec),
            record: self.media.microphone.is_allowed(),
        }
    }

    /// Packets of sound since the last time.
    pub fn take_sound_figures(&mut self) -> SoundFigures {
        self.media.sound.take_figures()
    }

    pub(super) fn file_message(&mut self, id: ViewerId, message: &FileMessage) {
        self.media.files.message(id, message);
    }

    pub(super) fn speech(&mut self, id: ViewerId, speech: &Speech) {
        self.media.microphone.speech(id, speech);
    }
}

#[cfg(test)]
mod tests {
    use vidi_spice::{AgentAbilities, FileOffer, FileStatus, SoundForm};

    use super::*;
    use crate::clipboard::AgentCommand;
    use crate::protocol::{BrowserHello, ViewerMessage, records};

    const FORM: SoundForm = SoundForm { channels: 2, rate: 48_000 };
    const NOW: Duration = Duration::ZERO;

    fn browser(opus: bool) -> BrowserHello {
        BrowserHello { webp: true, opus, ..BrowserHello::default() }
    }

    /// A guest that plays and records, and one viewer.
    fn playing(rights: ViewerRights) -> (Session, ViewerId) {
        let mut session = Session::default();
        session.sound_linked(true, true);
        session.playback_event(&PlaybackEvent::Started(FORM));
        session.record_event(&RecordEvent::Started(FORM));
        let viewer = session.add_viewer(browser(true), rights).unwrap();
        (session, viewer)
    }

    fn packet() -> PlaybackEvent {
        let data = Bytes::from_static(&[7; 300]);
        PlaybackEvent::Packet { codec: SoundCodec::Opus, time: 5, data }
    }

    /// Types and bodies of the records that go to the viewer now.
    fn told(session: &mut Session, viewer: ViewerId) -> Vec<(u8, Vec<u8>)> {
        let mut told = Vec::new();
        while let Some(effect) = session.poll(NOW) {
            let Effect::Send { viewer: to, message } = effect else { panic!("{effect:?}") };
            assert_eq!(to, viewer);
            session.sent(viewer, message.len(), NOW);
            told.extend(records(&message).map(|(kind, body)| (kind, body.to_vec())));
        }
        told
    }

    fn abilities(records: &[(u8, Vec<u8>)]) -> Option<u8> {
        records.iter().rev().find(|(kind, _)| *kind == 15).map(|(_, body)| body[0])
    }

    #[test]
    fn a_new_viewer_hears_what_is_played_and_knows_the_mixer() {
        let (mut session, viewer) = playing(ViewerRights::Control);
        session.playback_event(&packet());
        let records = told(&mut session, viewer);
        assert_eq!(records[0].0, 20, "sound goes before everything");
        assert!(records.contains(&(21, vec![1, 0, 0xff, 0xff])));
        assert!(records.iter().any(|(kind, body)| *kind == 22 && body[..2] == [1, 0]));
        assert_eq!(abilities(&records), Some(16 | 32));
        assert_eq!(session.take_sound_figures().sent, 1);
    }

    #[test]
    fn who_only_looks_hears_and_who_waits_does_not() {
        let (mut session, viewer) = playing(ViewerRights::Look);
        session.playback_event(&packet());
        let records = told(&mut session, viewer);
        assert!(records.iter().any(|(kind, _)| *kind == 20));
        assert!(!records.iter().any(|(kind, _)| *kind == 22), "nobody asks it to speak");
        assert_eq!(abilities(&records), Some(16));
        let speech = Speech::Samples(Bytes::from_static(&[1; 4]));
        session.viewer_message(viewer, &ViewerMessage::Speech(speech), NOW);
        assert_eq!(told(&mut session, viewer), []);

        let (mut session, viewer) = playing(ViewerRights::Wait);
        session.playback_event(&packet());
        assert!(!told(&mut session, viewer).iter().any(|(kind, _)| (20..24).contains(kind)));
        session.set_rights(viewer, ViewerRights::Look);
        session.playback_event(&packet());
        assert!(told(&mut session, viewer).iter().any(|(kind, _)| *kind == 20));
    }

    #[test]
    fn sound_is_dropped_where_the_socket_takes_nothing() {
        let (mut session, _viewer) = playing(ViewerRights::Control);
        let mut handed = 0;
        for _packet in 0..10_000 {
            session.playback_event(&packet());
            while let Some(effect) = session.poll(NOW) {
                if let Effect::Send { message, .. } = effect {
                    handed += message.len();
                }
            }
        }
        assert!(handed < 200_000, "{handed} bytes wait for the socket");
        assert!(9_000 < session.take_sound_figures().dropped);
    }

    #[test]
    fn plain_samples_are_asked_for_while_somebody_plays_no_opus() {
        let (mut session, viewer) = playing(ViewerRights::Control);
        let opus = SoundWish { playback: Some(SoundCodec::Opus), record: true };
        assert_eq!(session.sound_wish(), opus);
        let old = session.add_viewer(browser(false), ViewerRights::Wait).unwrap();
        assert_eq!(session.sound_wish(), opus, "who waits hears nothing");
        session.set_rights(old, ViewerRights::Look);
        assert_eq!(session.sound_wish().playback, Some(SoundCodec::Pcm));
        session.remove_viewer(old);
        assert_eq!(session.sound_wish(), opus);
        session.allow(Policy { sound: false, microphone: false, ..Policy::default() });
        assert_eq!(session.sound_wish(), SoundWish::default());
        assert_eq!(abilities(&told(&mut session, viewer)), Some(0));
    }

    #[test]
    fn a_voice_and_a_file_reach_the_guest() {
        let (mut session, viewer) = playing(ViewerRights::Control);
        let able = AgentAbilities { clipboard: false, monitors: false, files: true };
        session.agent_event(&AgentEvent::Abilities(able));
        assert_eq!(abilities(&told(&mut session, viewer)), Some(8 | 16 | 32));
        let speech = Speech::Samples(Bytes::from_static(&[1; 4]));
        session.viewer_message(viewer, &ViewerMessage::Speech(speech.clone()), NOW);
        let name = "a".to_owned();
        let start = FileMessage::Start { file: 3, size: 9, name: name.clone() };
        session.viewer_message(viewer, &ViewerMessage::File(start), NOW);
        let Some(Effect::Speak(said)) = session.poll(NOW) else { panic!("nothing is said") };
        assert_eq!(said, speech);
        let Some(Effect::Agent(AgentCommand::SendFile(offer))) = session.poll(NOW) else {
            panic!("no file is sent")
        };
        assert_eq!(offer, FileOffer { id: 1, name, size: 9 });
        assert!(told(&mut session, viewer).contains(&(22, vec![1, 1, 0, 0, 0x80, 0xbb, 0, 0])));
        session.agent_event(&AgentEvent::File(1, FileStatus::Ready));
        let room = told(&mut session, viewer);
        assert_eq!(room[0].1[..5], [3, 0, 0, 0, 1]);
    }
}
