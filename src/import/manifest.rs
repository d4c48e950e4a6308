//! The `api.yaml` of an imported API, with a mark that tells whether the folder is still what was imported.

use crate::records::old_system::OldApi;
use crate::tree::Digest;

/// The bounds of `name` and `description` in `api.yaml`, in characters.
const LONGEST_NAME: usize = 100;
const LONGEST_DESCRIPTION: usize = 500;

/// What the first line begins with.
const MARK: &str = "# Imported from the old system as ";

/// The files of an imported folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// `main.py`, byte for byte.
    pub code: Vec<u8>,
    /// `requirements.txt`.
    pub requirements: Vec<u8>,
    /// `api.yaml`, its first line being the mark.
    pub manifest: Vec<u8>,
}

impl Content {
    /// The content of a folder for that code, with those requirements and what is below the mark.
    #[must_use]
    pub fn new(code: String, requirements: String, settings: &str) -> Self {
        let (code, requirements) = (code.into_bytes(), requirements.into_bytes());
        let mark = mark(&code, &requirements, settings.as_bytes());
        let line = format!("{MARK}{mark}. While nobody edits this folder, another import brings it up to date.\n");
        Self { code, requirements, manifest: (line + settings).into_bytes() }
    }

    /// Whether nobody has edited it since it was imported.
    #[must_use]
    pub fn is_as_imported(&self) -> bool {
        let end = self.manifest.iter().position(|byte| *byte == b'\n').map_or(self.manifest.len(), |at| at + 1);
        let (line, settings) = self.manifest.split_at(end);
        let mark = mark(&self.code, &self.requirements, settings);
        line.strip_prefix(MARK.as_bytes()).is_some_and(|rest| rest.starts_with(mark.as_bytes()))
    }
}

/// The digest of all that a folder holds but for the mark itself.
fn mark(code: &[u8], requirements: &[u8], settings: &[u8]) -> String {
    let digests = [code, requirements, settings].map(Digest::of);
    Digest::of_value(&digests).to_string()[..16].to_owned()
}

/// The settings of a row, and what they leave out, in sentences.
#[must_use]
pub fn settings(api: &OldApi) -> (String, Vec<String>) {
    let mut notes = Vec::new();
    let mut text = String::new();
    let mut line = |key: &str, value: Option<&String>, longest: usize| {
        let Some(value) = value else { return };
        let (short, is_cut) = one_line(value, longest);
        if is_cut {
            notes.push(format!("its {key} is cut to {longest} characters"));
        }
        if !short.is_empty() {
            // A string in JSON is one in YAML.
            text.push_str(&format!("{key}: {}\n", serde_json::Value::from(short)));
        }
    };
    line("name", api.name.as_ref(), LONGEST_NAME);
    line("description", api.description.as_ref(), LONGEST_DESCRIPTION);
    match api.status.as_deref().unwrap_or_default().trim() {
        "paused" => {
            text.push_str("suspend: true\n");
            notes.push("it was paused: it is suspended".to_owned());
        }
        "failed" => notes.push("it had failed in the old system: skep tries it".to_owned()),
        "active" => {}
        "" => notes.push("the row has no status: it is taken for active".to_owned()),
        other => {
            let (other, _) = one_line(other, 40);
            notes.push(format!("its status {other:?} is unknown: it is taken for active"));
        }
    }
    (text, notes)
}

/// A text in one line of so many characters, and whether it was longer. No reader of YAML or of a list stumbles over it.
pub(super) fn one_line(text: &str, longest: usize) -> (String, bool) {
    let breaks = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let is_text = |c: &char| !matches!(c, '\u{feff}' | '\u{fff0}'..='\u{ffff}');
    let words: Vec<String> = text
        .split(breaks)
        .map(|word| word.chars().filter(is_text).collect::<String>())
        .filter(|word| !word.is_empty())
        .collect();
    let whole = words.join(" ");
    match whole.char_indices().nth(longest) {
        Some((end, _)) => (whole[..end].trim_end().to_owned(), true),
        None => (whole, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::source::Source;
    use crate::tree::{Spec, settle};

    fn api(name: &str, description: &str, status: &str) -> OldApi {
        let some = |text: &str| Some(text.to_owned());
        OldApi { name: some(name), description: some(description), status: some(status), ..OldApi::default() }
    }

    fn read(text: &str) -> Spec {
        let mut findings = Vec::new();
        let spec = settle::read_manifest(&Spec::built_in("x"), Source::new("api.yaml", text), &mut findings);
        assert_eq!(findings, [], "{text}");
        spec
    }

    #[test]
    fn whatever_people_wrote_is_read_back_as_one_line() {
        for name in [
            "Weather",
            "yes",
            "{a: b}",
            "# no comment",
            "it's \"quoted\": \\n",
            "null",
            "1e3",
            "- a",
            "*x &y !z",
            "%TAG",
            "\u{1f600} \u{202e}evil",
            "---",
        ] {
            let (text, notes) = settings(&api(name, name, "active"));
            let spec = read(&text);
            assert_eq!((spec.name.as_str(), spec.description.as_str(), notes.len()), (name, name, 0), "{text}");
        }
        let (text, _) = settings(&api("\u{feff}a\r\nb\u{0}\u{85}c\u{2028}d\u{ffff}", "\t", "active"));
        assert_eq!((read(&text).name, read(&text).description), ("a b c d".to_owned(), String::new()));
    }

    #[test]
    fn what_is_too_long_is_cut_and_said_to_be() {
        let (text, notes) = settings(&api(&"é".repeat(101), &"word ".repeat(200), "active"));
        assert_eq!((read(&text).name.chars().count(), notes.len()), (100, 2), "{notes:?}");
    }

    #[test]
    fn only_what_was_paused_is_suspended() {
        for (status, is_suspended, count) in
            [("active", false, 0), ("paused", true, 1), ("failed", false, 1), ("", false, 1), ("odd\n", false, 1)]
        {
            let (text, notes) = settings(&api("a", "", status));
            assert_eq!((read(&text).suspend, notes.len()), (is_suspended, count), "{status}");
        }
    }

    #[test]
    fn an_edit_of_any_file_is_noticed() {
        let content = Content::new("app = 1\n".to_owned(), "rich\n".to_owned(), "name: \"a\"\n");
        read(std::str::from_utf8(&content.manifest).unwrap());
        assert!(content.is_as_imported());
        let edit = |change: fn(&mut Content)| {
            let mut edited = content.clone();
            change(&mut edited);
            !edited.is_as_imported()
        };
        assert!(edit(|content| content.code.push(b'\n')));
        assert!(edit(|content| content.requirements.clear()));
        assert!(edit(|content| content.manifest.extend(b"replicas: 2\n")));
        assert!(edit(|content| content.manifest.clear()));
        // Nothing moves from one file to the next.
        assert!(edit(|content| {
            content.code.extend(b"rich\n");
            content.requirements.clear();
        }));
    }
}
