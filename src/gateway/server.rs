//! The server accepts connections, reads requests, and sends each where it belongs.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Gateway;
use super::body::Body;
use super::crowd::Crowd;

/// How long the server rests where no connection can be accepted, which is when file descriptors have run out.
const REST: Duration = Duration::from_millis(100);

/// Connections that are accepted before those that are open already have their turn: a thousand strangers at the door must
/// not keep who is inside waiting.
const AT_ONCE: u32 = 8;

/// What answers requests outside `/run/`: the control surface, `/health`, `/metrics`.
///
/// A request carries [`Peer`] and [`super::RequestId`] in its extensions. The server adds `X-Request-ID` and `X-Process-Time`
/// to every answer, and turns a panic into a 500.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(&self, request: Request<Incoming>) -> HandlerFuture;
}

/// What a [`Handler`] returns.
pub type HandlerFuture = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

impl<F, Answer> Handler for F
where
    F: Fn(Request<Incoming>) -> Answer + Send + Sync + 'static,
    Answer: Future<Output = Response<Body>> + Send + 'static,
{
    fn handle(&self, request: Request<Incoming>) -> HandlerFuture {
        Box::pin(self(request))
    }
}

/// Where a request came from: the other end of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// How patient the server is, and how much it takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// From the opening of a connection, or the end of the last request on it, to the end of the next head.
    pub head_timeout: Duration,
    /// The longest silence in the middle of a request body.
    pub body_silence: Duration,
    /// The longest time for which a caller takes in nothing of what there is to send to it.
    pub write_silence: Duration,
    /// What is read ahead per connection, in bytes; also bounds the head of a request.
    pub read_ahead: usize,
    /// How long nobody asks on a connection of HTTP/1 before the buffers are given back that were held for it.
    pub rest: Duration,
    /// Open connections. Those beyond wait to be accepted.
    pub connections: usize,
    /// Open connections of one address, or one /64 of IPv6. Those beyond are closed at once.
    pub connections_per_address: usize,
    /// How long requests, streams and tunnels may finish after the shutdown has been asked for.
    pub shutdown: Duration,
    /// How long a connection on which nobody asks stays open after that, so that a request which its caller is just writing
    /// is answered. Nobody new is accepted meanwhile.
    pub linger: Duration,
    /// How long connections may go on where another daemon accepts in this one's place.
    pub leaving: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(60),
            body_silence: Duration::from_secs(60),
            write_silence: Duration::from_secs(60),
            read_ahead: 64 * 1024,
            rest: Duration::from_secs(5),
            connections: 10_000,
            connections_per_address: 5000,
            shutdown: Duration::from_secs(30),
            linger: Duration::from_millis(250),
            leaving: Duration::from_secs(15 * 60),
        }
    }
}

/// What all connections of one server share.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) gateway: Arc<Gateway>,
    pub(super) other: Arc<dyn Handler>,
    /// Counts connections and tunnels.
    pub(super) tasks: TaskTracker,
    /// Ends what is still open when the shutdown has taken long enough.
    pub(super) end: CancellationToken,
}

impl Server {
    /// Serves until `shutdown`, then finishes what has begun, as long as [`Limits::shutdown`] lets it; or until it leaves.
    pub(super) async fn run(self, listener: TcpListener, shutdown: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.gateway.limits.connections));
        let crowd = Arc::new(Crowd::default());
        let accept = async || {
            // The semaphore is never closed.
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        let mut accepted_at_once = 0;
        loop {
            if accepted_at_once >= AT_ONCE {
                accepted_at_once = 0;
                tokio::task::yield_now().await;
            }
            let (slot, accepted) = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                // What nobody has accepted stays in the socket's queue, which another daemon has too.
                () = self.gateway.leaving.begun() => break,
                () = self.gateway.leaving.paused(true) => tokio::select! {
                    () = shutdown.cancelled() => break,
                    () = self.gateway.leaving.begun() => break,
                    () = self.gateway.leaving.paused(false) => continue,
                },
                accepted = accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    accepted_at_once += 1;
                    let most = self.gateway.limits.connections_per_address;
                    let Some(member) = Crowd::join(&crowd, peer.ip(), most) else {
                        tracing::debug!(%peer, "closed: so many connections are open from there");
                        continue;
                    };
                    if let Err(error) = stream.set_nodelay(true).and_then(|()| keep_alive(&stream)) {
                        tracing::debug!(%error, "the caller has gone already");
                        continue;
                    }
                    let (server, shutdown) = (self.clone(), shutdown.clone());
                    self.tasks.spawn(async move {
                        server.connection(stream, Peer(peer), shutdown).await;
                        drop((slot, member));
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(REST).await;
                }
            }
        }
        drop(listener);
        self.gateway.leaving.send_away();
        self.tasks.close();
        let left = tokio::time::timeout(self.gateway.limits.leaving, self.tasks.wait());
        if self.gateway.leaving.is_so()
            && let Some(Err(_)) = shutdown.run_until_cancelled(left).await
        {
            tracing::warn!(open = self.tasks.len(), "ending what was begun before the hand-over, and has not ended");
            self.end.cancel();
        }
        if tokio::time::timeout(self.gateway.limits.shutdown, self.tasks.wait()).await.is_err() {
            tracing::warn!(open = self.tasks.len(), "ending what did not finish in time");
            self.end.cancel();
            self.tasks.wait().await;
        }
    }
}

/// Lets the system find out when a caller has vanished without a word, so that a stream to it ends.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
