//! Requirements are what an API needs installed: plain PEP 508 lines, nothing that runs or redirects an installer.

use serde::{Deserialize, Serialize};

/// One normalised requirement, as in `pandas>=2,<3 ; python_version >= "3.11"`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Requirement(pub String);

/// All requirements of one API, sorted, the base ones (FastAPI, uvicorn, python-multipart) included unless pinned by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Requirements(pub Vec<Requirement>);

impl Requirement {
    /// The name of the package, normalised.
    #[must_use]
    pub fn name(&self) -> &str {
        let end =
            self.0.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).unwrap_or(self.0.len());
        &self.0[..end]
    }
}
