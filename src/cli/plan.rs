//! `skep plan`: what would change, and why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use super::between::Between;
use super::context::{Comparison, Context, Parts};
use super::remote;
use crate::git::Commit;
use crate::reconcile::found::ROW_GONE;
use crate::reconcile::goals::{REMOVED, REMOVED_AS_CONFIRMED};
use crate::reconcile::plan::{ApiPlan, Change, Plan, Verdict, plan};
use crate::report;
use crate::report::diagnostics::Findings;
use crate::report::plan::{PlanJson, Summary};
use crate::tree::Digest;

/// Arguments of `skep plan`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes:\n  0  the plan was made\n  1  it could not be made\n  2  with --detailed-exitcode: something would change, or is blocked\n\nWith --base or --remote, a tree that is broken is an error too (1).\n\nExamples:\n  skep plan\n  skep plan --base origin/main --output markdown\n  SKEP_TOKEN=skep_… skep plan --remote https://apis.example.com:8664\n  skep plan --detailed-exitcode --output json\n  skep plan --out plan.json && skep apply plan.json"
)]
pub struct Args {
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Format,

    /// Compare with the tree of a commit, with no engine and no daemon in reach: as for a pull request.
    #[arg(long, value_name = "COMMIT", conflicts_with_all = ["out", "apis"])]
    base: Option<String>,

    /// With --base: the commit to compare it with, rather than what lies in the folder now.
    #[arg(long, value_name = "COMMIT", requires = "base")]
    head: Option<String>,

    /// Ask the daemon there what this tree would do to what it serves; a `--plans` key of its is enough.
    #[arg(long, value_name = "URL", conflicts_with_all = ["base", "out", "apis"])]
    remote: Option<String>,

    /// With --remote: the key. Better set as `SKEP_TOKEN`, where nobody else on this host sees it.
    #[arg(long, env = "SKEP_TOKEN", hide_env_values = true, requires = "remote")]
    token: Option<String>,

    /// Exit with 2 where something would change.
    #[arg(long)]
    detailed_exitcode: bool,

    /// Write the plan to a file, for `skep apply FILE`.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Take the API folders from there, as those of a push that is only tried.
    #[arg(long, value_name = "DIR", hide = true)]
    apis: Option<PathBuf>,

    /// Show every step, and why it is done.
    #[arg(long)]
    steps: bool,
}

/// How a plan is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// For machines; versioned and documented.
    Json,
    /// For a comment on a pull request; the first line is always the same.
    Markdown,
    /// Annotations of a GitHub workflow.
    Github,
    /// What is wrong with the tree, and nothing else, as SARIF 2.1.0.
    Sarif,
}

/// Runs `skep plan`.
///
/// # Errors
/// Where the tree cannot be read or the world cannot be looked at.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    if let Some(base) = &args.base {
        return compare(args, &Between::of(root, base, args.head.as_deref()).await?);
    }
    if let Some(url) = &args.remote {
        return ask(args, url, root).await;
    }
    let mut context = Context::open(root)?;
    if let Some(apis) = &args.apis {
        context.settings.apis.clone_from(apis);
    }
    let tree = context.read_tree()?;
    let parts = context.assemble_for_command().await?;
    let comparison = parts.compare(tree).await?;
    let plan = make(&parts, &comparison).await;
    let findings: Vec<_> = comparison.tree.all_findings().collect();
    let json = PlanJson { plan: &plan, summary: Summary::of(&plan), findings };
    if args.output == Format::Sarif {
        anstream::print!("{}", Findings::new(&[], &comparison.tree, None, "").sarif());
    }
    print(args, &json, None)?;
    if let Some(file) = &args.out {
        let text = serde_json::to_vec_pretty(&json)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        anstream::eprintln!("Written to {}; carry it out with: skep apply {0}", file.display());
    }
    Ok(if args.detailed_exitcode && !plan.apis.is_empty() { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

/// Prints what one tree changes of the other. One that is broken is an error: that is what people want to hear of a pull
/// request.
fn compare(args: &Args, between: &Between) -> anyhow::Result<ExitCode> {
    let findings = between.findings();
    let all = between.settings.iter().chain(between.head.all_findings()).collect();
    let json = PlanJson { plan: &between.plan, summary: Summary::of(&between.plan), findings: all };
    match args.output {
        Format::Text if findings.summary().errors + findings.summary().warnings > 0 => {
            anstream::eprint!("{}", findings.text(true));
        }
        Format::Github => anstream::print!("{}", findings.github()),
        Format::Sarif => anstream::print!("{}", findings.sarif()),
        _ => {}
    }
    print(args, &json, Some(&between.base))?;
    Ok(match (findings.summary().errors, args.detailed_exitcode) {
        (0, true) if !between.plan.apis.is_empty() => ExitCode::from(2),
        (0, _) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Asks a daemon elsewhere, and prints what it says.
async fn ask(args: &Args, url: &str, root: &Path) -> anyhow::Result<ExitCode> {
    let Some(token) = &args.token else {
        bail!("--remote wants a key: make one there with `skep keys create --name ci --plans`, and set SKEP_TOKEN")
    };
    let answer = remote::ask(url, token, root).await?;
    let said = |name: &str| answer["text"][name].as_str().unwrap_or_default().to_owned();
    let (is_sound, is_empty) = (answer["errors"] == 0, answer["plan"]["apis"].as_array().is_none_or(Vec::is_empty));
    match args.output {
        Format::Json => anstream::println!("{:#}", answer["plan"]),
        Format::Text => {
            if answer["plan"]["findings"].as_array().is_some_and(|findings| !findings.is_empty()) {
                anstream::eprint!("{}", said("findings"));
            }
            anstream::print!("{}", said(if args.steps { "steps" } else { "text" }));
        }
        Format::Markdown => anstream::print!("{}", said("markdown")),
        Format::Github => anstream::print!("{}", said("github")),
        Format::Sarif => anstream::print!("{}", said("sarif")),
    }
    Ok(match (is_sound, args.detailed_exitcode && !is_empty) {
        (false, _) => ExitCode::FAILURE,
        (true, true) => ExitCode::from(2),
        (true, false) => ExitCode::SUCCESS,
    })
}

fn print(args: &Args, json: &PlanJson<'_>, base: Option<&Commit>) -> anyhow::Result<()> {
    match args.output {
        Format::Json => anstream::println!("{}", serde_json::to_string_pretty(json)?),
        Format::Text => anstream::print!("{}", report::plan::text(json.plan, args.steps)),
        Format::Markdown => anstream::print!("{}", report::markdown::markdown(json.plan, base)),
        Format::Github => anstream::print!("{}", report::markdown::github(json.plan)),
        // It holds findings alone, which whoever has made the plan prints.
        Format::Sarif => {}
    }
    Ok(())
}

/// The plan of a comparison, with the diffs of files.
pub async fn make(parts: &Parts, comparison: &Comparison) -> Plan {
    let mut plan = plan(comparison.apis.values().map(|(desired, observed)| (desired, observed)));
    for api in plan.all_mut() {
        if let Some(mark) = &mut api.preview {
            *mark = mark.clone().with(comparison.tree.previews.get(&api.id));
        }
        add_diffs(parts, comparison, api).await;
        add_loss(parts, comparison, api).await;
    }
    plan
}

/// Says of an API that is new to the records but has served before that its row is gone: also where nothing of it runs.
async fn add_loss(parts: &Parts, comparison: &Comparison, plan: &mut ApiPlan) {
    let is_known = comparison.apis.get(&plan.id).is_none_or(|(_, observed)| observed.record.is_some());
    if is_known || !plan.drift.is_empty() {
        return;
    }
    let records = &parts.world.records;
    let has_served = records.revisions(&plan.id).await.is_ok_and(|revisions| !revisions.is_empty());
    let events = records.last_events(Some(&plan.id), 1).await.unwrap_or_default();
    // One that went as it should is new when it comes back.
    let was_removed = events.last().is_none_or(|last| [REMOVED, REMOVED_AS_CONFIRMED].contains(&&*last.event.kind));
    if has_served && !was_removed {
        plan.drift.push(ROW_GONE.to_owned());
        if plan.verdict == Verdict::Create {
            plan.verdict = Verdict::Heal;
        }
    }
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
