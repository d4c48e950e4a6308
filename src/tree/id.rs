//! An id is the name of an API's folder, and its identity everywhere else.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The identity of an API: `[a-z0-9]` with inner hyphens, 1 to 40 characters. A UUID is one.
///
/// That of a preview of it has `--pr-` and the number of the pull request behind it, which no folder of a tree may.
///
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ApiId(Arc<str>);

/// What stands between the id of an API and the number of a pull request, in the id of a preview.
const PREVIEW: &str = "--pr-";

/// The most digits of the number of a pull request.
const MAX_DIGITS: usize = 7;

/// The number of a pull request: 1 to 9999999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PullRequest(u32);

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
        // Only what stands before the number counts.
        let len = split(name).map_or(name.len(), |(of, _)| of.len());
        if len > Self::MAX_LEN {
            return Err(IdError::TooLong(len));
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

    /// The id of this API's preview for a pull request; `None` where it is one of a preview itself.
    #[must_use]
    pub fn previewed(&self, pull_request: PullRequest) -> Option<Self> {
        (!self.is_preview()).then(|| Self(format!("{self}{PREVIEW}{pull_request}").into()))
    }

    /// Which API this is a preview of, and for which pull request; `None` where it is none.
    #[must_use]
    pub fn preview(&self) -> Option<(Self, PullRequest)> {
        split(&self.0).map(|(of, number)| (Self(of.into()), number))
    }

    /// Whether it is the id of a preview.
    #[must_use]
    pub fn is_preview(&self) -> bool {
        is_preview(&self.0)
    }
}

impl PullRequest {
    /// Of a number, where it can be one of a pull request.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        u32::try_from(number).ok().filter(|number| (1..=9_999_999).contains(number)).map(Self)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }

    /// As it is written, without zeros before it.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let is_plain = text.len() <= MAX_DIGITS && !text.starts_with('0') && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|_| is_plain).and_then(Self::new)
    }
}

impl fmt::Display for PullRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl<'de> Deserialize<'de> for PullRequest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        Self::new(number).ok_or_else(|| serde::de::Error::custom("this is no number of a pull request"))
    }
}

/// Whether a name is the id of a preview.
#[must_use]
pub fn is_preview(name: &str) -> bool {
    split(name).is_some()
}

/// What the id of a preview is of, and its number.
fn split(name: &str) -> Option<(&str, PullRequest)> {
    let (of, number) = name.rsplit_once(PREVIEW)?;
    // A hyphen at its end would belong to what stands between as well; and previews of previews there are none.
    let is_id = !of.is_empty() && !of.ends_with('-');
    is_id.then_some(of).zip(PullRequest::read(number))
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
    fn the_id_of_a_preview_says_of_which_api_and_for_which_pull_request() {
        let (long, number) = (ApiId::new(&"a".repeat(40)).unwrap(), PullRequest::new(9_999_999).unwrap());
        let preview = long.previewed(number).unwrap();
        assert_eq!(preview.as_str().len(), 52, "as long as the records let it be");
        assert_eq!(ApiId::new(preview.as_str()).unwrap().preview(), Some((long, number)));
        assert_eq!(preview.previewed(number), None);
        for none in
            ["a", "a-pr-1", "a--pr", "a--pr-0", "a--pr-01", "a--pr-10000000", "a--pr-x", "a--pr-1-x", "a---pr-1"]
        {
            assert_eq!(ApiId::new(none).unwrap().preview(), None, "{none}");
        }
        assert_eq!(ApiId::new(&format!("{}--pr-1", "a".repeat(41))), Err(IdError::TooLong(41)));
        assert_eq!(ApiId::new("--pr-1"), Err(IdError::OuterHyphen));
        for none in ["", "0", "01", "+1", "-1", "10000000", "1 "] {
            assert_eq!(PullRequest::read(none), None, "{none:?}");
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
