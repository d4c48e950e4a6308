//! `skep status`: how each API is, and why.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use jiff::Timestamp;

use super::Output;
use super::context::Context;
use crate::report::status::{ApiStatus, StatusJson, table};
use crate::tree::ApiId;

/// Arguments of `skep status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  skep status\n  skep status thumbnails --output json")]
pub struct Args {
    /// Only these APIs.
    ids: Vec<ApiId>,

    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs `skep status`.
///
/// # Errors
/// Where the tree cannot be read or the world cannot be looked at.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let context = Context::open(root)?;
    let tree = context.read_tree()?;
    let parts = context.assemble_for_command().await?;
    let comparison = parts.compare(tree).await?;
    if let Some(unknown) = args.ids.iter().find(|id| !comparison.apis.contains_key(*id)) {
        bail!("there is no API {unknown}; `skep status` lists all");
    }
    let wanted = comparison.apis.iter().filter(|(id, _)| args.ids.is_empty() || args.ids.contains(id));
    let apis: Vec<ApiStatus> = wanted.map(|(_, (desired, observed))| ApiStatus::of(desired, observed)).collect();
    match args.output {
        Output::Text => {
            anstream::print!("{}", table(&apis, Timestamp::now()));
            if context.installation.holder().is_none() {
                anstream::eprintln!("No daemon is at work: nothing is routed or healed until `skep serve` runs.");
            }
        }
        Output::Json => {
            let json = StatusJson { version: 1, daemon: context.installation.holder(), apis };
            anstream::println!("{}", serde_json::to_string_pretty(&json)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}
