//! Style: the few colours that reports use. Whoever prints strips them where there is no terminal.

use anstyle::{AnsiColor, Style};

/// For what is well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// For what wants a look.
pub const WARN: Style = AnsiColor::Yellow.on_default();
/// For what is not well.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// For what names something.
pub const NAME: Style = AnsiColor::Cyan.on_default();
/// For headings.
pub const BOLD: Style = Style::new().bold();
/// For what is of less weight.
pub const FAINT: Style = Style::new().dimmed();

/// Text in a style.
#[must_use]
pub fn paint(text: impl std::fmt::Display, style: Style) -> String {
    format!("{style}{text}{style:#}")
}

/// Whether a character says how what stands around it is shown: of the terminal's, and of those by which text runs from right to
/// left.
#[must_use]
pub fn is_steering(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Text with control characters shown as escapes: what apps and folders say must not steer the reader's terminal.
#[must_use]
pub fn plain(text: &str) -> String {
    let escape = |c: char| if is_steering(c) && c != '\t' { c.escape_unicode().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// Text of which nothing is a command to the runner of a workflow that has it in its log: one of GitHub obeys a line that begins
/// with `::`, spaces before it or not, and `##[` anywhere in a line (`ActionCommand.cs` of its runner), others `##word[`. What is
/// written by skep itself begins no line so. The first character of each is written as an escape.
#[must_use]
pub fn inert(text: &str) -> String {
    escape_commands(text, |c| c.escape_unicode().to_string())
}

/// The same of JSON, whose value stays what it is.
#[must_use]
pub fn inert_json(text: &str) -> String {
    escape_commands(text, |c| format!("\\u{:04x}", u32::from(c)))
}

fn escape_commands(text: &str, escaped: impl Fn(char) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let mut done = 0;
        for at in commands(line) {
            out.push_str(&line[done..at]);
            // Each of them begins with one of ASCII.
            out.push_str(&escaped(char::from(line.as_bytes()[at])));
            done = at + 1;
        }
        out.push_str(&line[done..]);
    }
    out
}

/// Where in a line something begins that is a command to somebody.
fn commands(line: &str) -> Vec<usize> {
    if !line.contains(':') && !line.contains('#') {
        return Vec::new();
    }
    // Comparing as people do passes over characters that nobody sees, and so do we over all that may be one, and over colours.
    let mut seen = Vec::with_capacity(line.len());
    let mut characters = line.char_indices().peekable();
    while let Some((at, c)) = characters.next() {
        if c == '\u{1b}' && characters.next_if(|(_, next)| *next == '[').is_some() {
            characters.by_ref().find(|(_, end)| ('@'..='~').contains(end));
        } else if c.is_ascii() && !c.is_ascii_control() {
            seen.push((at, c));
        }
    }
    let mut first = seen.iter().skip_while(|(_, c)| *c == ' ');
    let mut found = Vec::new();
    if let (Some((at, ':')), Some((_, ':'))) = (first.next(), first.next()) {
        found.push(*at);
    }
    for (index, (at, _)) in seen.iter().enumerate() {
        if let [(_, '#'), (_, '#'), rest @ ..] = &seen[index..]
            && rest.iter().find(|(_, c)| !c.is_ascii_alphabetic()).is_some_and(|(_, c)| *c == '[')
        {
            found.push(*at);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_others_say_steers_the_readers_terminal() {
        assert_eq!(plain("a\u{1b}[31m\tb\u{202e}c\u{2069}d \u{5d0}"), "a\\u{1b}[31m\tb\\u{202e}c\\u{2069}d \u{5d0}");
    }

    #[test]
    fn no_line_is_a_command_to_a_runner_and_all_others_stay_as_they_are() {
        for command in [
            "::error::x",
            " \t ::error::x",
            "\u{200b}:\u{200b}:error::x",
            "\u{1b}[32m ::error::x",
            "a ##[error]x",
            "###[error]x",
            "#\u{ad}#\u{200d}[error]x",
            "##vso[task.setvariable]x",
        ] {
            let shown = inert(&format!("one\n{command}\ntwo\n"));
            assert!(shown.lines().all(|line| commands(line).is_empty()), "{command:?}: {shown}");
            assert!(shown.contains("\\u{3a}") || shown.contains("\\u{23}"), "{shown}");
        }
        let plain = "a::b\n- ::1\n# x\n## y [z]\n: :\n+    ::error\n";
        assert_eq!(inert(plain), plain);
        let value = serde_json::json!({ "a\\##[error]": "##[add-mask]\n::error::x" });
        let text = inert_json(&format!("{value:#}"));
        assert!(!text.contains("##["), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
