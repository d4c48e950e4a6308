//! A step is the next thing to do to one API. Choosing it is pure; see [`super::perform`] for doing it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub use super::action::{Action, Next, Step};
use super::backoff;
use super::desired::{Basis, Desired, Goal, Target};
use super::status;
use crate::tree::{Revision, Spec};
use crate::world::edit;
use crate::world::{Answer, FailureKind, Instance, Observed, Readiness, RouteSeen, Run, Served};

/// Names the next step towards `desired`.
///
/// Looks at one API only, so that a broken one cannot hold up its neighbours. While the API has a healthy routed
/// instance, no step leaves it with none unless the goal is to remove or suspend it.
#[must_use]
pub fn step(desired: &Desired, observed: &Observed) -> Next {
    if matches!(desired.basis, Basis::Undecided(_)) {
        // Callers get what the records say is in force; nothing else is touched.
        let routed = match &desired.goal {
            Goal::Run(target) => route(target, observed),
            Goal::Suspend(target) => suspended(target, observed),
            Goal::Remove | Goal::Leave => None,
        };
        return routed.unwrap_or(Next::Settled);
    }
    if let Some(record) = observed.record.as_ref().filter(|record| !record.edits.is_empty())
        && !matches!(desired.goal, Goal::Remove)
    {
        return act(Action::RestoreRecord { edits: record.edits.clone() }, edit::sentence(&record.edits));
    }
    let is_held = observed.record.as_ref().is_some_and(|record| record.hold.is_some());
    if let Some(why) = desired.spent_hold.filter(|_| is_held) {
        return act(Action::Release { why: why.to_owned() }, format!("the hold is over: {why}"));
    }
    let next = toward(desired, observed);
    if matches!(desired.goal, Goal::Remove) {
        return next;
    }
    // A new API gets its row first of all: there its pauses are kept. Later the row is written before anything that
    // takes long, and when nothing else is left; never in the way of a route.
    let can_wait = observed.record.is_none()
        || match &next {
            Next::Act(Step { action, .. }) => {
                matches!(action, Action::Install { .. } | Action::Build { .. } | Action::Drain { .. })
            }
            Next::Wait { .. } | Next::Settled => true,
        };
    match record_status(desired, observed, &next) {
        Some(step) if can_wait => Next::Act(step),
        _ => next,
    }
}

/// As [`step`], but for the upkeep of the API's row: what its status speaks of.
#[must_use]
pub fn toward(desired: &Desired, observed: &Observed) -> Next {
    match &desired.goal {
        Goal::Run(target) => run(target, desired.served.as_ref(), observed),
        Goal::Suspend(target) => suspend(target, observed),
        Goal::Remove => remove(observed),
        Goal::Leave => Next::Settled,
    }
}

/// Towards a target that should serve.
///
/// A revision that failed is left alone for a while. Meanwhile what served before is what should serve, whole: if it
/// loses an instance, it gets another one.
fn run(target: &Arc<Target>, served: Option<&Arc<Target>>, observed: &Observed) -> Next {
    let fallback = served.filter(|served| served.revision != target.revision && !served.spec.suspend);
    let Some(pause) = backoff::pause(target, observed) else {
        let upheld = fallback.and_then(|served| uphold(target, served, observed));
        return upheld.unwrap_or_else(|| serve(target, observed, None));
    };
    let meanwhile = match fallback {
        Some(served) => serve(served, observed, backoff::pause(served, observed)),
        None => serve(target, observed, Some(pause.clone())),
    };
    // Of two things to wait for, the one about the revision that should serve is what people ask about.
    if matches!(meanwhile, Next::Act(_)) { meanwhile } else { pause }
}

/// Until the target is complete, what serves is healed as ever: making the target may take minutes, or never succeed.
fn uphold(target: &Target, served: &Target, observed: &Observed) -> Option<Next> {
    if ready_current(target, observed).count() == usize::from(target.spec.replicas) {
        return None;
    }
    // Without its image it would have to be built first; then the target may just as well be.
    let is_there = observed.images.contains(&served.images.code);
    let made = || is_there.then(|| make(served, observed, backoff::pause(served, observed)));
    let is_healing =
        |next: &Next| matches!(next, Next::Act(Step { action: Action::Start { .. } | Action::Remove { .. }, .. }));
    repair(served, observed).or_else(|| made().filter(is_healing))
}

/// Towards a target that should serve, making nothing new while there is a `pause`.
fn serve(target: &Target, observed: &Observed, pause: Option<Next>) -> Next {
    // What can be put right in place is, before callers are turned away from it: they wait a moment, and notice nothing.
    let routed = || route(target, observed).map(|next| record_what_it_serves(target, observed, &next).unwrap_or(next));
    if let Some(next) = repair(target, observed).or_else(routed).or_else(|| record_served(target, observed)) {
        return next;
    }
    let made = make(target, observed, pause);
    if matches!(made, Next::Act(_)) {
        return made;
    }
    match retire(observed, target.spec.drain.0, |instance| is_surplus(instance, target, observed)) {
        Some(next) => next,
        None => made,
    }
}

/// Towards an API that is kept and runs nothing.
fn suspend(target: &Target, observed: &Observed) -> Next {
    let spec = &target.spec;
    if let Some(next) = suspended(target, observed) {
        return next;
    }
    record_served(target, observed).or_else(|| retire(observed, spec.drain.0, |_| true)).unwrap_or(Next::Settled)
}

/// Lets callers know that an API is suspended; `None` where they do.
pub(super) fn suspended(target: &Target, observed: &Observed) -> Option<Next> {
    let spec = &target.spec;
    let route = RouteSeen { answer: Answer::Suspended, settings: spec.digest() };
    (observed.route.as_ref() != Some(&route))
        .then(|| act(Action::Route { answer: Answer::Suspended, spec: Box::new(spec.clone()) }, "the API is suspended"))
}

/// Towards nothing at all.
fn remove(observed: &Observed) -> Next {
    if observed.route.is_some() {
        return act(Action::Unroute, "its folder is gone");
    }
    let served = observed.record.as_ref().and_then(|record| record.served.as_ref());
    let drain = served.map_or(Duration::ZERO, |served| served.spec.drain.0);
    let forget = || observed.record.as_ref().map(|_| act(Action::Forget, "its folder is gone"));
    retire(observed, drain, |_| true).or_else(forget).unwrap_or(Next::Settled)
}

/// Puts right what somebody's hand has changed on an instance that is wanted.
fn repair(target: &Target, observed: &Observed) -> Option<Next> {
    let is_wanted = |i: &&Instance| is_current(i, target) && !i.beyond_repair && !i.leaving;
    let mut wanted = observed.instances.iter().filter(is_wanted);
    let (instance, reason) = wanted.find_map(|instance| Some((instance, altered(instance)?)))?;
    let (instance, container) = (instance.name.clone(), Arc::clone(&instance.container));
    Some(act(Action::Repair { instance, container }, reason))
}

/// What somebody's hand has changed on an instance, where that may be put right in place.
fn altered(instance: &Instance) -> Option<String> {
    match &instance.run {
        Run::Paused => Some("somebody paused it".to_owned()),
        Run::Running { address: None, .. } => Some("it has lost its network".to_owned()),
        Run::Running { .. } => instance.altered.clone(),
        Run::Created | Run::Exited { .. } | Run::Unclear => None,
    }
}

/// Points the route at the best that there is; `None` where it is there already.
pub(super) fn route(target: &Target, observed: &Observed) -> Option<Next> {
    let (answer, spec, reason) = best_route(target, observed);
    let best = RouteSeen { answer, settings: spec.digest() };
    if observed.route.as_ref() == Some(&best) {
        return None;
    }
    Some(act(Action::Route { answer: best.answer, spec: Box::new(spec.clone()) }, reason))
}

/// The best that callers can get now: all of the target where it is complete, else what serves, else what is ready.
fn best_route<'a>(target: &'a Target, observed: &'a Observed) -> (Answer, &'a Spec, String) {
    let served = observed.record.as_ref().and_then(|record| record.served.as_ref());
    let routed = observed.routed();
    let is_routed = |instance: &Instance| routed.contains(&instance.container);
    let forward = |revision: &Revision, instances: &[&Instance]| Answer::Forward {
        revision: revision.clone(),
        containers: instances.iter().filter_map(|i| Some((Arc::clone(&i.container), i.address()?))).collect(),
    };

    let fresh: Vec<&Instance> = ready_current(target, observed).collect();
    let mut others: Vec<&Instance> = observed
        .instances
        .iter()
        .filter(|other| other.is_ready() && !is_current(other, target))
        .filter(|other| is_routed(other) || may_serve(served, other))
        .collect();
    // A route has one revision; where two could go on, the one that callers have now does.
    if let Some(first) =
        others.iter().find(|other| is_routed(other)).or(others.first()).map(|other| other.revision.clone())
    {
        others.retain(|other| other.revision == first);
    }
    if fresh.len() == usize::from(target.spec.replicas) || (others.is_empty() && !fresh.is_empty()) {
        let reason = match observed.route.as_ref().map(|route| &route.answer) {
            Some(Answer::Forward { revision, .. }) if *revision != target.revision => "the new revision is ready",
            Some(Answer::Forward { containers, .. }) if containers.len() == fresh.len() => "its settings have changed",
            Some(Answer::Forward { .. }) => "these instances are ready",
            _ => "it is ready",
        };
        return (forward(&target.revision, &fresh), &target.spec, reason.to_owned());
    }
    if others.is_empty() {
        // Nobody is ready. One that runs and served a moment ago may still answer, which is more than we can; one that
        // is about to be given up is taken out first, so that what it has in flight is waited for.
        let may_answer =
            |i: &&Instance| is_routed(i) && i.address().is_some() && !i.leaving && !is_given_up(i, target, observed.at);
        others = observed.instances.iter().filter(may_answer).collect();
    }
    match others.first() {
        Some(first) => {
            let spec =
                served.filter(|served| served.revision == first.revision).map_or(&target.spec, |served| &served.spec);
            (
                forward(&first.revision, &others),
                spec,
                format!("revision {} serves until the new one is ready", first.revision),
            )
        }
        None => (Answer::Unavailable, &target.spec, "no instance is ready yet".to_owned()),
    }
}

/// Writes down what callers are about to get, before the first of them gets it: whoever has had an answer from a revision
/// has one from it after a crash of this daemon too, since the next daemon routes what the records say.
fn record_what_it_serves(target: &Target, observed: &Observed, next: &Next) -> Option<Next> {
    match next {
        Next::Act(Step { action: Action::Route { answer: answer @ Answer::Forward { .. }, .. }, reason }) => {
            record_answer(target, observed, answer, reason)
        }
        _ => None,
    }
}

/// Writes down what callers get, where the records have lost it or another daemon has routed it.
fn record_served(target: &Target, observed: &Observed) -> Option<Next> {
    let what = if target.spec.suspend { "suspended" } else { "what serves now" };
    record_answer(target, observed, &observed.route.as_ref()?.answer, &format!("the records must say {what}"))
}

fn record_answer(target: &Target, observed: &Observed, answer: &Answer, reason: &str) -> Option<Next> {
    let is_in_force = match answer {
        Answer::Forward { revision, .. } => *revision == target.revision,
        Answer::Suspended => target.spec.suspend,
        Answer::Unavailable => false,
    };
    let served = observed.record.as_ref().and_then(|record| record.served.as_ref());
    let is_written = served.is_some_and(|served| {
        served.revision == target.revision
            && served.spec == target.spec
            && served.requirements == target.requirements
            && served.files == target.files
            && served.secrets == target.secrets
    });
    (is_in_force && !is_written).then(|| act(Action::RecordServed { revision: target.revision.clone() }, reason))
}

/// Makes what the target lacks: images first, then instances, then their readiness.
fn make(target: &Target, observed: &Observed, pause: Option<Next>) -> Next {
    let unless_paused = |step: Next| pause.clone().unwrap_or(step);
    let images = &target.images;
    if !observed.images.contains(&images.code) {
        if !observed.images.contains(&images.dependencies) {
            let reason = "no image with these requirements is there";
            return unless_paused(act(Action::Install { image: images.dependencies.clone() }, reason));
        }
        let reason = "no image with these files is there";
        return unless_paused(act(Action::Build { image: images.code.clone() }, reason));
    }
    let mut later = Next::Settled;
    for number in 1..=target.spec.replicas {
        let instance = observed.instances.iter().find(|i| i.revision == target.revision && i.number == number);
        match tend(target, number, instance, observed.at) {
            Next::Act(Step { action: Action::Start { .. }, .. }) if pause.is_some() => {
                later = unless_paused(Next::Settled);
            }
            // Waiting for one instance must not keep the next from being started.
            next @ (Next::Act(Step { action: Action::AwaitReady { .. }, .. }) | Next::Wait { .. }) => {
                if !matches!(later, Next::Act(_)) {
                    later = next;
                }
            }
            Next::Settled => {}
            next @ Next::Act(_) => return next,
        }
    }
    later
}

/// What one place among the replicas needs.
fn tend(target: &Target, number: u16, instance: Option<&Instance>, at: Timestamp) -> Next {
    let start = |reason| act(Action::Start { revision: target.revision.clone(), number }, reason);
    let Some(instance) = instance else {
        return start(format!("instance {number} of {} is not there", target.spec.replicas));
    };
    let replace = |trouble, reason: String| {
        let (instance, container) = (instance.name.clone(), Arc::clone(&instance.container));
        act(Action::Remove { instance, container, trouble }, reason)
    };
    if instance.leaving {
        return replace(None, "its removal had begun".to_owned());
    }
    match &instance.run {
        Run::Created => start("it was created, and never started".to_owned()),
        Run::Paused => replace(None, "somebody paused it, and it cannot be woken".to_owned()),
        Run::Exited { out_of_memory: true, .. } => {
            let reason = format!("it used more than its {} of memory and was killed", target.spec.resources.memory);
            replace(Some(FailureKind::OutOfMemory), reason)
        }
        Run::Exited { code, .. } => replace(Some(FailureKind::Crash), format!("it ended with exit code {code}")),
        Run::Unclear => Next::Wait {
            until: Some(at + Duration::from_millis(500)),
            reason: "the engine is busy with its container".to_owned(),
        },
        Run::Running { address: None, .. } => replace(None, "it has lost its network for good".to_owned()),
        Run::Running { .. } => match &instance.readiness {
            Readiness::Ready => Next::Settled,
            Readiness::Failing { last, .. } if is_given_up(instance, target, at) => {
                let grace = target.spec.health.grace;
                replace(Some(FailureKind::NotReady), format!("it gave no good answer within {grace}: {last}"))
            }
            Readiness::Unknown | Readiness::Failing { .. } => {
                let (instance, container) = (instance.name.clone(), Arc::clone(&instance.container));
                act(Action::AwaitReady { instance, container }, "callers come only to what answers its probe")
            }
        },
    }
}

/// Whether an instance has gone without a good answer for longer than it may.
fn is_given_up(instance: &Instance, target: &Target, at: Timestamp) -> bool {
    matches!(instance.readiness, Readiness::Failing { since, .. }
        if at.duration_since(since).unsigned_abs() > target.spec.health.grace.0)
}

/// Removes one of the instances that are not wanted and not routed, after it has finished what it was doing.
fn retire(observed: &Observed, drain: Duration, is_surplus: impl Fn(&Instance) -> bool) -> Option<Next> {
    let routed = observed.routed();
    let surplus = || observed.instances.iter().filter(|i| !routed.contains(&i.container) && is_surplus(i));
    let is_busy = |instance: &&Instance| {
        instance.in_flight > 0 && instance.draining_since.is_some_and(|since| observed.at < since + drain)
    };
    // The idle ones first: one long stream must not keep the memory of the others.
    let instance = surplus().find(|instance| !is_busy(instance)).or_else(|| surplus().next())?;
    let (name, container) = (instance.name.clone(), Arc::clone(&instance.container));
    Some(if is_busy(&instance) {
        act(Action::Drain { instance: name, container }, format!("{} requests are still in flight", instance.in_flight))
    } else {
        act(Action::Remove { instance: name, container, trouble: None }, "nothing needs it any more")
    })
}

/// Whether an instance can go as soon as it is out of the route.
///
/// What served last is kept until the target is complete, also where the route has lost it for the moment.
fn is_surplus(instance: &Instance, target: &Target, observed: &Observed) -> bool {
    let served = observed.record.as_ref().and_then(|record| record.served.as_ref());
    let is_complete = ready_current(target, observed).count() == usize::from(target.spec.replicas);
    let may_serve_again =
        !instance.leaving && may_serve(served, instance) && matches!(instance.run, Run::Running { .. } | Run::Unclear);
    !is_current(instance, target) && (is_complete || !may_serve_again)
}

/// Whether an instance is of what served last.
fn may_serve(served: Option<&Served>, instance: &Instance) -> bool {
    served.is_some_and(|served| served.revision == instance.revision && !served.spec.suspend)
}

fn is_current(instance: &Instance, target: &Target) -> bool {
    instance.revision == target.revision && instance.number <= target.spec.replicas
}

fn ready_current<'a>(target: &'a Target, observed: &'a Observed) -> impl Iterator<Item = &'a Instance> {
    observed.instances.iter().filter(|instance| is_current(instance, target) && instance.is_ready())
}

/// Writes the API's row where it says something else than what is.
fn record_status(desired: &Desired, observed: &Observed, next: &Next) -> Option<Step> {
    let status = status::status(desired, observed, next);
    let record = observed.record.as_ref();
    let is_written = record.is_some_and(|record| record.status == status);
    let reason = if record.is_none() { "the records do not know it" } else { "the records say something else" };
    (!is_written).then(|| Step { action: Action::RecordStatus(status), reason: reason.to_owned() })
}

fn act(action: Action, reason: impl Into<String>) -> Next {
    Next::Act(Step { action, reason: reason.into() })
}
