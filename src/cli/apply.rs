//! `skep apply`: makes the world as the tree says, and shows progress.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;

use super::context::{Comparison, Context, Parts};
use super::{Output, plan};
use crate::admin::{ApplyLine, client};
use crate::installation::Holder;
use crate::reconcile::plan::Plan;
use crate::reconcile::status::Sync;
use crate::reconcile::{Basis, Rest};
use crate::report;
use crate::report::progress::Progress;
use crate::tree::{ApiId, Digest};

/// Arguments of `skep apply`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Where `skep serve` is at work on this installation, it is asked to do it; else skep does it itself.\n\nExit codes:\n  0  every API is as the tree says\n  1  some are not; the last lines say which, and why\n\nExamples:\n  skep apply\n  skep apply plan.json\n  skep apply --allow-deletes"
)]
pub struct Args {
    /// A plan that `skep plan --out` wrote; refused where tree or world have moved on since.
    #[arg(value_name = "FILE", conflicts_with = "allow_deletes")]
    plan: Option<PathBuf>,

    /// Remove APIs whose folders are gone, however many they are.
    #[arg(long)]
    allow_deletes: bool,

    /// How to print the outcome.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The part of a plan file that says which plan it is.
#[derive(Debug, Deserialize)]
struct PlanFile {
    version: u32,
    fingerprint: Digest,
}

/// Runs `skep apply`.
///
/// # Errors
/// Where the tree cannot be read, the world cannot be looked at, or the plan is out of date.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let context = Context::open(root)?;
    let tree = context.read_tree()?;
    let daemon = context.installation.holder().filter(|holder| holder.address.is_some());
    // Taken before the world is looked at, so that nobody else changes it between the plan and its steps.
    let lock = match &daemon {
        Some(daemon) if daemon.root != context.settings.root => {
            bail!("the daemon at work on this installation serves {}, not {}", daemon.root.display(), root.display())
        }
        Some(_) => None,
        None => Some(context.installation.lock(&context.holder("apply", None))?),
    };
    let parts = context.assemble_for_command().await?;
    let base = parts.controller.base().digest;
    if daemon.as_ref().and_then(|daemon| daemon.base).is_some_and(|stands_on| stands_on != base) {
        bail!(
            "the daemon at work stands on another base image than there is now; restart it, and all APIs move to the new one"
        );
    }
    let mut comparison = parts.compare(tree).await?;
    if args.allow_deletes {
        let held = comparison.apis.values().filter(|(desired, _)| matches!(desired.basis, Basis::RemovalHeld(_)));
        let held: Vec<ApiId> = held.map(|(desired, _)| desired.id.clone()).collect();
        if !held.is_empty() {
            parts.world.records.confirm_removal(&held).await?;
            comparison = parts.compare(comparison.tree).await?;
        }
    }
    let plan = plan::make(&parts, &comparison).await;
    if let Some(file) = &args.plan {
        refuse_if_overtaken(file, &plan)?;
    }
    if args.output == Output::Text {
        anstream::print!("{}", report::plan::text(&plan, false));
    }
    let rests = if plan.apis.iter().all(|api| api.steps.is_empty()) {
        BTreeMap::new()
    } else {
        let progress = Progress::new(plan.apis.iter().map(|api| &api.id), std::io::stderr().is_terminal());
        match &daemon {
            Some(daemon) => ask(&context, daemon, progress).await?,
            None => do_it(&parts, &plan, progress).await,
        }
    };
    drop(lock);
    Ok(conclude(args, &comparison, &plan, &rests))
}

fn refuse_if_overtaken(file: &Path, plan: &Plan) -> anyhow::Result<()> {
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let written: PlanFile =
        serde_json::from_slice(&text).with_context(|| format!("{} is no plan of skep", file.display()))?;
    if written.version != plan.version {
        bail!("{} is a plan of version {}, this skep makes version {}", file.display(), written.version, plan.version);
    }
    if written.fingerprint != plan.fingerprint {
        bail!("the tree or the world has moved on since {} was made; make a new plan", file.display());
    }
    Ok(())
}

/// Has the daemon do it.
async fn ask(context: &Context, daemon: &Holder, mut progress: Progress) -> anyhow::Result<BTreeMap<ApiId, Rest>> {
    let Some(address) = daemon.address else { bail!("the daemon has no address") };
    let key = context.installation.admin_key(&context.settings)?;
    let mut end = None;
    client::apply(address, &key, |line| match line {
        ApplyLine::News(news) => progress.show(&news),
        ApplyLine::Done(rests) => end = Some(Ok(rests)),
        ApplyLine::Failed(why) => end = Some(Err(why)),
    })
    .await?;
    progress.finish();
    match end {
        Some(Ok(rests)) => Ok(rests),
        Some(Err(why)) => bail!("the daemon cannot do it: {why}"),
        None => bail!("the daemon went away before it was done; what it began goes on when it is back"),
    }
}

/// Does it in this process.
async fn do_it(parts: &Parts, plan: &Plan, mut progress: Progress) -> BTreeMap<ApiId, Rest> {
    let mut news = parts.world.news.subscribe();
    let ids: BTreeSet<ApiId> = plan.apis.iter().map(|api| api.id.clone()).collect();
    for id in &ids {
        parts.controller.hint(id);
    }
    let rested = parts.controller.rested(&ids);
    tokio::pin!(rested);
    let rests = loop {
        tokio::select! {
            biased;
            news = news.recv() => match news {
                Ok(news) => progress.show(&news),
                Err(RecvError::Lagged(_) | RecvError::Closed) => {}
            },
            rests = &mut rested => break rests,
        }
    };
    progress.finish();
    rests
}

/// Says how it ended. An API whose folder is broken counts too: it is not as the tree says.
fn conclude(args: &Args, comparison: &Comparison, plan: &Plan, rests: &BTreeMap<ApiId, Rest>) -> ExitCode {
    let is_well = |id: &ApiId| match rests.get(id) {
        Some(Rest::Quiet(status)) => status.sync == Sync::Synced,
        Some(Rest::Troubled(_)) => false,
        None => plan.apis.iter().all(|api| api.id != *id),
    };
    let ill: Vec<&ApiId> = comparison.apis.keys().filter(|id| !is_well(id)).collect();
    match args.output {
        Output::Json => {
            let answer = serde_json::json!({ "version": 1, "apis": rests, "not_as_the_tree_says": ill });
            anstream::println!("{answer:#}");
        }
        Output::Text if ill.is_empty() => match comparison.apis.len() {
            1 => anstream::println!("The one API is as the tree says."),
            count => anstream::println!("All {count} APIs are as the tree says."),
        },
        Output::Text => {
            let ill: Vec<&str> = ill.iter().map(|id| id.as_str()).collect();
            anstream::println!("Not as the tree says: {}. See `skep status`.", ill.join(", "));
        }
    }
    if ill.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
