//! A visit is a look at the package index from where installs look: from within a throw-away container of ours.

use std::time::Duration;

use serde::Deserialize;

use super::super::Docker;
use super::super::archive::Archive;
use super::super::hardening::USER;
use super::super::runtime::CERTIFICATES;
use super::super::workshop::{Purpose, Workshop};
use super::BaseFacts;
use crate::engine::{EngineError, Progress};

/// What asks, inside.
const PROBE: &str = include_str!("probe.py");
/// Where it stands there.
const PLACE: &str = "opt/skep/probe.py";

/// From the first call to the engine to the last: making and removing a container included.
const LIMIT: Duration = Duration::from_secs(75);

/// How far somebody came who asked the package index from within a container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Visit {
    /// The version of Python in there.
    pub python: Option<String>,
    /// The index, without its login.
    pub index: Option<String>,
    /// What was connected to: the index, or the proxy before it.
    pub host: Option<String>,
    /// The port there.
    pub port: Option<u16>,
    /// The proxy that the base image's own environment names.
    pub proxy: Option<String>,
    /// The stage that was reached; with [`Visit::error`], the one that failed.
    pub stage: Stage,
    /// Why it went no further.
    pub error: Option<String>,
    /// The certificate that was not trusted, as PEM.
    pub certificate: Option<String>,
    /// The index's answer.
    pub status: Option<u16>,
    /// The index's clock, in seconds since 1970, and the container's when that came.
    pub date: Option<f64>,
    /// See [`Visit::date`].
    pub received: Option<f64>,
    /// What the installer found there of what every API needs.
    pub found: Vec<String>,
    /// For all of it.
    pub millis: u64,
}

/// How far it came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Finding out which index the installer asks.
    #[default]
    Find,
    /// Its name into addresses.
    Resolve,
    /// A connection.
    Connect,
    /// Its certificate.
    Tls,
    /// A request, and its answer.
    Ask,
    /// The installer itself.
    Install,
    /// All is well.
    Done,
}

impl Docker {
    /// Asks the package index from within a hardened container, with the certificates that builds get.
    ///
    /// # Errors
    /// Where no such container can be had, or nothing in it can ask.
    pub async fn visit_index(&self, base: &BaseFacts) -> Result<Visit, EngineError> {
        match tokio::time::timeout(LIMIT, self.visit(base)).await {
            Ok(visited) => visited,
            Err(_) => Err(EngineError::Timeout(LIMIT, "ask the package index from a container")),
        }
    }

    async fn visit(&self, base: &BaseFacts) -> Result<Visit, EngineError> {
        let Some(image) = &base.visited else {
            return Err(EngineError::Unsupported("there is no image to make a container of".to_owned()));
        };
        let mut files = Archive::new().file(PLACE, 0o444, PROBE.as_bytes())?;
        let mut environment: Vec<String> =
            ["HOME=/tmp", "NO_COLOR=1", "UV_HTTP_RETRIES=1", "UV_HTTP_TIMEOUT=10"].map(str::to_owned).into();
        // The runtime image has them already; the base image is given them as when the runtime image is made of it.
        if !base.is_prepared
            && let Some(found) = self.certificates()?
        {
            files = files.file(CERTIFICATES.trim_start_matches('/'), 0o444, &found.bytes)?;
            let name = if found.is_extra { "EXTRA_CERT_FILE" } else { "SSL_CERT_FILE" };
            environment.push(format!("{name}={CERTIFICATES}"));
        }
        environment.extend(self.shared.build.index_url.iter().map(|url| format!("UV_DEFAULT_INDEX={url}")));
        let workshop = Workshop::open(self, Purpose::Other, image, None, files.finish()?).await?;
        let command = ["python3", "-I", "/opt/skep/probe.py"];
        let ran = workshop.run(USER, environment, &command, &Progress::silent()).await;
        workshop.close().await;
        let outcome = ran?;
        let last = outcome.output.last().map(|line| self.without_secret(line)).unwrap_or_default();
        serde_json::from_str(&last).map_err(|_| EngineError::Failed {
            message: format!("python3 in the base image ended with code {} and said: {last}", outcome.code),
            output: outcome.output,
        })
    }
}
