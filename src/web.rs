//! The web: one request of ours to a server elsewhere, over HTTP/1.1 or TLS.
//!
//! For the few and small things that skep asks or tells others. It follows no redirect and keeps no connection.

use bytes::Bytes;
use http::header::{HOST, HeaderValue, USER_AGENT};
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The most bytes of an answer that are read.
const MAX_SIZE: usize = 1024 * 1024;

/// Why there is no answer, in words for a log.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Sends a request to the server that its address names. Whoever calls this says how long it may take.
///
/// # Errors
/// Where the server cannot be reached, is not trusted, does not speak HTTP, or has too much to say.
pub async fn send(request: Request<Bytes>) -> Result<Response<Bytes>, Cause> {
    send_for(request, MAX_SIZE).await
}

/// As [`send`], for an answer of at most so many bytes.
///
/// # Errors
/// As [`send`].
pub async fn send_for(request: Request<Bytes>, most: usize) -> Result<Response<Bytes>, Cause> {
    let uri = request.uri();
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_tls = uri.scheme_str() == Some("https");
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }))).await?;
    if is_tls {
        exchange(tls::connect(host, stream).await?, request, most).await
    } else {
        exchange(stream, request, most).await
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut request: Request<Bytes>,
    most: usize,
) -> Result<Response<Bytes>, Cause> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    // Without the user and password that an address may hold (RFC 9110, section 7.2).
    let authority = request.uri().authority().map_or("", |authority| authority.as_str());
    let host = HeaderValue::from_str(authority.rsplit_once('@').map_or(authority, |(_, host)| host))?;
    let headers = request.headers_mut();
    headers.insert(HOST, host);
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(concat!("skep/", env!("CARGO_PKG_VERSION"))));
    // To a server itself, only the path is sent (RFC 9112, section 3.2.1).
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    let (head, body) = sender.send_request(request.map(Full::new)).await?.into_parts();
    let read = Limited::new(body, most).collect().await;
    connection.abort();
    Ok(Response::from_parts(head, read?.to_bytes()))
}

/// TLS, by the certificates that the host trusts.
mod tls {
    use std::sync::{Arc, OnceLock};

    use tokio::net::TcpStream;
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

    use super::Cause;

    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();

    pub(super) async fn connect(host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, Cause> {
        let config = match CONFIG.get() {
            Some(config) => Arc::clone(config),
            None => {
                // Reads files; once.
                let config = Arc::new(tokio::task::spawn_blocking(config).await??);
                Arc::clone(CONFIG.get_or_init(|| config))
            }
        };
        let name = ServerName::try_from(host.to_owned())?;
        Ok(TlsConnector::from(config).connect(name, stream).await?)
    }

    fn config() -> Result<ClientConfig, Cause> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err("this host has no certificates to trust; set SSL_CERT_FILE".into());
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
    }
}
