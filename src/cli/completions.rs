//! `skep completions`: a completion script for a shell, from the command line's own definition.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

/// Arguments of `skep completions`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  skep completions bash > /etc/bash_completion.d/skep\n  skep completions zsh > ~/.zfunc/_skep"
)]
pub struct Args {
    /// Which shell.
    shell: Shell,
}

/// Prints the script.
#[must_use]
pub fn run(args: &Args) -> ExitCode {
    clap_complete::generate(args.shell, &mut super::Arguments::command(), "skep", &mut std::io::stdout());
    ExitCode::SUCCESS
}
