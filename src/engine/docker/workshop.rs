//! A workshop is the throw-away container in which an image is made. It is as hardened as an instance, save for its
//! root file system, and ends by itself when its time is over, whatever becomes of skep.

use std::collections::{HashSet, VecDeque};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{
    ContainerConfig, ContainerCreateBody, ContainerSummaryStateEnum as State, ExecConfig, Mount, MountType,
};
use bollard::query_parameters::{
    CommitContainerOptions, CreateContainerOptions, ListContainersOptions, RemoveContainerOptions,
    UploadToContainerOptions,
};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::Instant;

use super::Docker;
use super::call::{Fault, QUICK, WORK};
use super::hardening::{Kind, Limits, host_config};
use super::network::Network;
use super::text::Lines;
use super::{labels, runtime};
use crate::engine::{EngineError, ImageTag, Progress};
use crate::tree::{Egress, Size};
use crate::world::instance::ContainerId;

/// What a workshop does while nothing is run in it. By its path, as is everything that is run where packages are installed:
/// their scripts come first in `PATH`, and what they are called is up to them.
const IDLE: &str = "/bin/sleep";

/// A shell, by its path for the same reason.
pub(super) const SHELL: &str = "/bin/sh";

/// How many of the last lines of output are kept for whoever asks why it failed.
const KEPT_LINES: usize = 40;

/// For an image of what was installed: some gigabytes, on a disk that is not at its best. More where `build.timeout` is.
const KEEP: Duration = Duration::from_secs(150);

/// The role of a container in which an image of an API is made.
const BUILD: &str = "build";

/// Processes and threads of an installer.
const PIDS: u32 = 512;

/// A container in which an image is being made.
#[derive(Debug)]
pub(super) struct Workshop {
    docker: Docker,
    id: String,
    /// Known to be at work in for as long as this lives.
    _name: Name,
    network: Network,
    opened: Instant,
    limit: Duration,
    is_closed: bool,
}

/// What a workshop is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An image of an API, which only the daemon that reconciles makes.
    Api,
    /// What any process of the installation may be at.
    Other,
}

/// The name of a build container that this process is at work in.
#[derive(Debug)]
struct Name {
    docker: Docker,
    name: String,
    /// Whether the container is only being made: where that is given up, it may come into being all the same.
    is_pending: bool,
}

impl Name {
    fn new(docker: &Docker) -> Self {
        let name = format!("{}{:08x}", docker.workshop_prefix(), rand::random::<u32>());
        docker.workshops().insert(name.clone());
        Self { docker: docker.clone(), name, is_pending: true }
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        self.docker.workshops().remove(&self.name);
        if self.is_pending {
            let (docker, name) = (self.docker.clone(), self.name.clone());
            self.docker.give_up(async move {
                for pause in [Duration::ZERO, LATE] {
                    tokio::time::sleep(pause).await;
                    docker.discard(&name).await;
                }
            });
        }
    }
}

/// How long after it was given up a container may still come into being.
const LATE: Duration = Duration::from_secs(1);

/// How long is waited until what was given up is taken away.
const SETTLED: Duration = Duration::from_secs(15);

/// How a command in a workshop ended.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Its exit code.
    pub(super) code: i64,
    /// The last lines that it printed.
    pub(super) output: Vec<String>,
}

impl Workshop {
    /// Creates a workshop on top of `image`, with the installer's cache at `cache`, and puts `files` into it.
    pub(super) async fn open(
        docker: &Docker,
        purpose: Purpose,
        image: &str,
        cache: Option<&str>,
        files: Bytes,
    ) -> Result<Self, EngineError> {
        let settings = &docker.shared.build;
        let network = docker.network(Egress::Internet).await?;
        docker.guard(&network, Egress::Internet).await?;
        let mut host = host_config(&Limits {
            cpu: settings.cpu,
            memory: settings.memory,
            pids: PIDS,
            tmp: Size(settings.memory.0 / 2),
            network: network.name.clone(),
            kind: Kind::Workshop,
        });
        host.mounts = cache.map(|target| vec![docker.cache_at(target)]);
        let seconds = settings.timeout.0.as_secs().max(1);
        let role = if purpose == Purpose::Api { BUILD } else { "workshop" };
        let mut name = Name::new(docker);
        let body = ContainerCreateBody {
            image: Some(image.to_owned()),
            user: Some("0:0".to_owned()),
            entrypoint: Some(vec![IDLE.to_owned()]),
            cmd: Some(vec![seconds.to_string()]),
            labels: Some(labels::of_role(docker.owner(), role)),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptions { name: Some(name.name.clone()), ..CreateContainerOptions::default() };
        let created = docker
            .call("create a container to build in", WORK, |client| async move {
                client.create_container(Some(options), body).await
            })
            .await?;
        name.is_pending = false;
        let workshop = Self {
            docker: docker.clone(),
            id: created.id,
            _name: name,
            network,
            opened: Instant::now(),
            limit: settings.timeout.0,
            is_closed: false,
        };
        match workshop.prepare(files).await {
            Ok(()) => Ok(workshop),
            Err(error) => {
                workshop.close().await;
                Err(error)
            }
        }
    }

    async fn prepare(&self, files: Bytes) -> Result<(), EngineError> {
        let id = self.id.as_str();
        let options = UploadToContainerOptions { path: "/".to_owned(), ..UploadToContainerOptions::default() };
        self.docker
            .call("put files into a container", WORK, |client| async move {
                client.upload_to_container(id, Some(options), bollard::body_full(files)).await
            })
            .await?;
        let start = |client: bollard::Docker| async move { client.start_container(id, None).await };
        self.docker.call("start a container to build in", WORK, start).await?;
        self.docker.neighbours().note(id);
        Docker::set_apart(&self.network).await;
        Ok(())
    }

    /// Runs a command, and hands on each line that it prints.
    ///
    /// Secrets belong into `environment`: unlike that of the container, it is kept nowhere.
    pub(super) async fn run(
        &self,
        user: &str,
        environment: Vec<String>,
        command: &[&str],
        progress: &Progress,
    ) -> Result<Outcome, EngineError> {
        let id = self.id.as_str();
        let config = ExecConfig {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            env: Some(environment),
            cmd: Some(command.iter().map(|&word| word.to_owned()).collect()),
            user: Some(user.to_owned()),
            ..ExecConfig::default()
        };
        let create = |client: bollard::Docker| async move { client.create_exec(id, config).await };
        let exec = self.docker.call("prepare a build command", QUICK, create).await?.id;
        let exec = exec.as_str();
        let start = |client: bollard::Docker| async move { client.start_exec(exec, None::<StartExecOptions>).await };
        let started = self.docker.call("start a build command", WORK, start).await?;
        let output = tokio::time::timeout_at(self.opened + self.limit, self.read(started, progress));
        let Ok(output) = output.await else {
            return Err(self.took_too_long());
        };
        let output = output?;
        let inspect = |client: bollard::Docker| async move { client.inspect_exec(exec).await };
        let code = self.docker.call("look at a build command", QUICK, inspect).await?.exit_code;
        // Without a code the container ended under the command: its own `sleep` was over.
        code.map(|code| Outcome { code, output }).ok_or_else(|| self.took_too_long())
    }

    async fn read(&self, started: StartExecResults, progress: &Progress) -> Result<Vec<String>, EngineError> {
        let StartExecResults::Attached { mut output, .. } = started else { return Ok(Vec::new()) };
        let (mut lines, mut kept) = (Lines::default(), VecDeque::new());
        let mut keep = |line: String| {
            progress.line(&line);
            if kept.len() == KEPT_LINES {
                kept.pop_front();
            }
            kept.push_back(line);
        };
        while let Some(chunk) = output.next().await {
            let chunk =
                chunk.map_err(|error| Fault::from_engine("read a build's output", self.docker.address(), error))?;
            lines.push(&chunk.into_bytes(), &mut keep);
        }
        if let Some(line) = lines.finish() {
            keep(line);
        }
        Ok(kept.into())
    }

    /// Makes an image of what is in the workshop now.
    ///
    /// The engine adds what the container was created with to `config`: nothing of that is a secret.
    pub(super) async fn commit(&self, tag: &ImageTag, config: ContainerConfig) -> Result<(), EngineError> {
        let (repository, version) = tag.split();
        let options = CommitContainerOptions {
            container: Some(self.id.clone()),
            repo: Some(repository.to_owned()),
            tag: Some(version.to_owned()),
            // Nothing runs in it any more but `sleep`.
            pause: false,
            ..CommitContainerOptions::default()
        };
        let commit = |client: bollard::Docker| async move { client.commit_container(options, config).await };
        self.docker.call("keep what was installed", (self.limit / 4).max(KEEP), commit).await?;
        Ok(())
    }

    /// Removes the workshop. Where that fails, the sweep at the next start does it.
    pub(super) async fn close(mut self) {
        self.is_closed = true;
        self.docker.discard(&self.id).await;
    }

    fn took_too_long(&self) -> EngineError {
        EngineError::Failed {
            message: format!("the build took longer than {:?}; raise build.timeout in skep.yaml", self.limit),
            output: Vec::new(),
        }
    }
}

impl Drop for Workshop {
    /// For a build that was given up in the middle.
    fn drop(&mut self) {
        if self.is_closed {
            return;
        }
        let (docker, id) = (self.docker.clone(), std::mem::take(&mut self.id));
        self.docker.give_up(async move { docker.discard(&id).await });
    }
}

impl Docker {
    /// The workshops that a crash left behind: those that have ended and, where this process `leads`, those in which another
    /// one was making an image of an API. Others may be at work, and end by themselves.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    pub async fn workshops_left(&self, leads: bool) -> Result<Vec<ContainerId>, EngineError> {
        let mut filters = labels::filter(&[(labels::OWNER, self.owner())]);
        filters.insert("name".to_owned(), vec![self.workshop_prefix()]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
        let list = |client: bollard::Docker| async move { client.list_containers(Some(options)).await };
        let oldest = jiff::Timestamp::now().as_second() - self.shared.build.timeout.0.as_secs().cast_signed();
        let mut left = Vec::new();
        for container in self.call("list containers", QUICK, list).await? {
            let names = container.names.unwrap_or_default();
            let is_ours = names.iter().any(|name| self.workshops().contains(name.trim_start_matches('/')));
            let has_ended = matches!(container.state.as_ref(), Some(State::EXITED | State::DEAD));
            let role = container.labels.and_then(|mut labels| labels.remove(labels::ROLE));
            let is_stale = leads && role.is_some_and(|role| role == BUILD);
            let is_old = container.created.is_some_and(|created| created < oldest);
            left.extend(container.id.filter(|_| !is_ours && (has_ended || is_stale || is_old)).map(ContainerId::from));
        }
        Ok(left)
    }

    /// Takes away what is given up, beside whoever gives it up.
    fn give_up(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.shared.given_up.spawn_on(work, &runtime);
        }
    }

    /// Returns when all that was given up is taken away, or cannot be.
    pub(super) async fn taken_away(&self) {
        self.shared.given_up.close();
        let _ = tokio::time::timeout(SETTLED, self.shared.given_up.wait()).await;
        self.shared.given_up.reopen();
    }

    fn workshop_prefix(&self) -> String {
        format!("skep-build-{}-", self.owner())
    }

    fn workshops(&self) -> MutexGuard<'_, HashSet<String>> {
        self.shared.workshops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The installer's cache, shared by all installs of this installation.
    pub(super) fn cache_volume(&self) -> String {
        format!("skep-{}-uv-cache", self.owner())
    }

    fn cache_at(&self, target: &str) -> Mount {
        Mount {
            typ: Some(MountType::VOLUME),
            source: Some(self.cache_volume()),
            target: Some(target.to_owned()),
            ..Mount::default()
        }
    }

    /// Removes a workshop; one that cannot be removed is only warned of.
    pub(super) async fn discard(&self, id: &str) {
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        let remove = |client: bollard::Docker| async move { client.remove_container(id, Some(options)).await };
        if let Err(fault) = self.call("remove a build container", WORK, remove).await
            && !fault.is_missing()
        {
            tracing::warn!(container = id, cause = %EngineError::from(fault), "a build container stays behind");
        }
    }
}

impl ImageTag {
    /// Its parts before and after the colon.
    pub(super) fn split(&self) -> (&str, &str) {
        self.0.rsplit_once(':').unwrap_or((&self.0, "latest"))
    }
}

/// The configuration of an image that apps run on, whatever the image below it said.
pub(super) fn clean_config(
    labels: std::collections::HashMap<String, String>,
    environment: Vec<String>,
) -> ContainerConfig {
    ContainerConfig {
        env: Some(environment),
        user: Some(super::hardening::USER.to_owned()),
        working_dir: Some(runtime::APP.to_owned()),
        entrypoint: Some(Vec::new()),
        cmd: Some(vec![runtime::PYTHON.to_owned()]),
        labels: Some(labels),
        stop_signal: Some("SIGTERM".to_owned()),
        ..ContainerConfig::default()
    }
}
