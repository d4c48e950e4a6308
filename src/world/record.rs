//! A record is what the database holds of one API.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::reconcile::status::{Health, Sync};
use crate::tree::{ApiId, Files, Requirements, Revision, Spec};

/// The row of one API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which API.
    pub id: ApiId,
    /// What people call it.
    pub name: String,
    /// Whether the world is as the tree says.
    pub sync: Sync,
    /// Whether callers are served.
    pub health: Health,
    /// Why it is not well, or what is going on; empty where all is well.
    pub message: String,
    /// What serves, or served last.
    pub served: Option<Served>,
    /// The last trouble with the revision that should serve.
    pub failure: Option<Failure>,
    /// When skep first knew of it.
    pub created: Timestamp,
    /// When the row last changed.
    pub updated: Timestamp,
}

/// What a route was last made of: enough to make it again with the tree out of reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// What serves.
    pub revision: Revision,
    /// The settings in force.
    pub spec: Spec,
    /// What is installed.
    pub requirements: Requirements,
    /// What is in the image; their bytes are in the records too.
    pub files: Files,
    /// Since when this revision has served.
    pub since: Timestamp,
}

/// Trouble with one revision. Kept in the records, so that a restart forgets no pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which revision was tried.
    pub revision: Revision,
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
