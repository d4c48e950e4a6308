//! A listing names all files of a folder, with a stamp of each that changes when the file does.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Stat, statat};
use rustix::io::Errno;

use super::open::open_directory;
use super::{NoFolder, refusal};
use crate::settings::Policy;
use crate::tree::diagnostic::{Diagnostic, code};
use crate::tree::quantity::Size;

/// The deepest nesting of folders within one API.
const MAX_DEPTH: usize = 8;

/// The longest file name in bytes, and the longest path within a folder. Archives and file systems take 255 and more.
const MAX_NAME: usize = 200;
const MAX_PATH: usize = 400;

/// What tells a file from another of its name, and from itself after a change. The change time is set by the kernel
/// on every change, and by nobody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::tree) struct Stamp {
    device: u64,
    inode: u64,
    mode: u32,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    #[expect(clippy::useless_conversion, reason = "the widths of these fields differ between platforms")]
    #[expect(clippy::cast_sign_loss, reason = "a file has no negative length")]
    pub(in crate::tree) fn of(stat: &Stat) -> Self {
        let nanoseconds = |n| i64::try_from(n).unwrap_or(0);
        Self {
            device: stat.st_dev.into(),
            inode: stat.st_ino.into(),
            mode: stat.st_mode.into(),
            len: stat.st_size as u64,
            modified: (stat.st_mtime.into(), nanoseconds(stat.st_mtime_nsec)),
            changed: (stat.st_ctime.into(), nanoseconds(stat.st_ctime_nsec)),
        }
    }

    /// In bytes.
    pub(in crate::tree) fn len(&self) -> u64 {
        self.len
    }

    fn changed(&self) -> Duration {
        let seconds = u64::try_from(self.changed.0).unwrap_or(0);
        Duration::new(seconds, u32::try_from(self.changed.1).unwrap_or(0))
    }
}

/// All that a folder holds, without the bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::tree) struct Listing {
    /// Every entry that is not ignored, by path: regular files to read, and what was refused.
    entries: BTreeMap<String, (Stamp, bool)>,
    /// About entries that are refused, and about the folder's size.
    pub findings: Vec<Diagnostic>,
}

impl Listing {
    /// Lists an open folder. `path` is its name in findings.
    pub(in crate::tree) fn of(directory: &OwnedFd, path: &str, policy: &Policy) -> Result<Self, NoFolder> {
        let mut lister = Lister { root: path, policy, listing: Self::default(), files: 0 };
        lister.folder(directory, "", 0)?;
        lister.limits();
        lister.collisions();
        Ok(lister.listing)
    }

    /// The files to read, in order of path.
    pub(in crate::tree) fn files(&self) -> impl Iterator<Item = (&str, &Stamp)> {
        self.entries.iter().filter(|(_, (_, sound))| *sound).map(|(path, (stamp, _))| (path.as_str(), stamp))
    }

    /// When the last of the files changed, since the epoch, by the clock of the file system.
    pub(in crate::tree) fn changed(&self) -> Duration {
        self.entries.values().map(|(stamp, _)| stamp.changed()).max().unwrap_or_default()
    }
}

struct Lister<'a> {
    root: &'a str,
    policy: &'a Policy,
    listing: Listing,
    files: u32,
}

impl Lister<'_> {
    /// Lists one folder and those in it. `below` is its path within the API, with a slash at its end unless empty.
    fn folder(&mut self, directory: &OwnedFd, below: &str, depth: usize) -> Result<(), NoFolder> {
        let entries = match Dir::read_from(directory) {
            Ok(entries) => entries,
            Err(errno) => return self.failed(below.trim_end_matches('/'), errno),
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) => return self.failed(below.trim_end_matches('/'), errno),
            };
            let Ok(name) = entry.file_name().to_str() else {
                if !entry.file_name().to_bytes().starts_with(b".") {
                    let path = format!("{below}{}", entry.file_name().to_string_lossy());
                    self.refuse(&path, code::BAD_FILE_NAME, "a file name that is not UTF-8", "rename it");
                }
                continue;
            };
            if is_ignored(name) || (depth == 0 && is_readme(name)) {
                continue;
            }
            // A folder of a million files must not cost a million looks.
            if self.files > self.policy.max_files {
                return Ok(());
            }
            let path = format!("{below}{name}");
            match statat(directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => self.entry(directory, name, path, &stat, depth)?,
                // Gone between the listing and the look: an editor's own file, most likely.
                Err(Errno::NOENT) => {}
                Err(errno) => self.failed(&path, errno)?,
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        directory: &OwnedFd,
        name: &str,
        path: String,
        stat: &Stat,
        depth: usize,
    ) -> Result<(), NoFolder> {
        let stamp = Stamp::of(stat);
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory {
            self.files += 1;
        }
        let sound = match (why_no_name(name, &path), kind) {
            (Some(message), _) => {
                self.refuse(&path, code::BAD_FILE_NAME, message, "rename it");
                false
            }
            (None, FileType::Directory) if depth + 1 >= MAX_DEPTH => {
                let message = format!("folders nested more than {MAX_DEPTH} deep");
                self.refuse(&path, code::FOLDER_TOO_DEEP, message, "move the files up");
                false
            }
            (None, FileType::Directory) => {
                return match open_directory(directory.as_fd(), name) {
                    Ok(inner) => self.folder(&inner, &format!("{path}/"), depth + 1),
                    Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => Err(NoFolder::Unsettled),
                    Err(errno) => self.failed(&path, errno),
                };
            }
            (None, FileType::RegularFile) => self.size(&path, stamp.len),
            (None, FileType::Symlink) => {
                let hint = "put the file itself there: links can lead out of the tree";
                self.refuse(&path, code::SYMLINK, "a symbolic link, which skep does not follow", hint);
                false
            }
            (None, kind) => {
                let kind = match kind {
                    FileType::Fifo => "a FIFO",
                    FileType::Socket => "a socket",
                    _ => "a device",
                };
                self.refuse(&path, code::SPECIAL_FILE, format!("{kind}, not a file"), "remove it");
                false
            }
        };
        self.listing.entries.insert(path, (stamp, sound));
        Ok(())
    }

    fn size(&mut self, path: &str, len: u64) -> bool {
        let allowed = len <= self.policy.max_file.0;
        if !allowed {
            let message = format!("the file has {}, at most {} are allowed", Size(len), self.policy.max_file);
            let hint = "fetch large data when the app starts, or raise `policy.max_file` in skep.yaml";
            self.refuse(path, code::FILE_TOO_BIG, message, hint);
        }
        allowed
    }

    fn limits(&mut self) {
        let total: u64 = self.listing.files().map(|(_, stamp)| stamp.len).sum();
        if self.files > self.policy.max_files {
            let message = format!("the folder has more than {} files", self.policy.max_files);
            let hint = "keep data and environments out of it, or raise `policy.max_files` in skep.yaml";
            self.refuse("", code::FOLDER_TOO_BIG, message, hint);
        } else if total > self.policy.max_folder.0 {
            let message = format!("the folder has {}, at most {} are allowed", Size(total), self.policy.max_folder);
            let hint = "fetch large data when the app starts, or raise `policy.max_folder` in skep.yaml";
            self.refuse("", code::FOLDER_TOO_BIG, message, hint);
        }
    }

    /// Warns of names that some file systems cannot keep apart.
    fn collisions(&mut self) {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        let mut findings = Vec::new();
        for path in self.listing.entries.keys() {
            if let Some(first) = seen.insert(path.to_lowercase(), path) {
                let message = format!("differs from {first} in case only");
                let hint = "rename one: on some machines they are one file";
                findings.push(Diagnostic::warning(
                    code::CASE_COLLISION,
                    format!("{}/{path}", self.root),
                    message,
                    hint,
                ));
            }
        }
        self.listing.findings.append(&mut findings);
    }

    fn failed(&mut self, path: &str, errno: Errno) -> Result<(), NoFolder> {
        match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => Err(NoFolder::System(errno)),
            _ => {
                let hint = "the user that runs skep must be able to read it";
                self.refuse(path, code::UNREADABLE, refusal(errno), hint);
                Ok(())
            }
        }
    }

    fn refuse(&mut self, path: &str, code: &'static str, message: impl Into<String>, hint: &str) {
        let path = if path.is_empty() { self.root.to_owned() } else { format!("{}/{path}", self.root) };
        self.listing.findings.push(Diagnostic::error(code, path, message, hint));
    }
}

/// Names that are no part of an API: hidden ones, what Python and editors leave behind.
#[must_use]
pub fn is_ignored(name: &str) -> bool {
    name.starts_with('.')
        || name == "__pycache__"
        || name.ends_with('~')
        || [".pyc", ".pyo", ".swp", ".swo", ".tmp", ".orig", ".rej"].iter().any(|suffix| name.ends_with(suffix))
        || (name.starts_with('#') && name.ends_with('#'))
        // Vim writes this one to see whether it may.
        || name == "4913"
}

/// `README`, `readme.md` and the like, but no module of that name.
fn is_readme(name: &str) -> bool {
    let (stem, extension) = name.split_once('.').unwrap_or((name, ""));
    stem.eq_ignore_ascii_case("readme") && extension != "py"
}

fn why_no_name(name: &str, path: &str) -> Option<&'static str> {
    if name.chars().any(|c| c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')) {
        Some("a file name with control characters")
    } else if name.contains('\\') {
        Some("a file name with a backslash")
    } else if name.len() > MAX_NAME {
        Some("a file name of more than 200 bytes")
    } else if path.len() > MAX_PATH {
        Some("a path of more than 400 bytes within its folder")
    } else {
        None
    }
}
