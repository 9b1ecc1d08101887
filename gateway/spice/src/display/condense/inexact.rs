//! What the client has only roughly: each place with the picture that belongs there.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::geometry::Rect;

use super::effect::Put;

/// Bytes of pictures that are kept for later: eight of 1920 x 1080.
const BYTES_MAX: usize = 64 << 20;
/// Pictures at once: a moving area of 3840 x 2160 in slivers 32 pixels wide, four times.
const PLACES_MAX: usize = 512;
/// Rectangles of what is left of one picture; beyond, it is made exact.
const RECTS_MAX: usize = 64;
/// Bytes of images that the server believes to be in the client's cache and that are kept here in
/// their place: twice the cache that our clients announce.
const CACHE_BYTES_MAX: usize = 16 << 20;

/// What is to be made exact sooner or later.
#[derive(Debug, Default)]
pub(super) struct Inexact {
    /// INVARIANT: the oldest first.
    places: VecDeque<Place>,
    bytes: usize,
    /// Images by their numbers.
    cache: BTreeMap<u64, Put>,
    cache_bytes: usize,
}

/// A picture whose pixels at `rects` the client has roughly.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) put: Put,
    pub(super) rects: Vec<Rect>,
    since: Duration,
}

impl Inexact {
    /// Whether there is room for an image in place of the client's cache.
    pub(super) fn can_keep(&self, put: &Put) -> bool {
        !put.is_cached() || self.cache_bytes + put.bytes() <= CACHE_BYTES_MAX
    }

    /// Keeps a picture that was sent roughly; those that there is no room for any more come back.
    pub(super) fn add(&mut self, put: &Put, now: Duration) -> Vec<Place> {
        if put.is_cached() {
            self.forget(put.id);
            self.cache_bytes += put.bytes();
            self.cache.insert(put.id, put.clone());
        }
        self.bytes += put.bytes();
        let rects = put.rects.clone();
        self.places.push_back(Place { put: put.clone(), rects, since: now });
        let mut over = Vec::new();
        while self.bytes > BYTES_MAX || self.places.len() > PLACES_MAX {
            let Some(place) = self.places.pop_front() else { break };
            self.bytes -= place.put.bytes();
            over.push(place);
        }
        over
    }

    /// Other pixels are at these rectangles now; what has become too ragged comes back.
    pub(super) fn replaced(&mut self, rects: &[Rect]) -> Vec<Place> {
        for place in &mut self.places {
            for rect in rects {
                if place.meets(rect) {
                    place.rects = place.rects.iter().flat_map(|old| without(old, rect)).collect();
                }
            }
        }
        self.take(|place| place.rects.is_empty());
        self.take(|place| place.rects.len() > RECTS_MAX)
    }

    /// What touches these rectangles: it is to be exact now.
    pub(super) fn touching(&mut self, rects: &[Rect]) -> Vec<Place> {
        self.take(|place| rects.iter().any(|rect| place.meets(rect)))
    }

    /// What nobody has changed since this moment.
    pub(super) fn before(&mut self, moment: Duration) -> Vec<Place> {
        self.take(|place| place.since <= moment)
    }

    /// Everything.
    pub(super) fn all(&mut self) -> Vec<Place> {
        self.take(|_place| true)
    }

    /// Since when the oldest is inexact.
    pub(super) fn since(&self) -> Option<Duration> {
        self.places.front().map(|place| place.since)
    }

    /// Takes out the image that the client lacks although the server believes otherwise: it gets it now,
    /// or another of its number, or the server has given it up.
    pub(super) fn forget(&mut self, image: u64) -> Option<Put> {
        let put = self.cache.remove(&image)?;
        self.cache_bytes -= put.bytes();
        Some(put)
    }

    /// All of these.
    pub(super) fn forget_all(&mut self) -> Vec<Put> {
        self.cache_bytes = 0;
        std::mem::take(&mut self.cache).into_values().collect()
    }

    fn take(&mut self, is_wanted: impl Fn(&Place) -> bool) -> Vec<Place> {
        let mut taken = Vec::new();
        if !self.places.iter().any(&is_wanted) {
            return taken;
        }
        for place in std::mem::take(&mut self.places) {
            if is_wanted(&place) {
                self.bytes -= place.put.bytes();
                taken.push(place);
            } else {
                self.places.push_back(place);
            }
        }
        taken
    }
}

impl Place {
    fn meets(&self, rect: &Rect) -> bool {
        self.rects.iter().any(|own| !own.intersect(rect).is_empty())
    }
}

/// What is left of a rectangle without another one.
fn without(rect: &Rect, hole: &Rect) -> impl Iterator<Item = Rect> + use<> {
    let inner = rect.intersect(hole);
    let parts = match inner.is_empty() {
        true => [*rect, Rect::default(), Rect::default(), Rect::default()],
        false => [
            Rect { bottom: inner.top, ..*rect },
            Rect { top: inner.bottom, ..*rect },
            Rect { right: inner.left, top: inner.top, bottom: inner.bottom, ..*rect },
            Rect { left: inner.right, top: inner.top, bottom: inner.bottom, ..*rect },
        ],
    };
    parts.into_iter().filter(|part| !part.is_empty())
}
