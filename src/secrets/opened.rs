//! Opened are an API's secrets in the clear: in memory only, wiped when they go, and shown by nothing.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use zeroize::Zeroizing;

use super::SecretsError;
use crate::tree::manifest::VariablesManifest;
use crate::tree::source::Source;
use crate::tree::{variables, yaml};

/// The most secrets of one API.
const MAX_COUNT: usize = 100;

/// The longest value in bytes, and the most of all together: they are kept in memory, and as environment they must fit.
const MAX_VALUE: usize = 32 * 1024;
const MAX_ALL: usize = 128 * 1024;

/// Secrets by name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Opened(BTreeMap<String, Zeroizing<String>>);

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Opened {
    /// Reads what was encrypted: a YAML mapping of names to values, which are taken as they are written.
    ///
    /// # Errors
    /// Names the line at fault, and nothing of what stands there: even a name may be a value in the wrong place.
    pub fn parse(text: &str) -> Result<Self, SecretsError> {
        let source = Source::new("", text);
        let mut findings = Vec::new();
        let no_list = |line| SecretsError::NoList { line };
        // The findings say what stands there; of a secret that is too much.
        let node = yaml::parse(source, &mut findings);
        let read: Option<VariablesManifest> = node.map(|node| yaml::decode(&node, source, &mut findings));
        if let Some(first) = findings.first() {
            return Err(no_list(first.span.map_or(1, |span| span.line)));
        }
        let mut secrets = Self::default();
        for (name, value) in read.ok_or_else(|| no_list(1))?.0 {
            secrets.set(&name.value, value.value.0).map_err(|error| match error {
                SecretsError::BadName { reason, .. } | SecretsError::BadValue { reason, .. } => {
                    let before = text.get(..name.range.start).unwrap_or_default();
                    let line = u32::try_from(before.matches('\n').count() + 1).unwrap_or(u32::MAX);
                    SecretsError::BadLine { line, reason }
                }
                other => other,
            })?;
        }
        Ok(secrets)
    }

    /// Sets one.
    ///
    /// # Errors
    /// Where the name or the value cannot be handed over, or there would be too many.
    pub fn set(&mut self, name: &str, value: String) -> Result<(), SecretsError> {
        check_name(name)?;
        check_value(name, &value)?;
        self.0.insert(name.to_owned(), Zeroizing::new(value));
        let bytes: usize = self.0.values().map(|value| value.len()).sum();
        let too_many = |reason: String| Err(SecretsError::BadValue { name: name.to_owned(), reason });
        if self.0.len() > MAX_COUNT {
            return too_many(format!("an API has at most {MAX_COUNT} secrets"));
        }
        if bytes > MAX_ALL {
            return too_many(format!("all secrets of an API together have at most {} KiB", MAX_ALL / 1024));
        }
        Ok(())
    }

    /// Takes one away; whether it was there.
    pub fn unset(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The first name that these variables have too.
    #[must_use]
    pub fn shared_with<'a>(&self, variables: &'a BTreeMap<String, String>) -> Option<&'a str> {
        variables.keys().find(|name| self.0.contains_key(*name)).map(String::as_str)
    }

    /// As YAML for somebody to edit, and to encrypt. What is written is read again as it was.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        for (name, value) in &self.0 {
            if let Some(block) = block(value) {
                let _ = write!(*text, "{name}: |{}", *block);
            } else {
                let _ = writeln!(*text, "{name}: {}", *quoted(value));
            }
        }
        text
    }

    /// As one JSON object, for the first process of a container.
    #[must_use]
    pub fn json(&self) -> Zeroizing<Vec<u8>> {
        let map: BTreeMap<&str, &str> = self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Zeroizing::new(serde_json::to_vec(&map).unwrap_or_default())
    }
}

/// A text in double quotes, with what does not show, or what YAML takes for the end of a line, as escapes.
fn quoted(value: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::from('"'));
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                let _ = write!(*text, "\\U{:08X}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(*text, "\\U{:08X}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

/// A text of several lines as YAML's block, which people can read, where that is plainly the same text.
fn block(value: &str) -> Option<Zeroizing<String>> {
    let is_plain = |line: &str| {
        !line.is_empty()
            && !line.starts_with([' ', '\t'])
            && line.chars().all(|c| c == '\t' || (' '..='~').contains(&c))
    };
    let (body, keep) = value.strip_suffix('\n').map_or((value, "-"), |body| (body, ""));
    if !body.contains('\n') || !body.split('\n').all(is_plain) {
        return None;
    }
    let mut text = Zeroizing::new(format!("{keep}\n"));
    for line in body.split('\n') {
        let _ = writeln!(*text, "  {line}");
    }
    Some(text)
}

/// Whether a secret may have that name: it becomes the name of a file and, where asked for, of a variable.
///
/// # Errors
/// Why not.
pub fn check_name(name: &str) -> Result<(), SecretsError> {
    let bad = |reason: &str| {
        let shown = if name.is_empty() { "\"\"".to_owned() } else { name.escape_debug().to_string() };
        let name = crate::tree::suggest::shorten(&shown);
        Err(SecretsError::BadName { name, reason: reason.to_owned() })
    };
    // None of these has anything of the name: it may be a value in the wrong place.
    match name.chars().next() {
        None => return bad("a name has one character at least"),
        Some(first) if first.is_ascii_digit() => return bad("a name begins with a letter or an underscore"),
        Some(_) if name.len() > 128 => return bad("a name has 128 characters at most"),
        Some(_) if !variables::is_name(name) => {
            return bad("a name has letters, digits and underscores, and nothing else, as in API_KEY");
        }
        Some(_) => {}
    }
    variables::reserved(name).map_or(Ok(()), bad)
}

/// Whether a value can be handed over.
///
/// # Errors
/// Why not; without the value.
pub fn check_value(name: &str, value: &str) -> Result<(), SecretsError> {
    let bad = |reason: String| Err(SecretsError::BadValue { name: name.to_owned(), reason });
    if value.is_empty() {
        return bad("it is empty".to_owned());
    }
    if value.contains('\0') {
        return bad("it holds a NUL".to_owned());
    }
    if value.len() > MAX_VALUE {
        return bad(format!("it has {} bytes, at most {MAX_VALUE} are taken", value.len()));
    }
    Ok(())
}
