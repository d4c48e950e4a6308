//! Hands are whoever changes placed folders by other ways than a commit. A look says which folders they changed, or took away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::place::files;
use super::store::WITHIN;
use super::{GitError, Input, Repository, run};
use crate::tree::folder::is_ignored;
use crate::tree::scan::RACY;

/// How many folders git is asked about by their names.
const NAMED: usize = 500;

/// What is known of the folders of one source: so that those that nobody has touched cost a look at each of their files.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<String, Seen>);

/// A folder that was as it was placed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    /// What git calls the folder of the commit.
    tree: String,
    stamp: Stamp,
}

/// The names, sizes, times and numbers of all files of a folder, in a digest.
type Stamp = [u8; 32];

/// What hands did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Touched {
    /// Folders that are not as they were placed.
    pub changed: BTreeSet<String>,
    /// Folders that are not there any more.
    pub gone: BTreeSet<String>,
}

/// A folder as it lies there.
struct Here {
    files: BTreeMap<PathBuf, PathBuf>,
    /// Nothing where it changed a moment ago.
    stamp: Option<Stamp>,
}

impl Known {
    /// Looks at the folders of a commit, below the folder `prefix` of it, as they lie in `apis`. Folders that are as at the last
    /// look are not read; files of others are, and compared by what git calls them.
    ///
    /// # Errors
    /// Where git cannot say.
    pub async fn look(
        &mut self,
        repository: &Repository,
        (commit, prefix): (&str, &str),
        apis: &Path,
    ) -> Result<Touched, GitError> {
        let mut folders = repository.folders(commit, prefix).await?;
        folders.retain(|name, _| !is_ignored(name));
        let before = std::mem::take(&mut self.0);
        let (apis_now, names) = (apis.to_owned(), folders.keys().cloned().collect::<Vec<_>>());
        let here = tokio::task::spawn_blocking(move || look_at(&apis_now, names)).await;
        let io = |source| GitError::Io { path: apis.to_owned(), source };
        let mut here = here.map_err(|error| io(std::io::Error::other(error.to_string())))?.map_err(io)?;

        let (mut touched, mut unsure) = (Touched::default(), BTreeMap::new());
        for (name, tree) in folders {
            match here.remove(&name) {
                None => {
                    touched.gone.insert(name);
                }
                Some(here) => {
                    let seen = here.stamp.map(|stamp| Seen { tree: tree.clone(), stamp });
                    match (before.get(&name), seen) {
                        (Some(before), Some(seen)) if *before == seen => drop(self.0.insert(name, seen)),
                        (_, seen) => drop(unsure.insert(name, (here.files, seen))),
                    }
                }
            }
        }
        if unsure.is_empty() {
            return Ok(touched);
        }
        let names = unsure.keys().cloned().collect();
        let expected = repository.files(commit, prefix, &names).await?;
        let objects = repository.objects(unsure.values().flat_map(|(files, _)| files.values())).await?;
        let is_same = |name: &str, files: &BTreeMap<PathBuf, PathBuf>| {
            let none = BTreeMap::new();
            let expected = expected.get(name).unwrap_or(&none);
            let is_same = |(path, file): (&PathBuf, &PathBuf)| {
                let object = objects.get(file.as_path());
                object.is_some() && object == expected.get(path)
            };
            files.len() == expected.len() && files.iter().all(is_same)
        };
        for (name, (files, seen)) in &unsure {
            match seen {
                _ if !is_same(name, files) => drop(touched.changed.insert(name.clone())),
                Some(seen) => drop(self.0.insert(name.clone(), seen.clone())),
                None => {}
            }
        }
        Ok(touched)
    }
}

impl Repository {
    /// What git calls the files of folders of a commit, but for those that the tree takes no notice of. A plain file beside
    /// the folders is one whose path is empty.
    async fn files(
        &self,
        commit: &str,
        prefix: &str,
        names: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, BTreeMap<PathBuf, String>>, GitError> {
        let fixed = ["--literal-pathspecs", "ls-tree", "-r", "-z", "--full-tree", commit, "--"];
        // All of them would be more than a command line holds.
        let paths: Vec<String> = if names.len() > NAMED {
            vec![format!("{prefix}/")]
        } else {
            names.iter().map(|name| format!("{prefix}/{name}")).collect()
        };
        let arguments: Vec<&str> = fixed.into_iter().chain(paths.iter().map(String::as_str)).collect();
        let printed = self.ask(&arguments, WITHIN).await?;
        let mut folders = BTreeMap::<String, BTreeMap<PathBuf, String>>::new();
        for line in String::from_utf8_lossy(&printed).split('\0') {
            let file = || {
                let (head, path) = line.split_once('\t')?;
                let below = path.strip_prefix(prefix)?.strip_prefix('/')?;
                let (name, path) = below.split_once('/').unwrap_or((below, ""));
                Some((name, path, head.split(' ').nth(2)?))
            };
            let Some((name, path, object)) = file() else { continue };
            if names.contains(name) && !path.split('/').any(|part| !part.is_empty() && is_ignored(part)) {
                folders.entry(name.to_owned()).or_default().insert(PathBuf::from(path), object.to_owned());
            }
        }
        Ok(folders)
    }

    /// What git would call these files, as they are now; those that are no plain files, or are gone, are left out.
    async fn objects<'a>(
        &self,
        files: impl Iterator<Item = &'a PathBuf>,
    ) -> Result<BTreeMap<&'a Path, String>, GitError> {
        let is_plain = |file: &&Path| {
            // Git reads one a line.
            file.to_str().is_some_and(|path| !path.contains('\n'))
                && file.symlink_metadata().is_ok_and(|data| data.is_file())
        };
        let files: Vec<&Path> = files.map(PathBuf::as_path).filter(is_plain).collect();
        let lines: String = files.iter().map(|file| format!("{}\n", file.display())).collect();
        if lines.is_empty() {
            return Ok(BTreeMap::new());
        }
        let git = self.command(["hash-object", "--no-filters", "--stdin-paths"]);
        let printed = run(git, "hash-object", WITHIN, Input::Lines(&lines)).await?.good("hash-object")?;
        let printed = String::from_utf8_lossy(&printed).into_owned();
        Ok(files.into_iter().zip(printed.lines().map(ToOwned::to_owned)).collect())
    }
}

/// The folders of these names that are there.
fn look_at(apis: &Path, names: Vec<String>) -> std::io::Result<BTreeMap<String, Here>> {
    // One that is not there, as a disk that is not, says nothing of its folders.
    let apis = apis.canonicalize()?;
    let mut here = BTreeMap::new();
    for name in names {
        let path = apis.join(&name);
        if path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            continue;
        }
        // What cannot be read is not as it was placed.
        let files = if path.is_symlink() { None } else { files(&path) };
        let stamp = files.as_ref().and_then(stamp);
        here.insert(name, Here { files: files.unwrap_or_default(), stamp });
    }
    Ok(here)
}

/// `None` where something changed a moment ago, or cannot be looked at.
fn stamp(files: &BTreeMap<PathBuf, PathBuf>) -> Option<Stamp> {
    let mut digest = Sha256::new();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
    for (path, file) in files {
        let data = fs::symlink_metadata(file).ok()?;
        let changed = Duration::new(data.ctime().try_into().ok()?, data.ctime_nsec().try_into().ok()?);
        if changed + RACY > now {
            return None;
        }
        digest.update(path.as_os_str().as_encoded_bytes());
        digest.update([0]);
        for number in [data.dev(), data.ino(), data.len(), u64::from(data.mode())] {
            digest.update(number.to_le_bytes());
        }
        for time in [data.mtime(), data.mtime_nsec(), data.ctime(), data.ctime_nsec()] {
            digest.update(time.to_le_bytes());
        }
    }
    Some(digest.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &BTreeSet<String>) -> Vec<&str> {
        of.iter().map(String::as_str).collect()
    }

    /// Makes all of it older than what may have changed a moment ago.
    fn rest() {
        std::thread::sleep(RACY * 2);
    }

    #[tokio::test]
    async fn what_hands_do_is_seen_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (root, apis) = (folder.path(), folder.path().join("services/apis"));
        let git = |arguments: &[&str]| {
            let mut git = std::process::Command::new("git");
            git.current_dir(root).args(["-c", "user.name=Ada", "-c", "user.email=a@example.com"]).args(arguments);
            assert!(git.output().unwrap().status.success());
        };
        let write = |path: &str, text: &str| {
            let path = apis.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        git(&["init", "--quiet"]);
        for name in ["a", "b", "c", "d e", "f", "g", "h"] {
            write(&format!("{name}/main.py"), name);
            write(&format!("{name}/deep/é.txt"), "1\n");
        }
        write("README.md", "1");
        write("h/.gitattributes", "* text=auto eol=lf\n");
        write(".hidden/x", "1");
        git(&["add", "."]);
        git(&["commit", "-q", "-m", "one"]);
        let (repository, mut known) = (Repository::at(root), Known::default());
        let place = ("HEAD", "services/apis");
        rest();
        for _ in 0..2 {
            assert_eq!(known.look(&repository, place, &apis).await.unwrap(), Touched::default());
            assert_eq!(known.0.len(), 8, "all of them are known");
        }

        // What the tree takes no notice of, and what no source brought.
        write("a/.env", "1");
        write("a/__pycache__/x.pyc", "1");
        write("other/main.py", "1");
        fs::remove_dir_all(apis.join(".hidden")).unwrap();
        // As it was, at another time.
        write("b/main.py", "b");
        assert_eq!(known.look(&repository, place, &apis).await.unwrap(), Touched::default());
        assert!(!known.0.contains_key("b"), "it changed a moment ago");

        let time = fs::metadata(apis.join("c/main.py")).unwrap().modified().unwrap();
        write("c/main.py", "C");
        fs::File::options().write(true).open(apis.join("c/main.py")).unwrap().set_modified(time).unwrap();
        write("d e/more.py", "1");
        // To git's own mind, with that file beside it, nothing has changed.
        write("h/deep/é.txt", "1\r\n");
        fs::remove_file(apis.join("f/deep/é.txt")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", apis.join("f/deep/é.txt")).unwrap();
        fs::remove_dir_all(apis.join("g")).unwrap();
        rest();
        for _ in 0..2 {
            let touched = known.look(&repository, place, &apis).await.unwrap();
            assert_eq!((names(&touched.changed), names(&touched.gone)), (vec!["c", "d e", "f", "h"], vec!["g"]));
        }
        // A folder in place of which there is a link, to what is the same.
        fs::rename(apis.join("a"), root.join("a")).unwrap();
        std::os::unix::fs::symlink(root.join("a"), apis.join("a")).unwrap();
        write("c/main.py", "c");
        let touched = known.look(&repository, place, &apis).await.unwrap();
        assert_eq!(names(&touched.changed), ["a", "d e", "f", "h"]);
        // Of a disk that is not there nothing can be said.
        known.look(&repository, place, &root.join("nowhere")).await.unwrap_err();
    }
}
