//! Placements through the controller, and then the same transactions by etcd alone: each with the keys and
//! values that the controller wrote, one after another, with its two comparisons.

use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, Event, EventType, Txn, TxnOp, WatchOptions, WatchStream,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::people::People;

/// Where the repetition writes.
const BARE: &str = "/bare/";
/// Behind the controller's prefix: which host has which desktop.
const PLACES: &str = "alloc/";
/// Behind the controller's prefix: in each transaction, and the repetition has one of its own.
const NONCE: &str = "leader/nonce";
/// Bytes of one message of a watch: many transactions, should it fall behind.
const WATCHED_BYTES_MAX: usize = 64 << 20;

/// One write of a transaction; without a value the key goes.
type Write = (Vec<u8>, Option<Vec<u8>>);

/// What was written, and how long that took.
struct Written {
    /// By revision.
    transactions: Vec<(i64, Vec<Write>)>,
    took: Duration,
}

/// Places desktops of a new pool, until the last place is committed; gives the report.
pub(crate) async fn compare(
    people: &People,
    (id, count): (&str, usize),
    (endpoint, prefix): (&str, &str),
) -> Value {
    let mut client = Client::connect([endpoint], None).await.unwrap();
    let mut watch = client.watch_client().max_decoding_message_size(WATCHED_BYTES_MAX);
    let commits = watch.watch(prefix, Some(WatchOptions::new().with_prefix())).await.unwrap();
    let most = u32::try_from(count).unwrap();
    let writing = async { Ok(written(commits, prefix, count).await) };
    let written = match tokio::try_join!(writing, people.make_pool(id, most, most)) {
        Ok((written, ())) => written,
        Err(status) => {
            let code = format!("{:?}", status.code());
            return json!({ "event": "committed", "error": status.message(), "code": code });
        }
    };
    let writes: usize = written.transactions.iter().map(|(_, writes)| writes.len()).sum();
    let began = Instant::now();
    repeat(&mut client, &written.transactions).await;
    let bare = began.elapsed();
    json!({
        "event": "committed", "placements": count, "transactions": written.transactions.len(),
        "writes": writes, "ours_s": written.took.as_secs_f64(), "bare_s": bare.as_secs_f64(),
    })
}

/// What the controller writes until it has noted so many places.
async fn written(mut commits: WatchStream, prefix: &str, count: usize) -> Written {
    let (places, nonce) = (format!("{prefix}{PLACES}"), format!("{prefix}{NONCE}"));
    let began = Instant::now();
    let mut transactions = Vec::<(i64, Vec<Write>)>::new();
    let mut placed = 0;
    while placed < count {
        let message = commits.message().await.unwrap().expect("etcd ends no watch by itself");
        for event in message.events() {
            let Some(one) = event.kv() else { continue };
            let is_new = is_put(event) && one.version() == 1;
            placed += usize::from(is_new && one.key().starts_with(places.as_bytes()));
            let revision = one.mod_revision();
            if transactions.last().is_none_or(|(last, _)| *last != revision) {
                transactions.push((revision, Vec::new()));
            }
            if let Some((_, writes)) =
                transactions.last_mut().filter(|_| one.key() != nonce.as_bytes())
            {
                let key = [BARE.as_bytes(), one.key()].concat();
                writes.push((key, is_put(event).then(|| one.value().to_vec())));
            }
        }
    }
    Written { transactions, took: began.elapsed() }
}

fn is_put(event: &Event) -> bool {
    event.event_type() == EventType::Put
}

/// One after another, as a leader does: each is fenced, and follows the one before.
async fn repeat(client: &mut Client, transactions: &[(i64, Vec<Write>)]) {
    let (fence, nonce) = (format!("{BARE}fence"), format!("{BARE}nonce"));
    client.put(fence.clone(), "", None).await.unwrap();
    let answer = client.put(nonce.clone(), "", None).await.unwrap();
    let mut before = answer.header().unwrap().revision();
    for (_, writes) in transactions {
        let compares = [
            Compare::version(fence.clone(), CompareOp::Greater, 0),
            Compare::mod_revision(nonce.clone(), CompareOp::Equal, before),
        ];
        let writes = writes.iter().map(|(key, value)| match value {
            Some(value) => TxnOp::put(key.clone(), value.clone(), None),
            None => TxnOp::delete(key.clone(), None),
        });
        let all: Vec<TxnOp> =
            writes.chain([TxnOp::put(nonce.clone(), before.to_string(), None)]).collect();
        let answer = client.txn(Txn::new().when(compares).and_then(all)).await.unwrap();
        assert!(answer.succeeded(), "nobody else writes here");
        before = answer.header().unwrap().revision();
    }
}
