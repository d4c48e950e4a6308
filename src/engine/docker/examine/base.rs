//! The base image as it is, or as it would come about.

use std::time::Duration;

use jiff::Timestamp;

use super::super::Docker;
use super::super::bootstrap::Distribution;
use crate::engine::EngineError;
use crate::tree::Digest;

/// How long a registry may take to answer, as when the image is fetched.
const REGISTRY: Duration = Duration::from_secs(10);

/// The base image, there or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BaseFacts {
    /// The image that the settings name.
    pub wanted: String,
    /// The one that is there, which may be one that was made here instead.
    pub name: Option<String>,
    /// Its content; part of every revision.
    pub digest: Option<Digest>,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// The image to make a container of: the runtime image where it is there, else the base image.
    pub visited: Option<String>,
    /// The runtime image is there.
    pub is_prepared: bool,
    /// Where the image is not there: whether a registry has it, else why not.
    pub registry: Option<Result<(), String>>,
    /// An equal image can be made of Debian's packages.
    pub can_be_made: bool,
}

impl Docker {
    /// Looks for the base image, without fetching or making it.
    ///
    /// # Errors
    /// Where the engine does not answer, or the certificates that go into it cannot be read.
    pub async fn examine_base(&self) -> Result<BaseFacts, EngineError> {
        let wanted = self.shared.build.base_image.clone();
        let made = Distribution::like(&wanted).map(Distribution::tag);
        let mut facts = BaseFacts { wanted: wanted.clone(), can_be_made: made.is_some(), ..BaseFacts::default() };
        for name in [Some(wanted.clone()), made].into_iter().flatten() {
            let Some(image) = self.inspect_image(&name).await? else { continue };
            let certificates = self.certificates()?;
            let (digest, tag) = super::super::runtime::identify(&image, certificates.as_ref());
            facts.is_prepared = self.inspect_image(&tag.0).await?.is_some();
            facts.visited = if facts.is_prepared { Some(tag.to_string()) } else { image.id.clone() };
            facts.created = image.created.as_deref().and_then(|time| time.parse().ok());
            facts.digest = Some(digest);
            facts.name = Some(name);
            return Ok(facts);
        }
        let ask = |client: bollard::Docker| async move { client.inspect_registry_image(&wanted, None).await };
        let asked = self.call("ask a registry for the base image", REGISTRY, ask).await;
        facts.registry = Some(asked.map(drop).map_err(|fault| match EngineError::from(fault) {
            EngineError::Refused { cause, .. } => cause,
            other => other.to_string(),
        }));
        Ok(facts)
    }
}
