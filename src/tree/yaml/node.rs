//! A node is one value of a YAML document, with its place in the text.

use std::ops::Range;

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Its bytes in the text.
    pub range: Range<usize>,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// One word or text.
    Scalar {
        /// After YAML's escapes.
        text: String,
        /// Written without quotes, so that it may be a number, a boolean or null.
        plain: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the text.
    Map(Vec<Entry>),
    /// Something that the parser refused and reported; reads as not there.
    Refused,
}

/// One key of a mapping and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The bytes of the key.
    pub key_range: Range<usize>,
    /// The value.
    pub node: Node,
}

/// What a plain scalar says, by the core schema of YAML 1.2: `no`, `on` and `y` are words there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Whole(i64),
    Number(f64),
    Word,
}

impl Plain {
    pub(super) fn of(text: &str) -> Self {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Self::Null,
            "true" | "True" | "TRUE" => return Self::Bool(true),
            "false" | "False" | "FALSE" => return Self::Bool(false),
            _ => {}
        }
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return Self::Word;
        }
        if digits.bytes().all(|byte| byte.is_ascii_digit())
            && let Ok(whole) = text.strip_prefix('+').unwrap_or(text).parse()
        {
            return Self::Whole(whole);
        }
        // Rust's own grammar of floats also knows `inf` and `nan`; the first character has ruled them out.
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Self::Number(number),
            _ => Self::Word,
        }
    }
}

impl Node {
    /// What the node says, where it is a scalar without quotes.
    pub(super) fn plain(&self) -> Option<Plain> {
        match &self.value {
            Value::Scalar { text, plain: true } => Some(Plain::of(text)),
            _ => None,
        }
    }

    /// Whether nothing is there.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, Value::Refused) || self.plain() == Some(Plain::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_words_read_by_the_core_schema() {
        assert_eq!(Plain::of("8080"), Plain::Whole(8080));
        assert_eq!(Plain::of("-3"), Plain::Whole(-3));
        assert_eq!(Plain::of("0.5"), Plain::Number(0.5));
        assert_eq!(Plain::of("1e3"), Plain::Number(1000.0));
        assert_eq!(Plain::of("true"), Plain::Bool(true));
        assert_eq!(Plain::of("~"), Plain::Null);
        for word in ["no", "on", "y", "512MiB", "30s", "inf", "nan", ".inf", "1.2.3", "-", "1_000", "1e999"] {
            assert_eq!(Plain::of(word), Plain::Word, "{word}");
        }
    }
}
