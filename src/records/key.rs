//! A key lets a caller in. skep keeps only its hash.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::settings::DeclaredKey;
use crate::tree::{ApiId, Digest, KeyTerms};

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
    /// When it was made; nobody knows of one that is declared.
    pub created: Timestamp,
    /// From when on it opens nothing.
    pub revoked: Option<Timestamp>,
    /// What it is good for.
    #[serde(flatten)]
    pub terms: KeyTerms,
    /// The first of the keys that it has followed by rotation: all of them share one allowance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<KeyHash>,
    /// When it last let somebody in, within some seconds.
    #[serde(default)]
    pub last_used: Option<Timestamp>,
    /// Whether `skep.yaml` declares it, by its hash.
    #[serde(default)]
    pub declared: bool,
}

/// What a key opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyScope {
    /// Every API of this installation.
    All,
    /// These.
    Apis(Vec<ApiId>),
    /// No API: whoever holds it may push.
    Push,
    /// No API: whoever holds it may push pull requests to be previewed, and nothing else.
    Previews,
    /// No API, and nothing that changes anything: whoever holds it may ask what a tree would change.
    Plan,
}

impl Key {
    /// Whether it lets a caller of `api` in at that moment.
    #[must_use]
    pub fn opens(&self, api: &str, now: Timestamp) -> bool {
        self.is_in_force(now) && self.scope.covers(api)
    }

    /// Whether whoever holds it may push something at that moment.
    #[must_use]
    pub fn pushes(&self, now: Timestamp) -> bool {
        matches!(self.scope, KeyScope::Push | KeyScope::Previews) && self.is_in_force(now)
    }

    /// Whether whoever holds it may ask what a tree would change, at that moment.
    #[must_use]
    pub fn plans(&self, now: Timestamp) -> bool {
        self.scope == KeyScope::Plan && self.is_in_force(now)
    }

    fn is_in_force(&self, now: Timestamp) -> bool {
        self.revoked.is_none_or(|at| at > now) && !self.terms.is_over(now)
    }

    /// What is known of a key that `skep.yaml` declares.
    #[must_use]
    pub fn declared(key: &DeclaredKey) -> Self {
        Self {
            id: format!("d_{}", &key.hash.to_string()[..8]),
            hash: key.hash,
            name: key.name.clone(),
            scope: key.apis.clone().map_or(KeyScope::All, KeyScope::Apis),
            created: Timestamp::UNIX_EPOCH,
            revoked: None,
            terms: key.terms.clone(),
            follows: None,
            last_used: None,
            declared: true,
        }
    }

    /// A new key for the same callers, which shares this one's allowance.
    #[must_use]
    pub fn rotate(&self, at: Timestamp) -> NewKey {
        let mut new = NewKey::generate(&self.name, self.scope.clone(), at);
        new.key.terms = self.terms.clone();
        new.key.follows = Some(self.follows.unwrap_or(self.hash));
        new
    }
}

impl KeyScope {
    /// Whether that API is in it, or what that is a preview of: whoever may call an API may see what it would become.
    #[must_use]
    pub fn covers(&self, api: &str) -> bool {
        match self {
            Self::All => true,
            Self::Apis(apis) => {
                let of = api.contains("--pr-").then(|| ApiId::new(api).ok()?.preview()).flatten();
                let of = of.as_ref().map(|(of, _)| of.as_str());
                apis.iter().any(|id| id.as_str() == api || of == Some(id.as_str()))
            }
            Self::Push | Self::Previews | Self::Plan => false,
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
        let key = Key {
            id,
            hash,
            name: name.to_owned(),
            scope,
            created: at,
            revoked: None,
            terms: KeyTerms::default(),
            follows: None,
            last_used: None,
            declared: false,
        };
        Self { secret, key }
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
        assert!(key.opens("a", at(5)));
        assert!(!key.opens("c", at(5)));
        assert!(key.opens("b--pr-7", at(5)), "a preview of what it opens");
        assert!(!key.opens("c--pr-7", at(5)) && !key.opens("b--pr-x", at(5)));
        key.revoked = Some(at(10));
        assert!(key.opens("b", at(9)));
        assert!(!key.opens("b", at(10)));
        key.scope = KeyScope::All;
        assert!(!key.opens("c", at(11)));
    }

    #[test]
    fn a_key_opens_nothing_from_the_moment_at_which_it_expires() {
        let mut key = NewKey::generate("ci", KeyScope::All, at(0)).key;
        key.terms.expires = Some(at(10));
        assert!(key.opens("a", at(9)));
        assert!(!key.opens("a", at(10)));
    }

    #[test]
    fn a_rotated_key_is_another_secret_on_the_same_terms_and_one_allowance() {
        let mut first = NewKey::generate("ci", KeyScope::Apis(vec![id("a")]), at(0));
        first.key.terms.plan = Some("pro".to_owned());
        let second = first.key.rotate(at(5));
        assert_ne!(second.secret, first.secret);
        assert_eq!((&second.key.terms, &second.key.scope), (&first.key.terms, &first.key.scope));
        assert_eq!(second.key.follows, Some(first.key.hash));
        assert_eq!(second.key.rotate(at(6)).key.follows, Some(first.key.hash));
    }
}
