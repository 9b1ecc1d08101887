//! What is counted of one session.

use std::collections::BTreeMap;

use tokio::time::Instant;
use vidi_display::{AgentCommand, Session, ViewerId};
use vidi_spice::{AgentEvent, FileStatus};

/// One session's.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    viewers: BTreeMap<ViewerId, Seen>,
    /// As counted last.
    video_regions: usize,
    is_packed: bool,
}

#[derive(Debug)]
struct Seen {
    arrived: Instant,
    /// When the click came that this viewer is the answer to.
    clicked: Option<Instant>,
    frames: u64,
}

impl Figures {
    pub(crate) fn arrived(&mut self, id: ViewerId, clicked: Option<Instant>) {
        let seen = Seen { arrived: Instant::now(), clicked, frames: 0 };
        if self.viewers.insert(id, seen).is_none() {
            metrics::gauge!("vidi_gateway_viewers").increment(1.0);
        }
    }

    /// `frames` have gone to the viewer's socket so far.
    pub(crate) fn progressed(&mut self, id: ViewerId, frames: u64) {
        let Some(seen) = self.viewers.get_mut(&id) else { return };
        let more = frames.saturating_sub(seen.frames);
        if more == 0 {
            return;
        }
        metrics::counter!("vidi_gateway_frames_total").increment(more);
        if seen.frames == 0 {
            let picture =
                |since| metrics::histogram!("vidi_gateway_first_picture_seconds", "since" => since);
            picture("viewer").record(seen.arrived.elapsed());
            if let Some(clicked) = seen.clicked.take() {
                picture("click").record(clicked.elapsed());
            }
        }
        seen.frames = frames;
    }

    /// Counts what the picture went as, and how it is now.
    pub(crate) fn pictured(&mut self, display: &mut Session) {
        for (form, sent) in display.take_picture_figures().each() {
            let form = form.name();
            metrics::counter!("vidi_gateway_picture_parts_total", "form" => form)
                .increment(sent.parts);
            metrics::counter!("vidi_gateway_picture_bytes_total", "form" => form)
                .increment(sent.bytes);
        }
        self.is(display.video_regions(), display.is_packed());
    }

    fn is(&mut self, video_regions: usize, is_packed: bool) {
        if (self.video_regions, self.is_packed) == (video_regions, is_packed) {
            return;
        }
        let regions = metrics::gauge!("vidi_gateway_video_regions");
        regions.increment(video_regions as f64 - self.video_regions as f64);
        let packed = metrics::gauge!("vidi_gateway_packed_pictures");
        packed.increment(f64::from(u8::from(is_packed)) - f64::from(u8::from(self.is_packed)));
        (self.video_regions, self.is_packed) = (video_regions, is_packed);
    }

    pub(crate) fn left(&mut self, id: ViewerId) {
        if self.viewers.remove(&id).is_some() {
            metrics::gauge!("vidi_gateway_viewers").decrement(1.0);
        }
    }
}

impl Drop for Figures {
    fn drop(&mut self) {
        metrics::gauge!("vidi_gateway_viewers").decrement(self.viewers.len() as f64);
        self.is(0, false);
    }
}

pub(super) fn count_attach(result: &'static str) {
    metrics::counter!("vidi_gateway_attaches_total", "result" => result).increment(1);
}

pub(super) fn count_clipboard(direction: &'static str, bytes: usize) {
    metrics::counter!("vidi_gateway_clipboard_bytes_total", "direction" => direction)
        .increment(bytes as u64);
}

/// Counts what the agent told of files.
pub(super) fn count_file(event: &AgentEvent) {
    let result = match event {
        AgentEvent::File(_, FileStatus::Done) => "done",
        AgentEvent::File(_, FileStatus::Failed(_)) => "failed",
        _ => return,
    };
    metrics::counter!("vidi_gateway_files_total", "result" => result).increment(1);
}

/// Counts what goes to the agent of files.
pub(super) fn count_command(command: &AgentCommand) {
    match command {
        AgentCommand::FileData { data, .. } => {
            metrics::counter!("vidi_gateway_file_bytes_total").increment(data.len() as u64);
        }
        AgentCommand::CancelFile(_) => {
            metrics::counter!("vidi_gateway_files_total", "result" => "cancelled").increment(1);
        }
        _ => {}
    }
}

/// Counts the packets of sound that went to viewers, and those that did not.
pub(super) fn count_sound(display: &mut Session) {
    let figures = display.take_sound_figures();
    for (result, packets) in [("sent", figures.sent), ("dropped", figures.dropped)] {
        if 0 < packets {
            metrics::counter!("vidi_gateway_sound_packets_total", "result" => result)
                .increment(packets);
        }
    }
}
