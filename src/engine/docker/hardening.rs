//! Hardening is what every container of ours gets, those that install as well as those that serve. Nothing here is an
//! option: what an API may choose is in [`Limits`].

use std::collections::HashMap;

use bollard::models::{
    HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use super::seccomp;
use crate::tree::{Cpu, Size};

/// The user and group of all that runs in our containers; has no shell, and no name outside them.
pub(super) const USER: &str = "10001:10001";

/// The number of that user.
pub(super) const UID: u64 = 10_001;

/// Files and sockets that one process may hold open.
const OPEN_FILES: i64 = 16_384;

/// Shared memory, in bytes: enough for the semaphores and queues of `multiprocessing`. Counts against the memory limit.
const SHARED_MEMORY: i64 = 16 << 20;

/// Killed before the host's own processes when the whole host runs out of memory.
const KILL_FIRST: i64 = 500;

/// The share of an instance where processors are short; a service of the host has 1024.
pub(super) const INSTANCE_SHARES: i64 = 256;

/// What differs from container to container.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// Processor time.
    pub(super) cpu: Cpu,
    /// Memory and swap together.
    pub(super) memory: Size,
    /// Processes and threads.
    pub(super) pids: u32,
    /// Size of `/tmp`.
    pub(super) tmp: Size,
    /// The network that it is on.
    pub(super) network: String,
    /// What it is for.
    pub(super) kind: Kind,
}

/// What a container is for. Where processors are short, services of the host go before instances, which have a quarter
/// of their weight, and instances before workshops, which have a quarter of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Serves an API.
    Instance,
    /// Becomes an image, so that its root file system can be written.
    Workshop,
}

/// The hardened half of a container.
pub(super) fn host_config(limits: &Limits) -> HostConfig {
    HostConfig {
        memory: Some(bytes(limits.memory)),
        // The engine reads this as memory and swap together, so equal means no swap.
        memory_swap: Some(bytes(limits.memory)),
        cpu_period: Some(period(limits.cpu)),
        cpu_quota: Some(period(limits.cpu) * i64::from(limits.cpu.0) / 1000),
        cpu_shares: Some(match limits.kind {
            Kind::Instance => INSTANCE_SHARES,
            Kind::Workshop => 64,
        }),
        pids_limit: Some(i64::from(limits.pids)),
        ulimits: Some(vec![
            limit("nofile", OPEN_FILES),
            // A core dump would hold the app's secrets, and fill its `/tmp`.
            limit("core", 0),
        ]),
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges:true".to_owned(), seccomp::option()]),
        readonly_rootfs: Some(limits.kind == Kind::Instance),
        // `noexec`: together with the read-only root, nothing in the container can be both written and executed, so
        // that what a hole in an app lets somebody store cannot be run as a program.
        tmpfs: Some(HashMap::from([(
            "/tmp".to_owned(),
            format!("rw,noexec,nosuid,nodev,mode=1777,size={}", limits.tmp.0),
        )])),
        shm_size: Some(SHARED_MEMORY),
        // Reaps the children of apps that start programs.
        init: Some(true),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        network_mode: Some(limits.network.clone()),
        oom_score_adj: Some(KILL_FIRST),
        // Restarting is the reconciler's: it backs off, remembers, and says why.
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), "5m".to_owned()),
                ("max-file".to_owned(), "2".to_owned()),
            ])),
        }),
        ..HostConfig::default()
    }
}

/// How long a file of a log may be, in bytes, as the engine counts its `5m`.
pub(super) const LOG_FILE: u64 = 5_000_000;

/// The span within which a container has its processor time, in µs.
///
/// A fifth of the engine's own 100 ms. Within 100 ms an app that runs on all cores at once has spent a core's worth long
/// before the end: until then it keeps everybody else waiting, and from then on it answers nobody itself. Shorter spans
/// than this are worse again, since the kernel hands out time in pieces of 5 ms. `benches/hostile.rs` shows both. A
/// container with less than a twentieth of a core keeps the engine's span, of which it must have 1 ms at least.
fn period(cpu: Cpu) -> i64 {
    if cpu.0 < 50 { 100_000 } else { 20_000 }
}

fn bytes(size: Size) -> i64 {
    i64::try_from(size.0).unwrap_or(i64::MAX)
}

fn limit(name: &str, value: i64) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.to_owned()), soft: Some(value), hard: Some(value) }
}
