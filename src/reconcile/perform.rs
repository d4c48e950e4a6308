//! Performing a step: the only place where the reconciler changes the world.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;

use super::backoff;
use super::build_log::Keep;
use super::desired::{Desired, Target};
use super::goals::{REMOVED, REMOVED_AS_CONFIRMED};
use super::step::{Action, Step};
use super::turn::{Going, TurnError, World, lock};
use crate::engine::{Build, EngineError, ImageTag, Install, Start};
use crate::lend::lend;
use crate::tree::{Digest, Revision, Spec};
use crate::world::instance::{ContainerId, InstanceName};
use crate::world::{Failure, FailureKind, Observed, Record};

/// How long one waiting step waits before the world is looked at again: a newer tree must not wait longer than this.
pub(super) const SLICE: Duration = Duration::from_millis(250);

/// How often other daemons are asked whether they have let go of an instance.
const BETWEEN_ASKS: Duration = Duration::from_millis(100);

/// How long an instance may take to end once it is asked to; what it had in flight was waited for before.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A start that takes longer than this lets others begin.
const SLOW_START: Duration = Duration::from_secs(5);

/// A build that takes longer than this lets others begin.
const SLOW_BUILD: Duration = Duration::from_secs(20);

/// Between two looks at the disk while something is installed.
const DISK_LOOK: Duration = Duration::from_secs(1);

/// How many of an app's last lines are kept with its failure.
const OUTPUT_LINES: usize = 40;

impl World {
    /// Does one step. Doing it again, also after a crash in the middle, ends in the same world.
    pub(super) async fn carry_out(&self, desired: &Desired, observed: &Observed, step: &Step) -> Result<(), TurnError> {
        let id = &desired.id;
        match &step.action {
            Action::Install { image } => self.install(desired, image).await,
            Action::Build { image } => self.build(desired, image).await,
            Action::Start { revision, number } => self.start(desired, revision, *number).await,
            Action::AwaitReady { container, .. } => {
                self.readings.ready_within(container, SLICE).await;
                Ok(())
            }
            Action::Route { answer, spec } => self.route(id, observed, answer, spec, step).await,
            Action::Unroute => {
                self.replace_route(id, None);
                self.write_down(id, None, "unrouted", &step.reason).await
            }
            Action::RecordServed { revision } => self.record_served(desired, observed, revision, step).await,
            Action::RecordStatus(status) => {
                let record = self.records.get(id).await?;
                let mut record = record.unwrap_or_else(|| Record::new(id.clone(), status.clone(), self.clock.now()));
                record.status = status.clone();
                self.put(record).await
            }
            Action::RestoreRecord { .. } => match self.records.get(id).await? {
                Some(record) => self.put(record).await,
                None => Ok(()),
            },
            Action::Drain { container, .. } => {
                self.drain(container).await;
                Ok(())
            }
            Action::Repair { container, .. } => {
                if !self.engine.repair(container).await? {
                    lock(&self.beyond_repair).insert(Arc::clone(container));
                }
                Ok(())
            }
            Action::Remove { instance, container, trouble } => {
                self.remove(desired, observed, (instance, container), *trouble, step).await
            }
            Action::Release { why } => {
                if let Some(hold) = observed.record.as_ref().and_then(|record| record.hold.as_ref()) {
                    self.records.release_spent(id, hold).await?;
                }
                self.write_down(id, None, "released", why).await
            }
            Action::LetGo { container, .. } => {
                let draining = lock(&self.draining).get(container).cloned();
                // Somebody may have read the old route, and not have counted itself yet.
                if draining.is_none_or(|draining| draining.upstream.try_seal()) {
                    self.records.let_go(container, &self.daemon).await?;
                    lock(&self.let_go).insert(Arc::clone(container));
                }
                Ok(())
            }
            Action::Forget => {
                let is_confirmed = self.records.confirmed_removals().await?.contains(id);
                let event = if is_confirmed { REMOVED_AS_CONFIRMED } else { REMOVED };
                lock(&self.known).remove(id);
                self.records.forget(id).await?;
                self.write_down(id, None, event, &step.reason).await
            }
        }
    }

    async fn install(&self, desired: &Desired, image: &ImageTag) -> Result<(), TurnError> {
        let Some(target) = target_of_image(desired, image) else { return Ok(()) };
        let job = Install { tag: image.clone(), requirements: target.requirements.clone() };
        let progress = self.progress(&desired.id, Keep::Nothing);
        let done = match self.room_for_a_build().await {
            Ok(()) => tokio::select! {
                done = self.engine.install(&job, &progress) => done,
                full = self.disk_fills_up() => Err(full),
            },
            Err(full) => Err(full),
        };
        self.settle(desired, &target.revision, FailureKind::Install, "installed", "requirements installed", done).await
    }

    /// Whether the disk has room for a build: one that is full stops the host, and everything on it.
    async fn room_for_a_build(&self) -> Result<(), EngineError> {
        let least = self.min_free_disk.load(Ordering::Relaxed);
        let is_low = |free: Option<u64>| free.filter(|free| *free < least);
        if is_low(self.engine.free_disk().await?).is_none() {
            return Ok(());
        }
        self.engine.make_room().await?;
        match is_low(self.engine.free_disk().await?) {
            Some(free) => Err(disk_is_low("is low", free, least)),
            None => Ok(()),
        }
    }

    /// Returns once an install has eaten most of what had to be free before it began.
    async fn disk_fills_up(&self) -> EngineError {
        loop {
            tokio::time::sleep(DISK_LOOK).await;
            let least = self.min_free_disk.load(Ordering::Relaxed);
            if let Ok(Some(free)) = self.engine.free_disk().await
                && free < least / 2
            {
                return disk_is_low("was filled up by this install, which was stopped", free, least);
            }
        }
    }

    async fn build(&self, desired: &Desired, image: &ImageTag) -> Result<(), TurnError> {
        let Some(target) = target_of_image(desired, image) else { return Ok(()) };
        if let Err(full) = self.room_for_a_build().await {
            return self.settle(desired, &target.revision, FailureKind::Build, "built", "image built", Err(full)).await;
        }
        // The permit comes before the files are read: they are in memory from then on.
        lend(&self.builds, SLOW_BUILD, self.build_with(desired, target, image)).await
    }

    async fn build_with(&self, desired: &Desired, target: &Arc<Target>, image: &ImageTag) -> Result<(), TurnError> {
        let files = self.read_files(target).await?;
        // Kept before anything serves from them: a revision that serves can always be made again.
        self.keep_files(target, &files).await?;
        let files = files.into_iter().map(|(path, bytes)| (path, Bytes::from_owner(bytes))).collect();
        let job = Build { tag: image.clone(), dependencies: target.images.dependencies.clone(), files };
        let done = self.engine.build(&job, &self.progress(&desired.id, Keep::Short)).await;
        self.settle(desired, &target.revision, FailureKind::Build, "built", "image built", done).await
    }

    async fn keep_files(&self, target: &Target, files: &[(String, Arc<[u8]>)]) -> Result<(), TurnError> {
        let digests = target.files.values().map(|file| file.digest);
        let blobs: Vec<_> = digests.zip(files.iter().map(|(_, bytes)| Arc::clone(bytes))).collect();
        Ok(self.records.put_blobs(&blobs).await?)
    }

    /// Keeps the files of what serves, where the records have lost them: as after a backup of before the build came back.
    async fn keep_again(&self, target: &Arc<Target>) -> Result<(), TurnError> {
        let digests: Vec<Digest> = target.files.values().map(|file| file.digest).collect();
        if target.folder.is_none() || self.records.missing_blobs(&digests).await?.is_empty() {
            return Ok(());
        }
        let kept = async { self.keep_files(target, &self.read_files(target).await?).await };
        lend(&self.builds, SLOW_BUILD, Box::pin(kept)).await
    }

    /// The bytes of a target's files: from its folder while that is as the tree says, else from the records.
    async fn read_files(&self, target: &Arc<Target>) -> Result<Vec<(String, Arc<[u8]>)>, TurnError> {
        let mut files = Vec::with_capacity(target.files.len());
        let mut moved = None;
        for (path, file) in &target.files {
            if let Some(folder) = target.folder.clone() {
                let (path, file) = (path.clone(), *file);
                let name = path.clone();
                let read = tokio::task::spawn_blocking(move || crate::tree::api::read(&folder, &path, &file)).await;
                match read {
                    Ok(Ok(bytes)) => {
                        files.push((name, bytes));
                        continue;
                    }
                    Ok(Err(error)) => moved = Some(error),
                    Err(_) => {}
                }
            }
            match (self.records.blob(&file.digest).await?, moved.take()) {
                (Some(bytes), _) => files.push((path.clone(), bytes)),
                (None, Some(error)) => return Err(error.into()),
                (None, None) => return Err(TurnError::Lost(path.clone())),
            }
        }
        Ok(files)
    }

    async fn start(&self, desired: &Desired, revision: &Revision, number: u16) -> Result<(), TurnError> {
        let Some(target) = desired.target_of(revision) else { return Ok(()) };
        let secrets = match self.open_secrets(&desired.id, target).await {
            Ok(secrets) => secrets,
            Err(hindered) => {
                return self.settle(desired, revision, FailureKind::Start, "started", "", Err(hindered)).await;
            }
        };
        let job = Start {
            name: InstanceName::new(&desired.id, revision, number),
            api: desired.id.clone(),
            revision: revision.clone(),
            number,
            image: target.images.code.clone(),
            run: target.spec.run(),
            secrets,
        };
        let done = { lend(&self.starts, SLOW_START, self.engine.start(&job)).await };
        let message = format!("instance {number} of {}", target.spec.replicas);
        self.settle(desired, revision, FailureKind::Start, "started", &message, done).await
    }

    /// What a call that can be the revision's own fault came to. Only that fault is written down against it.
    async fn settle(
        &self,
        desired: &Desired,
        revision: &Revision,
        kind: FailureKind,
        event: &str,
        message: &str,
        done: Result<(), EngineError>,
    ) -> Result<(), TurnError> {
        match done {
            Ok(()) => self.write_down(&desired.id, Some(revision), event, message).await,
            Err(EngineError::Failed { message, output }) => self.fail(desired, revision, kind, message, output).await,
            Err(EngineError::Hindered { message, output }) => {
                self.fail(desired, revision, FailureKind::Hindered, message, output).await
            }
            Err(EngineError::Unsupported(message)) => {
                self.fail(desired, revision, FailureKind::Hindered, message, Vec::new()).await
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Writes down that a revision failed.
    async fn fail(
        &self,
        desired: &Desired,
        revision: &Revision,
        kind: FailureKind,
        message: String,
        output: Vec<String>,
    ) -> Result<(), TurnError> {
        self.count_failure(kind);
        let id = &desired.id;
        let Some(mut record) = self.records.get(id).await? else { return Ok(()) };
        let at = self.clock.now();
        let spec = desired.target_of(revision).map(|target| &target.spec);
        let settings = spec.map_or_else(|| Digest::of(b""), Spec::digest);
        let has_served = record.served.as_ref().is_some_and(|served| served.revision == *revision);
        let served = has_served.then(|| spec.map_or(Duration::ZERO, |spec| spec.health.grace.0));
        let failure =
            Failure { revision: revision.clone(), settings, kind, count: 1, at, message: message.clone(), output };
        let failure = backoff::next_failure(record.failure(revision), failure, served);
        self.say(id, Going::Failed { message: message.clone(), output: failure.output.clone() });
        record.failures.retain(|old| old.revision != *revision && desired.target_of(&old.revision).is_some());
        record.failures.push(failure);
        self.put(record).await?;
        self.write_down(id, Some(revision), "failed", &message).await
    }

    async fn record_served(
        &self,
        desired: &Desired,
        observed: &Observed,
        revision: &Revision,
        step: &Step,
    ) -> Result<(), TurnError> {
        let (Some(target), Some(mut record)) = (desired.target_of(revision), self.records.get(&desired.id).await?)
        else {
            return Ok(());
        };
        let since = record.served.as_ref().filter(|served| served.revision == *revision).map(|served| served.since);
        let mut served = target.served(since.unwrap_or_else(|| self.clock.now()));
        served.origin = Some(Box::new(Box::pin(self.origin(target, desired, observed, step)).await));
        if !target.spec.suspend {
            self.keep_again(target).await?;
            self.records.put_revision(&desired.id, &served).await?;
        }
        // Where there are to be more of them than there were, those to come were not lost.
        let is_there = |number: u16| observed.instances.iter().any(|i| i.revision == *revision && i.number == number);
        let to_come = (1..=target.spec.replicas).filter(|number| !is_there(*number));
        lock(&self.gaps).extend(to_come.map(|number| InstanceName::new(&desired.id, revision, number)));
        record.served = Some(served);
        self.put(record).await
    }

    async fn remove(
        &self,
        desired: &Desired,
        observed: &Observed,
        (name, container): (&InstanceName, &ContainerId),
        trouble: Option<FailureKind>,
        step: &Step,
    ) -> Result<(), TurnError> {
        let Some(instance) = observed.instances.iter().find(|instance| instance.container == *container) else {
            return Ok(());
        };
        if !self.may_go(instance, desired) {
            return Ok(());
        }
        if let Some(kind) = trouble {
            let output = self.last_lines(container).await;
            // What a Python traceback ends with says more than an exit code.
            let last = output.iter().rev().find(|line| !line.trim().is_empty());
            let last = last.filter(|_| kind == FailureKind::Crash).map_or_else(String::new, |line| format!(": {line}"));
            self.fail(desired, &instance.revision, kind, format!("{}{last}", step.reason), output).await?;
        }
        // From here on nobody may send it anything, whichever daemon goes on with this: a write that another daemon has
        // fenced off ends it here.
        self.records.announce(container).await?;
        if trouble.is_none() && !self.is_let_go_by_all(instance, desired).await? {
            self.clock.sleep(BETWEEN_ASKS).await;
            return Ok(());
        }
        self.readings.forget(container);
        self.engine.remove(container, STOP_GRACE).await?;
        self.records.left(container).await?;
        lock(&self.draining).remove(container);
        lock(&self.beyond_repair).remove(container);
        lock(&self.gaps).insert(InstanceName::new(&desired.id, &instance.revision, instance.number));
        tracing::info!(api = %desired.id, %name, "removed: {}", step.reason);
        Ok(())
    }

    async fn last_lines(&self, container: &ContainerId) -> Vec<String> {
        let Ok(lines) = self.engine.logs(container, OUTPUT_LINES, false).await else { return Vec::new() };
        let lines = lines.filter_map(|line| ready(line.ok().map(|line| line.text))).collect::<Vec<_>>();
        tokio::time::timeout(Duration::from_secs(2), lines).await.unwrap_or_default()
    }
}

fn disk_is_low(what: &str, free: u64, least: u64) -> EngineError {
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let message = format!(
        "the engine's disk {what}: {} are free, and nothing is built below {}; free some, or lower policy.min_free_disk \
         in skep.yaml",
        mib(free),
        mib(least),
    );
    EngineError::Hindered { message, output: Vec::new() }
}

/// Of the goal and what served last, the one that an image belongs to.
fn target_of_image<'a>(desired: &'a Desired, image: &ImageTag) -> Option<&'a Arc<Target>> {
    let mut targets = desired.target().into_iter().chain(&desired.served);
    targets.find(|target| target.images.code == *image || target.images.dependencies == *image)
}
