//! A plan made whole: with what it takes more than a look to tell, which is diffs of files, rows that were lost, and
//! how contracts change.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use http::header::ACCEPT;
use http::{Request, StatusCode};

use crate::contract::{self, Contract};
use crate::reconcile::found::ROW_GONE;
use crate::reconcile::goals::{REMOVED, REMOVED_AS_CONFIRMED};
use crate::reconcile::plan::{ApiPlan, Change, Plan, Verdict, plan};
use crate::reconcile::{Desired, World};
use crate::records::Records;
use crate::report::plan::unified;
use crate::tree::{Api, ApiId, Digest, Tree};
use crate::web;
use crate::world::instance::Run;
use crate::world::{Instance, Observed};

/// How long all diffs together may take, and how many bytes they may have: nobody reads more.
const DIFFS: (Duration, usize) = (Duration::from_secs(20), 32 << 20);

/// How long one app may take to say what it promises, and how long after the first any is asked.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(5));

/// What callers are told of where there was no time to ask.
const NOT_ASKED: &str = "what it promises them now could not be asked in time, so nothing is said of what breaks them";

/// What they are told of where the folder has a document that is none.
const UNREADABLE: &str =
    "its openapi.json cannot be read, so nothing is said of what breaks them; `skep check` says why";

/// How many apps are asked at once.
const AT_ONCE: usize = 8;

/// The plan of what should be and what is of each API, by this tree. `booted` is what APIs of it say of themselves, where
/// that was tried.
pub async fn whole(
    world: &World,
    tree: &Tree,
    apis: &BTreeMap<ApiId, (Desired, Observed)>,
    booted: &BTreeMap<ApiId, Contract>,
) -> Plan {
    let mut plan = plan(apis.values().map(|(desired, observed)| (desired, observed)));
    let mut room = Room { until: Instant::now() + DIFFS.0, bytes: DIFFS.1 };
    for api in plan.all_mut() {
        if let Some(mark) = &mut api.preview {
            *mark = mark.clone().with(tree.previews.get(&api.id));
        }
        add_diffs(world, tree.sound(&api.id), api, &mut room).await;
        add_loss(world, apis.get(&api.id).map(|(_, observed)| observed), api).await;
    }
    add_contracts(world, tree, apis, (&mut plan, booted)).await;
    plan
}

/// What is left for diffs.
struct Room {
    until: Instant,
    bytes: usize,
}

/// Says of an API that is new to the records but has served before that its row is gone: also where nothing of it runs.
async fn add_loss(world: &World, observed: Option<&Observed>, plan: &mut ApiPlan) {
    let is_known = observed.is_none_or(|observed| observed.record.is_some());
    if is_known || !plan.drift.is_empty() {
        return;
    }
    let records = &world.records;
    let has_served = records.revisions(&plan.id).await.is_ok_and(|revisions| !revisions.is_empty());
    let events = records.last_events(Some(&plan.id), 1).await.unwrap_or_default();
    // One that went as it should is new when it comes back.
    let was_removed = events.last().is_none_or(|last| [REMOVED, REMOVED_AS_CONFIRMED].contains(&&*last.event.kind));
    if has_served && !was_removed {
        plan.drift.push(ROW_GONE.to_owned());
        if plan.verdict == Verdict::Create {
            plan.verdict = Verdict::Heal;
        }
    }
}

/// Reads both sides of each changed file, where they can be had.
async fn add_diffs(world: &World, folder: Option<&Arc<Api>>, plan: &mut ApiPlan, room: &mut Room) {
    let mut known: BTreeMap<Digest, Option<Arc<[u8]>>> = BTreeMap::new();
    for change in &mut plan.changes {
        let Change::File { path, old, new, diff } = change else { continue };
        if room.bytes == 0 || Instant::now() > room.until {
            return;
        }
        let mut before = None;
        if let Some(old) = old {
            // What the records cannot give is left out of the plan's text; the digests are there all the same.
            if !known.contains_key(old) {
                known.insert(*old, world.records.blob(old).await.unwrap_or_default());
            }
            before = known.get(old).cloned().flatten();
        }
        let after = folder.filter(|_| new.is_some()).and_then(|api| api.read(path).ok());
        if before.is_some() == old.is_some() && after.is_some() == new.is_some() {
            // A daemon serves callers on this thread.
            let compared = tokio::task::spawn_blocking(move || unified(before.as_deref(), after.as_deref()));
            *diff = compared.await.ok().flatten();
            room.bytes = room.bytes.saturating_sub(diff.as_ref().map_or(0, String::len));
        }
    }
}

/// Compares what is promised so far with what will be, where both can be had; where not, nothing is said.
async fn add_contracts(
    world: &World,
    tree: &Tree,
    apis: &BTreeMap<ApiId, (Desired, Observed)>,
    (plan, booted): (&mut Plan, &BTreeMap<ApiId, Contract>),
) {
    let until = tokio::time::Instant::now() + PATIENCE.1;
    let mut asked = Vec::new();
    for (place, plan) in plan.apis.iter_mut().enumerate().filter(|(_, api)| api.is_replaced()) {
        let after = tree.sound(&plan.id).and_then(|folder| After::of(folder, booted.get(&plan.id)));
        let before = apis.get(&plan.id).and_then(|(_, observed)| Before::of(observed));
        // The same bytes promise the same, however many APIs there are.
        if let (Some(After::Written(folder)), Some(Before::Kept(digest))) = (&after, &before)
            && folder.files.get(contract::FILE).is_some_and(|file| file.digest == *digest)
        {
            continue;
        }
        if let (None, Some(Before::Kept(_)), Some(_)) = (&after, &before, tree.sound(&plan.id)) {
            plan.miss_document();
        }
        if let (Some(after), Some(before)) = (after, before) {
            let (plan, records) = (plan.clone(), Arc::clone(&world.records));
            asked.push(async move {
                let before = before.read(records, until).await;
                Some((place, promised(plan, after, before).await?))
            });
        }
    }
    // Comparing is bounded by what it does, and is waited for: nobody begins another plan beside it meanwhile.
    let told = stream::iter(asked).buffer_unordered(AT_ONCE);
    for (place, promised) in told.filter_map(std::future::ready).collect::<Vec<_>>().await {
        plan.apis[place] = promised;
    }
}

/// The plan of one API, with what it changes of what was promised.
async fn promised(mut plan: ApiPlan, after: After, before: Document) -> Option<ApiPlan> {
    let before = match before {
        Document::Bytes(before) => before,
        Document::None => return None,
        Document::NotAsked => {
            plan.callers.push(NOT_ASKED.to_owned());
            return Some(plan);
        }
    };
    let compared = tokio::task::spawn_blocking(move || {
        let after = match after {
            After::Written(folder) => match Contract::of(&folder) {
                Some(contract) => contract,
                None => {
                    plan.callers.push(UNREADABLE.to_owned());
                    return Some(plan);
                }
            },
            After::Said(contract) => *contract,
        };
        plan.promise(&Contract::read(&before).ok()?, &after);
        Some(plan)
    });
    compared.await.ok().flatten()
}

/// Where the document of what is to serve is: in its folder, else it has been tried.
enum After {
    Written(Arc<Api>),
    Said(Box<Contract>),
}

impl After {
    fn of(folder: &Arc<Api>, booted: Option<&Contract>) -> Option<Self> {
        // It was tried where the folder has none that can be read.
        let said = booted.map(|contract| Self::Said(Box::new(contract.clone())));
        said.or_else(|| folder.files.contains_key(contract::FILE).then(|| Self::Written(Arc::clone(folder))))
    }
}

/// Where the document of what serves is: among the files that it came with, else where it answers.
enum Before {
    Kept(Digest),
    Answers(SocketAddr),
}

impl Before {
    fn of(observed: &Observed) -> Option<Self> {
        let served = observed.record.as_ref()?.served.as_ref()?;
        if let Some(file) = served.files.get(contract::FILE) {
            return (file.len <= contract::MOST as u64).then_some(Self::Kept(file.digest));
        }
        let is_it = |instance: &&Instance| instance.revision == served.revision && !instance.leaving;
        let address = observed.instances.iter().filter(is_it).find_map(|instance| match instance.run {
            Run::Running { address, .. } => address,
            _ => None,
        });
        address.map(Self::Answers)
    }

    async fn read(self, records: Arc<dyn Records>, until: tokio::time::Instant) -> Document {
        let bytes = match self {
            Self::Kept(digest) => records.blob(&digest).await.ok().flatten().map(|bytes| bytes.to_vec()),
            Self::Answers(address) => match tokio::time::timeout_at(until, document_of(address)).await {
                Ok(document) => document,
                Err(_) => return Document::NotAsked,
            },
        };
        bytes.map_or(Document::None, Document::Bytes)
    }
}

/// What came of looking for a document.
enum Document {
    Bytes(Vec<u8>),
    None,
    /// There was no time for it.
    NotAsked,
}

/// What an app says of itself, where FastAPI has it.
pub async fn document_of(address: SocketAddr) -> Option<Vec<u8>> {
    let uri = format!("http://{address}/{}", contract::FILE);
    let request = Request::get(uri).header(ACCEPT, "application/json").body(bytes::Bytes::new()).ok()?;
    let answer = tokio::time::timeout(PATIENCE.0, web::send_to_own(request, contract::MOST)).await.ok()?.ok()?;
    (answer.status() == StatusCode::OK).then(|| answer.into_body().to_vec())
}
