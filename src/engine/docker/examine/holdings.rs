//! Holdings are what installations of skep have on an engine, by their labels and names; and of ours, what nobody needs.

use std::collections::HashMap;

use bollard::models::ContainerSummaryStateEnum as State;
use bollard::query_parameters::{
    ListContainersOptions, ListImagesOptions, ListNetworksOptions, ListVolumesOptions, RemoveImageOptions,
};
use jiff::{SignedDuration, Timestamp};

use super::super::call::{QUICK, WORK};
use super::super::{Docker, labels};
use crate::engine::EngineError;

/// All that carries an owner label, or a name that only we give, whoever the owner is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Running or not.
    pub containers: Vec<HeldContainer>,
    /// With a tag or without.
    pub images: Vec<HeldImage>,
    /// Owner and name.
    pub networks: Vec<(String, String)>,
    /// Owner and name.
    pub volumes: Vec<(String, String)>,
}

/// A container of some installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldContainer {
    /// Its owner label.
    pub owner: String,
    /// Its name.
    pub name: String,
    /// The API that it is an instance of; `None` where images are made in it.
    pub api: Option<String>,
    /// It runs.
    pub is_running: bool,
    /// It ended, or was never started and is older than any build may take.
    pub is_over: bool,
}

/// An image of some installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldImage {
    /// Its owner label.
    pub owner: String,
    /// Its id.
    pub id: String,
    /// Its tags; none where they went to other images.
    pub tags: Vec<String>,
    /// In bytes, with the layers that it shares.
    pub size: u64,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Build containers.
    pub containers: usize,
    /// Images.
    pub images: usize,
    /// What could not be removed, and why.
    pub kept: Vec<String>,
}

impl Docker {
    /// What marks what this handle makes.
    #[must_use]
    pub fn mark(&self) -> &str {
        self.owner()
    }

    /// Everything that skep, of whichever installation, has on this engine.
    ///
    /// # Errors
    /// Where the engine does not list it.
    pub async fn examine_holdings(&self) -> Result<Holdings, EngineError> {
        let now = Timestamp::now();
        let owned = labels::filter(&[(labels::OWNER, "")]);
        let options =
            ListContainersOptions { all: true, filters: Some(owned.clone()), ..ListContainersOptions::default() };
        let list = |client: bollard::Docker| async move { client.list_containers(Some(options)).await };
        let containers = self.call("list containers", QUICK, list).await?;
        let options = ListImagesOptions { filters: Some(owned.clone()), ..ListImagesOptions::default() };
        let list = |client: bollard::Docker| async move { client.list_images(Some(options)).await };
        let images = self.call("list images", QUICK, list).await?;
        let options = ListNetworksOptions { filters: Some(owned) };
        let list = |client: bollard::Docker| async move { client.list_networks(Some(options)).await };
        let networks = self.call("list networks", QUICK, list).await?;
        let list = |client: bollard::Docker| async move { client.list_volumes(None::<ListVolumesOptions>).await };
        let volumes = self.call("list volumes", QUICK, list).await?.volumes.unwrap_or_default();

        let limit = SignedDuration::try_from(self.shared.build.timeout.0).unwrap_or(SignedDuration::MAX);
        let container = |found: bollard::models::ContainerSummary| {
            let labels = found.labels.unwrap_or_default();
            let name = found.names.unwrap_or_default().into_iter().next().unwrap_or_default();
            let made = found.created.and_then(|seconds| Timestamp::from_second(seconds).ok());
            let is_old = made.is_some_and(|made| now.duration_since(made) > limit);
            Some(HeldContainer {
                owner: owner_of(&labels)?,
                name: name.trim_start_matches('/').to_owned(),
                api: labels.get(labels::API).cloned(),
                is_running: matches!(found.state, Some(State::RUNNING | State::PAUSED | State::RESTARTING)),
                is_over: match found.state {
                    Some(State::EXITED | State::DEAD) => true,
                    Some(State::CREATED) => is_old,
                    _ => false,
                },
            })
        };
        let image = |found: bollard::models::ImageSummary| {
            let is_tag = |tag: &String| !tag.contains("<none>");
            Some(HeldImage {
                owner: owner_of(&found.labels)?,
                id: found.id,
                tags: found.repo_tags.into_iter().filter(is_tag).collect(),
                size: u64::try_from(found.size).unwrap_or_default(),
            })
        };
        Ok(Holdings {
            containers: containers.into_iter().filter_map(container).collect(),
            images: images.into_iter().filter_map(image).collect(),
            networks: networks
                .into_iter()
                .filter_map(|network| Some((owner_of(&network.labels.unwrap_or_default())?, network.name?)))
                .collect(),
            // The engine makes them when they are first mounted, and so without a label.
            volumes: volumes
                .into_iter()
                .filter_map(|volume| {
                    let owner = volume.name.strip_prefix("skep-")?.strip_suffix("-uv-cache")?;
                    Some((owner.to_owned(), volume.name.clone()))
                })
                .collect(),
        })
    }

    /// Removes, of what this installation has and nobody needs, what can be removed without thinking twice: build
    /// containers that are over, and images whose tags went to others.
    ///
    /// While another process of this installation is at work, an image may be about to get its tag: `is_quiet` says
    /// that there is none.
    ///
    /// # Errors
    /// Where the engine does not list it.
    pub async fn remove_leftovers(&self, is_quiet: bool) -> Result<Removed, EngineError> {
        let holdings = self.examine_holdings().await?;
        let mut removed = Removed::default();
        for container in holdings.containers.iter().filter(|found| found.owner == self.owner()) {
            if !container.is_spent_workshop() {
                continue;
            }
            match self.force_remove(&container.name).await {
                Ok(()) => removed.containers += 1,
                Err(error) => removed.kept.push(format!("{}: {error}", container.name)),
            }
        }
        for image in holdings.images.iter().filter(|found| found.owner == self.owner() && found.tags.is_empty()) {
            if !is_quiet {
                removed.kept.push(format!("{}: somebody is at work, and may be about to name it", image.short_id()));
                continue;
            }
            let id = image.id.as_str();
            let remove = |client: bollard::Docker| async move {
                client.remove_image(id, None::<RemoveImageOptions>, None).await
            };
            match self.call("remove an image", WORK, remove).await {
                Ok(_) => removed.images += 1,
                Err(fault) if fault.is_missing() => {}
                Err(fault) => removed.kept.push(format!("{}: {}", image.short_id(), EngineError::from(fault))),
            }
        }
        Ok(removed)
    }
}

impl Holdings {
    /// Leaves out what one installation has.
    pub fn forget(&mut self, owner: &str) {
        self.containers.retain(|found| found.owner != owner);
        self.images.retain(|found| found.owner != owner);
        self.networks.retain(|(of, _)| of != owner);
        self.volumes.retain(|(of, _)| of != owner);
    }
}

impl HeldContainer {
    /// Whether images were made in it, and will be no more.
    #[must_use]
    pub fn is_spent_workshop(&self) -> bool {
        self.api.is_none() && self.is_over
    }
}

impl HeldImage {
    /// As people see it in the engine's lists.
    #[must_use]
    pub fn short_id(&self) -> &str {
        let id = self.id.strip_prefix("sha256:").unwrap_or(&self.id);
        id.get(..12).unwrap_or(id)
    }
}

/// The installation; what several share has a label without a value.
fn owner_of(labels: &HashMap<String, String>) -> Option<String> {
    labels.get(labels::OWNER).filter(|owner| !owner.is_empty()).cloned()
}
