//! Docker is the real engine, spoken to over its HTTP API; no command-line client is needed.
//!
//! Works with engines from 20.10 (API 1.41) on: no API version is sent, and every field of an answer may be missing.
//! Nothing that lacks this installation's owner label is ever changed.

mod addresses;
mod archive;
mod base;
pub mod boots;
mod bootstrap;
mod build;
mod call;
mod cgroup;
mod container;
mod dismantle;
mod events;
pub mod examine;
mod firewall;
mod flood;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
#[allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::naive_bytecount,
    reason = "to panic is what these functions are for"
)]
pub mod fuzzing;
mod handover;
mod hardening;
mod host;
mod images;
mod install;
pub mod installer;
mod instances;
mod labels;
mod load;
mod logs;
mod network;
pub mod ports;
mod predecessors;
mod pulse;
mod repair;
pub mod resolve;
mod runtime;
mod seccomp;
mod text;
mod tidy;
mod usage;
mod workshop;
mod yielding;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::{Base, Build, Engine, EngineError, Hint, ImageTag, Install, LogLine, Progress, Start, Usage};
use crate::settings::{BuildSettings, EngineSettings, Settings};
use crate::tree::{ApiId, Requirements, Versions};
use crate::world::instance::{ContainerId, InstanceName};
use crate::world::{Instance, Predecessor};

pub use self::firewall::Ear;
pub use self::host::is_in_container;

/// Where the engine listens unless told otherwise.
const DEFAULT_ADDRESS: &str = "unix:///var/run/docker.sock";

/// The transport's own limit. Every call has a shorter one of its own; this is only never to be in the way of them.
const TRANSPORT_LIMIT: Duration = Duration::from_secs(24 * 60 * 60);

/// A Docker engine, and what one installation has on it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Docker {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    address: String,
    client: OnceLock<bollard::Docker>,
    owner: String,
    /// What its networks are marked with, where the installation is a boot.
    mark: Option<String>,
    build: BuildSettings,
    engine: EngineSettings,
    /// The runtime image, once it is known to be there.
    runtime: tokio::sync::Mutex<Option<runtime::Runtime>>,
    /// The networks that were seen to be there, and what of each is for instances.
    networks: tokio::sync::Mutex<HashMap<String, Option<addresses::Subnet>>>,
    /// Goes round the addresses of all networks.
    cursor: Mutex<addresses::Cursor>,
    /// Where the full look goes on to look closely.
    closely: AtomicUsize,
    firewall: tokio::sync::Mutex<firewall::Seen>,
    /// This gateway's own addresses on our networks, once it has joined them; see `host`.
    joined: tokio::sync::Mutex<Option<BTreeSet<Ipv4Addr>>>,
    /// Where the engine keeps its images, as it says.
    folder: OnceLock<String>,
    /// Held while a loopback port is chosen and taken.
    ports: tokio::sync::Mutex<BTreeSet<u16>>,
    /// One lock for each image that is being made.
    making: Mutex<HashMap<ImageTag, Arc<tokio::sync::Mutex<()>>>>,
    /// The names of the build containers that this process is at work in.
    workshops: Mutex<HashSet<String>>,
    /// Who has to yield to whom on this host.
    neighbours: Mutex<yielding::Neighbours>,
    /// What takes away those that were given up.
    given_up: TaskTracker,
    /// How many installs may run at once.
    installs: Semaphore,
    /// How many builds may. Apart from the installs, so that a saved line of code waits for nobody's pandas.
    builds: Semaphore,
}

impl Docker {
    /// An engine as the settings name it, for the installation `owner`: 12 lower-case hexadecimal digits.
    ///
    /// Opens nothing: the first call does, so that a daemon can start, and serve, before its engine is there.
    ///
    /// # Errors
    /// Where the engine's address is of a kind that skep does not speak.
    pub fn connect(settings: &Settings, owner: &str) -> Result<Self, EngineError> {
        let address = settings.engine.host.clone().unwrap_or_else(|| DEFAULT_ADDRESS.to_owned());
        if !["unix://", "tcp://", "http://"].iter().any(|scheme| address.starts_with(scheme)) {
            return Err(EngineError::Unsupported(format!(
                "DOCKER_HOST is {address:?}; skep speaks to unix:///path/to/docker.sock and tcp://host:port"
            )));
        }
        if !is_owner(owner) {
            return Err(EngineError::Unsupported(format!("{owner:?} is no owner; it is 12 hexadecimal digits")));
        }
        Ok(Self::new(address, owner, None, (settings.build.clone(), settings.engine.clone())))
    }

    /// The same engine, for another installation.
    fn of(&self, owner: &str) -> Self {
        let Shared { address, build, engine, .. } = &*self.shared;
        Self::new(address.clone(), owner, None, (build.clone(), engine.clone()))
    }

    /// The same, with a mark on its networks.
    fn marked(&self, mark: String) -> Self {
        let Shared { address, owner, build, engine, .. } = &*self.shared;
        Self::new(address.clone(), owner, Some(mark), (build.clone(), engine.clone()))
    }

    fn new(
        address: String,
        owner: &str,
        mark: Option<String>,
        (build, engine): (BuildSettings, EngineSettings),
    ) -> Self {
        let concurrency = usize::from(build.concurrency.max(1));
        Self {
            shared: Arc::new(Shared {
                address,
                client: OnceLock::new(),
                owner: owner.to_owned(),
                mark,
                build,
                engine,
                runtime: tokio::sync::Mutex::default(),
                networks: tokio::sync::Mutex::default(),
                cursor: Mutex::new(addresses::Cursor::anywhere()),
                closely: AtomicUsize::new(0),
                firewall: tokio::sync::Mutex::default(),
                joined: tokio::sync::Mutex::default(),
                folder: OnceLock::new(),
                ports: tokio::sync::Mutex::default(),
                making: Mutex::default(),
                workshops: Mutex::default(),
                neighbours: Mutex::default(),
                given_up: TaskTracker::new(),
                installs: Semaphore::new(concurrency),
                builds: Semaphore::new(concurrency),
            }),
        }
    }

    fn address(&self) -> &str {
        &self.shared.address
    }

    fn owner(&self) -> &str {
        &self.shared.owner
    }

    /// The first eight digits of the owner: what fits into the name of a network interface.
    fn short_owner(&self) -> &str {
        &self.shared.owner[..8]
    }

    /// What an instance's container is called: its own name, and a part of the owner's, since two installations on one host
    /// may well serve the same tree.
    fn container_name(&self, name: &InstanceName) -> String {
        format!("{name}{}", self.name_suffix())
    }

    /// The instance that a container's name speaks of.
    fn instance_name(&self, container: &str) -> InstanceName {
        InstanceName::from_engine(container.strip_suffix(&self.name_suffix()).unwrap_or(container))
    }

    fn name_suffix(&self) -> String {
        format!(".{}", &self.shared.owner[..6])
    }

    /// The client, made at first use: making it fails where the socket is not there yet.
    fn client(&self) -> Result<bollard::Docker, EngineError> {
        if let Some(client) = self.shared.client.get() {
            return Ok(client.clone());
        }
        let client = bollard::Docker::connect_with_host(self.address()).map_err(|error| EngineError::Unreachable {
            address: self.address().to_owned(),
            cause: format!("{error}; is the engine running?"),
        })?;
        Ok(self.shared.client.get_or_init(|| client.with_timeout(TRANSPORT_LIMIT)).clone())
    }

    /// The lock of one image. Whoever makes an image holds it, so that nobody makes it twice.
    fn lock_of(&self, tag: &ImageTag) -> Arc<tokio::sync::Mutex<()>> {
        let mut making = self.shared.making.lock().unwrap_or_else(PoisonError::into_inner);
        // Locks that only this map still holds are of no use to anybody.
        making.retain(|_, lock| Arc::strong_count(lock) > 1);
        making.entry(tag.clone()).or_default().clone()
    }
}

/// Whether that is what marks an installation.
fn is_owner(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[async_trait]
impl Engine for Docker {
    async fn base(&self, progress: &Progress) -> Result<Base, EngineError> {
        for container in self.workshops_left(false).await? {
            self.discard(&container).await;
        }
        self.runtime(progress).await.map(|runtime| runtime.base)
    }

    async fn instances(&self, api: Option<&ApiId>) -> Result<Vec<Instance>, EngineError> {
        self.list_instances(api).await
    }

    async fn images(&self) -> Result<BTreeSet<ImageTag>, EngineError> {
        self.list_images().await
    }

    async fn has_image(&self, tag: &ImageTag) -> Result<bool, EngineError> {
        Ok(self.inspect_image(&tag.0).await?.is_some())
    }

    async fn install(&self, job: &Install, progress: &Progress) -> Result<(), EngineError> {
        self.install_requirements(job, progress).await
    }

    async fn resolve(&self, requirements: &Requirements) -> Result<Versions, EngineError> {
        self.versions_of(requirements).await
    }

    async fn installed(&self, image: &ImageTag) -> Result<Versions, EngineError> {
        self.versions_in(image).await
    }

    async fn build(&self, job: &Build, progress: &Progress) -> Result<(), EngineError> {
        self.build_code(job, progress).await
    }

    async fn start(&self, job: &Start) -> Result<(), EngineError> {
        self.start_instance(job).await
    }

    async fn repair(&self, container: &ContainerId) -> Result<bool, EngineError> {
        self.repair_instance(container).await
    }

    async fn remove(&self, container: &ContainerId, grace: Duration) -> Result<(), EngineError> {
        self.remove_instance(container, grace).await
    }

    async fn remove_image(&self, tag: &ImageTag) -> Result<(), EngineError> {
        self.remove_tag(tag).await
    }

    async fn settled(&self) {
        self.taken_away().await;
    }

    async fn leftovers(&self) -> Result<Vec<ContainerId>, EngineError> {
        self.workshops_left(true).await
    }

    async fn tidy(&self, leftovers: &[ContainerId]) -> Result<(), EngineError> {
        self.tidy_up(leftovers).await
    }

    async fn free_disk(&self) -> Result<Option<u64>, EngineError> {
        self.free_bytes().await
    }

    async fn make_room(&self) -> Result<(), EngineError> {
        self.drop_cache().await
    }

    async fn usage(&self, container: &ContainerId) -> Result<Usage, EngineError> {
        self.read_usage(container).await
    }

    async fn logs(
        &self,
        container: &ContainerId,
        tail: usize,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogLine, EngineError>>, EngineError> {
        self.read_logs(container, tail, follow).await
    }

    async fn predecessors(&self) -> Result<Vec<Predecessor>, EngineError> {
        self.list_predecessors().await
    }

    async fn stop_predecessor(&self, container: &ContainerId, grace: Duration) -> Result<(), EngineError> {
        self.end_predecessor(container, grace).await
    }

    fn events(&self) -> BoxStream<'static, Hint> {
        self.watch_events()
    }
}
