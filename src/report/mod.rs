//! Reports: plans, diagnostics and statuses as text and as JSON. Takes values, gives text.

pub mod diagnostics;

/// Prints an error that ended a command, with its causes, on standard error.
pub fn error(error: &anyhow::Error) {
    anstream::eprintln!("{}error{}: {error:#}", anstyle::AnsiColor::Red.on_default().bold(), anstyle::Reset);
}
