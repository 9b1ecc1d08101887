//! What is counted of one session.

use std::collections::BTreeMap;

use tokio::time::Instant;
use vidi_display::ViewerId;

/// One session's.
#[derive(Debug, Default)]
pub(crate) struct Figures(BTreeMap<ViewerId, Seen>);

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
        if self.0.insert(id, seen).is_none() {
            metrics::gauge!("vidi_gateway_viewers").increment(1.0);
        }
    }

    /// `frames` have gone to the viewer's socket so far.
    pub(crate) fn progressed(&mut self, id: ViewerId, frames: u64) {
        let Some(seen) = self.0.get_mut(&id) else { return };
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

    pub(crate) fn left(&mut self, id: ViewerId) {
        if self.0.remove(&id).is_some() {
            metrics::gauge!("vidi_gateway_viewers").decrement(1.0);
        }
    }
}

impl Drop for Figures {
    fn drop(&mut self) {
        metrics::gauge!("vidi_gateway_viewers").decrement(self.0.len() as f64);
    }
}

pub(super) fn count_attach(result: &'static str) {
    metrics::counter!("vidi_gateway_attaches_total", "result" => result).increment(1);
}

pub(super) fn count_clipboard(direction: &'static str, bytes: usize) {
    metrics::counter!("vidi_gateway_clipboard_bytes_total", "direction" => direction)
        .increment(bytes as u64);
}
