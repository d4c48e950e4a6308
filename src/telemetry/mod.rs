//! Telemetry: what skep tells collectors of others about its work, where some are named: spans by OTLP, errors to Sentry.
//!
//! Both are asked for by the variables that their own tools know, so that one setting serves a whole fleet.

mod sentry;
mod traces;

pub use self::sentry::{Reporter, layer};
pub use self::traces::{Link, RequestSpan, Traces, Worker};

/// Why telemetry cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `SENTRY_DSN` is none.
    #[error("SENTRY_DSN: this is no DSN: {0}; copy it from the project's settings, as in https://key@sentry.example/1")]
    Dsn(String),
    /// Only one of OTLP's protocols is spoken.
    #[error(
        "{0}: skep speaks http/protobuf only; set it to that, and the endpoint to the collector's port for it (4318)"
    )]
    Protocol(&'static str),
    /// The ratio of a sampler is none.
    #[error("OTEL_TRACES_SAMPLER_ARG: this is no number from 0 to 1")]
    Ratio,
    /// A sampler that is not known.
    #[error(
        "OTEL_TRACES_SAMPLER: skep knows always_on, always_off, traceidratio, and each with parentbased_ before it"
    )]
    Sampler,
    /// An endpoint that cannot be used.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
    Endpoint(String),
}
