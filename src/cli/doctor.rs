//! `skep doctor`: finds and explains what is wrong with a host.
//!
//! Looks are taken side by side, each with a deadline of its own; what one of them does not bring keeps no other from
//! being judged. Looking is here, judging in `crate::doctor`.

mod host;
mod look;
mod waiting;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use super::Output;
use crate::doctor::judge;
use crate::report::doctor::{Summary, json, text};

/// Looks at the engine, its runtime, disk, networks, firewall, base image, certificates, package index, clock, records,
/// port and leftovers; says what is wrong, what that means, and what to do. Works with the engine down, before the first
/// `skep apply`, and beside a daemon.
#[derive(Debug, clap::Args)]
#[command(after_help = "Outcomes:
  ok        all is well
  note      worth knowing; nothing needs to be done
  warning   works, and not as well or as safely as it could
  problem   keeps skep from its work, or code of an API from being held
  unknown   could not be looked at; the line says why

Examples:
  skep doctor
  skep doctor --fix                            first remove ended build containers and untagged images of ours
  skep doctor --output json | jq '.checks[] | select(.outcome == \"problem\")'
  sudo --preserve-env skep doctor              sees the firewall's rules, which are root's

Exit codes: 0 where nothing is a problem, 1 where something is.")]
pub struct Args {
    /// Remove ended build containers and untagged images of this installation; nothing else, and nothing of others.
    #[arg(long)]
    fix: bool,

    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs `skep doctor`.
///
/// # Errors
/// Where the findings cannot be printed; whatever is wrong with the host is a finding.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let seen = Box::pin(look::look(root, args.fix)).await?;
    let findings = judge(&seen);
    let text = match args.output {
        Output::Text => text(&findings),
        Output::Json => serde_json::to_string_pretty(&json(&findings))? + "\n",
    };
    // Takes the colours out again where they would not show.
    match anstream::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error).context("cannot write"),
        _ => {}
    }
    Ok(if Summary::of(&findings).has_problem() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
