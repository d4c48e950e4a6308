//! A build log is what an API's last install and builds printed; `skep logs --build` shows it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::turn::{Going, News, World};
use crate::engine::Progress;
use crate::tree::ApiId;

/// What becomes of the build log that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// An install begins anew.
    Nothing,
    /// A build adds to its install's log, unless many builds have made that long.
    Short,
}

/// The longest build log that is added to, in bytes.
const LONGEST_LOG: u64 = 256 * 1024;

fn open_log(folder: &Path, id: &ApiId, keep: Keep) -> std::io::Result<File> {
    // What an installer prints may name an index of one's own.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = folder.join(format!("{id}.log"));
    let is_short = std::fs::metadata(&path).is_ok_and(|log| log.len() < LONGEST_LOG);
    let append = keep == Keep::Short && is_short;
    OpenOptions::new().create(true).write(true).append(append).truncate(!append).mode(0o600).open(path)
}

impl World {
    /// Where the output of an install or a build goes: to whoever listens, and into the API's build log.
    pub(super) fn progress(&self, id: &ApiId, keep: Keep) -> Progress {
        let (api, news) = (id.clone(), self.news.clone());
        let log = self.build_logs.as_ref().and_then(|folder| {
            let open = open_log(folder, id, keep);
            open.inspect_err(|error| tracing::warn!(api = %id, "its build log is not kept: {error}")).ok()
        });
        let log = log.map(Mutex::new);
        Progress::new(move |line| {
            if let Some(log) = &log {
                // A full disk must not fail a build that can do without its log.
                let _ = writeln!(log.lock().unwrap_or_else(PoisonError::into_inner), "{line}");
            }
            let _ = news.send(News { api: api.clone(), what: Going::Output { line: line.to_owned() } });
        })
    }
}
