//! Listing instances: one question to the engine for all of them, and one more for each that the list says too little of.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bollard::models::{ContainerState, ContainerSummary, ContainerSummaryStateEnum as State};
use bollard::query_parameters::ListContainersOptions;
use jiff::Timestamp;

use super::Docker;
use super::call::QUICK;
use super::container::APP_PORT;
use super::labels::{self, Labels};
use crate::engine::EngineError;
use crate::tree::ApiId;
use crate::world::{Instance, Readiness, Run};

impl Docker {
    pub(super) async fn list_instances(&self, api: Option<&ApiId>) -> Result<Vec<Instance>, EngineError> {
        let wanted = [(labels::OWNER, self.owner()), (labels::API, api.map_or("", ApiId::as_str))];
        let options = ListContainersOptions {
            all: true,
            filters: Some(labels::filter(&wanted)),
            ..ListContainersOptions::default()
        };
        let list = |client: bollard::Docker| async move { client.list_containers(Some(options)).await };
        let containers = self.call("list containers", QUICK, list).await?;
        let mut instances = Vec::with_capacity(containers.len());
        for container in containers {
            instances.extend(self.read_instance(container).await?);
        }
        instances.sort_by(|a, b| (&a.name, &a.container).cmp(&(&b.name, &b.container)));
        Ok(instances)
    }

    /// An instance, or `None` where the container is gone by now or carries labels that make no sense.
    async fn read_instance(&self, container: ContainerSummary) -> Result<Option<Instance>, EngineError> {
        let Some(id) = container.id.as_deref() else { return Ok(None) };
        let labels = match labels::read(container.labels.as_ref().unwrap_or(&std::collections::HashMap::new())) {
            Ok(labels) => labels,
            Err(cause) => {
                tracing::warn!(container = id, %cause, "a container says that it is ours and cannot be read; it is left alone");
                return Ok(None);
            }
        };
        let created = container.created.and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or_default();
        let Some(run) = self.read_run(id, &container, &labels, created).await? else { return Ok(None) };
        let name = container.names.as_ref().and_then(|names| names.first()).map_or(id, String::as_str);
        Ok(Some(Instance {
            name: self.instance_name(name),
            container: id.into(),
            api: labels.api,
            revision: labels.revision,
            number: labels.number,
            spec: labels.spec,
            run,
            created,
            readiness: Readiness::Unknown,
            in_flight: 0,
            draining_since: None,
        }))
    }

    async fn read_run(
        &self,
        id: &str,
        container: &ContainerSummary,
        labels: &Labels,
        created: Timestamp,
    ) -> Result<Option<Run>, EngineError> {
        let address = self.address_of(container, labels);
        match container.state {
            Some(State::CREATED) => return Ok(Some(Run::Created)),
            Some(State::PAUSED) => return Ok(Some(Run::Paused)),
            // The list says how long it has been up, in words. Where they fit a container that was started when it was
            // created, as ours are, there is nothing to ask.
            Some(State::RUNNING) if is_up_since(container.status.as_deref(), created) => {
                return Ok(Some(Run::Running { address, since: created }));
            }
            Some(State::RUNNING | State::EXITED) => {}
            // The engine failed to remove it once; asked again, it may.
            Some(State::DEAD) => return Ok(Some(Run::Exited { code: -1, out_of_memory: false })),
            _ => return Ok(Some(Run::Unclear)),
        }
        let Some(found) = self.inspect_container(id).await? else { return Ok(None) };
        let state = found.state.unwrap_or_default();
        Ok(Some(match container.state {
            Some(State::RUNNING) => Run::Running { address, since: started(&state).unwrap_or(created) },
            _ => {
                Run::Exited { code: state.exit_code.unwrap_or(-1), out_of_memory: state.oom_killed.unwrap_or_default() }
            }
        }))
    }

    /// Where the host reaches the app.
    fn address_of(&self, container: &ContainerSummary, labels: &Labels) -> Option<SocketAddr> {
        if let Some(port) = labels.port {
            return Some((Ipv4Addr::LOCALHOST, port).into());
        }
        let networks = container.network_settings.as_ref()?.networks.as_ref()?;
        let mut ours = networks.iter().filter(|(name, _)| name.starts_with(&self.network_prefix()));
        let address: IpAddr = ours.find_map(|(_, end)| end.ip_address.as_ref()?.parse().ok())?;
        Some((address, APP_PORT).into())
    }
}

fn started(state: &ContainerState) -> Option<Timestamp> {
    state.started_at.as_ref()?.parse().ok()
}

/// Whether the engine's words for how long a container has been up fit its having been started at `created`.
fn is_up_since(status: Option<&str>, created: Timestamp) -> bool {
    let Some(words) = status.and_then(|status| status.strip_prefix("Up ")) else { return false };
    let age = Timestamp::now().duration_since(created).as_secs();
    // It started a little after it was created, and the two clocks were read at different moments.
    (-1..=3).any(|slack| words == in_words(age - slack))
}

/// A span of seconds as the engine puts it (`HumanDuration` of docker/go-units).
fn in_words(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 14 => format!("{} days", hours / 24),
        () if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_the_engine_writes_them() {
        let spans = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (3600 * 50, "2 days"),
            (3600 * 24 * 15, "2 weeks"),
            (3600 * 24 * 90, "3 months"),
        ];
        for (seconds, words) in spans {
            assert_eq!(in_words(seconds), words);
        }
    }

    #[test]
    fn a_container_that_was_started_again_does_not_pass_for_a_fresh_one() {
        let hour_ago = Timestamp::now() - jiff::SignedDuration::from_hours(1);
        assert!(is_up_since(Some("Up About an hour"), hour_ago));
        assert!(!is_up_since(Some("Up 3 seconds"), hour_ago));
        assert!(!is_up_since(Some("Up 3 minutes"), hour_ago));
        assert!(!is_up_since(None, hour_ago));
    }
}
