//! Requirements as the old system handed them to pip, made into lines that skep installs.

use serde::Serialize;

use crate::tree::diagnostic::code;
use crate::tree::source::Source;
use crate::tree::suggest::shorten;
use crate::tree::{Diagnostic, Requirements};

/// What every API of the old system had, and what skep does not give to every API.
const BASE: [&str; 2] = ["minio", "pillow"];

/// The most requirements of one file; skep reads 500.
const MOST: usize = 500 - BASE.len();

/// A line that is left out, wholly or in part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Which line of the row's requirements, from 1.
    pub line: usize,
    /// What stands there, without secrets and cut where it is long.
    pub text: String,
    /// Why, and what to do instead.
    pub why: String,
}

/// A line of the file that is written.
enum Line {
    /// Something to install; the number and the text of the line of the row.
    Requirement(usize, String),
    /// A comment or nothing.
    Other(String),
}

/// Makes a `requirements.txt` of what a row says, and names the lines that are left out of it.
#[must_use]
pub fn clean(written: &str) -> (String, Vec<LeftOut>) {
    let mut left_out = Vec::new();
    let mut lines = Vec::new();
    let mut count = 0;
    for (number, text) in logical_lines(&as_lines(written)) {
        let line = match read(&text) {
            Ok(None) => Line::Other(text),
            Ok(Some(_)) if count == MOST => {
                let why = format!("more than {MOST} requirements; keep those that the code imports");
                refuse(number, &text, why, &mut left_out)
            }
            Ok(Some(kept)) => {
                count += 1;
                if kept != text {
                    let why = "options of the installer; the requirement itself is kept".to_owned();
                    lines.push(refuse(number, &text, why, &mut left_out));
                }
                Line::Requirement(number, kept)
            }
            Err(why) => refuse(number, &text, why, &mut left_out),
        };
        lines.push(line);
    }
    without_twins(&mut lines, &mut left_out);
    left_out.sort_by_key(|line| line.line);
    (file(&lines), left_out)
}

/// The file: what every API had, then the row's lines.
fn file(lines: &[Line]) -> String {
    let named: Vec<String> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Requirement(_, text) => Some(parse(text).0),
            Line::Other(_) => None,
        })
        .flat_map(|requirements| requirements.0)
        .map(|requirement| requirement.name().to_owned())
        .collect();
    let mut file = String::new();
    let missing: Vec<&str> = BASE.into_iter().filter(|base| !named.iter().any(|name| name == base)).collect();
    if !missing.is_empty() {
        file.push_str("# What every API of the old system had, besides what every API of skep has.\n");
        for base in missing {
            file.extend([base, "\n"]);
        }
        if !lines.is_empty() {
            file.push('\n');
        }
    }
    for line in lines {
        let (Line::Requirement(_, text) | Line::Other(text)) = line;
        file.extend([text.as_str(), "\n"]);
    }
    file
}

/// What of a line is installed; `None` for a comment or an empty line.
///
/// # Errors
/// Why it is refused.
fn read(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    let Some(finding) = parse(text).1 else { return Ok(Some(text.to_owned())) };
    // `flask==3.0 --hash=…` is a requirement with options behind it.
    let without_options = text.split(" --").next().unwrap_or_default().trim_end();
    let is_option = finding.code == code::REQUIREMENT_OPTION && !without_options.is_empty();
    if is_option && !without_options.starts_with('-') && parse(without_options).1.is_none() {
        return Ok(Some(without_options.to_owned()));
    }
    Err(why(&finding))
}

/// One line as skep reads it, and the first thing that is wrong with it.
fn parse(text: &str) -> (Requirements, Option<Diagnostic>) {
    let mut findings = Vec::new();
    let requirements = Requirements::parse(Source::new("requirements.txt", text), &mut findings);
    (requirements, findings.into_iter().next())
}

/// Takes out lines that contradict one before them.
fn without_twins(lines: &mut [Line], left_out: &mut Vec<LeftOut>) {
    // Each round takes one out at least; what is written anew has one line a line.
    loop {
        let text: String = lines
            .iter()
            .map(|line| match line {
                Line::Requirement(_, text) => format!("{text}\n"),
                Line::Other(_) => "\n".to_owned(),
            })
            .collect();
        let mut findings = Vec::new();
        let _ = Requirements::parse(Source::new("requirements.txt", &text), &mut findings);
        let before = left_out.len();
        for finding in findings {
            let Some(at) = finding.span.map(|span| span.line as usize - 1) else { continue };
            if let Some(line) = lines.get_mut(at)
                && let Line::Requirement(number, text) = line
            {
                // The hint names a line of this text, which nobody sees.
                *line = refuse(*number, &text.clone(), finding.message, left_out);
            }
        }
        if left_out.len() == before {
            return;
        }
    }
}

/// Puts a line down as left out, and makes the comment that says so.
fn refuse(number: usize, text: &str, why: String, left_out: &mut Vec<LeftOut>) -> Line {
    let text = shown(text);
    let comment = format!("# Left out by the import, {why}:\n# {text}");
    left_out.push(LeftOut { line: number, text, why });
    Line::Other(comment)
}

fn why(finding: &Diagnostic) -> String {
    if finding.hint.is_empty() { finding.message.clone() } else { format!("{}: {}", finding.message, finding.hint) }
}

/// A line as others may see it: without passwords in URLs, without control characters, and cut.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || matches!(c, '/' | '?' | '#')).unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(sign) => {
                shown.push('…');
                &after[sign..]
            }
            None => after,
        };
    }
    shown.push_str(rest);
    shorten(&shown.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>())
}

/// What stands there as lines, where it is a list in JSON.
fn as_lines(written: &str) -> String {
    let is_list = written.trim_start().starts_with('[');
    let list = if is_list { serde_json::from_str::<Vec<String>>(written).ok() } else { None };
    list.map_or_else(|| written.to_owned(), |list| list.join("\n"))
}

/// Lines as pip has them, each with the number of its first: a backslash at the end goes on with the next.
fn logical_lines(written: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (number, line) in (1..).zip(written.trim_start_matches('\u{feff}').lines()) {
        let line = line.trim();
        let (text, more) = match line.strip_suffix('\\') {
            Some(text) if !line.starts_with('#') => (text.trim_end(), true),
            _ => (line, false),
        };
        match lines.last_mut() {
            Some((_, before)) if goes_on => before.extend([" ", text]),
            _ => lines.push((number, text.to_owned())),
        }
        goes_on = more;
    }
    // A bare `\r` would end a comment for some readers, and so would other control characters.
    for (_, line) in &mut lines {
        if line.starts_with('#') {
            *line = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        }
    }
    while lines.last().is_some_and(|(_, line)| line.is_empty()) {
        lines.pop();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(written: &str) -> Vec<(usize, String)> {
        let (file, left_out) = clean(written);
        let mut findings = Vec::new();
        let _ = Requirements::parse(Source::new("requirements.txt", &file), &mut findings);
        assert_eq!(findings, [], "{file}");
        left_out.into_iter().map(|line| (line.line, line.text)).collect()
    }

    #[test]
    fn what_skep_installs_is_kept_as_it_is() {
        let (file, left_out) =
            clean("\u{feff}# ours\r\nPillow==10.0  # pinned\r\n\r\nrequests>=2\r\nfastapi\r\nminio\r\n");
        assert_eq!(file, "# ours\nPillow==10.0  # pinned\n\nrequests>=2\nfastapi\nminio\n");
        assert_eq!(left_out, []);
        let (file, _) = clean("");
        assert!(file.ends_with("\nminio\npillow\n"), "{file}");
    }

    #[test]
    fn every_line_that_skep_refuses_is_named_and_stays_as_a_comment() {
        let written = "flask\n-r other.txt\n--index-url https://me:hunter2@pypi.example.com/simple\n\
                       git+https://token@github.com/a/b\n-e .\nrequests; python_version > '3'\n$X\n\u{7}bell\n./a.whl\n";
        let (file, left_out) = clean(written);
        assert_eq!(left_out.iter().map(|line| line.line).collect::<Vec<_>>(), [2, 3, 4, 5, 7, 8, 9]);
        assert_eq!(left_out[1].text, "--index-url https://…@pypi.example.com/simple");
        assert!(left_out[0].why.contains("write the requirements of that file here"), "{left_out:?}");
        assert!(!file.contains("hunter2") && !file.contains("token"), "{file}");
        assert!(file.contains("# git+https://…@github.com/a/b\n"), "{file}");
        assert!(file.contains("\nflask\n") && file.contains("\nrequests; python_version > '3'\n"));
        assert_eq!(refused(written).len(), 7);
    }

    #[test]
    fn hashes_are_left_out_and_their_requirement_is_kept() {
        let (file, left_out) = clean("flask==3.0.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\nrich\n");
        assert!(file.contains("\nflask==3.0.0\nrich\n"), "{file}");
        assert_eq!(left_out.len(), 1);
    }

    #[test]
    fn of_two_demands_for_one_package_the_first_is_kept() {
        assert_eq!(refused("flask==1\nflask==2\nflask==1\nFlask>3\n"), [(2, "flask==2".into()), (4, "Flask>3".into())]);
    }

    #[test]
    fn a_list_in_json_is_as_good_as_lines() {
        assert!(clean("[\"rich\", \"flask>=3\"]").0.ends_with("\nrich\nflask>=3\n"));
    }

    #[test]
    fn hostile_lines_end_in_a_sound_file() {
        for written in ["\\\n\\\n\\", "#\u{0}\r#", "a\rb", "--", "://@://@", &"x==1\n".repeat(3000), "[", "[1]"] {
            refused(written);
        }
        let many: String = (0..2000).map(|number| format!("package-{number}\n")).collect();
        assert_eq!(refused(&many).len(), 2000 - MOST);
    }
}
