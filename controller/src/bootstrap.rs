//! The first start on an empty store, and what every start needs of it: the authorities and the own
//! certificate.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use prost::Message;
use tokio::sync::watch;
use tracing::{info, warn};
use vidi_kit::ids::InstallationId;
use vidi_kit::tls::{Identity, IdentityReceiver, Role, TlsError, generate_key_and_csr};
use vidi_kit::{Clock, Tasks};
use vidi_proto::store::v1 as stored;

use crate::adapters::authority::{KeyError, LocalAuthority, Purpose, WrappingKey, make_authority};
use crate::adapters::local_directory::hash_password;
use crate::backup;
use crate::model::{Change, Refusal};
use crate::ports::{
    Authority, AuthorityError, CommitError, DirectoryError, Expect, Store, StoreError, Write, get,
};
use crate::reconcile::Handle;

/// Form of the stored records that this program knows.
const SCHEMA: u32 = 1;
/// File with the generated password, in the state folder.
pub const PASSWORD_FILE: &str = "admin-password";
/// Letters of the generated password: 20 of 32 are 100 bits.
const PASSWORD_CHARS: usize = 20;
/// No letter that looks like another.
const PASSWORD_ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Between two renewals, or a renewal that failed and the next try.
const RENEW_WAIT_MIN: Duration = Duration::from_secs(60);
/// Two controllers that start together: the second finds what the first made.
const TRIES_MAX: u32 = 5;

const INSTALLATION_KEY: &str = "meta/installation";
const INTERNAL_KEY: &str = "pki/internal";
const PAGE_KEY: &str = "pki/page";
const TENANT_KEY: &str = "tenant/default";
const ADMIN_KEY: &str = "user/default/admin";

/// Why the installation cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The key file or the authorities.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The first records cannot be written.
    #[error("the installation cannot be written: {0}")]
    Commit(CommitError),
    /// The password cannot be hashed.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A file in the state folder cannot be written.
    #[error("cannot write {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A record cannot be read.
    #[error("the stored record {0} is damaged; restore the store from a backup")]
    Damaged(&'static str),
    /// A restore was begun and not finished.
    #[error("a backup was restored only in part: `vidi-controller restore` it again")]
    HalfRestored,
    /// A newer program wrote the store.
    #[error("the store has schema {0}, this program knows {SCHEMA}: use the newer version again")]
    Newer(u32),
    /// The grant-signing key cannot be published.
    #[error("cannot publish the grant-signing key: {0}")]
    GrantKey(Refusal),
    /// The own certificate cannot be made.
    #[error("cannot make the controller's own certificate")]
    OwnCertificate(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where the key that wraps the keys in a new store comes from.
#[derive(Clone, Copy, Debug)]
pub enum KeyFile<'a> {
    /// It is made with the installation: nobody else needs it.
    Own(&'a Path),
    /// It must be there before: every controller of the installation has the same.
    Shared(&'a Path),
}

impl<'a> KeyFile<'a> {
    const fn path(self) -> &'a Path {
        match self {
            Self::Own(path) | Self::Shared(path) => path,
        }
    }
}

/// Opens the installation in `store`, or makes it on an empty one. `state` gets the first password.
pub async fn open(
    store: &dyn Store,
    clock: &Clock,
    key_file: KeyFile<'_>,
    state: &Path,
) -> Result<LocalAuthority, BootstrapError> {
    if backup::unfinished(store).await? {
        return Err(BootstrapError::HalfRestored);
    }
    for _ in 0..TRIES_MAX {
        if let Some(entry) = get(store, INSTALLATION_KEY).await? {
            let record = stored::Installation::decode(entry.value)
                .map_err(|_| BootstrapError::Damaged(INSTALLATION_KEY))?;
            return open_existing(store, clock, key_file.path(), record).await;
        }
        match make(store, clock, key_file, state).await {
            Ok(()) => info!("New installation made"),
            // Somebody else was faster, or the answer was lost: look again.
            Err(BootstrapError::Commit(CommitError::Conflict { .. } | CommitError::Unknown(_))) => {
            }
            Err(error) => return Err(error),
        }
    }
    let text = "somebody else keeps changing it".to_owned();
    Err(BootstrapError::Commit(CommitError::Unavailable(text)))
}

async fn open_existing(
    store: &dyn Store,
    clock: &Clock,
    key_file: &Path,
    installation: stored::Installation,
) -> Result<LocalAuthority, BootstrapError> {
    if SCHEMA < installation.schema {
        return Err(BootstrapError::Newer(installation.schema));
    }
    let key = Arc::new(WrappingKey::load(key_file)?);
    let internal = read_authority(store, INTERNAL_KEY).await?;
    let page = read_authority(store, PAGE_KEY).await?;
    Ok(LocalAuthority::open(clock.clone(), &key, installation.id, &internal, &page)?)
}

async fn read_authority(
    store: &dyn Store,
    key: &'static str,
) -> Result<stored::Authority, BootstrapError> {
    let entry = get(store, key).await?.ok_or(BootstrapError::Damaged(key))?;
    stored::Authority::decode(entry.value).map_err(|_| BootstrapError::Damaged(key))
}

/// Everything in one commit, so that there is a whole installation or none.
async fn make(
    store: &dyn Store,
    clock: &Clock,
    key_file: KeyFile<'_>,
    state: &Path,
) -> Result<(), BootstrapError> {
    let key = match key_file {
        KeyFile::Own(path) => WrappingKey::load_or_make(path)?,
        KeyFile::Shared(path) => WrappingKey::load_supplied(path)?,
    };
    let create_ms = clock.now_ms();
    let id = InstallationId::new(uuid::Uuid::new_v4()).to_string();
    let internal = make_authority(clock, &key, Purpose::Internal, &id)?;
    let page = make_authority(clock, &key, Purpose::Page, &id)?;
    let password: String = rand::random::<[u8; PASSWORD_CHARS]>()
        .iter()
        .filter_map(|byte| PASSWORD_ALPHABET.get(usize::from(byte % 32)))
        .map(|letter| char::from(*letter))
        .collect();
    let admin = stored::User {
        display_name: "Administrator".to_owned(),
        roles: ["admin", "operator", "user"].map(str::to_owned).to_vec(),
        password_hash: hash_password(&password)?,
        create_ms,
    };
    let tenant = stored::Tenant {
        display_name: "Default".to_owned(),
        create_ms,
        ..stored::Tenant::default()
    };
    let installation = stored::Installation { id, schema: SCHEMA, create_ms };
    // Before the commit: a password that nobody knows would be worse than a file of no use.
    let path = state.join(PASSWORD_FILE);
    vidi_kit::files::write_atomically(&path, format!("{password}\n").as_bytes(), 0o600)
        .map_err(|source| BootstrapError::File { path, source })?;
    let writes = [
        Write::put(INSTALLATION_KEY, installation.encode_to_vec()),
        Write::put(INTERNAL_KEY, internal.encode_to_vec()),
        Write::put(PAGE_KEY, page.encode_to_vec()),
        Write::put(TENANT_KEY, tenant.encode_to_vec()),
        Write::put(ADMIN_KEY, admin.encode_to_vec()),
    ];
    let expect: Vec<_> = writes.iter().map(|write| Expect::absent(write.key())).collect();
    store.commit(&expect, &writes).await.map(drop).map_err(BootstrapError::Commit)
}

/// Writes the CAs' certificates to the state folder, for people and programs to trust: `ca.pem` for
/// controllers and daemons, `page-ca.pem` for the pages.
pub fn publish_cas(authority: &dyn Authority, state: &Path) -> Result<(), BootstrapError> {
    for (name, cas) in [("ca.pem", authority.cas()), ("page-ca.pem", authority.page_cas())] {
        let path = state.join(name);
        let text: String = cas.iter().map(|ca| to_pem(ca)).collect();
        vidi_kit::files::write_atomically(&path, text.as_bytes(), 0o644)
            .map_err(|source| BootstrapError::File { path, source })?;
    }
    Ok(())
}

/// Publishes the public half of this start's grant-signing key, in the older of the controller's two
/// slots: what the start before has signed is good to its end, and keys do not pile up.
pub async fn publish_grant_key(
    handle: &Handle,
    controller: &str,
    public_key: Vec<u8>,
) -> Result<(), BootstrapError> {
    let world = handle.world();
    let made_ms = |slot: &String| world.grant_keys.get(slot).map_or(0, |(_, made_ms)| *made_ms);
    if world.grant_keys.values().any(|(key, _)| *key == public_key) {
        return Ok(());
    }
    let slots = [format!("{controller}.0"), format!("{controller}.1")];
    let slot = slots.into_iter().min_by_key(made_ms).unwrap_or_default();
    handle
        .change(Change::PutGrantKey { controller: slot, public_key })
        .await
        .map(drop)
        .map_err(BootstrapError::GrantKey)
}

/// RFC 7468.
fn to_pem(certificate: &[u8]) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<_> = encoded.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

/// This controller's own certificate, renewed in the background at two thirds of its life.
pub fn identity(
    tasks: &Tasks,
    clock: &Clock,
    authority: &Arc<dyn Authority>,
    id: &str,
) -> Result<IdentityReceiver, BootstrapError> {
    let first = certify(authority.as_ref(), id)?;
    let (sender, receiver) = watch::channel(Arc::new(first));
    let (group, clock, authority, id) =
        (tasks.clone(), clock.clone(), Arc::clone(authority), id.to_owned());
    let _renewing = tasks.spawn("renew-certificate", async move {
        let mut wait_min = Duration::ZERO;
        loop {
            let name = sender.borrow().name.clone();
            let life_ms = name.not_after_ms.saturating_sub(name.not_before_ms);
            let due_ms = name.not_before_ms.saturating_add(life_ms / 3 * 2);
            let wait_ms = u64::try_from(due_ms.saturating_sub(clock.now_ms())).unwrap_or(0);
            let wait = Duration::from_millis(wait_ms).max(wait_min);
            // Cancel-safe: both only wait.
            tokio::select! {
                biased;
                () = group.stopping() => return,
                () = tokio::time::sleep(wait) => {}
            }
            match certify(authority.as_ref(), &id) {
                Ok(renewed) => {
                    info!(id, "Certificate renewed");
                    sender.send_replace(Arc::new(renewed));
                }
                Err(error) => warn!(%error, "Certificate not renewed yet"),
            }
            wait_min = RENEW_WAIT_MIN;
        }
    });
    Ok(receiver)
}

fn certify(authority: &dyn Authority, id: &str) -> Result<Identity, BootstrapError> {
    let tls = |error: TlsError| BootstrapError::OwnCertificate(Box::new(error));
    let sign = |error: AuthorityError| BootstrapError::OwnCertificate(Box::new(error));
    let (key, csr) = generate_key_and_csr().map_err(tls)?;
    let issued = authority.issue(Role::Controller, id, &csr).map_err(sign)?;
    Identity::new(issued.certificate, key, authority.cas()).map_err(tls)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    use crate::adapters::local_directory::LocalDirectory;
    use crate::adapters::memory::{Fault, MemoryStore};
    use crate::ports::{Directory, PasswordVerdict};

    #[tokio::test]
    async fn the_first_start_makes_an_installation_and_the_second_finds_it() {
        let folder = tempfile::tempdir().unwrap();
        let (key, state) = (folder.path().join("controller.key"), folder.path());
        let store = Arc::new(MemoryStore::new());
        let clock = Clock::manual(1_800_000_000_000);
        let first = open(store.as_ref(), &clock, KeyFile::Own(&key), state).await.unwrap();
        let password = std::fs::read_to_string(state.join(PASSWORD_FILE)).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&key), mode(&state.join(PASSWORD_FILE))), (0o600, 0o600));
        let second = open(store.as_ref(), &clock, KeyFile::Own(&key), state).await.unwrap();
        assert_eq!(first.installation(), second.installation());
        assert_eq!(first.cas(), second.cas());
        assert_eq!(password, std::fs::read_to_string(state.join(PASSWORD_FILE)).unwrap());
        let directory = LocalDirectory::new(store as Arc<dyn Store>).unwrap();
        let verdict = directory.check("default", "admin", password.trim()).await.unwrap();
        assert_eq!(verdict, PasswordVerdict::Right);
    }

    #[tokio::test]
    async fn a_lost_answer_leaves_one_whole_installation() {
        for fault in [Fault::AnswerLostAfter, Fault::AnswerLostBefore] {
            let folder = tempfile::tempdir().unwrap();
            let (key, state) = (folder.path().join("controller.key"), folder.path());
            let store = Arc::new(MemoryStore::new());
            store.fail_next([fault]);
            open(store.as_ref(), &Clock::manual(0), KeyFile::Own(&key), state).await.unwrap();
            let password = std::fs::read_to_string(state.join(PASSWORD_FILE)).unwrap();
            let directory = LocalDirectory::new(store as Arc<dyn Store>).unwrap();
            let verdict = directory.check("default", "admin", password.trim()).await.unwrap();
            assert_eq!(verdict, PasswordVerdict::Right, "{fault:?}");
        }
    }

    #[tokio::test]
    async fn another_key_file_or_none_is_said_clearly() {
        let folder = tempfile::tempdir().unwrap();
        let (key, state) = (folder.path().join("controller.key"), folder.path());
        let (store, clock) = (MemoryStore::new(), Clock::manual(0));
        open(&store, &clock, KeyFile::Own(&key), state).await.unwrap();
        std::fs::remove_file(&key).unwrap();
        let error =
            open(&store, &clock, KeyFile::Own(&key), state).await.expect_err("missing").to_string();
        assert!(error.contains("missing") && error.contains("controller.key"), "{error}");
        WrappingKey::load_or_make(&key).unwrap();
        let error =
            open(&store, &clock, KeyFile::Own(&key), state).await.expect_err("wrong").to_string();
        assert!(error.contains("not the one"), "{error}");
    }

    #[tokio::test]
    async fn a_shared_store_is_not_begun_without_a_key_that_was_supplied() {
        let folder = tempfile::tempdir().unwrap();
        let (key, state) = (folder.path().join("controller.key"), folder.path());
        let (store, clock) = (MemoryStore::new(), Clock::manual(0));
        let begin = async || open(&store, &clock, KeyFile::Shared(&key), state).await;
        let error = begin().await.expect_err("no key").to_string();
        assert!(error.contains("openssl rand -hex 32"), "{error}");
        assert!(!key.exists());
        std::fs::write(&key, "ab".repeat(32)).unwrap();
        begin().await.unwrap();
        std::fs::remove_file(&key).unwrap();
        let error = begin().await.expect_err("no key").to_string();
        assert!(error.contains("the store was made with one"), "{error}");
    }

    #[tokio::test]
    async fn the_own_certificate_is_renewed_before_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let start_ms = 1_800_000_000_000;
        let (store, clock) = (MemoryStore::new(), Clock::manual(start_ms));
        let key = folder.path().join("controller.key");
        let authority = open(&store, &clock, KeyFile::Own(&key), folder.path()).await.unwrap();
        let authority: Arc<dyn Authority> = Arc::new(authority);
        let tasks = Tasks::new();
        // 17 of 24 hours later in the eyes of who renews.
        let later = Clock::manual(start_ms + 17 * 3_600_000);
        let mut identity = identity(&tasks, &later, &authority, "c1").unwrap();
        let before = identity.borrow_and_update().name.clone();
        assert_eq!((before.role, before.id.as_str()), (Role::Controller, "c1"));
        assert_eq!(before.not_after_ms - start_ms, 24 * 3_600_000);
        clock.advance(Duration::from_secs(17 * 3_600));
        identity.changed().await.unwrap();
        assert!(before.not_after_ms < identity.borrow().name.not_after_ms);
        tasks.stop().await;
    }
}
