//! Memory of pairs of schemas that were compared: schemas refer to one another, and each pair is compared once, however many
//! ways lead to it.
//!
//! A pair that is met within itself is taken to fit, and if that was wrong, all is compared again with what is known now,
//! until nothing is taken for what it is not. So what is known of a pair does not depend on from where it was reached.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use serde_json::Value;

use super::{DEPTH, Fit, Fuel, Misfit, Way, Why};
use crate::contract::TOLD;
use crate::contract::schema::{Schema, Shape, resolve};

/// How many rounds there are before it counts as too much.
const ROUNDS: usize = 12;

/// How many places are told at which one change of one schema shows.
const PLACES: usize = 4;

/// Where the parts of two schemas stand in memory.
pub(super) type Key = Rc<(Vec<usize>, Vec<usize>)>;

/// What does not fit, by the pair.
pub(super) type Known = HashMap<Key, Rc<[Misfit]>>;

/// What is known of pairs, by how they are compared and whether it is looked for what breaks callers.
#[derive(Default)]
pub(in crate::contract) struct Memory(HashMap<(Way, bool), Known>);

impl Memory {
    pub(super) fn of(&mut self, way: Way, breaking: bool) -> &mut Known {
        self.0.entry((way, breaking)).or_default()
    }
}

impl<'a, 'f> Fit<'a, 'f> {
    pub(super) fn new(
        (from, to): (&'a Value, &'a Value),
        (way, breaking): (Way, bool),
        fuel: &'f mut Fuel,
        settled: &'f mut Known,
    ) -> Self {
        Self {
            from,
            to,
            way,
            breaking,
            fuel,
            settled,
            going: HashSet::new(),
            now: Known::new(),
            last: Known::new(),
            assumed: HashSet::new(),
            deep: Vec::new(),
        }
    }

    /// All that does not fit, once nothing is taken for what it is not.
    pub(super) fn settle(&mut self, one: &Schema<'a>, other: &Schema<'a>) -> Vec<Misfit> {
        for _ in 0..ROUNDS {
            let found = self.all(one, other, 0);
            while let Some((one, other)) = self.deep.pop() {
                self.all(&one, &other, 0);
            }
            if self.fuel.is_out() {
                return found;
            }
            let assumed = std::mem::take(&mut self.assumed);
            let now = std::mem::take(&mut self.now);
            if assumed.iter().all(|key| Self::is_as_before(now.get(key), self.last.get(key))) {
                self.settled.extend(now);
                return found;
            }
            self.last = now;
        }
        self.fuel.give_up();
        Vec::new()
    }

    /// What of two schemas does not fit.
    pub(super) fn all(&mut self, one: &Schema<'a>, other: &Schema<'a>, depth: usize) -> Vec<Misfit> {
        if !self.fuel.burn(1 + one.len() + other.len()) {
            return Vec::new();
        }
        let (one, ours) = distinct(self.from, one, self.fuel);
        let (other, theirs) = distinct(self.to, other, self.fuel);
        let key = Rc::new((ours, theirs));
        if let Some(known) = self.settled.get(&key).or_else(|| self.now.get(&key)).cloned() {
            return self.carried(&known);
        }
        if depth > DEPTH && !self.going.contains(&key) {
            if self.assumed.insert(Rc::clone(&key)) {
                self.deep.push((one, other));
            }
            return self.echo(&key);
        }
        self.once(key, |fit| fit.read(&one, &other, depth))
    }

    /// Two objects, which may be reached as one of several, too.
    pub(super) fn object(&mut self, one: &Shape<'a>, other: &Shape<'a>, depth: usize) -> Vec<Misfit> {
        let fields = |fit: &mut Self| {
            let mut misfits = Vec::new();
            fit.fields(one, other, depth, &mut misfits);
            misfits
        };
        match (one.place, other.place) {
            // Nought, which is no place, tells them from schemas that are one part.
            (Some(ours), Some(theirs)) => self.once(Rc::new((vec![0, ours], vec![0, theirs])), fields),
            _ => fields(self),
        }
    }

    /// What is found of a pair, unless it is known or is being compared.
    fn once(&mut self, key: Key, compare: impl FnOnce(&mut Self) -> Vec<Misfit>) -> Vec<Misfit> {
        if let Some(known) = self.settled.get(&key).or_else(|| self.now.get(&key)).cloned() {
            return self.carried(&known);
        }
        if !self.going.insert(Rc::clone(&key)) {
            self.assumed.insert(Rc::clone(&key));
            return self.echo(&key);
        }
        let mut misfits = compare(self);
        for misfit in misfits.iter_mut().filter(|misfit| misfit.origin.is_none()) {
            misfit.origin = Some((Rc::clone(&key), misfit.field.len()));
        }
        self.thin(&mut misfits);
        if misfits.len() > TOLD {
            misfits.truncate(TOLD + 1); // One more than is told, so that it shows.
            if self.breaking {
                self.fuel.give_up();
            }
        }
        self.going.remove(&key);
        self.now.insert(key, misfits.as_slice().into());
        misfits
    }

    /// What was known in the last round.
    fn echo(&mut self, key: &Key) -> Vec<Misfit> {
        let known = self.last.get(key).cloned();
        let echo = self.carried(known.as_deref().unwrap_or_default()).into_iter();
        echo.map(|misfit| Misfit { is_echo: true, ..misfit }).collect()
    }

    /// Leaves few of the places at which the same change of the same schema shows, and the shortest.
    pub(super) fn thin(&mut self, misfits: &mut Vec<Misfit>) {
        self.fuel.burn(misfits.len());
        let mut places: HashMap<Matter<'_>, Vec<usize>> = HashMap::new();
        for (place, misfit) in misfits.iter().enumerate() {
            if let Some(matter) = misfit.matter() {
                places.entry(matter).or_default().push(place);
            }
        }
        let mut left_out = HashSet::new();
        for mut all in places.into_values() {
            all.sort_by_key(|place| (misfits[*place].is_echo, misfits[*place].field.len(), *place));
            let is_more = |(count, place): &(usize, &usize)| *count > 0 && misfits[**place].is_echo || *count >= PLACES;
            left_out.extend(all.iter().enumerate().filter(is_more).map(|(_, place)| *place));
        }
        if !left_out.is_empty() {
            let mut place = 0..;
            misfits.retain(|_| place.next().is_some_and(|place| !left_out.contains(&place)));
        }
    }

    /// Whether there are as many as are told.
    pub(super) fn is_full(&mut self, misfits: &mut Vec<Misfit>) -> bool {
        if misfits.len() > TOLD {
            self.thin(misfits);
        }
        misfits.len() > TOLD
    }

    /// What is known, for another place.
    fn carried(&mut self, known: &[Misfit]) -> Vec<Misfit> {
        let steps = known.iter().map(|misfit| 1 + misfit.field.len()).sum();
        if self.fuel.burn(steps) { known.to_vec() } else { Vec::new() }
    }

    /// Whether a pair is what it was taken for.
    fn is_as_before(now: Option<&Rc<[Misfit]>>, last: Option<&Rc<[Misfit]>>) -> bool {
        fn matters(known: Option<&Rc<[Misfit]>>) -> HashSet<Matter<'_>> {
            known.into_iter().flat_map(|known| known.iter().filter_map(Misfit::matter)).collect()
        }
        matters(now) == matters(last)
    }
}

impl Misfit {
    /// What it is, wherever it shows.
    fn matter(&self) -> Option<Matter<'_>> {
        let (key, own) = self.origin.as_ref()?;
        Some((key, self.field.get(self.field.len().checked_sub(*own)?..)?, &self.why))
    }
}

/// A schema, a place in it, and what does not fit there.
type Matter<'m> = (&'m Key, &'m [Rc<str>], &'m Why);

/// The parts of a schema, each once, and where they stand in memory; those that are plain references at what they lead to.
fn distinct<'a>(document: &'a Value, schema: &Schema<'a>, fuel: &mut Fuel) -> (Schema<'a>, Vec<usize>) {
    let (mut parts, mut places) = (Schema::new(), Vec::new());
    for part in schema {
        let is_plain = part.as_object().is_some_and(|fields| fields.len() == 1);
        let target = if is_plain { resolve(document, part, fuel) } else { None };
        let place = std::ptr::from_ref(target.unwrap_or(part)).addr();
        if !places.contains(&place) && fuel.burn(1 + places.len() / 16) {
            parts.push(*part);
            places.push(place);
        }
    }
    places.sort_unstable();
    (parts, places)
}
