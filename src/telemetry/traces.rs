//! Traces are spans of requests and steps, sent to a collector in batches (OTLP over HTTP).
//!
//! They wait in a queue with a bound. Where a collector is away or slow, spans are dropped, and never a request held up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::TelemetryError;
use crate::tree::ApiId;
use crate::web;

/// How many spans wait at most.
const QUEUE: usize = 8192;

/// How many are sent at once, and how long they wait for company.
const BATCH: (usize, Duration) = (512, Duration::from_secs(2));

/// How long a collector may take for a batch.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it may take once we are told to stop.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// How often at most somebody is told that a collector does not take spans.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// The variables that name a collector; the first goes before the other.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// The variables that name a protocol.
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];

/// Takes in spans.
#[derive(Debug)]
pub struct Traces {
    spans: mpsc::Sender<SpanData>,
    scope: InstrumentationScope,
    /// Of traces that begin here, how many of a thousand are sent.
    sampled: u32,
    /// Whether what a caller's trace says about itself counts.
    follows_parent: bool,
    dropped: AtomicU64,
}

/// Which trace a span is of, and where it hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The trace.
    pub trace: u128,
    /// The span of whoever called, where one did.
    pub parent: Option<u64>,
    /// The span itself.
    pub span: u64,
    /// Whether anybody wants it.
    pub sampled: bool,
}

/// A request, when it is over.
#[derive(Debug)]
pub struct RequestSpan<'a> {
    /// Where it hangs.
    pub link: Link,
    /// Its method.
    pub method: &'a str,
    /// The API, where it was for one.
    pub api: Option<&'a str>,
    /// The status of its answer.
    pub status: u16,
    /// Bytes of the body of its answer.
    pub bytes: u64,
    /// Its name in logs.
    pub request_id: String,
    /// How long it took, until now.
    pub took: Duration,
}

/// Sends what [`Traces`] takes in.
pub struct Worker {
    spans: mpsc::Receiver<SpanData>,
    exporter: SpanExporter,
    traces: Arc<Traces>,
}

impl Traces {
    /// As the variables of OpenTelemetry's specification say; `None` where they name no collector.
    ///
    /// # Errors
    /// Where they ask for what skep does not do.
    pub fn from_environment(
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<(Arc<Self>, Worker)>, TelemetryError> {
        let get = |name: &str| environment(name).filter(|value| !value.is_empty());
        let is_off = get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || get("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        if is_off || ENDPOINTS.iter().all(|name| get(name).is_none()) {
            return Ok(None);
        }
        for name in PROTOCOLS {
            if get(name).is_some_and(|protocol| protocol != "http/protobuf") {
                return Err(TelemetryError::Protocol(name));
            }
        }
        let (sampled, follows_parent) = sampler(get("OTEL_TRACES_SAMPLER"), get("OTEL_TRACES_SAMPLER_ARG"))?;
        let exporter = SpanExporter::builder().with_http().with_http_client(Client).build();
        let mut exporter = exporter.map_err(|error| TelemetryError::Endpoint(error.to_string()))?;
        let mut resource = Resource::builder();
        if get("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("skep");
        }
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        exporter.set_resource(&resource.with_attribute(version).build());
        let (sender, spans) = mpsc::channel(QUEUE);
        let scope = InstrumentationScope::builder("skep").with_version(env!("CARGO_PKG_VERSION")).build();
        let dropped = AtomicU64::new(0);
        let traces = Arc::new(Self { spans: sender, scope, sampled, follows_parent, dropped });
        Ok(Some((Arc::clone(&traces), Worker { spans, exporter, traces })))
    }

    /// Whether a trace is to be sent: one that begins here, or one whose caller said that it `was` or was not.
    #[must_use]
    pub fn samples(&self, was: Option<bool>) -> bool {
        match was.filter(|_| self.follows_parent) {
            Some(was) => was,
            None => rand::random_range(0..1000) < self.sampled,
        }
    }

    /// Takes in a request that is over.
    pub fn request(&self, request: &RequestSpan<'_>) {
        if !request.link.sampled {
            return;
        }
        let route = request.api.map_or("/", |_| "/run/{id}/{path}");
        let mut attributes = vec![
            KeyValue::new("http.request.method", request.method.to_owned()),
            KeyValue::new("http.response.status_code", i64::from(request.status)),
            KeyValue::new("http.response.body.size", i64::try_from(request.bytes).unwrap_or(i64::MAX)),
            KeyValue::new("http.route", route),
            KeyValue::new("skep.request_id", request.request_id.clone()),
        ];
        attributes.extend(request.api.map(|api| KeyValue::new("skep.api", api.to_owned())));
        let status = if request.status >= 500 { Status::error("") } else { Status::Unset };
        let name = format!("{} {route}", request.method);
        self.add(request.link, SpanKind::Server, name, request.took, attributes, status);
    }

    /// Takes in a step that the reconciler has just taken, a trace of its own.
    pub fn step(&self, api: &ApiId, name: &str, took: Duration, error: Option<String>) {
        let link = Link { trace: rand::random(), parent: None, span: rand::random(), sampled: self.samples(None) };
        if !link.sampled {
            return;
        }
        let attributes = vec![KeyValue::new("skep.api", api.to_string()), KeyValue::new("skep.step", name.to_owned())];
        let status = error.map_or(Status::Unset, Status::error);
        self.add(link, SpanKind::Internal, format!("step {name}"), took, attributes, status);
    }

    fn add(
        &self,
        link: Link,
        span_kind: SpanKind,
        name: String,
        took: Duration,
        attributes: Vec<KeyValue>,
        status: Status,
    ) {
        let end_time = SystemTime::now();
        let context = SpanContext::new(
            TraceId::from(link.trace),
            SpanId::from(link.span),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        );
        let span = SpanData {
            span_context: context,
            parent_span_id: link.parent.map_or(SpanId::INVALID, SpanId::from),
            parent_span_is_remote: link.parent.is_some(),
            span_kind,
            name: name.into(),
            start_time: end_time.checked_sub(took).unwrap_or(end_time),
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: self.scope.clone(),
        };
        if self.spans.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Worker {
    /// Sends batches until `stop`, and what is left then.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut told: Option<std::time::Instant> = None;
        let mut batch = Vec::with_capacity(BATCH.0);
        loop {
            let is_over = tokio::select! {
                () = stop.cancelled() => true,
                () = self.gather(&mut batch) => false,
            };
            if is_over {
                while batch.len() < QUEUE
                    && let Ok(span) = self.spans.try_recv()
                {
                    batch.push(span);
                }
            }
            if !batch.is_empty() {
                let trouble = tokio::select! {
                    sent = self.exporter.export(std::mem::take(&mut batch)) => sent.err().map(|error| error.to_string()),
                    () = patience(&stop) => Some("it does not answer".to_owned()),
                };
                let dropped = self.traces.dropped.swap(0, Ordering::Relaxed);
                if (trouble.is_some() || dropped > 0) && told.is_none_or(|told| told.elapsed() > TOLD_EVERY) {
                    told = Some(std::time::Instant::now());
                    let trouble = trouble.unwrap_or_else(|| "it is slow".to_owned());
                    tracing::warn!(
                        "the collector of traces does not take all spans: {trouble}; {dropped} were dropped"
                    );
                }
            }
            if is_over {
                return;
            }
        }
    }

    /// Waits for spans, and then for a batch of them to be full, or old enough.
    async fn gather(&mut self, batch: &mut Vec<SpanData>) {
        let until = tokio::time::Instant::now() + BATCH.1;
        while batch.len() < BATCH.0 {
            match tokio::time::timeout_at(until, self.spans.recv()).await {
                Ok(Some(span)) => batch.push(span),
                // This holds a sender itself, so there is always one.
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// Lasts as long as a collector may take.
async fn patience(stop: &CancellationToken) {
    if tokio::time::timeout(PATIENCE, stop.cancelled()).await.is_ok() {
        tokio::time::sleep(LAST_PATIENCE).await;
    }
}

/// How OTLP goes over the wire.
#[derive(Debug)]
struct Client;

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        web::send(request).await
    }
}

/// Of a thousand traces that begin here, how many are sent, and whether those that others began say it themselves.
fn sampler(name: Option<String>, ratio: Option<String>) -> Result<(u32, bool), TelemetryError> {
    let name = name.unwrap_or_else(|| "parentbased_always_on".to_owned());
    let (kind, follows_parent) = match name.strip_prefix("parentbased_") {
        Some(kind) => (kind, true),
        None => (name.as_str(), false),
    };
    let ratio = || -> Result<f64, TelemetryError> {
        let ratio = ratio.as_deref().map_or(Ok(1.0), str::parse::<f64>).map_err(|_| TelemetryError::Ratio)?;
        if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err(TelemetryError::Ratio) }
    };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 1000")]
    let sampled = match kind {
        "always_on" => 1000,
        "always_off" => 0,
        "traceidratio" => (ratio()? * 1000.0).round() as u32,
        _ => return Err(TelemetryError::Sampler),
    };
    Ok((sampled, follows_parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<bool, TelemetryError> {
        let get = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Traces::from_environment(get).map(|traces| traces.is_some())
    }

    #[test]
    fn a_collector_is_taken_from_the_environment_and_nothing_done_without() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        assert!(!with(&[]).unwrap());
        assert!(with(&[endpoint]).unwrap());
        assert!(!with(&[endpoint, ("OTEL_SDK_DISABLED", "true")]).unwrap());
        assert!(!with(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]).unwrap());
        assert!(with(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).is_err());
        assert!(with(&[endpoint, ("OTEL_TRACES_SAMPLER", "jaeger_remote")]).is_err());
        assert!(with(&[endpoint, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "2")]).is_err());
    }

    #[test]
    fn samplers_are_those_of_the_specification() {
        let of = |name: &str, ratio: &str| sampler(Some(name.to_owned()), Some(ratio.to_owned())).unwrap();
        assert_eq!(sampler(None, None).unwrap(), (1000, true));
        assert_eq!(of("always_off", ""), (0, false));
        assert_eq!(of("parentbased_traceidratio", "0.25"), (250, true));
    }
}
