//! Security is what callers have to show: any one of several entries, each with all its schemes.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Fuel;
use super::difference::What;

/// One way to be let in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// How many schemes it takes.
    schemes: usize,
    /// Those, and what each has to allow.
    all: BTreeSet<String>,
}

/// What callers may show, each with all that it takes. Schemes go by what they are, and not by their names.
pub(super) fn read(asked: Option<&Value>, described: &Value, fuel: &mut Fuel) -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    for schemes in asked.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
        let shown = Shown::read(schemes, described, fuel);
        if !fuel.burn(1 + all.len()) {
            break;
        }
        if !all.contains(&shown) {
            all.push(shown);
        }
    }
    if all.is_empty() { vec![Shown::default()] } else { all }
}

/// What is other than before.
pub(super) fn change(before: &[Shown], after: &[Shown], fuel: &mut Fuel) -> Option<What> {
    if !fuel.burn(before.len().saturating_mul(after.len())) {
        return None;
    }
    let is_enough = |shown: &Shown, wanted: &[Shown]| wanted.iter().any(|wanted| wanted.all.is_subset(&shown.all));
    // FastAPI writes what has to be shown together as entries of one scheme each, as if any of them would do.
    let is_together = after.len() > before.len() && after.iter().all(|shown| shown.schemes == 1);
    let has_more = after.iter().any(|shown| !is_enough(shown, before));
    if before.iter().any(|shown| !is_enough(shown, after)) || (is_together && has_more) {
        Some(What::SecurityAdded)
    } else {
        has_more.then_some(What::SecurityRemoved)
    }
}

impl Shown {
    fn read(schemes: &Map<String, Value>, described: &Value, fuel: &mut Fuel) -> Self {
        let mut shown = Self { schemes: schemes.len(), all: BTreeSet::new() };
        for (name, scopes) in schemes {
            let scheme = &described[name];
            let words = ["type", "scheme", "in", "name"].map(|key| scheme[key].as_str().unwrap_or_default());
            let length = name.len() + words.iter().map(|word| word.len()).sum::<usize>();
            let scopes = scopes.as_array().map(Vec::as_slice).unwrap_or_default();
            let scopes: Vec<&str> = scopes.iter().filter_map(Value::as_str).collect();
            let told = scopes.iter().map(|scope| 4 + (scope.len() + length) / 16).sum::<usize>();
            if !fuel.burn(4 + length / 16 + told) {
                break;
            }
            let kind = if words.concat().is_empty() { name.clone() } else { words.join(" ").to_lowercase() };
            shown.all.extend(scopes.iter().map(|scope| format!("{kind}: {scope}")));
            shown.all.insert(kind);
        }
        shown
    }
}
