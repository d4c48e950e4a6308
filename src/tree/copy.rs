//! A copy is an API folder that lies elsewhere than in the tree, as a commit has it.

use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, openat};

use super::Folder;
use super::api::Api;
use super::folder::{self, Listing, Rules};
use super::id::ApiId;
use super::spec::Spec;
use crate::settings::Policy;

/// The API that a folder makes, with those settings where its `api.yaml` says nothing; `None` where it makes none.
#[must_use]
pub fn read(folder: &Path, defaults: &Spec, policy: &Policy) -> Option<Arc<Api>> {
    let name = folder.file_name()?.to_str()?;
    let id = ApiId::new(name).ok()?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(CWD, folder, flags, Mode::empty()).ok()?;
    let rules = Rules { defaults: defaults.clone(), policy: policy.clone() };
    let listing = Listing::of(&directory, name, policy).ok()?;
    match folder::read(&id, name, folder, &directory, &listing, &rules) {
        Ok(Folder::Sound(api)) => Some(api),
        _ => None,
    }
}
