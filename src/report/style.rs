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

/// Text with control characters shown as escapes: what apps and folders say must not steer the reader's terminal.
#[must_use]
pub fn plain(text: &str) -> String {
    let escape = |c: char| if c.is_control() && c != '\t' { c.escape_unicode().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}
