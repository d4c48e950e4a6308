//! The doctor judges a host: plain values of what was seen go in, findings come out. It looks at nothing itself.
//!
//! `engine::docker::examine`, `records::sqlite::examine` and `cli::doctor` look; `report::doctor` prints.

pub mod certificates;
mod engine;
pub mod facts;
pub mod finding;
mod holes;
mod host;
mod index;
mod leftovers;
mod network;
mod pools;
mod version;

use jiff::Timestamp;

pub use facts::{Blank, Found};
pub use finding::{Finding, Outcome};

use crate::engine::docker::examine::{BaseFacts, EngineFacts, FirewallFacts, NetworkFacts, Visit};
use facts::{Bundle, Daemon, Hosted, Port, Space, State};

/// All that was seen of a host. What could not be seen is a [`Blank`], and keeps nothing else from being judged.
#[derive(Debug)]
pub struct Examination {
    /// The host's clock.
    pub now: Timestamp,
    /// The errors of `skep.yaml` and the environment, each in a line.
    pub settings: Vec<String>,
    /// What the engine says of itself.
    pub engine: Found<EngineFacts>,
    /// Its networks.
    pub networks: Found<NetworkFacts>,
    /// Networks that the host has routes to, as in `10.0.0.0/8`.
    pub routes: Vec<String>,
    /// The firewall's rules.
    pub firewall: Found<FirewallFacts>,
    /// Whether this process is root.
    pub is_root: bool,
    /// The disk that the engine keeps its images and containers on.
    pub engine_disk: Found<Space>,
    /// The disk that the state folder is on.
    pub state_disk: Found<Space>,
    /// The base image.
    pub base: Found<BaseFacts>,
    /// Whether `mmdebstrap` is on this host.
    pub has_mmdebstrap: bool,
    /// The certificates that go into builds.
    pub bundle: Bundle,
    /// The index as a container sees it.
    pub visit: Found<Visit>,
    /// Whether the environment of this process names a proxy.
    pub has_proxy: bool,
    /// Whether the settings name an index.
    pub has_own_index: bool,
    /// The state folder, and the records in it.
    pub state: Found<State>,
    /// Who is at work.
    pub daemon: Daemon,
    /// The gateway's port.
    pub port: Port,
    /// How many files and sockets a process may open: at first, and at most.
    pub open_files: (Option<u64>, Option<u64>),
    /// What installations have on this engine.
    pub holdings: Found<Hosted>,
}

/// Judges all of it, in the order in which somebody would put things right: what others stand on comes first.
#[must_use]
pub fn judge(seen: &Examination) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(host::settings(&seen.settings));
    findings.push(engine::engine(&seen.engine));
    findings.push(engine::runtime(&seen.engine));
    findings.push(engine::storage(&seen.engine));
    findings.push(engine::limits(&seen.engine));
    findings.push(engine::isolation(&seen.engine));
    findings.extend(host::disks(&seen.engine_disk, &seen.state_disk));
    findings.push(network::networks(seen));
    findings.push(network::firewall(seen));
    findings.push(index::base(seen));
    findings.push(index::certificates(&seen.bundle, seen.now));
    findings.push(index::index(seen));
    findings.push(host::clock(&seen.engine, &seen.visit));
    findings.push(host::state(&seen.state));
    findings.push(host::daemon(&seen.daemon));
    findings.push(host::port(&seen.port));
    findings.push(host::open_files(seen.open_files));
    findings.extend(leftovers::leftovers(&seen.holdings, &seen.firewall));
    findings
}
