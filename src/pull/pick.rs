//! Picking says which of a remote's references is followed now. Pure.

use std::cmp::Ordering;

use crate::git::remote::Reference;
use crate::settings::Follows;

/// The reference that is followed: the branch, or the highest of the tags; `None` where there is none.
///
/// What has a hyphen behind its version, as `v2.0.0-rc.1`, is for those whose pattern has that hyphen too, as `v*-rc*`.
#[must_use]
pub fn pick<'a>(follows: &Follows, references: &'a [Reference]) -> Option<&'a Reference> {
    match follows {
        Follows::Branch(branch) => {
            references.iter().find(|reference| reference.name.strip_prefix("refs/heads/") == Some(branch))
        }
        Follows::Tags(pattern) => {
            let name = |reference: &'a Reference| reference.name.strip_prefix("refs/tags/");
            let is_meant = |name: &str| fits(pattern, name) && is_asked_for(pattern, name);
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

/// Whether a name that a pattern fits is a version for everybody, or one whose hyphen the pattern has.
fn is_asked_for(pattern: &str, name: &str) -> bool {
    let (version, Some(rest)) = split(name) else { return true };
    pattern.match_indices('-').any(|(at, _)| {
        let (before, behind) = (pattern.get(..at).unwrap_or_default(), pattern.get(at + 1..).unwrap_or_default());
        fits(before, version) && fits(behind, rest)
    })
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

/// A name up to the end of its version, and what follows a hyphen behind that. Hyphens before the version belong to the name,
/// and those behind a `+` to what is said of a build.
fn split(name: &str) -> (&str, Option<&str>) {
    let Some(begin) = version(name) else { return (name, None) };
    let end = begin + number(name.get(begin..).unwrap_or_default());
    let rest = name.get(end..).unwrap_or_default();
    let build = rest.find('+').unwrap_or(rest.len());
    match rest.get(..build).and_then(|rest| rest.find('-')).and_then(|at| name.split_at_checked(end + at)) {
        Some((version, rest)) => (version, rest.strip_prefix('-')),
        None => (name, None),
    }
}

/// Where the version in a name begins: with the first word that is a number, alone, behind a `v`, or with a dot in it, so that
/// neither `s3-v1.2` nor `oauth2-1.2` begins before the 1; else with the first digit.
fn version(name: &str) -> Option<usize> {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '.';
    let words = name.split_inclusive(|c| !is_of_word(c)).scan(0, |end, word| {
        let begin = *end;
        *end += word.len();
        Some((begin, word))
    });
    let begin = words.into_iter().find_map(|(at, word)| {
        let digit = first_digit(word)?;
        let number = word.get(digit..)?;
        let dotted = number.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix('.');
        let is_dotted = dotted.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        (matches!(word.get(..digit)?, "" | "v" | "V") || is_dotted).then_some(at + digit)
    });
    begin.or_else(|| first_digit(name))
}

fn first_digit(text: &str) -> Option<usize> {
    text.find(|c: char| c.is_ascii_digit())
}

/// How much of a text is the version that it begins with: numbers with dots between, or a date as in `2026-11-27`.
fn number(text: &str) -> usize {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    if end != 4 || digits(text) != 4 {
        return end;
    }
    let mut date = end;
    while let Some(part) = text.get(date..).and_then(|rest| rest.strip_prefix('-')).filter(|part| digits(part) == 2) {
        // Ten characters are a whole one.
        if date == 10 || part.get(2..).is_some_and(|rest| rest.starts_with(|c: char| c.is_alphanumeric())) {
            break;
        }
        date += 3;
    }
    date
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
    fn only_a_hyphen_behind_the_version_makes_it_one_that_is_still_tried() {
        for (name, rest) in [
            ("v1.2.0", None),
            ("v2.0.0-rc.1", Some("rc.1")),
            ("release-1.2", None),
            ("release-1.2-beta", Some("beta")),
            ("release1.3-1", Some("1")),
            ("release3-1", None),
            ("api-v2.0.0-rc.1", Some("rc.1")),
            ("s3-v1.2.0", None),
            ("s3-v1.2.0-rc.1", Some("rc.1")),
            ("oauth2-1.2", None),
            ("services/oauth2/v1.2-a-b", Some("a-b")),
            ("2026-11-27", None),
            ("prod-2026-11", None),
            ("prod-2026-11-27", None),
            ("prod-2026-11-27-01", Some("01")),
            ("prod-2026-11-27.2", None),
            ("prod-2026.11-rc1", Some("rc1")),
            ("v1.2.0+build-5", None),
            ("v1.2.0-rc.1+build-5", Some("rc.1+build-5")),
            ("v2-x", Some("x")),
            ("latest-and-best", None),
            ("", None),
        ] {
            assert_eq!(split(name).1, rest, "{name}");
        }
    }

    #[test]
    fn what_is_still_tried_is_for_patterns_that_have_its_hyphen() {
        for (pattern, names, expected) in [
            ("release*", &["release-1.2", "release-1.10", "release-2.0-rc1"][..], "release-1.10"),
            ("release-*", &["release-1.2", "release-2.0-rc1"], "release-1.2"),
            ("api-v*", &["api-v1.0.0", "api-v2.0.0-rc.1"], "api-v1.0.0"),
            ("api-v*-*", &["api-v1.0.0", "api-v2.0.0-rc.1"], "api-v2.0.0-rc.1"),
            ("*-v*", &["api-v1.0.0", "api-v2.0.0-rc.1"], "api-v1.0.0"),
            ("v*-rc*", &["v1.0.0", "v1.1.0-rc1", "v2.0.0-beta1"], "v1.1.0-rc1"),
            ("v*-rc*", &["v1.0.0", "v1.1.0"], ""),
            ("v2.0.0-rc.1", &["v1.0.0", "v2.0.0-rc.1"], "v2.0.0-rc.1"),
            ("prod-*", &["prod-2026-09-30", "prod-2026-11-27"], "prod-2026-11-27"),
            ("s3-v*", &["s3-v1.9.0", "s3-v1.10.0", "s3-v2.0.0-rc.1"], "s3-v1.10.0"),
        ] {
            let names: Vec<String> = names.iter().map(|name| format!("refs/tags/{name}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let picked = picked(&Follows::Tags(pattern.to_owned()), &names).unwrap_or_default();
            assert_eq!(picked.trim_start_matches("refs/tags/"), expected, "{pattern}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_stands_before_a_version_it_is_found(before in "([a-u]{1,5}[0-9]?[-/_])?", major in 0..99u32, minor in 0..99u32, rest in "(-(rc|beta)\\.[0-9])?") {
            let name = format!("{before}v{major}.{minor}{rest}");
            let expected = rest.strip_prefix('-');
            proptest::prop_assert_eq!(split(&name), (&name[..name.len() - rest.len()], expected));
            let all = Follows::Tags("*".to_owned());
            let picked = picked(&all, &[&format!("refs/tags/{name}")]);
            proptest::prop_assert_eq!(picked.is_some(), expected.is_none());
        }

        #[test]
        fn any_name_is_split_into_what_it_is_made_of(name in "[a-z0-9.+/é-]{0,20}") {
            let (version, rest) = split(&name);
            let whole = rest.map_or_else(|| version.to_owned(), |rest| format!("{version}-{rest}"));
            proptest::prop_assert_eq!(whole, name);
        }
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
