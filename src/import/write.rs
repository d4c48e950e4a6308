//! Writing an import: plans first, then keys, then folders, each whole or not at all, so that it can stop anywhere.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::draft::{self, Drafts, There};
use super::look::{ImportError, read_settings};
use super::{Import, Verdict, plans};
use crate::records::Records;
use crate::settings::{self, Settings};

/// Where folders lie for the moment before they stand in the tree: a hidden folder below it, which nobody reads.
const ASIDE: &str = ".skep-import";

/// What was written.
#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// Folders.
    pub folders: usize,
    /// Keys.
    pub keys: usize,
    /// Whether `skep.yaml` was added to.
    pub plans: bool,
    /// Folders that somebody changed while the import was at work; they are left as they are.
    pub changed: Vec<String>,
}

/// Carries an import out.
///
/// # Errors
/// Where something cannot be written; what was written until then is whole, and another import goes on from there.
pub async fn write(
    import: &Import,
    records: &dyn Records,
    settings: &Settings,
    drafts: &Drafts,
) -> Result<Written, ImportError> {
    let mut written = Written::default();
    if let Some(block) = &import.plans.block {
        written.plans = add_plans(block, settings)?;
    }
    // Before the folders, so that a caller's first request to a new API finds its key.
    if !import.new_keys.is_empty() {
        written.keys = records.add_missing_keys(&import.new_keys).await?;
    }
    let aside = settings.apis.join(ASIDE);
    let made = fs::create_dir_all(&settings.apis).and_then(|()| clear(&aside)).and_then(|()| fs::create_dir(&aside));
    made.map_err(failed(&aside))?;
    for api in import.apis.iter().filter(|api| api.verdict.writes()) {
        let (from, to) = (drafts.folder(&api.id), settings.apis.join(&api.id));
        if place(&from, &aside.join(&api.id), &to, api.verdict).map_err(failed(&to))? {
            written.folders += 1;
        } else {
            written.changed.push(api.id.clone());
        }
    }
    clear(&aside).map_err(failed(&aside))?;
    Ok(written)
}

/// Puts a draft in its place; `false` where somebody has changed what is there since it was looked at.
fn place(from: &Path, aside: &Path, to: &Path, verdict: Verdict) -> io::Result<bool> {
    let Some(content) = draft::read(from)? else { return Err(io::Error::other("the draft is gone")) };
    let there = draft::compare(to, &content)?;
    let is_as_seen = match verdict {
        Verdict::Create => there == There::Nothing,
        Verdict::Update => there == There::Imported,
        _ => there != There::Other,
    };
    if there == There::Same {
        return Ok(true);
    }
    if !is_as_seen {
        return Ok(false);
    }
    draft::write(aside, &content)?;
    if there == There::Nothing {
        return match renameat_with(CWD, aside, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            // A file system that knows no such flag: a folder that is not empty is not replaced there either.
            Err(_) => fs::rename(aside, to).map(|()| true),
        };
    }
    // The two change places in one go; what was there is then cleared away with the rest.
    if renameat_with(CWD, aside, CWD, to, RenameFlags::EXCHANGE).is_err() {
        let old = aside.with_extension("old");
        fs::rename(to, &old)?;
        fs::rename(aside, to)?;
    }
    Ok(true)
}

/// Adds plans to the end of `skep.yaml`, as it is now.
fn add_plans(block: &str, settings: &Settings) -> Result<bool, ImportError> {
    let file = read_settings(&settings.root)?;
    let Some(text) = plans::with(file.as_deref().unwrap_or_default(), block, settings) else { return Ok(false) };
    let path = settings.root.join(settings::FILE);
    // A link stays one: what it leads to is replaced.
    let path: PathBuf = fs::canonicalize(&path).unwrap_or(path);
    let aside = path.with_file_name(format!(".{}.import", settings::FILE));
    let write = || -> io::Result<()> {
        fs::write(&aside, &text)?;
        if let Ok(there) = fs::metadata(&path) {
            fs::set_permissions(&aside, there.permissions())?;
        }
        fs::File::open(&aside)?.sync_all()?;
        fs::rename(&aside, &path)
    };
    write().map_err(failed(&path))?;
    Ok(true)
}

fn clear(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ImportError {
    let path = path.display().to_string();
    move |source| ImportError::Io { path, source }
}
