//! `skep explain`: how an API came to be as it is, from the commit to the answer.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use jiff::Timestamp;

use super::Output;
use super::context::{Context, Parts};
use super::plan::make;
use super::pulled::statuses;
use crate::git::commit::Last;
use crate::git::store::Store;
use crate::reconcile::Desired;
use crate::reconcile::desired::Goal;
use crate::records::Event;
use crate::report::explain::{Came, Explained, instances, steps};
use crate::report::plan::text as plan_text;
use crate::report::status::ApiStatus;
use crate::report::style::{BOLD, paint, plain};
use crate::tree::{ApiId, Revision};
use crate::world::{Origin, Served};

/// How many of an API's last events are looked through.
const EVENTS: usize = 2000;

/// How many events are told of an API that is there no more.
const LAST: usize = 20;

/// Arguments of `skep explain`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Of an API that was removed, and of a preview that has ended, it tells what is remembered.\n\nExamples:\n  skep explain thumbnails\n  skep explain thumbnails--pr-7\n  skep explain thumbnails --output json"
)]
pub struct Args {
    /// Which API.
    id: ApiId,

    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs `skep explain`.
///
/// # Errors
/// Where there is no such API and was none, or the tree, the world or the records cannot be read.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let context = Context::open_existing(root)?;
    let parts = context.assemble_for_command().await?;
    let comparison = parts.compare(context.read_tree()?).await?;
    let Some((desired, observed)) = comparison.apis.get(&args.id) else {
        return gone(args, &context, &parts).await;
    };
    let mut plan = make(&parts, &comparison).await;
    plan.apis.retain(|api| api.id == args.id);
    let mut status = ApiStatus::of(desired, observed);
    if let Some(mark) = status.preview.take() {
        status.preview = Some(mark.with(comparison.tree.previews.get(&args.id)));
        status.url = Some(format!("{}/run/{}/", context.callers_address(), args.id));
    }
    let revision = desired.target().map(|target| target.revision.clone()).or_else(|| status.serving.clone());
    let world = &parts.world;
    let served = world.records.revisions(&args.id).await?;
    let served = served.iter().find(|served| Some(&served.revision) == revision.as_ref());
    let origin = served.and_then(|served| served.origin.as_deref());
    // One that has not served yet has no origin, and may have a commit all the same.
    let last = match (origin.and_then(of_origin), folder(desired), &world.commits) {
        (None, Some(folder), Some(commits)) => commits.of(folder).await.unwrap_or_default(),
        (last, ..) => last,
    };
    let events = world.records.last_events(Some(&args.id), EVENTS).await?;
    let daemon = context.installation.holder();
    let is_served = daemon.is_some();
    let explained = Explained {
        version: 1,
        id: &args.id,
        daemon,
        status: Some(&status),
        suspended: matches!(desired.goal, Goal::Suspend(_)),
        revision: revision.as_ref(),
        commit: match &last {
            Some(Last::Commit(commit)) => Some(commit),
            _ => None,
        },
        as_of: match &last {
            Some(Last::AsOf(commit)) => Some(commit),
            _ => None,
        },
        origin,
        came: came(&context, &parts, &args.id).await,
        steps: steps(events.iter().filter(|event| is_of(event, revision.as_ref()))),
        instances: instances(observed, is_served),
        route: observed.route.as_ref().map(|route| &route.answer).filter(|_| is_served),
        next: plan.apis.first(),
    };
    match args.output {
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(&explained)?),
        Output::Text => {
            anstream::print!("{}", explained.text(Timestamp::now()));
            match explained.next {
                Some(_) => anstream::print!("\n{}\n{}", paint("next", BOLD), plan_text(&plan, true)),
                None if is_served => anstream::println!("\nNothing is left to do."),
                None => anstream::println!("\nNothing is left to do but to start a daemon."),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells what is remembered of an API that is there no more.
async fn gone(args: &Args, context: &Context, parts: &Parts) -> anyhow::Result<ExitCode> {
    let (id, records) = (&args.id, &parts.world.records);
    let revisions = records.revisions(id).await?;
    let events = records.last_events(Some(id), LAST).await?;
    if revisions.is_empty() && events.is_empty() {
        let sources = statuses(&context.settings).into_iter();
        let told = sources.filter_map(|source| source.trouble.map(|trouble| (source.source, trouble)));
        let told =
            told.map(|(name, trouble)| format!("; source {name} is {}: {}", trouble.kind.as_str(), trouble.what));
        bail!(
            "there is no API {id}, and none is remembered; `skep status` lists all{}",
            plain(&told.collect::<String>())
        )
    }
    let last: Option<&Served> = revisions.first();
    let origin = last.and_then(|served| served.origin.as_deref());
    let explained = Explained {
        version: 1,
        id,
        daemon: context.installation.holder(),
        status: None,
        suspended: false,
        revision: last.map(|served| &served.revision),
        commit: origin.and_then(|origin| origin.commit.as_ref()),
        as_of: origin.and_then(|origin| origin.as_of.as_deref()),
        origin,
        came: Came::default(),
        steps: steps(events.iter()),
        instances: Vec::new(),
        route: None,
        next: None,
    };
    match args.output {
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(&explained)?),
        Output::Text => anstream::print!("{}", explained.text(Timestamp::now())),
    }
    Ok(ExitCode::SUCCESS)
}

/// What brought the folder of an API. What git cannot say is left out.
async fn came(context: &Context, parts: &Parts, id: &ApiId) -> Came {
    let (settings, Some(commits)) = (&context.settings, &parts.world.commits) else { return Came::default() };
    let folder = settings.apis.join(id.as_str());
    let found = commits.is_as_placed(&folder).await.unwrap_or_default();
    let Some((store, is_same)) = found else { return Came::default() };
    let is_it = |other: &Store| other.folder() == store.folder();
    let pushed = settings.push.as_ref().filter(|_| is_it(&Store::of(&settings.state)));
    let mut source =
        statuses(settings).into_iter().find(|source| is_it(&Store::of_source(&settings.state, &source.source)));
    if let Some(source) = &mut source {
        // Pull requests are not what brought it.
        source.refused.clear();
    }
    Came { source, pushed_to: pushed.map(|push| push.branch.clone()), edited: !is_same }
}

fn folder(desired: &Desired) -> Option<&PathBuf> {
    desired.target()?.folder.as_ref()
}

fn of_origin(origin: &Origin) -> Option<Last> {
    origin.commit.clone().map(Last::Commit).or_else(|| origin.as_of.clone().map(Last::AsOf))
}

/// Whether something was done for a revision.
fn is_of(event: &Event, revision: Option<&Revision>) -> bool {
    revision.is_some() && event.event.revision.as_ref() == revision
}
