//! An API is one folder below `apis/`, read, checked and settled.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::diagnostic::Diagnostic;
use super::folder::{self, OpenError};
use super::id::ApiId;
use super::requirements::Requirements;
use super::revision::{Digest, Revision};
use super::sealed::Sealed;
use super::spec::Spec;

/// One sound API folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// The name of the folder.
    pub id: ApiId,
    /// Its settings.
    pub spec: Spec,
    /// What it needs installed.
    pub requirements: Requirements,
    /// What goes into its image.
    pub files: Files,
    /// What it is given and nobody may read; `None` where it has no such file.
    pub secrets: Option<Sealed>,
    /// Where the files' bytes can be read: the folder itself.
    pub folder: PathBuf,
    /// Warnings; an API with errors is [`Broken`].
    pub findings: Vec<Diagnostic>,
}

/// One folder that cannot be served as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The name of the folder.
    pub id: ApiId,
    /// At least one of them is an error.
    pub findings: Vec<Diagnostic>,
}

/// The files that go into an API's image, by path relative to the folder with `/` between segments.
///
/// `api.yaml`, `requirements.txt`, `requirements.lock` and `secrets.age` are not among them: what they say is in [`Spec`],
/// [`Requirements`] and [`Sealed`].
pub type Files = BTreeMap<String, File>;

/// One file of an API. Its bytes stay where they are until they are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Of the bytes.
    pub digest: Digest,
    /// In bytes.
    pub len: u64,
}

/// Why the bytes of a file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file changed since the tree was read; look again.
    #[error("{0} changed while it was being read")]
    Moved(String),
    /// The operating system refused.
    #[error("cannot read {path}")]
    Io {
        /// Relative to the folder.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl Api {
    /// The revision that this folder makes on that base image.
    #[must_use]
    pub fn revision(&self, base: &Digest) -> Revision {
        match &self.secrets {
            None => Digest::of_value(&(&self.files, self.spec.run(), &self.requirements, base)),
            Some(secrets) => {
                Digest::of_value(&(&self.files, self.spec.run(), &self.requirements, base, secrets.digest()))
            }
        }
        .into()
    }

    /// The digest of all that a revision of this folder is made of but for the base image, which is not the folder's.
    #[must_use]
    pub fn content(&self) -> Digest {
        match &self.secrets {
            None => Digest::of_value(&(&self.files, self.spec.run(), &self.requirements)),
            Some(secrets) => Digest::of_value(&(&self.files, self.spec.run(), &self.requirements, secrets.digest())),
        }
    }

    /// The bytes of one file of [`Api::files`].
    ///
    /// # Errors
    /// As [`read`].
    pub fn read(&self, path: &str) -> Result<Arc<[u8]>, ReadError> {
        let file = self.files.get(path).ok_or_else(|| ReadError::Moved(path.to_owned()))?;
        read(&self.folder, path, file)
    }
}

/// The bytes of one file of [`Api::files`] below `folder`, exactly those that its digest speaks of.
///
/// # Errors
/// [`ReadError::Moved`] where the file is no longer what the tree says.
pub fn read(folder: &Path, path: &str, file: &File) -> Result<Arc<[u8]>, ReadError> {
    let moved = || ReadError::Moved(path.to_owned());
    let bytes = folder::read_again(folder, path, file.len).map_err(|error| match error {
        OpenError::Changed => moved(),
        OpenError::Refused(errno) | OpenError::System(errno) => {
            ReadError::Io { path: path.to_owned(), source: errno.into() }
        }
    })?;
    if file.digest == Digest::of(&bytes) { Ok(bytes.into()) } else { Err(moved()) }
}
