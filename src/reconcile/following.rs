//! Following is what a daemon does that serves callers while another one reconciles: it moves its own routes, lets go of
//! what is about to be removed, and changes nothing else. Pure, as [`super::step`] is.

use std::sync::Arc;

use super::desired::{Desired, Goal};
use super::step::{Action, Next, Step, route, suspended};
use crate::world::{Instance, Observed, RouteSeen};

/// Names the next step of a follower.
///
/// `is_let_go` tells of a container whether this daemon has said that it is done with it.
#[must_use]
pub fn follow(desired: &Desired, observed: &Observed, is_let_go: impl Fn(&Instance) -> bool) -> Next {
    let routed = match &desired.goal {
        Goal::Run(target) => route(target, observed),
        Goal::Suspend(target) => suspended(target, observed),
        Goal::Leave | Goal::Remove => unroute(observed),
    };
    if let Some(next) = routed {
        return next;
    }
    let routed = observed.routed();
    let is_done = |instance: &&Instance| {
        instance.leaving && instance.in_flight == 0 && !routed.contains(&instance.container) && !is_let_go(instance)
    };
    if let Some(instance) = observed.instances.iter().find(is_done) {
        let (instance, container) = (instance.name.clone(), Arc::clone(&instance.container));
        let reason = "it is about to be removed, and nothing of ours is on it".to_owned();
        return Next::Act(Step { action: Action::LetGo { instance, container }, reason });
    }
    if let Some(instance) = observed.instances.iter().find(|i| i.leaving && i.in_flight > 0) {
        let (name, container) = (instance.name.clone(), Arc::clone(&instance.container));
        let reason = format!("{} requests are still in flight", instance.in_flight);
        return Next::Act(Step { action: Action::Drain { instance: name, container }, reason });
    }
    let Goal::Run(target) = &desired.goal else { return Next::Settled };
    let awaited = |i: &&Instance| i.revision == target.revision && i.address().is_some() && !i.is_ready() && !i.leaving;
    match observed.instances.iter().find(awaited) {
        Some(instance) => {
            let (instance, container) = (instance.name.clone(), Arc::clone(&instance.container));
            let reason = "callers come only to what answers its probe".to_owned();
            Next::Act(Step { action: Action::AwaitReady { instance, container }, reason })
        }
        None => Next::Settled,
    }
}

/// Of an API that the records say nothing of that could serve.
fn unroute(observed: &Observed) -> Option<Next> {
    let is_known = observed.record.is_some();
    match &observed.route {
        Some(RouteSeen { .. }) if !is_known => {
            let reason = "the records do not know it any more".to_owned();
            Some(Next::Act(Step { action: Action::Unroute, reason }))
        }
        _ => None,
    }
}
