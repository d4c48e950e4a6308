//! Installing puts requirements on top of the runtime image. The result is shared by all APIs that ask for the same.

use std::time::{Duration, Instant};

use super::Docker;
use super::archive::Archive;
use super::hardening::USER;
use super::installer::{explain, is_out_of_reach, without_login};
use super::workshop::{Purpose, SHELL, Workshop, clean_config};
use super::{labels, runtime};
use crate::engine::{EngineError, Install, Progress};
use crate::lend::lend;

/// An install that takes longer than this lets others begin.
const SLOW: Duration = Duration::from_secs(60);

/// Where the requirements are put. They stay in the image, for whoever looks into it later.
const REQUIREMENTS: &str = "opt/skep/requirements.txt";

/// Compiles what was installed, since nothing can be written later. Left out are the packages' own tests, which are half
/// of some and which no app imports.
///
/// By the interpreter beside the installer: the environment's own runs whatever `.pth` files a package brings, and may be
/// one that a package brought. A package must not run anything where the shared cache can be written. The hash is never
/// checked, since no source ever changes. A file that does not compile is no trouble before somebody imports it.
const COMPILE: &str = "/opt/skep/tools/bin/python -I -m compileall -q -j 0 -x '/tests/' \
                       --invalidation-mode unchecked-hash /opt/venv/lib || true";

impl Docker {
    pub(super) async fn install_requirements(&self, job: &Install, progress: &Progress) -> Result<(), EngineError> {
        if self.inspect_image(&job.tag.0).await?.is_some() {
            return Ok(());
        }
        let lock = self.lock_of(&job.tag);
        let _making = lock.lock().await;
        if self.inspect_image(&job.tag.0).await?.is_some() {
            return Ok(());
        }
        let runtime = self.runtime(progress).await?;
        let text: String = job.requirements.0.iter().map(|requirement| format!("{}\n", requirement.0)).collect();
        let files = Archive::new().file(REQUIREMENTS, 0o444, text.as_bytes())?.finish()?;
        let work = async {
            let workshop = Workshop::open(self, Purpose::Api, &runtime.tag.0, Some(runtime::CACHE), files).await?;
            let installed = self.install_in(&workshop, job, progress).await;
            workshop.close().await;
            installed
        };
        // Boxed, so that whoever waits for it stays small.
        lend(&self.shared.installs, SLOW, Box::pin(work)).await
    }

    async fn install_in(&self, workshop: &Workshop, job: &Install, progress: &Progress) -> Result<(), EngineError> {
        let begun = Instant::now();
        let requirements = format!("/{REQUIREMENTS}");
        let mut command = vec![
            runtime::UV,
            "pip",
            "install",
            "--no-config",
            // No code of a package runs: neither its build, nor, since the interpreter is looked at before anything
            // is installed, what it would run at the interpreter's start.
            "--no-build",
            "--python",
            runtime::PYTHON,
            "--requirements",
            &requirements,
        ];
        if job.requirements.is_locked() {
            // Said aloud, so that a package which the lock does not name is refused, and not taken without a hash.
            command.push("--require-hashes");
        }
        let outcome =
            workshop.run(USER, self.installer_environment(), &command, &self.without_secrets(progress)).await?;
        if outcome.code != 0 {
            let output: Vec<_> = outcome.output.iter().map(|line| self.without_secret(line)).collect();
            let message = explain(&output, outcome.code, &job.requirements);
            let is_hindered = is_out_of_reach(&output);
            return Err(if is_hindered {
                EngineError::Hindered { message, output }
            } else {
                EngineError::Failed { message, output }
            });
        }
        workshop.run(USER, vec!["HOME=/tmp".to_owned()], &[SHELL, "-c", COMPILE], progress).await?;
        // The engine adds the variables of the container, which come from the runtime image and hold no secret.
        workshop.commit(&job.tag, clean_config(labels::of_role(self.owner(), "dependencies"), Vec::new())).await?;
        progress.line(&format!("installed in {:.1} s", begun.elapsed().as_secs_f64()));
        Ok(())
    }

    pub(super) fn installer_environment(&self) -> Vec<String> {
        let mut environment = vec![
            "HOME=/tmp".to_owned(),
            format!("UV_CACHE_DIR={}", runtime::CACHE),
            // The cache is another file system, and later not there.
            "UV_LINK_MODE=copy".to_owned(),
            "UV_NO_PROGRESS=1".to_owned(),
            "UV_PYTHON_DOWNLOADS=never".to_owned(),
            "NO_COLOR=1".to_owned(),
        ];
        environment.extend(self.shared.build.index_url.iter().map(|url| format!("UV_DEFAULT_INDEX={url}")));
        environment
    }

    /// Hands lines on with the index's password taken out.
    pub(super) fn without_secrets(&self, progress: &Progress) -> Progress {
        let (docker, progress) = (self.clone(), progress.clone());
        Progress::new(move |line| progress.line(&docker.without_secret(line)))
    }

    pub(super) fn without_secret(&self, line: &str) -> String {
        without_login(line, self.shared.build.index_url.as_deref())
    }
}
