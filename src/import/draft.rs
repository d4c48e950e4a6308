//! A draft is an imported folder before it stands in the tree: written aside, checked, and compared with what is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::manifest::{Content, settings};
use super::requirements::{LeftOut, clean};
use crate::records::old_system::{OldApi, OldText};
use crate::tree::ApiId;

/// The files of an imported folder.
pub const CODE: &str = "main.py";
/// Its requirements.
pub const REQUIREMENTS: &str = "requirements.txt";
/// Its settings.
pub const MANIFEST: &str = "api.yaml";

/// A folder as a row makes it.
#[derive(Debug)]
pub struct Draft {
    /// The API.
    pub id: ApiId,
    /// Its files.
    pub content: Content,
    /// What differs from the row.
    pub notes: Vec<String>,
    /// The lines of its requirements that are left out.
    pub left_out: Vec<LeftOut>,
}

/// What stands where a folder is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum There {
    /// Nothing.
    Nothing,
    /// A folder with exactly that content.
    Same,
    /// A folder as an earlier import made it.
    Imported,
    /// A folder that somebody has edited or made, and its files that an import does not write.
    Edited(Vec<String>),
    /// No folder.
    Other,
}

impl Draft {
    /// Makes the folder of a row.
    ///
    /// # Errors
    /// Why the row cannot be taken.
    pub fn of(api: &OldApi) -> Result<Self, String> {
        let id = ApiId::new(&api.id).map_err(|error| error.to_string())?;
        let too_long =
            |what: &str, bytes: u64| format!("its {what} have {bytes} bytes, more than `policy.max_file` allows");
        let code = match &api.code {
            OldText::Whole(code) if !code.trim().is_empty() => code.clone(),
            OldText::TooLong(bytes) => return Err(too_long("lines of code", *bytes)),
            _ => return Err("it has no code".to_owned()),
        };
        let requirements = match &api.requirements {
            OldText::Whole(requirements) => requirements.as_str(),
            OldText::TooLong(bytes) => return Err(too_long("requirements", *bytes)),
            OldText::None => "",
        };
        let (requirements, left_out) = clean(requirements);
        let (settings, notes) = settings(api);
        Ok(Self { id, content: Content::new(code, requirements, &settings), notes, left_out })
    }
}

/// Writes a folder's files into a new folder, and makes sure that they are on disk.
///
/// # Errors
/// Where the system refuses.
pub fn write(folder: &Path, content: &Content) -> io::Result<()> {
    use io::Write as _;
    fs::create_dir_all(folder)?;
    let Content { code, requirements, manifest } = content;
    for (name, bytes) in [(CODE, code), (REQUIREMENTS, requirements), (MANIFEST, manifest)] {
        let mut file = fs::File::create(folder.join(name))?;
        file.write_all(bytes)?;
        file.sync_all()?;
    }
    Ok(())
}

/// Reads the files of an imported folder; `None` where one is missing or is no plain file.
///
/// # Errors
/// Where the system refuses.
pub fn read(folder: &Path) -> io::Result<Option<Content>> {
    let file = |name: &str| -> io::Result<Option<Vec<u8>>> {
        let path = folder.join(name);
        match fs::symlink_metadata(&path) {
            Ok(kind) if kind.is_file() => fs::read(&path).map(Some),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    };
    let (Some(code), Some(requirements), Some(manifest)) = (file(CODE)?, file(REQUIREMENTS)?, file(MANIFEST)?) else {
        return Ok(None);
    };
    Ok(Some(Content { code, requirements, manifest }))
}

/// Compares a folder with what it is to be.
///
/// # Errors
/// Where it cannot be read.
pub fn compare(folder: &Path, wanted: &Content) -> io::Result<There> {
    match fs::symlink_metadata(folder) {
        Ok(kind) if kind.is_dir() => {}
        Ok(_) => return Ok(There::Other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(There::Nothing),
        Err(error) => return Err(error),
    }
    let mut extra = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_ours = [CODE, REQUIREMENTS, MANIFEST].contains(&name.as_str());
        if !is_ours && name != "__pycache__" {
            extra.push(name);
        }
    }
    extra.sort();
    Ok(match read(folder)? {
        Some(there) if extra.is_empty() && there == *wanted => There::Same,
        Some(there) if extra.is_empty() && there.is_as_imported() => There::Imported,
        _ => There::Edited(extra),
    })
}

/// A folder of drafts, gone when it is dropped. One import at a time has it.
#[derive(Debug)]
pub struct Drafts {
    root: PathBuf,
    _lock: fs::File,
}

impl Drafts {
    /// Makes an empty one below the state folder of an installation.
    ///
    /// # Errors
    /// Where it cannot be made, or another import has it.
    pub fn new(state: &Path) -> io::Result<Self> {
        let lock = fs::OpenOptions::new().create(true).append(true).open(state.join("import.lock"))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| io::Error::other("another import is at work; wait for its end"))?;
        let root = state.join("import");
        match fs::remove_dir_all(&root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(root.join("apis"))?;
        Ok(Self { root, _lock: lock })
    }

    /// Laid out as the root of a tree.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of one draft.
    #[must_use]
    pub fn folder(&self, id: &str) -> PathBuf {
        self.root.join("apis").join(id)
    }
}

impl Drop for Drafts {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}
