//! The daemon's part of a mirror: again and again, while it reconciles.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::reconcile::World;
use crate::records::{Mirror, Records};
use crate::settings::RecordsSettings;

/// How often the table of the system before is brought up to date.
const EVERY: Duration = Duration::from_secs(2);

/// How often somebody is told that it cannot be.
const TOLD_EVERY: u32 = 150;

/// Keeps the table that the settings name, if they name one, until `stop`.
pub(super) async fn keep(
    records: Arc<dyn Records>,
    settings: RecordsSettings,
    world: Arc<World>,
    stop: CancellationToken,
) {
    let Some(table) = settings.mirror else { return stop.cancelled().await };
    let mirror = Mirror { table, url: settings.mirror_url };
    let mut failures = 0;
    while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
        if !world.role.leads() {
            continue;
        }
        match records.mirror(&mirror).await {
            Ok(_) => failures = 0,
            Err(error) => {
                if failures % TOLD_EVERY == 0 {
                    tracing::warn!("{error}; it is tried again");
                }
                failures += 1;
            }
        }
    }
}
