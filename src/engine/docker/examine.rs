//! An examination asks the engine about itself and its host, for `skep doctor`. It gives plain values, judges nothing,
//! and changes nothing: what is missing is reported, and not made.

mod base;
mod holdings;
mod visit;

use std::path::PathBuf;
use std::time::Duration;

use bollard::models::{Network as EngineNetwork, SystemInfo, SystemVersion};
use bollard::query_parameters::ListNetworksOptions;
use jiff::{SignedDuration, Timestamp};

pub use self::base::BaseFacts;
pub use self::holdings::{HeldContainer, HeldImage, Holdings, Removed};
pub use self::visit::{Stage, Visit};
use super::call::QUICK;
use super::network::Network;
use super::{Docker, labels};
use crate::engine::EngineError;
use crate::tree::Egress;

/// How long the engine may take to say what it is. One that is well answers in milliseconds.
const LIMIT: Duration = Duration::from_secs(10);

/// What the engine says of itself and of the host it runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineFacts {
    /// Where it listens.
    pub address: String,
    /// Who made it: `Docker`, or `Podman`, which speaks the same API.
    pub product: String,
    /// Its version, as in `20.10.24+dfsg1`.
    pub version: String,
    /// The highest version of its API, as in `1.41`.
    pub api_version: String,
    /// The operating system of its host.
    pub system: String,
    /// The versions of runc as the engine knows it: what it calls itself, then the commit or package it was made of.
    pub runc: Vec<String>,
    /// As `runc`, of containerd.
    pub containerd: Vec<String>,
    /// The runtime that containers get where they ask for none.
    pub default_runtime: String,
    /// The storage driver.
    pub driver: String,
    /// What the storage driver says of itself, by name.
    pub driver_status: Vec<(String, String)>,
    /// Where it keeps images and containers, on its own host.
    pub root: Option<PathBuf>,
    /// Whether it listens on a socket of this host's file system. It may still be in a virtual machine.
    pub is_local: bool,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// Which limits the host can enforce, by the name that people know: memory, swap, processes, processor time.
    pub limits: Vec<(&'static str, bool)>,
    /// What the engine itself warns of.
    pub warnings: Vec<String>,
    /// As the engine writes them: `name=seccomp,profile=default`.
    pub security: Vec<String>,
    /// Plugins that authorise its callers.
    pub authorization: Vec<String>,
    /// How far its clock is ahead of this process's.
    pub ahead: Option<SignedDuration>,
    /// How exact `ahead` is: half of the time that the question took.
    pub precision: SignedDuration,
    /// The address pools that networks are taken from, as network and prefix length of each piece; empty where they
    /// are the engine's own defaults.
    pub pools: Vec<(String, u8)>,
}

/// The networks of an engine, and ours among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkFacts {
    /// The subnets of all networks, as in `172.17.0.0/16`.
    pub subnets: Vec<String>,
    /// How many networks there are that have a subnet.
    pub count: usize,
    /// Ours, the one with a way out first.
    pub ours: Vec<OwnNetwork>,
}

/// One of the two networks of this installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnNetwork {
    /// What the engine calls it.
    pub name: String,
    /// How it is; `None` where it is not there.
    pub state: Option<OwnNetworkState>,
}

/// How one of our networks is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnNetworkState {
    /// This process sees the bridge.
    pub is_visible: bool,
    /// What of it is not as skep makes it.
    pub wrong: Option<Wrong>,
}

/// How a network is not as skep makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It lacks our label.
    Foreign,
    /// Containers on it can speak to each other.
    Together,
    /// It has a way out and should have none, or the other way round.
    Egress,
}

/// The host's firewall, and our rules in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallFacts {
    /// Our rules that are not in force.
    pub missing: Vec<String>,
    /// How many rules there should be.
    pub wanted: usize,
    /// The chains of all installations that ever ran here: `SKEP-` and the first digits of the owner.
    pub chains: Vec<String>,
}

impl Docker {
    /// What the engine says of itself.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn examine_engine(&self) -> Result<EngineFacts, EngineError> {
        let version =
            self.call("say which version it is", LIMIT, |client| async move { client.version().await }).await?;
        let begun = Timestamp::now();
        let info = self.call("say how it is", LIMIT, |client| async move { client.info().await }).await?;
        let took = Timestamp::now().duration_since(begun);
        Ok(read(self.address(), version, info, begun + took / 2, took / 2))
    }

    /// The engine's networks.
    ///
    /// # Errors
    /// Where they cannot be listed.
    pub async fn examine_networks(&self) -> Result<NetworkFacts, EngineError> {
        let list = |client: bollard::Docker| async move { client.list_networks(None::<ListNetworksOptions>).await };
        let networks = self.call("list networks", QUICK, list).await?;
        let ours = [Egress::Internet, Egress::None].map(|egress| self.name_network(egress));
        let subnets = |network: &EngineNetwork| -> Vec<String> {
            let configs = network.ipam.as_ref().and_then(|ipam| ipam.config.clone()).unwrap_or_default();
            configs.into_iter().filter_map(|config| config.subnet).collect()
        };
        Ok(NetworkFacts {
            count: networks.iter().filter(|network| !subnets(network).is_empty()).count(),
            subnets: networks.iter().flat_map(subnets).collect(),
            ours: ours.iter().map(|wanted| self.own_network(wanted, &networks)).collect(),
        })
    }

    fn own_network(&self, wanted: &Network, networks: &[EngineNetwork]) -> OwnNetwork {
        let found = networks.iter().find(|network| network.name.as_ref() == Some(&wanted.name));
        let option =
            |network: &EngineNetwork, key: &str| network.options.as_ref().and_then(|all| all.get(key).cloned());
        let is_labelled = |network: &EngineNetwork| {
            network.labels.as_ref().and_then(|all| all.get(labels::OWNER)).is_some_and(|owner| owner == self.owner())
        };
        let wrong = |network: &EngineNetwork| {
            if !is_labelled(network) {
                Some(Wrong::Foreign)
            } else if option(network, "com.docker.network.bridge.enable_icc").as_deref() != Some("false") {
                Some(Wrong::Together)
            } else if network.internal.unwrap_or_default() != (wanted.egress() == Egress::None) {
                Some(Wrong::Egress)
            } else {
                None
            }
        };
        let state = found.map(|found| OwnNetworkState { is_visible: wanted.is_visible(), wrong: wrong(found) });
        OwnNetwork { name: wanted.name.clone(), state }
    }
}

fn read(
    address: &str,
    version: SystemVersion,
    info: SystemInfo,
    asked: Timestamp,
    precision: SignedDuration,
) -> EngineFacts {
    let component = |name: &str, commit: Option<String>| -> Vec<String> {
        let found = version.components.iter().flatten().find(|component| component.name == name);
        let named = found.map(|component| component.version.clone());
        let details = found.and_then(|component| component.details.as_ref()?.get("GitCommit").cloned());
        let mut all: Vec<String> =
            [named, details, commit].into_iter().flatten().filter(|text| !text.is_empty()).collect();
        all.dedup();
        all
    };
    let runc = component("runc", info.runc_commit.and_then(|commit| commit.id));
    let containerd = component("containerd", info.containerd_commit.and_then(|commit| commit.id));
    let ahead = info.system_time.as_deref().and_then(|time| time.parse::<Timestamp>().ok());
    let is_podman = version.components.iter().flatten().any(|component| component.name.starts_with("Podman"));
    EngineFacts {
        address: address.to_owned(),
        product: if is_podman { "Podman" } else { "Docker" }.to_owned(),
        version: version.version.clone().or(info.server_version).unwrap_or_default(),
        api_version: version.api_version.clone().unwrap_or_default(),
        system: info.operating_system.unwrap_or_default(),
        runc,
        containerd,
        default_runtime: info.default_runtime.unwrap_or_default(),
        driver: info.driver.unwrap_or_default(),
        driver_status: info.driver_status.into_iter().flatten().filter_map(pair).collect(),
        root: info.docker_root_dir.map(PathBuf::from),
        is_local: address.starts_with("unix://"),
        cgroup_version: info.cgroup_version.map(|version| version.to_string()).unwrap_or_default(),
        limits: [
            ("memory", info.memory_limit),
            ("swap", info.swap_limit),
            ("processes", info.pids_limit),
            ("processor time", info.cpu_cfs_quota),
        ]
        .into_iter()
        .filter_map(|(name, is_supported)| Some((name, is_supported?)))
        .collect(),
        warnings: info.warnings.unwrap_or_default(),
        security: info.security_options.unwrap_or_default(),
        authorization: info.plugins.and_then(|plugins| plugins.authorization).unwrap_or_default(),
        ahead: ahead.map(|time| time.duration_since(asked)),
        precision,
        pools: info
            .default_address_pools
            .into_iter()
            .flatten()
            .filter_map(|pool| Some((pool.base?, u8::try_from(pool.size?).ok()?)))
            .collect(),
    }
}

fn pair(words: Vec<String>) -> Option<(String, String)> {
    let mut words = words.into_iter();
    Some((words.next()?, words.next()?))
}
