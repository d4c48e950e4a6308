//! `skep plan`: what would change, and why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;

use super::Output;
use super::context::{Comparison, Context, Parts};
use crate::reconcile::plan::{ApiPlan, Change, Plan, plan};
use crate::report;
use crate::report::plan::{PlanJson, Summary};
use crate::tree::Digest;

/// Arguments of `skep plan`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes:\n  0  the plan was made\n  1  it could not be made\n  2  with --detailed-exitcode: something would change, or is blocked\n\nExamples:\n  skep plan\n  skep plan --detailed-exitcode --output json\n  skep plan --out plan.json && skep apply plan.json"
)]
pub struct Args {
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,

    /// Exit with 2 where something would change.
    #[arg(long)]
    detailed_exitcode: bool,

    /// Write the plan to a file, for `skep apply FILE`.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Show every step, and why it is done.
    #[arg(long)]
    steps: bool,
}

/// Runs `skep plan`.
///
/// # Errors
/// Where the tree cannot be read or the world cannot be looked at.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let context = Context::open(root)?;
    let tree = context.read_tree()?;
    let parts = context.assemble_for_command().await?;
    let comparison = parts.compare(tree).await?;
    let plan = make(&parts, &comparison).await;
    let findings: Vec<_> = comparison.tree.all_findings().collect();
    let json = PlanJson { plan: &plan, summary: Summary::of(&plan), findings };
    match args.output {
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(&json)?),
        Output::Text => anstream::print!("{}", report::plan::text(&plan, args.steps)),
    }
    if let Some(file) = &args.out {
        let text = serde_json::to_vec_pretty(&json)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        anstream::eprintln!("Written to {}; carry it out with: skep apply {0}", file.display());
    }
    Ok(if args.detailed_exitcode && !plan.apis.is_empty() { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

/// The plan of a comparison, with the diffs of files.
pub async fn make(parts: &Parts, comparison: &Comparison) -> Plan {
    let mut plan = plan(comparison.apis.values().map(|(desired, observed)| (desired, observed)));
    for api in &mut plan.apis {
        add_diffs(parts, comparison, api).await;
    }
    plan
}

/// Reads both sides of each changed file, where they can be had.
async fn add_diffs(parts: &Parts, comparison: &Comparison, plan: &mut ApiPlan) {
    let folder = comparison.tree.sound(&plan.id);
    let mut known: BTreeMap<Digest, Option<std::sync::Arc<[u8]>>> = BTreeMap::new();
    for change in &mut plan.changes {
        let Change::File { path, old, new, diff } = change else { continue };
        let mut before = None;
        if let Some(old) = old {
            // What the records cannot give is left out of the plan's text; the digests are there all the same.
            if !known.contains_key(old) {
                known.insert(*old, parts.world.records.blob(old).await.unwrap_or_default());
            }
            before = known.get(old).cloned().flatten();
        }
        let after = folder.filter(|_| new.is_some()).and_then(|api| api.read(path).ok());
        if before.is_some() == old.is_some() && after.is_some() == new.is_some() {
            *diff = report::plan::unified(before.as_deref(), after.as_deref());
        }
    }
}
