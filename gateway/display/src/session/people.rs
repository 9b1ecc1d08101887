//! What a viewer may do, and what the viewers are told of each other.

use super::{Session, ViewerId, ViewerRights};
use crate::policy::Policy;
use crate::protocol::ToldState;
use crate::viewer::Due;

impl ViewerId {
    /// For people and browsers; the same number is never used twice in a session.
    pub fn number(self) -> u32 {
        u32::try_from(self.0).unwrap_or(u32::MAX)
    }
}

impl Session {
    /// What the session's owner allows, from now on.
    pub fn allow(&mut self, policy: Policy) {
        let before = self.abilities();
        self.clipboard.allow(policy);
        self.window.allow(policy.resize);
        self.media.allow(policy);
        self.abilities_changed(before);
    }

    /// Text over the picture from now on, as it is sent; none for no lines.
    pub fn set_watermark(&mut self, lines: &[String]) {
        let areas = self.watermark.change(lines, self.framebuffer.primary());
        for (viewer, _) in self.viewers.values_mut() {
            for area in &areas {
                viewer.picture().changed(area);
            }
        }
    }

    /// What a viewer may do, from now on. What it holds is let go.
    pub fn set_rights(&mut self, id: ViewerId, rights: ViewerRights) {
        let Some((viewer, held)) = self.viewers.get_mut(&id) else { return };
        if *held == rights {
            return;
        }
        if *held == ViewerRights::Wait {
            viewer.picture().start_over(self.framebuffer.primary());
            *viewer.due() = Due::ALL;
        }
        *held = rights;
        viewer.due().hello = true;
        viewer.due().abilities = true;
        self.media.rights_changed(id, viewer, rights);
        self.input.release_all(id);
        self.clipboard.remove_viewer(id);
        self.window.remove_viewer(id);
    }

    /// What a viewer may do; none for one that is gone.
    pub fn rights(&self, id: ViewerId) -> Option<ViewerRights> {
        self.viewers.get(&id).map(|(_, rights)| *rights)
    }

    /// Tells a viewer a state, in place of the one of its kind before.
    pub fn tell(&mut self, id: ViewerId, state: ToldState) {
        if let Some((viewer, _)) = self.viewers.get_mut(&id) {
            viewer.tell(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vidi_spice::display::{DisplayEvent, Fill, Surface, SurfaceFormat};
    use vidi_spice::{Rect, Scancode, SurfaceId};

    use super::*;
    use crate::protocol::{BrowserHello, ViewerMessage, records};
    use crate::{Effect, InputEvent};

    const ID: SurfaceId = SurfaceId(0);

    fn hello() -> BrowserHello {
        BrowserHello {
            webp: true,
            h264: false,
            palette: false,
            opus: false,
            tile_cache_bytes: 0,
            width: 0,
            height: 0,
        }
    }

    /// A session whose guest shows one colour.
    fn session() -> Session {
        let mut session = Session::default();
        let surface =
            Surface { id: ID, width: 64, height: 64, format: SurfaceFormat::Xrgb32, primary: true };
        let fill = Fill { surface: ID, rects: vec![Rect::new(0, 0, 64, 64)], color: [9, 9, 9, 0] };
        for event in [DisplayEvent::SurfaceCreated(surface), DisplayEvent::Fill(fill)] {
            session.display_event(&event, Duration::ZERO).unwrap();
        }
        session.drained();
        session
    }

    /// Types of the records that each viewer is sent, and what the guest is told.
    fn effects(session: &mut Session, now: Duration) -> (Vec<(ViewerId, u8)>, Vec<InputEvent>) {
        let (mut sent, mut told) = (Vec::new(), Vec::new());
        while let Some(effect) = session.poll(now) {
            match effect {
                Effect::Send { viewer, message } => {
                    sent.extend(records(&message).map(|(kind, _)| (viewer, kind)));
                    session.sent(viewer, message.len(), now);
                }
                Effect::Input(event) => told.push(event),
                _ => {}
            }
        }
        (sent, told)
    }

    #[test]
    fn who_waits_sees_no_picture_and_sees_all_of_it_once_let_in() {
        let mut session = session();
        let id = session.add_viewer(hello(), ViewerRights::Wait).unwrap();
        let now = Duration::from_secs(1);
        assert_eq!(effects(&mut session, now).0, [(id, 1), (id, 12)]);
        // But for packing the pixels.
        let due = session.next_deadline();
        assert_eq!(due, Some(crate::session::PACK_TIME), "nothing is to be done for it");
        session.set_rights(id, ViewerRights::Look);
        let (sent, _) = effects(&mut session, now);
        for kind in [1, 2, 3, 7, 12] {
            assert!(sent.contains(&(id, kind)), "no record {kind} in {sent:?}");
        }
    }

    #[test]
    fn only_control_types_and_what_is_held_is_let_go_when_it_is_taken_away() {
        let mut session = session();
        let id = session.add_viewer(hello(), ViewerRights::Look).unwrap();
        let key = Scancode::plain(0x1e).unwrap();
        let press = ViewerMessage::Key { down: true, key };
        let now = Duration::from_secs(1);
        session.viewer_message(id, &press, now);
        assert!(effects(&mut session, now).1.is_empty());
        session.set_rights(id, ViewerRights::Control);
        session.viewer_message(id, &press, now);
        assert_eq!(effects(&mut session, now).1, [InputEvent::KeyDown(key)]);
        session.set_rights(id, ViewerRights::Look);
        assert_eq!(effects(&mut session, now).1, [InputEvent::KeyUp(key)]);
        session.viewer_message(id, &press, now);
        assert!(effects(&mut session, now).1.is_empty());
    }

    #[test]
    fn only_the_newest_state_of_a_kind_is_told() {
        let mut session = session();
        let id = session.add_viewer(hello(), ViewerRights::Look).unwrap();
        session.tell(id, ToldState::requests([]));
        session.tell(id, ToldState::requests([]));
        let (sent, _) = effects(&mut session, Duration::from_secs(1));
        assert_eq!(sent.iter().filter(|(_, kind)| *kind == 25).count(), 1);
    }
}
