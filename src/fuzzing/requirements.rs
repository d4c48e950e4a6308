//! Requirements.

use std::collections::BTreeSet;
use std::str::FromStr as _;

use super::findings;
use crate::tree::lock::Lock;
use crate::tree::source::Source;
use crate::tree::{Diagnostic, Requirement, Requirements};

/// Reads a `requirements.txt`, and what was read again; and the same as a lock.
pub fn requirements(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    lock(text);
    let source = Source::new("apis/a/requirements.txt", text);
    let mut found = Vec::new();
    let read = Requirements::parse(source, &mut found);
    findings::check(source, &found);
    if found.iter().any(Diagnostic::is_error) {
        return;
    }
    assert!(read.0.is_sorted_by(|a, b| a < b), "{read:?}");
    let names: BTreeSet<&str> = read.0.iter().map(Requirement::name).collect();
    assert!(["fastapi", "python-multipart", "uvicorn"].iter().all(|name| names.contains(name)), "{read:?}");
    for requirement in &read.0 {
        check(requirement);
    }
    if read.0.iter().any(is_long) {
        return;
    }
    let written: String = read.0.iter().map(|requirement| format!("{}\n", requirement.0)).collect();
    let again = Requirements::parse(Source::new(source.path, &written), &mut found);
    assert_eq!(found, [], "{written:?}");
    assert_eq!(again, read);
}

/// Reads a lock: what was read names one version of each package, and hashes, and nothing else.
fn lock(text: &str) {
    let source = Source::new("apis/a/requirements.lock", text);
    let mut found = Vec::new();
    let read = Lock::read(source, &mut found).requirements();
    findings::check(source, &found);
    if found.iter().any(Diagnostic::is_error) {
        return;
    }
    assert!(read.is_locked(), "{read:?}");
    for requirement in &read.0 {
        check(&Requirement(requirement.asked().to_owned()));
        assert!(requirement.locked_version().is_some_and(|version| !version.is_empty()), "{requirement:?}");
        let hashes = requirement.0[requirement.asked().len()..].split(" --hash=sha256:").skip(1);
        assert!(hashes.clone().all(|hash| hash.len() == 64 && hash.bytes().all(|c| c.is_ascii_hexdigit())));
        assert!(hashes.count() > 0, "{requirement:?}");
    }
}

/// Whether a line may be past what is read. The marker of a line that was read can be, in its normal form.
fn is_long(Requirement(line): &Requirement) -> bool {
    let words = line.split_whitespace().filter(|word| matches!(*word, "and" | "or")).count();
    line.len() > 500 || words > 16 || line.matches('(').count() > 16
}

/// One line, which an installer reads as a package of the index and its versions, and as nothing else.
fn check(requirement: &Requirement) {
    let line = &requirement.0;
    let name = requirement.name();
    assert!(name.bytes().all(|c| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-')), "{line:?}");
    assert!(!name.starts_with('-') && !name.ends_with('-') && !name.is_empty(), "{line:?}");
    assert!(!line.contains(|c: char| c.is_control() && c != '\t' || c == '$'), "{line:?}");
    assert!(!line.contains("://") && !line.contains(" --"), "{line:?}");
    let (package, _) = line.split_once(';').unwrap_or((line, ""));
    assert!(!package.contains(['@', '/', '\\', '#']), "{line:?}");
    let parsed = pep508_rs::Requirement::<pep508_rs::VerbatimUrl>::from_str(line).expect("it parses again");
    assert_eq!(parsed.name.as_ref(), name);
}
