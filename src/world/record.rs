//! A record is what the database holds of one API.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::edit::Edit;
use super::hold::Hold;
use crate::git::Commit;
use crate::reconcile::status::Status;
use crate::tree::{ApiId, Digest, Files, Requirements, Revision, Sealed, Spec};

/// The row of one API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which API.
    pub id: ApiId,
    /// What people see of it in lists.
    pub status: Status,
    /// What serves, or served last.
    pub served: Option<Served>,
    /// The last trouble with each revision that matters still: the one that should serve, and the one that serves.
    pub failures: Vec<Failure>,
    /// That a person asked for it to be left as it is. Written apart from the row: see [`crate::records::Records::put_hold`].
    pub hold: Option<Hold>,
    /// When skep first knew of it.
    pub created: Timestamp,
    /// When the row last changed.
    pub updated: Timestamp,
    /// What somebody's hand has changed of the row. The rest of this value is as skep wrote it.
    pub edits: Vec<Edit>,
}

impl Record {
    /// A row for an API that had none.
    #[must_use]
    pub fn new(id: ApiId, status: Status, at: Timestamp) -> Self {
        Self { id, status, served: None, failures: Vec::new(), hold: None, created: at, updated: at, edits: Vec::new() }
    }

    /// The last trouble with that revision.
    #[must_use]
    pub fn failure(&self, revision: &Revision) -> Option<&Failure> {
        self.failures.iter().find(|failure| failure.revision == *revision)
    }
}

/// What a route was last made of: enough to make it again with the tree out of reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// What serves.
    pub revision: Revision,
    /// The base image that it stands on.
    pub base: Digest,
    /// The settings in force.
    pub spec: Spec,
    /// What is installed.
    pub requirements: Requirements,
    /// What is in the image; their bytes are in the records too.
    pub files: Files,
    /// What the app is given and nobody may read, encrypted as the tree had it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Sealed>,
    /// Since when this revision has served.
    pub since: Timestamp,
    /// How it came to serve; `None` in records of before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Box<Origin>>,
}

/// Why something came to serve whose folder is as it was.
pub const SETTINGS: &str = "its settings have changed";

/// How a revision came to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The last commit of its folder; `None` where the tree is in no git, or was not as any commit says.
    pub commit: Option<Commit>,
    /// The commit that its folder is as in, where it is not known which one touched it last: of the history before that one,
    /// nothing was fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<String>,
    /// Who asked for it otherwise, as with a rollback.
    pub by: Option<String>,
    /// What for: why it serves, and no other revision.
    pub why: String,
    /// Why the last step on the way was taken: the one by which callers got it.
    pub step: String,
}

/// Trouble with one revision. Kept in the records, so that a restart forgets no pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which revision was tried.
    pub revision: Revision,
    /// Of all the settings it was tried with: another health path or grace is another try.
    pub settings: Digest,
    /// What happened.
    pub kind: FailureKind,
    /// How many times in a row.
    pub count: u32,
    /// When it last happened.
    pub at: Timestamp,
    /// One line for people: what, and the next thing to look at.
    pub message: String,
    /// The last lines that the build or the app printed.
    pub output: Vec<String>,
}

/// What can go wrong with a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// Its requirements could not be installed.
    Install,
    /// Something outside was in the way of an install, as a package index that is out of reach.
    Hindered,
    /// Its image could not be built.
    Build,
    /// The engine could not start it.
    Start,
    /// It ran, and gave no good answer in time.
    NotReady,
    /// It ended by itself.
    Crash,
    /// The kernel killed it for want of memory.
    OutOfMemory,
}
