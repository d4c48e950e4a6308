//! Tidying keeps what skep leaves on an engine small: build containers, images that lost their name, and, where
//! the disk is full, the installer's cache.

use std::path::PathBuf;

use bollard::query_parameters::{ListImagesOptions, RemoveImageOptions, RemoveVolumeOptions};

use super::Docker;
use super::call::{QUICK, WORK};
use super::labels;
use crate::engine::EngineError;
use crate::world::instance::ContainerId;

impl Docker {
    /// Removes these build containers, what ended boots have left, and images of ours without a name that nothing stands on.
    pub(super) async fn tidy_up(&self, leftovers: &[ContainerId]) -> Result<(), EngineError> {
        for container in leftovers {
            self.discard(container).await;
        }
        if let Err(error) = self.sweep_boots().await {
            tracing::warn!("what an ended boot has left stays for now: {error}");
        }
        let mut filters = labels::filter(&[(labels::OWNER, self.owner())]);
        filters.insert("dangling".to_owned(), vec!["true".to_owned()]);
        let options = ListImagesOptions { filters: Some(filters), ..ListImagesOptions::default() };
        let list = |client: bollard::Docker| async move { client.list_images(Some(options)).await };
        for image in self.call("list images", QUICK, list).await? {
            let id = image.id.as_str();
            let remove = |client: bollard::Docker| async move {
                client.remove_image(id, None::<RemoveImageOptions>, None).await
            };
            // One that something stands on stays, as it should.
            let _ = self.call("remove an image", WORK, remove).await;
        }
        Ok(())
    }

    /// Throws away the installer's cache, which is only ever a saving of time. While an install uses it, it stays.
    pub(super) async fn drop_cache(&self) -> Result<(), EngineError> {
        let volume = self.cache_volume();
        let volume = volume.as_str();
        let remove =
            |client: bollard::Docker| async move { client.remove_volume(volume, None::<RemoveVolumeOptions>).await };
        let _ = self.call("remove a volume", WORK, remove).await;
        Ok(())
    }

    /// Where the engine keeps its images and its containers' logs; `None` where that is not on this host.
    pub(super) async fn folder(&self) -> Result<Option<PathBuf>, EngineError> {
        let folder = match self.shared.folder.get() {
            Some(folder) => folder.clone(),
            None => {
                let info = |client: bollard::Docker| async move { client.info().await };
                let info = self.call("describe itself", QUICK, info).await?;
                let Some(folder) = info.docker_root_dir else { return Ok(None) };
                self.shared.folder.get_or_init(|| folder).clone()
            }
        };
        // A folder of that name may be there and be none of the engine's, which has containers' own folder in it.
        Ok(Some(PathBuf::from(folder)).filter(|folder| folder.join("containers").is_dir()))
    }

    /// How many bytes are free there.
    pub(super) async fn free_bytes(&self) -> Result<Option<u64>, EngineError> {
        let found = self.folder().await?.and_then(|folder| rustix::fs::statvfs(&folder).ok());
        Ok(found.map(|found| found.f_bavail * found.f_frsize))
    }
}
