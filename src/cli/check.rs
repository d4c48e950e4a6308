//! `skep check`: reads a tree and says what is wrong with it. Needs no engine, no network and no records, unless it is to
//! boot what it reads.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use super::between::{Between, Ends};
use super::boot::{Tried, boot};
use crate::contract::looked_at;
use crate::report::diagnostics::Findings;
use crate::settings::{self, Settings};
use crate::tree::{ApiId, Scanner, Tree};

/// Checks skep.yaml and every API: settings, requirements, Python source, files. Runs none of the code without --boot.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  skep check                         all APIs below ./apis
  skep check apis/thumbnails         one API
  skep check --output github         annotations in a GitHub workflow
  skep check --boot                  builds and starts all, where an engine is, apart from what serves
  skep check --boot --base origin/main    only those that a branch has changed since it left main
  skep check --output json | jq '.findings[] | select(.severity == \"error\")'

Exit codes: 0 where there are no errors (warnings are none), 1 where there are.
What --boot makes on the engine is of an installation of its own, and is removed again.
The codes of all findings are explained in docs/checks.md.")]
pub struct Check {
    /// The folder that holds `skep.yaml` and `apis/`, or the folder of one API; `--root` where left out.
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,

    /// Build and start these APIs too, or all, on the engine: whether they come to answer. Those with secrets are left out.
    #[arg(long, value_name = "ID", num_args = 0..)]
    pub boot: Option<Vec<ApiId>>,

    /// With --boot: only those that differ from what they are in the last commit in common with this one, which they are to
    /// be merged into.
    #[arg(long, value_name = "COMMIT", requires = "boot")]
    pub base: Option<String>,

    /// With --base: that differ from what they are in that very commit.
    #[arg(long, requires = "base")]
    pub exact: bool,

    /// How to write the findings.
    #[arg(long, value_enum, default_value_t)]
    pub output: Format,
}

/// How findings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// For programs; versioned.
    Json,
    /// Annotations of a GitHub workflow.
    Github,
    /// SARIF 2.1.0, for tools that show findings beside the code.
    Sarif,
}

/// Runs the check.
///
/// # Errors
/// Where there is no tree to check, or it cannot be read.
pub fn run(arguments: &Check, root: &Path) -> anyhow::Result<ExitCode> {
    let (root, one) = match &arguments.path {
        Some(path) => what_to_check(path)?,
        None => (root.to_owned(), None),
    };
    // The environment belongs to a host; a tree is as right or wrong on any other.
    let (settings, findings) = Settings::read(&root, |_| None)?;
    let mut scanner = Scanner::new(&settings)?;
    let look = match &one {
        Some(id) => scanner.read_folders(&BTreeSet::from([id.clone()]))?,
        None => scanner.read()?,
    };
    let prefix = prefix(&root);
    let (mut tree, mut boots) = (looked_at(&look.tree), Vec::new());
    if let Some(named) = &arguments.boot {
        let tried = try_out(&root, &tree, named, arguments)?;
        (tree, boots) = (tried.added_to(&tree), tried.boots);
    }
    let findings = Findings::new(&findings, &tree, one.as_ref(), &prefix).with_boots(boots);
    let text = match arguments.output {
        Format::Text => findings.text(true),
        Format::Json => findings.json(),
        Format::Github => findings.github(),
        Format::Sarif => findings.sarif(),
    };
    // Takes the colours out again where they would not show.
    match anstream::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error).context("cannot write"),
        _ => {}
    }
    Ok(if findings.summary().errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds and starts the APIs that are named, or all of the tree; of those the ones that differ from a commit.
fn try_out(root: &Path, tree: &Tree, named: &[ApiId], arguments: &Check) -> anyhow::Result<Tried> {
    let root = root.canonicalize().with_context(|| format!("cannot use {} as the root", root.display()))?;
    // The engine is this host's, and so is the way to the package index.
    let (settings, findings) = Settings::read(&root, |name| std::env::var(name).ok())?;
    if let Some(first) = findings.iter().find(|finding| finding.is_error()) {
        bail!("nothing can be tried with settings that cannot be used: {first}");
    }
    if let Some(unknown) = named.iter().find(|id| !tree.folders.contains_key(*id)) {
        bail!("there is no API {unknown} in the tree, or it is not checked here");
    }
    let mut ids: BTreeSet<ApiId> = tree.folders.keys().cloned().collect();
    ids.retain(|id| named.is_empty() || named.contains(id));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")?;
    let tried = runtime.block_on(async {
        if let Some(base) = &arguments.base {
            let between = Between::of(&root, Ends { base, head: None, exact: arguments.exact }).await?;
            if let Some(basis) = between.basis().sentence() {
                anstream::eprintln!("{basis}");
            }
            ids.retain(|id| between.plan.apis.iter().any(|api| api.id == *id));
        }
        boot(&settings, tree, &ids).await
    });
    runtime.shutdown_background();
    tried
}

/// What leads from where the reader is to a root, for the paths of findings. Relative where the root is below the reader's
/// folder, since forges know no other paths.
pub(super) fn prefix(root: &Path) -> String {
    let here = std::env::current_dir().ok().filter(|_| root.is_absolute());
    let root = here.as_deref().and_then(|here| root.strip_prefix(here).ok()).unwrap_or(root);
    root.strip_prefix(".").unwrap_or(root).display().to_string().trim_end_matches('/').to_owned()
}

/// The root to check, and the API where `path` is the folder of one.
fn what_to_check(path: &Path) -> anyhow::Result<(PathBuf, Option<ApiId>)> {
    if path.join("apis").is_dir() || path.join(settings::FILE).is_file() {
        return Ok((path.to_owned(), None));
    }
    let real = path.canonicalize().with_context(|| format!("cannot read {}", path.display()))?;
    let is_apis = |path: &Path| path.file_name().is_some_and(|name| name == "apis");
    // Keep the path as it was given where it can be cut, so that findings name files as the reader does.
    let above = |levels: usize| {
        let real = real.ancestors().nth(levels)?;
        let given =
            path.ancestors().nth(levels).map(|given| if given == Path::new("") { Path::new(".") } else { given });
        let given = given.filter(|given| given.canonicalize().is_ok_and(|given| given == real));
        Some(given.unwrap_or(real).to_owned())
    };
    if is_apis(&real)
        && let Some(root) = above(1)
    {
        return Ok((root, None));
    }
    if real.parent().is_some_and(is_apis)
        && let (Some(root), Some(name)) = (above(2), real.file_name())
    {
        let name = name.to_string_lossy();
        let id = ApiId::new(&name).with_context(|| format!("{name:?} is no id of an API"))?;
        return Ok((root, Some(id)));
    }
    bail!("{} holds neither apis/ nor skep.yaml, and is no folder of an API", path.display())
}
