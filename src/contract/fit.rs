//! Fitting says of two schemas whether all that is possible by one is possible by the other, and if not, where and why.
//!
//! What callers send must fit from the old into the new, what they get from the new into the old. What does not fit the
//! other way round is a difference that breaks nobody.

mod alternatives;
mod fields;
mod list;
mod memory;
mod values;

use std::collections::HashSet;
use std::rc::Rc;

use serde_json::Value;

use super::bound::{Tighter, few, tighter};
use super::difference::{Effect, What, short};
use super::schema::{Kind, Schema, Shape, Shapes};
use super::{Fuel, Place};
pub(super) use memory::Memory;
use memory::{Key, Known};

/// How deep schemas lie in one another before what is deeper is compared by itself.
const DEPTH: usize = 32;

/// Formats that refuse no text (OpenAPI 3.1, section 4.7.19; pydantic's for paths).
const HINTS: [&str; 4] = ["password", "binary", "byte", "path"];

/// Who says what is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Side {
    /// The app: what it takes.
    Request,
    /// The app as well: what it answers.
    Response,
}

/// How something is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    field: Vec<Rc<str>>,
    why: Why,
    /// It may fit all the same.
    is_unsure: bool,
    /// The pair of schemas that it is of, and how many of the last fields are those of that pair.
    origin: Option<(Key, usize)>,
    /// It was found where it is told already, and met again within.
    is_echo: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Why {
    /// The one into which it must fit wants a field. Whether the other names it.
    Required { is_named: bool },
    /// The one into which it must fit has a field that need not be there, and the other has it not at all.
    Missing,
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
    (memory, fuel): (&mut Memory, &mut Fuel),
) -> Vec<(String, What, Effect)> {
    let is_request = way.side == Side::Request;
    let mut found: Vec<(String, What, Effect)> = Vec::new();
    for breaking in [true, false] {
        // Of what is sent, what breaks is what fits from old to new no more; of answers it is the other way round.
        let forwards = is_request == breaking;
        let ((from, to), (one, other)) =
            if forwards { ((old, new), (before, after)) } else { ((new, old), (after, before)) };
        let mut fit = Fit::new((from, to), (way, breaking), fuel, memory.of(way, breaking));
        for Misfit { field, why, is_unsure, .. } in fit.settle(one, other) {
            let effect = match (&why, breaking) {
                (_, false) => Effect::Nothing,
                // A field more may be sent, and need not be.
                (Why::Missing, true) if is_request => Effect::Nothing,
                _ if is_unsure => Effect::Perhaps,
                _ => Effect::Breaks,
            };
            // The other way round it is known to break nobody.
            if is_unsure && !breaking && why != Why::Missing {
                continue;
            }
            let (field, what) = (dotted(&field), why.what(forwards));
            let is_known = |(at, known, _): &(String, What, Effect)| *at == field && same_matter(known, &what);
            if breaking || !found.iter().any(is_known) {
                found.push((field, what, effect));
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

fn dotted(fields: &[Rc<str>]) -> String {
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
    /// It is looked for what breaks callers.
    breaking: bool,
    fuel: &'f mut Fuel,
    /// What is known of pairs from before, for certain.
    settled: &'f mut Known,
    /// Pairs that are being compared: met again, they are taken for what they were in the last round.
    going: HashSet<Key>,
    /// What is known of pairs by this round, and by the last.
    now: Known,
    last: Known,
    /// Pairs that were taken for what they were in the last round.
    assumed: HashSet<Key>,
    /// Those of them that lay too deep, and are compared by themselves.
    deep: Vec<(Schema<'a>, Schema<'a>)>,
}

impl<'a> Fit<'a, '_> {
    /// What does not fit, of shapes that are read out of the documents.
    fn read(&mut self, one: &Schema<'a>, other: &Schema<'a>, depth: usize) -> Vec<Misfit> {
        let mut shapes = (Shapes::of(self.from, one, self.fuel), Shapes::of(self.to, other, self.fuel));
        if self.way.is_text {
            shapes.0.drop_null();
            shapes.1.drop_null();
        }
        match &shapes {
            (Shapes::OneOf(one), Shapes::OneOf(other)) => self.alternatives(one, other, depth),
            _ => Vec::new(),
        }
    }

    fn shape(&mut self, one: &Shape<'a>, other: &Shape<'a>, depth: usize) -> Vec<Misfit> {
        if !self.fuel.burn(one.weight() + other.weight() + one.pairs(other)) {
            return Vec::new();
        }
        let mut misfits = Vec::new();
        match (&one.values, &other.values) {
            (Some(ours), _) => misfits.extend(self.values(ours, one, other)),
            (None, Some(values)) => {
                let is_all = one.kind == Kind::Boolean && values.len() == 2
                    || one.kind == Kind::Integer && few(one).is_some_and(|few| few.iter().all(|n| holds(values, *n)));
                if !is_all {
                    misfits.push(Misfit::sure(Why::Kind { from: one.word(), to: other.word() }));
                }
            }
            (None, None) => {
                let is_wanted = self.way.side == Side::Response || refuses(other.format);
                if other.format.is_some() && one.format != other.format && is_wanted {
                    misfits.push(Misfit::sure(Why::Kind { from: one.word(), to: other.word() }));
                }
                // An app may be as generous in its answers as it likes.
                if self.way.side == Side::Request {
                    misfits.extend(tightly(one, other));
                }
            }
        }
        misfits.extend(self.aside(one, other));
        let is_told = one.values.is_some() && other.values.is_none();
        if one.kind == Kind::List && other.kind == Kind::List && !is_told {
            self.list(one, other, depth, &mut misfits);
        }
        if one.kind == Kind::Object && other.kind == Kind::Object && !is_told {
            misfits.extend(self.object(one, other, depth));
        }
        misfits
    }
}

/// Whether a whole number is among some values.
fn holds(values: &[&Value], number: i64) -> bool {
    values.iter().any(|value| value.as_i64() == Some(number))
}

impl Shapes<'_> {
    /// There is none in texts.
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
    fn sure(why: Why) -> Self {
        Self { field: Vec::new(), why, is_unsure: false, origin: None, is_echo: false }
    }

    fn unsure(why: Why) -> Self {
        Self { is_unsure: true, ..Self::sure(why) }
    }

    fn at(mut self, field: &str) -> Self {
        self.field.insert(0, short(field).into());
        self
    }
}

impl Why {
    /// The same as a change, where it was fitted from the document before into the new one, or the other way round.
    fn what(self, forwards: bool) -> What {
        match (self, forwards) {
            (Self::Required { is_named: true }, true) => What::Required,
            (Self::Required { is_named: true }, false) => What::Optional,
            (Self::Required { is_named: false }, true) => What::Added { required: true },
            (Self::Required { is_named: false } | Self::Missing, false) => What::Removed,
            (Self::Missing, true) => What::Added { required: false },
            (Self::Kind { from, to }, true) => What::Type { old: from, new: to },
            (Self::Kind { from, to }, false) => What::Type { old: to, new: from },
            (Self::Null, true) => What::NotNullable,
            (Self::Null, false) => What::Nullable,
            (Self::Values(values), true) => What::ValuesRemoved { values },
            (Self::Values(values), false) => What::ValuesAdded { values },
            (Self::Bound(Tighter { name, from, to, .. }), forwards) => {
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

/// Whether a format is more than a hint.
fn refuses(format: Option<&str>) -> bool {
    format.is_some_and(|format| !HINTS.contains(&format))
}

fn tightly(one: &Shape<'_>, other: &Shape<'_>) -> Vec<Misfit> {
    let misfit = |bound: Tighter| {
        if bound.is_unsure { Misfit::unsure(Why::Bound(bound)) } else { Misfit::sure(Why::Bound(bound)) }
    };
    tighter(one, other).into_iter().map(misfit).collect()
}

fn within(field: &str, misfits: Vec<Misfit>) -> impl Iterator<Item = Misfit> {
    let field: Rc<str> = short(field).into();
    misfits.into_iter().map(move |mut misfit| {
        misfit.field.insert(0, field.clone());
        misfit
    })
}
