//! `skep explain`: how an API came to be as it is, from the commit to the answer.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::Output;
use super::context::Context;
use super::plan::make;
use crate::git::Commit;
use crate::git::commit::Last;
use crate::reconcile::Desired;
use crate::reconcile::plan::ApiPlan;
use crate::records::Event;
use crate::report::plan::text as plan_text;
use crate::report::status::{ApiStatus, table};
use crate::report::style::{BAD, BOLD, FAINT, NAME, WARN, paint, plain};
use crate::tree::{ApiId, Revision};
use crate::world::{Answer, Instance, Observed, Origin, Readiness, Run};

/// How many of an API's last events are looked through.
const EVENTS: usize = 2000;

/// Arguments of `skep explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  skep explain thumbnails\n  skep explain thumbnails --output json")]
pub struct Args {
    /// Which API.
    id: ApiId,

    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The whole chain, of one API.
#[derive(Serialize)]
struct Explained<'a> {
    version: u32,
    status: &'a ApiStatus,
    /// The revision that is told of: the one that the tree asks for, else what serves.
    revision: Option<&'a Revision>,
    /// Which commit it is, where that can be said.
    commit: Option<&'a Commit>,
    /// Who asked for it, why, and by which step it came to serve; `null` where it never has.
    origin: Option<&'a Origin>,
    /// What was done for it, the first first.
    steps: Vec<Step<'a>>,
    /// Its containers, and what they answered last.
    instances: Vec<Seen<'a>>,
    /// What callers get.
    route: Option<&'a Answer>,
    /// What happens next, and why; `null` where nothing does.
    next: Option<&'a ApiPlan>,
}

#[derive(Serialize)]
struct Step<'a> {
    #[serde(flatten)]
    event: &'a Event,
    /// Seconds since the one before.
    after: Option<f64>,
}

#[derive(Serialize)]
struct Seen<'a> {
    name: &'a str,
    revision: &'a Revision,
    /// In words: what it is doing, and what it answered last.
    state: String,
    ready: bool,
    /// Whether callers reach it.
    routed: bool,
}

/// Runs `skep explain`.
///
/// # Errors
/// Where there is no such API, or the tree, the world or the records cannot be read.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let context = Context::open_existing(root)?;
    let parts = context.assemble_for_command().await?;
    let comparison = parts.compare(context.read_tree()?).await?;
    let Some((desired, observed)) = comparison.apis.get(&args.id) else {
        bail!("there is no API {}; `skep status` lists all", args.id)
    };
    let mut plan = make(&parts, &comparison).await;
    plan.apis.retain(|api| api.id == args.id);
    let status = ApiStatus::of(desired, observed);
    let revision = desired.target().map(|target| target.revision.clone()).or_else(|| status.serving.clone());
    let world = &parts.world;
    let served = world.records.revisions(&args.id).await?;
    let served = served.iter().find(|served| Some(&served.revision) == revision.as_ref());
    let origin = served.and_then(|served| served.origin.as_deref());
    // One that has not served yet has no origin, and may have a commit all the same.
    let commit = match (origin.and_then(|origin| origin.commit.clone()), folder(desired), &world.commits) {
        (None, Some(folder), Some(commits)) => commits.of(folder).await.unwrap_or_default().and_then(Last::known),
        (commit, ..) => commit,
    };
    let events = world.records.last_events(Some(&args.id), EVENTS).await?;
    let explained = Explained {
        version: 1,
        status: &status,
        revision: revision.as_ref(),
        commit: commit.as_ref(),
        origin,
        steps: steps(&events, revision.as_ref()),
        instances: observed.instances.iter().map(|instance| seen(instance, observed)).collect(),
        route: observed.route.as_ref().map(|route| &route.answer),
        next: plan.apis.first(),
    };
    match args.output {
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(&explained)?),
        Output::Text => {
            anstream::print!("{}", table(std::slice::from_ref(&status), Timestamp::now()));
            print(&explained);
            match explained.next {
                Some(_) => anstream::print!("\n{}\n{}", paint("next", BOLD), plan_text(&plan, true)),
                None => anstream::println!("\nNothing is left to do."),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn folder(desired: &Desired) -> Option<&PathBuf> {
    desired.target()?.folder.as_ref()
}

/// What was done for a revision since it was last begun with: one that was gone back to has several such times.
fn steps<'a>(events: &'a [Event], revision: Option<&Revision>) -> Vec<Step<'a>> {
    let of = |event: &&Event| revision.is_some() && event.event.revision.as_ref() == revision;
    let mut steps: Vec<Step<'a>> = Vec::new();
    for event in events.iter().filter(of) {
        let before = steps.last().map(|step| step.event.event.at);
        let after = before.map(|before| event.event.at.duration_since(before).as_secs_f64());
        steps.push(Step { event, after });
    }
    steps
}

fn seen<'a>(instance: &'a Instance, observed: &Observed) -> Seen<'a> {
    let state = match &instance.run {
        Run::Created => "created, never started".to_owned(),
        Run::Running { since, .. } => format!("running since {since:.0}, {}", answer(&instance.readiness)),
        Run::Paused => "paused by somebody".to_owned(),
        Run::Exited { out_of_memory: true, .. } => "ended for want of memory".to_owned(),
        Run::Exited { code, .. } => format!("ended with {code}"),
        Run::Unclear => "what it does the engine cannot say".to_owned(),
    };
    Seen {
        name: instance.name.as_str(),
        revision: &instance.revision,
        state,
        ready: instance.is_ready(),
        routed: observed.routed().contains(&instance.container),
    }
}

fn print(explained: &Explained<'_>) {
    if let Some(revision) = explained.revision {
        anstream::println!("\n{} {}", paint("revision", BOLD), paint(revision.as_str(), NAME));
    }
    if let Some(commit) = explained.commit {
        let (at, id) = (paint(format!("{:.0}", commit.at), FAINT), paint(commit.short(), NAME));
        anstream::println!("  {at}  commit      {id}  {}  {}", plain(&commit.author), plain(&commit.subject));
    }
    if let Some(origin) = explained.origin {
        let by = origin.by.as_deref().map(|by| format!(" by {}", plain(by))).unwrap_or_default();
        anstream::println!("  {:20}  why         {}{by}", "", plain(&origin.why));
    }
    for Step { event, after } in &explained.steps {
        let (at, kind) = (paint(format!("{:.0}", event.event.at), FAINT), plain(&event.event.kind));
        let after = after.map(span).unwrap_or_default();
        anstream::println!("  {at}  {kind:<10}  {}{}", plain(&event.event.message), paint(after, FAINT));
    }
    if let Some(failure) = &explained.status.failure {
        let times = if failure.count > 1 { format!(", {} times", failure.count) } else { String::new() };
        anstream::println!("  {}{times}", paint(plain(&failure.message), BAD));
        for line in &failure.output {
            anstream::println!("    {}", plain(line));
        }
    }
    if !explained.instances.is_empty() {
        anstream::println!("\n{}", paint("instances", BOLD));
    }
    for Seen { name, state, routed, .. } in &explained.instances {
        let is_routed = if *routed { "; callers reach it" } else { "" };
        anstream::println!("  {}  {}{is_routed}", paint(name, NAME), plain(state));
    }
    let route = match explained.route {
        Some(Answer::Forward { revision, .. }) => format!("revision {revision} answers callers"),
        Some(_) => paint("callers are told that it is not available", WARN),
        None => "callers find nothing there".to_owned(),
    };
    anstream::println!("\n{} {route}", paint("route", BOLD));
}

fn answer(readiness: &Readiness) -> String {
    match readiness {
        Readiness::Unknown => "not probed yet".to_owned(),
        Readiness::Ready => "the last probe was good".to_owned(),
        Readiness::Failing { last, since } => format!("the last probe: {last}; none was good since {since:.0}"),
    }
}

/// How much later, as people say it; nothing for what came at once.
fn span(seconds: f64) -> String {
    match SignedDuration::try_from_secs_f64(seconds) {
        Ok(span) if span.as_millis() >= 100 && span.as_secs() < 3600 => format!("  +{seconds:.1} s"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::NewEvent;

    #[test]
    fn steps_are_those_of_the_revision_each_with_the_time_since_the_one_before() {
        let (one, two) = (Revision::from_label("111111111111"), Revision::from_label("222222222222"));
        let event = |number, second, revision: &Revision| Event {
            number,
            event: NewEvent {
                at: Timestamp::from_second(second).unwrap(),
                api: None,
                revision: Some(revision.clone()),
                kind: "k".to_owned(),
                message: String::new(),
            },
        };
        let events = [event(1, 10, &one), event(2, 11, &two), event(3, 15, &one)];
        let found = steps(&events, Some(&one));
        assert_eq!(
            found.iter().map(|step| (step.event.number, step.after)).collect::<Vec<_>>(),
            [(1, None), (3, Some(5.0))]
        );
        assert!(steps(&events, None).is_empty());
        assert_eq!((span(2.04), span(0.01), span(90_000.0)), ("  +2.0 s".to_owned(), String::new(), String::new()));
    }
}
