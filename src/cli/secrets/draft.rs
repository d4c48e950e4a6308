//! A draft is the text of secrets that somebody edits: a file in memory, in a folder of its own, wiped whatever ends the edit.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{CWD, Dir, FileType, FlockOperation, Mode, OFlags, flock, fstat, openat};
use zeroize::Zeroizing;

/// A file system in memory, on every Linux.
const MEMORY: &str = "/dev/shm";

/// How the name of each such folder begins.
const PREFIX: &str = "skep-secrets-";

/// How often a folder is made that another process takes for a left-over before it is marked as in use.
const ATTEMPTS: u32 = 10;

/// A folder in memory with one file. It is locked as long as its process lives, so that what one leaves behind that is
/// killed can be told from what is in use.
pub(super) struct Draft {
    path: PathBuf,
    folder: OwnedFd,
}

impl Draft {
    pub(super) fn new(text: &str) -> anyhow::Result<Self> {
        let place = places().find(|place| place.is_dir());
        let place = place.with_context(|| format!("there is no {MEMORY} to edit in; use: skep secrets set"))?;
        let mut made = None;
        for _ in 0..ATTEMPTS {
            let path = place.join(format!("{PREFIX}{:016x}", rand::random::<u64>()));
            DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("cannot make {}", path.display()))?;
            made = taken(&path).map(|folder| Self { path, folder });
            if made.is_some() {
                break;
            }
        }
        let draft = made.with_context(|| format!("cannot lock a folder in {}; try once more", place.display()))?;
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft.file())?;
            file.write_all(text.as_bytes())
        };
        write().with_context(|| format!("cannot write {}", draft.file().display()))?;
        Ok(draft)
    }

    pub(super) fn file(&self) -> PathBuf {
        self.path.join("secrets.yaml")
    }

    pub(super) fn read(&self) -> anyhow::Result<Zeroizing<String>> {
        let mut text = Zeroizing::new(String::new());
        let read = File::open(self.file()).and_then(|mut file| file.read_to_string(&mut text));
        read.context("cannot read what the editor wrote; nothing is changed")?;
        Ok(text)
    }

    /// Overwrites what is in it, and removes it.
    pub(super) fn wipe(&self) {
        wipe(&self.path, &self.folder);
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// Wipes what processes have left behind that were killed at an edit: folders of this user alone, in use by nobody.
pub(super) fn sweep() {
    for place in places() {
        let Ok(entries) = fs::read_dir(place) else { continue };
        for entry in entries.filter_map(Result::ok) {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX))
                && let Some(folder) = taken(&entry.path())
            {
                wipe(&entry.path(), &folder);
            }
        }
    }
}

fn places() -> impl Iterator<Item = PathBuf> {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|own| !own.is_empty());
    [Some(PathBuf::from(MEMORY)), own.map(PathBuf::from)].into_iter().flatten()
}

/// A folder of this user, no link, which this process has for itself from now on; `None` where another one has it.
fn taken(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let folder = openat(CWD, path, flags, Mode::empty()).ok()?;
    let stat = fstat(&folder).ok()?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return None;
    }
    flock(folder.as_fd(), FlockOperation::NonBlockingLockExclusive).ok()?;
    // Whoever had it until now may have removed it.
    let found = fs::symlink_metadata(path).ok()?;
    (found.dev() == stat.st_dev && found.ino() == stat.st_ino).then_some(folder)
}

/// Overwrites the files of a folder, follows no link, and removes it.
fn wipe(path: &Path, folder: &OwnedFd) {
    for entry in Dir::read_from(folder).into_iter().flatten().filter_map(Result::ok) {
        // One that is a pipe keeps nobody waiting.
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = openat(folder, entry.file_name(), flags, Mode::empty()) else { continue };
        let Ok(stat) = fstat(&file) else { continue };
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            let zeros = vec![0; usize::try_from(stat.st_size).unwrap_or_default()];
            let _ = File::from(file).write_all(&zeros);
        }
    }
    let _ = fs::remove_dir_all(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_is_wiped_and_neither_what_is_in_use_nor_what_a_link_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        let (left, link) = (folder.path().join("left"), folder.path().join("link"));
        let victim = folder.path().join("victim");
        fs::create_dir(&victim).unwrap();
        fs::write(victim.join("precious"), "precious").unwrap();
        fs::create_dir(&left).unwrap();
        fs::write(left.join("secrets.yaml"), "TOKEN: hunter2").unwrap();
        std::os::unix::fs::symlink(victim.join("precious"), left.join("planted")).unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        // Somebody who has it open still sees what stands in it.
        let seen = File::open(left.join("secrets.yaml")).unwrap();
        let held = taken(&left).unwrap();
        assert!(taken(&left).is_none(), "it is in use");
        assert!(taken(&link).is_none(), "it is a link");
        drop(held);
        wipe(&left, &taken(&left).unwrap());
        assert!(!left.exists());
        assert_eq!(io::read_to_string(seen).unwrap(), "\0".repeat(14));
        assert_eq!(fs::read_to_string(victim.join("precious")).unwrap(), "precious");
    }
}
