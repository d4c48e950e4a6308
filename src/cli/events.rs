//! `skep events`: what happened.

use std::path::Path;
use std::process::ExitCode;

use super::Output;
use super::context::Context;
use crate::report::style::{BOLD, FAINT, NAME, paint, plain};
use crate::tree::{ApiId, Revision};

/// Arguments of `skep events`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  skep events\n  skep events thumbnails -n 20\n  skep events --output json")]
pub struct Args {
    /// Only of this API.
    id: Option<ApiId>,

    /// How many of the last events.
    #[arg(short = 'n', long, default_value_t = 50, value_name = "COUNT")]
    count: usize,

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
    for event in records.last_events(args.id.as_ref(), args.count).await? {
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
