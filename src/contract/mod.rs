//! A contract is what an API promises its callers: its OpenAPI document. Two of them are compared here.
//!
//! A change breaks callers where a request that was fine may be refused, or where an answer may be one that the document
//! before ruled out. Documents come from apps, and nothing in them is believed: how much is read, and how long it is
//! compared, is bounded, and what cannot be understood counts as unchanged.

mod difference;
mod fit;
mod operation;
mod schema;
#[cfg(test)]
mod tests;

use serde::Serialize;
use serde_json::Value;

pub use difference::{Difference, Place, What};

use crate::tree::Api;

/// The most bytes of a document; they take some fifty times that while they are compared.
pub const MOST: usize = 1 << 20;

/// The name of a document in an API's folder, and where apps have theirs.
pub const FILE: &str = "openapi.json";

/// The most steps of one comparison, each of some 50 ns: a few hundred operations with deep schemas take a tenth of that.
const STEPS: usize = 5_000_000;

/// The most differences that are told.
const TOLD: usize = 200;

/// An OpenAPI document that could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Contract(Value);

/// Why there is no contract in some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoContract {
    /// There are too many of them.
    #[error("it is longer than 1 MiB")]
    TooLong,
    /// They are no JSON, or nested more deeply than any document.
    #[error("it is no JSON")]
    NoJson,
    /// It is a document of something else.
    #[error("it is no document of OpenAPI 3")]
    NoOpenApi,
}

/// How two contracts differ.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Differences {
    /// Those that break callers first.
    #[serde(rename = "differences")]
    pub list: Vec<Difference>,
    /// There is more than is told, or the documents are too large to be compared whole.
    #[serde(rename = "cut")]
    pub is_cut: bool,
}

impl Contract {
    /// Reads a document.
    ///
    /// # Errors
    /// Where it is none, or too long.
    pub fn read(bytes: &[u8]) -> Result<Self, NoContract> {
        if bytes.len() > MOST {
            return Err(NoContract::TooLong);
        }
        // The parser itself bounds how deep it goes.
        let document: Value = serde_json::from_slice(bytes).map_err(|_| NoContract::NoJson)?;
        let is_third = document["openapi"].as_str().is_some_and(|version| version.starts_with("3."));
        if is_third && document["paths"].is_object() { Ok(Self(document)) } else { Err(NoContract::NoOpenApi) }
    }

    /// The one that lies in an API's folder, where one does.
    #[must_use]
    pub fn of(api: &Api) -> Option<Self> {
        let file = api.files.get(FILE).filter(|file| file.len <= MOST as u64);
        Self::read(&file.and_then(|_| api.read(FILE).ok())?).ok()
    }

    /// Whether both promise the same in the same words; titles, descriptions of the whole, and servers aside.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        ["paths", "components", "security"].iter().all(|part| self.0.get(part) == other.0.get(part))
    }
}

/// What `new` changes of `old`.
#[must_use]
pub fn compare(old: &Contract, new: &Contract) -> Differences {
    let mut fuel = Fuel(STEPS);
    let mut list = operation::compare(&old.0, &new.0, &mut fuel);
    list.sort_by(|one, other| {
        let key = |it: &Difference| (!it.breaking, it.path.clone(), it.method.clone());
        key(one).cmp(&key(other))
    });
    list.dedup();
    let is_cut = fuel.is_out() || list.len() > TOLD;
    list.truncate(TOLD);
    Differences { list, is_cut }
}

/// How many steps a comparison may still take.
#[derive(Debug)]
struct Fuel(usize);

impl Fuel {
    /// Takes so many steps; `false` where there are none left.
    fn burn(&mut self, steps: usize) -> bool {
        self.0 = self.0.saturating_sub(steps);
        !self.is_out()
    }

    fn is_out(&self) -> bool {
        self.0 == 0
    }
}
