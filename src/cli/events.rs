//! `skep events`: what happened.

use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;

use super::Output;
use super::context::Context;
use crate::report::style::{BOLD, FAINT, NAME, paint, plain};
use crate::tree::{ApiId, Revision};
use crate::usage::since;

/// How many events are read at most where a time is named.
const MOST: usize = 100_000;

/// Arguments of `skep events`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  skep events\n  skep events thumbnails -n 20\n  skep events --since 2h\n  skep events --output json"
)]
pub struct Args {
    /// Only of this API.
    id: Option<ApiId>,

    /// How many of the last events; 50 where neither this nor `--since` says something else.
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<usize>,

    /// From when on: a span, as in 24h, or a moment, as in 2027-01-31.
    #[arg(long, value_name = "SPAN|DAY", value_parser = |text: &str| since(text, Timestamp::now()))]
    since: Option<Timestamp>,

    /// How to print them; JSON is one event a line.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs `skep events`.
///
/// # Errors
/// Where the records cannot be read.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let records = Context::open_existing(root)?.records().await?;
    let count = args.count.unwrap_or(if args.since.is_some() { MOST } else { 50 });
    for event in records.last_events(args.id.as_ref(), count).await? {
        if args.since.is_some_and(|since| event.event.at < since) {
            continue;
        }
        match args.output {
            Output::Json => anstream::println!("{}", serde_json::to_string(&event)?),
            Output::Text => {
                let event = event.event;
                let api = event.api.map_or_else(|| "-".to_owned(), |api| api.to_string());
                let revision = event.revision.as_ref().map_or("", Revision::as_str);
                let (at, api) = (paint(format!("{:.0}", event.at), FAINT), paint(format!("{api:<16}"), NAME));
                let kind = paint(format!("{:<10}", plain(&event.kind)), BOLD);
                anstream::println!("{at}  {api}  {kind}  {revision:<12}  {}", plain(&event.message));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
