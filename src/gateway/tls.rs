//! TLS is what the gateway speaks with callers from elsewhere once it has a certificate; the files may change at any
//! time, as they do when a certificate is renewed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ServerConfig};

/// What is offered by ALPN, the preferred first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// How often the files are read again. They are small; and whatever replaces them (a rename, a link that moves, a mount
/// that is swapped), their bytes tell.
const RELOAD_EVERY: Duration = Duration::from_secs(2);

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file holds no PEM of what it should.
    #[error("{path} holds no {what} in PEM")]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// The two do not go together, or are of a kind that is not understood.
    #[error("{certificate} and {key} cannot be used together")]
    Pair {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of its key.
        key: PathBuf,
        /// What is wrong with them.
        #[source]
        source: rustls::Error,
    },
}

/// A certificate with its key, as the files hold them now.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    config: ArcSwap<ServerConfig>,
    /// What [`Tls::config`] was made of.
    first: Contents,
}

/// The bytes of both files.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// Reads a certificate, with those that lead to its root behind it, and its key, both in PEM.
    ///
    /// # Errors
    /// Where either cannot be read or used.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let first = Contents { certificate: read(certificate)?, key: read(key)? };
        let config = ArcSwap::from_pointee(config(certificate, key, &first)?);
        Ok(Self { certificate: certificate.to_owned(), key: key.to_owned(), config, first })
    }

    /// What the next handshake is made with.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.load_full())
    }

    /// Takes up what the files come to hold, for ever. What cannot be used is logged once, and what was there is kept.
    pub(super) async fn follow(&self) {
        let mut seen = self.first.clone();
        loop {
            tokio::time::sleep(RELOAD_EVERY).await;
            let (Ok(certificate), Ok(key)) =
                (tokio::fs::read(&self.certificate).await, tokio::fs::read(&self.key).await)
            else {
                // In the middle of a swap; or gone, and then a restart will say so.
                continue;
            };
            let now = Contents { certificate, key };
            if now == seen {
                continue;
            }
            match config(&self.certificate, &self.key, &now) {
                Ok(config) => {
                    self.config.store(Arc::new(config));
                    tracing::info!(certificate = %self.certificate.display(), "a new certificate is in use");
                }
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    tracing::warn!("the certificate before stays in use: {error}: {cause}");
                }
            }
            seen = now;
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Io { path: path.to_owned(), source })
}

fn config(certificate: &Path, key: &Path, contents: &Contents) -> Result<ServerConfig, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&contents.certificate)
        .collect::<Result<_, _>>()
        .and_then(|chain: Vec<_>| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) })
        .map_err(|source| TlsError::Pem { path: certificate.to_owned(), what: "certificate", source })?;
    let private = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|source| TlsError::Pem {
        path: key.to_owned(),
        what: "private key",
        source,
    })?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|source| TlsError::Pair { certificate: certificate.to_owned(), key: key.to_owned(), source })?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(config)
}
