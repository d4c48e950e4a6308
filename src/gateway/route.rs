//! A route is what the gateway needs to serve one API; an immutable value in an immutable table.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::tree::spec::{RateLimit, RouteSettings};
use crate::tree::{ApiId, Digest, Revision};
use crate::world::instance::ContainerId;
use crate::world::{Answer, RouteSeen};

/// What the gateway needs to serve one API.
#[derive(Debug)]
pub struct Route {
    /// Which API.
    pub id: ApiId,
    /// Limits and who may call.
    pub settings: RouteSettings,
    /// How many requests each caller may make.
    pub rate_limit: Option<RateLimit>,
    /// Of all the API's settings, to notice a route that is behind.
    pub digest: Digest,
    /// What happens to a request.
    pub state: RouteState,
}

/// What happens to a request for one API.
#[derive(Debug)]
pub enum RouteState {
    /// It is forwarded to one of these; never empty.
    Serving {
        /// What they run.
        revision: Revision,
        /// Where they are.
        upstreams: Vec<Arc<Upstream>>,
    },
    /// 503: the tree says to run nothing.
    Suspended,
    /// 503: nothing is ready yet, or nothing is left.
    Unavailable {
        /// For the caller: one sentence without secrets.
        reason: String,
    },
}

/// One instance as the gateway sees it.
#[derive(Debug)]
pub struct Upstream {
    /// Which container; an address alone may come to belong to another one.
    pub container: ContainerId,
    /// Where it listens.
    pub address: SocketAddr,
    in_flight: AtomicU64,
}

impl Upstream {
    /// An instance with nothing in flight.
    #[must_use]
    pub fn new(container: ContainerId, address: SocketAddr) -> Self {
        Self { container, address, in_flight: AtomicU64::new(0) }
    }

    /// (filled in by the gateway)
    #[must_use]
    pub fn try_seal(&self) -> bool {
        self.in_flight() == 0
    }

    /// Requests and streams that are open to it now.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
    }
}

/// The routes of all APIs. Readers see one whole table; a change swaps in another.
#[derive(Debug, Default)]
pub struct Routes {
    table: ArcSwap<HashMap<ApiId, Arc<Route>>>,
}

impl Routes {
    /// The table as it is now.
    #[must_use]
    pub fn table(&self) -> Arc<HashMap<ApiId, Arc<Route>>> {
        self.table.load_full()
    }

    /// Puts in, or takes out, the route of one API. Requests that have begun keep the upstream that they have.
    pub fn set(&self, id: &ApiId, route: Option<Route>) {
        let route = route.map(Arc::new);
        self.table.rcu(|table| {
            let mut table = HashMap::clone(table);
            match &route {
                Some(route) => table.insert(id.clone(), Arc::clone(route)),
                None => table.remove(id),
            };
            table
        });
    }

    /// The upstream of that container, where the route of `id` has it already: a new route must share its count and pool.
    #[must_use]
    pub fn upstream(&self, id: &ApiId, container: &ContainerId) -> Option<Arc<Upstream>> {
        match &self.table.load().get(id)?.state {
            RouteState::Serving { upstreams, .. } => upstreams.iter().find(|u| u.container == *container).cloned(),
            _ => None,
        }
    }

    /// The upstreams that the route of `id` forwards to.
    #[must_use]
    pub fn upstreams(&self, id: &ApiId) -> Vec<Arc<Upstream>> {
        match self.table.load().get(id).map(|route| &route.state) {
            Some(RouteState::Serving { upstreams, .. }) => upstreams.clone(),
            _ => Vec::new(),
        }
    }

    /// What the reconciler needs to know of one route.
    #[must_use]
    pub fn seen(&self, id: &ApiId) -> Option<RouteSeen> {
        let table = self.table.load();
        let route = table.get(id)?;
        let answer = match &route.state {
            RouteState::Serving { revision, upstreams } => Answer::Forward {
                revision: revision.clone(),
                containers: upstreams.iter().map(|upstream| Arc::clone(&upstream.container)).collect(),
            },
            RouteState::Suspended => Answer::Suspended,
            RouteState::Unavailable { .. } => Answer::Unavailable,
        };
        Some(RouteSeen { answer, settings: route.digest })
    }
}
