//! An action is one idempotent change of the world; a step is an action and why.

use jiff::Timestamp;
use serde::Serialize;

use super::status::Status;
use crate::engine::ImageTag;
use crate::tree::{Revision, Spec};
use crate::world::instance::{ContainerId, InstanceName};
use crate::world::{Answer, Edit, FailureKind};

/// What to do next for one API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Do this, then look again.
    Act(Step),
    /// Nothing can be done before `until`, or before something changes.
    Wait {
        /// When to look again; `None` where only a change of tree or world helps.
        until: Option<Timestamp>,
        /// What is waited for; never empty.
        reason: String,
    },
    /// All is as it should be.
    Settled,
}

/// One action and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub action: Action,
    /// Shown in plans, logs and events; never empty.
    pub reason: String,
}

/// One idempotent action on the world. Actions name what they act on, so that doing one late does no harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Action {
    /// Install the target's requirements.
    Install {
        /// What the image is called.
        image: ImageTag,
    },
    /// Put the target's files on top of its dependencies.
    Build {
        /// What the image is called.
        image: ImageTag,
    },
    /// Create and start an instance.
    Start {
        /// What it runs.
        revision: Revision,
        /// Its place among the replicas, from 1.
        number: u16,
    },
    /// Wait, for a short while, until an instance answers its probe.
    AwaitReady {
        /// Which one.
        instance: InstanceName,
        /// Which one exactly.
        #[serde(skip)]
        container: ContainerId,
    },
    /// Change, in one moment, what callers get.
    Route {
        /// What they get from now on.
        answer: Answer,
        /// The settings that hold.
        #[serde(skip)]
        spec: Box<Spec>,
    },
    /// Let callers get what callers of an unknown API get.
    Unroute,
    /// Write into the records what callers get from now on.
    RecordServed {
        /// What serves, or is suspended.
        revision: Revision,
    },
    /// Write the API's row.
    RecordStatus(Status),
    /// Write the API's row again as skep wrote it last.
    RestoreRecord {
        /// What somebody's hand has changed.
        edits: Vec<Edit>,
    },
    /// Wait, for a short while, until an instance that is out of the route has finished what it was doing.
    Drain {
        /// Which one.
        instance: InstanceName,
        /// Which one exactly.
        #[serde(skip)]
        container: ContainerId,
    },
    /// Give an instance back, in place, what somebody's hand has changed.
    Repair {
        /// Which one.
        instance: InstanceName,
        /// Which one exactly.
        #[serde(skip)]
        container: ContainerId,
    },
    /// End and remove an instance.
    Remove {
        /// Which one.
        instance: InstanceName,
        /// Which one exactly.
        #[serde(skip)]
        container: ContainerId,
        /// The trouble to write down first, where it went by itself or has to.
        #[serde(skip_serializing_if = "Option::is_none")]
        trouble: Option<FailureKind>,
    },
    /// End the hold on the API.
    Release {
        /// Why it is over.
        why: String,
    },
    /// Say that this daemon, which only follows, sends an instance nothing more and waits for nothing from it.
    LetGo {
        /// Which one.
        instance: InstanceName,
        /// Which one exactly.
        #[serde(skip)]
        container: ContainerId,
    },
    /// Remove the API's row.
    Forget,
}
