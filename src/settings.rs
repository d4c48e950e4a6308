//! Settings: `skep.yaml` for what a team shares in git, the environment for what belongs to one host. Opens nothing.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::tree::{Cpu, Seconds, Size};

/// All settings of one installation, none left open.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder that holds `skep.yaml`; diagnostics name files relative to it.
    pub root: PathBuf,
    /// The folder of API folders, `apis` below the root.
    pub apis: PathBuf,
    /// Where skep keeps its records, keys of this host and lock; `.skep` below the root, or `SKEP_STATE_DIR`.
    pub state: PathBuf,
    /// How images are built.
    pub build: BuildSettings,
    /// What is allowed.
    pub policy: Policy,
    /// Where the gateway listens: `SKEP_LISTEN`, else 127.0.0.1:8663.
    pub listen: SocketAddr,
    /// How the engine is reached.
    pub engine: EngineSettings,
    /// `ADMIN_API_KEY` (or `SKEP_ADMIN_KEY`); where neither is set, one is made and kept in the state folder.
    pub admin_key: Option<String>,
    /// The longest time between two full looks at tree and world.
    pub look_every: Seconds,
}

/// How images are built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildSettings {
    /// The image that all stand on: `python:3.11-slim`.
    pub base_image: String,
    /// Which CA certificates installs and apps trust besides those of the image.
    pub ca_bundle: CaBundle,
    /// The package index (`SKEP_INDEX_URL` overrides, as it may hold a secret); `None` is the installer's default.
    pub index_url: Option<String>,
    /// How many installs and builds run at once.
    pub concurrency: u16,
    /// For one install or build.
    pub timeout: Seconds,
    /// For one install.
    pub memory: Size,
    /// For one install.
    pub cpu: Cpu,
}

/// Which CA certificates installs and apps trust besides those of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaBundle {
    /// The host's bundle, where there is one.
    Auto,
    /// None.
    Image,
    /// This file.
    File(PathBuf),
}

/// What is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How many APIs may be removed in one go, counted: the larger of the two holds.
    pub max_deletes: u32,
    /// How many APIs may be removed in one go, in percent of those that there are.
    pub max_deletes_percent: u8,
    /// The largest file of an API.
    pub max_file: Size,
    /// The largest folder of an API, all files together.
    pub max_folder: Size,
    /// The most files of an API.
    pub max_files: u32,
}

/// How the engine is reached, and how apps are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSettings {
    /// `DOCKER_HOST`, or the engine's default socket.
    pub host: Option<String>,
    /// How the gateway dials instances.
    pub dial: Dial,
    /// The first and last loopback port that [`Dial::Loopback`] may use.
    pub ports: (u16, u16),
}

/// How the gateway dials instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dial {
    /// The container's own address where the host can reach it, else a published loopback port.
    Auto,
    /// The container's own address.
    Address,
    /// A port published on loopback.
    Loopback,
}
