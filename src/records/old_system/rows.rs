//! Rows of the old system's tables, as far as an import goes.

use jiff::Timestamp;

use crate::records::KeyHash;

/// The longest key that the gateway looks at, in bytes.
const LONGEST_KEY: usize = 512;

/// A key of fewer characters can be guessed.
const SHORT_KEY: usize = 32;

/// A row of `public.apis`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OldApi {
    /// Its id, as text; a UUID, if all is well.
    pub id: String,
    /// The user whose it is.
    pub user: Option<String>,
    /// What people call it.
    pub name: Option<String>,
    /// What it does.
    pub description: Option<String>,
    /// `active`, `paused` or `failed`.
    pub status: Option<String>,
    /// The key that opens it.
    pub key: Option<OldKey>,
    /// Its source.
    pub code: OldText,
    /// Lines for pip.
    pub requirements: OldText,
}

/// A text that may be longer than anybody wants to have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OldText {
    /// There is none.
    #[default]
    None,
    /// All of it.
    Whole(String),
    /// It was not read, since it has so many bytes.
    TooLong(u64),
}

/// A caller's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldKey {
    /// One that a caller can show.
    Plain {
        /// The SHA-256 of all of it.
        hash: KeyHash,
        /// It is so short that it can be guessed.
        is_short: bool,
    },
    /// None that anybody could show; a sentence that says why.
    Unusable(&'static str),
}

/// A row of `public.users`, as far as limits go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OldUser {
    /// `free`, `pro` or `enterprise`.
    pub plan: Option<String>,
    /// Requests per hour.
    pub limit: Option<i64>,
}

/// A row of `public.consumer_api_keys`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldConsumerKey {
    /// Its id, or its number in the order of the table.
    pub id: String,
    /// The API that it opens.
    pub api: Option<String>,
    /// The user that it counts for.
    pub user: Option<String>,
    /// What people call it.
    pub name: Option<String>,
    /// The key; `None` where the row has none, or only a hash of an unknown kind.
    pub key: Option<OldKey>,
    /// Whether the row says that it is in force.
    pub is_active: bool,
    /// From when on it opens nothing.
    pub expires: Option<OldTime>,
}

/// A moment, or what stands there instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OldTime {
    /// A moment.
    At(Timestamp),
    /// Something that is none.
    Unknown,
}

impl OldKey {
    /// What is kept of a key.
    pub(super) fn of(key: &str) -> Self {
        if key.len() > LONGEST_KEY {
            return Self::Unusable("it is longer than any key that callers can show");
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Self::Unusable("it holds spaces or other characters that callers cannot send in a header");
        }
        Self::Plain { hash: KeyHash::of(key.as_bytes()), is_short: key.len() < SHORT_KEY }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_caller_can_send_is_a_key() {
        assert!(
            matches!(OldKey::of("sk_abc"), OldKey::Plain { is_short: true, hash } if hash == KeyHash::of(b"sk_abc"))
        );
        assert!(matches!(OldKey::of(&"a".repeat(32)), OldKey::Plain { is_short: false, .. }));
        for key in ["a b", " a", "a\n", "\u{e4}", &"a".repeat(513)] {
            assert!(matches!(OldKey::of(key), OldKey::Unusable(_)), "{key:?}");
        }
    }
}
