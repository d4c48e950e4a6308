//! Images of ours are known by their tags; a tag is made last, so an image that has one is whole.

use std::collections::{BTreeSet, HashMap};

use bollard::models::ImageInspect;
use bollard::query_parameters::{ListImagesOptions, RemoveImageOptions};

use super::Docker;
use super::call::{QUICK, WORK};
use crate::engine::{EngineError, ImageTag};

impl Docker {
    /// Removes one of our tags, and the image with its last tag. One that is gone already is a success.
    ///
    /// # Errors
    /// Where the tag is not of this installation, or the engine refuses, as it does while a container uses the image.
    pub(super) async fn remove_tag(&self, tag: &ImageTag) -> Result<(), EngineError> {
        if !tag.0.starts_with(&self.image_prefix()) {
            return Err(EngineError::Unsupported(format!("the image {tag} is not of this installation")));
        }
        let name = tag.0.as_ref();
        let remove =
            |client: bollard::Docker| async move { client.remove_image(name, None::<RemoveImageOptions>, None).await };
        match self.call("remove an image", WORK, remove).await {
            Ok(_) => Ok(()),
            Err(fault) if fault.is_missing() => Ok(()),
            Err(fault) => Err(fault.into()),
        }
    }

    pub(super) async fn list_images(&self) -> Result<BTreeSet<ImageTag>, EngineError> {
        let prefix = self.image_prefix();
        let filters = HashMap::from([("reference".to_owned(), vec![format!("{prefix}*")])]);
        let options = ListImagesOptions { filters: Some(filters), ..ListImagesOptions::default() };
        let list = |client: bollard::Docker| async move { client.list_images(Some(options)).await };
        let images = self.call("list images", QUICK, list).await?;
        let tags = images.into_iter().flat_map(|image| image.repo_tags);
        Ok(tags.filter(|tag| tag.starts_with(&prefix)).map(|tag| ImageTag(tag.into())).collect())
    }

    /// What the engine knows of an image, or `None` where it is not there.
    pub(super) async fn inspect_image(&self, name: &str) -> Result<Option<ImageInspect>, EngineError> {
        let inspect = |client: bollard::Docker| async move { client.inspect_image(name).await };
        match self.call("look at an image", QUICK, inspect).await {
            Ok(image) => Ok(Some(image)),
            Err(fault) if fault.is_missing() => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    fn image_prefix(&self) -> String {
        format!("skep/{}/", self.owner())
    }
}
