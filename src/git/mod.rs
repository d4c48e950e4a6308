//! Git is asked by its own program, which everybody's server runs, with all switched off by which a repository could make it
//! run anything else.

pub mod commit;
pub mod export;
pub mod pkt;
pub mod place;
pub mod scratch;
pub mod store;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;

pub use commit::Commit;

/// Why git did not answer.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// It could not be run.
    #[error("cannot run `git`: {0}; is it installed?")]
    Missing(std::io::Error),
    /// It ran, and said no.
    #[error("git {action}: {}", if .said.is_empty() { "it failed and said nothing" } else { .said.as_str() })]
    Failed {
        /// Its subcommand.
        action: String,
        /// The last line of what it said.
        said: String,
    },
    /// A file or folder could not be read or written.
    #[error("cannot use {}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It took too long.
    #[error("git {action} gave no answer within {within:?}")]
    Slow {
        /// Its subcommand.
        action: String,
        /// How long it was given.
        within: Duration,
    },
}

/// The most that git may print: the names of a million files. A tree that is tiny on its way can unfold to any size.
const MOST: u64 = 64 << 20;

/// A repository, or a folder in the checkout of one.
#[derive(Debug, Clone)]
pub struct Repository {
    folder: PathBuf,
    sees_quarantine: bool,
}

/// Another repository that we were started from, as by a hook, is none of this one's business.
fn forget_repository(command: &mut tokio::process::Command) {
    // As `git rev-parse --local-env-vars` has them.
    for name in [
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_CONFIG",
        "GIT_CONFIG_COUNT",
        "GIT_CONFIG_PARAMETERS",
        "GIT_DIR",
        "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_INTERNAL_SUPER_PREFIX",
        "GIT_NAMESPACE",
        "GIT_NO_REPLACE_OBJECTS",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_QUARANTINE_PATH",
        "GIT_REPLACE_REF_BASE",
        "GIT_SHALLOW_FILE",
        "GIT_WORK_TREE",
    ] {
        command.env_remove(name);
    }
}

/// Settings by which git would run something else, or wait for a terminal, none of which is wanted here.
const HARMLESS: [&str; 5] =
    ["core.fsmonitor=false", "core.hooksPath=/dev/null", "core.pager=cat", "protocol.ext.allow=never", "gc.auto=0"];

impl Repository {
    /// The repository that `folder` is, or is in the checkout of. Nothing is looked at yet.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), sees_quarantine: false }
    }

    /// Git with arguments, to be run in this repository.
    pub fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> tokio::process::Command {
        let mut command = tokio::process::Command::new("git");
        command.arg("-C").arg(&self.folder);
        for setting in HARMLESS {
            command.args(["-c", setting]);
        }
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        if self.sees_quarantine {
            // Relative to where the hook was started.
            command.current_dir(&self.folder);
        } else {
            forget_repository(&mut command);
        }
        command.envs([("GIT_TERMINAL_PROMPT", "0"), ("GIT_OPTIONAL_LOCKS", "0"), ("LC_ALL", "C.UTF-8")]);
        command
    }

    /// As a hook sees it, in whose environment git has put the objects that are not taken in yet.
    #[must_use]
    pub fn in_hook(mut self) -> Self {
        self.sees_quarantine = true;
        self
    }

    /// What git prints, which is the whole of its output.
    ///
    /// # Errors
    /// Where it cannot be run, ends with an error, or does not end `within` that time.
    pub async fn ask(&self, arguments: &[&str], within: Duration) -> Result<Vec<u8>, GitError> {
        let action = || {
            let is_word = |argument: &&&str| !argument.starts_with('-');
            arguments.iter().find(is_word).copied().unwrap_or_default().to_owned()
        };
        let mut git = self.command(arguments);
        let git = git.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut git = git.map_err(GitError::Missing)?;
        let (mut out, mut said) = (Vec::new(), Vec::new());
        let (from, complaints) = (git.stdout.take(), git.stderr.take());
        let read = async {
            // One more than may be, so that too much is seen to be.
            let printed = async {
                if let Some(from) = from {
                    from.take(MOST + 1).read_to_end(&mut out).await?;
                }
                std::io::Result::Ok(())
            };
            let complained = async {
                if let Some(complaints) = complaints {
                    complaints.take(MOST).read_to_end(&mut said).await?;
                }
                std::io::Result::Ok(())
            };
            tokio::try_join!(printed, complained)?;
            git.wait().await
        };
        let status = tokio::time::timeout(within, read).await;
        let status = status.map_err(|_| GitError::Slow { action: action(), within })?.map_err(GitError::Missing)?;
        if out.len() as u64 > MOST {
            return Err(GitError::Failed {
                action: action(),
                said: format!("more than {MOST} bytes; no tree of ours is that large"),
            });
        }
        if status.success() {
            return Ok(out);
        }
        let said = String::from_utf8_lossy(&said);
        let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        Err(GitError::Failed { action: action(), said: said.to_owned() })
    }
}
