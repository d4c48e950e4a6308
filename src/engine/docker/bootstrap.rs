//! Bootstrapping makes a base image of Debian's packages, for hosts that no image registry serves.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bollard::models::ImageInspect;
use bollard::query_parameters::{CreateImageOptions, RemoveImageOptions, TagImageOptions};
use futures_util::StreamExt;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio_util::io::ReaderStream;

use super::Docker;
use super::call::{Fault, WORK};
use super::text::clean;
use crate::engine::{EngineError, ImageTag, Progress};

/// What the image holds besides Debian's smallest set: what `python:3.x-slim` holds.
const PACKAGES: &str = "python3,python3-venv,ca-certificates,netbase,tzdata";

/// Nobody reads these in a container.
const LEFT_OUT: [&str; 3] = ["/usr/share/man/*", "/usr/share/doc/*/*", "/usr/share/locale/*/*"];

/// A Debian release, and the Python that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Distribution {
    suite: &'static str,
    python: &'static str,
}

const DISTRIBUTIONS: [Distribution; 2] =
    [Distribution { suite: "bookworm", python: "3.11" }, Distribution { suite: "trixie", python: "3.13" }];

impl Distribution {
    /// The one that can stand in for an official Python image, `python:3.11-slim` or the like; other images cannot be
    /// made here.
    pub(super) fn like(image: &str) -> Option<Self> {
        let version = image.strip_prefix("python:")?;
        DISTRIBUTIONS.into_iter().find(|known| {
            let rest = version.strip_prefix(known.python);
            rest.is_some_and(|rest| rest == "-slim" || rest == format!("-slim-{}", known.suite))
        })
    }

    /// The tag of the image, shared by all installations of a host.
    pub(super) fn tag(self) -> String {
        format!("skep/base:python{}-{}", self.python, self.suite)
    }
}

/// What to do where this process lacks rights: the image stays on the engine, whoever makes it.
const HELD_BACK: &str =
    "; this process lacks the rights to: run `skep plan` once in a shell of root, which makes the image for all";

impl Docker {
    /// Makes the image, or waits for another skep that is just making it.
    pub(super) async fn bootstrap(
        &self,
        distribution: &Distribution,
        progress: &Progress,
    ) -> Result<(ImageInspect, String), EngineError> {
        let name = distribution.tag();
        let _lock = lock_host(self.shared.build.timeout.0).await;
        // Whoever held the lock before may have made it.
        if let Some(image) = self.inspect_image(&name).await? {
            return Ok((image, name));
        }
        let id = self.import(*distribution, progress).await?;
        let tag = ImageTag(name.as_str().into());
        let (repository, version) = tag.split();
        let options = TagImageOptions { repo: Some(repository.to_owned()), tag: Some(version.to_owned()) };
        let image = id.as_str();
        self.call("tag the base image", WORK, |client| async move { client.tag_image(image, Some(options)).await })
            .await?;
        match self.inspect_image(&name).await? {
            Some(image) => Ok((image, name)),
            None => Err(EngineError::Failed {
                message: format!("the image {name} was made and is gone; make it again"),
                output: Vec::new(),
            }),
        }
    }

    /// Streams a new root file system into the engine, and gives the image's id. Nothing lies on the disk in between.
    async fn import(&self, distribution: Distribution, progress: &Progress) -> Result<String, EngineError> {
        let limit = self.shared.build.timeout.0;
        let mut child = spawn(distribution)?;
        let Some((output, errors)) = child.stdout.take().zip(child.stderr.take()) else {
            return Err(failed("mmdebstrap has no output", Vec::new()));
        };
        let client = self.client()?;
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            changes: vec![
                "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
                "ENV LANG=C.UTF-8".to_owned(),
                "CMD [\"python3\"]".to_owned(),
                "LABEL dev.skep.role=base".to_owned(),
            ],
            ..CreateImageOptions::default()
        };
        let root = bollard::body_try_stream(ReaderStream::with_capacity(output, 256 << 10));
        let mut messages = client.create_image(Some(options), Some(root), None);
        let importing = async {
            let mut id = None;
            while let Some(message) = messages.next().await {
                let message =
                    message.map_err(|error| Fault::from_engine("import the base image", self.address(), error))?;
                id = message.status.filter(|status| status.starts_with("sha256:")).or(id);
            }
            Ok::<_, Fault>(id)
        };
        let reading = async {
            let (mut lines, mut kept) = (BufReader::new(errors).split(b'\n'), Vec::new());
            while let Ok(Some(line)) = lines.next_segment().await {
                let line = clean(&line);
                progress.line(&line);
                kept.push(line);
            }
            kept.split_off(kept.len().saturating_sub(40))
        };
        let together = async { tokio::join!(importing, reading, child.wait()) };
        let Ok((imported, said, ended)) = tokio::time::timeout(limit, together).await else {
            return Err(failed(&format!("making the base image took longer than {limit:?}"), Vec::new()));
        };
        // A program that failed half way may have left the engine with half an image.
        let is_whole = ended.is_ok_and(|status| status.success());
        match (imported, is_whole) {
            (Ok(Some(id)), true) => Ok(id),
            (Ok(half), false) => {
                if let Some(half) = half {
                    let _ = client.remove_image(&half, None::<RemoveImageOptions>, None).await;
                }
                let cause = said.iter().rev().find(|line| line.starts_with("E:")).map_or("see its output", |line| line);
                // As within a hardened service, or a container.
                let is_held_back = said.iter().any(|line| line.contains("Operation not permitted"));
                let hint = if is_held_back { HELD_BACK } else { "" };
                Err(failed(&format!("mmdebstrap could not make a base image: {cause}{hint}"), said))
            }
            (Ok(None), true) => Err(failed("the engine imported the base image and named no id", said)),
            (Err(fault), _) => Err(fault.into()),
        }
    }
}

fn spawn(distribution: Distribution) -> Result<tokio::process::Child, EngineError> {
    let mut command = Command::new("mmdebstrap");
    command.args(["--variant=minbase", "--format=tar"]).arg(format!("--include={PACKAGES}"));
    command.args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
    command.args([distribution.suite, "-"]);
    // A host of the same release has sources that work for it, a mirror of the house perhaps.
    command.args(host_sources(distribution.suite));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => failed(
            "no image registry answers, and there is no mmdebstrap to make a base image with; install it with \
             `apt-get install mmdebstrap debian-archive-keyring`, or load python:3.11-slim with `docker load`",
            Vec::new(),
        ),
        _ => failed(&format!("cannot run mmdebstrap: {error}"), Vec::new()),
    })
}

/// The host's own list of sources, where the host runs that release.
fn host_sources(suite: &str) -> Option<&'static str> {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let is_same = release.lines().any(|line| line.trim() == format!("VERSION_CODENAME={suite}"));
    let lists = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
    is_same.then(|| lists.into_iter().find(|list| Path::new(list).exists()))?
}

/// One skep of a host at a time. Where the lock cannot be had, the work is done without: two images are made, and one
/// of them is used.
async fn lock_host(patience: Duration) -> Option<File> {
    let path = std::env::temp_dir().join("skep-base.lock");
    let file = File::options().create(true).append(true).open(path).ok()?;
    let deadline = tokio::time::Instant::now() + patience;
    while file.try_lock().is_err() {
        if tokio::time::Instant::now() > deadline {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Some(file)
}

fn failed(message: &str, output: Vec<String>) -> EngineError {
    EngineError::Failed { message: message.to_owned(), output }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_image_that_is_equal_is_made() {
        let suite = |image| Distribution::like(image).map(|found| found.suite);
        assert_eq!(suite("python:3.11-slim"), Some("bookworm"));
        assert_eq!(suite("python:3.11-slim-bookworm"), Some("bookworm"));
        assert_eq!(suite("python:3.13-slim-trixie"), Some("trixie"));
        for other in [
            "python:3.11",
            "python:3.1-slim",
            "python:3.12-slim",
            "python:3.11-alpine",
            "registry.example/python:3.11-slim",
            "python",
        ] {
            assert_eq!(suite(other), None, "{other}");
        }
    }
}
