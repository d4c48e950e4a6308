//! The base image is what all stand on: there already, pulled, or made of the distribution's packages.

use std::time::Duration;

use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptions;
use futures_util::StreamExt;

use super::Docker;
use super::bootstrap::Distribution;
use super::call::Fault;
use crate::engine::{EngineError, Progress};

/// How long a registry may take to say its first word. Where there is none in reach, nobody should wait for it.
const FIRST_WORD: Duration = Duration::from_secs(10);

impl Docker {
    /// The base image, and its name.
    ///
    /// One that was made here goes before a pull, so that a host without a registry asks for one only once, and keeps
    /// its revisions when one comes in reach.
    pub(super) async fn base_image(&self, progress: &Progress) -> Result<(ImageInspect, String), EngineError> {
        let wanted = self.shared.build.base_image.as_str();
        if let Some(image) = self.inspect_image(wanted).await? {
            return Ok((image, wanted.to_owned()));
        }
        let distribution = Distribution::like(wanted);
        if let Some(distribution) = &distribution {
            let name = distribution.tag();
            if let Some(image) = self.inspect_image(&name).await? {
                return Ok((image, name));
            }
        }
        progress.line(&format!("fetching {wanted}"));
        let refusal = match self.pull(wanted, progress).await {
            Ok(()) => match self.inspect_image(wanted).await? {
                Some(image) => return Ok((image, wanted.to_owned())),
                None => "it was pulled and is not there".to_owned(),
            },
            Err(EngineError::Unreachable { address, cause }) => {
                return Err(EngineError::Unreachable { address, cause });
            }
            Err(error) => error.to_string(),
        };
        let Some(distribution) = distribution else {
            return Err(EngineError::Failed {
                message: format!(
                    "the base image {wanted} is not there and cannot be pulled: {refusal}; load it into the engine \
                     with `docker load`, or set build.base_image to python:3.11-slim, which can be made here"
                ),
                output: Vec::new(),
            });
        };
        progress.line(&format!("no registry answers ({refusal}); making an equal image of Debian packages instead"));
        self.bootstrap(&distribution, progress).await
    }

    async fn pull(&self, name: &str, progress: &Progress) -> Result<(), EngineError> {
        let action = "pull the base image";
        let limit = self.shared.build.timeout.0;
        let options = CreateImageOptions { from_image: Some(with_tag(name)), ..CreateImageOptions::default() };
        let client = self.client()?;
        let mut messages = client.create_image(Some(options), None, None);
        let pull = async {
            let mut is_first = true;
            loop {
                let wait = if is_first { FIRST_WORD.min(limit) } else { limit };
                let Ok(message) = tokio::time::timeout(wait, messages.next()).await else {
                    return Err(Fault::timeout(action, wait));
                };
                match message {
                    None => return Ok(()),
                    Some(Ok(message)) => {
                        // Progress bars are left out: their lines have an id and details.
                        if let (Some(status), None) = (message.status, message.progress_detail) {
                            progress.line(&status);
                        }
                        is_first = false;
                    }
                    Some(Err(error)) => return Err(Fault::from_engine(action, self.address(), error)),
                }
            }
        };
        match tokio::time::timeout(limit, pull).await {
            Ok(pulled) => Ok(pulled?),
            Err(_) => Err(EngineError::Timeout(limit, action)),
        }
    }
}

/// A name without a tag would pull all tags.
fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_without_a_tag_gets_one() {
        assert_eq!(with_tag("python"), "python:latest");
        assert_eq!(with_tag("python:3.11-slim"), "python:3.11-slim");
        assert_eq!(with_tag("localhost:5000/python"), "localhost:5000/python:latest");
        assert_eq!(with_tag("a/b@sha256:00"), "a/b@sha256:00");
    }
}
