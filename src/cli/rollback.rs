//! `skep rollback`: serve an earlier revision of one API until its folder changes.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

use super::context::Context;
use super::{Output, apply, hold};
use crate::tree::{ApiId, Revision};
use crate::world::Served;

/// Arguments of `skep rollback`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Takes no caller down: the earlier revision starts and is probed before the route moves. What the folder says\nnow is held back; its next change goes ahead by itself.\n\nExamples:\n  skep rollback thumbnails                    # to what served before\n  skep rollback thumbnails 3f2a --why 'wrong colours'\n  skep rollback thumbnails --list"
)]
pub struct Args {
    /// Which API.
    id: ApiId,

    /// Which revision, or how it begins; what served before where none is named.
    revision: Option<String>,

    /// List the revisions that can be rolled back to, the latest first.
    #[arg(long)]
    list: bool,

    #[command(flatten)]
    word: hold::Word,

    /// How to print the outcome.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs `skep rollback`.
///
/// # Errors
/// Where there is no such revision, or the records or the engine cannot be used.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let context = Context::open_existing(root)?;
    let records = context.records().await?;
    let revisions = records.revisions(&args.id).await?;
    let now = records.get(&args.id).await?.and_then(|record| record.served).map(|served| served.revision);
    if args.list {
        for served in &revisions {
            let mark = if Some(&served.revision) == now.as_ref() { "serves now" } else { "" };
            anstream::println!("{}  since {:.0}  {mark}", served.revision, served.since);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = choose(&args.id, args.revision.as_deref(), &revisions, now.as_ref())?;
    hold::make(&context, &args.id, &args.word, Some(wanted.clone())).await?;
    apply::carry_out(
        &context,
        &apply::Wish { only: Some(args.id.clone()), output: args.output, ..apply::Wish::default() },
    )
    .await
}

fn choose<'a>(
    id: &ApiId,
    named: Option<&str>,
    revisions: &'a [Served],
    now: Option<&Revision>,
) -> anyhow::Result<&'a Served> {
    let Some(named) = named else {
        let before = revisions.iter().find(|served| Some(&served.revision) != now);
        return before
            .ok_or_else(|| anyhow::anyhow!("no other revision of {id} has served; there is nothing to go back to"));
    };
    let mut found = revisions.iter().filter(|served| served.revision.as_str().starts_with(named));
    match (found.next(), found.next()) {
        (Some(served), None) => Ok(served),
        (Some(_), Some(_)) => bail!("{named} could be several revisions of {id}; write more of it"),
        (None, _) => {
            bail!("no revision of {id} that begins with {named} is kept; `skep rollback {id} --list` shows which are")
        }
    }
}
