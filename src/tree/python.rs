//! Python source, read and never run: whether it parses, and which names a module binds.

mod bindings;
mod nesting;
mod placement;

use std::ops::Range;

use ruff_python_ast::{ModModule, PythonVersion};
use ruff_python_parser::{Mode, ParseOptions, Parsed};
use ruff_text_size::{Ranged, TextRange};

use super::diagnostic::{Diagnostic, code};
use super::source::Source;

pub use bindings::Bindings;

/// The version that containers run.
const VERSION: PythonVersion = PythonVersion::PY311;

/// The longest source in bytes. A syntax tree takes some fifty times the memory of its source.
const MAX_SOURCE: usize = 2 * 1024 * 1024;

/// The most findings about newer syntax in one file; one usually is of the same kind as the next.
const MAX_VERSION_FINDINGS: usize = 5;

/// Parses one file and says what its top level binds. `None` where it does not parse; the reason is in `findings`.
///
/// Uses stack in proportion to the nesting of the source, which it bounds first: call it with some megabytes left.
pub fn check(source: Source<'_>, findings: &mut Vec<Diagnostic>) -> Option<Bindings> {
    if source.text.len() > MAX_SOURCE {
        let message = format!("the source has {} bytes, at most {MAX_SOURCE} are read", source.text.len());
        findings.push(Diagnostic::error(code::FILE_TOO_BIG, source.path, message, "keep data in a file of its own"));
        return None;
    }
    if let Some(at) = source.text.find('\0') {
        let message = "a NUL byte, which Python refuses in source code";
        findings.push(source.error(code::NOT_TEXT, at..at + 1, message, "save the file as plain text"));
        return None;
    }
    if let Some(message) = nesting::too_deep(source.text) {
        let hint = "break the expression or block into several";
        findings.push(Diagnostic::error(code::PYTHON_NESTING, source.path, message, hint));
        return None;
    }
    let options = ParseOptions::from(Mode::Module).with_target_version(VERSION);
    let parsed: Parsed<ModModule> = ruff_python_parser::parse_unchecked(source.text, options).try_into_module()?;
    // What follows the first error is the parser finding its feet again.
    if let Some(error) = parsed.errors().first() {
        let message = lower_first(&error.error.to_string());
        findings.push(source.error(code::PYTHON_SYNTAX, range(error.location), message, ""));
        return None;
    }
    if let Some((at, message)) = placement::misplaced(parsed.suite()) {
        findings.push(source.error(code::PYTHON_SYNTAX, at, message, ""));
        return None;
    }
    for error in parsed.unsupported_syntax_errors().iter().take(MAX_VERSION_FINDINGS) {
        let message = lower_first(&error.to_string());
        let hint = format!("APIs run on Python {VERSION}");
        findings.push(source.error(code::PYTHON_VERSION, range(error.range()), message, hint));
    }
    parsed.unsupported_syntax_errors().is_empty().then(|| Bindings::of(parsed.suite()))
}

/// Messages of the parser begin with a capital; ours do not. A name in backticks stays.
fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

fn range(range: TextRange) -> Range<usize> {
    range.start().to_usize()..range.end().to_usize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<(&'static str, u32, u32)> {
        let mut findings = Vec::new();
        check(Source::new("main.py", text), &mut findings);
        findings.iter().map(|f| (f.code, f.span.unwrap().line, f.span.unwrap().column)).collect()
    }

    #[test]
    fn a_syntax_error_has_its_line_and_column() {
        assert_eq!(codes("import os\n\ndef f(:\n    pass\n"), [(code::PYTHON_SYNTAX, 3, 7)]);
        assert_eq!(codes("x = 1\r\ny = (\r\n"), [(code::PYTHON_SYNTAX, 3, 1)]);
        assert_eq!(codes("print 'hello'\n")[0].0, code::PYTHON_SYNTAX);
    }

    #[test]
    fn sound_source_has_no_findings() {
        for text in [
            "",
            "\u{feff}x = 1\r\n",
            "async def f():\n    async with a as b, c as d:\n        pass\n",
            "match x:\n    case 1: pass\n",
        ] {
            assert_eq!(codes(text), [], "{text:?}");
        }
    }

    #[test]
    fn syntax_that_is_newer_than_the_interpreter_is_said_to_be() {
        assert_eq!(codes("type A = int\n")[0].0, code::PYTHON_VERSION);
        assert_eq!(codes("def f[T](x: T): pass\n")[0].0, code::PYTHON_VERSION);
        assert_eq!(codes("x = f'{a['b']}'\nprint(f\"{'\\n'.join(x)}\")\n")[0].0, code::PYTHON_VERSION);
    }

    #[test]
    fn source_that_is_data_is_refused() {
        let mut findings = Vec::new();
        check(Source::new("main.py", &"x = 1\n".repeat(400_000)), &mut findings);
        assert_eq!(findings[0].code, code::FILE_TOO_BIG);
    }

    #[test]
    fn nul_bytes_are_refused() {
        assert_eq!(codes("x = 1\ny = '\0'\n"), [(code::NOT_TEXT, 2, 6)]);
    }
}
