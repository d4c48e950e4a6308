//! What a daemon does for sources: it follows them while it reconciles, takes their webhooks, and tells how they are; and what
//! became of their commits.

use std::path::Path;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::previewing;
use super::pushed::take_pushes;
use crate::admin::Surface;
use crate::metrics::Metrics;
use crate::pull::pulls::Leads;
use crate::pull::{Pulls, SourceStatus};
use crate::records::Records;
use crate::settings::Settings;
use crate::tell::Teller;

/// Has a surface take pushes, or sources followed, and others told of it, as the settings say.
pub(super) async fn bring_in(
    context: &Context,
    surface: &Arc<Surface>,
    records: &Arc<dyn Records>,
    metrics: &Arc<Metrics>,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) {
    take_pushes(context, surface, tasks, stop).await;
    previewing::keep(context, surface, records, tasks, stop);
    let settings = Arc::new(context.settings.clone());
    if !settings.pull.is_empty() {
        let pulls = Pulls::new(Arc::clone(&settings));
        surface.set_to_pull(Arc::clone(&pulls));
        for source in pulls.sources() {
            let leads = Arc::clone(surface);
            let leads = Arc::new(move || leads.leads());
            let (also, others) = (Arc::clone(source), Arc::clone(&leads) as Leads);
            tasks.spawn(Arc::clone(&pulls).follow_offers(also, Arc::clone(records), others, stop.clone()));
            tasks.spawn(Arc::clone(&pulls).follow(Arc::clone(source), Arc::clone(records), leads, stop.clone()));
        }
    }
    let (surface, records, metrics) = (Arc::clone(surface), Arc::clone(records), Arc::clone(metrics));
    if let Some(teller) = Teller::new(settings, surface, records, metrics, context.installation.owner()) {
        let stop = stop.clone();
        tasks.spawn(async move {
            // Whatever is wrong with it, callers are served.
            if let Err(panic) = tokio::spawn(teller.run(stop.clone())).await {
                tracing::error!("nobody is told anything any more, which is a fault of skep's own: {panic}");
            }
            stop.cancelled().await;
        });
    }
}

/// How the sources are, as whoever follows them on this host remembers it.
pub(super) fn statuses(settings: &Settings) -> Vec<SourceStatus> {
    let state: &Path = &settings.state;
    settings.pull.iter().map(|source| SourceStatus::remembered(state, source)).collect()
}
