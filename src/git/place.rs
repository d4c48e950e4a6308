//! Placing puts the folders of a commit into the tree, each in one moment, and nothing that somebody changed by hand is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, open, renameat_with};
use rustix::io::Errno;

use super::difference::{Difference, Place};
use super::export::Refusal;
use super::scratch::Scratch;
use super::store::{PLACED, SCRATCH, Store};
use super::{GitError, Repository};
use crate::settings::{Policy, Settings};
use crate::tree::folder::is_ignored;

/// The folder beside `apis/` in which what is coming is made ready, so that renaming moves it in.
const ASIDE: &str = ".skep-push-";

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
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Refusal>),
    /// A file or folder could not be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Where folders of commits are placed.
#[derive(Debug, Clone)]
pub struct Placing<'a> {
    /// Where the commits are.
    pub store: &'a Store,
    /// The folder of API folders here.
    pub apis: &'a Path,
    /// The folder of API folders in commits.
    pub prefix: String,
    /// That in the commit that was placed last.
    pub before: String,
    /// Folders that are somebody else's by now, and stay when the commit has them no more.
    pub spared: BTreeSet<String>,
    /// What a folder may hold.
    pub policy: &'a Policy,
}

impl<'a> Placing<'a> {
    /// Of what is pushed, in which the folder of API folders is called as it is here.
    #[must_use]
    pub fn pushed(store: &'a Store, settings: &'a Settings) -> Self {
        let (prefix, before) = (settings.apis_name(), settings.apis_name());
        Self { store, apis: &settings.apis, prefix, before, spared: BTreeSet::new(), policy: &settings.policy }
    }

    /// What the commit has otherwise than what was placed last. Only names of git's objects are compared: among ten thousand
    /// folders, those that are the same cost nothing.
    ///
    /// # Errors
    /// Where git cannot say.
    pub async fn difference(&self, repository: &Repository, commit: &str) -> Result<Difference, GitError> {
        let placed = self.store.resolve(PLACED).await?;
        let before = placed.as_deref().map(|commit| Place { commit, folder: &self.before });
        let mut difference = repository.difference(before, Place { commit, folder: &self.prefix }).await?;
        // Of what the tree takes no notice of, nothing is placed, and nothing goes; `.` and `..` are among that.
        difference.changed.retain(|name| !is_ignored(name));
        difference.gone.retain(|name| !is_ignored(name) && !self.spared.contains(name));
        Ok(difference)
    }

    /// Waits until no other push is on its way into the tree, and keeps others waiting as long as the answer is kept; `None`
    /// where it is not to be waited for.
    ///
    /// # Errors
    /// Where the lock cannot be had at all.
    pub fn lock(&self, waits: bool) -> Result<Option<OwnedFd>, PlaceError> {
        let path = self.store.folder().join("placing");
        let failed = |errno: Errno| PlaceError::Io { path: path.clone(), source: errno.into() };
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = open(&path, flags, Mode::from_raw_mode(0o600)).map_err(failed)?;
        let how = if waits { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
        match flock(file.as_fd(), how) {
            Ok(()) => Ok(Some(file)),
            Err(Errno::WOULDBLOCK) if !waits => Ok(None),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Makes the commit's folders ready beside the tree, which stays as it is. To be called with the lock held.
    ///
    /// `overwrites` says that what somebody changed by hand may go.
    ///
    /// # Errors
    /// Where the commit holds what no folder may, and where somebody changed what would go.
    pub async fn ready(&self, commit: &str, overwrites: bool) -> Result<Ready, PlaceError> {
        let repository = self.store.repository();
        let placed = self.store.resolve(PLACED).await?;
        let difference = self.difference(repository, commit).await?;
        let aside = aside(self.apis)?;
        let (new, old) = (aside.path().join("new"), aside.path().join("old"));
        let refused = repository.export_whole(commit, &self.prefix, &difference.changed, self.policy, &new).await?;
        if !refused.is_empty() {
            return Err(PlaceError::Refused(refused));
        }
        if !overwrites {
            let touched: BTreeSet<String> = difference.changed.union(&difference.gone).cloned().collect();
            if let Some(placed) = &placed {
                // What was refused then is not there now.
                repository.export(placed, &self.before, &touched, self.policy, &old).await?;
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
        Ok(Ready { commit: commit.to_owned(), placed, difference, aside })
    }

    /// Makes folders of the commit that was placed last ready once more, as they were placed. Those that are there go only where
    /// hands' changes may. To be called with the lock held.
    ///
    /// # Errors
    /// Where git cannot say, or the policy allows no such folder any more.
    pub async fn again(&self, names: BTreeSet<String>, overwrites: bool) -> Result<Option<Ready>, PlaceError> {
        let Some(placed) = self.store.resolve(PLACED).await? else { return Ok(None) };
        let is_free = |name: &String| overwrites || self.apis.join(name).symlink_metadata().is_err();
        let changed: BTreeSet<String> = names.into_iter().filter(is_free).collect();
        let aside = aside(self.apis)?;
        let new = aside.path().join("new");
        let refused = self.store.repository().export(&placed, &self.before, &changed, self.policy, &new).await?;
        if !refused.is_empty() {
            return Err(PlaceError::Refused(refused));
        }
        let difference = Difference { changed, gone: BTreeSet::new() };
        Ok(Some(Ready { commit: placed.clone(), placed: Some(placed), difference, aside }))
    }

    /// Puts what is ready into the tree.
    ///
    /// # Errors
    /// Where a folder could not be moved: then all are as they were before.
    pub async fn put(&self, ready: Ready) -> Result<Difference, PlaceError> {
        let Ready { commit, placed, difference, aside } = ready;
        let mut done = Vec::new();
        // Renames create before they remove.
        let all = difference.changed.iter().map(|name| (name, true));
        for (name, is_there) in all.chain(difference.gone.iter().map(|name| (name, false))) {
            let (here, there) = (self.apis.join(name), aside.path().join("new").join(name));
            match swap(&there, &here, is_there) {
                Ok(undo) => {
                    done.extend(undo);
                    // At once: of a process that is killed before the last one is moved, what lies aside goes.
                    if is_there {
                        keep_hidden(&there, &here, &mut done);
                    }
                }
                Err(source) => {
                    for (from, to, is_swap) in done.into_iter().rev() {
                        // As good as it can be undone, by what has just worked the other way round.
                        let _ = move_to(&from, &to, is_swap);
                    }
                    return Err(PlaceError::Io { path: here, source });
                }
            }
        }
        self.store.move_ref(PLACED, &commit, placed.as_deref()).await?;
        Ok(difference)
    }
}

/// Whether a copy of an API folder, out of the folder `prefix` of a commit, is what is looked for. One that the commit lacks, or
/// that is not all here, is not.
///
/// # Errors
/// Where git cannot be run, or nothing can be written.
pub async fn copied(
    store: &Store,
    (commit, prefix): (&str, &str),
    policy: &Policy,
    name: &str,
    is_it: impl Fn(&Path) -> bool,
) -> Result<bool, GitError> {
    let scratch = Scratch::new(store.folder(), SCRATCH)
        .map_err(|source| GitError::Io { path: store.folder().to_owned(), source })?;
    match store.repository().export(commit, prefix, &BTreeSet::from([name.to_owned()]), policy, scratch.path()).await {
        Ok(_) => Ok(is_it(&scratch.path().join(name))),
        Err(GitError::Failed { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Folders of a commit that lie beside the tree.
pub struct Ready {
    commit: String,
    placed: Option<String>,
    difference: Difference,
    aside: Scratch,
}

impl Ready {
    /// Makes a copy of the tree as it would be.
    ///
    /// # Errors
    /// Where a file cannot be read or written.
    pub fn overlay(&self, apis: &Path, into: &Path) -> Result<(), PlaceError> {
        let failed = |source| PlaceError::Io { path: into.to_owned(), source };
        fs::create_dir_all(into).map_err(failed)?;
        for entry in fs::read_dir(apis).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let text = name.to_string_lossy();
            if !is_ignored(&text) && !self.difference.gone.contains(&*text) && !self.difference.changed.contains(&*text)
            {
                copy(&apis.join(&name), &into.join(&name)).map_err(failed)?;
            }
        }
        for name in &self.difference.changed {
            copy(&self.aside.path().join("new").join(name), &into.join(name)).map_err(failed)?;
        }
        Ok(())
    }
}

/// Copies plain files and folders; links are copied as links, so that whoever reads the copy sees them.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(from)?.file_type();
    if kind.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
    } else if kind.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
    } else if kind.is_file() {
        fs::copy(from, to)?;
    }
    Ok(())
}

/// A folder from which folders can be moved into the tree.
fn aside(apis: &Path) -> Result<Scratch, PlaceError> {
    let failed = |source| PlaceError::Io { path: apis.to_owned(), source };
    let apis = apis.canonicalize().map_err(failed)?;
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    // On the same file system, since folders are moved from there; within the tree, which takes no notice of it, where that
    // has one of its own.
    let beside = apis.parent().filter(|beside| device(beside) == device(&apis)).unwrap_or(&apis);
    Scratch::new(beside, ASIDE).map_err(failed)
}

/// From where to where something has to be moved to undo a move, and whether the two change places.
type Undo = (PathBuf, PathBuf, bool);

/// Puts a folder in the place of another, in one moment; that one is then where the new one was. Where nothing `is_new`, the
/// one that is there only goes.
fn swap(new: &Path, here: &Path, is_new: bool) -> io::Result<Option<Undo>> {
    let is_there = here.symlink_metadata().is_ok();
    if let Some(parent) = new.parent() {
        fs::create_dir_all(parent)?;
    }
    let (from, to) = if is_new { (new, here) } else { (here, new) };
    if !is_new && !is_there {
        return Ok(None);
    }
    let is_swap = is_new && is_there;
    move_to(from, to, is_swap)?;
    Ok(Some((to.to_owned(), from.to_owned(), is_swap)))
}

fn move_to(from: &Path, to: &Path, is_swap: bool) -> io::Result<()> {
    if is_swap {
        return Ok(renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE)?);
    }
    fs::rename(from, to)
}

/// Brings hidden files along that are on this host only, as a `.env` of somebody's: they are no part of what is served, and
/// not a push's to throw away. How each would go back is added to `done`.
fn keep_hidden(old: &Path, here: &Path, done: &mut Vec<Undo>) {
    let Ok(entries) = fs::read_dir(old) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let (old, here) = (entry.path(), here.join(&name));
        if name.to_string_lossy().starts_with('.') {
            // One that cannot be moved is not worth a push.
            if here.symlink_metadata().is_err() && fs::rename(&old, &here).is_ok() {
                done.push((here, old, false));
            }
        } else if here.is_dir() && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            keep_hidden(&old, &here, done);
        }
    }
}

/// Whether two folders hold the same files, but for what the tree takes no notice of.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    let (Some(one), Some(other)) = (files(one), files(other)) else { return false };
    one.len() == other.len()
        && one.iter().all(|(path, file)| {
            let read = |path: &Path| fs::read(path).ok();
            other.get(path).is_some_and(|other| read(file).is_some_and(|bytes| Some(bytes) == read(other)))
        })
}

/// The files below a folder by their path in it; the one of a plain file is itself. `None` where it cannot be read.
pub(super) fn files(folder: &Path) -> Option<BTreeMap<PathBuf, PathBuf>> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_files_of_this_host_come_along_and_go_back() {
        let folder = tempfile::tempdir().unwrap();
        let (old, here) = (folder.path().join("old"), folder.path().join("here"));
        for (path, text) in [(&old, "old"), (&here, "new")] {
            fs::create_dir_all(path.join("in")).unwrap();
            fs::write(path.join(".both"), text).unwrap();
        }
        fs::write(old.join("in/.env"), "secret").unwrap();
        let mut done = Vec::new();
        keep_hidden(&old, &here, &mut done);
        assert_eq!(fs::read_to_string(here.join("in/.env")).unwrap(), "secret");
        assert_eq!(fs::read_to_string(here.join(".both")).unwrap(), "new", "what a commit has goes before");
        for (from, to, is_swap) in done.into_iter().rev() {
            move_to(&from, &to, is_swap).unwrap();
        }
        assert!(old.join("in/.env").exists() && !here.join("in/.env").exists());
    }
}
