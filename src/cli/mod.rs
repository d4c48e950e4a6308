//! The command line: one file a command, each with its `Args` and a `run` that answers with an exit code.

pub mod adopt;
mod apart;
pub mod apply;
mod beside;
mod between;
mod boot;
pub mod check;
mod checking;
pub mod completions;
pub mod context;
pub mod doctor;
pub mod events;
pub mod explain;
mod hand_over;
pub mod history;
pub mod hold;
pub mod hook;
pub mod import;
pub mod keys;
mod last_words;
mod listen;
pub mod lock;
mod log;
pub mod logs;
pub mod man;
mod manager;
mod mirror;
mod passing;
mod patience;
mod place;
pub mod plan;
mod previewing;
mod process;
pub mod pull;
mod pulled;
mod pushed;
pub mod receive;
mod refresh;
mod remote;
mod resolver;
pub mod rollback;
pub mod schema;
pub mod secrets;
pub mod serve;
pub mod status;
pub mod term;
pub mod upgrade;
pub mod usage;
mod watching;
mod welcome;
mod wishes;
mod write;

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
    /// Check the tree: settings, requirements, Python source, files; needs no engine
    Check(check::Check),
    /// Print the JSON Schema of api.yaml or skep.yaml
    Schema(schema::SchemaArguments),
    /// Write down what exactly requirements come to, by hash
    Lock(lock::Args),
    /// Set, edit, list and rotate what apps are given and nobody else may read
    Secrets(secrets::Args),
    /// Show what would change, and why
    Plan(plan::Args),
    /// Make the world as the tree says, and show progress
    Apply(apply::Args),
    /// Serve callers, and keep the world as the tree says, until Ctrl-C
    Serve(serve::Args),
    /// Have the daemon give its place to the program that lies at its path by now
    Upgrade(upgrade::Args),
    /// Show how each API is, and why
    Status(status::Args),
    /// Show what an API prints, or printed while it was built
    Logs(logs::Args),
    /// Show what happened
    Events(events::Args),
    /// Show the revisions of an API that have served, and how each came to
    History(history::Args),
    /// Tell how an API came to be as it is: commit, steps, probes, route, and what is next
    Explain(explain::Args),
    /// Leave an API as it is until its folder changes
    Hold(hold::Args),
    /// End a hold
    Release(hold::ReleaseArgs),
    /// Serve an earlier revision of an API until its folder changes
    Rollback(rollback::Args),
    /// Make, list, rotate and revoke callers' keys
    Keys(keys::Args),
    /// Show what callers have asked: how often, with what outcome, how much, how long it took
    Usage(usage::Args),
    /// Take over from the containers of the system that skep replaces
    Adopt(adopt::Args),
    /// Bring another system's APIs, keys and plans along
    Import(import::Args),
    /// Have the daemon ask now what it follows, and show progress
    Pull(pull::Args),
    /// Find and explain what is wrong with this host
    Doctor(doctor::Args),
    /// Take a push that comes over SSH, as the forced command of a key
    Receive(receive::Args),
    /// What git runs while a push comes in
    #[command(hide = true)]
    Hook(hook::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Print a manual page, or write all
    Man(man::Args),
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
    let root = &arguments.root;
    match arguments.command {
        Command::Check(args) => check::run(&args, root),
        Command::Schema(args) => schema::run(&args),
        Command::Lock(args) => context::block_on(lock::run(&args, root)),
        Command::Secrets(args) => context::block_on(secrets::run(&args, root)),
        Command::Plan(args) => context::block_on(plan::run(&args, root)),
        Command::Apply(args) => context::block_on(apply::run(&args, root)),
        Command::Serve(args) => context::block_on(serve::run(&args, root)),
        Command::Upgrade(args) => context::block_on(upgrade::run(&args, root)),
        Command::Status(args) => context::block_on(status::run(&args, root)),
        Command::Logs(args) => context::block_on(logs::run(&args, root)),
        Command::Events(args) => context::block_on(events::run(&args, root)),
        Command::Explain(args) => context::block_on(explain::run(&args, root)),
        Command::History(args) => context::block_on(history::run(&args, root)),
        Command::Hold(args) => context::block_on(hold::run(&args, root)),
        Command::Release(args) => context::block_on(hold::release(&args, root)),
        Command::Rollback(args) => context::block_on(rollback::run(&args, root)),
        Command::Keys(args) => context::block_on(keys::run(&args, root)),
        Command::Usage(args) => context::block_on(usage::run(&args, root)),
        Command::Adopt(args) => context::block_on(adopt::run(&args, root)),
        Command::Import(args) => context::block_on(import::run(&args, root)),
        Command::Pull(args) => context::block_on(pull::run(&args, root)),
        Command::Doctor(args) => context::block_on(doctor::run(&args, root)),
        Command::Receive(args) => context::block_on(receive::run(&args, root)),
        Command::Hook(args) => context::block_on(hook::run(&args, root)),
        Command::Completions(args) => Ok(completions::run(&args)),
        Command::Man(args) => man::run(&args),
    }
}
