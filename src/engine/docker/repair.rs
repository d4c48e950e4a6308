//! Repairing gives an instance back, in place, what somebody's hand has changed: no caller notices, as they would notice
//! another process.

use bollard::models::{
    ContainerInspectResponse, ContainerUpdateBody, NetworkConnectRequest, NetworkDisconnectRequest, RestartPolicy,
    RestartPolicyNameEnum,
};
use bollard::query_parameters::RenameContainerOptions;

use super::Docker;
use super::call::{Fault, QUICK, WORK};
use super::container::end_at;
use super::instances::expected_name;
use super::labels::{self, Labels};
use crate::engine::EngineError;
use crate::tree::Egress;

/// How often it is tried: the hand that changed one thing may be changing the next.
const ATTEMPTS: u32 = 4;

impl Docker {
    pub(super) async fn repair_instance(&self, id: &str) -> Result<bool, EngineError> {
        for _ in 0..ATTEMPTS {
            let Some((found, labels)) = self.inspect_ours(id).await? else { return Ok(true) };
            let is_paused = found.state.as_ref().is_some_and(|state| state.paused == Some(true));
            if !is_paused && is_connected(&found, &labels) && self.altered(&found, &labels).is_none() {
                return Ok(true);
            }
            self.wake(&found).await?;
            self.reconnect(&found, &labels).await?;
            self.disconnect(&found, &labels).await?;
            self.give_name(&found, &labels).await?;
            self.give_limits(&found, &labels).await?;
        }
        Ok(false)
    }

    /// A container of ours and its labels; `None` where it is gone, or is none.
    async fn inspect_ours(&self, id: &str) -> Result<Option<(ContainerInspectResponse, Labels)>, EngineError> {
        let Some(found) = self.inspect_container(id).await? else { return Ok(None) };
        if !self.is_ours(&found) {
            return Ok(None);
        }
        let labels = found.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default();
        Ok(labels::read(&labels).ok().map(|labels| (found, labels)))
    }

    async fn wake(&self, found: &ContainerInspectResponse) -> Result<(), EngineError> {
        if found.state.as_ref().is_none_or(|state| state.paused != Some(true)) {
            return Ok(());
        }
        let id = found.id.as_deref().unwrap_or_default();
        let wake = |client: bollard::Docker| async move { client.unpause_container(id).await };
        unless_refused(self.call("unpause a container", QUICK, wake).await)
    }

    /// Puts it back on its network, at its address.
    async fn reconnect(&self, found: &ContainerInspectResponse, labels: &Labels) -> Result<(), EngineError> {
        let Some(network) = &labels.network else { return Ok(()) };
        if is_connected(found, labels) {
            return Ok(());
        }
        // It may be gone as a whole, and come back with other addresses.
        self.forget_networks().await;
        let mut address = labels.address;
        for egress in [Egress::Internet, Egress::None] {
            if self.name_network(egress).name == *network {
                let network = self.network(egress).await?;
                let is_within = |address| network.subnet.is_some_and(|subnet| subnet.contains(address));
                if !address.is_some_and(is_within) {
                    address = self.free_address(&network).await?;
                }
            }
        }
        let network = network.as_str();
        let request = NetworkConnectRequest {
            container: found.id.clone().unwrap_or_default(),
            endpoint_config: address.map(end_at),
        };
        let connect = |client: bollard::Docker| async move { client.connect_network(network, request).await };
        unless_refused(self.call("connect a container to its network", WORK, connect).await)
    }

    /// Takes it off the networks of others, where no rule of ours holds it.
    async fn disconnect(&self, found: &ContainerInspectResponse, labels: &Labels) -> Result<(), EngineError> {
        for network in foreign_networks(found, labels) {
            let container = found.id.clone().unwrap_or_default();
            let request = NetworkDisconnectRequest { container, force: Some(true) };
            let disconnect = |client: bollard::Docker| async move { client.disconnect_network(network, request).await };
            unless_refused(self.call("disconnect a container from a network", WORK, disconnect).await)?;
        }
        Ok(())
    }

    async fn give_name(&self, found: &ContainerInspectResponse, labels: &Labels) -> Result<(), EngineError> {
        let name = self.container_name(&expected_name(labels));
        if found.name.as_deref().unwrap_or_default().trim_start_matches('/') == name {
            return Ok(());
        }
        let id = found.id.as_deref().unwrap_or_default();
        self.make_way(id, &name).await?;
        unless_refused(self.rename(id, name).await)
    }

    /// Takes a name from another instance of ours that should have one of its own, as where two have been given each other's.
    async fn make_way(&self, id: &str, name: &str) -> Result<(), EngineError> {
        let Some((holder, labels)) = self.inspect_ours(name).await? else { return Ok(()) };
        let holder = holder.id.as_deref().unwrap_or_default();
        if holder == id || self.container_name(&expected_name(&labels)) == name {
            return Ok(());
        }
        let aside = format!("{name}-{}", holder.get(..8).unwrap_or(holder));
        unless_refused(self.rename(holder, aside).await)
    }

    async fn rename(&self, id: &str, name: String) -> Result<(), Fault> {
        let options = RenameContainerOptions { name };
        let rename = |client: bollard::Docker| async move { client.rename_container(id, options).await };
        self.call("rename a container", QUICK, rename).await
    }

    async fn give_limits(&self, found: &ContainerInspectResponse, labels: &Labels) -> Result<(), EngineError> {
        let Some(given) = labels.limits.filter(|_| self.altered(found, labels).is_some()) else { return Ok(()) };
        let id = found.id.as_deref().unwrap_or_default();
        let known = found.host_config.as_ref();
        // A limit that this host does not know is left out: asked for it, the engine would refuse all of them.
        let keep = |now: Option<i64>, given: i64| now.filter(|now| *now != 0).map(|_| given);
        let body = ContainerUpdateBody {
            memory: keep(known.and_then(|host| host.memory), given.memory),
            memory_swap: keep(known.and_then(|host| host.memory_swap), given.memory),
            cpu_quota: keep(known.and_then(|host| host.cpu_quota), given.cpu_quota),
            cpu_period: keep(known.and_then(|host| host.cpu_period), given.cpu_period),
            pids_limit: keep(known.and_then(|host| host.pids_limit), given.pids),
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            ..ContainerUpdateBody::default()
        };
        let update = |client: bollard::Docker| async move { client.update_container(id, body).await };
        unless_refused(self.call("give a container its limits", QUICK, update).await)
    }
}

fn is_connected(found: &ContainerInspectResponse, labels: &Labels) -> bool {
    let Some(network) = &labels.network else { return true };
    let ends = found.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let end = ends.and_then(|ends| ends.get(network));
    end.and_then(|end| end.ip_address.as_deref()).is_some_and(|address| !address.is_empty())
}

/// The networks that it is on, besides its own.
pub(super) fn foreign_networks<'a>(found: &'a ContainerInspectResponse, labels: &'a Labels) -> Vec<&'a str> {
    let Some(own) = &labels.network else { return Vec::new() };
    let ends = found.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let names = ends.into_iter().flat_map(|ends| ends.keys());
    names.filter(|name| *name != own).map(String::as_str).collect()
}

/// A refusal is no error here: what is not right in the end has to be replaced.
fn unless_refused<T>(outcome: Result<T, Fault>) -> Result<(), EngineError> {
    match outcome {
        Err(fault) if fault.status().is_none() => Err(fault.into()),
        _ => Ok(()),
    }
}
