//! A commit is who put something into the tree, when, and in which words.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::place::{copied, is_same};
use super::store::{PLACED, Store};
use super::{GitError, Repository};
use crate::settings::Policy;
use crate::tree::preview::NOTE;
use crate::tree::{ApiId, Preview};

/// How long git may take to find the last commit of a folder: in a long history it walks far.
const WITHIN: Duration = Duration::from_secs(1);

/// The parts of a commit, each ended by NUL, which none of them can hold.
const FORMAT: &str = "--format=%H%x00%an%x00%ae%x00%at%x00%s%x00%P%x00";

/// How many of the commits that were placed last are looked through for the one that a folder was placed from: others may have
/// come while it was being deployed.
const PLACED_LATELY: usize = 5;

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

/// What whoever commits says is when; as near as there is a date for it, where that is in the year 10000 or later.
fn moment(second: i64) -> Timestamp {
    let (first, last) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Timestamp::from_second(second.clamp(first, last)).unwrap_or(Timestamp::MAX)
}

/// Which commit a folder is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Last {
    /// The last that touched it.
    Commit(Commit),
    /// It is as in the commit of that name; which one touched it last is not known, since history ends with that one here.
    AsOf(String),
}

impl Last {
    /// The last that touched it, where that is known.
    #[must_use]
    pub fn known(self) -> Option<Commit> {
        match self {
            Self::Commit(commit) => Some(commit),
            Self::AsOf(_) => None,
        }
    }
}

impl Commit {
    /// The first ten digits.
    #[must_use]
    pub fn short(&self) -> &str {
        self.id.get(..10).unwrap_or(&self.id)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        Self::read_with_end(bytes).map(|(commit, _)| commit)
    }

    /// With whether history ends with it here.
    fn read_with_end(bytes: &[u8]) -> Option<(Self, bool)> {
        let text = String::from_utf8_lossy(bytes);
        let mut parts =
            text.split('\0').map(|part| part.trim_start_matches('\n').chars().take(KEPT).collect::<String>());
        let (id, author, email) = (parts.next()?, parts.next()?, parts.next()?);
        let at = moment(parts.next()?.parse().ok()?);
        let (subject, parents) = (parts.next()?, parts.next()?);
        (id.len() >= 40).then_some((Self { id, author, email, at, subject }, parents.is_empty()))
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
    pub async fn commit_up_to(&self, name: &str, path: &str) -> Result<Option<Last>, GitError> {
        let arguments =
            ["--literal-pathspecs", "log", "-1", "--no-show-signature", FORMAT, "--end-of-options", name, "--", path];
        match self.ask(&arguments, WITHIN).await {
            Ok(log) => self.last(&log).await,
            Err(GitError::Failed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What a commit that a log ends with says of a folder: one with which history is cut off seems to have touched all.
    async fn last(&self, log: &[u8]) -> Result<Option<Last>, GitError> {
        let Some((commit, is_end)) = Commit::read_with_end(log) else { return Ok(None) };
        let is_cut = is_end && self.is_cut_at(&commit.id).await?;
        Ok(Some(if is_cut { Last::AsOf(commit.id) } else { Last::Commit(commit) }))
    }

    /// The last commit that touched a folder below this one, where what lies there is what that commit says.
    ///
    /// `None` in a folder that is no checkout, of a folder that no commit knows, and where something was changed since.
    ///
    /// # Errors
    /// Where git is not there, or does not answer within a second.
    pub async fn commit_of(&self, folder: &Path) -> Result<Option<Last>, GitError> {
        let folder = folder.to_string_lossy();
        let log = ["log", "-1", "--no-show-signature", FORMAT, "--", &folder];
        let status = ["status", "--porcelain", "--untracked-files=all", "--", &folder];
        let (log, status) = tokio::join!(self.ask(&log, WITHIN), self.ask(&status, WITHIN));
        match (log, status) {
            (Ok(_), Ok(status)) if !status.is_empty() => Ok(None),
            (Ok(log), Ok(_)) => self.last(&log).await,
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
    /// The state folder, where commits of previews are.
    pub state: PathBuf,
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
    /// The last commit of a folder of the tree, as it lies there now; that of a preview is its pull request's.
    ///
    /// # Errors
    /// Where git is not there, or does not answer within a second.
    pub async fn of(&self, folder: &Path) -> Result<Option<Last>, GitError> {
        self.of_which(folder, |copy| copy == folder || is_same(folder, copy)).await
    }

    /// The last commit of a folder of the tree as it was at some time: of a commit with a copy of it that `is_it`.
    ///
    /// # Errors
    /// As [`Commits::of`].
    pub async fn of_which(&self, folder: &Path, is_it: impl Fn(&Path) -> bool) -> Result<Option<Last>, GitError> {
        let (Some(tree), Some(name)) = (folder.parent(), folder.file_name()) else { return Ok(None) };
        if name.to_str().and_then(|name| ApiId::new(name).ok()).is_some_and(|id| id.is_preview()) {
            let commit = self.of_preview(folder).await?;
            return Ok(commit.filter(|_| is_it(folder)).map(Last::Commit));
        }
        if self.origins.is_empty() {
            return Ok(Repository::at(tree).commit_of(name.as_ref()).await?.filter(|_| is_it(folder)));
        }
        for Origin { store, prefix } in self.origins.iter().filter(|origin| origin.store.is_there()) {
            let prefix = &store.prefix(prefix).await?;
            let path = Path::new(prefix).join(name).to_string_lossy().into_owned();
            let mut placed = store.placed(PLACED_LATELY).await?;
            placed.insert(0, PLACED.to_owned());
            placed.dedup();
            for commit in placed {
                if copied(store, (&commit, prefix), &self.policy, &name.to_string_lossy(), &is_it).await?
                    && let Some(last) = store.repository().commit_up_to(&commit, &path).await?
                {
                    return Ok(Some(last));
                }
            }
        }
        Ok(None)
    }

    /// Where the commit is that a folder of the tree was placed from, and whether it lies there as that has it; `None` where none
    /// has such a folder.
    ///
    /// # Errors
    /// As [`Commits::of`].
    pub async fn is_as_placed(&self, folder: &Path) -> Result<Option<(&Store, bool)>, GitError> {
        let Some(name) = folder.file_name().and_then(|name| name.to_str()) else { return Ok(None) };
        for Origin { store, prefix } in self.origins.iter().filter(|origin| origin.store.is_there()) {
            let prefix = &store.prefix(prefix).await?;
            let object = format!("{PLACED}:{prefix}/{name}");
            match store.repository().ask(&["rev-parse", "--verify", "--quiet", &object], WITHIN).await {
                Err(GitError::Failed { .. }) => {}
                Err(error) => return Err(error),
                Ok(_) => {
                    let place = (PLACED, prefix.as_str());
                    let is_same = copied(store, place, &self.policy, name, |copy| is_same(folder, copy)).await?;
                    return Ok(Some((store, is_same)));
                }
            }
        }
        Ok(None)
    }

    async fn of_preview(&self, folder: &Path) -> Result<Option<Commit>, GitError> {
        let note = std::fs::read(folder.join(NOTE)).ok();
        let Some(preview) = note.and_then(|note| serde_json::from_slice::<Preview>(&note).ok()) else {
            return Ok(None);
        };
        let store = match &preview.source {
            Some(source) => Store::of_previews(&self.state, source),
            None => Store::of(&self.state),
        };
        if store.is_there() { store.repository().commit(&preview.commit).await } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn a_commit_is_read_from_what_git_prints() {
        let id = "0123456789".repeat(4);
        let printed = format!("{id}\0Ada\0ada@example.com\x001700000000\0Say \"hello\"\0\0\n");
        let commit = Commit::read(printed.as_bytes()).unwrap();
        assert_eq!(
            (commit.short(), commit.author.as_str(), commit.subject.as_str()),
            ("0123456789", "Ada", "Say \"hello\"")
        );
        let late = Commit::read(printed.replace("1700000000", "253402300800").as_bytes()).unwrap();
        assert_eq!(format!("{:.0}", late.at), "9999-12-30T22:00:00Z");
        assert_eq!(Commit::read(b""), None);
        assert_eq!(Commit::read(b"\0\0\0\0\0\0"), None);
    }

    /// Git, run by Ada in that folder.
    fn git(folder: &Path, arguments: &[&str]) -> String {
        let mut git = std::process::Command::new("git");
        git.current_dir(folder).args(["-c", "user.name=Ada", "-c", "user.email=a@example.com"]).args(arguments);
        let output = git.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[tokio::test]
    async fn a_folder_as_it_was_is_of_the_commit_of_then_though_another_was_placed_since() {
        let folder = tempfile::tempdir().unwrap();
        let (checkout, state) = (folder.path().join("checkout"), folder.path().join("state"));
        let main = checkout.join("apis/a/main.py");
        std::fs::create_dir_all(main.parent().unwrap()).unwrap();
        git(&checkout, &["init", "-q"]);
        let store = Store::of(&state);
        store.make("sha1").await.unwrap();
        let mut before: Option<String> = None;
        for text in ["one", "two"] {
            std::fs::write(&main, text).unwrap();
            git(&checkout, &["add", "."]);
            git(&checkout, &["commit", "-q", "-m", text]);
            let commit = git(&checkout, &["rev-parse", "HEAD"]);
            git(&checkout, &["push", "-q", store.folder().to_str().unwrap(), &format!("HEAD:refs/heads/{text}")]);
            store.move_ref(PLACED, &commit, before.as_deref()).await.unwrap();
            before = Some(commit);
        }
        let origins = vec![Origin { store, prefix: "apis".to_owned() }];
        let commits = Commits { origins, policy: Settings::built_in(&checkout).policy, state };
        let subject = |last: Option<Last>| last.and_then(Last::known).map(|commit| commit.subject);
        let (tree, one) = (checkout.join("apis/a"), |copy: &Path| {
            std::fs::read_to_string(copy.join("main.py")).is_ok_and(|text| text == "one")
        });
        assert_eq!(subject(commits.of(&tree).await.unwrap()).as_deref(), Some("two"));
        assert_eq!(subject(commits.of_which(&tree, one).await.unwrap()).as_deref(), Some("one"));
        assert_eq!(subject(commits.of_which(&tree, |_| false).await.unwrap()), None);
        assert!(commits.is_as_placed(&tree).await.unwrap().unwrap().1);
        std::fs::write(&main, "by hand").unwrap();
        assert_eq!(subject(commits.of(&tree).await.unwrap()), None);
        assert!(!commits.is_as_placed(&tree).await.unwrap().unwrap().1);
        assert!(commits.is_as_placed(&checkout.join("apis/b")).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_commit_with_which_history_is_cut_off_is_not_taken_for_who_changed_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let whole = folder.path().join("whole");
        for name in ["a", "b"] {
            std::fs::create_dir_all(whole.join(name)).unwrap();
            std::fs::write(whole.join(name).join("main.py"), "1").unwrap();
            git(&whole, &["init", "-q"]);
            git(&whole, &["add", "."]);
            git(&whole, &["commit", "-q", "-m", name]);
        }
        let url = format!("file://{}", whole.display());
        git(folder.path(), &["clone", "-q", "--depth=1", &url, "cut"]);
        let cut = Repository::at(&folder.path().join("cut"));
        let head = git(&whole, &["rev-parse", "HEAD"]);
        assert_eq!(cut.commit_of(Path::new("a")).await.unwrap(), Some(Last::AsOf(head.clone())));
        assert_eq!(cut.commit_up_to("HEAD", "b").await.unwrap(), Some(Last::AsOf(head)));
        git(folder.path(), &["-C", "cut", "fetch", "-q", "--unshallow"]);
        assert_eq!(cut.commit_of(Path::new("a")).await.unwrap().unwrap().known().unwrap().subject, "a");
    }

    #[tokio::test]
    async fn the_commit_of_a_folder_is_the_last_one_that_touched_it() {
        let folder = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| git(folder.path(), arguments);
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
        let commit = repository.commit_of(Path::new("a")).await.unwrap().unwrap().known().unwrap();
        assert_eq!((commit.subject.as_str(), commit.author.as_str()), ("a", "Ada"));
        std::fs::write(folder.path().join("a/new.py"), "2").unwrap();
        assert_eq!(repository.commit_of(Path::new("a")).await.unwrap(), None, "it is not what the commit says");
        assert_eq!(repository.commit_of(Path::new("b")).await.unwrap().unwrap().known().unwrap().subject, "b");
    }
}
