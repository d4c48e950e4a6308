//! Fields of an object: those that are named, those that may be there besides, and those that only come back or are only
//! sent.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Fit, Misfit, Side, Why, within};
use crate::contract::TOLD;
use crate::contract::schema::{Kind, Schema, Shape, Shapes, resolve};

impl<'a> Fit<'a, '_> {
    pub(super) fn fields(&mut self, one: &Shape<'a>, other: &Shape<'a>, depth: usize, misfits: &mut Vec<Misfit>) {
        let is_request = self.way.side == Side::Request;
        // What is not sent there, whatever else is said of it.
        let (never, unwanted) = (self.hidden(self.from, one), self.hidden(self.to, other));
        let named = |shape: &Shape<'a>, name: &str| is_request && shape.tag == Some(name);
        let is_given = |name: &str| one.required.contains(name) && !never.contains(name) || named(one, name);
        let is_sent = |name: &str| one.properties.contains_key(name) && !never.contains(name);
        let wanted = other.required.iter().copied().chain(other.tag.filter(|_| is_request));
        let wanted: BTreeSet<&str> = wanted.filter(|name| !unwanted.contains(name)).collect();
        for field in wanted.iter().filter(|field| !is_given(field)).take(TOLD + 1) {
            misfits.push(Misfit::sure(Why::Required { is_named: is_sent(field) }).at(field));
        }
        for (name, schema) in one.properties.iter().filter(|(name, _)| !never.contains(*name)) {
            if self.is_full(misfits) {
                return;
            }
            if unwanted.contains(name) {
                // What becomes of it is not known where it is sent all the same.
                if is_request {
                    misfits.push(Misfit::unsure(Why::Aside("readOnly")).at(name));
                }
            } else if let Some(same) = other.properties.get(name) {
                misfits.extend(within(name, self.field(one, name, (schema, same), depth)));
            } else if other.is_closed && is_request {
                misfits.push(Misfit::sure(Why::Closed).at(name));
            } else if !other.others.is_empty() {
                misfits.extend(within(name, self.field(one, name, (schema, &other.others), depth)));
            }
        }
        self.unnamed(one, other, depth, misfits, &|name| {
            !is_sent(name) && !wanted.contains(name) && !unwanted.contains(name)
        });
        if other.is_closed && !one.is_closed && is_request {
            misfits.push(Misfit::sure(Why::Closed));
        }
        // An app answers no fields but those that it names, whether it says so or not; one that names none answers any.
        let may_be_any = is_request || !one.others.is_empty() || one.properties.is_empty();
        if !one.is_closed && may_be_any && !other.others.is_empty() {
            misfits.extend(within("*", self.all(&one.others, &other.others, depth + 1)));
        }
    }

    /// What may come under any name may come under one that only the other names. Where it has to come, that is told
    /// already.
    fn unnamed(
        &mut self,
        one: &Shape<'a>,
        other: &Shape<'a>,
        depth: usize,
        misfits: &mut Vec<Misfit>,
        is_new: &dyn Fn(&str) -> bool,
    ) {
        // Of a model that takes fields besides its own, nobody knows which of them anybody uses.
        let is_anything = one.others.iter().all(|others| **others == true || **others == serde_json::json!({}));
        let is_loose = is_anything && !one.properties.is_empty();
        for (name, theirs) in other.properties.iter().filter(|(name, _)| is_new(name)) {
            if self.is_full(misfits) {
                return;
            }
            let is_map = !one.is_closed && !one.others.is_empty();
            if is_map {
                let found = self.all(&one.others, theirs, depth + 1).into_iter();
                misfits.extend(within(
                    name,
                    found.map(|it| Misfit { is_unsure: it.is_unsure || is_loose, ..it }).collect(),
                ));
            }
            if !is_map || is_loose {
                misfits.push(Misfit::unsure(Why::Missing).at(name));
            }
        }
    }

    /// One field, of which one value only may be looked at.
    fn field(
        &mut self,
        one: &Shape<'a>,
        name: &str,
        (schema, other): (&Schema<'a>, &Schema<'a>),
        depth: usize,
    ) -> Vec<Misfit> {
        let Some(value) = one.only.get(name) else { return self.all(schema, other, depth + 1) };
        let single = Shape { kind: Kind::of(value), values: Some(vec![*value]), ..Shape::default() };
        match Shapes::of(self.to, other, self.fuel) {
            Shapes::OneOf(all) => self.alternatives(&[single], &all, depth + 1),
            Shapes::Opaque => Vec::new(),
        }
    }

    /// The fields that are not sent there: `readOnly` in requests, `writeOnly` in answers.
    fn hidden(&mut self, document: &'a Value, shape: &Shape<'a>) -> BTreeSet<&'a str> {
        let key = if self.way.side == Side::Request { "readOnly" } else { "writeOnly" };
        let mut hidden = BTreeSet::new();
        for (name, schema) in &shape.properties {
            let says = |node: &Value| node.get(key) == Some(&Value::Bool(true));
            if !self.fuel.burn(schema.len()) {
                break;
            }
            if schema.iter().any(|part| says(part) || resolve(document, part, self.fuel).is_some_and(says)) {
                hidden.insert(*name);
            }
        }
        hidden
    }
}
