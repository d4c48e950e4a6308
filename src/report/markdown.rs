//! A plan as Markdown, for a comment on a pull request, and as annotations of a GitHub workflow.

use std::fmt::Write as _;

use super::diagnostics::{Findings, below, data, property};
use super::plan::{Basis, change_text, moved, summary_line};
use super::style::{inert, plain};
use crate::reconcile::plan::{ApiPlan, Change, Plan, Rebuild, Resolution, Verdict};

/// Stands in the first line of every comment, so that whoever posts it finds the one before, and edits that.
pub const MARKER: &str = "<!-- skep plan -->";

/// A comment on GitHub may be 65,536 characters long. Diffs are what there can be less of, then the rest of what changes in each
/// API, then APIs.
const LONGEST: usize = 60_000;

/// How far findings may go, and the table.
const FINDINGS: usize = 15_000;
const TABLE: usize = 40_000;

/// The longest diff of one file, and the most that is said of one API: so that one leaves room for the others.
const DIFF: usize = 8_000;
const API: usize = 20_000;

/// A plan as Markdown, with what is wrong with its tree. `basis` is what it is compared with, where that is a commit.
#[must_use]
pub fn markdown(plan: &Plan, findings: &Findings<'_>, basis: Option<&Basis<'_>>) -> String {
    inert(&written(plan, findings, basis))
}

/// What is wrong with a tree of which there is no plan, as Markdown.
#[must_use]
pub fn broken(findings: &Findings<'_>) -> String {
    let mut text = format!("{MARKER}\n### skep: the tree is broken: {}\n\n", findings.summary());
    add_findings(&mut text, findings, LONGEST);
    inert(&text)
}

/// Everything that is wrong, up to that length.
fn add_findings(text: &mut String, findings: &Findings<'_>, longest: usize) {
    for (told, finding) in findings.all().enumerate() {
        let kind = if finding.is_error() { "error" } else { "warning" };
        let line = finding.span.map(|span| format!(":{}:{}", span.line, span.column)).unwrap_or_default();
        let place = safe(&(findings.shown(finding) + &line));
        let hint = if finding.hint.is_empty() { String::new() } else { format!("; {}", safe(&finding.hint)) };
        let line = format!("- **{kind}** `{}` {place}: {}{hint}\n", finding.code, safe(&finding.message));
        if text.len() + line.len() > longest {
            let more = findings.all().count() - told;
            let _ = writeln!(text, "- and {more} more, for which a comment has no room: see all with `skep check`");
            break;
        }
        text.push_str(&line);
    }
}

fn written(plan: &Plan, findings: &Findings<'_>, basis: Option<&Basis<'_>>) -> String {
    let mut text = format!("{MARKER}\n### skep: {}\n\n", anstream::adapter::strip_str(&summary_line(plan)));
    if let Some(Basis { commit, of }) = basis {
        let _ = write!(text, "Compared with `{}` {}", commit.short(), safe(&commit.subject));
        let of = of.map(|of| format!(", the last commit in common with {}", safe(of))).unwrap_or_default();
        let _ = writeln!(text, "{of}\n");
    }
    if findings.all().next().is_some() {
        let _ = writeln!(text, "What is wrong with the tree: {}\n", findings.summary());
        add_findings(&mut text, findings, FINDINGS);
        text.push('\n');
    }
    if plan.apis.is_empty() {
        return text;
    }
    text.push_str("| API | | what callers notice | what is done |\n|---|---|---|---|\n");
    let mut rows = plan.apis.iter();
    while let Some(api) = rows.next() {
        let callers = api.callers.iter().map(|notice| safe(notice)).collect::<Vec<_>>().join("<br>");
        let row = format!("| `{}` | {} | {callers} | {} |\n", api.id, verdict(api), effects(api, safe));
        if text.len() + row.len() > TABLE {
            let _ = writeln!(
                text,
                "\nAnd {} more APIs, for which a comment has no room: see all with `skep plan --base`.",
                rows.len() + 1
            );
            break;
        }
        text.push_str(&row);
    }
    let mut left_out = 0;
    for api in plan.apis.iter().filter(|api| !api.changes.is_empty()) {
        match details(api, API.min(LONGEST.saturating_sub(text.len()))) {
            Some(details) => text.push_str(&details),
            None => left_out += 1,
        }
    }
    if left_out > 0 {
        let _ = writeln!(
            text,
            "\nWhat changes in {left_out} of these has no room in a comment: see all with `skep plan --base`."
        );
    }
    text
}

/// A plan as annotations, one for each API. `prefix` leads from where the reader is to the root of the tree.
#[must_use]
pub fn github(plan: &Plan, prefix: &str) -> String {
    let mut text = String::new();
    for api in &plan.apis {
        let level = match (&api.blocked, api.breaks().next()) {
            (Some(_), _) => "error",
            (None, Some(_)) => "warning",
            (None, None) => "notice",
        };
        let message: Vec<String> = api
            .blocked
            .iter()
            .chain(&api.callers)
            .map(|line| plain(line))
            .chain([effects(api, plain)])
            .filter(|line| !line.is_empty())
            .collect();
        let file = property(&below(prefix, &format!("apis/{}/api.yaml", api.id)));
        let title = property(&format!("{}: {}", api.id, word(api.verdict)));
        let _ = writeln!(text, "::{level} file={file},title={title}::{}", data(&message.join("\n")));
    }
    let _ = writeln!(text, "{}", anstream::adapter::strip_str(&summary_line(plan)));
    text
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Create => "create",
        Verdict::Update => "update",
        Verdict::Heal => "heal",
        Verdict::Suspend => "suspend",
        Verdict::Remove => "remove",
        Verdict::Blocked => "blocked",
    }
}

fn verdict(api: &ApiPlan) -> String {
    match &api.blocked {
        Some(why) => format!("**{}**: {}", word(api.verdict), safe(why)),
        None => format!("**{}**", word(api.verdict)),
    }
}

/// What is done, with the words of others as `shown` has them.
fn effects(api: &ApiPlan, shown: fn(&str) -> String) -> String {
    let rebuild = match api.rebuild {
        Rebuild::Nothing => None,
        Rebuild::Code => Some("builds its image; installs nothing"),
        Rebuild::Dependencies => Some("installs its requirements, builds its image"),
    };
    let restart = match api.verdict {
        Verdict::Update if api.restart => Some("new instances take over from the old ones"),
        Verdict::Update => Some("restarts nothing"),
        _ => None,
    };
    let moved = moved(api).map(|moved| format!("packages: {moved}"));
    let unknown = match &api.packages {
        Some(Resolution::Unknown { why }) => Some(format!("packages not compared: {}", shown(why))),
        _ => None,
    };
    rebuild.into_iter().chain(moved.as_deref()).chain(unknown.as_deref()).chain(restart).collect::<Vec<_>>().join("; ")
}

/// What changes in one API, in no more bytes than that; `None` where there is no room even to say how much it is.
fn details(api: &ApiPlan, room: usize) -> Option<String> {
    const END: &str = "</details>\n";
    let count = api.changes.len();
    let changes = if count == 1 { "1 change".to_owned() } else { format!("{count} changes") };
    let mut text = format!("\n<details><summary>{}: {changes}</summary>\n\n", api.id);
    let more = |count: usize| format!("- and {count} more\n");
    let room = room.checked_sub(END.len() + more(count).len())?;
    if text.len() > room {
        return None;
    }
    for (told, change) in api.changes.iter().enumerate() {
        let mut piece = piece(change, true);
        if piece.len() > DIFF || text.len() + piece.len() > room {
            piece = self::piece(change, false);
        }
        if text.len() + piece.len() > room {
            text.push_str(&more(count - told));
            break;
        }
        text.push_str(&piece);
    }
    text.push_str(END);
    Some(text)
}

/// One change, with its diff or how long that is.
fn piece(change: &Change, with_diff: bool) -> String {
    match change {
        Change::File { path, diff: Some(diff), .. } if with_diff => {
            // Longer than any in the text, so that nothing in it can end it.
            let longest = diff.split(|c| c != '`').map(str::len).max().unwrap_or(0);
            let fence = "`".repeat((longest + 1).max(3));
            let lines: Vec<String> = diff.trim_end().lines().map(plain).collect();
            format!("- {}\n\n{fence}diff\n{}\n{fence}\n\n", safe(path), lines.join("\n"))
        }
        Change::File { path, diff: Some(diff), .. } => {
            format!("- {}: a diff of {} lines, too long for a comment\n", safe(path), diff.lines().count())
        }
        change => format!("- {}\n", safe(&anstream::adapter::strip_str(&change_text(change)).to_string())),
    }
}

/// Somebody's words, so that they are shown and nothing else: no markup, no mention of people.
fn safe(text: &str) -> String {
    let mut out = String::new();
    for c in plain(text).chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '&' => out.push_str("&amp;"),
            '@' => out.push_str("@\u{200b}"),
            '\n' | '\r' => out.push(' '),
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '#' | '~' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::safe;

    #[test]
    fn words_of_others_are_no_markup() {
        assert_eq!(safe("<img> @all a|b `x` [y](z)"), "&lt;img> @\u{200b}all a\\|b \\`x\\` \\[y\\](z)");
    }
}
