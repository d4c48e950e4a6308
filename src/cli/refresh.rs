//! Refreshing notices within a second what was written into the records: a key, an edited row, a confirmed removal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::admin::Surface;
use crate::callers::Callers;
use crate::records::Records;

/// How often keys are read where nobody says that they have changed: what changes past every trigger tells nobody.
const READ_EVERY: Duration = Duration::from_secs(60);

/// Keeps keys and APIs as the records have them, until `stop`. `seen` is the version that both were read at.
pub(super) async fn refresh(
    records: Arc<dyn Records>,
    mut seen: u64,
    callers: Arc<Callers>,
    surface: Arc<Surface>,
    stop: CancellationToken,
) {
    let mut read = Instant::now();
    loop {
        tokio::select! { () = stop.cancelled() => return, () = records.changed() => {}, () = callers.due() => {} }
        // Counts only what others wrote: this is the same handle as the reconciler's own.
        let Ok(version) = records.version().await else { continue };
        if version == seen && !callers.are_stale() && read.elapsed() < READ_EVERY {
            continue;
        }
        if let Err(error) = callers.load().await {
            tracing::warn!("{error}; the keys that are known stay in force until they can be read");
            continue;
        }
        read = Instant::now();
        if version == seen {
            continue;
        }
        // Remembered only now: what could not be read is read again, also when nobody writes any more.
        seen = version;
        if let Some(controller) = surface.controller()
            && let Err(error) = controller.look().await
        {
            tracing::debug!("{error}");
        }
    }
}
