//! The entries of `apis/`, and what each of them is.

use std::collections::{BTreeMap, BTreeSet};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Dir, FileType, statat};
use rustix::io::Errno;

use super::{Scanner, TreeError};
use crate::tree::diagnostic::{Diagnostic, code};
use crate::tree::folder::is_ignored;
use crate::tree::id::{ApiId, IdError};

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Entries {
    pub folders: BTreeSet<ApiId>,
    /// APIs that cannot be looked into, and why.
    pub broken: BTreeMap<ApiId, Diagnostic>,
    /// About names that are no ids, and about what nothing reads.
    pub findings: Vec<Diagnostic>,
}

/// One entry of `apis/`.
pub(super) enum Seen {
    Folder(ApiId),
    Finding(Diagnostic),
    /// An API that cannot be looked into.
    Broken(ApiId, Diagnostic),
}

impl Entries {
    /// Those that are APIs, in their order.
    pub(super) fn ids(&self) -> impl Iterator<Item = &ApiId> {
        let all: BTreeSet<&ApiId> = self.folders.iter().chain(self.broken.keys()).collect();
        all.into_iter()
    }
}

impl Scanner {
    pub(super) fn entries(&self, directory: &OwnedFd) -> Result<Entries, TreeError> {
        let mut entries = Entries::default();
        for entry in Dir::read_from(directory).map_err(|errno| self.failed(errno))? {
            let entry = entry.map_err(|errno| self.failed(errno))?;
            let name = entry.file_name().to_string_lossy();
            if is_ignored(&name) {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(self.failed(errno)),
                },
                kind => kind,
            };
            match self.entry(&name, kind) {
                None => {}
                Some(Seen::Folder(id)) => {
                    entries.folders.insert(id);
                }
                Some(Seen::Broken(id, finding)) => {
                    entries.broken.insert(id, finding);
                }
                Some(Seen::Finding(finding)) => entries.findings.push(finding),
            }
        }
        entries.findings.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// What is wrong with the names themselves among these: those that are no ids, and what nothing reads.
    ///
    /// # Errors
    /// Where the folder of API folders cannot be read.
    pub fn strays(&self, names: &BTreeSet<String>) -> Result<Vec<Diagnostic>, TreeError> {
        let shown: BTreeSet<String> = names.iter().map(|name| self.shown(name)).collect();
        let mut findings = self.entries(&self.open()?)?.findings;
        findings.retain(|finding| shown.contains(&finding.path));
        Ok(findings)
    }

    pub(super) fn entry(&self, name: &str, kind: FileType) -> Option<Seen> {
        let path = self.shown(name);
        let id = ApiId::new(name);
        match (kind, id) {
            (FileType::Directory, Ok(id)) => Some(Seen::Folder(id)),
            (FileType::Directory, Err(error)) => {
                let finding = Diagnostic::error(code::BAD_ID, path, error.to_string(), hint_for_id(name, error));
                Some(Seen::Finding(finding))
            }
            (FileType::Symlink, id) => {
                let hint = "put the folder itself there: links can lead out of the tree";
                let message = "a symbolic link, which skep does not follow";
                let finding = Diagnostic::error(code::SYMLINK, path, message, hint);
                Some(id.map_or_else(|_| Seen::Finding(finding.clone()), |id| Seen::Broken(id, finding.clone())))
            }
            (FileType::RegularFile, _) if name.to_lowercase().starts_with("readme") => None,
            _ => {
                let hint = "each API is a folder; put the file into one, or move it out of here";
                let message = "a file beside the API folders, which nothing reads";
                Some(Seen::Finding(Diagnostic::warning(code::STRAY_FILE, path, message, hint)))
            }
        }
    }
}

/// The id that a folder's name comes nearest to.
fn hint_for_id(name: &str, error: IdError) -> String {
    if let IdError::TooLong(_) = error {
        return "rename the folder".to_owned();
    }
    let mut slug = String::new();
    for c in name.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' => slug.push(c),
            _ if slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    match ApiId::new(slug.trim_matches('-')) {
        Ok(id) => format!("rename the folder, as in `{id}`"),
        Err(_) => "rename the folder".to_owned(),
    }
}
