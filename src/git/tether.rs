//! A tether is between the daemon and the hook of one push. By it the hook says that the push is taken, and sees when nobody waits
//! for its end any more.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use super::scratch::Scratch;

/// The variable that tells the hook where its end is.
pub const TETHER: &str = "SKEP_TETHER";

/// What the folders are called that pipes are in.
const NAME: &str = "tether-";

/// The daemon's end. Nobody waits any more once it is dropped.
#[derive(Debug)]
pub struct Tether {
    pipe: pipe::Receiver,
    folder: Scratch,
}

/// The hook's end.
#[derive(Debug)]
pub struct End(std::fs::File);

impl Tether {
    /// A new one, in a folder that is there.
    ///
    /// # Errors
    /// Where no pipe can be made there.
    pub fn new(beside: &Path) -> io::Result<Self> {
        let folder = Scratch::new(beside, NAME)?;
        let path = path_in(&folder);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        // To write as well: a pipe that nobody has opened yet, or any more, would be at its end.
        let pipe = pipe::OpenOptions::new().read_write(true).open_receiver(&path)?;
        Ok(Self { pipe, folder })
    }

    /// Where the hook finds its end.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        path_in(&self.folder)
    }

    /// Returns once the push is taken.
    pub async fn taken(&mut self) {
        if self.pipe.read_u8().await.is_err() {
            // Then nobody can say it.
            std::future::pending::<()>().await;
        }
    }
}

impl End {
    /// That of this process; `None` where whoever pushes does not come through a daemon.
    #[must_use]
    pub fn of_environment() -> Option<Self> {
        Self::open(Path::new(&std::env::var_os(TETHER).filter(|path| !path.is_empty())?))
    }

    fn open(path: &Path) -> Option<Self> {
        let flags = i32::try_from((OFlags::NONBLOCK | OFlags::CLOEXEC).bits()).ok()?;
        OpenOptions::new().write(true).custom_flags(flags).open(path).ok().map(Self)
    }

    /// Says that the push is taken, and nothing of it can be lost any more.
    pub fn say_taken(&mut self) {
        self.write();
    }

    /// Whether nobody waits any more.
    pub fn is_cut(&mut self) -> bool {
        !self.write()
    }

    /// Whether there is somebody to read it. One who does not is there all the same.
    fn write(&mut self) -> bool {
        !matches!(self.0.write(b"."), Err(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn path_in(folder: &Scratch) -> PathBuf {
    folder.path().join("pipe")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_hook_says_that_a_push_is_taken_and_sees_when_nobody_waits() {
        let folder = tempfile::tempdir().unwrap();
        let mut tether = Tether::new(folder.path()).unwrap();
        let path = tether.path();
        let mut end = End::open(&path).unwrap();
        end.say_taken();
        tether.taken().await;
        // Though nobody reads what comes then.
        assert!((0..100_000).all(|_| !end.is_cut()));
        drop(tether);
        assert!(end.is_cut() && !path.exists());
        assert!(End::open(&path).is_none());
    }
}
