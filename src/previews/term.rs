//! A host remembers its last term: after one of another host, what it still has of pull requests may be over long since.

use std::io;
use std::path::PathBuf;

use super::sweep::{Ended, end_all};
use super::{PreviewError, Previews};
use crate::settings::Settings;

/// What is told of those that end for it.
const WHY: &str = "another host has reconciled meanwhile; the next push or webhook brings it back";

/// Whether another host has reconciled since this one did, whose last term before now had that number.
#[must_use]
pub fn is_behind(settings: &Settings, before: u64) -> bool {
    let last = std::fs::read_to_string(path(settings)).ok().and_then(|text| text.trim().parse::<u64>().ok());
    // A file of records is of this host alone.
    settings.records.url.is_some() && last.unwrap_or(0) != before
}

/// Ends all previews, which another host knows nothing of.
///
/// # Errors
/// Where they cannot be read or moved.
pub async fn give_up(settings: &Settings) -> Result<Vec<Ended>, PreviewError> {
    end_all(&Previews::of(settings), WHY).await
}

/// Remembers that this host goes by its previews, in a term with that number.
///
/// # Errors
/// Where the file cannot be written.
pub fn sign(settings: &Settings, epoch: u64) -> io::Result<()> {
    if settings.records.url.is_none() {
        return Ok(());
    }
    std::fs::write(path(settings), epoch.to_string())
}

fn path(settings: &Settings) -> PathBuf {
    settings.state.join("previews.term")
}
