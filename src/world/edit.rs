//! An edit is a field of an API's row that is another than skep wrote: the row keeps both.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::{Failure, Served};
use crate::reconcile::status::{Health, Status, Sync};
use crate::tree::ApiId;

/// How many characters of a value are shown.
const SHOWN: usize = 60;

/// One field of a row that somebody's hand has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Edit {
    /// Dotted, as in `served.spec.replicas`; empty for a row that skep never wrote.
    pub field: String,
    /// What skep wrote; `null` where it wrote nothing.
    pub wrote: Value,
    /// What is there; `null` where nothing is.
    pub is: Value,
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            return f.write_str("the row was added by hand");
        }
        let value = |value: &Value| match value {
            Value::Null => "nothing".to_owned(),
            value => {
                let text = value.to_string();
                if text.chars().count() <= SHOWN {
                    text
                } else {
                    text.chars().take(SHOWN).chain("…".chars()).collect()
                }
            }
        };
        write!(f, "{}: {} → {}", self.field, value(&self.wrote), value(&self.is))
    }
}

/// What people may edit of a row, as skep wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    name: String,
    sync: Sync,
    health: Health,
    message: String,
    /// What serves, or served last.
    pub served: Option<Served>,
    /// The last trouble with each revision that matters still.
    pub failures: Vec<Failure>,
    /// As the database writes moments.
    created_at: String,
}

impl Written {
    /// Of these parts; `created` as the database writes moments, or as RFC 3339 does.
    #[must_use]
    pub fn new(status: Status, served: Option<Served>, failures: Vec<Failure>, created: String) -> Self {
        let Status { name, sync, health, message } = status;
        Self { name, sync, health, message, served, failures, created_at: created }
    }

    /// When skep first knew of the API: written as RFC 3339 says, or in seconds since 1970. `None` where it is neither.
    #[must_use]
    pub fn created(&self) -> Option<Timestamp> {
        let seconds = || {
            let (whole, part) = self.created_at.split_once('.').unwrap_or((&self.created_at, ""));
            let micros = format!("{part:0<6}").get(..6)?.parse::<i64>().ok()?;
            let whole = whole.parse::<i64>().ok()?.checked_mul(1_000_000)?;
            Timestamp::from_microsecond(whole.checked_add(if whole < 0 { -micros } else { micros })?).ok()
        };
        self.created_at.parse().ok().or_else(seconds)
    }

    /// What skep wrote, and every field that is another by now. `both` is a list of two in JSON: what skep wrote and what is
    /// there, of this form. The first is `null` for a row that skep never wrote: nothing in it is believed.
    ///
    /// # Errors
    /// Where it is not as said.
    pub fn restore(id: &ApiId, both: &str) -> Result<(Self, Vec<Edit>), serde_json::Error> {
        let (wrote, is): (Value, Value) = serde_json::from_str(both)?;
        if wrote.is_null() {
            let status =
                Status { name: id.to_string(), sync: Sync::OutOfSync, health: Health::Missing, message: String::new() };
            let added = Edit { field: String::new(), wrote, is };
            let created = added.is["created_at"].as_str().unwrap_or_default().to_owned();
            let written = Self::new(status, None, Vec::new(), created);
            let is_moment = written.created().is_some();
            let epoch = Self { created_at: Timestamp::UNIX_EPOCH.to_string(), ..written.clone() };
            return Ok((if is_moment { written } else { epoch }, vec![added]));
        }
        let edits = edits(&wrote, &is);
        Ok((serde_json::from_value(wrote)?, edits))
    }

    /// What people see of it in lists.
    #[must_use]
    pub fn status(&self) -> Status {
        Status { name: self.name.clone(), sync: self.sync, health: self.health, message: self.message.clone() }
    }
}

/// Every field in which two JSON values differ, in order.
#[must_use]
pub fn edits(wrote: &Value, is: &Value) -> Vec<Edit> {
    let (wrote, is) = (flat(wrote), flat(is));
    let fields: BTreeSet<&String> = wrote.keys().chain(is.keys()).collect();
    let value = |side: &BTreeMap<String, Value>, field: &String| side.get(field).cloned().unwrap_or_default();
    let edit = |field: &String| Edit { field: field.clone(), wrote: value(&wrote, field), is: value(&is, field) };
    fields.into_iter().map(edit).filter(|edit| edit.wrote != edit.is).collect()
}

/// Every value that is no object, by its dotted path.
#[must_use]
pub fn flat(value: &Value) -> BTreeMap<String, Value> {
    fn walk(path: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (key, value) in map {
                    walk(&if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, value, into);
                }
            }
            value => drop(into.insert(path.to_owned(), value.clone())),
        }
    }
    let mut into = BTreeMap::new();
    walk("", value, &mut into);
    into
}

/// Edits in one sentence.
#[must_use]
pub fn sentence(edits: &[Edit]) -> String {
    match edits {
        [edit] if edit.field.is_empty() => "somebody added its row to the records".to_owned(),
        edits => {
            let each: Vec<String> = edits.iter().map(ToString::to_string).collect();
            format!("somebody edited its row in the records: {}", each.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_field_is_named_with_both_values_and_what_skep_wrote_holds() {
        let wrote = json!({ "name": "a", "sync": "synced", "health": "healthy", "message": "", "served": null, "failures": [], "created_at": "1700000000.500000" });
        let mut is = wrote.clone();
        is["health"] = json!("missing");
        is["served"] = json!({ "spec": { "replicas": 5 } });
        let id = ApiId::new("a").unwrap();
        let (restored, edits) = Written::restore(&id, &json!([wrote, is]).to_string()).unwrap();
        assert_eq!(restored.status().health, Health::Healthy);
        assert_eq!(restored.served, None);
        assert_eq!(restored.created().unwrap().as_millisecond(), 1_700_000_000_500);
        assert_eq!(
            sentence(&edits),
            "somebody edited its row in the records: health: \"healthy\" → \"missing\", \
             served.spec.replicas: nothing → 5"
        );
        let (restored, edits) = Written::restore(&id, &json!([null, is]).to_string()).unwrap();
        assert_eq!((restored.served, sentence(&edits)), (None, "somebody added its row to the records".to_owned()));
        assert!(Written::restore(&id, &json!([{}, is]).to_string()).is_err());
    }
}
