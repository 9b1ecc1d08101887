//! A store in etcd, for several controllers.
//!
//! ```text
//! list, commit ─▶ link: one member after the other ─▶ guard: never backward
//! watch        ─▶ one member's stream; Lost when in doubt
//! lead         ─▶ election: a lease and the leader's key
//! ```
//! All keys lie behind a prefix. A commit is one transaction that compares revisions; what makes it
//! safe to repeat is what it compares, not the connection. Nothing here waits without a limit.

mod election;
mod failure;
mod guard;
mod link;
mod versions;
mod watching;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{Client, Compare, CompareOp, GetOptions, StatusResponse, Txn, TxnOp};
use tracing::{info, warn};
use vidi_kit::Tasks;

use self::election::{Election, LEADER_KEY};
use self::failure::Failure;
use self::guard::{Guard, MarkError, Seen};
pub use self::link::TlsFiles;
use self::link::{Kind, Link, Members, seen};
use self::versions::known_faults;
use self::watching::Watching;
use super::rules::check_commit;
use crate::ports::{
    CommitError, Committed, Entry, Expect, LIST_ENTRIES_MAX, Leadership, Page, Snapshot, Store,
    StoreError, Watch, Write, get,
};

/// Bytes of one page's answer; a page of more is asked for in parts.
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// One member's time to say who it is.
const STATUS_WAIT_MAX: Duration = Duration::from_secs(2);
/// How often the mark is written, and etcd asked for its size.
const MARK_PERIOD: Duration = Duration::from_secs(10);

/// Where etcd is and what of it is ours.
#[derive(Clone, Debug)]
pub struct EtcdSettings {
    /// `https://host:port` of each member.
    pub endpoints: Vec<String>,
    /// Certificates; none without TLS.
    pub tls: Option<TlsFiles>,
    /// Before all keys.
    pub prefix: String,
    /// File that remembers how far etcd was; its folder exists.
    pub mark: PathBuf,
}

/// Why a store in etcd cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An endpoint or its certificates cannot be used.
    #[error("etcd's endpoint {endpoint} cannot be used: {text}; look at `[store]`")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// Why.
        text: String,
    },
    /// No member answers.
    #[error("etcd does not answer ({0}): is it up, and is `[store]` right?")]
    NoAnswer(String),
    /// Members that do not belong together.
    #[error("the endpoints in `[store]` are of different clusters of etcd: {0}")]
    DifferentClusters(String),
    /// It is not the etcd that it was.
    #[error(
        "{text}; if what is in etcd now shall count, remove the file {mark} on each controller and \
         start again"
    )]
    Backward {
        /// What is different.
        text: String,
        /// File that remembers how far etcd was.
        mark: PathBuf,
    },
    /// The mark cannot be used.
    #[error("the file {mark} cannot be used: {text}")]
    Mark {
        /// File that remembers how far etcd was.
        mark: PathBuf,
        /// Why.
        text: String,
    },
}

/// The store.
#[derive(Debug)]
pub struct EtcdStore {
    link: Arc<Link>,
    prefix: String,
    election: Election,
    bytes: Arc<AtomicU64>,
}

impl EtcdStore {
    /// Asks the members who they are and begins to remember how far etcd is.
    pub async fn open(settings: EtcdSettings, tasks: &Tasks) -> Result<Self, OpenError> {
        let members = Members::new(&settings.endpoints, settings.tls)
            .await
            .map_err(|(endpoint, why)| OpenError::Endpoint { endpoint, text: why.text() })?;
        let (cluster, bytes) = introduce(&members).await?;
        let mark = settings.mark;
        let guard = match Guard::open(&mark, cluster) {
            Ok(guard) => guard,
            Err(MarkError::OtherCluster(text)) => return Err(OpenError::Backward { text, mark }),
            Err(error) => return Err(OpenError::Mark { mark, text: error.to_string() }),
        };
        let link = Arc::new(Link { members, guard });
        let key = format!("{}{LEADER_KEY}", settings.prefix);
        let election = Election { link: Arc::clone(&link), key, tasks: tasks.clone() };
        let bytes = Arc::new(AtomicU64::new(bytes));
        let store = Self { link, prefix: settings.prefix, election, bytes };
        match store.list("", "", 1).await {
            Ok(_page) => {}
            Err(StoreError::Damaged(text)) => return Err(OpenError::Backward { text, mark }),
            Err(error) => return Err(OpenError::NoAnswer(error.to_string())),
        }
        store.link.guard.save().map_err(|error| {
            let text = error.to_string();
            OpenError::Mark { mark, text }
        })?;
        store.remember(tasks);
        Ok(store)
    }

    /// Resolves with the reason when etcd cannot be relied on any more.
    pub fn broken(&self) -> impl Future<Output = String> + Send + use<> {
        let mut broken = self.link.guard.broken();
        async move {
            match broken.wait_for(Option::is_some).await {
                Ok(why) => why.clone().unwrap_or_default(),
                Err(_gone) => "the store was closed".to_owned(),
            }
        }
    }

    /// Bytes of etcd's database on its disk, as it said last.
    pub fn bytes(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let bytes = Arc::clone(&self.bytes);
        move || bytes.load(Ordering::Relaxed)
    }

    /// Writes the mark from time to time, and at the end.
    fn remember(&self, tasks: &Tasks) {
        let (link, bytes, group) = (Arc::clone(&self.link), Arc::clone(&self.bytes), tasks.clone());
        let _remembering = tasks.spawn("etcd-mark", async move {
            let mut saved = link.guard.highest();
            loop {
                // Cancel-safe: both only wait.
                let stopping = tokio::select! {
                    biased;
                    () = group.stopping() => true,
                    () = tokio::time::sleep(MARK_PERIOD) => false,
                };
                let highest = link.guard.highest();
                if saved != highest {
                    let saver = Arc::clone(&link);
                    let done = tokio::task::spawn_blocking(move || saver.guard.save()).await;
                    match done {
                        Ok(Ok(())) => saved = highest,
                        Ok(Err(error)) => warn!(%error, "Cannot write how far etcd is"),
                        // Only when the runtime ends.
                        Err(_ended) => return,
                    }
                }
                if stopping {
                    return;
                }
                if let Ok(status) = link.members.ask(STATUS_WAIT_MAX, status).await {
                    bytes.store(size(&status), Ordering::Relaxed);
                }
            }
        });
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// A page of these keys as they are, or were at a revision.
    async fn page(
        &self,
        (start, end): (&[u8], &[u8]),
        limit: usize,
        at: Option<u64>,
    ) -> Result<Page, Failure> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        // 0 is the newest.
        let at = at.map_or(0, |at| i64::try_from(at).unwrap_or(i64::MAX));
        let range = |client: Client| async move {
            let options = GetOptions::new().with_range(end).with_limit(limit).with_revision(at);
            let mut kv = client.kv_client().max_decoding_message_size(PAGE_BYTES_MAX);
            let mut answer = kv.get(start, Some(options)).await?;
            Ok((seen(answer.header()), (answer.take_kvs(), answer.more(), seen(answer.header()))))
        };
        let (pairs, more, at) = self.link.call(Kind::Read, range).await?;
        let revision = at.map_or(0, |at| at.revision);
        let entries: Option<Vec<_>> = pairs
            .into_iter()
            .map(|pair| {
                let revision = u64::try_from(pair.mod_revision()).ok()?;
                let (key, value) = pair.into_key_value();
                let key = String::from_utf8(key).ok()?.strip_prefix(&self.prefix)?.to_owned();
                Some(Entry { key, value: Bytes::from(value), revision })
            })
            .collect();
        let entries = entries.ok_or_else(|| {
            Failure::Foreign(format!("a key behind {} is not of this program", self.prefix))
        })?;
        Ok(Page { entries, revision, more })
    }

    fn txn(&self, expect: &[Expect], writes: &[Write]) -> Txn {
        let revision = |one: &Expect| i64::try_from(one.revision).unwrap_or(i64::MAX);
        let compares: Vec<_> = expect
            .iter()
            .map(|one| Compare::mod_revision(self.full(&one.key), CompareOp::Equal, revision(one)))
            .collect();
        let changes: Vec<_> = writes
            .iter()
            .map(|write| match write {
                Write::Put { key, value } => TxnOp::put(self.full(key), value.as_ref(), None),
                Write::Delete { key } => TxnOp::delete(self.full(key), None),
            })
            .collect();
        // What a conflict is about is read at the same revision.
        let looks: Vec<_> = expect
            .iter()
            .map(|one| {
                let options = GetOptions::new().with_keys_only();
                TxnOp::get(self.full(&one.key), Some(options))
            })
            .collect();
        Txn::new().when(compares).and_then(changes).or_else(looks)
    }

    /// etcd may answer that it is full to what it has done: the last one that fitted. Then a key that
    /// was expected and written has another revision.
    async fn full_or_unknown(&self, expect: &[Expect], writes: &[Write]) -> CommitError {
        let text = Failure::NoSpace.text();
        let put = |key: &str| {
            writes.iter().any(|write| matches!(write, Write::Put { key: put, .. } if put == key))
        };
        let Some(one) = expect.iter().find(|one| put(&one.key)) else {
            return CommitError::Unknown(text);
        };
        match get(self, &one.key).await {
            Ok(found) if found.as_ref().map_or(0, |entry| entry.revision) == one.revision => {
                CommitError::Unavailable(text)
            }
            Ok(_) | Err(_) => CommitError::Unknown(text),
        }
    }
}

/// Asks all members who they are; at least one must answer. Their cluster, and its size in bytes.
async fn introduce(members: &Members) -> Result<(u64, u64), OpenError> {
    let mut failures = Vec::new();
    let mut clusters = Vec::new();
    let mut faulty: Option<(String, Vec<&str>)> = None;
    let mut bytes = 0;
    for index in 0..members.len() {
        match members.ask_one(index, STATUS_WAIT_MAX, status).await {
            Ok(status) => {
                clusters.push(status.header().map_or(0, etcd_client::ResponseHeader::cluster_id));
                bytes = bytes.max(size(&status));
                let faults = known_faults(status.version());
                if !faults.is_empty() {
                    faulty = Some((status.version().to_owned(), faults));
                }
            }
            Err(failure) => failures.push(failure.text()),
        }
    }
    let Some(first) = clusters.first().copied() else {
        return Err(OpenError::NoAnswer(failures.join("; ")));
    };
    if clusters.iter().any(|cluster| *cluster != first) {
        return Err(OpenError::DifferentClusters(members.endpoints()));
    }
    for failure in failures {
        warn!(error = failure, "A member of etcd does not answer");
    }
    if let Some((version, faults)) = faulty {
        warn!(
            version,
            faults = faults.join("; "),
            "This version of etcd has known faults; nothing is decided on watches or leases alone, \
             and a revision that goes down is noticed, but a newer version is better"
        );
    }
    info!(endpoints = members.endpoints(), "etcd answers");
    Ok((first, bytes))
}

async fn status(client: Client) -> Result<StatusResponse, etcd_client::Error> {
    client.maintenance_client().status().await
}

fn size(status: &StatusResponse) -> u64 {
    u64::try_from(status.db_size()).unwrap_or(0)
}

/// The first key behind all that start with `prefix`.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    // etcd's word for no end.
    vec![0]
}

fn in_read(failure: &Failure) -> StoreError {
    match failure {
        Failure::Compacted | Failure::Future => StoreError::TooOld,
        Failure::Foreign(text) | Failure::Backward(text) => StoreError::Damaged(text.clone()),
        Failure::NotSent(_)
        | Failure::NotNow(_)
        | Failure::Refused(_)
        | Failure::TooLarge(_)
        | Failure::NoSpace
        | Failure::Oversize
        | Failure::LeaseGone
        | Failure::Unsure(_) => StoreError::Unavailable(failure.text()),
    }
}

#[async_trait]
impl Store for EtcdStore {
    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Page, StoreError> {
        let first = self.full(prefix);
        let end = end_of(first.as_bytes());
        // The first key behind another is the same with a zero byte.
        let start =
            if after < prefix { first } else { format!("{}\0", self.full(after)) }.into_bytes();
        // etcd takes 0 for no limit.
        let mut asked = limit.clamp(1, LIST_ENTRIES_MAX);
        loop {
            match self.page((&start, &end), asked, None).await {
                Ok(page) if limit == 0 => {
                    let more = !page.entries.is_empty();
                    return Ok(Page { entries: Vec::new(), more, ..page });
                }
                Ok(page) => return Ok(page),
                Err(Failure::Oversize) if 1 < asked => asked /= 2,
                Err(failure) => return Err(in_read(&failure)),
            }
        }
    }

    async fn commit(&self, expect: &[Expect], writes: &[Write]) -> Result<Committed, CommitError> {
        check_commit(expect, writes)?;
        let txn = &self.txn(expect, writes);
        let commit = |client: Client| async move {
            let answer = client.kv_client().txn(txn.clone()).await?;
            Ok((seen(answer.header()), answer))
        };
        let answer = match self.link.call(Kind::Write, commit).await {
            Ok(answer) => answer,
            Err(Failure::NoSpace) => return Err(self.full_or_unknown(expect, writes).await),
            Err(Failure::TooLarge(text)) => return Err(CommitError::TooLarge(text)),
            Err(failure @ (Failure::NotSent(_) | Failure::NotNow(_) | Failure::Refused(_))) => {
                return Err(CommitError::Unavailable(failure.text()));
            }
            Err(failure) => return Err(CommitError::Unknown(failure.text())),
        };
        let Some(Seen { revision, .. }) = seen(answer.header()) else {
            return Err(CommitError::Unknown("etcd's answer has no header".to_owned()));
        };
        if answer.succeeded() {
            return Ok(Committed { revision });
        }
        let found = answer.op_responses().into_iter().map(|one| match one {
            etcd_client::TxnOpResponse::Get(got) => got
                .kvs()
                .first()
                .and_then(|pair| u64::try_from(pair.mod_revision()).ok())
                .unwrap_or(0),
            etcd_client::TxnOpResponse::Put(_)
            | etcd_client::TxnOpResponse::Delete(_)
            | etcd_client::TxnOpResponse::Txn(_) => 0,
        });
        let changed = expect.iter().zip(found).find(|(one, found)| one.revision != *found);
        Err(CommitError::Conflict { key: changed.map_or("", |(one, _)| &one.key).to_owned() })
    }

    async fn watch(&self, prefix: &str, from: u64) -> Result<Box<dyn Watch>, StoreError> {
        let first = &self.full(prefix);
        let end = &end_of(first.as_bytes());
        // Whether etcd still has, and already has, the revision: a watch would only say so later.
        let at = i64::try_from(from.max(1)).unwrap_or(i64::MAX);
        let look = |client: Client| async move {
            let options = GetOptions::new().with_revision(at).with_count_only();
            let answer = client.kv_client().get(first.as_str(), Some(options)).await?;
            Ok((seen(answer.header()), ()))
        };
        self.link.call(Kind::Read, look).await.map_err(|failure| in_read(&failure))?;
        let watch = |client: Client| async move {
            let mut watches =
                client.watch_client().max_decoding_message_size(watching::ANSWER_BYTES_MAX);
            let options = watching::options(end.clone(), from);
            let mut stream = watches.watch(first.as_str(), Some(options)).await?;
            let made = stream.message().await?.is_some_and(|first| first.created());
            Ok((None, made.then_some(stream)))
        };
        let made = self.link.call(Kind::Read, watch).await.map_err(|failure| in_read(&failure))?;
        let refused = || StoreError::Unavailable("etcd did not make the watch".to_owned());
        let stream = made.ok_or_else(refused)?;
        Ok(Box::new(Watching::new(stream, self.prefix.clone(), from)))
    }

    async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let first = self.full("").into_bytes();
        let end = end_of(&first);
        let cluster = format!("{:x}", self.link.guard.cluster());
        let mut all = Snapshot { cluster, ..Snapshot::default() };
        let (mut start, mut at, mut asked) = (first, None, LIST_ENTRIES_MAX);
        loop {
            let page = match self.page((&start, &end), asked, at).await {
                Ok(page) => page,
                Err(Failure::Oversize) if 1 < asked => {
                    asked /= 2;
                    continue;
                }
                Err(failure) => return Err(in_read(&failure)),
            };
            // Later answers tell the newest revision, not the one that was asked for.
            all.revision = *at.get_or_insert(page.revision);
            let last = page.entries.last().map(|entry| self.full(&entry.key));
            all.entries.extend(page.entries);
            match last {
                Some(last) if page.more => start = format!("{last}\0").into_bytes(),
                Some(_) | None => return Ok(all),
            }
        }
    }

    async fn lead(&self, controller: &str) -> Result<Leadership, StoreError> {
        self.election.lead(controller).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_behind_the_last_key_of_its_prefix() {
        assert_eq!(end_of(b"/vidi/1/"), b"/vidi/10");
        assert_eq!(end_of(b"a\xff\xff"), b"b");
        assert_eq!(end_of(b"\xff"), [0]);
        assert_eq!(end_of(b""), [0]);
    }
}
