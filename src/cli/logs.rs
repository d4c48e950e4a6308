//! `skep logs`: what an API prints, or printed while it was built.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use futures_util::StreamExt;
use futures_util::stream::select_all;

use super::context::Context;
use crate::engine::Engine;
use crate::report::style::{FAINT, NAME, paint, plain};
use crate::tree::ApiId;

/// Arguments of `skep logs`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  skep logs thumbnails\n  skep logs -f thumbnails\n  skep logs --build thumbnails")]
pub struct Args {
    /// Which API.
    id: ApiId,

    /// Go on printing what comes.
    #[arg(short, long)]
    follow: bool,

    /// How many of the last lines of each instance.
    #[arg(short = 'n', long, default_value_t = 100, value_name = "LINES")]
    tail: usize,

    /// What its last install and build printed.
    #[arg(long, conflicts_with_all = ["follow", "tail"])]
    build: bool,
}

/// Runs `skep logs`.
///
/// # Errors
/// Where there is no such API, or the engine cannot be asked.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let context = Context::open_in_spite(root)?;
    let id = &args.id;
    if args.build {
        let path = context.settings.state.join("builds").join(format!("{id}.log"));
        let text = std::fs::read_to_string(&path).with_context(|| format!("no build of {id} has left a log"))?;
        anstream::print!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    let engine = context.engine()?;
    let instances = engine.instances(Some(id)).await?;
    if instances.is_empty() {
        if let Some(record) = context.records().await?.get(id).await? {
            for failure in &record.failures {
                anstream::println!("revision {}: {}", failure.revision, plain(&failure.message));
                failure.output.iter().for_each(|line| anstream::println!("{}", plain(line)));
            }
            return Ok(ExitCode::SUCCESS);
        }
        bail!("there is no API {id}; `skep status` lists all");
    }
    let has_many = instances.len() > 1;
    let mut streams = Vec::new();
    for instance in instances {
        let lines = engine.logs(&instance.container, args.tail, args.follow).await?;
        let name = if has_many { format!("{}  ", paint(&instance.name, NAME)) } else { String::new() };
        streams.push(lines.map(move |line| (name.clone(), line)));
    }
    if args.follow {
        let mut lines = select_all(streams);
        while let Some((name, line)) = lines.next().await {
            print(&name, &line?);
        }
    } else {
        for mut lines in streams {
            while let Some((name, line)) = lines.next().await {
                print(&name, &line?);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(name: &str, line: &crate::engine::LogLine) {
    let at = line.at.map_or_else(String::new, |at| format!("{at:.3} "));
    anstream::println!("{name}{}{}", paint(at, FAINT), plain(&line.text));
}
