//! Leeway: what looks like a change, and breaks nobody.

use serde_json::{Value, json};

use super::{TOLD, answering, compare, expect, get, said, taking, with};
use crate::contract::Contract;

#[test]
fn what_is_sent_as_text_is_compared_as_text() {
    let parameter = |schema: &Value| get(&json!({ "parameters": [{ "name": "a", "in": "query", "schema": schema }] }));
    let form = |schema: &Value| {
        let content = json!({ "schema": { "type": "object", "properties": { "a": schema } } });
        get(&json!({ "requestBody": { "content": { "multipart/form-data": content } } }))
    };
    let of = |kind: &str| json!({ "type": kind });
    let list = |kind: &str| json!({ "type": "array", "items": { "type": kind } });
    let null = json!({ "anyOf": [of("string"), of("null")] });
    for make in [parameter as fn(&Value) -> Contract, form] {
        expect(make, &of("string"), &null, &[], &[]);
        for (narrow, wide) in [
            (of("integer"), of("string")),
            (of("boolean"), of("string")),
            (of("string"), list("string")),
            (of("integer"), list("integer")),
            (of("integer"), list("string")),
        ] {
            let (forth, back) = (said(&make(&narrow), &make(&wide)), said(&make(&wide), &make(&narrow)));
            assert!(forth.iter().all(|line| !line.starts_with('!')), "{forth:?}");
            assert!(back.iter().any(|line| line.starts_with('!')), "{back:?}");
        }
        let two = json!({ "type": "array", "items": of("string"), "minItems": 2 });
        assert!(said(&make(&of("string")), &make(&two))[0].ends_with("has another minItems: none → 2"));
        let date = json!({ "type": "string", "format": "date" });
        assert!(said(&make(&of("integer")), &make(&date))[0].ends_with("takes string (date), not integer"));
    }
    let forth = ["! GET /x: its body takes string, not integer"];
    expect(taking, &of("integer"), &of("string"), &forth, &["! GET /x: its body takes integer, not string"]);
}

#[test]
fn a_looser_end_of_a_range_breaks_nobody() {
    let number = |bounds: Value| {
        let mut schema = json!({ "type": "number" });
        schema.as_object_mut().unwrap().extend(bounds.as_object().unwrap().clone());
        schema
    };
    let (above, from) = (number(json!({ "exclusiveMinimum": 0 })), number(json!({ "minimum": 0 })));
    let forth = ["GET /x: its body has another minimum: more than 0 → 0"];
    expect(taking, &above, &from, &forth, &["! GET /x: its body has another minimum: 0 → more than 0"]);
    let (below, to) =
        (number(json!({ "exclusiveMaximum": 9 })), number(json!({ "maximum": 10, "exclusiveMaximum": 12 })));
    let forth = ["GET /x: its body has another maximum: less than 9 → 10"];
    expect(taking, &below, &to, &forth, &["! GET /x: its body has another maximum: 10 → less than 9"]);
    let old = number(json!({ "minimum": 0, "exclusiveMinimum": true }));
    expect(taking, &old, &above, &[], &[]);
    let whole = |bounds: Value| json!({ "allOf": [{ "type": "integer" }, number(bounds)] });
    expect(taking, &whole(json!({ "exclusiveMinimum": 0 })), &whole(json!({ "minimum": 1 })), &[], &[]);
}

#[test]
fn a_map_is_compared_with_the_fields_of_a_model() {
    let map = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let model = |kind: &str| json!({ "type": "object", "properties": { "a": { "type": kind } } });
    assert!(said(&answering(&map), &answering(&model("string"))).is_empty());
    let other = said(&answering(&map), &answering(&model("integer")));
    assert_eq!(other, ["! GET /x: in its answer 200, a is integer, not string"]);
    let other = said(&taking(&map), &taking(&model("integer")));
    assert_eq!(other[0], "! GET /x: body field a takes integer, not string");
    assert!(said(&taking(&map), &taking(&model("string"))).iter().all(|line| !line.starts_with('!')));
}

#[test]
fn a_hint_of_a_format_refuses_nothing_and_default_is_an_answer_only_where_there_is_no_other() {
    let text = json!({ "type": "string" });
    for hint in ["password", "binary", "path"] {
        expect(taking, &text, &json!({ "type": "string", "format": hint }), &[], &[]);
    }
    let answers = |fault: &str| {
        let content = |kind: &str| json!({ "content": { "application/json": { "schema": { "type": kind } } } });
        json!({ "responses": { "200": content("string"), "default": content(fault) } })
    };
    expect(get, &answers("string"), &answers("integer"), &[], &[]);
    let only = |kind: &str| json!({ "responses": { "default": { "content": { "application/json": { "schema": { "type": kind } } } } } });
    let forth = ["! GET /x: its answer default is integer, not string"];
    expect(get, &only("string"), &only("integer"), &forth, &["! GET /x: its answer default is string, not integer"]);
}

#[test]
fn what_breaks_nobody_takes_no_room_from_what_breaks_callers() {
    let many: serde_json::Map<String, Value> = (0..1000)
        .map(|n| {
            (format!("/{n:04}"), json!({ "get": { "parameters": [{ "name": "a", "in": "query", "schema": {} }] } }))
        })
        .collect();
    let mut old = many.clone();
    old.insert("/z".to_owned(), json!({ "get": {} }));
    let new: serde_json::Map<String, Value> = many.keys().map(|path| (path.clone(), json!({ "get": {} }))).collect();
    let differences = compare(&with(&json!(old), &json!({})), &with(&json!(new), &json!({})));
    assert_eq!((differences.list.len(), differences.left_out), (TOLD + 1, 1000 - TOLD));
    assert!(!differences.is_cut && differences.list[0].breaking);
    assert_eq!(differences.list[0].to_string(), "GET /z is gone");
}

#[test]
fn a_map_of_something_may_not_become_one_of_anything() {
    let map = json!({ "type": "object", "additionalProperties": { "type": "integer" } });
    for any in [json!({ "type": "object" }), json!({ "type": "object", "additionalProperties": true })] {
        assert_eq!(
            said(&answering(&map), &answering(&any)),
            ["! GET /x: in its answer 200, * is anything, not integer"]
        );
    }
}

#[test]
fn a_field_of_a_form_is_no_file() {
    let form = |schema: &Value| {
        let content = json!({ "schema": { "type": "object", "properties": { "a": schema } } });
        get(&json!({ "requestBody": { "content": { "multipart/form-data": content } } }))
    };
    let (text, file) = (json!({ "type": "string" }), json!({ "type": "string", "format": "binary" }));
    for (old, new) in [(&text, &file), (&file, &text), (&json!({ "type": "integer" }), &file)] {
        assert!(said(&form(old), &form(new)).iter().any(|line| line.starts_with('!')), "{old} {new}");
    }
    assert!(said(&form(&file), &form(&file)).is_empty());
}

#[test]
fn a_union_is_compared_member_by_member_or_said_not_to_be() {
    let union = |count: usize, kind: &str| {
        let member = |n: usize| {
            let own = if n == 0 { kind } else { "string" };
            json!({ "type": "object", "required": [format!("f{n}")], "properties": { format!("f{n}"): { "type": own } },
                "additionalProperties": false })
        };
        taking(&json!({ "oneOf": (0..count).map(member).collect::<Vec<_>>() }))
    };
    assert!(compare(&union(40, "string"), &union(40, "integer")).list.iter().any(|it| it.breaking));
    assert!(compare(&union(100, "string"), &union(100, "integer")).is_cut);
}
