//! Reports: plans, diagnostics and statuses as text and as JSON. Takes values, gives text.

pub mod adopt;
pub mod diagnostics;
pub mod doctor;
pub mod explain;
pub mod import;
pub mod markdown;
pub mod plan;
pub mod progress;
pub mod sarif;
pub mod status;
pub mod style;
pub mod usage;

/// Prints an error that ended a command, with its causes, on standard error.
pub fn error(error: &anyhow::Error) {
    // It may name what somebody else has named.
    let lines: Vec<String> = format!("{error:#}").split('\n').map(style::plain).collect();
    anstream::eprintln!("{}", style::inert(&format!("{}: {}", style::paint("error", style::BAD), lines.join("\n"))));
}

/// An error with its causes, in one line.
#[must_use]
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
