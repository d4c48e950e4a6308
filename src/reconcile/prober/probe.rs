//! A probe asks an app once whether it is well. Bounded in time and memory whatever the app does.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::tree::Probe;

/// The most bytes of headers. hyper itself would go to 400 KiB.
const MAX_HEAD: usize = 16 * 1024;

/// The most bytes of a body that are read before hanging up: enough that most apps finish what they were saying, and
/// write no complaint about us into their log.
const MAX_BODY: usize = 64 * 1024;

/// The longest that a body is read. The answer is known by then.
const BODY_TIME: Duration = Duration::from_millis(100);

/// What is asked, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Of the app.
    pub address: SocketAddr,
    /// HTTP or TCP.
    pub kind: Probe,
    /// For HTTP: the path to ask for, perhaps with a query.
    pub path: String,
    /// For the whole probe, wall clock.
    pub timeout: Duration,
}

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A good answer.
    Good,
    /// A bad one or none; why, in a few words.
    Missed(String),
    /// This host could not even ask, for want of file descriptors or ports. Says nothing about the app.
    NotAsked(String),
}

/// Asks once. A connection that is not made within `connect` is a miss.
pub async fn probe(target: &Target, connect: Duration) -> Outcome {
    match timeout(target.timeout, ask(target, connect)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Missed(format!("no answer within {:?}", target.timeout)),
    }
}

async fn ask(target: &Target, connect: Duration) -> Outcome {
    let stream = match timeout(connect, TcpStream::connect(target.address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return from_connect(&error),
        Err(_) => return Outcome::Missed(format!("no connection within {connect:?}")),
    };
    if target.kind == Probe::Tcp {
        return Outcome::Good;
    }
    match get(stream, &target.path).await {
        Ok(status) if status.as_u16() < 500 => Outcome::Good,
        Ok(status) => Outcome::Missed(format!("HTTP {}", status.as_u16())),
        Err(error) => Outcome::Missed(from_http(&error)),
    }
}

/// The status of the answer to a `GET`.
async fn get(stream: TcpStream, path: &str) -> Result<http::StatusCode, GetError> {
    let request = http::Request::get(path)
        .header(HOST, "localhost")
        .header(USER_AGENT, concat!("skep-probe/", env!("CARGO_PKG_VERSION")))
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| GetError::Path)?;
    let (mut sender, connection) = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await?;
    let mut connection = Some(Box::pin(connection));
    let response = while_driving(&mut connection, sender.send_request(request)).await?;
    let status = response.status();
    let drained = while_driving(&mut connection, drain(response.into_body()));
    // Whether all of the body came makes no difference.
    let _ = timeout(BODY_TIME, drained).await;
    Ok(status)
}

async fn drain(mut body: Incoming) {
    let mut len = 0;
    while let Some(Ok(frame)) = body.frame().await {
        len += frame.data_ref().map_or(0, Bytes::len);
        if len > MAX_BODY {
            break;
        }
    }
}

type Driven = Option<std::pin::Pin<Box<Connection<TokioIo<TcpStream>, Empty<Bytes>>>>>;

/// Waits for `work` while the connection does its reading and writing. No task of its own, so that nothing can be left
/// behind.
async fn while_driving<T>(connection: &mut Driven, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    loop {
        let Some(driven) = connection else { return work.await };
        tokio::select! {
            biased;
            outcome = &mut work => return outcome,
            // What ended it, `work` gets to know.
            _ = driven => *connection = None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum GetError {
    #[error("the health path is no path")]
    Path,
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

fn from_connect(error: &io::Error) -> Outcome {
    const WANT: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::ADDRNOTAVAIL];
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Outcome::Missed("connection refused".to_owned()),
        _ if Errno::from_io_error(error).is_some_and(|errno| WANT.contains(&errno)) => {
            Outcome::NotAsked(error.to_string())
        }
        kind => Outcome::Missed(kind.to_string()),
    }
}

fn from_http(error: &GetError) -> String {
    let GetError::Http(http) = error else { return error.to_string() };
    let closed = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe, io::ErrorKind::UnexpectedEof];
    let io = http.source().and_then(|source| source.downcast_ref::<io::Error>());
    if http.is_parse_too_large() {
        "too many or too long headers".to_owned()
    } else if http.is_parse() {
        "an answer that is not HTTP".to_owned()
    } else if http.is_incomplete_message() || http.is_canceled() || io.is_some_and(|io| closed.contains(&io.kind())) {
        "connection closed before an answer".to_owned()
    } else {
        io.map_or_else(|| http.to_string(), |io| io.kind().to_string())
    }
}
