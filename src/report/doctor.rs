//! What a doctor found, as text for people and as JSON for machines.

use std::fmt::Write;

use serde::Serialize;

use super::style::{BAD, BOLD, FAINT, GOOD, NAME, WARN, paint, plain};
use crate::doctor::{Finding, Outcome};

/// How wide text for people is, in columns. Commands are never broken: they are to be pasted.
const WIDTH: usize = 110;

/// What `skep doctor --output json` prints. `version` goes up when a reader must change.
#[derive(Debug, Serialize)]
pub struct DoctorJson<'a> {
    version: u32,
    checks: &'a [Finding],
    summary: Summary,
}

/// How many checks came out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    ok: usize,
    note: usize,
    unknown: usize,
    warning: usize,
    problem: usize,
}

impl Summary {
    /// Counts.
    #[must_use]
    pub fn of(findings: &[Finding]) -> Self {
        let count = |outcome| findings.iter().filter(|finding| finding.outcome == outcome).count();
        Self {
            ok: count(Outcome::Ok),
            note: count(Outcome::Note),
            unknown: count(Outcome::Unknown),
            warning: count(Outcome::Warning),
            problem: count(Outcome::Problem),
        }
    }

    /// Whether anything keeps skep from its work.
    #[must_use]
    pub fn has_problem(&self) -> bool {
        self.problem > 0
    }
}

/// The findings for machines.
#[must_use]
pub fn json(findings: &[Finding]) -> DoctorJson<'_> {
    DoctorJson { version: 1, checks: findings, summary: Summary::of(findings) }
}

/// The findings for people, with colours.
#[must_use]
pub fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    let indent = " ".repeat("problem".len() + 2 + width + 2);
    let mut out = String::new();
    for finding in findings {
        let outcome = paint(format!("{:<7}", finding.outcome.as_str()), style(finding.outcome));
        let name = paint(format!("{:<width$}", finding.check.replace('-', " ")), NAME);
        let mut lines = wrap(&plain(&finding.found), WIDTH - indent.len()).into_iter();
        let _ = writeln!(out, "{outcome}  {name}  {}", lines.next().unwrap_or_default());
        for line in lines {
            let _ = writeln!(out, "{indent}{line}");
        }
        for line in wrap(&plain(&finding.means), WIDTH - indent.len()) {
            let _ = writeln!(out, "{indent}{}", paint(line, FAINT));
        }
        for step in &finding.next {
            let _ = writeln!(out, "{indent}{} {}", paint("→", style(finding.outcome)), plain(step));
        }
    }
    let _ = writeln!(out, "\n{}", closing(&Summary::of(findings)));
    out
}

/// One sentence: how it stands.
fn closing(summary: &Summary) -> String {
    let parts = [
        (summary.problem, "problem", BAD),
        (summary.warning, "warning", WARN),
        (summary.note, "note", FAINT),
        (summary.ok, "ok", GOOD),
    ];
    let counted: Vec<String> = parts
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, word, style)| {
            let plural = if count == 1 || word == "ok" { "" } else { "s" };
            paint(format!("{count} {word}{plural}"), style)
        })
        .collect();
    let unknown = if summary.unknown > 0 { format!("; {} not looked at", summary.unknown) } else { String::new() };
    let verdict = match (summary.problem, summary.warning) {
        (0, 0) => "This host is fit for skep.",
        (0, _) => "skep works here; the warnings say what would make it safer or surer.",
        _ => "Begin with the first problem: others may come of it.",
    };
    format!("{}{unknown}. {}", counted.join(", "), paint(verdict, BOLD))
}

fn style(outcome: Outcome) -> anstyle::Style {
    match outcome {
        Outcome::Ok => GOOD,
        Outcome::Note => NAME,
        Outcome::Unknown => FAINT,
        Outcome::Warning => WARN,
        Outcome::Problem => BAD,
    }
}

/// Text in lines of at most `width` columns, broken between words; a word that is longer has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(check: &'static str, outcome: Outcome) -> Finding {
        let (means, next) = match outcome {
            Outcome::Ok => (String::new(), Vec::new()),
            _ => ("It means this. ".repeat(12), vec!["sudo do --this    # and that".to_owned()]),
        };
        Finding { check, outcome, found: "something\u{1b}[31m".to_owned(), means, next }
    }

    fn text_of(findings: &[Finding]) -> String {
        anstream::adapter::strip_str(&text(findings)).to_string()
    }

    #[test]
    fn columns_stand_under_each_other_and_no_line_is_too_long() {
        let text = text_of(&[finding("engine", Outcome::Ok), finding("base-image", Outcome::Problem)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "ok       engine      something\\u{1b}[31m");
        assert_eq!(lines[1], "problem  base image  something\\u{1b}[31m");
        assert!(lines[2].starts_with("                     It means this."), "{text}");
        assert!(text.contains("\n                     → sudo do --this    # and that\n"), "{text}");
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(text.ends_with("\n1 problem, 1 ok. Begin with the first problem: others may come of it.\n"), "{text}");
    }

    #[test]
    fn the_last_line_says_how_it_stands() {
        let of = |outcomes: &[Outcome]| {
            let findings: Vec<_> = outcomes.iter().map(|outcome| finding("x", *outcome)).collect();
            anstream::adapter::strip_str(&closing(&Summary::of(&findings))).to_string()
        };
        assert_eq!(of(&[Outcome::Ok, Outcome::Ok]), "2 ok. This host is fit for skep.");
        assert!(
            of(&[Outcome::Warning, Outcome::Warning, Outcome::Ok]).starts_with("2 warnings, 1 ok. skep works here")
        );
        assert!(of(&[Outcome::Problem, Outcome::Unknown]).starts_with("1 problem; 1 not looked at."));
    }

    #[test]
    fn machines_get_the_same_with_a_version() {
        let findings = [finding("engine", Outcome::Ok), finding("disk", Outcome::Warning)];
        let json = serde_json::to_value(json(&findings)).unwrap();
        assert_eq!(json["version"], 1);
        assert_eq!(json["checks"][1]["outcome"], "warning");
        assert_eq!(json["checks"][1]["next"][0], "sudo do --this    # and that");
        assert_eq!(
            json["summary"],
            serde_json::json!({ "ok": 1, "note": 0, "unknown": 0, "warning": 1, "problem": 0 })
        );
    }
}
