//! A container that uses all the processor time that it may yields to those that do not: it runs when nobody else wants to, and
//! on as few processors as its limit needs.
//!
//! Shares alone do not do that. They say who gets how much in the long run; who wakes up, to answer a request, still waits until the
//! kernel next looks whether somebody else should run, which on a host of 250 looks a second is up to 4 ms, for the gateway and for
//! the app, each way. Nothing is taken away: where others want nothing, it has its whole limit as before.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Docker;
use super::call::QUICK;
use super::cgroup::{Group, Groups};
use super::flood::{Given, Log};
use super::pulse::Pulses;
use crate::engine::EngineError;

/// How often it is looked who uses how much.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// After how many looks an engine is asked again that has not said where it keeps logs.
const ASK_EVERY: u64 = 40;

/// Who uses this part of what it can have between two looks yields: of its limit, or of an equal share among all who use any where
/// that is less.
const MUCH: f64 = 0.9;

/// Who uses less than this, in processors, does next to nothing.
const ANY: f64 = 0.05;

/// Who uses less than this part no longer does, or gets no more: a host that is full of others must not starve it.
const LITTLE: f64 = 0.25;

/// … for so many looks.
const CALM_LOOKS: u32 = 4;

/// Our containers on this host that were seen running.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    groups: Option<Groups>,
    /// Where the engine keeps their logs.
    folder: Option<PathBuf>,
    seen: HashMap<String, Option<Neighbour>>,
    /// What those that were read about may use.
    given: HashMap<String, Given>,
    pulses: Pulses,
}

#[derive(Debug)]
struct Neighbour {
    group: Group,
    used: Duration,
    at: Instant,
    /// Between the last two looks.
    span: Duration,
    /// How many processors' time it used between the last two looks.
    rate: f64,
    /// How many it may use at most.
    limit: f64,
    pace: Pace,
    /// The processors that it was last given, empty for all; `None` where that is not known.
    place: Option<String>,
    /// Somebody has given it processors of its own.
    has_own_place: bool,
    /// Its share among others, which the kernel forgets while it yields.
    share: String,
    log: Option<Log>,
}

/// Whether one yields, and for how many looks it has used little.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Pace {
    yields: bool,
    calm: u32,
}

impl Docker {
    /// Has containers that use all the processor time that they may yield to the others, until told to stop; and holds back those that
    /// flood their logs, as long as this daemon `leads`: two would not agree on how far.
    ///
    /// Does nothing where this process cannot write the control groups of this host, or the engine is elsewhere.
    pub async fn keep_neighbours_calm(self, leads: impl Fn() -> bool, stop: CancellationToken) {
        for looks in 0_u64.. {
            let is_over =
                tokio::select! { () = stop.cancelled() => true, () = tokio::time::sleep(LOOK_EVERY) => false };
            // An engine that does not say is asked again later.
            if !is_over && looks.is_multiple_of(ASK_EVERY) && self.neighbours().folder.is_none() {
                let folder = self.folder().await;
                self.neighbours().folder = folder.ok().flatten();
            }
            let (docker, leads) = (self.clone(), leads());
            let look = move || {
                let mut neighbours = docker.neighbours();
                if is_over {
                    neighbours.let_all_be();
                    return Vec::new();
                }
                neighbours.look(Instant::now(), leads)
            };
            let Ok(beyond) = tokio::task::spawn_blocking(look).await else { return };
            for container in beyond {
                let docker = self.clone();
                // An engine that hangs keeps nobody else waiting.
                tokio::spawn(async move { docker.end_flood(&container).await });
            }
            if is_over {
                return;
            }
        }
    }

    /// Kills a container that cannot be held back.
    async fn end_flood(&self, container: &str) {
        let kill = |client: bollard::Docker| async move { client.kill_container(container, None).await };
        tracing::warn!(container, "it floods its log however little it may run, and is killed");
        // Where it failed, it is asked for again after as much more.
        if let Err(error) = self.call("kill a container", QUICK, kill).await {
            tracing::debug!(container, error = %EngineError::from(error), "it still floods its log");
        }
    }

    pub(super) fn neighbours(&self) -> MutexGuard<'_, Neighbours> {
        self.shared.neighbours.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Neighbours {
    /// Takes note of a container that runs.
    pub(super) fn note(&mut self, container: &str) {
        if !self.seen.contains_key(container) {
            self.seen.insert(container.to_owned(), None);
        }
    }

    /// Takes note of what a container may use that runs.
    pub(super) fn note_limits(&mut self, container: &str, given: Given) {
        self.given.insert(container.to_owned(), given);
    }

    /// Has nobody yield who does.
    fn let_all_be(&mut self) {
        for (container, neighbour) in &mut self.seen {
            let Some(neighbour) = neighbour.as_mut() else { continue };
            if neighbour.pace.yields {
                neighbour.stop_yielding(container);
            }
            if let Some(log) = &neighbour.log {
                log.let_be(&neighbour.group);
            }
        }
        self.seen.clear();
        self.given.clear();
        self.pulses.keep(&BTreeSet::new());
    }

    /// Looks who uses how much, and has them yield or not; names those that flood their logs whatever is done. Takes some µs for each
    /// container; blocks meanwhile.
    fn look(&mut self, now: Instant, leads: bool) -> Vec<String> {
        if self.seen.is_empty() {
            return Vec::new();
        }
        let Some(groups) = self.groups.take().or_else(Groups::find) else { return Vec::new() };
        // Those that are gone, or cannot be seen, are forgotten until they are noted again.
        self.seen.retain(|container, known| match known {
            Some(neighbour) => neighbour.measure(now).is_ok(),
            None => {
                *known = groups.of(container).and_then(|group| Neighbour::new(group, now));
                known.is_some()
            }
        });
        let at_work = self.seen.values().flatten().filter(|one| one.rate >= ANY).count();
        let share = share(std::thread::available_parallelism().map_or(1, usize::from), at_work);
        self.seen.retain(|container, known| known.as_mut().is_none_or(|one| one.decide(container, share).is_ok()));
        self.groups = Some(groups);
        self.place();
        if leads {
            return self.look_at_logs();
        }
        // Whoever leads sees to it, and finds out anew where this daemon comes to.
        self.seen.values_mut().flatten().for_each(|one| one.log = None);
        Vec::new()
    }

    /// Holds back those that flood their logs, and names those with which that is no use.
    fn look_at_logs(&mut self) -> Vec<String> {
        let Self { seen, given, folder: Some(folder), .. } = self else { return Vec::new() };
        let mut beyond = Vec::new();
        given.retain(|container, _| seen.contains_key(container));
        for (container, neighbour) in seen {
            let Some(neighbour) = neighbour else { continue };
            if neighbour.log.is_none() {
                neighbour.log = given.get(container).map(|given| Log::new(folder, container, given.clone()));
            }
            let Some(log) = &mut neighbour.log else { continue };
            if let Err(error) = log.look(&neighbour.group, neighbour.span.as_secs_f64()) {
                tracing::debug!(container, %error, "cannot hold back who floods its log");
            }
            if log.is_beyond() {
                log.begin_anew();
                beyond.push(container.clone());
            }
        }
        beyond
    }

    /// Puts those that yield on as few processors as their limits need together.
    fn place(&mut self) {
        let yielding = || self.seen.values().flatten().filter(|one| one.pace.yields);
        let Some(all) = yielding().find_map(|one| one.group.all_processors()) else {
            self.pulses.keep(&BTreeSet::new());
            return;
        };
        let place = last_of(&all, yielding().map(|one| one.limit).sum()).unwrap_or_default();
        let processors = listed(if place.is_empty() { &all } else { &place }).unwrap_or_default();
        self.pulses.keep(&processors.into_iter().collect());
        for (container, neighbour) in &mut self.seen {
            let Some(neighbour) = neighbour.as_mut().filter(|one| one.pace.yields && !one.has_own_place) else {
                continue;
            };
            if neighbour.place.as_ref() != Some(&place) {
                if let Err(error) = neighbour.group.set_processors(&place) {
                    tracing::debug!(container, %error, "cannot keep a busy container to processors {place:?}");
                }
                neighbour.place = Some(place.clone());
            }
        }
    }
}

impl Neighbour {
    fn new(group: Group, now: Instant) -> Option<Self> {
        let used = group.used().ok()?;
        // As a daemon before this one has left it.
        let limit = group.limit().ok()?.unwrap_or(f64::INFINITY);
        let pace = Pace { yields: group.is_idle(), calm: 0 };
        let mut share = group.share().ok()?;
        if group.is_forgotten(&share) {
            // All containers of ours are given one. A daemon that was killed has not given it back.
            share = group.share_of_instances();
            if !pace.yields {
                group.set_processors("").and_then(|()| group.stop_idling(&share)).ok()?;
            }
        }
        let own = group.processors().filter(|own| !own.is_empty());
        let has_own_place = !pace.yields && own.is_some() && own != group.all_processors();
        let span = LOOK_EVERY;
        Some(Self { group, used, at: now, span, rate: 0.0, limit, pace, place: None, has_own_place, share, log: None })
    }

    fn measure(&mut self, now: Instant) -> std::io::Result<()> {
        let used = self.group.used()?;
        let span = now.saturating_duration_since(self.at);
        if span >= LOOK_EVERY / 2 {
            self.span = span;
            self.rate = used.saturating_sub(self.used).as_secs_f64() / span.as_secs_f64();
            (self.used, self.at) = (used, now);
        }
        Ok(())
    }

    /// Whether it yields from now on, where it could have that many processors' time as its share.
    fn decide(&mut self, container: &str, share: f64) -> std::io::Result<()> {
        // Most of them do next to nothing, and their limits need not be asked for.
        if !self.pace.yields && self.rate < self.limit.min(ANY) * MUCH {
            return Ok(());
        }
        self.limit = self.group.limit()?.unwrap_or(f64::INFINITY);
        let before = self.pace;
        self.pace = before.after(self.rate / self.limit.min(share));
        if self.pace.yields && !before.yields {
            tracing::debug!(container, processors = self.rate, "uses all that it may, and yields to others");
            self.group.idle()?;
        } else if before.yields && !self.pace.yields {
            self.stop_yielding(container);
        } else if self.pace.yields && !self.group.is_idle() {
            // By a daemon whose place this one has taken, or by hand.
            self.group.idle()?;
            self.place = None;
        }
        Ok(())
    }

    fn stop_yielding(&mut self, container: &str) {
        tracing::debug!(container, "yields no more");
        self.place = None;
        let placed = if self.has_own_place { Ok(()) } else { self.group.set_processors("") };
        if let Err(error) = self.group.stop_idling(&self.share).and(placed) {
            tracing::debug!(container, %error, "cannot give a container its share back");
        }
    }
}

impl Pace {
    /// After a span in which it used that part of what it could have.
    fn after(self, part: f64) -> Self {
        match self {
            Self { yields: false, .. } => Self { yields: part >= MUCH, calm: 0 },
            _ if part >= LITTLE => Self { yields: true, calm: 0 },
            Self { calm, .. } => Self { yields: calm + 1 < CALM_LOOKS, calm: calm + 1 },
        }
    }
}

/// An equal share of so many processors among so many.
#[expect(clippy::cast_precision_loss, reason = "some hundreds at most")]
fn share(processors: usize, among: usize) -> f64 {
    processors as f64 / among.max(1) as f64
}

/// The processors of a list, as the kernel writes it: `0,2-3`.
fn listed(all: &str) -> Option<Vec<u32>> {
    let mut processors = Vec::new();
    for part in all.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        processors.extend(first.parse::<u32>().ok()?..=last.parse().ok()?);
    }
    Some(processors)
}

/// The last of a list of processors, as many as it takes for that much of their time; `None` where it takes all.
fn last_of(all: &str, need: f64) -> Option<String> {
    let processors = listed(all)?;
    let count =
        (1..processors.len()).find(|count| u32::try_from(*count).is_ok_and(|count| f64::from(count) >= need))?;
    let last: Vec<String> = processors[processors.len() - count..].iter().map(u32::to_string).collect();
    Some(last.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(parts: &[f64]) -> Vec<bool> {
        let mut pace = Pace::default();
        let paces = parts.iter().map(|part| {
            pace = pace.after(*part);
            pace.yields
        });
        paces.collect()
    }

    #[test]
    fn who_uses_all_that_it_may_yields_until_it_has_used_little_for_a_second() {
        assert_eq!(after(&[0.0, 0.5, 0.89]), [false, false, false]);
        assert_eq!(after(&[0.95, 0.5, 0.3, 1.0]), [true, true, true, true]);
        assert_eq!(after(&[0.95, 0.1, 0.1, 0.1, 0.1, 0.1]), [true, true, true, true, false, false]);
        assert_eq!(after(&[0.95, 0.1, 0.1, 0.1, 0.3, 0.1]), [true, true, true, true, true, true]);
    }

    #[test]
    fn where_many_are_at_work_an_equal_share_is_all_that_one_can_have() {
        let part = |rate: f64, limit: f64, among| rate / limit.min(share(2, among));
        assert!(part(0.95, 1.0, 1) >= MUCH);
        assert!(part(0.5, 1.0, 4) >= MUCH, "four that burn all they get on two processors");
        assert!(part(0.5, 1.0, 2) < MUCH);
        assert!(part(0.2, 1.0, 0) < LITTLE);
    }

    #[test]
    fn those_that_yield_share_as_few_processors_as_they_need() {
        assert_eq!(last_of("0-1", 1.0).as_deref(), Some("1"));
        assert_eq!(last_of("0-1", 0.25).as_deref(), Some("1"));
        assert_eq!(last_of("0-1", 1.5), None);
        assert_eq!(last_of("0-3,8-9", 2.5).as_deref(), Some("3,8,9"));
        assert_eq!(last_of("0-7", f64::INFINITY), None);
        assert_eq!(last_of("0", 1.0), None);
        assert_eq!(last_of("", 1.0), None);
        assert_eq!(last_of("what", 1.0), None);
    }
}
