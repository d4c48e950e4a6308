//! A parameter is one value beside the body: in the query, the path, a header or a cookie; and a way to write it there.

use std::fmt;

use serde_json::Value;

use super::Fuel;
use super::difference::Effect;
use super::schema::{Kind, Schema, Shapes};

/// What a document may allow besides, and no longer.
pub(super) const LEEWAY: [&str; 2] = ["allowEmptyValue", "allowReserved"];

/// A parameter of an operation.
pub(super) struct Parameter<'a> {
    pub(super) fields: &'a Value,
    pub(super) name: &'a str,
    pub(super) is_required: bool,
}

/// How a parameter is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Written<'a> {
    /// As text (OpenAPI 3.1, section 4.8.12.2: `style` and `explode`).
    Text { style: &'a str, is_exploded: bool },
    /// As a document of its own, of that media type.
    Document(&'a str),
}

impl<'a> Parameter<'a> {
    /// Whether it is written as text, and not as a document of its own.
    pub(super) fn is_text(&self) -> bool {
        self.fields.get("schema").is_some()
    }

    pub(super) fn schema(&self) -> Schema<'a> {
        let within = self.fields["content"].as_object().and_then(|content| content.values().next());
        self.fields.get("schema").or_else(|| within?.get("schema")).into_iter().collect()
    }

    /// Whether it has such a mark.
    pub(super) fn allows(&self, name: &str) -> bool {
        self.fields[name] == true
    }

    /// How it is written, by what its location has where it says nothing.
    pub(super) fn written(&self, location: &str) -> Written<'a> {
        let media = self.fields["content"].as_object().and_then(|content| content.keys().next());
        if let (false, Some(media)) = (self.is_text(), media) {
            return Written::Document(media);
        }
        let usual = if matches!(location, "query" | "cookie") { "form" } else { "simple" };
        let style = self.fields["style"].as_str().unwrap_or(usual);
        let is_exploded = self.fields["explode"].as_bool().unwrap_or(style == "form");
        match style {
            // With each item on its own, there is nothing that a sign could stand between.
            "spaceDelimited" | "pipeDelimited" if is_exploded => Written::Text { style: "form", is_exploded },
            style => Written::Text { style, is_exploded },
        }
    }

    /// The kinds of value that it may have; none where that is not known.
    pub(super) fn kinds(&self, document: &'a Value, fuel: &mut Fuel) -> Vec<Kind> {
        match Shapes::of(document, &self.schema(), fuel) {
            Shapes::OneOf(all) => all.iter().map(|shape| shape.kind).collect(),
            Shapes::Opaque => Vec::new(),
        }
    }
}

impl Written<'_> {
    /// What it means for callers that a value of one of these kinds is written in the other way, where it is another one.
    pub(super) fn change(&self, now: &Self, kinds: &[Kind]) -> Option<Effect> {
        let (Self::Text { style, is_exploded }, Self::Text { style: other, is_exploded: is_now }) = (self, now) else {
            return (self != now).then_some(Effect::Breaks);
        };
        let is_other_for = |kind: &Kind| match kind {
            // Signs stand before them there.
            _ if style != other && [*style, *other].iter().any(|style| matches!(*style, "label" | "matrix")) => true,
            // Its items have commas between them either way.
            Kind::List if *style == "simple" && *other == "simple" => false,
            Kind::List | Kind::Object => self != now,
            _ => false,
        };
        if kinds.iter().any(is_other_for) {
            return Some(Effect::Breaks);
        }
        let may_be_any = kinds.is_empty() || kinds.contains(&Kind::Any);
        (may_be_any && (style, is_exploded) != (other, is_now)).then_some(Effect::Perhaps)
    }
}

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { style, is_exploded: true } => write!(f, "{style} (exploded)"),
            Self::Text { style, is_exploded: false } => f.write_str(style),
            Self::Document(media) => f.write_str(media),
        }
    }
}
