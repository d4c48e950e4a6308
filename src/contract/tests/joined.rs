//! What several parts say together, what lists say place by place, and what is only told apart.

use super::*;

#[test]
fn of_bounds_that_all_have_to_hold_the_tightest_counts() {
    let all = |parts: Value| json!({ "type": "object", "properties": { "a": { "type": "string", "allOf": parts } } });
    let (one, two) =
        (all(json!([{ "maxLength": 10 }])), all(json!([{ "maxLength": 10 }, { "maxLength": 5, "minLength": 1 }])));
    let forth = [
        "! GET /x: body field a has another minLength: none → 1",
        "! GET /x: body field a has another maxLength: 10 → 5",
    ];
    let back =
        ["GET /x: body field a has another minLength: 1 → none", "GET /x: body field a has another maxLength: 5 → 10"];
    expect(taking, &one, &two, &forth, &back);
    // In whichever order, and as one part says it.
    expect(taking, &two, &all(json!([{ "maxLength": 5 }, { "minLength": 1, "maxLength": 10 }])), &[], &[]);
    let number = |parts: Value| json!({ "type": "integer", "allOf": parts });
    let (one, two) = (
        number(json!([{ "minimum": 1 }, { "exclusiveMaximum": 9 }])),
        number(json!([{ "minimum": 1 }, { "exclusiveMaximum": 9 }, { "exclusiveMinimum": 3, "maximum": 100 }])),
    );
    let forth = ["! GET /x: its body has another minimum: 1 → 4"];
    expect(taking, &one, &two, &forth, &["GET /x: its body has another minimum: 4 → 1"]);
    // The way of OpenAPI 3.0: the mark belongs to its own figure.
    let (one, two) = (
        number(json!([{ "minimum": 3, "exclusiveMinimum": true }])),
        number(json!([{ "minimum": 3, "exclusiveMinimum": true }, { "minimum": 7 }])),
    );
    let forth = ["! GET /x: its body has another minimum: 4 → 7"];
    expect(taking, &one, &two, &forth, &["GET /x: its body has another minimum: 7 → 4"]);
    // Two patterns have no order: the second is told apart.
    let text = |parts: Value| json!({ "type": "string", "allOf": parts });
    let (one, two) =
        (text(json!([{ "pattern": "a" }, { "pattern": "b" }])), text(json!([{ "pattern": "a" }, { "pattern": "c" }])));
    let note = ["GET /x: its body has another pattern, which is not compared"];
    expect(taking, &one, &two, &note, &note);
}

#[test]
fn a_list_whose_places_are_told_is_compared_place_by_place() {
    // As pydantic has a tuple.
    let tuple = |kinds: &[&str]| {
        let places: Vec<Value> = kinds.iter().map(|kind| json!({ "type": kind })).collect();
        json!({ "type": "array", "prefixItems": places, "minItems": kinds.len(), "maxItems": kinds.len() })
    };
    let (one, two) = (tuple(&["integer", "string"]), tuple(&["integer", "boolean"]));
    let forth = ["! GET /x: body field [1] takes boolean, not string"];
    expect(taking, &one, &two, &forth, &["! GET /x: body field [1] takes string, not boolean"]);
    let forth = ["! GET /x: in its answer 200, [1] is boolean, not string"];
    expect(answering, &one, &two, &forth, &["! GET /x: in its answer 200, [1] is string, not boolean"]);
    // One more is told once, by how many there are.
    let more = tuple(&["integer", "string", "string"]);
    let said_of_more = said(&taking(&one), &taking(&more));
    assert!(said_of_more.contains(&"! GET /x: its body has another minItems: 2 → 3".to_owned()), "{said_of_more:?}");
    assert!(!said_of_more.iter().any(|said| said.contains("[2]")), "{said_of_more:?}");
    // Into a plain list, and as it was before 2020-12.
    let list = json!({ "type": "array", "items": { "type": "string" } });
    let said_of_list = said(&taking(&one), &taking(&list));
    assert!(
        said_of_list.contains(&"! GET /x: body field [0] takes string, not integer".to_owned()),
        "{said_of_list:?}"
    );
    let old = json!({ "type": "array", "items": [{ "type": "integer" }, { "type": "string" }], "minItems": 2, "maxItems": 2 });
    expect(taking, &one, &old, &[], &[]);
    let closed = json!({ "type": "array", "prefixItems": [{ "type": "integer" }], "items": false });
    let open = json!({ "type": "array", "prefixItems": [{ "type": "integer" }], "items": { "type": "string" } });
    assert!(said(&taking(&closed), &taking(&open)).iter().all(|said| !said.starts_with('!')));
    assert!(said(&taking(&open), &taking(&closed)).iter().any(|said| said.starts_with('!')));
}

#[test]
fn what_is_not_compared_and_differs_is_said_and_breaks_nobody_by_itself() {
    for (name, one, two) in [
        ("not", json!({ "type": "string" }), json!({ "type": "integer" })),
        ("propertyNames", json!({ "pattern": "^a" }), json!({ "pattern": "^b" })),
        ("patternProperties", json!({ "^a": {} }), json!({ "^b": {} })),
        ("dependentRequired", json!({ "a": ["b"] }), json!({ "a": ["c"] })),
        ("if", json!({ "required": ["a"] }), json!({ "required": ["b"] })),
    ] {
        let with = |value: &Value| json!({ "type": "object", name: value });
        let note = format!("GET /x: its body has another {name}, which is not compared");
        expect(taking, &with(&one), &with(&two), &[&note], &[&note]);
        expect(taking, &with(&one), &with(&one), &[], &[]);
        expect(taking, &json!({ "type": "object" }), &with(&one), &[&note], &[]);
    }
    // By whatever references, in circles too.
    let with = |kind: &str| {
        let paths = json!({ "/x": { "post": { "requestBody": { "content": { "application/json": {
            "schema": { "not": { "$ref": "#/components/schemas/A" } } } } } } } });
        let node = json!({ "properties": { "next": { "$ref": "#/components/schemas/A" }, "a": { "type": kind } } });
        with(&paths, &json!({ "A": node, "B": { "type": kind } }))
    };
    assert_eq!(said(&with("string"), &with("integer")).len(), 1);
    assert_eq!(said(&with("string"), &with("string")).len(), 0);
    // Of several, one that fits for certain is taken.
    let any = |value: Value| json!({ "anyOf": [{ "type": "string", "not": value }, { "type": "string" }] });
    expect(taking, &any(json!({ "const": "a" })), &any(json!({ "const": "b" })), &[], &[]);
}
