//! `skep pull`: has the daemon ask now what it follows, and shows what comes of it.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::future::join_all;
use http::Method;
use serde::{Deserialize, Serialize};

use super::Output;
use super::apply::{self, Wish};
use super::context::Context;
use crate::admin::client::{self, ClientError};
use crate::pull::asked::{Asked, Outcome};
use crate::pull::status::{Placed, TroubleKind};
use crate::report::style::{BAD, NAME, WARN, paint, plain};

/// How long the daemon may take to say what it follows.
const LISTED: Duration = Duration::from_secs(15);

/// How long it may take to fetch: somewhat longer than it gives itself.
const FETCHED: Duration = Duration::from_secs(21 * 60);

/// Arguments of `skep pull`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The daemon does the same by itself every so often (pull[].every), and as soon as a webhook says that there\nis something new; this is for whoever would rather not wait, and wants to see it.\n\nCtrl-C ends the watching, and nothing else.\n\nExit codes:\n  0  what the sources have lies in the tree, and every API is as the tree says\n  1  some source is not followed, or some API is not; the lines say which, and why\n\nExamples:\n  skep pull\n  skep pull team\n  skep pull --nowait --output json"
)]
pub struct Args {
    /// Which source, by its name in skep.yaml; all of them where none is named.
    #[arg(value_name = "SOURCE")]
    source: Option<String>,

    /// End once what is new lies in the tree, and do not follow how it is deployed.
    #[arg(long)]
    nowait: bool,

    /// How to print the outcome.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The part of the list of sources that says which there are.
#[derive(Debug, Deserialize)]
struct Sources {
    sources: Vec<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    source: String,
}

/// What `skep pull --output json` prints.
#[derive(Debug, Serialize)]
struct PullJson {
    version: u32,
    sources: Vec<Asked>,
    /// As of `skep apply`; left out where that was not followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<serde_json::Value>,
}

/// Runs `skep pull`.
///
/// # Errors
/// Where no daemon is at work, or it follows no such source.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let context = Context::open_existing(root)?;
    let Some(address) = context.installation.holder().and_then(|holder| holder.address) else {
        bail!("no daemon is at work here, and only that follows sources; start one with `skep serve`")
    };
    let key = context.installation.admin_key(&context.settings)?;
    let list: Sources = client::ask(address, &key, (Method::GET, "/admin/pull"), LISTED).await?;
    let mut names: Vec<String> = list.sources.into_iter().map(|source| source.source).collect();
    if names.is_empty() {
        bail!("the daemon follows nothing; `pull` in skep.yaml names what it follows from its next start on")
    }
    if let Some(wanted) = &args.source {
        if !names.contains(wanted) {
            bail!("the daemon follows no source {}; there are: {}", plain(wanted), names.join(", "))
        }
        names.retain(|name| name == wanted);
    }
    let ask = async |name: &String| {
        let path = format!("/admin/pull/{name}");
        client::ask::<Asked>(address, &key, (Method::POST, &path), FETCHED).await
    };
    let asked: Result<Vec<Asked>, ClientError> = join_all(names.iter().map(ask)).await.into_iter().collect();
    let asked = asked.context("what the sources have could not be learnt")?;
    if args.output == Output::Text {
        anstream::print!("{}", text(&asked));
    }
    let is_followed = asked.iter().all(|asked| asked.outcome != Outcome::Trouble);
    // Where nothing came of any of them, there is nothing to follow.
    let is_over = args.nowait || asked.iter().all(|asked| asked.outcome == Outcome::Trouble);
    let wish = Wish { output: args.output, ..Wish::default() };
    let applied = if is_over { None } else { Some(apply::done(&context, &wish).await?) };
    match args.output {
        Output::Json => {
            let applied = applied.as_ref().map(apply::Done::json);
            anstream::println!("{:#}", serde_json::to_value(PullJson { version: 1, sources: asked, applied })?);
        }
        Output::Text => {
            if let Some(applied) = &applied {
                anstream::println!("{}", applied.text());
            }
        }
    }
    let is_well = is_followed && applied.is_none_or(|applied| applied.is_well());
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What came of asking each.
fn text(asked: &[Asked]) -> String {
    let width = asked.iter().map(|asked| asked.status.source.len()).max().unwrap_or(0);
    let mut out = String::new();
    for asked in asked {
        let status = &asked.status;
        let placed = status.placed.as_ref().map_or_else(|| "nothing of it is placed yet".to_owned(), described);
        let line = match (asked.outcome, &status.trouble) {
            (Outcome::Placed, _) => format!("{placed}; {}", counted(asked)),
            (Outcome::Unchanged, _) => format!("nothing new: {placed}"),
            (Outcome::Trouble, Some(trouble)) => {
                paint(format!("{}: {}", trouble.kind.as_str(), plain(&trouble.what)), BAD)
            }
            (Outcome::Trouble, None) => paint("it could not be followed; the daemon's log says why", BAD),
        };
        out.push_str(&format!("{}  {line}\n", paint(format!("{:<width$}", status.source), NAME)));
        let note = status.placed.as_ref().and_then(|placed| placed.note.as_ref());
        if let Some(note) = note.filter(|_| asked.outcome == Outcome::Placed) {
            out.push_str(&format!("{:width$}  {}\n", "", paint(plain(note), WARN)));
        }
        if asked.outcome == Outcome::Trouble && status.placed.is_some() {
            let kind = status.trouble.as_ref().map_or(TroubleKind::Failed, |trouble| trouble.kind);
            out.push_str(&format!("{:width$}  {}: {placed}\n", "", kind.meanwhile()));
        }
    }
    out
}

/// What lies in the tree.
fn described(placed: &Placed) -> String {
    plain(&format!(
        "{} at {} {}, by {}",
        placed.reference,
        placed.commit.short(),
        placed.commit.subject,
        placed.commit.author
    ))
}

/// How many folders came and went.
fn counted(asked: &Asked) -> String {
    let folders = |count: usize| if count == 1 { "1 folder".to_owned() } else { format!("{count} folders") };
    match (asked.changed.len(), asked.gone.len()) {
        (0, 0) => "no folder has changed".to_owned(),
        (changed, 0) => format!("{} placed", folders(changed)),
        (0, gone) => format!("{} gone", folders(gone)),
        (changed, gone) => format!("{} placed, {gone} gone", folders(changed)),
    }
}
