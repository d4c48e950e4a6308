//! An operation is one method of one path: what it takes, what it answers, and what it asks callers to show.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::difference::{Difference, Effect, Place, What, short};
use super::fit::{Memory, Side, Way, differences};
use super::media::{self, FORMS, media};
use super::parameter::{self, Parameter};
use super::schema::{Schema, resolve};
use super::security::{self, Shown};
use super::{Fuel, TOLD};

/// The methods that a path item describes (OpenAPI 3.1, section 4.8.9).
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// Headers that are no parameters, whatever a document says (OpenAPI 3.1, section 4.8.12.2).
const NO_PARAMETERS: [&str; 3] = ["accept", "content-type", "authorization"];

/// One operation of a document.
struct Operation<'a> {
    document: &'a Value,
    path: &'a str,
    item: &'a Value,
    fields: &'a Value,
}

/// Where a parameter stands: its location, and its name or, in a path, its place.
type Slot = (String, String);

/// Compares all operations of two documents. What differs first is told first; then how many differences are left out
/// that break nobody.
pub(super) fn compare(old: &Value, new: &Value, fuel: &mut Fuel) -> (Vec<Difference>, usize) {
    let (before, after) = (operations(old, fuel), operations(new, fuel));
    let (mut told, mut memory) = (Told::default(), Memory::default());
    for (key, one) in &before {
        // Those that break nobody are no reason to look no further.
        if told.breaking.len() > TOLD || fuel.is_out() {
            break;
        }
        let mut found = Told::default();
        let mut note =
            Note { method: key.0.to_uppercase(), path: short(one.path), told: &mut found, memory: &mut memory };
        match after.get(key) {
            Some(other) => note.operation(one, other, fuel),
            None => note.add(Place::Operation, What::Removed, true),
        }
        // What was only half looked at may look like anything.
        if !fuel.is_out() {
            told.take(found);
        }
    }
    if !fuel.is_out() {
        for (key, one) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
            let mut note =
                Note { method: key.0.to_uppercase(), path: short(one.path), told: &mut told, memory: &mut memory };
            note.add(Place::Operation, What::Added { required: false }, false);
        }
    }
    told.breaking.extend(told.others);
    (told.breaking, told.left_out)
}

/// What was found so far. What breaks nobody takes no room from what breaks callers.
#[derive(Default)]
struct Told {
    breaking: Vec<Difference>,
    others: Vec<Difference>,
    left_out: usize,
}

impl Told {
    fn add(&mut self, difference: Difference) {
        if difference.breaking {
            self.breaking.push(difference);
        } else if self.others.len() < TOLD {
            self.others.push(difference);
        } else {
            self.left_out += 1;
        }
    }

    fn take(&mut self, found: Self) {
        self.left_out += found.left_out;
        found.breaking.into_iter().chain(found.others).for_each(|difference| self.add(difference));
    }
}

/// By method and path; names of parameters in a path are of no matter to callers.
fn operations<'a>(document: &'a Value, fuel: &mut Fuel) -> BTreeMap<(&'static str, String), Operation<'a>> {
    let mut operations = BTreeMap::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        let Some(item) = resolve(document, item, fuel) else { continue };
        for method in METHODS {
            if let Some(fields @ Value::Object(_)) = item.get(method) {
                operations.insert((method, nameless(path)), Operation { document, path, item, fields });
            }
        }
    }
    operations
}

/// A path with the names of its parameters taken out.
fn nameless(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    let mut is_name = false;
    for c in path.chars() {
        is_name &= c != '}';
        if !is_name {
            text.push(c);
        }
        is_name |= c == '{';
    }
    text
}

/// The names of the parameters in a path, in their order.
fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name))
}

/// Where differences of one operation are noted down.
struct Note<'l> {
    method: String,
    path: String,
    told: &'l mut Told,
    /// What is known of schemas that other operations have too.
    memory: &'l mut Memory,
}

impl Note<'_> {
    fn add(&mut self, place: Place, what: What, effect: impl Into<Effect>) {
        let (method, path, effect) = (self.method.clone(), self.path.clone(), effect.into());
        let (breaking, perhaps) = (effect == Effect::Breaks, effect == Effect::Perhaps);
        self.told.add(Difference { method, path, place, what, breaking, perhaps });
    }

    fn schemas(
        &mut self,
        (one, other): (&Operation<'_>, &Operation<'_>),
        (before, after): (&Schema<'_>, &Schema<'_>),
        (place, way): (&Place, Way),
        fuel: &mut Fuel,
    ) {
        let documents = (one.document, other.document);
        for (field, what, effect) in differences(documents, (before, after), way, (self.memory, fuel)) {
            self.add(place.clone().at(field), what, effect);
        }
    }

    fn operation(&mut self, one: &Operation<'_>, other: &Operation<'_>, fuel: &mut Fuel) {
        self.parameters(one, other, fuel);
        self.body(one, other, fuel);
        self.answers(one, other, fuel);
        match security::change(&one.security(fuel), &other.security(fuel), fuel) {
            Some(what @ What::SecurityAdded) => self.add(Place::Operation, what, true),
            Some(what) => self.add(Place::Operation, what, false),
            None => {}
        }
    }

    fn parameters(&mut self, one: &Operation<'_>, other: &Operation<'_>, fuel: &mut Fuel) {
        let (before, after) = (one.parameters(fuel), other.parameters(fuel));
        let place = |slot: &Slot, parameter: &Parameter<'_>| Place::Parameter {
            location: slot.0.clone(),
            name: short(parameter.name),
            field: String::new(),
        };
        // Of that name, and nowhere else.
        let elsewhere = |slot: &Slot, name: &str, others: &BTreeMap<Slot, Parameter<'_>>| {
            let mut same = others.iter().filter(|((location, _), other)| *location != slot.0 && other.name == name);
            same.next().map(|(slot, _)| slot.clone())
        };
        let mut moved = BTreeSet::new();
        for (slot, old) in &before {
            let Some(new) = after.get(slot) else {
                if !fuel.burn(after.len()) {
                    return;
                }
                match elsewhere(slot, old.name, &after).filter(|to| !before.contains_key(to)) {
                    Some(to) => {
                        self.add(place(slot, old), What::Moved { to: to.0.clone() }, true);
                        moved.insert(to);
                    }
                    None => self.add(place(slot, old), What::Removed, false),
                }
                continue;
            };
            match (old.is_required, new.is_required) {
                (false, true) => self.add(place(slot, old), What::Required, true),
                (true, false) => self.add(place(slot, old), What::Optional, false),
                _ => {}
            }
            let (written, now) = (old.written(slot.0.as_str()), new.written(slot.0.as_str()));
            if let Some(effect) = written.change(&now, &old.kinds(one.document, fuel)) {
                let what = What::Style { old: written.to_string(), new: now.to_string() };
                self.add(place(slot, old), what, effect);
            }
            for name in parameter::LEEWAY.into_iter().filter(|name| old.allows(name) && !new.allows(name)) {
                self.add(place(slot, old), What::NotCompared { name: name.to_owned() }, Effect::Perhaps);
            }
            let is_text = old.is_text() && new.is_text();
            let way = Way { side: Side::Request, is_text, has_files: false };
            self.schemas((one, other), (&old.schema(), &new.schema()), (&place(slot, old), way), fuel);
        }
        for (slot, new) in after.iter().filter(|(slot, _)| !before.contains_key(*slot) && !moved.contains(*slot)) {
            self.add(place(slot, new), What::Added { required: new.is_required }, new.is_required);
        }
    }

    fn body(&mut self, one: &Operation<'_>, other: &Operation<'_>, fuel: &mut Fuel) {
        let body = |operation: &Operation<'_>, fuel: &mut Fuel| -> Option<(bool, bool)> {
            let body = operation.body(fuel)?;
            Some((true, body["required"] == true))
        };
        let place = Place::Request { field: String::new() };
        match (body(one, fuel), body(other, fuel)) {
            (None, Some((_, required))) => self.add(place, What::Added { required }, required),
            (Some(_), None) => self.add(place, What::Removed, false),
            (Some((_, was_required)), Some((_, required))) => {
                match (was_required, required) {
                    (false, true) => self.add(place.clone(), What::Required, true),
                    (true, false) => self.add(place.clone(), What::Optional, false),
                    _ => {}
                }
                if let (Some(old), Some(new)) = (one.body(fuel), other.body(fuel)) {
                    self.contents((one, other), (old, new), (&place, Side::Request), fuel);
                }
            }
            (None, None) => {}
        }
    }

    fn answers(&mut self, one: &Operation<'_>, other: &Operation<'_>, fuel: &mut Fuel) {
        let (before, after) = (one.answers(fuel), other.answers(fuel));
        let place = |status: &str| Place::Response { status: short(status), field: String::new() };
        let covering = |status: &str, answers: &BTreeMap<String, &Value>| -> Option<String> {
            let names = [status, "2XX", "default"];
            names.iter().find(|name| answers.contains_key(**name)).map(|name| (*name).to_owned())
        };
        for (status, old) in &before {
            match covering(status, &after).and_then(|name| after.get(&name)) {
                Some(new) => self.contents((one, other), (old, new), (&place(status), Side::Response), fuel),
                // A range may have become the codes in it, and so may all that is not named.
                None if (status.ends_with("XX") || status == "default") && !after.is_empty() => {}
                None => self.add(place(status), What::Removed, true),
            }
        }
        for status in after.keys().filter(|status| covering(status, &before).is_none()) {
            self.add(place(status), What::Added { required: false }, false);
        }
    }

    /// Media types, and the schema of each that both have.
    fn contents(
        &mut self,
        (one, other): (&Operation<'_>, &Operation<'_>),
        (old, new): (&Value, &Value),
        (place, side): (&Place, Side),
        fuel: &mut Fuel,
    ) {
        let (before, after) = (media(old, fuel), media(new, fuel));
        for (name, old) in &before {
            let is_form = side == Side::Request && FORMS.contains(&name.as_str());
            let way = Way { side, is_text: is_form, has_files: is_form && name == "multipart/form-data" };
            let same = media::all_for(name, &after, side);
            if same.is_empty() {
                self.add(place.clone(), What::MediaRemoved { media: short(name) }, true);
            }
            for new in same {
                self.schemas((one, other), (&media::schema(old), &media::schema(new)), (place, way), fuel);
                if is_form && media::has_other_encoding(old, new) {
                    self.add(place.clone(), What::NotCompared { name: "encoding".to_owned() }, Effect::Perhaps);
                }
            }
        }
        for name in after.keys().filter(|name| !before.contains_key(*name)) {
            // Where nothing was told of the body before, nothing is broken by telling.
            if !before.is_empty() || side == Side::Request {
                self.add(place.clone(), What::MediaAdded { media: short(name) }, false);
            }
        }
    }
}

impl<'a> Operation<'a> {
    fn security(&self, fuel: &mut Fuel) -> Vec<Shown> {
        let asked = self.fields.get("security").or_else(|| self.document.get("security"));
        security::read(asked, &self.document["components"]["securitySchemes"], fuel)
    }

    /// Its parameters, and those of its path that it does not say otherwise.
    fn parameters(&self, fuel: &mut Fuel) -> BTreeMap<Slot, Parameter<'a>> {
        let mut parameters = BTreeMap::new();
        for parameter in
            [self.item, self.fields].iter().flat_map(|from| from["parameters"].as_array().into_iter().flatten())
        {
            let Some(fields) = resolve(self.document, parameter, fuel) else { continue };
            let length = fields["name"].as_str().map_or(0, str::len) + self.path.len();
            if !fuel.burn(1 + length / 16) {
                break;
            }
            let (Some(location), Some(name)) = (fields["in"].as_str(), fields["name"].as_str()) else { continue };
            let key = match location {
                "path" => match names(self.path).position(|other| other == name) {
                    Some(place) => format!("{place:03}"),
                    None => continue,
                },
                "header" => name.to_lowercase(),
                _ => name.to_owned(),
            };
            if location == "header" && NO_PARAMETERS.contains(&key.as_str()) {
                continue;
            }
            let is_required = location == "path" || fields["required"] == true;
            parameters.insert((short(location), key), Parameter { fields, name, is_required });
        }
        parameters
    }

    fn body(&self, fuel: &mut Fuel) -> Option<&'a Value> {
        resolve(self.document, self.fields.get("requestBody")?, fuel)
    }

    /// The answers that are no errors, by their status. `default` is one of them only where no other is: else it says
    /// what errors look like.
    fn answers(&self, fuel: &mut Fuel) -> BTreeMap<String, &'a Value> {
        let mut answers = BTreeMap::new();
        for (status, answer) in self.fields["responses"].as_object().into_iter().flatten() {
            if !fuel.burn(1 + status.len() / 16) {
                break;
            }
            if (status.starts_with('2') || status == "default")
                && let Some(answer) = resolve(self.document, answer, fuel)
            {
                answers.insert(status.to_uppercase().replace("DEFAULT", "default"), answer);
            }
        }
        if answers.len() > 1 {
            answers.remove("default");
        }
        answers
    }
}
