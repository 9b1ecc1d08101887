//! One desktop as its viewers see it: applies what the guest does, serves each viewer at its pace.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use vidi_spice::display::{CopyBits, DisplayEvent};
use vidi_spice::{
    AgentAbilities, AgentEvent, CursorEvent, CursorShape, Locks, MouseMode, Point, Rect,
};

use crate::cache::Cache;
use crate::clipboard::{AgentCommand, Clipboard, Policy, TAKE_OVER_TIME};
use crate::encoding::{EncodeJob, Encoded, JobId};
use crate::error::DisplayError;
use crate::framebuffer::{Framebuffer, opposite};
use crate::input::{Input, InputEvent, Pointer};
use crate::notices::{Abilities, Notices};
use crate::protocol::{BrowserHello, SessionState, ViewerMessage};
use crate::viewer::{Due, Moment, Source, Viewer, ViewerStatistics};
use crate::window::{Size, Window};

/// Most viewers of one session: its user, and those invited to look.
pub const VIEWERS_MAX: usize = 16;

/// How long after its first damage a picture waits for the end of what the guest draws together.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(2);

/// How long a new surface is kept back while nothing is drawn on it: SPICE makes it, then draws
/// it, and black in between would be a flash at every new connection.
const BLANK_TIME_MAX: Duration = Duration::from_millis(250);

/// Number of a viewer, never used twice in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewerId(pub(crate) u64);

/// What a viewer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewerRights {
    /// Look, type and point.
    Control,
    /// Look only; what it types is passed over.
    Look,
}

/// What the caller is to do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Tell the guest.
    Input(InputEvent),
    /// Tell the guest's agent.
    Agent(AgentCommand),
    /// Send this binary message to the viewer's browser, in order, and report each byte that went
    /// into the socket by [`Session::sent`].
    Send {
        /// To whom.
        viewer: ViewerId,
        /// Whole records.
        message: Bytes,
    },
    /// Run [`crate::encode`] and hand the result to [`Session::encoded`], in any order.
    Encode(EncodeJob),
}

/// The guest's pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Whether the guest shows it.
    pub visible: bool,
    /// Where its hot spot is.
    pub position: Point,
    /// Its shape, if the guest has set one.
    pub shape: Option<CursorShape>,
}

/// One desktop and its viewers.
///
/// After each call, [`Session::poll`] is to be called until it gives `None`, and again at
/// [`Session::next_deadline`]; so no queue in here grows beyond what one call adds.
#[derive(Debug)]
pub struct Session {
    framebuffer: Framebuffer,
    cursor: Cursor,
    mouse_mode: MouseMode,
    locks: Locks,
    state: SessionState,
    state_text: String,
    input: Input,
    viewers: BTreeMap<ViewerId, (Viewer, ViewerRights)>,
    next_viewer: u64,
    cache: Cache,
    effects: VecDeque<Effect>,
    /// When the oldest change was made that no end of a burst has followed.
    undrained_since: Option<Duration>,
    /// Until when a blank surface is kept back.
    blank_until: Option<Duration>,
    clipboard: Clipboard,
    window: Window,
}

impl Default for Session {
    fn default() -> Self {
        Self::new(Policy::default())
    }
}

impl Session {
    /// A session that is being connected, without a picture.
    pub fn new(policy: Policy) -> Self {
        Self {
            framebuffer: Framebuffer::default(),
            // Until the guest has said anything, the browser shows its own pointer.
            cursor: Cursor { visible: true, position: Point::default(), shape: None },
            mouse_mode: MouseMode::Server,
            locks: Locks::default(),
            state: SessionState::Connecting,
            state_text: String::new(),
            input: Input::default(),
            viewers: BTreeMap::new(),
            next_viewer: 1,
            cache: Cache::default(),
            effects: VecDeque::new(),
            undrained_since: None,
            blank_until: None,
            clipboard: Clipboard::new(policy),
            window: Window::new(policy.resize),
        }
    }

    /// Applies an event of the display channel. An error says what was refused; the picture
    /// stays as it was, and the session goes on.
    pub fn display_event(
        &mut self,
        event: &DisplayEvent,
        now: Duration,
    ) -> Result<(), DisplayError> {
        match event {
            DisplayEvent::SurfaceCreated(surface) => {
                let created = self.framebuffer.create(surface);
                if surface.primary && created.is_ok() {
                    self.window.shown([surface.width, surface.height]);
                    self.blank_until = Some(now + BLANK_TIME_MAX);
                    self.start_over();
                }
                created
            }
            DisplayEvent::SurfaceDestroyed(id) => {
                self.framebuffer.destroy(*id);
                Ok(())
            }
            DisplayEvent::Copy(copy) => {
                self.framebuffer.copy(copy)?;
                self.changed(copy.surface, &copy.rects, now);
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
            DisplayEvent::Mark
            | DisplayEvent::Reset
            | DisplayEvent::Monitors(_)
            | DisplayEvent::Common(_)
            | DisplayEvent::Unsupported(_) => Ok(()),
        }
    }

    /// The guest is gone, its surfaces and its agent with it. All viewers, also those that come
    /// now, have the last picture until another guest has made a new one.
    pub fn display_closed(&mut self) {
        self.framebuffer.destroy_all();
        self.undrained_since = None;
        self.input.wait_until(Duration::ZERO);
        self.agent_event(&AgentEvent::Abilities(AgentAbilities::default()));
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
        let after = self.abilities();
        if after != before {
            self.notify(|due| {
                due.abilities = true;
                due.forgotten |= before.takes_clipboard && !after.takes_clipboard;
            });
        }
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

    /// A browser has said hello; it gets all there is, at once.
    pub fn add_viewer(
        &mut self,
        browser: BrowserHello,
        rights: ViewerRights,
    ) -> Result<ViewerId, DisplayError> {
        if self.viewers.len() >= VIEWERS_MAX {
            return Err(DisplayError::TooManyViewers);
        }
        let id = ViewerId(self.next_viewer);
        self.next_viewer += 1;
        let viewer = Viewer::new(browser, self.framebuffer.primary());
        self.viewers.insert(id, (viewer, rights));
        if rights == ViewerRights::Control {
            self.window.wish(id, browser.width, browser.height);
        }
        Ok(id)
    }

    /// The viewer is gone, or another takes its place: what it holds is let go in the guest.
    pub fn remove_viewer(&mut self, id: ViewerId) {
        self.input.release_all(id);
        self.clipboard.remove_viewer(id);
        self.window.remove_viewer(id);
        self.viewers.remove(&id);
    }

    /// Takes a record of a viewer's browser. A second hello changes nothing.
    pub fn viewer_message(&mut self, id: ViewerId, message: &ViewerMessage, now: Duration) {
        let Some((viewer, rights)) = self.viewers.get_mut(&id) else { return };
        let may_control = *rights == ViewerRights::Control;
        match message {
            ViewerMessage::Ack { sequence, draw_time } => {
                viewer.acknowledge(*sequence, *draw_time, now);
            }
            ViewerMessage::Ping(body) => viewer.pong(*body),
            ViewerMessage::Refresh => viewer.start_over(self.framebuffer.primary()),
            ViewerMessage::Hello(_) => {}
            ViewerMessage::Key { .. }
            | ViewerMessage::Pointer { .. }
            | ViewerMessage::PointerDelta { .. }
            | ViewerMessage::Wheel { .. }
            | ViewerMessage::ReleaseAll => {
                let picture =
                    self.framebuffer.primary().map_or_else(Rect::default, |plane| plane.bounds());
                if may_control {
                    let pointer = Pointer { mode: self.mouse_mode, picture };
                    self.input.handle(id, message, pointer);
                }
            }
            ViewerMessage::Clipboard(part) if may_control => self.clipboard.part(id, part),
            ViewerMessage::Window { width, height } if may_control => {
                self.window.wish(id, *width, *height);
            }
            ViewerMessage::Clipboard(_) | ViewerMessage::Window { .. } => {}
        }
    }

    /// So many bytes of messages for this viewer went into its socket.
    pub fn sent(&mut self, id: ViewerId, bytes: usize, now: Duration) {
        if let Some((viewer, _)) = self.viewers.get_mut(&id) {
            viewer.sent(bytes, now);
        }
    }

    /// The result of a job.
    pub fn encoded(&mut self, id: JobId, encoded: Encoded) {
        if let Some(record) = self.cache.finish(id, encoded) {
            for (viewer, _) in self.viewers.values_mut() {
                viewer.encoded(id, &record);
            }
        }
    }

    /// The next thing to do: for the guest first, and what it is to paste before the key.
    pub fn poll(&mut self, now: Duration) -> Option<Effect> {
        if let Some(command) = self.clipboard.next() {
            if matches!(command, AgentCommand::Offer(_)) {
                self.input.wait_until(now + TAKE_OVER_TIME);
            }
            return Some(Effect::Agent(command));
        }
        if let Some(event) = self.input.next(now) {
            return Some(Effect::Input(event));
        }
        if let Some([width, height]) = self.window.next(self.shown_size(), now) {
            return Some(Effect::Agent(AgentCommand::Resize { width, height }));
        }
        if self.effects.is_empty() {
            self.serve_viewers(now);
        }
        self.effects.pop_front()
    }

    /// When [`Session::poll`] may have something to do although nothing happens before.
    pub fn next_deadline(&mut self) -> Option<Duration> {
        let input = self.input.due_at();
        let Some(_) = self.framebuffer.primary() else { return input };
        // Where the cache is full, the next result of a job makes room.
        let begins = if self.cache.has_room() {
            let viewers = self.viewers.values_mut();
            viewers.filter_map(|(viewer, _)| viewer.begins_at()).min()
        } else {
            None
        };
        let shown_at = self.shown_at();
        let frame = begins.map(|begins| begins.max(shown_at));
        [input, frame, self.window.due_at()].into_iter().flatten().min()
    }

    /// The picture of the guest, `0x00RRGGBB`, top row first, with its columns and rows.
    pub fn picture(&self) -> Option<(u32, u32, &[u32])> {
        self.framebuffer.primary().map(|plane| (plane.width(), plane.height(), plane.pixels()))
    }

    /// The guest's pointer.
    pub const fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Measurements of a viewer.
    pub fn viewer_statistics(&self, id: ViewerId) -> Option<ViewerStatistics> {
        self.viewers.get(&id).map(|(viewer, _)| viewer.statistics())
    }

    fn shown_size(&self) -> Option<Size> {
        self.framebuffer.primary().map(|plane| [plane.width(), plane.height()])
    }

    const fn abilities(&self) -> Abilities {
        Abilities {
            takes_clipboard: self.clipboard.takes(),
            gives_clipboard: self.clipboard.gives(),
            follows_window: self.window.follows(),
        }
    }

    fn start_over(&mut self) {
        for (viewer, _) in self.viewers.values_mut() {
            viewer.start_over(self.framebuffer.primary());
        }
    }

    fn notify(&mut self, mark: impl Fn(&mut Due)) {
        for (viewer, _) in self.viewers.values_mut() {
            mark(viewer.due());
        }
    }

    fn changed(&mut self, surface: vidi_spice::SurfaceId, rects: &[Rect], now: Duration) {
        if !self.framebuffer.is_primary(surface) {
            return;
        }
        self.drawn(now);
        for (viewer, _) in self.viewers.values_mut() {
            for rect in rects {
                viewer.changed(rect);
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
            for (viewer, _) in self.viewers.values_mut() {
                viewer.copied(&destination, copy.offset);
            }
        }
    }

    fn drawn(&mut self, now: Duration) {
        self.undrained_since.get_or_insert(now);
        self.blank_until = None;
    }

    /// From when on the framebuffer is worth showing as it is now.
    fn shown_at(&self) -> Duration {
        let drained = self.undrained_since.map(|since| since + DRAIN_TIME_MAX);
        drained.max(self.blank_until).unwrap_or_default()
    }

    /// Appends what each viewer can be sent now.
    fn serve_viewers(&mut self, now: Duration) {
        let moment = Moment { now, is_worth_showing: self.shown_at() <= now };
        let abilities = self.abilities();
        let mut source = (self.framebuffer.primary()).map(|plane| Source {
            plane,
            cache: &mut self.cache,
            jobs: Vec::new(),
        });
        for (&id, (viewer, rights)) in &mut self.viewers {
            let notices = Notices {
                rights: *rights,
                cursor: &self.cursor,
                mouse_mode: self.mouse_mode,
                locks: self.locks,
                state: self.state,
                state_text: &self.state_text,
                abilities,
            };
            let notice = viewer.next_notice(|due, out| notices.write(due, out));
            let copied = viewer.next_copied(now);
            let slice = source.as_mut().and_then(|source| viewer.next_slice(source, moment));
            for message in [notice, copied, slice].into_iter().flatten() {
                self.effects.push_back(Effect::Send { viewer: id, message });
            }
        }
        let jobs = source.map(|source| source.jobs).unwrap_or_default();
        self.effects.extend(jobs.into_iter().map(Effect::Encode));
    }
}
