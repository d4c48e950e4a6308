//! Errors and panics of skep itself, told to Sentry where `SENTRY_DSN` names a project.
//!
//! Warnings go along as what came before. No request's content does, and no caller's address.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use sentry::protocol::Envelope;
use sentry::types::Dsn;
use sentry::{ClientOptions, Transport};
use tokio::sync::mpsc;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::registry::LookupSpan;

use super::TelemetryError;
use crate::web;

/// How many reports wait at most.
const QUEUE: usize = 64;

/// How long one may take to be told.
const PATIENCE: Duration = Duration::from_secs(10);

/// What we call ourselves there.
const AGENT: &str = concat!("skep/", env!("CARGO_PKG_VERSION"));

/// Errors are told as long as this is there.
pub struct Reporter {
    _client: sentry::ClientInitGuard,
}

impl Reporter {
    /// Tells the project of that DSN; needs a runtime.
    ///
    /// # Errors
    /// Where it is none.
    pub fn begin(dsn: &str, environment: Option<String>) -> Result<Self, TelemetryError> {
        let dsn: Dsn = dsn.parse().map_err(|error| TelemetryError::Dsn(format!("{error}")))?;
        let (sender, envelopes) = mpsc::channel(QUEUE);
        tokio::spawn(tell(dsn.clone(), envelopes));
        let mut options = ClientOptions::default();
        options.dsn = Some(dsn);
        options.release = Some(AGENT.into());
        options.environment = environment.map(Into::into);
        options.send_default_pii = false;
        options.user_agent = AGENT.into();
        let transport: Arc<dyn Transport> = Arc::new(Queue(sender));
        options.transport = Some(Arc::new(move |_: &ClientOptions| Arc::clone(&transport)));
        Ok(Self { _client: sentry::init(options) })
    }
}

/// Hands errors and warnings of the log on.
#[must_use]
pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> {
    let errors = sentry::integrations::tracing::ErrorLayer::new().with_filter(LevelFilter::ERROR);
    errors.and_then(sentry::integrations::tracing::BreadcrumbLayer::new().with_filter(LevelFilter::WARN))
}

/// Where reports wait. One too many is dropped: whoever floods the log with errors has been told.
struct Queue(mpsc::Sender<Envelope>);

impl Transport for Queue {
    fn send_envelope(&self, envelope: Envelope) {
        let _ = self.0.try_send(envelope);
    }
}

async fn tell(dsn: Dsn, mut envelopes: mpsc::Receiver<Envelope>) {
    while let Some(envelope) = envelopes.recv().await {
        let mut body = Vec::new();
        if envelope.to_writer(&mut body).is_err() {
            continue;
        }
        let request = Request::post(dsn.envelope_api_url().as_str())
            .header("x-sentry-auth", dsn.to_auth(Some(AGENT)).to_string())
            .header("content-type", "application/x-sentry-envelope")
            .body(Bytes::from(body));
        let Ok(request) = request else { continue };
        // Not an error: that would be told too.
        match tokio::time::timeout(PATIENCE, web::send(request)).await {
            Ok(Ok(answer)) if answer.status().is_success() => {}
            Ok(Ok(answer)) => tracing::debug!("Sentry answers {}", answer.status()),
            Ok(Err(error)) => tracing::debug!("Sentry cannot be reached: {error}"),
            Err(_) => tracing::debug!("Sentry does not answer"),
        }
    }
}
