//! The matrix: the calls of a run without faults are counted, and then each of them is met by each fault in a run of its
//! own. Where that run ends must be where the first one ended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rand::seq::SliceRandom;
use tokio::sync::Mutex;

use super::Arena;
use super::load::Callers;
use super::proxy::{Address, Fault};
use super::site::{Rest, STEADY, Site, Wanted};
use super::table::Row;

/// How many sites are at work at once: while one waits, another has the processor.
const LANES: usize = 3;

/// … where a call is never answered, and most of the time is spent waiting for its deadline.
const PATIENT_LANES: usize = 4;

/// How long the world may take to come to rest. Far more than the aim: the table says how long it took.
const PATIENCE: Duration = Duration::from_secs(60);

/// … where a call is never answered: the longest deadline of a call comes first.
const LONG_PATIENCE: Duration = Duration::from_secs(200);

/// How often the calls are counted: what is asked while waiting differs a little from run to run.
const REFERENCES: usize = 2;

/// How often a run is tried anew whose call does not come.
const MISSES: u32 = 2;

/// How much longer a delayed call takes.
const DELAY: Duration = Duration::from_secs(3);

/// What the tree does while a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// An API gets new code and a second instance.
    Change,
    /// An API goes, and a new one comes.
    Swap,
    /// An API gets new code, and a requirement that has to be installed.
    Install,
}

/// One run: which call is met by which fault.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    scenario: Scenario,
    address: Address,
    fault: Fault,
    /// How often its call did not come: what is asked while waiting differs a little from run to run.
    missed: u32,
}

/// What came of a run.
enum Outcome {
    Converged {
        time: Duration,
        requests: usize,
        failed: usize,
    },
    Wrong {
        what: String,
        requests: usize,
        failed: usize,
    },
    /// The call did not come this time.
    Missed,
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::Change => "new code and 1 to 2 replicas",
            Self::Swap => "one API removed, one new",
            Self::Install => "new code and a new requirement",
        }
    }
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Refused => "call refused (500)",
            Self::CutBefore => "connection cut before the call",
            Self::ReplyLost => "reply lost after the effect",
            Self::Delayed(_) => "call 3 s late",
            Self::Unanswered => "call never answered",
            Self::KilledBefore => "kill -9 before the call",
            Self::KilledDuring => "kill -9 during the call",
            Self::KilledAfter => "kill -9 after its effect",
        }
    }

    fn is_deadly(self) -> bool {
        matches!(self, Self::KilledBefore | Self::KilledDuring | Self::KilledAfter)
    }

    /// What can happen to that call. To one that only asks, what comes after it is what comes before it.
    fn of(address: &Address) -> Vec<Self> {
        let mut faults = vec![Self::KilledBefore, Self::Refused, Self::CutBefore];
        if address.has_effect() {
            faults.extend([Self::KilledDuring, Self::KilledAfter, Self::ReplyLost, Self::Delayed(DELAY)]);
        }
        faults
    }
}

/// One site that takes one run after the other.
struct Lane {
    site: Site,
    callers: Callers,
    wanted: Wanted,
    /// How many runs there have been.
    round: usize,
}

impl Lane {
    async fn open(arena: &Arena, scenario: Scenario) -> anyhow::Result<Self> {
        let site = arena.site().await?;
        let mut wanted = Wanted::from([(STEADY.to_owned(), (STEADY.to_owned(), 1))]);
        match scenario {
            Scenario::Change | Scenario::Install => {
                site.code("app", "0")?;
                wanted.insert("app".to_owned(), ("0".to_owned(), 1));
            }
            Scenario::Swap => {
                site.code("swap-0", "0")?;
                wanted.insert("swap-0".to_owned(), ("0".to_owned(), 1));
            }
        }
        site.serve().await?;
        site.settled(&wanted, PATIENCE).await.with_context(|| site.story())?;
        let callers = Callers::start(site.address, &format!("/run/{STEADY}/"), STEADY);
        Ok(Self { site, callers, wanted, round: 0 })
    }

    /// Moves the tree on.
    fn begin(&mut self, scenario: Scenario) -> anyhow::Result<()> {
        let before = self.round;
        self.round += 1;
        let text = self.round.to_string();
        match scenario {
            Scenario::Change => {
                self.site.settings("app", "replicas: 2\n")?;
                self.site.code("app", &text)?;
                self.wanted.insert("app".to_owned(), (text, 2));
            }
            Scenario::Swap => {
                let (old, new) = (format!("swap-{before}"), format!("swap-{}", self.round));
                self.site.code(&new, &text)?;
                self.site.delete(&old)?;
                self.wanted.remove(&old);
                self.wanted.insert(new, (text, 1));
            }
            Scenario::Install => {
                self.site.require("app", &format!("{}.{}", self.site.address.port(), self.round))?;
                self.site.code("app", &text)?;
                self.wanted.insert("app".to_owned(), (text, 1));
            }
        }
        Ok(())
    }

    /// Back to where the next run begins.
    async fn end(&mut self, scenario: Scenario) -> anyhow::Result<()> {
        if scenario == Scenario::Change {
            self.site.settings("app", "replicas: 1\n")?;
            self.wanted.entry("app".to_owned()).and_modify(|(_, replicas)| *replicas = 1);
            self.site.settled(&self.wanted, PATIENCE).await?;
        }
        Ok(())
    }

    /// A run without a fault: its calls, how it ended, and how long it took.
    async fn reference(&mut self, scenario: Scenario) -> anyhow::Result<(Vec<Address>, Rest, Duration)> {
        self.site.proxy.arm(None);
        self.begin(scenario)?;
        let begun = Instant::now();
        let (at, rest) = self.site.settled(&self.wanted, PATIENCE).await.with_context(|| self.site.story())?;
        let calls = self.site.proxy.calls();
        self.end(scenario).await?;
        Ok((calls, plain(rest), at - begun))
    }

    /// A run with a fault. `Err` is the harness's own.
    async fn run(&mut self, case: &Case, reference: &Rest) -> anyhow::Result<Outcome> {
        let patience = if case.fault == Fault::Unanswered { LONG_PATIENCE } else { PATIENCE };
        self.site.proxy.arm(Some((case.address.clone(), case.fault)));
        self.begin(case.scenario)?;
        let begun = Instant::now();
        let proxy = Arc::clone(&self.site.proxy);
        tokio::select! {
            biased;
            () = proxy.struck() => {}
            settled = self.site.settled(&self.wanted, patience) => {
                self.site.proxy.disarm();
                if !proxy.has_struck() {
                    return settled.map(|_| Outcome::Missed).with_context(|| self.site.story());
                }
            }
        }
        let struck = Instant::now();
        let mut from = struck;
        if case.fault.is_deadly() {
            self.site.buried().await?;
            from = Instant::now();
            self.site.serve().await?;
        }
        let settled = self.site.settled(&self.wanted, patience).await;
        let failures = if case.fault.is_deadly() {
            // Connections that were opened before belonged to the one that is dead.
            self.callers.failed_after_kill(from)
        } else {
            self.callers.failed_since(begun)
        };
        let (requests, failed) = (self.callers.count_since(begun), failures.len());
        let wrong = |what: String| Outcome::Wrong { what, requests, failed };
        Ok(match settled {
            Err(error) => wrong(format!("{error:#}")),
            Ok((_, rest)) if plain(rest.clone()) != *reference => {
                wrong(format!("another end than without the fault: {rest:?}"))
            }
            Ok(_) if failed > 0 => wrong(format!("{failed} requests to another API failed: {}", failures[0].what)),
            Ok((at, _)) => Outcome::Converged { time: at - from, requests, failed },
        })
    }
}

/// Without the numbers by which the runs of a site are told apart.
fn plain(rest: Rest) -> Rest {
    let name = |id: String| if id.starts_with("swap-") { "swap".to_owned() } else { id };
    Rest {
        instances: rest.instances.into_iter().map(|(id, number, state)| (name(id), number, state)).collect(),
        rows: rest
            .rows
            .into_iter()
            .map(|(id, sync, health, ready, failed)| (name(id), sync, health, ready, failed))
            .collect(),
    }
}

/// What a run without faults is made of.
struct Reference {
    row: Row,
    addresses: BTreeSet<Address>,
    rest: Rest,
}

/// Counts the calls.
async fn count(lane: &mut Lane, scenario: Scenario) -> anyhow::Result<Reference> {
    let mut row = Row::new(format!("none: {}", scenario.name()));
    let (mut addresses, mut end, mut counted) = (BTreeSet::new(), None, 0);
    for _ in 0..REFERENCES {
        let (calls, rest, time) = lane.reference(scenario).await?;
        counted = calls.len();
        addresses.extend(calls.into_iter().filter(|address| address.has_effect() || address.occurrence == 1));
        row.good(time);
        let is_first = end.is_none();
        ensure!(is_first || end.as_ref() == Some(&rest), "two runs without faults end differently: {end:?} {rest:?}");
        end = Some(rest);
    }
    let counts = addresses.len();
    if scenario == Scenario::Install {
        // From the image on it is what the others do too.
        let load = addresses.iter().find(|address| address.call == "POST /images/load").map(|address| address.after);
        addresses.retain(|address| load.is_none_or(|load| address.after <= load));
    }
    let effects = addresses.iter().filter(|address| address.has_effect()).count();
    let met = addresses.len();
    row.note = format!(
        "{counted} calls to the engine, {counts} of them different; {met} are met by faults, of which {effects} have an effect"
    );
    Ok(Reference { row, addresses, rest: end.context("there was a run")? })
}

/// All runs of one scenario, but for calls that are never answered; at most `limit` of them, drawn by chance.
pub async fn run(arena: &Arc<Arena>, scenario: Scenario, limit: Option<usize>) -> anyhow::Result<Vec<Row>> {
    let mut lane = Lane::open(arena, scenario).await?;
    let reference = count(&mut lane, scenario).await?;
    let cases = reference.addresses.iter().flat_map(|address| {
        let case = |fault| Case { scenario, address: address.clone(), fault, missed: 0 };
        Fault::of(address).into_iter().map(case)
    });
    let mut cases: Vec<Case> = cases.collect();
    cases.shuffle(&mut arena.chance());
    if let Some(limit) = limit {
        cases.retain(|case| case.address.has_effect());
        cases.truncate(limit);
    }
    let rows = work(arena, scenario, cases, LANES, lane, &reference.rest).await?;
    Ok([reference.row].into_iter().chain(rows).collect())
}

/// The runs of one scenario in which a call is never answered. Most of their time goes into waiting for its deadline.
pub async fn silence(arena: &Arc<Arena>, scenario: Scenario, limit: Option<usize>) -> anyhow::Result<Vec<Row>> {
    let mut lane = Lane::open(arena, scenario).await?;
    let reference = count(&mut lane, scenario).await?;
    let case = |address: &Address| Case { scenario, address: address.clone(), fault: Fault::Unanswered, missed: 0 };
    let mut cases: Vec<Case> = reference.addresses.iter().map(case).collect();
    // Those first that take the longest.
    cases.sort_by_key(|case| !case.address.has_effect());
    if let Some(limit) = limit {
        // The deadline of what only asks is the shorter one.
        cases.retain(|case| !case.address.has_effect());
        cases.shuffle(&mut arena.chance());
        cases.truncate(limit);
    }
    work(arena, scenario, cases, PATIENT_LANES, lane, &reference.rest).await
}

async fn work(
    arena: &Arc<Arena>,
    scenario: Scenario,
    cases: Vec<Case>,
    lanes: usize,
    first: Lane,
    reference: &Rest,
) -> anyhow::Result<Vec<Row>> {
    let mut rows: BTreeMap<Fault, Row> = BTreeMap::new();
    let lanes = lanes.min(cases.len());
    let total = cases.len();
    let queue: Arc<Mutex<VecDeque<Case>>> = Arc::new(Mutex::new(cases.into()));
    let (sender, mut outcomes) = tokio::sync::mpsc::channel(16);
    let mut tasks = tokio::task::JoinSet::new();
    let mut first = Some(first);
    for _ in 0..lanes {
        let (arena, queue, sender, reference) =
            (Arc::clone(arena), Arc::clone(&queue), sender.clone(), reference.clone());
        let lane = first.take();
        tasks.spawn(async move {
            let mut lane = match lane {
                Some(lane) => lane,
                None => Lane::open(&arena, scenario).await?,
            };
            loop {
                let Some(case) = queue.lock().await.pop_front() else { break };
                let mut outcome = lane.run(&case, &reference).await;
                let mut is_lost = !matches!(outcome, Ok(Outcome::Converged { .. } | Outcome::Missed));
                if is_lost {
                    // The story is told before anything else happens on this site.
                    let file = arena.tell(&format!("{case:?}"), &lane.site.story())?;
                    outcome =
                        outcome.map(|outcome| with_file(outcome, &file)).with_context(|| file.display().to_string());
                } else if let Err(error) = lane.end(scenario).await {
                    let file = arena.tell(&format!("after {case:?}"), &lane.site.story())?;
                    let what = format!("afterwards: {error:#} ({})", file.display());
                    outcome = Ok(Outcome::Wrong { what, requests: 0, failed: 0 });
                    is_lost = true;
                }
                if is_lost {
                    lane.site.close().await?;
                    lane = Lane::open(&arena, scenario).await?;
                }
                if matches!(outcome, Ok(Outcome::Missed)) && case.missed < MISSES {
                    queue.lock().await.push_back(Case { missed: case.missed + 1, ..case });
                    continue;
                }
                sender.send((case, outcome)).await?;
            }
            lane.site.close().await
        });
    }
    drop(sender);
    let (mut done, mut missed) = (0, 0);
    while let Some((case, outcome)) = outcomes.recv().await {
        done += 1;
        let row =
            rows.entry(case.fault).or_insert_with(|| Row::new(format!("{}: {}", case.fault.name(), scenario.name())));
        let said = match outcome {
            Ok(Outcome::Converged { time, requests, failed }) => {
                row.good(time);
                row.requests += requests;
                row.failed += failed;
                format!("{:.1} s", time.as_secs_f64())
            }
            Ok(Outcome::Wrong { what, requests, failed }) => {
                row.requests += requests;
                row.failed += failed;
                row.bad(format!("{}: {what}", case.address));
                format!("WRONG: {what}")
            }
            Ok(Outcome::Missed) => {
                missed += 1;
                "the call did not come".to_owned()
            }
            Err(error) => {
                row.bad(format!("{}: {error:#}", case.address));
                format!("WRONG: {error:#}")
            }
        };
        arena.say(&format!("{done}/{total} {}: {}: {}: {said}", scenario.name(), case.fault.name(), case.address));
    }
    if let Some(unused) = first {
        unused.site.close().await?;
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    arena.say(&format!("{}: {missed} of {total} calls did not come", scenario.name()));
    Ok(rows.into_values().collect())
}

fn with_file(outcome: Outcome, file: &Path) -> Outcome {
    match outcome {
        Outcome::Wrong { what, requests, failed } => {
            Outcome::Wrong { what: format!("{what} ({})", file.display()), requests, failed }
        }
        other => other,
    }
}
