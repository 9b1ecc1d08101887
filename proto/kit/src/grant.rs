//! Grants: a controller's signed, short-lived word that one gateway may reach one session's desktop.
//!
//! Ed25519 (RFC 8032) over `"vidi grant v1" || 0 || claims`; the prefix keeps a signature made for
//! anything else from being taken for a grant.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use prost::Message;
use vidi_proto::v1::{Grant, GrantClaims};

/// How long a grant can be shown after its issue.
pub const GRANT_MS_MAX: i64 = 30_000;
/// How far a grant's expiry may lie ahead of the judge's clock: the life of a grant and the error of
/// the clock offset that was measured on the link.
const EXPIRY_AHEAD_MS_MAX: i64 = GRANT_MS_MAX + 5_000;
/// Largest grant that is looked at, in bytes; ours are below 500.
pub const GRANT_BYTES_MAX: usize = 4_096;
const CONTEXT: &[u8] = b"vidi grant v1\0";

/// Why a grant is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Not the encoding of a grant.
    #[error("the grant is malformed")]
    Malformed,
    /// Signed by a key that no controller of this installation has published.
    #[error("the grant is signed by an unknown key")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the grant's signature is wrong")]
    BadSignature,
    /// It was issued too long ago, or claims to live too long.
    #[error("the grant has expired; ask the controller for a new one")]
    Expired,
}

/// Signs grants; a controller makes one at start and publishes its public half.
#[derive(Debug)]
pub struct GrantSigner(Ed25519KeyPair);

impl GrantSigner {
    /// A new key.
    pub fn generate() -> Result<Self, aws_lc_rs::error::Unspecified> {
        Ok(Self(Ed25519KeyPair::generate()?))
    }

    /// The public half, 32 bytes.
    pub fn public_key(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }

    /// The encoded, signed grant.
    pub fn sign(&self, claims: &GrantClaims) -> Vec<u8> {
        let claims = claims.encode_to_vec();
        let signature = self.0.sign(&signed_bytes(&claims)).as_ref().to_vec();
        Grant { claims, signature, key: self.public_key() }.encode_to_vec()
    }
}

/// Checks form, key, signature and expiry; whose grant it is and whether its epoch is new is the
/// caller's to judge. `now_ms` is controller time.
pub fn verify(grant: &[u8], keys: &[Vec<u8>], now_ms: i64) -> Result<GrantClaims, GrantError> {
    if GRANT_BYTES_MAX < grant.len() {
        return Err(GrantError::Malformed);
    }
    let grant = Grant::decode(grant).map_err(|_| GrantError::Malformed)?;
    if !keys.contains(&grant.key) {
        return Err(GrantError::UnknownKey);
    }
    UnparsedPublicKey::new(&ED25519, &grant.key)
        .verify(&signed_bytes(&grant.claims), &grant.signature)
        .map_err(|_| GrantError::BadSignature)?;
    let claims = GrantClaims::decode(grant.claims.as_slice()).map_err(|_| GrantError::Malformed)?;
    let left_ms = claims.expire_ms.saturating_sub(now_ms);
    if left_ms <= 0 || EXPIRY_AHEAD_MS_MAX < left_ms {
        return Err(GrantError::Expired);
    }
    Ok(claims)
}

fn signed_bytes(claims: &[u8]) -> Vec<u8> {
    [CONTEXT, claims].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(expire_ms: i64) -> GrantClaims {
        GrantClaims { epoch: 3, expire_ms, session: "s".to_owned(), ..GrantClaims::default() }
    }

    #[test]
    fn only_an_untouched_unexpired_grant_of_a_known_key_is_accepted() {
        let signer = GrantSigner::generate().unwrap();
        let keys = vec![signer.public_key()];
        let grant = signer.sign(&claims(1_030_000));
        assert_eq!(verify(&grant, &keys, 1_000_000).unwrap().epoch, 3);
        assert_eq!(verify(&grant, &keys, 1_030_000), Err(GrantError::Expired));
        assert_eq!(verify(&grant, &keys, 900_000), Err(GrantError::Expired));
        assert_eq!(verify(&grant, &[], 1_000_000), Err(GrantError::UnknownKey));
        let other = vec![GrantSigner::generate().unwrap().public_key()];
        assert_eq!(verify(&grant, &other, 1_000_000), Err(GrantError::UnknownKey));
        for index in 0..grant.len() {
            let mut bent = grant.clone();
            bent[index] ^= 1;
            let accepted = verify(&bent, &keys, 1_000_000);
            assert!(accepted.is_err(), "byte {index} changed and still accepted");
        }
        assert_eq!(verify(&vec![0; GRANT_BYTES_MAX + 1], &keys, 0), Err(GrantError::Malformed));
    }
}
