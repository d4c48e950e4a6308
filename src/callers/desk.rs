//! What people do with callers' keys, from the command line and over the control surface.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::join;
use crate::records::{Key, KeyScope, NewKey, Records, RecordsError};
use crate::settings::{Settings, is_key_name, moment};
use crate::tree::{ApiId, KeyMethod, KeyPath, KeyTerms, RateLimit, Seconds, suggest};

/// Why a key is not made, rotated or revoked.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A key needs a name, since people must know which one to revoke.
    #[error("a key has a name of 1 to 100 characters, none of them a control character")]
    Name,
    /// It would open nothing from the start.
    #[error("a key for no API at all opens nothing; leave `apis` away for all of them")]
    NoApi,
    /// Nobody has made such a plan.
    #[error("skep.yaml names no plan {plan:?}; {hint}")]
    NoPlan {
        /// The plan as it was asked for.
        plan: String,
        /// What it may have been meant to be.
        hint: String,
    },
    /// It is for no API, and bound to some too.
    #[error("a key that pushes, or asks for plans, opens no API: it has no `apis`, methods, paths, limit or plan")]
    OpensNothing,
    /// It is to do two things.
    #[error("a key pushes, pushes previews, or asks for plans; make one for each")]
    PushAndPlans,
    /// A plan says what a limit says.
    #[error("a key has a limit of its own or a plan, not both")]
    LimitAndPlan,
    /// It would be over before it begins.
    #[error("that is too long a time")]
    TooLong,
    /// There is no such key in force.
    #[error("there is no key {0}; `skep keys list` lists all")]
    Unknown(String),
    /// It stands in a file, which no command changes.
    #[error("{0} is declared in skep.yaml; change it there, a new one by its hash beside it")]
    Declared(String),
    /// It is one of those of `skep.yaml` too.
    #[error("{0} is revoked here, and declared in skep.yaml too: it opens what it does there until it is taken out")]
    DeclaredToo(String),
    /// Somebody was faster.
    #[error("{0} was rotated or revoked before; `skep keys list` lists the key that has taken its place")]
    Gone(String),
    /// The records cannot be read or written.
    #[error(transparent)]
    Records(#[from] RecordsError),
}

/// What a new key is to be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyWish {
    /// What people call it.
    pub name: String,
    /// Whether it opens no API, and lets its holder push.
    #[serde(default)]
    pub push: bool,
    /// Whether it opens no API, and lets its holder push pull requests to be previewed, and nothing else.
    #[serde(default)]
    pub previews: bool,
    /// Whether it opens no API, and lets its holder ask what a tree would change.
    #[serde(default)]
    pub plans: bool,
    /// The APIs that it opens; all where nothing is said.
    #[serde(default)]
    pub apis: Option<Vec<ApiId>>,
    /// From when on it opens nothing.
    #[serde(default, deserialize_with = "read_expiry")]
    pub expires: Option<Timestamp>,
    /// The methods that it may be used with; none named is all.
    #[serde(default)]
    pub methods: Vec<KeyMethod>,
    /// How paths begin that it may be used for; none named is all.
    #[serde(default)]
    pub paths: Vec<KeyPath>,
    /// The plan of `skep.yaml` that says how many requests it may make.
    #[serde(default)]
    pub plan: Option<String>,
    /// How many requests it may make.
    #[serde(default, deserialize_with = "read_limit")]
    pub limit: Option<RateLimit>,
}

/// How a key is to be replaced.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// How long the old one goes on opening.
    #[serde(default = "Rotation::overlap")]
    pub overlap: Seconds,
    /// From when on the new one opens nothing; as the old one, where nothing is said.
    #[serde(default, deserialize_with = "read_expiry")]
    pub expires: Option<Timestamp>,
}

impl Rotation {
    const fn overlap() -> Seconds {
        Seconds::new(24 * 3600)
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self { overlap: Self::overlap(), expires: None }
    }
}

/// All keys in force, and when each was last used.
///
/// # Errors
/// Where the records cannot be read.
pub async fn keys_in_force(records: &dyn Records, settings: &Settings) -> Result<Vec<Key>, RecordsError> {
    let keys = join(records.keys().await?, settings);
    let mut keys: Vec<Key> = keys.into_iter().map(Arc::unwrap_or_clone).collect();
    let uses = records.key_uses().await?;
    for key in &mut keys {
        key.last_used = uses.get(&key.hash).copied();
    }
    keys.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(keys)
}

/// Makes a key.
///
/// # Errors
/// Where it makes no sense, or cannot be written down.
pub async fn make_key(records: &dyn Records, settings: &Settings, wish: KeyWish) -> Result<NewKey, KeyError> {
    let KeyWish { name, push, previews, plans, apis, expires, methods, paths, plan, limit } = wish;
    if !is_key_name(&name) {
        return Err(KeyError::Name);
    }
    let is_bound = apis.is_some() || plan.is_some() || limit.is_some() || !methods.is_empty() || !paths.is_empty();
    let does = [push, previews, plans].into_iter().filter(|does| *does).count();
    if does > 0 && is_bound {
        return Err(KeyError::OpensNothing);
    }
    if does > 1 {
        return Err(KeyError::PushAndPlans);
    }
    if plan.is_some() && limit.is_some() {
        return Err(KeyError::LimitAndPlan);
    }
    if let Some(plan) = &plan
        && !settings.plans.contains_key(plan)
    {
        let known: Vec<&str> = settings.plans.keys().map(String::as_str).collect();
        return Err(KeyError::NoPlan { plan: plan.clone(), hint: suggest::hint(plan, &known) });
    }
    let scope = match apis {
        None if push => KeyScope::Push,
        None if previews => KeyScope::Previews,
        None if plans => KeyScope::Plan,
        Some(apis) if apis.is_empty() => return Err(KeyError::NoApi),
        Some(apis) => KeyScope::Apis(apis),
        None => KeyScope::All,
    };
    let mut made = NewKey::generate(&name, scope, Timestamp::now());
    made.key.terms = KeyTerms { expires, methods, paths, plan, limit };
    records.add_key(&made.key).await?;
    Ok(made)
}

/// Makes a key in the place of another, and the moment from which on the other opens nothing.
///
/// # Errors
/// Where there is no such key, or it cannot be written down.
pub async fn rotate_key(
    records: &dyn Records,
    settings: &Settings,
    id: &str,
    rotation: &Rotation,
) -> Result<(NewKey, Timestamp), KeyError> {
    let known = join(records.keys().await?, settings);
    let old = known.iter().find(|key| key.id == id).ok_or_else(|| KeyError::Unknown(id.to_owned()))?;
    if old.declared {
        return Err(KeyError::Declared(id.to_owned()));
    }
    let now = Timestamp::now();
    let overlap = SignedDuration::try_from(rotation.overlap.0).map_err(|_| KeyError::TooLong)?;
    let until = now.checked_add(overlap).map_err(|_| KeyError::TooLong)?;
    let mut made = old.rotate(now);
    made.key.terms.expires = rotation.expires.or(made.key.terms.expires);
    if !records.rotate_key(id, &made.key, until).await? {
        return Err(KeyError::Gone(id.to_owned()));
    }
    Ok((made, until))
}

/// Revokes a key.
///
/// # Errors
/// Where there is no such key, or it cannot be written down.
pub async fn revoke_key(records: &dyn Records, settings: &Settings, id: &str) -> Result<(), KeyError> {
    let declared: Vec<Key> = settings.keys.iter().map(Key::declared).collect();
    let recorded = records.keys().await?.into_iter().find(|key| key.id == id);
    let is_revoked = records.revoke_key(id, Timestamp::now()).await?;
    // One that was made here and is declared too goes on as what is declared, whatever the records say.
    if recorded.is_some_and(|recorded| declared.iter().any(|key| key.hash == recorded.hash && key.id != id)) {
        return Err(KeyError::DeclaredToo(id.to_owned()));
    }
    if declared.iter().any(|key| key.id == id) {
        return Err(KeyError::Declared(id.to_owned()));
    }
    if is_revoked { Ok(()) } else { Err(KeyError::Unknown(id.to_owned())) }
}

/// Reads when a key expires: after a span of time, as in `90d`, or at a moment that is still to come.
///
/// # Errors
/// A sentence that says what can be written.
pub fn expiry(text: &str) -> Result<Timestamp, String> {
    let now = Timestamp::now();
    let at = match text.parse::<Seconds>() {
        Ok(span) => SignedDuration::try_from(span.0).ok().and_then(|span| now.checked_add(span).ok()),
        Err(_) => moment(text),
    };
    match at {
        Some(at) if at > now => Ok(at),
        Some(_) => Err("that is over already".to_owned()),
        None => Err("write a span, as in 90d, or a day, as in 2027-01-31".to_owned()),
    }
}

/// The same of JSON; nothing where nothing is said.
///
/// # Errors
/// As [`expiry`].
pub fn read_expiry<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| expiry(&text).map_err(serde::de::Error::custom)).transpose()
}

fn read_limit<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<RateLimit>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_reads_as_the_command_line_does() {
        let text = r#"{"name": "ci", "apis": ["hello"], "expires": "90d", "methods": ["get"], "limit": "60/1m"}"#;
        let wish: KeyWish = serde_json::from_str(text).unwrap();
        assert_eq!(wish.apis, Some(vec![ApiId::new("hello").unwrap()]));
        assert!(wish.expires.is_some_and(|at| at > Timestamp::now()));
        assert_eq!(wish.limit.map(|limit| limit.requests), Some(60));
        for (bad, why) in [
            (r#"{"name": "ci", "expires": "1999-01-01"}"#, "over already"),
            (r#"{"name": "ci", "limit": "many"}"#, ""),
            (r#"{"name": "ci", "methods": ["G E T"]}"#, "a method is a word"),
            (r#"{"name": "ci", "scope": "all"}"#, "unknown field"),
            (r#"{"apis": ["hello"]}"#, "missing field `name`"),
        ] {
            let error = serde_json::from_str::<KeyWish>(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
