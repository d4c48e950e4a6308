//! An instance is one container of one revision of one API.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::tree::{ApiId, Digest, Revision};

/// The name of an instance: `skep-<id>-<short revision>-<number>`. Its container's begins with it. Says what it is; see [`Instance::container`]
/// for which one it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceName(Arc<str>);

impl InstanceName {
    /// The name of the `number`th instance, counted from 1, of that revision.
    #[must_use]
    pub fn new(api: &ApiId, revision: &Revision, number: u16) -> Self {
        Self(format!("skep-{api}-{revision}-{number}").into())
    }

    /// A name as the engine gave it.
    #[must_use]
    pub fn from_engine(name: &str) -> Self {
        Self(name.trim_start_matches('/').into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The engine's own id of a container; never used twice, which a name is.
pub type ContainerId = Arc<str>;

/// One container that carries our owner label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// What it is called.
    pub name: InstanceName,
    /// The engine's id of it.
    pub container: ContainerId,
    /// From its label.
    pub api: ApiId,
    /// From its label.
    pub revision: Revision,
    /// The last part of its name; counts from 1.
    pub number: u16,
    /// From its label: the digest of what it was created from, to notice one that another version of skep made.
    pub spec: Option<Digest>,
    /// What its processes are doing.
    pub run: Run,
    /// What somebody's hand changed since it was made, in words, where that was looked at and found.
    pub altered: Option<String>,
    /// It was not as it was made even after it had been put right in place.
    pub beyond_repair: bool,
    /// When it was created.
    pub created: Timestamp,
    /// What the prober last heard from it.
    pub readiness: Readiness,
    /// It was announced that it is about to be removed: nobody may send it a new request, whatever comes of that.
    pub leaving: bool,
    /// Requests and streams that the gateway has open to it.
    pub in_flight: u64,
    /// Since when it has been out of the route while it still had requests in flight.
    pub draining_since: Option<Timestamp>,
}

/// What a container's processes are doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Run {
    /// Created, never started.
    Created,
    /// Running, and reachable at `address` unless its network is gone.
    Running {
        /// Where the host reaches the app.
        address: Option<SocketAddr>,
        /// Since when.
        since: Timestamp,
    },
    /// Frozen by somebody.
    Paused,
    /// Ended, by itself or by somebody's hand.
    Exited {
        /// Of its first process; 128 + n for signal n.
        code: i64,
        /// The kernel killed it for want of memory.
        out_of_memory: bool,
    },
    /// The engine is busy removing or restarting it, or cannot say.
    Unclear,
}

/// What the prober last heard from an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// No probe has come back yet.
    Unknown,
    /// The last probe was good.
    Ready,
    /// The last probe was not.
    Failing {
        /// What it met, as in `connection refused` or `HTTP 500`.
        last: String,
        /// Since when no probe has been good.
        since: Timestamp,
    },
}

impl Instance {
    /// Whether it runs, its last probe was good, and it is not about to go.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.leaving && matches!(self.run, Run::Running { address: Some(_), .. }) && self.readiness == Readiness::Ready
    }

    /// Where the host reaches the app, while it runs.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self.run {
            Run::Running { address, .. } => address,
            _ => None,
        }
    }
}
