//! The plan is every step from here to the desired tree: `step` unfolded over the model, so that it is what `apply` does.

mod callers;
mod changes;
mod packages;
mod promises;

use std::collections::BTreeSet;

use serde::Serialize;

use super::desired::{Basis, Desired, Goal};
use super::found::ROW_GONE;
use super::model;
use super::step::{Action, Next, Step, step};
use crate::contract::Differences;
use crate::tree::preview::Mark;
use crate::tree::{ApiId, Digest, Revision};
use crate::world::Observed;

pub use changes::{Change, Move, changes, packages};
pub use packages::Resolution;

/// What would happen to all APIs.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Of this JSON form; goes up when a reader must change.
    pub version: u32,
    /// The APIs to which something would happen, or that cannot be brought where they should be.
    pub apis: Vec<ApiPlan>,
    /// Of previews, the same. They are beside what the tree asks for: nothing that is counted counts them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub previews: Vec<ApiPlan>,
    /// How many APIs stay as they are.
    pub unchanged: usize,
    /// Of the whole plan. Two plans with the same fingerprint do the same.
    pub fingerprint: Digest,
}

/// What would happen to one API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApiPlan {
    /// Which API.
    pub id: ApiId,
    /// Of what it is a preview, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<Mark>,
    /// In one word.
    pub verdict: Verdict,
    /// What serves now.
    pub from: Option<Revision>,
    /// What will serve.
    pub to: Option<Revision>,
    /// What the tree changed: pending.
    pub changes: Vec<Change>,
    /// What the world changed: drift, in sentences.
    pub drift: Vec<String>,
    /// What is built anew.
    pub rebuild: Rebuild,
    /// Whether `changes` names the packages that move where no lock does; filled in by whoever can ask a resolver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packages: Option<Resolution>,
    /// Whether new instances take over from old ones.
    pub restart: bool,
    /// What callers will notice, in sentences.
    pub callers: Vec<String>,
    /// How what it promises callers changes; filled in by whoever has both documents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contract: Option<Differences>,
    /// What is done, in order.
    pub steps: Vec<PlannedStep>,
    /// Why it goes no further: a pause after a failure, a broken folder, a removal that waits for a word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedStep {
    /// What is done.
    #[serde(flatten)]
    pub action: Action,
    /// Why.
    pub reason: String,
}

/// What would happen to an API, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It is new.
    Create,
    /// The tree changed.
    Update,
    /// The world changed.
    Heal,
    /// It stops, and is kept.
    Suspend,
    /// It goes.
    Remove,
    /// Nothing happens, though it is not as it should be.
    Blocked,
}

/// What is built anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rebuild {
    /// Nothing.
    Nothing,
    /// The files, on the dependencies that are there.
    Code,
    /// The dependencies too.
    Dependencies,
}

/// The most steps that a plan for one instance may have; more is a loop, which the tests rule out.
const STEPS_PER_INSTANCE: usize = 8;

/// What would happen to all APIs.
#[must_use]
pub fn plan<'a>(apis: impl IntoIterator<Item = (&'a Desired, &'a Observed)>) -> Plan {
    let mut unchanged = 0;
    let mut planned = Vec::new();
    // Dependency images are shared: what one API has installed, the next one finds.
    let mut made = BTreeSet::new();
    for (desired, observed) in apis {
        let mut observed = observed.clone();
        observed.images.extend(made.iter().cloned());
        match plan_api(desired, &observed) {
            Some(api) => {
                made.extend(api.steps.iter().filter_map(|step| match &step.action {
                    Action::Install { image } => Some(image.clone()),
                    _ => None,
                }));
                planned.push(api);
            }
            None => unchanged += usize::from(!desired.id.is_preview()),
        }
    }
    let (previews, planned): (Vec<_>, Vec<_>) = planned.into_iter().partition(|api| api.preview.is_some());
    let fingerprint = fingerprint(&planned);
    Plan { version: 1, apis: planned, previews, unchanged, fingerprint }
}

impl Plan {
    /// Those of the tree, and previews.
    pub fn all(&self) -> impl Iterator<Item = &ApiPlan> {
        self.apis.iter().chain(&self.previews)
    }

    /// The same, to be added to.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut ApiPlan> {
        self.apis.iter_mut().chain(&mut self.previews)
    }
}

/// What makes a plan this one: what changes and what is done. What is waited for, and in which words, is not in it.
fn fingerprint(apis: &[ApiPlan]) -> Digest {
    let done = |api: &ApiPlan| -> Vec<serde_json::Value> {
        let actions = api.steps.iter().map(|step| &step.action);
        let actions = actions.filter(|action| !matches!(action, Action::RecordStatus(_) | Action::AwaitReady { .. }));
        actions.map(|action| serde_json::to_value(action).unwrap_or_default()).collect()
    };
    let essence = apis.iter().map(|api| (&api.id, &api.from, &api.to, &api.changes, done(api)));
    Digest::of_value(&essence.collect::<Vec<_>>())
}

/// What would happen to one API; `None` where nothing would, and nothing need.
#[must_use]
pub fn plan_api(desired: &Desired, observed: &Observed) -> Option<ApiPlan> {
    if let Basis::RemovalWaits(why) = &desired.basis {
        let gone = Desired { goal: Goal::Remove, basis: Basis::Tree, ..desired.clone() };
        let mut plan = plan_api(&gone, observed)?;
        plan.callers.push(why.clone());
        return Some(plan);
    }
    let (steps, waits) = unfold(desired, observed);
    let blocked = match (&desired.basis, waits) {
        (
            Basis::Tree
            | Basis::Following
            | Basis::Undecided(_)
            | Basis::RemovalWaits(_)
            // It is as it should be, though somebody has a say in it.
            | Basis::HeldAsFolder(_),
            waits,
        ) => waits,
        (Basis::Broken(why) | Basis::Unreadable(why) | Basis::RemovalHeld(why) | Basis::Held(why), _) => {
            Some(why.clone())
        }
    };
    if steps.iter().all(|step| matches!(step.action, Action::RecordStatus(_))) && blocked.is_none() {
        return None;
    }
    let served = observed.record.as_ref().and_then(|record| record.served.as_ref());
    let changes = match (desired.target(), served) {
        (Some(target), Some(served)) => changes(served, target),
        _ => Vec::new(),
    };
    let drift = drift(desired, observed);
    let verdict = verdict(desired, observed, &steps, &changes);
    let has = |wanted: fn(&Action) -> bool| steps.iter().any(|step| wanted(&step.action));
    let rebuild = if has(|action| matches!(action, Action::Install { .. })) {
        Rebuild::Dependencies
    } else if has(|action| matches!(action, Action::Build { .. })) {
        Rebuild::Code
    } else {
        Rebuild::Nothing
    };
    let routed = observed.routed();
    let is_served = observed.instances.iter().any(|i| i.is_ready() && routed.contains(&i.container));
    let starts = has(|action| matches!(action, Action::Start { .. }));
    let restart = is_served && starts;
    Some(ApiPlan {
        id: desired.id.clone(),
        preview: Mark::of(&desired.id),
        verdict,
        from: served.filter(|served| !served.spec.suspend).map(|served| served.revision.clone()),
        to: match &desired.goal {
            Goal::Run(target) => Some(target.revision.clone()),
            _ => None,
        },
        callers: callers::callers(desired, verdict, served.map(|served| &served.spec), (restart, starts && !is_served)),
        contract: None,
        changes,
        drift,
        rebuild,
        packages: None,
        restart,
        steps: steps.into_iter().map(|step| PlannedStep { action: step.action, reason: step.reason }).collect(),
        blocked,
    })
}

/// All steps from here to where nothing is left to do, and what it would still wait for.
#[must_use]
pub fn unfold(desired: &Desired, observed: &Observed) -> (Vec<Step>, Option<String>) {
    let replicas = desired.target().map_or(1, |target| usize::from(target.spec.replicas));
    let limit = STEPS_PER_INSTANCE * (2 + replicas + observed.instances.len());
    let mut model = observed.clone();
    let mut steps = Vec::new();
    loop {
        match step(desired, &model) {
            Next::Settled => return (steps, None),
            Next::Wait { reason, .. } => return (steps, Some(reason)),
            Next::Act(_) if steps.len() >= limit => {
                return (steps, Some("the plan does not come to an end; please report this".to_owned()));
            }
            Next::Act(next) => {
                model::perform(&next.action, desired, &mut model);
                steps.push(next);
            }
        }
    }
}

/// What it would take to get back to what skep last made: that, and nothing else, is drift.
fn drift(desired: &Desired, observed: &Observed) -> Vec<String> {
    let mut drift: Vec<String> = match &observed.record {
        Some(record) => record.edits.iter().map(|edit| format!("row in the records: {edit}")).collect(),
        None if has_lost_its_row(observed) => vec![ROW_GONE.to_owned()],
        None => Vec::new(),
    };
    let Some(served) = &desired.served else { return drift };
    let goal = if served.spec.suspend { Goal::Suspend(served.clone()) } else { Goal::Run(served.clone()) };
    let back = Desired { id: desired.id.clone(), goal, basis: Basis::Tree, served: None, spent_hold: None };
    // An instance of the revision that is on its way in is no drift, though what served last does not need it.
    let is_ours = |container: &str| {
        let revision = observed.instances.iter().find(|i| &*i.container == container).map(|i| &i.revision);
        desired.target().is_some_and(|target| Some(&target.revision) == revision && target.revision != served.revision)
    };
    let (steps, _) = unfold(&back, observed);
    let sentence = |step: Step| match &step.action {
        Action::Install { image } | Action::Build { image } => Some(format!("image {image} is gone")),
        Action::Start { .. } => Some(step.reason),
        Action::Repair { instance, .. } => Some(format!("container {instance}: {}", step.reason)),
        Action::Remove { instance, container, .. } => {
            (!is_ours(container)).then(|| format!("container {instance}: {}", step.reason))
        }
        _ => None,
    };
    drift.extend(steps.into_iter().filter_map(sentence));
    drift
}

/// Whether a row was there: a new API gets its row first of all.
fn has_lost_its_row(observed: &Observed) -> bool {
    observed.record.is_none() && observed.instances.iter().any(|instance| !instance.leaving)
}

fn verdict(desired: &Desired, observed: &Observed, steps: &[Step], changes: &[Change]) -> Verdict {
    let served = observed.record.as_ref().and_then(|record| record.served.as_ref());
    if steps.iter().all(|step| matches!(step.action, Action::RecordStatus(_))) {
        return Verdict::Blocked;
    }
    match (&desired.goal, served) {
        (Goal::Remove, _) => Verdict::Remove,
        (Goal::Suspend(_), served) if served.is_none_or(|served| !served.spec.suspend) => Verdict::Suspend,
        (_, None) if has_lost_its_row(observed) => Verdict::Heal,
        (_, None) => Verdict::Create,
        (_, Some(_)) if changes.is_empty() => Verdict::Heal,
        (_, Some(_)) => Verdict::Update,
    }
}
