//! The store in etcd while its members are killed, paused, cut off, compacted, filled and restored.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]
#![expect(clippy::print_stderr, reason = "what a failed test has measured helps to find out why")]

mod etcd;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use vidi_controller::adapters::etcd::{EtcdStore, OpenError};
use vidi_controller::ports::{
    Change, CommitError, Expect, LIST_ENTRIES_MAX, Leadership, Lost, Store, StoreError, Watch,
    Write, get,
};
use vidi_kit::Tasks;

use self::etcd::{Cluster, Proxy, Wire};

/// What takes longer than this does not come.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// Another controller must lead within this time after a leader was cut off.
const FAILOVER_MAX: Duration = Duration::from_secs(5);
/// Tasks that increment one counter.
const TASKS: usize = 6;

async fn put(store: &EtcdStore, key: &str, value: &str) -> u64 {
    let revision = get(store, key).await.unwrap().map_or(0, |entry| entry.revision);
    let write = Write::put(key, value.to_owned());
    store.commit(&[Expect::revision(key, revision)], &[write]).await.unwrap().revision
}

/// What a client knows of its increments.
#[derive(Debug, Default)]
struct History {
    /// Revision and value of what was acknowledged.
    done: Vec<(u64, u64)>,
    unknown: u64,
    refused: u64,
}

/// Increments a counter by compare-and-swap until told to stop, and never repeats one of which it does
/// not know what became of it. No two commits may have had the same revision.
async fn increment(store: Arc<EtcdStore>, stop: Arc<AtomicBool>) -> History {
    let mut history = History::default();
    let mut last_seen = 0;
    while !stop.load(Ordering::SeqCst) {
        let Ok(found) = get(&*store, "counter").await else { continue };
        let (value, revision) = found.map_or((0, 0), |entry| {
            (str::from_utf8(&entry.value).unwrap().parse::<u64>().unwrap(), entry.revision)
        });
        // What one client reads never goes back.
        assert!(last_seen <= revision, "read {revision} after {last_seen}");
        last_seen = revision;
        let write = Write::put("counter", (value + 1).to_string());
        match store.commit(&[Expect::revision("counter", revision)], &[write]).await {
            Ok(done) => {
                assert!(revision < done.revision);
                history.done.push((done.revision, value + 1));
                last_seen = done.revision;
            }
            Err(CommitError::Unknown(_)) => history.unknown += 1,
            Err(CommitError::Conflict { .. } | CommitError::Unavailable(_)) => history.refused += 1,
            Err(error @ CommitError::TooLarge(_)) => panic!("{error}"),
        }
    }
    history
}

/// Clients that count while something goes wrong.
struct Counting {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<History>,
}

impl Counting {
    fn start(stores: &[Arc<EtcdStore>]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for index in 0..TASKS {
            let store = Arc::clone(stores.get(index % stores.len()).unwrap());
            tasks.spawn(increment(store, Arc::clone(&stop)));
        }
        Self { stop, tasks }
    }

    /// The counter is what was acknowledged, and at most what nobody knows of besides.
    async fn check(self, store: &EtcdStore) {
        self.stop.store(true, Ordering::SeqCst);
        let histories = timeout(WAIT_MAX, self.tasks.join_all()).await.expect("the clients end");
        let sum = |of: fn(&History) -> u64| histories.iter().map(of).sum::<u64>();
        let (unknown, refused) = (sum(|one| one.unknown), sum(|one| one.refused));
        let mut acknowledged: Vec<_> = histories.iter().flat_map(|one| &one.done).collect();
        acknowledged.sort_unstable();
        // In the order of revisions each write saw the one before, whoever made it.
        for pair in acknowledged.windows(2) {
            let &[(_, before), (_, after)] = pair else { unreachable!("a window of two") };
            assert!(before < after, "{acknowledged:?}");
        }
        let done = u64::try_from(acknowledged.len()).unwrap();
        let entry = get(store, "counter").await.unwrap().unwrap();
        let value: u64 = str::from_utf8(&entry.value).unwrap().parse().unwrap();
        eprintln!("counter {value}: {done} acknowledged, {unknown} unknown, {refused} refused");
        assert!(done <= value, "acknowledged writes were lost: {value} of {done}");
        assert!(value <= done + unknown, "written twice: {value} of {done} and {unknown}");
        assert!(0 < done);
    }
}

/// Increments after which the clients are taken to go on.
const GOES_ON: u64 = 20;

/// Waits until the counter goes on, so that much was written since.
async fn goes_on(store: &EtcdStore) {
    let counter = async || get(store, "counter").await.ok().flatten().map(|entry| entry.revision);
    let until = Instant::now() + WAIT_MAX;
    let mut before = None;
    loop {
        match (before, counter().await) {
            (Some(before), Some(now)) if before + GOES_ON <= now => return,
            (None, Some(now)) => before = Some(now),
            _ => {}
        }
        assert!(Instant::now() < until, "nothing is written any more");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_when_the_leading_member_is_killed() {
    let mut cluster = Cluster::start(3, &[]).await;
    let store = cluster.store().await;
    let counting = Counting::start(&[Arc::clone(&store), cluster.store().await]);
    for _ in 0..2 {
        goes_on(&store).await;
        let leader = cluster.leader().await;
        cluster.kill(leader);
        let began = Instant::now();
        goes_on(&store).await;
        eprintln!("writes go on {} ms after the kill", began.elapsed().as_millis());
        cluster.restart(leader);
    }
    goes_on(&store).await;
    counting.check(&store).await;
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_when_members_are_paused() {
    let cluster = Cluster::start(3, &[]).await;
    let store = cluster.store().await;
    let counting = Counting::start(&[Arc::clone(&store)]);
    goes_on(&store).await;
    let leader = cluster.leader().await;
    cluster.pause(leader);
    goes_on(&store).await;
    cluster.resume(leader);
    goes_on(&store).await;
    // All of them, for longer than a call waits for an answer.
    for index in 0..3 {
        cluster.pause(index);
    }
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    for index in 0..3 {
        cluster.resume(index);
    }
    goes_on(&store).await;
    counting.check(&store).await;
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_when_answers_do_not_come() {
    let cluster = Cluster::start(3, &[]).await;
    let wires = Proxy::to_all(&cluster).await;
    let endpoints: Vec<_> = wires.iter().map(|wire| wire.endpoint.clone()).collect();
    let store = cluster.store_on(endpoints, "mark").await;
    let counting = Counting::start(&[Arc::clone(&store)]);
    for wire in &wires {
        goes_on(&store).await;
        wire.set(Wire::NoAnswers);
        goes_on(&store).await;
        wire.set(Wire::Whole);
    }
    wires.first().unwrap().set(Wire::Cut);
    goes_on(&store).await;
    wires.first().unwrap().set(Wire::Whole);
    counting.check(&store).await;
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_unknown_and_its_repetition_tells() {
    let cluster = Cluster::start(1, &[]).await;
    let wires = Proxy::to_all(&cluster).await;
    let wire = wires.first().unwrap();
    let store = cluster.store_on(vec![wire.endpoint.clone()], "mark").await;
    let commit = async || store.commit(&[Expect::absent("a")], &[Write::put("a", "mine")]).await;
    wire.set(Wire::NoAnswers);
    let began = Instant::now();
    assert!(matches!(commit().await, Err(CommitError::Unknown(_))));
    assert!(began.elapsed() < WAIT_MAX);
    wire.set(Wire::Whole);
    // As the port says: repeated as it is, a conflict in which the value is ours is success.
    assert_eq!(commit().await, Err(CommitError::Conflict { key: "a".to_owned() }));
    assert_eq!(get(&*store, "a").await.unwrap().unwrap().value.as_ref(), b"mine");
    // A member that is not there has done nothing, and says so in time.
    let mut cluster = cluster;
    cluster.kill(0);
    let began = Instant::now();
    let gone = store.commit(&[Expect::absent("b")], &[Write::put("b", "1")]).await;
    // The wire takes connections and closes them: then it may have been sent.
    assert!(matches!(gone, Err(CommitError::Unknown(_) | CommitError::Unavailable(_))), "{gone:?}");
    let read = store.list("", "", 1).await;
    assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    assert!(began.elapsed() < WAIT_MAX, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_store_without_members_says_that_nothing_was_done() {
    let mut cluster = Cluster::start(1, &[]).await;
    let store = cluster.store().await;
    cluster.kill(0);
    let commit = async || store.commit(&[Expect::absent("b")], &[Write::put("b", "1")]).await;
    // On the connection that was there it may have been sent; afterwards there is none.
    let mut gone = commit().await;
    if matches!(gone, Err(CommitError::Unknown(_))) {
        gone = commit().await;
    }
    let Err(CommitError::Unavailable(why)) = gone else { panic!("{gone:?}") };
    assert!(why.contains("refused") && why.contains("http://127."), "{why}");
    let tasks = Tasks::new();
    let none = EtcdStore::open(cluster.settings(cluster.endpoints(), "mark"), &tasks).await;
    let error = none.err().unwrap();
    assert!(matches!(error, OpenError::NoAnswer(_)), "{error}");
    cluster.restart(0);
    let until = Instant::now() + WAIT_MAX;
    while commit().await.is_err() {
        assert!(Instant::now() < until);
    }
}

/// Follows a watch, and lists again whenever it is lost, until it knows `key`.
async fn follow(
    store: &EtcdStore,
    prefix: &str,
    last: &str,
    known: &mut BTreeMap<String, Vec<u8>>,
    mut watch: Option<Box<dyn Watch>>,
) -> u32 {
    let mut losses = 0;
    let until = Instant::now() + WAIT_MAX;
    while !known.contains_key(last) {
        assert!(Instant::now() < until, "{last} was never seen");
        let Some(running) = &mut watch else {
            let Ok(page) = store.list(prefix, "", LIST_ENTRIES_MAX).await else { continue };
            assert!(!page.more);
            let entries = page.entries.into_iter();
            *known = entries.map(|entry| (entry.key, entry.value.to_vec())).collect();
            watch = store.watch(prefix, page.revision).await.ok();
            continue;
        };
        match timeout(WAIT_MAX, running.next()).await.expect("a watch that says nothing") {
            Ok(batch) => {
                for Change { key, value } in batch.changes {
                    match value {
                        Some(value) => known.insert(key, value.to_vec()),
                        None => known.remove(&key),
                    };
                }
            }
            Err(Lost) => {
                losses += 1;
                watch = None;
            }
        }
    }
    losses
}

#[tokio::test]
async fn a_watch_is_lost_with_its_member_and_a_new_list_finds_everything() {
    let cluster = Cluster::start(3, &[]).await;
    let wires = Proxy::to_all(&cluster).await;
    let endpoints: Vec<_> = wires.iter().map(|wire| wire.endpoint.clone()).collect();
    let watching = cluster.store_on(endpoints, "mark").await;
    let writing = cluster.store().await;
    let mut known = BTreeMap::new();
    put(&writing, "d/0", "x").await;
    assert_eq!(follow(&watching, "d/", "d/0", &mut known, None).await, 0);
    let watch = watching.watch("d/", 1).await.unwrap();
    // The watch is on the first member, which from now on says nothing.
    wires.first().unwrap().set(Wire::Cut);
    put(&writing, "d/1", "y").await;
    let held = get(&*writing, "d/0").await.unwrap().unwrap().revision;
    writing.commit(&[Expect::revision("d/0", held)], &[Write::delete("d/0")]).await.unwrap();
    put(&writing, "d/2", "z").await;
    let losses = follow(&watching, "d/", "d/2", &mut known, Some(watch)).await;
    assert_eq!(losses, 1);
    let keys: Vec<_> = known.keys().map(String::as_str).collect();
    assert_eq!(keys, ["d/1", "d/2"]);
}

#[tokio::test]
async fn a_compaction_loses_watches_that_are_behind_and_no_others() {
    let mut cluster = Cluster::start(1, &[]).await;
    let wires = Proxy::to_all(&cluster).await;
    let wire = wires.first().unwrap();
    let store = cluster.store_on(vec![wire.endpoint.clone()], "mark").await;
    let first = put(&store, "d/1", "v").await;
    let mut current = store.watch("d/", first).await.unwrap();
    let second = put(&store, "d/2", "v").await;
    put(&store, "d/3", "v").await;
    let third = put(&store, "d/4", "v").await;
    let mut operator = cluster.operator(0).await;
    operator.compact(i64::try_from(third).unwrap(), None).await.unwrap();
    // What runs goes on.
    for expected in [second, second + 1, third] {
        assert_eq!(current.next().await.unwrap().revision, expected);
    }
    // What is behind is told so.
    assert_eq!(store.watch("d/", second).await.map(drop), Err(StoreError::TooOld));
    let mut known = BTreeMap::new();
    let behind = store.watch("d/", second).await.ok();
    assert_eq!(follow(&store, "d/", "d/4", &mut known, behind).await, 0);
    assert_eq!(known.len(), 4);
    let mut watch = store.watch("d/", third).await.unwrap();
    let fourth = put(&store, "d/5", "v").await;
    assert_eq!(watch.next().await.unwrap().revision, fourth);
    // A server that ends ends its watches.
    cluster.kill(0);
    assert_eq!(timeout(WAIT_MAX, watch.next()).await.unwrap(), Err(Lost));
}

#[tokio::test]
async fn a_full_etcd_says_so_and_goes_on_when_there_is_room() {
    let cluster = Cluster::start(1, &["--quota-backend-bytes=8388608"]).await;
    let store = cluster.store().await;
    let revision = put(&store, "nonce", "0").await;
    let value = vec![7; 900_000];
    let mut index = 0;
    let mut held = revision;
    let why = loop {
        let key = format!("fill/{index}");
        let writes = [Write::put(&key, value.clone()), Write::put("nonce", key.clone())];
        let expect = [Expect::revision("nonce", held), Expect::absent(&key)];
        match store.commit(&expect, &writes).await {
            Ok(done) => held = done.revision,
            Err(CommitError::Unavailable(why)) => break why,
            // The last one that fitted was written, and etcd says that it is full.
            Err(CommitError::Unknown(_)) => {
                let nonce = get(&*store, "nonce").await.unwrap().unwrap();
                assert_eq!(nonce.value, key.as_bytes());
                held = nonce.revision;
            }
            Err(error) => panic!("{error}"),
        }
        index += 1;
        assert!(index < 100, "it is never full");
    };
    assert!(why.contains("etcd is full") && why.contains("alarm disarm"), "{why}");
    // It can be read, and nothing half was written.
    let (mut found, mut after) = (0, String::new());
    loop {
        // A busy etcd notices late that it is full: it may be more than one page holds.
        let page = store.list("fill/", &after, 100).await.unwrap();
        found += page.entries.len();
        match page.entries.last() {
            Some(last) if page.more => after.clone_from(&last.key),
            _ => break,
        }
    }
    assert_eq!(found, index);
    for old in 0..index {
        let key = format!("fill/{old}");
        let revision = get(&*store, &key).await.unwrap().unwrap().revision;
        store.commit(&[Expect::revision(&key, revision)], &[Write::delete(&key)]).await.unwrap();
    }
    cluster.make_room().await;
    put(&store, "nonce", "again").await;
}

/// Leads from a wire of its own.
async fn contender(cluster: &Cluster, name: &str) -> (Vec<Proxy>, Arc<EtcdStore>) {
    let wires = Proxy::to_all(cluster).await;
    let endpoints: Vec<_> = wires.iter().map(|wire| wire.endpoint.clone()).collect();
    let store = cluster.store_on(endpoints, name).await;
    (wires, store)
}

async fn leads(store: &EtcdStore, name: &str) -> Leadership {
    timeout(WAIT_MAX, store.lead(name)).await.expect("nobody leads").unwrap()
}

async fn failover(cluster: Cluster) {
    let (wires, first) = contender(&cluster, "c1").await;
    let (_others, second) = contender(&cluster, "c2").await;
    let leadership = leads(&first, "c1").await;
    put(&first, "a", "1").await;
    first.commit(&[leadership.fence()], &[Write::put("a", "2")]).await.unwrap();
    let waiting = timeout(Duration::from_millis(50), second.lead("c2")).await;
    assert!(waiting.is_err(), "two lead");
    // The holder's wires stop, as they do for a process that is paused.
    let cut = Instant::now();
    for wire in &wires {
        wire.set(Wire::Cut);
    }
    let (next, lost) = tokio::join!(leads(&second, "c2"), async {
        leadership.lost().await;
        cut.elapsed()
    });
    let taken = cut.elapsed();
    eprintln!("lost after {} ms, led by another after {} ms", lost.as_millis(), taken.as_millis());
    assert!(taken < FAILOVER_MAX, "{taken:?}");
    second.commit(&[next.fence()], &[Write::put("a", "3")]).await.unwrap();
    for wire in &wires {
        wire.set(Wire::Whole);
    }
    // What the first still wants to write is refused.
    let until = Instant::now() + WAIT_MAX;
    loop {
        match first.commit(&[leadership.fence()], &[Write::put("a", "late")]).await {
            Err(CommitError::Conflict { key }) => break assert_eq!(key, "leader"),
            Err(CommitError::Unknown(_) | CommitError::Unavailable(_)) => {}
            other => panic!("{other:?}"),
        }
        assert!(Instant::now() < until);
    }
    assert_eq!(get(&*first, "a").await.unwrap().unwrap().value.as_ref(), b"3");
    // A leader that ends in order is followed at once.
    let ended = Instant::now();
    drop(next);
    let third = leads(&first, "c1").await;
    let taken = ended.elapsed();
    eprintln!("after a leader that resigned: {} ms", taken.as_millis());
    assert!(taken < Duration::from_secs(2), "{taken:?}");
    drop(third);
}

#[tokio::test]
async fn a_leader_that_is_cut_off_is_followed_within_five_seconds_with_one_member() {
    failover(Cluster::start(1, &[]).await).await;
}

#[tokio::test]
async fn a_leader_that_is_cut_off_is_followed_within_five_seconds_with_three_members() {
    failover(Cluster::start(3, &[]).await).await;
}

#[tokio::test]
async fn a_leader_outlasts_the_loss_of_etcds_leading_member() {
    let mut cluster = Cluster::start(3, &[]).await;
    let store = cluster.store().await;
    let leadership = leads(&store, "c1").await;
    let member = cluster.leader().await;
    cluster.kill(member);
    let lost = timeout(Duration::from_secs(6), leadership.lost()).await;
    assert!(lost.is_err(), "an election in etcd took the leadership away");
    store.commit(&[leadership.fence()], &[Write::put("a", "1")]).await.unwrap();
}

#[tokio::test]
async fn what_another_deletes_ends_the_leadership() {
    let cluster = Cluster::start(1, &[]).await;
    let store = cluster.store().await;
    let leadership = leads(&store, "c1").await;
    cluster.operator(0).await.delete(format!("{}leader", etcd::PREFIX), None).await.unwrap();
    timeout(Duration::from_secs(5), leadership.lost()).await.expect("it does not notice");
}

#[tokio::test]
async fn an_etcd_that_knows_less_than_it_did_is_refused() {
    let cluster = Cluster::start(1, &[]).await;
    let tasks = Tasks::new();
    let settings = cluster.settings(cluster.endpoints(), "mark");
    let store = EtcdStore::open(settings.clone(), &tasks).await.unwrap();
    for index in 0..5 {
        put(&store, &format!("k/{index}"), "v").await;
    }
    tasks.stop().await;
    let text = std::fs::read_to_string(&settings.mark).unwrap();
    let revision: u64 = text.trim().rsplit_once(' ').unwrap().1.parse().unwrap();
    assert_eq!(revision, store.list("", "", 1).await.unwrap().revision);
    drop(store);
    // The same again: no complaint.
    let tasks = Tasks::new();
    drop(EtcdStore::open(settings.clone(), &tasks).await.unwrap());
    // As if a newer state had been seen: what a restored backup looks like.
    let newer = text.replace(&format!("revision {revision}"), "revision 1000000");
    std::fs::write(&settings.mark, newer).unwrap();
    let error = EtcdStore::open(settings.clone(), &tasks).await.err().unwrap().to_string();
    assert!(error.contains("was at 1000000") && error.contains("remove the file"), "{error}");
    // Another cluster under the same name.
    let other = Cluster::start(1, &[]).await;
    let elsewhere = vidi_controller::adapters::etcd::EtcdSettings {
        endpoints: other.endpoints(),
        ..settings.clone()
    };
    let error = EtcdStore::open(elsewhere, &tasks).await.err().unwrap().to_string();
    assert!(error.contains("is cluster") && error.contains("`[store] endpoints`"), "{error}");
    let both = [cluster.endpoints(), other.endpoints()].concat();
    let mixed = vidi_controller::adapters::etcd::EtcdSettings { endpoints: both, ..settings };
    let error = EtcdStore::open(mixed, &tasks).await.err().unwrap();
    assert!(matches!(error, OpenError::DifferentClusters(_)), "{error}");
}

#[tokio::test]
async fn a_store_that_goes_back_while_it_runs_is_given_up() {
    let mut cluster = Cluster::start(1, &[]).await;
    let store = cluster.store().await;
    for index in 0..20 {
        put(&store, &format!("k/{index}"), "v").await;
    }
    // Restored in place from an empty backup: the same names, and so the same cluster's id.
    cluster.kill(0);
    std::fs::remove_dir_all(cluster.folder.path().join("m0")).unwrap();
    cluster.restart(0);
    let until = Instant::now() + WAIT_MAX;
    let error = loop {
        match store.list("", "", 1).await {
            Err(StoreError::Damaged(text)) => break text,
            Err(StoreError::Unavailable(_)) => assert!(Instant::now() < until),
            other => panic!("{other:?}"),
        }
    };
    assert!(error.contains("restored"), "{error}");
    assert_eq!(timeout(WAIT_MAX, store.broken()).await.unwrap(), error);
}

#[tokio::test]
async fn etcd_is_reached_with_certificates_and_not_without() {
    let cluster = Cluster::start_with_tls().await;
    let store = cluster.store().await;
    let revision = put(&store, "a", "1").await;
    assert_eq!(get(&*store, "a").await.unwrap().unwrap().revision, revision);
    let tasks = Tasks::new();
    let mut settings = cluster.settings(cluster.endpoints(), "other-mark");
    let files = settings.tls.as_mut().unwrap();
    files.certificate = cluster.folder.path().join("none.pem");
    let error = EtcdStore::open(settings, &tasks).await.err().unwrap().to_string();
    assert!(error.contains("none.pem"), "{error}");
    let plain = cluster.endpoints().iter().map(|one| one.replace("https", "http")).collect();
    let mut settings = cluster.settings(plain, "other-mark");
    settings.tls = None;
    let error = EtcdStore::open(settings, &tasks).await.err().unwrap();
    assert!(matches!(error, OpenError::NoAnswer(_)), "{error}");
}
