//! The file of a backup: a line that says what it is, a header, the entries, and a digest of all before it.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use sha2::{Digest, Sha256};
use vidi_proto::store::v1::{BackupEnd, BackupEntry, BackupHeader, BackupPart, backup_part::Part};

use crate::ports::{COMMIT_BYTES_MAX, Entry, Snapshot};

/// The first line.
const MAGIC: &[u8] = b"vidi-backup 1\n";
/// What the first line of every version begins with.
const MAGIC_ANY: &[u8] = b"vidi-backup ";
/// Bytes that are handed on together.
const CHUNK_BYTES: usize = 256 * 1024;
/// Bytes of one part: an entry was once in a commit.
const PART_BYTES_MAX: usize = COMMIT_BYTES_MAX + 64 * 1024;
/// Bytes of a file that are read: a hundred thousand desktops have a tenth of it, and it is held in memory.
pub const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// Why a file is no backup that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Something else.
    #[error("it is not a backup: it does not begin with \"vidi-backup\"")]
    Foreign,
    /// Another form.
    #[error("it was written by a newer version of this program: use that one")]
    Newer,
    /// It ends early.
    #[error("a part of it is missing: copy it again, or take another backup")]
    Truncated,
    /// Its contents are not what was written.
    #[error("it is damaged ({0}): copy it again, or take another backup")]
    Damaged(&'static str),
}

/// A backup that was read and is whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Backup {
    /// Of which store it is, and when it was taken.
    pub header: BackupHeader,
    /// In the order of keys.
    pub entries: Vec<BackupEntry>,
}

/// The bytes of a backup's file, in order.
#[derive(Debug)]
pub struct Chunks {
    next: Next,
    entries: std::vec::IntoIter<Entry>,
    count: u64,
    hash: Sha256,
}

#[derive(Debug)]
enum Next {
    Header(Box<BackupHeader>),
    Entries,
    Nothing,
}

impl Chunks {
    /// Of everything that was read of a store at `taken_ms`.
    pub fn new(snapshot: Snapshot, installation: String, taken_ms: i64) -> Self {
        let header = BackupHeader {
            installation,
            cluster: snapshot.cluster,
            revision: snapshot.revision,
            taken_ms,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        Self {
            next: Next::Header(Box::new(header)),
            entries: snapshot.entries.into_iter(),
            count: 0,
            hash: Sha256::new(),
        }
    }
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut chunk = BytesMut::new();
        match std::mem::replace(&mut self.next, Next::Entries) {
            Next::Header(header) => {
                chunk.put_slice(MAGIC);
                put(&mut chunk, Part::Header(*header));
            }
            Next::Entries => {}
            Next::Nothing => {
                self.next = Next::Nothing;
                return None;
            }
        }
        while chunk.len() < CHUNK_BYTES {
            let Some(Entry { key, value, .. }) = self.entries.next() else {
                self.hash.update(&chunk);
                let sha256 = self.hash.finalize_reset().to_vec();
                put(&mut chunk, Part::End(BackupEnd { entries: self.count, sha256 }));
                self.next = Next::Nothing;
                return Some(chunk.freeze());
            };
            self.count += 1;
            put(&mut chunk, Part::Entry(BackupEntry { key, value: value.to_vec() }));
        }
        self.hash.update(&chunk);
        Some(chunk.freeze())
    }
}

fn put(chunk: &mut BytesMut, part: Part) {
    let encoded = BackupPart { part: Some(part) }.encode_length_delimited_to_vec();
    chunk.extend_from_slice(&encoded);
}

/// Reads a file and checks that it is whole.
pub fn read(file: &[u8]) -> Result<Backup, FileError> {
    let Some(mut rest) = file.strip_prefix(MAGIC) else {
        let is_start = MAGIC.starts_with(file) && !file.is_empty();
        return Err(match file.starts_with(MAGIC_ANY) {
            _ if is_start => FileError::Truncated,
            true => FileError::Newer,
            false => FileError::Foreign,
        });
    };
    let mut header = None;
    let mut entries: Vec<BackupEntry> = Vec::new();
    loop {
        let before = file.len() - rest.len();
        match take_part(&mut rest)? {
            Part::Header(one) if header.is_none() => header = Some(one),
            Part::Entry(one) if header.is_some() => {
                if entries.last().is_some_and(|last| one.key <= last.key) {
                    return Err(FileError::Damaged("its entries are not in order"));
                }
                entries.push(one);
            }
            Part::End(end) => {
                let told = file.get(..before).map(Sha256::digest).unwrap_or_default();
                if *told != *end.sha256 {
                    return Err(FileError::Damaged("its digest is another one"));
                }
                if !rest.is_empty() || u64::try_from(entries.len()) != Ok(end.entries) {
                    return Err(FileError::Damaged("it has more or less than it says"));
                }
                let header = header.ok_or(FileError::Damaged("it has no header"))?;
                return Ok(Backup { header, entries });
            }
            Part::Header(_) | Part::Entry(_) => {
                return Err(FileError::Damaged("its parts are not in order"));
            }
        }
    }
}

fn take_part(rest: &mut &[u8]) -> Result<Part, FileError> {
    if rest.is_empty() {
        return Err(FileError::Truncated);
    }
    let length = prost::decode_length_delimiter(&mut *rest)
        .map_err(|_varint| FileError::Damaged("a length is none"))?;
    if PART_BYTES_MAX < length {
        return Err(FileError::Damaged("a part is too long"));
    }
    let (part, left) = rest.split_at_checked(length).ok_or(FileError::Truncated)?;
    *rest = left;
    let part = BackupPart::decode(part).map_err(|_bytes| FileError::Damaged("a part is none"))?;
    part.part.ok_or(FileError::Damaged("a part is empty"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot(values: &[Vec<u8>]) -> Snapshot {
        let entries = values.iter().enumerate().map(|(number, value)| Entry {
            key: format!("k{number:06}"),
            value: Bytes::from(value.clone()),
            revision: 3,
        });
        Snapshot { entries: entries.collect(), revision: 7, cluster: "a".to_owned() }
    }

    fn file(values: &[Vec<u8>]) -> Vec<u8> {
        Chunks::new(snapshot(values), "installation".to_owned(), 5).flatten().collect()
    }

    #[test]
    fn a_large_backup_comes_in_pieces_and_is_read_as_it_was() {
        let values = vec![vec![7_u8; 40_000]; 100];
        let chunks: Vec<Bytes> =
            Chunks::new(snapshot(&values), "installation".to_owned(), 5).collect();
        assert!(10 < chunks.len() && chunks.iter().all(|chunk| chunk.len() < 2 * CHUNK_BYTES));
        let backup = read(&chunks.concat()).unwrap();
        assert_eq!((backup.header.revision, backup.header.taken_ms), (7, 5));
        assert_eq!(backup.header.cluster, "a");
        let found: Vec<Vec<u8>> = backup.entries.into_iter().map(|entry| entry.value).collect();
        assert_eq!(found, values);
    }

    #[test]
    fn what_is_no_backup_is_told_apart() {
        let whole = file(&[vec![1], vec![2]]);
        assert_eq!(read(b"PK\x03\x04"), Err(FileError::Foreign));
        assert_eq!(read(b""), Err(FileError::Foreign));
        assert_eq!(read(b"vidi-backup 2\n..."), Err(FileError::Newer));
        for end in 1..whole.len() {
            let cut = read(&whole[..end]).expect_err("cut");
            assert!(matches!(cut, FileError::Truncated | FileError::Damaged(_)), "{end}: {cut}");
        }
        let longer = [whole.as_slice(), b"x"].concat();
        assert!(matches!(read(&longer), Err(FileError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read(values in prop::collection::vec(any::<Vec<u8>>(), 0..20)) {
            let backup = read(&file(&values)).unwrap();
            let found: Vec<Vec<u8>> = backup.entries.into_iter().map(|one| one.value).collect();
            prop_assert_eq!(found, values);
        }

        #[test]
        fn a_changed_byte_is_noticed(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let whole = file(&[vec![1; 30], vec![2; 30]]);
            let mut changed = whole.clone();
            changed[at.index(whole.len())] ^= 1 << bit;
            prop_assert!(read(&changed).is_err());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(tail in any::<Vec<u8>>()) {
            prop_assert!(read(&[MAGIC, &tail].concat()).is_err());
        }
    }
}
