//! Keeping apps apart from what is none of theirs on the host, for as long as the daemon runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::engine::docker::{Docker, Ear};
use crate::reconcile::World;

/// How often a look is taken whether the firewall's rules are in force, where nobody tells of changes. Looking takes some 3 ms.
const FIREWALL_EVERY: Duration = Duration::from_secs(2);

/// … and where somebody does.
const FIREWALL_SELDOM: Duration = Duration::from_secs(30);

/// How long changes are waited for that come together with one, as a container that starts makes some; and the least time between
/// two looks, which grows with each that finds nothing.
const FIREWALL_MOMENT: Duration = Duration::from_millis(50);
const FIREWALL_BETWEEN: Duration = Duration::from_millis(500);

/// How often at most somebody is told that they were not.
const FIREWALL_TOLD: Duration = Duration::from_secs(60);

/// Keeps apps from what is none of theirs on the host: its networks, and the time of their neighbours.
pub(super) async fn keep_apart(engine: Docker, world: Arc<World>, stop: CancellationToken) {
    let leads = || world.role.leads();
    tokio::join!(
        engine.clone().keep_neighbours_calm(leads, stop.clone()),
        keep_firewall(engine, Arc::clone(&world), stop)
    );
}

/// Puts our firewall rules back where somebody flushed them.
async fn keep_firewall(engine: Docker, world: Arc<World>, stop: CancellationToken) {
    let mut told: Option<Instant> = None;
    let mut ear = engine.firewall_ear().await;
    let mut looked: Option<Instant> = None;
    let mut between = FIREWALL_BETWEEN;
    loop {
        let has_heard = tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(FIREWALL_EVERY) => false,
            heard = hears(ear.as_ref()) => match heard {
                Ok(()) => true,
                Err(error) => {
                    tracing::warn!(%error, "changes of the firewall are heard no more; it is looked every {FIREWALL_EVERY:?}");
                    ear = None;
                    true
                }
            },
        };
        if has_heard {
            let since = looked.map_or(between, |at| at.elapsed());
            let pause = FIREWALL_MOMENT.max(between.saturating_sub(since));
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(pause) => {} }
        } else if ear.is_some()
            && looked.is_some_and(|at| at.elapsed() < FIREWALL_SELDOM)
            && !engine.firewall_has_aged().await
        {
            continue;
        }
        let ensured = engine.ensure_firewall().await;
        // What did not come about is tried again soon.
        looked = ensured.is_ok().then(Instant::now);
        // Where something of the host's changes its own all the time, that is no reason to do nothing else.
        between = match ensured {
            Ok(false) if has_heard => (between * 2).min(FIREWALL_EVERY),
            _ => FIREWALL_BETWEEN,
        };
        match ensured {
            // Not each time, where something of the host's keeps putting its own first.
            Ok(true) if told.is_none_or(|told| told.elapsed() > FIREWALL_TOLD) => {
                told = Some(Instant::now());
                world.found("the firewall's rules were not as skep had put them; they are again").await;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!("{error}"),
        }
    }
}

/// Waits for a change; for ever where nobody tells of any.
async fn hears(ear: Option<&Ear>) -> std::io::Result<()> {
    match ear {
        Some(ear) => ear.hears().await,
        None => std::future::pending().await,
    }
}
