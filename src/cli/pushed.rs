//! What a daemon does for pushes: it takes them, and sees to it that what was taken lies in the tree.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use crate::admin::Surface;

/// Has a surface take pushes. Where git is not there callers are served all the same.
pub(super) async fn take_pushes(
    context: &Context,
    surface: &Arc<Surface>,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) {
    if context.settings.push.is_none() {
        return;
    }
    if let Err(error) = context.take_pushes(surface).await {
        tracing::error!("no push is taken: {error:#}");
        return;
    }
    let (settings, surface, stop) = (context.settings.clone(), Arc::clone(surface), stop.clone());
    tasks.spawn(async move {
        loop {
            // One that stands by has a tree of its own, which nobody pushes to.
            if surface.leads()
                && let Err(error) = Context::place_pushed(&settings).await
            {
                tracing::warn!("what was pushed last is not in the tree: {error:#}; the next push tries again");
            }
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(settings.look_every.0) => {} }
        }
    });
}
