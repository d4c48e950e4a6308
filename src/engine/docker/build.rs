//! Building puts an API's files on top of a dependency image: one layer, in the fastest way that the engine offers.

use std::collections::BTreeSet;
use std::time::Duration;

use bollard::query_parameters::BuildImageOptions;
use bytes::Bytes;
use futures_util::StreamExt;

use super::Docker;
use super::archive::Archive;
use super::call::Fault;
use super::labels;
use super::workshop::{Purpose, Workshop, clean_config};
use crate::engine::{Build, EngineError, Progress};
use crate::lend::lend;

/// Where the files stand in the archive, and in the image. The Dockerfile stands beside them, so that no file of an API
/// can be taken for it.
const FOLDER: &str = "app";

/// A build that takes longer than this lets others begin.
const SLOW: Duration = Duration::from_secs(20);

/// What came of asking the builder.
enum Built {
    Yes,
    /// The engine has none.
    WithoutBuilder,
}

impl Docker {
    pub(super) async fn build_code(&self, job: &Build, progress: &Progress) -> Result<(), EngineError> {
        if self.inspect_image(&job.tag.0).await?.is_some() {
            return Ok(());
        }
        let Some(below) = self.inspect_image(&job.dependencies.0).await? else {
            return Err(EngineError::Refused {
                action: "build the image",
                cause: format!("the dependency image {} is not there", job.dependencies),
            });
        };
        let lock = self.lock_of(&job.tag);
        let _making = lock.lock().await;
        let limit = self.shared.build.timeout.0;
        // By id: a name that is not there would be asked for at a public registry.
        let id = below.id.as_deref().unwrap_or_default();
        let build = async {
            if self.load_code(job, &below).await? {
                progress.line(&format!("{} files put on top of {}", job.files.len(), job.dependencies));
                return Ok(Built::Yes);
            }
            self.build_by_recipe(job, id, progress).await
        };
        let build = lend(&self.shared.builds, SLOW, build);
        let Ok(built) = tokio::time::timeout(limit, build).await else {
            return Err(EngineError::Timeout(limit, "build an image"));
        };
        match built? {
            Built::Yes => Ok(()),
            Built::WithoutBuilder => self.build_by_commit(job, id).await,
        }
    }

    /// One layer by the engine's classic builder, for an engine that does not load it.
    async fn build_by_recipe(&self, job: &Build, below: &str, progress: &Progress) -> Result<Built, EngineError> {
        let recipe = format!("FROM {below}\nCOPY {FOLDER}/ /app/\n");
        let context = pack(Archive::new().file("Dockerfile", 0o444, recipe.as_bytes())?, &job.files)?;
        let options = BuildImageOptions {
            dockerfile: "Dockerfile".to_owned(),
            t: Some(job.tag.to_string()),
            rm: true,
            forcerm: true,
            // No labels: they would cost a step of their own, and the dependency image's are inherited.
            // Nothing runs in this build; were something to run, it would reach nobody.
            networkmode: Some("none".to_owned()),
            ..BuildImageOptions::default()
        };
        let client = self.client()?;
        let mut messages = client.build_image(options, None, Some(bollard::body_full(context)));
        let mut output = Vec::new();
        while let Some(message) = messages.next().await {
            match message {
                Ok(message) => {
                    for line in message.stream.iter().flat_map(|text| text.lines()).filter(|line| !line.is_empty()) {
                        progress.line(line);
                        output.push(line.to_owned());
                    }
                }
                Err(error) => {
                    let fault = Fault::from_engine("build the image", self.address(), error);
                    if fault.status().is_none() {
                        return Err(fault.into());
                    }
                    if matches!(fault.status(), Some(404 | 405 | 501)) || fault.says(&["buildkit", "legacy builder"]) {
                        return Ok(Built::WithoutBuilder);
                    }
                    return Err(EngineError::Failed { message: EngineError::from(fault).to_string(), output });
                }
            }
        }
        Ok(Built::Yes)
    }

    /// The same by hand, for an engine whose classic builder is gone: some 300 ms slower.
    async fn build_by_commit(&self, job: &Build, below: &str) -> Result<(), EngineError> {
        let workshop = Workshop::open(self, Purpose::Api, below, None, pack(Archive::new(), &job.files)?).await?;
        let config = clean_config(labels::of_role(self.owner(), "code"), Vec::new());
        let committed = workshop.commit(&job.tag, config).await;
        workshop.close().await;
        committed
    }
}

/// Adds the files, which belong to root and which nobody may write.
pub(super) fn pack(archive: Archive, files: &[(String, Bytes)]) -> Result<Bytes, EngineError> {
    let mut archive = archive.folder(FOLDER, 0o755, 0)?;
    for folder in folders(files) {
        archive = archive.folder(&format!("{FOLDER}/{folder}"), 0o755, 0)?;
    }
    for (path, bytes) in files {
        archive = archive.file(&format!("{FOLDER}/{path}"), 0o444, bytes)?;
    }
    archive.finish()
}

/// Every folder that a file stands in, the outer before the inner.
fn folders(files: &[(String, Bytes)]) -> BTreeSet<&str> {
    files.iter().flat_map(|(path, _)| path.match_indices('/').map(|(end, _)| &path[..end])).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_same_files_make_the_same_bytes_and_nobody_may_write_them() {
        let long = format!("deep/{}/file.py", "x".repeat(150));
        let files = [("a/b/c.py".to_owned(), Bytes::from_static(b"c")), (long.clone(), Bytes::from_static(b"d"))];
        let context = pack(Archive::new(), &files).unwrap();
        assert_eq!(context, pack(Archive::new(), &files).unwrap());
        let mut archive = tar::Archive::new(context.as_ref());
        let mut paths = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            assert_eq!((header.mtime().unwrap(), header.uid().unwrap()), (0, 0));
            assert_eq!(header.mode().unwrap() & 0o022, 0);
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            paths.push((entry.path().unwrap().display().to_string(), text));
        }
        assert!(paths.contains(&("app/a/b/c.py".to_owned(), "c".to_owned())), "{paths:?}");
        assert!(paths.contains(&(format!("app/{long}"), "d".to_owned())), "{paths:?}");
        let place = |wanted: &str| paths.iter().position(|(path, _)| path.trim_end_matches('/') == wanted).unwrap();
        assert!(place("app/a") < place("app/a/b") && place("app/a/b") < place("app/a/b/c.py"));
    }
}
