//! Lists, whose first items may each be of another kind; and what a schema says that is only told apart.

use serde_json::Value;

use super::{DEPTH, Fit, Misfit, Why, tightly, within};
use crate::contract::schema::{Kind, Shape, Shapes, resolve};

/// The most nodes of what is only told apart; what has more counts as different.
const LARGEST: usize = 1000;

/// The most places of a list that are compared one by one.
const PLACES: usize = 64;

impl<'a> Fit<'a, '_> {
    /// One value where a list of such is taken.
    pub(super) fn item(&mut self, one: &Shape<'a>, list: &Shape<'a>, depth: usize) -> Vec<Misfit> {
        if depth > DEPTH || !self.fuel.burn(1 + list.at(0).len()) {
            return Vec::new();
        }
        let single = Shape { kind: Kind::List, ..Shape::default() };
        let wants_more = list.bounds.get("minItems").and_then(|least| least.as_u64()).is_some_and(|least| least > 1);
        let mut misfits = if wants_more { tightly(&single, list) } else { Vec::new() };
        if let Shapes::OneOf(items) = Shapes::of(self.to, list.at(0), self.fuel) {
            misfits.extend(self.alternatives(std::slice::from_ref(one), &items, depth + 1));
        }
        misfits
    }

    /// Each place that the one may have, and whatever comes behind those that are told one by one.
    pub(super) fn list(&mut self, one: &Shape<'a>, other: &Shape<'a>, depth: usize, misfits: &mut Vec<Misfit>) {
        let told = one.first.len().max(other.first.len());
        if told > PLACES {
            self.fuel.give_up();
        }
        let most = one.most();
        for place in 0..told.min(PLACES).min(most) {
            let found = self.all(one.at(place), other.at(place), depth + 1);
            misfits.extend(within(&format!("[{place}]"), found));
        }
        if told == 0 || most > told {
            misfits.extend(within("[]", self.all(&one.items, &other.items, depth + 1)));
        }
    }

    /// What the other says that nobody here understands, unless the one says just that, too. What the one says besides only
    /// makes it narrower.
    pub(super) fn aside(&mut self, one: &Shape<'a>, other: &Shape<'a>) -> Vec<Misfit> {
        let mut misfits: Vec<Misfit> = Vec::new();
        for (name, theirs) in &other.aside {
            let misfit = Misfit::unsure(Why::Aside(name));
            if misfits.contains(&misfit) || !self.fuel.burn(1 + one.aside.len()) {
                continue;
            }
            let mut left = LARGEST;
            let ours = one.aside.iter().filter(|(key, _)| key == name);
            if !ours.into_iter().any(|(_, ours)| self.is_same(ours, theirs, 0, &mut left)) {
                misfits.push(misfit);
            }
        }
        misfits
    }

    /// Whether both say the same in the same words, by whatever references.
    fn is_same(&mut self, one: &'a Value, other: &'a Value, depth: usize, left: &mut usize) -> bool {
        if depth > DEPTH {
            // One that contains itself is the same if all else is.
            return true;
        }
        let Some(rest) = left.checked_sub(1).filter(|_| self.fuel.burn(1)) else { return false };
        *left = rest;
        let (one, other) = (resolve(self.from, one, self.fuel), resolve(self.to, other, self.fuel));
        match (one, other) {
            (Some(Value::Object(one)), Some(Value::Object(other))) => {
                one.len() == other.len()
                    && one.iter().all(|(key, value)| {
                        other.get(key).is_some_and(|other| self.is_same(value, other, depth + 1, left))
                    })
            }
            (Some(Value::Array(one)), Some(Value::Array(other))) => {
                one.len() == other.len()
                    && one.iter().zip(other).all(|(one, other)| self.is_same(one, other, depth + 1, left))
            }
            (one, other) => one == other,
        }
    }
}

impl Shape<'_> {
    /// How many items a list may have.
    fn most(&self) -> usize {
        let bound = self.bounds.get("maxItems").and_then(|most| most.as_u64());
        let bound = bound.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
        let is_closed = self.items.iter().any(|items| **items == Value::Bool(false));
        if is_closed { bound.min(self.first.len()) } else { bound }
    }
}
