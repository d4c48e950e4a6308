//! `skep plan`: what would change, and why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use super::apply::pull_request;
use super::between::{Between, Ends};
use super::boot::contracts;
use super::check::prefix;
use super::context::{Comparison, Context, Parts};
use super::patience::Patience;
use super::process::unless_told_to_end;
use super::remote::{self, Here};
use crate::admin::versions::add_versions;
use crate::admin::whole::whole;
use crate::reconcile::plan::{ApiPlan, Plan};
use crate::report;
use crate::report::diagnostics::Findings;
use crate::report::plan::{Basis, PlanJson, Summary, breaks};
use crate::report::style::inert_json;
use crate::settings::Settings;
use crate::tree::{ApiId, PullRequest};

/// Arguments of `skep plan`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes:\n  0  the plan was made\n  1  it could not be made; with --fail-on-breaking: it breaks callers\n  2  with --detailed-exitcode: something would change, or is blocked\n\nWith --base or --remote, a tree that is broken is an error too (1).\n\nExamples:\n  skep plan\n  skep plan --base origin/main --output markdown --fail-on-breaking\n  skep plan --base v2 --head v1 --exact\n  SKEP_TOKEN=skep_… skep plan --remote https://apis.example.com:8664\n  skep plan --detailed-exitcode --output json\n  skep plan --out plan.json && skep apply plan.json"
)]
pub struct Args {
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Format,

    /// What this is to be merged into. Says what it changes since the last commit that both have in common, as forges show
    /// a pull request, with no engine and no daemon in reach.
    #[arg(long, value_name = "COMMIT", conflicts_with_all = ["out", "apis"])]
    base: Option<String>,

    /// With --base: compare with that very commit, as for going back to an older one.
    #[arg(long, requires = "base")]
    exact: bool,

    /// With --base: the commit to compare it with, rather than what lies in the folder now.
    #[arg(long, value_name = "COMMIT", requires = "base")]
    head: Option<String>,

    /// Ask the daemon there what this tree would do to what it serves; a `--plans` key of its is enough.
    #[arg(long, value_name = "URL", conflicts_with_all = ["base", "out", "apis"])]
    remote: Option<String>,

    /// With --remote: the key. Better set as `SKEP_TOKEN` in the environment, where nobody else on this host sees it.
    // Not an `env` of clap, to which a variable is an argument: whoever has it set could make no other plan.
    #[arg(long, requires = "remote")]
    token: Option<String>,

    /// Exit with 2 where something would change.
    #[arg(long)]
    detailed_exitcode: bool,

    /// What is asked about contracts.
    #[command(flatten)]
    promises: Promises,

    /// Write the plan to a file, for `skep apply FILE`.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// What is only tried.
    #[command(flatten)]
    tried: Tried,

    /// Show every step, and why it is done.
    #[arg(long)]
    steps: bool,
}

/// What of a push that is only tried is not as it is here.
#[derive(Debug, clap::Args)]
struct Tried {
    /// Take the API folders from there.
    #[arg(long, value_name = "DIR", hide = true)]
    apis: Option<PathBuf>,

    /// Plan as if somebody had said that APIs may go, however many they are.
    #[arg(long, hide = true, conflicts_with_all = ["base", "remote", "out"])]
    allow_deletes: bool,

    /// Plan a pull request alone, whose previews lie in that state folder.
    #[arg(long, value_name = "DIR", hide = true, requires = "pull_request", conflicts_with_all = ["base", "remote", "out"])]
    previews: Option<PathBuf>,

    /// Which pull request.
    #[arg(long, value_name = "NUMBER", hide = true, requires = "previews", value_parser = pull_request)]
    pull_request: Option<PullRequest>,
}

/// What is asked about contracts.
#[derive(Debug, clap::Args)]
struct Promises {
    /// Exit with 1 where an API's OpenAPI document says that callers of before may fail.
    #[arg(long)]
    fail_on_breaking: bool,

    /// Build and start what has no openapi.json in its folder, on the engine and apart from what serves, and ask it for its
    /// OpenAPI document; with --base, on both sides.
    #[arg(long, conflicts_with = "remote")]
    boot: bool,
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
    /// What is wrong with the tree, and what breaks callers, as SARIF 2.1.0.
    Sarif,
}

/// Runs `skep plan`.
///
/// # Errors
/// Where the tree cannot be read or the world cannot be looked at.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    if let Some(base) = &args.base {
        let ends = Ends { base, head: args.head.as_deref(), exact: args.exact };
        let mut between = Between::of(root, ends).await?;
        between.resolve().await;
        if args.promises.boot {
            // The engine is this host's.
            between.boot(&Settings::load(&root.canonicalize()?, |name| std::env::var(name).ok())?).await?;
        }
        return compare(args, &between, &prefix(root));
    }
    if let Some(url) = &args.remote {
        return ask(args, url, root).await;
    }
    let mut context = Context::open(root)?;
    let tried = &args.tried;
    if let Some(apis) = &tried.apis {
        context.settings.apis.clone_from(apis);
    }
    let tree = context.read_tree_beside(tried.previews.as_ref().unwrap_or(&context.settings.state))?;
    let parts = context.assemble_for_command().await?;
    let mut comparison = parts.compare(tree).await?;
    if tried.allow_deletes {
        comparison = parts.as_confirmed(comparison).await;
    }
    if let Some(only) = tried.pull_request {
        comparison.apis.retain(|id, _| id.preview().is_some_and(|(_, pull_request)| pull_request == only));
    }
    let mut plan = make(&parts, &comparison).await;
    if args.promises.boot {
        let ids = plan.apis.iter().filter(|api| api.is_replaced()).map(|api| &api.id);
        let booted = contracts(&context.settings, &comparison.tree, ids).await?;
        plan = whole(&parts.world, &comparison.tree, &comparison.apis, &booted).await;
    }
    resolve(&parts, &comparison, &mut plan).await?;
    let findings: Vec<_> = comparison.tree.all_findings().collect();
    let json = PlanJson { plan: &plan, summary: Summary::of(&plan), findings, base: None };
    let prefix = prefix(root);
    if args.output == Format::Sarif {
        anstream::print!("{}", Findings::new(&breaks(&plan), &comparison.tree, None, &prefix).sarif());
    }
    print(args, &json, &Findings::new(&[], &comparison.tree, None, &prefix), (None, &prefix))?;
    if let Some(file) = &args.out {
        let text = serde_json::to_vec_pretty(&json)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        anstream::eprintln!("Written to {}; carry it out with: skep apply {0}", file.display());
    }
    Ok(code(args, true, fails(args, plan.breaks_callers(), plan.unsure()), !plan.apis.is_empty()))
}

/// Whether a plan fails by what it promises. What could not be compared whole may break anybody.
fn fails<'a>(args: &Args, breaks: bool, unsure: impl Iterator<Item = &'a ApiId>) -> bool {
    let unsure: Vec<&ApiId> = if args.promises.fail_on_breaking { unsure.collect() } else { Vec::new() };
    for id in &unsure {
        anstream::eprintln!(
            "error: the OpenAPI documents of {id} could not be compared whole, so that it may break callers; compare them \
             by hand, or go on without --fail-on-breaking"
        );
    }
    args.promises.fail_on_breaking && (breaks || !unsure.is_empty())
}

/// The exit code of a plan.
fn code(args: &Args, is_sound: bool, fails: bool, changes: bool) -> ExitCode {
    match (is_sound && !fails, args.detailed_exitcode && changes) {
        (false, _) => ExitCode::FAILURE,
        (true, true) => ExitCode::from(2),
        (true, false) => ExitCode::SUCCESS,
    }
}

/// Prints what one tree changes of the other. One that is broken is an error: that is what people want to hear of a pull
/// request.
fn compare(args: &Args, between: &Between, prefix: &str) -> anyhow::Result<ExitCode> {
    let (findings, basis) = (between.findings(prefix), between.basis());
    let all = between.settings.iter().chain(between.head.all_findings()).collect();
    let (summary, base) = (Summary::of(&between.plan), Some(basis.commit.id.as_str()));
    let json = PlanJson { plan: &between.plan, summary, findings: all, base };
    match args.output {
        Format::Text if findings.summary().errors + findings.summary().warnings > 0 => {
            anstream::eprint!("{}", findings.text(true));
        }
        Format::Github => anstream::print!("{}", findings.github()),
        Format::Sarif => {
            let all: Vec<_> = between.settings.iter().cloned().chain(breaks(&between.plan)).collect();
            anstream::print!("{}", Findings::new(&all, &between.head, None, prefix).sarif());
        }
        _ => {}
    }
    print(args, &json, &findings, (Some(&basis), prefix))?;
    let (is_sound, plan) = (findings.summary().errors == 0, &between.plan);
    Ok(code(args, is_sound, fails(args, plan.breaks_callers(), plan.unsure()), !plan.apis.is_empty()))
}

/// Prints what is wrong with a tree that nobody is asked about.
fn broken(args: &Args, findings: &Findings<'_>, url: &str) -> anyhow::Result<ExitCode> {
    match args.output {
        Format::Text => anstream::eprint!("{}", findings.text(true)),
        Format::Json => anstream::print!("{}", findings.json()),
        Format::Markdown => anstream::print!("{}", report::markdown::broken(findings)),
        Format::Github => anstream::print!("{}", findings.github()),
        Format::Sarif => anstream::print!("{}", findings.sarif()),
    }
    bail!("the tree is broken, so that {url} is not asked about it; mend it first")
}

/// Asks a daemon elsewhere, and prints what it says.
async fn ask(args: &Args, url: &str, root: &Path) -> anyhow::Result<ExitCode> {
    let set = || std::env::var("SKEP_TOKEN").ok();
    // An unset secret of a workflow is an empty variable.
    let Some(token) = &args.token.clone().or_else(set).filter(|token| !token.is_empty()) else {
        bail!("--remote wants a key: make one there with `skep keys create --name ci --plans`, and set SKEP_TOKEN")
    };
    let here = Here::read(root)?;
    let findings = here.findings();
    if findings.summary().errors > 0 {
        return broken(args, &findings, url);
    }
    let answer = remote::ask(url, token, &here).await?;
    let said = |name: &str| answer["text"][name].as_str().unwrap_or_default().to_owned();
    let apis = answer["plan"]["apis"].as_array().map(Vec::as_slice).unwrap_or_default();
    let differences = apis.iter().filter_map(|api| api["contract"]["differences"].as_array()).flatten();
    let breaks = differences.into_iter().any(|difference| difference["breaking"] == true);
    match args.output {
        Format::Json => anstream::println!("{}", inert_json(&format!("{:#}", answer["plan"]))),
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
    let unsure = apis.iter().filter(|api| api["contract"]["cut"] == true).filter_map(|api| api["id"].as_str());
    let unsure = unsure.filter_map(|id| id.parse::<ApiId>().ok()).collect::<Vec<_>>();
    Ok(code(args, answer["errors"] == 0, fails(args, breaks, unsure.iter()), !apis.is_empty()))
}

fn print(
    args: &Args,
    json: &PlanJson<'_>,
    findings: &Findings<'_>,
    (basis, prefix): (Option<&Basis<'_>>, &str),
) -> anyhow::Result<()> {
    match (args.output, basis.and_then(Basis::sentence)) {
        (Format::Text | Format::Github, Some(basis)) => anstream::println!("{basis}"),
        (Format::Sarif, Some(basis)) => anstream::eprintln!("{basis}"),
        _ => {}
    }
    match args.output {
        Format::Json => anstream::println!("{}", inert_json(&serde_json::to_string_pretty(json)?)),
        Format::Text => anstream::print!("{}", report::plan::text(json.plan, args.steps)),
        Format::Markdown => anstream::print!("{}", report::markdown::markdown(json.plan, findings, basis)),
        Format::Github => anstream::print!("{}", report::markdown::github(json.plan, prefix)),
        // It holds findings alone, which whoever has made the plan prints.
        Format::Sarif => {}
    }
    Ok(())
}

/// Adds to a plan which packages move where no lock says it; the index is asked, which may take seconds.
///
/// # Errors
/// Where somebody interrupts it. Nothing is left of it on the engine then.
pub async fn resolve(parts: &Parts, comparison: &Comparison, plan: &mut Plan) -> anyhow::Result<()> {
    if !plan.all().any(ApiPlan::may_move_packages) {
        return Ok(());
    }
    let patience = Patience::while_it("asking the package index what requirements come to");
    let asked = patience.wait(add_versions(&parts.world, &comparison.apis, plan));
    let asked = unless_told_to_end(asked).await;
    parts.world.engine.settled().await;
    asked.context("interrupted; what was made for it is removed")
}

/// The plan of a comparison, with all that it takes more than a look to tell.
pub async fn make(parts: &Parts, comparison: &Comparison) -> Plan {
    whole(&parts.world, &comparison.tree, &comparison.apis, &BTreeMap::new()).await
}
