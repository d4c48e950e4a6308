use std::fmt::Write as _;

use serde_json::json;

use super::*;

mod dense;
mod exact;
mod joined;
mod leeway;

const BEFORE: &str = include_str!("../../tests/contracts/before/openapi.json");
const AFTER: &str = include_str!("../../tests/contracts/after/openapi.json");

fn read(text: &str) -> Contract {
    Contract::read(text.as_bytes()).unwrap()
}

/// The differences in words, those that break callers with an exclamation mark.
fn said(old: &Contract, new: &Contract) -> Vec<String> {
    let differences = compare(old, new);
    assert!(!differences.is_cut);
    differences.list.iter().map(|it| format!("{}{it}", if it.breaking { "! " } else { "" })).collect()
}

/// A document with one operation, `GET /x`.
fn get(operation: &Value) -> Contract {
    with(&json!({ "/x": { "get": operation } }), &json!({}))
}

fn with(paths: &Value, schemas: &Value) -> Contract {
    read(&json!({ "openapi": "3.1.0", "paths": paths, "components": { "schemas": schemas } }).to_string())
}

fn taking(schema: &Value) -> Contract {
    get(&json!({ "requestBody": { "content": { "application/json": { "schema": schema } } } }))
}

fn answering(schema: &Value) -> Contract {
    get(&json!({ "responses": { "200": { "content": { "application/json": { "schema": schema } } } } }))
}

/// What is said of a change, and of the change back.
#[track_caller]
fn expect(make: fn(&Value) -> Contract, old: &Value, new: &Value, forth: &[&str], back: &[&str]) {
    let (old, new) = (make(old), make(new));
    assert_eq!((said(&old, &new), said(&new, &old)), (owned(forth), owned(back)));
    assert!(said(&old, &old).is_empty() && said(&new, &new).is_empty());
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn what_fastapi_says_of_a_shop_is_compared_both_ways() {
    let (before, after) = (read(BEFORE), read(AFTER));
    let tell = |list: Vec<String>| {
        list.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        })
    };
    insta::assert_snapshot!("shop_forth", tell(said(&before, &after)));
    insta::assert_snapshot!("shop_back", tell(said(&after, &before)));
    assert!(said(&before, &before).is_empty() && before.says_the_same(&before) && !before.says_the_same(&after));
}

#[test]
fn parameters() {
    let parameter = |name: &str, location: &str, required: bool, schema: Value| json!({ "parameters": [{ "name": name, "in": location, "required": required, "schema": schema }] });
    let text = || json!({ "type": "string" });
    let none = json!({});
    let (optional, required) = (parameter("a", "query", false, text()), parameter("a", "query", true, text()));
    expect(get, &none, &optional, &["GET /x: query parameter a is new"], &["GET /x: query parameter a is gone"]);
    let forth = ["! GET /x: query parameter a is new and must be given"];
    expect(get, &none, &required, &forth, &["GET /x: query parameter a is gone"]);
    let forth = ["! GET /x: query parameter a must be given"];
    expect(get, &optional, &required, &forth, &["GET /x: query parameter a need not be given"]);
    let number = parameter("a", "query", false, json!({ "type": "integer" }));
    let forth = ["! GET /x: query parameter a takes integer, not string"];
    expect(get, &optional, &number, &forth, &["GET /x: query parameter a takes string, not integer"]);
    let forth = ["! GET /x: query parameter a is a header parameter now"];
    let header = parameter("a", "header", false, text());
    expect(get, &optional, &header, &forth, &["! GET /x: header parameter a is a query parameter now"]);
    expect(get, &header, &parameter("A", "header", false, text()), &[], &[]);
    expect(get, &none, &parameter("Authorization", "header", true, text()), &[], &[]);
}

#[test]
fn a_parameter_of_a_path_goes_by_its_place_and_not_by_its_name() {
    let path = |path: &str, name: &str, kind: &str| {
        let parameter = json!({ "name": name, "in": "path", "required": true, "schema": { "type": kind } });
        with(&json!({ path: { "parameters": [parameter], "delete": {} } }), &json!({}))
    };
    let (old, new) = (path("/x/{id}/y", "id", "integer"), path("/x/{key}/y", "key", "integer"));
    assert!(said(&old, &new).is_empty());
    let said_of_it = said(&old, &path("/x/{key}/y", "key", "boolean"));
    assert_eq!(said_of_it, ["! DELETE /x/{id}/y: path parameter id takes boolean, not integer"]);
    assert_eq!(said(&old, &path("/x/{id}", "id", "integer")), ["! DELETE /x/{id}/y is gone", "DELETE /x/{id} is new",]);
}

#[test]
fn bodies_and_their_media_types() {
    let body = |required: bool, media: &[&str]| {
        let content: serde_json::Map<String, Value> =
            media.iter().map(|name| ((*name).to_owned(), json!({}))).collect();
        json!({ "requestBody": { "required": required, "content": content } })
    };
    let (json, both) =
        (body(false, &["application/json"]), body(false, &["Application/JSON; charset=utf-8", "text/csv"]));
    expect(get, &json, &both, &["GET /x: its body can be text/csv"], &["! GET /x: its body can no longer be text/csv"]);
    let required = body(true, &["application/json"]);
    expect(get, &json, &required, &["! GET /x: its body must be given"], &["GET /x: its body need not be given"]);
    let none = json!({});
    expect(get, &none, &required, &["! GET /x: its body is new and must be given"], &["GET /x: its body is gone"]);
    expect(get, &none, &json, &["GET /x: its body is new"], &["GET /x: its body is gone"]);
}

#[test]
fn answers_and_their_media_types() {
    let answer =
        |status: &str, media: &str| json!({ "responses": { status: { "content": { media: {} } }, "404": {} } });
    let (ok, made) = (answer("200", "application/json"), answer("201", "application/json"));
    let forth = ["! GET /x: its answer 200 is gone", "GET /x: its answer 201 is new"];
    expect(get, &ok, &made, &forth, &["! GET /x: its answer 201 is gone", "GET /x: its answer 200 is new"]);
    expect(get, &ok, &answer("2XX", "application/json"), &["GET /x: its answer 2XX is new"], &[]);
    let forth = [
        "! GET /x: its answer 200 no longer comes as application/json",
        "GET /x: its answer 200 also comes as text/csv",
    ];
    let back = [
        "! GET /x: its answer 200 no longer comes as text/csv",
        "GET /x: its answer 200 also comes as application/json",
    ];
    expect(get, &ok, &answer("200", "text/csv"), &forth, &back);
    let errors = json!({ "responses": { "200": { "content": { "application/json": {} } }, "409": {} } });
    expect(get, &ok, &errors, &[], &[]);
}

#[test]
fn fields_of_what_is_sent() {
    let object = |required: &[&str], properties: Value| json!({ "type": "object", "required": required, "properties": properties });
    let text = json!({ "type": "string" });
    let one = object(&["a"], json!({ "a": text }));
    let two = object(&["a", "b"], json!({ "a": text, "b": text }));
    let forth = ["! GET /x: body field b is new and must be given"];
    expect(taking, &one, &two, &forth, &["GET /x: body field b is gone"]);
    let loose = object(&[], json!({ "a": text }));
    expect(
        taking,
        &one,
        &loose,
        &["GET /x: body field a need not be given"],
        &["! GET /x: body field a must be given"],
    );
    let inner = |kind: &str| {
        object(&[], json!({ "list": { "type": "array", "items": object(&[], json!({ "deep": { "type": kind } })) } }))
    };
    let forth = ["! GET /x: body field list[].deep takes integer, not number"];
    expect(
        taking,
        &inner("number"),
        &inner("integer"),
        &forth,
        &["GET /x: body field list[].deep takes number, not integer"],
    );
    let mut closed = one.clone();
    closed["additionalProperties"] = json!(false);
    let forth = ["! GET /x: its body refuses fields that it does not name"];
    expect(taking, &one, &closed, &forth, &["GET /x: its body takes fields that it does not name"]);
    let map = |kind: &str| json!({ "type": "object", "additionalProperties": { "type": kind } });
    let forth = ["! GET /x: body field * takes boolean, not string"];
    expect(taking, &map("string"), &map("boolean"), &forth, &["! GET /x: body field * takes string, not boolean"]);
}

#[test]
fn fields_of_answers() {
    let object = |required: &[&str], kind: Value| json!({ "type": "object", "required": required, "properties": { "a": { "type": kind } } });
    let (sure, loose) = (object(&["a"], json!("string")), object(&[], json!("string")));
    let forth = ["! GET /x: in its answer 200, a may be missing"];
    expect(answering, &sure, &loose, &forth, &["GET /x: in its answer 200, a is always there"]);
    let gone = json!({ "type": "object" });
    expect(
        answering,
        &sure,
        &gone,
        &["! GET /x: in its answer 200, a is gone"],
        &["GET /x: in its answer 200, a is new"],
    );
    let forth = ["! GET /x: in its answer 200, a may be null"];
    let null = object(&["a"], json!(["string", "null"]));
    expect(answering, &sure, &null, &forth, &["GET /x: in its answer 200, a is never null"]);
    // A field more, or a longer text, is nothing that a caller could not have got before; one less may be missed.
    let closed = json!({ "type": "object", "additionalProperties": false });
    let more = json!({ "type": "object", "additionalProperties": false, "properties": { "b": { "minLength": 3 } } });
    let (forth, back) = (["GET /x: in its answer 200, b is new"], ["GET /x: in its answer 200, b is gone"]);
    expect(answering, &closed, &more, &forth, &back);
}

#[test]
fn values_formats_and_bounds() {
    let values = |list: &[&str]| json!({ "type": "string", "enum": list });
    let forth = ["! GET /x: its body no longer takes c", "GET /x: its body also takes d"];
    let back = ["! GET /x: its body no longer takes d", "GET /x: its body also takes c"];
    expect(taking, &values(&["a", "c"]), &values(&["a", "d"]), &forth, &back);
    let free = json!({ "type": "string" });
    let forth = ["! GET /x: its body takes string of a few values, not string"];
    expect(taking, &free, &values(&["a"]), &forth, &["GET /x: its body takes string, not string of a few values"]);
    expect(taking, &json!({ "const": "a" }), &values(&["a"]), &[], &[]);
    expect(
        taking,
        &json!({ "enum": ["a", null] }),
        &json!({ "anyOf": [values(&["a"]), { "type": "null" }] }),
        &[],
        &[],
    );
    let date = json!({ "type": "string", "format": "date" });
    let forth = ["! GET /x: its body takes string (date), not string"];
    expect(taking, &free, &date, &forth, &["GET /x: its body takes string, not string (date)"]);
    let most = |most: u32| json!({ "type": "integer", "maximum": most, "minimum": 0 });
    let forth = ["! GET /x: its body has another maximum: 9 → 5"];
    expect(taking, &most(9), &most(5), &forth, &["GET /x: its body has another maximum: 5 → 9"]);
    expect(answering, &most(9), &most(5), &[], &[]);
    let old = json!({ "type": "number", "minimum": 0, "exclusiveMinimum": false });
    let new = json!({ "type": "number", "minimum": 0, "exclusiveMinimum": true });
    let forth = ["! GET /x: its body has another minimum: 0 → more than 0"];
    expect(taking, &old, &new, &forth, &["GET /x: its body has another minimum: more than 0 → 0"]);
    expect(taking, &free, &json!({ "type": "string", "minLength": 0 }), &[], &[]);
}

#[test]
fn the_same_in_the_words_of_3_0_and_3_1_is_the_same() {
    let old = json!({ "type": "string", "nullable": true });
    for new in [json!({ "type": ["null", "string"] }), json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] })] {
        expect(taking, &old, &new, &[], &[]);
        expect(answering, &old, &new, &[], &[]);
    }
    let split = json!({ "allOf": [
        { "type": "object", "required": ["a"], "properties": { "a": { "type": "string" } } },
        { "properties": { "a": { "maxLength": 5 }, "b": { "type": "integer" } } },
    ] });
    let whole = json!({ "type": "object", "required": ["a"], "properties": {
        "b": { "type": "integer" }, "a": { "type": "string", "maxLength": 5 } } });
    expect(taking, &split, &whole, &[], &[]);
}

#[test]
fn one_of_several_objects_is_compared_with_the_one_that_is_most_like_it() {
    let object = |kind: &str, field: &str, of: &str| {
        json!({ "type": "object", "required": ["kind", field], "properties": {
        "kind": { "const": kind }, field: { "type": of } } })
    };
    let pets = |lives: &str| json!({ "oneOf": [object("cat", "lives", lives), object("dog", "tricks", "array")] });
    let forth = ["! GET /x: in its answer 200, lives is string, not integer"];
    expect(
        answering,
        &pets("integer"),
        &pets("string"),
        &forth,
        &["! GET /x: in its answer 200, lives is integer, not string"],
    );
}

#[test]
fn what_callers_have_to_show() {
    let document = |security: Value, name: &str| {
        let schemes = json!({ name: { "type": "http", "scheme": "bearer" }, "other": { "type": "apiKey", "in": "header", "name": "X" } });
        let paths = json!({ "/x": { "get": { "security": security } } });
        read(&json!({ "openapi": "3.0.3", "paths": paths, "components": { "securitySchemes": schemes } }).to_string())
    };
    let (none, bearer) = (document(json!([]), "a"), document(json!([{ "a": [] }]), "a"));
    assert_eq!(said(&none, &bearer), ["! GET /x asks callers for other credentials"]);
    assert_eq!(said(&bearer, &none), ["GET /x asks callers for fewer credentials"]);
    assert!(said(&bearer, &document(json!([{ "b": [] }]), "b")).is_empty(), "another name is the same scheme");
    let scoped = document(json!([{ "a": ["write"] }]), "a");
    assert_eq!(said(&bearer, &scoped), ["! GET /x asks callers for other credentials"]);
    let either = document(json!([{ "a": [] }, { "other": [] }]), "a");
    assert_eq!(said(&either, &bearer), ["! GET /x asks callers for other credentials"]);
    assert_eq!(said(&bearer, &either), ["! GET /x asks callers for other credentials"], "FastAPI means both of them");
    let perhaps = document(json!([{ "a": [] }, {}]), "a");
    assert_eq!(said(&bearer, &perhaps), ["GET /x asks callers for fewer credentials"]);
}

#[test]
fn schemas_that_hold_themselves_are_compared() {
    let document = |kind: &str| {
        let tree = json!({ "type": "object", "properties": {
            "value": { "type": kind }, "left": { "$ref": "#/components/schemas/Tree" },
            "right": { "anyOf": [{ "$ref": "#/components/schemas/Tree" }, { "type": "null" }] } } });
        let paths = json!({ "/x": { "post": { "requestBody": { "content": { "application/json": {
            "schema": { "$ref": "#/components/schemas/Tree" } } } } } } });
        with(&paths, &json!({ "Tree": tree, "Loop": { "$ref": "#/components/schemas/Loop" } }))
    };
    let list = said(&document("string"), &document("integer"));
    assert!(list.contains(&"! POST /x: body field value takes integer, not string".to_owned()), "{list:?}");
    assert!(list.len() <= 4, "{list:?}");
}

#[test]
fn hostile_documents_end_soon_and_say_nothing_of_what_they_hide() {
    assert_eq!(Contract::read(&vec![b' '; MOST + 1]), Err(NoContract::TooLong));
    let deep = format!("{{\"openapi\":\"3.1.0\",\"paths\":{{}},\"x\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(Contract::read(deep.as_bytes()), Err(NoContract::NoJson));
    for none in
        ["null", "[]", "{\"openapi\":3,\"paths\":{}}", "{\"swagger\":\"2.0\",\"paths\":{}}", "{\"openapi\":\"3.0.0\"}"]
    {
        assert_eq!(Contract::read(none.as_bytes()), Err(NoContract::NoOpenApi), "{none}");
    }
    // Doubles with each of its steps, whether they are followed by properties or by alternatives.
    for way in ["allOf", "anyOf", "oneOf", "properties"] {
        let step = |to: usize| {
            let next = json!({ "$ref": format!("#/components/schemas/S{to}") });
            if way == "properties" { json!({ way: { "a": next, "b": next } }) } else { json!({ way: [next, next] }) }
        };
        let mut schemas: serde_json::Map<String, Value> = (0..60).map(|n| (format!("S{n}"), step(n + 1))).collect();
        let document = |last: &str, schemas: &mut serde_json::Map<String, Value>| {
            schemas.insert("S60".to_owned(), json!({ "type": last }));
            let schema = json!({ "schema": { "$ref": "#/components/schemas/S0" } });
            with(&json!({ "/x": { "put": { "requestBody": { "content": { "a/b": schema } } } } }), &json!(schemas))
        };
        let (old, new) = (document("string", &mut schemas), document("integer", &mut schemas));
        let _ = compare(&old, &new);
    }
    // Values that are large themselves, which it takes long to find alike; many that are nearly so; and pointers as long.
    let all = |of: &str| json!({ "allOf": vec![json!({ "$ref": format!("#/components/schemas/{of}") }); 500] });
    let large = |value: Value| {
        let paths = json!({ "/x": { "post": { "requestBody": { "content": { "a/b": { "schema": all("B") } } } } } });
        with(&paths, &json!({ "X": { "enum": value }, "A": all("X"), "B": all("A") }))
    };
    let (one, other) = (large(json!([vec![0; 400_000]])), large(json!([vec![1; 400_000]])));
    assert!(compare(&one, &other).list.is_empty());
    let nearly = |last: usize| large((0..3000).map(|n| [vec![0; 60], vec![n, last]].concat()).collect());
    assert!(compare(&nearly(1), &nearly(2)).is_cut);
    let long = format!("#/components/schemas/{}", "~1".repeat(100_000));
    let pointing = json!({ "allOf": [all("X"), { "$ref": long }] });
    let schemas = json!({ "X": { "allOf": vec![json!({ "$ref": "#/components/schemas/L" }); 500] }, "L": { "$ref": long },
        long.trim_start_matches("#/components/schemas/").replace("~1", "/"): { "type": "string" } });
    let paths = json!({ "/x": { "post": { "requestBody": { "content": { "a/b": { "schema": pointing } } } } } });
    let mut others = schemas.clone();
    others["Y"] = json!({});
    assert!(compare(&with(&paths, &schemas), &with(&paths, &others)).is_cut);
    assert!(!compare(&with(&paths, &schemas), &with(&paths, &schemas)).is_cut, "the same is the same");
    // As many required fields as there is room for.
    let required = (0..60_000).map(|n| format!("f{n}")).collect::<Vec<_>>();
    let differences =
        compare(&taking(&json!({ "type": "object" })), &taking(&json!({ "type": "object", "required": required })));
    assert!(differences.is_cut && differences.list.len() == TOLD);
    // Many values, compared with as many others; and references that lead nowhere, or round in a circle.
    let values = |from: usize| json!({ "enum": (from..from + 30_000).collect::<Vec<_>>() });
    assert!(compare(&taking(&values(0)), &taking(&values(40_000))).is_cut);
    let odd = json!({ "$ref": "#/paths/~1x/get/requestBody/content/application~1json/schema" });
    for reference in
        [odd, json!({ "$ref": 7 }), json!({ "$ref": "https://elsewhere/x.json" }), json!({ "type": "odd" })]
    {
        expect(taking, &reference, &json!({ "type": "string" }), &[], &[]);
    }
    let long = with(&json!({ format!("/{}", "x".repeat(5000)): { "get": {} } }), &json!({}));
    assert!(said(&long, &with(&json!({}), &json!({}))).concat().len() < 500);
    let many = (0..1000).map(|n| (format!("/{n}"), json!({ "get": {} }))).collect::<serde_json::Map<_, _>>();
    let differences = compare(&with(&json!(many), &json!({})), &with(&json!({}), &json!({})));
    assert!(differences.is_cut && differences.list.len() == TOLD);
}
