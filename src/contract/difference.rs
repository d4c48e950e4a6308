//! A difference is one thing that a caller may notice of a new contract: which operation, where in it, and what.

use std::fmt;

use serde::Serialize;

use crate::tree::diagnostic::is_treacherous;

/// The most characters of one name or value that is told: they are somebody's own.
const LONGEST: usize = 100;

/// One difference between two contracts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// In capitals.
    pub method: String,
    /// As the document before has it; as the new one does, where that alone has it.
    pub path: String,
    /// Where in the operation.
    #[serde(flatten)]
    pub place: Place,
    /// What is different there.
    #[serde(flatten)]
    pub what: What,
    /// Whether a caller who goes by the document before may fail.
    pub breaking: bool,
    /// Whether that is not known; it is not `breaking` then.
    #[serde(skip_serializing_if = "is_not")]
    pub perhaps: bool,
}

/// What a difference means for callers who go by the document before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// They may fail.
    Breaks,
    /// Nobody knows.
    Perhaps,
    /// They do not fail by it.
    Nothing,
}

impl From<bool> for Effect {
    fn from(breaks: bool) -> Self {
        if breaks { Self::Breaks } else { Self::Nothing }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_not(it: &bool) -> bool {
    !*it
}

/// Where in an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "in", rename_all = "kebab-case")]
pub enum Place {
    /// The operation as such.
    Operation,
    /// A parameter, or a part of one.
    Parameter {
        /// `query`, `path`, `header` or `cookie`.
        location: String,
        /// Its name.
        name: String,
        /// Dotted; empty for the whole parameter.
        #[serde(skip_serializing_if = "String::is_empty")]
        field: String,
    },
    /// What is sent.
    Request {
        /// Dotted, `[]` for the items of a list, `*` for any other name; empty for the whole body.
        #[serde(skip_serializing_if = "String::is_empty")]
        field: String,
    },
    /// What comes back.
    Response {
        /// As the document has it: `200`, `2XX`, `default`.
        status: String,
        /// As of a request.
        #[serde(skip_serializing_if = "String::is_empty")]
        field: String,
    },
}

/// What is different.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum What {
    /// It is not there any more.
    Removed,
    /// It was not there.
    Added {
        /// Whether it has to be given, or always comes.
        required: bool,
    },
    /// It has to be given now, or always comes now.
    Required,
    /// It need not be given any more, or may be missing now.
    Optional,
    /// Another type.
    Type {
        /// Before.
        old: String,
        /// Now.
        new: String,
    },
    /// Null is possible now.
    Nullable,
    /// Null is not possible any more.
    NotNullable,
    /// Other values than before are possible too.
    ValuesAdded {
        /// Those.
        values: Vec<String>,
    },
    /// Some values are not possible any more.
    ValuesRemoved {
        /// Those.
        values: Vec<String>,
    },
    /// A bound on a value, its length or its shape.
    Bound {
        /// What the document calls it.
        name: String,
        /// Before; empty where there was none.
        old: String,
        /// Now; empty where there is none.
        new: String,
    },
    /// What it says under a key is another, and such keys are not compared: whether it breaks callers is not known.
    NotCompared {
        /// The key.
        name: String,
    },
    /// It is written in another way: a list as `a=1&a=2` or as `a=1,2`.
    Style {
        /// As the document calls it, before.
        old: String,
        /// Now.
        new: String,
    },
    /// Fields that it does not name are refused now.
    Closed,
    /// Fields that it does not name are taken now.
    Opened,
    /// A parameter is taken elsewhere.
    Moved {
        /// `query`, `path`, `header` or `cookie`.
        to: String,
    },
    /// A media type is not there any more.
    MediaRemoved {
        /// As in `application/json`.
        media: String,
    },
    /// A media type is new.
    MediaAdded {
        /// As in `application/json`.
        media: String,
    },
    /// What a caller has to show is more, or something else.
    SecurityAdded,
    /// What a caller has to show is less.
    SecurityRemoved,
}

impl fmt::Display for Difference {
    /// One sentence, as in `POST /items: body field price must be given`. The words in it may be somebody's own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, short(&self.path))?;
        let is_answer = match &self.place {
            Place::Operation => false,
            Place::Parameter { location, name, field } => {
                write!(f, ": {location} parameter {}{}", short(name), of(field))?;
                false
            }
            Place::Request { field } if field.is_empty() => {
                f.write_str(": its body")?;
                false
            }
            Place::Request { field } => {
                write!(f, ": body field {}", short(field))?;
                false
            }
            Place::Response { status, field } if field.is_empty() => {
                write!(f, ": its answer {}", short(status))?;
                true
            }
            Place::Response { status, field } => {
                write!(f, ": in its answer {}, {}", short(status), short(field))?;
                true
            }
        };
        f.write_str(" ")?;
        match (&self.what, is_answer) {
            (What::Removed, _) => f.write_str("is gone"),
            (What::Added { required: true }, false) if self.place != Place::Operation => {
                f.write_str("is new and must be given")
            }
            (What::Added { .. }, _) => f.write_str("is new"),
            (What::Required, false) => f.write_str("must be given"),
            (What::Required, true) => f.write_str("is always there"),
            (What::Optional, false) => f.write_str("need not be given"),
            (What::Optional, true) => f.write_str("may be missing"),
            (What::Type { old, new }, false) => write!(f, "takes {new}, not {old}"),
            (What::Type { old, new }, true) => write!(f, "is {new}, not {old}"),
            (What::Nullable, _) => f.write_str("may be null"),
            (What::NotNullable, false) => f.write_str("must not be null"),
            (What::NotNullable, true) => f.write_str("is never null"),
            (What::ValuesAdded { values }, false) => write!(f, "also takes {}", listed(values)),
            (What::ValuesAdded { values }, true) => write!(f, "may be {}, which is new", listed(values)),
            (What::ValuesRemoved { values }, false) => write!(f, "no longer takes {}", listed(values)),
            (What::ValuesRemoved { values }, true) => write!(f, "is never {}", listed(values)),
            (What::Bound { name, old, new }, _) => {
                let or_none = |text: &str| if text.is_empty() { "none".to_owned() } else { short(text) };
                write!(f, "has another {name}: {} → {}", or_none(old), or_none(new))
            }
            (What::NotCompared { name }, _) => {
                write!(f, "has another {}, which is not compared", short(name))
            }
            (What::Style { old, new }, _) => write!(f, "is written as {}, not {}", short(new), short(old)),
            (What::Closed, _) => f.write_str("refuses fields that it does not name"),
            (What::Opened, _) => f.write_str("takes fields that it does not name"),
            (What::Moved { to }, _) => write!(f, "is a {to} parameter now"),
            (What::MediaRemoved { media }, false) => write!(f, "can no longer be {}", short(media)),
            (What::MediaRemoved { media }, true) => write!(f, "no longer comes as {}", short(media)),
            (What::MediaAdded { media }, false) => write!(f, "can be {}", short(media)),
            (What::MediaAdded { media }, true) => write!(f, "also comes as {}", short(media)),
            (What::SecurityAdded, _) => f.write_str("asks callers for other credentials"),
            (What::SecurityRemoved, _) => f.write_str("asks callers for fewer credentials"),
        }
    }
}

fn of(field: &str) -> String {
    if field.is_empty() { String::new() } else { format!(" at {}", short(field)) }
}

fn listed(values: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = values.iter().take(SHOWN).map(|value| short(value)).collect::<Vec<_>>().join(", ");
    if values.len() > SHOWN {
        text.push_str(&format!(" and {} more", values.len() - SHOWN));
    }
    text
}

/// Somebody's words, at most [`LONGEST`] characters of them, and none that steers a reader's terminal.
pub(super) fn short(text: &str) -> String {
    let mut shown = String::new();
    for (place, c) in text.chars().enumerate() {
        if place == LONGEST {
            shown.push('…');
            break;
        }
        if is_treacherous(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}
