//! A key lets a caller in. skep keeps only its hash.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::tree::{ApiId, Digest};

/// The SHA-256 of a whole key. Keys are 256 random bits, so a fast hash without salt is enough: there is nothing to guess.
pub type KeyHash = Digest;

/// What is kept of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// A public name for it, as in `k_3f9a1c`; the first characters of the key itself, no secret.
    pub id: String,
    /// Of the whole key.
    pub hash: KeyHash,
    /// What people call it.
    pub name: String,
    /// What it opens.
    pub scope: KeyScope,
    /// When it was made.
    pub created: Timestamp,
    /// From when on it opens nothing.
    pub revoked: Option<Timestamp>,
}

/// What a key opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyScope {
    /// Every API of this installation.
    All,
    /// These.
    Apis(Vec<ApiId>),
}

impl Key {
    /// Whether it lets a caller of `api` in at that moment.
    #[must_use]
    pub fn opens(&self, api: &ApiId, now: Timestamp) -> bool {
        let is_revoked = self.revoked.is_some_and(|at| at <= now);
        !is_revoked && self.scope.covers(api)
    }
}

impl KeyScope {
    /// Whether that API is in it.
    #[must_use]
    pub fn covers(&self, api: &ApiId) -> bool {
        match self {
            Self::All => true,
            Self::Apis(apis) => apis.contains(api),
        }
    }
}

/// A key as it is shown, once. Its `Debug` leaves the secret out.
pub struct NewKey {
    /// What the caller sends: `skep_` and 64 hexadecimal digits.
    pub secret: String,
    /// What is kept.
    pub key: Key,
}

impl NewKey {
    /// Makes a key of 256 bits from the operating system's generator.
    #[must_use]
    pub fn generate(name: &str, scope: KeyScope, at: Timestamp) -> Self {
        let secret = format!("skep_{}", hex::encode(rand::random::<[u8; 32]>()));
        let id = format!("k_{}", &secret[5..13]);
        let hash = Digest::of(secret.as_bytes());
        Self { key: Key { id, hash, name: name.to_owned(), scope, created: at, revoked: None }, secret }
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey").field("key", &self.key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ApiId {
        ApiId::new(name).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_new_key_is_found_by_the_hash_of_what_is_shown() {
        let new = NewKey::generate("ci", KeyScope::All, at(0));
        assert_eq!(new.key.hash, Digest::of(new.secret.as_bytes()));
        assert_eq!(new.secret.len(), 5 + 64);
        assert!(new.secret.starts_with(&format!("skep_{}", &new.key.id[2..])));
        assert_ne!(new.secret, NewKey::generate("ci", KeyScope::All, at(0)).secret);
    }

    #[test]
    fn the_hash_is_plain_sha_256() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(KeyHash::of(b"abc").to_string(), abc);
    }

    #[test]
    fn neither_debug_nor_json_shows_the_secret() {
        let new = NewKey::generate("ci", KeyScope::All, at(0));
        let hidden = &new.secret[13..];
        assert!(!format!("{new:?} {:#?}", new.key).contains(hidden));
        assert!(!serde_json::to_string(&new.key).unwrap().contains(hidden));
    }

    #[test]
    fn a_key_opens_what_is_in_its_scope_until_it_is_revoked() {
        let mut key = NewKey::generate("ci", KeyScope::Apis(vec![id("a"), id("b")]), at(0)).key;
        assert!(key.opens(&id("a"), at(5)));
        assert!(!key.opens(&id("c"), at(5)));
        key.revoked = Some(at(10));
        assert!(key.opens(&id("b"), at(9)));
        assert!(!key.opens(&id("b"), at(10)));
        key.scope = KeyScope::All;
        assert!(!key.opens(&id("c"), at(11)));
    }
}
