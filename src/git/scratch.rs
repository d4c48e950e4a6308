//! A scratch folder goes when it is done with; one that a killed process has left goes when the next is made beside it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Told apart within one process.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A folder of one's own, for a while.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty one in `folder`, whose name begins with `name`; the number of this process follows.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(folder: &Path, name: &str) -> io::Result<Self> {
        sweep(folder, name);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(format!("{name}{}-{number}", std::process::id()));
        // Of a process before this one, with the same number.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes folders of that name whose process is no more.
fn sweep(folder: &Path, name: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.filter_map(Result::ok) {
        let file = entry.file_name().to_string_lossy().into_owned();
        let pid = file.strip_prefix(name).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_by_itself_and_so_does_what_a_process_that_is_no_more_has_left() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join("push-999999999-0");
        let other = folder.path().join("push-notes");
        fs::create_dir_all(&left).unwrap();
        fs::create_dir_all(&other).unwrap();
        let (one, two) = (Scratch::new(folder.path(), "push-").unwrap(), Scratch::new(folder.path(), "push-").unwrap());
        assert!(!left.exists() && other.exists() && one.path().is_dir() && one.path() != two.path());
        let path = one.path().to_owned();
        drop(one);
        assert!(!path.exists() && two.path().is_dir());
    }
}
