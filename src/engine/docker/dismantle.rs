//! Dismantling takes away all that one installation has on an engine and in the host's firewall.

use bollard::models::NetworkDisconnectRequest;
use bollard::query_parameters::{
    ListContainersOptions, ListImagesOptions, ListNetworksOptions, RemoveImageOptions, RemoveVolumeOptions,
};

use super::Docker;
use super::call::{QUICK, WORK};
use super::{host, labels};
use crate::engine::EngineError;

impl Docker {
    /// Removes every container, network, image and volume of this installation, and its firewall rules. What several
    /// installations of a host share stays: the base image and the runtime image.
    ///
    /// # Errors
    /// The first thing that could not be removed; the rest is tried all the same.
    pub async fn dismantle(&self) -> Result<(), EngineError> {
        let mut first = Ok(());
        let mut note = |outcome: Result<(), EngineError>| {
            if first.is_ok() {
                first = outcome;
            }
        };
        let owned = labels::filter(&[(labels::OWNER, self.owner())]);
        let options =
            ListContainersOptions { all: true, filters: Some(owned.clone()), ..ListContainersOptions::default() };
        let list = |client: bollard::Docker| async move { client.list_containers(Some(options)).await };
        for id in self.call("list containers", QUICK, list).await?.into_iter().filter_map(|container| container.id) {
            note(self.force_remove(&id).await);
        }
        for tag in self.list_images().await? {
            let name = tag.0.as_ref();
            let options = RemoveImageOptions { force: true, ..RemoveImageOptions::default() };
            let remove = |client: bollard::Docker| async move { client.remove_image(name, Some(options), None).await };
            note(gone(self.call("remove an image", WORK, remove).await.map(drop)));
        }
        // Those whose tag went to another image while something still stood on them.
        let options = ListImagesOptions { all: true, filters: Some(owned.clone()), ..ListImagesOptions::default() };
        let list = |client: bollard::Docker| async move { client.list_images(Some(options)).await };
        for image in self.call("list images", QUICK, list).await? {
            let id = image.id.as_str();
            let options = RemoveImageOptions { force: true, ..RemoveImageOptions::default() };
            let remove = |client: bollard::Docker| async move { client.remove_image(id, Some(options), None).await };
            note(gone(self.call("remove an image", WORK, remove).await.map(drop)));
        }
        let volume = self.cache_volume();
        let volume = volume.as_str();
        let remove =
            |client: bollard::Docker| async move { client.remove_volume(volume, None::<RemoveVolumeOptions>).await };
        note(gone(self.call("remove a volume", WORK, remove).await));
        self.drop_firewall().await;
        // Last: while one is there, what belongs to a boot is found by it.
        let options = ListNetworksOptions { filters: Some(owned) };
        let list = |client: bollard::Docker| async move { client.list_networks(Some(options)).await };
        for id in self.call("list networks", QUICK, list).await?.into_iter().filter_map(|network| network.id) {
            let id = id.as_str();
            self.part_from(id).await;
            let remove = |client: bollard::Docker| async move { client.remove_network(id).await };
            note(gone(self.call("remove a network", WORK, remove).await));
        }
        self.forget_networks().await;
        first
    }
}

impl Docker {
    /// Leaves a network that this process's own container has joined: one that somebody is on stays.
    async fn part_from(&self, network: &str) {
        let Some(container) = host::own_container() else { return };
        let request = NetworkDisconnectRequest { container, force: Some(true) };
        let part = |client: bollard::Docker| async move { client.disconnect_network(network, request).await };
        // Where it is on none, the engine says so.
        let _ = self.call("leave a network", WORK, part).await;
    }
}

fn gone(outcome: Result<(), super::call::Fault>) -> Result<(), EngineError> {
    match outcome {
        Err(fault) if fault.is_missing() => Ok(()),
        other => Ok(other?),
    }
}
