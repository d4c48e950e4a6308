//! A bound keeps a value, its length or its shape within limits. Here two schemas' bounds are compared.

use std::collections::BTreeMap;

use serde_json::Value;

use super::difference::short;
use super::schema::{Kind, Shape, text};

/// Bounds that are none where they are nought.
const COUNTS: [&str; 3] = ["minLength", "minItems", "minProperties"];

/// The two ends of a range of numbers: the key, the one that excludes the figure itself, and whether a larger one is tighter.
const ENDS: [(&str, &str, bool); 2] = [("minimum", "exclusiveMinimum", true), ("maximum", "exclusiveMaximum", false)];

/// Bounds with one figure or word, and whether a larger figure is the tighter one. One that has no order is tighter where
/// it is another.
const OTHERS: [(&str, Option<bool>); 9] = [
    ("minLength", Some(true)),
    ("minItems", Some(true)),
    ("minProperties", Some(true)),
    ("maxLength", Some(false)),
    ("maxItems", Some(false)),
    ("maxProperties", Some(false)),
    ("pattern", None),
    ("multipleOf", None),
    ("uniqueItems", None),
];

/// A bound that lets less through than the same one of another schema.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Tighter {
    pub(super) name: &'static str,
    /// Of the other schema; empty where it has none.
    pub(super) from: String,
    /// Of this one.
    pub(super) to: String,
    /// It may let all of that through all the same.
    pub(super) is_unsure: bool,
}

/// Where a range of numbers ends.
#[derive(Debug, Clone, Copy, PartialEq)]
struct End {
    figure: f64,
    is_excluded: bool,
}

/// The keys of the bounds that mean something for a kind of value.
pub(super) fn keys(kind: Kind) -> impl Iterator<Item = &'static str> {
    let all =
        ENDS.iter().flat_map(|(name, excluding, _)| [*name, *excluding]).chain(OTHERS.iter().map(|(name, _)| *name));
    all.filter(move |name| match kind {
        Kind::Any => true,
        Kind::Null | Kind::Boolean => false,
        Kind::Integer | Kind::Number => name.ends_with("imum") || *name == "multipleOf",
        Kind::Text => name.ends_with("Length") || *name == "pattern",
        Kind::List => name.ends_with("Items"),
        Kind::Object => name.ends_with("Properties"),
    })
}

/// Joins the bounds of two parts that both have to hold: of each, the tighter one is left. Of two that have no order, as two
/// patterns, the answer has those of `other`.
pub(super) fn join<'a>(one: &mut Shape<'a>, other: &Shape<'a>) -> Vec<(&'static str, &'a Value)> {
    let mut aside = Vec::new();
    let mut joined: BTreeMap<&'static str, &'a Value> = BTreeMap::new();
    for keys in ENDS {
        let (from, to) = (End::of(one, keys, false), End::of(other, keys, false));
        let is_other = match (from, to) {
            (Some(from), Some(to)) => to.is_within(from, keys.2),
            (from, _) => from.is_none(),
        };
        let tighter = if is_other { &other.bounds } else { &one.bounds };
        joined
            .extend([keys.0, keys.1].iter().filter_map(|key| tighter.get_key_value(key)).map(|(key, it)| (*key, *it)));
    }
    for (name, larger) in OTHERS {
        let bound = match (one.bounds.get(name).copied(), other.bounds.get(name).copied()) {
            (Some(from), Some(to)) if from != to => match (larger, from.as_f64().zip(to.as_f64())) {
                (Some(true), Some((less, more))) => Some(if more > less { to } else { from }),
                (Some(false), Some((more, less))) => Some(if less < more { to } else { from }),
                // One that says nothing.
                (None, Some((from_figure, figure))) if name == "multipleOf" && is_multiple(from_figure, figure) => {
                    Some(from)
                }
                (None, Some((from_figure, figure))) if name == "multipleOf" && is_multiple(figure, from_figure) => {
                    Some(to)
                }
                _ if from == &Value::Bool(false) => Some(to),
                _ if to == &Value::Bool(false) => Some(from),
                _ => {
                    aside.push((name, to));
                    Some(from)
                }
            },
            (from, to) => from.or(to),
        };
        joined.extend(bound.map(|bound| (name, bound)));
    }
    one.bounds = joined;
    aside
}

/// The bounds of `other` that some values do not meet which meet those of `one`.
pub(super) fn tighter(one: &Shape<'_>, other: &Shape<'_>) -> Vec<Tighter> {
    let mut all = Vec::new();
    for (name, excluding, larger) in ENDS {
        let end = |shape: &Shape<'_>| End::of(shape, (name, excluding, larger), one.kind == Kind::Integer);
        let (from, Some(to)) = (end(one), end(other)) else { continue };
        if from.is_none_or(|from| to != from && to.is_within(from, larger)) {
            let word = |end: End| end.word(larger);
            all.push(Tighter { name, from: from.map(word).unwrap_or_default(), to: word(to), is_unsure: false });
        }
    }
    for (name, larger) in OTHERS {
        let is_none =
            |bound: &&Value| **bound == Value::Bool(false) || (bound.as_u64() == Some(0) && COUNTS.contains(&name));
        let bound = |shape: &Shape<'_>| shape.bounds.get(name).copied().filter(|bound| !is_none(bound)).cloned();
        let (from, Some(to)) = (bound(one), bound(other)) else { continue };
        let is_tighter = match (larger, from.as_ref().and_then(Value::as_f64).zip(to.as_f64())) {
            (Some(true), Some((from, to))) => to > from,
            (Some(false), Some((from, to))) => to < from,
            (None, Some((from, to))) if name == "multipleOf" => !is_multiple(from, to),
            // Each whole number is one of one.
            (None, None) if name == "multipleOf" && one.kind == Kind::Integer && to.as_f64() == Some(1.0) => false,
            _ => from.as_ref() != Some(&to),
        };
        if is_tighter {
            // Nobody here knows which texts both let through.
            let is_unsure = name == "pattern" && from.is_some();
            all.push(Tighter { name, from: from.as_ref().map(text).unwrap_or_default(), to: text(&to), is_unsure });
        }
    }
    all
}

/// Whether a figure is a multiple of another one, as near as figures are told.
fn is_multiple(figure: f64, of: f64) -> bool {
    let times = figure / of;
    times.is_finite() && (times - times.round()).abs() <= times.abs() * 1e-12
}

/// Whether all numbers that a schema lets through are whole.
pub(super) fn is_whole(shape: &Shape<'_>) -> bool {
    shape.bounds.get("multipleOf").and_then(|of| of.as_f64()).is_some_and(|of| is_multiple(of, 1.0))
}

/// Whether a value is within the bounds of a schema, its pattern aside, as far as they are about such a value.
pub(super) fn holds(value: &Value, shape: &Shape<'_>) -> bool {
    let count = |least: &str, most: &str, count: usize| {
        let figure = |name: &str| shape.bounds.get(name).and_then(|bound| bound.as_u64());
        let count = count as u64;
        figure(least).is_none_or(|least| count >= least) && figure(most).is_none_or(|most| count <= most)
    };
    match value {
        Value::Number(number) => {
            let Some(figure) = number.as_f64() else { return true };
            let is_within = |(name, excluding, larger)| {
                let end = End::of(shape, (name, excluding, larger), false);
                end.is_none_or(|end| End { figure, is_excluded: false }.is_within(end, larger))
            };
            let of = shape.bounds.get("multipleOf").and_then(|of| of.as_f64());
            ENDS.into_iter().all(is_within) && of.is_none_or(|of| is_multiple(figure, of))
        }
        Value::String(text) => count("minLength", "maxLength", text.chars().count()),
        Value::Array(items) => count("minItems", "maxItems", items.len()),
        Value::Object(fields) => count("minProperties", "maxProperties", fields.len()),
        Value::Null | Value::Bool(_) => true,
    }
}

/// All whole numbers that a schema lets through, where they are few.
pub(super) fn few(shape: &Shape<'_>) -> Option<Vec<i64>> {
    const FEW: f64 = 64.0;
    let [least, most] = ENDS.map(|keys| End::of(shape, keys, true).map(|end| end.figure));
    let (least, most) = (least?, most?);
    if most - least > FEW || least.abs() > 1e15 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "whole numbers, which are small")]
    let all = (0..=64).map(|step| least as i64 + step).take_while(|number| *number <= most as i64);
    Some(all.collect())
}

/// The most characters of a whole number between two ends, or of a mark, as text.
pub(super) fn longest(shape: &Shape<'_>) -> Option<u64> {
    match shape.kind {
        Kind::Boolean => Some(5),
        Kind::Integer => {
            let [least, most] =
                ENDS.map(|keys| End::of(shape, keys, true).map(|end| end.figure.to_string().len() as u64));
            Some(least?.max(most?))
        }
        _ => None,
    }
}

impl End {
    /// Out of both of its keys, in the ways of OpenAPI 3.0 (a mark beside the figure) and 3.1 (another figure). Of whole
    /// numbers the end is the last one that is possible.
    fn of(shape: &Shape<'_>, (name, excluding, larger): (&str, &str, bool), is_whole: bool) -> Option<Self> {
        let (figure, mark) = (shape.bounds.get(name).and_then(|bound| bound.as_f64()), shape.bounds.get(excluding));
        let marked = figure.map(|figure| Self { figure, is_excluded: mark.is_some_and(|mark| **mark == true) });
        let apart = mark.and_then(|mark| mark.as_f64()).map(|figure| Self { figure, is_excluded: true });
        let end = match (marked, apart) {
            (Some(one), Some(other)) => Some(if one.is_within(other, larger) { one } else { other }),
            (one, other) => one.or(other),
        };
        end.map(|end| if is_whole { end.whole(larger) } else { end })
    }

    fn whole(self, larger: bool) -> Self {
        let figure = match (larger, self.is_excluded) {
            (true, true) => self.figure.floor() + 1.0,
            (true, false) => self.figure.ceil(),
            (false, true) => self.figure.ceil() - 1.0,
            (false, false) => self.figure.floor(),
        };
        Self { figure, is_excluded: false }
    }

    /// Whether all that it lets through, the other does too.
    fn is_within(self, other: Self, larger: bool) -> bool {
        let is_past = if larger { self.figure > other.figure } else { self.figure < other.figure };
        is_past || (self.figure.total_cmp(&other.figure).is_eq() && (self.is_excluded || !other.is_excluded))
    }

    fn word(self, larger: bool) -> String {
        let than = if larger { "more than" } else { "less than" };
        short(&if self.is_excluded { format!("{than} {}", self.figure) } else { self.figure.to_string() })
    }
}
