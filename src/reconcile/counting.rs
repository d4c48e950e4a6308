//! Counting is what the reconciler tells the metrics of its work, where somebody keeps any.

use std::time::Instant;

use super::desired::Desired;
use super::step::{Action, Step};
use super::turn::{Outcome, TurnError, World};
use crate::world::{FailureKind, Observed};

/// What one worker does from when it is called to where its API comes to rest.
#[derive(Debug)]
pub(super) struct Round {
    begun: Instant,
    has_acted: bool,
}

impl Round {
    pub(super) fn begin() -> Self {
        Self { begun: Instant::now(), has_acted: false }
    }

    /// Counts what came of a turn; a round in which there was nothing to do is none.
    pub(super) fn count(&mut self, world: &World, turn: &Result<Outcome, TurnError>) {
        let result = match turn {
            Ok(Outcome::Again) => {
                self.has_acted = true;
                return;
            }
            // It is tried again, and takes so much longer.
            Err(_) => return,
            Ok(Outcome::Settled(_)) => "settled",
            Ok(Outcome::Wait(..)) => "waiting",
        };
        let round = std::mem::replace(self, Self::begin());
        if let (true, Some(metrics)) = (round.has_acted, world.metrics.get()) {
            metrics.reconciled(result, round.begun.elapsed());
        }
    }
}

impl World {
    /// Performs a step, and measures how long that takes.
    pub(super) async fn perform(&self, desired: &Desired, observed: &Observed, step: &Step) -> Result<(), TurnError> {
        let begun = Instant::now();
        let done = self.carry_out(desired, observed, step).await;
        if let Some(traces) = self.traces.get() {
            let error = done.as_ref().err().map(ToString::to_string);
            traces.step(&desired.id, name(&step.action), begun.elapsed(), error);
        }
        if let (Ok(()), Some(metrics)) = (&done, self.metrics.get()) {
            metrics.stepped(name(&step.action), begun.elapsed());
        }
        done
    }

    pub(super) fn count_failure(&self, kind: FailureKind) {
        if let Some(metrics) = self.metrics.get() {
            metrics.failed(match kind {
                FailureKind::Install => "install",
                FailureKind::Hindered => "hindered",
                FailureKind::Build => "build",
                FailureKind::Start => "start",
                FailureKind::NotReady => "not-ready",
                FailureKind::Crash => "crash",
                FailureKind::OutOfMemory => "out-of-memory",
            });
        }
    }

    pub(super) fn count_found(&self) {
        if let Some(metrics) = self.metrics.get() {
            metrics.found();
        }
    }

    pub(super) fn count_trouble(&self) {
        if let Some(metrics) = self.metrics.get() {
            metrics.troubled();
        }
    }
}

/// As plans call it.
fn name(action: &Action) -> &'static str {
    match action {
        Action::Install { .. } => "install",
        Action::Build { .. } => "build",
        Action::Start { .. } => "start",
        Action::AwaitReady { .. } => "await-ready",
        Action::Route { .. } => "route",
        Action::Unroute => "unroute",
        Action::Drain { .. } => "drain",
        Action::Repair { .. } => "repair",
        Action::Remove { .. } => "remove",
        Action::LetGo { .. } => "let-go",
        Action::RecordServed { .. } => "record-served",
        Action::RecordStatus(_) => "record-status",
        Action::RestoreRecord { .. } => "restore-record",
        Action::Release { .. } => "release",
        Action::Forget => "forget",
    }
}
