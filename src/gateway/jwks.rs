//! A key set is fetched from where its issuer publishes it, or read from a file.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::settings::JwksPlace;

/// For one fetch, all in all.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The largest set that is read, in bytes.
const MAX_SIZE: usize = 1024 * 1024;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    File(PathBuf, std::io::Error),
    /// The server cannot be reached, or does not speak HTTP.
    #[error("cannot reach {0}: {1}")]
    Unreachable(String, String),
    /// The server answered, but not with a key set.
    #[error("{0} answered with {1}")]
    Status(String, StatusCode),
    /// It is no JSON.
    #[error("this is no key set: {0}")]
    Json(#[from] serde_json::Error),
    /// There is no key in it that can sign tokens.
    #[error("there is no key for RS256 or ES256 in the set")]
    NoKeys,
}

/// Fetches a key set.
pub(super) async fn fetch(place: &JwksPlace) -> Result<Value, FetchError> {
    match place {
        JwksPlace::File(path) => {
            let bytes = tokio::fs::read(path).await.map_err(|error| FetchError::File(path.clone(), error))?;
            Ok(serde_json::from_slice(&bytes)?)
        }
        JwksPlace::Url(uri) => {
            let unreachable = |cause: String| FetchError::Unreachable(uri.to_string(), cause);
            match tokio::time::timeout(TIMEOUT, ask(uri)).await {
                Ok(Ok((StatusCode::OK, bytes))) => Ok(serde_json::from_slice(&bytes)?),
                Ok(Ok((status, _))) => Err(FetchError::Status(uri.to_string(), status)),
                Ok(Err(cause)) => Err(unreachable(cause.to_string())),
                Err(_) => Err(unreachable(format!("no answer within {} s", TIMEOUT.as_secs()))),
            }
        }
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

async fn ask(uri: &Uri) -> Result<(StatusCode, Bytes), Cause> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_tls = uri.scheme_str() == Some("https");
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }))).await?;
    if is_tls { exchange(tls::connect(host, stream).await?, uri).await } else { exchange(stream, uri).await }
}

/// Sends one request and reads its answer.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    uri: &Uri,
) -> Result<(StatusCode, Bytes), Cause> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, uri.authority().map_or("", |authority| authority.as_str()))
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .header(USER_AGENT, concat!("skep/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let read = Limited::new(body, MAX_SIZE).collect().await;
    connection.abort();
    Ok((head.status, read?.to_bytes()))
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
