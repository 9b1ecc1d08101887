//! What the agent remembers of a desktop it was told of.

/// One desktop's record in the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Last generation that was wanted.
    pub generation: u64,
    /// Starts so far on this host; never goes down, so no start is taken for another.
    pub start_count: u64,
    /// Generation of the last start that worked; 0: none.
    pub started_generation: u64,
    /// The start that became ready; 0: none.
    pub ready_start: u64,
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
    /// Takes over what a running domain says of itself; true when that changes something.
    pub fn adopt(&mut self, generation: u64, start_count: u64) -> bool {
        let before = (self.start_count, self.started_generation);
        self.start_count = self.start_count.max(start_count);
        self.started_generation = self.started_generation.max(generation);
        before != (self.start_count, self.started_generation)
    }

    /// It was started here, or that was tried: its disk was made and has what its user did.
    pub const fn has_disk(&self) -> bool {
        0 < self.started_generation || 0 < self.start_count
    }

    /// Its disk is being removed: what comes after, if anything does, begins with a new one.
    pub fn lose_disk(&mut self) {
        *self = Self { generation: self.generation, ..Self::default() };
    }

    /// The failure, when it is of this generation.
    pub fn failure_of(&self, generation: u64) -> Option<&str> {
        let failure = self.failure.as_ref().filter(|failure| failure.generation == generation);
        failure.map(|failure| failure.reason.as_str())
    }
}
