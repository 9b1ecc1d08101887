//! A fleet without machines: simulated agents, gateways and users of a real controller, for measurements
//! of it.
//!
//! ```text
//!  agents   ── gRPC, mTLS, a certificate and a connection each ──▶ vidi-controller ──▶ sled or etcd
//!  gateways ── gRPC, mTLS, with their users' tokens ─────────────▶
//!  root     ── gRPC over the local socket ───────────────────────▶
//! ```
//! Commands on standard input, one a line; each is answered with one line of JSON:
//! `hosts N`, `users N`, `pool ID SPARE MOST`, `drop ID`, `desktops N [PID]`, `claims POOL|- RATE COUNT PID`,
//! `restart POOL|- USER`, `committed ID N ETCD PREFIX`. The end of standard input ends it.
#![expect(clippy::unwrap_used, reason = "a program for measurements: what does not hold ends it")]

mod agents;
mod bare;
mod claims;
mod guests;
mod people;
mod say;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::{Instant, sleep};
use vidi_kit::Tasks;

use crate::agents::Common;
use crate::claims::Volley;
use crate::people::People;
use crate::say::{cpu_ms, say};

/// Between two looks at what is waited for.
const LOOK_PERIOD: Duration = Duration::from_millis(50);
/// Between two looks at a pool, which is counted anew for each.
const POOL_PERIOD: Duration = Duration::from_millis(200);

/// Where the controller is, and how the hosts are.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// The controller's local socket; this program runs as root.
    #[arg(long)]
    socket: PathBuf,
    /// `host:port` of the controller.
    #[arg(long)]
    address: String,
    /// A desktop that is started is ready after this.
    #[arg(long, default_value_t = 300)]
    ready_ms: u32,
}

#[tokio::main]
async fn main() {
    vidi_kit::tls::install_provider();
    let common = Arc::new(Common::new(Arguments::parse(), Tasks::new()));
    let mut fleet = Fleet { common, people: None, hosts: 0, made: 0 };
    say(&json!({ "event": "ready" }));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let words: Vec<&str> = line.split_whitespace().collect();
        say(&fleet.obey(&words).await);
    }
}

struct Fleet {
    common: Arc<Common>,
    people: Option<Arc<People>>,
    hosts: usize,
    /// Desktops that were made one by one.
    made: usize,
}

impl Fleet {
    async fn obey(&mut self, words: &[&str]) -> Value {
        let number = |word: &str| word.parse::<usize>().unwrap();
        let pool = |word| Some(word).filter(|word| *word != "-");
        match *words {
            ["hosts", count] => self.add_hosts(number(count)).await,
            ["users", count] => self.sign_in(number(count)).await,
            ["pool", id, spare, most] => {
                self.make_pool(id, number(spare), most.parse().unwrap()).await
            }
            ["drop", id] => self.drop_pool(id).await,
            ["desktops", count] => self.make_desktops(number(count), None).await,
            ["desktops", count, pid] => {
                self.make_desktops(number(count), Some(pid.parse().unwrap())).await
            }
            ["claims", from, rate, count, pid] => {
                let (rate, pid) = (rate.parse().unwrap(), pid.parse().unwrap());
                let volley = Volley { pool: pool(from), rate, count: number(count), pid };
                let people = self.people().await;
                claims::fire(&self.common, &people, volley).await
            }
            ["restart", from, user] => self.restart(pool(from), number(user)).await,
            ["committed", id, count, endpoint, prefix] => {
                let people = self.people().await;
                bare::compare(&people, (id, number(count)), (endpoint, prefix)).await
            }
            _ => json!({ "event": "not understood" }),
        }
    }

    async fn people(&mut self) -> Arc<People> {
        if self.people.is_none() {
            self.people = Some(Arc::new(People::new(&self.common).await));
        }
        Arc::clone(self.people.as_ref().unwrap())
    }

    async fn add_hosts(&mut self, count: usize) -> Value {
        let began = Instant::now();
        agents::add(&self.common, self.hosts, count).await;
        self.hosts = self.hosts.max(count);
        while self.common.linked() < self.hosts {
            sleep(LOOK_PERIOD).await;
        }
        json!({ "event": "hosts", "hosts": self.hosts, "seconds": began.elapsed().as_secs_f64() })
    }

    async fn sign_in(&mut self, count: usize) -> Value {
        let began = Instant::now();
        self.people().await;
        // Nobody else holds it between two commands.
        let people = Arc::get_mut(self.people.as_mut().unwrap()).unwrap();
        people.sign_in(count).await;
        let users = people.count();
        json!({ "event": "users", "users": users, "seconds": began.elapsed().as_secs_f64() })
    }

    async fn make_pool(&mut self, id: &str, spare: usize, most: u32) -> Value {
        let people = self.people().await;
        let (began, before) = (Instant::now(), self.common.desktops());
        let wanted = u32::try_from(spare).unwrap();
        if let Err(status) = people.make_pool(id, wanted, most).await {
            return json!({ "event": "pool", "error": status.message(), "code": format!("{:?}", status.code()) });
        }
        while self.common.desktops() < before + spare {
            sleep(LOOK_PERIOD).await;
        }
        let placed = began.elapsed().as_secs_f64();
        while people.pool(id).await.status.unwrap_or_default().ready < wanted {
            sleep(POOL_PERIOD).await;
        }
        let ready = began.elapsed().as_secs_f64();
        json!({ "event": "pool", "desktops": spare, "placed_s": placed, "ready_s": ready })
    }

    /// Ends a pool with all that is in it, and waits until it is gone.
    async fn drop_pool(&mut self, id: &str) -> Value {
        let people = self.people().await;
        let began = Instant::now();
        people.drop_pool(id).await;
        while !people.is_empty().await {
            sleep(POOL_PERIOD).await;
        }
        json!({ "event": "drop", "seconds": began.elapsed().as_secs_f64() })
    }

    /// Makes desktops and waits until they are ready; says what the controller, if that is named, took of a
    /// processor until their hosts had heard of the last one.
    async fn make_desktops(&mut self, count: usize, pid: Option<u32>) -> Value {
        let people = self.people().await;
        let (began, before) = (Instant::now(), self.common.desktops());
        let cpu_before = pid.map_or(0.0, cpu_ms);
        self.made += count;
        people.make_desktops(count).await;
        while self.common.desktops() < before + count {
            sleep(LOOK_PERIOD).await;
        }
        let placed = began.elapsed().as_secs_f64();
        let cpu = pid.map_or(0.0, cpu_ms) - cpu_before;
        let is_ready =
            |one: &vidi_proto::v1::Desktop| one.status.as_ref().is_some_and(|it| it.ready);
        while people.desktops().await.iter().filter(|one| is_ready(one)).count() < self.made {
            sleep(POOL_PERIOD).await;
        }
        let ready = began.elapsed().as_secs_f64();
        json!({
            "event": "desktops", "desktops": count, "made_s": placed, "ready_s": ready,
            "cpu_ms_each": cpu / claims::as_f64(count.max(1)),
        })
    }

    /// The controller was killed and is being started just now.
    async fn restart(&mut self, pool: Option<&str>, user: usize) -> Value {
        let people = self.people().await;
        self.common.begin_era();
        let began = Instant::now();
        let claims = async {
            let (answered_ms, desktop_ms) = claims::first(&people, user, pool).await;
            (answered_ms / 1_000.0, desktop_ms / 1_000.0)
        };
        let back = async {
            while self.common.linked() < self.hosts {
                sleep(LOOK_PERIOD).await;
            }
            began.elapsed().as_secs_f64()
        };
        let ((answered_s, desktop_s), back_s) = tokio::join!(claims, back);
        json!({
            "event": "restart", "first_answer_s": answered_s, "first_desktop_s": desktop_s,
            "agents_back_s": back_s, "last_fault": self.common.last_fault(),
        })
    }
}
