//! Access is the line that is logged about each request, and what is counted of it, when its answer has been sent or
//! nobody wants it any more.

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::{HeaderValue, Method, StatusCode};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::activity::Open;
use super::upload::Progress;
use crate::metrics::Metrics;
use crate::telemetry::{Link, RequestSpan, Traces};
use crate::tree::ApiId;
use crate::usage::{Counter, Finished, UsedBy};

/// What is logged where the caller went away before there was an answer; nginx made the number known.
const CALLER_GONE: u16 = 499;

/// The name of one request in logs, headers and errors: a UUID of version 7, so they sort by time.
///
/// Always ours. A caller's own `X-Request-ID` could repeat or pretend; to follow a request through several systems,
/// there is `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId(Uuid);

impl RequestId {
    pub(super) fn new() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let milliseconds = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        // `Uuid::now_v7` would ask the kernel for random bytes, and take a lock that all threads share, for each.
        Self(uuid::Builder::from_unix_timestamp_millis(milliseconds, &rand::random()).into_uuid())
    }

    pub(super) fn uuid(self) -> Uuid {
        self.0
    }

    pub(super) fn header(self) -> HeaderValue {
        let mut buffer = [0; Hyphenated::LENGTH];
        super::headers::value(self.0.hyphenated().encode_lower(&mut buffer))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// What is logged about one request. No query and no header is: they hold secrets.
#[derive(Debug)]
pub(super) struct Access {
    began: Instant,
    request_id: RequestId,
    method: Method,
    api: Option<ApiId>,
    status: u16,
    bytes: u64,
    metrics: Option<Arc<Metrics>>,
    /// Who collects traces, and where this request hangs, once that is known.
    traces: Option<(Arc<Traces>, Option<Link>)>,
    usage: Option<Arc<Counter>>,
    /// What it is counted for, also where its caller may not know that there is such an API.
    counted: Option<(ApiId, UsedBy)>,
    /// Where its body is read from.
    upload: Option<Arc<Progress>>,
    /// Bytes of a tunnel from the caller.
    received: u64,
    /// Its place on its connection.
    open: Option<Open>,
}

impl Access {
    pub(super) fn new(
        began: Instant,
        method: Method,
        metrics: Option<Arc<Metrics>>,
        usage: Option<Arc<Counter>>,
    ) -> Self {
        Self {
            began,
            request_id: RequestId::new(),
            method,
            api: None,
            status: CALLER_GONE,
            bytes: 0,
            metrics,
            traces: None,
            usage,
            counted: None,
            upload: None,
            received: 0,
            open: None,
        }
    }

    pub(super) fn request_id(&self) -> RequestId {
        self.request_id
    }

    /// Names the API, once it is sure that there is one and the caller may know.
    pub(super) fn api(&mut self, id: &ApiId) {
        self.api = Some(id.clone());
    }

    /// Tells `traces` of it in the end.
    pub(super) fn tell(&mut self, traces: Option<Arc<Traces>>) {
        self.traces = traces.map(|traces| (traces, None));
    }

    /// Who is told of it in the end.
    pub(super) fn traces(&self) -> Option<&Traces> {
        self.traces.as_ref().map(|(traces, _)| &**traces)
    }

    /// Where it hangs in a trace.
    pub(super) fn hangs(&mut self, at: Link) {
        if let Some((_, link)) = &mut self.traces {
            *link = Some(at);
        }
    }

    /// Says what it is counted for, once it is sure that there is such an API, and again once it is known whose it is.
    pub(super) fn count_for(&mut self, api: &ApiId, by: UsedBy) {
        if self.usage.is_some() {
            self.counted = Some((api.clone(), by));
        }
    }

    /// Says where its body is read from.
    pub(super) fn upload(&mut self, progress: Arc<Progress>) {
        self.upload = Some(progress);
    }

    /// It came on that connection.
    pub(super) fn open(&mut self, open: Open) {
        self.open = Some(open);
    }

    /// What is wrong with its head, of all that hyper does not say.
    pub(super) fn fault(&self) -> Option<&'static str> {
        self.open.as_ref().and_then(Open::fault)
    }

    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        if let Some(open) = &mut self.open {
            open.answered();
        }
    }

    /// Adds bytes of a tunnel from the caller.
    pub(super) fn received(&mut self, bytes: u64) {
        self.received += bytes;
    }

    /// Adds bytes of the answer's body, or of a tunnel to the caller.
    pub(super) fn sent(&mut self, bytes: u64) {
        self.bytes += bytes;
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.began);
        if let Some(open) = self.open.take() {
            open.end(now.into());
        }
        if let Some(metrics) = &self.metrics {
            metrics.answered(self.api.as_ref().map(ApiId::as_str), self.status, took, self.bytes);
        }
        if let (Some(usage), Some((api, by))) = (&self.usage, self.counted.take()) {
            let bytes_in = self.received + self.upload.as_ref().map_or(0, |upload| upload.received());
            usage.count(Finished { api, by, status: self.status, bytes_in, bytes_out: self.bytes, took });
        }
        if let Some((traces, Some(link))) = &self.traces {
            traces.request(&RequestSpan {
                link: *link,
                method: self.method.as_str(),
                api: self.api.as_ref().map(ApiId::as_str),
                status: self.status,
                bytes: self.bytes,
                request_id: self.request_id.to_string(),
                took,
            });
        }
        let api = self.api.as_ref().map_or("-", ApiId::as_str);
        tracing::info!(
            target: "skep::access",
            method = self.method.as_str(),
            id = api,
            status = self.status,
            bytes = self.bytes,
            ms = (took.as_secs_f64() * 100_000.0).round() / 100.0,
            request_id = %self.request_id,
        );
    }
}
