//! Last words are what a program said that was to take over and ended: for whoever waits, who does not see the daemon's log.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::report::style::plain;

/// Names the file to a successor into which it writes why it cannot serve. It has its log with the daemon before it, so that
/// nobody else can tell its words from that one's.
pub(super) const PLACE: &str = "SKEP_LAST_WORDS";

/// How long a program may take to say what it is.
const WITHIN: Duration = Duration::from_secs(5);

/// How many lines are repeated.
const LINES: usize = 3;

/// Where a successor of this process writes them: beside the door by which it comes in.
pub(super) fn place(door: &Path) -> PathBuf {
    door.with_extension("last-words")
}

/// Says why this process ends, where somebody waits for it to serve.
pub(super) fn say(error: &anyhow::Error) {
    if let Some(place) = std::env::var_os(PLACE)
        && let Err(error) = std::fs::write(place, format!("{error:#}"))
    {
        tracing::debug!("nobody is told why: {error}");
    }
}

/// What a program said that has ended: by what it wrote down; where that is nothing, it is no skep that begins, and says so once
/// more when it is asked what it is.
pub(super) async fn of(place: &Path, program: &Path, arguments: &[OsString]) -> Option<String> {
    let written = std::fs::read_to_string(place).unwrap_or_default();
    let _ = std::fs::remove_file(place);
    if let Some(last) = last(&written) {
        return Some(last);
    }
    let mut again = Command::new(program);
    again.args(arguments).arg("--help").stdin(Stdio::null()).kill_on_drop(true);
    let done = tokio::time::timeout(WITHIN, again.output()).await.ok()?.ok()?;
    if done.status.success() { None } else { last(&String::from_utf8_lossy(&done.stderr)) }
}

fn last(said: &str) -> Option<String> {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = plain(&lines.get(lines.len().saturating_sub(LINES)..)?.join("; "));
    (!last.is_empty()).then_some(last)
}
