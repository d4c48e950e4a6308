//! `skep check`: reads a tree and says what is wrong with it. Needs no engine, no network and no records.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};

use crate::report::diagnostics::Findings;
use crate::settings::{self, Settings};
use crate::tree::{ApiId, Scanner};

/// Checks skep.yaml and every API: settings, requirements, Python source, files. Runs none of the code.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  skep check                         all APIs below ./apis
  skep check apis/thumbnails         one API
  skep check --output github         annotations in a GitHub workflow
  skep check --output json | jq '.findings[] | select(.severity == \"error\")'

Exit codes: 0 where there are no errors (warnings are none), 1 where there are.
The codes of all findings are explained in docs/checks.md.")]
pub struct Check {
    /// The folder that holds `skep.yaml` and `apis/`, or the folder of one API; `--root` where left out.
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,

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
    let prefix = root.strip_prefix(".").unwrap_or(&root).display().to_string();
    let findings = Findings::new(&findings, &look.tree, one.as_ref(), prefix.trim_end_matches('/'));
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
