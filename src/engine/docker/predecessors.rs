//! Predecessors as the engine lists them: by their label, and never one that a skep made.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum as State, PortSummary, PortSummaryTypeEnum};
use bollard::query_parameters::ListContainersOptions;

use super::Docker;
use super::call::QUICK;
use super::container::APP_PORT;
use super::labels;
use crate::engine::EngineError;
use crate::world::predecessor::{API_LABEL, LABEL, Predecessor, PredecessorState, mark_doubles};

impl Docker {
    pub(super) async fn list_predecessors(&self) -> Result<Vec<Predecessor>, EngineError> {
        let options = ListContainersOptions {
            all: true,
            filters: Some(labels::filter(&[LABEL])),
            ..ListContainersOptions::default()
        };
        let list = |client: bollard::Docker| async move { client.list_containers(Some(options)).await };
        let containers = self.call("list containers", QUICK, list).await?;
        let mut found: Vec<Predecessor> = containers.into_iter().filter_map(read).collect();
        found.sort_by(|one, other| (&one.name, &one.container).cmp(&(&other.name, &other.container)));
        mark_doubles(&mut found);
        Ok(found)
    }

    pub(super) async fn end_predecessor(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        let Some(found) = self.inspect_container(id).await? else { return Ok(()) };
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        if !is_predecessor(&labels) {
            let what = format!("the container {id} has no label {}={}, and goes on", LABEL.0, LABEL.1);
            return Err(EngineError::Unsupported(what));
        }
        // By its own id from here on: a name may change hands.
        let (id, state) = (found.id.as_deref().unwrap_or(id), found.state.unwrap_or_default());
        match self.end(id, &state, grace).await {
            Err(fault) if fault.is_missing() || fault.status() == Some(304) => Ok(()),
            done => Ok(done?),
        }
    }
}

fn is_predecessor(labels: &HashMap<String, String>) -> bool {
    // What stands on our base image says by its label that nobody owns it.
    let is_of_nobody = labels.get(labels::OWNER).is_none_or(String::is_empty);
    labels.get(LABEL.0).is_some_and(|value| value == LABEL.1) && is_of_nobody
}

fn read(container: ContainerSummary) -> Option<Predecessor> {
    let id = container.id?;
    let labels = container.labels.unwrap_or_default();
    if !is_predecessor(&labels) {
        return None;
    }
    let name = container.names.as_ref().and_then(|names| names.first()).unwrap_or(&id);
    let name = name.trim_start_matches('/').to_owned();
    let label = labels.get(API_LABEL).cloned();
    let state = match container.state {
        Some(State::RUNNING) => PredecessorState::Running,
        Some(State::PAUSED) => PredecessorState::Paused,
        Some(State::RESTARTING) => PredecessorState::Restarting,
        _ => PredecessorState::Stopped,
    };
    let ends = container.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let own = || {
        let mut ends: Vec<_> = ends.iter().collect();
        ends.sort_by_key(|(name, _)| *name);
        let own: IpAddr = ends.iter().find_map(|(_, end)| end.ip_address.as_ref()?.parse().ok())?;
        Some(SocketAddr::from((own, APP_PORT)))
    };
    let address = published(container.ports.as_deref().unwrap_or_default()).or_else(own);
    Some(Predecessor {
        name,
        container: id.into(),
        api: Predecessor::read_label(label.as_deref()),
        label,
        state,
        address: address.filter(|_| state != PredecessorState::Stopped),
    })
}

/// Where this host reaches the port that the app listens on, where that is published.
fn published(ports: &[PortSummary]) -> Option<SocketAddr> {
    let ours = ports.iter().filter(|port| port.private_port == APP_PORT && port.typ != Some(PortSummaryTypeEnum::UDP));
    let mut places: Vec<SocketAddr> = ours
        .filter_map(|port| {
            let ip: IpAddr = port.ip.as_deref().and_then(|ip| ip.parse().ok()).unwrap_or(Ipv4Addr::UNSPECIFIED.into());
            // On all addresses is on loopback too, of the same family: the other one may have another port.
            let ip = match ip {
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            };
            Some(SocketAddr::from((ip, port.public_port?)))
        })
        .collect();
    places.sort_by_key(|place| (!place.is_ipv4(), *place));
    places.first().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ip: &str, private: u16, public: Option<u16>) -> PortSummary {
        PortSummary { ip: Some(ip.to_owned()), private_port: private, public_port: public, typ: None }
    }

    #[test]
    fn a_published_port_is_reached_where_it_is_published() {
        let at = |ports: &[PortSummary]| published(ports).map(|place| place.to_string());
        let all = [port("::", 8000, Some(9233)), port("0.0.0.0", 8000, Some(9234))];
        assert_eq!(at(&all).as_deref(), Some("127.0.0.1:9234"), "9233 may be another's on IPv4");
        assert_eq!(at(&all[..1]).as_deref(), Some("[::1]:9233"));
        assert_eq!(at(&[port("10.0.0.7", 8000, Some(9001))]).as_deref(), Some("10.0.0.7:9001"));
        assert_eq!(at(&[port("0.0.0.0", 8001, Some(9001)), port("", 8000, None)]), None);
    }

    #[test]
    fn what_a_skep_made_is_none() {
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        assert!(is_predecessor(&labels(&[("app", "api-builder")])));
        assert!(is_predecessor(&labels(&[("app", "api-builder"), (labels::OWNER, "")])));
        assert!(!is_predecessor(&labels(&[("app", "something-else")])));
        assert!(!is_predecessor(&labels(&[("app", "api-builder"), (labels::OWNER, "000000000000")])));
    }
}
