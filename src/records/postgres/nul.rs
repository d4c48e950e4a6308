//! NUL is the one character that Postgres keeps in no text. Here it is written as two others, and read back.

use std::borrow::Cow;

use serde_json::Value;

/// Leads a character that is written as two; of the private use area, so that hardly anybody's text holds it.
const MARK: char = '\u{e000}';

/// A text as it is written.
pub fn encode(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', MARK]) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace(MARK, "\u{e000}1").replace('\0', "\u{e000}0"))
}

/// What [`encode`] was given.
pub fn decode(text: String) -> String {
    if !text.contains(MARK) {
        return text;
    }
    text.replace("\u{e000}0", "\0").replace("\u{e000}1", "\u{e000}")
}

/// JSON as it is written.
pub fn encode_json(json: String) -> String {
    if json.contains("\\u0000") || json.contains(MARK) {
        every_text(json, |text| encode(&text).into_owned())
    } else {
        json
    }
}

/// What [`encode_json`] was given, as far as a reader of JSON can tell.
pub fn decode_json(json: String) -> String {
    if json.contains(MARK) { every_text(json, decode) } else { json }
}

fn every_text(json: String, change: fn(String) -> String) -> String {
    // What is no JSON is the reader's to refuse.
    let Ok(value) = serde_json::from_str::<Value>(&json) else { return json };
    walk(value, change).to_string()
}

fn walk(value: Value, change: fn(String) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(list) => Value::Array(list.into_iter().map(|value| walk(value, change)).collect()),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(key, value)| (change(key), walk(value, change))).collect())
        }
        plain => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_and_none_is_written_with_nul() {
        for text in ["", "plain", "a\0b", "\u{e000}", "\u{e000}0", "\0\u{e000}1\0", "\\u0000"] {
            let written = encode(text);
            assert!(!written.contains('\0'));
            assert_eq!(decode(written.into_owned()), text);
            let json = serde_json::json!({ text: [text, 1] }).to_string();
            let written = encode_json(json.clone());
            assert!(text == "\\u0000" || !written.contains("\\u0000"), "{written}");
            assert_eq!(decode_json(written), json);
        }
    }
}
