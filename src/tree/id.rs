//! An id is the name of an API's folder, and its identity everywhere else.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The identity of an API: `[a-z0-9]` with inner hyphens, 1 to 40 characters. A UUID is one.
///
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ApiId(Arc<str>);

/// Why a name is no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Nothing there.
    #[error("an id must not be empty")]
    Empty,
    /// More than [`ApiId::MAX_LEN`] characters.
    #[error("an id has at most 40 characters, this one has {0}")]
    TooLong(usize),
    /// A character outside `[a-z0-9-]`.
    #[error("an id is made of a to z, 0 to 9 and inner hyphens; {0:?} is none of them")]
    BadCharacter(char),
    /// A hyphen at either end.
    #[error("an id must not begin or end with a hyphen")]
    OuterHyphen,
}

impl ApiId {
    /// The most characters an id may have.
    pub const MAX_LEN: usize = 40;

    /// Checks a name and makes an id of it.
    ///
    /// # Errors
    /// Where the name breaks one of the rules of [`IdError`].
    pub fn new(name: &str) -> Result<Self, IdError> {
        if name.is_empty() {
            return Err(IdError::Empty);
        }
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if let Some(bad) = name.chars().find(|&c| !allowed(c)) {
            return Err(IdError::BadCharacter(bad));
        }
        if name.len() > Self::MAX_LEN {
            return Err(IdError::TooLong(name.len()));
        }
        if name.starts_with('-') || name.ends_with('-') {
            return Err(IdError::OuterHyphen);
        }
        Ok(Self(name.into()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ApiId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ApiId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Borrow<str> for ApiId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ApiId {
    type Err = IdError;
    fn from_str(name: &str) -> Result<Self, IdError> {
        Self::new(name)
    }
}

impl<'de> Deserialize<'de> for ApiId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::new(&name).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_and_a_uuid_are_ids() {
        for name in ["a", "thumbnails", "a-b-c", "7", "0b2f6f0e-54b1-4d0c-9a86-0c7b1b1f2d3e"] {
            assert!(ApiId::new(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_breaks_the_rules_is_refused_with_the_rule() {
        assert_eq!(ApiId::new(""), Err(IdError::Empty));
        assert_eq!(ApiId::new("-a"), Err(IdError::OuterHyphen));
        assert_eq!(ApiId::new("a-"), Err(IdError::OuterHyphen));
        assert_eq!(ApiId::new("Ab"), Err(IdError::BadCharacter('A')));
        assert_eq!(ApiId::new("a/b"), Err(IdError::BadCharacter('/')));
        assert_eq!(ApiId::new("é"), Err(IdError::BadCharacter('é')));
        assert_eq!(ApiId::new(&"a".repeat(41)), Err(IdError::TooLong(41)));
    }
}
