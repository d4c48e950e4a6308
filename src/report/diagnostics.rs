//! Diagnostics as text with carets, as JSON, and as annotations of a GitHub workflow.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use anstyle::AnsiColor;
use serde::Serialize;

use super::style::{inert, inert_json};
use crate::tree::diagnostic::{ENVIRONMENT, Excerpt, is_treacherous};
use crate::tree::{ApiId, Diagnostic, Severity, Tree};

/// The version of the JSON document. A key that is added does not change it; one that goes, or changes its meaning, does.
const VERSION: u32 = 1;

/// Findings, ready to be written.
#[derive(Debug, Clone)]
pub struct Findings<'a> {
    findings: Vec<&'a Diagnostic>,
    summary: Summary,
    prefix: String,
    boots: Vec<Boot>,
}

/// An API that was tried, and came to serve.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Boot {
    /// Which.
    pub id: ApiId,
    /// From the start of its container to the first good answer, wall clock.
    pub seconds: f64,
}

/// How many findings there are, and how many APIs they concern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Findings that keep something from being served.
    pub errors: usize,
    /// The others.
    pub warnings: usize,
    /// APIs that were looked at.
    pub apis: usize,
    /// Those of them that have findings.
    pub apis_with_findings: usize,
}

impl<'a> Findings<'a> {
    /// The findings of the settings and of a tree; of one of its APIs only where `one` names it.
    ///
    /// `prefix` leads from where the reader is to the root of the tree, as in `examples/shop`; it is put before paths in
    /// text and annotations, so that a terminal or a workflow can open them. Empty where the two are the same.
    #[must_use]
    pub fn new(settings: &'a [Diagnostic], tree: &'a Tree, one: Option<&ApiId>, prefix: &str) -> Self {
        let folders: Vec<_> = tree.folders.iter().filter(|(id, _)| one.is_none_or(|one| one == *id)).collect();
        let of_tree = if one.is_none() { tree.findings.as_slice() } else { &[] };
        let of_folders = folders.iter().flat_map(|(_, folder)| folder.findings());
        let findings: Vec<_> = settings.iter().chain(of_tree).chain(of_folders).collect();
        let errors = findings.iter().filter(|finding| finding.is_error()).count();
        let concerned: BTreeSet<_> =
            folders.iter().filter(|(_, folder)| !folder.findings().is_empty()).map(|(id, _)| id).collect();
        let summary = Summary {
            errors,
            warnings: findings.len() - errors,
            apis: folders.len(),
            apis_with_findings: concerned.len(),
        };
        Self { findings, summary, prefix: prefix.to_owned(), boots: Vec::new() }
    }

    /// With those that were tried, and came to serve.
    #[must_use]
    pub fn with_boots(self, boots: Vec<Boot>) -> Self {
        Self { boots, ..self }
    }

    /// The counts.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// For people: every finding with its place, a caret snippet and a hint, then the summary. With colours where asked.
    #[must_use]
    pub fn text(&self, colour: bool) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let _ = writeln!(text, "{}", snippet(finding, &self.shown(finding), colour).trim_end());
            for line in &finding.output {
                let _ = writeln!(text, "  │ {}", escape(line));
            }
            text.push('\n');
        }
        for boot in &self.boots {
            let _ = writeln!(text, "{} boots in {:.1} s", boot.id, boot.seconds);
        }
        inert(&(text + &self.summary.to_string() + "\n"))
    }

    /// For programs: `{"version": 1, "findings": […], "summary": {…}}`, described in `docs/checks.md`.
    #[must_use]
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct Document<'a> {
            version: u32,
            findings: &'a [&'a Diagnostic],
            #[serde(skip_serializing_if = "<[Boot]>::is_empty")]
            boots: &'a [Boot],
            summary: Summary,
        }
        let (findings, boots, summary) = (&self.findings[..], &self.boots[..], self.summary);
        let document = Document { version: VERSION, findings, boots, summary };
        // Plain structs with string keys cannot fail to become JSON.
        inert_json(&serde_json::to_string_pretty(&document).unwrap_or_default()) + "\n"
    }

    /// For a GitHub workflow: one command a finding, which it shows beside the line.
    #[must_use]
    pub fn github(&self) -> String {
        let mut text = String::new();
        for finding in &self.findings {
            let command = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            let mut properties = Vec::new();
            if finding.path != ENVIRONMENT {
                properties.push(format!("file={}", property(&self.shown(finding))));
            }
            if let Some(span) = finding.span {
                properties.push(format!("line={},col={}", span.line, span.column));
                if span.end_line == span.line && span.end_column > span.column {
                    properties.push(format!("endColumn={}", span.end_column));
                }
            }
            properties.push(format!("title={}", property(finding.code)));
            let mut message = finding.message.clone();
            if !finding.hint.is_empty() {
                let _ = write!(message, "\nhint: {}", finding.hint);
            }
            for line in &finding.output {
                let _ = write!(message, "\n│ {}", escape(line));
            }
            let _ = writeln!(text, "::{command} {}::{}", properties.join(","), data(&message));
        }
        let _ = writeln!(text, "{}", self.summary);
        text
    }

    /// Every finding.
    pub(super) fn all(&self) -> impl Iterator<Item = &Diagnostic> {
        self.findings.iter().copied()
    }

    pub(super) fn shown(&self, finding: &Diagnostic) -> String {
        if finding.path == ENVIRONMENT { finding.path.clone() } else { below(&self.prefix, &finding.path) }
    }
}

/// A path, from where the reader is.
pub(super) fn below(prefix: &str, path: &str) -> String {
    if prefix.is_empty() { path.to_owned() } else { format!("{prefix}/{path}") }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        let mut parts = Vec::new();
        if self.errors > 0 {
            parts.push(count(self.errors, "error"));
        }
        if self.warnings > 0 {
            parts.push(count(self.warnings, "warning"));
        }
        match (parts.is_empty(), self.apis_with_findings) {
            (true, _) => write!(f, "{}, no findings", count(self.apis, "API")),
            // Where the settings are wrong, no API is looked at.
            (false, 0) if self.apis == 0 => f.write_str(&parts.join(", ")),
            (false, 0) => write!(f, "{}, none in the {}", parts.join(", "), count(self.apis, "API")),
            (false, some) => write!(f, "{} in {some} of {}", parts.join(", "), count(self.apis, "API")),
        }
    }
}

/// One finding as text.
fn snippet(finding: &Diagnostic, path: &str, colour: bool) -> String {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group =
        annotate_snippets::Group::with_title(level.primary_title(escape(&finding.message)).id(finding.code));
    let mut gutter = 1;
    if let Some(excerpt) = &finding.excerpt {
        let (text, range) = escape_excerpt(excerpt);
        let annotation = AnnotationKind::Primary.span(range);
        let line = excerpt.first_line as usize;
        gutter = line.to_string().len();
        group = group.element(Snippet::source(text).line_start(line).annotation(annotation).fold(false));
    }
    if !finding.hint.is_empty() {
        group = group.element(Level::HELP.with_name("hint").message(escape(&finding.hint)));
    }
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let text = renderer.render(&[group]);
    // The place is written here, since the renderer would count columns in an excerpt that may be cut.
    let (title, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let style = if colour { AnsiColor::BrightBlue.on_default().bold() } else { anstyle::Style::new() };
    let place = match finding.span {
        Some(span) => format!("{}:{}:{}", escape(path), span.line, span.column),
        None => escape(path),
    };
    let indent = " ".repeat(gutter);
    format!("{title}\n{indent}{style}-->{style:#} {place}\n{rest}")
}

/// Text with treacherous characters written as `\u{…}`.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_treacherous(c) {
            escaped.extend(c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// An excerpt escaped, its range moved along. Tabs become one space, so that carets stand below what they point at.
fn escape_excerpt(excerpt: &Excerpt) -> (String, Range<usize>) {
    let piece = |range: Range<usize>| escape(&excerpt.text.get(range).unwrap_or_default().replace('\t', " "));
    let before = piece(0..excerpt.range.start);
    let marked = piece(excerpt.range.clone());
    let after = piece(excerpt.range.end..excerpt.text.len());
    let range = before.len()..before.len() + marked.len();
    (before + &marked + &after, range)
}

/// The data of a workflow command, escaped as the runner undoes it.
pub(super) fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A property of a workflow command, escaped as the runner undoes it.
pub(super) fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::source::Source;

    fn with(finding: Diagnostic) -> (Vec<Diagnostic>, Tree) {
        (vec![finding], Tree::default())
    }

    #[test]
    fn treacherous_characters_are_escaped_wherever_they_come_from() {
        let source = Source::new("apis/a\u{1b}[2J/api.yaml", "a: \u{202e}evil\u{1b}[31m\t!\n");
        let (settings, tree) = with(source.error("x", 15..16, "bad \u{1b} thing\n", "hint \u{200b}"));
        let text = Findings::new(&settings, &tree, None, "").text(false);
        assert!(!text.chars().any(|c| c != '\n' && is_treacherous(c)), "{text:?}");
        assert!(text.contains("\\u{202e}evil\\u{1b}[31m !"), "{text}");
    }

    #[test]
    fn the_caret_stands_below_what_it_points_at() {
        let source = Source::new("a", "x:\té\u{1b} boom\n");
        let (settings, tree) = with(source.error("x", 7..11, "m", ""));
        let text = Findings::new(&settings, &tree, None, "").text(false);
        let lines: Vec<_> = text.lines().collect();
        let column = |line: &str, what: &str| line[..line.find(what).unwrap()].chars().count();
        assert_eq!(column(lines[3], "boom"), column(lines[4], "^"), "{text}");
        assert!(lines[1].ends_with("a:1:7"), "{text}");
    }

    #[test]
    fn a_place_in_a_cut_line_is_the_true_one() {
        let long = format!("{}!{}", "a".repeat(5000), "b".repeat(5000));
        let (settings, tree) = with(Source::new("a", &long).error("x", 5000..5001, "m", ""));
        let text = Findings::new(&settings, &tree, None, "").text(false);
        assert!(text.contains("a:1:5001"), "{text}");
        assert!(text.len() < 2000, "{text}");
    }

    #[test]
    fn workflow_commands_are_escaped() {
        let mut finding = Source::new("apis/a,b:c/x", "abc\n").error("x", 1..2, "50% of\nit", "do: this");
        finding.severity = Severity::Warning;
        let (settings, tree) = with(finding);
        let text = Findings::new(&settings, &tree, None, "examples/shop").github();
        let command = "::warning file=examples/shop/apis/a%2Cb%3Ac/x,line=1,col=2,endColumn=3,title=x::50%25 of%0Ait%0Ahint: do: this";
        assert_eq!(text.lines().next(), Some(command));
    }

    #[test]
    fn the_summary_counts() {
        let summary = |errors, warnings, apis, apis_with_findings| {
            Summary { errors, warnings, apis, apis_with_findings }.to_string()
        };
        assert_eq!(summary(3, 1, 14, 2), "3 errors, 1 warning in 2 of 14 APIs");
        assert_eq!(summary(0, 2, 1, 1), "2 warnings in 1 of 1 API");
        assert_eq!(summary(0, 0, 14, 0), "14 APIs, no findings");
        assert_eq!(summary(1, 0, 14, 0), "1 error, none in the 14 APIs");
        assert_eq!(summary(1, 2, 0, 0), "1 error, 2 warnings");
    }

    #[test]
    fn colours_only_where_asked() {
        let (settings, tree) = with(Source::new("a", "x\n").error("x", 0..1, "m", "h"));
        let findings = Findings::new(&settings, &tree, None, "");
        assert!(!findings.text(false).contains('\u{1b}'));
        assert!(findings.text(true).contains('\u{1b}'));
    }
}
