//! The web: one request of ours to a server elsewhere, over HTTP/1.1 or TLS.
//!
//! For the few and small things that skep asks or tells others. It follows no redirect and keeps no connection. It goes by the
//! proxy that the environment names, as git and curl do; to this host, and to our own containers, never.

mod proxy;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use http::response::Parts;
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use proxy::{Proxies, Proxy};

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
    let (head, body, _connection) = open(Proxies::of_process(), request).await?;
    Ok(Response::from_parts(head, Limited::new(body, most).collect().await?.to_bytes()))
}

/// As [`send_for`], to one of our own containers, which no proxy knows.
///
/// # Errors
/// As [`send`].
pub async fn send_to_own(request: Request<Bytes>, most: usize) -> Result<Response<Bytes>, Cause> {
    let (head, body, _connection) = open(&Proxies::default(), request).await?;
    Ok(Response::from_parts(head, Limited::new(body, most).collect().await?.to_bytes()))
}

/// As [`send`], where the head of an answer is what counts, and is there within that time: of its body, no more is read than so
/// many bytes, nor than comes soon.
///
/// # Errors
/// As [`send`], but for what is wrong with the body.
pub async fn send_for_head(request: Request<Bytes>, most: usize, within: Duration) -> Result<Response<Bytes>, Cause> {
    let opened = tokio::time::timeout(within, open(Proxies::of_process(), request)).await;
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

/// A connection to somebody, of whichever kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

type Wire = Box<dyn Stream>;

/// Sends a request; answers with the head of what comes back, and the way to the rest.
async fn open(proxies: &Proxies, request: Request<Bytes>) -> Result<(Parts, Incoming, Connection), Cause> {
    let uri = request.uri();
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let is_tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let Some(proxy) = proxies.proxy(uri)? else {
        let stream: Wire = Box::new(TcpStream::connect((host.as_str(), port)).await?);
        let stream: Wire = if is_tls { Box::new(tls::connect(&host, stream).await?) } else { stream };
        return begin(stream, request, None).await;
    };
    let stream = proxy.connect().await?;
    if !is_tls {
        return begin(stream, request, Some(&proxy)).await;
    }
    let target = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let stream = proxy.tunnel(stream, &target).await?;
    begin(Box::new(tls::connect(&host, stream).await?), request, None).await
}

/// Sends a request over a connection: to the server itself, or to a `proxy` that hands it on.
async fn begin(
    stream: Wire,
    mut request: Request<Bytes>,
    proxy: Option<&Proxy>,
) -> Result<(Parts, Incoming, Connection), Cause> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = Connection(tokio::spawn(connection));
    // Without the user and password that an address may hold (RFC 9110, section 7.2).
    let authority = request.uri().authority().map_or("", |authority| authority.as_str());
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_owned();
    let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_str(&authority)?);
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(concat!("skep/", env!("CARGO_PKG_VERSION"))));
    if let Some(login) = proxy.and_then(Proxy::login) {
        headers.insert(PROXY_AUTHORIZATION, login.clone());
    }
    // To a server itself, only the path is sent, and to a proxy the whole (RFC 9112, section 3.2).
    *request.uri_mut() = match proxy {
        None => Uri::from(path),
        Some(_) => Uri::builder().scheme("http").authority(authority).path_and_query(path).build()?,
    };
    let (head, body) = sender.send_request(request.map(Full::new)).await?.into_parts();
    match proxy {
        Some(proxy) if head.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(proxy.refusal(head.status, "")),
        _ => Ok((head, body, connection)),
    }
}

/// TLS, by the certificates that the host trusts.
mod tls {
    use std::sync::{Arc, OnceLock};

    use tokio_rustls::TlsConnector;
    use tokio_rustls::client::TlsStream;
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

    use super::{Cause, Wire};

    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();

    pub(super) async fn connect(host: &str, stream: Wire) -> Result<TlsStream<Wire>, Cause> {
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

    /// A proxy that answers one request so; and the lines of its head.
    async fn proxy(answer: &'static str) -> (u16, tokio::task::JoinHandle<Vec<String>>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let length = socket.read(&mut head).await.unwrap();
            socket.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&head[..length]).lines().map(str::to_lowercase).collect()
        });
        (port, asked)
    }

    async fn by(port: u16, login: &str, url: &str) -> Result<u16, String> {
        let proxies = Proxies::of(|name| (name == "all_proxy").then(|| format!("http://{login}127.0.0.1:{port}")));
        let request = Request::post(url).body(Bytes::from_static(b"x")).unwrap();
        open(&proxies, request).await.map(|(head, ..)| head.status.as_u16()).map_err(|cause| cause.to_string())
    }

    #[tokio::test]
    async fn a_proxy_is_told_the_whole_address_and_shown_its_login_and_nobody_else_is() {
        let (port, asked) = proxy("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(by(port, "user:p%40ss@", "http://me:mine@a.example:81/b?c").await, Ok(204));
        let head = asked.await.unwrap();
        assert_eq!(head[0], "post http://a.example:81/b?c http/1.1");
        assert!(head.contains(&"host: a.example:81".to_owned()), "{head:?}");
        assert!(head.contains(&"proxy-authorization: basic dxnlcjpwqhnz".to_owned()), "{head:?}");
        for (answer, url, says) in [
            ("HTTP/1.1 403 No\r\n\r\n", "https://a.example/", "does not connect us to a.example:443: it answers 403"),
            ("HTTP/1.1 407 No\r\n\r\n", "https://[2001:db8::1]/", "does not take the login that all_proxy has (407)"),
            ("HTTP/1.1 407 No\r\n\r\n", "http://a.example/", "does not take the login that all_proxy has (407)"),
        ] {
            let (port, asked) = proxy(answer).await;
            let said = by(port, "user:p%40ss@", url).await.unwrap_err();
            assert!(said.contains(says) && !said.contains("ss@"), "{said}");
            let first = asked.await.unwrap().remove(0);
            assert!(first.starts_with("connect [2001:db8::1]:443 ") || first.contains("a.example"), "{first}");
        }
        let away = by(1, "user:p%40ss@", "http://a.example/").await.unwrap_err();
        assert!(away.starts_with("cannot reach the proxy 127.0.0.1:1 of all_proxy: "), "{away}");
        // To this host the way is short.
        let here = saying("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()).await;
        assert_eq!(by(1, "", &here).await, Ok(200));
    }
}
