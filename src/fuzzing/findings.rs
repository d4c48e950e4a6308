//! What must be true of findings, whatever the file that they are about.

use crate::report::diagnostics::Findings;
use crate::tree::diagnostic::{Excerpt, Span, code};
use crate::tree::source::Source;
use crate::tree::{Diagnostic, Tree};

/// The longest line that the renderer shows whole.
const SHOWN_WHOLE: usize = 100;

/// Checks all findings of one file, and what is made of them for people and for programs.
pub(super) fn check(source: Source<'_>, findings: &[Diagnostic]) {
    for finding in findings {
        assert_eq!(finding.path, source.path);
        assert!(code::ALL.contains(&finding.code) && !finding.message.is_empty(), "{finding:?}");
        if let Some(span) = &finding.span {
            let excerpt = finding.excerpt.as_ref().expect("what has a place has an excerpt");
            check_place(source, span, excerpt);
        }
        check_caret(finding);
    }
    check_reports(findings);
}

/// The span lies in the text, and the excerpt is what stands there.
fn check_place(source: Source<'_>, span: &Span, excerpt: &Excerpt) {
    let start = offset(source, span.line, span.column);
    let end = offset(source, span.end_line, span.end_column);
    assert!(start <= end, "{span:?}");
    assert_eq!(excerpt.first_line, span.line);
    let marked = excerpt.text.get(excerpt.range.clone()).expect("the range lies in the excerpt, on characters");
    assert!(source.text[start..end].starts_with(marked), "{excerpt:?} is not at {span:?}");
    assert!(!excerpt.text.contains('\n'), "{excerpt:?}");
    let line = source.text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let before = &excerpt.text[..excerpt.range.start];
    let before = if source.text[line..start].ends_with(before) { before } else { before.trim_start_matches('…') };
    assert!(source.text[line..start].ends_with(before), "{excerpt:?} is not around {span:?}");
}

/// The byte at a line and column, which must be there.
fn offset(source: Source<'_>, line: u32, column: u32) -> usize {
    assert!(line >= 1 && column >= 1);
    let lines = source.text.split_inclusive('\n').chain(source.text.ends_with('\n').then_some(""));
    let lines: Vec<&str> = if source.text.is_empty() { vec![""] } else { lines.collect() };
    let start: usize = lines[..line as usize - 1].iter().map(|line| line.len()).sum();
    let text = lines[line as usize - 1];
    let mut columns = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    start + columns.nth(column as usize - 1).expect("the column is in the line")
}

/// The carets stand below what they point at.
fn check_caret(finding: &Diagnostic) {
    let tree = Tree::default();
    let text = Findings::new(std::slice::from_ref(finding), &tree, None, "").text(false);
    let Some(Excerpt { text: line, range, .. }) = &finding.excerpt else { return };
    let is_plain = line.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    if range.is_empty() || !is_plain || line.len() > SHOWN_WHOLE {
        return;
    }
    let lines: Vec<&str> = text.lines().collect();
    let [_, place, _, shown, carets, ..] = lines.as_slice() else { panic!("{text}") };
    assert!(place.contains("--> "), "{text}");
    // The renderer may have cut the line on its left.
    let (start, end) = (carets.find('^').expect("a caret"), carets.rfind('^').map_or(0, |last| last + 1));
    assert_eq!(carets[start..end], "^".repeat(range.len()), "{text}");
    let above = shown.get(start..end.min(shown.len())).unwrap_or_default();
    assert_eq!(above.trim_end(), line[range.clone()].trim_end(), "{text}");
}

/// Text cannot move a cursor, a workflow command is one line, and JSON is JSON.
fn check_reports(findings: &[Diagnostic]) {
    let tree = Tree::default();
    let report = Findings::new(findings, &tree, None, "some/where");
    let text = report.text(false);
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
    assert!(findings.iter().all(|finding| text.contains(finding.code)), "{text}");
    assert!(report.text(true).len() > text.len() || findings.is_empty());
    assert_eq!(report.github().lines().count(), findings.len() + 1);
    let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
    assert_eq!(json["findings"].as_array().map(Vec::len), Some(findings.len()));
}
