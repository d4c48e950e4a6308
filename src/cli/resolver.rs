//! The resolver is uv as it is found on this host, for plans that have no engine to ask.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, IsTerminal as _};
use std::process::Stdio;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::process::Command;
use tokio::time::{Instant, timeout_at};

use crate::engine::docker::installer::{explain, without_login};
use crate::engine::docker::resolve::platform;
use crate::git::scratch::Scratch;
use crate::settings::BuildSettings;
use crate::tree::{Requirements, Versions};

/// How long all of it may take.
const WITHIN: Duration = Duration::from_secs(60);

/// How many are at it at once.
const AT_ONCE: usize = 2;

/// Where it is not installed.
const NO_UV: &str = "only a resolver knows what they come to, and there is no uv in the PATH; install it (pip install uv), or have \
                     them pinned with `skep lock`";

/// What is to be resolved, and for which Python from which index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Question {
    requirements: Requirements,
    /// As in `3.11`; `None` where the name of the base image does not say it.
    python: Option<String>,
    index: Option<String>,
}

/// The answers by their questions: the versions, or why there are none.
pub(super) type Answers = BTreeMap<Question, Result<Versions, String>>;

impl Question {
    /// What an installation with these settings would ask. `index` is what the environment says, which comes first as it does
    /// there.
    pub(super) fn new(requirements: &Requirements, settings: &BuildSettings, index: Option<&String>) -> Self {
        Self {
            requirements: requirements.clone(),
            python: python_of(&settings.base_image),
            index: index.or(settings.index_url.as_ref()).cloned(),
        }
    }

    async fn ask(&self) -> Result<Versions, String> {
        let Some(python) = &self.python else {
            return Err(
                "which Python they are for is not known without the base image; `skep plan --remote` asks where it is"
                    .to_owned(),
            );
        };
        let scratch = Scratch::new(&std::env::temp_dir(), "skep-resolve-").map_err(|error| error.to_string())?;
        let lines: String =
            self.requirements.0.iter().map(|requirement| format!("{}\n", requirement.asked())).collect();
        std::fs::write(scratch.path().join("requirements.txt"), lines).map_err(|error| error.to_string())?;
        let mut command = Command::new("uv");
        command.args(["pip", "compile", "--quiet", "--no-config", "--no-header", "--no-annotate", "--no-build"]);
        command.args(["--python-version", python, "--python-platform", platform(), "requirements.txt"]);
        command.current_dir(scratch.path()).stdin(Stdio::null()).kill_on_drop(true).env("NO_COLOR", "1");
        if std::env::var_os("UV_PYTHON_DOWNLOADS").is_none() {
            command.env("UV_PYTHON_DOWNLOADS", "never");
        }
        command.envs(self.index.iter().map(|index| ("UV_DEFAULT_INDEX", index)));
        let done = command.output().await.map_err(|error| match error.kind() {
            ErrorKind::NotFound => NO_UV.to_owned(),
            _ => format!("cannot start uv: {error}"),
        })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if done.status.success() {
            return Ok(Versions::of_pins(text(&done.stdout).lines()));
        }
        let said: Vec<String> =
            text(&done.stderr).lines().map(|line| without_login(line, self.index.as_deref())).collect();
        Err(explain(&said, done.status.code().unwrap_or(1).into(), &self.requirements))
    }
}

/// Asks each question once.
pub(super) async fn ask(questions: BTreeSet<Question>) -> Answers {
    if !questions.is_empty() && std::io::stderr().is_terminal() {
        anstream::eprintln!("Asking the package index what requirements come to …");
    }
    let until = Instant::now() + WITHIN;
    let one = |question: Question| async move {
        let answer = timeout_at(until, question.ask()).await;
        let late = |_| Err(format!("uv did not say within {} s what they come to", WITHIN.as_secs()));
        (question, answer.unwrap_or_else(late))
    };
    stream::iter(questions).map(one).buffer_unordered(AT_ONCE).collect().await
}

/// The Python of an official image, or of one that stands in for it, by its name: `3.11` of `python:3.11-slim`.
fn python_of(image: &str) -> Option<String> {
    let (name, tag) = image.split('@').next()?.rsplit_once(':')?;
    if name.rsplit('/').next()? != "python" {
        return None;
    }
    let mut numbers = tag.split(['-', '.']);
    let (major, minor) = (numbers.next()?, numbers.next()?);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(major) && is_number(minor)).then(|| format!("{major}.{minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_official_image_says_its_python() {
        for (image, python) in [
            ("python:3.11-slim", Some("3.11")),
            ("docker.example:5000/library/python:3.12.4-slim-bookworm@sha256:00", Some("3.12")),
            ("python:3", None),
            ("python:slim", None),
            ("python", None),
            ("registry.example:5000/python", None),
            ("ours/base:3.11", None),
        ] {
            assert_eq!(python_of(image).as_deref(), python, "{image}");
        }
    }
}
