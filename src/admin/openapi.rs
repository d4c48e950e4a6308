//! The control surface as an OpenAPI document, for whoever makes clients of it.

use serde_json::{Map, Value, json};

use crate::usage::UsageBy;

/// Method, path, what it does, and whether the path has an id. Held against [`super::call::Call`] by a test.
const PATHS: [(&str, &str, &str); 32] = [
    ("get", "/", "What this is, and how many APIs serve"),
    ("get", "/health", "Whether this daemon is well"),
    ("get", "/openapi.json", "The OpenAPI documents of all APIs that the caller's key opens, as one"),
    ("get", "/metrics", "What is counted, for Prometheus; as JSON where that is accepted"),
    ("get", "/api/diagnostics/{id}", "The container, its last lines, and the row of one API"),
    ("get", "/admin/openapi.json", "This document"),
    ("post", "/admin/apply", "Look at the tree now; a line of JSON for each thing that happens, until all rest"),
    ("get", "/admin/deployments", "Every API, and how it is"),
    ("get", "/admin/deployment/{id}", "One API, and what its instances use"),
    ("post", "/admin/deployment/{id}/stop", "Run nothing of an API until it is started again, whatever is pushed"),
    ("post", "/admin/deployment/{id}/start", "End a stop or a hold, and wait until the API serves"),
    ("post", "/admin/reload", "Look at the tree now, and try again at once what had failed"),
    ("post", "/admin/reload/{id}", "The same for one API"),
    ("post", "/admin/cleanup", "Remove what nothing needs any more"),
    ("get", "/admin/plan", "What would change, and why"),
    (
        "post",
        "/admin/plan",
        "What a tree would change, sent as a gzipped tar of its API folders; nothing of it is kept",
    ),
    ("get", "/admin/events", "What happened; as server-sent events where those are accepted"),
    ("get", "/admin/logs/{id}", "What the instances of an API printed; as server-sent events where those are accepted"),
    ("get", "/admin/history/{id}", "The revisions of an API that have served"),
    ("get", "/admin/usage", "What callers have asked: how often, with what outcome, how much, how long it took"),
    (
        "get",
        "/admin/pull",
        "The remote repositories that are followed, what of each is placed, and what keeps one from being followed",
    ),
    ("post", "/admin/pull", "Ask all of them now whether there is something new"),
    ("post", "/admin/pull/{source}", "Ask one of them now, and answer once it is known what came of it"),
    ("get", "/admin/adopt", "The containers of the system before, and how far taking over from each is"),
    ("post", "/admin/adopt/{id}/stop", "Stop the container of the system before of an API that ours serves"),
    ("get", "/admin/holds", "What is held or stopped, by whom, and why"),
    ("put", "/admin/holds/{id}", "Keep what serves, or go back to a revision, until the folder changes"),
    ("delete", "/admin/holds/{id}", "End a hold or a stop"),
    ("get", "/admin/keys", "The keys in force, and when each was last used; never the keys themselves"),
    ("post", "/admin/keys", "Make a key, and show it, once"),
    ("post", "/admin/keys/{key}/rotate", "Make a key in the place of another, which goes on opening for a while"),
    ("delete", "/admin/keys/{key}", "Revoke a key, at once"),
];

/// The document.
pub(super) fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for (method, path, summary) in PATHS {
        let mut operation = json!({
            "summary": summary,
            "operationId": format!("{method}{}", path.replace(['/', '{', '}', '.'], "_")),
            "responses": { "200": { "description": "It is as asked" }, "default": { "$ref": "#/components/responses/Fault" } },
        });
        if !["/", "/health", "/openapi.json"].contains(&path) {
            operation["security"] = json!([{ "adminKey": [] }]);
        }
        let mut parameters = Vec::new();
        for name in ["id", "key", "source"].into_iter().filter(|name| path.contains(&format!("{{{name}}}"))) {
            let schema = json!({ "type": "string" });
            parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
        }
        let query: &[&str] = match path {
            "/admin/events" => &["api", "after", "limit"],
            "/admin/logs/{id}" => &["tail"],
            "/admin/usage" => &["api", "key", "since", "by"],
            _ => &[],
        };
        for name in query {
            let schema = match *name {
                "by" => json!({ "type": "string", "enum": UsageBy::WORDS, "default": UsageBy::default().word() }),
                "after" | "limit" | "tail" => json!({ "type": "integer" }),
                _ => json!({ "type": "string" }),
            };
            parameters.push(json!({ "name": name, "in": "query", "schema": schema }));
        }
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        let schema = match (method, path) {
            ("post", "/admin/keys") => Some("KeyWish"),
            ("post", "/admin/keys/{key}/rotate") => Some("Rotation"),
            ("post", "/admin/deployment/{id}/stop") | ("put", _) => Some("Wish"),
            _ => None,
        };
        if let Some(schema) = schema {
            let schema = json!({ "$ref": format!("#/components/schemas/{schema}") });
            operation["requestBody"] = json!({ "content": { "application/json": { "schema": schema } } });
        }
        if schema.is_some_and(|schema| schema != "Wish") {
            operation["responses"]["201"] = json!({ "description": "The key, as `secret`; it is shown this once" });
            if let Some(responses) = operation["responses"].as_object_mut() {
                responses.remove("200");
            }
        }
        paths.entry(path.to_owned()).or_insert_with(|| json!({}))[method] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "skep", "version": env!("CARGO_PKG_VERSION"), "summary": "The control surface of a skep daemon" },
        "paths": paths,
        "components": {
            "securitySchemes": { "adminKey": { "type": "http", "scheme": "bearer" } },
            "responses": { "Fault": {
                "description": "Why it is not done",
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Fault" } } },
            } },
            "schemas": schemas(),
        },
    })
}

/// What the bodies of calls and faults are.
fn schemas() -> Value {
    json!({
        "Fault": {
            "type": "object",
            "required": ["error"],
            "properties": { "error": { "type": "string" }, "request_id": { "type": "string" } },
        },
        "KeyWish": {
            "type": "object",
            "additionalProperties": false,
            "required": ["name"],
            "properties": {
                "name": { "type": "string", "minLength": 1, "maxLength": 100 },
                "push": { "type": "boolean" },
                "previews": { "type": "boolean" },
                "plans": { "type": "boolean" },
                "apis": { "type": "array", "items": { "type": "string" }, "minItems": 1 },
                "expires": { "type": "string", "description": "a span, as in 90d, or a day, as in 2027-01-31" },
                "methods": { "type": "array", "items": { "type": "string" } },
                "paths": { "type": "array", "items": { "type": "string" } },
                "plan": { "type": "string" },
                "limit": { "type": "string", "description": "requests and a span, as in 60/1m" },
            },
        },
        "Rotation": {
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "overlap": { "type": "string", "default": "24h" },
                "expires": { "type": "string" },
            },
        },
        "Wish": {
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "why": { "type": "string" },
                "by": { "type": "string" },
                "until": { "type": "string", "format": "date-time" },
                "revision": { "type": "string" },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::super::call::Call;
    use super::*;

    #[test]
    fn the_document_has_what_the_surface_knows() {
        for (method, path, _) in PATHS {
            let method: Method = method.to_uppercase().parse().unwrap();
            assert!(
                Call::of(&method, &path.replace("{id}", "hello").replace("{key}", "k_1").replace("{source}", "team"))
                    .is_some(),
                "{method} {path}"
            );
        }
        let operations: usize =
            document()["paths"].as_object().unwrap().values().map(|p| p.as_object().unwrap().len()).sum();
        assert_eq!(operations, PATHS.len());
    }
}
