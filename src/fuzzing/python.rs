//! Python source.

use std::collections::BTreeSet;

use super::findings;
use crate::tree::source::Source;
use crate::tree::{Diagnostic, python as reader, suggest};

/// Reads a module.
pub fn python(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let source = Source::new("apis/a/main.py", text);
    let mut found = Vec::new();
    let bindings = reader::check(source, &mut found);
    findings::check(source, &found);
    // A module that nobody can serve is said to be one.
    assert_eq!(bindings.is_none(), found.iter().any(Diagnostic::is_error), "{found:?}");
    let Some(bindings) = bindings else { return };
    let names: BTreeSet<&str> = bindings.names().collect();
    for name in &names {
        assert!(bindings.has(name) && text_may_hold(text, name), "{name:?}");
    }
    if let Some((name, class)) = bindings.application() {
        assert!(names.contains(name) && text.contains(class), "{name:?} = {class}()");
    }
    if let Some(near) = suggest::nearest("app", names.iter().copied()) {
        assert!(names.contains(near));
    }
}

/// Whether a name is one, and stands in the text; what is not ASCII may stand there in another normal form.
fn text_may_hold(text: &str, name: &str) -> bool {
    !name.is_empty() && !name.contains(char::is_whitespace) && (text.contains(name) || !text.is_ascii())
}
