//! `skep lock`: writes down what exactly requirements come to, by hash, beside them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::Output;
use super::context::Context;
use super::patience::Patience;
use super::process::unless_told_to_end;
use super::write::replace;
use crate::engine::Engine as _;
use crate::engine::docker::Docker;
use crate::engine::docker::resolve::{Resolve, Resolved};
use crate::reconcile::plan::{Change, packages};
use crate::report::diagnostics::Findings;
use crate::report::plan::change_line;
use crate::settings::Settings;
use crate::tree::diagnostic::code;
use crate::tree::lock::{self, Lock};
use crate::tree::source::Source;
use crate::tree::{ApiId, Broken, Diagnostic, Folder, Requirements, Tree};

/// Arguments of `skep lock`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit codes:
  0  all locks are written, or with --check: are as requirements.txt says
  1  one could not be made, or with --check: is missing or for other requirements

With --check neither engine nor network is needed. See docs/locking.md.

Examples:
  skep lock                          all APIs
  skep lock thumbnails               one; its versions stay where they still do
  skep lock thumbnails --upgrade     one, with the newest versions that its requirements allow
  skep lock --check                  in CI")]
pub struct Args {
    /// Which APIs; all where left out.
    #[arg(value_name = "ID")]
    ids: Vec<ApiId>,

    /// Take the newest versions, rather than keep those of the lock that is there.
    #[arg(long, conflicts_with = "check")]
    upgrade: bool,

    /// Write nothing; say whether each lock is there and as requirements.txt says.
    #[arg(long)]
    check: bool,

    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The files of one API.
struct Files {
    id: ApiId,
    path: PathBuf,
    asked: String,
    locked: Option<String>,
}

/// What came of one API.
#[derive(Debug, Serialize)]
struct Locked {
    id: ApiId,
    /// How many packages the lock has now.
    packages: usize,
    /// Whether its file was written anew.
    written: bool,
    changes: Vec<Change>,
}

/// What `--output json` prints.
#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    locks: Vec<Locked>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<Failed>,
}

#[derive(Debug, Serialize)]
struct Failed {
    id: ApiId,
    message: String,
}

/// Runs `skep lock`.
///
/// # Errors
/// Where there is no such API, or no engine to resolve on.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    if args.check {
        let root = root.canonicalize().with_context(|| format!("cannot use {} as the root", root.display()))?;
        let (settings, _) = Settings::read(&root, |_| None)?;
        return check(args, &settings);
    }
    let context = Context::open(root)?;
    let (engine, all) = (context.engine()?, read(args, &context.settings)?);
    let mut report = Report { version: 1, locks: Vec::new(), failed: Vec::new() };
    // APIs with the same requirements get the same lock, and are resolved once.
    let mut known = BTreeMap::new();
    let work = async {
        // What an earlier run has left, that was ended, goes with this.
        let patience = Patience::while_it("looking for the base image");
        let progress = patience.lines("base image: ".to_owned());
        patience.wait(engine.base(&progress)).await?;
        for files in all {
            match lock_one(args, &engine, &files, &mut known).await {
                Ok(locked) => {
                    if args.output == Output::Text {
                        print(&locked);
                    }
                    report.locks.push(locked);
                }
                Err(error) => {
                    anstream::eprintln!("error: {}: {error:#}", files.id);
                    report.failed.push(Failed { id: files.id, message: format!("{error:#}") });
                }
            }
        }
        anyhow::Ok(())
    };
    let done = unless_told_to_end(Box::pin(work)).await;
    engine.settled().await;
    done.context("interrupted; what was made for it is removed, and the locks that are written stay")??;
    if args.output == Output::Json {
        anstream::println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

type Known = BTreeMap<(Requirements, Requirements), Resolved>;

async fn lock_one(args: &Args, engine: &Docker, files: &Files, known: &mut Known) -> anyhow::Result<Locked> {
    let mut findings = Vec::new();
    let path = format!("apis/{}/{}", files.id, REQUIREMENTS);
    let requirements = Requirements::parse(Source::new(&path, &files.asked), &mut findings);
    if findings.iter().any(Diagnostic::is_error) {
        anstream::eprint!("{}", Findings::new(&findings, &Tree::default(), None, "").text(true));
        bail!("its requirements.txt has errors");
    }
    // A lock that cannot be read keeps nothing from being made anew.
    let before = files.locked.as_deref().map(|text| read_lock(&files.id, text));
    let before = before.and_then(|(lock, findings)| findings.is_empty().then_some(lock)).unwrap_or_default();
    let earlier = if args.upgrade { Requirements::default() } else { before.clone() };
    let key = (requirements.clone(), earlier.clone());
    let resolved = if let Some(resolved) = known.get(&key) {
        resolved.clone()
    } else {
        let patience = Patience::while_it(format!("{}: resolving", files.id));
        let (progress, job) = (patience.lines(format!("{}: ", files.id)), Resolve { requirements, earlier });
        patience.wait(Box::pin(engine.lock(&job, &progress))).await?
    };
    let text = lock::write(&files.id, &resolved.made_for, &lock::digest_of(&files.asked), &resolved.packages);
    known.insert(key, resolved);
    let (after, findings) = read_lock(&files.id, &text);
    if let Some(finding) = findings.first() {
        bail!("the lock that was made cannot be used: {finding}");
    }
    let written = files.locked.as_ref() != Some(&text);
    if written {
        replace(&files.path.join(lock::FILE), &text)?;
    }
    let changes = packages(&before, &after);
    Ok(Locked { id: files.id.clone(), packages: after.0.len(), written, changes })
}

fn read_lock(id: &ApiId, text: &str) -> (Requirements, Vec<Diagnostic>) {
    let mut findings = Vec::new();
    let path = format!("apis/{id}/{}", lock::FILE);
    (Lock::read(Source::new(&path, text), &mut findings).requirements(), findings)
}

/// Says of each lock whether it is there and as `requirements.txt` says.
fn check(args: &Args, settings: &Settings) -> anyhow::Result<ExitCode> {
    let mut tree = Tree::default();
    for files in read(args, settings)? {
        let paths = [REQUIREMENTS, lock::FILE].map(|name| format!("apis/{}/{name}", files.id));
        let hint = format!("run: skep lock {}", files.id);
        let findings = match &files.locked {
            Some(locked) => lock::check(Source::new(&paths[0], &files.asked), Source::new(&paths[1], locked)),
            // A tree need not have locks; who asks whether they are there wants them to be.
            None => vec![Diagnostic::error(code::LOCK_MISSING, &paths[1], "there is no lock", hint)],
        };
        // Only the findings matter here: nothing is served from this.
        tree.folders.insert(files.id.clone(), Folder::Broken(Arc::new(Broken { id: files.id, findings })));
    }
    let findings = Findings::new(&[], &tree, None, "");
    let text = match args.output {
        Output::Json => findings.json(),
        Output::Text => findings.text(true),
    };
    anstream::print!("{text}");
    Ok(if findings.summary().errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const REQUIREMENTS: &str = "requirements.txt";

/// Reads the two files of each API that was asked for.
fn read(args: &Args, settings: &Settings) -> anyhow::Result<Vec<Files>> {
    let mut ids = args.ids.clone();
    if ids.is_empty() {
        let entries = std::fs::read_dir(&settings.apis);
        let entries = entries.with_context(|| format!("cannot read {}", settings.apis.display()))?;
        let folders = entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        ids = folders.filter_map(|entry| ApiId::new(&entry.file_name().to_string_lossy()).ok()).collect();
    }
    ids.sort();
    ids.dedup();
    if ids.is_empty() {
        bail!("there are no APIs below {}", settings.apis.display());
    }
    let files = ids.into_iter().map(|id| {
        let path = settings.apis.join(id.as_str());
        if !path.is_dir() {
            bail!("there is no API {id}: {} is no folder", path.display());
        }
        let asked = text_of(&path.join(REQUIREMENTS))?.unwrap_or_default();
        let locked = text_of(&path.join(lock::FILE))?;
        Ok(Files { id, path, asked, locked })
    });
    files.collect()
}

/// The text of a file, where there is one. A link is not followed, as nowhere in the tree.
fn text_of(path: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if !found.is_file() => bail!("{} is no file; put the file itself there", path.display()),
        _ => {}
    }
    std::fs::read_to_string(path).map(Some).with_context(|| format!("cannot read {}", path.display()))
}

fn print(locked: &Locked) {
    let what = match (locked.written, locked.changes.is_empty()) {
        (false, _) => "as it was",
        (true, true) => "written; the same packages",
        (true, false) => "written",
    };
    anstream::println!("{}: {} packages, {what}", locked.id, locked.packages);
    for change in &locked.changes {
        anstream::println!("  {}", change_line(change));
    }
}
