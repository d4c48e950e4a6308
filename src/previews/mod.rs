//! Previews on this host: a folder of each in the state folder, with a note of what it is. Nothing else knows of them.
//!
//! Each folder comes in one moment, by a rename, with its note in it; so a crash anywhere leaves whole previews.

mod reader;
pub mod sweep;
pub mod term;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, open, renameat_with};
use rustix::io::Errno;

pub use reader::Reader;

use crate::git::export::Refusal;
use crate::git::scratch::Scratch;
use crate::git::{GitError, Repository};
use crate::settings::{Policy, PreviewSettings, Settings};
use crate::tree::preview::NOTE;
use crate::tree::{ApiId, Preview, PullRequest};

/// What is coming or going, beside the folder of those that are there: that one is watched.
const ASIDE: &str = "previews-";

/// How long somebody waits for another one who changes them, and how often it is tried.
const PATIENCE: Duration = Duration::from_secs(120);
const AGAIN: Duration = Duration::from_millis(20);

/// The previews of one state folder.
#[derive(Debug, Clone)]
pub struct Previews {
    folder: PathBuf,
    /// How long somebody waits for another one who changes them.
    patience: Duration,
}

/// Whose pull request it is: its number is one of its source's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Whose {
    /// The source; `None` where it was pushed.
    pub source: Option<String>,
    /// The pull request.
    pub pull_request: PullRequest,
}

/// What a pull request is to serve.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// Whose it is.
    pub whose: &'a Whose,
    /// Where its commit is.
    pub repository: &'a Repository,
    /// Its commit.
    pub commit: &'a str,
    /// The folder of API folders in that.
    pub prefix: &'a str,
    /// Which of those it changes.
    pub changed: &'a BTreeSet<ApiId>,
    /// What a folder may hold.
    pub policy: &'a Policy,
    /// What holds for previews.
    pub settings: &'a PreviewSettings,
}

/// What came and went of a pull request.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The previews that are there now.
    pub there: BTreeSet<ApiId>,
    /// Those that it does not change any more.
    pub gone: BTreeSet<ApiId>,
}

/// Why a pull request is not served.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// Git did not do its part.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The commit holds what no folder here may hold.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Refusal>),
    /// There are enough.
    #[error(
        "no more than {most} APIs may be previewed at once (previews.max), others have {there} of those, and this one \
         changes {wanted}: end another, or merge it"
    )]
    Full {
        /// By other pull requests.
        there: usize,
        /// How many this one has.
        wanted: usize,
        /// How many may be.
        most: u16,
    },
    /// One of another source has that name.
    #[error("{id} is of a pull request of another source with the same number")]
    Taken {
        /// The name.
        id: ApiId,
    },
    /// A folder has a name that only previews have.
    #[error("the folder {0} has a name that only previews have: rename it")]
    Reserved(ApiId),
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

impl PreviewError {
    /// Whether somebody else was changing previews all the while.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Previews {
    /// Those of an installation; there may be none.
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        Self { folder: settings.state.join("previews"), patience: PATIENCE }
    }

    /// The same, for somebody who waits for nobody: see [`PreviewError::is_busy`].
    #[must_use]
    pub fn at_once(self) -> Self {
        Self { patience: Duration::ZERO, ..self }
    }

    /// The same in another state folder, of which only is known that they are there: to try what one more would come to.
    ///
    /// # Errors
    /// Where what there is cannot be read, or that folder cannot be written.
    pub fn noted_in(&self, state: &Path) -> Result<Self, PreviewError> {
        let tried = Self { folder: state.join("previews"), ..self.clone() };
        tried.prepare()?;
        for (id, preview) in self.list()? {
            let folder = tried.folder.join(id.as_str());
            let noted = fs::create_dir(&folder).and_then(|()| write_note(&folder.join(NOTE), &preview));
            noted.map_err(|source| tried.failed(source))?;
        }
        Ok(tried)
    }

    /// Where their folders are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the folder where it is missing.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn prepare(&self) -> Result<(), PreviewError> {
        fs::create_dir_all(&self.folder).map_err(|source| self.failed(source))
    }

    /// All that there are, by id, with what a forge or a person is to be told of them: commit, pull request, source.
    ///
    /// # Errors
    /// Where they cannot be read: never a shorter list instead.
    pub fn list(&self) -> Result<Vec<(ApiId, Preview)>, PreviewError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.failed(error)),
        };
        let mut all = Vec::new();
        for entry in entries {
            let name = entry.map_err(|source| self.failed(source))?.file_name();
            let Some(id) = name.to_str().and_then(|name| ApiId::new(name).ok()) else { continue };
            if let Some(preview) = self.note(&id)? {
                all.push((id, preview));
            }
        }
        all.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(all)
    }

    /// What is noted of one; `None` where it is none, or has gone.
    fn note(&self, id: &ApiId) -> Result<Option<Preview>, PreviewError> {
        let path = self.folder.join(id.as_str()).join(NOTE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(source) => return Err(PreviewError::Io { path, source }),
        };
        let preview: Option<Preview> = serde_json::from_slice(&text).ok();
        let is_its_own = |preview: &Preview| preview.of.previewed(preview.pull_request).as_ref() == Some(id);
        Ok(preview.filter(is_its_own))
    }

    /// Puts what a pull request changes beside what others do, in the place of what it changed before. All of it or nothing.
    ///
    /// # Errors
    /// As [`PreviewError`] has them; what was there before then stays.
    pub async fn place(&self, offer: &Offer<'_>) -> Result<Placed, PreviewError> {
        self.prepare()?;
        let whose = offer.whose;
        let _one_at_a_time = self.lock().await?;
        let mut folders = Vec::new();
        for of in offer.changed {
            folders.push((of, of.previewed(whose.pull_request).ok_or_else(|| PreviewError::Reserved(of.clone()))?));
        }
        let (mine, others): (Vec<_>, Vec<_>) = self.list()?.into_iter().partition(|(_, it)| Whose::of(it) == *whose);
        if let Some((_, id)) = folders.iter().find(|(_, id)| others.iter().any(|(other, _)| other == id)) {
            return Err(PreviewError::Taken { id: id.clone() });
        }
        if !folders.is_empty() && others.len() + folders.len() > usize::from(offer.settings.max) {
            let (there, wanted) = (others.len(), folders.len());
            return Err(PreviewError::Full { there, wanted, most: offer.settings.max });
        }
        let aside = self.aside()?;
        let new = aside.path().join("new");
        let names = offer.changed.iter().map(ToString::to_string).collect();
        let refused = offer.repository.export_whole(offer.commit, offer.prefix, &names, offer.policy, &new).await?;
        if !refused.is_empty() {
            return Err(PreviewError::Refused(refused));
        }
        let updated = Timestamp::now();
        for (of, _) in &folders {
            let preview = Preview {
                of: ApiId::clone(of),
                pull_request: whose.pull_request,
                commit: offer.commit.to_owned(),
                source: whose.source.clone(),
                updated,
            };
            let note = new.join(of.as_str()).join(NOTE);
            write_note(&note, &preview).map_err(|source| PreviewError::Io { path: note.clone(), source })?;
        }
        for (of, id) in &folders {
            let (from, to) = (new.join(of.as_str()), self.folder.join(id.as_str()));
            let moved = match to.symlink_metadata() {
                Ok(_) => renameat_with(CWD, &from, CWD, &to, RenameFlags::EXCHANGE).map_err(io::Error::from),
                Err(_) => fs::rename(&from, &to),
            };
            moved.map_err(|source| PreviewError::Io { path: to.clone(), source })?;
        }
        let there: BTreeSet<ApiId> = folders.into_iter().map(|(_, id)| id).collect();
        let gone: BTreeSet<ApiId> = mine.into_iter().map(|(id, _)| id).filter(|id| !there.contains(id)).collect();
        self.take_away(&gone, aside.path())?;
        Ok(Placed { there, gone })
    }

    /// Ends what a pull request has here; answers with what that was.
    ///
    /// # Errors
    /// Where a folder cannot be read or moved.
    pub async fn end(&self, whose: &Whose) -> Result<BTreeSet<ApiId>, PreviewError> {
        if !self.folder.exists() {
            return Ok(BTreeSet::new());
        }
        let _one_at_a_time = self.lock().await?;
        let mine: BTreeSet<ApiId> =
            self.list()?.into_iter().filter(|(_, preview)| Whose::of(preview) == *whose).map(|(id, _)| id).collect();
        if !mine.is_empty() {
            self.take_away(&mine, self.aside()?.path())?;
        }
        Ok(mine)
    }

    /// In one moment each, and not file by file: half a folder would be a broken one.
    fn take_away(&self, ids: &BTreeSet<ApiId>, aside: &Path) -> Result<(), PreviewError> {
        for id in ids {
            let path = self.folder.join(id.as_str());
            fs::rename(&path, aside.join(id.as_str())).map_err(|source| PreviewError::Io { path, source })?;
        }
        Ok(())
    }

    fn aside(&self) -> Result<Scratch, PreviewError> {
        Scratch::new(self.folder.parent().unwrap_or(&self.folder), ASIDE).map_err(|source| self.failed(source))
    }

    /// Waits until nobody else changes them, and keeps no thread waiting: whoever does may need it.
    async fn lock(&self) -> Result<OwnedFd, PreviewError> {
        let path = self.folder.join(".lock");
        let failed = |errno: Errno| PreviewError::Io { path: path.clone(), source: errno.into() };
        let file = open(&path, OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC, Mode::from_raw_mode(0o600));
        let file = file.map_err(failed)?;
        let until = tokio::time::Instant::now() + self.patience;
        loop {
            match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(Errno::WOULDBLOCK) if tokio::time::Instant::now() < until => {
                    tokio::time::sleep(AGAIN).await;
                }
                Err(errno) => return Err(failed(errno)),
            }
        }
    }

    fn failed(&self, source: io::Error) -> PreviewError {
        PreviewError::Io { path: self.folder.clone(), source }
    }
}

impl Whose {
    /// Of a preview.
    #[must_use]
    pub fn of(preview: &Preview) -> Self {
        Self { source: preview.source.clone(), pull_request: preview.pull_request }
    }
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.source {
            Some(source) => write!(f, "pull request {} of {source}", self.pull_request),
            None => write!(f, "pull request {}", self.pull_request),
        }
    }
}

/// Writes it whatever lies there: what is exported are plain files and folders of a stranger's.
fn write_note(path: &Path, preview: &Preview) -> io::Result<()> {
    let is_folder = path.symlink_metadata().is_ok_and(|there| there.is_dir());
    if is_folder {
        fs::remove_dir_all(path)?;
    } else if path.symlink_metadata().is_ok() {
        fs::remove_file(path)?;
    }
    let mut text = serde_json::to_vec_pretty(preview)?;
    text.push(b'\n');
    io::Write::write_all(&mut fs::File::create_new(path)?, &text)
}

#[cfg(test)]
mod tests;
