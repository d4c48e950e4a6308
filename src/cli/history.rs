//! `skep history`: the revisions of an API that have served, and how each came to.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use jiff::Timestamp;
use serde::Serialize;

use super::Output;
use super::context::Context;
use crate::records::Event;
use crate::report::explain::{as_of, commit_line};
use crate::report::style::{BOLD, FAINT, NAME, paint, plain};
use crate::tree::{ApiId, Requirement, Revision};
use crate::world::{Origin, Served};

/// More events than an API has in the time for which they are kept.
const EVENTS: usize = 100_000;

/// Arguments of `skep history`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  skep history thumbnails\n  skep history thumbnails --output json")]
pub struct Args {
    /// Which API.
    id: ApiId,

    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Serialize)]
struct Shown<'a> {
    version: u32,
    api: &'a ApiId,
    revisions: Vec<Line<'a>>,
}

/// One revision that has served.
#[derive(Serialize)]
struct Line<'a> {
    revision: &'a Revision,
    since: Timestamp,
    serves_now: bool,
    /// Which commit it was, who asked for it, and why; `null` for one of before this was kept.
    origin: Option<&'a Origin>,
    /// What happened to it, the first first.
    events: Vec<&'a Event>,
    requirements: Vec<&'a str>,
    files: usize,
}

/// Runs `skep history`.
///
/// # Errors
/// Where there is no such API, or the records cannot be read.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let records = Context::open_in_spite(root)?.records().await?;
    let revisions = records.revisions(&args.id).await?;
    let record = records.get(&args.id).await?;
    if record.is_none() && revisions.is_empty() {
        bail!("no revision of {} has served, and there is no such API; `skep status` lists all", args.id);
    }
    let now = record.and_then(|record| record.served).map(|served| served.revision);
    let events = records.last_events(Some(&args.id), EVENTS).await?;
    let mut of: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in &events {
        if let Some(revision) = &event.event.revision {
            of.entry(revision.as_str()).or_default().push(event);
        }
    }
    let line = |served| line(served, now.as_ref(), &of);
    let shown = Shown { version: 1, api: &args.id, revisions: revisions.iter().map(line).collect() };
    match args.output {
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(&shown)?),
        Output::Text if shown.revisions.is_empty() => anstream::println!("No revision of {} has served yet.", args.id),
        Output::Text => print(&shown),
    }
    Ok(ExitCode::SUCCESS)
}

fn line<'a>(served: &'a Served, now: Option<&Revision>, of: &BTreeMap<&str, Vec<&'a Event>>) -> Line<'a> {
    Line {
        revision: &served.revision,
        since: served.since,
        serves_now: Some(&served.revision) == now,
        origin: served.origin.as_deref(),
        events: of.get(served.revision.as_str()).cloned().unwrap_or_default(),
        requirements: served.requirements.0.iter().map(Requirement::asked).collect(),
        files: served.files.len(),
    }
}

fn print(shown: &Shown<'_>) {
    for line in &shown.revisions {
        let mark = if line.serves_now { "  serves now" } else { "" };
        let since = paint(format!("since {:.0}", line.since), FAINT);
        anstream::println!("{}  {since}{}", paint(line.revision.as_str(), NAME), paint(mark, BOLD));
        if let Some(origin) = line.origin {
            print_origin(origin);
        }
        for event in &line.events {
            let Event { event, .. } = event;
            let (at, kind) = (paint(format!("{:.0}", event.at), FAINT), plain(&event.kind));
            anstream::println!("  {at}  {kind:<10}  {}", plain(&event.message));
        }
    }
}

fn print_origin(origin: &Origin) {
    if let Some(commit) = &origin.commit {
        anstream::print!("{}", commit_line(commit));
    }
    if let Some(commit) = &origin.as_of {
        anstream::println!("  {:20}  commit      {}", "", as_of(commit));
    }
    let by = origin.by.as_deref().map(|by| format!(" by {}", plain(by))).unwrap_or_default();
    anstream::println!("  {:20}  why         {}{by}; {}", "", plain(&origin.why), plain(&origin.step));
}
