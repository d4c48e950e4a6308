//! Why a node does not decode, with the entry to blame.

use std::fmt;
use std::ops::Range;

use serde::de::{Expected, Unexpected};

use crate::tree::diagnostic::code;
use crate::tree::suggest;

/// One failure. The innermost entry that it passes on its way out is the one to blame.
#[derive(Debug)]
pub(super) struct DecodeError {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) hint: String,
    /// Where, and the mark of the entry or item to leave out of the next attempt.
    pub(super) blame: Option<(Range<usize>, usize)>,
}

impl DecodeError {
    fn new(code: &'static str, message: String, hint: String) -> Self {
        Self { code, message, hint, blame: None }
    }

    /// Blames an entry, unless an inner one is blamed already.
    pub(super) fn blame(mut self, range: &Range<usize>, entry: usize) -> Self {
        self.blame.get_or_insert_with(|| (range.clone(), entry));
        self
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for DecodeError {}

/// What was found, in the words of people who write YAML.
fn found(unexpected: Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(text) => format!("{:?}", suggest::shorten(text)),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a mapping".to_owned(),
        other => other.to_string(),
    }
}

impl serde::de::Error for DecodeError {
    /// The texts of our own types put what to do after a semicolon.
    fn custom<T: fmt::Display>(message: T) -> Self {
        let text = message.to_string();
        let (message, hint) = text.rsplit_once("; ").unwrap_or((&text, ""));
        Self::new(code::BAD_VALUE, message.to_owned(), hint.to_owned())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let hint = match unexpected {
            Unexpected::Bool(_) | Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_)
                if expected.to_string().contains("string") =>
            {
                "put it in quotes"
            }
            Unexpected::Str(_) if expected.to_string() == "f64" => "write a number without a unit, as in 0.5 or 2",
            _ => "",
        };
        let expected = expected.to_string();
        let expected = match expected.as_str() {
            "a string" => "a text",
            "u16" | "u32" | "u64" | "u8" => "a whole number",
            "f64" => "a number",
            "a boolean" => "true or false",
            text if text.starts_with("struct ") => "a mapping of settings",
            text => text,
        };
        Self::new(code::WRONG_TYPE, format!("expected {expected}, found {}", found(unexpected)), hint.to_owned())
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = match expected.to_string().as_str() {
            "u8" => "a whole number from 0 to 255".to_owned(),
            "u16" => "a whole number from 0 to 65535".to_owned(),
            "u32" | "u64" => "a whole number that is not negative".to_owned(),
            text => text.to_owned(),
        };
        Self::new(code::OUT_OF_BOUNDS, format!("expected {expected}, found {}", found(unexpected)), String::new())
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let message = format!("`{}` is not known here", suggest::shorten(variant));
        Self::new(code::BAD_VALUE, message, suggest::hint(variant, expected))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let message = format!("there is no key `{}` here", suggest::shorten(field));
        Self::new(code::UNKNOWN_KEY, message, suggest::hint(field, expected))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(code::MISSING_KEY, format!("the key `{field}` is missing here"), String::new())
    }
}
