//! The one owner of the world: takes changes in one order, makes each durable, publishes snapshots.
//!
//! ```text
//!  rpc ──Change──▶ queue ─▶ decide on a draft ─▶ group commit (fenced) ─▶ publish ─▶ answer
//!                              ▲                      │ failed: drop the draft, refuse
//!                     settle ──┘ (plans, until nothing is left to do)
//! ```

mod auditing;
mod calling;
mod commit;
mod copy;
mod counting;
mod handle;
mod leader;
mod live;
mod load;
mod look;
mod round;

pub use calling::Call;
pub use handle::{CHANGES_QUEUED_MAX, Handle, Standing};
pub use leader::{FirstLead, Own, StartError, stand_by, start};
