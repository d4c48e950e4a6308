//! A tunnel carries bytes both ways once an upstream has agreed to leave HTTP; a WebSocket is one.

use std::sync::atomic::{AtomicU64, Ordering};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::pool::Connection;
use super::upstream::InFlight;

/// The two sides of a tunnel that is about to open, and what lasts as long as it does.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) caller: OnUpgrade,
    pub(super) upstream: OnUpgrade,
    /// What `upstream` comes out of.
    pub(super) connection: Connection,
    pub(super) in_flight: InFlight,
    pub(super) access: Box<Access>,
}

impl Tunnel {
    /// Carries bytes until both sides have ended, one has broken off, or `end` comes.
    pub(super) async fn run(self, end: CancellationToken) {
        let Self { caller, upstream, connection, in_flight, mut access } = self;
        let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
        let carry = async {
            let (caller, upstream) = tokio::try_join!(caller, upstream).ok()?;
            // Counted on the way, since most tunnels do not end but break off.
            let mut caller = InspectReader::new(TokioIo::new(caller), |bytes| add(&up, bytes));
            let mut upstream = InspectReader::new(TokioIo::new(upstream), |bytes| add(&down, bytes));
            copy_bidirectional(&mut caller, &mut upstream).await.ok()
        };
        end.run_until_cancelled(carry).await;
        access.received(up.into_inner());
        access.sent(down.into_inner());
        drop((connection, in_flight));
    }
}

fn add(count: &AtomicU64, bytes: &[u8]) {
    count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
}
