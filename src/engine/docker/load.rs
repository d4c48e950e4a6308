//! Loading puts an API's files on top of a dependency image without a builder: the engine is handed a description of
//! the image, and the one layer that it lacks.
//!
//! For a build the engine starts its own large program three times: to unpack what it is sent, to copy that, and to take
//! in the layer. Each costs 30 ms and more. For a load it does so twice, and mounts nothing: 105 ms in place of 165 (the
//! medians of 12 of each in turn, Docker 20.10 on two cores, one small file).

use bollard::models::ImageInspect;
use bollard::query_parameters::ImportImageOptions;
use bytes::Bytes;
use futures_util::StreamExt;
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::Docker;
use super::archive::Archive;
use super::build;
use super::call::{Fault, WORK};
use crate::engine::{Build, EngineError, ImageTag};
use crate::tree::Digest;

/// The storage driver that is known to take an image whose lower layers are there and are not sent again. The image
/// store of containerd, whose driver for the same file system has another name, wants all of them.
const DRIVER: &str = "overlay2";

/// The most bytes of files that are loaded: they are copied once more in memory than for a build.
const MOST: usize = 16 << 20;

impl Docker {
    /// Loads the image with its files on top of `below`; `false` where this engine does not take it, or not so.
    ///
    /// # Errors
    /// Where the engine does not answer.
    pub(super) async fn load_code(&self, job: &Build, below: &ImageInspect) -> Result<bool, EngineError> {
        let tag = &job.tag;
        let driver = below.graph_driver.as_ref().map(|driver| driver.name.as_str());
        let lower = below.root_fs.as_ref().and_then(|root| root.layers.clone()).unwrap_or_default();
        let bytes: usize = job.files.iter().map(|(_, bytes)| bytes.len()).sum();
        if driver != Some(DRIVER) || lower.is_empty() || bytes > MOST {
            return Ok(false);
        }
        let layer = build::pack(Archive::new(), &job.files)?;
        let mut layers = lower;
        layers.push(format!("sha256:{}", Digest::of(&layer)));
        let archive = pack(tag, below, &layers, &layer)?;
        let options = ImportImageOptions { quiet: true, platform: None };
        let client = self.client()?;
        let mut messages = client.import_image(options, bollard::body_full(archive), None);
        let deadline = Instant::now() + WORK;
        loop {
            let Ok(message) = tokio::time::timeout_at(deadline, messages.next()).await else {
                return Err(EngineError::Timeout(WORK, "load the image"));
            };
            let Some(message) = message else { break };
            if let Err(error) = message {
                let fault = Fault::from_engine("load the image", self.address(), error);
                if fault.status().is_none() {
                    return Err(fault.into());
                }
                tracing::debug!(%tag, cause = %EngineError::from(fault), "the engine does not load it, so it builds it");
                return Ok(false);
            }
        }
        // Its word alone is not enough: an engine may have kept something else under that name.
        let made = self.inspect_image(&tag.0).await?.and_then(|image| image.root_fs?.layers);
        Ok(made.as_ref() == Some(&layers))
    }
}

/// What `docker save` would write (Docker Image Specification v1.2), without the layers that the engine has.
fn pack(tag: &ImageTag, below: &ImageInspect, layers: &[String], layer: &Bytes) -> Result<Bytes, EngineError> {
    const LAYER: &str = "layer.tar";
    let image = json!({
        "architecture": below.architecture,
        "os": below.os,
        "created": Timestamp::now(),
        "config": below.config,
        "rootfs": { "type": "layers", "diff_ids": layers },
    });
    let image = image.to_string();
    let name = format!("{}.json", Digest::of(image.as_bytes()));
    // The engine looks up a layer by its digest first, and for its file only where it lacks it.
    let files: Vec<&str> = layers.iter().rev().skip(1).rev().map(String::as_str).chain([LAYER]).collect();
    let manifest = json!([{ "Config": name, "RepoTags": [tag], "Layers": files }]).to_string();
    Archive::new()
        .file(&name, 0o444, image.as_bytes())?
        .file("manifest.json", 0o444, manifest.as_bytes())?
        .file(LAYER, 0o444, layer)?
        .finish()
}
