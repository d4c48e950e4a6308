//! `skep usage`: what callers have asked.

use std::path::Path;
use std::process::ExitCode;

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use jiff::Timestamp;

use super::Output;
use super::context::Context;
use crate::report::usage::{UsageJson, table};
use crate::tree::ApiId;
use crate::usage::{UsageBy, UsageQuery, since};

/// Arguments of `skep usage`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Keys are shown with their names; (none) is who needed no key or was refused, (token) who showed a token.\nWhat the daemon has counted is there within a second. docs/usage.md says what counts, and how closely.\n\nExamples:\n  skep usage\n  skep usage thumbnails --since 30d --by day\n  skep usage --by key --since 2026-11-01\n  skep usage --key k_3f9a1c7e --by status --output json"
)]
pub struct Args {
    /// Only of this API.
    id: Option<ApiId>,

    /// Only of this key, by its id; or token, none.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,

    /// From when on: a span, as in 24h, or a moment, as in 2027-01-31.
    #[arg(long, value_name = "SPAN|DAY", default_value = "24h", value_parser = |text: &str| since(text, Timestamp::now()))]
    since: Timestamp,

    /// What to tell apart.
    #[arg(long, default_value = "api", value_parser = PossibleValuesParser::new(UsageBy::WORDS).try_map(|word| word.parse::<UsageBy>()))]
    by: UsageBy,

    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs `skep usage`.
///
/// # Errors
/// Where the records cannot be read.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let records = Context::open_in_spite(root)?.records().await?;
    let query = UsageQuery { api: args.id.clone(), key: args.key.clone(), since: args.since, by: args.by };
    let rows = records.usage(&query).await?;
    match args.output {
        Output::Text => anstream::print!("{}", table(&query, &rows)),
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(&UsageJson::new(&query, &rows))?),
    }
    Ok(ExitCode::SUCCESS)
}
