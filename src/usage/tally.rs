//! A tally is the sum of requests that are counted together: of one API, by one key, with one status, in one span of time.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::spread::{Spread, micros};
use crate::settings::moment;
use crate::tree::{ApiId, Seconds};

/// What requests have in common that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Counted {
    /// When they ended.
    pub slot: Slot,
    /// What they were for; `None` where that is not told apart any more.
    pub api: Option<ApiId>,
    /// Whose they were.
    pub by: UsedBy,
    /// What they were answered with; 499 where the caller had gone. Whole hundreds where it is not told apart any more.
    pub status: u16,
}

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    /// How long it is.
    pub grain: Grain,
    /// Its beginning, in seconds since 1970, in UTC; a whole multiple of its length.
    pub at: i64,
}

/// How long a span is that is counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grain {
    /// As it is counted.
    Minute,
    /// After some hours.
    Hour,
    /// After some weeks.
    Day,
}

/// Whose a request was.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UsedBy {
    /// The holder's of this key.
    Key(Arc<KeyName>),
    /// Somebody's who showed a token of the issuer.
    Token,
    /// Somebody's who needed neither, or had neither and was refused.
    Nobody,
    /// Theirs who were too many to be told apart.
    Others,
}

/// A key, as people know it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName {
    /// Its public id, as in `k_3f9a1c7e`.
    pub id: String,
    /// What people call it.
    pub name: String,
}

/// The sum of requests that are counted together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub requests: u64,
    /// Bytes of their bodies, as far as they were handed on.
    pub bytes_in: u64,
    /// Bytes of the bodies of their answers, as far as they were sent.
    pub bytes_out: u64,
    /// What they took, each from its head to the last byte of its answer, in microseconds.
    pub micros: u64,
    /// What the slowest of them took, in microseconds.
    pub slowest: u64,
    /// How many took how long.
    pub spread: Spread,
}

/// What one daemon has counted, to be added once.
#[derive(Debug, Clone)]
pub struct UsageBatch {
    /// Which daemon; another one after every start.
    pub daemon: Arc<str>,
    /// Goes up by one with each batch of that daemon, from 1. One that is not above the last is in already.
    pub number: u64,
    /// What was counted.
    pub entries: Arc<[(Counted, Tally)]>,
}

/// Before when what was counted is told apart less closely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fold {
    /// Minutes become hours.
    pub minutes_before: Timestamp,
    /// Hours become days.
    pub hours_before: Timestamp,
    /// All of it is forgotten.
    pub all_before: Timestamp,
}

/// What somebody wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageQuery {
    /// Of this API alone.
    pub api: Option<ApiId>,
    /// Of this key alone, by its public id; or `token`, `none` or `others`.
    pub key: Option<String>,
    /// From when on. A span that had begun by then counts whole.
    pub since: Timestamp,
    /// What is told apart.
    pub by: UsageBy,
}

/// What is told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UsageBy {
    /// The APIs, the most used first.
    #[default]
    Api,
    /// The keys, the most used first.
    Key,
    /// The statuses, in their order.
    Status,
    /// The hours, in their order; what is kept by the day counts for its first hour.
    Hour,
    /// The days (of UTC), in their order.
    Day,
}

/// Part of an answer to a [`UsageQuery`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// Of what.
    pub group: Group,
    /// How many of the requests were answered with 4xx.
    pub client_errors: u64,
    /// And with 5xx.
    pub server_errors: u64,
    /// The sums.
    pub tally: Tally,
}

/// What a [`UsageRow`] is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// An API; `None` for those that were not told apart.
    Api(Option<ApiId>),
    /// A key.
    Key {
        /// As [`UsedBy::word`] has it.
        id: String,
        /// What people call it, where it is one.
        name: Option<String>,
    },
    /// A status.
    Status(u16),
    /// An hour or a day, by its beginning.
    From(Timestamp),
}

impl Slot {
    /// The span of that length that a moment is in.
    #[must_use]
    pub fn of(grain: Grain, second: i64) -> Self {
        Self { grain, at: second - second.rem_euclid(grain.seconds()) }
    }
}

impl Grain {
    /// Its length.
    #[must_use]
    pub fn seconds(self) -> i64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
        }
    }
}

impl UsedBy {
    /// As records and reports have it: the id of a key, or a word that is none.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            Self::Key(key) => &key.id,
            Self::Token => "token",
            Self::Nobody => "none",
            Self::Others => "others",
        }
    }
}

impl Tally {
    /// Counts one request.
    pub fn count(&mut self, bytes_in: u64, bytes_out: u64, took: Duration) {
        let micros = micros(took);
        self.requests += 1;
        self.bytes_in = self.bytes_in.saturating_add(bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(bytes_out);
        self.micros = self.micros.saturating_add(micros);
        self.slowest = self.slowest.max(micros);
        self.spread.count(took);
    }

    /// Adds all that another one has counted.
    pub fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.micros = self.micros.saturating_add(other.micros);
        self.slowest = self.slowest.max(other.slowest);
        self.spread.add(&other.spread);
    }

    /// What they took on the average.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_micros(self.micros.checked_div(self.requests).unwrap_or_default())
    }

    /// What so many of 1000 took at most, within an eighth.
    #[must_use]
    pub fn within(&self, per_mille: u32) -> Duration {
        self.spread.within(per_mille).min(Duration::from_micros(self.slowest))
    }
}

impl UsageBatch {
    /// How many requests it is about.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.entries.iter().map(|(_, tally)| tally.requests).sum()
    }
}

impl UsageBy {
    /// The words for it, in order.
    pub const WORDS: [&'static str; 5] = ["api", "key", "status", "hour", "day"];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Key => "key",
            Self::Status => "status",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

impl FromStr for UsageBy {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let all = [Self::Api, Self::Key, Self::Status, Self::Hour, Self::Day];
        let found = all.into_iter().find(|by| by.word() == word);
        found.ok_or_else(|| format!("{word:?} is none of {}", Self::WORDS.join(", ")))
    }
}

/// From when on somebody wants to know who writes a span, as in `24h`, or a moment, as in `2027-01-31`.
///
/// # Errors
/// A sentence for whoever wrote neither.
pub fn since(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let span = text.parse::<Seconds>().ok().and_then(|span| now.checked_sub(span.0).ok());
    span.or_else(|| moment(text)).ok_or_else(|| "write a span, as in 24h, or a day, as in 2027-01-31".to_owned())
}
