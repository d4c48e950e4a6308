//! A commit is who put something into the tree, when, and in which words.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::place::is_as_placed;
use super::store::{PLACED, Store};
use super::{GitError, Repository};
use crate::settings::Policy;

/// How long git may take to find the last commit of a folder: in a long history it walks far.
const WITHIN: Duration = Duration::from_secs(1);

/// The parts of a commit, each ended by NUL, which none of them can hold.
const FORMAT: &str = "--format=%H%x00%an%x00%ae%x00%at%x00%s%x00";

/// How many characters of a name or a subject are kept.
const KEPT: usize = 200;

/// One commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Its name: forty or sixty-four hexadecimal digits.
    pub id: String,
    /// Who wrote it, as git was told.
    pub author: String,
    /// Where the author can be written to.
    pub email: String,
    /// When it was written.
    pub at: Timestamp,
    /// Its first line.
    pub subject: String,
}

impl Commit {
    /// The first ten digits.
    #[must_use]
    pub fn short(&self) -> &str {
        self.id.get(..10).unwrap_or(&self.id)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let mut parts =
            text.split('\0').map(|part| part.trim_start_matches('\n').chars().take(KEPT).collect::<String>());
        let (id, author, email) = (parts.next()?, parts.next()?, parts.next()?);
        let at = Timestamp::from_second(parts.next()?.parse().ok()?).ok()?;
        (id.len() >= 40).then_some(Self { id, author, email, at, subject: parts.next()? })
    }
}

impl Repository {
    /// The commit of that name; `None` where there is none.
    ///
    /// # Errors
    /// Where git is not there, or does not answer within a second.
    pub async fn commit(&self, name: &str) -> Result<Option<Commit>, GitError> {
        match self.ask(&["log", "-1", "--no-show-signature", FORMAT, "--end-of-options", name, "--"], WITHIN).await {
            Ok(log) => Ok(Commit::read(&log)),
            Err(GitError::Failed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The last commit up to `name` that touched a path.
    ///
    /// # Errors
    /// As [`Repository::commit`].
    pub async fn commit_up_to(&self, name: &str, path: &str) -> Result<Option<Commit>, GitError> {
        let arguments =
            ["--literal-pathspecs", "log", "-1", "--no-show-signature", FORMAT, "--end-of-options", name, "--", path];
        match self.ask(&arguments, WITHIN).await {
            Ok(log) => Ok(Commit::read(&log)),
            Err(GitError::Failed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The last commit that touched a folder below this one, where what lies there is what that commit says.
    ///
    /// `None` in a folder that is no checkout, of a folder that no commit knows, and where something was changed since.
    ///
    /// # Errors
    /// Where git is not there, or does not answer within a second.
    pub async fn commit_of(&self, folder: &Path) -> Result<Option<Commit>, GitError> {
        let folder = folder.to_string_lossy();
        let log = ["log", "-1", "--no-show-signature", FORMAT, "--", &folder];
        let status = ["status", "--porcelain", "--untracked-files=all", "--", &folder];
        let (log, status) = tokio::join!(self.ask(&log, WITHIN), self.ask(&status, WITHIN));
        match (log, status) {
            (Ok(log), Ok(status)) => Ok(Commit::read(&log).filter(|_| status.is_empty())),
            // No checkout, or one without a commit.
            (Err(GitError::Failed { .. }), _) | (_, Err(GitError::Failed { .. })) => Ok(None),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }
}

/// Who is asked which commit a folder of the tree is.
#[derive(Debug, Clone)]
pub struct Commits {
    /// What folders are placed from; where that is nothing, the tree may lie in a checkout.
    pub origins: Vec<Origin>,
    /// What a folder may hold.
    pub policy: Policy,
}

/// What folders are placed from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Where the commits are.
    pub store: Store,
    /// The folder of API folders in them.
    pub prefix: String,
}

impl Commits {
    /// The last commit of a folder of the tree.
    ///
    /// # Errors
    /// Where git is not there, or does not answer within a second.
    pub async fn of(&self, folder: &Path) -> Result<Option<Commit>, GitError> {
        let (Some(tree), Some(name)) = (folder.parent(), folder.file_name()) else { return Ok(None) };
        if self.origins.is_empty() {
            return Repository::at(tree).commit_of(name.as_ref()).await;
        }
        for Origin { store, prefix } in self.origins.iter().filter(|origin| origin.store.is_there()) {
            let prefix = &store.prefix(prefix).await?;
            let path = Path::new(prefix).join(name).to_string_lossy().into_owned();
            let commit = store.repository().commit_up_to(PLACED, &path);
            let (commit, is_same) = tokio::try_join!(commit, is_as_placed(store, prefix, &self.policy, folder))?;
            if let Some(commit) = commit.filter(|_| is_same) {
                return Ok(Some(commit));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_read_from_what_git_prints() {
        let id = "0123456789".repeat(4);
        let printed = format!("{id}\0Ada\0ada@example.com\x001700000000\0Say \"hello\"\0\n");
        let commit = Commit::read(printed.as_bytes()).unwrap();
        assert_eq!(
            (commit.short(), commit.author.as_str(), commit.subject.as_str()),
            ("0123456789", "Ada", "Say \"hello\"")
        );
        assert_eq!(Commit::read(b""), None);
        assert_eq!(Commit::read(b"\0\0\0\0\0"), None);
    }

    #[tokio::test]
    async fn the_commit_of_a_folder_is_the_last_one_that_touched_it() {
        let folder = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let mut git = std::process::Command::new("git");
            git.current_dir(folder.path())
                .args(["-c", "user.name=Ada", "-c", "user.email=a@example.com"])
                .args(arguments);
            assert!(git.output().unwrap().status.success());
        };
        let repository = Repository::at(folder.path());
        std::fs::create_dir_all(folder.path().join("a")).unwrap();
        std::fs::create_dir_all(folder.path().join("b")).unwrap();
        assert_eq!(repository.commit_of(Path::new("a")).await.unwrap(), None);
        git(&["init", "-q"]);
        assert_eq!(repository.commit_of(Path::new("a")).await.unwrap(), None);
        for name in ["a", "b"] {
            std::fs::write(folder.path().join(name).join("main.py"), "1").unwrap();
            git(&["add", "."]);
            git(&["commit", "-q", "-m", name]);
        }
        let commit = repository.commit_of(Path::new("a")).await.unwrap().unwrap();
        assert_eq!((commit.subject.as_str(), commit.author.as_str()), ("a", "Ada"));
        std::fs::write(folder.path().join("a/new.py"), "2").unwrap();
        assert_eq!(repository.commit_of(Path::new("a")).await.unwrap(), None, "it is not what the commit says");
        assert_eq!(repository.commit_of(Path::new("b")).await.unwrap().unwrap().subject, "b");
    }
}
