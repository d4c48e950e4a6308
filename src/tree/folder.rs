//! A folder is what one directory below `apis/` holds, listed and read without following anything out of it.
//!
//! Every file is opened by its name relative to an open directory, with `O_NOFOLLOW` and `O_NONBLOCK`, and its type
//! is taken from the open descriptor. So neither a symbolic link nor a FIFO can be slipped in between look and read.

mod listing;
mod open;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::io::Errno;

pub(super) use listing::Listing;
use listing::Stamp;
pub use listing::is_ignored;
pub(super) use open::{OpenError, open_directory, read_again, read_file, read_small};

use super::api::{Api, Broken, File, Files};
use super::diagnostic::{Diagnostic, code};
use super::id::ApiId;
use super::lock::{self, Lock};
use super::python::{self, Bindings};
use super::requirements::{Requirements, Written};
use super::revision::Digest;
use super::sealed::{self, Sealed};
use super::settle;
use super::source::Source;
use super::spec::Spec;
use super::{Folder, suggest};
use crate::settings::Policy;

/// What the reading of a folder needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    /// What holds where `api.yaml` says nothing; its name is the id's.
    pub defaults: Spec,
    pub policy: Policy,
}

/// Why a folder has no value at the moment.
#[derive(Debug)]
pub(super) enum NoFolder {
    /// It changed while it was being read.
    Unsettled,
    /// The system is out of something; this says nothing about the folder.
    System(Errno),
}

// The files that say things about the API rather than being part of it.

/// Its settings.
pub const MANIFEST: &str = "api.yaml";
pub(super) const REQUIREMENTS: &str = "requirements.txt";

/// Reads and checks the files of a listing.
pub(super) fn read(
    id: &ApiId,
    path: &str,
    location: &Path,
    directory: &OwnedFd,
    listing: &Listing,
    rules: &Rules,
) -> Result<Folder, NoFolder> {
    let mut reader = Reader { path, findings: listing.findings.clone(), files: Files::new(), modules: BTreeMap::new() };
    let mut spec = Spec { name: id.to_string(), ..rules.defaults.clone() };
    let mut requirements = Requirements::base();
    let (mut manifest, mut asked, mut locked) = (None, None, None);
    let mut secrets = None;
    // A folder past its limits is not read: the limits are there to bound that work.
    if !reader.findings.iter().any(|finding| finding.code == code::FOLDER_TOO_BIG) {
        for (name, stamp) in listing.files() {
            let Some(bytes) = reader.bytes(directory, name, stamp)? else { continue };
            match name {
                MANIFEST => manifest = reader.text(name, bytes),
                REQUIREMENTS => asked = reader.text(name, bytes),
                lock::FILE => locked = reader.text(name, bytes),
                sealed::FILE => {
                    // No text where it is none: an excerpt could be of secrets that somebody forgot to encrypt.
                    let text = String::from_utf8_lossy(&bytes);
                    secrets = Sealed::read(&format!("{path}/{name}"), &text, &mut reader.findings);
                }
                _ => reader.file(name, bytes),
            }
        }
        requirements = reader.requirements(asked.as_deref().unwrap_or_default(), locked.as_deref());
        let full = format!("{path}/{MANIFEST}");
        let text = manifest.as_deref().unwrap_or_default();
        let before = reader.findings.len();
        spec = settle::read_manifest(&spec, Source::new(&full, text), &mut reader.findings);
        let app_is_known = !reader.findings[before..].iter().any(|finding| finding.code != code::UNKNOWN_KEY);
        if app_is_known {
            reader.application(&spec.app, manifest.is_some());
        }
    }
    let Reader { mut findings, files, .. } = reader;
    findings.sort_by(|a, b| {
        let place = |finding: &Diagnostic| finding.span.map(|span| (span.line, span.column));
        (&a.path, place(a)).cmp(&(&b.path, place(b)))
    });
    if findings.iter().any(Diagnostic::is_error) {
        return Ok(Folder::Broken(Arc::new(Broken { id: id.clone(), findings })));
    }
    let folder = location.to_owned();
    Ok(Folder::Sound(Arc::new(Api { id: id.clone(), spec, requirements, files, secrets, folder, findings })))
}

struct Reader<'a> {
    path: &'a str,
    findings: Vec<Diagnostic>,
    files: Files,
    /// What each module that parses binds, by its path; `None` where it does not parse.
    modules: BTreeMap<String, (Option<Bindings>, String)>,
}

impl Reader<'_> {
    /// The bytes of one file, `None` where the reason is among the findings.
    fn bytes(&mut self, directory: &OwnedFd, name: &str, stamp: &Stamp) -> Result<Option<Vec<u8>>, NoFolder> {
        match read_file(directory, name, stamp) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(OpenError::Changed) => Err(NoFolder::Unsettled),
            Err(OpenError::System(errno)) => Err(NoFolder::System(errno)),
            Err(OpenError::Refused(errno)) => {
                let path = format!("{}/{name}", self.path);
                let hint = "the user that runs skep must be able to read it";
                self.findings.push(Diagnostic::error(code::UNREADABLE, path, refusal(errno), hint));
                Ok(None)
            }
        }
    }

    fn text(&mut self, name: &str, bytes: Vec<u8>) -> Option<String> {
        let path = format!("{}/{name}", self.path);
        match String::from_utf8(bytes) {
            Ok(text) => Some(text),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let sound = String::from_utf8_lossy(&error.as_bytes()[..at]).into_owned();
                let message = "a byte here is not UTF-8";
                let hint = "save the file as UTF-8";
                self.findings.push(Source::new(&path, &sound).error(code::NOT_TEXT, at..at, message, hint));
                None
            }
        }
    }

    /// What is installed: what the lock says, where there is one, else what is asked for.
    fn requirements(&mut self, asked: &str, locked: Option<&str>) -> Requirements {
        let paths = [REQUIREMENTS, lock::FILE].map(|name| format!("{}/{name}", self.path));
        let earlier = self.findings.len();
        let asked = Source::new(&paths[0], asked);
        let written = Written::read(asked, &mut self.findings);
        let Some(locked) = locked else { return written.requirements() };
        let locked = Source::new(&paths[1], locked);
        let lock = Lock::read(locked, &mut self.findings);
        if self.findings.len() == earlier {
            lock::agree(&written, asked, &lock, locked, &mut self.findings);
        }
        lock.requirements()
    }

    /// Takes in a file that goes into the image.
    fn file(&mut self, name: &str, bytes: Vec<u8>) {
        self.files.insert(name.to_owned(), File { digest: Digest::of(&bytes), len: bytes.len() as u64 });
        let extension = Path::new(name).extension();
        if extension.is_some_and(|extension| extension == "py") {
            let module = match self.text(name, bytes) {
                Some(text) => {
                    let path = format!("{}/{name}", self.path);
                    let bindings = python::check(Source::new(&path, &text), &mut self.findings);
                    (bindings, text.split_inclusive('\n').next().unwrap_or_default().to_owned())
                }
                None => (None, String::new()),
            };
            self.modules.insert(name.to_owned(), module);
        } else if extension.is_some_and(|extension| extension == "so") {
            // A compiled module; what it binds, nobody can read.
            let stem = name.rsplit_once('/').map_or(0, |(folder, _)| folder.len() + 1);
            let end = name[stem..].find('.').map_or(name.len(), |dot| stem + dot);
            self.modules.entry(format!("{}.py", &name[..end])).or_insert((None, String::new()));
        }
    }

    /// Checks that the ASGI object is there.
    fn application(&mut self, app: &str, has_manifest: bool) {
        let Some((module, attribute)) = app.split_once(':') else { return };
        let stem = module.replace('.', "/");
        let candidates = [format!("{stem}/__init__.py"), format!("{stem}.py")];
        let Some(file) = candidates.iter().find(|name| self.modules.contains_key(*name)) else {
            self.module_is_missing(module, &candidates[1], has_manifest);
            return;
        };
        let (Some(bindings), first_line) = &self.modules[file] else { return };
        let name = attribute.split('.').next().unwrap_or(attribute);
        if bindings.has(name) {
            return;
        }
        let path = format!("{}/{file}", self.path);
        let hint = match bindings.application() {
            Some((other, class)) => {
                format!("`{other} = {class}(…)` stands there: rename it, or set `app: {module}:{other}` in api.yaml")
            }
            None => match suggest::nearest(name, bindings.names()) {
                Some(near) => format!("did you mean `{module}:{near}`? set it as `app` in api.yaml"),
                None => format!("write `{name} = FastAPI()`, or set `app` in api.yaml to the object that is there"),
            },
        };
        let message = format!("the module gives no value to `{name}`, which the API serves as `{app}`");
        let end = first_line.trim_end().len();
        let finding = Source::new(&path, first_line).error(code::APP_OBJECT_MISSING, 0..end, message, hint);
        self.findings.push(finding);
    }

    fn module_is_missing(&mut self, module: &str, file: &str, has_manifest: bool) {
        let other = self.modules.iter().find_map(|(name, (bindings, _))| {
            let (object, _) = bindings.as_ref()?.application()?;
            let name = name.strip_suffix("/__init__.py").or_else(|| name.strip_suffix(".py"))?;
            Some(format!("{}:{object}", name.replace('/', ".")))
        });
        let hint = match other {
            Some(app) if has_manifest => format!("did you mean `app: {app}` in api.yaml?"),
            Some(app) => format!("add an api.yaml that says `app: {app}`"),
            None if self.files.is_empty() && !has_manifest => {
                format!(
                    "write {file}, or remove the folder, hidden files and caches in it included, which are none of the API's"
                )
            }
            None => format!("write {file}, or set `app` in api.yaml to the module that is there"),
        };
        let message = format!("there is no {file} for the module `{module}`");
        self.findings.push(Diagnostic::error(code::APP_MODULE_MISSING, self.path, message, hint));
    }
}

/// What to say where the system refuses.
pub(super) fn refusal(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text).to_lowercase();
    format!("cannot be read: {text}")
}
