//! A lock says what exactly is installed for a `requirements.txt`: versions, and the hash of each file that may be taken.

mod agree;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;

use super::id::ApiId;
use super::requirements::{HASH, Line, Requirement, Requirements, Written};
use super::revision::Digest;
use super::source::Source;

pub(super) use agree::agree;

/// What the file is called, beside `requirements.txt`.
pub const FILE: &str = "requirements.lock";

/// What stands before the digest of the requirements that a lock was made from.
const MADE_FROM: &str = "# requirements sha256:";

/// A lock as its file has it.
#[derive(Default)]
pub struct Lock {
    packages: BTreeMap<String, Vec<Pin>>,
    /// The digest of what it was made from, and where that stands. Locks that other tools made have none.
    made_from: Option<(String, Range<usize>)>,
}

/// One package of a lock, as it was read.
struct Pin {
    line: Line,
    version: pep508_rs::pep440_rs::Version,
    hashes: BTreeSet<String>,
}

/// One package of a lock that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Normalised.
    pub name: String,
    /// As the package says it.
    pub version: String,
    /// SHA-256 of each file that may be taken, in hexadecimal digits.
    pub hashes: BTreeSet<String>,
}

impl Lock {
    /// Exactly what is installed.
    #[must_use]
    pub fn requirements(&self) -> Requirements {
        let text = |pin: &Pin| {
            let hashes: String = pin.hashes.iter().map(|hash| format!("{HASH}{hash}")).collect();
            Requirement(format!("{}{hashes}", pin.line.text))
        };
        let mut all: Vec<Requirement> = self.packages.values().flatten().map(text).collect();
        all.sort_unstable();
        Requirements(all)
    }
}

/// A lock's file: the same for the same packages, whoever writes it.
#[must_use]
pub fn write(id: &ApiId, made_for: &str, made_from: &str, packages: &[Package]) -> String {
    let mut text = format!(
        "# What is installed for requirements.txt, exactly: skep takes these versions, by hash, and nothing else.\n\
         # After a change of requirements.txt: skep lock {id}\n\
         # For newer versions: skep lock {id} --upgrade\n\
         # made for {made_for}\n\
         {MADE_FROM}{made_from}\n"
    );
    let packages: BTreeMap<&str, &Package> = packages.iter().map(|package| (package.name.as_str(), package)).collect();
    for package in packages.values() {
        let _ = write!(text, "{}=={}", package.name, package.version);
        for hash in &package.hashes {
            let _ = write!(text, " \\\n   {HASH}{hash}");
        }
        text.push('\n');
    }
    text
}

/// The digest of what a `requirements.txt` asks for. It is of the text of each line without spaces, so that no other
/// version of skep comes to another: comments and order say nothing, and everything else does.
#[must_use]
pub fn digest_of(requirements: &str) -> String {
    let mut lines = BTreeSet::new();
    let mut start = 0;
    for raw in requirements.split_inclusive('\n') {
        let range = super::requirements::requirement_of(raw, start);
        start += raw.len();
        let line: String = requirements[range].chars().filter(|c| !c.is_whitespace()).collect();
        if !line.is_empty() {
            lines.insert(line.to_lowercase());
        }
    }
    Digest::of(lines.into_iter().collect::<Vec<_>>().join("\n").as_bytes()).to_string()
}

/// Whether a lock is as these requirements say; what is wrong otherwise.
///
/// For `skep lock --check`, which looks at files that no [`super::Scanner`] has read.
#[must_use]
pub fn check(requirements: Source<'_>, lock: Source<'_>) -> Vec<super::Diagnostic> {
    let mut findings = Vec::new();
    let written = Written::read(requirements, &mut findings);
    let read = Lock::read(lock, &mut findings);
    if findings.is_empty() {
        agree(&written, requirements, &read, lock, &mut findings);
    }
    findings
}

#[cfg(test)]
mod tests;
