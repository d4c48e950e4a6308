//! Labels are what skep writes on containers, images, networks and volumes, and the only thing that it trusts to say
//! what is its own.

use std::collections::HashMap;
use std::fmt;
use std::net::Ipv4Addr;

use crate::engine::Start;
use crate::tree::{ApiId, Digest, Revision};

/// The installation that made it.
pub(super) const OWNER: &str = "dev.skep.owner";
/// The API that a container belongs to. Containers without it are no instances.
pub(super) const API: &str = "dev.skep.api";
/// The revision that a container runs.
pub(super) const REVISION: &str = "dev.skep.revision";
/// The place of a container among the replicas.
pub(super) const NUMBER: &str = "dev.skep.number";
/// The digest of what a container was created from.
pub(super) const SPEC: &str = "dev.skep.spec";
/// The loopback port that a container is published on, where it is.
pub(super) const PORT: &str = "dev.skep.port";
/// The network that an instance is on.
pub(super) const NETWORK: &str = "dev.skep.network";
/// The address that an instance was given there.
pub(super) const ADDRESS: &str = "dev.skep.address";
/// The limits that an instance was given: bytes of memory, microseconds of the processor in each period
/// and microseconds of the period, processes.
pub(super) const LIMITS: &str = "dev.skep.limits";
/// On a network: the installation is a throw-away one, and this says whose.
pub(super) const BOOT: &str = "dev.skep.boot";
/// What a thing that is no instance is for: `build`, `workshop`, `dependencies`, `code`, `base`, `runtime`.
pub(super) const ROLE: &str = "dev.skep.role";

/// The labels of something of ours.
pub(super) fn of_role(owner: &str, role: &str) -> HashMap<String, String> {
    HashMap::from([(OWNER.to_owned(), owner.to_owned()), (ROLE.to_owned(), role.to_owned())])
}

/// The labels of an instance, those aside that are known only later.
pub(super) fn of_instance(owner: &str, job: &Start) -> HashMap<String, String> {
    HashMap::from([
        (OWNER.to_owned(), owner.to_owned()),
        (API.to_owned(), job.api.to_string()),
        (REVISION.to_owned(), job.revision.to_string()),
        (NUMBER.to_owned(), job.number.to_string()),
    ])
}

/// What the labels of an instance say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Labels {
    pub(super) api: ApiId,
    pub(super) revision: Revision,
    pub(super) number: u16,
    pub(super) spec: Option<Digest>,
    pub(super) port: Option<u16>,
    pub(super) network: Option<String>,
    pub(super) address: Option<Ipv4Addr>,
    pub(super) limits: Option<LimitsGiven>,
}

/// The limits that a container was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LimitsGiven {
    /// Bytes.
    pub(super) memory: i64,
    /// Microseconds of each period in which it may run.
    pub(super) cpu_quota: i64,
    /// Microseconds.
    pub(super) cpu_period: i64,
    /// Processes and threads.
    pub(super) pids: i64,
}

impl LimitsGiven {
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(' ').map(|number| number.parse().ok());
        let mut next = || numbers.next()?;
        Some(Self { memory: next()?, cpu_quota: next()?, cpu_period: next()?, pids: next()? })
    }
}

impl fmt::Display for LimitsGiven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} {}", self.memory, self.cpu_quota, self.cpu_period, self.pids)
    }
}

/// Reads the labels of an instance.
///
/// # Errors
/// Names the label that is missing or makes no sense.
pub(super) fn read(labels: &HashMap<String, String>) -> Result<Labels, String> {
    let wanted = |key: &str| labels.get(key).ok_or_else(|| format!("it has no label {key}"));
    let api = wanted(API)?;
    let number = wanted(NUMBER)?;
    Ok(Labels {
        api: ApiId::new(api).map_err(|error| format!("its label {API} is {api:?}: {error}"))?,
        revision: Revision::from_label(wanted(REVISION)?),
        number: number.parse().map_err(|_| format!("its label {NUMBER} is {number:?}, which is no number"))?,
        spec: labels.get(SPEC).and_then(|spec| spec.parse().ok()),
        port: labels.get(PORT).and_then(|port| port.parse().ok()),
        network: labels.get(NETWORK).cloned(),
        address: labels.get(ADDRESS).and_then(|address| address.parse().ok()),
        limits: labels.get(LIMITS).and_then(|limits| LimitsGiven::parse(limits)),
    })
}

/// A filter for the engine's lists: all of these labels, with these values.
pub(super) fn filter(wanted: &[(&str, &str)]) -> HashMap<String, Vec<String>> {
    let labels = wanted
        .iter()
        .map(|(key, value)| if value.is_empty() { (*key).to_owned() } else { format!("{key}={value}") })
        .collect();
    HashMap::from([("label".to_owned(), labels)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_make_no_sense_are_named() {
        let mut labels = HashMap::from([(API.to_owned(), "Not An Id".to_owned())]);
        assert!(read(&labels).unwrap_err().contains(NUMBER));
        labels.insert(NUMBER.to_owned(), "1".to_owned());
        labels.insert(REVISION.to_owned(), "abc".to_owned());
        assert!(read(&labels).unwrap_err().contains("Not An Id"));
        labels.insert(API.to_owned(), "an-id".to_owned());
        labels.insert(SPEC.to_owned(), "no digest".to_owned());
        let read = read(&labels).unwrap();
        assert_eq!((read.number, read.spec, read.port), (1, None, None));
    }
}
