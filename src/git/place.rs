//! Placing puts the folders of a commit into the tree, each in one moment, and nothing that somebody changed by hand is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, open, renameat_with};

use super::store::{PLACED, Store};
use super::{GitError, Repository};
use crate::settings::Policy;
use crate::tree::folder::is_ignored;

/// The folder beside `apis/` in which what is coming is made ready, so that renaming moves it in.
const ASIDE: &str = ".skep-push";

/// Why folders could not be placed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Git did not do its part.
    #[error(transparent)]
    Git(#[from] GitError),
    /// Somebody changed files here that a push would write over.
    #[error("changed here by hand since the last push: {}", .0.join(", "))]
    Edited(Vec<String>),
    /// The commit holds what no folder here may hold.
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
    /// A file or folder could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What placing a commit would do to the tree.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The folders that the commit has otherwise than what was placed before.
    pub changed: BTreeSet<String>,
    /// The folders that it has no more.
    pub gone: BTreeSet<String>,
}

/// Where folders of commits are placed.
#[derive(Debug, Clone)]
pub struct Placing<'a> {
    /// Where the commits are.
    pub store: &'a Store,
    /// The folder of API folders, here and in commits.
    pub apis: &'a Path,
    /// What a folder may hold.
    pub policy: &'a Policy,
}

impl Placing<'_> {
    /// The name of the folder of API folders, in commits too.
    #[must_use]
    pub fn prefix(&self) -> String {
        self.apis.file_name().map_or_else(|| "apis".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// What the commit has otherwise than what was placed last. Only names of git's objects are compared: among ten thousand
    /// folders, those that are the same cost nothing.
    ///
    /// # Errors
    /// Where git cannot say.
    pub async fn difference(&self, repository: &Repository, commit: &str) -> Result<Difference, GitError> {
        let before = match self.store.resolve(PLACED).await? {
            Some(placed) => repository.folders(&placed, &self.prefix()).await?,
            None => BTreeMap::new(),
        };
        let mut after = repository.folders(commit, &self.prefix()).await?;
        // Of what the tree takes no notice of, nothing is placed; `.` and `..` are among that.
        after.retain(|name, _| !is_ignored(name));
        let changed = after.iter().filter(|(name, object)| before.get(*name) != Some(object));
        let gone = before.keys().filter(|name| !after.contains_key(*name));
        Ok(Difference { changed: changed.map(|(name, _)| name.clone()).collect(), gone: gone.cloned().collect() })
    }

    /// Puts the commit's folders into the tree. One push at a time: whoever comes second waits.
    ///
    /// `overwrites` says that what somebody changed by hand may go.
    ///
    /// # Errors
    /// Where nothing was placed, or not all: placing the same commit again goes on.
    pub async fn put(&self, commit: &str, overwrites: bool) -> Result<Difference, PlaceError> {
        let _one_at_a_time = self.lock()?;
        let repository = self.store.repository();
        let placed = self.store.resolve(PLACED).await?;
        let difference = self.difference(repository, commit).await?;
        let aside = Aside::new(self.apis)?;
        let (new, old) = (aside.0.join("new"), aside.0.join("old"));
        let refused = repository.export(commit, &self.prefix(), &difference.changed, self.policy, &new).await?;
        if !refused.is_empty() {
            return Err(PlaceError::Refused(refused));
        }
        if !overwrites {
            let touched: BTreeSet<String> = difference.changed.union(&difference.gone).cloned().collect();
            if let Some(placed) = &placed {
                // What was refused then is not there now.
                repository.export(placed, &self.prefix(), &touched, self.policy, &old).await?;
            }
            let is_edited = |name: &&String| {
                let here = self.apis.join(name);
                here.exists() && !is_same(&here, &old.join(name)) && !is_same(&here, &new.join(name))
            };
            let edited: Vec<String> = touched.iter().filter(is_edited).cloned().collect();
            if !edited.is_empty() {
                return Err(PlaceError::Edited(edited));
            }
        }
        // Renames create before they remove.
        for name in &difference.changed {
            swap(&new.join(name), &self.apis.join(name))?;
        }
        for name in &difference.gone {
            let (from, to) = (self.apis.join(name), aside.0.join(format!("gone-{name}")));
            match fs::rename(&from, &to) {
                Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                    return Err(PlaceError::Io { path: from, source });
                }
                _ => {}
            }
        }
        self.store.move_ref(PLACED, commit, placed.as_deref()).await?;
        Ok(difference)
    }

    fn lock(&self) -> Result<impl Drop + use<>, PlaceError> {
        let path = self.store.folder().join("placing");
        let failed = |errno: rustix::io::Errno| PlaceError::Io { path: path.clone(), source: errno.into() };
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = open(&path, flags, Mode::from_raw_mode(0o600)).map_err(failed)?;
        flock(file.as_fd(), FlockOperation::LockExclusive).map_err(failed)?;
        Ok(file)
    }
}

/// A folder beside the tree that goes when it is done with.
struct Aside(PathBuf);

impl Aside {
    fn new(apis: &Path) -> Result<Self, PlaceError> {
        let beside = apis.parent().unwrap_or(apis);
        let path = beside.join(format!("{ASIDE}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).map_err(|source| PlaceError::Io { path: path.clone(), source })?;
        Ok(Self(path))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Puts a folder in the place of another, in one moment; that one is then where the new one was.
fn swap(new: &Path, here: &Path) -> Result<(), PlaceError> {
    let failed = |source| PlaceError::Io { path: here.to_owned(), source };
    if here.symlink_metadata().is_err() {
        return fs::rename(new, here).map_err(failed);
    }
    renameat_with(CWD, new, CWD, here, RenameFlags::EXCHANGE).map_err(|errno| failed(errno.into()))
}

/// Whether two folders hold the same files, but for what the tree takes no notice of.
fn is_same(one: &Path, other: &Path) -> bool {
    let (Some(one), Some(other)) = (files(one), files(other)) else { return false };
    one.len() == other.len()
        && one.iter().all(|(path, file)| {
            let read = |path: &Path| fs::read(path).ok();
            other.get(path).is_some_and(|other| read(file).is_some_and(|bytes| Some(bytes) == read(other)))
        })
}

/// The files below a folder by their path in it; the one of a plain file is itself. `None` where it cannot be read.
fn files(folder: &Path) -> Option<BTreeMap<PathBuf, PathBuf>> {
    fn walk(root: &Path, folder: &Path, into: &mut BTreeMap<PathBuf, PathBuf>) -> Option<()> {
        for entry in fs::read_dir(folder).ok()? {
            let entry = entry.ok()?;
            if is_ignored(&entry.file_name().to_string_lossy()) {
                continue;
            }
            let path = entry.path();
            if entry.file_type().ok()?.is_dir() {
                walk(root, &path, into)?;
            } else {
                into.insert(path.strip_prefix(root).ok()?.to_owned(), path);
            }
        }
        Some(())
    }
    let mut into = BTreeMap::new();
    if folder.is_dir() {
        walk(folder, folder, &mut into)?;
    } else if folder.is_file() {
        into.insert(PathBuf::new(), folder.to_owned());
    } else {
        return None;
    }
    Some(into)
}
