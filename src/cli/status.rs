//! `skep status`: how each API is, and why.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use jiff::Timestamp;

use super::Output;
use super::context::Context;
use super::pulled::statuses;
use crate::admin::client;
use crate::report::status::{self as report, ApiStatus, StatusJson, table};
use crate::report::style::plain;
use crate::settings::Settings;
use crate::tell::{Told, Trouble};
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
    let waits = waits(&context).await;
    let compared = async { context.assemble_for_command().await?.compare(tree).await };
    let comparison = match (compared.await, waits.clone()) {
        // What nothing can be read of is told in the words of the one who does without it meanwhile.
        (Err(error), Some(waits)) => return Err(error.context(waits)),
        (compared, _) => compared?,
    };
    if let Some(unknown) = args.ids.iter().find(|id| !comparison.apis.contains_key(*id)) {
        bail!("there is no API {unknown}; `skep status` lists all");
    }
    let wanted = comparison.apis.iter().filter(|(id, _)| args.ids.is_empty() || args.ids.contains(id));
    let mut apis: Vec<ApiStatus> = wanted.map(|(_, (desired, observed))| ApiStatus::of(desired, observed)).collect();
    for api in &mut apis {
        let Some(mark) = api.preview.take() else { continue };
        api.preview = Some(mark.with(comparison.tree.previews.get(&api.id)));
        api.url = Some(format!("{}/run/{}/", context.callers_address(), api.id));
    }
    let sources = statuses(&context.settings);
    let untold = untold(&context).await?;
    match args.output {
        Output::Text => {
            anstream::print!("{}", table(&apis, Timestamp::now()));
            if !sources.is_empty() {
                anstream::print!("\n{}", report::sources(&sources, Timestamp::now()));
            }
            for (whom, trouble) in &untold {
                let since = report::age(trouble.since, Timestamp::now());
                anstream::println!("\n{}", plain(&format!("{whom} is not told for {since}: {}", trouble.what)));
            }
            if let Some(waits) = waits {
                anstream::println!("\n{}", plain(&waits));
            }
            if context.installation.holder().is_none() {
                anstream::eprintln!("No daemon is at work: nothing is routed or healed until `skep serve` runs.");
            }
        }
        Output::Json => {
            let json = StatusJson { version: 1, daemon: context.installation.holder(), waits, sources, untold, apis };
            anstream::println!("{}", serde_json::to_string_pretty(&json)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Who elsewhere cannot be told what happens, of those whom the settings name.
async fn untold(context: &Context) -> anyhow::Result<BTreeMap<String, Trouble>> {
    let Settings { pull, push, notifications, .. } = &context.settings;
    let reports =
        pull.iter().any(|source| source.report.is_some()) || push.as_ref().is_some_and(|push| push.report.is_some());
    if !reports && notifications.is_empty() {
        return Ok(BTreeMap::new());
    }
    Ok(Told::read(context.records().await?.told().await?.as_deref()).troubles)
}

/// What the daemon says that waits for the database. One that cannot be asked says nothing: its own absence is told elsewhere.
async fn waits(context: &Context) -> Option<String> {
    let holder = context.installation.holder()?;
    let key = context.installation.admin_key(&context.settings).ok()?;
    client::waits(holder.address?, &key).await.ok().flatten()
}
