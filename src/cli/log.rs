//! The log of a daemon, and what collectors elsewhere are told.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::reconcile::World;
use crate::telemetry::{self, Reporter, Traces, Worker};

/// How to write the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What a daemon tells others of its work, where they are named.
pub(super) struct Telling {
    /// Spans, for a collector of OpenTelemetry.
    pub(super) traces: Option<(Arc<Traces>, Worker)>,
    /// Errors, for Sentry.
    pub(super) reporter: Option<Reporter>,
}

impl Telling {
    /// Who takes in spans.
    pub(super) fn traces(&self) -> Option<Arc<Traces>> {
        self.traces.as_ref().map(|(traces, _)| Arc::clone(traces))
    }

    /// Tells of what the reconciler does too, until `stop`; errors as long as the answer is kept.
    pub(super) fn tell_of(self, world: &World, tasks: &mut JoinSet<()>, stop: &CancellationToken) -> Option<Reporter> {
        if let Some((traces, worker)) = self.traces {
            // Nobody has set it before: the world has just been made.
            let _ = world.traces.set(traces);
            tasks.spawn(worker.run(stop.clone()));
        }
        self.reporter
    }
}

/// Starts the log, on standard error, and whatever the environment names besides.
///
/// # Errors
/// Where the environment names something that cannot be.
pub(super) fn start(format: LogFormat) -> anyhow::Result<Telling> {
    let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let traces = Traces::from_environment(get)?;
    let reporter = get("SENTRY_DSN").map(|dsn| Reporter::begin(&dsn, get("SENTRY_ENVIRONMENT"))).transpose()?;
    let filter =
        EnvFilter::try_from_env("SKEP_LOG").unwrap_or_else(|_| EnvFilter::new("info,skep::access=off,notify=warn"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => {
            use std::io::IsTerminal;
            lines.with_target(false).with_ansi(std::io::stderr().is_terminal()).compact().boxed()
        }
        LogFormat::Json => lines.json().boxed(),
    };
    let reports = reporter.is_some().then(telemetry::layer);
    // A second start in one process, as tests do, keeps the first log.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).with(reports).try_init();
    Ok(Telling { traces, reporter })
}
