//! Routing moves callers from one instance to another, and lets what has begun end before an instance goes.

use std::sync::Arc;
use std::time::Duration;

use super::desired::Desired;
use super::perform::SLICE;
use super::step::Step;
use super::turn::{Draining, TurnError, World, lock};
use crate::gateway::{Route, RouteState, Upstream};
use crate::tree::{ApiId, Spec};
use crate::world::instance::ContainerId;
use crate::world::{Answer, Instance, Observed};

/// Between two counts of what an instance has still to finish.
const BETWEEN_COUNTS: Duration = Duration::from_millis(10);

impl World {
    pub(super) async fn route(
        &self,
        id: &ApiId,
        observed: &Observed,
        answer: &Answer,
        spec: &Spec,
        step: &Step,
    ) -> Result<(), TurnError> {
        let state = match answer {
            Answer::Suspended => RouteState::Suspended,
            Answer::Unavailable => RouteState::Unavailable { reason: "API is not ready yet".to_owned() },
            Answer::Forward { revision, containers } => {
                let instances =
                    observed.instances.iter().filter(|instance| containers.contains_key(&instance.container));
                let upstreams: Vec<Arc<Upstream>> =
                    instances.filter_map(|instance| self.upstream(id, instance)).collect();
                if upstreams.is_empty() {
                    return Ok(());
                }
                RouteState::Serving { revision: revision.clone(), upstreams }
            }
        };
        self.replace_route(id, Some(route(id, spec, state)));
        match answer {
            Answer::Forward { revision, .. } => self.write_down(id, Some(revision), "serving", &step.reason).await,
            Answer::Suspended => self.write_down(id, None, "suspended", &step.reason).await,
            Answer::Unavailable => Ok(()),
        }
    }

    /// The upstream of an instance: the one that is there, with its count and its connections, or a new one.
    fn upstream(&self, id: &ApiId, instance: &Instance) -> Option<Arc<Upstream>> {
        let address = instance.address()?;
        let known = self.routes.upstream(id, &instance.container);
        let known = known.filter(|upstream| upstream.address == address && !upstream.is_sealed());
        Some(known.unwrap_or_else(|| Arc::new(Upstream::new(Arc::clone(&instance.container), address))))
    }

    /// Swaps the route, and from then on counts what the instances that left it have still to finish.
    pub(super) fn replace_route(&self, id: &ApiId, route: Option<Route>) {
        let before = self.routes.upstreams(id);
        self.routes.set(id, route);
        let after = self.routes.upstreams(id);
        let mut draining = lock(&self.draining);
        let since = self.clock.elapsed();
        for upstream in before {
            match after.iter().find(|kept| kept.container == upstream.container) {
                // The same process at another address: what was its own may be another's by now.
                Some(kept) if !Arc::ptr_eq(kept, &upstream) => upstream.close(),
                Some(_) => {}
                None => {
                    draining.insert(Arc::clone(&upstream.container), Draining { upstream, since });
                }
            }
        }
        for upstream in after {
            draining.remove(&upstream.container);
        }
    }

    /// Waits a short while for an instance to finish.
    pub(super) async fn drain(&self, container: &ContainerId) {
        let mut left = SLICE;
        while self.in_flight(container) > 0 && !left.is_zero() {
            self.clock.sleep(BETWEEN_COUNTS).await;
            left = left.saturating_sub(BETWEEN_COUNTS);
        }
    }

    fn in_flight(&self, container: &ContainerId) -> u64 {
        let draining = lock(&self.draining);
        draining.get(container).map_or(0, |draining| draining.upstream.in_flight())
    }

    /// Whether every other daemon that serves callers has let go of an instance, or has had the time to.
    pub(super) async fn is_let_go_by_all(&self, instance: &Instance, desired: &Desired) -> Result<bool, TurnError> {
        let followers = self.records.followers().await?;
        if followers.is_empty() {
            return Ok(true);
        }
        let leaving = self.records.leaving().await?;
        let by = leaving.get(&*instance.container);
        if followers.keys().all(|daemon| by.is_some_and(|by| by.contains(daemon))) {
            return Ok(true);
        }
        let since = *lock(&self.waiting).entry(Arc::clone(&instance.container)).or_insert(self.clock.elapsed());
        let drain =
            desired.target_of(&instance.revision).or(desired.target()).map_or(Duration::ZERO, |t| t.spec.drain.0);
        // Other daemons hear of it within a second; what they have in flight has as long as ours has.
        Ok(self.clock.elapsed() >= since + drain + Duration::from_secs(2))
    }

    /// Whether no request can reach an instance any more: the last word before it is removed.
    ///
    /// A request may have read the old route and not have counted itself yet, so a count of zero alone is not enough.
    pub(super) fn may_go(&self, instance: &Instance, desired: &Desired) -> bool {
        let draining = lock(&self.draining);
        let Some(Draining { upstream, since }) = draining.get(&instance.container) else {
            return true;
        };
        let drain =
            desired.target_of(&instance.revision).or(desired.target()).map_or(Duration::ZERO, |t| t.spec.drain.0);
        if upstream.try_seal() {
            return true;
        }
        let is_over = instance.address().is_none() || self.clock.elapsed() >= *since + drain;
        if is_over {
            upstream.close();
        }
        is_over
    }
}

/// A route with the settings of a spec.
#[must_use]
pub fn route(id: &ApiId, spec: &Spec, state: RouteState) -> Route {
    let (settings, rate_limit, digest) = (spec.route.clone(), spec.rate_limit, spec.digest());
    Route { id: id.clone(), settings, rate_limit, digest, state }
}
