//! Git is asked by its own program, which everybody's server runs, with all switched off by which a repository could make it
//! run anything else.

pub mod access;
mod advice;
pub mod base;
pub mod commit;
pub mod deploy_key;
pub mod difference;
pub mod export;
pub mod gloss;
pub mod hands;
mod history;
mod local;
mod offered;
pub mod pkt;
pub mod place;
pub mod remote;
pub mod renew;
mod said;
pub mod scratch;
pub mod signature;
pub mod store;
pub mod tether;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

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
fn forget_repository(command: &mut Command) {
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
    pub fn command(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new("git");
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
        // What is not here is never fetched on the way: whoever wants it says so, with what it takes to get in.
        let quiet = [("GIT_TERMINAL_PROMPT", "0"), ("GIT_OPTIONAL_LOCKS", "0"), ("GIT_NO_LAZY_FETCH", "1")];
        command.envs(quiet).env("LC_ALL", "C.UTF-8");
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
        let is_word = |argument: &&&str| !argument.starts_with('-');
        let action = arguments.iter().find(is_word).copied().unwrap_or_default();
        run(self.command(arguments), action, within, Input::None).await?.good(action)
    }
}

/// What a run of git is given to read.
#[derive(Clone, Copy)]
pub(super) enum Input<'a> {
    /// What its command says.
    None,
    /// These lines.
    Lines(&'a str),
    /// These lines, to one that is a group of its own with all that it starts: all of it ends where it takes too long.
    Group(&'a str),
}

/// What a run of git came to.
pub(super) struct Ran {
    status: ExitStatus,
    /// What it printed.
    pub out: Vec<u8>,
    /// What it said beside that.
    pub said: String,
}

impl Ran {
    /// Whether it went well.
    pub(super) fn is_good(&self) -> bool {
        self.status.success()
    }

    /// What it printed, where it went well; else the last line of what it said.
    fn good(self, action: &str) -> Result<Vec<u8>, GitError> {
        if self.is_good() {
            return Ok(self.out);
        }
        let said = self.said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        Err(GitError::Failed { action: action.to_owned(), said: said.to_owned() })
    }
}

/// A group of processes, which ends with this value unless it has ended already.
struct Group(Option<rustix::process::Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// Runs git to its end, `within` that time.
pub(super) async fn run(mut git: Command, action: &str, within: Duration, input: Input<'_>) -> Result<Ran, GitError> {
    let lines = match input {
        Input::None => None,
        Input::Lines(lines) | Input::Group(lines) => Some(lines.to_owned()).filter(|lines| !lines.is_empty()),
    };
    if lines.is_some() {
        git.stdin(Stdio::piped());
    }
    let git = git.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut git = git.map_err(GitError::Missing)?;
    let pid = git.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
    let mut group = Group(pid.filter(|_| matches!(input, Input::Group(_))));
    let to = git.stdin.take();
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
        let asked = async {
            if let (Some(mut to), Some(lines)) = (to, lines) {
                // Whoever ends before it has read all says why on its own.
                let _ = to.write_all(lines.as_bytes()).await;
            }
            std::io::Result::Ok(())
        };
        tokio::try_join!(printed, complained, asked)?;
        let status = git.wait().await;
        group.0 = None;
        status
    };
    let status = tokio::time::timeout(within, read).await;
    let status = status.map_err(|_| GitError::Slow { action: action.to_owned(), within })?;
    let status = status.map_err(GitError::Missing)?;
    if out.len() as u64 > MOST {
        let said = format!("more than {MOST} bytes; no tree of ours is that large");
        return Err(GitError::Failed { action: action.to_owned(), said });
    }
    Ok(Ran { status, out, said: String::from_utf8_lossy(&said).into_owned() })
}
