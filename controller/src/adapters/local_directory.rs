//! Users' passwords as argon2id hashes in the store.

use std::sync::Arc;

use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use async_trait::async_trait;
use prost::Message;
use tokio::sync::Semaphore;
use vidi_proto::store::v1::User as UserRecord;
use zeroize::Zeroizing;

use crate::ports::{Directory, DirectoryError, PasswordVerdict, Store, get};

/// argon2id's memory, KiB: 19 MiB with two passes and one lane, OWASP's smallest recommendation;
/// about 30 ms on a core.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Passwords hashed side by side: bounds memory and leaves the other cores to the controller.
const HASHES_MAX: usize = 2;
/// Callers that wait for a hash; more are told to come again.
const WAITING_MAX: usize = 64;

/// The directory of local users.
#[derive(Debug)]
pub struct LocalDirectory {
    store: Arc<dyn Store>,
    hashing: Arc<Semaphore>,
    waiting: Semaphore,
    /// Checked for users that are not there, so that they take as long.
    nobody: String,
}

impl LocalDirectory {
    /// Reads users from the store at each check. Hashes one password; blocks for about 30 ms.
    pub fn new(store: Arc<dyn Store>) -> Result<Self, DirectoryError> {
        let hashing = Arc::new(Semaphore::new(HASHES_MAX));
        let nobody = hash_password(&rand::random::<u128>().to_string())?;
        Ok(Self { store, hashing, waiting: Semaphore::new(WAITING_MAX), nobody })
    }

    /// Runs `work` off the async threads, few at a time.
    async fn hash<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, DirectoryError> {
        let _waiting = self.waiting.try_acquire().map_err(|_| DirectoryError::Busy)?;
        let unavailable = |text: &str| DirectoryError::Unavailable(text.to_owned());
        let permit = Arc::clone(&self.hashing)
            .acquire_owned()
            .await
            .map_err(|_| unavailable("the controller is stopping"))?;
        let hashed = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        hashed.await.map_err(|_| unavailable("the controller is stopping"))
    }
}

#[async_trait]
impl Directory for LocalDirectory {
    async fn check(
        &self,
        tenant: &str,
        user: &str,
        password: &str,
    ) -> Result<PasswordVerdict, DirectoryError> {
        let unavailable = |text: String| DirectoryError::Unavailable(text);
        let entry = get(self.store.as_ref(), &format!("user/{tenant}/{user}"))
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        let record = entry
            .map(|entry| UserRecord::decode(entry.value))
            .transpose()
            .map_err(|error| unavailable(format!("the user's record is damaged: {error}")))?;
        // An empty password is nobody's, whatever is stored.
        let stored = record
            .map(|record| record.password_hash)
            .filter(|hash| !hash.is_empty() && !password.is_empty());
        let known = stored.is_some();
        let hash = stored.unwrap_or_else(|| self.nobody.clone());
        let password = Zeroizing::new(password.to_owned());
        let right =
            self.hash(move || hasher().is_ok_and(|it| verify(&it, &password, &hash))).await?;
        Ok(if known && right { PasswordVerdict::Right } else { PasswordVerdict::Wrong })
    }

    async fn seal(&self, password: &str) -> Result<String, DirectoryError> {
        let password = Zeroizing::new(password.to_owned());
        self.hash(move || hash_password(&password)).await?
    }
}

/// A PHC string for `password`. Blocks for about 30 ms.
pub fn hash_password(password: &str) -> Result<String, DirectoryError> {
    let salt = rand::random::<[u8; 16]>();
    hasher()?
        .hash_password_with_salt(password.as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(|error| DirectoryError::Unavailable(format!("argon2: {error}")))
}

fn verify(hasher: &Argon2<'_>, password: &str, hash: &str) -> bool {
    hasher.verify_password(password.as_bytes(), hash).is_ok()
}

fn hasher() -> Result<Argon2<'static>, DirectoryError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|error| DirectoryError::Unavailable(format!("argon2: {error}")))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::memory::MemoryStore;
    use crate::ports::{Expect, Write};

    async fn put(store: &MemoryStore, user: &str, password_hash: String) {
        let key = format!("user/default/{user}");
        let record = UserRecord { password_hash, ..UserRecord::default() }.encode_to_vec();
        store.commit(&[Expect::absent(&key)], &[Write::put(&key, record)]).await.unwrap();
    }

    #[tokio::test]
    async fn only_the_users_own_password_is_right() {
        let store = Arc::new(MemoryStore::new());
        let directory = LocalDirectory::new(Arc::clone(&store) as Arc<dyn Store>).unwrap();
        let sealed = directory.seal("correct horse").await.unwrap();
        assert!(sealed.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{sealed}");
        assert_ne!(sealed, directory.seal("correct horse").await.unwrap());
        put(&store, "ana", sealed).await;
        put(&store, "ana2", directory.seal("other").await.unwrap()).await;
        put(&store, "blank", String::new()).await;
        let check = async |user: &str, password: &str| {
            directory.check("default", user, password).await.unwrap()
        };
        assert_eq!(check("ana", "correct horse").await, PasswordVerdict::Right);
        assert_eq!(check("ana", "correct hors").await, PasswordVerdict::Wrong);
        assert_eq!(check("ana", "").await, PasswordVerdict::Wrong);
        assert_eq!(check("ana2", "correct horse").await, PasswordVerdict::Wrong);
        assert_eq!(check("an", "correct horse").await, PasswordVerdict::Wrong);
        assert_eq!(check("blank", "").await, PasswordVerdict::Wrong);
        assert_eq!(check("blank", "x").await, PasswordVerdict::Wrong);
    }
}
