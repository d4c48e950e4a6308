//! The server accepts connections, reads requests, and sends each where it belongs.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Gateway;
use super::body::Body;
use super::exchange::Exchange;

/// How long the server rests where no connection can be accepted, which is when file descriptors have run out.
const REST: Duration = Duration::from_millis(100);

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
    /// From the first byte of a request, or the end of the last one, to the end of the head.
    pub head_timeout: Duration,
    /// The longest silence in the middle of a request body.
    pub body_silence: Duration,
    /// What is read ahead per connection, in bytes; also bounds the head of a request.
    pub read_ahead: usize,
    /// Open connections. Those beyond wait to be accepted.
    pub connections: usize,
    /// How long requests, streams and tunnels may finish after the shutdown has been asked for.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_timeout: Duration::from_secs(60),
            body_silence: Duration::from_secs(60),
            read_ahead: 64 * 1024,
            connections: 10_000,
            shutdown: Duration::from_secs(30),
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
    /// Serves until `shutdown`, then finishes what has begun, as long as [`Limits::shutdown`] lets it.
    pub(super) async fn run(self, listener: TcpListener, shutdown: CancellationToken) {
        let slots = Arc::new(Semaphore::new(self.gateway.limits.connections));
        let accept = async || {
            // The semaphore is never closed.
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        while let Some((slot, accepted)) = shutdown.run_until_cancelled(accept()).await {
            match accepted {
                Ok((stream, peer)) => {
                    let (server, shutdown) = (self.clone(), shutdown.clone());
                    self.tasks.spawn(async move {
                        server.connection(stream, Peer(peer), shutdown).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(REST).await;
                }
            }
        }
        drop(listener);
        self.tasks.close();
        if tokio::time::timeout(self.gateway.limits.shutdown, self.tasks.wait()).await.is_err() {
            tracing::warn!(open = self.tasks.len(), "ending what did not finish in time");
            self.end.cancel();
            self.tasks.wait().await;
        }
    }

    async fn connection(&self, stream: TcpStream, peer: Peer, shutdown: CancellationToken) {
        if let Err(error) = stream.set_nodelay(true).and_then(|()| keep_alive(&stream)) {
            tracing::debug!(%error, "the caller has gone already");
            return;
        }
        let limits = &self.gateway.limits;
        let service = service_fn(|request| self.answer(request, peer));
        let connection = Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            .max_buf_size(limits.read_ahead)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let mut stopping = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection broke off");
                    }
                    return;
                }
                () = shutdown.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = self.end.cancelled() => return,
            }
        }
    }

    /// Answers one request, whatever happens.
    async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Result<Response<Body>, Infallible> {
        Ok(Exchange::new(self, peer, request.method().clone()).run(request).await)
    }
}

/// Lets the system find out when a caller has vanished without a word, so that a stream to it ends.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
