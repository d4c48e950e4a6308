//! A checkout is somebody's clone, from which a real git commits and pushes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// A repository with a tree of API folders, and beside it what it is pushed to by hand.
#[derive(Debug)]
pub struct Checkout {
    folder: tempfile::TempDir,
}

impl Checkout {
    /// An empty one, of the branch main, with an empty bare repository beside it that is called `plain`.
    pub fn new() -> anyhow::Result<Self> {
        let checkout = Self { folder: tempfile::Builder::new().prefix("skep-bench-").tempdir()? };
        fs::create_dir(checkout.root())?;
        checkout.git(&["init", "--quiet", "-b", "main"])?;
        checkout.git(&["init", "--quiet", "--bare", &checkout.bare().to_string_lossy()])?;
        checkout.git(&["remote", "add", "plain", &checkout.bare().to_string_lossy()])?;
        Ok(checkout)
    }

    /// Where its files are.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("checkout")
    }

    /// The bare repository.
    pub fn bare(&self) -> PathBuf {
        self.folder.path().join("plain.git")
    }

    /// Writes a file of an API.
    pub fn write(&self, id: &str, name: &str, text: &str) -> anyhow::Result<()> {
        let folder = self.root().join("apis").join(id);
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join(name), text)?)
    }

    /// Commits all that lies there.
    pub fn commit(&self, subject: &str) -> anyhow::Result<()> {
        self.git(&["add", "-A"])?;
        self.git(&["commit", "--quiet", "-m", subject]).map(drop)
    }

    /// What git prints, run in the checkout.
    pub fn git(&self, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
        git(&self.root(), arguments)
    }
}

/// What git prints, run in a folder.
pub fn git(folder: &Path, arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
    let done = command(folder, arguments).output().context("cannot run git")?;
    ensure!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(done.stdout)
}

/// Git, to be run in a folder, with nobody's settings.
pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]);
    // None that begins by itself, and is still at work when the next question comes.
    git.args(["-c", "gc.auto=0", "-c", "maintenance.auto=0"]).args(arguments);
    git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_TERMINAL_PROMPT", "0");
    git.stdin(Stdio::null());
    git
}
