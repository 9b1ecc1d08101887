//! Deliberate faults, one for each thing that the fleet simulation checks: they check the checker.
//! Without the cargo feature `mutants` there are none, and [`on`] is `false` when it is compiled.

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A desktop whose host is silent is placed on another one.
    SilenceIsDeath,
    /// Placement does not look at the memory that is charged already.
    ChargesNothing,
    /// A click claims a desktop that a session of the same user holds already.
    ClaimsTwice,
    /// A floating desktop is free again after its user.
    HandsOn,
    /// The operations of a desktop that is gone go on.
    OperationsGoOn,
    /// A desktop is taken to be gone before its host has said so.
    GoneAtOnce,
    /// The interval of a desktop that is gone stays open.
    IntervalStaysOpen,
    /// A pool makes no new desktops.
    NoRefill,
    /// A pool makes desktops without looking at its maximum.
    RefillOverMax,
    /// A desktop that is unassigned stays in its pool.
    StaysInPool,
    /// What a host is told changes without a new generation.
    GenerationKept,
    /// The end of a desktop is no news to those who watch.
    EndUnseen,
    /// Nobody looks at tenants' quotas.
    IgnoresQuota,
    /// A roll-out brings its version to all desktops at once.
    RolloutAtOnce,
    /// A block of the audit log does not have the hash of the one before.
    Unchained,
    /// A commit does not expect that its controller still leads.
    Unfenced,
}

impl Mutant {
    /// Every one.
    pub const ALL: [Self; 16] = [
        Self::SilenceIsDeath,
        Self::ChargesNothing,
        Self::ClaimsTwice,
        Self::HandsOn,
        Self::OperationsGoOn,
        Self::GoneAtOnce,
        Self::IntervalStaysOpen,
        Self::NoRefill,
        Self::RefillOverMax,
        Self::StaysInPool,
        Self::GenerationKept,
        Self::EndUnseen,
        Self::IgnoresQuota,
        Self::RolloutAtOnce,
        Self::Unchained,
        Self::Unfenced,
    ];
}

/// Whether this fault is to be made.
#[cfg(not(feature = "mutants"))]
#[inline]
pub const fn on(_mutant: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
pub use chosen::{choose, on};

#[cfg(feature = "mutants")]
mod chosen {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static CHOSEN: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Makes this fault, or none, in everything that this thread runs from now on.
    pub fn choose(mutant: Option<Mutant>) {
        CHOSEN.set(mutant);
    }

    /// Whether this fault is to be made.
    pub fn on(mutant: Mutant) -> bool {
        CHOSEN.get() == Some(mutant)
    }
}
