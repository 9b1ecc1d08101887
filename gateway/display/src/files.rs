//! Files of viewers on their way into the guest: who may, how many, how fast.
//!
//! ```text
//!   viewer's start ─SendFile─▶ guest's agent ─Ready─▶ room ─▶ viewer's data ─FileData─▶ agent
//!                                             ▲                                          │
//!                                             └──────────────── Taken ◀──────────────────┘
//! ```
//!
//! Nothing of a file is held here: its parts go through, and the room that a browser is given ends
//! where the guest's agent stands plus one window.

use std::collections::{BTreeMap, VecDeque};

use vidi_spice::{FILE_WINDOW_BYTES, FILES_MAX, FileFailure, FileOffer, FileStatus};

use crate::clipboard::AgentCommand;
use crate::protocol::FileMessage;
use crate::protocol::media::{Denial, TransferState, put_transfer};
use crate::session::ViewerId;

/// Ends that wait to be told to one viewer; a browser with so many at once loses the oldest.
const ENDS_MAX: usize = 64;
/// A browser is told of new room when there is so much more of it: eight records for each window.
const ROOM_STEP: u64 = FILE_WINDOW_BYTES / 8;

/// All files of a session.
#[derive(Debug)]
pub(crate) struct Files {
    allowed: bool,
    /// The agent is there and can.
    has_agent: bool,
    /// By the number that the agent has. INVARIANT: at most [`FILES_MAX`].
    open: BTreeMap<u32, Transfer>,
    next: u32,
    commands: VecDeque<AgentCommand>,
    /// INVARIANT: at most [`ENDS_MAX`] for each viewer.
    ends: BTreeMap<ViewerId, VecDeque<(u32, TransferState)>>,
}

#[derive(Debug)]
struct Transfer {
    viewer: ViewerId,
    /// The browser's number.
    file: u32,
    size: u64,
    /// INVARIANT: taken <= received <= room, and received <= size.
    received: u64,
    taken: u64,
    room: u64,
    /// The room that the browser was told of.
    told: u64,
    is_due: bool,
}

impl Files {
    pub(crate) const fn new(allowed: bool) -> Self {
        Self {
            allowed,
            has_agent: false,
            open: BTreeMap::new(),
            next: 1,
            commands: VecDeque::new(),
            ends: BTreeMap::new(),
        }
    }

    /// Whether viewers can put files into the guest.
    pub(crate) const fn is_offered(&self) -> bool {
        self.allowed && self.has_agent
    }

    pub(crate) fn allow(&mut self, allowed: bool) {
        self.allowed = allowed;
        if !allowed {
            self.end_all(Denial::Policy);
        }
    }

    /// The guest's agent takes files, or none any more.
    pub(crate) fn agent(&mut self, takes_files: bool) {
        self.has_agent = takes_files;
        if !takes_files {
            self.end_all(Denial::Guest(FileFailure::AgentGone));
            self.commands.clear();
        }
    }

    /// Takes a record of a viewer with control.
    pub(crate) fn message(&mut self, viewer: ViewerId, message: &FileMessage) {
        match message {
            FileMessage::Start { file, size, name } => self.start(viewer, *file, *size, name),
            FileMessage::Data { file, data } => {
                let Some(id) = self.find(viewer, *file) else { return };
                let Some(transfer) = self.open.get_mut(&id) else { return };
                let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
                let received = transfer.received.saturating_add(length);
                if transfer.size.min(transfer.room) < received {
                    self.give_up(id, Denial::Guest(FileFailure::Broken));
                    return;
                }
                transfer.received = received;
                self.commands.push_back(AgentCommand::FileData { id, data: data.clone() });
            }
            FileMessage::Cancel { file } => {
                if let Some(id) = self.find(viewer, *file) {
                    self.open.remove(&id);
                    self.cancel(id);
                }
            }
        }
    }

    /// How a file gets on in the guest.
    pub(crate) fn status(&mut self, id: u32, status: FileStatus) {
        let Some(transfer) = self.open.get_mut(&id) else { return };
        match status {
            FileStatus::Ready => {
                transfer.room = FILE_WINDOW_BYTES;
                transfer.is_due = true;
            }
            FileStatus::Taken(taken) => {
                transfer.taken = taken.min(transfer.received);
                transfer.room = transfer.taken.saturating_add(FILE_WINDOW_BYTES);
                transfer.is_due |=
                    ROOM_STEP <= transfer.room - transfer.told || transfer.taken == transfer.size;
            }
            FileStatus::Done => {
                let size = transfer.size;
                self.end(id, TransferState::Done { size });
            }
            FileStatus::Failed(why) => {
                let (taken, why) = (transfer.taken, Denial::Guest(why));
                self.end(id, TransferState::Failed { taken, why });
            }
        }
    }

    /// The viewer is gone, or may no longer.
    pub(crate) fn remove_viewer(&mut self, viewer: ViewerId) {
        self.ends.remove(&viewer);
        let its = |transfer: &Transfer| transfer.viewer == viewer;
        let gone: Vec<u32> =
            self.open.iter().filter(|(_, transfer)| its(transfer)).map(|(id, _)| *id).collect();
        for id in gone {
            self.open.remove(&id);
            self.cancel(id);
        }
    }

    /// The next thing for the agent.
    pub(crate) fn next(&mut self) -> Option<AgentCommand> {
        self.commands.pop_front()
    }

    /// Whether there is something to tell a viewer.
    pub(crate) fn has_news(&self, viewer: ViewerId) -> bool {
        self.ends.contains_key(&viewer)
            || self.open.values().any(|transfer| transfer.is_due && transfer.viewer == viewer)
    }

    /// Writes what is new for a viewer, the newest of each file.
    pub(crate) fn write(&mut self, viewer: ViewerId, out: &mut Vec<u8>) {
        for (file, state) in self.ends.remove(&viewer).into_iter().flatten() {
            put_transfer(file, state, out);
        }
        let its = self.open.values_mut().filter(|transfer| transfer.viewer == viewer);
        for transfer in its.filter(|transfer| transfer.is_due) {
            let Transfer { file, taken, room, .. } = *transfer;
            put_transfer(file, TransferState::Open { taken, room }, out);
            transfer.told = room;
            transfer.is_due = false;
        }
    }

    fn start(&mut self, viewer: ViewerId, file: u32, size: u64, name: &str) {
        let denial = if !self.allowed {
            Some(Denial::Policy)
        } else if !self.has_agent {
            Some(Denial::Guest(FileFailure::Disabled))
        } else if FILES_MAX <= self.open.len() {
            Some(Denial::Guest(FileFailure::TooMany))
        } else if self.find(viewer, file).is_some() {
            Some(Denial::Guest(FileFailure::Broken))
        } else {
            None
        };
        if let Some(why) = denial {
            self.tell_end(viewer, file, TransferState::Failed { taken: 0, why });
            return;
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let transfer =
            Transfer { viewer, file, size, received: 0, taken: 0, room: 0, told: 0, is_due: false };
        self.open.insert(id, transfer);
        let offer = FileOffer { id, name: name.to_owned(), size };
        self.commands.push_back(AgentCommand::SendFile(offer));
    }

    fn find(&self, viewer: ViewerId, file: u32) -> Option<u32> {
        let mut open = self.open.iter();
        open.find(|(_, held)| held.viewer == viewer && held.file == file).map(|(id, _)| *id)
    }

    fn give_up(&mut self, id: u32, why: Denial) {
        let taken = self.open.get(&id).map_or(0, |transfer| transfer.taken);
        self.end(id, TransferState::Failed { taken, why });
        self.cancel(id);
    }

    /// The agent is told; what waits for it of the file is not.
    fn cancel(&mut self, id: u32) {
        self.commands.retain(
            |command| !matches!(command, AgentCommand::FileData { id: other, .. } if *other == id),
        );
        self.commands.push_back(AgentCommand::CancelFile(id));
    }

    fn end(&mut self, id: u32, state: TransferState) {
        if let Some(Transfer { viewer, file, .. }) = self.open.remove(&id) {
            self.tell_end(viewer, file, state);
        }
    }

    fn end_all(&mut self, why: Denial) {
        let ids: Vec<u32> = self.open.keys().copied().collect();
        for id in ids {
            self.give_up(id, why);
        }
    }

    fn tell_end(&mut self, viewer: ViewerId, file: u32, state: TransferState) {
        let ends = self.ends.entry(viewer).or_default();
        if ENDS_MAX <= ends.len() {
            ends.pop_front();
        }
        ends.push_back((file, state));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    const ANA: ViewerId = ViewerId(1);
    const BEA: ViewerId = ViewerId(2);

    fn files() -> Files {
        let mut files = Files::new(true);
        files.agent(true);
        files
    }

    fn start(file: u32, size: u64) -> FileMessage {
        FileMessage::Start { file, size, name: "a".to_owned() }
    }

    fn data(file: u32, bytes: usize) -> FileMessage {
        FileMessage::Data { file, data: vec![7; bytes].into() }
    }

    /// File, state, reason, taken, room of each record.
    fn told(files: &mut Files, viewer: ViewerId) -> Vec<(u8, u8, u8, u64, u64)> {
        let had_news = files.has_news(viewer);
        let mut out = Vec::new();
        files.write(viewer, &mut out);
        assert_eq!(had_news, !out.is_empty());
        out.chunks(32)
            .map(|record| {
                let number = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().unwrap());
                (record[8], record[12], record[13], number(16), number(24))
            })
            .collect()
    }

    fn commands(files: &mut Files) -> Vec<String> {
        std::iter::from_fn(|| files.next()).map(|command| format!("{command:?}")).collect()
    }

    #[test]
    fn a_file_goes_through_at_the_guests_pace() {
        let mut files = files();
        files.message(ANA, &start(9, 300_000));
        assert_eq!(commands(&mut files), ["SendFile(file 1 of 300000 bytes)"]);
        assert_eq!(told(&mut files, ANA), [], "nothing before the agent has said so");
        files.status(1, FileStatus::Ready);
        assert_eq!(told(&mut files, ANA), [(9, 1, 0, 0, 262_144)]);
        assert_eq!(told(&mut files, BEA), []);
        for _part in 0..4 {
            files.message(ANA, &data(9, 60_000));
        }
        assert_eq!(commands(&mut files).len(), 4);
        files.status(1, FileStatus::Taken(20_000));
        assert_eq!(told(&mut files, ANA), [], "a little more room is not worth a word");
        files.status(1, FileStatus::Taken(240_000));
        assert_eq!(told(&mut files, ANA), [(9, 1, 0, 240_000, 502_144)]);
        files.message(ANA, &data(9, 60_000));
        files.status(1, FileStatus::Taken(300_000));
        files.status(1, FileStatus::Done);
        assert_eq!(told(&mut files, ANA), [(9, 2, 0, 300_000, 300_000)]);
        assert!(files.open.is_empty());
    }

    #[test]
    fn more_than_the_room_or_the_size_ends_the_file() {
        let mut files = files();
        files.message(ANA, &start(1, 1 << 40));
        files.message(ANA, &data(1, 1));
        assert_eq!(told(&mut files, ANA), [(1, 3, 8, 0, 0)], "before there was any room");
        assert_eq!(
            commands(&mut files),
            ["SendFile(file 1 of 1099511627776 bytes)", "CancelFile(1)"]
        );
        files.message(ANA, &start(2, 5));
        files.status(2, FileStatus::Ready);
        files.message(ANA, &data(2, 6));
        assert_eq!(told(&mut files, ANA), [(2, 3, 8, 0, 0)]);
        files.message(ANA, &data(2, 1));
        assert_eq!(told(&mut files, ANA), []);
    }

    #[test]
    fn what_is_not_allowed_not_possible_or_too_much_is_refused_with_its_reason() {
        let mut files = Files::new(false);
        files.message(ANA, &start(1, 5));
        assert_eq!(told(&mut files, ANA), [(1, 3, 5, 0, 0)]);
        files.allow(true);
        files.message(ANA, &start(2, 5));
        assert_eq!(told(&mut files, ANA), [(2, 3, 4, 0, 0)]);
        files.agent(true);
        for file in 0..5 {
            files.message(ANA, &start(file, 5));
        }
        assert_eq!(told(&mut files, ANA), [(4, 3, 6, 0, 0)]);
        files.allow(false);
        let reasons: Vec<_> = told(&mut files, ANA).iter().map(|told| told.2).collect();
        assert_eq!(reasons, [5; 4]);
        let cancelled = commands(&mut files);
        assert_eq!(cancelled.iter().filter(|command| command.starts_with("Cancel")).count(), 4);
        for file in 0..1000 {
            files.message(ANA, &start(file, 5));
        }
        assert_eq!(told(&mut files, ANA).len(), ENDS_MAX, "a flood is not remembered");
    }

    #[test]
    fn every_end_is_told_and_a_viewer_that_goes_cancels() {
        let mut files = files();
        for file in 0..4 {
            files.message(if file < 2 { ANA } else { BEA }, &start(file, 5));
        }
        commands(&mut files);
        files.status(1, FileStatus::Failed(FileFailure::NoRoom(4096)));
        assert_eq!(told(&mut files, ANA), [(0, 3, 1, 0, 4096)]);
        files.status(2, FileStatus::Ready);
        files.message(ANA, &data(1, 3));
        files.remove_viewer(ANA);
        assert_eq!(commands(&mut files), ["CancelFile(2)"], "and not its data");
        files.message(BEA, &FileMessage::Cancel { file: 2 });
        assert_eq!(commands(&mut files), ["CancelFile(3)"]);
        assert_eq!(told(&mut files, BEA), [], "who cancels need not be told");
        files.agent(false);
        assert_eq!(told(&mut files, BEA), [(3, 3, 7, 0, 0)]);
        assert_eq!(commands(&mut files), [""; 0], "there is nobody to tell");
    }

    proptest! {
        #[test]
        fn no_more_than_a_window_is_ever_between_browser_and_guest(
            steps in proptest::collection::vec((0..6_u8, 0..4_u32, 0..70_000_usize), 1..200),
        ) {
            let mut files = files();
            // What the agent has been handed and has taken, by its number.
            let mut agent: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
            for (step, file, bytes) in steps {
                let size = u64::try_from(bytes).unwrap();
                match step {
                    0 => files.message(ANA, &start(file, 100 * size)),
                    1 | 2 => files.message(ANA, &FileMessage::Data { file, data: Bytes::from(vec![0; bytes]) }),
                    3 => files.message(ANA, &FileMessage::Cancel { file }),
                    4 => agent.keys().for_each(|id| files.status(*id, FileStatus::Ready)),
                    _ => for (id, (handed, taken)) in &mut agent {
                        *taken = (*taken + size).min(*handed);
                        files.status(*id, FileStatus::Taken(*taken));
                    },
                }
                while let Some(command) = files.next() {
                    match command {
                        AgentCommand::SendFile(offer) => { agent.insert(offer.id, (0, 0)); }
                        AgentCommand::FileData { id, data } => {
                            let (handed, taken) = agent.get_mut(&id).unwrap();
                            *handed += u64::try_from(data.len()).unwrap();
                            prop_assert!(*handed - *taken <= FILE_WINDOW_BYTES);
                        }
                        AgentCommand::CancelFile(id) => prop_assert!(agent.remove(&id).is_some()),
                        other => panic!("{other:?}"),
                    }
                }
                prop_assert!(files.open.len() <= FILES_MAX);
                files.write(ANA, &mut Vec::new());
                prop_assert!(!files.has_news(ANA));
            }
        }
    }
}
