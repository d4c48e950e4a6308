//! Desired is what should be of one API, and on whose word.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use crate::engine::Images;
use crate::tree::preview::as_strict;
use crate::tree::{Api, ApiId, Digest, Files, Folder, Requirements, Revision, Sealed, Severity, Spec};
use crate::world::{Record, Served};

/// What should be of one API, and on whose word.
#[derive(Debug, Clone)]
pub struct Desired {
    /// Which API.
    pub id: ApiId,
    /// What should be.
    pub goal: Goal,
    /// Why that, where it is not simply what the tree says.
    pub basis: Basis,
    /// What served last: what to fall back to while the goal cannot be reached.
    pub served: Option<Arc<Target>>,
    /// Why the hold that the records have is over, where one is.
    pub spent_hold: Option<&'static str>,
}

/// What all goals stand on.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// The base image.
    pub base: &'a Digest,
    /// This installation.
    pub owner: &'a str,
    /// When this is asked: a hold may be over by then.
    pub at: Timestamp,
}

/// What should be of one API.
#[derive(Debug, Clone)]
pub enum Goal {
    /// It serves this.
    Run(Arc<Target>),
    /// It is kept, and runs nothing.
    Suspend(Arc<Target>),
    /// It is gone.
    Remove,
    /// It stays as it is, whatever that is: nothing is known that could be run instead.
    Leave,
}

/// On whose word a goal stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Basis {
    /// The tree says so.
    Tree,
    /// The folder is broken, so what served last goes on; the first error.
    Broken(String),
    /// The tree could not be read, so what served last goes on.
    Unreadable(String),
    /// The folder is gone, and so are too many others: the removal waits for a word.
    RemovalHeld(String),
    /// The folder is gone, and the API goes once another one serves that is new: as after a rename.
    RemovalWaits(String),
    /// Somebody asked for it to be left as it is, and its folder says something else.
    Held(String),
    /// The same, and it is what its folder says.
    HeldAsFolder(String),
    /// Not known yet, for this reason: before it is, callers get what the records say, and nothing else is done.
    Undecided(&'static str),
    /// Another daemon reconciles; this one serves what the records say is in force.
    Following,
}

/// One revision of one API, with all that is needed to make and run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Which one.
    pub revision: Revision,
    /// The base image that it stands on.
    pub base: Digest,
    /// What its images are called.
    pub images: Images,
    /// Its settings.
    pub spec: Spec,
    /// What is installed.
    pub requirements: Requirements,
    /// What is in the image.
    pub files: Files,
    /// What the app is given and nobody may read.
    pub secrets: Option<Sealed>,
    /// Where the files' bytes are; `None` where only the records have them.
    pub folder: Option<PathBuf>,
}

impl Target {
    /// What a folder of the tree asks for, on that base image.
    #[must_use]
    pub fn of_api(api: &Api, base: &Digest, owner: &str) -> Self {
        Self {
            revision: api.revision(base),
            base: *base,
            images: Images::name(owner, &api.id, base, &api.requirements, &api.files),
            spec: api.spec.clone(),
            requirements: api.requirements.clone(),
            files: api.files.clone(),
            secrets: api.secrets.clone(),
            folder: Some(api.folder.clone()),
        }
    }

    /// What served before, as the records have it.
    #[must_use]
    pub fn of_served(id: &ApiId, served: &Served, owner: &str) -> Self {
        Self {
            revision: served.revision.clone(),
            base: served.base,
            images: Images::name(owner, id, &served.base, &served.requirements, &served.files),
            spec: served.spec.clone(),
            requirements: served.requirements.clone(),
            files: served.files.clone(),
            secrets: served.secrets.clone(),
            folder: None,
        }
    }
}

impl Target {
    /// Whether it is what a folder asks for, on whichever base image.
    #[must_use]
    pub fn is_of(&self, api: &Api) -> bool {
        api.revision(&self.base) == self.revision && api.spec == self.spec
    }

    /// As the records keep it once it serves.
    #[must_use]
    pub fn served(&self, since: Timestamp) -> Served {
        Served {
            revision: self.revision.clone(),
            base: self.base,
            spec: self.spec.clone(),
            requirements: self.requirements.clone(),
            files: self.files.clone(),
            secrets: self.secrets.clone(),
            since,
            origin: None,
        }
    }
}

impl Desired {
    /// What should be of an API, from its folder (`None` where it has none) and from its record.
    #[must_use]
    pub fn of(id: &ApiId, folder: Option<&Folder>, record: Option<&Record>, ground: &Ground<'_>) -> Self {
        let content = match folder {
            Some(Folder::Sound(api)) => Some(api.content()),
            _ => None,
        };
        let hold = record.and_then(|record| record.hold.as_ref());
        let over = hold.and_then(|hold| hold.is_over(content.as_ref(), ground.at));
        let goal = match folder {
            Some(Folder::Sound(api)) => {
                if let Some(hold) = hold.filter(|_| over.is_none()) {
                    let kept = Self::keep(id, record, ground.owner, Basis::Held(hold.describe()));
                    let is_as_folder = kept.target().is_some_and(|target| target.is_of(api));
                    return if is_as_folder {
                        Self { basis: Basis::HeldAsFolder(hold.describe()), ..kept }
                    } else {
                        kept
                    };
                }
                let target = Arc::new(Target::of_api(api, ground.base, ground.owner));
                if target.spec.suspend { Goal::Suspend(target) } else { Goal::Run(target) }
            }
            Some(Folder::Broken(broken)) => {
                let first = broken.findings.iter().find(|finding| finding.severity == Severity::Error);
                let first = first.map_or_else(|| "its folder is broken".to_owned(), ToString::to_string);
                return Self::keep(id, record, ground.owner, Basis::Broken(first));
            }
            None => Goal::Remove,
        };
        let served = served_target(id, record, ground.owner);
        Self { id: id.clone(), goal, basis: Basis::Tree, served, spent_hold: over }
    }

    /// That an API stays as it was last made, or as somebody asked for it to be held, for the reason given.
    #[must_use]
    pub fn keep(id: &ApiId, record: Option<&Record>, owner: &str, basis: Basis) -> Self {
        let served = served_target(id, record, owner);
        let held = record.and_then(|record| record.hold.as_ref()?.serve.as_deref());
        let held = held.map(|held| Arc::new(Target::of_served(id, held, owner)));
        let goal = match held.or(served.clone()) {
            Some(target) if target.spec.suspend => Goal::Suspend(target),
            Some(target) => Goal::Run(target),
            None => Goal::Leave,
        };
        Self { id: id.clone(), goal, basis, served, spent_hold: None }
    }

    /// Of a preview: that nobody may call it who may not call what it is of.
    #[must_use]
    pub fn as_strict_as(mut self, production: &Spec) -> Self {
        let goal = match &mut self.goal {
            Goal::Run(target) | Goal::Suspend(target) => Some(target),
            Goal::Remove | Goal::Leave => None,
        };
        for target in goal.into_iter().chain(&mut self.served) {
            as_strict(&mut Arc::make_mut(target).spec, production);
        }
        self
    }

    /// Of the goal and what served last, the one with that revision.
    #[must_use]
    pub fn target_of(&self, revision: &Revision) -> Option<&Arc<Target>> {
        self.target().into_iter().chain(&self.served).find(|target| target.revision == *revision)
    }

    /// What should run, or would if it were not suspended.
    #[must_use]
    pub fn target(&self) -> Option<&Arc<Target>> {
        match &self.goal {
            Goal::Run(target) | Goal::Suspend(target) => Some(target),
            Goal::Remove | Goal::Leave => None,
        }
    }
}

fn served_target(id: &ApiId, record: Option<&Record>, owner: &str) -> Option<Arc<Target>> {
    let served = record.and_then(|record| record.served.as_ref())?;
    Some(Arc::new(Target::of_served(id, served, owner)))
}
