//! Resolving finds the versions that requirements come to, and the hashes of their files: what a lock is made of. It is
//! done where builds are, on the same image, so that Python and platform are those that it will be installed on.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

use super::Docker;
use super::archive::Archive;
use super::hardening::USER;
use super::installer::{explain, is_out_of_reach};
use super::runtime;
use super::workshop::{Outcome, Purpose, SHELL, Workshop};
use crate::engine::{EngineError, ImageTag, Progress};
use crate::lend::lend;
use crate::tree::lock::Package;
use crate::tree::{Requirements, Versions};

/// Where the requirements are put, and what they come to.
const REQUIREMENTS: &str = "opt/skep/requirements.txt";
const PINS: &str = "/tmp/pins.txt";
const LOCK: &str = "/tmp/pylock.toml";

/// Lists the folders that say what is installed, with what the shell has built in.
const LIST: &str = "cd /opt/venv/lib/python3*/site-packages && set -- *.dist-info && printf '%s\\n' \"$@\"";

/// Another lets others begin after that long.
const SLOW: std::time::Duration = std::time::Duration::from_secs(60);

/// Says on which Python and processor this is. Isolated, so that nothing but the standard library is imported.
const ASK: &str = "import platform; print(*platform.python_version_tuple()[:2], platform.machine())";

/// Processors that hosts have. A lock made on one is for all of them, as far as the index has wheels for each.
const PROCESSORS: [(&str, &str); 2] = [("x86_64", "x86_64-manylinux_2_28"), ("aarch64", "aarch64-manylinux_2_28")];

/// What a resolver calls the platform of hosts with this one's processor.
#[must_use]
pub fn platform() -> &'static str {
    let own = PROCESSORS.iter().find(|(name, _)| *name == std::env::consts::ARCH);
    own.unwrap_or(&PROCESSORS[0]).1
}

/// Requirements to be resolved.
#[derive(Debug, Clone)]
pub struct Resolve {
    /// What is asked for.
    pub requirements: Requirements,
    /// What an earlier lock has: those versions stay, as far as they still do.
    pub earlier: Requirements,
}

/// What requirements come to.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Every package, in order of name.
    pub packages: Vec<Package>,
    /// Which Python and processors that holds for, as in `Python 3.11 on Linux, x86_64 and aarch64`.
    pub made_for: String,
}

/// The part of a `pylock.toml` (PEP 751) that says which file is taken.
#[derive(Deserialize)]
struct Pylock {
    #[serde(default)]
    packages: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    name: String,
    version: String,
    #[serde(default)]
    wheels: Vec<Wheel>,
}

#[derive(Deserialize)]
struct Wheel {
    hashes: Hashes,
}

#[derive(Deserialize)]
struct Hashes {
    sha256: String,
}

impl Docker {
    /// Finds the versions that requirements come to, and the hashes of their files.
    ///
    /// # Errors
    /// [`EngineError::Failed`] where there are no such versions, [`EngineError::Hindered`] where the index cannot be asked.
    pub async fn lock(&self, job: &Resolve, progress: &Progress) -> Result<Resolved, EngineError> {
        let runtime = self.runtime(progress).await?;
        let files = Archive::new().file(REQUIREMENTS, 0o444, lines(&job.requirements).as_bytes())?;
        let files = files.file("opt/skep/earlier.txt", 0o444, lines(&job.earlier).as_bytes())?.finish()?;
        let work = async {
            let workshop = Workshop::open(self, Purpose::Other, &runtime.tag.0, Some(runtime::CACHE), files).await?;
            let resolved = self.resolve_in(&workshop, job, progress).await;
            workshop.close().await;
            resolved
        };
        lend(&self.shared.installs, SLOW, Box::pin(work)).await
    }

    async fn resolve_in(
        &self,
        workshop: &Workshop,
        job: &Resolve,
        progress: &Progress,
    ) -> Result<Resolved, EngineError> {
        let home = || vec!["HOME=/tmp".to_owned()];
        let (asked, _) = self.lines_of(workshop, home(), &[runtime::PYTHON, "-I", "-c", ASK]).await?;
        let words: Vec<&str> = asked.first().map(|line| line.split(' ').collect()).unwrap_or_default();
        let [major, minor, processor] = words[..] else { return Err(unreadable("which Python there is")) };
        // The resolver keeps the versions of the file that it writes into.
        let copy = format!("cp /opt/skep/earlier.txt {PINS}");
        workshop.run(USER, home(), &["sh", "-c", &copy], progress).await?;
        let (requirements, pins) = (format!("/{REQUIREMENTS}"), format!("--output-file={PINS}"));
        let outcome = self.compile(workshop, &[&pins, &requirements], progress).await?;
        self.judge(outcome, &job.requirements)?;
        // One file of each package for each processor: the one that is installed there.
        let mut packages: Vec<Package> = Vec::new();
        let mut processors = Vec::new();
        let own = [(processor, None)];
        let others = PROCESSORS.iter().filter(|(name, _)| *name != processor).map(|(name, tag)| (*name, Some(*tag)));
        for (name, tag) in own.into_iter().chain(others) {
            let platform = tag.map(|tag| format!("--python-platform={tag}"));
            let (output, format) = (format!("--output-file={LOCK}"), "--format=pylock.toml");
            workshop.run(USER, home(), &["rm", "-f", LOCK], progress).await?;
            let mut options = vec!["--no-deps", output.as_str(), format, PINS];
            options.extend(platform.as_deref());
            let outcome = self.compile(workshop, &options, &Progress::silent()).await?;
            if tag.is_none() {
                self.judge(outcome, &job.requirements)?;
            } else if outcome.code != 0 {
                progress.line(&format!("not every package has a wheel for {name}; the lock is without it"));
                continue;
            }
            let (text, _) = self.lines_of(workshop, home(), &["cat", LOCK]).await?;
            let found: Pylock = toml::from_str(&text.join("\n")).map_err(|_| unreadable("what the resolver wrote"))?;
            for found in found.packages {
                let hashes = found.wheels.into_iter().map(|wheel| wheel.hashes.sha256);
                match packages.iter_mut().find(|package| package.name == found.name) {
                    Some(package) => package.hashes.extend(hashes),
                    None if tag.is_none() => packages.push(Package {
                        name: found.name,
                        version: found.version,
                        hashes: hashes.collect::<BTreeSet<_>>(),
                    }),
                    None => {}
                }
            }
            processors.push(name);
        }
        Ok(Resolved { packages, made_for: format!("Python {major}.{minor} on Linux, {}", processors.join(" and ")) })
    }

    /// The versions that requirements come to: what an install of them would take now.
    pub(super) async fn versions_of(&self, requirements: &Requirements) -> Result<Versions, EngineError> {
        let silent = Progress::silent();
        let runtime = self.runtime(&silent).await?;
        let files = Archive::new().file(REQUIREMENTS, 0o444, lines(requirements).as_bytes())?.finish()?;
        let workshop = Workshop::open(self, Purpose::Other, &runtime.tag.0, Some(runtime::CACHE), files).await?;
        let resolved = async {
            let (from, to) = (format!("/{REQUIREMENTS}"), format!("--output-file={PINS}"));
            let outcome = self.compile(&workshop, &[&to, &from], &silent).await?;
            self.judge(outcome, requirements)?;
            let (pins, _) = self.lines_of(&workshop, vec!["HOME=/tmp".to_owned()], &["cat", PINS]).await?;
            Ok(Versions::of_pins(pins.iter().map(String::as_str)))
        };
        let resolved = resolved.await;
        workshop.close().await;
        resolved
    }

    /// The versions that are installed in an image. Nothing in it is run but the tools of the base image: what was installed
    /// there is anybody's.
    pub(super) async fn versions_in(&self, image: &ImageTag) -> Result<Versions, EngineError> {
        let workshop = Workshop::open(self, Purpose::Other, &image.0, None, Archive::new().finish()?).await?;
        let found = self.lines_of(&workshop, Vec::new(), &[SHELL, "-c", LIST]).await;
        workshop.close().await;
        let (folders, _) = found?;
        Ok(Versions::of_installed(folders.iter().map(String::as_str)))
    }

    /// Runs the resolver.
    async fn compile(
        &self,
        workshop: &Workshop,
        options: &[&str],
        progress: &Progress,
    ) -> Result<Outcome, EngineError> {
        let mut command = vec![
            runtime::UV,
            "pip",
            "compile",
            "--quiet",
            "--no-config",
            // As builds: only what comes as a wheel, so that no code of a package runs.
            "--no-build",
            "--no-header",
            "--no-annotate",
            "--python",
            runtime::PYTHON,
        ];
        command.extend(options);
        workshop.run(USER, self.installer_environment(), &command, &self.without_secrets(progress)).await
    }

    fn judge(&self, outcome: Outcome, requirements: &Requirements) -> Result<(), EngineError> {
        if outcome.code == 0 {
            return Ok(());
        }
        let output: Vec<_> = outcome.output.iter().map(|line| self.without_secret(line)).collect();
        let message = explain(&output, outcome.code, requirements);
        Err(if is_out_of_reach(&output) {
            EngineError::Hindered { message, output }
        } else {
            EngineError::Failed { message, output }
        })
    }

    /// All lines that a command prints, where it ends well.
    async fn lines_of(
        &self,
        workshop: &Workshop,
        environment: Vec<String>,
        command: &[&str],
    ) -> Result<(Vec<String>, Outcome), EngineError> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let keep = Progress::new(move |line| {
            sink.lock().unwrap_or_else(PoisonError::into_inner).push(line.to_owned());
        });
        let outcome = workshop.run(USER, environment, command, &keep).await?;
        if outcome.code != 0 {
            return Err(unreadable(command.first().copied().unwrap_or_default()));
        }
        let lines = std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
        Ok((lines, outcome))
    }
}

/// Requirements as the resolver reads them.
fn lines(requirements: &Requirements) -> String {
    requirements.0.iter().map(|requirement| format!("{}\n", requirement.asked())).collect()
}

fn unreadable(what: &str) -> EngineError {
    EngineError::Failed { message: format!("cannot read {what} in the container that resolves"), output: Vec::new() }
}
