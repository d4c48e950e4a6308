//! A reader lays the previews of this host over a tree: what strangers wrote, by what holds for previews.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Previews;
use crate::report::with_causes;
use crate::settings::{PreviewSettings, Settings};
use crate::tree::preview::previewed;
use crate::tree::{ApiId, Folder, Preview, Scanner, Tree, TreeError};

/// Reads previews, and lays them over trees.
#[derive(Debug)]
pub struct Reader {
    previews: Previews,
    scanner: Scanner,
    settings: Option<PreviewSettings>,
    /// As they were last laid over a tree.
    last: BTreeMap<ApiId, Folder>,
}

/// A tree with previews.
#[derive(Debug)]
pub struct Laid {
    /// The tree.
    pub tree: Arc<Tree>,
    /// Previews that are new, gone or others than before.
    pub changed: BTreeSet<ApiId>,
    /// Previews that were changing while they were read.
    pub unsettled: BTreeSet<ApiId>,
}

impl Reader {
    /// A reader of an installation's previews.
    ///
    /// # Errors
    /// Where no threads can be had to read with.
    pub fn new(settings: &Settings) -> Result<Self, TreeError> {
        let scanner = Scanner::new(&within(settings))?.of_previews();
        Ok(Self {
            previews: Previews::of(settings),
            scanner,
            settings: settings.previews.clone(),
            last: BTreeMap::new(),
        })
    }

    /// See [`Scanner::with_quiet`].
    #[must_use]
    pub fn with_quiet(self, quiet: Duration) -> Self {
        Self { scanner: self.scanner.with_quiet(quiet), ..self }
    }

    /// Goes on with other settings.
    pub fn set(&mut self, settings: &Settings) {
        self.scanner.set(&within(settings));
        self.settings.clone_from(&settings.previews);
    }

    /// Lays the previews that there are over a tree. Where none are served, the tree is as it was.
    pub fn lay_over(&mut self, tree: &Arc<Tree>) -> Laid {
        let read = match &self.settings {
            Some(settings) => self.previews.list().map_err(|error| with_causes(&error)).and_then(|noted| {
                if noted.is_empty() && self.last.is_empty() {
                    return Ok((BTreeMap::new(), BTreeMap::new(), BTreeSet::new()));
                }
                let look = self.scanner.read().map_err(|error| with_causes(&error))?;
                let (folders, noted) = overlaid(tree, &look.tree, noted, settings);
                Ok((folders, noted, look.unsettled))
            }),
            // Whoever takes the setting away wants none to be served.
            None => Ok((BTreeMap::new(), BTreeMap::new(), BTreeSet::new())),
        };
        let (folders, noted, unsettled) = match read {
            Ok(read) => read,
            Err(why) => {
                let tree = Tree { without_previews: Some(why), ..Tree::clone(tree) };
                return Laid { tree: Arc::new(tree), changed: BTreeSet::new(), unsettled: BTreeSet::new() };
            }
        };
        let ids: BTreeSet<&ApiId> = folders.keys().chain(self.last.keys()).collect();
        let changed = ids.into_iter().filter(|id| folders.get(*id) != self.last.get(*id)).cloned().collect();
        self.last.clone_from(&folders);
        if folders.is_empty() {
            return Laid { tree: Arc::clone(tree), changed, unsettled };
        }
        let mut laid = Tree::clone(tree);
        laid.folders.extend(folders);
        laid.previews = noted;
        Laid { tree: Arc::new(laid), changed, unsettled }
    }
}

/// The settings by which folders of previews are read: what is production's environment is not theirs.
fn within(settings: &Settings) -> Settings {
    let mut within = settings.clone();
    Previews::of(settings).folder().clone_into(&mut within.apis);
    within.root.clone_from(&settings.state);
    within.defaults.env = BTreeMap::new();
    within
}

/// The previews as they are to be served. What a folder of the tree itself is called no preview is.
fn overlaid(
    tree: &Tree,
    read: &Tree,
    noted: Vec<(ApiId, Preview)>,
    settings: &PreviewSettings,
) -> (BTreeMap<ApiId, Folder>, BTreeMap<ApiId, Preview>) {
    let (mut folders, mut previews) = (BTreeMap::new(), BTreeMap::new());
    for (id, preview) in noted {
        let Some(folder) = read.folders.get(&id).filter(|_| !tree.folders.contains_key(&id)) else { continue };
        let folder = match folder {
            Folder::Sound(api) => {
                let production = tree.sound(&preview.of).map(|api| &api.spec);
                Folder::Sound(Arc::new(previewed(api, production, &preview, settings)))
            }
            broken @ Folder::Broken(_) => broken.clone(),
        };
        folders.insert(id.clone(), folder);
        previews.insert(id, preview);
    }
    (folders, previews)
}
