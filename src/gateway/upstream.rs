//! An upstream is one instance as the gateway sees it: an address, its idle connections, and what is open to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::line::Line;
use super::pool::Pool;
use super::standing::Standing;
use crate::world::instance::ContainerId;

/// The bit of [`Upstream::admission`] that says that nothing may begin any more. The lower half of the others counts
/// what is open, the upper half how much of that lasts.
const SEALED: u64 = 1 << 63;

/// One in the lower half.
const OPEN: u64 = 1;

/// One in the upper half.
const LASTING: u64 = 1 << 32;

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
    pub(super) standing: Standing,
    pub(super) line: Line,
    admission: AtomicU64,
}

impl Upstream {
    /// An instance with nothing in flight.
    #[must_use]
    pub fn new(container: ContainerId, address: SocketAddr) -> Self {
        Self {
            container,
            address,
            pool: Pool::default(),
            standing: Standing::default(),
            line: Line::default(),
            admission: AtomicU64::new(0),
        }
    }

    /// Requests, streams and tunnels that are open to it now.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        open(self.admission.load(Ordering::SeqCst))
    }

    /// Requests that wait for a place at it.
    #[must_use]
    pub fn queued(&self) -> u64 {
        self.line.waiting()
    }

    /// Requests that are being answered now: what is in flight, but for what lasts.
    pub(super) fn busy(&self) -> u64 {
        busy(self.admission.load(Ordering::SeqCst))
    }

    /// What it has to do, and what waits for a place.
    pub(super) fn load(&self) -> u64 {
        self.in_flight() + self.line.waiting()
    }

    /// Whether nothing may begin any more. A sealed upstream must not come into a route again.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.admission.load(Ordering::SeqCst) & SEALED != 0
    }

    /// Counts one more request in; `None` where the upstream is sealed, and the caller must read the table again.
    #[must_use]
    pub fn begin(upstream: &Arc<Self>) -> Option<InFlight> {
        match Self::enter(upstream, u64::MAX) {
            Entry::In(in_flight) => Some(in_flight),
            Entry::Full | Entry::Sealed => None,
        }
    }

    /// Counts one more request in where fewer than `limit` are being answered.
    pub(super) fn enter(upstream: &Arc<Self>, limit: u64) -> Entry {
        let enter = |state: u64| (state & SEALED == 0 && busy(state) < limit).then(|| state + OPEN);
        match upstream.admission.fetch_update(Ordering::SeqCst, Ordering::SeqCst, enter) {
            Ok(_) => Entry::In(InFlight { upstream: Arc::clone(upstream), lasts: false }),
            Err(state) if state & SEALED != 0 => Entry::Sealed,
            Err(_) => Entry::Full,
        }
    }

    /// Seals the upstream if nothing is in flight, for ever, and closes its idle connections.
    ///
    /// `true` says that it is sealed, by this call or an earlier one: no request is on it, and none can come.
    #[must_use]
    pub fn try_seal(&self) -> bool {
        match self.admission.compare_exchange(0, SEALED, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => {
                self.pool.close();
                self.line.dissolve();
                true
            }
            Err(state) => state == SEALED,
        }
    }

    /// Seals the upstream whatever is in flight, and closes its idle connections. What is in flight goes on until the
    /// container ends; for a drain whose limit has passed.
    pub fn close(&self) {
        self.admission.fetch_or(SEALED, Ordering::SeqCst);
        self.pool.close();
        self.line.dissolve();
    }
}

/// How many a state of [`Upstream::admission`] says are open.
fn open(state: u64) -> u64 {
    state & (LASTING - 1)
}

/// How many of those are being answered, and don't just last.
fn busy(state: u64) -> u64 {
    open(state) - (state & !SEALED) / LASTING
}

/// What became of the wish to begin.
#[derive(Debug)]
pub(super) enum Entry {
    /// It is counted in.
    In(InFlight),
    /// As many are being answered as may be.
    Full,
    /// The table must be read again.
    Sealed,
}

/// One request, stream or tunnel that is open to an upstream; counted out again when it is dropped.
#[derive(Debug)]
pub struct InFlight {
    upstream: Arc<Upstream>,
    lasts: bool,
}

impl InFlight {
    /// Whose it is.
    #[must_use]
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Says that it has become a stream of events or a tunnel: open for as long as its caller likes, and mostly idle.
    /// It stays in flight, and gives its place to one that wants an answer.
    pub(super) fn lasts(&mut self) {
        if !self.lasts {
            self.lasts = true;
            self.upstream.admission.fetch_add(LASTING, Ordering::SeqCst);
            self.upstream.line.freed();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.upstream.admission.fetch_sub(if self.lasts { OPEN + LASTING } else { OPEN }, Ordering::SeqCst);
        self.upstream.line.freed();
    }
}
