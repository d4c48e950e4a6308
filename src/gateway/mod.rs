//! The gateway is what callers see: it checks keys and limits, and forwards requests to instances.
//!
//! It reads only its own snapshot (routes and keys) and goes on serving with the engine, the database and git all down.
//!
//! A request passes through the files in this order: [`server`] accepts its `connection`, which finds out by its
//! `wire` whether it is `tls` and which `version` of HTTP is spoken; `exchange` answers it, for which `target` reads its path,
//! `networks` look at its address and `cors` at where its page is from, [`keys`] or [`tokens`] with `rate` let it in on a `pass`, `balance` finds it an [`upstream`] of its [`route`] by its
//! `standing` and `line`, `forward` has a `sending` of it go there, under the head that is `outgoing`, on a `hop` of the `pool`, where `reply` and `framing` say
//! what is an answer and a `meter` how much, and `upload` and `download` carry the bodies, with an `encoder` where `compress`
//! says so, `tunnel` a WebSocket.
//!
//! Beside that, `catalog` joins what the APIs say of themselves, with `openapi`.

mod access;
mod activity;
mod alarm;
mod balance;
mod body;
mod catalog;
mod compress;
mod connection;
mod cors;
mod crowd;
mod download;
mod encoder;
mod exchange;
mod forward;
mod frames;
mod framing;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
#[allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::naive_bytecount,
    reason = "to panic is what these functions are for"
)]
pub mod fuzzing;
mod half;
mod headers;
mod heads;
mod hop;
mod jwks;
pub mod keys;
mod leaving;
mod line;
mod meter;
mod networks;
mod openapi;
mod origin;
mod outgoing;
mod pass;
pub mod pool;
mod rate;
mod refusal;
mod relay;
mod reply;
pub mod route;
mod scan;
mod sending;
pub mod server;
mod stand_in;
mod standing;
mod target;
mod tls;
pub mod tokens;
mod trace;
mod tunnel;
mod upload;
pub mod upstream;
mod version;
mod wire;

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::settings::JwtSettings;

pub use access::RequestId;
pub use body::{Body, BodyError};
pub use catalog::Catalog;
pub(crate) use crowd::{Crowd, Member};
pub use keys::{Keys, Pusher};
pub use leaving::Leaving;
pub use refusal::{json_answer, not_found};
pub use route::{Route, RouteState, Routes};
pub use server::{Handler, HandlerFuture, Limits, Peer};
pub use stand_in::StandIn;
pub use tls::{Tls, TlsError};
pub use tokens::Tokens;
pub use upstream::{InFlight, Upstream};

use crate::metrics::Metrics;
use crate::telemetry::Traces;
use crate::usage::Counter;

/// After how many turns of its tasks a thread looks whether something new has come in. tokio's own 61 suits tasks that are done in
/// no time; some callers have theirs busy for as long as they may be, and whoever else calls waits for so many turns of these.
pub const TURNS_BETWEEN_LOOKS: u32 = 16;

/// Serves callers from a snapshot of routes and keys, which others change while it runs.
#[derive(Debug)]
pub struct Gateway {
    routes: Arc<Routes>,
    keys: Arc<Keys>,
    rates: rate::RateLimiter,
    limits: Limits,
    tls: Option<Arc<Tls>>,
    metrics: Option<Arc<Metrics>>,
    traces: Option<Arc<Traces>>,
    usage: Option<Arc<Counter>>,
    tokens: Arc<Tokens>,
    leaving: Leaving,
    /// One for each answer that is being compressed.
    encoders: Arc<Semaphore>,
}

impl Gateway {
    /// A gateway that serves nobody yet.
    #[must_use]
    pub fn new(routes: Arc<Routes>, keys: Arc<Keys>, limits: Limits) -> Self {
        let tokens = Arc::new(Tokens::new(JwtSettings::default()));
        let rates = rate::RateLimiter::default();
        let encoders = Arc::new(Semaphore::new(encoder::MOST));
        let (metrics, traces, usage, leaving) = (None, None, None, Leaving::default());
        Self { routes, keys, rates, limits, tls: None, metrics, traces, usage, tokens, leaving, encoders }
    }

    /// Counts what it does in `metrics`.
    #[must_use]
    pub fn counting(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Tells `traces` of each request to an API.
    #[must_use]
    pub fn traced(mut self, traces: Option<Arc<Traces>>) -> Self {
        self.traces = traces;
        self
    }

    /// Counts what callers ask of each API in `usage`, each request when it has ended.
    #[must_use]
    pub fn tallying(self, usage: Arc<Counter>) -> Self {
        Self { usage: Some(usage), ..self }
    }

    /// With these tokens; without, none lets anybody in.
    #[must_use]
    pub fn with_tokens(mut self, tokens: Arc<Tokens>) -> Self {
        self.tokens = tokens;
        self
    }

    /// Speaks TLS with callers from elsewhere, and with those of this host that begin with it.
    #[must_use]
    pub fn with_tls(self, tls: Tls) -> Self {
        Self { tls: Some(Arc::new(tls)), ..self }
    }

    /// Leaves when `leaving` says so; without, only a shutdown ends it.
    #[must_use]
    pub fn until(self, leaving: Leaving) -> Self {
        Self { leaving, ..self }
    }

    /// Serves callers on `listener`, and `other` everything outside `/run/`, until `shutdown`; then accepts no more,
    /// and returns when what has begun has ended, or [`Limits::shutdown`] has passed. Where it leaves instead, connections end
    /// by themselves, each after the next answer on it, within [`Limits::leaving`].
    pub async fn serve(self: Arc<Self>, listener: TcpListener, other: Arc<dyn Handler>, shutdown: CancellationToken) {
        let _follows =
            self.tls.clone().map(|tls| AbortOnDropHandle::new(tokio::spawn(async move { tls.follow().await })));
        let server = server::Server { gateway: self, other, tasks: TaskTracker::new(), end: CancellationToken::new() };
        server.run(listener, shutdown).await;
    }
}
