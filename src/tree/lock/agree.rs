//! Whether a lock is for the requirements beside it.

use pep508_rs::{MarkerTree, VersionOrUrl};

use super::{Lock, digest_of};
use crate::tree::diagnostic::{Diagnostic, code};
use crate::tree::requirements::Written;
use crate::tree::source::Source;

/// Says where a lock is not what the requirements ask for. Neither side may have errors of its own.
///
/// A lock is for exactly the requirements that it was made from: what somebody asked for and does not get would be a
/// surprise, and so would a package that nobody asks for any more.
pub(in crate::tree) fn agree(
    written: &Written,
    requirements: Source<'_>,
    lock: &Lock,
    lock_source: Source<'_>,
    findings: &mut Vec<Diagnostic>,
) {
    let hint = || format!("run: skep lock {}", api_of(lock_source.path));
    let earlier = findings.len();
    for line in written.lines() {
        let name = line.requirement.name.as_ref();
        let Some(pins) = lock.packages.get(name) else {
            // Whether a marker holds is known only where the requirements are installed.
            if line.requirement.marker == MarkerTree::TRUE {
                let message = format!("{name} is not in {}", super::FILE);
                findings.push(requirements.error(code::LOCK_STALE, line.range.clone(), message, hint()));
            }
            continue;
        };
        let Some(VersionOrUrl::VersionSpecifier(asked)) = &line.requirement.version_or_url else { continue };
        let markers = |pin: &super::Pin| !pin.line.requirement.marker.is_disjoint(&line.requirement.marker);
        for pin in pins.iter().filter(|pin| markers(pin)) {
            if !asked.contains(&pin.version) {
                let message = format!("{} has {name} {}, which is none of these", super::FILE, pin.version);
                findings.push(requirements.error(code::LOCK_STALE, line.range.clone(), message, hint()));
            }
        }
    }
    for requirement in &written.requirements().0 {
        let name = requirement.name();
        if !lock.packages.contains_key(name) && !written.lines().any(|line| line.requirement.name.as_ref() == name) {
            let message = format!("the lock lacks {name}, which every API has");
            findings.push(lock_source.error(code::LOCK_STALE, 0..0, message, hint()));
        }
    }
    if findings.len() > earlier {
        return;
    }
    if let Some((digest, range)) = &lock.made_from
        && *digest != digest_of(requirements.text)
    {
        let message = "requirements.txt is another than this lock was made from";
        findings.push(lock_source.error(code::LOCK_STALE, range.clone(), message, hint()));
    }
}

/// The API that a lock belongs to, for the command to run.
fn api_of(path: &str) -> &str {
    path.rsplit('/').nth(1).unwrap_or_default()
}
