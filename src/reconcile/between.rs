//! Between two trees: what one would change of a world in which the other serves. Needs neither engine nor records.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::desired::{Desired, Ground};
use super::model;
use super::plan::{Plan, plan};
use super::step::{Next, step};
use crate::tree::{ApiId, Digest, Folder, Tree};
use crate::world::Observed;

/// More steps than it takes to make any API from nothing.
const STEPS: usize = 1000;

/// What `head` would change where `base` serves; of these APIs only, and `unchanged` says how many others there are.
#[must_use]
pub fn between(base: &Tree, head: &Tree, ids: &BTreeSet<ApiId>, unchanged: usize) -> Plan {
    // Which base image there is does not matter: both stand on it.
    let image = Digest::of(b"any");
    let ground = Ground { base: &image, owner: "plan", at: Timestamp::UNIX_EPOCH };
    let pairs: Vec<(Desired, Observed)> = ids
        .iter()
        .filter(|id| base.folders.contains_key(*id) || head.folders.contains_key(*id))
        .map(|id| {
            let observed = serving(id, base.folders.get(id), &ground);
            (Desired::of(id, head.folders.get(id), observed.record.as_ref(), &ground), observed)
        })
        .collect();
    let mut plan = plan(pairs.iter().map(|(desired, observed)| (desired, observed)));
    plan.unchanged += unchanged;
    plan
}

/// The world in which a folder serves; where it is broken, or there is none, nothing does.
fn serving(id: &ApiId, folder: Option<&Folder>, ground: &Ground<'_>) -> Observed {
    let mut observed =
        Observed { at: ground.at, images: BTreeSet::new(), instances: Vec::new(), record: None, route: None };
    if !matches!(folder, Some(Folder::Sound(_))) {
        return observed;
    }
    for _ in 0..STEPS {
        let desired = Desired::of(id, folder, observed.record.as_ref(), ground);
        let Next::Act(next) = step(&desired, &observed) else { break };
        model::perform(&next.action, &desired, &mut observed);
    }
    observed
}
