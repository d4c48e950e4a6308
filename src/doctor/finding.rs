//! A finding is what one check came to: an outcome, what was found, and what to do about it.

use serde::Serialize;

/// What one check came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check: a stable word, as in `base-image`.
    pub check: &'static str,
    /// How it came out.
    pub outcome: Outcome,
    /// One line: what was found, with the figure.
    pub found: String,
    /// What that means for whoever runs skep here; empty where all is well.
    pub means: String,
    /// Commands to paste, or sentences where no command will do; the first comes first.
    pub next: Vec<String>,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All is well.
    Ok,
    /// Worth knowing; nothing needs to be done.
    Note,
    /// It could not be looked at, for a reason that another finding names or the line itself.
    Unknown,
    /// It works, and not as well or as safely as it could.
    Warning,
    /// It keeps skep from its work, or others' code from being held.
    Problem,
}

impl Outcome {
    /// As a person and a machine read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

impl Finding {
    /// All is well.
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Ok, found: found.into(), means: String::new(), next: Vec::new() }
    }

    /// Worth knowing.
    pub(super) fn note(check: &'static str, found: impl Into<String>, means: impl Into<String>) -> Self {
        Self { outcome: Outcome::Note, means: means.into(), ..Self::ok(check, found) }
    }

    /// Could not be looked at.
    pub(super) fn unknown(check: &'static str, why: impl Into<String>) -> Self {
        Self { outcome: Outcome::Unknown, ..Self::ok(check, why) }
    }

    /// Works, and could be better.
    pub(super) fn warning(check: &'static str, found: impl Into<String>, means: impl Into<String>) -> Self {
        Self { outcome: Outcome::Warning, ..Self::note(check, found, means) }
    }

    /// Does not work.
    pub(super) fn problem(check: &'static str, found: impl Into<String>, means: impl Into<String>) -> Self {
        Self { outcome: Outcome::Problem, ..Self::note(check, found, means) }
    }

    /// With one thing more to do.
    pub(super) fn next(mut self, step: impl Into<String>) -> Self {
        self.next.push(step.into());
        self
    }
}
