//! A diagnostic is one finding in the tree: what, where, and what to do.

use serde::Serialize;

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Whether the API can be served all the same.
    pub severity: Severity,
    /// A stable name for the kind of finding, as in `unknown-key`; documented in `docs/checks.md`.
    pub code: &'static str,
    /// The file or folder, relative to the root of the tree's repository, with `/` between segments.
    pub path: String,
    /// Where in the file; `None` where the finding is about the whole file or folder.
    pub span: Option<Span>,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to do next; empty where nothing useful can be said.
    pub hint: String,
    /// The lines around the span, for the caret snippet; `None` where the file is not text.
    #[serde(skip)]
    pub excerpt: Option<Excerpt>,
}

impl std::fmt::Display for Diagnostic {
    /// One line: `apis/x/main.py:3:7: invalid syntax`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.span {
            Some(Span { line, column, .. }) => write!(f, "{}:{line}:{column}: {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Served all the same.
    Warning,
    /// Not served until it is mended.
    Error,
}

/// A place in a text file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Of the first character.
    pub line: u32,
    /// Of the first character.
    pub column: u32,
    /// Of the last character.
    pub end_line: u32,
    /// Just past the last character.
    pub end_column: u32,
}

/// A piece of the source, whole lines, that a report can draw carets under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The number of the first line, from 1.
    pub first_line: u32,
    /// The text of the lines.
    pub text: String,
    /// What to underline: byte offsets into `text`.
    pub range: std::ops::Range<usize>,
}
