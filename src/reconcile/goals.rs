//! Goals: what should be of every API, from the whole tree and everything that is known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::desired::{Basis, Desired, Goal, Ground};
use crate::settings::Policy;
use crate::tree::diagnostic::code;
use crate::tree::{ApiId, Digest, Files, Folder, Tree};
use crate::world::Record;

/// How long a removal counts among those that go at once.
pub const RECENT: Duration = Duration::from_secs(600);

/// How often whoever waits for the end looks whether something is left to do: what may go only once something else serves is
/// found by the look after. Twice is what a rename takes.
pub const ROUNDS: usize = 4;

/// The event of an API that is gone because somebody said that it may be.
pub const REMOVED_AS_CONFIRMED: &str = "removed-as-confirmed";

/// The event of an API that is gone because its folder is.
pub const REMOVED: &str = "removed";

/// What goals are made of.
#[derive(Debug, Clone, Copy)]
pub struct Grounds<'a> {
    /// The tree, or why it could not be read.
    pub tree: Result<&'a Tree, &'a str>,
    /// Every row.
    pub records: &'a BTreeMap<ApiId, Arc<Record>>,
    /// Every API that has an instance.
    pub running: &'a BTreeSet<ApiId>,
    /// APIs that may go although many go at once.
    pub confirmed: &'a BTreeSet<ApiId>,
    /// APIs that went a short while ago without being confirmed: many that go one by one are many too.
    pub recent: &'a BTreeSet<ApiId>,
    /// The base image.
    pub base: &'a Digest,
    /// This installation.
    pub owner: &'a str,
    /// How many may go at once.
    pub policy: &'a Policy,
    /// When this is asked.
    pub at: Timestamp,
}

/// What should be of every API that the tree, the records or the engine know.
#[must_use]
pub fn goals(grounds: &Grounds<'_>) -> BTreeMap<ApiId, Desired> {
    let Grounds { tree, records, running, base, owner, at, .. } = *grounds;
    let known: BTreeSet<&ApiId> = records.keys().chain(running).collect();
    let record = |id: &ApiId| records.get(id).map(|record| &**record);
    let keep = |id: &ApiId, basis| Desired::keep(id, record(id), owner, basis);
    let tree = match tree {
        Ok(tree) => tree,
        Err(why) => {
            return known.into_iter().map(|id| (id.clone(), keep(id, Basis::Unreadable(why.to_owned())))).collect();
        }
    };
    let held = held_removals(tree, &known, grounds);
    let newcomers = newcomers(tree, records);
    let ids: BTreeSet<&ApiId> = known.into_iter().chain(tree.folders.keys()).collect();
    let ground = Ground { base, owner, at };
    // Who may call what a preview is of, and so the preview, is known by its folder alone; until it goes, both stay as they are.
    let stays = |id: &ApiId| {
        let (of, _) = id.preview().filter(|(of, _)| tree.folders.contains_key(id) && !tree.folders.contains_key(of))?;
        let held = held.as_ref().filter(|(ids, _)| ids.contains(&of)).map(|(_, why)| why.clone());
        held.map(Basis::RemovalHeld).or_else(|| awaited(&of, records, &newcomers).map(Basis::RemovalWaits))
    };
    let goal = |id: &ApiId| match (&held, &tree.without_previews) {
        // Which previews there are is not known, and so none of them goes.
        (_, Some(why)) if id.is_preview() => keep(id, Basis::Unreadable(why.clone())),
        (Some((ids, why)), _) if ids.contains(id) => keep(id, Basis::RemovalHeld(why.clone())),
        _ => {
            if let Some(basis) = stays(id) {
                return keep(id, basis);
            }
            let desired = alone(id, tree, record(id), &ground);
            match (&desired.goal, awaited(id, records, &newcomers)) {
                (Goal::Remove, Some(why)) => keep(id, Basis::RemovalWaits(why)),
                _ => desired,
            }
        }
    };
    ids.into_iter().map(|id| (id.clone(), goal(id))).collect()
}

/// Whether what becomes of an API is for a look at all of them: it has no folder, or what it is a preview of has none.
pub(super) fn is_for_a_look(tree: &Tree, id: &ApiId) -> bool {
    let is_gone = |id: &ApiId| !tree.folders.contains_key(id);
    is_gone(id) || id.preview().is_some_and(|(of, _)| is_gone(&of))
}

/// What should be of an API that has its say alone. A preview is as strict as what it is of, whichever commit of it serves.
pub(super) fn alone(id: &ApiId, tree: &Tree, record: Option<&Record>, ground: &Ground<'_>) -> Desired {
    let desired = Desired::of(id, tree.folders.get(id), record, ground);
    match id.preview().and_then(|(of, _)| tree.sound(&of)) {
        Some(production) => desired.as_strict_as(&production.spec),
        None => desired,
    }
}

/// An API that is in the tree and has not served yet.
struct Newcomer<'a> {
    id: &'a ApiId,
    /// What it is made of; `None` while its folder is being written.
    files: Option<&'a Files>,
    /// It has been tried, and failed.
    has_failed: bool,
    /// Nobody knows when it will serve.
    is_held: bool,
}

fn newcomers<'a>(tree: &'a Tree, records: &BTreeMap<ApiId, Arc<Record>>) -> Vec<Newcomer<'a>> {
    // What a pull request brings is nothing that anything of production would wait for.
    let known = tree.folders.iter().filter(|(id, _)| !id.is_preview()).filter_map(|(id, folder)| match folder {
        Folder::Sound(api) if api.spec.suspend => None,
        Folder::Sound(api) => Some((id, Some(&api.files))),
        Folder::Broken(broken) => {
            let is_unsettled = broken.findings.iter().any(|finding| finding.code == code::UNSETTLED);
            is_unsettled.then_some((id, None))
        }
    });
    let new = known.filter(|(id, _)| records.get(*id).is_none_or(|record| record.served.is_none()));
    let has_failed = |id| records.get(id).is_some_and(|record| !record.failures.is_empty());
    let is_held = |id| records.get(id).is_some_and(|record| record.hold.is_some());
    new.map(|(id, files)| Newcomer { id, files, has_failed: files.is_some() && has_failed(id), is_held: is_held(id) })
        .collect()
}

/// Which newcomer must serve before `id` may go, and why, so that a renamed API is created before it is removed.
///
/// Nothing says that a folder was renamed. So whatever goes waits until each newcomer was tried once that is not held; and where the files
/// of one are mostly those of what goes, until it serves.
fn awaited(id: &ApiId, records: &BTreeMap<ApiId, Arc<Record>>, newcomers: &[Newcomer<'_>]) -> Option<String> {
    if id.is_preview() {
        return None;
    }
    let served = records.get(id)?.served.as_ref().filter(|served| !served.spec.suspend)?;
    let digests: BTreeSet<&Digest> = served.files.values().map(|file| &file.digest).collect();
    let is_heir = |new: &&Newcomer<'_>| {
        let files = new.files.into_iter().flat_map(BTreeMap::values);
        let same = files.filter(|file| digests.contains(&file.digest)).count();
        same > 0 && same * 2 >= digests.len()
    };
    if let Some(heir) = newcomers.iter().find(is_heir) {
        let held = if heir.is_held { ", which is held: skep release lets it" } else { "" };
        return Some(format!("it was renamed to {0}, and goes once {0} serves{held}", heir.id));
    }
    let first = newcomers.iter().find(|new| !new.has_failed && !new.is_held)?;
    Some(format!("it goes once {} serves, which is new", first.id))
}

/// The removals that wait for a word, and why; `None` where few enough APIs would go.
///
/// A folder that vanished by accident (a bad merge, an empty mount) looks just like one that was meant to go. So a
/// few go at once, and many wait. Previews come and go with their pull requests, and count nowhere in it.
fn held_removals(tree: &Tree, known: &BTreeSet<&ApiId>, grounds: &Grounds<'_>) -> Option<(BTreeSet<ApiId>, String)> {
    let known: BTreeSet<&ApiId> = known.iter().copied().filter(|id| !id.is_preview()).collect();
    let gone = known.iter().filter(|id| !tree.folders.contains_key(**id) && !grounds.confirmed.contains(**id));
    let gone: BTreeSet<ApiId> = gone.map(|id| ApiId::clone(id)).collect();
    let recent = grounds.recent.iter().filter(|id| !id.is_preview());
    let recent = recent.filter(|id| !known.contains(id) && !tree.folders.contains_key(*id)).count();
    let many = too_many(grounds.policy, gone.len(), recent, known.len())?;
    let why =
        format!("{many}; bring their folders back, or run `skep apply --allow-deletes` on the host that reconciles");
    Some((gone, why))
}

/// More removals than go without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    /// How many would be gone, with those that went a short while ago.
    pub going: usize,
    /// Of how many.
    pub all: usize,
    /// How many may be.
    pub most: usize,
}

/// Whether so many removals wait for a word; `None` where they do not.
///
/// `gone` have no folder and no word, of `known`; `recent` went a short while ago.
#[must_use]
pub fn too_many(policy: &Policy, gone: usize, recent: usize, known: usize) -> Option<TooMany> {
    let (going, all) = (gone + recent, known + recent);
    let most = (all * usize::from(policy.max_deletes_percent) / 100).max(policy.max_deletes as usize);
    (gone > 0 && going > most).then_some(TooMany { going, all, most })
}

impl std::fmt::Display for TooMany {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { going, all, most } = self;
        let minutes = RECENT.as_secs() / 60;
        write!(
            f,
            "{going} of {all} APIs are gone from the tree, and no more than {most} may go within {minutes} minutes"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::status::{Health, Status, Sync};
    use crate::settings::Settings;
    use crate::tree::Broken;

    fn ids(names: std::ops::Range<u32>) -> BTreeSet<ApiId> {
        names.map(|n| ApiId::new(&format!("api-{n}")).unwrap()).collect()
    }

    /// How many of the APIs that run and have no folder would be removed.
    fn removed(
        there: std::ops::Range<u32>,
        running: &BTreeSet<ApiId>,
        confirmed: &BTreeSet<ApiId>,
        recent: u32,
    ) -> usize {
        let folder = |id: &ApiId| Folder::Broken(Broken { id: id.clone(), findings: Vec::new() }.into());
        let tree = Tree { folders: ids(there).iter().map(|id| (id.clone(), folder(id))).collect(), ..Tree::default() };
        let grounds = Grounds {
            tree: Ok(&tree),
            records: &BTreeMap::new(),
            running,
            confirmed,
            recent: &ids(1000..1000 + recent),
            base: &Digest::of(b"base"),
            owner: "0123456789ab",
            policy: &Settings::built_in(std::path::Path::new("/")).policy,
            at: Timestamp::UNIX_EPOCH,
        };
        goals(&grounds).values().filter(|desired| matches!(desired.goal, Goal::Remove)).count()
    }

    #[test]
    fn a_few_go_and_many_wait() {
        let none = BTreeSet::new();
        assert_eq!(removed(0..17, &ids(0..20), &none, 0), 3);
        assert_eq!(removed(0..14, &ids(0..20), &none, 0), 6, "30 % of 20");
        assert_eq!(removed(0..13, &ids(0..20), &none, 0), 0);
        assert_eq!(removed(0..0, &ids(0..3), &none, 0), 3, "three may always go");
        assert_eq!(removed(0..0, &ids(0..4), &none, 0), 0);
    }

    #[test]
    fn many_that_go_one_by_one_are_many_too() {
        assert_eq!(removed(0..14, &ids(0..15), &BTreeSet::new(), 5), 1, "6 of 20");
        assert_eq!(removed(0..13, &ids(0..14), &BTreeSet::new(), 6), 0, "7 of 20");
    }

    #[test]
    fn a_confirmed_removal_goes_and_counts_no_more() {
        assert_eq!(removed(0..0, &ids(0..20), &ids(0..20), 0), 20);
        assert_eq!(removed(0..0, &ids(0..20), &ids(0..17), 0), 20);
        assert_eq!(removed(0..0, &ids(0..20), &ids(0..10), 0), 10);
    }

    #[test]
    fn previews_go_without_a_word_and_make_no_room_for_others_to() {
        let preview = |id: &ApiId| id.previewed(crate::tree::PullRequest::new(7).unwrap()).unwrap();
        let with_previews = |of: std::ops::Range<u32>| {
            let previews: BTreeSet<ApiId> = ids(0..40).iter().map(preview).collect();
            previews.union(&ids(of)).cloned().collect::<BTreeSet<ApiId>>()
        };
        let none = BTreeSet::new();
        assert_eq!(removed(0..20, &with_previews(0..20), &none, 0), 40, "all previews, and nothing else");
        assert_eq!(removed(0..14, &with_previews(0..20), &none, 0), 46, "30 % of 20");
        assert_eq!(removed(0..13, &with_previews(0..20), &none, 0), 40, "and not of 60");
        assert_eq!(removed(0..13, &with_previews(0..14), &none, 6), 40, "7 of 20");
    }

    #[test]
    fn a_preview_of_what_is_held_stays_as_it_is() {
        let of = ids(0..1).pop_first().unwrap();
        let preview = of.previewed(crate::tree::PullRequest::new(7).unwrap()).unwrap();
        let sound = Folder::Sound(Arc::new(crate::tree::Api {
            id: preview.clone(),
            spec: crate::tree::Spec::built_in("x"),
            requirements: crate::tree::Requirements::base(),
            files: BTreeMap::new(),
            secrets: None,
            folder: "/nowhere".into(),
            findings: Vec::new(),
        }));
        let tree = Tree { folders: [(preview.clone(), sound)].into(), ..Tree::default() };
        let is_held = |running: &BTreeSet<ApiId>| {
            let grounds = Grounds {
                tree: Ok(&tree),
                records: &BTreeMap::new(),
                running,
                confirmed: &BTreeSet::new(),
                recent: &BTreeSet::new(),
                base: &Digest::of(b"base"),
                owner: "0123456789ab",
                policy: &Settings::built_in(std::path::Path::new("/")).policy,
                at: Timestamp::UNIX_EPOCH,
            };
            matches!(goals(&grounds)[&preview].basis, Basis::RemovalHeld(_))
        };
        assert!(is_held(&ids(0..20)), "too many go, so none does");
        assert!(!is_held(&ids(0..1)), "what it is of goes");
        assert!(!is_held(&BTreeSet::new()), "it is of nothing that is there yet");
    }

    #[test]
    fn what_goes_waits_for_a_new_folder_that_is_still_being_written() {
        let at = Timestamp::UNIX_EPOCH;
        let (old, new) = (ApiId::new("old").unwrap(), ApiId::new("new").unwrap());
        let status = Status { name: "Old".into(), sync: Sync::Synced, health: Health::Healthy, message: String::new() };
        let mut record = Record::new(old.clone(), status, at);
        record.served = Some(crate::world::Served {
            revision: crate::tree::Revision::from_label("0123456789ab"),
            base: Digest::of(b"base"),
            spec: crate::tree::Spec::built_in("old"),
            requirements: crate::tree::Requirements::base(),
            files: BTreeMap::new(),
            secrets: None,
            since: at,
            origin: None,
        });
        let waits = |code: &'static str| {
            let findings = vec![crate::tree::Diagnostic::error(code, "apis/new", "no", "yes")];
            let folder = Folder::Broken(Broken { id: new.clone(), findings }.into());
            let tree = Tree { folders: [(new.clone(), folder)].into(), ..Tree::default() };
            let grounds = Grounds {
                tree: Ok(&tree),
                records: &[(old.clone(), Arc::new(record.clone()))].into(),
                running: &BTreeSet::new(),
                confirmed: &BTreeSet::new(),
                recent: &BTreeSet::new(),
                base: &Digest::of(b"base"),
                owner: "0123456789ab",
                policy: &Settings::built_in(std::path::Path::new("/")).policy,
                at,
            };
            matches!(goals(&grounds)[&old].basis, Basis::RemovalWaits(_))
        };
        assert!(waits(code::UNSETTLED));
        assert!(!waits(code::SYMLINK), "that will never serve by itself");
    }

    #[test]
    fn a_tree_that_cannot_be_read_removes_nothing() {
        let running = ids(0..20);
        let grounds = Grounds {
            tree: Err("permission denied"),
            records: &BTreeMap::new(),
            running: &running,
            confirmed: &running,
            recent: &BTreeSet::new(),
            base: &Digest::of(b"base"),
            owner: "0123456789ab",
            policy: &Settings::built_in(std::path::Path::new("/")).policy,
            at: Timestamp::UNIX_EPOCH,
        };
        let is_kept = |desired: &Desired| matches!(desired.basis, Basis::Unreadable(_));
        assert!(goals(&grounds).values().all(is_kept) && goals(&grounds).len() == 20);
    }
}
