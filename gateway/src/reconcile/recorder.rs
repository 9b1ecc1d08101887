//! Records a session: a viewer of its own, whose messages go to a file with their times.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{info, warn};
use vidi_display::protocol::{
    BrowserHello, RecordingState, ToldState, ViewerMessage, kind, records,
};
use vidi_display::{ViewerId, ViewerRights};

use crate::model::{CloseCode, Recording, RecordingAbout};
use crate::ports::{RecordingEnd, RecordingEntry, RecordingPipe};
use crate::reconcile::registry::{FromViewer, ToViewer};
use crate::reconcile::session::SessionTask;

/// From so often in a recording everything is drawn anew: a player seeks to there.
const WHOLE_PERIOD: Duration = Duration::from_secs(60);
/// What is always recorded and cannot be is tried again after this: a full disk is made room on.
const RETRY_PERIOD: Duration = Duration::from_secs(60);
/// Messages between the session and its recorder.
const MESSAGES_MAX: usize = 1_024;
/// What the recorder says that the session has not taken.
const SAID_MAX: usize = 64;

/// Whether a session is recorded.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    viewer: Option<ViewerId>,
    /// Why the last one ended by itself.
    failed: Option<String>,
    /// When the next one is tried by itself.
    pub(super) retry_at: Option<Instant>,
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
        self.recorder.retry_at = None;
        if self.terms.recording == Recording::Never {
            self.stop_recording();
        }
    }

    /// Starts what is always recorded.
    pub(super) fn keep_recording(&mut self) {
        let wanted = self.terms.recording == Recording::Always && self.recorder.retry_at.is_none();
        if wanted && !self.people.present().is_empty() {
            self.start_recording();
            self.tell_recording();
        }
    }

    /// Tries again what is always recorded and could not be.
    pub(super) fn retry_recording(&mut self) {
        if self.recorder.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.recorder.retry_at = None;
            self.keep_recording();
        }
    }

    fn start_recording(&mut self) {
        if self.recorder.viewer.is_some() {
            return;
        }
        let Some(recordings) = self.registry.reach().recordings.clone() else {
            return self.recording_failed("this gateway keeps no recordings".to_owned());
        };
        let Ok(id) = self.display.add_viewer(hello(), ViewerRights::Look) else {
            return self.recording_failed("too many look at this session".to_owned());
        };
        let pipe = recordings.begin(RecordingAbout {
            session: self.name.clone(),
            desktop: self.terms.desktop.clone(),
            user: self.people.owner_user.clone(),
            user_display_name: self.terms.user_display_name.clone(),
        });
        let (outgoing, messages) = mpsc::channel(MESSAGES_MAX);
        let (said, incoming) = mpsc::channel(SAID_MAX);
        let _recording = self.registry.tasks().spawn("recorder", run(pipe, said, messages));
        self.viewers.insert(id, outgoing);
        self.incoming.insert(id, ReceiverStream::new(incoming));
        self.recorder = Recorder { viewer: Some(id), ..Recorder::default() };
        info!("The recording begins");
    }

    /// It is told why; what is always recorded is tried again.
    fn recording_failed(&mut self, reason: String) {
        let always = self.terms.recording == Recording::Always;
        let retry_at = always.then(|| Instant::now() + RETRY_PERIOD);
        self.recorder = Recorder { viewer: None, failed: Some(reason), retry_at };
    }

    /// Ends the recording, if there is one.
    pub(super) fn stop_recording(&mut self) {
        self.recorder.retry_at = None;
        if let Some(id) = self.recorder.viewer.take() {
            self.let_go(id, CloseCode::Ended, "the recording ends");
            info!("The recording ends");
        }
    }

    /// The recording has ended by itself; the session goes on.
    pub(super) fn recording_over(&mut self, id: ViewerId, end: RecordingEnd) {
        if self.recorder.viewer == Some(id) {
            let (RecordingEnd::Full(reason) | RecordingEnd::Fault(reason)) = &end;
            warn!(reason, "The recording ended before the session");
            metrics::counter!("vidi_gateway_recordings_failed_total").increment(1);
            match end {
                // What is always recorded goes on in another file.
                RecordingEnd::Full(_) if self.terms.recording == Recording::Always => {
                    self.recorder = Recorder::default();
                    self.keep_recording();
                }
                RecordingEnd::Full(reason) | RecordingEnd::Fault(reason) => {
                    self.recording_failed(reason);
                }
            }
            self.remove(id);
            self.tell_recording();
        }
    }

    /// The recorder is gone without a word: it took nothing more, or its task fell.
    pub(super) fn recorder_lost(&mut self, id: ViewerId) {
        if self.recorder.viewer == Some(id) {
            let reason = "the recorder could not follow".to_owned();
            warn!(reason, "The recording ended before the session");
            metrics::counter!("vidi_gateway_recordings_failed_total").increment(1);
            self.recording_failed(reason);
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
            self.display.tell(id, ToldState::recording(state, may_change));
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
        // Cancel-safe: `recv` takes a message or does not, `closed` only waits.
        let message = tokio::select! {
            biased;
            () = entries.closed() => return say_over(ended, &session, messages).await,
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
        for (position, (record, body)) in records(&message).enumerate() {
            if record == kind::SIZE && position == 0 {
                whole_at = Instant::now();
            }
            if let (kind::FRAME_END, Some(sequence)) = (record, body.first_chunk()) {
                let sequence = u32::from_le_bytes(*sequence);
                said.push(ViewerMessage::Ack { sequence, draw_time: Duration::ZERO });
                has_changed = true;
            }
        }
        let length = message.len();
        if entries.send(RecordingEntry { at: began.elapsed(), message }).await.is_err() {
            return say_over(ended, &session, messages).await;
        }
        // The session is gone when it takes no word any more: its messages end next.
        drop(session.send(FromViewer::Sent(length)).await);
        if !said.is_empty() {
            drop(session.send(FromViewer::Records(said)).await);
        }
    }
}

/// Says why the file takes no more, and stays until the session has heard it: one that finds its recorder
/// gone first would never know why. The session may be gone before.
async fn say_over(
    ended: oneshot::Receiver<RecordingEnd>,
    session: &mpsc::Sender<FromViewer>,
    mut messages: mpsc::Receiver<ToViewer>,
) {
    let lost = |_dropped| RecordingEnd::Fault("its writer failed".to_owned());
    let end = ended.await.unwrap_or_else(lost);
    if session.send(FromViewer::Over(end)).await.is_ok() {
        while messages.recv().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_recorder_stays_until_its_session_has_heard_why_it_ends() {
        let (entries, taken) = mpsc::channel(1);
        let (ending, ended) = oneshot::channel();
        let (outgoing, messages) = mpsc::channel(1);
        let (said, mut heard) = mpsc::channel(1);
        drop(taken);
        ending.send(RecordingEnd::Fault("the disk is full".to_owned())).unwrap();
        let session = async {
            let Some(FromViewer::Over(RecordingEnd::Fault(reason))) = heard.recv().await else {
                panic!("it says why");
            };
            assert_eq!(reason, "the disk is full");
            tokio::task::yield_now().await;
            assert!(!outgoing.is_closed(), "the session would take it for lost");
            drop(outgoing);
        };
        tokio::join!(run(RecordingPipe { entries, ended }, said, messages), session);
    }
}
