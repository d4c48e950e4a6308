//! Tales are histories of a given shape.

use std::collections::BTreeMap;

use skep::reconcile::turn::Going;
use skep::reconcile::{Action, plan};
use skep::tree::Folder;
use skep::world::Answer;

use super::event::{App, Event, Kind, Maker};
use super::history::{History, Verdict, api_id, now_or_never};
use super::parts::{BEHAVIOURS, is_good};
use super::with_timers;

/// A plan made at some moment without faults is, action by action, what turns then do.
fn compare_plan_with_apply(seed: u64) -> Verdict<()> {
    let mut history = History::new();
    for event in Maker::new(seed).wishes() {
        history.happen(&event)?;
    }
    for id in history.ids() {
        // A bad revision does not go as planned, which no plan can know.
        if let Some(Folder::Sound(api)) = history.tree.folders.get(&id)
            && !is_good(&api.spec.env["BEHAVIOUR"])
        {
            continue;
        }
        let Some(daemon) = &history.daemons[0] else { continue };
        daemon.read(&history.tree);
        let look = now_or_never(daemon.world.look()).expect("no waiting").map_err(|error| error.to_string())?;
        let goals = daemon.controller.goals(&look);
        let Some(desired) = goals.get(&id) else { continue };
        // The first look of all sets the probes going; the plan speaks of a world that is being probed.
        let _ = daemon.world.observed(&look, desired);
        let (planned, waits) = plan::unfold(desired, &daemon.world.observed(&look, desired));
        if waits.is_some() {
            continue;
        }
        let mut news = daemon.world.news.subscribe();
        history.settle(&id)?;
        let mut done = Vec::new();
        while let Ok(news) = news.try_recv() {
            if let Going::Step { action: Some(action), .. } = news.what
                && !matches!(*action, Action::AwaitReady { .. })
            {
                done.push(essence(&action));
            }
        }
        // One planned wait may take several slices of waiting, or be over before it begins.
        let is_done = |action: &&Action| !matches!(action, Action::AwaitReady { .. });
        done.dedup();
        let planned: Vec<String> = planned.iter().map(|step| &step.action).filter(is_done).map(essence).collect();
        if apart(&planned) != apart(&done) {
            return Err(format!("{id}: planned\n  {}\ndone\n  {}", planned.join("\n  "), done.join("\n  ")));
        }
    }
    Ok(())
}

/// Where callers are sent and what is written down in the end, apart from all else: of several instances, some may be ready
/// before the others, and get callers first.
fn apart(actions: &[String]) -> (BTreeMap<Vec<&str>, &String>, Vec<&String>) {
    let is_move = |action: &&String| action.starts_with("route ") || action.starts_with("record ");
    let (moves, others): (Vec<&String>, Vec<&String>) = actions.iter().partition(is_move);
    // Of routes, and of what status is written down, the last.
    let words = |action: &String| if action.starts_with("record served") { 2 } else { 1 };
    (moves.into_iter().map(|action| (action.split(' ').take(words(action)).collect(), action)).collect(), others)
}

/// What an action is, without the engine's own ids.
fn essence(action: &Action) -> String {
    match action {
        Action::Route { answer: Answer::Forward { revision, containers }, .. } => {
            format!("route {revision} ×{}", containers.len())
        }
        Action::Route { answer, .. } => format!("route {answer:?}"),
        Action::RecordStatus(status) => format!("record {:?} {:?} {}", status.sync, status.health, status.message),
        Action::Start { revision, number } => format!("start {revision} {number}"),
        Action::AwaitReady { instance, .. } => format!("await {instance}"),
        Action::Drain { instance, .. } => format!("drain {instance}"),
        Action::Repair { instance, .. } => format!("repair {instance}"),
        Action::Remove { instance, .. } => format!("remove {instance}"),
        Action::RecordServed { revision } => format!("record served {revision}"),
        Action::Install { image } => format!("install {image}"),
        Action::Build { image } => format!("build {image}"),
        Action::Unroute => "unroute".to_owned(),
        Action::Release { .. } => "release".to_owned(),
        Action::LetGo { instance, .. } => format!("let go {instance}"),
        Action::RestoreRecord { .. } => "restore the row".to_owned(),
        Action::Forget => "forget".to_owned(),
    }
}

/// A good revision, then a bad one, then the good one again: as if nothing had been.
fn there_and_back(seed: u64) -> Verdict<()> {
    let (replicas, bad) =
        (u16::try_from(seed % 3 + 1).unwrap(), BEHAVIOURS[2 + usize::try_from(seed / 3 % 4).unwrap()]);
    let push =
        |behaviour| Event::Push { id: 0, app: App { version: 0, behaviour, replicas, suspend: false }, is_heard: true };
    let trouble = |seed| Maker::new(seed).history(Kind::Wild).into_iter().filter(|event| !event.is_wanted());
    let mut history = History::new();
    history.happen(&Event::Boot { daemon: 0 })?;
    history.happen(&push("good"))?;
    history.come_to_rest()?;
    let before = history.end_with_ids();
    history.happen(&push(bad))?;
    trouble(seed).try_for_each(|event| history.happen(&event))?;
    history.come_to_rest()?;
    let (host, now) = (history.engine.host.lock().unwrap(), history.now());
    let containers: Vec<_> = host.containers.values().map(|container| container.id.clone()).collect();
    if host.healthy(&containers, now) != usize::from(replicas) {
        return Err(format!("a {bad} revision took the good one down"));
    }
    drop(host);
    history.happen(&push("good"))?;
    trouble(seed + 1).try_for_each(|event| history.happen(&event))?;
    history.come_to_rest()?;
    let after = history.end_with_ids();
    if before == after { Ok(()) } else { Err(format!("{bad}: {before}\nbecame\n{after}")) }
}

/// Whatever a caller can get, the records say already: a daemon that is killed at any moment after an answer is followed by
/// one that knows whose answer it was.
fn nothing_answers_before_it_is_recorded(seed: u64) -> Verdict<()> {
    let mut history = History::new();
    for event in Maker::new(seed).wishes() {
        history.happen(&event)?;
        for id in history.ids() {
            for _ in 0..30 {
                let _ = history.take_turn(0, &id)?;
                let Some(daemon) = &history.daemons[0] else { break };
                let route = daemon.world.routes.seen(&id).map(|route| route.answer);
                let known = now_or_never(daemon.world.records.revisions(&id)).expect("no waiting");
                let known = known.map_err(|error| error.to_string())?;
                if let Some(Answer::Forward { revision, .. }) = route
                    && !known.iter().any(|served| served.revision == revision)
                {
                    return Err(format!("{id}: callers get {revision}, and no record says so"));
                }
                history.pass(std::time::Duration::from_millis(20));
            }
        }
    }
    Ok(())
}

impl History {
    fn pass(&mut self, time: std::time::Duration) {
        self.clock.advance(time);
    }

    fn now(&self) -> jiff::Timestamp {
        use skep::reconcile::turn::Clock;
        self.clock.now()
    }

    fn end_with_ids(&self) -> String {
        let host = self.engine.host.lock().unwrap();
        let ids: Vec<_> = host.containers.values().map(|container| container.id.clone()).collect();
        let route = self.daemons.iter().flatten().find(|daemon| daemon.leads());
        let route = route.and_then(|daemon| daemon.world.routes.seen(&api_id(0)));
        drop(host);
        format!("{ids:?} {route:?} {}", self.essence())
    }
}

#[test]
fn a_plan_is_what_apply_then_does() {
    with_timers(|| {
        for seed in 0..1000 {
            compare_plan_with_apply(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        }
    });
}

#[test]
fn a_then_bad_then_a_again_is_a() {
    with_timers(|| {
        for seed in 0..500 {
            there_and_back(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        }
    });
}

#[test]
fn what_callers_get_is_in_the_records_before_they_get_it() {
    with_timers(|| {
        for seed in 0..30 {
            nothing_answers_before_it_is_recorded(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        }
    });
}
