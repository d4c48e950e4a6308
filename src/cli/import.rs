//! `skep import`: brings another system's APIs, keys and plans along.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::Output;
use super::context::Context;
use crate::import::draft::Drafts;
use crate::import::look::{Wish, look};
use crate::import::write::write;
use crate::records::old_system::{self, OldSystem};
use crate::report;
use crate::tree::RateLimit;

/// Arguments of `skep import`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Bring APIs, callers' keys and plans along from the old system's tables in Supabase, which stay as they are
    Supabase(Supabase),
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Shows a plan first, and asks. Can be run again: what is as it should be stays, and folders that somebody has\nedited are left alone. Rows that cannot be taken are listed with the reason; the rest goes through.\n\nExit codes:\n  0  done, or nothing to do\n  1  not done\n\nExamples:\n  skep import supabase --dry-run\n  SKEP_IMPORT_FROM=postgres://… skep import supabase --plan free=100/1h --plan pro=2000/1h\n  skep import supabase --only 0b2f6f0e-54b1-4d0c-9a86-0c7b1b1f2d3e --overwrite --yes"
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
struct Supabase {
    /// The old system's database; where nothing is said, the one that keeps the records (`SUPABASE_DB_URL`). Better in the
    /// environment: other users of the host can see arguments.
    #[arg(long, value_name = "URL", env = "SKEP_IMPORT_FROM", hide_env_values = true)]
    from: Option<String>,

    /// Show the plan and write nothing.
    #[arg(long)]
    dry_run: bool,

    /// Do not ask.
    #[arg(long)]
    yes: bool,

    /// This row alone, by its id; may stand several times.
    #[arg(long, value_name = "ID", num_args = 1..)]
    only: Vec<String>,

    /// Replace folders that somebody has edited since.
    #[arg(long)]
    overwrite: bool,

    /// Take rows too whose folders `skep check` refuses; they are not served until they are mended.
    #[arg(long)]
    keep_broken: bool,

    /// What a plan allows, as in free=100/1h; may stand several times.
    #[arg(long = "plan", value_name = "NAME=REQUESTS/SPAN", value_parser = plan)]
    plans: Vec<(String, RateLimit)>,

    /// How to print the plan and the outcome.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs `skep import`.
///
/// # Errors
/// Where the old system cannot be read, or the tree or the records cannot be written.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let Command::Supabase(args) = &args.command;
    let context = Context::open(root)?;
    let (settings, records) = (&context.settings, context.records().await?);
    let drafts = Drafts::new(&settings.state).with_context(|| format!("cannot use {}", settings.state.display()))?;
    let wish = Wish {
        only: args.only.iter().cloned().collect::<BTreeSet<_>>(),
        overwrite: args.overwrite,
        keep_broken: args.keep_broken,
        plans: args.plans.iter().cloned().collect::<BTreeMap<_, _>>(),
    };
    let from = match (&args.from, &settings.records.url) {
        (Some(from), _) => from,
        (None, Some(url)) => &url.0,
        (None, None) => {
            bail!("name the old system's database: SKEP_IMPORT_FROM=postgres://user:password@host:5432/postgres")
        }
    };
    let (client, place) = old_system::connect(from, settings.records.ca.as_ref()).await?;
    let import = look(OldSystem::begin(&client).await?, place, &*records, settings, &wish, &drafts).await?;
    drop(client);

    let is_text = args.output == Output::Text;
    if is_text {
        anstream::print!("{}", report::import::text(&import));
    }
    if args.dry_run || import.is_done() {
        if !is_text {
            anstream::println!("{}", serde_json::to_string_pretty(&report::import::json(&import, None))?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !args.yes && !is_text {
        bail!(
            "nothing was written: JSON is for programs, whom nobody asks; say --yes, or --dry-run to see the plan alone"
        );
    }
    if !args.yes && !confirm()? {
        bail!("nothing was written");
    }
    let written = write(&import, &*records, settings, &drafts).await?;
    if is_text {
        anstream::print!("{}", report::import::done(&import, &written));
    } else {
        anstream::println!("{}", serde_json::to_string_pretty(&report::import::json(&import, Some(&written)))?);
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks whether to go on, where somebody is there to answer.
fn confirm() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("nothing was written: nobody is there to ask; say --yes, or --dry-run to see the plan alone");
    }
    anstream::eprint!("Do this? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("cannot read an answer")?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

fn plan(text: &str) -> Result<(String, RateLimit), String> {
    let (name, limit) = text.split_once('=').ok_or("write a name and a limit, as in free=100/1h")?;
    if name.is_empty() || name.len() > 100 || name.chars().any(char::is_control) {
        return Err("a plan has a name of 1 to 100 characters".to_owned());
    }
    Ok((name.to_owned(), limit.parse()?))
}
