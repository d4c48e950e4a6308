//! A scratch folder goes when it is done with; one that a killed process has left goes when the next is made beside it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::process::geteuid;
use tempfile::TempDir;

/// A folder of one's own, for a while: nobody else may look into it.
#[derive(Debug)]
pub struct Scratch(TempDir);

impl Scratch {
    /// An empty one in `folder`, which others may write into as well. Its name begins with `name`; the number of this process
    /// follows, and what nobody guesses. What is there already is never taken for it, nor followed.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(folder: &Path, name: &str) -> io::Result<Self> {
        sweep(folder, name, geteuid().as_raw());
        fs::create_dir_all(folder)?;
        let prefix = format!("{name}{}-", std::process::id());
        let alone = fs::Permissions::from_mode(0o700);
        tempfile::Builder::new().prefix(&prefix).permissions(alone).tempdir_in(folder).map(Self)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Removes folders of that name, and of that user, whose process is no more.
fn sweep(folder: &Path, name: &str, user: u32) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.filter_map(Result::ok) {
        let file = entry.file_name().to_string_lossy().into_owned();
        let pid = file.strip_prefix(name).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        let is_left = pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists());
        // Of the entry itself, and not of what it may be a link to.
        let is_ours = || entry.metadata().is_ok_and(|data| data.is_dir() && data.uid() == user);
        if is_left && is_ours() {
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

    #[test]
    fn nobody_can_lay_something_into_its_way() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("kept"), "").unwrap();
        // What would be there for a name that counts up, as a folder, and as a link out of it.
        let guessed = |number: u32| folder.path().join(format!("plan-{}-{number}", std::process::id()));
        for number in 0..100 {
            if number % 2 == 0 {
                fs::create_dir(guessed(number)).unwrap();
            } else {
                std::os::unix::fs::symlink(&elsewhere, guessed(number)).unwrap();
            }
        }
        // A link whose name says that a process is no more.
        let link = folder.path().join("plan-999999999-0");
        std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
        let one = Scratch::new(folder.path(), "plan-").unwrap();
        assert!((0..100).all(|number| one.path() != guessed(number) && guessed(number).symlink_metadata().is_ok()));
        assert!(elsewhere.join("kept").exists() && link.symlink_metadata().is_ok(), "nothing is followed");
        assert_eq!(fs::metadata(one.path()).unwrap().mode() & 0o7777, 0o700);
        assert!(one.path().file_name().unwrap().len() > format!("plan-{}-0", std::process::id()).len());
    }

    #[test]
    fn in_a_folder_of_all_users_what_another_has_left_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (left, user) = (folder.path().join("plan-999999999-0"), geteuid().as_raw());
        fs::create_dir(&left).unwrap();
        sweep(folder.path(), "plan-", user + 1);
        assert!(left.exists());
        sweep(folder.path(), "plan-", user);
        assert!(!left.exists());
    }
}
