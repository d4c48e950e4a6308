//! The command line: one file a command, each with its `Args` and a `run` that answers with an exit code.

pub mod check;
pub mod schema;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Turns a git tree of small Python HTTP APIs into running, routed services, and keeps them so.
#[derive(Debug, Parser)]
#[command(name = "skep", version, max_term_width = 100, propagate_version = true)]
pub struct Arguments {
    /// The folder that holds `skep.yaml` and `apis/`.
    #[arg(long, global = true, value_name = "DIR", default_value = ".", env = "SKEP_ROOT")]
    pub root: PathBuf,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the tree: settings, requirements, Python source, files. Needs no engine.
    Check(check::Check),
    /// Print the JSON Schema of api.yaml or skep.yaml.
    Schema(schema::SchemaArguments),
}

/// How a command writes its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// For people; coloured on a terminal.
    #[default]
    Text,
    /// For machines; versioned and documented.
    Json,
}

/// Runs a command.
///
/// # Errors
/// Whatever kept the command from its work; what it found in the tree or the world is no error but an answer.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Check(command) => check::run(&command, &arguments.root),
        Command::Schema(command) => schema::run(&command),
    }
}
