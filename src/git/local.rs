//! A remote of this host may be somebody else's folder. Git speaks to no such repository unless a file of settings names it: one
//! that the settings here name is named there, and no other.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::GitError;

/// What the file is called, beside the store.
const FILE: &str = "safe.gitconfig";

/// Where git looks for a repository at a path, in its order (`enter_repo`).
const ENDS: [&str; 4] = ["/.git", "", ".git/.git", ".git"];

/// Writes the file of settings for a remote of this host beside its store; `None` where there is no repository at its address.
///
/// # Errors
/// Where it cannot be written.
pub(super) fn settings(url: &str, store: &Path) -> Result<Option<PathBuf>, GitError> {
    let (Some(repository), Some(folder)) = (repository(url), store.parent()) else { return Ok(None) };
    let path = folder.join(FILE);
    let text = text(&repository);
    if fs::read_to_string(&path).is_ok_and(|now| now == text) {
        return Ok(Some(path));
    }
    let write = || {
        fs::create_dir_all(folder)?;
        let aside = path.with_extension("new");
        fs::write(&aside, &text)?;
        fs::rename(&aside, &path)
    };
    write().map_err(|source: io::Error| GitError::Io { path: path.clone(), source })?;
    Ok(Some(path))
}

/// The folder of the repository at an address of this host, without links on the way.
pub(super) fn repository(url: &str) -> Option<PathBuf> {
    let path = decoded(url.strip_prefix("file://")?);
    let mut candidates = ENDS.iter().map(|end| PathBuf::from(format!("{}{end}", path.trim_end_matches('/'))));
    candidates.find(|path| path.join("HEAD").exists() && path.join("objects").is_dir())?.canonicalize().ok()
}

/// What an address says, with its escapes (`%20`) undone, as git does.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%').and_then(|code| hex::decode(code).ok());
        match code {
            Some(code) => {
                bytes.extend(code);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn text(repository: &Path) -> String {
    let path = repository.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("[safe]\n\tdirectory = \"{path}\"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_repository_is_named_as_it_is_found_and_never_all() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for inner in ["a b/.git/objects", "bare.git/objects"] {
            fs::create_dir_all(root.join(inner)).unwrap();
            fs::write(root.join(inner).with_file_name("HEAD"), "").unwrap();
        }
        std::os::unix::fs::symlink(root.join("bare.git"), root.join("link")).unwrap();
        let found = |path: &str| repository(&format!("file://{}/{path}", root.display()));
        assert_eq!(found("a%20b"), Some(root.join("a b/.git")));
        for path in ["bare", "bare.git", "bare.git/", "link"] {
            assert_eq!(found(path), Some(root.join("bare.git")), "{path}");
        }
        assert_eq!(found("none"), None);
        assert_eq!(repository("https://git.example/a"), None);
        assert_eq!(text(Path::new("/a \"b\\c")), "[safe]\n\tdirectory = \"/a \\\"b\\\\c\"\n");
    }
}
