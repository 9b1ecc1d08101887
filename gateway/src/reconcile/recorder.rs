//! Records a session: a viewer of its own, whose messages go to a file with their times.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{info, warn};
use vidi_display::protocol::{
    BrowserHello, HEADER_BYTES, RecordingState, SharingState, ViewerMessage,
};
use vidi_display::{ViewerId, ViewerRights};

use crate::model::{CloseCode, Recording, RecordingAbout};
use crate::ports::{RecordingEntry, RecordingPipe};
use crate::reconcile::registry::{FromViewer, ToViewer};
use crate::reconcile::session::SessionTask;

/// From so often in a recording everything is drawn anew: a player seeks to there.
const WHOLE_PERIOD: Duration = Duration::from_secs(60);
/// Messages between the session and its recorder.
const MESSAGES_MAX: usize = 1_024;
/// What the recorder says that the session has not taken.
const SAID_MAX: usize = 64;

/// Types of records that the recorder looks at.
const SIZE: u8 = 2;
const FRAME_END: u8 = 7;

/// Whether a session is recorded.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    viewer: Option<ViewerId>,
    /// Why the last one ended by itself.
    failed: Option<String>,
}

impl SessionTask {
    /// The user wants a recording, or none any more.
    pub(super) fn record(&mut self, on: bool) {
        if self.terms.recording != Recording::OnRequest {
            return;
        }
        self.recorder.failed = None;
        if on {
            self.start_recording();
        } else {
            self.stop_recording();
        }
        self.tell_recording();
    }

    /// Ends what may not be recorded any more; a new attachment may try again what failed.
    pub(super) fn recorder_follows_terms(&mut self) {
        self.recorder.failed = None;
        if self.terms.recording == Recording::Never {
            self.stop_recording();
        }
    }

    /// Starts what is always recorded.
    pub(super) fn keep_recording(&mut self) {
        let wanted = self.terms.recording == Recording::Always && self.recorder.failed.is_none();
        if wanted && self.people.owner().is_some() {
            self.start_recording();
            self.tell_recording();
        }
    }

    fn start_recording(&mut self) {
        if self.recorder.viewer.is_some() {
            return;
        }
        let Some(recordings) = self.registry.reach().recordings.clone() else {
            self.recorder.failed = Some("this gateway keeps no recordings".to_owned());
            return;
        };
        let Ok(id) = self.display.add_viewer(hello(), ViewerRights::Look) else {
            self.recorder.failed = Some("too many look at this session".to_owned());
            return;
        };
        let user = self.people.owner().map(|owner| self.people.user(owner).to_owned());
        let pipe = recordings.begin(RecordingAbout {
            session: self.name.clone(),
            desktop: self.terms.desktop.clone(),
            user: user.unwrap_or_default(),
            user_display_name: self.terms.user_display_name.clone(),
        });
        let (outgoing, messages) = mpsc::channel(MESSAGES_MAX);
        let (said, incoming) = mpsc::channel(SAID_MAX);
        let _recording = self.registry.tasks().spawn("recorder", run(pipe, said, messages));
        self.viewers.insert(id, outgoing);
        self.incoming.insert(id, ReceiverStream::new(incoming));
        self.recorder = Recorder { viewer: Some(id), failed: None };
        info!("The recording begins");
    }

    /// Ends the recording, if there is one.
    pub(super) fn stop_recording(&mut self) {
        if let Some(id) = self.recorder.viewer.take() {
            self.let_go(id, CloseCode::Ended, "the recording ends");
            info!("The recording ends");
        }
    }

    /// The recording has ended by itself; the session goes on.
    pub(super) fn recording_over(&mut self, id: ViewerId, reason: String) {
        if self.recorder.viewer == Some(id) {
            warn!(reason, "The recording ended before the session");
            metrics::counter!("vidi_gateway_recordings_failed_total").increment(1);
            self.recorder = Recorder { viewer: None, failed: Some(reason) };
            self.remove(id);
            self.tell_recording();
        }
    }

    /// Record 26 to all who look.
    pub(super) fn tell_recording(&mut self) {
        let may_record = self.terms.recording == Recording::OnRequest
            && self.registry.reach().recordings.is_some();
        let state = match (self.recorder.viewer, &self.recorder.failed) {
            (Some(_), _) => RecordingState::On,
            (None, Some(reason)) => RecordingState::Failed(reason),
            (None, None) => RecordingState::Off,
        };
        let owner = self.people.owner();
        for id in self.people.present() {
            let may_change = may_record && owner == Some(id);
            self.display.tell(id, SharingState::recording(state, may_change));
        }
    }
}

/// The recorder as a browser: without a window, with what every later player can draw.
fn hello() -> BrowserHello {
    BrowserHello {
        webp: true,
        h264: false,
        palette: true,
        opus: true,
        tile_cache_bytes: 0,
        width: 0,
        height: 0,
    }
}

/// Takes what the session sends until it ends the recording, or the file does.
async fn run(
    pipe: RecordingPipe,
    session: mpsc::Sender<FromViewer>,
    mut messages: mpsc::Receiver<ToViewer>,
) {
    let began = Instant::now();
    let mut whole_at = began;
    let mut has_changed = false;
    let RecordingPipe { entries, ended } = pipe;
    loop {
        // Cancel-safe: `recv` takes a message or does not.
        let message = tokio::select! {
            biased;
            message = messages.recv() => message,
            () = tokio::time::sleep_until(whole_at + WHOLE_PERIOD), if has_changed => {
                has_changed = false;
                whole_at = Instant::now();
                let refresh = FromViewer::Records(vec![ViewerMessage::Refresh]);
                if session.send(refresh).await.is_err() { return }
                continue;
            }
        };
        let Some(ToViewer::Message(message)) = message else { return };
        let mut said = Vec::new();
        for (position, (kind, body)) in records(&message).enumerate() {
            if kind == SIZE && position == 0 {
                whole_at = Instant::now();
            }
            if let (FRAME_END, Some(sequence)) = (kind, body.first_chunk()) {
                let sequence = u32::from_le_bytes(*sequence);
                said.push(ViewerMessage::Ack { sequence, draw_time: Duration::ZERO });
                has_changed = true;
            }
        }
        let length = message.len();
        if entries.send(RecordingEntry { at: began.elapsed(), message }).await.is_err() {
            let reason = ended.await.unwrap_or_else(|_lost| "its writer failed".to_owned());
            drop(session.send(FromViewer::Over(reason)).await);
            return;
        }
        // The session is gone when it takes no word any more: its messages end next.
        drop(session.send(FromViewer::Sent(length)).await);
        if !said.is_empty() {
            drop(session.send(FromViewer::Records(said)).await);
        }
    }
}

/// Types and bodies of the records of one of our own messages.
fn records(message: &Bytes) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = message.as_ref();
    std::iter::from_fn(move || {
        let (header, after) = rest.split_first_chunk::<HEADER_BYTES>()?;
        let &[kind, _, _, _, a, b, c, d] = header;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
        let (body, next) = after.split_at_checked(length)?;
        rest = next;
        Some((kind, body))
    })
}
