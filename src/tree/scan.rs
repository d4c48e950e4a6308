//! A scanner looks at all API folders and makes a tree of them, reading again only what changed.

mod entries;
mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rayon::prelude::*;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, openat};
use rustix::io::Errno;

use self::entries::{Entries, Seen};
use super::diagnostic::{Diagnostic, code};
use super::folder::{self, Listing, NoFolder, Rules};
use super::id::ApiId;
use super::preview::reserved;
use super::{Broken, Folder, Tree, hosts};
use crate::settings::Settings;

/// A file that changed this shortly before a look may change again without its times changing, since they have the
/// resolution of the kernel's tick (10 ms at most) or of a coarser file system. Git calls such a file racy.
pub(crate) const RACY: Duration = Duration::from_millis(50);

/// How often the names are read anew before a folder of folders that never stands still counts as one that cannot be read.
const MOST_LOOKS: u32 = 16;

/// The stack of each reading thread. Source is bounded to 3,000 levels, each of which takes about a kilobyte.
const STACK: usize = 32 * 1024 * 1024;

/// Makes trees of API folders. Keeps what it has read, so that an unchanged folder costs one look at each of its files.
#[derive(Debug)]
pub struct Scanner {
    root: PathBuf,
    apis: PathBuf,
    rules: Rules,
    quiet: Duration,
    is_of_previews: bool,
    threads: Arc<rayon::ThreadPool>,
    cache: BTreeMap<ApiId, Listing>,
    tree: Arc<Tree>,
}

/// What one look saw.
#[derive(Debug, Clone)]
pub struct Look {
    /// All folders. Those that did not change are the same [`Arc`]s as in the look before.
    pub tree: Arc<Tree>,
    /// Folders that are new, gone, or differ from the look before.
    pub changed: BTreeSet<ApiId>,
    /// Folders that were changing while they were looked at. `tree` has their earlier value; one that has none is
    /// [`Folder::Broken`]. Look at them again soon.
    pub unsettled: BTreeSet<ApiId>,
}

/// Why there is no tree. Never to be taken for an empty tree, which would remove every API.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The folder of API folders is not there.
    #[error("there is no folder {0}; make it, or name the folder that holds it with --root")]
    Missing(PathBuf),
    /// The operating system refused.
    #[error("cannot read {path}")]
    Io {
        /// What was to be read.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A folder did not stand still.
    #[error("{0} was changing while it was read; do that again once it stands still")]
    Changing(String),
    /// No threads to read with.
    #[error("cannot start the threads that read the tree")]
    Threads(#[source] rayon::ThreadPoolBuildError),
}

/// What came of one folder.
enum Outcome {
    /// As the cache has it.
    Same,
    /// Read anew; the listing where it may be trusted next time.
    Read(Folder, Option<Listing>),
    Unsettled,
    Gone,
}

impl Scanner {
    /// A scanner that has seen nothing yet.
    ///
    /// # Errors
    /// [`TreeError::Threads`].
    pub fn new(settings: &Settings) -> Result<Self, TreeError> {
        let threads = rayon::ThreadPoolBuilder::new().stack_size(STACK).thread_name(|number| format!("tree-{number}"));
        let threads = threads.build().map_err(TreeError::Threads)?;
        Ok(Self::with(settings, Arc::new(threads), false))
    }

    /// One that reads folders of previews, and no others, with the same threads.
    #[must_use]
    pub fn of_previews(&self, settings: &Settings) -> Self {
        Self::with(settings, Arc::clone(&self.threads), true)
    }

    fn with(settings: &Settings, threads: Arc<rayon::ThreadPool>, is_of_previews: bool) -> Self {
        Self {
            root: settings.root.clone(),
            apis: settings.apis.clone(),
            rules: Rules { defaults: settings.defaults.clone(), policy: settings.policy.clone() },
            quiet: Duration::ZERO,
            is_of_previews,
            threads,
            cache: BTreeMap::new(),
            tree: Arc::default(),
        }
    }

    /// Takes a folder for unsettled until none of its files has changed for that long, so that a file which is being
    /// written piece by piece is not read half. Zero, the default, reads what is there.
    #[must_use]
    pub fn with_quiet(self, quiet: Duration) -> Self {
        Self { quiet, ..self }
    }

    /// Goes on with other settings; what they decide is read anew by the next [`Scanner::read`].
    pub fn set(&mut self, settings: &Settings) {
        let rules = Rules { defaults: settings.defaults.clone(), policy: settings.policy.clone() };
        if rules != self.rules || settings.apis != self.apis {
            self.cache.clear();
        }
        self.rules = rules;
        self.root.clone_from(&settings.root);
        self.apis.clone_from(&settings.apis);
    }

    /// The tree as the last look saw it.
    #[must_use]
    pub fn tree(&self) -> &Arc<Tree> {
        &self.tree
    }

    /// Looks at everything.
    ///
    /// Something that has gone may have been renamed while the names were read, which shows neither its old name nor its
    /// new one. So they are read until those of two looks agree: nobody may take a renamed folder for a removed one.
    ///
    /// # Errors
    /// Where the folder of API folders cannot be read; the earlier tree then stays.
    pub fn read(&mut self) -> Result<Look, TreeError> {
        let directory = self.open()?;
        let mut entries = self.entries(&directory)?;
        for _ in 0..MOST_LOOKS {
            let outcomes = self.outcomes(&directory, &entries)?;
            let (gone, there): (Vec<_>, Vec<_>) =
                outcomes.iter().partition(|(_, outcome)| matches!(outcome, Outcome::Gone));
            if !gone.iter().any(|(id, _)| self.tree.folders.contains_key(id)) {
                return Ok(self.take(outcomes, Some(entries.findings)));
            }
            let there: BTreeSet<&ApiId> = there.into_iter().map(|(id, _)| id).collect();
            let again = self.entries(&directory)?;
            if again.ids().eq(there) {
                return Ok(self.take(outcomes, Some(again.findings)));
            }
            entries = again;
        }
        Err(self.failed(Errno::BUSY))
    }

    /// What came of every entry, and of every folder that has none any more.
    fn outcomes(&self, directory: &OwnedFd, entries: &Entries) -> Result<Vec<(ApiId, Outcome)>, TreeError> {
        let there: BTreeSet<&ApiId> = entries.ids().collect();
        let gone = self.tree.folders.keys().filter(|id| !there.contains(id));
        let mut outcomes: Vec<(ApiId, Outcome)> = gone.map(|id| (id.clone(), Outcome::Gone)).collect();
        let broken = entries.broken.iter().map(|(id, finding)| (id.clone(), broken(id, finding.clone())));
        outcomes.extend(broken);
        let folders: Vec<ApiId> = entries.folders.iter().cloned().collect();
        outcomes.append(&mut self.look(directory, &folders)?);
        Ok(outcomes)
    }

    /// Looks at these folders, and at all others where one of them is gone: it may have been renamed to one of those.
    /// Otherwise the rest of the tree stays as the last look saw it.
    ///
    /// # Errors
    /// As [`Scanner::read`].
    pub fn read_folders(&mut self, ids: &BTreeSet<ApiId>) -> Result<Look, TreeError> {
        let directory = self.open()?;
        let ids: Vec<ApiId> = ids.iter().cloned().collect();
        let outcomes = self.look(&directory, &ids)?;
        let is_gone =
            |(id, outcome): &(ApiId, Outcome)| matches!(outcome, Outcome::Gone) && self.tree.folders.contains_key(id);
        if outcomes.iter().any(is_gone) {
            return self.read();
        }
        Ok(self.take(outcomes, None))
    }

    fn open(&self) -> Result<OwnedFd, TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(CWD, &self.apis, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => TreeError::Missing(self.apis.clone()),
            errno => self.failed(errno),
        })
    }

    fn failed(&self, errno: Errno) -> TreeError {
        TreeError::Io { path: self.apis.clone(), source: errno.into() }
    }

    /// The path of something below `apis/` as findings name it.
    fn shown(&self, name: &str) -> String {
        let apis = self.apis.strip_prefix(&self.root).unwrap_or(&self.apis);
        apis.join(name).display().to_string()
    }

    /// Looks at some folders, all at once.
    fn look(&self, directory: &OwnedFd, ids: &[ApiId]) -> Result<Vec<(ApiId, Outcome)>, TreeError> {
        self.threads.install(|| {
            ids.par_iter().map(|id| self.folder(directory, id).map(|outcome| (id.clone(), outcome))).collect()
        })
    }

    /// Looks at one folder, and reads it where it is not as it was.
    fn folder(&self, apis: &OwnedFd, id: &ApiId) -> Result<Outcome, TreeError> {
        let path = self.shown(id.as_str());
        let directory = match folder::open_directory(apis.as_fd(), id.as_str()) {
            Ok(directory) => directory,
            Err(Errno::NOENT) => return Ok(Outcome::Gone),
            Err(Errno::LOOP | Errno::NOTDIR) => return Ok(self.no_directory(apis, id)),
            Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => return Err(self.failed(errno)),
            Err(errno) => {
                let hint = "the user that runs skep must be able to read it";
                return Ok(broken(id, Diagnostic::error(code::UNREADABLE, path, folder::refusal(errno), hint)));
            }
        };
        if id.is_preview() != self.is_of_previews {
            // It is there: what serves under that name must not be taken for removed.
            return Ok(broken(id, reserved(path)));
        }
        match self.settle(&directory, id, &path) {
            Ok(outcome) => Ok(outcome),
            Err(NoFolder::Unsettled) => Ok(Outcome::Unsettled),
            Err(NoFolder::System(errno)) => Err(self.failed(errno)),
        }
    }

    /// What to make of a name that no longer is a folder.
    fn no_directory(&self, apis: &OwnedFd, id: &ApiId) -> Outcome {
        let stat = rustix::fs::statat(apis, id.as_str(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
        let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
        match kind.map(|kind| self.entry(id.as_str(), kind)) {
            Ok(Some(Seen::Broken(id, finding))) => broken(&id, finding),
            // It is a folder again, or the system cannot say.
            Ok(Some(Seen::Folder(_))) => Outcome::Unsettled,
            Err(errno) if errno != Errno::NOENT => Outcome::Unsettled,
            _ => Outcome::Gone,
        }
    }

    fn settle(&self, directory: &OwnedFd, id: &ApiId, path: &str) -> Result<Outcome, NoFolder> {
        let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let before = Listing::of(directory, path, &self.rules.policy)?;
        if self.cache.get(id) == Some(&before) {
            return Ok(Outcome::Same);
        }
        // A clock that is far off the file system's must not keep a folder unsettled for ever; hence the distance.
        if before.changed().abs_diff(clock) < self.quiet {
            return Ok(Outcome::Unsettled);
        }
        let location = self.apis.join(id.as_str());
        // Three parsers read what anybody may push; a fault in one of them must not end the daemon.
        let read = || folder::read(id, path, &location, directory, &before, &self.rules);
        let folder = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
            let message = "skep failed while it checked this folder";
            let finding = Diagnostic::error(code::CHECK_FAILED, path, message, "please report it, with the folder");
            Ok(Folder::Broken(Arc::new(Broken { id: id.clone(), findings: vec![finding] })))
        })?;
        if Listing::of(directory, path, &self.rules.policy)? != before {
            return Ok(Outcome::Unsettled);
        }
        // What the system refused to read, it may give the next time without any file having changed.
        let refused = |finding: &Diagnostic| matches!(finding.code, code::UNREADABLE | code::CHECK_FAILED);
        let trusted = before.changed() + RACY < clock && !folder.findings().iter().any(refused);
        Ok(Outcome::Read(folder, trusted.then_some(before)))
    }

    /// Makes the next tree of what the look has brought; `findings` are those of the tree itself, where it saw all of it.
    fn take(&mut self, outcomes: Vec<(ApiId, Outcome)>, findings: Option<Vec<Diagnostic>>) -> Look {
        let mut tree = Tree::clone(&self.tree);
        if let Some(findings) = findings {
            tree.findings = findings;
        }
        let (mut changed, mut unsettled) = (BTreeSet::new(), BTreeSet::new());
        for (id, outcome) in outcomes {
            match outcome {
                Outcome::Same => {}
                Outcome::Gone => {
                    self.cache.remove(&id);
                    if tree.folders.remove(&id).is_some() {
                        changed.insert(id);
                    }
                }
                Outcome::Unsettled => {
                    self.cache.remove(&id);
                    if !tree.folders.contains_key(&id) {
                        tree.folders.insert(id.clone(), self.never_settled(&id));
                        changed.insert(id.clone());
                    }
                    unsettled.insert(id);
                }
                Outcome::Read(folder, listing) => {
                    match listing {
                        Some(listing) => self.cache.insert(id.clone(), listing),
                        None => self.cache.remove(&id),
                    };
                    if tree.folders.get(&id) != Some(&folder) {
                        tree.folders.insert(id.clone(), folder);
                        changed.insert(id);
                    }
                }
            }
        }
        tree.findings.retain(|finding| finding.code != code::HOST_TAKEN);
        let taken = hosts::conflicts(&tree, |id| format!("{}/api.yaml", self.shown(id.as_str())));
        tree.findings.extend(taken);
        if !changed.is_empty() || tree.findings != self.tree.findings {
            self.tree = Arc::new(tree);
        }
        Look { tree: Arc::clone(&self.tree), changed, unsettled }
    }

    /// Stands for a folder that has no value yet: it is there, so nobody may take its API for removed.
    fn never_settled(&self, id: &ApiId) -> Folder {
        let message = "the folder was changing while it was read";
        let hint = "it is read again as soon as it stands still";
        let finding = Diagnostic::error(code::UNSETTLED, self.shown(id.as_str()), message, hint);
        Folder::Broken(Arc::new(Broken { id: id.clone(), findings: vec![finding] }))
    }
}

/// Of a folder that is there, and of which nothing but this can be said.
fn broken(id: &ApiId, finding: Diagnostic) -> Outcome {
    Outcome::Read(Folder::Broken(Arc::new(Broken { id: id.clone(), findings: vec![finding] })), None)
}

#[cfg(test)]
mod tests;
