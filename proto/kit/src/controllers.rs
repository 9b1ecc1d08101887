//! Which of an installation's controllers is asked: one of them leads, and the others say who.
//!
//! ```text
//!  configured addresses, one after the other ─▶ one that does not lead ─▶ the leader that it tells
//!        ▲                                                                        │ does not lead, or
//!        └────────────────────────────────────────────────────────────────────────┘ does not answer
//! ```
//! Whatever a controller tells is tried once and then the configured ones have their turn again: a
//! wrong or old word costs one call.

use std::sync::Arc;

use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::tls::{CONTROLLER_NAME, IdentityReceiver};
use crate::transport::{ConnectError, connect_tls};

/// The reason with which a controller that does not lead refuses, as in `vidi.v1.ErrorReason`.
const NOT_LEADER: &str = "NOT_LEADER";
/// Key of the leader's address in that refusal's metadata.
pub const LEADER: &str = "leader";
/// Longest address that is taken from a controller, in bytes: a DNS name and a port.
const ADDRESS_BYTES_MAX: usize = 260;

/// The leader's address as a controller that does not lead has told it, empty where it knows none;
/// none when the status says something else.
pub fn leader_of(status: &Status) -> Option<String> {
    if status.code() != Code::Unavailable {
        return None;
    }
    let mut info = status.get_details_error_info().filter(|info| info.reason == NOT_LEADER)?;
    Some(info.metadata.remove(LEADER).filter(|leader| is_address(leader)).unwrap_or_default())
}

/// Whether the call may be repeated with another controller, or with this one again: it said that it is
/// not available, or the connection broke before it said anything.
pub fn is_away(status: &Status) -> bool {
    // Only an error of this side's own has a source.
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

/// `host:port`, of bounded length.
fn is_address(text: &str) -> bool {
    let parts = text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
    text.len() <= ADDRESS_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && matches!(parts, Some((host, Ok(_))) if !host.is_empty())
}

/// The controllers that a daemon knows, and which one it asks now.
#[derive(Clone, Debug)]
pub struct Controllers {
    /// As configured.
    addresses: Vec<String>,
    /// Index of the configured one that is asked when none was told.
    at: usize,
    /// The leader that another has told.
    told: Option<String>,
}

impl Controllers {
    /// `host:port` of each; the first one is asked first.
    pub fn new(addresses: &[String]) -> Self {
        Self { addresses: addresses.to_vec(), at: 0, told: None }
    }

    /// Who is asked now; none when none is configured.
    pub fn current(&self) -> Option<&str> {
        self.told.as_deref().or_else(|| self.addresses.get(self.at).map(String::as_str))
    }

    /// The current one did not answer, or ended the link: the next configured one has its turn.
    pub fn left(&mut self) {
        if self.told.take().is_none() && !self.addresses.is_empty() {
            self.at = (self.at + 1) % self.addresses.len();
        }
    }

    /// The current one refused. True: it has told who leads, which can be asked without a wait.
    pub fn refused(&mut self, status: &Status) -> bool {
        // Two that tell of each other would be asked for ever.
        let was_told = self.told.is_some();
        let leader = leader_of(status)
            .filter(|leader| !was_told && !leader.is_empty() && self.current() != Some(leader));
        self.left();
        self.told = leader;
        self.told.is_some()
    }
}

/// Asks one controller after the other, and whom they tell, until one says something else than that it
/// is not there or does not lead. `call` connects to an address and asks; it may come more than once.
pub async fn ask<T, Asking>(
    addresses: &[String],
    mut call: impl FnMut(String) -> Asking,
) -> Result<T, Status>
where
    Asking: Future<Output = Result<T, Status>>,
{
    let mut controllers = Controllers::new(addresses);
    let mut last = Status::unavailable("no controller address is known");
    // Each of them, and for each the one that it tells.
    for _ in 0..addresses.len().saturating_mul(2) {
        let Some(address) = controllers.current().map(str::to_owned) else { break };
        match call(address).await {
            Err(status) if is_away(&status) => {
                controllers.refused(&status);
                // One that answers says more than one that is away.
                if leader_of(&status).is_some() || leader_of(&last).is_none() {
                    last = status;
                }
            }
            answered => return answered,
        }
    }
    Err(last)
}

/// Connects to one controller as the daemon that `identity` names.
pub async fn connect(address: &str, identity: &IdentityReceiver) -> Result<Channel, ConnectError> {
    let config = Arc::clone(&identity.borrow()).client_config()?;
    connect_tls(address, CONTROLLER_NAME, config).await.map_err(ConnectError::Transport)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn not_leader(leader: &str) -> Status {
        let metadata = HashMap::from([(LEADER.to_owned(), leader.to_owned())]);
        let details = ErrorDetails::with_error_info(NOT_LEADER, "vidi.io", metadata);
        Status::with_error_details(Code::Unavailable, "not here", details)
    }

    fn two() -> Vec<String> {
        ["a:1", "b:1"].map(str::to_owned).to_vec()
    }

    #[test]
    fn who_does_not_answer_is_followed_by_the_next_and_the_first_has_its_turn_again() {
        let mut controllers = Controllers::new(&two());
        for expected in ["a:1", "b:1", "a:1"] {
            assert_eq!(controllers.current(), Some(expected));
            controllers.left();
        }
        let mut none = Controllers::new(&[]);
        none.left();
        assert_eq!(none.current(), None);
    }

    #[test]
    fn a_told_leader_is_asked_at_once_and_once() {
        let mut controllers = Controllers::new(&two());
        assert!(controllers.refused(&not_leader("c:1")));
        assert_eq!(controllers.current(), Some("c:1"));
        // It tells of another in its turn: the configured ones come first.
        assert!(!controllers.refused(&not_leader("d:1")));
        assert_eq!(controllers.current(), Some("b:1"));
        // The leader that is told is dead, and nobody has followed yet.
        assert!(controllers.refused(&not_leader("c:1")));
        controllers.left();
        assert_eq!(controllers.current(), Some("a:1"));
    }

    #[test]
    fn what_is_no_address_or_the_own_one_is_not_followed() {
        let long = format!("{}:1", "x".repeat(ADDRESS_BYTES_MAX));
        for leader in ["", "a:1", "c", ":1", "c:70000", "c\n:1", "c d:1", &long] {
            let mut controllers = Controllers::new(&two());
            assert!(!controllers.refused(&not_leader(leader)), "{leader}");
            assert_eq!(controllers.current(), Some("b:1"), "{leader}");
        }
        let broken = Status::from_error(Box::new(std::io::Error::other("the connection broke")));
        assert!(is_away(&broken) && leader_of(&broken).is_none(), "{broken}");
        assert!(!is_away(&Status::unknown("said by a server")));
        assert_eq!(leader_of(&Status::unavailable("x")), None);
        assert_eq!(leader_of(&not_leader("x")), Some(String::new()));
    }

    #[tokio::test]
    async fn asking_ends_with_the_first_that_leads_or_with_the_last_refusal() {
        let both = two();
        let mut asked = Vec::new();
        let found = ask(&both, |address| {
            asked.push(address.clone());
            let answer = match address.as_str() {
                "c:1" => Ok("c"),
                "b:1" => Err(not_leader("c:1")),
                _ => Err(Status::unavailable("away")),
            };
            std::future::ready(answer)
        });
        assert_eq!(found.await.unwrap(), "c");
        assert_eq!(asked, ["a:1", "b:1", "c:1"]);
        let mut calls = 0;
        let nobody = ask(&both, |_address| {
            calls += 1;
            std::future::ready(Err::<(), _>(Status::unavailable("away")))
        });
        assert_eq!(nobody.await.unwrap_err().message(), "away");
        assert_eq!(calls, 4);
        let takes_over = ask(&both, |address| {
            let refused = match address.as_str() {
                "b:1" => not_leader("a:1"),
                _ => Status::unavailable("away"),
            };
            std::future::ready(Err::<(), _>(refused))
        });
        assert_eq!(takes_over.await.unwrap_err().message(), "not here");
        let refused = ask(&both, |_| std::future::ready(Err::<(), _>(Status::not_found("x"))));
        assert_eq!(refused.await.unwrap_err().code(), Code::NotFound);
        assert!(ask(&[], |_| std::future::ready(Ok(()))).await.is_err());
    }
}
