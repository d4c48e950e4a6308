//! How an API stands: to a commit that changes it, and to people who want to know when something happens to it.

use jiff::Timestamp;

use super::commit::Standing;
use super::news::{Failing, View};
use crate::reconcile::Controller;
use crate::reconcile::controller::{Rest, Turns};
use crate::reconcile::status::{Health, Status, Sync};
use crate::tree::{ApiId, Digest, Folder, Revision};
use crate::world::record::SETTINGS;
use crate::world::{Failure, Record};

/// What the tree wants of an API.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// That it is not there.
    Nothing,
    /// This revision, with those settings.
    Revision(Revision, Digest),
    /// Its folder is broken.
    Broken,
    /// The tree cannot be read.
    Unknown,
}

/// How an API stands to a commit that changes it, once the tree has been looked at that the commit is in.
#[must_use]
pub fn standing(controller: &Controller, id: &ApiId, record: Option<&Record>) -> Standing {
    judge(&controller.turns(id), &wanted(controller, id), record)
}

/// How an API is, for people.
#[must_use]
pub fn view(controller: &Controller, id: &ApiId, record: Option<&Record>) -> View {
    let turns = controller.turns(id);
    let wanted = wanted(controller, id);
    let health = status(&turns, record).filter(|status| status.sync == Sync::Synced).map(|status| status.health);
    let served = record.and_then(|record| record.served.as_ref());
    let origin = served.and_then(|served| served.origin.as_ref());
    let because = origin.filter(|origin| origin.why == SETTINGS).map(|_| SETTINGS);
    View {
        name: record.map(|record| record.status.name.clone()).filter(|name| name != id.as_str()),
        is_well: matches!(health, Some(Health::Healthy | Health::Stopped)),
        is_suspended: health == Some(Health::Stopped),
        is_gone: record.is_none() && wanted == Wanted::Nothing,
        failed: failed(&turns, &wanted, record),
        revision: served.map(|served| served.revision.to_string()),
        since: served.map_or(Timestamp::MIN, |served| served.since),
        commit: origin.and_then(|origin| origin.commit.clone()).filter(|_| because.is_none()),
        because,
    }
}

/// What of it has failed, where something has and nobody is at work on that; by which commit is not known here.
fn failed(turns: &Turns, wanted: &Wanted, record: Option<&Record>) -> Option<Failing> {
    if matches!(turns, Turns::AtWork | Turns::Rest(Rest::Troubled(_))) || *wanted == Wanted::Unknown {
        return None;
    }
    let Standing::Failed(why) = judge(turns, wanted, record) else { return None };
    let key = match failure(wanted, record) {
        Some(failure) => failure.revision.to_string(),
        None => Digest::of(why.as_bytes()).to_string(),
    };
    // One that has no folder any more, or a broken one, has none.
    let revision = if let Wanted::Revision(revision, _) = wanted { Some(revision.to_string()) } else { None };
    Some(Failing { key, why, revision, commit: None })
}

fn wanted(controller: &Controller, id: &ApiId) -> Wanted {
    let (Ok(tree), Some(base)) = (controller.tree(), controller.base()) else { return Wanted::Unknown };
    match tree.folders.get(id) {
        None => Wanted::Nothing,
        Some(Folder::Sound(api)) => Wanted::Revision(api.revision(&base.digest), api.spec.digest()),
        Some(Folder::Broken(_)) => Wanted::Broken,
    }
}

/// How it is, where that is known.
fn status<'a>(turns: &'a Turns, record: Option<&'a Record>) -> Option<&'a Status> {
    match turns {
        Turns::Rest(Rest::Quiet(status)) => Some(status),
        // It has needed no turn, so that its row is true.
        Turns::None => record.map(|record| &record.status),
        Turns::AtWork | Turns::Rest(Rest::Troubled(_)) => None,
    }
}

fn failure<'a>(wanted: &Wanted, record: Option<&'a Record>) -> Option<&'a Failure> {
    let Wanted::Revision(revision, settings) = wanted else { return None };
    record?.failure(revision).filter(|failure| failure.settings == *settings)
}

/// Whether the records say that just that is in force which the tree wants.
fn is_in_force(wanted: &Wanted, record: Option<&Record>) -> bool {
    match wanted {
        Wanted::Nothing => record.is_none(),
        Wanted::Revision(revision, settings) => record
            .and_then(|record| record.served.as_ref())
            .is_some_and(|served| served.revision == *revision && served.spec.digest() == *settings),
        Wanted::Broken | Wanted::Unknown => false,
    }
}

fn judge(turns: &Turns, wanted: &Wanted, record: Option<&Record>) -> Standing {
    let failure = failure(wanted, record);
    match status(turns, record).map(|status| (status.sync, &status.message)) {
        // Of whatever it is synced: a daemon that does not reconcile any more, or has not read the commit yet, says so too.
        Some((Sync::Synced, _)) if is_in_force(wanted, record) => Standing::Done,
        Some((Sync::Synced, _)) => Standing::UnderWay,
        Some((Sync::Held, message)) => Standing::Held(message.clone()),
        Some((Sync::Blocked, message)) => {
            Standing::Failed(failure.map_or_else(|| message.clone(), |failure| failure.message.clone()))
        }
        Some((Sync::OutOfSync, _)) => {
            failure.map_or(Standing::UnderWay, |failure| Standing::Failed(failure.message.clone()))
        }
        None if *turns == Turns::None && *wanted == Wanted::Nothing => Standing::Done,
        None => {
            // Another try of what has failed and never served: it has failed until that is better.
            let served = record.and_then(|record| record.served.as_ref()).map(|served| &served.revision);
            let again = failure.filter(|failure| Some(&failure.revision) != served);
            again.map_or(Standing::UnderWay, |failure| Standing::Failed(failure.message.clone()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::tree::{Requirements, Spec};
    use crate::world::{FailureKind, Served};

    fn row(sync: Sync, message: &str) -> Record {
        let status = Status { name: "a".into(), sync, health: Health::Healthy, message: message.into() };
        Record::new(ApiId::new("a").unwrap(), status, Timestamp::UNIX_EPOCH)
    }

    /// What a folder of that revision wants, and a row in which it serves.
    fn serving(revision: &str) -> (Wanted, Record) {
        let (revision, spec) = (Revision::from_label(revision), Spec::built_in("a"));
        let wanted = Wanted::Revision(revision.clone(), spec.digest());
        let served = Served {
            revision,
            base: Digest::of(b"base"),
            spec,
            requirements: Requirements(Vec::new()),
            files: BTreeMap::new(),
            secrets: None,
            since: Timestamp::UNIX_EPOCH,
            origin: None,
        };
        (wanted, Record { served: Some(served), ..row(Sync::Synced, "") })
    }

    fn failing(record: Record, revision: &Revision) -> Record {
        let failure = Failure {
            revision: revision.clone(),
            settings: Digest::of(b"s"),
            kind: FailureKind::Crash,
            count: 1,
            at: Timestamp::UNIX_EPOCH,
            message: "it ended with 1".into(),
            output: Vec::new(),
        };
        Record { failures: vec![failure], ..record }
    }

    #[test]
    fn an_api_that_needed_no_turn_is_as_its_row_says() {
        let (wanted, record) = serving("111111111111");
        assert_eq!(judge(&Turns::None, &wanted, Some(&record)), Standing::Done);
        assert_eq!(judge(&Turns::None, &Wanted::Nothing, None), Standing::Done);
        assert_eq!(judge(&Turns::None, &wanted, None), Standing::UnderWay);
        assert_eq!(judge(&Turns::AtWork, &Wanted::Nothing, None), Standing::UnderWay);
    }

    #[test]
    fn only_what_the_tree_wants_is_done_once_it_is_in_force_and_not_whatever_is_synced() {
        // As one says that reconciles no more, or has not seen the commit yet.
        let (wanted, record) = serving("111111111111");
        let (other, _) = serving("222222222222");
        let synced = Turns::Rest(Rest::Quiet(record.status.clone()));
        assert_eq!(judge(&synced, &wanted, Some(&record)), Standing::Done);
        assert_eq!(judge(&synced, &other, Some(&record)), Standing::UnderWay);
        assert_eq!(judge(&Turns::None, &other, Some(&record)), Standing::UnderWay);
        assert_eq!(judge(&synced, &Wanted::Nothing, Some(&record)), Standing::UnderWay, "its row is still there");
        assert_eq!(judge(&synced, &Wanted::Nothing, None), Standing::Done);
        let Wanted::Revision(revision, _) = wanted else { unreachable!() };
        let slower = Wanted::Revision(revision, Digest::of(b"other settings"));
        assert_eq!(judge(&synced, &slower, Some(&record)), Standing::UnderWay);
        assert_eq!(judge(&synced, &Wanted::Unknown, Some(&record)), Standing::UnderWay);
    }

    #[test]
    fn a_failure_is_known_by_its_revision_a_broken_folder_by_its_words_and_nothing_without_a_tree() {
        let (wanted, record) = serving("111111111111");
        let blocked = Turns::Rest(Rest::Quiet(row(Sync::Blocked, "main.py:1:1: invalid").status));
        let key = |wanted: &Wanted, turns: &Turns| failed(turns, wanted, Some(&record)).map(|failing| failing.key);
        assert_eq!(key(&Wanted::Unknown, &blocked), None);
        let broken = key(&Wanted::Broken, &blocked).unwrap();
        let other = Turns::Rest(Rest::Quiet(row(Sync::Blocked, "main.py:2:1: invalid").status));
        assert!(!broken.is_empty() && Some(broken) != key(&Wanted::Broken, &other));
        let Wanted::Revision(revision, settings) = wanted else { unreachable!() };
        let given_up = Record {
            failures: vec![Failure { settings, ..failing(record.clone(), &revision).failures.remove(0) }],
            ..record.clone()
        };
        let wanted = Wanted::Revision(revision.clone(), settings);
        let given_up = failed(&blocked, &wanted, Some(&given_up)).unwrap();
        assert_eq!((given_up.key, given_up.why), (revision.to_string(), "it ended with 1".into()));
        assert_eq!(given_up.revision, Some(revision.to_string()));
        // Blocked before anything of it was tried, as by a missing key, beside what serves.
        let other = Wanted::Revision(Revision::from_label("222222222222"), Digest::of(b"s"));
        let missing = failed(&blocked, &other, Some(&record)).unwrap();
        assert_eq!(missing.revision.as_deref(), Some("222222222222"));
        assert_eq!(failed(&blocked, &Wanted::Broken, Some(&record)).unwrap().revision, None);
    }

    #[test]
    fn what_has_failed_is_that_until_it_is_better_and_nothing_of_another_revision() {
        let (revision, other) = (Revision::from_label("111111111111"), Revision::from_label("222222222222"));
        let wanted = |revision: &Revision| Wanted::Revision(revision.clone(), Digest::of(b"s"));
        let record = failing(row(Sync::OutOfSync, "it ended with 1; the next try is number 2"), &revision);
        let failed = Standing::Failed("it ended with 1".into());
        let rest = Turns::Rest(Rest::Quiet(record.status.clone()));
        assert_eq!(judge(&rest, &wanted(&revision), Some(&record)), failed);
        assert_eq!(judge(&Turns::AtWork, &wanted(&revision), Some(&record)), failed, "it is tried once more");
        assert_eq!(judge(&Turns::AtWork, &wanted(&other), Some(&record)), Standing::UnderWay);
        assert_eq!(judge(&rest, &wanted(&other), Some(&record)), Standing::UnderWay);
        let held = Turns::Rest(Rest::Quiet(row(Sync::Held, "held by Ada").status));
        assert_eq!(judge(&held, &wanted(&other), Some(&record)), Standing::Held("held by Ada".into()));
        let blocked = Turns::Rest(Rest::Quiet(row(Sync::Blocked, "given up").status));
        assert_eq!(judge(&blocked, &wanted(&revision), Some(&record)), failed);
        assert_eq!(judge(&blocked, &Wanted::Broken, Some(&record)), Standing::Failed("given up".into()));
    }
}
