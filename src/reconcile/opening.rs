//! Opening a target's secrets, at the moment in which an instance of it starts. They are kept no longer than that takes.

use std::path::PathBuf;
use std::sync::Arc;

use super::desired::Target;
use super::turn::World;
use crate::engine::EngineError;
use crate::secrets::{Opened, SecretsError};
use crate::tree::{ApiId, sealed};

impl World {
    /// What the target's app is given; `None` where it has no secrets.
    ///
    /// # Errors
    /// [`EngineError::Hindered`], since a key that is not there may come without the folder changing.
    pub(super) async fn open_secrets(&self, id: &ApiId, target: &Target) -> Result<Option<Arc<Opened>>, EngineError> {
        let Some(sealed) = target.secrets.clone() else { return Ok(None) };
        let api = id.clone();
        let hindered = |why: String| {
            let message = format!("apis/{id}/{} of revision {}: {why}", sealed::FILE, target.revision);
            EngineError::Hindered { message, output: Vec::new() }
        };
        let opened = match self.keyring.clone() {
            None => Err(SecretsError::NoKey(PathBuf::from("this host"))),
            // Reads a file, and works for a fraction of a millisecond.
            Some(keyring) => tokio::task::spawn_blocking(move || keyring.open(&api, &sealed))
                .await
                .unwrap_or(Err(SecretsError::Damaged)),
        };
        let opened = opened.map_err(|error| hindered(error.to_string()))?;
        if let Some(name) = opened.shared_with(&target.spec.env) {
            return Err(hindered(format!("{name} is a variable of api.yaml too; give one of them another name")));
        }
        Ok(Some(Arc::new(opened)))
    }
}
