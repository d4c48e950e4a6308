//! Picking says which of a remote's references is followed now. Pure.

use std::cmp::Ordering;

use crate::git::remote::Reference;
use crate::settings::Follows;

/// The reference that is followed: the branch, or the highest of the tags; `None` where there is none.
///
/// Versions of which a part stands behind a hyphen, as in `v2.0.0-rc.1`, are for those whose pattern has one too.
#[must_use]
pub fn pick<'a>(follows: &Follows, references: &'a [Reference]) -> Option<&'a Reference> {
    match follows {
        Follows::Branch(branch) => {
            references.iter().find(|reference| reference.name.strip_prefix("refs/heads/") == Some(branch))
        }
        Follows::Tags(pattern) => {
            let name = |reference: &'a Reference| reference.name.strip_prefix("refs/tags/");
            let is_meant = |name: &str| fits(pattern, name) && (pattern.contains('-') || !name.contains('-'));
            let meant = references.iter().filter(|reference| name(reference).is_some_and(is_meant));
            meant.max_by(|a, b| compare(name(a).unwrap_or_default(), name(b).unwrap_or_default()))
        }
    }
}

/// What is followed, in words.
#[must_use]
pub fn described(follows: &Follows) -> String {
    match follows {
        Follows::Branch(branch) => format!("branch {branch}"),
        Follows::Tags(pattern) => format!("tags {pattern}"),
    }
}

/// Whether a pattern, in which `*` is any text and `?` any character, fits a name.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last `*` was, and what it was tried to swallow: steps back go no further than that.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || name.get(n) == Some(c) => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, swallowed)) => {
                    (p, n) = (at + 1, swallowed + 1);
                    star = Some((at, swallowed + 1));
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

/// Compares versions: numbers by their values, and what comes before a hyphen alone is higher than with what follows it.
fn compare(a: &str, b: &str) -> Ordering {
    let ((a, a_rest), (b, b_rest)) = (split(a), split(b));
    by_numbers(a, b).then_with(|| match (a_rest, b_rest) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => by_numbers(a, b),
    })
}

/// A version, and what follows a hyphen behind it. Hyphens in the name before the version belong to that.
fn split(name: &str) -> (&str, Option<&str>) {
    let digit = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
    match name.get(digit..).and_then(|rest| rest.find('-')).and_then(|at| name.split_at_checked(digit + at)) {
        Some((version, rest)) => (version, rest.strip_prefix('-')),
        None => (name, None),
    }
}

fn by_numbers(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        match (a.is_empty(), b.is_empty()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        let ((a_part, a_rest), (b_part, b_rest)) = (part(a), part(b));
        let is_number = |part: &str| part.starts_with(|c: char| c.is_ascii_digit());
        let order = if is_number(a_part) && is_number(b_part) {
            let (a, b) = (a_part.trim_start_matches('0'), b_part.trim_start_matches('0'));
            a.len().cmp(&b.len()).then_with(|| a.cmp(b))
        } else {
            a_part.cmp(b_part)
        };
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
}

/// The digits that a text begins with, or what stands before the first.
fn part(text: &str) -> (&str, &str) {
    let is_number = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != is_number).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(follows: &Follows, names: &[&str]) -> Option<String> {
        let reference = |name: &&str| Reference { name: (*name).to_owned(), object: "a".repeat(40), peeled: None };
        let references: Vec<Reference> = names.iter().map(reference).collect();
        pick(follows, &references).map(|reference| reference.name.clone())
    }

    #[test]
    fn a_branch_is_only_the_one_of_that_name() {
        let main = Follows::Branch("main".to_owned());
        let names = ["refs/heads/x/refs/heads/main", "refs/heads/main", "refs/heads/maintenance"];
        assert_eq!(picked(&main, &names).as_deref(), Some("refs/heads/main"));
        assert_eq!(picked(&main, &names[..1]), None);
    }

    #[test]
    fn the_highest_version_is_picked_and_none_that_is_still_tried() {
        let tags = |pattern: &str, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| format!("refs/tags/{name}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let picked = picked(&Follows::Tags(pattern.to_owned()), &names);
            picked.map(|name| name.trim_start_matches("refs/tags/").to_owned()).unwrap_or_default()
        };
        assert_eq!(tags("v*", &["v1.9.0", "v1.10.0", "v1.2", "x9"]), "v1.10.0");
        assert_eq!(tags("v*", &["v1.0.0", "v2.0.0-rc.1"]), "v1.0.0");
        assert_eq!(tags("v*-*", &["v1.0.0", "v2.0.0-rc.2", "v2.0.0-rc.10"]), "v2.0.0-rc.10");
        assert_eq!(tags("prod-*", &["prod-2026.9", "prod-2026.11", "prod-2026.11-rc1", "test-2027"]), "prod-2026.11");
        assert_eq!(tags("v?", &["v1", "v10", "v2"]), "v2");
        assert_eq!(tags("v*", &["x1"]), "");
        assert_eq!(tags("v*", &["v18446744073709551617", "v18446744073709551616"]), "v18446744073709551617");
    }

    #[test]
    fn patterns_fit_in_no_time() {
        for (pattern, name, is_fit) in [
            ("v*", "v", true),
            ("v*", "xv", false),
            ("*/v?.*", "api/v1.2", true),
            ("*", "", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern, name), is_fit, "{pattern} {name}");
        }
        assert!(!fits(&"*a".repeat(60), &"a".repeat(5000).replace("aaaaa", "b")));
    }
}
