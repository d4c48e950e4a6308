//! An archive is a tar of files on their way into an image or a container. Same files, same bytes: times are zero.

use bytes::Bytes;
use tar::{Builder, EntryType, Header};

use crate::engine::EngineError;

/// A tar being written.
pub(super) struct Archive {
    tar: Builder<Vec<u8>>,
}

impl Archive {
    pub(super) fn new() -> Self {
        Self { tar: Builder::new(Vec::new()) }
    }

    /// Adds a folder.
    pub(super) fn folder(self, path: &str, mode: u32, owner: u64) -> Result<Self, EngineError> {
        self.entry(&format!("{path}/"), EntryType::Directory, mode, owner, &[])
    }

    /// Adds a file.
    pub(super) fn file(self, path: &str, mode: u32, bytes: &[u8]) -> Result<Self, EngineError> {
        self.entry(path, EntryType::Regular, mode, 0, bytes)
    }

    /// The bytes of the whole.
    pub(super) fn finish(self) -> Result<Bytes, EngineError> {
        self.tar.into_inner().map(Bytes::from).map_err(|error| failed("the archive", &error))
    }

    fn entry(mut self, path: &str, kind: EntryType, mode: u32, owner: u64, bytes: &[u8]) -> Result<Self, EngineError> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(0);
        header.set_size(bytes.len() as u64);
        self.tar.append_data(&mut header, path, bytes).map_err(|error| failed(path, &error))?;
        Ok(self)
    }
}

fn failed(what: &str, error: &std::io::Error) -> EngineError {
    EngineError::Failed { message: format!("cannot pack {what}: {error}"), output: Vec::new() }
}
