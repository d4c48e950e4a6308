//! Observed is all that one look at the world says about one API.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::instance::{ContainerId, Instance};
use super::record::Record;
use crate::tree::{Digest, Revision};

/// What one look says about one API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// When the look was taken; the only clock that [`crate::reconcile::step`] knows.
    pub at: Timestamp,
    /// The dependency image of the revision that should serve is there.
    pub has_dependencies: bool,
    /// The image of the revision that should serve is there.
    pub has_image: bool,
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
    /// What it forwards to.
    pub revision: Option<Revision>,
    /// The containers that it forwards to; empty where it answers 503.
    pub containers: BTreeSet<ContainerId>,
    /// Of the settings in force.
    pub settings: Digest,
}
