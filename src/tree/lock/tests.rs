//! What is read of a lock, what is refused, and whether it is for the requirements beside it.

use super::*;
use crate::tree::diagnostic::{Diagnostic, code};

fn hash(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn package(name: &str, version: &str, digits: &str) -> Package {
    Package { name: name.to_owned(), version: version.to_owned(), hashes: digits.chars().map(hash).collect() }
}

fn base() -> Vec<Package> {
    [("uvicorn", "0.30.1"), ("fastapi", "0.115.0"), ("python-multipart", "0.0.9"), ("click", "8.1")]
        .map(|(name, version)| package(name, version, "ab"))
        .into()
}

fn locked(requirements: &str, packages: &[Package]) -> String {
    write(&ApiId::new("honey").unwrap(), "Python 3.11", &digest_of(requirements), packages)
}

fn checked(requirements: &str, lock: &str) -> Vec<Diagnostic> {
    check(Source::new("apis/honey/requirements.txt", requirements), Source::new("apis/honey/requirements.lock", lock))
}

fn read(lock: &str) -> (Requirements, Vec<Diagnostic>) {
    let mut findings = Vec::new();
    let lock = Lock::read(Source::new("apis/honey/requirements.lock", lock), &mut findings);
    (lock.requirements(), findings)
}

#[test]
fn what_is_written_is_read_again_and_is_the_same_whatever_the_order() {
    let mut packages = base();
    let text = locked("", &packages);
    packages.reverse();
    assert_eq!(locked("# nothing\n", &packages), text);
    assert_eq!(checked("", &text), []);
    let (requirements, _) = read(&text);
    let first = format!("click==8.1 --hash=sha256:{} --hash=sha256:{}", hash('a'), hash('b'));
    assert_eq!((requirements.0[0].0.as_str(), requirements.0.len()), (first.as_str(), 4));
    assert!(requirements.is_locked() && !Requirements::base().is_locked());
    let click = &requirements.0[0];
    assert_eq!((click.name(), click.asked(), click.locked_version()), ("click", "click==8.1", Some("8.1")));
}

#[test]
fn locks_of_other_tools_are_read_too() {
    let text = format!(
        "# by another tool\nfastapi==0.115.0 \\\n    --hash=sha256:{0} \\\n    --hash=sha256:{1}\n    # via -r requirements.txt\n\
         Uvicorn[standard]==0.30.1 --hash=sha256:{0}\npython-multipart==0.0.9 ; python_version >= '3.8' \\\n  --hash=sha256:{1}\n",
        hash('a'),
        hash('B'),
    );
    let (requirements, findings) = read(&text);
    assert_eq!(findings, []);
    let versions: Vec<_> = requirements.0.iter().map(|one| (one.name(), one.locked_version().unwrap())).collect();
    assert_eq!(versions, [("fastapi", "0.115.0"), ("python-multipart", "0.0.9"), ("uvicorn", "0.30.1")]);
    assert!(requirements.0[0].0.ends_with(&hash('b')), "{requirements:?}");
    assert_eq!(checked("fastapi>=0.100", &text), []);
}

#[test]
fn what_a_lock_may_not_hold_is_refused_where_it_stands() {
    let good = format!("--hash=sha256:{}", hash('a'));
    for (line, expected, column) in [
        ("idna==3.1".to_owned(), code::LOCK_HASH, 1),
        (format!("idna>=3.1 {good}"), code::BAD_LOCK, 1),
        (format!("idna==3.* {good}"), code::BAD_LOCK, 1),
        (format!("idna {good}"), code::BAD_LOCK, 1),
        ("idna==3.1 --hash=md5:00".to_owned(), code::LOCK_HASH, 11),
        ("idna==3.1 --hash=sha256:00".to_owned(), code::LOCK_HASH, 11),
        (format!("idna==3.1 {good} --pre"), code::REQUIREMENT_OPTION, 90),
        ("--index-url https://index.test".to_owned(), code::REQUIREMENT_OPTION, 1),
        ("-e .".to_owned(), code::REQUIREMENT_OPTION, 1),
        (format!("idna @ https://files.test/idna.whl {good}"), code::REQUIREMENT_URL, 1),
        (format!("idna==${{V}} {good}"), code::REQUIREMENT_VARIABLE, 1),
        (format!("ida==1 {good}\nida==2 {good}"), code::REQUIREMENT_TWICE, 1),
        ("# only words".to_owned(), code::BAD_LOCK, 1),
    ] {
        let (_, findings) = read(&line);
        assert!(!findings.is_empty(), "{line}");
        assert_eq!((findings[0].code, findings[0].span.unwrap().column), (expected, column), "{line}: {findings:#?}");
        assert!(!findings[0].hint.is_empty(), "{line}");
    }
}

#[test]
fn a_requirement_that_the_lock_does_not_meet_is_pointed_at_in_its_own_file() {
    let text = locked("", &base());
    let findings = checked("fastapi\n# tables\npandas>=2\nclick>=9\n", &text);
    let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "apis/honey/requirements.txt:4:1: requirements.lock has click 8.1, which is none of these",
            "apis/honey/requirements.txt:3:1: pandas is not in requirements.lock",
        ]
    );
    assert!(findings.iter().all(|finding| finding.hint == "run: skep lock honey" && finding.code == code::LOCK_STALE));
}

#[test]
fn a_requirement_that_is_gone_makes_the_lock_stale_and_a_comment_does_not() {
    let text = locked("click >= 8\nfastapi\n", &base());
    assert_eq!(checked("fastapi  # the framework\n\nClick>=8\n", &text), []);
    let findings = checked("fastapi\n", &text);
    assert_eq!((findings.len(), findings[0].span.unwrap().line), (1, 5), "{findings:#?}");
    let none_of_ours = text.replace("# requirements sha256:", "# ");
    assert_eq!(checked("fastapi\n", &none_of_ours), []);
}

#[test]
fn a_lock_lacks_nothing_that_every_api_has() {
    let text = locked("", &base()[1..]);
    let findings = checked("", &text);
    assert_eq!(findings[0].message, "the lock lacks uvicorn, which every API has");
}

#[test]
fn whether_a_marker_holds_is_for_the_installer_to_say() {
    let requirements = "tzdata ; sys_platform == 'win32'\n";
    assert_eq!(checked(requirements, &locked(requirements, &base())), []);
}
