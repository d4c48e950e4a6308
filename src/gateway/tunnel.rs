//! A tunnel carries bytes both ways once an upstream has agreed to leave HTTP; a WebSocket is one.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::upstream::InFlight;

/// The two sides of a tunnel that is about to open, and what lasts as long as it does.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) caller: OnUpgrade,
    pub(super) upstream: OnUpgrade,
    pub(super) in_flight: InFlight,
    pub(super) access: Box<Access>,
}

impl Tunnel {
    /// Carries bytes until both sides have ended, one has broken off, or `end` comes.
    pub(super) async fn run(self, end: CancellationToken) {
        let Self { caller, upstream, in_flight, mut access } = self;
        let carry = async {
            let (caller, upstream) = tokio::try_join!(caller, upstream).ok()?;
            copy_bidirectional(&mut TokioIo::new(caller), &mut TokioIo::new(upstream)).await.ok()
        };
        if let Some(Some((up, down))) = end.run_until_cancelled(carry).await {
            access.sent(up + down);
        }
        drop(in_flight);
    }
}
