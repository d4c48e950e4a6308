//! Reading a lock: pinned versions with hashes, as skep, uv and pip-tools write them, and nothing that redirects an
//! installer.

use std::collections::BTreeSet;
use std::ops::Range;

use pep508_rs::VersionOrUrl;
use pep508_rs::pep440_rs::{Operator, Version};

use super::{Lock, MADE_FROM, Pin};
use crate::tree::diagnostic::{Diagnostic, code};
use crate::tree::requirements::{Line, read_line, requirement_of};
use crate::tree::source::{MAX_FINDINGS, Source};

/// The most packages. The largest applications have some hundreds.
const MAX_COUNT: usize = 2000;

/// The most bytes: a lock is kept with every revision, and in memory.
const LONGEST: usize = 1024 * 1024;

/// What a hash is written as, but for its 64 digits.
const OPTION: &str = "--hash=sha256:";

/// What to do about a lock that cannot be used.
const AGAIN: &str = "have it made again with `skep lock`";

/// A package whose last line has not come yet.
struct Begun {
    line: Result<Line, Box<Diagnostic>>,
    range: Range<usize>,
    hashes: BTreeSet<String>,
    goes_on: bool,
}

impl Lock {
    /// Reads a lock. With findings that are errors, the value is of no use.
    #[must_use]
    pub fn read(source: Source<'_>, findings: &mut Vec<Diagnostic>) -> Self {
        let mut lock = Self::default();
        if source.text.len() > LONGEST {
            let message = format!("a lock of more than {} KiB", LONGEST / 1024);
            findings.push(source.error(code::OUT_OF_BOUNDS, 0..0, message, AGAIN));
            return lock;
        }
        let earlier = findings.len();
        let mut begun: Option<Begun> = None;
        let (mut start, mut count) = (0, 0);
        for raw in source.text.split_inclusive('\n') {
            if findings.len() - earlier >= MAX_FINDINGS {
                return lock;
            }
            if let Some(digest) = raw.strip_prefix(MADE_FROM).map(str::trim_end)
                && lock.made_from.is_none()
            {
                lock.made_from = Some((digest.to_owned(), start..start + MADE_FROM.len() + digest.len()));
            }
            let mut range = requirement_of(raw, start);
            start += raw.len();
            if range.is_empty() {
                continue;
            }
            let goes_on = source.text[range.clone()].ends_with('\\');
            if goes_on {
                let kept = source.text[range.start..range.end - 1].trim_end();
                range.end = range.start + kept.len();
            }
            if let Some(more) = begun.as_mut().filter(|begun| begun.goes_on) {
                more.goes_on = goes_on;
                read_hashes(source, range, &mut more.hashes, findings);
                continue;
            }
            lock.take(source, begun.take(), findings);
            count += 1;
            if count > MAX_COUNT {
                let message = format!("more than {MAX_COUNT} packages");
                findings.push(source.error(code::OUT_OF_BOUNDS, range, message, AGAIN));
                return lock;
            }
            begun = Some(begin(source, range, goes_on, findings));
        }
        lock.take(source, begun, findings);
        if lock.packages.is_empty() && findings.len() == earlier {
            findings.push(source.error(code::BAD_LOCK, 0..0, "a lock that names no package", AGAIN));
        }
        lock
    }

    /// Takes in a package that is whole, or says why it is none.
    fn take(&mut self, source: Source<'_>, begun: Option<Begun>, findings: &mut Vec<Diagnostic>) {
        let Some(Begun { line, range, hashes, .. }) = begun else { return };
        let line = match line {
            Ok(line) => line,
            Err(finding) => return findings.push(*finding),
        };
        let Some(version) = pinned(&line) else {
            let message = format!("{} is not pinned to one version", line.requirement.name);
            let hint = "a lock says name==version; ranges belong into requirements.txt";
            return findings.push(source.error(code::BAD_LOCK, range, message, hint));
        };
        if hashes.is_empty() {
            let message = format!("{} has no hash", line.requirement.name);
            let hint = "have it made again with `skep lock`, or with `uv pip compile --generate-hashes`";
            return findings.push(source.error(code::LOCK_HASH, range, message, hint));
        }
        let same = self.packages.entry(line.requirement.name.to_string()).or_default();
        if same.iter().any(|other| !other.line.requirement.marker.is_disjoint(&line.requirement.marker)) {
            let message = format!("{} stands here a second time", line.requirement.name);
            return findings.push(source.error(code::REQUIREMENT_TWICE, range, message, AGAIN));
        }
        same.push(Pin { line, version, hashes });
    }
}

/// Reads the first line of a package.
fn begin(source: Source<'_>, range: Range<usize>, goes_on: bool, findings: &mut Vec<Diagnostic>) -> Begun {
    let text = &source.text[range.clone()];
    let end = text.find(" --").map_or(text.len(), |at| text[..at].trim_end().len());
    let head = range.start..range.start + end;
    let mut hashes = BTreeSet::new();
    let line = read_line(source, head.clone());
    if line.is_ok() {
        read_hashes(source, head.end..range.end, &mut hashes, findings);
    }
    Begun { line, range: head, hashes, goes_on }
}

/// Reads `--hash=sha256:…`, any number of them.
fn read_hashes(source: Source<'_>, range: Range<usize>, hashes: &mut BTreeSet<String>, findings: &mut Vec<Diagnostic>) {
    let text = &source.text[range.clone()];
    for word in text.split_ascii_whitespace() {
        let at = range.start + (word.as_ptr() as usize - text.as_ptr() as usize);
        let digits = word.strip_prefix(OPTION);
        match digits {
            Some(digits) if digits.len() == 64 && digits.bytes().all(|c| c.is_ascii_hexdigit()) => {
                hashes.insert(digits.to_ascii_lowercase());
            }
            None if word.starts_with('-') && !word.starts_with("--hash") => {
                let message = "an option of the installer in a lock";
                let hint =
                    "a lock has packages, versions and hashes; the index of all APIs is `build.index_url` in skep.yaml";
                findings.push(source.error(code::REQUIREMENT_OPTION, at..at + word.len(), message, hint));
            }
            _ => {
                let message = "not a hash";
                let hint =
                    "write --hash=sha256: and 64 hexadecimal digits, or have the lock made again with `skep lock`";
                findings.push(source.error(code::LOCK_HASH, at..at + word.len(), message, hint));
            }
        }
    }
}

/// The version that a line is pinned to.
fn pinned(line: &Line) -> Option<Version> {
    let Some(VersionOrUrl::VersionSpecifier(specifiers)) = &line.requirement.version_or_url else { return None };
    let mut all = specifiers.iter();
    match (all.next(), all.next()) {
        (Some(only), None) if *only.operator() == Operator::Equal => Some(only.version().clone()),
        _ => None,
    }
}
