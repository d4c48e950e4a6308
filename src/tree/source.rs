//! A source is one text file of the tree, able to point at a piece of itself.

use std::ops::Range;

use super::diagnostic::{Diagnostic, Excerpt, Severity, Span};

/// The most findings of one kind of reader that one file is given: past that it is no file of its kind, and finding
/// the line of each would take long.
pub const MAX_FINDINGS: usize = 50;

/// The most characters of one line that an excerpt keeps on either side of what it points at: a minified file must
/// not end up in a report whole.
const MARGIN: usize = 120;

/// The most characters that an excerpt underlines.
const LONGEST: usize = 160;

/// One text file.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// Relative to the root of the tree's repository.
    pub path: &'a str,
    /// All of it.
    pub text: &'a str,
}

impl<'a> Source<'a> {
    /// A file and its text.
    #[must_use]
    pub fn new(path: &'a str, text: &'a str) -> Self {
        Self { path, text }
    }

    /// An error at a range of bytes of the text.
    #[must_use]
    pub fn error(
        &self,
        code: &'static str,
        at: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Diagnostic {
        let at = self.clamp(at);
        Diagnostic {
            severity: Severity::Error,
            code,
            path: self.path.to_owned(),
            span: Some(self.span(&at)),
            message: message.into(),
            hint: hint.into(),
            output: Vec::new(),
            excerpt: Some(self.excerpt(&at)),
        }
    }

    /// A warning at a range of bytes of the text.
    #[must_use]
    pub fn warning(
        &self,
        code: &'static str,
        at: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..self.error(code, at, message, hint) }
    }

    /// Moves a range into the text and onto character boundaries. What parsers report at the end of a file may lie
    /// just outside.
    fn clamp(&self, at: Range<usize>) -> Range<usize> {
        let mut start = at.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let mut end = at.end.clamp(start, self.text.len());
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        start..end
    }

    fn span(&self, at: &Range<usize>) -> Span {
        let (line, column) = self.position(at.start);
        let (end_line, end_column) = self.position(at.end);
        Span { line, column, end_line, end_column }
    }

    /// Line and column of a byte, both from 1, the column in characters.
    fn position(&self, offset: usize) -> (u32, u32) {
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
    }

    /// The first line of the range, cut around it where it is long.
    fn excerpt(&self, at: &Range<usize>) -> Excerpt {
        let line_start = self.text[..at.start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = self.text[at.start..].find('\n').map_or(self.text.len(), |newline| at.start + newline);
        let line_end =
            if self.text[..line_end].ends_with('\r') && line_end > at.start { line_end - 1 } else { line_end };
        let end = at.end.min(line_end);
        let end = forward(self.text, at.start, LONGEST).min(end).max(at.start);
        let from = backward(self.text, at.start, MARGIN).max(line_start);
        let to = forward(self.text, end, MARGIN).min(line_end).max(end);
        let mut text = String::new();
        if from > line_start {
            text.push('…');
        }
        let shift = text.len();
        text.push_str(&self.text[from..to]);
        let range = shift + at.start - from..shift + end - from;
        if to < line_end {
            text.push('…');
        }
        Excerpt { first_line: self.position(at.start).0, text, range }
    }
}

/// The byte that lies `characters` before `offset`, or the first one.
fn backward(text: &str, offset: usize, characters: usize) -> usize {
    text[..offset].char_indices().rev().take(characters).last().map_or(offset, |(index, _)| index)
}

/// The byte that lies `characters` after `offset`, or the end.
fn forward(text: &str, offset: usize, characters: usize) -> usize {
    text[offset..].char_indices().nth(characters).map_or(text.len(), |(index, _)| offset + index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_from_one() {
        let source = Source::new("a", "é: 1\nbb: é2\n");
        let found = source.error("x", 12..13, "", "");
        assert_eq!(found.span, Some(Span { line: 2, column: 6, end_line: 2, end_column: 7 }));
        let excerpt = found.excerpt.unwrap();
        assert_eq!(&excerpt.text[excerpt.range], "2");
    }

    #[test]
    fn a_long_line_is_cut_around_what_is_pointed_at() {
        let text = format!("{}é!{}", "a".repeat(100_000), "b".repeat(100_000));
        let excerpt = Source::new("a", &text).error("x", 100_002..100_003, "", "").excerpt.unwrap();
        assert!(excerpt.text.len() < 300, "{}", excerpt.text.len());
        assert_eq!(&excerpt.text[excerpt.range], "!");
    }

    #[test]
    fn what_lies_outside_the_text_is_moved_inside() {
        for range in [0..0, 5..9, 99..100, 1..2] {
            let found = Source::new("a", "é").error("x", range, "", "");
            assert!(found.span.is_some());
        }
    }
}
