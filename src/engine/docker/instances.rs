//! Listing instances: one question to the engine for all of them, and one more for each that is looked at closely.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;

use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerSummary, ContainerSummaryStateEnum as State, EndpointSettings,
    HostConfig, RestartPolicyNameEnum,
};
use bollard::query_parameters::ListContainersOptions;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::Docker;
use super::call::QUICK;
use super::container::APP_PORT;
use super::flood::Given;
use super::labels::{self, Labels, LimitsGiven};
use super::repair::foreign_networks;
use crate::engine::EngineError;
use crate::tree::{ApiId, Size};
use crate::world::instance::InstanceName;
use crate::world::{Instance, Readiness, Run};

/// How many running instances a look at all of them looks at closely: what nobody said a word of, a changed limit for
/// one, is found by going round. Each costs the engine some 1.5 ms.
const CLOSELY: usize = 200;

/// How many are looked at closely at once.
const AT_ONCE: usize = 8;

impl Docker {
    pub(super) async fn list_instances(&self, api: Option<&ApiId>) -> Result<Vec<Instance>, EngineError> {
        self.join_networks().await?;
        let wanted = [(labels::OWNER, self.owner()), (labels::API, api.map_or("", ApiId::as_str))];
        let options = ListContainersOptions {
            all: true,
            filters: Some(labels::filter(&wanted)),
            ..ListContainersOptions::default()
        };
        let list = |client: bollard::Docker| async move { client.list_containers(Some(options)).await };
        let containers = self.call("list containers", QUICK, list).await?;
        let turn = self.turn_to_look_closely(containers.len(), api.is_none());
        let read = stream::iter(containers.into_iter().enumerate());
        let read = read.map(|(place, container)| self.read_instance(container, turn.contains(place)));
        let instances: Vec<Option<Instance>> = read.buffered(AT_ONCE).try_collect().await?;
        let mut instances: Vec<Instance> = instances.into_iter().flatten().collect();
        instances.sort_by(|a, b| (&a.name, &a.container).cmp(&(&b.name, &b.container)));
        Ok(instances)
    }

    /// Which places of a list are looked at closely this time: all, or in a long list the next ones.
    fn turn_to_look_closely(&self, count: usize, is_round: bool) -> Turn {
        if !is_round || count <= CLOSELY {
            return Turn { first: 0, len: count, count };
        }
        let first = self.shared.closely.fetch_add(CLOSELY, Ordering::Relaxed) % count;
        Turn { first, len: CLOSELY, count }
    }

    /// An instance, or `None` where the container is gone by now or carries labels that make no sense.
    async fn read_instance(
        &self,
        container: ContainerSummary,
        is_close: bool,
    ) -> Result<Option<Instance>, EngineError> {
        let Some(id) = container.id.as_deref() else { return Ok(None) };
        let labels = match labels::read(container.labels.as_ref().unwrap_or(&std::collections::HashMap::new())) {
            Ok(labels) => labels,
            Err(cause) => {
                tracing::warn!(container = id, %cause, "a container says that it is ours and cannot be read; it is left alone");
                return Ok(None);
            }
        };
        let created = container.created.and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or_default();
        let ends = container.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
        let address = self.address_of(ends.into_iter().flatten(), &labels);
        let name = container.names.as_ref().and_then(|names| names.first()).map_or(id, String::as_str);
        let mut instance = Instance {
            name: self.instance_name(name),
            container: id.into(),
            api: labels.api.clone(),
            revision: labels.revision.clone(),
            number: labels.number,
            spec: labels.spec,
            run: Run::Unclear,
            altered: None,
            beyond_repair: false,
            created,
            readiness: Readiness::Unknown,
            leaving: false,
            in_flight: 0,
            draining_since: None,
        };
        if container.state == Some(State::RUNNING) {
            self.neighbours().note(id);
            if let Some(LimitsGiven { cpu_quota: quota, cpu_period: period, .. }) = labels.limits {
                self.neighbours().note_limits(id, Given { api: labels.api.to_string(), quota, period });
            }
        }
        let found = match container.state {
            Some(State::CREATED) => {
                instance.run = Run::Created;
                return Ok(Some(instance));
            }
            Some(State::PAUSED) => {
                instance.run = Run::Paused;
                return Ok(Some(instance));
            }
            Some(State::RUNNING) if !is_close => {
                instance.run = Run::Running { address, since: created };
                return Ok(Some(instance));
            }
            // The engine failed to remove it once; asked again, it may.
            Some(State::DEAD) => {
                instance.run = Run::Exited { code: -1, out_of_memory: false };
                return Ok(Some(instance));
            }
            Some(State::RUNNING | State::EXITED) => self.inspect_container(id).await?,
            _ => return Ok(Some(instance)),
        };
        let Some(found) = found else { return Ok(None) };
        instance.run = read_run(found.state.as_ref(), address, created);
        instance.altered = self.altered(&found, &labels);
        Ok(Some(instance))
    }

    /// Where the host reaches the app.
    fn address_of<'a>(
        &self,
        ends: impl IntoIterator<Item = (&'a String, &'a EndpointSettings)>,
        labels: &Labels,
    ) -> Option<SocketAddr> {
        let mut ours = ends.into_iter().filter(|(name, _)| name.starts_with(&self.network_prefix()));
        let address: IpAddr = ours.find_map(|(_, end)| end.ip_address.as_ref()?.parse().ok())?;
        match labels.port {
            Some(port) => Some((Ipv4Addr::LOCALHOST, port).into()),
            None => Some((address, APP_PORT).into()),
        }
    }

    /// What somebody's hand changed on a running container since it was made, in words.
    pub(super) fn altered(&self, found: &ContainerInspectResponse, labels: &Labels) -> Option<String> {
        let name = found.name.as_deref().unwrap_or_default().trim_start_matches('/');
        if name != self.container_name(&expected_name(labels)) {
            return Some(format!("somebody renamed it to {name}"));
        }
        if let Some(network) = foreign_networks(found, labels).first() {
            return Some(format!("somebody connected it to the network {network}"));
        }
        let host = found.host_config.as_ref()?;
        if let Some(what) = labels.limits.and_then(|given| altered_limit(host, given)) {
            return Some(what);
        }
        let policy = host.restart_policy.as_ref().and_then(|policy| policy.name);
        let restarts =
            policy.is_some_and(|name| !matches!(name, RestartPolicyNameEnum::NO | RestartPolicyNameEnum::EMPTY));
        restarts.then(|| "somebody told the engine to restart it".to_owned())
    }
}

/// Which places of a list are looked at closely, round its end.
struct Turn {
    first: usize,
    len: usize,
    count: usize,
}

impl Turn {
    fn contains(&self, place: usize) -> bool {
        (place + self.count - self.first) % self.count.max(1) < self.len
    }
}

/// What the instance of these labels is called.
pub(super) fn expected_name(labels: &Labels) -> InstanceName {
    InstanceName::new(&labels.api, &labels.revision, labels.number)
}

fn read_run(state: Option<&ContainerState>, address: Option<SocketAddr>, created: Timestamp) -> Run {
    let Some(state) = state else { return Run::Unclear };
    if state.paused == Some(true) {
        Run::Paused
    } else if state.running == Some(true) {
        let since = state.started_at.as_ref().and_then(|at| at.parse().ok());
        Run::Running { address, since: since.unwrap_or(created) }
    } else {
        Run::Exited { code: state.exit_code.unwrap_or(-1), out_of_memory: state.oom_killed.unwrap_or_default() }
    }
}

/// Which limit is another than was given. One that the host knows nothing of reads as nought, and is none of ours.
fn altered_limit(host: &HostConfig, given: LimitsGiven) -> Option<String> {
    let other = |now: Option<i64>, given: i64| now.filter(|now| *now != 0 && *now != given);
    let size = |bytes: i64| Size(u64::try_from(bytes).unwrap_or_default());
    if let Some(now) = other(host.memory, given.memory) {
        return Some(format!("somebody changed its memory limit to {}, from {}", size(now), size(given.memory)));
    }
    let (quota, period) = (other(host.cpu_quota, given.cpu_quota), other(host.cpu_period, given.cpu_period));
    if quota.is_some() || period.is_some() {
        let now = cores(quota.unwrap_or(given.cpu_quota), period.unwrap_or(given.cpu_period));
        let given = cores(given.cpu_quota, given.cpu_period);
        return Some(format!("somebody changed its processor limit to {now}, from {given}"));
    }
    let now = other(host.pids_limit, given.pids)?;
    Some(format!("somebody changed its process limit to {now}, from {}", given.pids))
}

/// A share of the processor in cores, as people read it.
fn cores(quota: i64, period: i64) -> String {
    let hundredths = quota.saturating_mul(100) / period.max(1);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_looked_at_closely_all_round() {
        let turns = [
            Turn { first: 0, len: 2, count: 5 },
            Turn { first: 2, len: 2, count: 5 },
            Turn { first: 4, len: 2, count: 5 },
        ];
        let seen: Vec<Vec<usize>> =
            turns.iter().map(|turn| (0..5).filter(|place| turn.contains(*place)).collect()).collect();
        assert_eq!(seen, [vec![0, 1], vec![2, 3], vec![0, 4]]);
        assert!(!Turn { first: 0, len: 0, count: 0 }.contains(0));
    }

    #[test]
    fn a_limit_that_somebody_changed_is_named_and_one_that_the_host_does_not_know_is_not() {
        let given = LimitsGiven { memory: 512 << 20, cpu_quota: 10_000, cpu_period: 20_000, pids: 128 };
        let as_given = HostConfig {
            memory: Some(given.memory),
            cpu_quota: Some(given.cpu_quota),
            cpu_period: Some(given.cpu_period),
            pids_limit: Some(given.pids),
            ..HostConfig::default()
        };
        assert_eq!(altered_limit(&as_given, given), None);
        assert_eq!(altered_limit(&HostConfig { pids_limit: None, memory: Some(0), ..as_given.clone() }, given), None);
        let less = HostConfig { memory: Some(64 << 20), ..as_given.clone() };
        assert_eq!(altered_limit(&less, given).unwrap(), "somebody changed its memory limit to 64MiB, from 512MiB");
        let more = HostConfig { cpu_quota: Some(30_000), ..as_given.clone() };
        assert_eq!(altered_limit(&more, given).unwrap(), "somebody changed its processor limit to 1.50, from 0.50");
        let endless = HostConfig { pids_limit: Some(-1), ..as_given };
        assert_eq!(altered_limit(&endless, given).unwrap(), "somebody changed its process limit to -1, from 128");
    }
}
