//! The files of a folder as they are read: all that may leave this host of a tree, and nothing behind a link.

use rustix::fd::AsFd;
use rustix::io::Errno;

use super::{Scanner, TreeError};
use crate::tree::folder::{self, Listing, NoFolder, OpenError, read_file};
use crate::tree::id::ApiId;

impl Scanner {
    /// The files of an API folder, `api.yaml` and its like among them, by their paths within it.
    ///
    /// They are opened one by one as the reader of the tree opens them, so that a folder which has become a link since it was
    /// looked at gives an error, and nothing that the link leads to.
    ///
    /// # Errors
    /// Where the folder is not, or is no longer, one of plain files alone, or cannot be read.
    pub fn files(&self, id: &ApiId) -> Result<Vec<(String, Vec<u8>)>, TreeError> {
        let path = self.shown(id.as_str());
        let changing = || TreeError::Changing(path.clone());
        let failed = |errno: Errno| TreeError::Io { path: self.apis.join(id.as_str()), source: errno.into() };
        let directory = folder::open_directory(self.open()?.as_fd(), id.as_str()).map_err(failed)?;
        let listing = Listing::of(&directory, &path, &self.rules.policy).map_err(|error| match error {
            NoFolder::Unsettled => changing(),
            NoFolder::System(errno) => failed(errno),
        })?;
        // Whoever asks has read the folder, and has found it sound.
        if listing.findings.iter().any(crate::tree::Diagnostic::is_error) {
            return Err(changing());
        }
        let read = |(name, stamp): (&str, _)| match read_file(&directory, name, stamp) {
            Ok(bytes) => Ok((name.to_owned(), bytes)),
            Err(OpenError::Changed) => Err(changing()),
            Err(OpenError::System(errno) | OpenError::Refused(errno)) => Err(failed(errno)),
        };
        listing.files().map(read).collect()
    }
}
