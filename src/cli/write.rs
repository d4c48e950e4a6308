//! Writing a file of the tree in one go, past whatever others may have put beside it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;

/// Writes a file in one go: whoever reads it meanwhile reads all of one or all of the other. Whoever may write into its
/// folder can neither foresee the name that it has before, nor have a link followed that lies there.
pub(super) fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.{:016x}", rand::random::<u64>()));
    let written = write(&aside, text).and_then(|()| fs::rename(&aside, path).inspect_err(|_| remove(&aside)));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Writes a file that is not there yet. What is there is left alone, and so is what it leads to.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).inspect_err(|_| remove(path))
}

fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::tree::{lock, sealed};

    #[test]
    fn links_that_were_planted_beside_a_file_lead_nowhere() {
        for name in [sealed::FILE, lock::FILE] {
            let folder = tempfile::tempdir().unwrap();
            let [victim, path] = ["victim", name].map(|name| folder.path().join(name));
            fs::write(&victim, "precious").unwrap();
            let planted = folder.path().join(format!(".{name}.{}", std::process::id()));
            symlink(&victim, &planted).unwrap();
            symlink(&victim, &path).unwrap();
            replace(&path, "new").unwrap();
            // And were the name foreseen, nothing is written.
            assert_eq!(write(&planted, "new").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
            assert_eq!(fs::read_to_string(&path).unwrap(), "new");
            assert!(fs::symlink_metadata(&path).unwrap().is_file() && planted.is_symlink());
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "something is left behind");
        }
    }

    #[test]
    fn what_cannot_be_put_in_its_place_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(sealed::FILE);
        fs::create_dir_all(path.join("full")).unwrap();
        assert!(replace(&path, "new").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
