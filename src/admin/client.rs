//! The client of the control surface: how one skep process asks another.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ApplyLine;
use crate::tree::{ApiId, PullRequest};

/// How long the daemon may take to begin its answer. What follows takes as long as the work does.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why the daemon could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there.
    #[error("cannot reach the daemon at {address}")]
    Unreachable {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It accepts connections and does not answer.
    #[error("the daemon at {0} does not answer; is its container engine up?")]
    Silent(SocketAddr),
    /// The connection broke off.
    #[error("the connection to the daemon broke off")]
    Broken(#[from] hyper::Error),
    /// Its answer broke off, or is longer than any that it gives.
    #[error("the daemon's answer broke off")]
    Cut,
    /// It answered with an error.
    #[error("the daemon answers {0}; is SKEP_ADMIN_KEY the key that it was started with?")]
    Refused(StatusCode),
    /// It does not do what it was asked for, and says why.
    #[error("{0}")]
    Declined(String),
    /// It said something that this skep does not understand.
    #[error("the daemon says something that this skep does not understand: is it of another version?")]
    Garbled(#[from] serde_json::Error),
}

/// Asks whether anybody answers there. Whatever the answer is, somebody gave it.
///
/// # Errors
/// Where nobody does.
pub async fn health(address: SocketAddr) -> Result<(), ClientError> {
    let socket = timeout(PATIENCE, TcpStream::connect(address)).await.map_err(|_| ClientError::Silent(address))?;
    let socket = socket.map_err(|source| ClientError::Unreachable { address, source })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    let connection = tokio::spawn(connection);
    let mut request = Request::new(Empty::<bytes::Bytes>::new());
    *request.uri_mut() = http::Uri::from_static("/health");
    if let Ok(host) = address.to_string().parse() {
        request.headers_mut().insert(http::header::HOST, host);
    }
    timeout(PATIENCE, sender.send_request(request)).await.map_err(|_| ClientError::Silent(address))??;
    connection.abort();
    Ok(())
}

/// What waits at the daemon for its database, and why, in a sentence; `None` where nothing does.
///
/// # Errors
/// Where it cannot be asked.
pub async fn waits(address: SocketAddr, key: &str) -> Result<Option<String>, ClientError> {
    let health: serde_json::Value = ask(address, key, (Method::GET, "/health"), PATIENCE).await?;
    Ok(health["waits"].as_str().map(str::to_owned))
}

/// Whether the daemon reconciles (`leader`) or only serves (`follower`).
///
/// # Errors
/// Where it cannot be asked.
pub async fn role(address: SocketAddr) -> Result<String, ClientError> {
    let health: serde_json::Value = ask(address, "", (Method::GET, "/health"), PATIENCE).await?;
    Ok(health["role"].as_str().unwrap_or_default().to_owned())
}

/// Asks the daemon to look at its tree now, and hands on each line of its answer.
///
/// # Errors
/// Where it cannot be asked, or its answer breaks off.
pub async fn apply(
    address: SocketAddr,
    key: &str,
    only: Option<&ApiId>,
    previews: Option<PullRequest>,
    mut each: impl FnMut(ApplyLine),
) -> Result<(), ClientError> {
    let path = match (only, previews) {
        (Some(id), _) => format!("/admin/apply?id={id}"),
        (None, Some(number)) => format!("/admin/apply?pull_request={number}"),
        (None, None) => "/admin/apply".to_owned(),
    };
    let socket = timeout(PATIENCE, TcpStream::connect(address)).await.map_err(|_| ClientError::Silent(address))?;
    let socket = socket.map_err(|source| ClientError::Unreachable { address, source })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    // Ends by itself with the answer.
    let connection = tokio::spawn(connection);
    let request = Request::post(path)
        .header("host", address.to_string())
        .header("authorization", format!("Bearer {key}"))
        .body(Empty::<bytes::Bytes>::new());
    let Ok(request) = request else { return Err(ClientError::Refused(StatusCode::BAD_REQUEST)) };
    let answer = timeout(PATIENCE, sender.send_request(request)).await.map_err(|_| ClientError::Silent(address))??;
    if answer.status() != StatusCode::OK {
        return Err(ClientError::Refused(answer.status()));
    }
    let mut body = answer.into_body();
    let mut rest = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        rest.extend_from_slice(&data);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            each(serde_json::from_slice(&line)?);
        }
    }
    connection.abort();
    Ok(())
}

/// The most bytes of an answer that is not a stream.
const MOST: usize = 16 * 1024 * 1024;

/// Asks the daemon one thing, and waits for the whole answer, which is JSON.
///
/// # Errors
/// [`ClientError::Declined`] where it says why not; else where it cannot be asked.
pub async fn ask<T: DeserializeOwned>(
    address: SocketAddr,
    key: &str,
    (method, path): (Method, &str),
    patience: Duration,
) -> Result<T, ClientError> {
    let socket = timeout(PATIENCE, TcpStream::connect(address)).await.map_err(|_| ClientError::Silent(address))?;
    let socket = socket.map_err(|source| ClientError::Unreachable { address, source })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", address.to_string())
        .header("authorization", format!("Bearer {key}"))
        .body(Empty::<bytes::Bytes>::new());
    let Ok(request) = request else { return Err(ClientError::Refused(StatusCode::BAD_REQUEST)) };
    let answer = timeout(patience, sender.send_request(request)).await.map_err(|_| ClientError::Silent(address))??;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MOST).collect().await.map_err(|_| ClientError::Cut)?.to_bytes();
    connection.abort();
    if status.is_success() {
        return Ok(serde_json::from_slice(&body)?);
    }
    let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    match said["error"].as_str() {
        Some(why) if status != StatusCode::UNAUTHORIZED => Err(ClientError::Declined(why.to_owned())),
        _ => Err(ClientError::Refused(status)),
    }
}
