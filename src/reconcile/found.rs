//! A finding of drift is one sentence on what the world was found to be, where that is not what skep last made of it.
//!
//! Written down as an event before it is put right, so that whoever asks later learns what happened, and not only that
//! something was done.

use super::desired::Desired;
use super::step::{Action, Step};
use crate::world::{Observed, Run};

/// The event of something that somebody's hand, or bad luck, has changed.
pub const FOUND: &str = "found";

/// What is found where a row that was there is not there any more.
pub const ROW_GONE: &str = "its row in the records is gone";

/// What a step puts right, in words; `None` where it is on its way to what the tree newly says.
///
/// `is_expected` says that this process itself made the gap, as it does when it replaces an instance: then what was wrong
/// has been said.
#[must_use]
pub fn found(step: &Step, desired: &Desired, observed: &Observed, is_expected: bool) -> Option<String> {
    let served = observed.record.as_ref().and_then(|record| record.served.as_ref());
    let served = served.filter(|served| !served.spec.suspend);
    match &step.action {
        Action::RestoreRecord { .. } => Some(step.reason.clone()),
        Action::Repair { instance, .. } => Some(format!("{instance}: {}", step.reason)),
        Action::Remove { instance, container, trouble } => {
            // One whose removal had begun was ended by skep itself.
            let found = observed.instances.iter().find(|i| i.container == *container && !i.leaving);
            let run = found.map(|i| &i.run);
            let is_ended = matches!(run, Some(Run::Exited { .. } | Run::Paused | Run::Running { address: None, .. }));
            (trouble.is_some() || is_ended).then(|| format!("{instance}: {}", step.reason))
        }
        Action::Start { revision, number } => {
            let is_lost = served.is_some_and(|s| s.revision == *revision && *number <= s.spec.replicas);
            (is_lost && !is_expected).then(|| step.reason.clone())
        }
        Action::Install { image } | Action::Build { image } => {
            let served = desired.served.as_ref().filter(|served| !served.spec.suspend)?;
            let is_lost = served.images.code == *image || served.images.dependencies == *image;
            is_lost.then(|| format!("image {image} is gone"))
        }
        _ => None,
    }
}
