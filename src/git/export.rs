//! An export is API folders of a commit as plain files. Only plain files: links, submodules and odd names are findings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

use super::store::WITHIN;
use super::{GitError, Repository};
use crate::settings::Policy;
use crate::tree::diagnostic::code;

/// Whatever comes out of one push may not be larger than this, however small it was on its way.
const MOST_BYTES: u64 = 4 << 30;

/// How many texts git looks for at once.
const TEXTS: usize = 500;

/// Folders of a commit, by the names of git's objects: equal names are equal folders.
pub type Folders = BTreeMap<String, String>;

/// Something of a commit that no folder can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which API folder it is in; empty where it is all of them together.
    pub folder: String,
    /// From the root of the repository.
    pub path: String,
    /// Of the same in a tree that is read from disk.
    pub code: &'static str,
    /// What it is.
    pub why: String,
    /// What to do instead.
    pub hint: &'static str,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.why)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

/// One entry of a tree.
#[derive(Debug)]
struct Entry {
    mode: String,
    object: String,
    len: u64,
    /// From the root of the repository.
    path: String,
}

impl Repository {
    /// The folders right below `prefix` in a commit; none where it has no such folder.
    ///
    /// # Errors
    /// Where git cannot say.
    pub async fn folders(&self, commit: &str, prefix: &str) -> Result<Folders, GitError> {
        let entries = self.entries(&["ls-tree", "-z", "--full-tree", commit, "--", &format!("{prefix}/")]).await?;
        let below = |entry: Entry| Some((entry.path.strip_prefix(prefix)?.strip_prefix('/')?.to_owned(), entry.object));
        // Plain files there are named too, so that whoever compares sees them come and go.
        Ok(entries.into_iter().filter_map(below).collect())
    }

    /// The folders right below `prefix` in a commit whose file of that name holds one of these texts.
    ///
    /// # Errors
    /// Where git cannot say.
    pub async fn holding(
        &self,
        commit: &str,
        prefix: &str,
        file: &str,
        texts: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, GitError> {
        let fixed = ["grep", "-l", "-z", "-F", "--full-name", "--no-color", "--no-textconv", "--no-recurse-submodules"];
        let literal = |c: char| if r"\*?[]".contains(c) { format!("\\{c}") } else { c.to_string() };
        let path = format!(":(top,glob){}/*/{file}", prefix.chars().map(literal).collect::<String>());
        let mut folders = BTreeSet::new();
        // All of them would be more than a command line holds.
        for some in texts.iter().collect::<Vec<_>>().chunks(TEXTS) {
            let patterns = some.iter().flat_map(|text| ["-e", text.as_str()]);
            let arguments: Vec<&str> = fixed.into_iter().chain(patterns).chain([commit, "--", &path]).collect();
            let printed = match self.ask(&arguments, WITHIN).await {
                Ok(printed) => printed,
                // Nothing of it stands anywhere.
                Err(GitError::Failed { said, .. }) if said.is_empty() => continue,
                Err(error) => return Err(error),
            };
            let names = String::from_utf8_lossy(&printed).into_owned();
            let name = |line: &str| {
                let path = line.strip_prefix(commit)?.strip_prefix(':')?;
                Some(path.strip_prefix(prefix)?.strip_prefix('/')?.split('/').next()?.to_owned())
            };
            folders.extend(names.split('\0').filter_map(name));
        }
        Ok(folders)
    }

    async fn entries(&self, arguments: &[&str]) -> Result<Vec<Entry>, GitError> {
        let printed = self.ask(arguments, WITHIN).await?;
        let text = String::from_utf8_lossy(&printed);
        // Of a file that is not here there is no size, and nothing else can be said either.
        if let Some(line) = text.split('\0').find(|line| has_no_size(line)) {
            let file = line.split_once('\t').map_or(line, |(_, path)| path);
            let said = format!(
                "{file} is not here, as in a clone with --filter: have all of it fetched with `git fetch --refetch --no-filter`, \
                 or clone anew without --filter"
            );
            return Err(GitError::Failed { action: "ls-tree".to_owned(), said });
        }
        Ok(text.split('\0').filter_map(entry).collect())
    }

    /// As [`Repository::export`], of names that the commit has: one that holds no file is refused, since it would leave nothing to
    /// put into its place.
    ///
    /// # Errors
    /// As [`Repository::export`].
    pub async fn export_whole(
        &self,
        commit: &str,
        prefix: &str,
        names: &BTreeSet<String>,
        policy: &Policy,
        into: &Path,
    ) -> Result<Vec<Refusal>, GitError> {
        let mut refusals = self.export(commit, prefix, names, policy, into).await?;
        if refusals.is_empty() {
            let is_empty = |name: &&String| into.join(name).symlink_metadata().is_err();
            let empty = |name: &String| Refusal {
                folder: name.clone(),
                path: format!("{prefix}/{name}"),
                code: code::APP_MODULE_MISSING,
                why: "holds no file".to_owned(),
                hint: "",
            };
            refusals.extend(names.iter().filter(is_empty).map(empty));
        }
        Ok(refusals)
    }

    /// Writes what a commit has below `prefix/NAME`, of each of these names, to `into/NAME`, which must not be there yet. What is
    /// refused is not written.
    ///
    /// # Errors
    /// Where git cannot say, or a file cannot be written.
    pub async fn export(
        &self,
        commit: &str,
        prefix: &str,
        names: &BTreeSet<String>,
        policy: &Policy,
        into: &Path,
    ) -> Result<Vec<Refusal>, GitError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| GitError::Io { path, source }
        };
        fs::create_dir_all(into).map_err(io(into))?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let paths: Vec<String> = names.iter().map(|name| format!("{prefix}/{name}")).collect();
        let fixed = ["--literal-pathspecs", "ls-tree", "-r", "-z", "-l", "--full-tree", commit, "--"];
        let arguments: Vec<&str> = fixed.into_iter().chain(paths.iter().map(String::as_str)).collect();
        let mut refusals = Vec::new();
        let mut files = Vec::new();
        let (mut count, mut bytes) = (BTreeMap::<String, (u32, u64)>::new(), 0);
        for entry in self.entries(&arguments).await? {
            let below = entry.path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
            let name = below.split('/').next().unwrap_or_default().to_owned();
            match refuse(&entry, below, policy) {
                Some((code, why, hint)) => {
                    refusals.push(Refusal { folder: name, path: entry.path, code, why, hint });
                }
                None => {
                    let (files_of, bytes_of) = count.entry(name).or_default();
                    (*files_of, *bytes_of, bytes) = (*files_of + 1, *bytes_of + entry.len, bytes + entry.len);
                    files.push((into.join(below), entry.object));
                }
            }
        }
        for (name, (files, bytes)) in count {
            if files > policy.max_files || bytes > policy.max_folder.0 {
                let most = format!("{} files and {}", policy.max_files, policy.max_folder);
                let why = format!("{files} files of {bytes} bytes; {most} are allowed");
                let path = format!("{prefix}/{name}");
                refusals.push(Refusal { folder: name, path, code: code::FOLDER_TOO_BIG, why, hint: "" });
            }
        }
        if bytes > MOST_BYTES {
            let why = format!("{bytes} bytes in all; {MOST_BYTES} are allowed");
            let (folder, path) = (String::new(), prefix.to_owned());
            refusals.push(Refusal { folder, path, code: code::FOLDER_TOO_BIG, why, hint: "" });
        }
        if refusals.is_empty() {
            self.write(files).await?;
        }
        Ok(refusals)
    }

    /// Writes objects to files, by one process of git for all of them.
    async fn write(&self, files: Vec<(PathBuf, String)>) -> Result<(), GitError> {
        let mut git = self.command(["cat-file", "--batch"]);
        let mut git = git.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let git = git.as_mut().map_err(|error| GitError::Missing(std::io::Error::other(error.to_string())))?;
        let (Some(mut ask), Some(answer)) = (git.stdin.take(), git.stdout.take()) else { return Ok(()) };
        let asked: Vec<String> = files.iter().map(|(_, object)| format!("{object}\n")).collect();
        // Beside the reading: git would else wait for us to read while we wait for it to.
        let asking = tokio::spawn(async move {
            for line in asked {
                if ask.write_all(line.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
        let mut answer = BufReader::new(answer);
        for (path, object) in files {
            let io = |source| GitError::Io { path: path.clone(), source };
            let mut head = String::new();
            answer.read_line(&mut head).await.map_err(io)?;
            let len = head.split(' ').nth(2).and_then(|len| len.trim().parse::<usize>().ok());
            let Some(len) = len else {
                return Err(GitError::Failed { action: "cat-file".to_owned(), said: format!("{object}: {head}") });
            };
            let mut bytes = vec![0; len + 1];
            answer.read_exact(&mut bytes).await.map_err(io)?;
            bytes.truncate(len);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(io)?;
            }
            let mut file = fs::File::create_new(&path).map_err(io)?;
            file.write_all(&bytes).map_err(io)?;
        }
        let _ = asking.await;
        Ok(())
    }
}

/// A line of `ls-tree`: `mode type object<tab>path`, with the size before the tab where `-l` asks for it.
fn entry(line: &str) -> Option<Entry> {
    let (head, path) = line.split_once('\t')?;
    let mut words = head.split_ascii_whitespace();
    let (mode, _, object) = (words.next()?.to_owned(), words.next()?, words.next()?.to_owned());
    let len = words.next().and_then(|len| len.parse().ok()).unwrap_or(0);
    Some(Entry { mode, object, len, path: path.to_owned() })
}

fn has_no_size(line: &str) -> bool {
    line.split_once('\t').is_some_and(|(head, _)| head.split_ascii_whitespace().nth(3) == Some("BAD"))
}

/// Why an entry is no file of an API, if it is none.
fn refuse(entry: &Entry, below: &str, policy: &Policy) -> Option<(&'static str, String, &'static str)> {
    let is_odd = |part: &str| {
        // What is no UTF-8 has been read with a mark in its place.
        let is_bad = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
        matches!(part, "" | "." | "..") || part.eq_ignore_ascii_case(".git") || part.contains(is_bad)
    };
    match entry.mode.as_str() {
        "120000" => {
            Some((code::SYMLINK, "a symbolic link, which is never followed".to_owned(), "commit the file itself"))
        }
        "160000" => {
            let why = "a submodule, which is never fetched".to_owned();
            Some((code::SPECIAL_FILE, why, "commit the files themselves"))
        }
        "100644" | "100755" if below.split('/').any(is_odd) => {
            Some((code::BAD_FILE_NAME, "a name that no file here may have".to_owned(), ""))
        }
        "100644" | "100755" if entry.len > policy.max_file.0 => {
            let why = format!("{} bytes; {} are allowed (policy.max_file)", entry.len, policy.max_file);
            Some((code::FILE_TOO_BIG, why, ""))
        }
        "100644" | "100755" => None,
        mode => Some((code::SPECIAL_FILE, format!("of a kind that is not allowed here (mode {mode})"), "")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_whose_file_is_not_here_is_told_from_an_empty_one() {
        let id = "a".repeat(40);
        assert!(has_no_size(&format!("100644 blob {id}     BAD\tapis/a/main.py")));
        for line in [format!("100644 blob {id}       0\tBAD"), format!("100644 blob {id}\tBAD"), String::new()] {
            assert!(!has_no_size(&line), "{line}");
        }
        assert_eq!(entry(&format!("100644 blob {id}      12\tapis/a b")).unwrap().len, 12);
    }
}
