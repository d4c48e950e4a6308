//! Holds, the plan and the history: what people decide about APIs, and what there is to decide.

use std::sync::Arc;

use hyper::body::Incoming;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::body::read_json;
use super::deployments::{BY, seen, turn, write_down};
use super::fault::Fault;
use crate::callers::read_expiry;
use crate::reconcile::Controller;
use crate::reconcile::plan::plan;
use crate::report::plan::{PlanJson, Summary};
use crate::tree::{ApiId, Folder, Requirement};
use crate::world::Hold;

/// What somebody says who wants something held or stopped. All of it may be left out.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Wish {
    /// Why, for whoever wonders.
    pub(super) why: String,
    /// Whose word it is.
    by: Option<String>,
    /// Until when at the longest: a moment, a day or a span.
    #[serde(deserialize_with = "read_expiry")]
    until: Option<Timestamp>,
    /// The revision to go back to, or the beginning of its name; what serves is kept where there is none.
    revision: Option<String>,
}

impl Wish {
    /// # Errors
    /// [`Fault::Bad`] where it makes no sense.
    pub(super) async fn read(body: Incoming) -> Result<Self, Fault> {
        Ok(read_json(body).await?.unwrap_or_default())
    }
}

/// `GET /admin/holds`.
pub(super) async fn list(controller: &Controller) -> Result<Value, Fault> {
    let mut holds = Map::new();
    for (id, (_, observed)) in seen(controller).await? {
        if let Some(hold) = observed.record.and_then(|record| record.hold) {
            let revision = hold.serve.as_ref().map(|served| &served.revision);
            let is_stopped = hold.serve.as_ref().is_some_and(|served| served.spec.suspend);
            let shown = json!({
                "by": hold.by, "why": hold.why, "at": hold.at, "until": hold.until,
                "stopped": is_stopped, "revision": revision, "message": hold.describe(),
            });
            holds.insert(id.to_string(), shown);
        }
    }
    Ok(json!({ "success": true, "holds": holds }))
}

/// `PUT /admin/holds/{id}`: as `skep hold`, and with a revision as `skep rollback`.
pub(super) async fn put(controller: &Arc<Controller>, id: &ApiId, wish: Wish) -> Result<Value, Fault> {
    let records = &controller.world().records;
    if records.get(id).await?.is_none() {
        return Err(Fault::Unknown(id.clone()));
    }
    let serve = match &wish.revision {
        None => None,
        Some(named) => {
            let revisions = records.revisions(id).await?;
            let mut found = revisions.into_iter().filter(|served| served.revision.as_str().starts_with(named.as_str()));
            match (found.next(), found.next()) {
                (Some(served), None) => Some(Box::new(served)),
                (Some(_), Some(_)) => return Err(Fault::Bad(format!("{named} could be several revisions of {id}"))),
                (None, _) => return Err(Fault::Bad(format!("no revision of {id} that begins with {named} is kept"))),
            }
        }
    };
    let tree = controller.tree().map_err(Fault::Unavailable)?;
    let on = match tree.folders.get(id) {
        Some(Folder::Sound(api)) => Some(api.content()),
        _ => None,
    };
    let by = wish.by.unwrap_or_else(|| BY.to_owned());
    let hold = Hold { on, serve, by, why: wish.why, at: Timestamp::now(), until: wish.until, stays: false };
    records.put_hold(id, &hold).await?;
    write_down(controller, id, "held", &hold.describe()).await?;
    let status = turn(controller, id).await?;
    Ok(json!({ "success": true, "message": format!("API {id} is {}", hold.describe()), "status": status }))
}

/// `DELETE /admin/holds/{id}`.
pub(super) async fn release(controller: &Arc<Controller>, id: &ApiId) -> Result<Value, Fault> {
    if !controller.world().records.release(id).await? {
        return Err(Fault::Conflict(format!("{id} is not held")));
    }
    write_down(controller, id, "released", "by the control surface").await?;
    let status = turn(controller, id).await?;
    Ok(json!({ "success": true, "message": format!("API {id} is released"), "status": status }))
}

/// `GET /admin/plan`: as `skep plan --output json`, without the diffs of files.
pub(super) async fn planned(controller: &Controller) -> Result<Value, Fault> {
    let tree = controller.tree().map_err(Fault::Unavailable)?;
    let apis = seen(controller).await?;
    let plan = plan(apis.values().map(|(desired, observed)| (desired, observed)));
    let (summary, findings) = (Summary::of(&plan), tree.all_findings().collect());
    let shown = PlanJson { plan: &plan, summary, findings, base: None };
    serde_json::to_value(shown).map_err(|error| Fault::Unavailable(error.to_string()))
}

/// `GET /admin/history/{id}`: the revisions that have served, the latest first.
pub(super) async fn history(controller: &Controller, id: &ApiId) -> Result<Value, Fault> {
    let records = &controller.world().records;
    let revisions = records.revisions(id).await?;
    let record = records.get(id).await?;
    if record.is_none() && revisions.is_empty() {
        return Err(Fault::Unknown(id.clone()));
    }
    let now = record.and_then(|record| record.served).map(|served| served.revision);
    let shown = revisions.iter().map(|served| {
        let requirements: Vec<&str> = served.requirements.0.iter().map(Requirement::asked).collect();
        json!({
            "revision": served.revision,
            "since": served.since,
            "serves_now": Some(&served.revision) == now.as_ref(),
            "origin": served.origin,
            "requirements": requirements,
            "files": served.files.len(),
        })
    });
    Ok(json!({ "success": true, "api_id": id, "revisions": shown.collect::<Vec<_>>() }))
}
