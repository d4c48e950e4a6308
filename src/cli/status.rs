//! `skep status`: how each API is, and why.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use jiff::Timestamp;

use super::Output;
use super::context::Context;
use crate::reconcile::step::toward;
use crate::reconcile::{Desired, status};
use crate::report::status::{ApiStatus, StatusJson, table};
use crate::tree::ApiId;
use crate::world::{Answer, Observed};

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
    let apis: Vec<ApiStatus> = wanted.map(|(_, (desired, observed))| api_status(desired, observed)).collect();
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

fn api_status(desired: &Desired, observed: &Observed) -> ApiStatus {
    let next = toward(desired, observed);
    let served = observed.record.as_ref().and_then(|record| record.served.as_ref());
    let serving = match observed.route.as_ref().map(|route| &route.answer) {
        Some(Answer::Forward { revision, .. }) => Some(revision.clone()),
        _ => None,
    };
    let routed = observed.routed();
    let is_serving = |instance: &&crate::world::Instance| instance.is_ready() && routed.contains(&instance.container);
    let failure = desired.target().and_then(|target| observed.record.as_ref()?.failure(&target.revision));
    let status = status::status(desired, observed, &next);
    // A failure that has been overcome is history, and `skep events` has it.
    let failure = failure.filter(|_| !status.message.is_empty()).cloned();
    ApiStatus {
        id: desired.id.clone(),
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
