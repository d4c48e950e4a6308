//! The takeover from the system before, as the daemon sees it that takes over.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::deployments::seen;
use super::fault::Fault;
use crate::reconcile::stand_in::Let;
use crate::reconcile::{Controller, Desired};
use crate::report::adopt::{AdoptJson, FolderSeen, Seen, Takeover};
use crate::report::status::ApiStatus;
use crate::tree::ApiId;
use crate::world::{Observed, Predecessor, PredecessorState};

/// `GET /admin/adopt`.
pub(super) async fn list(controller: &Controller) -> Result<Value, Fault> {
    let predecessors = controller.world().engine.predecessors().await?;
    let apis = seen(controller).await?;
    let containers = predecessors.iter().map(|predecessor| takeover(controller, &apis, predecessor)).collect();
    serde_json::to_value(AdoptJson { version: 1, containers }).map_err(|error| Fault::Unavailable(error.to_string()))
}

/// `POST /admin/adopt/{id}/stop`.
pub(super) async fn stop(controller: &Arc<Controller>, id: &ApiId) -> Result<Value, Fault> {
    let world = controller.world();
    let predecessors = world.engine.predecessors().await?;
    let says = |predecessor: &&Predecessor| predecessor.label.as_deref() == Some(id.as_str());
    let Some(predecessor) = predecessors.iter().find(says) else {
        return Err(Fault::Missing(format!("the system before has no container of {id}")));
    };
    let name = &predecessor.name;
    let apis = seen(controller).await?;
    if let Some(why) = takeover(controller, &apis, predecessor).refusal {
        return Err(Fault::Conflict(format!("{name} goes on: {why}")));
    }
    if predecessor.state == PredecessorState::Stopped {
        return Ok(json!({ "success": true, "outcome": "not-running", "message": format!("{name} does not run") }));
    }
    let drain = apis.get(id).and_then(|(desired, _)| desired.target()).map(|target| target.spec.drain.0);
    match world.stop_predecessor(id, predecessor, drain.unwrap_or_default()).await? {
        Let::Stopped => Ok(json!({ "success": true, "outcome": "stopped", "message": format!("{name} is stopped") })),
        Let::GoesOn => Err(Fault::Conflict(format!("{name} goes on: {id} of ours has just ceased to serve"))),
    }
}

fn takeover(
    controller: &Controller,
    apis: &BTreeMap<ApiId, (Desired, Observed)>,
    predecessor: &Predecessor,
) -> Takeover {
    let world = controller.world();
    let Ok(id) = &predecessor.api else {
        let label = predecessor.label.as_deref().and_then(|label| ApiId::new(label).ok());
        let folder = label.map_or(FolderSeen::Missing, |id| folder(controller, &id));
        return Takeover::of(predecessor, folder, None);
    };
    let status = apis.get(id).map(|(desired, observed)| ApiStatus::of(desired, observed));
    let (answers, in_flight) = (world.answers(id), world.in_flight_at(predecessor));
    let seen = Seen { status: status.as_ref(), answers, in_flight };
    Takeover::of(predecessor, folder(controller, id), Some(&seen))
}

fn folder(controller: &Controller, id: &ApiId) -> FolderSeen {
    controller.tree().map_or(FolderSeen::Unknown, |tree| FolderSeen::of(tree.folders.get(id)))
}
