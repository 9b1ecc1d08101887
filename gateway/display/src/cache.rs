//! Parts of the picture that are being encoded, or were not long ago, shared by the viewers of a
//! session.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use vidi_spice::Rect;

use crate::encoding::{Coding, EncodeJob, Encoded, JobId};
use crate::framebuffer::Plane;

/// Most bytes of results kept: a few whole pictures of a desktop, of use only to viewers that draw
/// nearly at the same time.
const BYTES_MAX: usize = 2 * 1024 * 1024;

/// The same while one viewer looks, who asks for nothing twice but after a loss.
const BYTES_ALONE_MAX: usize = 128 * 1024;

/// Most results kept, so that small ones do not make the index large.
const RESULTS_MAX: usize = 1024;

/// Jobs under way beyond which no viewer begins a picture: the threads that encode are behind, and
/// more jobs would only wait with their copies of pixels.
const JOBS_MAX: usize = 256;

/// Results and jobs by what they show.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    next: u64,
    entries: BTreeMap<Key, Entry>,
    running: BTreeMap<JobId, Key>,
    /// Keys of results, oldest first.
    done: VecDeque<Key>,
    bytes: usize,
}

/// An area of the shown surface as it was in a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    revision: u64,
    edges: [i32; 4],
    coding: Coding,
}

#[derive(Debug)]
enum Entry {
    Running(JobId),
    Done(Bytes),
}

/// What a viewer that asks gets.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// A record.
    Ready(Bytes),
    /// The result of this job.
    Awaited(JobId),
}

impl Cache {
    /// The record for `area` as it is now, and the job to run if nobody has asked before.
    pub(crate) fn request(
        &mut self,
        plane: &Plane,
        area: Rect,
        coding: Coding,
    ) -> (Content, Option<EncodeJob>) {
        let edges = [area.left, area.top, area.right, area.bottom];
        let key = Key { revision: plane.revision(&area), edges, coding };
        match self.entries.get(&key) {
            Some(Entry::Done(bytes)) => return (Content::Ready(bytes.clone()), None),
            Some(Entry::Running(id)) => return (Content::Awaited(*id), None),
            None => {}
        }
        let id = self.next_job();
        self.entries.insert(key, Entry::Running(id));
        self.running.insert(id, key);
        let job = EncodeJob::image(id, area, coding, plane.read(&area));
        (Content::Awaited(id), Some(job))
    }

    /// The number of a job that is to be run.
    pub(crate) const fn next_job(&mut self) -> JobId {
        let id = JobId(self.next);
        self.next += 1;
        id
    }

    /// Takes a result, for so many viewers; `None` for a job that is not under way.
    pub(crate) fn finish(&mut self, id: JobId, encoded: Encoded, viewers: usize) -> Option<Bytes> {
        let key = self.running.remove(&id)?;
        let bytes = encoded.0;
        self.bytes += bytes.len();
        self.entries.insert(key, Entry::Done(bytes.clone()));
        self.done.push_back(key);
        self.shrink(if viewers > 1 { BYTES_MAX } else { BYTES_ALONE_MAX });
        Some(bytes)
    }

    /// Forgets all results: nobody has drawn or looked for a while.
    pub(crate) fn rest(&mut self) {
        self.shrink(0);
        self.done.shrink_to_fit();
    }

    /// The oldest results go until the others have no more bytes than this.
    fn shrink(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max || self.done.len() > RESULTS_MAX {
            let Some(oldest) = self.done.pop_front() else { break };
            if let Some(Entry::Done(bytes)) = self.entries.remove(&oldest) {
                self.bytes -= bytes.len();
            }
        }
    }

    /// There will be no result of a job.
    pub(crate) fn lost(&mut self, id: JobId) {
        if let Some(key) = self.running.remove(&id) {
            self.entries.remove(&key);
        }
    }

    /// Whether more jobs may be started.
    pub(crate) fn has_room(&self) -> bool {
        self.running.len() < JOBS_MAX
    }
}
