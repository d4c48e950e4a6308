//! Callers as `skep.yaml` names them: plans, and keys by their hashes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use super::Settings;
use crate::tree::diagnostic::code;
use crate::tree::manifest::LimitManifest;
use crate::tree::settle::Settler;
use crate::tree::suggest;
use crate::tree::yaml::At;
use crate::tree::{ApiId, Digest, KeyTerms, RateLimit, Seconds};

/// The most characters of a name, of a key or a plan.
const MAX_NAME: usize = 100;

/// A caller's key that is declared by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredKey {
    /// What people call it.
    pub name: String,
    /// The SHA-256 of the key.
    pub hash: Digest,
    /// Which APIs it opens; `None` is all of them.
    pub apis: Option<Vec<ApiId>>,
    /// What it is good for.
    pub terms: KeyTerms,
}

/// A caller's key, by its hash alone.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeyFields {
    /// What people call it.
    #[schemars(length(min = 1, max = 100))]
    pub name: Option<At<String>>,
    /// The SHA-256 of the key, as `skep keys hash` prints it.
    #[schemars(regex(pattern = "^[0-9A-Fa-f]{64}$"))]
    pub hash: Option<At<String>>,
    /// The ids of the APIs that it opens, or `all`.
    pub apis: Option<At<KeyApis>>,
    /// From when on it opens nothing: a day, which is over before it begins in UTC, or a moment.
    #[schemars(regex(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}"), example = &"2027-01-31")]
    pub expires: Option<At<String>>,
    /// The plan that says how many requests it may make; one of `plans`.
    pub plan: Option<At<String>>,
    /// The methods that it may be used with. All where nothing is said; `GET` covers `HEAD`.
    pub methods: Option<Vec<At<String>>>,
    /// The beginnings of the paths that it may be used for, in whole segments, below those of its APIs.
    pub paths: Option<Vec<At<String>>>,
}

/// An entry of `keys`.
pub type KeyFile = At<KeyFields>;

/// The APIs that a key opens, as somebody wrote them.
#[derive(Debug, Clone)]
pub enum KeyApis {
    /// Every API.
    All,
    /// These.
    These(Vec<At<String>>),
}

/// Plans in the order of the file.
#[derive(Debug, Clone, Default)]
pub struct PlansFile(Vec<(At<String>, At<LimitManifest>)>);

/// Lays plans and keys over settings.
pub(super) fn lay_over(
    settler: &mut Settler<'_, '_>,
    plans: Option<&PlansFile>,
    keys: &[KeyFile],
    settings: &mut Settings,
) {
    for (name, manifest) in plans.map_or(&[][..], |plans| &plans.0) {
        if name.value.is_empty() || name.value.len() > MAX_NAME || name.value.chars().any(char::is_control) {
            settler.error(code::BAD_VALUE, name, "a plan has a name of 1 to 100 characters", "");
        } else if let Some(limit) = limit(settler, manifest) {
            settings.plans.insert(name.value.clone(), limit);
        }
    }
    for file in keys {
        let Some(key) = key(settler, file, &settings.plans) else { continue };
        match (settings.keys.iter().find(|known| known.hash == key.hash), &file.value.hash) {
            (Some(twin), Some(hash)) => {
                let message = format!("this is the key {:?} once more", twin.name);
                settler.error(code::BAD_VALUE, hash, message, "keep one of the two");
            }
            _ => settings.keys.push(key),
        }
    }
}

/// The limit of a plan.
fn limit(settler: &mut Settler<'_, '_>, manifest: &At<LimitManifest>) -> Option<RateLimit> {
    let LimitManifest { requests, per, burst } = &manifest.value;
    let Some(count) = requests else {
        settler.error(
            code::MISSING_KEY,
            manifest,
            "a plan needs `requests`",
            "write it as in { requests: 60, per: 1m }",
        );
        return None;
    };
    let mut limit = RateLimit { requests: count.value, per: Seconds::new(60), burst: count.value };
    settler.within(requests.as_ref(), 1..=1_000_000, &mut limit.requests);
    settler.within(per.as_ref(), Seconds::new(1)..=Seconds::new(30 * 86_400), &mut limit.per);
    settler.within(burst.as_ref(), 1..=1_000_000, &mut limit.burst);
    Some(limit)
}

/// A declared key; `None` where something is wrong with it.
fn key(settler: &mut Settler<'_, '_>, file: &KeyFile, plans: &BTreeMap<String, RateLimit>) -> Option<DeclaredKey> {
    let KeyFields { name, hash, apis, expires, plan, methods, paths } = &file.value;
    let (Some(name), Some(hash), Some(apis)) = (name, hash, apis) else {
        let message = "a key needs `name`, `hash` and `apis`";
        settler.error(code::MISSING_KEY, file, message, "write apis: all for a key that opens every API");
        return None;
    };
    let is_named = is_key_name(&name.value);
    if !is_named {
        settler.error(code::OUT_OF_BOUNDS, name, "a key has a name of 1 to 100 characters", "");
    }
    let digest = hash.value.parse::<Digest>().ok();
    if digest.is_none() {
        let (message, hint) = if hash.value.starts_with("skep_") {
            (
                "this is a key itself, which everybody who can read this file could use",
                "revoke it, and make another one",
            )
        } else {
            ("this is no SHA-256: 64 hexadecimal digits", "`skep keys hash` reads a key and prints its hash")
        };
        settler.error(code::BAD_VALUE, hash, message, hint);
    }
    let scope = match &apis.value {
        KeyApis::All => Some(None),
        KeyApis::These(ids) => {
            every(settler, ids, |text| ApiId::new(text).map_err(|error| error.to_string())).map(Some)
        }
    };
    let mut terms = KeyTerms::default();
    if let Some(expires) = expires {
        match moment(&expires.value) {
            Some(at) => terms.expires = Some(at),
            None => {
                let hint = "write a day, as in 2027-01-31, or a moment, as in 2027-01-31T12:00:00Z";
                settler.error(code::BAD_VALUE, expires, "this is no day and no moment", hint);
                return None;
            }
        }
    }
    if let Some(plan) = plan {
        if !plans.contains_key(&plan.value) {
            let known: Vec<&str> = plans.keys().map(String::as_str).collect();
            let message = format!("there is no plan {:?}", suggest::shorten(&plan.value));
            settler.error(code::BAD_VALUE, plan, message, &suggest::hint(&plan.value, &known));
            return None;
        }
        terms.plan = Some(plan.value.clone());
    }
    let methods = every(settler, methods.as_deref().unwrap_or_default(), str::parse);
    let paths = every(settler, paths.as_deref().unwrap_or_default(), str::parse);
    (terms.methods, terms.paths) = (methods?, paths?);
    is_named.then_some(DeclaredKey { name: name.value.clone(), hash: digest?, apis: scope?, terms })
}

/// Every item of a list; `None` where one of them is wrong, and all of those are reported.
fn every<T>(
    settler: &mut Settler<'_, '_>,
    items: &[At<String>],
    read: impl Fn(&str) -> Result<T, String>,
) -> Option<Vec<T>> {
    let mut good = Vec::new();
    for item in items {
        match read(&item.value) {
            Ok(value) => good.push(value),
            Err(message) => settler.error(code::BAD_VALUE, item, message, ""),
        }
    }
    (good.len() == items.len()).then_some(good)
}

/// Whether a key may be called that.
pub(crate) fn is_key_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control)
}

/// The moment that a text names: itself, or the beginning of a day in UTC.
pub(crate) fn moment(text: &str) -> Option<Timestamp> {
    let day = || Some(text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp());
    text.parse::<Timestamp>().ok().or_else(day)
}

impl<'de> Deserialize<'de> for KeyApis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ApisVisitor;
        impl<'de> Visitor<'de> for ApisVisitor {
            type Value = KeyApis;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of ids, or the word all")
            }
            fn visit_str<E: Error>(self, word: &str) -> Result<KeyApis, E> {
                if word == "all" { Ok(KeyApis::All) } else { Err(E::invalid_type(Unexpected::Str(word), &self)) }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<KeyApis, A::Error> {
                let mut ids = Vec::new();
                while let Some(id) = items.next_element()? {
                    ids.push(id);
                }
                Ok(KeyApis::These(ids))
            }
        }
        deserializer.deserialize_any(ApisVisitor)
    }
}

impl JsonSchema for KeyApis {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "KeyApis".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "array", "items": { "type": "string" } }, { "const": "all" }] })
    }
}

impl<'de> Deserialize<'de> for PlansFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PlansVisitor;
        impl<'de> Visitor<'de> for PlansVisitor {
            type Value = PlansFile;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping of names to limits")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PlansFile, A::Error> {
                let mut plans = Vec::new();
                while let Some(plan) = map.next_entry()? {
                    plans.push(plan);
                }
                Ok(PlansFile(plans))
            }
        }
        deserializer.deserialize_map(PlansVisitor)
    }
}

impl JsonSchema for PlansFile {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Plans".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let limit = generator.subschema_for::<LimitManifest>();
        json_schema!({
            "type": "object",
            "propertyNames": { "minLength": 1, "maxLength": MAX_NAME },
            "additionalProperties": { "allOf": [limit], "required": ["requests"] },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::tree::Diagnostic;

    fn settle(text: &str) -> (Settings, Vec<Diagnostic>) {
        Settings::settle(Path::new("/srv"), text.as_bytes(), |_| None)
    }

    #[test]
    fn plans_and_keys_are_taken() {
        let hash = Digest::of(b"skep_x");
        let (settings, findings) = settle(&format!(
            "plans: {{ free: {{ requests: 60 }}, pro: {{ requests: 600, per: 10s, burst: 50 }} }}\n\
             keys:\n- {{ name: shop, hash: {hash}, apis: [a, b], expires: 2027-01-31, plan: pro, methods: [get], \
             paths: [/items] }}\n- {{ name: all, hash: {}, apis: all, expires: 2027-01-31T12:00:00Z }}\n",
            Digest::of(b"skep_y"),
        ));
        assert_eq!(findings, []);
        assert_eq!(settings.plans["free"], RateLimit { requests: 60, per: Seconds::new(60), burst: 60 });
        assert_eq!(settings.plans["pro"], RateLimit { requests: 600, per: Seconds::new(10), burst: 50 });
        let [shop, all] = settings.keys.as_slice() else { panic!("{:?}", settings.keys) };
        assert_eq!((shop.name.as_str(), shop.hash), ("shop", hash));
        assert_eq!(shop.apis.as_ref().map(Vec::len), Some(2));
        assert_eq!(shop.terms.expires.unwrap().to_string(), "2027-01-31T00:00:00Z");
        assert_eq!(shop.terms.plan.as_deref(), Some("pro"));
        assert!(shop.terms.allow("HEAD", "/items/1").is_ok() && shop.terms.allow("POST", "/items").is_err());
        assert_eq!((all.apis.as_ref(), all.terms.methods.len()), (None, 0));
        assert_eq!(all.terms.expires.unwrap().to_string(), "2027-01-31T12:00:00Z");
    }

    #[test]
    fn what_is_wrong_with_a_key_is_said_where_it_stands() {
        let hash = Digest::of(b"skep_x");
        let at = |text: &str| {
            let (settings, findings) = settle(text);
            assert!(settings.keys.len() <= 1 && !findings.is_empty(), "{text}: {findings:?}");
            (findings[0].code, findings[0].hint.clone())
        };
        let one = |what: &str| at(&format!("keys: [{{ {what} }}]"));
        assert_eq!(one("name: a, apis: all").0, code::MISSING_KEY);
        assert_eq!(one(&format!("name: a, hash: {hash}")).0, code::MISSING_KEY);
        assert_eq!(one("name: a, hash: abc, apis: all").0, code::BAD_VALUE);
        assert!(one("name: a, hash: skep_abc, apis: all").1.starts_with("revoke it"));
        assert_eq!(one(&format!("name: a, hash: {hash}, apis: some")).0, code::WRONG_TYPE);
        for bad in ["apis: [NO]", "apis: all, expires: soon", "apis: all, methods: ['GET /']", "apis: all, paths: [x]"]
        {
            assert_eq!(one(&format!("name: a, hash: {hash}, {bad}")).0, code::BAD_VALUE, "{bad}");
        }
        let plan = at(&format!(
            "{{ plans: {{ free: {{ requests: 1 }} }}, keys: [{{ name: a, hash: {hash}, apis: all, plan: fre }}] }}"
        ));
        assert_eq!((plan.0, plan.1.as_str()), (code::BAD_VALUE, "did you mean `free`?"));
        // The caret stands under the hash.
        let (_, findings) = settle("keys:\n- name: a\n  hash: abc\n  apis: all\n");
        let span = findings[0].span.unwrap();
        assert_eq!((findings.len(), span.line, span.column, span.end_column), (1, 3, 9, 12));
        let twice = format!("name: a, hash: {hash}, apis: all");
        assert_eq!(at(&format!("keys: [{{ {twice} }}, {{ {twice} }}]")).0, code::BAD_VALUE);
        assert_eq!(at("plans: { free: {} }").0, code::MISSING_KEY);
        assert_eq!(at("plans: { free: { requests: 0 } }").0, code::OUT_OF_BOUNDS);
    }
}
