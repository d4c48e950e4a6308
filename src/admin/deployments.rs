//! Deployments are the APIs as people and dashboards see and move them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::fault::Fault;
use crate::engine::Usage;
use crate::reconcile::status::{Health, Status, Sync};
use crate::reconcile::{Controller, Desired, Rest, Target};
use crate::records::NewEvent;
use crate::report::status::ApiStatus;
use crate::tree::{ApiId, Folder};
use crate::world::{Hold, Instance, Observed, Run};

/// How long whoever asks for a change is kept waiting for it. It goes on all the same.
const PATIENCE: Duration = Duration::from_secs(120);

/// Lines of output that a diagnosis shows.
const LINES: usize = 20;

/// Every API: what should be, and what is.
pub(super) async fn seen(controller: &Controller) -> Result<BTreeMap<ApiId, (Desired, Observed)>, Fault> {
    let world = controller.world();
    let look = world.look().await?;
    let observe = |(id, desired): (ApiId, Desired)| {
        let observed = world.observed(&look, &desired);
        (id, (desired, observed))
    };
    Ok(controller.goals(&look).into_iter().map(observe).collect())
}

async fn seen_one(controller: &Controller, id: &ApiId) -> Result<(Desired, Observed), Fault> {
    seen(controller).await?.remove(id).ok_or_else(|| Fault::Unknown(id.clone()))
}

/// `GET /admin/deployments`.
pub(super) async fn list(controller: &Controller) -> Result<Value, Fault> {
    let mut deployments = Map::new();
    for (id, (desired, observed)) in seen(controller).await? {
        deployments.insert(id.to_string(), describe(&desired, &observed)?);
    }
    Ok(json!({ "success": true, "deployments": deployments }))
}

/// The shape that the old dashboards know, and what else there is to say.
fn describe(desired: &Desired, observed: &Observed) -> Result<Value, Fault> {
    let first = first(observed);
    let image = first.and_then(|instance| desired.target_of(&instance.revision)).or(desired.target());
    let mut shown = json!({
        "port": first.and_then(Instance::address).map(|address| address.port()),
        "status": first.map_or("not_found", |instance| state(&instance.run)),
        "image": image.map(|target| target.images.code.to_string()),
    });
    let status =
        serde_json::to_value(ApiStatus::of(desired, observed)).map_err(|error| Fault::Bad(error.to_string()))?;
    if let (Value::Object(shown), Value::Object(status)) = (&mut shown, status) {
        shown.extend(status);
        shown.insert("hold".to_owned(), json!(hold(observed)));
    }
    Ok(shown)
}

fn hold(observed: &Observed) -> Option<String> {
    observed.record.as_ref()?.hold.as_ref().map(Hold::describe)
}

/// Of several instances, the one that callers get.
fn first(observed: &Observed) -> Option<&Instance> {
    let routed = observed.routed();
    let mut instances: Vec<&Instance> = observed.instances.iter().collect();
    instances.sort_by_key(|instance| !routed.contains(&instance.container));
    instances.first().copied()
}

fn state(run: &Run) -> &'static str {
    match run {
        Run::Created => "created",
        Run::Running { .. } => "running",
        Run::Paused => "paused",
        Run::Exited { .. } => "exited",
        Run::Unclear => "restarting",
    }
}

/// `GET /admin/deployment/{id}`: one API, with what each of its instances uses.
#[expect(clippy::cast_precision_loss, reason = "megabytes and percentages are for people")]
pub(super) async fn show(controller: &Controller, id: &ApiId) -> Result<Value, Fault> {
    let (desired, observed) = seen_one(controller, id).await?;
    let running = observed.instances.iter().filter(|instance| matches!(instance.run, Run::Running { .. }));
    let running: Vec<&Instance> = running.collect();
    let engine = &controller.world().engine;
    let measured = join_all(running.iter().map(|instance| engine.usage(&instance.container))).await;
    let mebibytes = |bytes: u64| round(bytes as f64 / 1_048_576.0);
    let percent = |usage: &Usage| round(usage.memory as f64 * 100.0 / usage.memory_limit.max(1) as f64);
    let mut all = Usage::default();
    let mut instances = Vec::new();
    for (instance, usage) in running.iter().zip(measured) {
        // One that has just gone uses nothing.
        let usage = usage.unwrap_or_default();
        all.cpu_percent += usage.cpu_percent;
        all.memory += usage.memory;
        all.memory_limit += usage.memory_limit;
        instances.push(json!({
            "name": instance.name,
            "container": instance.container,
            "revision": instance.revision,
            "address": instance.address(),
            "ready": instance.is_ready(),
            "in_flight": instance.in_flight,
            "cpu_percent": round(usage.cpu_percent),
            "memory_usage_mb": mebibytes(usage.memory),
            "memory_percent": percent(&usage),
        }));
    }
    let first = first(&observed);
    Ok(json!({
        "success": true,
        "api_id": id,
        "health": {
            "status": first.map_or("not_found", |instance| state(&instance.run)),
            "cpu_percent": round(all.cpu_percent),
            "memory_usage_mb": mebibytes(all.memory),
            "memory_percent": percent(&all),
            "port": first.and_then(Instance::address).map(|address| address.port()),
        },
        "instances": instances,
        "status": ApiStatus::of(&desired, &observed),
        "hold": hold(&observed),
    }))
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// `POST /admin/deployment/{id}/stop`: a hold that runs nothing, and that no push ends.
pub(super) async fn stop(controller: &Arc<Controller>, id: &ApiId, why: String) -> Result<Value, Fault> {
    let world = controller.world();
    let record = world.records.get(id).await?;
    let tree = controller.tree().map_err(Fault::Unavailable)?;
    let folder = tree.folders.get(id);
    let api = match folder {
        Some(Folder::Sound(api)) => Some(api),
        _ => None,
    };
    if record.is_none() && folder.is_none() {
        return Err(Fault::Unknown(id.clone()));
    }
    let now = Timestamp::now();
    let served = record.and_then(|record| record.served);
    let made = || Some(Target::of_api(api?, &controller.base()?.digest, &world.owner).served(now));
    let Some(mut serve) = served.or_else(made) else {
        return Err(Fault::Conflict(format!(
            "{id} has never served, and its folder is broken: there is nothing to stop"
        )));
    };
    serve.spec.suspend = true;
    let on = api.map(|api| api.content());
    let hold = Hold { on, serve: Some(Box::new(serve)), by: BY.to_owned(), why, at: now, until: None, stays: true };
    world.records.put_hold(id, &hold).await?;
    write_down(controller, id, "stopped", &hold.describe()).await?;
    turn(controller, id).await?;
    Ok(json!({ "success": true, "message": format!("API {id} stopped") }))
}

/// `POST /admin/deployment/{id}/start`: the end of a hold.
pub(super) async fn start(controller: &Arc<Controller>, id: &ApiId) -> Result<Value, Fault> {
    let world = controller.world();
    seen_one(controller, id).await?;
    if world.records.release(id).await? {
        write_down(controller, id, "released", "started by the control surface").await?;
    }
    world.retry(id).await?;
    let status = turn(controller, id).await?;
    let (_, observed) = seen_one(controller, id).await?;
    let port = first(&observed).and_then(Instance::address).map(|address| address.port());
    match status {
        Some(status) if status.health == Health::Stopped => {
            Err(Fault::Conflict(format!("{id} is suspended by its own api.yaml; say suspend: false there")))
        }
        Some(status) if status.health == Health::Healthy => {
            Ok(json!({ "success": true, "message": format!("API {id} deployed"), "port": port }))
        }
        Some(status) => Err(Fault::Unavailable(format!("{id} does not serve: {}", status.message))),
        None => Err(Fault::Unavailable(format!("{id} is not ready yet; it is being worked on"))),
    }
}

/// `POST /admin/reload/{id}`, after the tree was read anew: what failed is tried again now.
pub(super) async fn reload(controller: &Arc<Controller>, id: &ApiId) -> Result<Value, Fault> {
    seen_one(controller, id).await?;
    controller.world().retry(id).await?;
    match turn(controller, id).await? {
        Some(status) if status.sync == Sync::Blocked => {
            Err(Fault::Unavailable(format!("{id} is not as its folder says: {}", status.message)))
        }
        Some(status) if matches!(status.health, Health::Healthy | Health::Stopped) => {
            Ok(json!({ "success": true, "message": format!("API {id} redeployed") }))
        }
        Some(status) => Err(Fault::Unavailable(format!("{id} does not serve: {}", status.message))),
        None => Err(Fault::Unavailable(format!("{id} is not ready yet; it is being worked on"))),
    }
}

/// `POST /admin/reload`, after the tree was read anew.
pub(super) async fn reload_all(controller: &Arc<Controller>) -> Result<Value, Fault> {
    let all: BTreeSet<ApiId> = seen(controller).await?.into_keys().collect();
    for id in &all {
        controller.world().retry(id).await?;
        controller.hint(id);
    }
    let rested = tokio::time::timeout(PATIENCE, controller.rested(&all)).await.unwrap_or_default();
    let is_well = |rest: &&Rest| matches!(rest, Rest::Quiet(status) if status.health == Health::Healthy);
    let well = rested.values().filter(is_well).count();
    let at_work: Vec<&ApiId> =
        all.iter().filter(|id| !rested.get(*id).is_some_and(|rest| matches!(rest, Rest::Quiet(_)))).collect();
    let does_not_serve = |rest: &Rest| match rest {
        Rest::Quiet(status) => {
            status.sync == Sync::Blocked || !matches!(status.health, Health::Healthy | Health::Stopped)
        }
        Rest::Troubled(_) => false,
    };
    let failed: Vec<&ApiId> = rested.iter().filter(|(_, rest)| does_not_serve(rest)).map(|(id, _)| id).collect();
    let broken = controller.tree().ok().and_then(|tree| tree.broken_settings().map(ToString::to_string));
    let message = match (failed.is_empty(), at_work.is_empty(), &broken) {
        (true, true, None) => "APIs redeployed successfully",
        (true, true, Some(_)) => "skep.yaml cannot be used, and what it said before goes on",
        (true, false, _) => "some APIs are still being worked on",
        (false, ..) => "some APIs do not serve what their folders say",
    };
    Ok(json!({
        "success": failed.is_empty() && at_work.is_empty() && broken.is_none(),
        "settings": broken,
        "deployed_apis": well,
        "message": message,
        "still_at_work": at_work,
        "failed": failed,
    }))
}

/// `POST /admin/cleanup`.
pub(super) async fn clean_up(controller: &Controller) -> Result<Value, Fault> {
    // An image goes in the second round that finds no need of it.
    for _ in 0..2 {
        controller.clean_up(true).await?;
    }
    let remaining = seen(controller).await?.values().filter(|(_, observed)| !observed.instances.is_empty()).count();
    Ok(json!({ "success": true, "message": "Cleanup completed", "remaining_deployments": remaining }))
}

/// `GET /api/diagnostics/{id}`: what somebody who looks for a fault wants to see first.
pub(super) async fn diagnose(controller: &Controller, id: &ApiId) -> Result<Value, Fault> {
    let (desired, observed) = seen_one(controller, id).await?;
    let first = first(&observed);
    let mut lines = Vec::new();
    if let Some(instance) = first {
        use futures_util::StreamExt;
        let mut printed = controller.world().engine.logs(&instance.container, LINES, false).await?;
        while let Some(line) = printed.next().await {
            lines.push(line?.text);
        }
    }
    let record = observed.record.as_ref();
    let requirements =
        desired.target().map(|target| target.requirements.0.iter().map(|r| r.asked().to_owned()).collect());
    let requirements: Vec<String> = requirements.unwrap_or_default();
    Ok(json!({
        "api_id": id,
        "container": {
            "status": first.map_or("not_found", |instance| state(&instance.run)),
            "port": first.and_then(Instance::address).map(|address| address.port()),
            "image": first.and_then(|i| desired.target_of(&i.revision)).map(|target| target.images.code.to_string()),
            "logs": lines,
        },
        "database": {
            "name": record.map(|record| &record.status.name),
            "status": record.map(|record| record.status.health.as_str()),
            "requirements": requirements.join("\n"),
        },
        "status": ApiStatus::of(&desired, &observed),
    }))
}

/// Whose word a hold of the control surface is.
pub(super) const BY: &str = "the control surface";

/// Gives an API a turn, and waits until it rests; `None` where that takes too long.
pub(super) async fn turn(controller: &Arc<Controller>, id: &ApiId) -> Result<Option<Status>, Fault> {
    controller.hint(id);
    let ids = BTreeSet::from([id.clone()]);
    let rested = tokio::time::timeout(PATIENCE, controller.rested(&ids)).await.unwrap_or_default();
    match rested.into_values().next() {
        Some(Rest::Quiet(status)) => Ok(Some(status)),
        Some(Rest::Troubled(why)) => Err(Fault::Unavailable(why)),
        None => Ok(None),
    }
}

pub(super) async fn write_down(controller: &Controller, id: &ApiId, kind: &str, message: &str) -> Result<(), Fault> {
    let (at, kind, message) = (Timestamp::now(), kind.to_owned(), message.to_owned());
    let event = NewEvent { at, api: Some(id.clone()), revision: None, kind, message };
    controller.world().records.add_event(&event).await?;
    Ok(())
}
