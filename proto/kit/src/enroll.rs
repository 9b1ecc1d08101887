//! How a daemon gets its certificate: from the local controller's socket, or with a token from
//! another machine; and how it keeps it fresh.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use tokio::sync::watch;
use tonic::transport::Channel;
use tonic::{Response, Status};
use tracing::{info, warn};
use vidi_proto::v1::enroll_service_client::EnrollServiceClient;
use vidi_proto::v1::{EnrollRequest, EnrollResponse, EnrollTokenContents, RenewRequest};

use crate::config::ControllerAccess;
use crate::tls::{Identity, IdentityReceiver, Role, TlsError, generate_key_and_csr};
use crate::transport::{connect_tls, connect_unix, describe};
use crate::{Backoff, Clock, Tasks, controllers};

const TOKEN_PREFIX: &str = "vidi1.";
/// A renewal that failed is tried again after at most this.
const RENEW_RETRY_MAX: Duration = Duration::from_secs(300);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// Neither way is open.
    #[error(
        "not enrolled: there is no controller socket at {socket} and no token in {token_file}; \
         run `vidictl host enroll-token` where the controller is and paste the line that it prints"
    )]
    NoWay {
        /// Where the socket was looked for.
        socket: PathBuf,
        /// Where the token was looked for.
        token_file: PathBuf,
    },
    /// The token is not one.
    #[error("the enrolment token is damaged: paste the whole line again")]
    BadToken,
    /// The controller refused or cannot be reached.
    #[error("enrolment failed: {0}")]
    Refused(String),
    /// Certificates or files.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The string of a token.
pub fn encode_token(contents: &EnrollTokenContents) -> String {
    format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(contents.encode_to_vec()))
}

/// The token of a string.
pub fn decode_token(text: &str) -> Result<EnrollTokenContents, EnrollError> {
    let encoded = text.trim().strip_prefix(TOKEN_PREFIX).ok_or(EnrollError::BadToken)?;
    let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| EnrollError::BadToken)?;
    EnrollTokenContents::decode(bytes.as_slice()).map_err(|_| EnrollError::BadToken)
}

/// The identity kept in `folder`, or a new one by enrolment, tried until it works or cannot; then
/// keeps it fresh in the background. A kept one that has expired is replaced by enrolling again.
pub async fn identity(
    tasks: &Tasks,
    clock: &Clock,
    access: &ControllerAccess,
    role: Role,
    folder: &Path,
) -> Result<IdentityReceiver, EnrollError> {
    crate::files::make_folder(folder, 0o700)
        .map_err(|source| TlsError::File { path: folder.display().to_string(), source })?;
    let kept = Identity::load(folder)?.filter(|kept| clock.now_ms() < kept.name.not_after_ms);
    let current = match kept {
        Some(kept) => kept,
        None => enroll_with_patience(access, role, folder).await?,
    };
    let (sender, receiver) = watch::channel(Arc::new(current));
    let keeper =
        Keeper { clock: clock.clone(), access: access.clone(), folder: folder.to_owned(), sender };
    let group = tasks.clone();
    let _renewing = tasks.spawn("renew-certificate", async move {
        // Cancel-safe: a renewal that is cut leaves the old files.
        tokio::select! {
            biased;
            () = group.stopping() => {}
            () = keeper.keep() => {}
        }
    });
    Ok(receiver)
}

/// The controller may still be starting: a few tries before giving up.
async fn enroll_with_patience(
    access: &ControllerAccess,
    role: Role,
    folder: &Path,
) -> Result<Identity, EnrollError> {
    const TRIES_MAX: u32 = 10;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(3));
    for _ in 1..TRIES_MAX {
        match enroll(access, role, folder).await {
            Err(error @ (EnrollError::Refused(_) | EnrollError::NoWay { .. })) => {
                warn!(%error, "Enrolment did not work yet");
                tokio::time::sleep(backoff.next_wait()).await;
            }
            done => return done,
        }
    }
    enroll(access, role, folder).await
}

async fn enroll(
    access: &ControllerAccess,
    role: Role,
    folder: &Path,
) -> Result<Identity, EnrollError> {
    if access.socket.exists() {
        let channel = connect_unix(access.socket.clone())
            .await
            .map_err(|error| EnrollError::Refused(describe(&error)))?;
        return ask(channel, String::new(), role, wanted_id(&access.id), folder).await;
    }
    let Ok(text) = std::fs::read_to_string(&access.enroll_token_file) else {
        return Err(EnrollError::NoWay {
            socket: access.socket.clone(),
            token_file: access.enroll_token_file.clone(),
        });
    };
    with_token(decode_token(&text)?, role, &access.id, folder).await
}

/// Uses a token up for a certificate, kept in `folder`; an empty id is the machine's name.
pub async fn with_token(
    token: EnrollTokenContents,
    role: Role,
    id: &str,
    folder: &Path,
) -> Result<Identity, EnrollError> {
    let (key, csr) = generate_key_and_csr()?;
    let config = crate::tls::anonymous_client_config(&token.cas)?;
    let (token_secret, role) = (token.secret, role.as_str().to_owned());
    let request = EnrollRequest { token_secret, role, id: wanted_id(id), csr };
    let asking = controllers::ask(&token.addresses, |address| {
        let (config, request) = (config.clone(), request.clone());
        async move {
            let connecting = connect_tls(&address, crate::tls::CONTROLLER_NAME, config).await;
            let channel = connecting.map_err(|error| away(&address, &error))?;
            Ok(EnrollServiceClient::new(channel).enroll(request).await?.into_inner())
        }
    });
    enrolled(asking.await, key, folder)
}

fn away(address: &str, error: &dyn std::error::Error) -> Status {
    Status::unavailable(format!("{address}: {}", describe(error)))
}

async fn ask(
    channel: Channel,
    token_secret: String,
    role: Role,
    id: String,
    folder: &Path,
) -> Result<Identity, EnrollError> {
    let (key, csr) = generate_key_and_csr()?;
    let request = EnrollRequest { token_secret, role: role.as_str().to_owned(), id, csr };
    let answer = EnrollServiceClient::new(channel).enroll(request).await;
    enrolled(answer.map(Response::into_inner), key, folder)
}

fn enrolled(
    answer: Result<EnrollResponse, Status>,
    key: Vec<u8>,
    folder: &Path,
) -> Result<Identity, EnrollError> {
    let answer = answer.map_err(|status| EnrollError::Refused(status.message().to_owned()))?;
    info!(id = answer.id, "enrolled");
    keep_answer(answer, key, folder)
}

fn keep_answer(
    answer: EnrollResponse,
    key: Vec<u8>,
    folder: &Path,
) -> Result<Identity, EnrollError> {
    let identity = Identity::new(answer.certificate, key, answer.cas)?;
    identity.save(folder)?;
    Ok(identity)
}

/// The configured id, or the machine's name made fit for one.
fn wanted_id(configured: &str) -> String {
    if !configured.is_empty() {
        return configured.to_owned();
    }
    let name = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let short = name.split('.').next().unwrap_or_default();
    let clean: String =
        short.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect();
    let clean = clean.trim_matches('-');
    if clean.is_empty() { "host".to_owned() } else { clean.chars().take(63).collect() }
}

struct Keeper {
    clock: Clock,
    access: ControllerAccess,
    folder: PathBuf,
    sender: watch::Sender<Arc<Identity>>,
}

impl Keeper {
    /// Renews at two thirds of each certificate's life.
    async fn keep(&self) {
        let mut backoff = Backoff::new(Duration::from_secs(1), RENEW_RETRY_MAX);
        loop {
            let name = self.sender.borrow().name.clone();
            let life_ms = name.not_after_ms.saturating_sub(name.not_before_ms);
            let due_ms = name.not_before_ms.saturating_add(life_ms / 3 * 2);
            let wait_ms = u64::try_from(due_ms.saturating_sub(self.clock.now_ms())).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            match self.renew().await {
                Ok(identity) => {
                    info!(id = identity.name.id, "Certificate renewed");
                    self.sender.send_replace(Arc::new(identity));
                    backoff.reset();
                }
                Err(error) => {
                    warn!(%error, "Certificate not renewed yet");
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    async fn renew(&self) -> Result<Identity, EnrollError> {
        let (key, csr) = generate_key_and_csr()?;
        let receiver = self.sender.subscribe();
        let request = RenewRequest { csr };
        let asking = controllers::ask(&self.access.addresses, |address| {
            let (receiver, request) = (receiver.clone(), request.clone());
            async move {
                let connecting = controllers::connect(&address, &receiver).await;
                let channel = connecting.map_err(|error| away(&address, &error))?;
                Ok(EnrollServiceClient::new(channel).renew(request).await?.into_inner())
            }
        });
        let answer = asking.await;
        let answer = answer.map_err(|status| EnrollError::Refused(status.message().to_owned()))?;
        keep_answer(answer, key, &self.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_string_and_a_damaged_one_is_refused() {
        let contents = EnrollTokenContents {
            secret: "s".to_owned(),
            addresses: vec!["127.0.0.1:7443".to_owned()],
            cas: vec![vec![1, 2, 3]],
            role: "agent".to_owned(),
            id: "host-1".to_owned(),
        };
        let text = encode_token(&contents);
        assert_eq!(decode_token(&format!("{text}\n")).unwrap(), contents);
        assert!(decode_token(&text[1..]).is_err());
        assert!(decode_token("vidi1.%%%").is_err());
    }
}
