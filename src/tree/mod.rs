//! The tree is what should be: every API folder, read whole at one moment.
//!
//! Nothing in this module does I/O beyond reading the tree that it is handed. Only [`scan`], to know which file times
//! it may trust, and [`watch`], to know when a folder has come to rest, look at a clock.

pub mod api;
pub mod copy;
pub mod cors;
pub mod diagnostic;
pub mod folder;
pub mod hosts;
pub mod id;
pub mod lock;
pub mod manifest;
mod networks;
pub mod preview;
pub mod python;
pub mod quantity;
pub mod requirements;
pub mod revision;
pub mod scan;
pub mod sealed;
pub mod settle;
pub mod source;
pub mod spec;
pub mod suggest;
pub mod terms;
pub mod variables;
pub mod versions;
pub mod watch;
pub mod yaml;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use api::{Api, Broken, File, Files};
pub use cors::{Cors, Origin};
pub use diagnostic::{Diagnostic, Severity};
pub use id::{ApiId, PullRequest};
pub use preview::Preview;
pub use quantity::{Cpu, Seconds, Size};
pub use requirements::{Requirement, Requirements};
pub use revision::{Digest, Revision};
pub use scan::{Look, Scanner, TreeError};
pub use sealed::Sealed;
pub use spec::{Auth, Egress, Health, Probe, RateLimit, Resources, RouteSettings, SecretsAs, Spec};
pub use terms::{KeyMethod, KeyPath, KeyTerms};
pub use versions::Versions;

/// All API folders as they stood at one moment.
///
/// A folder that cannot be served is in here too, as [`Folder::Broken`]: it must not vanish, since an API that is
/// not in the tree is an API that somebody asked to remove.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// Every folder below `apis/`, by id.
    pub folders: BTreeMap<ApiId, Folder>,
    /// Findings that belong to no API: a folder whose name is no id, a stray file, `skep.yaml` itself.
    pub findings: Vec<Diagnostic>,
    /// Which of the folders are previews, which no commit of the tree itself has.
    pub previews: BTreeMap<ApiId, Preview>,
    /// Why the previews could not be read, where they could not; those that there are then stay.
    pub without_previews: Option<String>,
}

/// One folder below `apis/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Folder {
    /// It can be served. Warnings, if any, are in [`Api::findings`].
    Sound(Arc<Api>),
    /// It cannot; what already serves goes on serving.
    Broken(Arc<Broken>),
}

impl Folder {
    /// The findings of this folder, errors and warnings.
    #[must_use]
    pub fn findings(&self) -> &[Diagnostic] {
        match self {
            Self::Sound(api) => &api.findings,
            Self::Broken(broken) => &broken.findings,
        }
    }
}

impl Tree {
    /// The API of that id, where its folder is there and sound.
    #[must_use]
    pub fn sound(&self, id: &ApiId) -> Option<&Arc<Api>> {
        match self.folders.get(id) {
            Some(Folder::Sound(api)) => Some(api),
            _ => None,
        }
    }

    /// The first error of `skep.yaml`, where it has any; what it said before goes on then.
    #[must_use]
    pub fn broken_settings(&self) -> Option<&Diagnostic> {
        self.findings.iter().find(|finding| finding.is_error() && finding.path == crate::settings::FILE)
    }

    /// All findings, those of the tree first, then folder by folder in order of id. Those of previews are not the tree's.
    pub fn all_findings(&self) -> impl Iterator<Item = &Diagnostic> {
        let own = self.folders.iter().filter(|(id, _)| !self.previews.contains_key(*id));
        self.findings.iter().chain(own.flat_map(|(_, folder)| folder.findings()))
    }
}
