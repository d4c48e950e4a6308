//! The model says what each action changes when all goes well. The plan is `step` unfolded over it.

use std::sync::Arc;

use super::desired::Desired;
use super::step::Action;
use crate::tree::Revision;
use crate::world::instance::InstanceName;
use crate::world::{Answer, Instance, Observed, Readiness, Record, RouteSeen, Run};

/// Changes `observed` as `action` would.
pub fn perform(action: &Action, desired: &Desired, observed: &mut Observed) {
    match action {
        Action::Install { image } | Action::Build { image } => {
            observed.images.insert(image.clone());
        }
        Action::Start { revision, number } => start(desired, revision, *number, observed),
        // Instances that were started one after the other become ready about together: waiting for one is for all.
        Action::AwaitReady { .. } => {
            for instance in observed.instances.iter_mut().filter(|instance| instance.address().is_some()) {
                instance.readiness = Readiness::Ready;
            }
        }
        Action::Route { answer, spec } => {
            observed.route = Some(RouteSeen { answer: answer.clone(), settings: spec.digest() });
        }
        Action::Unroute => observed.route = None,
        Action::RecordServed { revision } => record_served(desired, revision, observed),
        Action::RecordStatus(status) => {
            let at = observed.at;
            let record = observed.record.get_or_insert_with(|| Record::new(desired.id.clone(), status.clone(), at));
            record.status = status.clone();
        }
        Action::RestoreRecord { .. } => {
            if let Some(record) = &mut observed.record {
                record.edits.clear();
            }
        }
        Action::Drain { container, .. } => {
            if let Some(instance) = observed.instances.iter_mut().find(|i| i.container == *container) {
                instance.in_flight = 0;
            }
        }
        Action::Repair { container, .. } => {
            // It gets back the address that it had.
            let had = match observed.route.as_ref().map(|route| &route.answer) {
                Some(Answer::Forward { containers, .. }) => containers.get(container).copied(),
                _ => None,
            };
            if let Some(instance) = observed.instances.iter_mut().find(|i| i.container == *container) {
                instance.altered = None;
                if instance.address().is_none() {
                    let address = had.or(Some(std::net::SocketAddr::from(([0, 0, 0, 0], 0))));
                    instance.run = Run::Running { address, since: observed.at };
                    instance.readiness = Readiness::Ready;
                }
            }
        }
        Action::Remove { container, .. } => observed.instances.retain(|i| i.container != *container),
        Action::Release { .. } => {
            if let Some(record) = &mut observed.record {
                record.hold = None;
            }
        }
        Action::LetGo { .. } => {}
        Action::Forget => observed.record = None,
    }
}

fn start(desired: &Desired, revision: &Revision, number: u16, observed: &mut Observed) {
    let name = InstanceName::new(&desired.id, revision, number);
    observed.instances.retain(|instance| instance.name != name);
    let address = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
    observed.instances.push(Instance {
        container: Arc::from(name.as_str()),
        name,
        api: desired.id.clone(),
        revision: revision.clone(),
        number,
        spec: None,
        run: Run::Running { address: Some(address), since: observed.at },
        altered: None,
        beyond_repair: false,
        created: observed.at,
        readiness: Readiness::Unknown,
        leaving: false,
        in_flight: 0,
        draining_since: None,
    });
    observed.instances.sort_by(|a, b| a.name.cmp(&b.name));
}

fn record_served(desired: &Desired, revision: &Revision, observed: &mut Observed) {
    let at = observed.at;
    if let (Some(target), Some(record)) = (desired.target_of(revision), observed.record.as_mut()) {
        let since = record.served.as_ref().filter(|s| s.revision == *revision).map_or(at, |s| s.since);
        record.served = Some(target.served(since));
    }
}
