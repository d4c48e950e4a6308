//! A contract is what an API promises its callers: its OpenAPI document. Two of them are compared here.
//!
//! A change breaks callers where a request that was fine may be refused, or where an answer may be one that the document
//! before ruled out. Documents come from apps, and nothing in them is believed: how much is read, and how long it is
//! compared, is bounded, and what cannot be understood counts as unchanged.

mod bound;
mod difference;
mod fit;
mod kind;
mod media;
mod operation;
mod parameter;
mod schema;
mod security;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

pub use difference::{Difference, Place, What};

use crate::tree::diagnostic::code;
use crate::tree::{Api, Diagnostic, Folder, Tree};

/// The most bytes of a document; they take some fifty times that while they are compared.
pub const MOST: usize = 1 << 20;

/// The name of a document in an API's folder, and where apps have theirs.
pub const FILE: &str = "openapi.json";

/// What a plan says where the new folder has no document and the one before had.
pub const GONE: &str = "what it breaks is not known: openapi.json is gone";

/// The most steps of one comparison, each of some 50 ns: a few hundred operations with deep schemas take a tenth of that.
const STEPS: usize = 5_000_000;

/// The most differences that are told of those that break callers, and of the others.
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
    /// There is more that breaks callers than is told, or the documents are too large to be compared whole.
    #[serde(rename = "cut")]
    pub is_cut: bool,
    /// How many more there are that break nobody, and are not told.
    #[serde(skip_serializing_if = "is_nought")]
    pub left_out: usize,
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

    /// What is to be said of the one in an API's folder, where one lies there that cannot be read.
    #[must_use]
    pub fn finding(api: &Api) -> Option<Diagnostic> {
        let file = api.files.get(FILE)?;
        let why = if file.len > MOST as u64 { NoContract::TooLong } else { Self::read(&api.read(FILE).ok()?).err()? };
        let message = format!("{why}, so it is compared with nothing");
        let hint = "write it anew from the app's /openapi.json; what it changes for callers is not known without";
        Some(Diagnostic::warning(code::OPENAPI_UNREADABLE, format!("apis/{}/{FILE}", api.id), message, hint))
    }

    /// Whether both promise the same in the same words; titles, descriptions of the whole, and servers aside.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        ["paths", "components", "security"].iter().all(|part| self.0.get(part) == other.0.get(part))
    }
}

/// The tree with a finding for each document in a folder that cannot be read.
#[must_use]
pub fn looked_at(tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    for folder in tree.folders.values_mut() {
        let Folder::Sound(api) = folder else { continue };
        if let Some(finding) = Contract::finding(api) {
            Arc::make_mut(api).findings.push(finding);
        }
    }
    tree
}

/// What `new` changes of `old`.
#[must_use]
pub fn compare(old: &Contract, new: &Contract) -> Differences {
    if old.says_the_same(new) {
        return Differences::default();
    }
    let mut fuel = Fuel { left: STEPS, has_given_up: false };
    let (mut list, left_out) = operation::compare(&old.0, &new.0, &mut fuel);
    list.sort_by(|one, other| {
        let key = |it: &Difference| (!it.breaking, it.path.clone(), it.method.clone());
        key(one).cmp(&key(other))
    });
    list.dedup();
    let breaking = list.iter().filter(|it| it.breaking).count();
    if breaking > TOLD {
        list.drain(TOLD..breaking);
    }
    Differences { list, is_cut: fuel.is_out() || fuel.has_given_up || breaking > TOLD, left_out }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
fn is_nought(count: &usize) -> bool {
    *count == 0
}

/// How much a comparison may still do.
#[derive(Debug)]
struct Fuel {
    /// How many steps it may still take.
    left: usize,
    /// Whether it has left something aside that would have been too much.
    has_given_up: bool,
}

impl Fuel {
    /// Takes so many steps; `false` where there are none left.
    fn burn(&mut self, steps: usize) -> bool {
        self.left = self.left.saturating_sub(steps);
        !self.is_out()
    }

    fn is_out(&self) -> bool {
        self.left == 0
    }

    /// Notes that something is left aside, and so counts as fitting.
    fn give_up(&mut self) {
        self.has_given_up = true;
    }
}
