//! `skep apply`: makes the world as the tree says, and shows progress.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::Method;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;

use super::context::{Comparison, Context, Parts};
use super::{Output, plan};
use crate::admin::{ApplyLine, client};
use crate::installation::Holder;
use crate::reconcile::leadership::keep_leading;
use crate::reconcile::plan::Plan;
use crate::reconcile::status::{Health, Sync};
use crate::reconcile::{Basis, Desired, Goal, ROUNDS, Rest};
use crate::report;
use crate::report::progress::Progress;
use crate::report::status::ApiStatus;
use crate::tree::{ApiId, Digest, PullRequest};

/// Arguments of `skep apply`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Where `skep serve` is at work on this installation, it is asked to do it; else skep does it itself.\n\nExit codes:\n  0  every API is as the tree says\n  1  some are not; the last lines say which, and why\n\nExamples:\n  skep apply\n  skep apply plan.json\n  skep apply --allow-deletes"
)]
pub struct Args {
    /// A plan that `skep plan --out` wrote; refused where tree or world have moved on since.
    #[arg(value_name = "FILE", conflicts_with = "allow_deletes")]
    plan: Option<PathBuf>,

    /// Remove APIs whose folders are gone, however many they are.
    #[arg(long)]
    allow_deletes: bool,

    /// Only the previews of a pull request, as those who push one do.
    #[arg(long, value_name = "NUMBER", hide = true, value_parser = pull_request, conflicts_with_all = ["plan", "allow_deletes"])]
    pull_request: Option<PullRequest>,

    /// How to print the outcome.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The number of a pull request, as an argument has it.
pub(super) fn pull_request(text: &str) -> Result<PullRequest, &'static str> {
    PullRequest::read(text).ok_or("this is no number of a pull request")
}

/// The part of a plan file that says which plan it is.
#[derive(Debug, Deserialize)]
struct PlanFile {
    version: u32,
    fingerprint: Digest,
}

/// How long the daemon may take to read its tree.
const RELOADS: Duration = Duration::from_secs(60);

/// Runs `skep apply`.
///
/// # Errors
/// Where the tree cannot be read, the world cannot be looked at, or the plan is out of date.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let Args { plan, allow_deletes, output, pull_request } = args;
    let (allow_deletes, output, pull_request) = (*allow_deletes, *output, *pull_request);
    let wish = Wish { plan: plan.clone(), allow_deletes, output, only: None, pull_request };
    carry_out(&Context::open(root)?, &wish).await
}

/// What is to be carried out.
#[derive(Debug, Default)]
pub struct Wish {
    /// A plan that must still be the one.
    pub plan: Option<PathBuf>,
    /// However many APIs are gone.
    pub allow_deletes: bool,
    /// How to print the outcome.
    pub output: Output,
    /// Of one API alone.
    pub only: Option<ApiId>,
    /// Of the previews of that pull request alone; else of none.
    pub pull_request: Option<PullRequest>,
}

impl Wish {
    /// Whether an API is among those that it is about.
    fn is_about(&self, id: &ApiId) -> bool {
        match &self.only {
            Some(only) => id == only,
            None => id.preview().map(|(_, pull_request)| pull_request) == self.pull_request,
        }
    }
}

/// Makes the world as the tree and the holds say, and shows progress.
///
/// # Errors
/// As [`run`].
pub async fn carry_out(context: &Context, args: &Wish) -> anyhow::Result<ExitCode> {
    let done = done(context, args).await?;
    done.print(args);
    Ok(if done.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// As [`carry_out`], for whoever says by themselves how it ended.
///
/// # Errors
/// As [`run`].
pub(super) async fn done(context: &Context, args: &Wish) -> anyhow::Result<Done> {
    let tree = context.read_tree()?;
    let daemon = context.installation.holder().filter(|holder| holder.address.is_some());
    // Taken before the world is looked at, so that nobody else changes it between the plan and its steps.
    let lock = match &daemon {
        Some(daemon) if daemon.root != context.settings.root => {
            bail!(
                "the daemon at work on this installation serves {}, not {}",
                daemon.root.display(),
                context.settings.root.display()
            )
        }
        Some(_) => None,
        None => Some(context.installation.lock(&context.holder("apply", None))?),
    };
    let parts = context.assemble_for_command().await?;
    let base = parts.controller.base().map(|base| base.digest);
    if daemon.as_ref().and_then(|daemon| daemon.base).is_some_and(|stands_on| Some(stands_on) != base) {
        bail!(
            "the daemon at work stands on another base image than there is now; restart it, and all APIs move to the new one"
        );
    }
    let mut comparison = parts.compare(tree).await?;
    if args.allow_deletes {
        let held = comparison.apis.values().filter(|(desired, _)| matches!(desired.basis, Basis::RemovalHeld(_)));
        let held: Vec<ApiId> = held.map(|(desired, _)| desired.id.clone()).collect();
        if !held.is_empty() {
            if let Some(address) = daemon.as_ref().and_then(|daemon| daemon.address) {
                // A word on a folder that the daemon takes for still there, as just after a push, would be taken back by it.
                let key = context.installation.admin_key(&context.settings)?;
                client::ask::<serde_json::Value>(address, &key, (Method::POST, "/admin/reload"), RELOADS).await?;
            }
            parts.world.records.confirm_removal(&held).await?;
            comparison = parts.compare(comparison.tree).await?;
        }
    }
    // Whoever asks for what the tree says waits for no preview, and fails by none.
    comparison.apis.retain(|id, _| args.is_about(id));
    let mut plan = plan::make(&parts, &comparison).await;
    if let Some(file) = &args.plan {
        refuse_if_overtaken(file, &plan)?;
    }
    if args.output == Output::Text {
        plan::resolve(&parts, &comparison, &mut plan).await?;
        anstream::print!("{}", report::plan::text(&plan, false));
    }
    let rests = if plan.all().all(|api| api.steps.is_empty()) {
        BTreeMap::new()
    } else {
        let progress = Progress::new(plan.all().map(|api| &api.id), std::io::stderr().is_terminal());
        match &daemon {
            Some(daemon) => ask(context, daemon, args, progress).await?,
            None => do_it(&parts, &plan, progress).await?,
        }
    };
    drop(lock);
    Ok(Done::of(args, &comparison, &plan, rests))
}

fn refuse_if_overtaken(file: &Path, plan: &Plan) -> anyhow::Result<()> {
    let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let written: PlanFile =
        serde_json::from_slice(&text).with_context(|| format!("{} is no plan of skep", file.display()))?;
    if written.version != plan.version {
        bail!("{} is a plan of version {}, this skep makes version {}", file.display(), written.version, plan.version);
    }
    if written.fingerprint != plan.fingerprint {
        bail!("the tree or the world has moved on since {} was made; make a new plan", file.display());
    }
    Ok(())
}

/// Has the daemon do it.
async fn ask(
    context: &Context,
    daemon: &Holder,
    wish: &Wish,
    mut progress: Progress,
) -> anyhow::Result<BTreeMap<ApiId, Rest>> {
    let Some(address) = daemon.address else { bail!("the daemon has no address") };
    let key = context.installation.admin_key(&context.settings)?;
    let mut end = None;
    client::apply(address, &key, wish.only.as_ref(), wish.pull_request, |line| match line {
        ApplyLine::News(news) => progress.show(&news),
        ApplyLine::Done(rests) => end = Some(Ok(rests)),
        ApplyLine::Failed(why) => end = Some(Err(why)),
    })
    .await?;
    progress.finish();
    match end {
        Some(Ok(rests)) => Ok(rests),
        Some(Err(why)) => bail!("the daemon cannot do it: {why}"),
        None => bail!("the daemon went away before it was done; what it began goes on when it is back"),
    }
}

/// Does it in this process.
async fn do_it(parts: &Parts, plan: &Plan, mut progress: Progress) -> anyhow::Result<BTreeMap<ApiId, Rest>> {
    let records = Arc::clone(&parts.world.records);
    let Some(epoch) = records.claim(&records.lease().await?, &parts.world.daemon).await? else {
        bail!("another skep is just beginning to work on this installation; try again")
    };
    records.fence(Some(epoch));
    let done = async {
        let mut rests = BTreeMap::new();
        let mut ids: BTreeSet<ApiId> = plan.all().map(|api| api.id.clone()).collect();
        // What may go only once something else serves is hinted at by the next look.
        for _ in 0..ROUNDS {
            rests.extend(rested(parts, &ids, &mut progress).await);
            ids = parts.controller.look().await?.into_iter().filter(|id| plan.all().any(|api| api.id == *id)).collect();
            if ids.is_empty() {
                break;
            }
        }
        progress.finish();
        Ok(rests)
    };
    let rests = tokio::select! {
        rests = done => rests,
        () = keep_leading(Arc::clone(&records), &parts.world.role, epoch) => bail!("another skep has taken over"),
    };
    records.resign(epoch).await?;
    rests
}

/// Has these APIs come to rest, and shows how.
pub(super) async fn rested(parts: &Parts, ids: &BTreeSet<ApiId>, progress: &mut Progress) -> BTreeMap<ApiId, Rest> {
    let mut news = parts.world.news.subscribe();
    for id in ids {
        parts.controller.hint(id);
    }
    let rested = parts.controller.rested(ids);
    tokio::pin!(rested);
    loop {
        tokio::select! {
            biased;
            news = news.recv() => match news {
                Ok(news) => progress.show(&news),
                Err(RecvError::Lagged(_) | RecvError::Closed) => {}
            },
            rests = &mut rested => return rests,
        }
    }
}

/// How it ended.
pub(super) struct Done {
    /// How each API came to rest to which something happened.
    rests: BTreeMap<ApiId, Rest>,
    /// Those that are not as the tree says. One whose folder is broken counts too.
    ill: Vec<ApiId>,
    /// Those of them that somebody holds, and in which words.
    held: BTreeMap<ApiId, String>,
    /// How many there are, but for those that go.
    count: usize,
    /// Whether it was about the previews of a pull request.
    is_preview: bool,
}

impl Done {
    fn of(args: &Wish, comparison: &Comparison, plan: &Plan, rests: BTreeMap<ApiId, Rest>) -> Self {
        let basis = |id: &ApiId| comparison.apis.get(id).map(|(desired, _)| &desired.basis);
        let is_held_as_folder = |id: &ApiId| matches!(basis(id), Some(Basis::HeldAsFolder(_)));
        let is_well = |id: &ApiId| match rests.get(id) {
            // One that was rolled back is as it was asked to be.
            Some(Rest::Quiet(status)) if args.only.is_some() && status.sync == Sync::Held => {
                matches!(status.health, Health::Healthy | Health::Stopped)
            }
            Some(Rest::Quiet(status)) if is_held_as_folder(id) => {
                matches!(status.health, Health::Healthy | Health::Stopped)
            }
            Some(Rest::Quiet(status)) => status.sync == Sync::Synced,
            Some(Rest::Troubled(_)) => false,
            // What serves may be what was asked for already.
            None if args.only.is_some() => comparison.apis.get(id).is_some_and(|(desired, observed)| {
                let status = ApiStatus::of(desired, observed).status;
                matches!(status.health, Health::Healthy | Health::Stopped)
            }),
            None => plan.all().all(|api| api.id != *id),
        };
        let ill: Vec<ApiId> = comparison.apis.keys().filter(|id| !is_well(id)).cloned().collect();
        let held = ill.iter().filter_map(|id| match basis(id) {
            Some(Basis::Held(why)) => Some((id.clone(), why.clone())),
            _ => None,
        });
        let held = held.collect();
        let stays = |desired: &Desired| {
            !matches!(desired.goal, Goal::Remove) && !matches!(desired.basis, Basis::RemovalWaits(_))
        };
        let count = comparison.apis.values().filter(|(desired, _)| stays(desired)).count();
        Self { rests, ill, held, count, is_preview: args.pull_request.is_some() }
    }

    /// Whether every API is as the tree says.
    pub(super) fn is_well(&self) -> bool {
        self.ill.is_empty()
    }

    /// For machines.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::json!({ "version": 1, "apis": self.rests, "not_as_the_tree_says": self.ill })
    }

    fn print(&self, args: &Wish) {
        match args.output {
            Output::Json => anstream::println!("{:#}", self.json()),
            Output::Text if self.is_well() && args.only.is_some() => {
                let held = args.only.as_ref().map(ToString::to_string).unwrap_or_default();
                anstream::println!("{held} is as it was asked to be; `skep release {held}` ends that.");
            }
            Output::Text => anstream::println!("{}", self.text()),
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        if !self.is_well() {
            let ill = self.ill.iter().filter(|id| !self.held.contains_key(*id)).map(ApiId::as_str);
            let ill: Vec<&str> = ill.collect();
            let ill =
                (!ill.is_empty()).then(|| format!("Not as the tree says: {}. See `skep status`.", ill.join(", ")));
            let held = self.held.iter().map(|(id, why)| format!("Held, and not as its folder says: {id}, {why}."));
            return ill.into_iter().chain(held).collect::<Vec<_>>().join("\n");
        }
        if self.is_preview {
            return "What is previewed of this pull request is as it says.".to_owned();
        }
        match self.count {
            0 => "No API is left, as the tree says.".to_owned(),
            1 => "The one API is as the tree says.".to_owned(),
            count => format!("All {count} APIs are as the tree says."),
        }
    }
}
