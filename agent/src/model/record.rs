//! What the agent remembers of a desktop it was told of.

use uuid::Uuid;

/// One desktop's record in the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Last generation that was wanted.
    pub generation: u64,
    /// Starts that were begun on this host; never goes down, so no start is taken for another.
    pub start_count: u64,
    /// Generation of the last start that worked; 0: none.
    pub started_generation: u64,
    /// Number of the last start that worked; 0: none.
    pub started: u64,
    /// Boot of the machine in which that was; nil: not known.
    pub started_boot: Uuid,
    /// The last start of which this journal saw the beginning; 0: none. What came before may have been
    /// forgotten: whether it ever was ready is not known.
    pub begun_start: u64,
    /// The start that became ready; 0: none.
    pub ready_start: u64,
    /// The start that was ended because its guest did not become ready; 0: none.
    pub unready_start: u64,
    /// The start that its own guest shut down; 0: none.
    pub guest_off_start: u64,
    /// Starts in a row that ended without anybody wanting it.
    pub unwanted_ends: u32,
    /// The last start that is counted in `unwanted_ends`.
    pub counted_start: u64,
    /// A start that failed; holds for its generation.
    pub failure: Option<Failure>,
}

/// Why a start failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The generation that was tried.
    pub generation: u64,
    /// A sentence for people.
    pub reason: String,
}

impl Record {
    /// Takes over what a domain that runs in this boot says of itself.
    pub fn adopt(&mut self, generation: u64, start_count: u64, boot: Uuid) {
        self.start_count = self.start_count.max(start_count);
        // A newer start may be of an older generation: a controller was restored from a backup.
        let older = if self.started < start_count { 0 } else { self.started_generation };
        self.started_generation = older.max(generation);
        if self.started <= start_count {
            self.started = start_count;
            self.started_boot = boot;
        }
    }

    /// It was started here, or that was tried: its disk was made and has what its user did.
    pub const fn has_disk(&self) -> bool {
        0 < self.started_generation || 0 < self.start_count
    }

    /// Its disk is being removed: what comes after, if anything does, begins with a new one.
    pub fn lose_disk(&mut self) {
        *self = Self { generation: self.generation, ..Self::default() };
    }

    /// Its guest shut its last start down.
    pub const fn is_off_by_guest(&self) -> bool {
        0 < self.started && self.guest_off_start == self.started
    }

    /// Ends in a row that nobody wanted, when its last start has ended like that, too.
    pub const fn ends_with_last(&self) -> u32 {
        if self.counted_start == self.started {
            self.unwanted_ends
        } else {
            self.unwanted_ends.saturating_add(1)
        }
    }

    /// Its last start was ended because its guest did not become ready.
    pub const fn was_unready(&self) -> bool {
        0 < self.started && self.unready_start == self.started && self.ready_start != self.started
    }

    /// The failure, when it is of this generation.
    pub fn failure_of(&self, generation: u64) -> Option<&str> {
        let failure = self.failure.as_ref().filter(|failure| failure.generation == generation);
        failure.map(|failure| failure.reason.as_str())
    }
}
