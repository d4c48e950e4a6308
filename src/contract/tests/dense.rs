//! Schemas that refer to one another: each pair is compared once, and nothing of it is lost.

use serde_json::{Value, json};

use super::*;

/// So many schemas, some of which are asked for, each with a field for each of them, and one of its own of that kind. Some of the fields are optional.
fn dense((count, asked): (usize, usize), kinds: impl Fn(usize) -> &'static str) -> Contract {
    let schema = |n: usize| {
        let mut fields: serde_json::Map<String, Value> = (0..count)
            .map(|to| {
                let reference = json!({ "$ref": format!("#/components/schemas/S{to}") });
                let is_loose = (n + to).is_multiple_of(3);
                let field = if is_loose { json!({ "anyOf": [reference, { "type": "null" }] }) } else { reference };
                (format!("f{to}"), field)
            })
            .collect();
        fields.insert(format!("own{n}"), json!({ "type": kinds(n) }));
        (format!("S{n}"), json!({ "type": "object", "properties": fields }))
    };
    let schemas: serde_json::Map<String, Value> = (0..count).map(schema).collect();
    let path = |n: usize| {
        let content = json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/S{n}") } } });
        let post = json!({ "requestBody": { "content": content }, "responses": { "200": { "content": content } } });
        (format!("/{n}"), json!({ "post": post }))
    };
    let paths: serde_json::Map<String, Value> = (0..asked).map(path).collect();
    with(&json!(paths), &json!(schemas))
}

#[test]
fn many_that_all_refer_to_one_another_are_compared_whole() {
    for (count, asked) in [(5, 5), (30, 20)] {
        let old = dense((count, asked), |_| "string");
        let new = dense((count, asked), |n| if n == count - 1 { "integer" } else { "string" });
        let differences = compare(&old, &new);
        assert!(!differences.is_cut, "{count}");
        // Whatever is asked for and wherever one begins: the one that is another is told, and no other.
        for n in 0..asked {
            let path = format!("/{n}");
            let of = |is_it: fn(&Place) -> bool| {
                differences.list.iter().filter(|it| it.path == path && is_it(&it.place) && it.breaking).count()
            };
            let sent = of(|place| matches!(place, Place::Request { .. }));
            let got = of(|place| matches!(place, Place::Response { .. }));
            assert!((1..=4).contains(&sent) && (1..=4).contains(&got), "{path}: {sent} {got}");
        }
        let own = format!("own{}", count - 1);
        assert!(differences.list.iter().all(|it| it.to_string().contains(&own)));
    }
    // Where each is another, each is told of one operation.
    let differences = compare(&dense((12, 1), |_| "string"), &dense((12, 1), |_| "integer"));
    assert!(!differences.is_cut);
    for n in 0..12 {
        let end = format!("own{n} takes integer, not string");
        assert!(differences.list.iter().any(|it| it.breaking && it.to_string().ends_with(&end)), "{n}");
    }
}

#[test]
fn what_lies_deeper_than_is_looked_at_at_once_is_told_too() {
    let chain = |last: &str| {
        let next = |n: usize| {
            let next = json!({ "$ref": format!("#/components/schemas/S{}", n + 1) });
            (format!("S{n}"), json!({ "type": "object", "properties": { "next": next } }))
        };
        let mut schemas: serde_json::Map<String, Value> = (0..100).map(next).collect();
        schemas.insert("S100".to_owned(), json!({ "type": "object", "properties": { "end": { "type": last } } }));
        let content = json!({ "a/b": { "schema": { "$ref": "#/components/schemas/S0" } } });
        with(&json!({ "/x": { "post": { "requestBody": { "content": content } } } }), &json!(schemas))
    };
    let told = said(&chain("string"), &chain("integer"));
    assert!(told[0].starts_with("! POST /x: body field next.next"), "{told:?}");
    assert_eq!(told.iter().filter(|told| told.starts_with('!')).count(), 1);
    // One that holds itself, and more with each step.
    let growing = |kind: &str| {
        let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
        let b = json!({ "type": "object", "properties": { "x": reference("B"), "y": { "type": kind } } });
        let a = json!({ "allOf": [reference("B"), { "properties": { "x": reference("A") } }] });
        let content = json!({ "a/b": { "schema": reference("A") } });
        let paths = json!({ "/x": { "post": { "requestBody": { "content": content } } } });
        with(&paths, &json!({ "A": a, "B": b }))
    };
    assert!(said(&growing("string"), &growing("integer"))[0].starts_with("! POST /x: body field"));
}

#[test]
fn what_is_taken_to_fit_within_itself_is_looked_at_again_where_it_does_not() {
    // `A` holds one of two, and the first of them fits only if `A` does; it does not.
    let document = |kind: &str, only: bool| {
        let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
        let object =
            |fields: Value, required: &[&str]| json!({ "type": "object", "properties": fields, "required": required });
        let a = object(json!({ "of": reference("L"), "value": { "type": kind } }), &[]);
        let l = object(json!({ "back": reference("A"), "l": { "type": "string" } }), &["l"]);
        let content = json!({ "a/b": { "schema": reference(if only { "L" } else { "A" }) } });
        let post = json!({ "requestBody": { "content": content } });
        with(&json!({ "/x": { "post": post } }), &json!({ "A": a, "L": l }))
    };
    for only in [true, false] {
        let told = said(&document("string", only), &document("integer", only));
        let field = if only { "back.value" } else { "value" };
        assert!(told.contains(&format!("! POST /x: body field {field} takes integer, not string")), "{told:?}");
    }
    // Both of one document, the one that was met within the other first.
    let both = |kind: &str| {
        let mut one = document(kind, false).0;
        one["paths"]["/y"] = document(kind, true).0["paths"]["/x"].clone();
        read(&one.to_string())
    };
    let told = said(&both("string"), &both("integer"));
    assert!(told.contains(&"! POST /y: body field back.value takes integer, not string".to_owned()), "{told:?}");
}

#[test]
fn unions_that_are_taken_apart_lie_in_one_another() {
    let chain = |is_split: bool, last: &str| {
        let of = |tag: Value, n: usize| {
            let next = json!({ "$ref": format!("#/components/schemas/S{}", n + 1) });
            json!({ "type": "object", "required": ["k"], "properties": { "k": tag, "next": next } })
        };
        let step = |n: usize| {
            let schema = if is_split {
                let both = ["a", "b"].map(|value| of(json!({ "const": value }), n));
                json!({ "oneOf": both, "discriminator": { "propertyName": "k" } })
            } else {
                of(json!({ "type": "string", "enum": ["a", "b"] }), n)
            };
            (format!("S{n}"), schema)
        };
        let mut schemas: serde_json::Map<String, Value> = (0..60).map(step).collect();
        schemas.insert("S60".to_owned(), json!({ "type": last }));
        let content = json!({ "a/b": { "schema": { "$ref": "#/components/schemas/S0" } } });
        with(&json!({ "/x": { "post": { "requestBody": { "content": content } } } }), &json!(schemas))
    };
    for (one, other) in [(true, false), (false, true), (true, true)] {
        assert_eq!(said(&chain(one, "string"), &chain(other, "string")), Vec::<String>::new());
        let told = said(&chain(one, "string"), &chain(other, "integer"));
        assert_eq!(told.iter().filter(|told| told.starts_with('!')).count(), 1, "{told:?}");
    }
}
