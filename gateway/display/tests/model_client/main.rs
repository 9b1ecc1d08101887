//! Whatever a guest draws, and however slowly bytes, jobs and acknowledgements move, each viewer
//! ends with the guest's picture, and shows at each frame end what the guest showed at one moment.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::indexing_slicing, reason = "a failed index is a failed test")]
#![expect(clippy::panic, reason = "a panic is a failed test")]

mod client;
mod economy;
mod flow;
mod found;
mod guest;
mod picture;
mod world;

use proptest::prelude::*;

use crate::guest::{Step, steps};
use crate::world::World;

proptest! {
    #[test]
    fn every_viewer_ends_with_the_guests_picture(
        steps in proptest::collection::vec(steps(), 1..120),
    ) {
        every_viewer_ends_equal(steps);
    }
}

/// What the property says, of these steps.
pub(crate) fn every_viewer_ends_equal(steps: impl IntoIterator<Item = Step>) {
    let mut world = World::new();
    world.step(Step::Join { webp: true, h264: true, slots: 40 });
    for step in steps {
        world.step(step);
    }
    world.settle();
    world.assert_equal();
    // One that comes to a quiet session gets the same.
    world.clients.truncate(2);
    world.join(false, false, 3);
    world.settle();
    world.assert_equal();
}
