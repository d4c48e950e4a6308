//! An aim is what the controller wants of an API at this moment: from the tree where it reconciles, else from the records.

use std::collections::{BTreeMap, BTreeSet};

use super::controller::{Controller, NOT_READ};
use super::desired::{Basis, Desired, Ground};
use super::goals::{Grounds, alone, goals, is_for_a_look};
use super::look::Look;
use super::turn::{TurnError, lock};
use crate::engine::Base;
use crate::tree::{ApiId, Tree};
use crate::world::Record;

/// Why nothing is done to an API whose folder has just gone.
const NOT_LOOKED: &str = "its folder is gone; whether it may go is being looked at";

impl Controller {
    /// What should be of every API, after a look.
    #[must_use]
    pub fn goals(&self, look: &Look) -> BTreeMap<ApiId, Desired> {
        let Some(base) = self.base.get().filter(|_| self.world.role.leads()) else {
            let (running, routed) = (look.running(), self.world.routes.table());
            let ids: BTreeSet<&ApiId> = look.records.keys().chain(&running).chain(routed.keys()).collect();
            return ids
                .into_iter()
                .map(|id| (id.clone(), self.follow(id, look.records.get(id).map(|record| &**record))))
                .collect();
        };
        let tree = self.tree();
        let goals = self.grounded(base, look, tree.as_deref().map_err(String::as_str));
        *lock(&self.has_waiting) = goals.values().any(|desired| matches!(desired.basis, Basis::RemovalWaits(_)));
        // A look that had begun before the term says nothing of it.
        if tree.as_ref().is_err_and(|why| why == NOT_READ) {
            return goals;
        }
        let gone = goals.iter().filter(|(id, _)| tree.as_ref().map_or(true, |tree| is_for_a_look(tree, id)));
        *lock(&self.gone) = gone.map(|(id, desired)| (id.clone(), desired.basis.clone())).collect();
        goals
    }

    /// What would be of every API if the tree were another one. Changes nothing of what is aimed at.
    #[must_use]
    pub fn would(&self, look: &Look, tree: &Tree) -> BTreeMap<ApiId, Desired> {
        let Some(base) = self.base.get() else { return BTreeMap::new() };
        let mut goals = self.grounded(base, look, Ok(tree));
        // No tree has those; they come and go beside it.
        goals.retain(|id, _| !id.is_preview());
        goals
    }

    /// What should be of every API by this tree, or without one.
    fn grounded(&self, base: &Base, look: &Look, tree: Result<&Tree, &str>) -> BTreeMap<ApiId, Desired> {
        goals(&Grounds {
            tree,
            records: &look.records,
            running: &look.running(),
            confirmed: &look.confirmed,
            recent: &look.recent,
            base: &base.digest,
            at: self.world.clock.now(),
            owner: &self.world.owner,
            policy: &lock(&self.policy).clone(),
        })
    }

    /// What should be of one API, from the tree as it is now.
    #[must_use]
    pub fn desired(&self, id: &ApiId, record: Option<&Record>) -> Desired {
        let Some(base) = self.base.get().filter(|_| self.world.role.leads()) else {
            return self.follow(id, record);
        };
        let keep = |basis| Desired::keep(id, record, &self.world.owner, basis);
        let tree = match self.tree() {
            Ok(tree) => tree,
            // What another daemon has begun may well be what the tree says.
            Err(why) if why == NOT_READ => return keep(Basis::Undecided(NOT_READ)),
            Err(why) => return keep(Basis::Unreadable(why)),
        };
        if is_for_a_look(&tree, id) {
            // How many others go is not for a turn to see.
            match lock(&self.gone).get(id) {
                Some(Basis::Tree) => {}
                Some(why) => return keep(why.clone()),
                None => return keep(Basis::Undecided(NOT_LOOKED)),
            }
        }
        let ground = Ground { base: &base.digest, owner: &self.world.owner, at: self.world.clock.now() };
        alone(id, &tree, record, &ground)
    }

    /// The APIs whose folders are gone, and which stay until somebody says a word; why.
    #[must_use]
    pub fn held_removals(&self) -> BTreeMap<ApiId, String> {
        let gone = lock(&self.gone);
        let held = gone.iter().filter_map(|(id, basis)| match basis {
            // A preview that waits for what it is of has its folder.
            Basis::RemovalHeld(why) if !id.is_preview() => Some((id.clone(), why.clone())),
            _ => None,
        });
        held.collect()
    }

    /// That an API serves what the records say is in force.
    fn follow(&self, id: &ApiId, record: Option<&Record>) -> Desired {
        // A hold is the concern of whoever reconciles: what it brings about is in force once it serves.
        let record = record.map(|record| Record { hold: None, ..record.clone() });
        Desired::keep(id, record.as_ref(), &self.world.owner, Basis::Following)
    }

    /// A word that an API may go was about the folder that was gone then. Once it is back, the word is spent.
    pub(super) async fn withdraw_confirmations(&self, look: &Look) -> Result<(), TurnError> {
        let Ok(tree) = self.tree() else { return Ok(()) };
        let is_spent = |id: &&ApiId| {
            let is_there = look.records.contains_key(*id) || look.instances.contains_key(*id);
            tree.folders.contains_key(*id) || !is_there
        };
        let spent: Vec<ApiId> = look.confirmed.iter().filter(is_spent).cloned().collect();
        if !spent.is_empty() {
            self.world.records.withdraw_removal(&spent).await?;
        }
        Ok(())
    }
}
