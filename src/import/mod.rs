//! An import is what it takes to bring the old system along: folders, callers' keys and plans, made of its tables.
//!
//! [`look`] makes one and writes nothing that anybody reads; [`write`] carries it out. What either decides is pure, in the
//! other files.

pub mod draft;
pub mod keys;
pub mod look;
pub mod manifest;
pub mod plans;
pub mod requirements;
pub mod write;

use std::collections::BTreeMap;

use serde::Serialize;

pub use draft::Draft;
pub use keys::{KeyImport, KeyVerdict};
pub use plans::{AssumedPlan, PlansImport};
pub use requirements::LeftOut;

use crate::records::Key;
use crate::tree::Diagnostic;

/// What an import would do. Holds no secret, and no code.
#[derive(Debug, Serialize)]
pub struct Import {
    /// Host, port and database of the old system.
    pub from: String,
    /// Its APIs, in order of id.
    pub apis: Vec<ApiImport>,
    /// Its callers' keys, in order of the API that they open.
    pub keys: Vec<KeyImport>,
    /// What becomes of its plans.
    pub plans: PlansImport,
    /// What else there is to know, in sentences: what the tables lack, what was not seen.
    pub notes: Vec<String>,
    /// The keys to add.
    #[serde(skip)]
    pub new_keys: Vec<Key>,
}

/// What becomes of one row of the old system's APIs.
#[derive(Debug, Clone, Serialize)]
pub struct ApiImport {
    /// Its id, as the row has it; no id of an API where the verdict says so.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What happens.
    pub verdict: Verdict,
    /// Why it is skipped, or left as it is; empty where it is not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What differs from the row, in sentences.
    pub notes: Vec<String>,
    /// The lines of its requirements that are left out.
    pub left_out: Vec<LeftOut>,
    /// What `skep check` says of the folder.
    pub findings: Vec<Diagnostic>,
}

/// What happens to the folder of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is made.
    Create,
    /// It is as it was imported, and the row has changed since.
    Update,
    /// Somebody has edited it, and it is replaced all the same.
    Replace,
    /// It says what the row says.
    Unchanged,
    /// Somebody has edited or made it, and it is left as it is.
    Edited,
    /// The row cannot be taken.
    Skipped,
}

impl Verdict {
    /// Whether a folder is written.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(self, Self::Create | Self::Update | Self::Replace)
    }
}

impl Import {
    /// How many rows have each verdict.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Verdict, usize> {
        let mut counts = BTreeMap::new();
        for api in &self.apis {
            *counts.entry(api.verdict).or_default() += 1;
        }
        counts
    }

    /// How many rows and keys are not taken, and have a reason.
    #[must_use]
    pub fn skipped(&self) -> usize {
        let keys = self.keys.iter().filter(|key| key.verdict == KeyVerdict::Skipped).count();
        keys + self.counts().get(&Verdict::Skipped).copied().unwrap_or_default()
    }

    /// Whether everything is as it should be already.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.new_keys.is_empty() && self.plans.block.is_none() && !self.apis.iter().any(|api| api.verdict.writes())
    }
}
