//! Status is two separate answers: is the world as the tree says, and are callers served.

use serde::{Deserialize, Serialize};

use super::desired::{Basis, Desired, Goal};
use super::step::{Action, Next};
use crate::world::{Observed, Run};

/// What people see of an API in lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What people call it.
    pub name: String,
    /// Whether the world is as the tree says.
    pub sync: Sync,
    /// Whether callers are served.
    pub health: Health,
    /// Why it is not well, or what is going on; empty where all is well.
    pub message: String,
}

/// Whether the world is as the tree says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sync {
    /// It is.
    Synced,
    /// It is not, and skep is at work on it.
    OutOfSync,
    /// It is not, and skep was told to leave it.
    Held,
    /// It is not, and skep cannot go on until something changes.
    Blocked,
}

/// Whether callers are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// By as many instances as there should be.
    Healthy,
    /// Not yet; the first instance is on its way.
    Progressing,
    /// By fewer instances than there should be, or by instances that do not answer well.
    Degraded,
    /// Not, as the tree says.
    Stopped,
    /// Not, and they should be.
    Missing,
}

impl Sync {
    /// As people read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::OutOfSync => "out-of-sync",
            Self::Held => "held",
            Self::Blocked => "blocked",
        }
    }
}

impl Health {
    /// As people read it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Progressing => "progressing",
            Self::Degraded => "degraded",
            Self::Stopped => "stopped",
            Self::Missing => "missing",
        }
    }
}

/// The status of an API whose next step is `next`.
#[must_use]
pub fn status(desired: &Desired, observed: &Observed, next: &Next) -> Status {
    let name = desired.target().map_or_else(|| desired.id.to_string(), |target| target.spec.name.clone());
    let (sync, message) = sync(desired, next);
    Status { name, sync, health: health(desired, observed, next), message }
}

fn sync(desired: &Desired, next: &Next) -> (Sync, String) {
    match (&desired.basis, next) {
        (Basis::Broken(why) | Basis::Unreadable(why), _) => (Sync::Blocked, why.clone()),
        (Basis::RemovalWaits(why), _) => (Sync::OutOfSync, why.clone()),
        (Basis::Undecided(why), _) => (Sync::OutOfSync, (*why).to_owned()),
        (Basis::RemovalHeld(why) | Basis::Held(why) | Basis::HeldAsFolder(why), _) => (Sync::Held, why.clone()),
        (Basis::Tree | Basis::Following, Next::Settled) => (Sync::Synced, String::new()),
        (Basis::Tree | Basis::Following, Next::Wait { until: None, reason }) => (Sync::Blocked, reason.clone()),
        (Basis::Tree | Basis::Following, Next::Wait { reason, .. }) => (Sync::OutOfSync, reason.clone()),
        (Basis::Tree | Basis::Following, Next::Act(step)) => (Sync::OutOfSync, doing(&step.action).to_owned()),
    }
}

/// What an action is, for people who wait for it. Without numbers, so that it does not change with each look.
#[must_use]
pub fn doing(action: &Action) -> &'static str {
    match action {
        Action::Install { .. } => "installing its requirements",
        Action::Build { .. } => "building its image",
        Action::Start { .. } => "starting",
        Action::AwaitReady { .. } => "waiting for its first good answer",
        Action::Route { .. } | Action::Unroute => "changing its route",
        Action::Drain { .. } => "the old instance finishes what it was doing",
        Action::Repair { .. } => "putting an instance right",
        Action::Remove { .. } => "removing an instance",
        Action::LetGo { .. } => "letting go of an instance",
        Action::RestoreRecord { .. } => "putting its row right",
        Action::RecordServed { .. } | Action::RecordStatus(_) | Action::Release { .. } | Action::Forget => {
            "writing the records"
        }
    }
}

fn health(desired: &Desired, observed: &Observed, next: &Next) -> Health {
    let target = match &desired.goal {
        Goal::Run(target) => target,
        Goal::Suspend(_) | Goal::Remove => return Health::Stopped,
        Goal::Leave => return Health::Missing,
    };
    let routed = observed.routed();
    let serving = || observed.instances.iter().filter(|instance| routed.contains(&instance.container));
    let ready = serving().filter(|instance| instance.is_ready()).count();
    let is_starting = observed.instances.iter().any(|instance| matches!(instance.run, Run::Running { .. }));
    if ready >= usize::from(target.spec.replicas) {
        Health::Healthy
    } else if serving().any(|instance| instance.address().is_some()) {
        Health::Degraded
    } else if matches!(next, Next::Act(_))
        && (is_starting || observed.record.as_ref().is_none_or(|r| r.failures.is_empty()))
    {
        Health::Progressing
    } else {
        Health::Missing
    }
}
