//! The keys that let callers in, as a snapshot: no request asks the database.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::header::{AUTHORIZATION, HeaderMap};
use jiff::Timestamp;

use crate::records::{Key, KeyHash, KeyScope};
use crate::tree::Digest;

/// What every key of ours begins with.
const KEY_PREFIX: &str = "skep_";

/// The longest token that is looked at. Ours have 69 characters; hashing what a caller makes longer is wasted work.
const LONGEST_TOKEN: usize = 512;

/// The keys that let callers in.
#[derive(Debug, Default)]
pub struct Keys {
    by_hash: ArcSwap<HashMap<KeyHash, Entry>>,
}

#[derive(Debug)]
struct Entry {
    scope: KeyScope,
    revoked: Option<Timestamp>,
}

impl Keys {
    /// Replaces all keys at once. Requests that have begun go on.
    pub fn set(&self, keys: Vec<Key>) {
        let entries = keys.into_iter().map(|key| (key.hash, Entry { scope: key.scope, revoked: key.revoked }));
        self.by_hash.store(Arc::new(entries.collect()));
    }

    /// The hash of the token, where it is a key that opens `api` now.
    ///
    /// Takes the same way for a token that is missing, wrong, revoked or for another API.
    pub(super) fn admit(&self, token: Option<&str>, api: &str) -> Option<KeyHash> {
        let token = token.filter(|token| token.len() <= LONGEST_TOKEN).unwrap_or_default();
        let hash = Digest::of(token.as_bytes());
        let keys = self.by_hash.load();
        let entry = keys.get(&hash)?;
        let revoked = entry.revoked.is_some_and(|from| from <= Timestamp::now());
        let opens = match &entry.scope {
            KeyScope::All => true,
            KeyScope::Apis(apis) => apis.iter().any(|id| id.as_str() == api),
        };
        (opens && !revoked).then_some(hash)
    }
}

/// The token of the one `Authorization: Bearer …` header; `None` where there is none, or more than one.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether any `Authorization` header holds what looks like a key of ours, in whatever scheme.
pub(super) fn shows_our_key(headers: &HeaderMap) -> bool {
    let needle = KEY_PREFIX.as_bytes();
    headers.get_all(AUTHORIZATION).iter().any(|value| value.as_bytes().windows(needle.len()).any(|part| part == needle))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::NewKey;
    use crate::tree::ApiId;

    #[test]
    fn a_key_opens_its_apis_until_it_is_revoked() {
        let keys = Keys::default();
        let now = Timestamp::now();
        let mine = NewKey::generate("mine", KeyScope::Apis(vec![ApiId::new("mine").unwrap()]), now);
        let all = NewKey::generate("all", KeyScope::All, now);
        keys.set(vec![mine.key.clone(), all.key.clone()]);
        assert!(keys.admit(Some(&mine.secret), "mine").is_some());
        assert!(keys.admit(Some(&mine.secret), "other").is_none());
        assert!(keys.admit(Some(&all.secret), "other").is_some());
        assert!(keys.admit(None, "mine").is_none());
        assert!(keys.admit(Some("skep_wrong"), "mine").is_none());

        let later = now + jiff::SignedDuration::from_hours(1);
        keys.set(vec![
            Key { revoked: Some(now - jiff::SignedDuration::from_secs(1)), ..mine.key },
            Key { revoked: Some(later), ..all.key },
        ]);
        assert!(keys.admit(Some(&mine.secret), "mine").is_none());
        assert!(keys.admit(Some(&all.secret), "mine").is_some());
    }

    #[test]
    fn only_one_bearer_token_counts() {
        let headers = |values: &[&'static str]| {
            let mut map = HeaderMap::new();
            for value in values {
                map.append(AUTHORIZATION, http::HeaderValue::from_static(value));
            }
            map
        };
        assert_eq!(bearer(&headers(&["Bearer abc"])), Some("abc"));
        assert_eq!(bearer(&headers(&["bearer  abc"])), Some("abc"));
        assert_eq!(bearer(&headers(&["Basic abc"])), None);
        assert_eq!(bearer(&headers(&["Bearer a", "Bearer b"])), None);
        assert_eq!(bearer(&headers(&[])), None);
    }
}
