//! One desktop as its viewers see it: applies what the guest does, serves each viewer at its pace.

mod guest;
mod media;
mod people;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use vidi_spice::{CursorShape, Locks, MouseMode, Point, Rect};

use crate::activity::Activity;
use crate::cache::Cache;
use crate::clipboard::{AgentCommand, Clipboard, TAKE_OVER_TIME};
use crate::content::Contents;
use crate::encoding::{EncodeJob, Encoded, JobId};
use crate::error::DisplayError;
use crate::figures::PictureFigures;
use crate::framebuffer::Framebuffer;
use crate::input::{Input, InputEvent, Pointer};
use crate::monitors::Monitors;
use crate::notices::{Abilities, Notices};
use crate::picture::{Moment, Source};
use crate::policy::Policy;
use crate::protocol::{BrowserHello, SessionState, Speech, ViewerMessage};
use crate::session::media::Media;
pub use crate::session::media::SoundWish;
use crate::video::Videos;
use crate::viewer::{Due, Viewer, ViewerStatistics};
use crate::watermark::Watermark;
use crate::window::Window;

/// Most viewers of one session: its user, and those invited to look.
pub const VIEWERS_MAX: usize = 16;

/// How long after its first damage a picture waits for the end of what the guest draws together.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(2);

/// Pixels that nobody has drawn for this long, or for twice as long, are packed, band by band: who reads
/// a page or types in it leaves most of it alone.
const PACK_TIME: Duration = Duration::from_secs(15);

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
    /// Nothing yet: the session's user is asked.
    Wait,
}

impl ViewerRights {
    /// Whether it sees and hears the desktop.
    const fn may_see(self) -> bool {
        !matches!(self, Self::Wait)
    }
}

/// What the caller is to do.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Tell the guest.
    Input(InputEvent),
    /// Tell the guest's agent.
    Agent(AgentCommand),
    /// Let the guest's microphone hear this.
    Speak(Speech),
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
    contents: Contents,
    activity: Activity,
    videos: Videos,
    effects: VecDeque<Effect>,
    /// When the oldest change was made that no end of a burst has followed.
    undrained_since: Option<Duration>,
    /// When pixels were drawn or needed first since some were packed; none while all are.
    used_at: Option<Duration>,
    /// Until when a blank surface is kept back.
    blank_until: Option<Duration>,
    clipboard: Clipboard,
    window: Window,
    monitors: Monitors,
    /// Text over the picture.
    watermark: Watermark,
    media: Media,
    figures: PictureFigures,
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
            contents: Contents::default(),
            activity: Activity::default(),
            videos: Videos::default(),
            effects: VecDeque::new(),
            undrained_since: None,
            used_at: None,
            blank_until: None,
            clipboard: Clipboard::new(policy),
            window: Window::new(policy.resize),
            monitors: Monitors::default(),
            watermark: Watermark::default(),
            media: Media::new(policy),
            figures: PictureFigures::default(),
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
        let mut viewer = Viewer::new(browser, self.framebuffer.primary());
        self.media.add_viewer(id, &mut viewer, rights);
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
        self.media.remove_viewer(id);
        self.viewers.remove(&id);
    }

    /// Takes a record of a viewer's browser. A second hello changes nothing.
    pub fn viewer_message(&mut self, id: ViewerId, message: &ViewerMessage, now: Duration) {
        let Some((viewer, rights)) = self.viewers.get_mut(&id) else { return };
        let may_control = *rights == ViewerRights::Control;
        self.input.heard(id, now);
        match message {
            ViewerMessage::Ack { sequence, draw_time } => {
                viewer.acknowledge(*sequence, *draw_time, now);
            }
            ViewerMessage::Ping(body) => viewer.pong(*body),
            ViewerMessage::Refresh => viewer.picture().start_over(self.framebuffer.primary()),
            ViewerMessage::CannotDecode { region, wants } => {
                viewer.picture().cannot_decode(*region, *wants);
            }
            ViewerMessage::Hello(_) | ViewerMessage::Sharing(_) => {}
            ViewerMessage::Key { .. }
            | ViewerMessage::Pointer { .. }
            | ViewerMessage::PointerDelta { .. }
            | ViewerMessage::Wheel { .. }
            | ViewerMessage::ReleaseAll => {
                let picture =
                    self.framebuffer.primary().map_or_else(Rect::default, |plane| plane.bounds());
                if may_control {
                    if matches!(message, ViewerMessage::Key { down: true, .. }) {
                        viewer.picture().key_pressed(now);
                    }
                    let pointer = Pointer { mode: self.mouse_mode, picture };
                    self.input.handle(id, message, pointer);
                }
            }
            ViewerMessage::Clipboard(part) if may_control => self.clipboard.part(id, part),
            ViewerMessage::Window { width, height } if may_control => {
                self.window.wish_later(id, *width, *height);
            }
            ViewerMessage::Windows(windows) if may_control => {
                self.window.wish_several(id, windows);
            }
            ViewerMessage::File(message) if may_control => self.file_message(id, message),
            ViewerMessage::Speech(speech) if may_control => self.speech(id, speech),
            ViewerMessage::Clipboard(_)
            | ViewerMessage::Window { .. }
            | ViewerMessage::Windows(_)
            | ViewerMessage::File(_)
            | ViewerMessage::Speech(_) => {}
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
        let viewers = self.viewers.len();
        let video = self.videos.encoded(id, &encoded.0).then(|| encoded.0.clone());
        if let Some(record) = video.or_else(|| self.cache.finish(id, encoded, viewers)) {
            for (viewer, _) in self.viewers.values_mut() {
                viewer.picture().encoded(id, &record);
            }
        }
    }

    /// A job has ended without a result: whoever waits for it is sent the whole picture again.
    pub fn lost(&mut self, id: JobId) {
        self.cache.lost(id);
        self.videos.lost(id);
        self.start_over();
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
        if let Some(effect) = self.media.next() {
            return Some(effect);
        }
        if let Some(screens) = self.window.next(self.shown_screens(), now) {
            return Some(Effect::Agent(AgentCommand::Arrange(screens)));
        }
        if self.effects.is_empty() {
            self.rest(now);
            self.serve_viewers(now);
        }
        self.effects.pop_front()
    }

    /// When [`Session::poll`] may have something to do although nothing happens before.
    pub fn next_deadline(&self) -> Option<Duration> {
        let input = self.input.due_at();
        let Some(_) = self.framebuffer.primary() else { return input };
        // Where the cache is full, the next result of a job makes room.
        let begins = if self.cache.has_room() {
            let viewers = self.viewers.values().filter(|(_, rights)| rights.may_see());
            viewers.filter_map(|(viewer, _)| viewer.due_at(&self.activity, &self.videos)).min()
        } else {
            None
        };
        let shown_at = self.shown_at();
        let pack = self.used_at.map(|at| at + PACK_TIME);
        let frame = begins.map(|begins| begins.max(shown_at));
        [input, frame, self.window.due_at(), self.videos.due_at(), pack].into_iter().flatten().min()
    }

    /// Bytes that the pixels of the guest's surfaces take now.
    pub fn pixel_bytes(&self) -> usize {
        self.framebuffer.bytes_held()
    }

    /// What parts of the picture went as since the last time, to all viewers.
    pub fn take_picture_figures(&mut self) -> PictureFigures {
        std::mem::take(&mut self.figures)
    }

    /// Areas that are moving pictures now.
    pub fn video_regions(&self) -> usize {
        self.videos.regions().len()
    }

    /// Whether there is a picture whose pixels are packed, since nobody has needed them for a while.
    pub fn is_packed(&self) -> bool {
        self.framebuffer.primary().is_some() && self.framebuffer.is_packed()
    }

    /// Packs the pixels that nobody has drawn for long.
    fn rest(&mut self, now: Duration) {
        let viewers = self.viewers.values_mut();
        if viewers.map(|(viewer, _)| viewer).any(|viewer| viewer.picture().needs_pixels()) {
            self.use_pixels(now);
        }
        if self.used_at.is_some_and(|at| at + PACK_TIME <= now) {
            self.framebuffer.rest();
            self.cache.rest();
            self.used_at = (!self.framebuffer.is_packed()).then_some(now);
        }
    }

    fn use_pixels(&mut self, now: Duration) {
        self.used_at = self.used_at.or(Some(now));
    }

    /// The picture of the guest, `0x00RRGGBB`, top row first, with its columns and rows.
    pub fn picture(&mut self) -> Option<(u32, u32, &[u32])> {
        self.framebuffer.wake();
        self.use_pixels(Duration::ZERO);
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

    /// The guest's screens, by their numbers. One that tells of none has one with the whole picture.
    fn shown_screens(&self) -> Option<Vec<Rect>> {
        let whole = self.framebuffer.primary()?.bounds();
        Some(self.monitors.screens().unwrap_or_else(|| vec![whole]))
    }

    fn abilities_changed(&mut self, before: Abilities) {
        let after = self.abilities();
        if after != before {
            self.notify(|due| {
                due.abilities = true;
                due.monitors |= before.follows_window != after.follows_window;
                due.forgotten |= before.takes_clipboard && !after.takes_clipboard;
            });
        }
    }

    const fn abilities(&self) -> Abilities {
        Abilities {
            takes_clipboard: self.clipboard.takes(),
            gives_clipboard: self.clipboard.gives(),
            follows_window: self.window.follows(),
            takes_files: self.media.files.is_offered(),
            has_sound: self.media.sound.is_offered(),
            takes_microphone: self.media.microphone.is_offered(),
        }
    }

    fn start_over(&mut self) {
        for (viewer, _) in self.viewers.values_mut() {
            viewer.picture().start_over(self.framebuffer.primary());
        }
    }

    fn notify(&mut self, mark: impl Fn(&mut Due)) {
        for (viewer, _) in self.viewers.values_mut() {
            mark(viewer.due());
        }
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
        self.media.tell_news(self.viewers.iter_mut().map(|(id, viewer)| (*id, viewer)));
        let mut source = (self.framebuffer.primary()).map(|plane| Source {
            plane: self.watermark.over(plane),
            cache: &mut self.cache,
            contents: &mut self.contents,
            activity: &self.activity,
            videos: &mut self.videos,
            jobs: Vec::new(),
        });
        if let Some(source) = &mut source {
            source.videos.look(source.plane, source.activity, source.contents, now);
        }
        for (&id, (viewer, rights)) in &mut self.viewers {
            let notices = Notices {
                rights: *rights,
                cursor: &self.cursor,
                mouse_mode: self.mouse_mode,
                locks: self.locks,
                state: self.state,
                state_text: &self.state_text,
                abilities,
                monitors: &self.monitors,
            };
            let beside = self.media.next_message(id, viewer, now);
            let notice = viewer.next_notice(|due, out| notices.write(due, out));
            let copied = viewer.next_copied(now);
            let seen = source.as_mut().filter(|_| rights.may_see());
            let slice = seen.and_then(|source| viewer.next_slice(source, moment));
            slice.iter().for_each(|slice| self.figures.count(slice));
            // Where it turned out that the picture was whole already, no frame makes room for it.
            let is_idle = copied.is_none() && slice.is_none();
            let late = if is_idle { viewer.next_copied(now) } else { None };
            for message in [beside, notice, copied, slice, late].into_iter().flatten() {
                self.effects.push_back(Effect::Send { viewer: id, message });
            }
        }
        let jobs = source.map(|source| source.jobs).unwrap_or_default();
        self.effects.extend(jobs.into_iter().map(Effect::Encode));
    }
}
