//! An operation is one method of one path: what it takes, what it answers, and what it asks callers to show.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::difference::{Difference, Place, What, short};
use super::fit::{Side, differences};
use super::schema::{Schema, resolve};
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

/// A parameter of an operation.
struct Parameter<'a> {
    fields: &'a Value,
    name: &'a str,
    is_required: bool,
}

/// Where a parameter stands: its location, and its name or, in a path, its place.
type Slot = (String, String);

/// Compares all operations of two documents. What differs first is told first.
pub(super) fn compare(old: &Value, new: &Value, fuel: &mut Fuel) -> Vec<Difference> {
    let (before, after) = (operations(old, fuel), operations(new, fuel));
    let mut list = Vec::new();
    for (key, one) in &before {
        if list.len() > TOLD {
            return list;
        }
        let told = list.len();
        let mut note = Note { method: key.0.to_uppercase(), path: short(one.path), list: &mut list };
        match after.get(key) {
            Some(other) => note.operation(one, other, fuel),
            None => note.add(Place::Operation, What::Removed, true),
        }
        if fuel.is_out() {
            // What was only half looked at may look like anything.
            list.truncate(told);
            return list;
        }
    }
    for (key, one) in after.iter().filter(|(key, _)| !before.contains_key(*key)).take(TOLD) {
        let mut note = Note { method: key.0.to_uppercase(), path: short(one.path), list: &mut list };
        note.add(Place::Operation, What::Added { required: false }, false);
    }
    list
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
    list: &'l mut Vec<Difference>,
}

impl Note<'_> {
    fn add(&mut self, place: Place, what: What, breaking: bool) {
        let (method, path) = (self.method.clone(), self.path.clone());
        self.list.push(Difference { method, path, place, what, breaking });
    }

    fn schemas(
        &mut self,
        (one, other): (&Operation<'_>, &Operation<'_>),
        (before, after): (&Schema<'_>, &Schema<'_>),
        (place, side): (&Place, Side),
        fuel: &mut Fuel,
    ) {
        for (field, what, breaking) in differences((one.document, other.document), (before, after), side, fuel) {
            self.add(place.clone().at(field), what, breaking);
        }
    }

    fn operation(&mut self, one: &Operation<'_>, other: &Operation<'_>, fuel: &mut Fuel) {
        self.parameters(one, other, fuel);
        self.body(one, other, fuel);
        self.answers(one, other, fuel);
        let (before, after) = (one.security(), other.security());
        let is_enough =
            |shown: &BTreeSet<String>, wanted: &[BTreeSet<String>]| wanted.iter().any(|wanted| wanted.is_subset(shown));
        if before.iter().any(|shown| !is_enough(shown, &after)) {
            self.add(Place::Operation, What::SecurityAdded, true);
        } else if after.iter().any(|shown| !is_enough(shown, &before)) {
            self.add(Place::Operation, What::SecurityRemoved, false);
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
            self.schemas((one, other), (&old.schema(), &new.schema()), (&place(slot, old), Side::Request), fuel);
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
                // A range may have become the codes in it.
                None if status.ends_with("XX") && !after.is_empty() => {}
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
        let (before, after) = (media(old), media(new));
        for (name, old) in &before {
            match after.get(name) {
                Some(new) => self.schemas((one, other), (&schema(old), &schema(new)), (place, side), fuel),
                None => self.add(place.clone(), What::MediaRemoved { media: short(name) }, true),
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
    /// Its parameters, and those of its path that it does not say otherwise.
    fn parameters(&self, fuel: &mut Fuel) -> BTreeMap<Slot, Parameter<'a>> {
        let mut parameters = BTreeMap::new();
        for parameter in
            [self.item, self.fields].iter().flat_map(|from| from["parameters"].as_array().into_iter().flatten())
        {
            let Some(fields) = resolve(self.document, parameter, fuel) else { continue };
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

    /// The answers that are no errors, by their status.
    fn answers(&self, fuel: &mut Fuel) -> BTreeMap<String, &'a Value> {
        let all = self.fields["responses"].as_object().into_iter().flatten();
        let good = all.filter(|(status, _)| status.starts_with('2') || *status == "default");
        good.map(|(status, answer)| (status.to_uppercase().replace("DEFAULT", "default"), answer))
            .filter_map(|(status, answer)| Some((status, resolve(self.document, answer, fuel)?)))
            .collect()
    }

    /// What callers may show, each with all that it takes. Schemes go by what they are, and not by their names.
    fn security(&self) -> Vec<BTreeSet<String>> {
        let asked = self.fields.get("security").or_else(|| self.document.get("security"));
        let all = asked.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let each = |schemes: &Map<String, Value>| {
            let mut shown = BTreeSet::new();
            for (name, scopes) in schemes {
                let scheme = &self.document["components"]["securitySchemes"][name];
                let kind = ["type", "scheme", "in", "name"].map(|key| scheme[key].as_str().unwrap_or_default());
                let kind = if kind.concat().is_empty() { name.clone() } else { kind.join(" ").to_lowercase() };
                let scopes = scopes.as_array().into_iter().flatten().filter_map(Value::as_str);
                shown.extend(scopes.map(|scope| format!("{kind}: {scope}")));
                shown.insert(kind);
            }
            shown
        };
        let all: Vec<BTreeSet<String>> = all.iter().filter_map(Value::as_object).map(each).collect();
        if all.is_empty() { vec![BTreeSet::new()] } else { all }
    }
}

impl<'a> Parameter<'a> {
    fn schema(&self) -> Schema<'a> {
        let within = self.fields["content"].as_object().and_then(|content| content.values().next());
        self.fields.get("schema").or_else(|| within?.get("schema")).into_iter().collect()
    }
}

/// The contents of a body by their media types, without parameters of those.
fn media(body: &Value) -> BTreeMap<String, &Value> {
    let all = body["content"].as_object().into_iter().flatten();
    all.map(|(name, content)| (name.split(';').next().unwrap_or(name).trim().to_lowercase(), content)).collect()
}

fn schema(content: &Value) -> Schema<'_> {
    content.get("schema").into_iter().collect()
}
