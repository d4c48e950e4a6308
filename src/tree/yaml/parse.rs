//! Parses a document into nodes. Takes the plain part of YAML: no anchors, aliases, tags, or second document.

use std::collections::HashMap;
use std::ops::Range;

use serde_yaml::granit_parser::{Event, Parser, ScalarStyle, Span};

use super::node::{Entry, Node, Value};
use crate::tree::diagnostic::{Diagnostic, code};
use crate::tree::source::Source;
use crate::tree::suggest::shorten;

/// The deepest nesting of mappings and lists. `api.yaml` needs three.
const MAX_DEPTH: usize = 16;

/// The most bytes of a document: settings fit in a hundredth of it.
const MAX_LEN: usize = 256 * 1024;

/// A mapping or list that is not closed yet.
enum Open {
    List { start: usize, items: Vec<Node> },
    Map { start: usize, entries: Vec<Entry>, seen: HashMap<String, Range<usize>>, key: Option<(String, Range<usize>)> },
}

/// Parses the text of a source. An empty document is a null.
///
/// Findings are added to `findings`; `None` where the text is no YAML at all.
pub fn parse(source: Source<'_>, findings: &mut Vec<Diagnostic>) -> Option<Node> {
    if source.text.len() > MAX_LEN {
        let message = format!("the file has {} bytes, at most {MAX_LEN} are read", source.text.len());
        findings.push(Diagnostic::error(code::FILE_TOO_BIG, source.path, message, ""));
        return None;
    }
    let mut builder = Builder { source, findings, open: Vec::new(), root: None, documents: 0 };
    // The parser refuses a mark inside the text, and skips one at its start.
    for event in Parser::new_from_str(source.text) {
        match event {
            Ok((event, span)) => builder.take(event, &span)?,
            Err(error) => {
                let at = error.marker().byte_offset().unwrap_or(source.text.len());
                let (message, hint) = explain(&error.info(), source.text, at);
                builder.findings.push(source.error(code::YAML_SYNTAX, at..at + 1, message, hint));
                return None;
            }
        }
    }
    let empty = Node { range: 0..0, value: Value::Scalar { text: String::new(), plain: true } };
    Some(builder.root.unwrap_or(empty))
}

/// The parser's words, with a hint for the slips that are most common.
fn explain(info: &str, text: &str, at: usize) -> (String, &'static str) {
    let line = text[..at.min(text.len())].rsplit('\n').next().unwrap_or_default();
    let hint = if info.contains("tab") || line.contains('\t') {
        "indent with spaces"
    } else if info.contains("mapping values are not allowed") {
        "put a value that contains `: ` in quotes, and check the indentation"
    } else {
        "check the indentation, and that every quote and bracket is closed"
    };
    (format!("not YAML: {}", info.trim_end_matches('.')), hint)
}

struct Builder<'a, 'f> {
    source: Source<'a>,
    findings: &'f mut Vec<Diagnostic>,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
}

impl Builder<'_, '_> {
    /// Takes one event; `None` ends the parse, the reason being reported.
    fn take(&mut self, event: Event<'_>, span: &Span) -> Option<()> {
        let range = span.byte_range().unwrap_or(0..0);
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.refuse(&range, "a second document", "keep one document in the file");
                    return None;
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.properties(anchor, tag.is_some(), &range);
                let plain = style == ScalarStyle::Plain;
                self.add(Node { range, value: Value::Scalar { text: text.into_owned(), plain } });
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.properties(anchor, tag.is_some(), &range);
                self.nest(&range, Open::List { start: range.start, items: Vec::new() })?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.properties(anchor, tag.is_some(), &range);
                let (entries, seen) = (Vec::new(), HashMap::new());
                self.nest(&range, Open::Map { start: range.start, entries, seen, key: None })?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(range.end),
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.refuse(&range, "an alias (`*name`)", "write the value out");
                self.add(Node { range, value: Value::Refused });
            }
            _ => {}
        }
        Some(())
    }

    fn properties(&mut self, anchor: usize, tagged: bool, range: &Range<usize>) {
        let at = range.start..range.start + 1;
        if anchor != 0 {
            self.refuse(&at, "an anchor (`&name`)", "write the value out where it is needed");
        }
        if tagged {
            self.refuse(&at, "a tag (`!name`)", "write the plain value");
        }
    }

    fn refuse(&mut self, at: &Range<usize>, what: &str, hint: &str) {
        let message = format!("{what} is more YAML than settings need");
        self.findings.push(self.source.error(code::YAML_FEATURE, at.clone(), message, hint));
    }

    fn nest(&mut self, range: &Range<usize>, open: Open) -> Option<()> {
        if self.open.len() >= MAX_DEPTH {
            self.refuse(&(range.start..range.start + 1), &format!("nesting of more than {MAX_DEPTH} levels"), "");
            return None;
        }
        self.open.push(open);
        Some(())
    }

    fn close(&mut self, end: usize) {
        let node = match self.open.pop() {
            Some(Open::List { start, items }) => Node { range: start..end.max(start), value: Value::List(items) },
            Some(Open::Map { start, entries, .. }) => Node { range: start..end.max(start), value: Value::Map(entries) },
            None => return,
        };
        self.add(node);
    }

    /// Puts a finished node where it belongs: the next item, the next key, the value of that key, or the root.
    fn add(&mut self, node: Node) {
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Map { entries, seen, key, .. }) => match key.take() {
                Some((name, key_range)) => {
                    if let Some(first) = seen.get(&name) {
                        let line = self.source.text[..first.start].matches('\n').count() + 1;
                        let message = format!("the key `{}` stands here a second time", shorten(&name));
                        let hint = format!("it stands in line {line} already; keep one of them");
                        self.findings.push(self.source.error(code::DUPLICATE_KEY, key_range, message, hint));
                    } else {
                        seen.insert(name.clone(), key_range.clone());
                        entries.push(Entry { key: name, key_range, node });
                    }
                }
                None => {
                    let range = node.range.clone();
                    let name = match node.value {
                        Value::Scalar { text, .. } => text,
                        _ => {
                            let at = range.start..range.start + 1;
                            let message = "a key that is no word is more YAML than settings need";
                            self.findings.push(self.source.error(code::YAML_FEATURE, at, message, ""));
                            String::new()
                        }
                    };
                    *key = Some((name, range));
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<&'static str> {
        let mut findings = Vec::new();
        parse(Source::new("api.yaml", text), &mut findings);
        findings.iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn plain_documents_parse() {
        for text in
            ["", "# nothing\n", "---\na: 1\n", "a:\n  b: [1, 2]\n", "{a: {b: c}}", "\u{feff}a: 1\n", "a: 1\r\nb: 2\r\n"]
        {
            assert_eq!(codes(text), Vec::<&str>::new(), "{text:?}");
        }
    }

    #[test]
    fn what_settings_do_not_need_is_refused() {
        assert_eq!(codes("a: &x 1\nb: *x\n"), [code::YAML_FEATURE, code::YAML_FEATURE]);
        assert_eq!(codes("a: !!str 1\n"), [code::YAML_FEATURE]);
        assert_eq!(codes("a: 1\n---\nb: 2\n"), [code::YAML_FEATURE]);
        assert_eq!(codes("? [a, b]\n: 1\n"), [code::YAML_FEATURE]);
        assert_eq!(codes(&format!("{}{}", "[".repeat(20), "]".repeat(20))), [code::YAML_FEATURE]);
        assert_eq!(codes("a: 1\nb: 2\na: 3\n"), [code::DUPLICATE_KEY]);
        assert_eq!(codes("a: [1\n"), [code::YAML_SYNTAX]);
        assert_eq!(codes("a:\n\t- 1\n"), [code::YAML_SYNTAX]);
        assert_eq!(codes(&"x".repeat(300_000)), [code::FILE_TOO_BIG]);
    }

    #[test]
    fn a_bomb_of_aliases_is_refused_before_it_grows() {
        let mut text = "a0: &a0 [x, x]\n".to_owned();
        for n in 1..40 {
            text += &format!("a{n}: &a{n} [*a{0}, *a{0}]\n", n - 1);
        }
        assert!(codes(&text).iter().all(|code| *code == code::YAML_FEATURE));
    }
}
