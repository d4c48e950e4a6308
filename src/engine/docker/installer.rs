//! What the installer says, read for the requirement at fault.

use crate::tree::Requirements;

/// One line for people: which requirement could not be installed, and why, by what the installer has printed.
#[must_use]
pub fn explain(output: &[String], code: i64, requirements: &Requirements) -> String {
    if code == 137 {
        return "the installer was killed, most likely for want of memory; raise build.memory in skep.yaml".to_owned();
    }
    let said = sentence(output);
    if requirements.is_locked()
        && let Some(message) = explain_lock(output, &said)
    {
        return message;
    }
    let blamed = blame(&said, requirements);
    let reason = reason(&said);
    match (blamed.as_slice(), reason) {
        ([], _) if said.is_empty() => format!("the installer ended with code {code} and said nothing"),
        ([], _) => format!("cannot install the requirements: {said}"),
        (blamed, Some(reason)) => format!("cannot install {}: {reason}", blamed.join(" and ")),
        (blamed, None) => format!("cannot install {}: {said}", blamed.join(" and ")),
    }
}

/// A line that it printed, without the login that the address of the index may hold.
#[must_use]
pub fn without_login(line: &str, index: Option<&str>) -> String {
    let host = index.and_then(|url| url.split_once("://")?.1.split(['/', '?']).next());
    match host.and_then(|host| host.rsplit_once('@')) {
        Some((login, _)) if !login.is_empty() => line.replace(login, "****"),
        _ => line.to_owned(),
    }
}

/// What only an install from a lock can fail for.
fn explain_lock(output: &[String], said: &str) -> Option<String> {
    const AGAIN: &str = "if it should be so, have the lock made again with `skep lock`";
    let between = |text: &str, before: &str| {
        let rest = text.split_once(before)?.1;
        Some(rest.split('`').next().unwrap_or(rest).to_owned())
    };
    let all = || output.iter().map(String::as_str).chain([said]);
    if let Some(package) = all().find_map(|line| between(line, "Hash mismatch for `")) {
        return Some(format!(
            "cannot install {package}: the package index has another file of it than requirements.lock allows; {AGAIN}"
        ));
    }
    let missing = "all requirements must be pinned upfront with `==`, but found: `";
    if let Some(package) = all().find_map(|line| between(line, missing)) {
        return Some(format!("cannot install {package}: requirements.lock does not name it; {AGAIN}"));
    }
    None
}

/// Whether the installer could not speak to the package index, which says nothing about the requirements.
pub(super) fn is_out_of_reach(output: &[String]) -> bool {
    let signs = ["Failed to fetch", "Request failed", "error sending request", "Failed to download", "timed out"];
    let said = sentence(output);
    !said.contains("you require ") && signs.iter().any(|sign| said.contains(sign))
}

/// The installer draws its explanation over several lines; this is the same as one.
fn sentence(output: &[String]) -> String {
    let mut words = Vec::new();
    let mut is_within = false;
    for line in output {
        let text = line.trim_start_matches([' ', '│', '×', '╰', '─', '▶', '├']).trim();
        if text.starts_with("hint:") {
            break;
        }
        let is_cause = text.starts_with("Because ") || text.starts_with("error:") || text.starts_with("Caused by:");
        is_within |= is_cause;
        if is_within && !text.is_empty() {
            words.push(text.trim_start_matches("error: "));
        }
    }
    words.join(" ")
}

/// The requirements that the sentence says somebody asked for, as they were written.
fn blame(said: &str, requirements: &Requirements) -> Vec<String> {
    let mut blamed = Vec::new();
    for part in said.split("you require ").skip(1) {
        let Some(named) = part.split([' ', ',']).next() else { continue };
        let name = name_of(named);
        for requirement in &requirements.0 {
            let asked = requirement.asked().to_owned();
            if name_of(&asked) == name && !blamed.contains(&asked) {
                blamed.push(asked);
            }
        }
    }
    blamed
}

/// The commonest causes, shorter than the installer puts them.
fn reason(said: &str) -> Option<&'static str> {
    let is_conflict = said.contains(" depends on ") || said.contains("And because");
    if is_conflict {
        None
    } else if said.contains("was not found in the package registry") {
        Some("the package index has no package of that name")
    } else if said.contains("there is no version of") || said.contains("there are no versions of") {
        Some("the package index has no such version")
    } else if said.contains("has no usable wheels") || said.contains("no wheels with a matching") {
        Some("there is no wheel of it for this Python and platform, and nothing is built from source")
    } else {
        None
    }
}

/// The name of a requirement, normalised as PEP 503 says.
fn name_of(requirement: &str) -> String {
    let end = requirement.find(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.')));
    let name = &requirement[..end.unwrap_or(requirement.len())];
    let mut normal = String::new();
    for part in name.split(['-', '_', '.']).filter(|part| !part.is_empty()) {
        if !normal.is_empty() {
            normal.push('-');
        }
        normal.push_str(&part.to_lowercase());
    }
    normal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Requirement;

    fn explained(output: &str, requirements: &[&str]) -> String {
        let lines: Vec<_> = output.lines().map(str::to_owned).collect();
        let requirements = requirements.iter().map(|text| Requirement((*text).to_owned())).collect();
        explain(&lines, 1, &Requirements(requirements))
    }

    #[test]
    fn a_version_that_is_not_there_is_named() {
        let output = "Using Python 3.11.2 environment at: /opt/venv
  × No solution found when resolving dependencies:
  ╰─▶ Because there is no version of fastapi==99 and you require fastapi==99,
      we can conclude that your requirements are unsatisfiable.";
        assert_eq!(
            explained(output, &["fastapi==99", "uvicorn"]),
            "cannot install fastapi==99: the package index has no such version"
        );
    }

    #[test]
    fn a_package_that_is_not_there_is_named_as_it_was_written() {
        let output = "  × No solution found when resolving dependencies:
  ╰─▶ Because no-such-package was not found in the package registry
      and you require no-such-package, we can conclude that your
      requirements are unsatisfiable.";
        assert_eq!(
            explained(output, &["No_Such.Package", "uvicorn"]),
            "cannot install No_Such.Package: the package index has no package of that name"
        );
    }

    #[test]
    fn a_package_without_a_wheel_is_named() {
        let output = "  × No solution found when resolving dependencies:
  ╰─▶ Because pycrypto==2.6.1 has no usable wheels and you require
      pycrypto==2.6.1, we can conclude that your requirements are
      unsatisfiable.

      hint: Wheels are required for `pycrypto` because building from source is
      disabled for all packages (i.e., with `--no-build`)";
        let message = explained(output, &["pycrypto==2.6.1"]);
        assert!(message.starts_with("cannot install pycrypto==2.6.1: there is no wheel"), "{message}");
    }

    #[test]
    fn of_a_conflict_both_sides_are_named_and_the_reason_is_whole() {
        let output = "  × No solution found when resolving dependencies:
  ╰─▶ Because fastapi==0.110.0 depends on starlette>=0.36.3,<0.37.0 and
      you require fastapi==0.110.0, we can conclude that you require
      starlette>=0.36.3,<0.37.0.
      And because you require starlette>=0.45, we can conclude that your
      requirements are unsatisfiable.";
        let message = explained(output, &["fastapi==0.110.0", "starlette>=0.45"]);
        assert!(message.starts_with("cannot install fastapi==0.110.0 and starlette>=0.45: Because"), "{message}");
        assert!(message.contains("depends on starlette>=0.36.3,<0.37.0"), "{message}");
    }

    #[test]
    fn an_index_out_of_reach_is_not_blamed_on_a_requirement() {
        let output = "error: Request failed after 3 retries
  Caused by: Failed to fetch: `http://127.0.0.1:9/simple/httpx/`
  Caused by: Connection refused (os error 111)";
        let message = explained(output, &["httpx"]);
        assert!(message.starts_with("cannot install the requirements: Request failed"), "{message}");
        assert!(message.contains("Connection refused"), "{message}");
        assert!(is_out_of_reach(&output.lines().map(str::to_owned).collect::<Vec<_>>()));
        assert!(!is_out_of_reach(&[
            "Because there is no version of fastapi==99 and you require fastapi==99".to_owned()
        ]));
    }
}
