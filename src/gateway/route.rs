//! A route is what the gateway needs to serve one API; an immutable value in an immutable table.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwap;
use hashbrown::DefaultHashBuilder;
use http::HeaderValue;

use super::networks;
use super::stand_in::StandIn;
use super::upstream::Upstream;
use crate::tree::spec::{RateLimit, RouteSettings};
use crate::tree::{ApiId, Auth, Digest, Revision};
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

/// How many parts the table has. A change copies one part, so that ten thousand APIs cost no more to change than a
/// hundred; a power of two.
const SHARDS: usize = 64;

type Shard = HashMap<ApiId, Arc<Route>, DefaultHashBuilder>;

/// The routes of all APIs. A request sees one route whole; a change swaps in another.
#[derive(Debug)]
pub struct Routes {
    shards: Box<[ArcSwap<Shard>]>,
    hasher: DefaultHashBuilder,
    /// Whose the hosts are that belong to one API alone.
    hosts: ArcSwap<HashMap<String, ApiId>>,
    /// Held while those are made anew.
    naming: Mutex<()>,
    /// Who answers where a route leads nowhere.
    pub(super) stand_ins: ArcSwap<HashMap<ApiId, StandIn>>,
    /// Every upstream that was ever in a route and is still held by a route, a request or the reconciler.
    upstreams: Mutex<HashMap<ContainerId, Weak<Upstream>>>,
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            hosts: ArcSwap::default(),
            naming: Mutex::default(),
            stand_ins: ArcSwap::default(),
            upstreams: Mutex::default(),
        }
    }
}

impl Routes {
    /// All routes, for lists; the routes of two APIs may be of two moments.
    #[must_use]
    pub fn table(&self) -> Arc<HashMap<ApiId, Arc<Route>>> {
        let mut table = HashMap::new();
        for shard in &self.shards {
            table.extend(shard.load().iter().map(|(id, route)| (id.clone(), Arc::clone(route))));
        }
        Arc::new(table)
    }

    /// The route of one API as it is now.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<Arc<Route>> {
        self.shard(id).load().get(id).cloned()
    }

    /// Puts in, or takes out, the route of one API. Requests that have begun keep the upstream that they have.
    pub fn set(&self, id: &ApiId, route: Option<Route>) {
        let route = route.map(Arc::new);
        if let Some(Route { state: RouteState::Serving { upstreams, .. }, .. }) = route.as_deref() {
            self.remember(upstreams);
        }
        let before = self.shard(id.as_str()).rcu(|shard| {
            let mut shard = Shard::clone(shard);
            match &route {
                Some(route) => shard.insert(id.clone(), Arc::clone(route)),
                None => shard.remove(id),
            };
            shard
        });
        let hosts = |route: Option<&Arc<Route>>| route.map(|route| route.settings.hosts.clone()).unwrap_or_default();
        if hosts(before.get(id)) != hosts(route.as_ref()) {
            self.name_hosts();
        }
        // Who waits for a place at one of those before looks where the route leads now.
        if let Some(Route { state: RouteState::Serving { upstreams, .. }, .. }) = before.get(id).map(Arc::as_ref) {
            for upstream in upstreams {
                upstream.line.dissolve();
            }
        } else if let Some(upstream) = self.stand_in(id.as_str()) {
            upstream.line.dissolve();
        }
    }

    /// Whose a host is, as a `Host` header names it, with or without a port.
    pub(super) fn at_host(&self, host: Option<&HeaderValue>) -> Option<ApiId> {
        let hosts = self.hosts.load();
        if hosts.is_empty() {
            return None;
        }
        let host = host?.to_str().ok()?;
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let name = name.strip_suffix('.').unwrap_or(name);
        hosts.get(name).or_else(|| hosts.get(&name.to_ascii_lowercase())).cloned()
    }

    /// The APIs that serve callers at that address who show no key, by id; previews are nobody's to find.
    #[must_use]
    pub fn public(&self, address: IpAddr) -> Vec<ApiId> {
        let table = self.table();
        let public = table
            .values()
            .filter(|route| !route.id.is_preview())
            .filter(|route| route.settings.auth == Auth::None && networks::let_in(&route.settings, address));
        let mut ids: Vec<ApiId> = public.map(|route| route.id.clone()).collect();
        ids.sort();
        ids
    }

    /// Finds out anew whose each host is: of several that claim it, the first by id has it.
    pub(super) fn name_hosts(&self) {
        let _one_at_a_time = self.naming.lock().unwrap_or_else(PoisonError::into_inner);
        let (table, stand_ins) = (self.table(), self.stand_ins.load());
        let others = stand_ins.values().map(|stand_in| &stand_in.route).filter(|route| !table.contains_key(&route.id));
        let mut routes: Vec<_> =
            table.values().chain(others).filter(|route| !route.settings.hosts.is_empty()).collect();
        routes.sort_by(|one, other| other.id.cmp(&one.id));
        let claims = routes
            .into_iter()
            .flat_map(|route| route.settings.hosts.iter().map(|host| (host.clone(), route.id.clone())));
        self.hosts.store(Arc::new(claims.collect()));
    }

    /// The upstream of that container, in the route of `id` or taken out of it: a new route must share its count and
    /// connections.
    ///
    /// `None` says that no request is on it, and none that has read an older route can still come to it. One that is
    /// sealed must not come into a route again; its container is to go.
    #[must_use]
    pub fn upstream(&self, id: &ApiId, container: &ContainerId) -> Option<Arc<Upstream>> {
        let route = self.get(id.as_str());
        let routed = match route.as_deref() {
            Some(Route { state: RouteState::Serving { upstreams, .. }, .. }) => {
                upstreams.iter().find(|upstream| upstream.container == *container).cloned()
            }
            _ => None,
        };
        routed.or_else(|| self.lock().get(container)?.upgrade())
    }

    /// The upstreams that the route of `id` forwards to.
    #[must_use]
    pub fn upstreams(&self, id: &ApiId) -> Vec<Arc<Upstream>> {
        match self.get(id.as_str()).as_deref() {
            Some(Route { state: RouteState::Serving { upstreams, .. }, .. }) => upstreams.clone(),
            _ => Vec::new(),
        }
    }

    /// What the reconciler needs to know of one route.
    #[must_use]
    pub fn seen(&self, id: &ApiId) -> Option<RouteSeen> {
        let route = self.get(id.as_str())?;
        let answer = match &route.state {
            RouteState::Serving { revision, upstreams } => Answer::Forward {
                revision: revision.clone(),
                containers: upstreams
                    .iter()
                    .map(|upstream| (Arc::clone(&upstream.container), upstream.address))
                    .collect(),
            },
            RouteState::Suspended => Answer::Suspended,
            RouteState::Unavailable { .. } => Answer::Unavailable,
        };
        Some(RouteSeen { answer, settings: route.digest })
    }

    #[expect(clippy::cast_possible_truncation, reason = "only the low bits of the hash are used")]
    fn shard(&self, id: &str) -> &ArcSwap<Shard> {
        &self.shards[self.hasher.hash_one(id) as usize % SHARDS]
    }

    fn remember(&self, upstreams: &[Arc<Upstream>]) {
        let mut known = self.lock();
        if known.len() == known.capacity() {
            // About to grow: a good moment to let go of the dead, and rare enough.
            known.retain(|_, upstream| upstream.strong_count() > 0);
        }
        for upstream in upstreams {
            known.insert(Arc::clone(&upstream.container), Arc::downgrade(upstream));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ContainerId, Weak<Upstream>>> {
        // No code under this lock panics halfway through a change.
        self.upstreams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
