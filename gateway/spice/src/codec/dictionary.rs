//! The images that later GLZ images of one session refer to (spice-gtk, `decode-glz.c`).
//!
//! ```text
//!   released  │ held, without a gap   gap   held, ahead of it
//!             oldest ............ next  ┊  ............ ahead
//! ```
//!
//! The server numbers the images of all display channels from 0 on; each says how far back its
//! own window begins. Channels run side by side, so images arrive out of order: what is before
//! the window is released only once no image is missing before it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::Size;
use crate::channel::too_large;
use crate::error::SpiceError;

const WHAT: &str = "glz image";
/// How many windows are held at most: one, and what channels may be ahead of the slowest.
const WINDOWS_MAX: u64 = 4;
/// Images held at most, however small: an empty one costs some hundred bytes.
const IMAGES_MAX: usize = 1 << 18;

/// The GLZ dictionary of one session: every display channel of it gets a clone, and a new session
/// (another link of the main channel) a new one, since the server begins to count anew.
///
/// A channel whose image refers to one that another channel is still to bring stands still, and
/// [`crate::DisplayChannel::awaited_image`] tells which it is.
#[derive(Clone, Debug)]
pub struct GlzDictionary {
    window_pixels: u32,
    window: Arc<Mutex<Window>>,
}

#[derive(Debug, Default)]
struct Window {
    images: BTreeMap<u64, Held>,
    pixels: u64,
    /// The lowest number that has not come.
    next: u64,
}

#[derive(Debug)]
struct Held {
    /// Blue, green, red, alpha, in the order in which they were packed.
    pixels: Bytes,
    /// The first image that this one and its channel's later ones may refer to.
    window_start: u64,
}

/// Where an image is.
#[derive(Debug)]
pub(super) enum Found {
    Here(Bytes),
    /// No channel has brought it.
    Coming,
    /// It was released, or its number was skipped.
    Gone,
}

/// What became of an image that was to be held.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    Yes,
    /// The dictionary is full until this image comes.
    Awaits(u64),
}

impl GlzDictionary {
    /// A dictionary for a window of so many pixels, which is announced to the server; it holds up
    /// to four times as many, of 4 bytes.
    pub fn new(window_pixels: u32) -> Self {
        // The wire has an i32.
        let window_pixels = window_pixels.min(i32::MAX.unsigned_abs());
        Self { window_pixels, window: Arc::default() }
    }

    /// Size of the window.
    pub const fn window_pixels(&self) -> u32 {
        self.window_pixels
    }

    pub(super) fn find(&self, id: u64) -> Found {
        let window = self.lock();
        match window.images.get(&id) {
            Some(held) => Found::Here(held.pixels.clone()),
            None if id >= window.next => Found::Coming,
            None => Found::Gone,
        }
    }

    /// Whether this image has come, though it may be released again.
    pub(crate) fn has_seen(&self, id: u64) -> bool {
        let window = self.lock();
        id < window.next || window.images.contains_key(&id)
    }

    /// Refuses an image that is too large for any server to have put it into the window.
    pub(super) fn check_size(&self, size: Size) -> Result<(), SpiceError> {
        let area = u64::from(size.width) * u64::from(size.height);
        let limit = u64::from(self.window_pixels);
        if area > limit {
            let what = "image for the glz dictionary, in pixels,";
            return Err(SpiceError::TooLarge { what, value: area, limit });
        }
        Ok(())
    }

    /// Holds image `id`, whose window begins `head_distance` images before it.
    pub(super) fn add(
        &self,
        id: u64,
        head_distance: u32,
        pixels: Bytes,
    ) -> Result<Added, SpiceError> {
        let Some(window_start) = id.checked_sub(u64::from(head_distance)) else {
            let problem = "its window begins before the first image";
            return Err(SpiceError::Malformed { what: WHAT, problem });
        };
        let limit = u64::from(self.window_pixels).saturating_mul(WINDOWS_MAX);
        let mut window = self.lock();
        if id < window.next || window.images.contains_key(&id) {
            let problem = "its number was used before";
            return Err(SpiceError::Malformed { what: WHAT, problem });
        }
        let full = |pixels| window.pixels.saturating_add(pixels) > limit;
        if id != window.next && (full(area(&pixels)) || window.images.len() >= IMAGES_MAX) {
            return Ok(Added::Awaits(window.next));
        }
        window.hold(id, Held { pixels, window_start });
        if window.pixels > limit {
            let (what, value) = ("glz dictionary in pixels", window.pixels);
            return Err(SpiceError::TooLarge { what, value, limit });
        }
        if window.images.len() > IMAGES_MAX {
            let value = u64::try_from(window.images.len()).unwrap_or(u64::MAX);
            return Err(too_large("glz dictionary in images", value, IMAGES_MAX));
        }
        Ok(Added::Yes)
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        // Whoever panicked left a window that is whole: it is changed in one go.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Window {
    /// Takes an image, and releases what no image can refer to any more.
    fn hold(&mut self, id: u64, image: Held) {
        self.pixels = self.pixels.saturating_add(area(&image.pixels));
        self.images.insert(id, image);
        let mut start = None;
        while let Some(image) = self.images.get(&self.next) {
            start = Some(image.window_start);
            let Some(next) = self.next.checked_add(1) else { break };
            self.next = next;
        }
        if let Some(start) = start {
            while let Some(oldest) = self.images.first_entry()
                && *oldest.key() < start
            {
                let released = area(&oldest.remove().pixels);
                self.pixels = self.pixels.saturating_sub(released);
            }
        }
    }
}

fn area(pixels: &Bytes) -> u64 {
    u64::try_from(pixels.len() / 4).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(dictionary: &GlzDictionary, id: u64, head: u32, pixels: usize) -> Added {
        dictionary.add(id, head, vec![0; 4 * pixels].into()).unwrap()
    }

    #[test]
    fn images_are_released_in_order_however_they_come() {
        let dictionary = GlzDictionary::new(10);
        assert_eq!(add(&dictionary, 0, 0, 5), Added::Yes);
        assert_eq!(add(&dictionary, 2, 0, 5), Added::Yes);
        // 2 does not need 0, but 1 may.
        assert!(matches!(dictionary.find(0), Found::Here(_)));
        assert!(matches!(dictionary.find(1), Found::Coming));
        assert_eq!(add(&dictionary, 1, 1, 5), Added::Yes);
        assert!(matches!(dictionary.find(0), Found::Gone));
        assert!(matches!(dictionary.find(1), Found::Gone));
        assert!(dictionary.has_seen(2));
        assert_eq!(dictionary.lock().pixels, 5);
    }

    #[test]
    fn a_full_dictionary_waits_for_the_image_that_is_missing() {
        let dictionary = GlzDictionary::new(10);
        for id in 1..=4 {
            assert_eq!(add(&dictionary, id, 0, 10), Added::Yes);
        }
        assert_eq!(add(&dictionary, 5, 0, 1), Added::Awaits(0));
        assert_eq!(add(&dictionary.clone(), 0, 0, 0), Added::Yes);
        assert_eq!(add(&dictionary, 5, 0, 1), Added::Yes);
        assert_eq!(dictionary.lock().pixels, 1);
    }

    #[test]
    fn a_server_that_overfills_the_window_is_refused() {
        let dictionary = GlzDictionary::new(10);
        let pixels = || Bytes::from(vec![0; 40]);
        let refused =
            (0..9).find(|id| dictionary.add(*id, u32::try_from(*id).unwrap(), pixels()).is_err());
        assert_eq!(refused, Some(4));
        assert!(dictionary.add(4, 0, pixels()).is_err(), "4 was there");
        assert!(dictionary.add(7, 8, pixels()).is_err(), "before the first image");
        assert!(dictionary.check_size(Size::new(11, 1).unwrap()).is_err());
    }

    #[test]
    fn tiny_images_without_end_are_refused() {
        let dictionary = GlzDictionary::new(u32::MAX);
        let pixel = Bytes::from_static(&[0; 4]);
        let refused =
            (0_u32..).find(|id| dictionary.add((*id).into(), *id, pixel.clone()).is_err());
        assert_eq!(refused, u32::try_from(IMAGES_MAX).ok());
    }

    #[test]
    fn the_last_number_of_all_does_no_harm() {
        let dictionary = GlzDictionary::new(10);
        assert_eq!(add(&dictionary, u64::MAX, 1, 1), Added::Yes);
        dictionary.lock().next = u64::MAX - 1;
        assert_eq!(add(&dictionary, u64::MAX - 1, 1, 1), Added::Yes);
        assert!(dictionary.has_seen(u64::MAX));
    }
}
