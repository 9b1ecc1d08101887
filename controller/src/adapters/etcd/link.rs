//! Calls to the members of etcd: one at a time, the next one when it fails, each bounded in time.
//!
//! The members are tried in turn; the one that answered last is asked first. A connection that is in
//! doubt is made anew, with the certificates that are on the disk then.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, Error, Identity, ResponseHeader, TlsOptions,
};
use tokio::time::Instant;

use super::failure::Failure;
use super::guard::{Guard, Seen};

/// A member that does not even take a connection in this time is left out.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(1);
/// One member's time for one answer. etcd gives up a proposal itself after 5 s and two elections; what
/// is paused or cut off should not hold a leader for as long.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(3);
/// After this no other member is asked: an election takes 1 to 2 s.
const CALL_WAIT_MAX: Duration = Duration::from_secs(6);
/// After each member was asked once.
const TURN_WAIT: Duration = Duration::from_millis(100);

/// Certificates for etcd, PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// CA of etcd's servers.
    pub ca: PathBuf,
    /// This client's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Whether a call may be repeated when nobody knows what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
}

/// The members of a cluster.
pub(super) struct Members {
    members: Vec<Member>,
    current: AtomicUsize,
    tls: Option<TlsFiles>,
}

struct Member {
    endpoint: String,
    connection: Mutex<Connection>,
}

#[derive(Clone)]
struct Connection {
    /// Goes up with each connection, so that many calls that fail together make one anew.
    generation: u64,
    client: Client,
}

impl fmt::Debug for Members {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoints: Vec<_> = self.members.iter().map(|one| &one.endpoint).collect();
        formatter.debug_struct("Members").field("endpoints", &endpoints).finish_non_exhaustive()
    }
}

impl Members {
    /// Nothing is dialled before the first call.
    pub(super) async fn new(
        endpoints: &[String],
        tls: Option<TlsFiles>,
    ) -> Result<Self, (String, Failure)> {
        let mut members = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let client = open(endpoint, tls.as_ref())
                .await
                .map_err(|failure| (endpoint.clone(), failure))?;
            let connection = Mutex::new(Connection { generation: 0, client });
            members.push(Member { endpoint: endpoint.clone(), connection });
        }
        Ok(Self { members, current: AtomicUsize::new(0), tls })
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn endpoints(&self) -> String {
        self.members.iter().map(|one| one.endpoint.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// Asks the member whose turn it is. After a failure that is the member's it is another's turn.
    pub(super) async fn ask<T, F, Fut>(&self, allowed: Duration, what: F) -> Result<T, Failure>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        self.ask_one(self.current.load(Ordering::SeqCst), allowed, what).await
    }

    /// Asks one member.
    pub(super) async fn ask_one<T, F, Fut>(
        &self,
        index: usize,
        allowed: Duration,
        what: F,
    ) -> Result<T, Failure>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let Some(member) = self.members.get(index % self.members.len().max(1)) else {
            return Err(Failure::NotSent("there is no member to ask".to_owned()));
        };
        let connection = member.connection();
        let asked = tokio::time::timeout(allowed, what(connection.client)).await;
        let failure = match asked {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Failure::of(&error),
            Err(_late) => Failure::Unsure(format!("no answer in {} ms", allowed.as_millis())),
        };
        if failure.doubts_connection() || matches!(failure, Failure::NotNow(_)) {
            metrics::counter!(
                "vidi_controller_etcd_failures_total", "member" => member.endpoint.clone()
            )
            .increment(1);
            self.pass_on(index);
        }
        if failure.doubts_connection() {
            self.renew(member, connection.generation).await;
        }
        Err(match failure {
            Failure::NotSent(text) => Failure::NotSent(format!("{}: {text}", member.endpoint)),
            Failure::NotNow(text) => Failure::NotNow(format!("{}: {text}", member.endpoint)),
            Failure::Unsure(text) => Failure::Unsure(format!("{}: {text}", member.endpoint)),
            other => other,
        })
    }

    /// It is the next member's turn, unless somebody said so already.
    fn pass_on(&self, from: usize) {
        let next = (from + 1) % self.members.len().max(1);
        // It failed: somebody else has passed the turn on.
        let _passed = self.current.compare_exchange(from, next, Ordering::SeqCst, Ordering::SeqCst);
    }

    async fn renew(&self, member: &Member, generation: u64) {
        if member.connection().generation != generation {
            return;
        }
        match open(&member.endpoint, self.tls.as_ref()).await {
            Ok(client) => {
                let mut connection =
                    member.connection.lock().unwrap_or_else(PoisonError::into_inner);
                if connection.generation == generation {
                    *connection = Connection { generation: generation + 1, client };
                }
            }
            Err(failure) => {
                let error = failure.text();
                tracing::warn!(member = member.endpoint, error, "Cannot connect to etcd anew");
            }
        }
    }
}

impl Member {
    fn connection(&self) -> Connection {
        // Only whole values are put there.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn open(endpoint: &str, tls: Option<&TlsFiles>) -> Result<Client, Failure> {
    let mut options =
        ConnectOptions::new().with_connect_timeout(CONNECT_WAIT_MAX).with_require_leader(true);
    if let Some(files) = tls {
        let read = async |path: &PathBuf| {
            tokio::fs::read(path).await.map_err(|error| {
                Failure::NotSent(format!("cannot read {}: {error}", path.display()))
            })
        };
        let ca = Certificate::from_pem(read(&files.ca).await?);
        let identity = Identity::from_pem(read(&files.certificate).await?, read(&files.key).await?);
        options = options.with_tls(TlsOptions::new().ca_certificate(ca).identity(identity));
    }
    Client::connect([endpoint], Some(options)).await.map_err(|error| Failure::of(&error))
}

/// The members, and what was seen of them.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) members: Members,
    pub(super) guard: Guard,
}

impl Link {
    /// Asks one member after the other until one answers or the time is up.
    pub(super) async fn call<T, F, Fut>(&self, kind: Kind, what: F) -> Result<T, Failure>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<(Option<Seen>, T), Error>>,
    {
        let began = Instant::now();
        let mut tries: usize = 0;
        loop {
            let before = self.guard.highest();
            let failure = match self.members.ask(ANSWER_WAIT_MAX, &what).await {
                Ok((Some(seen), answer)) => match self.guard.check(before, seen) {
                    Ok(()) => return Ok(answer),
                    Err(text) => {
                        self.members.pass_on(self.members.current.load(Ordering::SeqCst));
                        Failure::Backward(text)
                    }
                },
                Ok((None, answer)) => return Ok(answer),
                Err(failure) => failure,
            };
            let again = match &failure {
                Failure::NotSent(_) | Failure::NotNow(_) => true,
                Failure::Unsure(_) | Failure::Backward(_) => kind == Kind::Read,
                Failure::Refused(_)
                | Failure::TooLarge(_)
                | Failure::NoSpace
                | Failure::Oversize
                | Failure::Compacted
                | Failure::Future
                | Failure::Foreign(_)
                | Failure::LeaseGone => false,
            };
            if !again || CALL_WAIT_MAX <= began.elapsed() {
                if let Failure::Backward(text) = &failure {
                    self.guard.give_up(text);
                }
                return Err(failure);
            }
            tries += 1;
            if tries.is_multiple_of(self.members.len().max(1)) {
                tokio::time::sleep(TURN_WAIT).await;
            }
        }
    }
}

/// What an answer's header says.
pub(super) fn seen(header: Option<&ResponseHeader>) -> Option<Seen> {
    header.map(|header| Seen {
        cluster: header.cluster_id(),
        revision: u64::try_from(header.revision()).unwrap_or(0),
    })
}
