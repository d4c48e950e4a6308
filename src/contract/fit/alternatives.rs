//! Alternatives, of which one is enough: each shape has to fit into one of those that the other document has, whole or value
//! by value.

use serde_json::Value;

use super::{Fit, Misfit, Why, refuses};
use crate::contract::schema::{FILE, Kind, Shape, Shapes, text};
use crate::contract::{TOLD, bound};

/// The most values of a field by which an object is taken apart.
const VALUES: usize = 64;

/// How many of its fields are tried for that.
const TRIED: usize = 3;

const TRUE: &Value = &Value::Bool(true);
const FALSE: &Value = &Value::Bool(false);

/// How one shape may fit into another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meeting {
    /// They are of one kind.
    Same,
    /// As any other text.
    Text,
    /// As the only item of a list.
    Item,
    /// It cannot.
    None,
}

impl<'a> Fit<'a, '_> {
    /// Each of the one has to fit into some of the other.
    pub(super) fn alternatives(&mut self, one: &[Shape<'a>], other: &[Shape<'a>], depth: usize) -> Vec<Misfit> {
        let mut misfits = Vec::new();
        for shape in one {
            let mut best = self.best(shape, other, depth);
            let is_lacking = best.as_deref().is_none_or(|best| sure(best) > 0);
            if is_lacking && let Some(better) = self.apart(shape, other, depth, best.as_deref()) {
                best = Some(better);
            }
            let none = || {
                Misfit::sure(match shape.kind {
                    Kind::Null => Why::Null,
                    _ => Why::Kind { from: words(one), to: words(other) },
                })
            };
            for misfit in best.unwrap_or_else(|| vec![none()]) {
                if !misfits.contains(&misfit) {
                    misfits.push(misfit);
                }
            }
            if self.is_full(&mut misfits) {
                break;
            }
        }
        misfits
    }

    /// What does not fit into the one of them that is most like it; `None` where none is of its kind.
    fn best(&mut self, shape: &Shape<'a>, other: &[Shape<'a>], depth: usize) -> Option<Vec<Misfit>> {
        let mut best: Option<(usize, Vec<Misfit>)> = None;
        for candidate in other {
            let tried = match self.meet(shape, candidate) {
                Meeting::Same => self.shape(shape, candidate, depth),
                Meeting::Text => self.as_text(shape, candidate),
                Meeting::Item => self.item(shape, candidate, depth),
                Meeting::None => continue,
            };
            // One that is chosen by another value of its tag is meant for something else.
            let tag = candidate.tag.or(shape.tag);
            let is_other = |it: &Misfit| matches!(it.why, Why::Values(_)) && it.field.first().map(|it| &**it) == tag;
            let rank = sure(&tried) + if tag.is_some() && tried.iter().any(is_other) { TOLD } else { 0 };
            if best.as_ref().is_none_or(|(least, best)| (rank, tried.len()) < (*least, best.len())) {
                best = Some((rank, tried));
            }
            if best.as_ref().is_some_and(|(_, best)| best.is_empty()) {
                break;
            }
        }
        best.map(|(_, misfits)| misfits)
    }

    /// The same of a shape that is taken apart by its own values, or by those of a field; `None` where that is no better.
    fn apart(
        &mut self,
        shape: &Shape<'a>,
        other: &[Shape<'a>],
        depth: usize,
        whole: Option<&[Misfit]>,
    ) -> Option<Vec<Misfit>> {
        let least = whole.map_or(usize::MAX, sure);
        if other.len() < 2 {
            return None;
        }
        if shape.kind == Kind::Object && shape.values.is_none() {
            for name in self.tags(shape, other) {
                let Some(misfits) = self.by_field(shape, other, depth, name) else { continue };
                let is_tag = other.iter().any(|other| other.tag == Some(name));
                if sure(&misfits) < least || is_tag && sure(&misfits) == least {
                    return Some(misfits);
                }
            }
            return None;
        }
        let values = own_values(shape).filter(|values| (2..=VALUES).contains(&values.len()))?;
        let (mut lacking, mut misfits) = (Vec::new(), Vec::new());
        for value in &values {
            let single = Shape { values: Some(vec![*value]), ..shape.clone() };
            match self.best(&single, other, depth) {
                Some(found) if sure(&found) == 0 => misfits.extend(found),
                _ => lacking.push(text(value)),
            }
        }
        if lacking.len() == values.len() {
            return None;
        }
        if !lacking.is_empty() {
            misfits.push(Misfit::sure(Why::Values(lacking)));
        }
        Some(misfits)
    }

    /// The fields by which others are told apart: their tags, and those of which they have some values only.
    fn tags(&mut self, shape: &Shape<'a>, other: &[Shape<'a>]) -> Vec<&'a str> {
        let named = |name: &&'a str| shape.properties.contains_key(name) && !shape.only.contains_key(name);
        let mut tags: Vec<&'a str> = Vec::new();
        for tag in other.iter().filter_map(|shape| shape.tag).filter(named) {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
        for name in shape.properties.keys().copied().filter(named) {
            if tags.len() >= TRIED || !self.fuel.burn(1 + other.len()) {
                break;
            }
            let is_named = other.iter().filter(|other| other.properties.contains_key(name)).count() > 1;
            let mut has_values = |other: &Shape<'a>| {
                let Some(Shapes::OneOf(all)) =
                    other.properties.get(name).map(|schema| Shapes::of(self.to, schema, self.fuel))
                else {
                    return false;
                };
                all.iter().all(|shape| shape.values.is_some())
            };
            if is_named && !tags.contains(&name) && other.iter().filter(|other| has_values(other)).count() > 1 {
                tags.push(name);
            }
        }
        tags
    }

    /// For each value of a field, what does not fit of an object that has it; and of one that has none, where it need not.
    fn by_field(&mut self, shape: &Shape<'a>, other: &[Shape<'a>], depth: usize, name: &'a str) -> Option<Vec<Misfit>> {
        let Shapes::OneOf(all) = Shapes::of(self.from, shape.properties.get(name)?, self.fuel) else { return None };
        let mut values: Vec<&'a Value> = Vec::new();
        for shape in &all {
            values.extend(own_values(shape)?);
        }
        let mut parts = Vec::new();
        if !shape.required.contains(name) {
            let mut without = Shape { place: None, ..shape.clone() };
            without.properties.remove(name);
            parts.push(without);
        }
        if values.len() > VALUES || !self.fuel.burn((values.len() + 1).saturating_mul(shape.weight())) {
            return None;
        }
        for value in values {
            let mut single = Shape { place: None, ..shape.clone() };
            single.only.insert(name, value);
            single.required.insert(name);
            parts.push(single);
        }
        let mut misfits: Vec<Misfit> = Vec::new();
        for part in &parts {
            for mut misfit in self.best(part, other, depth)? {
                // It is named there, and may not be.
                if misfit.field.len() == 1 && &*misfit.field[0] == name && !part.properties.contains_key(name) {
                    match misfit.why {
                        Why::Missing => continue,
                        Why::Required { .. } => misfit.why = Why::Required { is_named: true },
                        _ => {}
                    }
                }
                if !misfits.contains(&misfit) {
                    misfits.push(misfit);
                }
            }
        }
        Some(misfits)
    }

    /// How a shape may fit into another one.
    fn meet(&self, one: &Shape<'a>, other: &Shape<'a>) -> Meeting {
        let scalar =
            |shape: &Shape<'_>| matches!(shape.kind, Kind::Boolean | Kind::Integer | Kind::Number | Kind::Text);
        let is_scalar = scalar(one);
        let is_any_text = other.kind == Kind::Text && other.values.is_none() && !refuses(other.format);
        let is_file = |shape: &Shape<'_>| shape.kind == Kind::Text && shape.format == Some(FILE);
        let is_part = |shape: &Shape<'_>| !matches!(shape.kind, Kind::Any | Kind::List | Kind::Object);
        if self.way.has_files && is_part(one) && is_part(other) && is_file(one) != is_file(other) {
            Meeting::None
        } else if one.kind == other.kind
            || other.kind == Kind::Any
            || (one.kind, other.kind) == (Kind::Integer, Kind::Number)
            || (one.kind, other.kind) == (Kind::Number, Kind::Integer) && bound::is_whole(one)
        {
            Meeting::Same
        } else if self.way.is_text
            && (is_any_text && (is_scalar || one.kind == Kind::Any)
                || one.values.is_some() && is_scalar && scalar(other))
        {
            Meeting::Text
        } else if self.way.is_text && is_scalar && other.kind == Kind::List {
            Meeting::Item
        } else {
            Meeting::None
        }
    }
}

/// How many of them are known not to fit.
fn sure(misfits: &[Misfit]) -> usize {
    misfits.iter().filter(|it| !it.is_unsure).count()
}

/// All values that a shape lets through, where they are told.
fn own_values<'a>(shape: &Shape<'a>) -> Option<Vec<&'a Value>> {
    match (&shape.values, shape.kind) {
        (Some(values), _) => Some(values.clone()),
        (None, Kind::Boolean) => Some(vec![FALSE, TRUE]),
        _ => None,
    }
}

/// What alternatives there are, null aside.
fn words(shapes: &[Shape<'_>]) -> String {
    let mut words: Vec<String> = Vec::new();
    for shape in shapes.iter().filter(|shape| shape.kind != Kind::Null) {
        let word = shape.word();
        if !words.contains(&word) {
            words.push(word);
        }
    }
    if words.is_empty() { "null".to_owned() } else { words.join(" or ") }
}
