//! An upstream is one instance as the gateway sees it: an address, its idle connections, and what is open to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::pool::Pool;
use crate::world::instance::ContainerId;

/// The bit of [`Upstream::admission`] that says that nothing may begin any more; the others count what is open.
const SEALED: u64 = 1 << 63;

/// One instance as the gateway sees it.
///
/// Taking an instance away without losing a request needs more than a count: between a request's look at the table
/// and its own entry in the count, the route may move and the count still be zero. So the count and the right to
/// begin are one atomic number. Whoever takes an instance away
///
/// 1. moves the route away from it, with [`super::Routes::set`];
/// 2. asks [`Upstream::try_seal`] until it says yes, or the drain limit has passed and it calls [`Upstream::close`];
/// 3. removes the container.
///
/// A request that read the old table either began before the seal, which then says no, or finds the upstream sealed,
/// reads the table again, and finds the new route.
#[derive(Debug)]
pub struct Upstream {
    /// Which container; an address alone may come to belong to another one.
    pub container: ContainerId,
    /// Where it listens.
    pub address: SocketAddr,
    pub(super) pool: Pool,
    admission: AtomicU64,
}

impl Upstream {
    /// An instance with nothing in flight.
    #[must_use]
    pub fn new(container: ContainerId, address: SocketAddr) -> Self {
        Self { container, address, pool: Pool::default(), admission: AtomicU64::new(0) }
    }

    /// Requests, streams and tunnels that are open to it now.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.admission.load(Ordering::Acquire) & !SEALED
    }

    /// Whether nothing may begin any more. A sealed upstream must not come into a route again.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.admission.load(Ordering::Acquire) & SEALED != 0
    }

    /// Counts one more request in; `None` where the upstream is sealed, and the caller must read the table again.
    #[must_use]
    pub fn begin(upstream: &Arc<Self>) -> Option<InFlight> {
        let enter = |state: u64| (state & SEALED == 0).then(|| state + 1);
        upstream.admission.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).ok()?;
        Some(InFlight { upstream: Arc::clone(upstream) })
    }

    /// Seals the upstream if nothing is in flight, for ever, and closes its idle connections.
    ///
    /// `true` says that it is sealed, by this call or an earlier one: no request is on it, and none can come.
    #[must_use]
    pub fn try_seal(&self) -> bool {
        match self.admission.compare_exchange(0, SEALED, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                self.pool.close();
                true
            }
            Err(state) => state == SEALED,
        }
    }

    /// Seals the upstream whatever is in flight, and closes its idle connections. What is in flight goes on until the
    /// container ends; for a drain whose limit has passed.
    pub fn close(&self) {
        self.admission.fetch_or(SEALED, Ordering::AcqRel);
        self.pool.close();
    }
}

/// One request, stream or tunnel that is open to an upstream; counted out again when it is dropped.
#[derive(Debug)]
pub struct InFlight {
    upstream: Arc<Upstream>,
}

impl InFlight {
    /// Whose it is.
    #[must_use]
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.upstream.admission.fetch_sub(1, Ordering::AcqRel);
    }
}
