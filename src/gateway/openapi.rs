//! Joins the OpenAPI documents of several APIs into one, as callers of the gateway see them.
//!
//! Names of components and operations get the API's id in front, so that no two are the same; paths get the API's
//! place below the gateway. Documents are the apps' own: nothing in them is believed but its shape.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::tree::preview::Mark;
use crate::tree::{ApiId, Auth};

/// The methods that a path item describes (OpenAPI 3.1, section 4.8.9).
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// The security schemes of the gateway itself. An id has no dot, so no API's scheme is called so.
const KEY: &str = "skep.key";
const JWT: &str = "skep.jwt";

/// What one API says of itself, as text that is put together with that of others: written once, however often it is read.
#[derive(Debug)]
pub(super) struct Piece {
    tag: String,
    /// The members of an object, without its braces.
    paths: String,
    /// The same of each section of components.
    components: BTreeMap<String, String>,
}

impl Piece {
    /// # Errors
    /// Why the document cannot be joined with others.
    pub(super) fn of(id: &ApiId, auth: Auth, document: &Value) -> Result<Self, &'static str> {
        let version = document["openapi"].as_str().unwrap_or_default();
        if !version.starts_with("3.") {
            return Err("its /openapi.json is no document of OpenAPI 3");
        }
        if !document["paths"].is_object() {
            return Err("its /openapi.json has no paths");
        }
        let part = Part { id, auth, document };
        let mut tag = json!({ "name": id });
        if let Some(preview) = Mark::of(id) {
            tag["x-preview"] = json!(preview);
        }
        if let Some(about) = part.about() {
            tag["description"] = about.into();
        }
        let components = part.components().into_iter().map(|(section, named)| (section, members(&named)));
        Ok(Self { tag: tag.to_string(), paths: members(&part.paths()), components: components.collect() })
    }

    /// About the bytes that it adds to a document.
    pub(super) fn length(&self) -> usize {
        let components: usize = self.components.iter().map(|(section, named)| section.len() + named.len()).sum();
        self.tag.len() + self.paths.len() + components
    }
}

/// One document of all, and why others are not in it, by their ids.
pub(super) fn join<'a>(pieces: impl IntoIterator<Item = &'a Piece>, missing: &[(ApiId, String)]) -> String {
    let (mut tags, mut paths) = (List::default(), List::default());
    let mut components: BTreeMap<&str, List> = BTreeMap::new();
    for piece in pieces {
        tags.add(&piece.tag);
        paths.add(&piece.paths);
        for (section, named) in &piece.components {
            components.entry(section).or_default().add(named);
        }
    }
    let (key, jwt) = (
        json!({ "type": "http", "scheme": "bearer", "description": "A caller's key" }),
        json!({ "type": "http", "scheme": "bearer", "bearerFormat": "JWT" }),
    );
    let ours = components.entry("securitySchemes").or_default();
    ours.add(&format!("{}:{key},{}:{jwt}", Value::from(KEY), Value::from(JWT)));
    let mut sections = List::default();
    for (section, named) in components {
        sections.add(&format!("{}:{{{}}}", Value::from(section), named.0));
    }
    let missing: Map<String, Value> =
        missing.iter().map(|(id, why)| (id.to_string(), Value::from(why.as_str()))).collect();
    let info = json!({ "title": "APIs", "version": env!("CARGO_PKG_VERSION") });
    // Relative to where the document is read (OpenAPI 3.1, section 4.8.5): right behind any name and any proxy.
    let servers = json!([{ "url": "/" }]);
    format!(
        "{{\"openapi\":\"3.1.0\",\"info\":{info},\"servers\":{servers},\"tags\":[{}],\"paths\":{{{}}},\
         \"components\":{{{}}},\"x-missing\":{}}}",
        tags.0,
        paths.0,
        sections.0,
        Value::from(missing),
    )
}

/// Text with commas in between.
#[derive(Debug, Default)]
struct List(String);

impl List {
    fn add(&mut self, text: &str) {
        if !text.is_empty() {
            if !self.0.is_empty() {
                self.0.push(',');
            }
            self.0.push_str(text);
        }
    }
}

/// The members of an object as JSON, without the braces around them.
fn members(object: &Map<String, Value>) -> String {
    let mut list = List::default();
    for (name, value) in object {
        list.add(&format!("{}:{value}", Value::from(name.as_str())));
    }
    list.0
}

/// What one API says of itself.
struct Part<'a> {
    id: &'a ApiId,
    auth: Auth,
    document: &'a Value,
}

impl Part<'_> {
    /// Its title and what it says of itself.
    fn about(&self) -> Option<String> {
        let info = &self.document["info"];
        let texts = [info["title"].as_str(), info["description"].as_str()];
        let texts: Vec<&str> = texts.into_iter().flatten().filter(|text| !text.is_empty()).collect();
        (!texts.is_empty()).then(|| texts.join(": "))
    }

    fn paths(&self) -> Map<String, Value> {
        let security = self.document.get("security");
        let mut paths = Map::new();
        for (path, item) in self.document["paths"].as_object().into_iter().flatten() {
            if path.starts_with('/')
                && let Some(item) = item.as_object()
            {
                paths.insert(format!("/run/{}{path}", self.id), self.item(item, security));
            }
        }
        paths
    }

    fn components(&self) -> BTreeMap<String, Map<String, Value>> {
        let mut components = BTreeMap::new();
        for (section, named) in self.document["components"].as_object().into_iter().flatten() {
            let Some(named) = named.as_object() else { continue };
            let renamed = named.iter().map(|(name, value)| (format!("{}.{name}", self.id), self.renamed(value)));
            components.insert(section.clone(), renamed.collect());
        }
        components
    }

    fn item(&self, item: &Map<String, Value>, security: Option<&Value>) -> Value {
        let mut joined = Map::new();
        for (name, value) in item {
            match name.as_str() {
                // Where the app believes to be; the gateway is elsewhere.
                "servers" => {}
                method if METHODS.contains(&method) => {
                    joined.insert(name.clone(), self.operation(value, security));
                }
                _ => {
                    joined.insert(name.clone(), self.renamed(value));
                }
            }
        }
        joined.into()
    }

    fn operation(&self, operation: &Value, security: Option<&Value>) -> Value {
        let mut joined = self.renamed(operation);
        let Some(fields) = joined.as_object_mut() else { return joined };
        fields.remove("servers");
        fields.insert("tags".to_owned(), json!([self.id]));
        if let Some(Value::String(name)) = fields.get_mut("operationId") {
            *name = format!("{}.{name}", self.id);
        }
        // What callers show to the gateway, the app never sees.
        let wanted = match self.auth {
            Auth::Key => Some(json!([{ KEY: [] }])),
            Auth::Jwt => Some(json!([{ JWT: [] }])),
            Auth::None => operation.get("security").or(security).map(|security| self.schemes(security)),
        };
        match wanted {
            Some(wanted) => fields.insert("security".to_owned(), wanted),
            None => fields.remove("security"),
        };
        joined
    }

    /// The names of an app's own security schemes, as they are in the joined document.
    fn schemes(&self, security: &Value) -> Value {
        let each = |schemes: &Map<String, Value>| {
            schemes.iter().map(|(name, scopes)| (format!("{}.{name}", self.id), scopes.clone())).collect::<Map<_, _>>()
        };
        security.as_array().into_iter().flatten().filter_map(Value::as_object).map(each).collect()
    }

    /// A copy whose references lead to where things are in the joined document.
    fn renamed(&self, value: &Value) -> Value {
        match value {
            Value::Object(fields) => fields
                .iter()
                .map(|(name, value)| {
                    let value = match (name.as_str(), value) {
                        ("$ref", Value::String(reference)) => self.reference(reference).into(),
                        ("mapping", Value::Object(mapping)) => self.mapping(mapping),
                        _ => self.renamed(value),
                    };
                    (name.clone(), value)
                })
                .collect::<Map<_, _>>()
                .into(),
            Value::Array(items) => items.iter().map(|item| self.renamed(item)).collect(),
            other => other.clone(),
        }
    }

    /// The mapping of a discriminator, whose values are references, or names of schemas (OpenAPI 3.1, section 4.8.25).
    fn mapping(&self, mapping: &Map<String, Value>) -> Value {
        let each = |value: &Value| match value.as_str() {
            Some(reference) => Value::from(self.reference(reference)),
            None => self.renamed(value),
        };
        mapping.iter().map(|(name, value)| (name.clone(), each(value))).collect::<Map<_, _>>().into()
    }

    fn reference(&self, reference: &str) -> String {
        let id = self.id;
        if let Some((section, name)) = reference.strip_prefix("#/components/").and_then(|rest| rest.split_once('/')) {
            format!("#/components/{section}/{id}.{name}")
        } else if let Some(path) = reference.strip_prefix("#/paths/") {
            format!("#/paths/~1run~1{id}{path}")
        } else {
            reference.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_documents_become_one_in_which_nothing_collides() {
        let document = json!({
            "openapi": "3.1.0",
            "info": { "title": "Shop", "description": "Sells things" },
            "servers": [{ "url": "http://localhost:8000" }],
            "security": [{ "token": ["read"] }],
            "paths": {
                "/items": {
                    "servers": [{ "url": "/elsewhere" }],
                    "parameters": [{ "$ref": "#/components/parameters/Page" }],
                    "get": {
                        "operationId": "items", "tags": ["a"],
                        "responses": { "200": { "content": { "application/json": {
                            "schema": { "$ref": "#/components/schemas/Item" } } } } },
                    },
                },
                "nonsense": {}, "/odd": 7, "/qu\"ote": { "get": {} },
            },
            "components": {
                "odd \"section\"": { "a": 1 }, "none": 7,
                "schemas": {
                    "Item": { "properties": { "$ref": { "type": "string" } }, "discriminator": {
                        "propertyName": "kind", "mapping": { "book": "#/components/schemas/Book" } } },
                    "Book": { "$ref": "#/paths/~1items/get" },
                },
                "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            },
        });
        let [one, two] = ["one", "two"].map(|id| ApiId::new(id).unwrap());
        let pieces = [(&one, Auth::Key), (&two, Auth::None)];
        let pieces = pieces.map(|(id, auth)| Piece::of(id, auth, &document).unwrap());
        let text = join(&pieces, &[(ApiId::new("three").unwrap(), "it is \"paused\"".to_owned())]);
        assert!(text.len() > pieces.iter().map(Piece::length).sum());
        let joined: Value = serde_json::from_str(&text).unwrap();
        let paths: Vec<&String> = joined["paths"].as_object().unwrap().keys().collect();
        assert_eq!(paths, ["/run/one/items", "/run/one/qu\"ote", "/run/two/items", "/run/two/qu\"ote"]);
        let item = &joined["paths"]["/run/one/items"];
        assert!(item.get("servers").is_none());
        assert_eq!(item["parameters"][0]["$ref"], "#/components/parameters/one.Page");
        assert_eq!((&item["get"]["operationId"], &item["get"]["tags"]), (&json!("one.items"), &json!(["one"])));
        assert_eq!(item["get"]["security"], json!([{ "skep.key": [] }]));
        assert_eq!(joined["paths"]["/run/two/items"]["get"]["security"], json!([{ "two.token": ["read"] }]));
        let schemas = &joined["components"]["schemas"];
        assert_eq!(schemas["one.Item"]["discriminator"]["mapping"]["book"], "#/components/schemas/one.Book");
        assert_eq!(schemas["one.Item"]["properties"]["$ref"]["type"], "string");
        assert_eq!(schemas["two.Book"]["$ref"], "#/paths/~1run~1two~1items/get");
        assert!(joined["components"]["securitySchemes"]["two.token"].is_object());
        assert_eq!(joined["x-missing"]["three"], "it is \"paused\"");
        assert_eq!(joined["components"]["odd \"section\""]["two.a"], 1);
        assert!(joined["components"]["securitySchemes"][KEY].is_object());
        assert_eq!(joined["servers"], json!([{ "url": "/" }]));
        assert_eq!(joined["tags"][0]["description"], "Shop: Sells things");
        for bad in [json!(null), json!({ "swagger": "2.0", "paths": {} }), json!({ "openapi": "3.0.0", "paths": [] })] {
            assert!(Piece::of(&one, Auth::Key, &bad).is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<Value>(&join([], &[])).is_ok());
    }
}
