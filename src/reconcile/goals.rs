//! Goals: what should be of every API, from the whole tree and everything that is known.

use std::collections::{BTreeMap, BTreeSet};

use super::desired::{Basis, Desired};
use crate::settings::Policy;
use crate::tree::{ApiId, Digest, Tree};
use crate::world::Record;

/// What goals are made of.
#[derive(Debug, Clone, Copy)]
pub struct Grounds<'a> {
    /// The tree, or why it could not be read.
    pub tree: Result<&'a Tree, &'a str>,
    /// Every row.
    pub records: &'a BTreeMap<ApiId, Record>,
    /// Every API that has an instance.
    pub running: &'a BTreeSet<ApiId>,
    /// APIs that may go although many go at once.
    pub confirmed: &'a BTreeSet<ApiId>,
    /// The base image.
    pub base: &'a Digest,
    /// This installation.
    pub owner: &'a str,
    /// How many may go at once.
    pub policy: &'a Policy,
}

/// What should be of every API that the tree, the records or the engine know.
#[must_use]
pub fn goals(grounds: &Grounds<'_>) -> BTreeMap<ApiId, Desired> {
    let Grounds { tree, records, running, base, owner, .. } = *grounds;
    let served = |id: &ApiId| records.get(id).and_then(|record| record.served.as_ref());
    let known: BTreeSet<&ApiId> = records.keys().chain(running).collect();
    let tree = match tree {
        Ok(tree) => tree,
        Err(why) => {
            let keep = |id: &ApiId| Desired::keep(id, served(id), owner, Basis::Unreadable(why.to_owned()));
            return known.into_iter().map(|id| (id.clone(), keep(id))).collect();
        }
    };
    let held = held_removals(tree, &known, grounds);
    let ids: BTreeSet<&ApiId> = known.into_iter().chain(tree.folders.keys()).collect();
    let goal = |id: &ApiId| match &held {
        Some((ids, why)) if ids.contains(id) => Desired::keep(id, served(id), owner, Basis::RemovalHeld(why.clone())),
        _ => Desired::of(id, tree.folders.get(id), served(id), base, owner),
    };
    ids.into_iter().map(|id| (id.clone(), goal(id))).collect()
}

/// The removals that wait for a word, and why; `None` where few enough APIs would go.
///
/// A folder that vanished by accident (a bad merge, an empty mount) looks just like one that was meant to go. So a
/// few go at once, and many wait.
fn held_removals(tree: &Tree, known: &BTreeSet<&ApiId>, grounds: &Grounds<'_>) -> Option<(BTreeSet<ApiId>, String)> {
    let gone = known.iter().filter(|id| !tree.folders.contains_key(**id) && !grounds.confirmed.contains(**id));
    let gone: BTreeSet<ApiId> = gone.map(|id| ApiId::clone(id)).collect();
    let policy = grounds.policy;
    let share = known.len() * usize::from(policy.max_deletes_percent) / 100;
    let most = share.max(policy.max_deletes as usize);
    if gone.len() <= most {
        return None;
    }
    let why = format!(
        "{} of {} APIs are gone from the tree, and no more than {most} may go at once; \
         bring their folders back, or run `skep apply --allow-deletes`",
        gone.len(),
        known.len(),
    );
    Some((gone, why))
}
