//! A client that opens a connection for each request.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The status and the body of the answer to `GET path`, over a connection of its own.
pub async fn get(address: SocketAddr, path: &str) -> anyhow::Result<(u16, Bytes)> {
    let (status, _, body) = get_with(address, path, &[]).await?;
    Ok((status, body))
}

/// As [`get`], with headers both ways.
pub async fn get_with(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> anyhow::Result<(u16, HeaderMap, Bytes)> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let mut request = Request::get(path).header("host", "chaos");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (parts, body) = sender.send_request(request.body(Empty::<Bytes>::new())?).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    drop(connection);
    Ok((parts.status.as_u16(), parts.headers, body))
}
