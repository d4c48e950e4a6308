//! A change is one thing that the tree has otherwise than what serves.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use pep508_rs::pep440_rs::Version;
use serde::Serialize;

use super::super::desired::Target;
use crate::tree::{Digest, Requirement, Requirements, Sealed, Versions};
use crate::world::{Served, edit};

/// One thing that the tree changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// A setting of `api.yaml` or of the defaults.
    Setting {
        /// Dotted, as in `resources.memory`.
        key: String,
        /// `null` where it was not set.
        old: serde_json::Value,
        /// `null` where it is not set any more.
        new: serde_json::Value,
    },
    /// A requirement.
    Requirement {
        /// As it was.
        #[serde(skip_serializing_if = "Option::is_none")]
        old: Option<String>,
        /// As it is.
        #[serde(skip_serializing_if = "Option::is_none")]
        new: Option<String>,
    },
    /// A package: of the lock or, where there is none, of what the requirements come to.
    Package {
        /// Normalised.
        name: String,
        /// What becomes of it.
        r#move: Move,
        /// Its version before.
        #[serde(skip_serializing_if = "Option::is_none")]
        old: Option<String>,
        /// Its version now.
        #[serde(skip_serializing_if = "Option::is_none")]
        new: Option<String>,
    },
    /// Whether there is a lock.
    Lock {
        /// How many packages it had, where there was one.
        #[serde(skip_serializing_if = "Option::is_none")]
        old: Option<usize>,
        /// How many it has, where there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        new: Option<usize>,
    },
    /// The encrypted secrets. What they are, nobody can tell without the key, and no plan does.
    Secrets {
        /// Of the encrypted file before.
        #[serde(skip_serializing_if = "Option::is_none")]
        old: Option<Digest>,
        /// Of the encrypted file now.
        #[serde(skip_serializing_if = "Option::is_none")]
        new: Option<Digest>,
    },
    /// A file.
    File {
        /// Relative to the API's folder.
        path: String,
        /// Its digest before.
        #[serde(skip_serializing_if = "Option::is_none")]
        old: Option<Digest>,
        /// Its digest now.
        #[serde(skip_serializing_if = "Option::is_none")]
        new: Option<Digest>,
        /// Unified; filled in by whoever can read both.
        #[serde(skip_serializing_if = "Option::is_none")]
        diff: Option<String>,
    },
    /// The base image.
    Base {
        /// Its digest before.
        old: Digest,
        /// Its digest now.
        new: Digest,
    },
}

/// What becomes of a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Move {
    /// It was not there.
    Added,
    /// It goes.
    Removed,
    /// A newer version takes its place.
    Upgraded,
    /// An older version takes its place.
    Downgraded,
    /// The same version, of which other files are allowed.
    Rehashed,
}

/// What the tree changed since `served`.
#[must_use]
pub fn changes(served: &Served, target: &Target) -> Vec<Change> {
    let mut changes = Vec::new();
    if served.base != target.base {
        changes.push(Change::Base { old: served.base, new: target.base });
    }
    let (old, new) = (settings(&served.spec), settings(&target.spec));
    for key in keys(&old, &new) {
        let value = |side: &BTreeMap<String, serde_json::Value>| side.get(&key).cloned().unwrap_or_default();
        let (old, new) = (value(&old), value(&new));
        if old != new {
            changes.push(Change::Setting { key, old, new });
        }
    }
    changes.append(&mut requirements(&served.requirements, &target.requirements));
    if served.secrets != target.secrets {
        let digest = |secrets: &Option<Sealed>| secrets.as_ref().map(Sealed::digest);
        changes.push(Change::Secrets { old: digest(&served.secrets), new: digest(&target.secrets) });
    }
    for path in keys(&served.files, &target.files) {
        let (old, new) = (served.files.get(&path), target.files.get(&path));
        if old != new {
            let (old, new) = (old.map(|file| file.digest), new.map(|file| file.digest));
            changes.push(Change::File { path, old, new, diff: None });
        }
    }
    changes
}

/// What changes of what is installed.
fn requirements(old: &Requirements, new: &Requirements) -> Vec<Change> {
    let count = |requirements: &Requirements| requirements.is_locked().then_some(requirements.0.len());
    match (count(old), count(new)) {
        (Some(_), Some(_)) => packages(old, new),
        (None, None) => {
            let (old, new) = (by_name(old), by_name(new));
            let of = |name: &String| {
                let (old, new) = (old.get(name).map(|one| one.0.clone()), new.get(name).map(|one| one.0.clone()));
                (old != new).then_some(Change::Requirement { old, new })
            };
            keys(&old, &new).iter().filter_map(of).collect()
        }
        // Which versions stand where there is no lock, nobody has written down: a resolver may say, see `packages`.
        (old, new) => vec![Change::Lock { old, new }],
    }
}

/// What changes from one lock to another.
#[must_use]
pub fn packages(old: &Requirements, new: &Requirements) -> Vec<Change> {
    let (before, after) = (by_name(old), by_name(new));
    let of = |name: String| {
        let (old, new) = (before.get(&name), after.get(&name));
        let version = |one: Option<&&Requirement>| one.and_then(|one| one.locked_version()).map(ToOwned::to_owned);
        (old != new).then(|| package(name, (old.is_some(), version(old)), (new.is_some(), version(new))))
    };
    keys(&before, &after).into_iter().filter_map(of).collect()
}

/// What becomes of each package where these versions take the place of those.
#[must_use]
pub fn moves(old: &Versions, new: &Versions) -> Vec<Change> {
    let of = |name: String| {
        let (old, new) = (old.0.get(&name).cloned(), new.0.get(&name).cloned());
        (old != new).then(|| package(name, (old.is_some(), old), (new.is_some(), new)))
    };
    keys(&old.0, &new.0).into_iter().filter_map(of).collect()
}

/// What becomes of one package. Each side: whether it is there, and its version where that is known.
fn package(name: String, old: (bool, Option<String>), new: (bool, Option<String>)) -> Change {
    let r#move = match (old.0, new.0) {
        (false, _) => Move::Added,
        (_, false) => Move::Removed,
        _ => direction(old.1.as_deref(), new.1.as_deref()),
    };
    Change::Package { name, r#move, old: old.1, new: new.1 }
}

/// Versions in the order of PEP 440.
fn direction(old: Option<&str>, new: Option<&str>) -> Move {
    let parse = |version: Option<&str>| version.and_then(|version| Version::from_str(version).ok());
    match parse(old).cmp(&parse(new)) {
        Ordering::Less => Move::Upgraded,
        Ordering::Greater => Move::Downgraded,
        Ordering::Equal => Move::Rehashed,
    }
}

fn by_name(requirements: &Requirements) -> BTreeMap<String, &Requirement> {
    requirements.0.iter().map(|requirement| (requirement.name().to_owned(), requirement)).collect()
}

/// The keys of either side, in order.
fn keys<V>(old: &BTreeMap<String, V>, new: &BTreeMap<String, V>) -> Vec<String> {
    let all: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    all.into_iter().cloned().collect()
}

/// Every setting by its dotted key.
fn settings(spec: &crate::tree::Spec) -> BTreeMap<String, serde_json::Value> {
    let mut flat = edit::flat(&serde_json::to_value(spec).unwrap_or_default());
    flat.retain(|_, value| !value.is_null() && value.as_object().is_none_or(|object| !object.is_empty()));
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(packages: &[(&str, char)]) -> Requirements {
        let hash = |digit: char| digit.to_string().repeat(64);
        let line = |(pin, digit): &(&str, char)| Requirement(format!("{pin} --hash=sha256:{}", hash(*digit)));
        Requirements(packages.iter().map(line).collect())
    }

    #[test]
    fn versions_move_as_pep_440_orders_them() {
        let old = lock(&[("a==1.9", 'a'), ("b==2.0", 'a'), ("c==1", 'a'), ("d==1.0", 'a'), ("e==1.0", 'a')]);
        let new = lock(&[("a==1.10", 'b'), ("b==2.0rc1", 'b'), ("d==1.0", 'b'), ("e==1.0", 'a'), ("f==3", 'a')]);
        let moves: Vec<(String, Move)> = packages(&old, &new)
            .into_iter()
            .map(|change| match change {
                Change::Package { name, r#move, .. } => (name, r#move),
                other => panic!("{other:?}"),
            })
            .collect();
        let expected = [
            ("a", Move::Upgraded),
            ("b", Move::Downgraded),
            ("c", Move::Removed),
            ("d", Move::Rehashed),
            ("f", Move::Added),
        ];
        assert_eq!(moves, expected.map(|(name, r#move)| (name.to_owned(), r#move)));
    }

    #[test]
    fn a_lock_that_comes_or_goes_is_one_change() {
        let (without, with) = (Requirements::base(), lock(&[("a==1", 'a'), ("b==2", 'a')]));
        assert_eq!(requirements(&without, &with), [Change::Lock { old: None, new: Some(2) }]);
        assert_eq!(requirements(&with, &without), [Change::Lock { old: Some(2), new: None }]);
    }
}
