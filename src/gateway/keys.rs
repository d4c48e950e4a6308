//! The keys that let callers in, as a snapshot: no request asks the database.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use hashbrown::DefaultHashBuilder;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use jiff::Timestamp;

use super::pass::Pass;
use crate::records::{Key, KeyHash, KeyScope};
use crate::tree::Digest;
use crate::usage::{KeyName, UsedBy};

/// What every key of ours begins with.
const KEY_PREFIX: &str = "skep_";

/// The longest token that is looked at. Ours have 69 characters; hashing what a caller makes longer is wasted work.
const LONGEST_TOKEN: usize = 512;

/// Words of an `Authorization` header that are looked at: no scheme in use has more before what is secret.
const MOST_WORDS: usize = 8;

/// The keys that let callers in.
#[derive(Debug, Default)]
pub struct Keys {
    by_hash: ArcSwap<HashMap<KeyHash, Arc<Entry>, DefaultHashBuilder>>,
    /// What no app is shown either.
    withheld: OnceLock<Digest>,
}

#[derive(Debug)]
struct Entry {
    key: Arc<Key>,
    name: Arc<KeyName>,
    /// Outlives the entry, so that a change of any key forgets no use.
    uses: Arc<Uses>,
}

/// When a key let somebody in, in seconds since 1970.
#[derive(Debug, Default)]
struct Uses {
    last: AtomicI64,
    written: AtomicI64,
}

/// Who may push.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pusher {
    /// Who it is.
    pub name: String,
    /// Whether it may be nothing but pull requests to be previewed.
    pub previews_only: bool,
}

impl Pusher {
    /// One who may push everything.
    #[must_use]
    pub fn of_all(name: String) -> Self {
        Self { name, previews_only: false }
    }
}

/// What a key is to a request.
#[derive(Debug)]
pub(super) enum Shown {
    /// It is none, or opens other APIs, or opens nothing any more.
    Nothing,
    /// It lets the caller in.
    Opens(Pass),
    /// It is a token that no known key of its issuer has signed.
    UnknownSigner,
    /// It is this key and opens the API, but not in that way; a sentence for the caller.
    OutOfScope(UsedBy, &'static str),
}

impl Shown {
    /// Whose the request is, in the records of usage.
    pub(super) fn by(&self) -> UsedBy {
        match self {
            Self::Opens(pass) => pass.by.clone(),
            Self::OutOfScope(by, _) => by.clone(),
            Self::Nothing | Self::UnknownSigner => UsedBy::Nobody,
        }
    }
}

impl Keys {
    /// Replaces all keys at once. Requests that have begun go on. A key's own limit is that of its terms; whoever calls
    /// this has looked up plans.
    pub fn set(&self, keys: impl IntoIterator<Item = impl Into<Arc<Key>>>) {
        let before = self.by_hash.load();
        let entries = keys.into_iter().map(|key| {
            let key: Arc<Key> = key.into();
            let known = before.get(&key.hash);
            if let Some(same) = known.filter(|known| Arc::ptr_eq(&known.key, &key) || known.key == key) {
                return (key.hash, Arc::clone(same));
            }
            let uses = known.map(|entry| Arc::clone(&entry.uses)).unwrap_or_default();
            let name = Arc::new(KeyName { id: key.id.clone(), name: key.name.clone() });
            (key.hash, Arc::new(Entry { key, name, uses }))
        });
        self.by_hash.store(Arc::new(entries.collect()));
    }

    /// The keys that have let somebody in since they were last [written down](Self::written), and when that was, to the
    /// second.
    #[must_use]
    pub fn used(&self) -> Vec<(KeyHash, Timestamp)> {
        let mut used = Vec::new();
        for (hash, entry) in self.by_hash.load().iter() {
            let uses = &entry.uses;
            let last = uses.last.load(Ordering::Relaxed);
            if last > uses.written.load(Ordering::Relaxed)
                && let Ok(at) = Timestamp::from_second(last)
            {
                used.push((*hash, at));
            }
        }
        used
    }

    /// Remembers that these uses are written down.
    pub fn written(&self, used: &[(KeyHash, Timestamp)]) {
        let keys = self.by_hash.load();
        for (hash, at) in used {
            if let Some(entry) = keys.get(hash) {
                entry.uses.written.fetch_max(at.as_second(), Ordering::Relaxed);
            }
        }
    }

    /// Whose key this is, where its holder may push, and what.
    #[must_use]
    pub fn pusher(&self, secret: &str) -> Option<Pusher> {
        let hash = Digest::of(secret.as_bytes());
        let (keys, now) = (self.by_hash.load(), Timestamp::now());
        let Entry { key, uses, .. } = &**keys.get(&hash).filter(|entry| entry.key.pushes(now))?;
        uses.mark(now);
        Some(Pusher { name: key.name.clone(), previews_only: key.scope == KeyScope::Previews })
    }

    /// Whether this is a key whose holder may ask what a tree would change.
    #[must_use]
    pub fn plans(&self, secret: &str) -> bool {
        let hash = Digest::of(secret.as_bytes());
        let (keys, now) = (self.by_hash.load(), Timestamp::now());
        let found = keys.get(&hash).filter(|entry| entry.key.plans(now));
        found.inspect(|entry| entry.uses.mark(now)).is_some()
    }

    /// Withholds that secret from apps, too: it opens none, and is not for them.
    pub fn withhold(&self, secret: &str) {
        // A daemon has one admin key for as long as it lives.
        let _ = self.withheld.set(Digest::of(secret.as_bytes()));
    }

    /// Whether any `Authorization` header holds a key of ours, in whatever scheme: one that looks like it, or one that is known,
    /// whatever it opens. Those that others have made look like anything.
    pub(super) fn shown_in(&self, headers: &HeaderMap) -> bool {
        let prefix = KEY_PREFIX.as_bytes();
        let keys = self.by_hash.load();
        let is_known = |word: &[u8]| {
            let hash = Digest::of(word);
            keys.contains_key(&hash) || self.withheld.get() == Some(&hash)
        };
        headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes).any(|value| {
            let words = value.split(|byte| b" \t,=\"".contains(byte));
            let words = words.filter(|word| (1..=LONGEST_TOKEN).contains(&word.len())).take(MOST_WORDS);
            let behind_scheme = value.iter().position(|byte| *byte == b' ').map(|space| value[space..].trim_ascii());
            value.windows(prefix.len()).any(|part| part == prefix)
                || words.chain(behind_scheme.filter(|all| all.len() <= LONGEST_TOKEN)).any(is_known)
        })
    }

    /// What a token is to a request for `path` of `api`.
    ///
    /// Takes the same way for a token that is missing, wrong, revoked, expired or for another API.
    pub(super) fn admit(&self, token: Option<&str>, api: &str, method: &str, path: &str) -> Shown {
        let token = token.filter(|token| token.len() <= LONGEST_TOKEN).unwrap_or_default();
        let hash = Digest::of(token.as_bytes());
        let keys = self.by_hash.load();
        let Some(entry) = keys.get(&hash) else { return Shown::Nothing };
        let Entry { key, name, uses } = &**entry;
        let now = Timestamp::now();
        if !key.opens(api, now) {
            return Shown::Nothing;
        }
        if let Err(reason) = key.terms.allow(method, path) {
            return Shown::OutOfScope(UsedBy::Key(Arc::clone(name)), reason);
        }
        uses.mark(now);
        Shown::Opens(Pass::of_key(key.follows.unwrap_or(hash), key.terms.limit, Arc::clone(name)))
    }
}

impl Uses {
    fn mark(&self, now: Timestamp) {
        // Looked at first: a line that many cores share is written once a second.
        if self.last.load(Ordering::Relaxed) < now.as_second() {
            self.last.store(now.as_second(), Ordering::Relaxed);
        }
    }
}

/// The token of the one `Authorization: Bearer …` header; `None` where there is none, or more than one.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::records::{KeyScope, NewKey};
    use crate::tree::{ApiId, KeyTerms};

    fn opens(keys: &Keys, token: Option<&str>, api: &str) -> bool {
        matches!(keys.admit(token, api, "GET", "/"), Shown::Opens(_))
    }

    #[test]
    fn a_key_opens_its_apis_until_it_is_revoked_or_expires() {
        let keys = Keys::default();
        let now = Timestamp::now();
        let mine = NewKey::generate("mine", KeyScope::Apis(vec![ApiId::new("mine").unwrap()]), now);
        let all = NewKey::generate("all", KeyScope::All, now);
        keys.set(vec![mine.key.clone(), all.key.clone()]);
        assert!(opens(&keys, Some(&mine.secret), "mine"));
        assert!(!opens(&keys, Some(&mine.secret), "other"));
        assert!(opens(&keys, Some(&all.secret), "other"));
        assert!(!opens(&keys, None, "mine"));
        assert!(!opens(&keys, Some("skep_wrong"), "mine"));

        let (earlier, later) = (now - SignedDuration::from_secs(1), now + SignedDuration::from_hours(1));
        keys.set(vec![Key { revoked: Some(earlier), ..mine.key }, Key { revoked: Some(later), ..all.key.clone() }]);
        assert!(!opens(&keys, Some(&mine.secret), "mine"));
        assert!(opens(&keys, Some(&all.secret), "mine"));

        let terms = |at| KeyTerms { expires: Some(at), ..KeyTerms::default() };
        keys.set(vec![Key { terms: terms(later), ..all.key.clone() }]);
        assert!(opens(&keys, Some(&all.secret), "mine"));
        keys.set(vec![Key { terms: terms(earlier), ..all.key }]);
        assert!(!opens(&keys, Some(&all.secret), "mine"));
    }

    #[test]
    fn a_use_is_told_until_it_is_written_down_also_where_other_keys_change() {
        let keys = Keys::default();
        let one = NewKey::generate("one", KeyScope::All, Timestamp::now());
        let two = NewKey::generate("two", KeyScope::All, Timestamp::now());
        keys.set(vec![one.key.clone(), two.key.clone()]);
        assert_eq!(keys.used(), []);
        let before = Timestamp::now().as_second();
        assert!(opens(&keys, Some(&one.secret), "a"));
        keys.set(vec![one.key.clone()]);
        let used = keys.used();
        assert!(matches!(used.as_slice(), [(hash, at)] if *hash == one.key.hash && at.as_second() >= before));
        keys.written(&used);
        assert_eq!(keys.used(), []);
        keys.set(vec![two.key, one.key]);
        assert_eq!(keys.used(), []);
    }

    #[test]
    fn what_opens_anything_is_seen_in_whatever_scheme_it_is_shown() {
        let keys = Keys::default();
        let mut old = NewKey::generate("old", KeyScope::Apis(vec![ApiId::new("other").unwrap()]), Timestamp::now()).key;
        old.hash = KeyHash::of(b"of-the-old-system");
        keys.set(vec![old]);
        keys.withhold("the-admin-key");
        let shown = |value: &'static str| {
            let map = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
            keys.shown_in(&map)
        };
        for value in [
            "Bearer of-the-old-system",
            "bearer  of-the-old-system ",
            "Token token=\"of-the-old-system\"",
            "of-the-old-system",
        ] {
            assert!(shown(value), "{value}");
        }
        assert!(shown("Bearer the-admin-key") && shown("Basic skep_x"));
        assert!(!shown("Bearer theirs") && !shown("Basic dXNlcjpwYXNz"));
    }

    #[test]
    fn only_one_bearer_token_counts() {
        let headers = |values: &[&'static str]| {
            let mut map = HeaderMap::new();
            for value in values {
                map.append(AUTHORIZATION, HeaderValue::from_static(value));
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
