//! What the guest does: drawn into the framebuffer, kept as state, marked for each viewer.

use std::time::Duration;

use vidi_spice::display::{CopyBits, DisplayEvent};
use vidi_spice::{AgentAbilities, AgentEvent, CursorEvent, Locks, MouseMode, Rect, SurfaceId};

use super::{BLANK_TIME_MAX, Cursor, Session, ViewerRights};
use crate::error::DisplayError;
use crate::framebuffer::opposite;
use crate::monitors::Monitors;
use crate::protocol::SessionState;

impl Session {
    /// Applies an event of the display channel. An error says what was refused; the picture
    /// stays as it was, and the session goes on.
    pub fn display_event(
        &mut self,
        event: &DisplayEvent,
        now: Duration,
    ) -> Result<(), DisplayError> {
        self.use_pixels(now);
        match event {
            DisplayEvent::SurfaceCreated(surface) => {
                let created = self.framebuffer.create(surface);
                if surface.primary && created.is_ok() {
                    self.blank_until = Some(now + BLANK_TIME_MAX);
                    if let Some(plane) = self.framebuffer.primary() {
                        self.activity.start_over(plane, now);
                        self.videos.start_over(plane);
                    }
                    self.start_over();
                    self.screens_shown();
                }
                created
            }
            DisplayEvent::SurfaceDestroyed(id) => {
                self.framebuffer.destroy(*id);
                Ok(())
            }
            DisplayEvent::Copy(copy) => {
                let changed = self.framebuffer.copy(copy)?;
                self.changed(copy.surface, &changed, now);
                Ok(())
            }
            DisplayEvent::Fill(fill) => {
                self.framebuffer.fill(fill)?;
                self.changed(fill.surface, &fill.rects, now);
                Ok(())
            }
            DisplayEvent::Combine(combine) => {
                self.framebuffer.combine(combine)?;
                self.changed(combine.surface, &combine.rects, now);
                Ok(())
            }
            DisplayEvent::CopyBits(copy) => {
                self.framebuffer.copy_bits(copy)?;
                self.copied(copy, now);
                Ok(())
            }
            DisplayEvent::Paint(paint) => {
                self.framebuffer.paint(paint)?;
                self.changed(paint.surface(), paint.rects(), now);
                Ok(())
            }
            DisplayEvent::Monitors(monitors) => {
                if self.monitors.told(monitors) {
                    self.notify(|due| due.monitors = true);
                }
                self.screens_shown();
                Ok(())
            }
            DisplayEvent::Mark
            | DisplayEvent::Reset
            | DisplayEvent::Common(_)
            | DisplayEvent::Unsupported(_) => Ok(()),
        }
    }

    /// The guest is gone, its surfaces and its agent with it. All viewers, also those that come
    /// now, have the last picture until another guest has made a new one.
    pub fn display_closed(&mut self) {
        self.framebuffer.destroy_all();
        self.monitors = Monitors::default();
        self.notify(|due| due.monitors = true);
        self.undrained_since = None;
        self.input.wait_until(Duration::ZERO);
        self.agent_event(&AgentEvent::Abilities(AgentAbilities::default()));
        self.sound_linked(false, false);
    }

    fn screens_shown(&mut self) {
        if let Some(screens) = self.shown_screens() {
            self.window.shown(&screens);
        }
    }

    /// Everything that the guest had sent is applied: a good moment to show. To be called when a
    /// read from the display channel's socket would block.
    pub fn drained(&mut self) {
        self.undrained_since = None;
    }

    /// Applies an event of the cursor channel.
    pub fn cursor_event(&mut self, event: &CursorEvent) {
        let before = self.cursor.clone();
        match event {
            CursorEvent::Set { position, visible, shape } => {
                let visible = *visible && shape.is_some();
                self.cursor = Cursor { visible, position: *position, shape: shape.clone() };
            }
            CursorEvent::Moved(position) => {
                self.cursor.position = *position;
                self.cursor.visible = true;
            }
            CursorEvent::Hidden => self.cursor.visible = false,
            CursorEvent::Reset => {
                self.cursor.visible = false;
                self.cursor.shape = None;
            }
            CursorEvent::Trail { .. } | CursorEvent::Common(_) => {}
        }
        let picture = before.visible != self.cursor.visible || before.shape != self.cursor.shape;
        let position = before.position != self.cursor.position;
        self.notify(|due| {
            due.cursor |= picture;
            due.cursor_position |= position;
        });
    }

    /// Applies an event of the guest's agent.
    pub fn agent_event(&mut self, event: &AgentEvent) {
        let before = self.abilities();
        if let AgentEvent::Abilities(abilities) = event {
            self.window.agent(abilities.monitors);
        }
        let mut viewers = self.viewers.values_mut();
        let is_watched = viewers.any(|(_, rights)| *rights == ViewerRights::Control);
        if let Some(piece) = self.clipboard.agent_event(event, is_watched) {
            for (viewer, rights) in self.viewers.values_mut() {
                if *rights == ViewerRights::Control {
                    viewer.copied_in_guest(piece.clone());
                }
            }
        }
        if matches!(event, AgentEvent::Asked(Some(_))) {
            self.notify(|due| due.fetched = true);
        }
        self.media.agent_event(event);
        self.abilities_changed(before);
    }

    /// The guest takes positions, or movements.
    pub fn mouse_mode(&mut self, mode: MouseMode) {
        if self.mouse_mode != mode {
            self.mouse_mode = mode;
            self.notify(|due| {
                due.pointer_mode = true;
                due.cursor_position = true;
            });
        }
    }

    /// The guest's lock keys are these.
    pub fn locks(&mut self, locks: Locks) {
        if self.locks != locks {
            self.locks = locks;
            self.notify(|due| due.lock_keys = true);
        }
    }

    /// Tells the viewers how the session is, with a text for people.
    pub fn status(&mut self, state: SessionState, text: &str) {
        if self.state != state || self.state_text != text {
            self.state = state;
            text.clone_into(&mut self.state_text);
            self.notify(|due| due.status = true);
        }
    }

    fn changed(&mut self, surface: SurfaceId, rects: &[Rect], now: Duration) {
        if !self.framebuffer.is_primary(surface) {
            return;
        }
        self.drawn(now);
        let Some(plane) = self.framebuffer.primary() else { return };
        for rect in rects {
            self.activity.changed(plane, rect, now);
            self.videos.changed(rect, now);
        }
        for (viewer, _) in self.viewers.values_mut() {
            for rect in rects {
                viewer.picture().drawn(rect, now);
            }
        }
    }

    fn copied(&mut self, copy: &CopyBits, now: Duration) {
        if !self.framebuffer.is_primary(copy.surface) {
            return;
        }
        self.drawn(now);
        let Some(plane) = self.framebuffer.primary() else { return };
        let bounds = plane.bounds();
        for rect in &copy.rects {
            // The part that was really copied, as the framebuffer clips it.
            let source = rect.intersect(&bounds).moved(copy.offset).intersect(&bounds);
            let destination = source.moved(opposite(copy.offset));
            if destination.is_empty() {
                continue;
            }
            let is_marked = self.watermark.is_shown();
            for (viewer, _) in self.viewers.values_mut() {
                if is_marked {
                    // The text stays where it is.
                    viewer.picture().drawn(&destination, now);
                    continue;
                }
                viewer.picture().copied(&destination, copy.offset);
            }
        }
    }

    fn drawn(&mut self, now: Duration) {
        self.undrained_since.get_or_insert(now);
        self.blank_until = None;
    }
}
