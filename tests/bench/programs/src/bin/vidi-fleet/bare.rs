//! Placements through the controller, and then the same transactions by etcd alone: each with the keys and
//! values that the controller wrote, one after another, with its two comparisons.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::agents::Common;
use crate::people::People;

const LOOK_PERIOD: Duration = Duration::from_millis(5);
/// Where the repetition writes.
const BARE: &str = "/bare/";
/// Keys of one answer: etcd's client takes 4 MiB.
const PAGE: i64 = 2_000;

/// One transaction's writes.
type Writes = Vec<(Vec<u8>, Vec<u8>)>;

/// Places desktops of a new pool; gives the report.
pub(crate) async fn compare(
    common: &Arc<Common>,
    people: &People,
    (id, count): (&str, usize),
    (endpoint, prefix): (&str, &str),
) -> Value {
    let mut client = Client::connect([endpoint], None).await.unwrap();
    let first = revision(&mut client).await;
    let before = common.desktops();
    let began = Instant::now();
    let most = u32::try_from(count).unwrap();
    if let Err(status) = people.make_pool(id, most, most).await {
        return json!({ "event": "committed", "error": status.message(), "code": format!("{:?}", status.code()) });
    }
    while common.desktops() < before + count {
        sleep(LOOK_PERIOD).await;
    }
    let ours = began.elapsed();
    let last = revision(&mut client).await;
    let transactions = written(&mut client, prefix, first + 1, last).await;
    let puts: usize = transactions.iter().map(Vec::len).sum();
    let began = Instant::now();
    let asked = repeat(&mut client, &transactions).await;
    let bare = began.elapsed();
    json!({
        "event": "committed", "placements": count, "transactions": transactions.len(),
        "transactions_ours": last - first, "puts": puts, "repeated": asked,
        "ours_s": ours.as_secs_f64(), "bare_s": bare.as_secs_f64(),
    })
}

async fn revision(client: &mut Client) -> i64 {
    let answer = client.get(BARE, None).await.unwrap();
    answer.header().unwrap().revision()
}

/// What was written between two revisions, by the transaction that wrote it last.
async fn written(client: &mut Client, prefix: &str, first: i64, last: i64) -> Vec<Writes> {
    let mut found = BTreeMap::<i64, Writes>::new();
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().unwrap() += 1;
    let mut from = prefix.as_bytes().to_vec();
    loop {
        let options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
        let answer = client.get(from.clone(), Some(options)).await.unwrap();
        for one in answer.kvs() {
            if (first..=last).contains(&one.mod_revision()) {
                let key = [BARE.as_bytes(), one.key()].concat();
                found.entry(one.mod_revision()).or_default().push((key, one.value().to_vec()));
            }
        }
        let Some(after) = answer.kvs().last().filter(|_| answer.more()) else { break };
        from = [after.key(), &[0]].concat();
    }
    found.into_values().collect()
}

/// One after another, as a leader does: each is fenced, and follows the one before.
async fn repeat(client: &mut Client, transactions: &[Writes]) -> usize {
    let (fence, nonce) = (format!("{BARE}fence"), format!("{BARE}nonce"));
    client.put(fence.clone(), "", None).await.unwrap();
    let answer = client.put(nonce.clone(), "", Some(PutOptions::new())).await.unwrap();
    let mut before = answer.header().unwrap().revision();
    let mut done = 0;
    for writes in transactions {
        let compares = [
            Compare::version(fence.clone(), CompareOp::Greater, 0),
            Compare::mod_revision(nonce.clone(), CompareOp::Equal, before),
        ];
        let puts = writes.iter().map(|(key, value)| TxnOp::put(key.clone(), value.clone(), None));
        let puts: Vec<TxnOp> =
            puts.chain([TxnOp::put(nonce.clone(), before.to_string(), None)]).collect();
        let answer = client.txn(Txn::new().when(compares).and_then(puts)).await.unwrap();
        assert!(answer.succeeded(), "nobody else writes here");
        before = answer.header().unwrap().revision();
        done += 1;
    }
    done
}
