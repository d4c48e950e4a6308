//! Opens and reads files without following links, blocking on FIFOs, or trusting an earlier look.

use std::io::Read;
use std::path::Path;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;

use super::listing::Stamp;

/// Why a file could not be read.
#[derive(Debug)]
pub(in crate::tree) enum OpenError {
    /// It is not, or is no longer, what the listing says.
    Changed,
    /// The system refuses this file.
    Refused(Errno),
    /// The system is out of descriptors or memory.
    System(Errno),
}

impl From<Errno> for OpenError {
    fn from(errno: Errno) -> Self {
        match errno {
            // Gone, or replaced by a link, a device or a file where a folder was.
            Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::STALE | Errno::NXIO | Errno::NODEV => Self::Changed,
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => Self::System(errno),
            _ => Self::Refused(errno),
        }
    }
}

/// Opens a directory below another; the last segment must be no link.
pub(in crate::tree) fn open_directory(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Reads one file of a listing, whole.
pub(in crate::tree) fn read_file(directory: &OwnedFd, path: &str, stamp: &Stamp) -> Result<Vec<u8>, OpenError> {
    let file = open_file(directory.as_fd(), path)?;
    let stat = fstat(&file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || Stamp::of(&stat) != *stamp {
        return Err(OpenError::Changed);
    }
    read_exactly(file, stamp.len())
}

/// Reads the beginning of a file that nobody has looked at; `None` where there is none that can be read.
pub(in crate::tree) fn read_small(directory: &OwnedFd, path: &str) -> Option<Vec<u8>> {
    const MOST: u64 = 1 << 20;
    let file = open_file(directory.as_fd(), path).ok()?;
    if FileType::from_raw_mode(fstat(&file).ok()?.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(MOST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Opens a file, segment by segment, none of them a link. Whether it is a regular file, the caller asks of the descriptor.
fn open_file(directory: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    let mut inner: Option<OwnedFd> = None;
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        let parent = inner.as_ref().map_or(directory, AsFd::as_fd);
        if segments.peek().is_some() {
            inner = Some(open_directory(parent, segment)?);
        } else {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            return openat(parent, segment, flags, Mode::empty());
        }
    }
    Err(Errno::NOENT)
}

/// Reads a file that has `len` bytes, and no more even where it has grown.
fn read_exactly(file: OwnedFd, len: u64) -> Result<Vec<u8>, OpenError> {
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0) + 1);
    let read = std::fs::File::from(file).take(len + 1).read_to_end(&mut bytes);
    match read {
        Ok(_) if bytes.len() as u64 == len => Ok(bytes),
        Ok(_) => Err(OpenError::Changed),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO).into()),
    }
}

/// Reads a file that the tree knows to have `len` bytes, in a folder that is not open.
pub(in crate::tree) fn read_again(folder: &Path, path: &str, len: u64) -> Result<Vec<u8>, OpenError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(CWD, folder, flags, Mode::empty())?;
    let file = open_file(directory.as_fd(), path)?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(OpenError::Changed);
    }
    read_exactly(file, len)
}
