//! A plan as Markdown, for a comment on a pull request, and as annotations of a GitHub workflow.

use std::fmt::Write as _;

use super::plan::{change_text, moved, summary_line};
use super::style::plain;
use crate::git::Commit;
use crate::reconcile::plan::{ApiPlan, Change, Plan, Rebuild, Verdict};

/// Stands in the first line of every comment, so that whoever posts it finds the one before, and edits that.
pub const MARKER: &str = "<!-- skep plan -->";

/// A comment on GitHub may be 65,536 characters long, and diffs are what there can be less of.
const LONGEST: usize = 60_000;

/// A plan as Markdown. `base` is what it is compared with, where that is a commit.
#[must_use]
pub fn markdown(plan: &Plan, base: Option<&Commit>) -> String {
    let mut text = format!("{MARKER}\n### skep: {}\n\n", anstream::adapter::strip_str(&summary_line(plan)));
    if let Some(base) = base {
        let _ = writeln!(text, "Compared with `{}` {}\n", base.short(), safe(&base.subject));
    }
    if plan.apis.is_empty() {
        return text;
    }
    text.push_str("| API | | what callers notice | what is done |\n|---|---|---|---|\n");
    for api in &plan.apis {
        let callers = api.callers.iter().map(|notice| safe(notice)).collect::<Vec<_>>().join("<br>");
        let _ = writeln!(text, "| `{}` | {} | {callers} | {} |", api.id, verdict(api), effects(api));
    }
    for api in plan.apis.iter().filter(|api| !api.changes.is_empty()) {
        let details = details(api);
        if text.len() + details.len() > LONGEST {
            let _ = writeln!(
                text,
                "\nMore changes than a comment has room for: see the whole plan with `skep plan --base`."
            );
            break;
        }
        text.push_str(&details);
    }
    text
}

/// A plan as annotations, one for each API.
#[must_use]
pub fn github(plan: &Plan) -> String {
    let mut text = String::new();
    for api in &plan.apis {
        let level = match (&api.blocked, api.breaks().next()) {
            (Some(_), _) => "error",
            (None, Some(_)) => "warning",
            (None, None) => "notice",
        };
        let message: Vec<String> =
            api.blocked.iter().chain(&api.callers).map(|line| plain(line)).chain([effects(api)]).collect();
        // As GitHub's own toolkit escapes them.
        let message = message.join("\n").replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
        let _ =
            writeln!(text, "::{level} file=apis/{0}/api.yaml,title={0}%3A {1}::{message}", api.id, word(api.verdict));
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

fn effects(api: &ApiPlan) -> String {
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
    rebuild.into_iter().chain(moved.as_deref()).chain(restart).collect::<Vec<_>>().join("; ")
}

fn details(api: &ApiPlan) -> String {
    let mut text = format!("\n<details><summary>{}: {} changes</summary>\n\n", api.id, api.changes.len());
    for change in &api.changes {
        match change {
            Change::File { path, diff: Some(diff), .. } => {
                // Longer than any in the text, so that nothing in it can end it.
                let longest = diff.split(|c| c != '`').map(str::len).max().unwrap_or(0);
                let fence = "`".repeat((longest + 1).max(3));
                let _ = writeln!(text, "{}\n\n{fence}diff\n{}\n{fence}\n", safe(path), diff.trim_end());
            }
            change => {
                let _ = writeln!(text, "- {}", safe(&anstream::adapter::strip_str(&change_text(change)).to_string()));
            }
        }
    }
    text.push_str("</details>\n");
    text
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
