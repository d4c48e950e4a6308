//! A plan as text for people, and as JSON for machines.

use std::fmt::Write;

use serde::Serialize;

use super::style::{BAD, BOLD, FAINT, GOOD, NAME, WARN, inert, paint, plain};
use crate::contract::{self, Difference};
use crate::git::Commit;
use crate::reconcile::plan::{ApiPlan, Change, Move, Plan, Rebuild, Resolution, Verdict};
use crate::tree::Diagnostic;
use crate::tree::diagnostic::code;

/// A plan as `--output json` prints it, and as `--out` writes it. `version` goes up when a reader must change.
#[derive(Debug, Serialize)]
pub struct PlanJson<'a> {
    /// The plan.
    #[serde(flatten)]
    pub plan: &'a Plan,
    /// How many APIs each verdict has.
    pub summary: Summary,
    /// What is wrong with the tree.
    pub findings: Vec<&'a Diagnostic>,
    /// The commit that it is compared with, where that is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<&'a str>,
}

/// The commit that a tree is compared with.
#[derive(Debug, Clone, Copy)]
pub struct Basis<'a> {
    /// Which.
    pub commit: &'a Commit,
    /// What it is the last commit in common with, where somebody named that, and it is another.
    pub of: Option<&'a str>,
}

impl Basis<'_> {
    /// Which commit it is, where nobody named it.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        let of = plain(self.of?);
        let (short, subject) = (self.commit.short(), plain(&self.commit.subject));
        Some(inert(&format!("Compared with {short} {subject}, the last commit in common with {of}.")))
    }
}

/// How many APIs each verdict has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// New ones.
    pub create: usize,
    /// Those that the tree changed.
    pub update: usize,
    /// Those that the world changed.
    pub heal: usize,
    /// Those that stop.
    pub suspend: usize,
    /// Those that go.
    pub remove: usize,
    /// Those that cannot go on.
    pub blocked: usize,
}

impl Summary {
    /// Counts the verdicts of a plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let mut summary = Self::default();
        for api in &plan.apis {
            let count = match api.verdict {
                Verdict::Create => &mut summary.create,
                Verdict::Update => &mut summary.update,
                Verdict::Heal => &mut summary.heal,
                Verdict::Suspend => &mut summary.suspend,
                Verdict::Remove => &mut summary.remove,
                Verdict::Blocked => &mut summary.blocked,
            };
            *count += 1;
        }
        summary
    }
}

/// What of a plan breaks callers, as findings, for tools that show those.
#[must_use]
pub fn breaks(plan: &Plan) -> Vec<Diagnostic> {
    let finding = |(api, difference): (&ApiPlan, &Difference)| {
        let path = format!("apis/{}/{}", api.id, contract::FILE);
        Diagnostic::warning(code::BREAKING_CHANGE, path, difference.to_string(), "")
    };
    let of = |api| ApiPlan::breaks(api).map(move |difference| (api, difference));
    plan.apis.iter().flat_map(of).map(finding).collect()
}

/// A plan as text, with colours.
#[must_use]
pub fn text(plan: &Plan, show_steps: bool) -> String {
    let mut out = String::new();
    for api in plan.all() {
        api_text(&mut out, api, show_steps);
        out.push('\n');
    }
    out.push_str(&summary_line(plan));
    out.push('\n');
    inert(&out)
}

/// The last line of a plan: `Plan: 1 to create, 2 to update; 9 unchanged.`
#[must_use]
pub fn summary_line(plan: &Plan) -> String {
    let Summary { create, update, heal, suspend, remove, blocked } = Summary::of(plan);
    let counts = [
        (create, "to create"),
        (update, "to update"),
        (heal, "to heal"),
        (suspend, "to suspend"),
        (remove, "to remove"),
        (blocked, "blocked"),
    ];
    let counts: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    if counts.is_empty() {
        return match plan.unchanged {
            count if !plan.previews.is_empty() => {
                format!("{} {} of previews; {count} unchanged.", paint("Plan:", BOLD), plan.previews.len())
            }
            1 => "Nothing to do: the one API is as it should be.".to_owned(),
            count => format!("Nothing to do: all {count} APIs are as they should be."),
        };
    }
    format!("{} {}; {} unchanged.", paint("Plan:", BOLD), counts.join(", "), plan.unchanged)
}

fn api_text(out: &mut String, api: &ApiPlan, show_steps: bool) {
    let (sign, word, style) = match api.verdict {
        Verdict::Create => ("+", "create", GOOD),
        Verdict::Update => ("~", "update", WARN),
        Verdict::Heal => ("±", "heal", WARN),
        Verdict::Suspend => ("‖", "suspend", WARN),
        Verdict::Remove => ("-", "remove", BAD),
        Verdict::Blocked => ("!", "blocked", BAD),
    };
    let revisions = match (&api.from, &api.to) {
        (Some(from), Some(to)) if from != to => format!("  {from} → {to}"),
        (Some(one), _) | (None, Some(one)) => format!("  {one}"),
        (None, None) => String::new(),
    };
    let name = paint(&api.id, NAME.bold());
    let _ = writeln!(out, "{} {name}  {}{}", paint(sign, style), paint(word, style), paint(revisions, FAINT));
    let mut line = |label: &str, text: &str| {
        let _ = writeln!(out, "    {}  {text}", paint(format!("{label:<8}"), FAINT));
    };
    if let Some(preview) = &api.preview {
        line("preview", &format!("of {}, for pull request {}", preview.of, preview.pull_request));
    }
    if let Some(blocked) = &api.blocked {
        line("blocked", &paint(plain(blocked), BAD));
    }
    for change in &api.changes {
        line("changed", &change_text(change));
    }
    for drift in &api.drift {
        line("drift", &paint(plain(drift), WARN));
    }
    let moved = moved(api).map(|moved| format!("packages: {moved}"));
    let effects = [
        (api.rebuild == Rebuild::Dependencies).then_some("installs its requirements, builds its image"),
        moved.as_deref(),
        (api.rebuild == Rebuild::Code).then_some("builds its image; installs nothing"),
        (api.rebuild == Rebuild::Nothing && api.restart).then_some("its image is there"),
        api.restart.then_some("new instances take over from the old ones"),
        (!api.restart && !api.changes.is_empty() && matches!(api.verdict, Verdict::Update))
            .then_some("restarts nothing"),
    ];
    let effects: Vec<&str> = effects.into_iter().flatten().collect();
    if !effects.is_empty() {
        line("effect", &effects.join("; "));
    }
    if let Some(Resolution::Unknown { why }) = &api.packages {
        line("packages", &paint(format!("not compared: {}", plain(why)), WARN));
    }
    for notice in &api.callers {
        line("callers", &plain(notice));
    }
    if show_steps {
        for (number, step) in api.steps.iter().enumerate() {
            let what = crate::reconcile::status::doing(&step.action);
            line(
                &format!("step {}", number + 1),
                &format!("{what} {}", paint(format!("({})", plain(&step.reason)), FAINT)),
            );
        }
    }
}

/// One change, with its diff.
pub(super) fn change_text(change: &Change) -> String {
    let value = |value: &serde_json::Value| match value {
        serde_json::Value::Null => "(not set)".to_owned(),
        serde_json::Value::String(text) => plain(text),
        other => other.to_string(),
    };
    match change {
        Change::Setting { key, old, new } => format!("{key}: {} → {}", value(old), value(new)),
        Change::Requirement { old: Some(old), new: Some(new) } => format!("requirement {old} → {new}"),
        Change::Requirement { old: None, new } => {
            paint(format!("+ requirement {}", new.as_deref().unwrap_or("")), GOOD)
        }
        Change::Requirement { old, new: None } => paint(format!("- requirement {}", old.as_deref().unwrap_or("")), BAD),
        Change::Package { name, r#move, old, new } => package_text(name, *r#move, old.as_deref(), new.as_deref()),
        Change::Lock { new: Some(new), .. } => format!("locked: exactly {new} packages, by hash"),
        Change::Lock { .. } => "no longer locked: its requirements are resolved when its image is made".to_owned(),
        Change::Secrets { old: None, .. } => paint("+ secrets", GOOD),
        Change::Secrets { new: None, .. } => paint("- secrets", BAD),
        Change::Secrets { .. } => "secrets".to_owned(),
        Change::Base { old, new } => format!("base image {} → {}", old.short(), new.short()),
        Change::File { path, old, new, diff } => {
            let what = match (old, new) {
                (None, _) => paint(format!("+ {}", plain(path)), GOOD),
                (_, None) => paint(format!("- {}", plain(path)), BAD),
                _ => plain(path),
            };
            format!("{what}{}", diff.as_deref().map(diff_text).unwrap_or_default())
        }
    }
}

/// One package of a lock, as `skep lock` prints it.
#[must_use]
pub fn change_line(change: &Change) -> String {
    change_text(change)
}

fn package_text(name: &str, r#move: Move, old: Option<&str>, new: Option<&str>) -> String {
    let (old, new) = (plain(old.unwrap_or_default()), plain(new.unwrap_or_default()));
    let name = plain(name);
    match r#move {
        Move::Added => paint(format!("+ {name} {new}"), GOOD),
        Move::Removed => paint(format!("- {name} {old}"), BAD),
        Move::Upgraded => format!("↑ {name} {old} → {new}"),
        Move::Downgraded => paint(format!("↓ {name} {old} → {new}"), WARN),
        Move::Rehashed => paint(format!("≠ {name} {new}: other files"), WARN),
    }
}

/// How many packages are added, removed, upgraded and downgraded; `None` where nobody can tell, or it is no question.
pub(super) fn moved(api: &ApiPlan) -> Option<String> {
    let words = [
        (Move::Added, "added"),
        (Move::Removed, "removed"),
        (Move::Upgraded, "upgraded"),
        (Move::Downgraded, "downgraded"),
        (Move::Rehashed, "with other files"),
    ];
    let is = |change: &&Change, wanted| matches!(change, Change::Package { r#move, .. } if *r#move == wanted);
    let count = |(wanted, word)| (api.changes.iter().filter(|change| is(change, wanted)).count(), word);
    let counts: Vec<String> = words
        .map(count)
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    match (counts.is_empty(), &api.packages) {
        (false, _) => Some(counts.join(", ")),
        (true, Some(Resolution::Resolved)) => Some("the same as now".to_owned()),
        (true, _) => None,
    }
}

/// A unified diff, indented and coloured line by line.
fn diff_text(diff: &str) -> String {
    let mut out = String::new();
    for line in diff.lines() {
        let style = match line.as_bytes().first() {
            Some(b'+') => GOOD,
            Some(b'-') => BAD,
            Some(b'@') => NAME,
            _ => FAINT,
        };
        let _ = write!(out, "\n      {}", paint(plain(line), style));
    }
    out
}

/// The unified diff of two texts, without file names; `None` where either is not text or is too long to be read.
#[must_use]
pub fn unified(old: Option<&[u8]>, new: Option<&[u8]>) -> Option<String> {
    /// Longer texts take long to compare, and nobody reads such a diff.
    const LONGEST: usize = 256 * 1024;
    let read = |bytes: Option<&[u8]>| match bytes {
        None => Some(String::new()),
        Some(bytes) if bytes.len() > LONGEST || bytes.contains(&0) => None,
        Some(bytes) => String::from_utf8(bytes.to_vec()).ok(),
    };
    let (old, new) = (read(old)?, read(new)?);
    let diff = similar::TextDiff::configure().timeout(std::time::Duration::from_millis(500)).diff_lines(&old, &new);
    Some(diff.unified_diff().context_radius(3).to_string())
}
