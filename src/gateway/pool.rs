//! A pool holds the idle connections to one upstream, the one used last on top.
//!
//! One pool an instance rather than one map of all hosts: no shared lock, no hashing of an authority per request, and
//! the connections of a removed container end with it.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::alarm::Alarm;
use super::meter::{Meter, Metered};
use super::upload::Upload;
use super::upstream::Upstream;

/// How long a connection may have been idle and still be used. uvicorn closes its side after 5 s unless told
/// otherwise; staying below that keeps us from writing into a connection that is being closed.
pub const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// The most idle connections to one upstream. More than this are a burst that has passed.
pub const MAX_IDLE: usize = 128;

/// How long a connection may take to open. An instance is one hop away: it answers in microseconds or is gone.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// The most bytes of an answer that are read ahead of the caller, per connection; also bounds the answer's head.
pub(super) const READ_AHEAD: usize = 64 * 1024;

/// A connection on which one request at a time can be sent. Dropping it closes it at once.
///
/// At once matters: left to itself, hyper first sends what it still holds, and to an app that reads nothing it would
/// do so for ever, holding the caller's body as well.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Upload>,
    pub(super) meter: Meter,
    alarm: Alarm,
    _driver: AbortOnDropHandle<()>,
}

impl Connection {
    /// Opens a connection.
    ///
    /// # Errors
    /// Where nothing listens there, or it does not answer within [`CONNECT_LIMIT`]; nothing was sent.
    pub(super) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = timeout(CONNECT_LIMIT, TcpStream::connect(address))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no answer"))??;
        stream.set_nodelay(true)?;
        let meter = Meter::default();
        let stream = TokioIo::new(Metered { stream, meter: meter.clone() });
        let (sender, driver) =
            Builder::new().max_buf_size(READ_AHEAD).handshake(stream).await.map_err(io::Error::other)?;
        let driver = tokio::spawn(async move {
            // Its error, if any, reaches whoever waits for an answer or reads a body.
            let _ = driver.with_upgrades().await;
        });
        Ok(Self { sender, meter, alarm: Alarm::default(), _driver: AbortOnDropHandle::new(driver) })
    }

    /// Sends a request, and waits for the head of its answer. Beside it an alarm that tells when that has been too long.
    ///
    /// # Errors
    /// Where there is none. The error holds the request where none of it was written.
    pub(super) fn send(
        &mut self,
        request: Request<Upload>,
    ) -> (impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Upload>>>> + use<>, &mut Alarm) {
        self.meter.begin();
        (self.sender.try_send_request(request), &mut self.alarm)
    }

    /// An answer has begun.
    pub(super) fn answers(&self, response: &Response<Incoming>) {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            self.meter.end();
        }
    }
}

/// The idle connections to one upstream.
#[derive(Debug, Default)]
pub(super) struct Pool {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Oldest first.
    idle: VecDeque<Idle>,
    closed: bool,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// The connection that was used last, if one is idle, fresh enough and still open.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut state = self.lock();
        while let Some(idle) = state.idle.pop_back() {
            if idle.since.elapsed() >= IDLE_LIMIT {
                // Those below it are older still.
                state.idle.clear();
                return None;
            }
            if idle.connection.sender.is_ready() {
                return Some(idle.connection);
            }
        }
        None
    }

    /// Puts back a connection that is ready for the next request. A closed or full pool drops it.
    fn put(&self, connection: Connection) {
        let now = Instant::now();
        let mut state = self.lock();
        while state.idle.front().is_some_and(|oldest| now - oldest.since >= IDLE_LIMIT) {
            state.idle.pop_front();
        }
        if !state.closed && state.idle.len() < MAX_IDLE {
            state.idle.push_back(Idle { connection, since: now });
        }
    }

    /// Drops what is idle and takes nothing back any more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.idle.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code under this lock panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts a connection back whose answer has been read to its end.
///
/// Its task may need another turn to see that itself, so where it is not ready yet it is waited for, for a moment.
pub(super) fn put_back(upstream: &Arc<Upstream>, mut connection: Connection) {
    if connection.sender.is_ready() {
        upstream.pool.put(connection);
    } else if !connection.sender.is_closed()
        && let Ok(runtime) = tokio::runtime::Handle::try_current()
    {
        let upstream = Arc::clone(upstream);
        runtime.spawn(async move {
            if matches!(timeout(CONNECT_LIMIT, connection.sender.ready()).await, Ok(Ok(()))) {
                upstream.pool.put(connection);
            }
        });
    }
}
