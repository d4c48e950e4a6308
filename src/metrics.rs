//! Metrics are what is counted while skep works, for Prometheus.
//!
//! Names follow the conventions of Prometheus. What a label may say is bounded: an API that there is, a status code, a kind
//! of step. Nothing that a caller makes up becomes one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto::MetricType;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use serde_json::{Map, Value, json};

use crate::gateway::{RouteState, Routes};

/// In seconds: of requests, from what the gateway itself takes to what a slow app does.
const LATENCIES: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// In seconds: of steps, from a swapped route to an install of everything.
const SPANS: [f64; 10] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];

/// What requests are counted under that were for no API, or for none that their caller may know of.
const NONE: &str = "-";

/// What previews are counted under, all together: they come and go, and what is counted of each would stay.
const PREVIEWS: &str = "--pr-";

/// What is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    latencies: HistogramVec,
    sent: IntCounterVec,
    in_flight: IntGaugeVec,
    queued: IntGaugeVec,
    shed: IntCounterVec,
    connects: HistogramVec,
    connect_failures: IntCounterVec,
    instances: IntGaugeVec,
    apis: IntGaugeVec,
    rounds: HistogramVec,
    steps: HistogramVec,
    troubles: IntCounter,
    failures: IntCounterVec,
    found: IntCounter,
    usage_waiting: IntGauge,
    usage_folded: IntCounter,
    usage_failures: IntCounter,
    told: IntCounterVec,
}

impl Metrics {
    /// Nothing counted yet.
    ///
    /// # Errors
    /// Where a name or a label is none that Prometheus takes, which no run decides.
    pub fn new() -> Result<Arc<Self>, prometheus::Error> {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels)?)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
        };
        let spans = |name: &str, help: &str, labels: &[&str], buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            register(&registry, HistogramVec::new(options, labels)?)
        };
        let counter = |name: &str, help: &str| register(&registry, IntCounter::new(name, help)?);
        let version = gauges("skep_build_info", "The version that runs.", &["version"])?;
        version.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(Arc::new(Self {
            requests: counters("skep_http_requests_total", "Requests that were answered.", &["api", "code"])?,
            latencies: spans(
                "skep_http_request_duration_seconds",
                "From the head of a request to the last byte of its answer.",
                &["api"],
                &LATENCIES,
            )?,
            sent: counters("skep_http_response_bytes_total", "Bytes of the bodies of answers.", &["api"])?,
            in_flight: gauges("skep_http_requests_in_flight", "Requests that instances are at work on.", &["api"])?,
            queued: gauges("skep_http_requests_queued", "Requests that wait for a place at an instance.", &["api"])?,
            shed: counters(
                "skep_http_requests_shed_total",
                "Requests that were told 503 since their API has more to do than it may.",
                &["api"],
            )?,
            connects: spans(
                "skep_upstream_connect_duration_seconds",
                "Connections to instances that came about.",
                &["api"],
                &LATENCIES,
            )?,
            connect_failures: counters(
                "skep_upstream_connect_failures_total",
                "Connections to instances that were refused, or did not come about in time.",
                &["api"],
            )?,
            instances: gauges("skep_routed_instances", "Instances that callers are sent to.", &["api"])?,
            apis: gauges("skep_apis", "APIs, by what callers get.", &["state"])?,
            rounds: spans(
                "skep_reconcile_duration_seconds",
                "From when an API needed a step to where it rests: settled, or waiting for a time or for somebody.",
                &["result"],
                &SPANS,
            )?,
            steps: spans("skep_step_duration_seconds", "Steps of the reconciler.", &["step"], &SPANS)?,
            troubles: counter("skep_troubles_total", "Turns that something outside kept from their step.")?,
            failures: counters("skep_failures_total", "Revisions that failed, by how.", &["kind"])?,
            found: counter("skep_drift_total", "Changes by hand, and bad luck, that were found and put right.")?,
            usage_waiting: register(
                &registry,
                IntGauge::new("skep_usage_waiting", "Sums of usage that are not in the records yet.")?,
            )?,
            usage_folded: counter(
                "skep_usage_folded_total",
                "Requests that usage does not tell apart by key and minute, for lack of room.",
            )?,
            usage_failures: counter("skep_usage_write_failures_total", "Tries to write usage that failed.")?,
            told: counters(
                "skep_told_total",
                "Tries to tell forges (report) and people (notification), by what came of them.",
                &["what", "result"],
            )?,
            registry,
        }))
    }

    /// A request has been answered, or its caller has gone.
    pub fn answered(&self, api: Option<&str>, code: u16, took: Duration, bytes: u64) {
        let api = api.map_or(NONE, label);
        let mut buffer = [0; 3];
        self.requests.with_label_values(&[api, digits(code, &mut buffer)]).inc();
        self.latencies.with_label_values(&[api]).observe(took.as_secs_f64());
        self.sent.with_label_values(&[api]).inc_by(bytes);
    }

    /// A request was sent away, since its API has more to do than it may.
    pub fn shed(&self, api: &str) {
        self.shed.with_label_values(&[label(api)]).inc();
    }

    /// A connection to an instance came about in this time, or did not.
    pub fn connected(&self, api: &str, took: Option<Duration>) {
        match took {
            Some(took) => self.connects.with_label_values(&[label(api)]).observe(took.as_secs_f64()),
            None => self.connect_failures.with_label_values(&[label(api)]).inc(),
        }
    }

    /// An API that needed a step has come to rest: `settled`, or `waiting`.
    pub fn reconciled(&self, result: &str, took: Duration) {
        self.rounds.with_label_values(&[result]).observe(took.as_secs_f64());
    }

    /// A step is done.
    pub fn stepped(&self, step: &str, took: Duration) {
        self.steps.with_label_values(&[step]).observe(took.as_secs_f64());
    }

    /// A turn came to nothing, for a reason outside.
    pub fn troubled(&self) {
        self.troubles.inc();
    }

    /// Somebody elsewhere was told something: `report` or `notification`, and `done`, `again` or `refused`.
    pub fn told(&self, what: &str, result: &str) {
        self.told.with_label_values(&[what, result]).inc();
    }

    /// A revision failed.
    pub fn failed(&self, kind: &str) {
        self.failures.with_label_values(&[kind]).inc();
    }

    /// Something was found that somebody had changed.
    pub fn found(&self) {
        self.found.inc();
    }

    /// So many sums of usage are not in the records yet, and so many requests were ever counted less closely.
    pub fn usage_waits(&self, sums: usize, folded: u64) {
        self.usage_waiting.set(i64::try_from(sums).unwrap_or(i64::MAX));
        self.usage_folded.inc_by(folded.saturating_sub(self.usage_folded.get()));
    }

    /// A try to write usage has failed.
    pub fn usage_not_written(&self) {
        self.usage_failures.inc();
    }

    /// Looks at the routes, for what is counted only when somebody asks.
    pub fn look_at(&self, routes: &Routes) {
        // Summed up before it is set: two who ask at once would add up what each of them has counted.
        let mut sums = BTreeMap::<&str, [i64; 3]>::new();
        let table = routes.table();
        let mut states = [("serving", 0), ("suspended", 0), ("unavailable", 0)];
        for (id, route) in &*table {
            let place = match &route.state {
                RouteState::Serving { upstreams, .. } => {
                    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
                    let in_flight = upstreams.iter().map(|upstream| upstream.in_flight()).sum();
                    let queued = upstreams.iter().map(|upstream| upstream.queued()).sum();
                    let sum = sums.entry(label(id.as_str())).or_default();
                    for (sum, more) in sum.iter_mut().zip([in_flight, queued, upstreams.len() as u64]) {
                        *sum += count(more);
                    }
                    0
                }
                RouteState::Suspended => 1,
                RouteState::Unavailable { .. } => 2,
            };
            states[place].1 += i64::from(!id.is_preview());
        }
        for (place, gauge) in [&self.in_flight, &self.queued, &self.instances].into_iter().enumerate() {
            gauge.reset();
            for (api, sums) in &sums {
                gauge.with_label_values(&[*api]).set(sums[place]);
            }
        }
        for (state, count) in states {
            self.apis.with_label_values(&[state]).set(count);
        }
    }

    /// As Prometheus reads it.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!("metrics: {error}");
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// As JSON: of each name its values with their labels; of spans their count and their sum in seconds.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut all = Map::new();
        for family in self.registry.gather() {
            let kind = family.get_field_type();
            let values = family.get_metric().iter().map(|metric| {
                let labels = metric.get_label().iter().map(|label| (label.name().to_owned(), label.value().into()));
                let mut shown: Map<String, Value> = labels.collect();
                if kind == MetricType::HISTOGRAM {
                    let histogram = metric.get_histogram();
                    shown.insert("count".to_owned(), histogram.get_sample_count().into());
                    shown.insert("sum".to_owned(), json!(histogram.get_sample_sum()));
                } else {
                    let is_counter = kind == MetricType::COUNTER;
                    let value =
                        if is_counter { metric.get_counter().get_value() } else { metric.get_gauge().get_value() };
                    shown.insert("value".to_owned(), json!(value));
                }
                Value::Object(shown)
            });
            all.insert(family.name().to_owned(), values.collect());
        }
        Value::Object(all)
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

/// A status code as text, without memory of its own.
fn digits(code: u16, buffer: &mut [u8; 3]) -> &str {
    for (place, digit) in buffer.iter_mut().zip([code / 100 % 10, code / 10 % 10, code % 10]) {
        *place = b'0' + u8::try_from(digit).unwrap_or_default();
    }
    std::str::from_utf8(buffer).unwrap_or("000")
}

/// What an API is counted under.
fn label(api: &str) -> &str {
    if crate::tree::id::is_preview(api) { PREVIEWS } else { api }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown_both_ways() {
        let metrics = Metrics::new().unwrap();
        metrics.answered(Some("hello"), 200, Duration::from_millis(3), 12);
        metrics.answered(None, 404, Duration::from_millis(1), 0);
        for preview in ["hello--pr-1", "hello--pr-2"] {
            metrics.answered(Some(preview), 200, Duration::from_millis(3), 12);
        }
        metrics.stepped("build", Duration::from_millis(120));
        metrics.look_at(&Routes::default());
        let text = metrics.text();
        for line in [
            "skep_http_requests_total{api=\"hello\",code=\"200\"} 1",
            "skep_http_requests_total{api=\"-\",code=\"404\"} 1",
            "skep_http_requests_total{api=\"--pr-\",code=\"200\"} 2",
            "skep_http_request_duration_seconds_bucket{api=\"hello\",le=\"0.005\"} 1",
            "skep_http_response_bytes_total{api=\"hello\"} 12",
            "skep_step_duration_seconds_count{step=\"build\"} 1",
            "skep_apis{state=\"serving\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert_eq!(metrics.json()["skep_http_response_bytes_total"][0]["value"], 0.0);
        assert_eq!(metrics.json()["skep_step_duration_seconds"][0]["count"], 1);
    }
}
