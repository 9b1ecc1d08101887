//! Notices that etcd knows less than it did: restored from an old backup, another cluster, or a fault.
//!
//! What is remembered outside of etcd is a small file of this controller, the mark: the id of the
//! cluster and the highest revision that was seen.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// What an answer of etcd says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// Id of the cluster.
    pub(super) cluster: u64,
    /// Revision at which it was answered.
    pub(super) revision: u64,
}

/// Why the mark cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum MarkError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is damaged")]
    Damaged,
    #[error("{0}")]
    OtherCluster(String),
}

/// What was seen of one cluster.
#[derive(Debug)]
pub(super) struct Guard {
    cluster: u64,
    highest: AtomicU64,
    mark: PathBuf,
    broken: watch::Sender<Option<String>>,
}

impl Guard {
    /// Reads the mark, or begins one.
    pub(super) fn open(mark: &Path, cluster: u64) -> Result<Self, MarkError> {
        let before = match std::fs::read_to_string(mark) {
            Ok(text) => read(&text).ok_or(MarkError::Damaged)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Seen { cluster, revision: 0 },
            Err(error) => return Err(error.into()),
        };
        if before.cluster != cluster {
            return Err(MarkError::OtherCluster(other_cluster(cluster, before.cluster)));
        }
        let highest = AtomicU64::new(before.revision);
        let (mark, broken) = (mark.to_owned(), watch::Sender::new(None));
        Ok(Self { cluster, highest, mark, broken })
    }

    /// Id of the cluster.
    pub(super) const fn cluster(&self) -> u64 {
        self.cluster
    }

    /// The highest revision that was seen. What is asked after this was read is answered at this
    /// revision or a later one.
    pub(super) fn highest(&self) -> u64 {
        self.highest.load(Ordering::SeqCst)
    }

    /// Takes notice of an answer to what was asked when `before` was the highest revision.
    pub(super) fn check(&self, before: u64, seen: Seen) -> Result<(), String> {
        if seen.cluster != self.cluster {
            return Err(other_cluster(seen.cluster, self.cluster));
        }
        if seen.revision < before {
            return Err(format!(
                "etcd is at revision {} and was at {before}: it was restored from an older backup, \
                 or it has lost data",
                seen.revision
            ));
        }
        self.highest.fetch_max(seen.revision, Ordering::SeqCst);
        Ok(())
    }

    /// Nothing can be decided on what this etcd says.
    pub(super) fn give_up(&self, why: &str) {
        tracing::error!(error = why, "etcd cannot be relied on any more");
        self.broken.send_replace(Some(why.to_owned()));
    }

    /// Turns to a reason when etcd cannot be relied on any more.
    pub(super) fn broken(&self) -> watch::Receiver<Option<String>> {
        self.broken.subscribe()
    }

    /// Writes the mark. Blocks.
    pub(super) fn save(&self) -> io::Result<()> {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _written = write!(text, "cluster {:x}\nrevision {}\n", self.cluster, self.highest());
        vidi_kit::files::write_atomically(&self.mark, text.as_bytes(), 0o600)
    }
}

fn other_cluster(now: u64, before: u64) -> String {
    format!(
        "this is cluster {now:x} of etcd and it was {before:x}: it was restored from a backup, or \
         `[store] endpoints` is wrong"
    )
}

fn read(text: &str) -> Option<Seen> {
    let mut lines = text.lines();
    let cluster = lines.next()?.strip_prefix("cluster ")?;
    let revision = lines.next()?.strip_prefix("revision ")?;
    Some(Seen { cluster: u64::from_str_radix(cluster, 16).ok()?, revision: revision.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_is_known_after_a_restart_and_less_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("etcd-mark");
        let guard = Guard::open(&mark, 0xa).unwrap();
        let at = |revision| Seen { cluster: 0xa, revision };
        guard.check(0, at(7)).unwrap();
        // Asked before the newer answer came: no fault.
        guard.check(0, at(5)).unwrap();
        assert_eq!(guard.highest(), 7);
        guard.save().unwrap();
        let guard = Guard::open(&mark, 0xa).unwrap();
        guard.check(guard.highest(), at(7)).unwrap();
        let error = guard.check(guard.highest(), at(6)).expect_err("backward");
        assert!(error.contains("revision 6") && error.contains("was at 7"), "{error}");
        assert!(guard.check(7, Seen { cluster: 0xb, revision: 9 }).is_err());
        let error = Guard::open(&mark, 0xb).expect_err("another").to_string();
        assert!(error.contains("cluster b"), "{error}");
        std::fs::write(&mark, "cluster x").unwrap();
        assert!(matches!(Guard::open(&mark, 0xa), Err(MarkError::Damaged)));
    }
}
