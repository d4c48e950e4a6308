//! A key lets a caller in. skep keeps only its hash.

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

/// A key as it is shown, once.
#[derive(Debug)]
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
