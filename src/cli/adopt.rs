//! `skep adopt`: take over from the containers of the system before.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use http::Method;
use serde::Serialize;

use super::Output;
use super::context::Context;
use crate::admin::client::{self, ClientError};
use crate::engine::Engine;
use crate::report::adopt::{AdoptJson, FolderSeen, Takeover, table};
use crate::report::style::{BAD, GOOD, NAME, paint, plain};
use crate::report::with_causes;
use crate::tree::{ApiId, Tree};
use crate::world::PredecessorState;

/// For what the daemon answers from a look at the world.
const LOOK: Duration = Duration::from_secs(60);

/// For what it answers once an old container has finished and ended: a drain is an hour at the longest.
const STOP: Duration = Duration::from_secs(2 * 3600 + 120);

/// Arguments of `skep adopt`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Containers of the system before carry the label app=api-builder, and api_id=<id>. skep never\nremoves one, nor its image; `docker start` starts a stopped one again. With `adopt: true` in\nskep.yaml they answer callers until ours do. docs/adopt.md has the whole way.\n\nExit codes:\n  0  listed; with --stop: whatever was to be stopped is\n  1  it could not be listed; with --stop: some were refused, and go on\n\nExamples:\n  skep adopt\n  skep adopt --stop --dry-run\n  skep adopt --stop thumbnails rooms\n  skep adopt --output json | jq -r '.containers[] | select(.ours != \"serving\") | .name'"
)]
pub struct Args {
    /// Only of these APIs.
    ids: Vec<ApiId>,

    /// Stop theirs where ours serves: the container ends with what it has begun, and stays, stopped.
    #[arg(long)]
    stop: bool,

    /// Say what --stop would do, and do nothing.
    #[arg(long, requires = "stop")]
    dry_run: bool,

    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// What `skep adopt --stop --output json` prints.
#[derive(Debug, Serialize)]
struct StopJson {
    version: u32,
    dry_run: bool,
    containers: Vec<Stopped>,
}

/// What came of the wish to stop one container.
#[derive(Debug, Serialize)]
struct Stopped {
    /// `None` where there is no container of that API.
    name: Option<String>,
    api: Option<ApiId>,
    outcome: Outcome,
    /// In a sentence; empty where nothing is to be said.
    why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Stopped,
    WouldStop,
    NotRunning,
    Refused,
}

/// The daemon at work, and the key that opens its control surface.
struct Daemon {
    address: SocketAddr,
    key: String,
}

/// Runs `skep adopt`.
///
/// # Errors
/// Where the daemon, the engine or the tree cannot be asked.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let context = Context::open(root)?;
    let holder = context.installation.holder().and_then(|holder| holder.address);
    let daemon = match holder {
        Some(address) => Some(Daemon { address, key: context.installation.admin_key(&context.settings)? }),
        None => None,
    };
    let mut all = look(&context, daemon.as_ref()).await?;
    let is_meant = |takeover: &Takeover| {
        let label = takeover.label.as_deref();
        args.ids.is_empty() || args.ids.iter().any(|id| Some(id.as_str()) == label)
    };
    all.retain(is_meant);
    if args.stop {
        let mut done = Vec::new();
        for takeover in &all {
            done.push(stop(takeover, daemon.as_ref(), args.dry_run).await);
        }
        let is_there = |id: &&ApiId| all.iter().any(|takeover| takeover.label.as_deref() == Some(id.as_str()));
        done.extend(args.ids.iter().filter(|id| !is_there(id)).map(|id| Stopped {
            name: None,
            api: Some(id.clone()),
            outcome: Outcome::Refused,
            why: format!("the system before has no container of {id}; `skep adopt` lists all"),
        }));
        return conclude(args, done);
    }
    match args.output {
        Output::Text => {
            anstream::print!("{}", table(&all));
            if daemon.is_none() && !all.is_empty() {
                anstream::eprintln!("No daemon is at work: nothing of ours serves until `skep serve` runs.");
            }
        }
        Output::Json => {
            anstream::println!("{}", serde_json::to_string_pretty(&AdoptJson { version: 1, containers: all })?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// As the daemon sees it, whose routes callers get; without one, as it is with nothing routed.
async fn look(context: &Context, daemon: Option<&Daemon>) -> anyhow::Result<Vec<Takeover>> {
    if let Some(Daemon { address, key }) = daemon {
        let AdoptJson { containers, .. } = client::ask(*address, key, (Method::GET, "/admin/adopt"), LOOK).await?;
        return Ok(containers);
    }
    let tree = context.read_tree()?;
    let predecessors = context.engine()?.predecessors().await?;
    let folder = |tree: &Tree, label: Option<&str>| {
        let id = label.and_then(|label| ApiId::new(label).ok());
        id.map_or(FolderSeen::Missing, |id| FolderSeen::of(tree.folders.get(&id)))
    };
    let takeover = |predecessor| Takeover::of(predecessor, folder(&tree, predecessor.label.as_deref()), None);
    Ok(predecessors.iter().map(takeover).collect())
}

/// Stops one, where it may be.
async fn stop(takeover: &Takeover, daemon: Option<&Daemon>, is_dry: bool) -> Stopped {
    let (name, api) = (Some(takeover.name.clone()), takeover.api.clone());
    let of = |outcome, why: String| Stopped { name: name.clone(), api: api.clone(), outcome, why };
    if takeover.state == PredecessorState::Stopped {
        return of(Outcome::NotRunning, String::new());
    }
    if let Some(why) = &takeover.refusal {
        return of(Outcome::Refused, format!("{why}; {}", takeover.next));
    }
    let (Some(id), Some(Daemon { address, key })) = (&api, daemon) else {
        return of(Outcome::Refused, "nothing of ours serves".to_owned());
    };
    if is_dry {
        return of(Outcome::WouldStop, String::new());
    }
    let path = format!("/admin/adopt/{id}/stop");
    match client::ask::<serde_json::Value>(*address, key, (Method::POST, &path), STOP).await {
        Ok(answer) if answer["outcome"] == "not-running" => of(Outcome::NotRunning, String::new()),
        Ok(_) => of(Outcome::Stopped, String::new()),
        Err(ClientError::Declined(why)) => of(Outcome::Refused, why),
        Err(error) => of(Outcome::Refused, with_causes(&error)),
    }
}

fn conclude(args: &Args, containers: Vec<Stopped>) -> anyhow::Result<ExitCode> {
    let is_refused = containers.iter().any(|stopped| stopped.outcome == Outcome::Refused);
    match args.output {
        Output::Json => {
            let json = StopJson { version: 1, dry_run: args.dry_run, containers };
            anstream::println!("{}", serde_json::to_string_pretty(&json)?);
        }
        Output::Text if containers.is_empty() => anstream::print!("{}", table(&[])),
        Output::Text => {
            for stopped in &containers {
                let id = stopped.api.as_ref().map(ToString::to_string).unwrap_or_default();
                let name = paint(plain(stopped.name.as_deref().unwrap_or(&id)), NAME);
                match stopped.outcome {
                    Outcome::Stopped => anstream::println!("{name} is {}.", paint("stopped", GOOD)),
                    Outcome::WouldStop => anstream::println!("{name} would be stopped."),
                    Outcome::NotRunning => anstream::println!("{name} does not run."),
                    Outcome::Refused => {
                        anstream::println!("{name} is {}: {}", paint("not stopped", BAD), plain(&stopped.why));
                    }
                }
            }
        }
    }
    Ok(if is_refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
