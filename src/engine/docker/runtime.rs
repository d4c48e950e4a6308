//! The runtime image is the base image made ready: a user without a shell, an empty virtual environment, the
//! installer, and the CA certificates that this host trusts. Everything that skep runs stands on it.

use std::path::{Path, PathBuf};

use bollard::models::ImageInspect;

use super::Docker;
use super::archive::Archive;
use super::hardening::{UID, USER};
use super::labels;
use super::workshop::{Purpose, Workshop, clean_config};
use crate::engine::{Base, EngineError, ImageTag, Progress};
use crate::settings::CaBundle;
use crate::tree::Digest;

/// Where an API's files are.
pub(super) const APP: &str = "/app";
/// The interpreter of the environment that requirements are installed into.
pub(super) const PYTHON: &str = "/opt/venv/bin/python";
/// The installer.
pub(super) const UV: &str = "/opt/skep/tools/bin/uv";
/// Where the installer's cache is mounted.
pub(super) const CACHE: &str = "/opt/skep/cache";

/// Certificates that were handed in.
pub(super) const CERTIFICATES: &str = "/opt/skep/ca.pem";

/// The version of what follows. It is part of every revision, so raising it makes every API anew: do so where what is
/// in the image changes for apps, and not for a comment.
const RECIPE: u32 = 1;

/// The installer's version, pinned so that all hosts resolve alike.
const UV_VERSION: &str = "0.9.30";

/// Run as root without capabilities. The distribution's `pip` fetches the installer; nothing else is installed.
const ROOT_SCRIPT: &str = r#"set -eu
if ! command -v python3 >/dev/null; then echo "the base image has no python3"; exit 1; fi
if [ -f /opt/skep/extra.pem ]; then cat /etc/ssl/certs/ca-certificates.crt /opt/skep/extra.pem > /opt/skep/ca.pem; fi
grep -q ':10001:' /etc/group || echo 'app:x:10001:' >> /etc/group
grep -q ':x:10001:' /etc/passwd || echo 'app:x:10001:10001:app:/tmp:/usr/sbin/nologin' >> /etc/passwd
python3 -m venv /opt/skep/tools
/opt/skep/tools/bin/python -m pip install --no-cache-dir --only-binary :all: --disable-pip-version-check \
    --no-input --progress-bar off "uv==$UV_VERSION"
/opt/skep/tools/bin/uv --version
"#;

/// Run as the app's user, who owns the folder.
const USER_SCRIPT: &str = "exec python3 -m venv --without-pip /opt/venv";

/// The runtime image, and what it was made of.
#[derive(Debug, Clone)]
pub(super) struct Runtime {
    pub(super) base: Base,
    pub(super) tag: ImageTag,
}

/// Certificates that go into the image.
pub(super) struct Certificates {
    pub(super) bytes: Vec<u8>,
    /// They come on top of the image's own; else they replace them.
    pub(super) is_extra: bool,
}

/// What is in the runtime image that `base` and these certificates make, and what that image is called.
pub(super) fn identify(base: &ImageInspect, certificates: Option<&Certificates>) -> (Digest, ImageTag) {
    let certificates = certificates.map(|found| (found.is_extra, Digest::of(&found.bytes)));
    let digest = Digest::of_value(&(content(base), RECIPE, certificates));
    (digest, ImageTag(format!("skep/runtime:{}", digest.short()).into()))
}

impl Docker {
    /// The runtime image, made where it is missing.
    ///
    /// One or two looks at the engine where all is there.
    pub(super) async fn runtime(&self, progress: &Progress) -> Result<Runtime, EngineError> {
        let mut known = self.shared.runtime.lock().await;
        if let Some(runtime) = &*known
            && self.inspect_image(&runtime.tag.0).await?.is_some()
        {
            return Ok(runtime.clone());
        }
        let (image, name) = self.base_image(progress).await?;
        let certificates = self.certificates()?;
        let (digest, tag) = identify(&image, certificates.as_ref());
        if self.inspect_image(&tag.0).await?.is_none() {
            progress.line(&format!("preparing {name} for apps"));
            self.make_runtime(&image, &tag, certificates, progress).await?;
        }
        let runtime = Runtime { base: Base { digest, name }, tag };
        *known = Some(runtime.clone());
        Ok(runtime)
    }

    async fn make_runtime(
        &self,
        image: &ImageInspect,
        tag: &ImageTag,
        certificates: Option<Certificates>,
        progress: &Progress,
    ) -> Result<(), EngineError> {
        let mut files = Archive::new()
            .folder("app", 0o755, 0)?
            .folder("opt/skep", 0o755, 0)?
            .folder("opt/skep/cache", 0o755, UID)?
            .folder("opt/venv", 0o755, UID)?;
        let has_certificates = certificates.is_some();
        if let Some(found) = certificates {
            let path = if found.is_extra { "opt/skep/extra.pem" } else { "opt/skep/ca.pem" };
            files = files.file(path, 0o444, &found.bytes)?;
        }
        let id = image.id.clone().unwrap_or_default();
        let workshop = Workshop::open(self, Purpose::Other, &id, None, files.finish()?).await?;
        let made = self.furnish(&workshop, image, tag, has_certificates, progress).await;
        workshop.close().await;
        made
    }

    async fn furnish(
        &self,
        workshop: &Workshop,
        image: &ImageInspect,
        tag: &ImageTag,
        has_certificates: bool,
        progress: &Progress,
    ) -> Result<(), EngineError> {
        let mut environment = vec![
            "HOME=/tmp".to_owned(),
            "PIP_CONFIG_FILE=/dev/null".to_owned(),
            "PIP_ROOT_USER_ACTION=ignore".to_owned(),
            format!("UV_VERSION={UV_VERSION}"),
        ];
        if has_certificates {
            environment.extend([format!("PIP_CERT={CERTIFICATES}"), format!("SSL_CERT_FILE={CERTIFICATES}")]);
        }
        environment.extend(self.shared.build.index_url.iter().map(|url| format!("PIP_INDEX_URL={url}")));
        for (user, script) in [("0:0", ROOT_SCRIPT), (USER, USER_SCRIPT)] {
            let outcome =
                workshop.run(user, environment.clone(), &["sh", "-c", script], &self.without_secrets(progress)).await?;
            if outcome.code != 0 {
                let said = outcome.output.iter().rev().find(|line| !line.trim().is_empty());
                let said = said.map(|line| self.without_secret(line));
                return Err(EngineError::Failed {
                    message: format!(
                        "cannot prepare the base image: {}",
                        said.as_deref().unwrap_or("its python3 said nothing")
                    ),
                    output: outcome.output,
                });
            }
        }
        // The engine adds the base image's own variables to these.
        let config = image.config.as_ref();
        let path = config
            .and_then(|config| config.env.as_ref())
            .and_then(|env| env.iter().find_map(|variable| variable.strip_prefix("PATH=")))
            .unwrap_or("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let mut environment = vec![format!("PATH=/opt/venv/bin:{path}")];
        if has_certificates {
            environment.extend([format!("SSL_CERT_FILE={CERTIFICATES}"), format!("REQUESTS_CA_BUNDLE={CERTIFICATES}")]);
        }
        // Shared by all installations of this host, so it has no owner.
        let labels = [(labels::ROLE.to_owned(), "runtime".to_owned()), (labels::OWNER.to_owned(), String::new())];
        workshop.commit(tag, clean_config(labels.into(), environment)).await
    }

    /// The certificates that the settings ask for.
    pub(super) fn certificates(&self) -> Result<Option<Certificates>, EngineError> {
        const HOST: &str = "/etc/ssl/certs/ca-certificates.crt";
        let read = |path: &Path| {
            std::fs::read(path).map_err(|error| EngineError::Failed {
                message: format!("build.ca_bundle: cannot read {}: {error}", path.display()),
                output: Vec::new(),
            })
        };
        Ok(match &self.shared.build.ca_bundle {
            CaBundle::Image => None,
            CaBundle::File(path) => Some(Certificates { bytes: read(path)?, is_extra: true }),
            CaBundle::Auto => {
                let host = PathBuf::from(HOST);
                if host.exists() { Some(Certificates { bytes: read(&host)?, is_extra: false }) } else { None }
            }
        })
    }
}

/// The digest of what is in an image: its layers, and the variables that it sets. Unlike its id this says nothing of
/// when it was made, so that the same image made twice is the same.
fn content(image: &ImageInspect) -> Digest {
    let layers = image.root_fs.as_ref().and_then(|root| root.layers.as_ref());
    let environment = image.config.as_ref().and_then(|config| config.env.as_ref());
    match layers {
        Some(layers) => Digest::of_value(&(layers, environment)),
        None => Digest::of_value(&image.id),
    }
}
