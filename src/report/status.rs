//! Statuses as a table for people, and as JSON for machines.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::{SpanRound, Timestamp, Unit};
use serde::Serialize;

use super::style::{BAD, BOLD, FAINT, GOOD, NAME, WARN, paint, plain};
use crate::pull::SourceStatus;
use crate::reconcile::Desired;
use crate::reconcile::status::{self, Health, Status, Sync};
use crate::reconcile::step::toward;
use crate::tell::Trouble;
use crate::tree::preview::Mark;
use crate::tree::{ApiId, Revision};
use crate::world::{Answer, Failure, Observed};

/// What `skep status --output json` prints. `version` goes up when a reader must change.
#[derive(Debug, Serialize)]
pub struct StatusJson {
    /// Of this form.
    pub version: u32,
    /// Whether a daemon is at work.
    pub daemon: Option<crate::installation::Holder>,
    /// What waits for the database of the records, and why; nothing where it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
    /// The remote repositories that are followed, and how each is; none where none are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceStatus>,
    /// Who elsewhere cannot be told what happens, and why; nobody where all can.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub untold: BTreeMap<String, Trouble>,
    /// Each API.
    pub apis: Vec<ApiStatus>,
}

/// How one API is.
#[derive(Debug, Serialize)]
pub struct ApiStatus {
    /// Which.
    pub id: ApiId,
    /// Of what it is a preview, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<Mark>,
    /// Where callers reach it, where it is a preview.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// How it is.
    #[serde(flatten)]
    pub status: Status,
    /// What serves callers now.
    pub serving: Option<Revision>,
    /// Since when.
    pub since: Option<Timestamp>,
    /// How many instances are ready.
    pub ready: usize,
    /// How many there should be.
    pub replicas: usize,
    /// The last trouble with the revision that should serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl ApiStatus {
    /// How an API is, from what should be and what is.
    #[must_use]
    pub fn of(desired: &Desired, observed: &Observed) -> Self {
        let next = toward(desired, observed);
        let served = observed.record.as_ref().and_then(|record| record.served.as_ref());
        let serving = match observed.route.as_ref().map(|route| &route.answer) {
            Some(Answer::Forward { revision, .. }) => Some(revision.clone()),
            _ => None,
        };
        let routed = observed.routed();
        let is_serving =
            |instance: &&crate::world::Instance| instance.is_ready() && routed.contains(&instance.container);
        let failure = desired.target().and_then(|target| observed.record.as_ref()?.failure(&target.revision));
        let status = status::status(desired, observed, &next);
        // A failure that has been overcome is history, and `skep events` has it.
        let failure = failure.filter(|_| !status.message.is_empty()).cloned();
        Self {
            id: desired.id.clone(),
            preview: Mark::of(&desired.id),
            url: None,
            status,
            since: served.filter(|served| Some(&served.revision) == serving.as_ref()).map(|served| served.since),
            ready: observed.instances.iter().filter(is_serving).count(),
            // Of what serves: while an older revision does, its own number is what it is measured by.
            replicas: served
                .filter(|served| Some(&served.revision) == serving.as_ref())
                .map(|served| &served.spec)
                .or(desired.target().map(|target| &target.spec))
                .map_or(0, |spec| usize::from(spec.replicas)),
            serving,
            failure,
        }
    }
}

/// Statuses as a table, with colours. `now` is for ages.
#[must_use]
pub fn table(apis: &[ApiStatus], now: Timestamp) -> String {
    if apis.is_empty() {
        return "No APIs yet: make a folder apis/<id>/ with a main.py.\n".to_owned();
    }
    let width = apis.iter().map(|api| api.id.as_str().len()).max().unwrap_or(0).max("API".len());
    let mut out = String::new();
    let heading =
        format!("{:<width$}  {:<11}  {:<11}  {:<5}  {:<12}  {}", "API", "SYNC", "HEALTH", "READY", "REVISION", "SINCE");
    let _ = writeln!(out, "{}", paint(heading, BOLD));
    for api in apis {
        let sync = paint(format!("{:<11}", api.status.sync.as_str()), sync_style(api.status.sync));
        let health = paint(format!("{:<11}", api.status.health.as_str()), health_style(api.status.health));
        let revision = api.serving.as_ref().map_or("-", Revision::as_str);
        let since = api.since.filter(|_| api.serving.is_some()).map_or_else(|| "-".to_owned(), |since| age(since, now));
        let ready = format!("{}/{}", api.ready, api.replicas);
        let name = paint(format!("{:<width$}", api.id), NAME);
        let _ = writeln!(out, "{name}  {sync}  {health}  {ready:<5}  {revision:<12}  {since}");
        if let Some(preview) = &api.preview {
            let at = api.url.as_ref().map_or_else(String::new, |url| format!("  {url}"));
            let _ = writeln!(out, "{:width$}  {}{at}", "", paint(preview, FAINT));
        }
        if !api.status.message.is_empty() {
            let _ = writeln!(out, "{:width$}  {}", "", plain(&api.status.message));
        }
        if let Some(failure) = &api.failure {
            // While something is done about it, the status speaks of that.
            if !api.status.message.contains(&failure.message) {
                let _ = writeln!(out, "{:width$}  {}", "", plain(&failure.message));
            }
            for line in failure.output.iter().rev().take(6).rev() {
                let _ = writeln!(out, "{:width$}  {}", "", paint(format!("│ {}", plain(line)), FAINT));
            }
        }
    }
    out
}

/// How sources are, with colours. `now` is for ages.
#[must_use]
pub fn sources(sources: &[SourceStatus], now: Timestamp) -> String {
    let mut out = String::new();
    let width = sources.iter().map(|source| source.source.len()).max().unwrap_or(0);
    for source in sources {
        let ago = |at: Option<Timestamp>, what: &str| {
            at.map_or_else(String::new, |at| format!(", {what} {} ago", age(at, now)))
        };
        let placed = ago(source.placed.as_ref().map(|placed| placed.at), "placed");
        let name = paint(format!("{:<width$}", source.source), NAME);
        let _ = writeln!(out, "{name}  {}{placed}", plain(&source.text()));
        if let Some(note) = source.placed.as_ref().and_then(|placed| placed.note.as_ref()) {
            let _ = writeln!(out, "{:width$}  {}", "", paint(plain(note), WARN));
        }
        for refused in &source.refused {
            let text = format!("pull request {} is not served: {}", refused.pull_request, plain(&refused.why));
            let _ = writeln!(out, "{:width$}  {}", "", paint(text, WARN));
        }
        if let Some(trouble) = &source.trouble {
            let (kind, since) = (trouble.kind.as_str(), age(trouble.since, now));
            let text = format!("{kind} for {since}: {}", plain(&trouble.what));
            let _ = writeln!(out, "{:width$}  {}", "", paint(text, BAD));
        }
    }
    out
}

/// The style of a sync status.
#[must_use]
pub fn sync_style(sync: Sync) -> anstyle::Style {
    match sync {
        Sync::Synced => GOOD,
        Sync::OutOfSync | Sync::Held => WARN,
        Sync::Blocked => BAD,
    }
}

/// The style of a health status.
#[must_use]
pub fn health_style(health: Health) -> anstyle::Style {
    match health {
        Health::Healthy => GOOD,
        Health::Progressing | Health::Degraded => WARN,
        Health::Stopped => FAINT,
        Health::Missing => BAD,
    }
}

/// How long ago, in the two largest units: `3d 4h`, `12s`.
#[must_use]
pub fn age(since: Timestamp, now: Timestamp) -> String {
    let round = SpanRound::new().largest(Unit::Hour).smallest(Unit::Second);
    let Ok(span) = now.since(since).and_then(|span| span.round(round)) else { return "-".to_owned() };
    let (hours, minutes, seconds) = (span.get_hours(), span.get_minutes(), span.get_seconds());
    match (hours / 24, hours % 24) {
        (days, hours) if days > 0 => format!("{days}d {hours}h"),
        (_, hours) if hours > 0 => format!("{hours}h {minutes}m"),
        _ if minutes > 0 => format!("{minutes}m {seconds}s"),
        _ => format!("{}s", seconds.max(0)),
    }
}
