//! An engine runs containers. The trait is what the reconciler needs of one; `docker` is the real one.
//!
//! Every call is idempotent: doing it again after a lost reply ends in the same world.

pub mod docker;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::secrets::Opened;
use crate::tree::{ApiId, Digest, Files, Requirements, Revision, Versions, spec::RunSpec};
use crate::world::instance::{ContainerId, InstanceName};
use crate::world::{Instance, Predecessor};

/// What the reconciler needs of a container engine.
#[async_trait]
pub trait Engine: Send + Sync + 'static {
    /// The base image, fetched or made where it is missing.
    ///
    /// # Errors
    /// Where it can neither be pulled nor made.
    async fn base(&self, progress: &Progress) -> Result<Base, EngineError>;

    /// Our instances, of one API or of all; `readiness`, `in_flight` and `draining_since` are left for others to fill.
    ///
    /// # Errors
    /// Where the engine cannot be asked; never a short list instead.
    async fn instances(&self, api: Option<&ApiId>) -> Result<Vec<Instance>, EngineError>;

    /// The images of ours that are there.
    ///
    /// # Errors
    /// Where the engine cannot be asked; never a short list instead.
    async fn images(&self) -> Result<BTreeSet<ImageTag>, EngineError>;

    /// Whether one of our images is there.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    async fn has_image(&self, tag: &ImageTag) -> Result<bool, EngineError>;

    /// Installs requirements on top of the base image, and tags the result.
    ///
    /// # Errors
    /// [`EngineError::Failed`] with the installer's last lines where the requirements are at fault.
    async fn install(&self, job: &Install, progress: &Progress) -> Result<(), EngineError>;

    /// The versions that requirements come to on the base image, by the word of the index now. Nothing is installed, and no
    /// code of a package runs.
    ///
    /// # Errors
    /// [`EngineError::Failed`] where there are no such versions, [`EngineError::Hindered`] where the index cannot be asked.
    async fn resolve(&self, requirements: &Requirements) -> Result<Versions, EngineError>;

    /// The versions that are installed in one of our images.
    ///
    /// # Errors
    /// Where there is no such image, or the engine cannot.
    async fn installed(&self, image: &ImageTag) -> Result<Versions, EngineError>;

    /// Returns when what was given up in the middle, as by whoever waited for it no longer, is taken away, or cannot be.
    async fn settled(&self) {}

    /// Puts files on top of a dependency image, and tags the result.
    ///
    /// # Errors
    /// Where the engine cannot.
    async fn build(&self, job: &Build, progress: &Progress) -> Result<(), EngineError>;

    /// Creates and starts an instance. Where a container of ours with that name is there already, starts that.
    ///
    /// # Errors
    /// Where the engine cannot.
    async fn start(&self, job: &Start) -> Result<(), EngineError>;

    /// Puts right, in place, what somebody's hand has changed on an instance: wakes it where it was paused, gives it back
    /// its name, its limits and its network. `false` where it is not as it was made even then, and has to be replaced.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    async fn repair(&self, container: &ContainerId) -> Result<bool, EngineError>;

    /// Asks an instance to end, kills it after `grace`, and removes it. One that is gone already is a success.
    ///
    /// # Errors
    /// Where the engine cannot.
    async fn remove(&self, container: &ContainerId, grace: Duration) -> Result<(), EngineError>;

    /// Removes one of our images. One that is gone already is a success.
    ///
    /// # Errors
    /// Where the engine cannot, as while a container stands on it.
    async fn remove_image(&self, tag: &ImageTag) -> Result<(), EngineError>;

    /// Build containers of APIs that this process is not at work in. Where it is the one that reconciles, nobody is.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    async fn leftovers(&self) -> Result<Vec<ContainerId>, EngineError>;

    /// Removes these leftovers, and images that lost their name.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    async fn tidy(&self, leftovers: &[ContainerId]) -> Result<(), EngineError>;

    /// How many bytes are free where images and containers are kept; `None` where that cannot be known.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    async fn free_disk(&self) -> Result<Option<u64>, EngineError>;

    /// Throws away what is kept only to save time.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    async fn make_room(&self) -> Result<(), EngineError>;

    /// What an instance uses at this moment. Takes a second or two: processor time is measured over that.
    ///
    /// # Errors
    /// Where there is no such container, or the engine cannot be asked.
    async fn usage(&self, container: &ContainerId) -> Result<Usage, EngineError>;

    /// What an instance printed: the last `tail` lines, then, with `follow`, whatever comes.
    ///
    /// # Errors
    /// Where there is no such container.
    async fn logs(
        &self,
        container: &ContainerId,
        tail: usize,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogLine, EngineError>>, EngineError>;

    /// The containers of the system that skep takes over from, running or not, in order of name. None of them is ours.
    ///
    /// # Errors
    /// Where the engine cannot be asked; never a short list instead.
    async fn predecessors(&self) -> Result<Vec<Predecessor>, EngineError>;

    /// Asks one of them to end, and kills it after `grace`. It stays as it is, and stopped. One that does not run, or is
    /// gone, is a success.
    ///
    /// # Errors
    /// Where the engine cannot, or the container is none of them.
    async fn stop_predecessor(&self, container: &ContainerId, grace: Duration) -> Result<(), EngineError>;

    /// Hints that something happened to one of our containers. Never ends; may miss things, may repeat them.
    fn events(&self) -> BoxStream<'static, Hint>;
}

/// What an instance uses.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Processor time in percent of one processor: 150 is one and a half of them.
    pub cpu_percent: f64,
    /// Bytes of memory, without what is only kept of files and could be dropped.
    pub memory: u64,
    /// Bytes of memory that it may use.
    pub memory_limit: u64,
}

/// The base image as it is on this engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Its content: part of every revision.
    pub digest: Digest,
    /// As a person would name it, `python:3.11-slim`.
    pub name: String,
}

/// A tag of one of our images: `skep/<owner>/deps:<digest>` or `skep/<owner>/api-<id>:<digest>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageTag(pub Arc<str>);

impl fmt::Display for ImageTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Requirements to be installed.
#[derive(Debug, Clone)]
pub struct Install {
    /// What to call the result.
    pub tag: ImageTag,
    /// What to install.
    pub requirements: Requirements,
}

/// Files to be put on top of a dependency image.
#[derive(Debug, Clone)]
pub struct Build {
    /// What to call the result.
    pub tag: ImageTag,
    /// What it stands on.
    pub dependencies: ImageTag,
    /// Path and bytes of each file, in order of path.
    pub files: Vec<(String, Bytes)>,
}

/// An instance to be started.
#[derive(Debug, Clone)]
pub struct Start {
    /// What to call it.
    pub name: InstanceName,
    /// For its label.
    pub api: ApiId,
    /// For its label.
    pub revision: Revision,
    /// Its place among the replicas, from 1.
    pub number: u16,
    /// What it runs.
    pub image: ImageTag,
    /// How it runs.
    pub run: RunSpec,
    /// What it is given once it runs, and is written nowhere.
    pub secrets: Option<Arc<Opened>>,
}

/// What the tags of an API's images are made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Images {
    /// Shared by all APIs with the same requirements.
    pub dependencies: ImageTag,
    /// Of this API's files on those dependencies.
    pub code: ImageTag,
}

impl Images {
    /// Names the images of an API, for the installation `owner`.
    #[must_use]
    pub fn name(owner: &str, api: &ApiId, base: &Digest, requirements: &Requirements, files: &Files) -> Self {
        let dependencies = Digest::of_value(&(base, requirements));
        let code = Digest::of_value(&(&dependencies, files));
        Self {
            dependencies: ImageTag(format!("skep/{owner}/deps:{}", dependencies.short()).into()),
            code: ImageTag(format!("skep/{owner}/api-{api}:{}", code.short()).into()),
        }
    }
}

/// One line of an instance's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was printed.
    pub at: Option<jiff::Timestamp>,
    /// Whether it came on standard error.
    pub is_error: bool,
    /// The line, without its end; control characters and bad UTF-8 replaced.
    pub text: String,
}

/// Something may have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// To a container of this API.
    Api(ApiId),
    /// To anything: the event stream was interrupted, so look at everything.
    Everything,
}

/// Where long calls send their output, line by line.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(&str) + Send + Sync>);

impl Progress {
    /// Sends each line to `sink`.
    pub fn new(sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    /// Sends lines nowhere.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(|_| {})
    }

    /// Hands on one line.
    pub fn line(&self, line: &str) {
        (self.0)(line);
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

/// Why an engine did not do as asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// Nobody answers. Nothing is known about the world; try again later.
    #[error("cannot reach the container engine at {address}: {cause}")]
    Unreachable {
        /// The socket.
        address: String,
        /// What the system said.
        cause: String,
    },
    /// It did not answer in time. The effect may or may not have happened.
    #[error("the container engine did not answer within {0:?} while asked to {1}")]
    Timeout(Duration, &'static str),
    /// It answered with an error of its own.
    #[error("the container engine could not {action}: {cause}")]
    Refused {
        /// What was asked.
        action: &'static str,
        /// What it said.
        cause: String,
    },
    /// The work itself failed, as an installation does whose requirement does not exist.
    #[error("{message}")]
    Failed {
        /// One line: what failed, naming the requirement or file at fault.
        message: String,
        /// The last lines of output.
        output: Vec<String>,
    },
    /// The work could not be done for a reason outside of what was asked, as an installation is not whose package index is
    /// out of reach. The same again may go well.
    #[error("{message}")]
    Hindered {
        /// One line: what was in the way.
        message: String,
        /// The last lines of output.
        output: Vec<String>,
    },
    /// This host cannot do what the API asks for, and skep will not do less instead.
    #[error("{0}")]
    Unsupported(String),
}
