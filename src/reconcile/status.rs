//! Status is two separate answers: is the world as the tree says, and are callers served.

use serde::{Deserialize, Serialize};

/// Whether the world is as the tree says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sync {
    /// It is.
    Synced,
    /// It is not, and skep is at work on it.
    OutOfSync,
    /// It is not, and skep was told to leave it.
    Held,
    /// It is not, and skep cannot go on until something changes.
    Blocked,
}

/// Whether callers are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// By as many instances as there should be.
    Healthy,
    /// Not yet; the first instance is on its way.
    Progressing,
    /// By fewer instances than there should be, or by instances that do not answer well.
    Degraded,
    /// Not, as the tree says.
    Stopped,
    /// Not, and they should be.
    Missing,
}
