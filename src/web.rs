//! The web: one request of ours to a server elsewhere, over HTTP/1.1 or TLS.
//!
//! For the few and small things that skep asks or tells others. It follows no redirect and keeps no connection.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HOST, HeaderValue, USER_AGENT};
use http::response::Parts;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// The most bytes of an answer that are read.
const MAX_SIZE: usize = 1024 * 1024;

/// How long the rest of an answer is waited for where its head is what counts.
const BODY_WITHIN: Duration = Duration::from_secs(3);

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
    let (head, body, _connection) = open(request).await?;
    Ok(Response::from_parts(head, Limited::new(body, most).collect().await?.to_bytes()))
}

/// As [`send`], where the head of an answer is what counts, and is there within that time: of its body, no more is read than so
/// many bytes, nor than comes soon.
///
/// # Errors
/// As [`send`], but for what is wrong with the body.
pub async fn send_for_head(request: Request<Bytes>, most: usize, within: Duration) -> Result<Response<Bytes>, Cause> {
    let opened = tokio::time::timeout(within, open(request)).await;
    let (head, mut body, _connection) = opened.map_err(|_| format!("no answer within {within:?}"))??;
    let mut read = BytesMut::new();
    let reading = async {
        while read.len() < most
            && let Some(Ok(frame)) = body.frame().await
        {
            if let Ok(data) = frame.into_data() {
                read.extend_from_slice(&data);
            }
        }
    };
    let _ = tokio::time::timeout(BODY_WITHIN, reading).await;
    read.truncate(most);
    Ok(Response::from_parts(head, read.freeze()))
}

/// A connection, which ends with this.
struct Connection(tokio::task::JoinHandle<hyper::Result<()>>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends a request; answers with the head of what comes back, and the way to the rest.
async fn open(request: Request<Bytes>) -> Result<(Parts, Incoming, Connection), Cause> {
    let uri = request.uri();
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_tls = uri.scheme_str() == Some("https");
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }))).await?;
    if is_tls { begin(tls::connect(host, stream).await?, request).await } else { begin(stream, request).await }
}

async fn begin(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut request: Request<Bytes>,
) -> Result<(Parts, Incoming, Connection), Cause> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = Connection(tokio::spawn(connection));
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
    Ok((head, body, connection))
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// The address of a server that answers one request with these bytes, and then says no more and does not hang up.
    async fn saying(answer: String) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            assert!(socket.read(&mut [0; 1024]).await.unwrap() > 0);
            // Whoever has read enough hangs up.
            let _ = socket.write_all(answer.as_bytes()).await;
            std::future::pending::<()>().await;
        });
        format!("http://{address}/")
    }

    #[tokio::test]
    async fn where_the_head_counts_too_large_a_body_or_none_of_it_is_no_matter() {
        let within = Duration::from_secs(10);
        let get = |url: String| Request::get(url).body(Bytes::new()).unwrap();
        let large = format!("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{}", "x".repeat(5000));
        let answer = send_for_head(get(saying(large.clone()).await), 1000, within).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().len()), (200, 1000));
        assert!(send_for(get(saying(large).await), 1000).await.is_err());
        let stuck = "HTTP/1.1 202 Accepted\r\nContent-Length: 50\r\n\r\nbegun".to_owned();
        let answer = send_for_head(get(saying(stuck).await), 1000, within).await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.body()[..]), (202, &b"begun"[..]));
    }
}
