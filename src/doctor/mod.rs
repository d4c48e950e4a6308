//! The doctor judges a host: plain values of what was seen go in, findings come out. It looks at nothing itself.
//!
//! `engine::docker::examine`, `records::sqlite::examine` and `cli::doctor` look; `report::doctor` prints.

pub mod certificates;
mod database;
pub mod engine;
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::engine::docker::examine::{Holdings, OwnNetwork, OwnNetworkState, Stage};

    /// A host on which all is well.
    pub(super) fn sound() -> Examination {
        let state = OwnNetworkState { is_visible: true, wrong: None };
        let own = |word: &str| OwnNetwork { name: format!("skep-0123456789ab-{word}"), state: Some(state) };
        let space = Space {
            path: PathBuf::from("/var/lib/docker"),
            device: 1,
            free: 50 << 30,
            size: 100 << 30,
            free_inodes: 1_000_000,
            inodes: 6_000_000,
            is_read_only: false,
        };
        Examination {
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            settings: Vec::new(),
            engine: Ok(EngineFacts {
                version: "28.5.2".to_owned(),
                api_version: "1.51".to_owned(),
                runc: vec!["1.3.3".to_owned()],
                containerd: vec!["2.1.5".to_owned()],
                driver: "overlay2".to_owned(),
                cgroup_version: "2".to_owned(),
                limits: vec![("memory", true)],
                security: vec!["name=seccomp,profile=builtin".to_owned()],
                ahead: Some(jiff::SignedDuration::ZERO),
                ..EngineFacts::default()
            }),
            networks: Ok(NetworkFacts { subnets: Vec::new(), count: 3, ours: vec![own("internet"), own("none")] }),
            routes: Vec::new(),
            firewall: Ok(FirewallFacts { missing: Vec::new(), wanted: 6, chains: vec!["SKEP-01234567".to_owned()] }),
            is_root: true,
            engine_disk: Ok(space.clone()),
            state_disk: Ok(space),
            base: Ok(BaseFacts {
                wanted: "python:3.11-slim".to_owned(),
                name: Some("python:3.11-slim".to_owned()),
                created: Some("2025-12-01T00:00:00Z".parse().unwrap()),
                is_prepared: true,
                ..BaseFacts::default()
            }),
            has_mmdebstrap: true,
            bundle: Bundle::Host { path: PathBuf::from("/etc/ssl/certs/ca-certificates.crt"), count: 140 },
            visit: Ok(Visit {
                python: Some("3.11.9".to_owned()),
                index: Some("https://index.test/simple".to_owned()),
                host: Some("index.test".to_owned()),
                port: Some(443),
                stage: Stage::Done,
                found: vec!["fastapi==1".to_owned()],
                ..Visit::default()
            }),
            has_proxy: false,
            state: Ok(State::WithoutRecords(PathBuf::from("/srv/.skep"))),
            daemon: Daemon::None,
            port: Port::Free("127.0.0.1:8663".parse().unwrap()),
            open_files: (Some(1024), Some(1 << 20)),
            holdings: Ok(Hosted {
                owner: Some("0123456789ab".to_owned()),
                holdings: Holdings::default(),
                apis: Some(Vec::new()),
                tags: Some(Vec::new()),
                networks: vec!["skep-0123456789ab-internet".to_owned(), "skep-0123456789ab-none".to_owned()],
                removed: None,
            }),
        }
    }

    #[test]
    fn on_a_sound_host_nothing_needs_to_be_done() {
        for finding in judge(&sound()) {
            assert!(matches!(finding.outcome, Outcome::Ok | Outcome::Note), "{finding:?}");
        }
    }

    #[test]
    fn with_the_engine_down_there_is_one_problem_and_all_others_answer() {
        let skipped = || Blank::Skipped(engine::NO_ENGINE);
        let seen = Examination {
            engine: Err(Blank::Failed("cannot reach the container engine".to_owned())),
            networks: Err(skipped()),
            engine_disk: Err(skipped()),
            base: Err(skipped()),
            visit: Err(skipped()),
            holdings: Err(skipped()),
            ..sound()
        };
        let findings = judge(&seen);
        let problems: Vec<_> = findings.iter().filter(|finding| finding.outcome == Outcome::Problem).collect();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].check, "engine");
        for check in ["state-disk", "certificates", "records", "port", "open-files"] {
            let finding = findings.iter().find(|finding| finding.check == check).unwrap();
            assert_eq!(finding.outcome, Outcome::Ok, "{finding:?}");
        }
    }

    #[test]
    fn whatever_is_no_ok_says_what_it_means() {
        let mut seen = sound();
        seen.engine_disk = Ok(Space { free: 1 << 20, ..seen.engine_disk.unwrap() });
        seen.settings = vec!["skep.yaml:1:1: no such key".to_owned()];
        for finding in judge(&seen) {
            let is_judged = matches!(finding.outcome, Outcome::Note | Outcome::Warning | Outcome::Problem);
            assert_eq!(is_judged, !finding.means.is_empty(), "{finding:?}");
            assert!(!finding.found.is_empty() && !finding.found.contains('\n'), "{finding:?}");
        }
    }
}
