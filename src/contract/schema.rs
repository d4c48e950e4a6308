//! A schema says which values are possible. It is read into alternatives, each of one kind of value.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::difference::short;
pub(super) use super::kind::Kind;
use super::{Fuel, bound};

/// The most nodes of one value that is told apart from others, and the most bytes of its texts: what is larger is opaque.
const LARGEST: (usize, usize) = (64, 1 << 10);

/// The most alternatives of one schema; what has more is opaque.
const ALTERNATIVES: usize = 64;

/// The format of a file.
pub(super) const FILE: &str = "binary";

/// How many references lead on to one another, and how deep what is read at once is nested.
const DEPTH: usize = 24;

/// Parts of a document that all have to hold for a value. None of them: anything is possible.
pub(super) type Schema<'a> = Vec<&'a Value>;

/// What a schema comes to.
#[derive(Debug)]
pub(super) enum Shapes<'a> {
    /// Any one of these.
    OneOf(Vec<Shape<'a>>),
    /// It cannot be told.
    Opaque,
}

/// Values of one kind.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape<'a> {
    pub(super) kind: Kind,
    /// The only ones, where they are told.
    pub(super) values: Option<Vec<&'a Value>>,
    /// Of a text. A file is `binary`, by whichever key the document says so.
    pub(super) format: Option<&'a str>,
    /// Named as the document names them.
    pub(super) bounds: BTreeMap<&'static str, &'a Value>,
    pub(super) properties: BTreeMap<&'a str, Schema<'a>>,
    pub(super) required: BTreeSet<&'a str>,
    /// What fields may be that no property names.
    pub(super) others: Schema<'a>,
    /// There may be no such fields.
    pub(super) is_closed: bool,
    /// The items at the first places of a list, and those behind them.
    pub(super) first: Vec<Schema<'a>>,
    pub(super) items: Schema<'a>,
    /// Where all of it stands in memory, if it is one part alone.
    pub(super) place: Option<usize>,
    /// The field by whose value one of several is chosen.
    pub(super) tag: Option<&'a str>,
    /// Fields of which one value only is looked at.
    pub(super) only: BTreeMap<&'a str, &'a Value>,
    /// What it also says and nobody here understands, by its key.
    pub(super) aside: Vec<(&'static str, &'a Value)>,
}

/// Keys that are told apart and not understood, and the kind of value that each is about.
const ASIDE: [(&str, Kind); 14] = [
    ("not", Kind::Any),
    ("if", Kind::Any),
    ("then", Kind::Any),
    ("else", Kind::Any),
    ("propertyNames", Kind::Object),
    ("patternProperties", Kind::Object),
    ("dependentRequired", Kind::Object),
    ("dependentSchemas", Kind::Object),
    ("unevaluatedProperties", Kind::Object),
    ("contains", Kind::List),
    ("unevaluatedItems", Kind::List),
    ("contentMediaType", Kind::Text),
    ("contentEncoding", Kind::Text),
    ("contentSchema", Kind::Text),
];

/// What a reference within the document leads to: at most so many of them one after another.
pub(super) fn resolve<'a>(document: &'a Value, mut node: &'a Value, fuel: &mut Fuel) -> Option<&'a Value> {
    for _ in 0..DEPTH {
        let Some(reference) = node.get("$ref") else { return Some(node) };
        node = pointed(document, reference, fuel)?;
    }
    None
}

fn pointed<'a>(document: &'a Value, reference: &'a Value, fuel: &mut Fuel) -> Option<&'a Value> {
    let pointer = reference.as_str()?.strip_prefix('#')?;
    fuel.burn(1 + pointer.len() / 16).then(|| document.pointer(pointer))?
}

impl<'a> Shapes<'a> {
    /// Reads a schema of `document`.
    pub(super) fn of(document: &'a Value, schema: &[&'a Value], fuel: &mut Fuel) -> Self {
        let mut all = vec![Shape::default()];
        for part in schema {
            let Some(shapes) = alternatives(document, part, fuel, 0) else { return Self::Opaque };
            let Some(both) = and(&all, &shapes, fuel) else { return Self::Opaque };
            all = both;
        }
        Self::OneOf(all)
    }
}

/// The alternatives of one part; `None` where it cannot be told.
fn alternatives<'a>(document: &'a Value, node: &'a Value, fuel: &mut Fuel, depth: usize) -> Option<Vec<Shape<'a>>> {
    if depth > DEPTH || !fuel.burn(1) {
        return None;
    }
    let Value::Object(fields) = node else {
        // `true` is anything, `false` nothing (JSON Schema 2020-12, section 4.3.2).
        return Some(if node == &Value::Bool(false) { Vec::new() } else { vec![Shape::default()] });
    };
    let mut all = own(fields, fuel)?;
    if !fuel.burn(all.iter().map(Shape::weight).sum()) {
        return None;
    }
    if let Some(reference) = fields.get("$ref") {
        let target = pointed(document, reference, fuel)?;
        all = and(&all, &alternatives(document, target, fuel, depth + 1)?, fuel)?;
    }
    for part in fields.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        all = and(&all, &alternatives(document, part, fuel, depth + 1)?, fuel)?;
    }
    for key in ["anyOf", "oneOf"] {
        let Some(choices) = fields.get(key).and_then(Value::as_array) else { continue };
        let mut any = Vec::new();
        for choice in choices {
            any.extend(alternatives(document, choice, fuel, depth + 1)?);
            if any.len() > ALTERNATIVES {
                fuel.give_up();
                return None;
            }
        }
        if let Some(tag) = fields.get("discriminator").and_then(|it| it.get("propertyName")?.as_str()) {
            for shape in any.iter_mut().filter(|shape| shape.kind == Kind::Object) {
                (shape.tag, shape.place) = (Some(tag), None);
            }
        }
        all = and(&all, &any, fuel)?;
    }
    // OpenAPI 3.0's way to say it.
    if fields.get("nullable") == Some(&Value::Bool(true)) {
        all.push(Shape { kind: Kind::Null, ..Shape::default() });
    }
    Some(all)
}

/// What a part itself says, its references and combinations aside.
fn own<'a>(fields: &'a serde_json::Map<String, Value>, fuel: &mut Fuel) -> Option<Vec<Shape<'a>>> {
    let kinds: Vec<Kind> = match fields.get("type") {
        Some(Value::String(name)) => vec![Kind::named(name)?],
        Some(Value::Array(names)) => {
            // Each once: what is repeated would have all its properties as often.
            let kinds = names.iter().map(|name| Kind::named(name.as_str()?)).collect::<Option<BTreeSet<_>>>()?;
            kinds.into_iter().collect()
        }
        _ if ["properties", "required", "additionalProperties"].iter().any(|key| fields.contains_key(*key)) => {
            vec![Kind::Object]
        }
        _ if ["items", "prefixItems"].iter().any(|key| fields.contains_key(*key)) => vec![Kind::List],
        _ => vec![Kind::Any],
    };
    let values: Option<Vec<&Value>> = match (fields.get("const"), fields.get("enum").and_then(Value::as_array)) {
        (Some(only), _) => Some(vec![only]),
        (None, Some(values)) => Some(values.iter().collect()),
        (None, None) => None,
    };
    for value in values.iter().flatten() {
        let weight = weight_of(value)?;
        if !fuel.burn(weight) {
            return None;
        }
    }
    // Values without a type have one all the same.
    let kinds = match (&values, kinds.as_slice()) {
        (Some(values), [Kind::Any]) => {
            values.iter().map(|value| Kind::of(value)).collect::<BTreeSet<_>>().into_iter().collect()
        }
        _ => kinds,
    };
    let shape = |kind: Kind| {
        let place = (kind == Kind::Object).then(|| std::ptr::from_ref(fields).addr());
        let mut shape = Shape { kind, place, ..Shape::default() };
        let fits = |value: &&&Value| Kind::of(value).and(kind).is_some();
        // Of null there is only one.
        let told = values.as_ref().filter(|_| kind != Kind::Null);
        shape.values = told.map(|values| values.iter().filter(fits).copied().collect());
        shape.format = fields.get("format").and_then(Value::as_str).filter(|_| kind == Kind::Text);
        let is_file = kind == Kind::Text && is_file(fields);
        if is_file {
            shape.format = shape.format.or(Some(FILE));
        }
        let bound = |name: &'static str| Some((name, fields.get(name)?));
        let is_plain = |(_, value): &(&str, &Value)| !value.is_array() && !value.is_object() && !value.is_null();
        shape.bounds = bound::keys(kind).filter_map(bound).filter(is_plain).collect();
        if kind == Kind::Object {
            let properties = fields.get("properties").and_then(Value::as_object).into_iter().flatten();
            shape.properties = properties.map(|(name, schema)| (name.as_str(), vec![schema])).collect();
            let required = fields.get("required").and_then(Value::as_array).into_iter().flatten();
            shape.required = required.filter_map(Value::as_str).collect();
            match fields.get("additionalProperties") {
                Some(Value::Bool(false)) => shape.is_closed = true,
                Some(others @ (Value::Object(_) | Value::Bool(true))) => shape.others = vec![others],
                _ => {}
            }
        }
        if kind == Kind::List {
            // JSON Schema has called it so since 2020-12; before, it was a list under `items`.
            let (first, rest) = match (fields.get("prefixItems"), fields.get("items")) {
                (None, Some(first @ Value::Array(_))) => (Some(first), fields.get("additionalItems")),
                (first, rest) => (first, rest),
            };
            shape.first = first.and_then(Value::as_array).into_iter().flatten().map(|item| vec![item]).collect();
            shape.items = rest.into_iter().collect();
        }
        let is_about = |about: Kind| about == Kind::Any || kind == Kind::Any || kind == about;
        // Of a file whose kind is not told, it says no more than `format: binary` did.
        let is_bare = |name: &str| is_file && fields.get(name).is_some_and(|media| media == "application/octet-stream");
        let aside = ASIDE.iter().filter(|(name, about)| is_about(*about) && !is_bare(name));
        shape.aside = aside.filter_map(|(name, _)| Some((*name, fields.get(*name)?))).collect();
        shape
    };
    Some(kinds.into_iter().map(shape).collect())
}

/// Whether a text holds the bytes of a file: pydantic says `contentMediaType` of it where it has said `format: binary`.
fn is_file(fields: &serde_json::Map<String, Value>) -> bool {
    let encoding = fields.get("contentEncoding").and_then(Value::as_str);
    let media = fields.get("contentMediaType").and_then(Value::as_str).unwrap_or_default();
    let is_text = media.is_empty() || media.starts_with("text/") || media.ends_with("json") || media.ends_with("xml");
    !is_text && encoding.is_none_or(|encoding| encoding == FILE)
}

/// What fits both; `None` where that is too much to tell.
fn and<'a>(one: &[Shape<'a>], other: &[Shape<'a>], fuel: &mut Fuel) -> Option<Vec<Shape<'a>>> {
    let mut both = Vec::new();
    for (one, other) in one.iter().flat_map(|one| other.iter().map(move |other| (one, other))) {
        if !fuel.burn(one.weight() + other.weight() + one.pairs(other)) {
            return None;
        }
        both.extend(one.and(other));
        if both.len() > ALTERNATIVES {
            fuel.give_up();
            return None;
        }
    }
    Some(both)
}

impl<'a> Shape<'a> {
    /// What the item of a list is at that place, from nought.
    pub(super) fn at(&self, place: usize) -> &Schema<'a> {
        self.first.get(place).unwrap_or(&self.items)
    }

    /// About how many steps it takes to make another one of it.
    pub(super) fn weight(&self) -> usize {
        let long = |text: &str| text.len() / 64;
        let parts = self.properties.iter().map(|(name, schema)| 1 + long(name) + schema.len()).sum::<usize>();
        let required = self.required.iter().map(|name| 1 + long(name)).sum::<usize>();
        let words = self.bounds.values().filter_map(|bound| bound.as_str()).chain(self.format).map(long).sum::<usize>();
        let values = self.values.as_ref().map_or(0, Vec::len);
        let first = self.first.iter().map(|item| 1 + item.len()).sum::<usize>();
        1 + parts + values + required + words + self.others.len() + first + self.items.len() + self.aside.len()
    }

    /// About how many steps it takes to look for each of its values among those of another.
    pub(super) fn pairs(&self, other: &Self) -> usize {
        let all = |shape: &Self| shape.values.iter().flatten().filter_map(|value| weight_of(value)).sum::<usize>();
        let count = |shape: &Self| shape.values.as_ref().map_or(1, Vec::len);
        match (&self.values, &other.values) {
            (Some(_), Some(_)) => count(self).saturating_mul(all(other)).saturating_add(all(self)),
            _ => count(self).max(count(other)),
        }
    }

    fn says_nothing(&self) -> bool {
        let has_bounds = self.values.is_some() || self.format.is_some() || !self.bounds.is_empty();
        self.kind == Kind::Any && !has_bounds && self.tag.is_none() && self.aside.is_empty()
    }

    fn and(&self, other: &Self) -> Option<Self> {
        // With what says nothing, each is as it was.
        if other.says_nothing() {
            return Some(self.clone());
        }
        if self.says_nothing() {
            return Some(other.clone());
        }
        let mut both = Self { kind: self.kind.and(other.kind)?, place: None, ..self.clone() };
        both.values = match (&self.values, &other.values) {
            (Some(one), Some(other)) => Some(one.iter().filter(|value| other.contains(value)).copied().collect()),
            (one, other) => one.clone().or(other.clone()),
        };
        both.format = self.format.or(other.format);
        let aside = bound::join(&mut both, other);
        both.aside.extend(aside);
        both.aside.extend(&other.aside);
        for (name, schema) in &other.properties {
            both.properties.entry(name).or_default().extend(schema);
        }
        both.required.extend(&other.required);
        both.tag = self.tag.or(other.tag);
        both.others.extend(&other.others);
        both.is_closed |= other.is_closed;
        let places = 0..self.first.len().max(other.first.len());
        both.first = places.map(|place| [self.at(place).as_slice(), other.at(place)].concat()).collect();
        both.items.extend(&other.items);
        Some(both)
    }
}

/// About how many steps it takes to compare a value with another; `None` where it is too large to be looked at.
fn weight_of(value: &Value) -> Option<usize> {
    let (mut nodes, mut bytes, mut rest) = (0, 0, vec![value]);
    while let Some(value) = rest.pop() {
        nodes += 1;
        match value {
            Value::String(text) => bytes += text.len(),
            Value::Array(items) if items.len() <= LARGEST.0 => rest.extend(items),
            Value::Object(fields) if fields.len() <= LARGEST.0 => {
                bytes += fields.keys().map(String::len).sum::<usize>();
                rest.extend(fields.values());
            }
            Value::Array(_) | Value::Object(_) => return None,
            _ => {}
        }
        if nodes > LARGEST.0 || bytes > LARGEST.1 {
            return None;
        }
    }
    Some(nodes + bytes / 64)
}

/// A value in words.
pub(super) fn text(value: &Value) -> String {
    short(&value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned))
}
