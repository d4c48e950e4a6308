//! A reader lays the previews of this host over a tree: what strangers wrote, by what holds for previews.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Previews;
use crate::report::with_causes;
use crate::settings::{PreviewSettings, Settings};
use crate::tree::preview::previewed;
use crate::tree::{ApiId, Broken, Diagnostic, Folder, Preview, Scanner, Tree, diagnostic::code};

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
    /// A reader of an installation's previews, beside one of its tree, whose threads it shares.
    #[must_use]
    pub fn new(settings: &Settings, beside: &Scanner) -> Self {
        Self {
            previews: Previews::of(settings),
            scanner: beside.of_previews(&within(settings)),
            settings: settings.previews.clone(),
            last: BTreeMap::new(),
        }
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
            Folder::Sound(api) => match tree.folders.get(&preview.of) {
                // How strict it is to be, nobody can say now. What serves stays as strict as it is.
                Some(Folder::Broken(_)) => Folder::Broken(Arc::new(of_broken(&id, &preview.of))),
                Some(Folder::Sound(production)) => {
                    Folder::Sound(Arc::new(previewed(api, Some(&production.spec), &preview, settings)))
                }
                None => Folder::Sound(Arc::new(previewed(api, None, &preview, settings))),
            },
            broken @ Folder::Broken(_) => broken.clone(),
        };
        folders.insert(id.clone(), folder);
        previews.insert(id, preview);
    }
    (folders, previews)
}

/// A preview of an API whose folder is broken.
fn of_broken(id: &ApiId, of: &ApiId) -> Broken {
    let message = format!("the folder of {of}, which it is a preview of, is broken, so who may call it is not known");
    let hint = format!("mend {of} first; what is previewed already goes on as it is");
    Broken { id: id.clone(), findings: vec![Diagnostic::error(code::PREVIEW_OF_BROKEN, id.as_str(), message, hint)] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Api, PullRequest, Requirements, Spec};

    #[test]
    fn a_preview_of_what_is_broken_is_broken_as_well() {
        let (of, number) = (ApiId::new("a").unwrap(), PullRequest::new(7).unwrap());
        let id = of.previewed(number).unwrap();
        let sound = |id: &ApiId| {
            Folder::Sound(Arc::new(Api {
                id: id.clone(),
                spec: Spec::built_in(id.as_str()),
                requirements: Requirements::base(),
                files: BTreeMap::new(),
                secrets: None,
                folder: "/nowhere".into(),
                findings: Vec::new(),
            }))
        };
        let preview = Preview {
            of: of.clone(),
            pull_request: number,
            commit: "c".repeat(40),
            source: None,
            updated: jiff::Timestamp::UNIX_EPOCH,
        };
        let tree = |folder: Option<(ApiId, Folder)>| Tree { folders: folder.into_iter().collect(), ..Tree::default() };
        let read = tree(Some((id.clone(), sound(&id))));
        let laid = |production: Option<Folder>| {
            let tree = tree(production.map(|folder| (of.clone(), folder)));
            let noted = vec![(id.clone(), preview.clone())];
            overlaid(&tree, &read, noted, &PreviewSettings::default()).0.remove(&id).unwrap()
        };
        assert!(matches!(laid(Some(sound(&of))), Folder::Sound(_)));
        assert!(matches!(laid(None), Folder::Sound(_)));
        let broken = Broken { id: of.clone(), findings: Vec::new() };
        let folder = laid(Some(Folder::Broken(Arc::new(broken))));
        assert!(matches!(&folder, Folder::Broken(_)) && folder.findings()[0].is_error());
    }
}
