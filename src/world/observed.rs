//! Observed is all that one look at the world says about one API.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use super::instance::{ContainerId, Instance};
use super::record::Record;
use crate::engine::ImageTag;
use crate::tree::{Digest, Revision};

/// What one look says about one API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// When the look was taken; the only clock that [`crate::reconcile::step`] knows.
    pub at: Timestamp,
    /// Those of our images that this API can use: shared dependency images, and its own.
    pub images: BTreeSet<ImageTag>,
    /// Every container of this API that carries our owner label, in order of name.
    pub instances: Vec<Instance>,
    /// Its row, if there is one.
    pub record: Option<Record>,
    /// What the gateway does with its requests; `None` where it knows nothing of the API.
    pub route: Option<RouteSeen>,
}

/// What the gateway does with requests to one API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteSeen {
    /// What callers get.
    pub answer: Answer,
    /// Of all the API's settings that are in force there.
    pub settings: Digest,
}

/// What callers of one API get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The answer of one of these instances; never empty.
    Forward {
        /// What they run.
        revision: Revision,
        /// Which containers, and where each listens: one that got another address is another place to send requests to.
        #[serde(serialize_with = "without_addresses")]
        containers: BTreeMap<ContainerId, SocketAddr>,
    },
    /// 503: the tree says to run nothing.
    Suspended,
    /// 503: nothing is there that could answer.
    Unavailable,
}

impl Observed {
    /// Of an API that nobody has seen yet.
    #[must_use]
    pub fn nothing(at: Timestamp) -> Self {
        Self { at, images: BTreeSet::new(), instances: Vec::new(), record: None, route: None }
    }

    /// The containers that the gateway forwards to.
    #[must_use]
    pub fn routed(&self) -> BTreeSet<ContainerId> {
        match &self.route {
            Some(RouteSeen { answer: Answer::Forward { containers, .. }, .. }) => containers.keys().cloned().collect(),
            _ => BTreeSet::new(),
        }
    }
}

/// A plan names the containers; where each listens is known only once it runs.
fn without_addresses<S: Serializer>(
    containers: &BTreeMap<ContainerId, SocketAddr>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(containers.keys())
}
