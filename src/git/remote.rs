//! A remote is somebody else's repository, of which only what is needed is fetched: one commit, and the files that changed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::access::{SecretError, Way};
use super::advice::{Answered, advice};
use super::local;
use super::said::{gist, is_of_here, last_word};
use super::store::{REMOTE, Store, WITHIN};
use super::{GitError, Input, Ran, run};
use crate::settings::{Follows as Followed, Protocol, PullSource};

/// The commit or tag that was fetched last.
pub const SEEN: &str = "refs/skep/seen";

/// How long a remote may take to say what it has.
pub(super) const ASKED: Duration = Duration::from_secs(30);

/// How long a fetch may take.
const FETCHED: Duration = Duration::from_secs(15 * 60);

/// How old a mark is of something that does not go on any more.
const STALE: Duration = Duration::from_secs(60);

/// How many packs there may be before they are made one.
const MOST_PACKS: usize = 50;

/// How large that one may be.
const MOST_PACKED: u64 = 1 << 40;

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// What opens it is not there.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Git could not do its part here.
    #[error(transparent)]
    Git(#[from] GitError),
    /// It could not be reached, or said no.
    #[error("{0}")]
    Away(String),
    /// It sends what git's own check does not let in.
    #[error("git does not take it: {0}")]
    Bad(String),
    /// It sends more than it may.
    #[error("it sends more than {0} (pull[].max_size)")]
    TooLarge(String),
}

/// A name of a remote, and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// In full, as in `refs/heads/main`.
    pub name: String,
    /// The commit or the tag.
    pub object: String,
    /// The commit that a tag is of.
    pub peeled: Option<String>,
}

/// What a fetch says about where a new commit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// Behind the one before.
    Yes,
    /// Elsewhere: history was rewritten, or gone back in.
    No,
    /// The remote would not say.
    Unknown,
}

/// A source, and where its commits are kept.
pub struct Remote<'a> {
    pub(super) source: &'a PullSource,
    pub(super) store: &'a Store,
    pub(super) way: Way,
    /// Whether it leaves out files where it is asked to, as it did when it was asked last.
    pub(super) filters: AtomicBool,
}

impl<'a> Remote<'a> {
    /// Of a source.
    ///
    /// # Errors
    /// Where what opens it is not there.
    pub fn of(source: &'a PullSource, store: &'a Store) -> Result<Self, RemoteError> {
        let mut way = Way::to(source)?;
        if source.protocol == Protocol::File {
            way.file = local::settings(&source.url, store.folder())?;
        }
        Ok(Self { source, store, way, filters: AtomicBool::new(false) })
    }

    /// What the remote has of what is followed, and maybe more than that.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub async fn references(&self) -> Result<Vec<Reference>, RemoteError> {
        let url = self.source.url.as_str();
        let branch;
        let arguments = match &self.source.follows {
            Followed::Branch(name) => {
                branch = format!("refs/heads/{name}");
                vec!["ls-remote", "--quiet", "--", url, &branch]
            }
            Followed::Tags(_) => vec!["ls-remote", "--quiet", "--tags", "--", url],
        };
        // In no repository: there may be none yet.
        let git = self.way.command(Path::new("/"), self.most(), &arguments);
        let ran = run(git, "ls-remote", ASKED, Input::Group("")).await?;
        if !ran.is_good() && ran.said.contains("returned error: 3") {
            let answered = self.answered().await?;
            return Err(RemoteError::Away(self.advised(&self.way.hush(&ran.said), &answered)));
        }
        let ran = self.good("ls-remote", ran)?;
        let references = read_references(&String::from_utf8_lossy(&ran.out));
        // Git takes a page without a line feed for a repository that has nothing.
        if references.is_empty() && matches!(self.source.protocol, Protocol::Http | Protocol::Https) {
            let answered = self.answered().await?;
            if answered.is_page() {
                return Err(RemoteError::Away(self.advised("", &answered)));
            }
        }
        Ok(references)
    }

    /// What its server answers, as git itself does not tell it.
    async fn answered(&self) -> Result<Answered, RemoteError> {
        let mut git =
            self.way.command(Path::new("/"), self.most(), &["ls-remote", "--quiet", "--", &self.source.url, "HEAD"]);
        git.envs([("GIT_TRACE_CURL", "1"), ("GIT_TRACE_CURL_NO_DATA", "1"), ("GIT_TRACE_REDACT", "1")]);
        let ran = run(git, "ls-remote", ASKED, Input::Group("")).await?;
        Ok(Answered::read(&self.way.hush(&ran.said)))
    }

    /// What git said, behind what to do about it.
    fn advised(&self, said: &str, answered: &Answered) -> String {
        match advice(said, self.source, answered) {
            Some(advice) if said.is_empty() => advice,
            Some(advice) => format!("{advice} ({})", last_word(said)),
            None => gist(said),
        }
    }

    /// Fetches a reference, with the commits that came since one, where the remote has a way to say which.
    ///
    /// # Errors
    /// Where the remote cannot be asked, or sends what it may not.
    pub async fn fetch(&self, reference: &Reference, since: Option<&str>) -> Result<Follows, RemoteError> {
        self.store.prepare_to_fetch(&self.source.url, reference.object.len()).await?;
        let to = format!("+{}:{SEEN}", reference.name);
        let since = match since {
            Some(commit) => self.date(commit).await?.map(|date| (commit, date)),
            None => None,
        };
        let filter = if self.whole().exists() { "--no-filter" } else { "--filter=blob:none" };
        let mut tries: Vec<Vec<&str>> = Vec::new();
        let young = match &since {
            // With the one before: who last changed what is known of no commit with which history ends.
            Some((_, date)) => {
                Some(format!("--shallow-since={}", self.date_before().await?.unwrap_or(*date).min(*date)))
            }
            None => None,
        };
        if let Some(young) = &young {
            // By the clocks of whoever commits, and where those are wrong, by a number.
            tries.extend([vec![young.as_str(), filter], vec!["--depth=20", filter]]);
        }
        // What an old server, or one that is no more than files, does not know is done without.
        tries.extend([vec!["--depth=1", filter], vec!["--depth=1", "--no-filter"], vec!["--no-filter"]]);
        let mut failure = None;
        for options in &tries {
            let arguments = [&["fetch", "--quiet", "--no-tags", "--no-write-fetch-head"], &options[..], &[REMOTE, &to]];
            match self.fetched(&arguments.concat(), "").await {
                Ok(()) => {
                    let Some((commit, before)) = &since else { return Ok(Follows::Unknown) };
                    let asked_for_more = options.first().is_some_and(|option| !option.ends_with("depth=1"));
                    let is_older = self.date(SEEN).await?.is_some_and(|date| date < *before);
                    return Ok(match (self.is_behind(commit).await?, options.first() == young.as_deref().as_ref()) {
                        (true, _) => Follows::Yes,
                        // All that is younger has come, or it is not younger at all; but for what a merge hides.
                        (false, true) => self.stands_behind_merges(reference, commit, *before).await,
                        (false, false) if is_older && asked_for_more => Follows::No,
                        (false, false) => Follows::Unknown,
                    });
                }
                Err(error @ RemoteError::Away(_)) => {
                    // Of a remote that is away, all of them say the same.
                    failure.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(failure.unwrap_or_else(|| RemoteError::Away("it sends nothing".to_owned())))
    }

    /// Fetches the files of some trees of a reference that are not here yet.
    ///
    /// # Errors
    /// Where the remote cannot be asked, or sends what it may not.
    pub async fn fetch_files(&self, reference: &Reference, trees: &BTreeSet<&String>) -> Result<(), RemoteError> {
        if trees.is_empty() {
            return Ok(());
        }
        let lines: String = trees.iter().map(|tree| format!("{tree}\n")).collect();
        let list = ["rev-list", "--objects", "--no-object-names", "--missing=print", "--stdin"];
        let listed = run(self.store.repository().command(list), "rev-list", WITHIN, Input::Lines(&lines)).await?;
        let listed = listed.good("rev-list")?;
        let listed = String::from_utf8_lossy(&listed);
        let missing: String =
            listed.lines().filter_map(|line| line.strip_prefix('?')).map(|id| format!("{id}\n")).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let arguments =
            ["-c", "fetch.negotiationAlgorithm=noop", "fetch", "--quiet", "--no-tags", "--no-write-fetch-head"];
        let by_name = [&arguments[..], &["--filter=blob:none", "--stdin", REMOTE]].concat();
        match self.fetched(&by_name, &missing).await {
            // One that gives out no files by their names gives out all of a commit, from now on with each.
            Err(RemoteError::Away(why)) if why.contains("unadvertised object") || why.contains("not our ref") => {}
            done => return done,
        }
        let to = format!("+{}:{SEEN}", reference.name);
        let all = [&arguments[2..], &["--refetch", "--depth=1", "--no-filter", REMOTE, &to]].concat();
        self.fetched(&all, "").await?;
        let path = self.whole();
        Ok(fs::write(&path, "").map_err(|source| GitError::Io { path, source })?)
    }

    /// Says, where it is there, that the remote gives out commits with all of their files only.
    pub(super) fn whole(&self) -> PathBuf {
        self.store.folder().join("whole")
    }

    /// Makes one pack of many, from time to time.
    pub async fn tidy(&self) {
        let packs = fs::read_dir(self.store.folder().join("objects/pack"));
        let packs = packs.map_or(0, |packs| packs.filter_map(Result::ok).count());
        // Each has an index, and a mark of where it came from.
        if packs > MOST_PACKS * 3 {
            let git = self.way.command(self.store.folder(), MOST_PACKED, &["gc", "--quiet", "--prune=now"]);
            if let Err(error) = run(git, "gc", FETCHED, Input::Group("")).await {
                tracing::debug!("{error}");
            }
        }
    }

    /// When the commit was made that was placed before the last.
    async fn date_before(&self) -> Result<Option<i64>, GitError> {
        match self.store.placed(2).await?.get(1) {
            Some(commit) => self.date(commit).await,
            None => Ok(None),
        }
    }

    /// When a commit was made, in seconds since 1970, as who made it says.
    async fn date(&self, commit: &str) -> Result<Option<i64>, GitError> {
        let asked = ["log", "-1", "--no-show-signature", "--format=%ct", "--end-of-options", commit, "--"];
        match self.store.repository().ask(&asked, WITHIN).await {
            Ok(date) => Ok(String::from_utf8_lossy(&date).trim().parse().ok()),
            Err(GitError::Failed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether what was fetched stands behind a commit, as far as is known here.
    pub(super) async fn is_behind(&self, commit: &str) -> Result<bool, GitError> {
        match self.store.repository().ask(&["merge-base", "--is-ancestor", commit, SEEN], WITHIN).await {
            Ok(_) => Ok(true),
            Err(GitError::Failed { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn fetched(&self, arguments: &[&str], lines: &str) -> Result<(), RemoteError> {
        let git = self.way.command(self.store.folder(), self.most(), arguments);
        let ran = self.good("fetch", run(git, "fetch", FETCHED, Input::Group(lines)).await?)?;
        let filters = arguments.contains(&"--filter=blob:none") && !ran.said.contains("filtering not recognized");
        self.filters.store(filters, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn most(&self) -> u64 {
        self.source.max_size.0
    }

    pub(super) fn good(&self, action: &str, ran: Ran) -> Result<Ran, RemoteError> {
        if ran.is_good() {
            return Ok(ran);
        }
        if ran.said.contains("File too large") || ran.said.contains("died of signal 25") {
            return Err(RemoteError::TooLarge(self.source.max_size.to_string()));
        }
        let hushed = self.way.hush(&ran.said);
        let said = gist(&hushed);
        if is_of_here(&ran.said) {
            return Err(GitError::Failed { action: action.to_owned(), said }.into());
        }
        if said.contains("fsck error") {
            return Err(RemoteError::Bad(said));
        }
        Err(RemoteError::Away(self.advised(&hushed, &Answered::default())))
    }

    /// Removes what a git that was killed has left: half a pack, and marks that something is going on, which nothing does that
    /// was begun so long ago. To be called while nothing is fetched.
    pub fn clean(&self) {
        let folder = self.store.folder();
        for below in ["objects/pack", "refs/skep", ""] {
            let Ok(entries) = fs::read_dir(folder.join(below)) else { continue };
            for entry in entries.filter_map(Result::ok) {
                let name = entry.file_name().to_string_lossy().into_owned();
                let modified = entry.metadata().and_then(|file| file.modified()).ok();
                let is_old = modified.and_then(|at| at.elapsed().ok()).is_some_and(|age| age > STALE);
                let is_mark = name.rsplit_once('.').is_some_and(|(_, end)| end == "lock");
                let is_half = name.starts_with("tmp_") || name.starts_with(".tmp-");
                if is_half && below == "objects/pack" || is_mark && is_old {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
    }
}

/// What `ls-remote` prints: an object and a name in each line, and that of a tag once more, with what it is of.
pub(super) fn read_references(text: &str) -> Vec<Reference> {
    let mut references: Vec<Reference> = Vec::new();
    for line in text.lines() {
        let Some((object, name)) = line.split_once('\t') else { continue };
        if !matches!(object.len(), 40 | 64) || !object.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            continue;
        }
        let (name, object) = (name.to_owned(), object.to_owned());
        match (name.strip_suffix("^{}"), references.last_mut()) {
            (Some(tag), Some(last)) if last.name == tag => last.peeled = Some(object),
            (Some(_), _) => {}
            (None, _) => references.push(Reference { name, object, peeled: None }),
        }
    }
    references
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_with_what_tags_are_of() {
        let (a, b) = ("a".repeat(40), "b".repeat(40));
        let text =
            format!("{a}\trefs/tags/v1\n{b}\trefs/tags/v1^{{}}\n{b}\trefs/tags/v2\nnonsense\n-x\trefs/tags/v3\n");
        let of = |name: &str, object: &str, peeled: Option<&str>| Reference {
            name: name.to_owned(),
            object: object.to_owned(),
            peeled: peeled.map(ToOwned::to_owned),
        };
        assert_eq!(read_references(&text), [of("refs/tags/v1", &a, Some(&b)), of("refs/tags/v2", &b, None)]);
    }

    #[tokio::test]
    async fn marks_that_a_killed_git_has_left_go_and_young_ones_stay() {
        let state = tempfile::tempdir().unwrap();
        let settings = "pull: [{ name: a, url: 'https://git.example/a' }]";
        let (settings, _) = crate::settings::Settings::settle(Path::new("/srv"), settings.as_bytes(), |_| None);
        let store = Store::of_source(state.path(), "a");
        store.prepare_to_fetch("https://git.example/a", 40).await.unwrap();
        let folder = |name: &str| {
            let path = store.folder().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            (fs::File::create(&path).unwrap(), path)
        };
        let (old, young) = (folder("refs/skep/seen.lock"), folder("refs/skep/placed.lock"));
        old.0.set_modified(std::time::SystemTime::now() - STALE * 2).unwrap();
        let halves = [folder("objects/pack/tmp_pack_x"), folder("objects/pack/.tmp-7-pack-x.pack")];
        Remote::of(&settings.pull[0], &store).unwrap().clean();
        assert!(!old.1.exists() && young.1.exists());
        assert!(halves.iter().all(|(_, half)| !half.exists()));
    }
}
