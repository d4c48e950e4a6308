//! Callers' keys of the old system as skep keeps them: by their hashes, on the terms of their users.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;

use super::manifest::one_line;
use crate::records::old_system::{OldConsumerKey, OldKey, OldTime, OldUser};
use crate::records::{Key, KeyHash, KeyScope};
use crate::tree::{ApiId, KeyTerms, RateLimit, Seconds};

/// The plan of a user of whom nothing is known: the tightest.
const LEAST: &str = "free";

/// The largest limit that skep takes.
const MOST: i64 = 1_000_000;

/// What becomes of one key of the old system.
#[derive(Debug, Clone, Serialize)]
pub struct KeyImport {
    /// Its public id here; empty where it is not taken.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The API that it opens, as the row has it.
    pub api: String,
    /// The table that it stands in.
    pub table: &'static str,
    /// The id of its row.
    pub row: String,
    /// What happens.
    pub verdict: KeyVerdict,
    /// Why it is not added; empty where it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Its terms.
    #[serde(flatten)]
    pub terms: KeyTerms,
    /// The id of the user whose keys share one allowance with it.
    pub shares: Option<String>,
    /// What is to be known of it, in sentences.
    pub notes: Vec<String>,
}

/// What happens to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyVerdict {
    /// It is added.
    Add,
    /// It is known here, and stays as it is: in force, revoked or declared.
    Known,
    /// It cannot be taken.
    Skipped,
}

/// A row of the old system's APIs, as far as keys go.
#[derive(Debug, Clone)]
pub struct KeyRow {
    /// The API.
    pub api: ApiId,
    /// What people call it.
    pub name: String,
    /// Whose it is.
    pub user: Option<String>,
    /// The key that opens it.
    pub key: Option<OldKey>,
}

/// What keys are made of.
#[derive(Debug)]
pub struct Sources<'a> {
    /// The rows that are taken, in order of id.
    pub rows: &'a [KeyRow],
    /// The users.
    pub users: &'a BTreeMap<String, OldUser>,
    /// The keys of consumers.
    pub consumers: &'a [OldConsumerKey],
    /// All keys that the records ever had.
    pub known: &'a [Key],
    /// The hashes that `skep.yaml` declares.
    pub declared: &'a BTreeSet<KeyHash>,
    /// The moment of the import.
    pub now: Timestamp,
}

/// A key that can be taken.
struct Candidate {
    hash: KeyHash,
    api: ApiId,
    name: String,
    user: Option<String>,
    expires: Option<Timestamp>,
    import: KeyImport,
}

/// Makes the keys to add, and says of each key of the old system what becomes of it.
#[must_use]
pub fn keys(sources: &Sources<'_>) -> (Vec<KeyImport>, Vec<Key>) {
    let known: BTreeMap<KeyHash, &Key> = sources.known.iter().map(|key| (key.hash, key)).collect();
    let mut ids: BTreeSet<String> = sources.known.iter().map(|key| key.id.clone()).collect();
    let (candidates, mut imports) = candidates(sources);
    let accounts = accounts(&candidates, &known);
    let mut new: BTreeMap<KeyHash, Key> = BTreeMap::new();
    for candidate in candidates {
        let Candidate { hash, api, name, user, expires, mut import } = candidate;
        (import.terms, import.notes) = terms(user.as_deref(), sources.users, import.notes);
        import.terms.expires = expires;
        import.shares.clone_from(&user);
        if let Some(there) = known.get(&hash) {
            import.id.clone_from(&there.id);
            import.verdict = KeyVerdict::Known;
            import.reason = is_known(there, &api, sources.now);
        } else if sources.declared.contains(&hash) {
            import.verdict = KeyVerdict::Known;
            "skep.yaml declares it; what stands there holds".clone_into(&mut import.reason);
        } else if let Some(twin) = new.get_mut(&hash) {
            import.id.clone_from(&twin.id);
            import.notes.push("the same key stands in another row: it is one key, which opens all of them".to_owned());
            if let KeyScope::Apis(apis) = &mut twin.scope
                && !apis.contains(&api)
            {
                apis.push(api);
            }
        } else {
            import.id = free_id(&hash, &mut ids);
            let account = user.and_then(|user| accounts.get(&user).copied());
            let key = Key {
                id: import.id.clone(),
                hash,
                name,
                scope: KeyScope::Apis(vec![api]),
                created: sources.now,
                revoked: None,
                terms: import.terms.clone(),
                follows: account.filter(|account| *account != hash),
                last_used: None,
                declared: false,
            };
            new.insert(hash, key);
        }
        imports.push(import);
    }
    imports.sort_by(|a, b| (&a.api, a.table, &a.row).cmp(&(&b.api, b.table, &b.row)));
    (imports, new.into_values().collect())
}

/// The keys that can be taken, in an order that is always the same, and what is said of the others.
fn candidates(sources: &Sources<'_>) -> (Vec<Candidate>, Vec<KeyImport>) {
    let (mut candidates, mut others) = (Vec::new(), Vec::new());
    for row in sources.rows {
        let name = named(&row.name);
        let mut import = import("apis", row.api.as_str(), row.api.as_str(), &name);
        match row.key {
            Some(OldKey::Plain { hash, is_short }) => {
                import.notes.extend(is_short.then(short));
                let (api, user) = (row.api.clone(), row.user.clone());
                candidates.push(Candidate { hash, api, name, user, expires: None, import });
            }
            Some(OldKey::Unusable(why)) => others.push(skipped(import, why)),
            None => others.push(skipped(import, "the row has no key; `skep keys create` makes one")),
        }
    }
    let rows: BTreeMap<&str, &KeyRow> = sources.rows.iter().map(|row| (row.api.as_str(), row)).collect();
    for key in sources.consumers {
        let id = key.api.as_deref().unwrap_or_default();
        let row = rows.get(id);
        let called = key.name.as_deref().filter(|name| !name.trim().is_empty());
        let name = named(called.or(row.map(|row| row.name.as_str())).unwrap_or("a consumer"));
        let mut import = import("consumer_api_keys", &key.id, id, &name);
        let why = match (key.key, row, &key.expires) {
            _ if !key.is_active => "it is not in force in the old system",
            (None, ..) => "there is no plain key in it; a hash of an unknown kind cannot be taken",
            (Some(OldKey::Unusable(why)), ..) => why,
            (_, None, _) if id.is_empty() => "it names no API",
            (_, None, _) => "its API is not taken",
            (.., Some(OldTime::Unknown)) => "when it expires cannot be read",
            (_, _, Some(OldTime::At(at))) if *at <= sources.now => "it has expired",
            (Some(OldKey::Plain { hash, is_short }), Some(row), expires) => {
                import.notes.extend(is_short.then(short));
                let expires = match expires {
                    Some(OldTime::At(at)) => Some(*at),
                    _ => None,
                };
                let user = key.user.clone().or_else(|| row.user.clone());
                candidates.push(Candidate { hash, api: row.api.clone(), name, user, expires, import });
                continue;
            }
        };
        others.push(skipped(import, why));
    }
    (candidates, others)
}

/// The hash that all keys of a user are counted under: as it is already, else that of the first.
fn accounts(candidates: &[Candidate], known: &BTreeMap<KeyHash, &Key>) -> BTreeMap<String, KeyHash> {
    let mut accounts = BTreeMap::new();
    let users = || candidates.iter().filter_map(|one| Some((one.user.clone()?, one.hash)));
    for (user, hash) in users() {
        if let Some(key) = known.get(&hash) {
            accounts.entry(user).or_insert(key.follows.unwrap_or(hash));
        }
    }
    for (user, hash) in users() {
        accounts.entry(user).or_insert(hash);
    }
    accounts
}

/// The terms of a user's keys.
fn terms(user: Option<&str>, users: &BTreeMap<String, OldUser>, mut notes: Vec<String>) -> (KeyTerms, Vec<String>) {
    let row = user.and_then(|user| users.get(user));
    let limit = row.and_then(|row| row.limit);
    match limit {
        Some(limit) if limit > 0 => {
            if limit > MOST {
                notes.push(format!("its user's limit of {limit} an hour is cut to {MOST}"));
            }
            let requests = u32::try_from(limit.min(MOST)).unwrap_or(1);
            let limit = RateLimit { requests, per: Seconds::new(3600), burst: requests };
            return (KeyTerms { limit: Some(limit), ..KeyTerms::default() }, notes);
        }
        Some(limit) => notes.push(format!("its user's limit of {limit} an hour says nothing: the plan holds")),
        None => {}
    }
    let plan =
        row.and_then(|row| row.plan.as_deref()).map(|plan| one_line(plan, 100).0).filter(|plan| !plan.is_empty());
    if plan.is_none() {
        let whose = if row.is_some() { "its user has no plan" } else { "its user is not known" };
        notes.push(format!("{whose}: it gets the plan {LEAST}"));
    }
    (KeyTerms { plan: Some(plan.unwrap_or_else(|| LEAST.to_owned())), ..KeyTerms::default() }, notes)
}

fn is_known(there: &Key, api: &ApiId, now: Timestamp) -> String {
    if there.revoked.is_some_and(|at| at <= now) || there.terms.is_over(now) {
        "it was taken before and opens nothing any more; it stays so".to_owned()
    } else if there.scope.covers(api.as_str()) {
        "it was taken before; it stays as it is".to_owned()
    } else {
        "it is known here, but does not open this API; it stays as it is".to_owned()
    }
}

/// An id of its own for a key, the same each time.
fn free_id(hash: &KeyHash, ids: &mut BTreeSet<String>) -> String {
    let digits = hash.to_string();
    let free = (8..=digits.len()).step_by(4).map(|len| format!("i_{}", &digits[..len])).find(|id| !ids.contains(id));
    let id = free.unwrap_or_else(|| format!("i_{digits}"));
    ids.insert(id.clone());
    id
}

fn import(table: &'static str, row: &str, api: &str, name: &str) -> KeyImport {
    KeyImport {
        id: String::new(),
        name: name.to_owned(),
        api: api.to_owned(),
        table,
        row: row.to_owned(),
        verdict: KeyVerdict::Add,
        reason: String::new(),
        terms: KeyTerms::default(),
        shares: None,
        notes: Vec::new(),
    }
}

fn skipped(import: KeyImport, why: &str) -> KeyImport {
    KeyImport { verdict: KeyVerdict::Skipped, reason: why.to_owned(), ..import }
}

/// What a key is called here.
fn named(name: &str) -> String {
    one_line(&format!("imported, {name}"), 100).0
}

fn short() -> String {
    "it is so short that it can be guessed: give its callers another (`skep keys rotate`)".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(api: &str, user: &str, key: &str) -> KeyRow {
        let key = OldKey::Plain { hash: KeyHash::of(key.as_bytes()), is_short: false };
        KeyRow { api: ApiId::new(api).unwrap(), name: api.to_owned(), user: Some(user.to_owned()), key: Some(key) }
    }

    fn users() -> BTreeMap<String, OldUser> {
        let user = |plan: &str, limit| OldUser { plan: Some(plan.to_owned()), limit };
        [("u", user("pro", None)), ("v", user("free", Some(42))), ("w", user("free", Some(0)))]
            .map(|(id, user)| (id.to_owned(), user))
            .into()
    }

    fn make(rows: &[KeyRow], known: &[Key]) -> (Vec<KeyImport>, Vec<Key>) {
        let (users, declared) = (users(), BTreeSet::new());
        let now = Timestamp::from_second(1000).unwrap();
        keys(&Sources { rows, users: &users, consumers: &[], known, declared: &declared, now })
    }

    fn of<'a>(keys: &'a [Key], key: &str) -> &'a Key {
        keys.iter().find(|known| known.hash == KeyHash::of(key.as_bytes())).unwrap()
    }

    #[test]
    fn all_keys_of_a_user_share_one_allowance_also_those_that_come_later() {
        let (_, first) = make(&[row("b", "u", "kb"), row("c", "u", "kc"), row("d", "v", "kd")], &[]);
        assert_eq!(of(&first, "kb").follows, None);
        assert_eq!(of(&first, "kc").follows, Some(KeyHash::of(b"kb")));
        assert_eq!(of(&first, "kd").follows, None);
        let rows = [row("a", "u", "ka"), row("b", "u", "kb"), row("c", "u", "kc")];
        let (_, second) = make(&rows, &first);
        assert_eq!(second.len(), 1);
        assert_eq!(of(&second, "ka").follows, Some(KeyHash::of(b"kb")));
    }

    #[test]
    fn a_limit_goes_before_the_plan_and_a_stranger_gets_the_least() {
        let rows = [row("a", "u", "ka"), row("b", "v", "kb"), row("c", "w", "kc"), row("d", "nobody", "kd")];
        let (imports, keys) = make(&rows, &[]);
        let terms = |key: &str| {
            let terms = &of(&keys, key).terms;
            (terms.plan.clone(), terms.limit.map(|limit| limit.to_string()))
        };
        assert_eq!(terms("ka"), (Some("pro".to_owned()), None));
        assert_eq!(terms("kb"), (None, Some("42/1h".to_owned())));
        assert_eq!(terms("kc"), (Some("free".to_owned()), None));
        assert_eq!(terms("kd"), (Some("free".to_owned()), None));
        assert_eq!(imports.iter().map(|import| import.notes.len()).collect::<Vec<_>>(), [0, 0, 1, 1]);
    }

    #[test]
    fn a_key_that_was_revoked_here_does_not_come_back() {
        let (_, mut keys) = make(&[row("a", "u", "ka")], &[]);
        keys[0].revoked = Some(Timestamp::from_second(1).unwrap());
        let (imports, new) = make(&[row("a", "u", "ka")], &keys);
        assert_eq!((new.len(), imports[0].verdict), (0, KeyVerdict::Known));
        assert!(imports[0].reason.contains("opens nothing any more"));
    }

    #[test]
    fn two_keys_whose_hashes_begin_alike_have_two_ids() {
        let hash = KeyHash::of(b"a");
        let mut ids = BTreeSet::from([format!("i_{}", &hash.to_string()[..8])]);
        assert_eq!(free_id(&hash, &mut ids), format!("i_{}", &hash.to_string()[..12]));
        assert_eq!(free_id(&hash, &mut ids), format!("i_{}", &hash.to_string()[..16]));
    }

    #[test]
    fn one_key_in_two_rows_opens_both() {
        let (_, keys) = make(&[row("a", "u", "k"), row("b", "u", "k")], &[]);
        assert_eq!(keys.len(), 1);
        assert!(keys[0].scope.covers("a") && keys[0].scope.covers("b"));
    }
}
