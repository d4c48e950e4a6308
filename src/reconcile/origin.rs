//! The origin of what serves: which commit, who asked for it and why; kept with each revision, for its history.

use super::desired::{Desired, Target};
use super::step::Step;
use super::turn::World;
use crate::git::Commit;
use crate::world::{Observed, Origin};

impl World {
    /// How a target comes to serve by this step.
    pub(super) async fn origin(&self, target: &Target, desired: &Desired, observed: &Observed, step: &Step) -> Origin {
        let record = observed.record.as_ref();
        let held = record.and_then(|record| record.hold.as_ref());
        let held = held.filter(|hold| hold.serve.as_ref().is_some_and(|serve| serve.revision == target.revision));
        // One that served before comes back with what was known of it then.
        let before = held.and_then(|hold| hold.serve.as_ref()?.origin.as_ref()?.commit.clone());
        let served = record.and_then(|record| record.served.as_ref());
        let (by, why) = match held {
            Some(hold) if hold.why.is_empty() => (Some(hold.by.clone()), "gone back to".to_owned()),
            Some(hold) => (Some(hold.by.clone()), format!("gone back to: {}", hold.why)),
            None if served.is_none() => (None, "the first of this API that serves".to_owned()),
            None => (None, "the tree says so".to_owned()),
        };
        let commit = if before.is_some() { before } else { self.commit(target, desired).await };
        Origin { commit, by, why, step: step.reason.clone() }
    }

    /// The commit that a target's folder is; nothing waits long for this, and nothing fails by it.
    async fn commit(&self, target: &Target, desired: &Desired) -> Option<Commit> {
        let (folder, commits) = (target.folder.as_ref()?, self.commits.as_ref()?);
        match commits.of(folder).await {
            Ok(commit) => commit,
            Err(error) => {
                tracing::debug!(api = %desired.id, "its commit is not known: {error}");
                None
            }
        }
    }
}
