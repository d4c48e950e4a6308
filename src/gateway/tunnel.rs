//! A tunnel carries bytes both ways once an upstream has agreed to leave HTTP; a WebSocket is one.

use std::io::Cursor;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, copy_bidirectional, join};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::io::InspectReader;
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::upstream::InFlight;

/// The two sides of a tunnel that is about to open, and what lasts as long as it does.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) caller: OnUpgrade,
    /// Both directions, and what has already come.
    pub(super) upstream: (OwnedReadHalf, OwnedWriteHalf, Bytes),
    pub(super) in_flight: InFlight,
    pub(super) access: Box<Access>,
}

impl Tunnel {
    /// Carries bytes until both sides have ended, one has broken off, or `end` comes.
    pub(super) async fn run(self, end: CancellationToken) {
        let Self { caller, upstream: (reader, writer, ahead), in_flight, mut access } = self;
        let (up, down) = (AtomicU64::new(0), AtomicU64::new(0));
        let carry = async {
            let (caller, upstream) = (caller.await.ok()?, join(Cursor::new(ahead).chain(reader), writer));
            // Counted on the way, since most tunnels do not end but break off.
            let mut caller = InspectReader::new(TokioIo::new(caller), |bytes| add(&up, bytes));
            let mut upstream = InspectReader::new(upstream, |bytes| add(&down, bytes));
            copy_bidirectional(&mut caller, &mut upstream).await.ok()
        };
        end.run_until_cancelled(carry).await;
        access.received(up.into_inner());
        access.sent(down.into_inner());
        drop(in_flight);
    }
}

fn add(count: &AtomicU64, bytes: &[u8]) {
    count.fetch_add(bytes.len() as u64, Ordering::Relaxed);
}
