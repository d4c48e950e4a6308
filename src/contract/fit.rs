//! Fitting says of two schemas whether all that is possible by one is possible by the other, and if not, where and why.
//!
//! What callers send must fit from the old into the new, what they get from the new into the old. What does not fit the
//! other way round is a difference that breaks nobody.

mod list;

use std::collections::HashSet;

use serde_json::Value;

use super::bound::{Tighter, tighter};
use super::difference::{What, short};
use super::schema::{Kind, Schema, Shape, Shapes, resolve, text};
use super::{Fuel, Place, TOLD};

/// How deep schemas lie in one another before the rest counts as fitting.
const DEPTH: usize = 32;

/// Formats that refuse no text (OpenAPI 3.1, section 4.7.19; pydantic's for paths).
const HINTS: [&str; 4] = ["password", "binary", "byte", "path"];

/// Who says what is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The app: what it takes.
    Request,
    /// The app as well: what it answers.
    Response,
}

/// How something is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) side: Side,
    /// It is sent as text, as parameters and forms are: there is no null in it, each scalar is a text, and one is as good as a
    /// list of one.
    pub(super) is_text: bool,
    /// It has files among its fields, which are parts of another kind than texts.
    pub(super) has_files: bool,
}

/// One thing that does not fit, and where: fields from the outermost to the innermost.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Misfit {
    field: Vec<String>,
    why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    /// The one into which it must fit wants a field. Whether the other names it.
    Required { is_named: bool },
    /// Kinds of value: of the one, of the other.
    Kind { from: String, to: String },
    /// The one may be null.
    Null,
    /// Values that the one has and the other has not.
    Values(Vec<String>),
    /// A bound of the other is tighter.
    Bound(Tighter),
    /// The other takes no fields that it does not name.
    Closed,
    /// The other says something under this key that the one does not, and that is not compared.
    Aside(&'static str),
}

/// Compares a schema of the document before with one of the new document.
pub(super) fn differences(
    (old, new): (&Value, &Value),
    (before, after): (&Schema<'_>, &Schema<'_>),
    way: Way,
    fuel: &mut Fuel,
) -> Vec<(String, What, bool)> {
    let is_request = way.side == Side::Request;
    let mut found: Vec<(String, What, bool)> = Vec::new();
    for breaking in [true, false] {
        // Of what is sent, what breaks is what fits from old to new no more; of answers it is the other way round.
        let forwards = is_request == breaking;
        let ((from, to), (one, other)) =
            if forwards { ((old, new), (before, after)) } else { ((new, old), (after, before)) };
        let mut fit = Fit { from, to, way, fuel: &mut *fuel, path: HashSet::new() };
        for Misfit { field, why } in fit.all(one, other, 0) {
            let is_unsure = matches!(why, Why::Aside(_));
            // The other way round it is known to break nobody.
            if is_unsure && !breaking {
                continue;
            }
            let (field, what) = (dotted(&field), why.what(forwards));
            let is_known = |(at, known, _): &(String, What, bool)| *at == field && same_matter(known, &what);
            if breaking || !found.iter().any(is_known) {
                found.push((field, what, breaking && !is_unsure));
            }
        }
    }
    found
}

/// Whether both speak of the same change, seen from both ends.
fn same_matter(one: &What, other: &What) -> bool {
    let of_type = |what: &What| matches!(what, What::Type { .. });
    let of_bound = |what: &What| if let What::Bound { name, .. } = what { Some(name.clone()) } else { None };
    of_type(one) && of_type(other) || of_bound(one).is_some() && of_bound(one) == of_bound(other)
}

fn dotted(fields: &[String]) -> String {
    let mut text = String::new();
    for field in fields {
        let is_place = field.starts_with('[') && field.ends_with(']');
        if !text.is_empty() && !is_place {
            text.push('.');
        }
        text.push_str(field);
    }
    text
}

/// Two documents, and what of them is being fitted.
struct Fit<'a, 'f> {
    from: &'a Value,
    to: &'a Value,
    way: Way,
    fuel: &'f mut Fuel,
    /// Pairs that are being compared: met again, they fit if all else does.
    path: HashSet<(Vec<usize>, Vec<usize>)>,
}

impl<'a> Fit<'a, '_> {
    fn all(&mut self, one: &Schema<'a>, other: &Schema<'a>, depth: usize) -> Vec<Misfit> {
        if depth > DEPTH || !self.fuel.burn(1 + one.len() + other.len()) {
            return Vec::new();
        }
        let pair = (places(self.from, one, self.fuel), places(self.to, other, self.fuel));
        if !self.path.insert(pair.clone()) {
            return Vec::new();
        }
        let mut shapes = (Shapes::of(self.from, one, self.fuel), Shapes::of(self.to, other, self.fuel));
        if self.way.is_text {
            shapes.0.drop_null();
            shapes.1.drop_null();
        }
        let mut misfits = match &shapes {
            (Shapes::OneOf(one), Shapes::OneOf(other)) => self.alternatives(one, other, depth),
            _ => Vec::new(),
        };
        misfits.truncate(TOLD + 1); // One more than is told, so that it shows.
        self.path.remove(&pair);
        misfits
    }

    /// Each of the one has to fit into some of the other.
    fn alternatives(&mut self, one: &[Shape<'a>], other: &[Shape<'a>], depth: usize) -> Vec<Misfit> {
        let mut misfits = Vec::new();
        for shape in one {
            let mut best: Option<Vec<Misfit>> = None;
            for candidate in other {
                let tried = match self.meet(shape, candidate) {
                    Meeting::Same => self.shape(shape, candidate, depth),
                    Meeting::Text => tightly(shape, candidate),
                    Meeting::Item => self.item(shape, candidate, depth),
                    Meeting::None => continue,
                };
                let rank = |misfits: &[Misfit]| (misfits.iter().filter(|it| !it.is_unsure()).count(), misfits.len());
                if best.as_ref().is_none_or(|best| rank(&tried) < rank(best)) {
                    best = Some(tried);
                }
                if best.as_ref().is_some_and(Vec::is_empty) {
                    break;
                }
            }
            let none = || {
                let why = match shape.kind {
                    Kind::Null => Why::Null,
                    _ => Why::Kind { from: words(one), to: words(other) },
                };
                vec![Misfit { field: Vec::new(), why }]
            };
            for misfit in best.unwrap_or_else(none) {
                if !misfits.contains(&misfit) {
                    misfits.push(misfit);
                }
            }
            if misfits.len() > TOLD {
                break;
            }
        }
        misfits
    }

    /// How a shape may fit into another one.
    fn meet(&self, one: &Shape<'a>, other: &Shape<'a>) -> Meeting {
        let is_scalar = matches!(one.kind, Kind::Boolean | Kind::Integer | Kind::Number | Kind::Text);
        let is_any_text = other.kind == Kind::Text && other.values.is_none() && !refuses(other.format);
        let is_file = |shape: &Shape<'_>| shape.kind == Kind::Text && shape.format == Some("binary");
        let is_part = |shape: &Shape<'_>| !matches!(shape.kind, Kind::Any | Kind::List | Kind::Object);
        if self.way.has_files && is_part(one) && is_part(other) && is_file(one) != is_file(other) {
            Meeting::None
        } else if one.kind == other.kind
            || other.kind == Kind::Any
            || (one.kind, other.kind) == (Kind::Integer, Kind::Number)
        {
            Meeting::Same
        } else if self.way.is_text && is_any_text && (is_scalar || one.kind == Kind::Any) {
            Meeting::Text
        } else if self.way.is_text && is_scalar && other.kind == Kind::List {
            Meeting::Item
        } else {
            Meeting::None
        }
    }

    fn shape(&mut self, one: &Shape<'a>, other: &Shape<'a>, depth: usize) -> Vec<Misfit> {
        if !self.fuel.burn(one.weight() + other.weight() + one.pairs(other)) {
            return Vec::new();
        }
        let mut misfits = Vec::new();
        let mut say = |why| misfits.push(Misfit { field: Vec::new(), why });
        if let Some(values) = &other.values {
            match &one.values {
                Some(ours) => {
                    let lacking: Vec<String> =
                        ours.iter().filter(|value| !values.contains(value)).map(|value| text(value)).collect();
                    if !lacking.is_empty() {
                        say(Why::Values(lacking));
                    }
                }
                None if one.kind == Kind::Boolean && values.len() == 2 => {}
                None => say(Why::Kind { from: one.word(), to: other.word() }),
            }
        } else if other.format.is_some()
            && one.format != other.format
            && one.values.is_none()
            && (self.way.side == Side::Response || refuses(other.format))
        {
            say(Why::Kind { from: one.word(), to: other.word() });
        }
        // An app may be as generous in its answers as it likes.
        if self.way.side == Side::Request && one.values.is_none() {
            misfits.extend(tightly(one, other));
        }
        if one.kind == Kind::List && other.kind == Kind::List {
            self.list(one, other, depth, &mut misfits);
        }
        misfits.extend(self.aside(one, other));
        if one.kind == Kind::Object && other.kind == Kind::Object {
            self.fields(one, other, depth, &mut misfits);
        }
        misfits
    }

    fn fields(&mut self, one: &Shape<'a>, other: &Shape<'a>, depth: usize, misfits: &mut Vec<Misfit>) {
        for field in other.required.difference(&one.required).take(TOLD + 1) {
            let why = Why::Required { is_named: one.properties.contains_key(field) };
            misfits.push(Misfit { field: vec![short(field)], why });
        }
        for (name, schema) in &one.properties {
            if misfits.len() > TOLD {
                return;
            }
            if let Some(same) = other.properties.get(name) {
                misfits.extend(within(name, self.all(schema, same, depth + 1)));
            } else if other.is_closed && self.way.side == Side::Request {
                misfits.push(Misfit { field: vec![short(name)], why: Why::Closed });
            } else if !other.others.is_empty() {
                misfits.extend(within(name, self.all(schema, &other.others, depth + 1)));
            }
        }
        // What may come under any name may come under one that the other names. Where it has to come, that is told already.
        let is_new = |name: &&&str| !one.properties.contains_key(**name) && !other.required.contains(**name);
        for name in other.properties.keys().filter(is_new).filter(|_| !one.is_closed && !one.others.is_empty()) {
            if misfits.len() > TOLD {
                return;
            }
            misfits.extend(within(name, self.all(&one.others, &other.properties[name], depth + 1)));
        }
        if other.is_closed && !one.is_closed && self.way.side == Side::Request {
            misfits.push(Misfit { field: Vec::new(), why: Why::Closed });
        }
        // An app answers no fields but those that it names, whether it says so or not; one that names none answers any.
        let may_be_any = self.way.side == Side::Request || !one.others.is_empty() || one.properties.is_empty();
        if !one.is_closed && may_be_any && !other.others.is_empty() {
            misfits.extend(within("*", self.all(&one.others, &other.others, depth + 1)));
        }
    }
}

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

impl Shapes<'_> {
    fn drop_null(&mut self) {
        if let Self::OneOf(all) = self {
            all.retain(|shape| shape.kind != Kind::Null);
        }
    }
}

impl Shape<'_> {
    /// What it is, in the document's words.
    fn word(&self) -> String {
        match (&self.values, self.format) {
            (Some(_), _) => format!("{} of a few values", self.kind.word()),
            (None, Some(format)) => format!("{} ({})", self.kind.word(), short(format)),
            (None, None) => self.kind.word().to_owned(),
        }
    }
}

impl Misfit {
    /// Whether it may fit all the same.
    fn is_unsure(&self) -> bool {
        matches!(self.why, Why::Aside(_))
    }
}

impl Why {
    /// The same as a change, where it was fitted from the document before into the new one, or the other way round.
    fn what(self, forwards: bool) -> What {
        match (self, forwards) {
            (Self::Required { is_named: true }, true) => What::Required,
            (Self::Required { is_named: true }, false) => What::Optional,
            (Self::Required { is_named: false }, true) => What::Added { required: true },
            (Self::Required { is_named: false }, false) => What::Removed,
            (Self::Kind { from, to }, true) => What::Type { old: from, new: to },
            (Self::Kind { from, to }, false) => What::Type { old: to, new: from },
            (Self::Null, true) => What::NotNullable,
            (Self::Null, false) => What::Nullable,
            (Self::Values(values), true) => What::ValuesRemoved { values },
            (Self::Values(values), false) => What::ValuesAdded { values },
            (Self::Bound(Tighter { name, from, to }), forwards) => {
                let (old, new) = if forwards { (from, to) } else { (to, from) };
                What::Bound { name: name.to_owned(), old, new }
            }
            (Self::Aside(name), _) => What::NotCompared { name: name.to_owned() },
            (Self::Closed, true) => What::Closed,
            (Self::Closed, false) => What::Opened,
        }
    }
}

impl Place {
    /// The same place, at a field of it.
    pub(super) fn at(mut self, inner: String) -> Self {
        match &mut self {
            Self::Operation => {}
            Self::Parameter { field, .. } | Self::Request { field } | Self::Response { field, .. } => *field = inner,
        }
        self
    }
}

/// Where the parts of a schema stand in memory, those that are plain references at what they lead to.
fn places(document: &Value, schema: &Schema<'_>, fuel: &mut Fuel) -> Vec<usize> {
    let mut place = |part: &&Value| {
        let is_plain = part.as_object().is_some_and(|fields| fields.len() == 1);
        let target = if is_plain { resolve(document, part, fuel) } else { None };
        std::ptr::from_ref(target.unwrap_or(part)).addr()
    };
    schema.iter().map(&mut place).collect()
}

/// Whether a format is more than a hint.
fn refuses(format: Option<&str>) -> bool {
    format.is_some_and(|format| !HINTS.contains(&format))
}

fn tightly(one: &Shape<'_>, other: &Shape<'_>) -> Vec<Misfit> {
    tighter(one, other).into_iter().map(|bound| Misfit { field: Vec::new(), why: Why::Bound(bound) }).collect()
}

fn within(field: &str, misfits: Vec<Misfit>) -> impl Iterator<Item = Misfit> {
    let field = short(field);
    misfits.into_iter().map(move |mut misfit| {
        misfit.field.insert(0, field.clone());
        misfit
    })
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
