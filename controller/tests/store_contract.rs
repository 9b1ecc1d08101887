//! One suite that every store passes; in etcd with one member and with three.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod etcd;

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use vidi_controller::adapters::memory::{Fault, MemoryStore};
use vidi_controller::adapters::sled::SledStore;
use vidi_controller::ports::{
    COMMIT_BYTES_MAX, COMMIT_OPERATIONS_MAX, CommitError, Expect, LIST_ENTRIES_MAX, Lost,
    RING_REVISIONS_MAX, Store, StoreError, Write, get,
};

/// Says to this test binary that it is the writer to be killed, and where.
const CHILD_FOLDER: &str = "VIDI_TEST_STORE_FOLDER";

/// Runs a behaviour on each adapter; the embedded ones forget by themselves what is long ago.
macro_rules! contract {
    (embedded: $($embedded:ident)+, all: $($name:ident)+) => {
        mod on_memory {
            $(#[tokio::test] async fn $embedded() {
                super::$embedded(std::sync::Arc::new(super::MemoryStore::new())).await;
            })+
            $(#[tokio::test] async fn $name() {
                super::$name(std::sync::Arc::new(super::MemoryStore::new())).await;
            })+
        }
        mod on_sled {
            $(#[tokio::test] async fn $embedded() {
                let folder = tempfile::tempdir().unwrap();
                let store = super::SledStore::open(folder.path()).unwrap();
                super::$embedded(std::sync::Arc::new(store)).await;
            })+
            $(#[tokio::test] async fn $name() {
                let folder = tempfile::tempdir().unwrap();
                let store = super::SledStore::open(folder.path()).unwrap();
                super::$name(std::sync::Arc::new(store)).await;
            })+
        }
        mod on_etcd {
            $(#[tokio::test] async fn $name() {
                let cluster = super::etcd::Cluster::start(1, &[]).await;
                super::$name(cluster.store().await).await;
            })+
        }
        mod on_etcd3 {
            $(#[tokio::test] async fn $name() {
                let cluster = super::etcd::Cluster::start(3, &[]).await;
                super::$name(cluster.store().await).await;
            })+
        }
    };
}

contract! {
    embedded:
    a_watch_that_is_too_far_behind_is_lost,
    all:
    a_commit_is_made_whole_or_not_at_all
    an_expectation_that_does_not_hold_is_a_conflict
    etcds_limits_hold
    only_one_of_many_writers_of_a_revision_wins
    a_list_comes_in_pages_in_the_order_of_keys
    a_list_of_large_values_comes_whole
    a_watch_sees_every_commit_of_its_prefix_once_and_in_order
    a_watch_continues_behind_a_revision
    a_new_leader_fences_the_one_before
}

async fn put(store: &dyn Store, key: &str, value: &str) -> u64 {
    let revision = get(store, key).await.unwrap().map_or(0, |entry| entry.revision);
    let write = Write::put(key, value.to_owned());
    store.commit(&[Expect::revision(key, revision)], &[write]).await.unwrap().revision
}

async fn keys(store: &dyn Store, prefix: &str) -> Vec<String> {
    let page = store.list(prefix, "", LIST_ENTRIES_MAX).await.unwrap();
    page.entries.into_iter().map(|entry| entry.key).collect()
}

async fn a_commit_is_made_whole_or_not_at_all(store: Arc<dyn Store>) {
    let first = put(store.as_ref(), "a", "1").await;
    let writes = [Write::put("b", "2"), Write::put("c", "3"), Write::delete("a")];
    let done = store.commit(&[Expect::revision("a", first)], &writes).await.unwrap();
    assert!(first < done.revision);
    assert_eq!(keys(store.as_ref(), "").await, ["b", "c"]);
    let entry = get(store.as_ref(), "b").await.unwrap().unwrap();
    assert_eq!((entry.value.as_ref(), entry.revision), (&b"2"[..], done.revision));
    let refused = [Expect::revision("b", done.revision), Expect::absent("c")];
    assert!(store.commit(&refused, &[Write::put("d", "4"), Write::delete("b")]).await.is_err());
    assert_eq!(keys(store.as_ref(), "").await, ["b", "c"]);
    // Comparing without writing is a commit too.
    store.commit(&[Expect::absent("zz")], &[]).await.unwrap();
    // Deleting what is not there is no error.
    store.commit(&[Expect::absent("zz")], &[Write::delete("zz")]).await.unwrap();
}

async fn an_expectation_that_does_not_hold_is_a_conflict(store: Arc<dyn Store>) {
    let first = put(store.as_ref(), "a", "1").await;
    let second = put(store.as_ref(), "a", "2").await;
    for wrong in [0, first, second + 1, u64::MAX] {
        let result = store.commit(&[Expect::revision("a", wrong)], &[Write::put("a", "3")]).await;
        assert_eq!(result, Err(CommitError::Conflict { key: "a".to_owned() }), "{wrong}");
    }
    store.commit(&[Expect::revision("a", second)], &[Write::delete("a")]).await.unwrap();
    store.commit(&[Expect::absent("a")], &[Write::put("a", "4")]).await.unwrap();
}

async fn etcds_limits_hold(store: Arc<dyn Store>) {
    let many = |count: usize| -> Vec<Write> {
        (0..count).map(|index| Write::put(format!("k{index}"), "v")).collect()
    };
    let absent = |count: usize| -> Vec<Expect> {
        (0..count).map(|index| Expect::absent(format!("k{index}"))).collect()
    };
    let too_large = |result| matches!(result, Err(CommitError::TooLarge(_)));
    let over = COMMIT_OPERATIONS_MAX + 1;
    assert!(too_large(store.commit(&absent(1), &many(over)).await));
    assert!(too_large(store.commit(&absent(over), &many(1)).await));
    assert!(too_large(store.commit(&[], &many(1)).await));
    let large = [Write::put("large", vec![7; COMMIT_BYTES_MAX])];
    assert!(too_large(store.commit(&absent(1), &large).await));
    assert_eq!(keys(store.as_ref(), "").await.len(), 0);
    store.commit(&absent(COMMIT_OPERATIONS_MAX), &many(COMMIT_OPERATIONS_MAX)).await.unwrap();
    let large = [Write::put("large", vec![7; COMMIT_BYTES_MAX - 100])];
    store.commit(&[Expect::absent("large")], &large).await.unwrap();
    let entry = get(store.as_ref(), "large").await.unwrap().unwrap();
    assert_eq!(entry.value.len(), COMMIT_BYTES_MAX - 100);
}

async fn only_one_of_many_writers_of_a_revision_wins(store: Arc<dyn Store>) {
    let mut writers = tokio::task::JoinSet::new();
    for index in 0..50 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let write = Write::put("counter", index.to_string());
            store.commit(&[Expect::absent("counter")], &[write]).await
        });
    }
    let results = writers.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let conflict = |result: &Result<_, _>| matches!(result, Err(CommitError::Conflict { .. }));
    assert_eq!(results.iter().filter(|result| conflict(result)).count(), 49);
}

async fn a_list_comes_in_pages_in_the_order_of_keys(store: Arc<dyn Store>) {
    let mut last = 0;
    for key in ["b/1", "b/2", "b/10", "a/9", "b", "c/1", "b0"] {
        last = put(store.as_ref(), key, key).await;
    }
    let mut found = Vec::new();
    let mut after = String::new();
    loop {
        let page = store.list("b/", &after, 2).await.unwrap();
        assert_eq!(page.revision, last);
        found.extend(page.entries.iter().map(|entry| entry.key.clone()));
        if !page.more {
            break;
        }
        after.clone_from(found.last().unwrap());
    }
    assert_eq!(found, ["b/1", "b/10", "b/2"]);
    assert_eq!(keys(store.as_ref(), "").await.len(), 7);
    let none = store.list("x", "", 10).await.unwrap();
    assert!(none.entries.is_empty() && !none.more);
    let only_asked = store.list("b/", "", 0).await.unwrap();
    assert!(only_asked.entries.is_empty() && only_asked.more);
}

async fn a_list_of_large_values_comes_whole(store: Arc<dyn Store>) {
    // More than one answer of any server should hold.
    const VALUES: usize = 40;
    for index in 0..VALUES {
        let key = format!("large/{index:03}");
        let write = Write::put(&key, vec![7; COMMIT_BYTES_MAX - 100]);
        store.commit(&[Expect::absent(key)], &[write]).await.unwrap();
    }
    let (mut found, mut after) = (0, String::new());
    loop {
        let page = store.list("large/", &after, LIST_ENTRIES_MAX).await.unwrap();
        assert!(page.entries.iter().all(|entry| entry.value.len() == COMMIT_BYTES_MAX - 100));
        found += page.entries.len();
        match page.entries.into_iter().next_back() {
            Some(last) if page.more => after = last.key,
            _ => break,
        }
    }
    assert_eq!(found, VALUES);
}

async fn a_watch_sees_every_commit_of_its_prefix_once_and_in_order(store: Arc<dyn Store>) {
    let mut watch = store.watch("d/", 0).await.unwrap();
    let mut expected = Vec::new();
    for index in 0..20 {
        let revision = put(store.as_ref(), &format!("d/{index}"), "v").await;
        put(store.as_ref(), "other", &index.to_string()).await;
        expected.push((revision, format!("d/{index}")));
    }
    let held = get(store.as_ref(), "d/3").await.unwrap().unwrap().revision;
    let writes = [Write::delete("d/3"), Write::put("e", "x"), Write::put("d/4", "new")];
    let last = store.commit(&[Expect::revision("d/3", held)], &writes).await.unwrap().revision;
    for (revision, key) in expected {
        let batch = watch.next().await.unwrap();
        assert_eq!(
            (batch.revision, batch.changes.first().unwrap().key.as_str()),
            (revision, key.as_str())
        );
        assert_eq!(batch.changes.len(), 1);
    }
    let batch = watch.next().await.unwrap();
    assert_eq!(batch.revision, last);
    let changes: Vec<_> =
        batch.changes.iter().map(|one| (one.key.as_str(), one.value.as_deref())).collect();
    assert_eq!(changes, [("d/3", None), ("d/4", Some(&b"new"[..]))]);
    // Nothing more comes until something happens, and then it comes.
    let quiet = tokio::time::timeout(Duration::from_millis(50), watch.next()).await;
    assert!(quiet.is_err());
    let (revision, batch) = tokio::join!(put(store.as_ref(), "d/z", "v"), watch.next());
    assert_eq!(batch.unwrap().revision, revision);
}

async fn a_watch_continues_behind_a_revision(store: Arc<dyn Store>) {
    put(store.as_ref(), "d/1", "v").await;
    let page = store.list("d/", "", 10).await.unwrap();
    let second = put(store.as_ref(), "d/2", "v").await;
    let mut watch = store.watch("d/", page.revision).await.unwrap();
    assert_eq!(watch.next().await.unwrap().revision, second);
    // A revision from the future is of another life of the store.
    let future = store.watch("d/", second + 1).await.map(|_watch| ());
    assert_eq!(future, Err(StoreError::TooOld));
}

async fn a_watch_that_is_too_far_behind_is_lost(store: Arc<dyn Store>) {
    let first = put(store.as_ref(), "d/1", "v").await;
    let mut slow = store.watch("d/", first).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    // Side by side, so that they share syncs.
    for index in 0..=RING_REVISIONS_MAX {
        let store = Arc::clone(&store);
        writers.spawn(async move { put(store.as_ref(), &format!("x/{index}"), "v").await });
    }
    let revisions = writers.join_all().await;
    assert_eq!(slow.next().await, Err(Lost));
    let old = store.watch("d/", first).await.map(|_watch| ());
    assert_eq!(old, Err(StoreError::TooOld));
    let newest = revisions.into_iter().max().unwrap();
    assert!(store.watch("d/", newest).await.is_ok());
}

async fn a_new_leader_fences_the_one_before(store: Arc<dyn Store>) {
    let first = store.lead("c1").await.unwrap();
    store.commit(&[first.fence()], &[Write::put("a", "1")]).await.unwrap();
    // While one leads, another waits.
    let waiting = tokio::time::timeout(Duration::from_millis(50), store.lead("c2")).await;
    assert!(waiting.is_err());
    let fence = first.fence();
    drop(first);
    let second = store.lead("c2").await.unwrap();
    let late = store.commit(&[fence], &[Write::put("a", "2")]).await;
    assert!(matches!(late, Err(CommitError::Conflict { .. })));
    store.commit(&[second.fence()], &[Write::put("a", "3")]).await.unwrap();
}

#[tokio::test]
async fn the_memory_store_loses_answers_watches_and_leaders_on_demand() {
    let store = MemoryStore::new();
    store.fail_next([Fault::Unavailable, Fault::AnswerLostBefore, Fault::AnswerLostAfter]);
    let commit = async || store.commit(&[Expect::absent("a")], &[Write::put("a", "1")]).await;
    assert!(matches!(commit().await, Err(CommitError::Unavailable(_))));
    assert!(matches!(commit().await, Err(CommitError::Unknown(_))));
    assert!(get(&store, "a").await.unwrap().is_none());
    assert!(matches!(commit().await, Err(CommitError::Unknown(_))));
    assert!(get(&store, "a").await.unwrap().is_some());
    assert!(matches!(commit().await, Err(CommitError::Conflict { .. })));
    let mut watch = store.watch("a", 1).await.unwrap();
    store.lose_watches();
    assert_eq!(watch.next().await, Err(Lost));
    store.compact(1);
    assert_eq!(store.watch("a", 0).await.map(|_watch| ()), Err(StoreError::TooOld));
    let leadership = store.lead("c1").await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(20), leadership.lost()).await.is_err());
    store.depose();
    tokio::time::timeout(Duration::from_secs(5), leadership.lost()).await.unwrap();
}

#[tokio::test]
async fn a_reopened_store_has_everything_and_its_revisions_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let before = {
        let store = SledStore::open(folder.path()).unwrap();
        put(&store, "a", "1").await;
        put(&store, "gone", "1").await;
        let held = get(&store, "gone").await.unwrap().unwrap().revision;
        store.commit(&[Expect::revision("gone", held)], &[Write::delete("gone")]).await.unwrap();
        store.list("", "", 10).await.unwrap()
    };
    let store = SledStore::open(folder.path()).unwrap();
    assert_eq!(store.list("", "", 10).await.unwrap(), before);
    assert_eq!(before.revision, 3);
    assert_eq!(put(&store, "b", "1").await, 4);
    // How it came to revision 3 is forgotten.
    assert!(store.watch("", 3).await.is_ok());
    assert_eq!(store.watch("", 2).await.map(|_watch| ()), Err(StoreError::TooOld));
}

/// Writes as fast as it can and says which revisions are durable; ends only by being killed.
async fn write_until_killed(folder: &Path) {
    let store = SledStore::open(folder).unwrap();
    let mut index = store.list("", "", 1).await.unwrap().revision;
    loop {
        index += 1;
        let (key, pair) = (format!("k/{index:08}"), format!("p/{index:08}"));
        let value = format!("{index}:{}", "x".repeat(usize::try_from(index % 500).unwrap()));
        let writes = [Write::put(&key, value.clone()), Write::put(pair, value)];
        let done = store.commit(&[Expect::absent(&key)], &writes).await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "acked {}", done.revision).unwrap();
        out.flush().unwrap();
    }
}

#[tokio::test]
async fn a_store_whose_writer_was_killed_has_every_acknowledged_write() {
    const TEST: &str = "a_store_whose_writer_was_killed_has_every_acknowledged_write";
    /// Kills; each at another moment of the writer's work.
    const ROUNDS: u64 = 6;
    if let Some(folder) = std::env::var_os(CHILD_FOLDER) {
        return write_until_killed(Path::new(&folder)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut total = 0;
    for round in 1..=ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([TEST, "--exact", "--nocapture"])
            .env(CHILD_FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut acked = 0;
        let mut seen = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            // The last line may be cut by the kill.
            let Ok(line) = line else { break };
            let Some((_, number)) = line.split_once("acked ") else { continue };
            acked = number.trim().parse::<u64>().unwrap_or(acked).max(acked);
            seen += 1;
            if seen == round * 17 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(round * 17 <= seen, "the writer ended by itself after {seen} writes");
        let store = SledStore::open(folder.path()).unwrap();
        let revision = store.list("", "", 1).await.unwrap().revision;
        assert!(acked <= revision, "acknowledged {acked}, found {revision}");
        // Each revision wrote one pair: none is missing, none is half there.
        for index in 1..=revision {
            for prefix in ["k", "p"] {
                let key = format!("{prefix}/{index:08}");
                let entry = get(&store, &key).await.unwrap().unwrap();
                assert_eq!(entry.revision, index);
                assert!(entry.value.starts_with(format!("{index}:").as_bytes()));
            }
        }
        total = revision;
    }
    assert!(100 < total);
}
