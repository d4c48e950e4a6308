//! An import as text for people, and as JSON for machines.

use std::fmt::Write;

use serde::Serialize;

use super::style::{BAD, BOLD, FAINT, GOOD, NAME, WARN, paint, plain};
use crate::import::write::Written;
use crate::import::{ApiImport, Import, KeyImport, KeyVerdict, PlansImport, Verdict};

/// An import as `--output json` prints it. `version` goes up when a reader must change.
#[derive(Debug, Serialize)]
pub struct ImportJson<'a> {
    version: u32,
    /// What is to be done.
    #[serde(flatten)]
    import: &'a Import,
    /// What was done; `null` where nothing was.
    written: Option<&'a Written>,
}

/// An import for machines.
#[must_use]
pub fn json<'a>(import: &'a Import, written: Option<&'a Written>) -> ImportJson<'a> {
    ImportJson { version: 1, import, written }
}

/// An import for people, with colours, before it is carried out.
#[must_use]
pub fn text(import: &Import) -> String {
    let mut out = format!("From {}:\n\n", paint(plain(&import.from), NAME));
    for note in &import.notes {
        let _ = writeln!(out, "{} {}", paint("note:", WARN), plain(note));
    }
    for api in &import.apis {
        api_text(&mut out, api);
    }
    for key in &import.keys {
        key_text(&mut out, key);
    }
    plans_text(&mut out, &import.plans);
    out.push_str(&summary(import));
    out.push('\n');
    out
}

/// `Import: 2 folders to create, 1 skipped; 3 keys to add.`
#[must_use]
pub fn summary(import: &Import) -> String {
    let counts = import.counts();
    let words = [
        (Verdict::Create, "to create"),
        (Verdict::Update, "to update"),
        (Verdict::Replace, "to replace"),
        (Verdict::Unchanged, "unchanged"),
        (Verdict::Edited, "edited and left"),
        (Verdict::Skipped, "skipped"),
    ];
    let folders = words.iter().filter_map(|(verdict, word)| Some(format!("{} {word}", counts.get(verdict)?)));
    let folders = folders.collect::<Vec<_>>().join(", ");
    let count = |verdict| import.keys.iter().filter(|key| key.verdict == verdict).count();
    let keys = [
        (import.new_keys.len(), "to add"),
        (count(KeyVerdict::Known), "known already"),
        (count(KeyVerdict::Skipped), "skipped"),
    ];
    let keys = keys.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    let keys = keys.collect::<Vec<_>>().join(", ");
    let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    let head = paint(if import.is_done() { "Nothing to do:" } else { "Import:" }, BOLD);
    format!("{head} APIs: {}. Keys: {}.", or_none(folders), or_none(keys))
}

/// What was done, and what comes next.
#[must_use]
pub fn done(import: &Import, written: &Written) -> String {
    let mut out = format!("Written: {} folders, {} keys", written.folders, written.keys);
    out.push_str(if written.plans { ", plans in skep.yaml.\n" } else { ".\n" });
    for id in &written.changed {
        let _ = writeln!(out, "{id} changed meanwhile and is left as it is; run the import again.");
    }
    if import.skipped() > 0 {
        let _ = writeln!(out, "{} rows were skipped; the reasons stand above.", import.skipped());
    }
    out.push_str("Next: skep check, then skep plan.\n");
    out
}

fn api_text(out: &mut String, api: &ApiImport) {
    let (sign, word, style) = match api.verdict {
        Verdict::Create => ("+", "create", GOOD),
        Verdict::Update => ("~", "update", WARN),
        Verdict::Replace => ("~", "replace", WARN),
        Verdict::Edited => ("=", "leave", FAINT),
        Verdict::Skipped => ("!", "skip", BAD),
        Verdict::Unchanged => return,
    };
    let name = paint(plain(&api.id), NAME.bold());
    let _ = writeln!(out, "{} {name}  {}  {}", paint(sign, style), paint(word, style), plain(&api.name));
    if !api.reason.is_empty() {
        let _ = writeln!(out, "    {}", plain(&api.reason));
    }
    for note in &api.notes {
        let _ = writeln!(out, "    {}", plain(note));
    }
    for line in &api.left_out {
        let _ = writeln!(
            out,
            "    requirements, line {}: {} is left out: {}",
            line.line,
            plain(&line.text),
            plain(&line.why)
        );
    }
    for finding in api.findings.iter().map(ToString::to_string) {
        // The first may be the reason.
        if !api.reason.starts_with(&finding) {
            let _ = writeln!(out, "    {}", plain(&finding));
        }
    }
}

fn key_text(out: &mut String, key: &KeyImport) {
    let where_from = format!("{} {}", key.table, plain(&key.row));
    match key.verdict {
        KeyVerdict::Known => return,
        KeyVerdict::Skipped => {
            let _ = writeln!(out, "{} key of {where_from}: {}", paint("!", BAD), plain(&key.reason));
        }
        KeyVerdict::Add => {
            let terms = match (&key.terms.limit, &key.terms.plan) {
                (Some(limit), _) => limit.to_string(),
                (None, Some(plan)) => format!("plan {}", plain(plan)),
                (None, None) => "no limit".to_owned(),
            };
            let shared = key
                .shares
                .as_ref()
                .map_or(String::new(), |user| format!(", shared by all keys of user {}", plain(user)));
            let id = paint(&key.id, NAME);
            let _ = writeln!(out, "{} key {id} for {}: {terms}{shared}", paint("+", GOOD), plain(&key.api));
        }
    }
    for note in &key.notes {
        let _ = writeln!(out, "    {}", plain(note));
    }
}

fn plans_text(out: &mut String, plans: &PlansImport) {
    for name in &plans.unknown {
        let _ = writeln!(
            out,
            "{} nobody has said what the plan {name:?} allows: say it with --plan NAME=100/1h; until then the tightest plan holds",
            paint("note:", WARN)
        );
    }
    if plans.missing.is_empty() {
        return;
    }
    let what = if plans.block.is_some() {
        "is added to skep.yaml"
    } else {
        "has to be added to `plans` in skep.yaml, by hand"
    };
    for plan in &plans.missing {
        let assumed = if plan.assumed { " (assumed: the old system's figures do not stand in its tables)" } else { "" };
        let _ = writeln!(out, "{} plan {:?}: {}{assumed} {what}", paint("+", GOOD), plan.name, plan.limit);
    }
}
