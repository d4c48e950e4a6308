//! The origin of what serves: which commit, who asked for it and why; kept with each revision, for its history.

use super::desired::{Desired, Target};
use super::step::Step;
use super::turn::World;
use crate::git::commit::Last;
use crate::tree::{Api, Sealed, copy};
use crate::world::record::SETTINGS;
use crate::world::{Observed, Origin, Served};

impl World {
    /// How a target comes to serve by this step.
    pub(super) async fn origin(&self, target: &Target, desired: &Desired, observed: &Observed, step: &Step) -> Origin {
        let record = observed.record.as_ref();
        let served = record.and_then(|record| record.served.as_ref());
        let held = record.and_then(|record| record.hold.as_ref());
        let held = held.filter(|hold| hold.serve.as_ref().is_some_and(|serve| serve.revision == target.revision));
        // One that served before comes back with what was known of it then.
        let back = held.and_then(|hold| hold.serve.as_ref()).and_then(|served| known(served));
        let same = served.filter(|served| is_same_content(served, target));
        let last = match back {
            Some(last) => Some(last),
            None => self.last(target, desired, same.and_then(known)).await,
        };
        let is_of_settings = same.is_some_and(|served| served.spec != target.spec && known(served) == last);
        let (by, why) = match held {
            Some(hold) if hold.why.is_empty() => (Some(hold.by.clone()), "gone back to".to_owned()),
            Some(hold) => (Some(hold.by.clone()), format!("gone back to: {}", hold.why)),
            None if served.is_none() => (None, "the first of this API that serves".to_owned()),
            None if is_of_settings => (None, SETTINGS.to_owned()),
            None => (None, "the tree says so".to_owned()),
        };
        let (commit, as_of) = match last {
            Some(Last::Commit(commit)) => (Some(commit), None),
            Some(Last::AsOf(commit)) => (None, Some(commit)),
            None => (None, None),
        };
        Origin { commit, as_of, by, why, step: step.reason.clone() }
    }

    /// The commit that a target's folder is, or else the one that is known of what is the same; nothing waits long for this, and
    /// nothing fails by it.
    async fn last(&self, target: &Target, desired: &Desired, kept: Option<Last>) -> Option<Last> {
        let (Some(folder), Some(commits)) = (&target.folder, &self.commits) else { return kept };
        let is_preview = desired.id.is_preview();
        let is_it = |copy: &std::path::Path| {
            // Where its `api.yaml` says nothing, it says the same as what the target has, whatever holds for all.
            copy::read(copy, &target.spec, &commits.policy).is_some_and(|api| is_of(&api, target, is_preview))
        };
        match commits.of_which(folder, is_it).await {
            Ok(Some(Last::AsOf(commit))) => Some(kept.unwrap_or(Last::AsOf(commit))),
            Ok(last) => last,
            Err(error) => {
                tracing::debug!(api = %desired.id, "its commit is not known: {error}");
                kept
            }
        }
    }
}

/// Which commit something that has served was of.
fn known(served: &Served) -> Option<Last> {
    let origin = served.origin.as_ref()?;
    origin.commit.clone().map(Last::Commit).or_else(|| origin.as_of.clone().map(Last::AsOf))
}

fn is_same_content(served: &Served, target: &Target) -> bool {
    let secrets = (digest(served.secrets.as_ref()), digest(target.secrets.as_ref()));
    served.files == target.files && served.requirements == target.requirements && secrets.0 == secrets.1
}

/// Whether a folder is the one that a target was made of. Of a preview, settings and secrets are others than its folder says.
fn is_of(api: &Api, target: &Target, is_preview: bool) -> bool {
    let is_set = || api.spec == target.spec && digest(api.secrets.as_ref()) == digest(target.secrets.as_ref());
    api.files == target.files && api.requirements == target.requirements && (is_preview || is_set())
}

fn digest(secrets: Option<&Sealed>) -> Option<crate::tree::Digest> {
    secrets.map(Sealed::digest)
}
