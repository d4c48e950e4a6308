//! Assuming routes: a command that has no gateway takes it that the routes are as a daemon would have them now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::desired::{Desired, Goal};
use super::look::Look;
use super::routing::route;
use super::turn::World;
use crate::gateway::{RouteState, Upstream};
use crate::tree::ApiId;
use crate::world::{Instance, Readiness, Served};

/// How long the first probes may take. One that takes longer counts as not answering.
const FIRST_PROBES: Duration = Duration::from_secs(2);

impl World {
    /// Probes what runs, and points the routes at what served last, as far as it is there. What has not served yet
    /// answers that it is not ready.
    pub async fn assume_routes(&self, look: &Look, goals: &BTreeMap<ApiId, Desired>) {
        let serving = || look.records.iter().filter_map(|(id, record)| Some((id, record.served.as_ref()?)));
        let instances = |id: &ApiId, served: &Served| -> Vec<&Instance> {
            let of_revision =
                |instance: &&Instance| instance.revision == served.revision && instance.address().is_some();
            look.instances.get(id).into_iter().flatten().filter(of_revision).collect()
        };
        let mut waiting = BTreeSet::new();
        for (id, served) in serving() {
            for instance in instances(id, served) {
                if let Some(address) = instance.address() {
                    self.readings.watch(&instance.container, id, address, &served.spec.health);
                    waiting.insert(Arc::clone(&instance.container));
                }
            }
        }
        let deadline = tokio::time::Instant::now() + FIRST_PROBES;
        for container in &waiting {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if self.readings.readiness(container) == Readiness::Unknown {
                self.readings.ready_within(container, left).await;
            }
        }
        for (id, desired) in goals.iter().filter(|(id, _)| look.records.get(*id).is_some_and(|r| r.served.is_none())) {
            if let Goal::Run(target) = &desired.goal {
                let state = RouteState::Unavailable { reason: String::new() };
                self.routes.set(id, Some(route(id, &target.spec, state)));
            }
        }
        for (id, served) in serving() {
            let (spec, revision) = (&served.spec, served.revision.clone());
            let there = instances(id, served);
            let is_ready = |instance: &&&Instance| self.readings.readiness(&instance.container) == Readiness::Ready;
            let ready: Vec<&Instance> = there.iter().filter(is_ready).copied().collect();
            let upstreams: Vec<Arc<Upstream>> = if ready.is_empty() { &there } else { &ready }
                .iter()
                .filter(|instance| instance.number <= spec.replicas)
                .filter_map(|instance| {
                    Some(Arc::new(Upstream::new(Arc::clone(&instance.container), instance.address()?)))
                })
                .collect();
            let state = match upstreams.is_empty() {
                _ if spec.suspend => RouteState::Suspended,
                true => RouteState::Unavailable { reason: String::new() },
                false => RouteState::Serving { revision, upstreams },
            };
            self.routes.set(id, Some(route(id, spec, state)));
        }
    }
}
