//! An installation is what one skep keeps on one host: its owner mark, its records, its admin key and its lock.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::settings::Settings;
use crate::tree::Digest;

/// The folder that one installation keeps its state in.
#[derive(Debug, Clone)]
pub struct Installation {
    folder: PathBuf,
    owner: String,
    host: String,
}

/// Says that this process, and no other, changes the world of this installation. Given back when it is dropped, or
/// when the process ends in whatever way.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    /// Whether another process holds it by now.
    is_passed_on: bool,
}

/// Who holds the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// What it does: `serve` or `apply`.
    pub command: String,
    /// Where its gateway and its admin surface listen; `None` where it has none.
    pub address: Option<SocketAddr>,
    /// The folder that it serves.
    pub root: PathBuf,
    /// The base image that it stands on, once it knows.
    pub base: Option<Digest>,
    /// Which records it uses, without saying where those are; `None` where it has not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<String>,
}

/// How often the lock is tried, and the pause between: a fifth of a second in all.
const LOCK_ATTEMPTS: u32 = 10;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Why the state folder could not be used.
#[derive(Debug, thiserror::Error)]
pub enum InstallationError {
    /// The operating system refused.
    #[error("cannot use {path}")]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process is at work on this installation.
    #[error("`skep {}` (process {}) is already at work on this installation", .0.command, .0.pid)]
    Busy(Box<Holder>),
    /// The owner mark is not what skep writes.
    #[error("{0} does not hold the 12 hexadecimal digits that skep wrote; without them its containers are not known")]
    Damaged(PathBuf),
    /// The state folder was copied, and the one that it was copied from is there still.
    #[error(
        "{} is a copy of {}: both take the same containers for theirs, and would undo each other's work; remove it, and this project \
         begins anew, or the other one, and this is what it was", .copy.display(), .original.display()
    )]
    Copied {
        /// This one.
        copy: PathBuf,
        /// The other.
        original: PathBuf,
    },
}

impl Installation {
    /// Opens the state folder, and makes it where it is missing.
    ///
    /// # Errors
    /// Where it cannot be made or read.
    pub fn open(settings: &Settings) -> Result<Self, InstallationError> {
        let folder = settings.state.clone();
        // The records hold hashes of keys and the admin key lies beside them: nobody else has business in here.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed(&folder))?;
        // Somebody's `git add .` must not take them along.
        read_or_make(&folder.join(".gitignore"), || "*".to_owned())?;
        let path = folder.join("installation");
        let owner = read_or_make(&path, || hex::encode(rand::random::<[u8; 6]>()))?;
        if owner.len() != 12 || !owner.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InstallationError::Damaged(path));
        }
        if settings.records.url.is_none() {
            // Where a database keeps the records, who leads is settled there.
            refuse_copy(&folder, &owner)?;
        }
        let host = read_or_make(&folder.join("host"), || hex::encode(rand::random::<[u8; 6]>()))?;
        Ok(Self { folder, owner, host })
    }

    /// What tells this state folder from those of other hosts that share its records; made once.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What marks our containers: 12 hexadecimal digits, made once.
    #[must_use]
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Where the records are.
    #[must_use]
    pub fn records(&self) -> PathBuf {
        self.folder.join("records.db")
    }

    /// The key of the admin surface: that of the settings, else one that is made once and kept.
    ///
    /// # Errors
    /// Where it cannot be read or written.
    pub fn admin_key(&self, settings: &Settings) -> Result<String, InstallationError> {
        match &settings.admin_key {
            Some(key) => Ok(key.clone()),
            None => read_or_make(&self.admin_key_file(), || {
                format!("skep_admin_{}", hex::encode(rand::random::<[u8; 32]>()))
            }),
        }
    }

    /// Where the admin key is kept.
    #[must_use]
    pub fn admin_key_file(&self) -> PathBuf {
        self.folder.join("admin.key")
    }

    /// Takes the lock.
    ///
    /// # Errors
    /// [`InstallationError::Busy`] where another process has it.
    pub fn lock(&self, holder: &Holder) -> Result<Lock, InstallationError> {
        let path = self.folder.join("lock");
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open.map_err(failed(&path))?;
        for attempt in 1.. {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                // Somebody who only looks who holds it holds it for a moment too.
                Err(rustix::io::Errno::WOULDBLOCK) if attempt < LOCK_ATTEMPTS => std::thread::sleep(LOCK_PAUSE),
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(InstallationError::Busy(Box::new(read_holder(&mut file))));
                }
                Err(errno) => return Err(failed(&path)(errno.into())),
            }
        }
        let mut lock = Lock { file, path, is_passed_on: false };
        lock.write(holder)?;
        Ok(lock)
    }

    /// Takes the lock where nobody has it, and writes nothing into it; `None` where somebody has.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn try_lock(&self) -> Result<Option<Lock>, InstallationError> {
        let path = self.folder.join("lock");
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = open.map_err(failed(&path))?;
        let is_ours = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        Ok(is_ours.then_some(Lock { file, path, is_passed_on: false }))
    }

    /// The lock as another process has passed it on: nobody could take it meanwhile.
    #[must_use]
    pub fn receive(&self, descriptor: OwnedFd) -> Lock {
        Lock { file: descriptor.into(), path: self.folder.join("lock"), is_passed_on: false }
    }

    /// Where the daemon that holds the lock lets another one take its place.
    #[must_use]
    pub fn door(&self) -> PathBuf {
        self.folder.join("hand-over")
    }

    /// Says who is at work, for one that took over from a holder of the lock that is asleep.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn sign(&self, holder: &Holder) -> Result<(), InstallationError> {
        let path = self.folder.join("lock");
        let text = serde_json::to_vec(holder).unwrap_or_default();
        fs::write(&path, text).map_err(failed(&path))
    }

    /// Who holds the lock now, if anybody does.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        let mut file = File::open(self.folder.join("lock")).ok()?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(rustix::io::Errno::WOULDBLOCK) => Some(read_holder(&mut file)),
            _ => None,
        }
    }
}

impl Lock {
    /// The lock for another process, which holds it with whoever else has this descriptor open, and alone once this one
    /// has ended.
    ///
    /// # Errors
    /// Where no descriptor is left.
    pub fn pass_on(mut self) -> io::Result<OwnedFd> {
        let copy = self.file.try_clone()?;
        self.is_passed_on = true;
        Ok(copy.into())
    }

    /// Says anew who holds it.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&mut self, holder: &Holder) -> Result<(), InstallationError> {
        let text = serde_json::to_vec(holder).unwrap_or_default();
        let mut write = || -> io::Result<()> {
            self.file.set_len(0)?;
            self.file.rewind()?;
            self.file.write_all(&text)
        };
        write().map_err(failed(&self.path))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The next holder must not be taken for this one before it has written its own name. One that took over while this
        // process was asleep has written it already.
        if !self.is_passed_on && read_holder(&mut self.file).pid == std::process::id() {
            let _ = self.file.set_len(0);
        }
        // Closing it would not be enough: a child that another thread is just starting has it open for a moment too.
        if !self.is_passed_on {
            let _ = flock(&self.file, FlockOperation::Unlock);
        }
    }
}

/// Finds out whether a state folder was copied from one that is there still; one that was moved, or restored, is none.
fn refuse_copy(folder: &Path, owner: &str) -> Result<(), InstallationError> {
    let path = folder.join("place");
    let here = fs::canonicalize(folder).map_err(failed(folder))?;
    let identity = |folder: &Path| fs::metadata(folder).ok().map(|folder| (folder.dev(), folder.ino()));
    let before = fs::read(&path).ok().map(|text| PathBuf::from(OsString::from_vec(text)));
    let Some(original) = before.filter(|before| *before != here) else {
        return if path.exists() { Ok(()) } else { write_place(&path, &here) };
    };
    let is_of_it = fs::read_to_string(original.join("installation")).is_ok_and(|text| text.trim() == owner);
    // One folder may have several paths.
    if is_of_it && identity(&original) != identity(&here) {
        return Err(InstallationError::Copied { copy: here, original });
    }
    write_place(&path, &here)
}

fn write_place(path: &Path, place: &Path) -> Result<(), InstallationError> {
    // Written aside: half of a path would be another one.
    let aside = path.with_extension(format!("{}.new", std::process::id()));
    let write = || fs::write(&aside, place.as_os_str().as_bytes()).and_then(|()| fs::rename(&aside, path));
    write().map_err(failed(path))
}

/// What the holder wrote; a moment before it has, we only know that there is one.
fn read_holder(file: &mut File) -> Holder {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    let unknown = || Holder {
        pid: 0,
        command: "serve".to_owned(),
        address: None,
        root: PathBuf::new(),
        base: None,
        records: None,
    };
    read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_else(unknown)
}

/// The one line of a file, which is made, for its owner alone, where it is missing.
fn read_or_make(path: &Path, make: impl FnOnce() -> String) -> Result<String, InstallationError> {
    match fs::read_to_string(path) {
        Ok(text) => return Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed(path)(source)),
    }
    let text = make();
    // Written aside and linked, so that of two processes that start at once both read the same whole line.
    let aside = path.with_extension(format!("{}.new", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        writeln!(file, "{text}")?;
        file.sync_all()?;
        match fs::hard_link(&aside, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => fs::remove_file(&aside),
        }
    };
    write().map_err(failed(path))?;
    fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> InstallationError {
    let path = path.to_owned();
    move |source| InstallationError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder() -> Holder {
        Holder {
            pid: 7,
            command: "serve".to_owned(),
            address: None,
            root: PathBuf::from("/srv/apis"),
            base: None,
            records: None,
        }
    }

    #[test]
    fn an_owner_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::built_in(folder.path());
        let first = Installation::open(&settings).unwrap();
        assert_eq!(Installation::open(&settings).unwrap().owner(), first.owner());
    }

    #[test]
    fn a_copy_is_refused_beside_its_original_and_not_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| folder.path().join(name));
        let open = |root: &Path| Installation::open(&Settings::built_in(root));
        let first = open(&one).unwrap();
        std::os::unix::fs::symlink(&one, folder.path().join("link")).unwrap();
        open(&folder.path().join("link")).unwrap();
        let copy = |from: &Path, to: &Path| {
            fs::create_dir_all(to.join(".skep")).unwrap();
            for file in fs::read_dir(from.join(".skep")).unwrap().map(Result::unwrap) {
                fs::copy(file.path(), to.join(".skep").join(file.file_name())).unwrap();
            }
        };
        copy(&one, &two);
        let error = open(&two).unwrap_err().to_string();
        assert!(error.contains("two/.skep is a copy of ") && error.contains("one/.skep"), "{error}");
        open(&one).unwrap();
        // Moved, as a backup is that is brought back somewhere else.
        fs::remove_dir_all(&one).unwrap();
        assert_eq!(open(&two).unwrap().owner(), first.owner());
        copy(&two, &one);
        assert!(matches!(open(&one), Err(InstallationError::Copied { .. })));
    }

    #[test]
    fn a_second_process_learns_who_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let installation = Installation::open(&Settings::built_in(folder.path())).unwrap();
        assert_eq!(installation.holder(), None);
        let lock = installation.lock(&holder()).unwrap();
        assert_eq!(installation.holder(), Some(holder()));
        assert!(matches!(installation.lock(&holder()), Err(InstallationError::Busy(who)) if *who == holder()));
        drop(lock);
        assert_eq!(installation.holder(), None);
        installation.lock(&holder()).unwrap();
    }

    #[test]
    fn a_damaged_owner_mark_is_an_error_and_not_a_new_owner() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::built_in(folder.path());
        drop(Installation::open(&settings).unwrap());
        fs::write(settings.state.join("installation"), "").unwrap();
        assert!(matches!(Installation::open(&settings), Err(InstallationError::Damaged(_))));
    }
}
