//! A store is a bare repository that commits come into, pushed or fetched. It is skep's own, and nothing in it is ever run.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::{GitError, Repository};
use crate::settings::PushSettings;
use crate::tree::PullRequest;

/// The commit whose folders lie in the tree.
pub const PLACED: &str = "refs/skep/placed";

/// What names of pull requests begin with that are pushed.
pub const PREVIEWS: &str = "refs/previews/";

/// What the remote repository is called in a store that is fetched into.
pub(super) const REMOTE: &str = "source";

/// The file in a store that says which folder of which commit was placed.
const PREFIX: &str = "placed-folder";

/// What folders are called in the state folder in which a push is looked at.
pub const SCRATCH: &str = "push-";

/// How much memory git may reserve for a push, in KiB: what comes over the wire can unfold to any size.
pub(super) const MEMORY: &str = "4194304";

/// How long git may take for a question about what is there.
pub const WITHIN: Duration = Duration::from_secs(60);

/// A bare repository in the state folder.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
    repository: Repository,
}

impl Store {
    /// The one of a state folder, which may not be there yet.
    #[must_use]
    pub fn of(state: &Path) -> Self {
        Self::at(&state.join("git"))
    }

    /// The one of a remote repository that is followed, which may not be there yet.
    #[must_use]
    pub fn of_source(state: &Path, name: &str) -> Self {
        Self::at(&state.join("pull").join(name).join("git"))
    }

    /// The one in that folder, which may not be there yet.
    pub(super) fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), repository: Repository::at(folder) }
    }

    /// The one of pull requests of a remote repository that is followed: what strangers send lies apart from what serves.
    #[must_use]
    pub fn of_previews(state: &Path, name: &str) -> Self {
        let folder = state.join("pull").join(name).join("previews");
        let repository = Repository::at(&folder);
        Self { folder, repository }
    }

    /// Removes all of it. To be called while nobody else uses it.
    ///
    /// # Errors
    /// Where a file cannot be removed.
    pub fn remove(&self) -> Result<(), GitError> {
        // Out of its place in one moment: half a repository would stay one.
        let gone = self.folder.with_extension("gone");
        let remove = || {
            // What an earlier try has left, too.
            if gone.exists() {
                fs::remove_dir_all(&gone)?;
            }
            if self.folder.exists() {
                fs::rename(&self.folder, &gone)?;
                fs::remove_dir_all(&gone)?;
            }
            Ok(())
        };
        remove().map_err(|source| GitError::Io { path: self.folder.clone(), source })
    }

    /// Whether it is there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.folder.join("HEAD").exists()
    }

    /// Makes it where it is missing, and sets it up to fetch from a remote repository, the names of whose commits have that
    /// many digits.
    ///
    /// # Errors
    /// Where git is not there, or the folder cannot be written.
    pub async fn prepare_to_fetch(&self, url: &str, digits: usize) -> Result<(), GitError> {
        let format = if digits == 64 { "sha256" } else { "sha1" };
        let path = self.folder.join("config");
        let text = config_to_fetch(url, format);
        let io = |source| GitError::Io { path: path.clone(), source };
        let now = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.map_err(io)?,
        };
        // Of one that names its commits in another way nothing can be compared. One whose file of settings is cut off, as by a
        // full disk, is as good as before.
        let other = if digits == 64 { "sha1" } else { "sha256" };
        if !self.is_there() || now.contains(&format!("objectFormat = {other}\n")) {
            self.make(format).await?;
        }
        if now != text {
            let aside = path.with_extension("new");
            fs::write(&aside, text).and_then(|()| fs::rename(&aside, &path)).map_err(io)?;
        }
        Ok(())
    }

    /// Makes it where it is missing, and sets it up as the settings and this binary are now.
    ///
    /// # Errors
    /// Where git is not there, or the folder cannot be written.
    pub async fn prepare(&self, push: &PushSettings, root: &Path, program: &Path) -> Result<(), GitError> {
        let write = |path: &Path, text: &str, mode: u32| {
            // Aside and renamed: a push may be coming in just now, by way of the old one.
            let aside = path.with_extension(format!("new.{}", std::process::id()));
            let written = fs::write(&aside, text)
                .and_then(|()| fs::set_permissions(&aside, fs::Permissions::from_mode(mode)))
                .and_then(|()| fs::rename(&aside, path));
            written.map_err(|source| GitError::Io { path: path.to_owned(), source })
        };
        if !self.is_there() {
            self.make("sha1").await?;
        }
        let hooks = self.folder.join("hooks");
        fs::create_dir_all(&hooks).map_err(|source| GitError::Io { path: hooks.clone(), source })?;
        for hook in ["pre-receive", "proc-receive"] {
            let (program, root) = (quoted(&program.to_string_lossy()), quoted(&root.to_string_lossy()));
            let text = format!("#!/bin/sh\nulimit -S -v unlimited\nexec {program} --root {root} hook {hook}\n");
            write(&hooks.join(hook), &text, 0o755)?;
        }
        write(&self.folder.join("config"), &config(push, &hooks), 0o600)?;
        self.repository.ask(&["symbolic-ref", "HEAD", &branch_ref(push)], WITHIN).await?;
        Ok(())
    }

    /// Made aside and renamed: half a repository would stay one.
    pub(super) async fn make(&self, format: &str) -> Result<(), GitError> {
        let aside = self.folder.with_extension(format!("new.{}", std::process::id()));
        let io = |source| GitError::Io { path: self.folder.clone(), source };
        let _ = fs::remove_dir_all(&aside);
        let beside = self.folder.parent().unwrap_or(&self.folder);
        fs::create_dir_all(beside).map_err(io)?;
        // Whatever the host's own defaults are: the file of settings that is written here says the same.
        let format = format!("--object-format={format}");
        let formats = [format.as_str(), "--template=", "--quiet", "--bare"];
        let mut init = Repository::at(beside).command(["init"].into_iter().chain(formats));
        let status =
            init.arg(&aside).env("GIT_DEFAULT_REF_FORMAT", "files").status().await.map_err(GitError::Missing)?;
        if !status.success() {
            return Err(GitError::Failed { action: "init".to_owned(), said: status.to_string() });
        }
        let _ = fs::remove_dir_all(&self.folder);
        fs::rename(&aside, &self.folder).map_err(io)
    }

    /// What is in it.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Where it lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The commit that a name stands for; `None` where there is none.
    ///
    /// # Errors
    /// Where git cannot be run.
    pub async fn resolve(&self, name: &str) -> Result<Option<String>, GitError> {
        match self
            .repository
            .ask(&["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")], WITHIN)
            .await
        {
            Ok(printed) => Ok(Some(String::from_utf8_lossy(&printed).trim().to_owned())),
            Err(GitError::Failed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The commits that were placed, the newest first and at most so many; fewer where that was not written down, as before this
    /// was, and in a store that is new.
    ///
    /// # Errors
    /// Where git cannot be run.
    pub async fn placed(&self, most: usize) -> Result<Vec<String>, GitError> {
        let asked = ["log", "-g", "--no-show-signature", "--format=%H", "-n", &most.to_string(), PLACED, "--"];
        match self.repository.ask(&asked, WITHIN).await {
            Ok(printed) => Ok(String::from_utf8_lossy(&printed).lines().map(str::to_owned).collect()),
            Err(GitError::Failed { .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The folder in the placed commit that its folders were placed from; `now` where that was not written down.
    ///
    /// # Errors
    /// Where git cannot be run.
    pub async fn prefix(&self, now: &str) -> Result<String, GitError> {
        let Ok(text) = fs::read_to_string(self.folder.join(PREFIX)) else { return Ok(now.to_owned()) };
        let Some((commit, prefix)) = text.split_once('\t') else { return Ok(now.to_owned()) };
        let is_placed = self.resolve(PLACED).await?.as_deref() == Some(commit);
        Ok(if is_placed { prefix.to_owned() } else { now.to_owned() })
    }

    /// Writes down from which of its folders a commit was placed.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn remember_prefix(&self, commit: &str, prefix: &str) -> Result<(), GitError> {
        let path = self.folder.join(PREFIX);
        let aside = path.with_extension("new");
        let written = fs::write(&aside, format!("{commit}\t{prefix}")).and_then(|()| fs::rename(&aside, &path));
        written.map_err(|source| GitError::Io { path, source })
    }

    /// Moves a name from one commit to another, and fails where it is at neither.
    ///
    /// # Errors
    /// As said, and where git cannot be run.
    pub async fn move_ref(&self, name: &str, to: &str, from: Option<&str>) -> Result<(), GitError> {
        let nothing = "0".repeat(to.len());
        let from = from.unwrap_or(&nothing);
        let mut asked = vec!["update-ref", "--no-deref"];
        if name == PLACED {
            // Whoever tells of each commit that was placed reads them there, also after a crash.
            asked.push("--create-reflog");
        }
        asked.extend([name, to, from]);
        self.repository.ask(&asked, WITHIN).await.map(drop)
    }

    /// Git for one who speaks its protocol to us: with the hooks, and with nothing of this process's own repository.
    #[must_use]
    pub fn serve(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> tokio::process::Command {
        // The shell is everywhere, and is what sets a limit for a child without more of this process's own doing.
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", "ulimit -S -v \"$0\"; exec git \"$@\"", MEMORY]);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        super::forget_repository(&mut command);
        command
    }
}

/// Settings of a store that is fetched into. Nothing there goes over the network by itself: whoever fetches says by which
/// protocol, and to what.
fn config_to_fetch(url: &str, format: &str) -> String {
    let url = url.replace('\\', r"\\").replace('"', r#"\""#);
    format!(
        "# Written by skep at each fetch.\n\
         [core]\n\trepositoryformatversion = 1\n\tfilemode = true\n\tbare = true\n\thooksPath = /dev/null\n\
         \tlogAllRefUpdates = false\n\tpackedGitLimit = 1g\n\tpackedGitWindowSize = 64m\n\
         [extensions]\n\tobjectFormat = {format}\n\tpartialClone = {REMOTE}\n\
         [remote \"{REMOTE}\"]\n\turl = \"{url}\"\n\tpromisor = true\n\ttagOpt = --no-tags\n\
         [protocol]\n\tallow = never\n\
         [transfer]\n\tfsckObjects = true\n\tbundleURI = false\n\tcredentialsInUrl = die\n\
         [fetch]\n\tfsckObjects = true\n\tunpackLimit = 1\n\trecurseSubmodules = false\n\twriteCommitGraph = false\n\
         [submodule]\n\trecurse = false\n\
         [gc]\n\tauto = 0\n\
         [maintenance]\n\tauto = false\n"
    )
}

/// The full name of the branch.
#[must_use]
pub fn branch_ref(push: &PushSettings) -> String {
    format!("refs/heads/{}", push.branch)
}

/// A word of a shell.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The full name of a pull request that is pushed.
#[must_use]
pub fn preview_ref(pull_request: PullRequest) -> String {
    format!("{PREVIEWS}{pull_request}")
}

/// Which pull request a name stands for; `None` where it is the name of none.
#[must_use]
pub fn previewed(name: &str) -> Option<PullRequest> {
    name.strip_prefix(PREVIEWS).and_then(PullRequest::read)
}

fn config(push: &PushSettings, hooks: &Path) -> String {
    let hooks = hooks.to_string_lossy().replace('\\', r"\\").replace('"', r#"\""#);
    format!(
        "# Written by skep at each start.\n\
         [core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = true\n\thooksPath = \"{hooks}\"\n\
         \tlogAllRefUpdates = true\n\tpackedGitLimit = 1g\n\tpackedGitWindowSize = 64m\n\
         [http]\n\treceivepack = true\n\
         [transfer]\n\tfsckObjects = true\n\thideRefs = refs/skep\n\
         [receive]\n\tfsckObjects = true\n\tmaxInputSize = {}\n\tadvertisePushOptions = true\n\
         \tprocReceiveRefs = refs/heads\n\tprocReceiveRefs = refs/tags\n\tprocReceiveRefs = refs/previews\n\tdenyDeletes = true\n\tautogc = true\n\
         [fetch]\n\trecurseSubmodules = false\n",
        push.max_size.0
    )
}
