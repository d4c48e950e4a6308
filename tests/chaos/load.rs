//! Callers of the API that nobody changes, all the while: one that keeps its connection, and one that opens a new one
//! for each request.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

/// Between two requests of one caller.
const PAUSE: Duration = Duration::from_millis(15);

/// For one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Callers of one API. They end with this.
pub struct Callers {
    seen: Arc<Mutex<Seen>>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

#[derive(Default)]
struct Seen {
    good: Vec<Instant>,
    bad: Vec<Failure>,
}

/// A request that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    pub begun: Instant,
    /// When its connection was opened; `None` where none was.
    pub connected: Option<Instant>,
    pub what: String,
}

impl Callers {
    /// Callers of `GET path`, who expect 200 and `text`.
    pub fn start(address: SocketAddr, path: &str, text: &str) -> Self {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let start = |keeps: bool| {
            let (seen, path, text) = (Arc::clone(&seen), path.to_owned(), text.to_owned());
            AbortOnDropHandle::new(tokio::spawn(call(address, path, text, keeps, seen)))
        };
        Self { _tasks: [start(true), start(false)], seen }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many requests ended well or badly since then.
    pub fn count_since(&self, since: Instant) -> usize {
        let seen = self.seen();
        seen.good.iter().filter(|at| **at >= since).count() + seen.bad.iter().filter(|bad| bad.begun >= since).count()
    }

    /// Those that failed and were begun since then.
    pub fn failed_since(&self, since: Instant) -> Vec<Failure> {
        self.seen().bad.iter().filter(|bad| bad.begun >= since).cloned().collect()
    }

    /// Those that failed though a daemon had taken their connection after the one before was killed at `killed`.
    pub fn failed_after_kill(&self, killed: Instant) -> Vec<Failure> {
        let is_excused = |bad: &Failure| bad.connected.is_none_or(|at| at <= killed);
        self.seen().bad.iter().filter(|bad| bad.begun >= killed && !is_excused(bad)).cloned().collect()
    }
}

async fn call(address: SocketAddr, path: String, text: String, keeps: bool, seen: Arc<Mutex<Seen>>) {
    let mut connection: Option<Connection> = None;
    loop {
        let begun = Instant::now();
        let mut connected = connection.as_ref().map(|connection| connection.opened);
        let ask = async {
            if connection.is_none() {
                connection = Some(Connection::open(address).await?);
                connected = connection.as_ref().map(|connection| connection.opened);
            }
            let Some(connection) = &mut connection else { anyhow::bail!("no connection") };
            connection.ask(&path, &text).await
        };
        let answer = tokio::time::timeout(PATIENCE, ask).await.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer")));
        if !keeps || answer.is_err() {
            connection = None;
        }
        {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            match answer {
                Ok(()) => seen.good.push(Instant::now()),
                Err(error) => seen.bad.push(Failure { begun, connected, what: format!("{error:#}") }),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    opened: Instant,
    _driver: AbortOnDropHandle<()>,
}

impl Connection {
    async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let opened = Instant::now();
        let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move { drop(driver.await) });
        Ok(Self { sender, opened, _driver: AbortOnDropHandle::new(driver) })
    }

    async fn ask(&mut self, path: &str, text: &str) -> anyhow::Result<()> {
        self.sender.ready().await?;
        let request = Request::get(path).header("host", "chaos").body(Empty::new())?;
        let (parts, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        anyhow::ensure!(parts.status == 200 && body == text.as_bytes(), "{}: {body:?}", parts.status);
        Ok(())
    }
}
