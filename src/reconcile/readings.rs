//! Readings are what probes last heard from instances. The prober takes them; the reconciler only reads them.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;

use super::prober::Prober;
use crate::tree::{ApiId, Health};
use crate::world::Readiness;
use crate::world::instance::ContainerId;

/// What probes last heard from instances.
#[async_trait]
pub trait Readings: Send + Sync + 'static {
    /// Probes that container from now on; again with the same values changes nothing.
    fn watch(&self, container: &ContainerId, api: &ApiId, address: SocketAddr, health: &Health);

    /// Probes that container no more.
    fn forget(&self, container: &ContainerId);

    /// The containers that are probed.
    fn watched(&self) -> Vec<ContainerId>;

    /// What was last heard.
    fn readiness(&self, container: &ContainerId) -> Readiness;

    /// Waits until it is ready, or until `limit` is over; then what was last heard.
    async fn ready_within(&self, container: &ContainerId, limit: Duration) -> Readiness;
}

#[async_trait]
impl Readings for Prober {
    fn watch(&self, container: &ContainerId, api: &ApiId, address: SocketAddr, health: &Health) {
        Self::watch(self, container.clone(), api.clone(), address, health);
    }

    fn forget(&self, container: &ContainerId) {
        Self::forget(self, container);
    }

    fn watched(&self) -> Vec<ContainerId> {
        Self::watched(self)
    }

    fn readiness(&self, container: &ContainerId) -> Readiness {
        Self::readiness(self, container)
    }

    async fn ready_within(&self, container: &ContainerId, limit: Duration) -> Readiness {
        self.changed(container, limit).await
    }
}
