//! The end of a history is when nothing fails any more and all daemons have come to rest: then everything must be as the
//! tree says, and nothing must be left that nobody needs.

use std::collections::{BTreeMap, BTreeSet};

use skep::reconcile::{Basis, Desired, Goal, plan};
use skep::tree::{ApiId, Digest, Files, Folder, Requirements};
use skep::world::{Answer, Observed};

use super::history::{History, Verdict, now_or_never};
use super::parts::{Effects, base, describe, is_good};

/// What is left of a history, but for what may differ from one to the next: times, and the engine's own ids.
#[derive(Debug, PartialEq, Eq)]
pub struct End {
    containers: Vec<String>,
    rows: Vec<String>,
    holds: Vec<ApiId>,
    routes: Vec<String>,
}

impl History {
    /// What must be so.
    pub fn look_at_the_end(&mut self) -> Verdict<()> {
        self.is_nothing_left()?;
        for number in 0..2 {
            self.look_at(number)?;
        }
        let before = self.effects();
        self.come_to_rest()?;
        let after = self.effects();
        if before != after {
            return Err(format!("all had come to rest, and then {before:?} became {after:?}"));
        }
        self.are_images_needed()
    }

    /// What a daemon finds, and what its callers get.
    fn look_at(&self, number: usize) -> Verdict<()> {
        let Some(daemon) = &self.daemons[number] else { return Ok(()) };
        let look = now_or_never(daemon.world.look()).ok_or("a look waits for ever")?;
        let look = look.map_err(|error| error.to_string())?;
        for (id, desired) in daemon.controller.goals(&look) {
            let observed = daemon.world.observed(&look, &desired);
            if daemon.leads() {
                let rest = plan::plan_api(&desired, &observed);
                let rest = rest.filter(|_| !matches!(desired.basis, Basis::RemovalWaits(_)));
                if let Some(rest) = rest.filter(|rest| !rest.steps.is_empty()) {
                    return Err(format!("{id} rests, and its plan is not empty: {:?}", rest.steps));
                }
                self.is_as_it_should(&id, &desired, &observed)?;
            } else {
                self.is_as_with_the_leader(&id, &observed)?;
            }
        }
        Ok(())
    }

    fn is_as_it_should(&self, id: &ApiId, desired: &Desired, observed: &Observed) -> Verdict<()> {
        let running = observed.instances.len();
        let answer = observed.route.as_ref().map(|route| route.answer.clone());
        let is = || format!("{running} instances, {}", describe(answer.clone()));
        match &desired.goal {
            Goal::Remove => Err(format!("{id} has no folder, and there are {}", is())),
            Goal::Suspend(_) if running != 0 || answer != Some(Answer::Suspended) => {
                Err(format!("{id} is suspended, and there are {}", is()))
            }
            Goal::Run(target) => {
                let behaviour = target.spec.env.get("BEHAVIOUR").map_or("good", String::as_str);
                let replicas = usize::from(target.spec.replicas);
                let is_complete = matches!(&answer, Some(Answer::Forward { revision, containers })
                    if *revision == target.revision && containers.len() == replicas && running == replicas);
                if is_good(behaviour) && !is_complete {
                    return Err(format!("{id} should be {} ×{replicas}, and there are {}", target.revision, is()));
                }
                // The tree itself, and not only what the daemon makes of it.
                if let (Some(Folder::Sound(api)), Basis::Tree) = (self.tree.folders.get(id), &desired.basis)
                    && api.revision(&base().digest) != target.revision
                {
                    return Err(format!("{id} goes for {}, which is not what its folder says", target.revision));
                }
                Ok(())
            }
            Goal::Suspend(_) | Goal::Leave => Ok(()),
        }
    }

    /// Callers get the same, whichever daemon they ask.
    fn is_as_with_the_leader(&self, id: &ApiId, observed: &Observed) -> Verdict<()> {
        let leader = self.daemons.iter().flatten().find(|daemon| daemon.leads());
        let theirs = leader.and_then(|leader| leader.world.routes.seen(id)).map(|route| route.answer);
        let ours = observed.route.as_ref().map(|route| route.answer.clone());
        // Of what has never served, only the leader knows what it should be; and nobody cares how they are not served.
        let has_served = observed.record.as_ref().is_some_and(|record| record.served.is_some());
        let is_refused = |answer: &Option<Answer>| !matches!(answer, Some(Answer::Forward { .. }));
        if theirs == ours || !has_served || (is_refused(&theirs) && is_refused(&ours)) {
            return Ok(());
        }
        Err(format!("{id}: callers get {} of the leader, and {} of the other", describe(theirs), describe(ours)))
    }

    fn is_nothing_left(&self) -> Verdict<()> {
        let tables = self.tables.lock().unwrap();
        if !tables.leaving.is_empty() {
            return Err(format!("still on the list of what leaves: {:?}", tables.leaving));
        }
        match tables.holds.keys().find(|id| !tables.rows.contains_key(*id)) {
            Some(id) => Err(format!("{id} is held, and is no more")),
            None => Ok(()),
        }
    }

    /// After a few rounds of cleaning up there are the images of what serves, should serve, and may serve again.
    fn are_images_needed(&mut self) -> Verdict<()> {
        let Some(leader) = self.daemons.iter().flatten().find(|daemon| daemon.leads()) else { return Ok(()) };
        for _ in 0..2 {
            let cleaned = now_or_never(leader.controller.clean_up(true)).ok_or("cleaning up waits for ever")?;
            cleaned.map_err(|error| error.to_string())?;
        }
        let tables = self.tables.lock().unwrap();
        let mut needed = BTreeSet::new();
        let mut need = |id: &ApiId, requirements: &Requirements, files: &Files, base: &Digest| {
            let images = skep::engine::Images::name(super::daemon::OWNER, id, base, requirements, files);
            needed.extend([images.code, images.dependencies]);
        };
        for (id, revisions) in &tables.revisions {
            for served in revisions {
                need(id, &served.requirements, &served.files, &served.base);
            }
        }
        for (id, row) in &tables.rows {
            row.served.iter().for_each(|served| need(id, &served.requirements, &served.files, &served.base));
        }
        for folder in self.tree.folders.values() {
            if let Folder::Sound(api) = folder {
                need(&api.id, &api.requirements, &api.files, &base().digest);
            }
        }
        let host = self.engine.host.lock().unwrap();
        // As where a folder was broken before what it had said could serve.
        needed.extend(host.containers.values().map(|container| container.job.image.clone()));
        match host.images.difference(&needed).next() {
            Some(image) => Err(format!("nobody needs {image}, and it is there")),
            None => Ok(()),
        }
    }

    pub fn effects(&self) -> Effects {
        self.engine.host.lock().unwrap().effects
    }

    /// Whether every API that is there comes to serve.
    pub fn is_good(&self) -> bool {
        self.tables.lock().unwrap().rows.values().all(|row| row.failures.is_empty())
    }

    pub fn end(&self) -> End {
        let host = self.engine.host.lock().unwrap();
        let tables = self.tables.lock().unwrap();
        let containers = host.containers.values().map(|c| format!("{} {:?}", c.job.name, c.altered)).collect();
        let rows = tables.rows.iter().map(|(id, row)| {
            let served = row.served.as_ref().map(|served| (served.revision.clone(), served.spec.digest()));
            // How many times something was tried is said in the message, and is not the same after a crash.
            format!("{id} {:?} {:?} {served:?}", row.status.sync, row.status.health)
        });
        let rows = rows.collect();
        let leader = self.daemons.iter().flatten().find(|daemon| daemon.leads());
        let table = leader.map(|leader| leader.world.routes.table()).unwrap_or_default();
        let answer = |id: &ApiId| leader.and_then(|leader| leader.world.routes.seen(id)).map(|route| route.answer);
        // Whether what has never served is not there or not ready is forgotten with the process that tried it.
        let is_kept = |id: &&ApiId| {
            let has_served = tables.rows.get(*id).is_some_and(|row| row.served.is_some());
            has_served || answer(id) != Some(Answer::Unavailable)
        };
        let routes = table.keys().filter(is_kept).map(|id| (id, describe(answer(id))));
        let routes: BTreeMap<&ApiId, String> = routes.collect();
        let routes = routes.into_iter().map(|(id, route)| format!("{id} {route}")).collect();
        End { containers, rows, holds: tables.holds.keys().cloned().collect(), routes }
    }

    pub fn essence(&self) -> String {
        format!("{:#?}", self.end())
    }
}
