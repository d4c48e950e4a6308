//! Git is asked by its own program, which everybody's server runs, with all switched off by which a repository could make it
//! run anything else.

pub mod commit;
pub mod export;
pub mod pkt;
pub mod place;
pub mod store;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

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
    #[error("{}: {source}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
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

/// A repository, or a folder in the checkout of one.
#[derive(Debug, Clone)]
pub struct Repository {
    folder: PathBuf,
    sees_quarantine: bool,
}

/// Another repository that we were started from, as by a hook, is none of this one's business.
fn forget_repository(command: &mut tokio::process::Command) {
    for name in [
        "GIT_DIR",
        "GIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_QUARANTINE_PATH",
        "GIT_CONFIG_PARAMETERS",
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
        let action = || arguments.first().copied().unwrap_or_default().to_owned();
        let mut command = self.command(arguments);
        let output = tokio::time::timeout(within, command.output()).await;
        let output = output.map_err(|_| GitError::Slow { action: action(), within })?.map_err(GitError::Missing)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        Err(GitError::Failed { action: action(), said: said.to_owned() })
    }
}
