//! Reads the arguments, runs the command, and owns the exit code.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = skep::cli::Arguments::parse();
    match skep::cli::run(arguments) {
        Ok(code) => code,
        Err(error) => {
            skep::report::error(&error);
            ExitCode::FAILURE
        }
    }
}
