//! A finding of drift is one sentence on what the world was found to be, where that is not what skep last made of it.
//!
//! Written down as an event before it is put right, so that whoever asks later learns what happened, and not only that
//! something was done.

use super::desired::Desired;
use super::step::{Action, Step};
use crate::world::{Observed, Record, Run};

/// The event of something that somebody's hand, or bad luck, has changed.
pub const FOUND: &str = "found";

/// What a step puts right, in words; `None` where it is on its way to what the tree newly says.
///
/// `is_expected` says that this process itself made the gap, as it does when it replaces an instance: then what was wrong
/// has been said.
#[must_use]
pub fn found(step: &Step, desired: &Desired, observed: &Observed, is_expected: bool) -> Option<String> {
    let served = observed.record.as_ref().and_then(|record| record.served.as_ref());
    let served = served.filter(|served| !served.spec.suspend);
    match &step.action {
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

/// Which columns of an API's row are others than skep last wrote or read.
#[must_use]
pub fn edited(known: &Record, now: Option<&Record>) -> Option<String> {
    let Some(now) = now else { return Some("its row in the records is gone".to_owned()) };
    let mut columns = Vec::new();
    let mut compare = |column: &str, is_same: bool| {
        if !is_same {
            columns.push(column.to_owned());
        }
    };
    compare("name", known.status.name == now.status.name);
    compare("sync", known.status.sync == now.status.sync);
    compare("health", known.status.health == now.status.health);
    compare("message", known.status.message == now.status.message);
    compare("served", known.served == now.served);
    compare("failures", known.failures == now.failures);
    (!columns.is_empty()).then(|| format!("somebody edited its row in the records: {}", columns.join(", ")))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::reconcile::status::{Health, Status, Sync};
    use crate::tree::ApiId;

    #[test]
    fn an_edited_row_is_named_by_its_columns() {
        let status =
            Status { name: "a".to_owned(), sync: Sync::Synced, health: Health::Healthy, message: String::new() };
        let known = Record::new(ApiId::new("a").unwrap(), status, Timestamp::UNIX_EPOCH);
        assert_eq!(edited(&known, Some(&known)), None);
        let mut other = known.clone();
        other.status.health = Health::Missing;
        other.status.name = "b".to_owned();
        assert_eq!(edited(&known, Some(&other)).unwrap(), "somebody edited its row in the records: name, health");
        assert_eq!(edited(&known, None).unwrap(), "its row in the records is gone");
    }
}
