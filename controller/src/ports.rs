//! The controller's traits toward the outside: the store, the certificate authority, the directory.

use std::any::Any;
use std::collections::BTreeSet;
use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::sync::watch;
use vidi_kit::tls::Role;
use zeroize::Zeroizing;

use crate::model::Sealed;

/// Operations in one commit: the longer of its compares and its writes, as etcd counts
/// (`--max-txn-ops`, 128 by default).
pub const COMMIT_OPERATIONS_MAX: usize = 128;
/// Bytes of keys and values in one commit; etcd refuses requests over 1.5 MiB, of which the frame
/// around ours needs a part.
pub const COMMIT_BYTES_MAX: usize = 1024 * 1024;
/// Entries in one page of a list, whatever was asked for.
pub const LIST_ENTRIES_MAX: usize = 1_000;
/// Bytes of a key; ours are below 200.
pub const KEY_BYTES_MAX: usize = 512;
/// Revisions that an embedded store keeps for watches to catch up with; who is further behind lists
/// again. A store on other machines keeps what its operator says.
pub const RING_REVISIONS_MAX: usize = 4_096;

/// Ordered, revisioned key-value storage with transactions and watches.
///
/// INVARIANT: revisions of one store only grow, over restarts too: what is asked for later is answered
/// at the same revision or a later one.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Entries whose keys start with `prefix` and lie behind `after` (empty: from the first), in the
    /// order of keys, at most `limit` and [`LIST_ENTRIES_MAX`]. Each page is read at one revision;
    /// pages of one list may be of different ones, so a watch continues from the first page's.
    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Page, StoreError>;

    /// Writes all or nothing, if every expectation holds. At least one expectation is required and
    /// a key is written at most once. When this returns `Ok`, the writes survive a power cut.
    async fn commit(&self, expect: &[Expect], writes: &[Write]) -> Result<Committed, CommitError>;

    /// Commits behind revision `from` that touched keys starting with `prefix`, in order, without
    /// gaps; `from` = the revision that a list was read at continues it.
    async fn watch(&self, prefix: &str, from: u64) -> Result<Box<dyn Watch>, StoreError>;

    /// Everything at one revision.
    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        for _ in 0..SNAPSHOT_TRIES_MAX {
            if let Some(snapshot) = quiet_snapshot(self).await? {
                return Ok(snapshot);
            }
        }
        Err(StoreError::Unavailable("it changes faster than it can be read".to_owned()))
    }

    /// Waits until this controller leads. Its leadership lasts until the value is dropped or lost;
    /// its fence belongs into the expectations of every commit that only a leader may make.
    async fn lead(&self, controller: &str) -> Result<Leadership, StoreError>;
}

/// Every commit of a leader writes a new value here and expects the one before. An embedded store that
/// has run full lets a commit pass that writes nothing else and deletes something.
pub const NONCE_KEY: &str = "leader/nonce";

/// Where who leads is reached, `host:port`: written with a leader's first commit.
pub const LEADER_ADDRESS_KEY: &str = "leader/address";

/// One entry by its exact key; none when it is not there.
pub async fn get(store: &dyn Store, key: &str) -> Result<Option<Entry>, StoreError> {
    // The exact key sorts before every other that starts with it.
    let page = store.list(key, "", 1).await?;
    Ok(page.entries.into_iter().next().filter(|entry| entry.key == key))
}

/// Times that everything is read page by page, for all pages to be of one revision.
const SNAPSHOT_TRIES_MAX: u32 = 10;

/// Everything, if nothing changes meanwhile.
async fn quiet_snapshot<S: Store + ?Sized>(store: &S) -> Result<Option<Snapshot>, StoreError> {
    let mut snapshot: Option<Snapshot> = None;
    let mut after = String::new();
    loop {
        let page = store.list("", &after, LIST_ENTRIES_MAX).await?;
        let revision = page.revision;
        let all = snapshot.get_or_insert(Snapshot { revision, ..Snapshot::default() });
        if all.revision != revision {
            return Ok(None);
        }
        let last = page.entries.last().map(|entry| entry.key.clone());
        all.entries.extend(page.entries);
        match last {
            Some(last) if page.more => after = last,
            Some(_) | None => return Ok(snapshot),
        }
    }
}

/// Everything that is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// In the order of keys.
    pub entries: Vec<Entry>,
    /// The store's revision when all of it was read.
    pub revision: u64,
    /// Which store it is, where one can be told from another; a cluster of etcd's id, hex.
    pub cluster: String,
}

/// A key with its value and the revision of its last change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Bytes,
    /// Revision of the commit that wrote it last.
    pub revision: u64,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// In the order of keys.
    pub entries: Vec<Entry>,
    /// The store's revision when this page was read.
    pub revision: u64,
    /// There are entries behind the last one.
    pub more: bool,
}

/// What must be true of a key for a commit to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// The key.
    pub key: String,
    /// Revision of its last change; 0: it is absent.
    pub revision: u64,
}

impl Expect {
    /// The key's last change was this revision.
    pub fn revision(key: impl Into<String>, revision: u64) -> Self {
        Self { key: key.into(), revision }
    }

    /// The key is not there.
    pub fn absent(key: impl Into<String>) -> Self {
        Self { key: key.into(), revision: 0 }
    }
}

/// One change of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a key.
    Put {
        /// The key.
        key: String,
        /// Its new value.
        value: Bytes,
    },
    /// Removes a key; one that is absent stays so.
    Delete {
        /// The key.
        key: String,
    },
}

impl Write {
    /// Sets a key.
    pub fn put(key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self::Put { key: key.into(), value: value.into() }
    }

    /// Removes a key.
    pub fn delete(key: impl Into<String>) -> Self {
        Self::Delete { key: key.into() }
    }

    /// The key that is changed.
    pub fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// A commit that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its revision: the one of every key it wrote.
    pub revision: u64,
}

/// Why a commit did not happen, or that nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// An expectation does not hold: nothing was written.
    #[error("the key {key} changed meanwhile")]
    Conflict {
        /// The first key that is not as expected.
        key: String,
    },
    /// Over a limit, or malformed: nothing was written and a repetition would fail too.
    #[error("the commit is over a limit of the store: {0}")]
    TooLarge(String),
    /// Nothing was written; a later try may succeed.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// It may have happened: repeat it as it is; a conflict in which the values are ours is success.
    #[error("the store did not say whether the commit happened: {0}")]
    Unknown(String),
}

/// Why a read failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A later try may succeed.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// What is stored is damaged.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The revision to continue from is older than what the store remembers: list again.
    #[error("the revision is too old to continue from: list again")]
    TooOld,
}

/// A running watch; dropping it ends it.
#[async_trait]
pub trait Watch: Send {
    /// The next commit that touched the prefix. Cancel-safe. After `Lost` list again.
    async fn next(&mut self) -> Result<Batch, Lost>;
}

/// What one commit did to the keys of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The commit's revision.
    pub revision: u64,
    /// In the commit's order; never empty.
    pub changes: Vec<Change>,
}

/// What happened to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// Its new value; none when it was removed.
    pub value: Option<Bytes>,
}

/// The watch cannot go on without a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the watch was lost: list again")]
pub struct Lost;

/// The right to decide, held until dropped.
pub struct Leadership {
    fence: Expect,
    lost: watch::Receiver<bool>,
    _held: Box<dyn Any + Send + Sync>,
}

impl Leadership {
    /// For adapters: `lost` turns true when the leadership is gone, `held` gives it back on drop.
    pub fn new(
        fence: Expect,
        lost: watch::Receiver<bool>,
        held: Box<dyn Any + Send + Sync>,
    ) -> Self {
        Self { fence, lost, _held: held }
    }

    /// Belongs into the expectations of every commit that only the leader may make.
    pub fn fence(&self) -> Expect {
        self.fence.clone()
    }

    /// Resolves when the leadership is gone. Cancel-safe.
    pub async fn lost(&self) {
        // An error means that the store is gone, and with it the leadership.
        drop(self.lost.clone().wait_for(|lost| *lost).await);
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Leadership").field("fence", &self.fence).finish_non_exhaustive()
    }
}

/// The installation's certificate authorities.
pub trait Authority: Send + Sync + fmt::Debug {
    /// Id of the installation, as in every certificate.
    fn installation(&self) -> &str;

    /// Internal CAs to trust, DER: one, or two while the CA is being changed.
    fn cas(&self) -> Vec<Vec<u8>>;

    /// The CA of pages, DER.
    fn page_cas(&self) -> Vec<Vec<u8>>;

    /// A certificate of the internal CA for the key of `csr` (PKCS#10, DER). Every name in the
    /// request is ignored.
    fn issue(&self, role: Role, id: &str, csr: &[u8]) -> Result<Issued, AuthorityError>;

    /// A certificate of the pages' CA for the key of `csr` and these DNS names and IP addresses.
    fn issue_page(&self, csr: &[u8], names: &[String]) -> Result<Issued, AuthorityError>;

    /// Wraps a secret by the installation's key, bound to `purpose`; none when the library fails.
    fn seal(&self, purpose: &str, secret: &[u8]) -> Option<Sealed>;

    /// What was wrapped for this purpose; none for another, or what is damaged.
    fn unseal(&self, purpose: &str, sealed: &Sealed) -> Option<Zeroizing<Vec<u8>>>;
}

/// A new certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// DER.
    pub certificate: Vec<u8>,
    /// End of validity, ms since the epoch.
    pub not_after_ms: i64,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Not a signing request, or its signature is wrong.
    #[error("the certificate signing request is not valid: PKCS#10 in DER is expected")]
    BadRequest,
    /// A name cannot be in a certificate.
    #[error("\"{0}\" is neither a DNS name nor an IP address")]
    BadName(String),
    /// The CA's key or the library fails.
    #[error("the certificate cannot be signed")]
    Sign(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Knows users' passwords.
#[async_trait]
pub trait Directory: Send + Sync + fmt::Debug {
    /// Whether this is the user's password. An unknown user and a wrong password take the same time
    /// and give the same answer.
    async fn check(
        &self,
        tenant: &str,
        user: &str,
        password: &str,
    ) -> Result<PasswordVerdict, DirectoryError>;

    /// What to store in a user's record for a new password (a PHC string).
    async fn seal(&self, password: &str) -> Result<String, DirectoryError>;
}

/// What a directory says of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordVerdict {
    /// It is the user's.
    Right,
    /// It is not, or there is no such user.
    Wrong,
}

/// Why a directory gives no verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// A later try may succeed.
    #[error("the directory is not available: {0}")]
    Unavailable(String),
    /// Too many checks run already.
    #[error("too many passwords are being checked: try again in a moment")]
    Busy,
}

/// Keeps the templates' files, each under its SHA-256.
#[async_trait]
pub trait Images: Send + Sync + fmt::Debug {
    /// Whether the whole file is there.
    async fn has(&self, sha256: &str, size_bytes: u64) -> bool;

    /// Begins to take a file. Nothing is visible before [`ImageWriter::finish`], and nothing is left
    /// when the writer is dropped before.
    async fn receive(
        &self,
        sha256: &str,
        size_bytes: u64,
    ) -> Result<Box<dyn ImageWriter>, ImageError>;

    /// The bytes of a file from an offset on.
    async fn read(
        &self,
        sha256: &str,
        offset: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Unpin>, ImageError>;

    /// Removes the files that are not among these, and what uploads have left behind; answers how
    /// many. For the start, before anybody uploads.
    async fn keep_only(&self, sha256s: &BTreeSet<String>) -> Result<usize, ImageError>;
}

/// A file on its way in; dropping it removes what came so far.
#[async_trait]
pub trait ImageWriter: Send {
    /// The next bytes.
    async fn write(&mut self, chunk: Bytes) -> Result<(), ImageError>;

    /// Checks length and digest; when this returns `Ok`, the file survives a power cut.
    async fn finish(self: Box<Self>) -> Result<(), ImageError>;
}

/// Why a file is not kept or not read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is no such file.
    #[error("there is no image file with SHA-256 {0}")]
    NotFound(String),
    /// It is not what its name says; nothing was kept.
    #[error("the file has SHA-256 {found}, not {expected} as stated: upload it again")]
    DigestMismatch {
        /// As stated.
        expected: String,
        /// As it came.
        found: String,
    },
    /// It is longer or shorter than stated; nothing was kept.
    #[error("the file has {found} bytes, not {expected} as stated: upload it again")]
    SizeMismatch {
        /// As stated.
        expected: u64,
        /// As it came, or as far as it was read.
        found: u64,
    },
    /// No room; nothing was kept.
    #[error("the disk for images is full: free some space, then upload again")]
    DiskFull,
    /// Anything else; nothing was kept.
    #[error("the folder of images cannot be used")]
    Io(#[source] std::io::Error),
}
