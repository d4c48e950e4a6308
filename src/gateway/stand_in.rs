//! A stand-in answers for an API while nothing of ours does: a container of the system that skep takes over from.
//!
//! It is beside the routes and not in them: whoever makes routes knows nothing of it, and a route that serves goes before
//! it from the moment in which it is there.

use std::collections::HashMap;
use std::sync::Arc;

use super::route::{Route, Routes};
use super::upstream::Upstream;
use crate::tree::ApiId;

/// Who answers for an API while nothing of ours does.
#[derive(Debug, Clone)]
pub struct StandIn {
    /// What holds for its callers while the API has no route of its own. Leads nowhere by itself.
    pub route: Arc<Route>,
    /// Where the old container is.
    pub upstream: Arc<Upstream>,
}

impl Routes {
    /// The route that a caller of an API gets: its own, else the one that a stand-in came with.
    #[must_use]
    pub fn for_caller(&self, id: &str) -> Option<Arc<Route>> {
        self.get(id).or_else(|| self.stand_ins.load().get(id).map(|stand_in| Arc::clone(&stand_in.route)))
    }

    /// Who stands in for an API where its route leads nowhere.
    #[must_use]
    pub fn stand_in(&self, id: &str) -> Option<Arc<Upstream>> {
        self.stand_ins.load().get(id).map(|stand_in| Arc::clone(&stand_in.upstream))
    }

    /// Puts these in the place of all that there were. Requests that have begun keep the upstream that they have.
    pub fn set_stand_ins(&self, stand_ins: HashMap<ApiId, StandIn>) {
        let before = self.stand_ins.swap(Arc::new(stand_ins));
        let now = self.stand_ins.load();
        self.name_hosts();
        for (id, gone) in &*before {
            if !now.get(id).is_some_and(|kept| Arc::ptr_eq(&kept.upstream, &gone.upstream)) {
                gone.upstream.line.dissolve();
            }
        }
    }

    /// Takes away the stand-in of one API, and gives what it was.
    pub fn dismiss_stand_in(&self, id: &ApiId) -> Option<StandIn> {
        let before = self.stand_ins.rcu(|stand_ins| {
            let mut stand_ins = HashMap::clone(stand_ins);
            stand_ins.remove(id);
            stand_ins
        });
        let gone = before.get(id).cloned()?;
        gone.upstream.line.dissolve();
        Some(gone)
    }
}
