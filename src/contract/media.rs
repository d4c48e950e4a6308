//! A media type is what a body is written as; a range of them, as `image/*`, stands for each that is in it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Fuel;
use super::fit::Side;
use super::schema::Schema;

/// Bodies whose fields are sent as text, as parameters are.
pub(super) const FORMS: [&str; 2] = ["application/x-www-form-urlencoded", "multipart/form-data"];

/// The contents of a body by their media types, without parameters of those.
pub(super) fn media<'a>(body: &'a Value, fuel: &mut Fuel) -> BTreeMap<String, &'a Value> {
    let all = body["content"].as_object().into_iter().flatten();
    let all = all.take_while(|(name, _)| fuel.burn(1 + name.len() / 16));
    all.map(|(name, content)| (name.split(';').next().unwrap_or(name).trim().to_lowercase(), content)).collect()
}

/// What of the new contents a media type of the old ones is compared with. One that was sent may be sent as any that stands
/// for it, of which the nearest counts; a range that came back may have become those in it.
pub(super) fn all_for<'a>(name: &str, after: &BTreeMap<String, &'a Value>, side: Side) -> Vec<&'a Value> {
    if let Some(same) = after.get(name) {
        return vec![same];
    }
    match side {
        Side::Request => {
            let ranges = name.split_once('/').map(|(kind, _)| [format!("{kind}/*"), "*/*".to_owned()]);
            ranges.into_iter().flatten().find_map(|range| after.get(&range)).into_iter().copied().collect()
        }
        Side::Response => after.iter().filter(|(other, _)| is_in(other, name)).map(|(_, content)| *content).collect(),
    }
}

fn is_in(name: &str, range: &str) -> bool {
    range == "*/*" || range.strip_suffix('*').is_some_and(|kind| kind.ends_with('/') && name.starts_with(kind))
}

/// Whether it says of parts of a form in another way how they are written.
pub(super) fn has_other_encoding(old: &Value, new: &Value) -> bool {
    old.get("encoding") != new.get("encoding")
}

pub(super) fn schema(content: &Value) -> Schema<'_> {
    content.get("schema").into_iter().collect()
}
