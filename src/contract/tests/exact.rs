//! Changes of which it is known what they do to callers, both ways: of what is sent, and of what comes back.

use serde_json::{Value, json};

use super::{Contract, answering, compare, expect, get, said, taking, with};
use crate::contract::difference::What;

/// What is known of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Breaks,
    Perhaps,
    /// It is told, and breaks nobody.
    Fine,
    Same,
}

use Verdict::{Breaks, Fine, Perhaps, Same};

fn verdict(old: &Contract, new: &Contract) -> Verdict {
    let differences = compare(old, new);
    assert!(!differences.is_cut);
    let has = |is: fn(&crate::contract::Difference) -> bool| differences.list.iter().any(is);
    match () {
        () if has(|it| it.breaking) => Breaks,
        () if has(|it| it.perhaps) => Perhaps,
        () if has(|_| true) => Fine,
        () => Same,
    }
}

/// The same, with something besides that no operation has: so that the document is compared with itself, and found so.
fn with_more(contract: &Contract) -> Contract {
    let mut more = contract.0.clone();
    more["components"]["schemas"]["Besides"] = json!({});
    super::read(&more.to_string())
}

/// What is known of a change and of the change back, where such a thing is sent, and where it comes back.
#[track_caller]
fn sent_and_got(old: &Value, new: &Value, sent: [Verdict; 2], got: [Verdict; 2]) {
    let both = |make: fn(&Value) -> Contract| {
        let (old, new) = (make(old), make(new));
        assert_eq!((verdict(&old, &with_more(&old)), verdict(&new, &with_more(&new))), (Same, Same));
        [verdict(&old, &new), verdict(&new, &old)]
    };
    let telling = |make: fn(&Value) -> Contract| said(&make(old), &make(new));
    assert_eq!(both(taking), sent, "sent: {old} → {new}: {:?}", telling(taking));
    assert_eq!(both(answering), got, "got: {old} → {new}: {:?}", telling(answering));
}

fn multipart(schema: &Value) -> Contract {
    let content = json!({ "schema": { "type": "object", "properties": { "a": schema, "file": { "type": "string",
        "contentMediaType": "application/octet-stream" } } } });
    get(&json!({ "requestBody": { "content": { "multipart/form-data": content } } }))
}

fn query(schema: &Value) -> Contract {
    get(&json!({ "parameters": [{ "name": "a", "in": "query", "schema": schema }] }))
}

#[track_caller]
fn forth_and_back(make: fn(&Value) -> Contract, old: &Value, new: &Value, expected: [Verdict; 2]) {
    let (one, two) = (make(old), make(new));
    let telling = (said(&one, &two), said(&two, &one));
    assert_eq!([verdict(&one, &two), verdict(&two, &one)], expected, "{old} → {new}: {telling:?}");
    assert_eq!((verdict(&one, &with_more(&one)), verdict(&two, &with_more(&two))), (Same, Same));
}

#[test]
fn a_file_is_one_by_whichever_key_the_document_says_so() {
    let old = json!({ "type": "string", "format": "binary" });
    let new = json!({ "type": "string", "contentMediaType": "application/octet-stream" });
    let (text, number) = (json!({ "type": "string" }), json!({ "type": "integer" }));
    let list = |of: &Value| json!({ "type": "array", "items": of });
    sent_and_got(&old, &new, [Same, Same], [Same, Same]);
    forth_and_back(multipart, &old, &new, [Same, Same]);
    forth_and_back(multipart, &list(&old), &list(&new), [Same, Same]);
    for file in [&old, &new] {
        forth_and_back(multipart, &text, file, [Breaks, Breaks]);
        forth_and_back(multipart, &number, file, [Breaks, Breaks]);
        forth_and_back(multipart, &list(&text), &list(file), [Breaks, Breaks]);
    }
    // One file where several are taken.
    forth_and_back(multipart, &new, &list(&new), [Fine, Breaks]);
    // What else is said of the content of a text is only told apart.
    let json = json!({ "type": "string", "contentMediaType": "application/json" });
    let base = json!({ "type": "string", "contentEncoding": "base64", "contentMediaType": "application/octet-stream" });
    forth_and_back(multipart, &text, &json, [Perhaps, Same]);
    forth_and_back(multipart, &base, &new, [Breaks, Breaks]);
    let picture = json!({ "type": "string", "contentMediaType": "image/png" });
    forth_and_back(multipart, &new, &picture, [Perhaps, Same]);
}

#[test]
fn fields_that_need_not_be_there_come_and_go() {
    let object = |fields: Value| json!({ "type": "object", "required": ["a"], "properties": fields });
    let (one, two) = (object(json!({ "a": {} })), object(json!({ "a": {}, "b": { "type": "string" } })));
    sent_and_got(&one, &two, [Fine, Fine], [Fine, Perhaps]);
    expect(taking, &one, &two, &["GET /x: body field b is new"], &["GET /x: body field b is gone"]);
    let gone = ["GET /x: in its answer 200, b is gone"];
    expect(answering, &one, &two, &["GET /x: in its answer 200, b is new"], &gone);
    // A map of anything takes it as well, and of a model that takes more than it names nobody knows.
    let map = json!({ "type": "object", "additionalProperties": true });
    let typed = json!({ "type": "object", "properties": { "b": { "type": "string" } } });
    sent_and_got(&map, &typed, [Breaks, Fine], [Fine, Breaks]);
    let loose = |mut schema: Value| {
        schema["additionalProperties"] = json!(true);
        schema
    };
    sent_and_got(&loose(one.clone()), &loose(two.clone()), [Perhaps, Fine], [Fine, Perhaps]);
    sent_and_got(&json!({ "type": "object" }), &map, [Same, Same], [Same, Same]);
}

#[test]
fn each_value_is_held_against_what_the_other_says_of_such_values() {
    let values = |list: Value| json!({ "enum": list });
    for (list, bound, sent) in [
        (json!([1, 200]), json!({ "type": "integer", "maximum": 10 }), [Breaks, Breaks]),
        (json!([1, 9]), json!({ "type": "integer", "maximum": 10 }), [Fine, Breaks]),
        (json!([0, 1]), json!({ "type": "integer", "exclusiveMinimum": 0 }), [Breaks, Breaks]),
        (json!([4, 8]), json!({ "type": "integer", "multipleOf": 4 }), [Fine, Breaks]),
        (json!([4, 6]), json!({ "type": "integer", "multipleOf": 4 }), [Breaks, Breaks]),
        (json!(["abcdef"]), json!({ "type": "string", "maxLength": 3 }), [Breaks, Breaks]),
        (json!(["äöü"]), json!({ "type": "string", "maxLength": 3 }), [Fine, Breaks]),
        (json!(["a"]), json!({ "type": "string", "minLength": 2 }), [Breaks, Breaks]),
        (json!(["a", "b"]), json!({ "type": "string", "format": "uuid" }), [Breaks, Breaks]),
        (json!(["a", "b"]), json!({ "type": "string", "format": "date" }), [Breaks, Breaks]),
        (json!(["2024-02-30"]), json!({ "type": "string", "format": "date" }), [Perhaps, Breaks]),
        (json!(["2024-02-28"]), json!({ "type": "string", "format": "date" }), [Fine, Breaks]),
        (json!(["::1"]), json!({ "type": "string", "format": "ipv4" }), [Breaks, Breaks]),
        (json!(["a@b.example"]), json!({ "type": "string", "format": "email" }), [Perhaps, Breaks]),
        (json!(["a"]), json!({ "type": "string", "format": "email" }), [Breaks, Breaks]),
        (json!(["a"]), json!({ "type": "string", "format": "odd" }), [Perhaps, Breaks]),
        (json!(["a", "b1"]), json!({ "type": "string", "pattern": "^[a-z]+$" }), [Breaks, Breaks]),
        (json!(["a", "b"]), json!({ "type": "string", "pattern": "^[a-z]+$" }), [Fine, Breaks]),
        (json!(["a", "b"]), json!({ "type": "string", "pattern": "(?=a)" }), [Perhaps, Breaks]),
        (json!(["a"]), json!({ "type": "string", "pattern": "(\\w{1000}){1000}" }), [Perhaps, Breaks]),
        (json!([[1]]), json!({ "type": "array", "items": { "type": "string" } }), [Perhaps, Breaks]),
        (json!([[1]]), json!({ "type": "array", "minItems": 2 }), [Breaks, Breaks]),
    ] {
        forth_and_back(taking, &values(list), &bound, sent);
    }
    let uuid = json!({ "type": "string", "format": "uuid" });
    let ours = values(json!(["12345678-1234-5678-1234-567812345678"]));
    sent_and_got(&ours, &uuid, [Fine, Breaks], [Breaks, Fine]);
    sent_and_got(&values(json!(["a"])), &uuid, [Breaks, Breaks], [Breaks, Breaks]);
    // Where all whole numbers of a range are told, there is no other.
    let range = json!({ "type": "integer", "minimum": 1, "maximum": 3 });
    forth_and_back(taking, &range, &values(json!([1, 2, 3])), [Same, Same]);
    forth_and_back(taking, &range, &values(json!([1, 2])), [Breaks, Fine]);
    let bounded = json!({ "type": "integer", "enum": [1, 200], "maximum": 10 });
    forth_and_back(taking, &values(json!([1, 200])), &bounded, [Breaks, Fine]);
    expect(
        taking,
        &values(json!([1, 200])),
        &json!({ "type": "integer", "maximum": 10 }),
        &["! GET /x: its body no longer takes 200", "GET /x: its body takes integer, not integer of a few values"],
        &["! GET /x: its body takes integer of a few values, not integer", "GET /x: its body also takes 200"],
    );
}

#[test]
fn values_that_are_sent_as_text_are_held_against_the_text() {
    let values = |list: Value| json!({ "enum": list });
    let of = |kind: &str| json!({ "type": kind });
    forth_and_back(query, &values(json!(["1", "2"])), &of("integer"), [Fine, Breaks]);
    forth_and_back(query, &values(json!(["1", "b"])), &of("integer"), [Breaks, Breaks]);
    forth_and_back(query, &values(json!(["1", "2"])), &values(json!([1, 2])), [Same, Same]);
    forth_and_back(query, &values(json!(["yes", "no"])), &of("boolean"), [Fine, Breaks]);
    forth_and_back(query, &values(json!([1, 200])), &json!({ "type": "string", "maxLength": 2 }), [Breaks, Breaks]);
    forth_and_back(query, &values(json!([1, 20])), &json!({ "type": "string", "maxLength": 2 }), [Fine, Breaks]);
    forth_and_back(taking, &values(json!(["1"])), &of("integer"), [Breaks, Breaks]);
    let range = |most: u32| json!({ "type": "integer", "minimum": -9, "maximum": most });
    let short = json!({ "type": "string", "maxLength": 2 });
    forth_and_back(query, &range(99), &short, [Fine, Breaks]);
    forth_and_back(query, &range(100), &short, [Breaks, Breaks]);
    forth_and_back(query, &of("integer"), &short, [Breaks, Breaks]);
}

#[test]
fn a_pattern_for_another_and_a_multiple_for_another() {
    let pattern = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    sent_and_got(&pattern("^[a-z]+$"), &pattern("^[a-z0-9]+$"), [Perhaps, Perhaps], [Same, Same]);
    sent_and_got(&json!({ "type": "string" }), &pattern("^[a-z]+$"), [Breaks, Fine], [Same, Same]);
    let multiple = |kind: &str, of: Value| json!({ "type": kind, "multipleOf": of });
    let int = |of: u32| multiple("integer", json!(of));
    sent_and_got(&int(4), &int(2), [Fine, Breaks], [Same, Same]);
    sent_and_got(&int(4), &int(6), [Breaks, Breaks], [Same, Same]);
    sent_and_got(&json!({ "type": "integer" }), &int(1), [Same, Same], [Same, Same]);
    let number = |of: f64| multiple("number", json!(of));
    sent_and_got(&number(0.1), &number(0.01), [Fine, Breaks], [Same, Same]);
    sent_and_got(&number(4.0), &int(2), [Fine, Breaks], [Same, Same]);
    let both = json!({ "allOf": [int(2), int(4)] });
    sent_and_got(&both, &int(4), [Same, Same], [Same, Same]);
}

#[test]
fn a_model_with_a_tag_and_a_union_by_that_tag_are_the_same() {
    let object = |tag: Value, required: &[&str]| json!({ "type": "object", "required": required, "properties": { "k": tag, "n": { "type": "integer" } } });
    let tag = |values: Value| json!({ "type": "string", "enum": values });
    let union = |required: &[&str], values: &[&str]| {
        let all: Vec<Value> = values.iter().map(|value| object(json!({ "const": value }), required)).collect();
        json!({ "oneOf": all, "discriminator": { "propertyName": "k" } })
    };
    let whole = object(tag(json!(["a", "b"])), &["k", "n"]);
    let (both, more) = (union(&["k", "n"], &["a", "b"]), union(&["k", "n"], &["a", "b", "c"]));
    sent_and_got(&whole, &both, [Same, Same], [Same, Same]);
    sent_and_got(&whole, &more, [Fine, Breaks], [Breaks, Fine]);
    let one = union(&["k", "n"], &["a", "c"]);
    sent_and_got(&whole, &one, [Breaks, Breaks], [Breaks, Breaks]);
    // Without its name for what chooses, and by a mark.
    let plain = json!({ "anyOf": both["oneOf"] });
    sent_and_got(&whole, &plain, [Same, Same], [Same, Same]);
    let marked = |is: Value| object(is, &["k", "n"]);
    let marks = json!({ "anyOf": [marked(json!({ "const": true })), marked(json!({ "const": false }))] });
    sent_and_got(&marked(json!({ "type": "boolean" })), &marks, [Same, Same], [Same, Same]);
    // One of which a field is of another kind.
    let mut other = both.clone();
    other["oneOf"][1]["properties"]["n"] = json!({ "type": "string" });
    sent_and_got(&whole, &other, [Breaks, Breaks], [Breaks, Breaks]);
    let told = said(&taking(&whole), &taking(&other));
    assert_eq!(told[0], "! GET /x: body field n takes string, not integer");
    // Who need not send it has to, where it chooses.
    let default = object(json!({ "type": "string", "enum": ["a", "b"], "default": "a" }), &["n"]);
    let told = said(&taking(&default), &taking(&union(&["n"], &["a", "b"])));
    assert_eq!(told, ["! GET /x: body field k must be given"]);
    // Values of a union of them, each alone.
    let single = |value: &str| json!({ "const": value });
    sent_and_got(&tag(json!(["a", "b"])), &json!({ "anyOf": [single("a"), single("b")] }), [Same, Same], [Same, Same]);
    let told = said(&taking(&tag(json!(["a", "b", "c"]))), &taking(&json!({ "anyOf": [single("a"), single("b")] })));
    assert_eq!(told[0], "! GET /x: its body no longer takes c");
}

#[test]
fn a_list_in_a_parameter_is_written_in_one_way_or_another() {
    let parameter = |location: &str, kind: &str, more: Value| {
        let mut parameter = json!({ "name": "a", "in": location, "required": true, "schema": { "type": kind } });
        parameter.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with(&json!({ "/{a}": { "get": { "parameters": [parameter] } } }), &json!({}))
    };
    let style = |style: &str, explode: bool| json!({ "style": style, "explode": explode });
    for (location, kind, old, new, expected) in [
        ("query", "array", json!({}), json!({ "explode": false }), Breaks),
        ("query", "array", json!({}), style("form", true), Same),
        ("query", "array", json!({}), json!({ "style": "pipeDelimited" }), Breaks),
        ("query", "array", json!({}), style("pipeDelimited", true), Same),
        ("query", "object", json!({}), json!({ "style": "deepObject" }), Breaks),
        ("query", "string", json!({}), json!({ "explode": false }), Same),
        ("cookie", "array", json!({}), style("form", true), Same),
        ("cookie", "array", json!({}), json!({ "explode": false }), Breaks),
        ("header", "array", json!({}), style("simple", false), Same),
        ("header", "array", json!({}), json!({ "explode": true }), Same),
        ("header", "object", json!({}), json!({ "explode": true }), Breaks),
        ("path", "string", json!({}), json!({ "style": "label" }), Breaks),
        ("path", "array", json!({}), style("simple", false), Same),
        ("query", "string", json!({ "allowEmptyValue": true }), json!({}), Perhaps),
    ] {
        let (one, two) = (parameter(location, kind, old.clone()), parameter(location, kind, new.clone()));
        assert_eq!(verdict(&one, &two), expected, "{location} {kind}: {old} → {new}");
        if expected != Perhaps {
            assert_eq!(verdict(&two, &one), expected, "{location} {kind}: {new} → {old}");
        }
    }
    let any = |more: Value| {
        let mut parameter = json!({ "name": "a", "in": "query", "schema": {} });
        parameter.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        get(&json!({ "parameters": [parameter] }))
    };
    assert_eq!(verdict(&any(json!({})), &any(json!({ "explode": false }))), Perhaps);
    let text = query(&json!({ "type": "string" }));
    let document = get(&json!({ "parameters": [{ "name": "a", "in": "query",
        "content": { "application/json": { "schema": { "type": "string" } } } }] }));
    assert_eq!((verdict(&text, &document), verdict(&document, &text)), (Breaks, Breaks));
    let list = parameter("query", "array", json!({}));
    assert_eq!(
        said(&list, &parameter("query", "array", json!({ "style": "pipeDelimited" }))),
        ["! GET /{a}: query parameter a is written as pipeDelimited, not form (exploded)"]
    );
}

#[test]
fn what_only_comes_back_is_not_sent_and_what_is_only_sent_does_not_come_back() {
    let object = |required: &[&str], field: Value| json!({ "type": "object", "required": required, "properties": { "a": field, "b": {} } });
    let (text, number) = (json!({ "type": "string" }), json!({ "type": "integer" }));
    let marked = |mut schema: Value, mark: &str| {
        schema[mark] = json!(true);
        schema
    };
    let read = |schema: &Value| marked(schema.clone(), "readOnly");
    let write = |schema: &Value| marked(schema.clone(), "writeOnly");
    let (loose, sure) = (object(&[], read(&text)), object(&["a"], read(&text)));
    sent_and_got(&loose, &sure, [Same, Same], [Fine, Breaks]);
    sent_and_got(&object(&[], write(&text)), &object(&["a"], write(&text)), [Breaks, Fine], [Same, Same]);
    sent_and_got(&loose, &object(&[], read(&number)), [Same, Same], [Breaks, Breaks]);
    // It is sent so far, and then is not to be.
    sent_and_got(&object(&[], text.clone()), &loose, [Perhaps, Fine], [Same, Same]);
    sent_and_got(&sure, &object(&["a"], text.clone()), [Breaks, Perhaps], [Same, Same]);
    sent_and_got(&object(&["a"], text.clone()), &object(&["a"], write(&text)), [Same, Same], [Breaks, Fine]);
}

#[test]
fn a_range_of_media_types_stands_for_each_in_it() {
    let body =
        |media: &str| get(&json!({ "requestBody": { "content": { media: { "schema": { "type": "string" } } } } }));
    let answer = |media: &str| {
        get(&json!({ "responses": { "200": { "content": { media: { "schema": { "type": "string" } } } } } }))
    };
    for (narrow, wide) in [("image/png", "image/*"), ("application/json", "*/*"), ("image/*", "*/*")] {
        assert_eq!(verdict(&body(narrow), &body(wide)), Fine, "{narrow} {wide}");
        assert_eq!(verdict(&body(wide), &body(narrow)), Breaks, "{narrow} {wide}");
        assert_eq!(verdict(&answer(narrow), &answer(wide)), Breaks, "{narrow} {wide}");
        assert_eq!(verdict(&answer(wide), &answer(narrow)), Fine, "{narrow} {wide}");
    }
    assert_eq!(verdict(&body("image/png"), &body("text/*")), Breaks);
    // What is in the range is compared all the same.
    let number = get(&json!({ "requestBody": { "content": { "*/*": { "schema": { "type": "integer" } } } } }));
    let told = compare(&body("application/json"), &number).list;
    assert!(told.iter().any(|it| it.breaking && matches!(it.what, What::Type { .. })), "{told:?}");
    let form = |more: Value| {
        let mut content = json!({ "schema": { "type": "object", "properties": { "a": { "type": "string" } } } });
        content.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        get(&json!({ "requestBody": { "content": { "multipart/form-data": content } } }))
    };
    let encoding = json!({ "encoding": { "a": { "contentType": "application/json" } } });
    assert_eq!(verdict(&form(json!({})), &form(encoding)), Perhaps);
}
