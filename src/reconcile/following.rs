//! Following is what a daemon does that serves callers while another one reconciles: it moves its own routes, lets go of
//! what is about to be removed, and changes nothing else. Pure, as [`super::step`] is.

use std::sync::Arc;

use super::desired::{Desired, Goal, Target};
use super::step::{Action, Next, Step, route, suspended};
use crate::world::{Answer, Instance, Observed, Run};

/// Names the next step of a follower.
///
/// `is_let_go` tells of a container whether this daemon has said that it is done with it.
#[must_use]
pub fn follow(desired: &Desired, observed: &Observed, is_let_go: impl Fn(&Instance) -> bool) -> Next {
    let routed = match &desired.goal {
        Goal::Run(target) => moved(target, observed),
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

/// As whoever reconciles moves its route, but for an instance that a hand has paused or cut off: it is put right in place,
/// and until then callers wait.
fn moved(target: &Target, observed: &Observed) -> Option<Next> {
    let next = route(target, observed)?;
    let is_refusal = matches!(&next, Next::Act(Step { action: Action::Route { answer: Answer::Unavailable, .. }, .. }));
    let routed = observed.routed();
    let comes_back = |instance: &Instance| {
        let is_altered = matches!(instance.run, Run::Paused | Run::Running { address: None, .. });
        is_altered && !instance.leaving && routed.contains(&instance.container)
    };
    (!is_refusal || !observed.instances.iter().any(comes_back)).then_some(next)
}

/// Of an API that the records say nothing of that could serve. One whose instances stay has lost its row by a hand, and
/// gets it back; one that goes loses its row when its instances have gone.
fn unroute(observed: &Observed) -> Option<Next> {
    let stays = observed.record.is_some() || observed.instances.iter().any(|instance| !instance.leaving);
    let reason = "the records do not know it any more".to_owned();
    (observed.route.is_some() && !stays).then_some(Next::Act(Step { action: Action::Unroute, reason }))
}
