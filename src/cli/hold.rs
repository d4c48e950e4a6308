//! `skep hold` and `skep release`: leave one API as it is, and go on.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use jiff::Timestamp;

use super::context::Context;
use crate::callers::expiry;
use crate::records::{NewEvent, Records};
use crate::report::style::{NAME, paint};
use crate::tree::ApiId;
use crate::world::{Hold, Served};

/// Arguments of `skep hold`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What serves goes on serving, and is healed, while the folder says what it says now. The next change of the\nfolder ends the hold by itself.\n\nExamples:\n  skep hold thumbnails --why 'the new one eats memory'\n  skep hold thumbnails --until 2h\n  skep release thumbnails"
)]
pub struct Args {
    /// Which API.
    id: ApiId,

    #[command(flatten)]
    word: Word,
}

/// Whose word a hold is, and for how long.
#[derive(Debug, clap::Args)]
pub struct Word {
    /// Why, for whoever finds it.
    #[arg(long, default_value = "", value_name = "TEXT")]
    why: String,

    /// Until when: a span such as 2h, a day, or a time such as 2027-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = expiry)]
    until: Option<Timestamp>,

    /// Who asks for it.
    #[arg(long, value_name = "NAME", env = "USER", default_value = "somebody")]
    by: String,
}

/// Arguments of `skep release`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  skep release thumbnails")]
pub struct ReleaseArgs {
    /// Which API.
    id: ApiId,
}

/// Runs `skep hold`.
///
/// # Errors
/// Where there is no such API, or the records cannot be written.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let context = Context::open_existing(root)?;
    let hold = make(&context, &args.id, &args.word, None).await?;
    anstream::println!("{} is {}.", paint(&args.id, NAME), hold.describe());
    Ok(ExitCode::SUCCESS)
}

/// Runs `skep release`.
///
/// # Errors
/// Where nothing is held, or the records cannot be written.
pub async fn release(args: &ReleaseArgs, root: &Path) -> anyhow::Result<ExitCode> {
    let records = Context::open_in_spite(root)?.records().await?;
    if !records.release(&args.id).await? {
        bail!("{} is not held; `skep status` shows what is", args.id);
    }
    write_down(&*records, &args.id, "released", "by hand").await?;
    anstream::println!("{} is released: it goes on to what its folder says.", paint(&args.id, NAME));
    Ok(ExitCode::SUCCESS)
}

/// Writes down a hold on what the tree says now.
///
/// # Errors
/// Where there is no such API, or the records cannot be written.
pub async fn make(context: &Context, id: &ApiId, word: &Word, serve: Option<Served>) -> anyhow::Result<Hold> {
    let tree = context.read_tree()?;
    let records = context.records().await?;
    if records.get(id).await?.is_none() {
        bail!("there is no API {id}; `skep status` lists all");
    }
    let hold = Hold {
        on: tree.sound(id).map(|api| api.content()),
        serve: serve.map(Box::new),
        by: word.by.clone(),
        why: word.why.clone(),
        at: Timestamp::now(),
        until: word.until,
        stays: false,
    };
    records.put_hold(id, &hold).await?;
    write_down(&*records, id, "held", &hold.describe()).await?;
    Ok(hold)
}

async fn write_down(records: &dyn Records, id: &ApiId, kind: &str, message: &str) -> anyhow::Result<()> {
    let (at, message) = (Timestamp::now(), message.to_owned());
    let event = NewEvent { at, api: Some(id.clone()), revision: None, kind: kind.to_owned(), message };
    records.add_event(&event).await.context("the hold is in force; its event could not be written")?;
    Ok(())
}
