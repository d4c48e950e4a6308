//! Decodes nodes into types, and keeps every finding.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer,
    MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::at::AT;
use super::error::DecodeError;
use super::node::{Entry, Node, Plain, Value};
use crate::tree::diagnostic::Diagnostic;
use crate::tree::source::Source;

/// The most findings that one file is given: past that, it is no settings file.
const MAX_FINDINGS: usize = 50;

/// Decodes a document. What does not decode is reported and left out.
pub fn decode<T: DeserializeOwned + Default>(node: &Node, source: Source<'_>, findings: &mut Vec<Diagnostic>) -> T {
    let mut skipped = BTreeSet::new();
    for _ in 0..MAX_FINDINGS {
        if node.is_null() {
            break;
        }
        match T::deserialize(Decoder { node, skipped: &skipped }) {
            Ok(value) => return value,
            Err(error) => {
                let (range, entry) = error.blame.unwrap_or((node.range.clone(), usize::MAX));
                findings.push(source.error(error.code, range, error.message, error.hint));
                // Nothing to leave out, or nothing gained by it: the document as a whole is of the wrong kind.
                if entry == usize::MAX || !skipped.insert(entry) {
                    break;
                }
            }
        }
    }
    T::default()
}

/// A scalar as it stands in the text, be it a word, a number or a boolean: `1.10` stays `1.10`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsWritten(pub String);

/// The name by which [`AsWritten`] asks for the text.
const AS_WRITTEN: &str = "skep::tree::yaml::AsWritten";

impl<'de> Deserialize<'de> for AsWritten {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl Visitor<'_> for TextVisitor {
            type Value = AsWritten;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<AsWritten, E> {
                Ok(AsWritten(text.to_owned()))
            }
        }
        deserializer.deserialize_newtype_struct(AS_WRITTEN, TextVisitor)
    }
}

/// One node on its way into a type.
#[derive(Clone, Copy)]
struct Decoder<'a> {
    node: &'a Node,
    /// Entries and items to leave out, by [`entry_mark`] and [`item_mark`].
    skipped: &'a BTreeSet<usize>,
}

/// Tells an entry of a mapping from all others, and from items: an item that is a mapping starts where its first key does.
fn entry_mark(entry: &Entry) -> usize {
    entry.key_range.start * 2 + 1
}

/// Tells an item of a list from all others.
fn item_mark(item: &Node) -> usize {
    item.range.start * 2
}

impl<'a> Decoder<'a> {
    fn at(self, node: &'a Node) -> Self {
        Self { node, ..self }
    }

    fn map(self, entries: &'a [Entry]) -> Entries<'a> {
        Entries { decoder: self, rest: entries.iter(), current: None }
    }
}

impl<'de> Deserializer<'de> for Decoder<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Refused => visitor.visit_unit(),
            Value::List(items) => visitor.visit_seq(Items { decoder: self, rest: items.iter() }),
            Value::Map(entries) => visitor.visit_map(self.map(entries)),
            Value::Scalar { text, plain } => match if *plain { Plain::of(text) } else { Plain::Word } {
                Plain::Null => visitor.visit_unit(),
                Plain::Bool(value) => visitor.visit_bool(value),
                Plain::Whole(value) => match u64::try_from(value) {
                    Ok(value) => visitor.visit_u64(value),
                    Err(_) => visitor.visit_i64(value),
                },
                Plain::Number(value) => visitor.visit_f64(value),
                Plain::Word => visitor.visit_str(text),
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match (name, &self.node.value) {
            (AT, _) => visitor.visit_seq(Parts { decoder: self, next: 0 }),
            (AS_WRITTEN, Value::Scalar { text, .. }) if !self.node.is_null() => visitor.visit_str(text),
            (AS_WRITTEN, _) => self.deserialize_any(visitor),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match &self.node.value {
            Value::Scalar { text, .. } => visitor.visit_enum(Variant(text)),
            Value::List(_) => Err(DecodeError::invalid_type(de::Unexpected::Seq, &"one word")),
            Value::Map(_) => Err(DecodeError::invalid_type(de::Unexpected::Map, &"one word")),
            Value::Refused => Err(DecodeError::invalid_type(de::Unexpected::Unit, &"one word")),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// The three parts of an [`super::At`]: start, end, value.
struct Parts<'a> {
    decoder: Decoder<'a>,
    next: u8,
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = DecodeError;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        self.next += 1;
        let range = &self.decoder.node.range;
        match self.next {
            1 => seed.deserialize(range.start.into_deserializer()).map(Some),
            2 => seed.deserialize(range.end.into_deserializer()).map(Some),
            3 => seed.deserialize(self.decoder).map(Some),
            _ => Ok(None),
        }
    }
}

/// The items of a list.
struct Items<'a> {
    decoder: Decoder<'a>,
    rest: std::slice::Iter<'a, Node>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = DecodeError;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DecodeError> {
        let skipped = self.decoder.skipped;
        let Some(item) = self.rest.find(|item| !skipped.contains(&item_mark(item))) else { return Ok(None) };
        let value = seed.deserialize(self.decoder.at(item));
        value.map(Some).map_err(|error| error.blame(&item.range, item_mark(item)))
    }
}

/// The entries of a mapping.
struct Entries<'a> {
    decoder: Decoder<'a>,
    rest: std::slice::Iter<'a, Entry>,
    current: Option<&'a Entry>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let skipped = self.decoder.skipped;
        self.current = self.rest.find(|entry| !skipped.contains(&entry_mark(entry)));
        let Some(entry) = self.current else { return Ok(None) };
        let key =
            Node { range: entry.key_range.clone(), value: Value::Scalar { text: entry.key.clone(), plain: false } };
        let key = seed.deserialize(Decoder { node: &key, skipped });
        key.map(Some).map_err(|error| error.blame(&entry.key_range, entry_mark(entry)))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, DecodeError> {
        let entry = self.current.ok_or_else(|| DecodeError::custom("a value without a key"))?;
        // A mapping or list is long: point at its key instead.
        let range = match entry.node.value {
            Value::Scalar { .. } if !entry.node.range.is_empty() => &entry.node.range,
            _ => &entry.key_range,
        };
        let value = seed.deserialize(self.decoder.at(&entry.node));
        value.map_err(|error| error.blame(range, entry_mark(entry)))
    }
}

/// A word that names one variant of an enum without data.
struct Variant<'a>(&'a str);

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = DecodeError;
    type Variant = Self;
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), DecodeError> {
        let name: StrDeserializer<'_, DecodeError> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = DecodeError;
    fn unit_variant(self) -> Result<(), DecodeError> {
        Ok(())
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, DecodeError> {
        Err(DecodeError::custom("a word says too little here"))
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, DecodeError> {
        Err(DecodeError::custom("a word says too little here"))
    }
    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, DecodeError> {
        Err(DecodeError::custom("a word says too little here"))
    }
}
