//! TLS to a Postgres: how far the server must show who it is.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::address::{Address, Trust};
use crate::records::RecordsError;

/// How long a connection outside the pool may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);

/// What makes connections of an address safe. Reads files.
///
/// # Errors
/// Where the authority's file cannot be read, or this host trusts nobody.
pub fn connector(address: &Address) -> Result<MakeRustlsConnect, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let verifier: Arc<dyn ServerCertVerifier> = match address.trust {
        Trust::Plain | Trust::Prefer | Trust::Encrypted => Arc::new(Lenient { provider, chain: None }),
        Trust::Authority => {
            let chain = Some(chain(address.ca.as_deref(), Arc::clone(&provider))?);
            Arc::new(Lenient { provider, chain })
        }
        Trust::Full => chain(address.ca.as_deref(), provider)?,
    };
    // What looks at certificates is named outright, since `sslmode` has kinds of trust that the library has not.
    Ok(MakeRustlsConnect::new(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()))
}

/// A connection of one's own, for what is no record of ours. What goes wrong with it, its calls say.
///
/// # Errors
/// [`RecordsError::Open`] where the server cannot be reached or is not trusted.
pub(in crate::records) async fn connect(address: &Address) -> Result<tokio_postgres::Client, RecordsError> {
    let failed = |cause: String| RecordsError::Open { place: address.place().to_owned(), cause };
    let connecting = address.config.connect(connector(address).map_err(failed)?);
    let (client, connection) = match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
        Ok(connected) => connected.map_err(|error| failed(super::trouble::explain(&error)))?,
        Err(_) => return Err(failed(format!("no answer within {CONNECT_WITHIN:?}"))),
    };
    // Ends with the client.
    tokio::spawn(async move { drop(connection.await) });
    Ok(client)
}

fn chain(ca: Option<&Path>, provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            let failed = |cause: String| format!("the authority's file {} cannot be used: {cause}", path.display());
            let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
            for certificate in CertificateDer::pem_slice_iter(&text) {
                let certificate = certificate.map_err(|error| failed(error.to_string()))?;
                roots.add(certificate).map_err(|error| failed(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(failed("there is no certificate in it".to_owned()));
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(
                    "this host has no certificates to trust; set SSL_CERT_FILE, or `records: { ca: … }`".to_owned()
                );
            }
        }
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|error| error.to_string())
}

/// Takes certificates that the library would not: for another name, or, where no chain is asked for, any.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    chain: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(end_entity, intermediates, server_name, ocsp, now) {
            // The chain is looked at before the name.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
