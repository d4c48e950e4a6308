//! Booting tries APIs where nobody is served: in an installation of its own, which is thrown away afterwards.
//!
//! It is the reconciler that tries them, with the engine, the limits and the probes that would serve them; so what boots
//! here starts there, and what fails here fails there in the same words.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;

use super::apply::rested;
use super::context::{Context, Parts};
use super::process::stop_on_signal;
use crate::admin::whole::document_of;
use crate::contract::{self, Contract};
use crate::engine::docker::Docker;
use crate::engine::docker::boots::LONGEST;
use crate::engine::{Engine as _, Progress};
use crate::git::scratch::Scratch;
use crate::installation::Installation;
use crate::reconcile::Rest;
use crate::reconcile::leadership::keep_leading;
use crate::records::sqlite::Sqlite;
use crate::report;
use crate::report::diagnostics::Boot;
use crate::report::style::plain;
use crate::settings::Settings;
use crate::tree::diagnostic::code;
use crate::tree::{Api, ApiId, Broken, Diagnostic, Folder, Tree};
use crate::world::instance::Run;
use crate::world::{Failure, FailureKind};

/// How many APIs run at the same time: each may use as much memory as it is allowed.
const AT_ONCE: usize = 4;

/// How many events of one API are looked through for how long it took.
const EVENTS: usize = 50;

/// Whose secrets and which state the host has is of no matter here.
const SECRETS: &str =
    "only the daemon that serves it can open its secrets, and without them it would fail for want of them";

/// Somebody does not want to wait for it.
#[derive(Debug, thiserror::Error)]
#[error("interrupted; what was made for it is removed")]
struct Interrupted;

/// What came of trying APIs.
#[derive(Default)]
pub(super) struct Tried {
    /// Those that came to serve.
    pub boots: Vec<Boot>,
    /// What these say of themselves.
    pub contracts: BTreeMap<ApiId, Contract>,
    /// What is to be said of each.
    findings: BTreeMap<ApiId, Vec<Diagnostic>>,
}

impl Tried {
    fn add(&mut self, id: &ApiId, finding: Diagnostic) {
        self.findings.entry(id.clone()).or_default().push(finding);
    }

    /// The tree with what was found; an API that fails is one that cannot be served.
    pub(super) fn added_to(&self, tree: &Tree) -> Tree {
        let mut tree = tree.clone();
        for (id, found) in &self.findings {
            let Some(Folder::Sound(api)) = tree.folders.get(id) else { continue };
            let findings: Vec<Diagnostic> = api.findings.iter().chain(found).cloned().collect();
            let folder = if findings.iter().any(Diagnostic::is_error) {
                Folder::Broken(Arc::new(Broken { id: id.clone(), findings }))
            } else {
                Folder::Sound(Arc::new(Api { findings, ..Api::clone(api) }))
            };
            tree.folders.insert(id.clone(), folder);
        }
        tree
    }
}

/// Tries the sound ones of these APIs.
///
/// # Errors
/// Where the engine cannot be used, or somebody has interrupted it. What was made is removed all the same.
pub(super) async fn boot(settings: &Settings, tree: &Tree, ids: &BTreeSet<ApiId>) -> anyhow::Result<Tried> {
    let mut tried = Tried::default();
    let mut wanted = Vec::new();
    for api in ids.iter().filter_map(|id| tree.sound(id)) {
        if api.spec.suspend {
            anstream::eprintln!("{} is suspended, and not tried", api.id);
        } else if api.secrets.is_some() {
            let path = format!("apis/{}", api.id);
            tried.add(
                &api.id,
                Diagnostic::warning(code::NOT_BOOTED, path, "it was not tried, since it has secrets", SECRETS),
            );
        } else {
            wanted.push(Arc::new(once(api)));
        }
    }
    if wanted.is_empty() {
        return Ok(tried);
    }
    let scratch = Scratch::new(&std::env::temp_dir(), "skep-boot-").context("cannot make a folder to try APIs in")?;
    let mut settings =
        Settings { state: scratch.path().join("state"), push: None, pull: Vec::new(), ..settings.clone() };
    settings.records.url = None;
    let installation = Installation::open(&settings)?;
    let engine = Docker::to_boot(&settings, installation.owner())?;
    let context = Context { settings, installation };
    if let Err(error) = engine.sweep_boots().await {
        anstream::eprintln!("warning: what an earlier run has left cannot be removed: {}", plain(&error.to_string()));
    }
    let (stop, workers) = (stop_on_signal(), CancellationToken::new());
    let done = tokio::select! {
        done = try_all(&context, &engine, &wanted, &workers, &mut tried) => done,
        () = stop.cancelled() => Err(Interrupted.into()),
        () = tokio::time::sleep(LONGEST) => Err(anyhow::anyhow!("it took longer than {} s", LONGEST.as_secs())),
    };
    workers.cancel();
    // Twice, since what was being made when it was given up may come into being after the first.
    let removed = match engine.dismantle().await {
        Ok(()) if done.is_ok() => Ok(()),
        _ => engine.dismantle().await,
    };
    if let Err(error) = removed {
        anstream::eprintln!("warning: something of this is left on the engine, and the next run removes it: {error}");
    }
    done.map(|()| tried)
}

/// The API as it is tried: one instance is enough.
fn once(api: &Api) -> Api {
    let mut api = api.clone();
    api.spec.replicas = 1;
    api
}

async fn try_all(
    context: &Context,
    engine: &Docker,
    wanted: &[Arc<Api>],
    workers: &CancellationToken,
    tried: &mut Tried,
) -> anyhow::Result<()> {
    engine.begin_boot().await?;
    let progress = Progress::new(|line| anstream::eprintln!("base image: {line}"));
    let base = engine.base(&progress).await?;
    for (turn, some) in wanted.chunks(AT_ONCE).enumerate() {
        // Each turn has records of its own: to those of before, its tree would lack what they say serves.
        let records = Arc::new(Sqlite::open(&context.settings.state.join(format!("records-{turn}.db")))?);
        let stop = workers.child_token();
        let parts = context.assemble(engine.clone(), records, Arc::default(), Some(base.clone()), stop.clone());
        let folders = some.iter().map(|api| (api.id.clone(), Folder::Sound(Arc::clone(api)))).collect();
        let ids: BTreeSet<ApiId> = some.iter().map(|api| api.id.clone()).collect();
        parts.controller.set_tree(Ok(Arc::new(Tree { folders, ..Tree::default() })));
        let rests = try_some(&parts, &ids).await?;
        for api in some {
            judge(&parts, api, rests.get(&api.id), tried).await?;
        }
        // Their room is for the next ones, and nobody is to make them anew.
        stop.cancel();
        parts.controller.ended().await;
        for instance in engine.instances(None).await? {
            parts.prober.forget(&instance.container);
            engine.remove(&instance.container, std::time::Duration::ZERO).await?;
        }
    }
    Ok(())
}

/// Has some of them come to rest.
async fn try_some(parts: &Parts, ids: &BTreeSet<ApiId>) -> anyhow::Result<BTreeMap<ApiId, Rest>> {
    let records = Arc::clone(&parts.world.records);
    let Some(epoch) = records.claim(&records.lease().await?, &parts.world.daemon).await? else {
        bail!("another process is at work on what only this one knows of")
    };
    records.fence(Some(epoch));
    parts.controller.look().await?;
    let mut progress = report::progress::Progress::new(ids.iter(), std::io::stderr().is_terminal());
    let rests = tokio::select! {
        rests = rested(parts, ids, &mut progress) => rests,
        () = keep_leading(Arc::clone(&records), &parts.world.role, epoch) => bail!("the records cannot be written"),
    };
    progress.finish();
    records.resign(epoch).await?;
    Ok(rests)
}

/// Says what came of one.
async fn judge(parts: &Parts, api: &Api, rest: Option<&Rest>, tried: &mut Tried) -> anyhow::Result<()> {
    let (id, path) = (&api.id, format!("apis/{}", api.id));
    let record = parts.world.records.get(id).await?;
    if let Some(failure) = record.as_ref().and_then(|record| record.failures.last()) {
        tried.add(id, finding(path, failure));
        return Ok(());
    }
    let does_serve = record.is_some_and(|record| record.served.is_some());
    if !does_serve {
        let why = match rest {
            Some(Rest::Troubled(why)) => why.clone(),
            Some(Rest::Quiet(status)) => status.message.clone(),
            None => String::new(),
        };
        let message = format!("it could not be tried: {why}");
        tried.add(id, Diagnostic::error(code::NOT_BOOTED, path, message, "this says nothing of the API; try again"));
        return Ok(());
    }
    let events = parts.world.records.last_events(Some(id), EVENTS).await?;
    let at = |kind: &str| events.iter().rev().find(|event| event.event.kind == kind).map(|event| event.event.at);
    let seconds = at("started").zip(at("serving")).map_or(0.0, |(from, to)| to.duration_since(from).as_secs_f64());
    tried.boots.push(Boot { id: id.clone(), seconds });
    let instances = parts.world.engine.instances(Some(id)).await?;
    let address = instances.iter().find_map(|instance| match instance.run {
        Run::Running { address, .. } => address,
        _ => None,
    });
    let document = match address {
        Some(address) => document_of(address).await,
        None => None,
    };
    let Some(says) = document.and_then(|bytes| Contract::read(&bytes).ok()) else { return Ok(()) };
    if Contract::of(api).is_some_and(|written| !written.says_the_same(&says)) {
        let path = format!("{path}/{}", contract::FILE);
        let (message, hint) =
            ("it is not what the app says of itself", "write it anew from the app's /openapi.json, and commit both");
        tried.add(id, Diagnostic::warning(code::OPENAPI_STALE, path, message, hint));
    }
    tried.contracts.insert(id.clone(), says);
    Ok(())
}

/// The contracts of those of these APIs that have none in their folder, as they say them themselves. Those that cannot be
/// tried are only warned of: a plan is one without them too.
///
/// # Errors
/// Where somebody has interrupted it.
pub(super) async fn contracts(
    settings: &Settings,
    tree: &Tree,
    ids: impl Iterator<Item = &ApiId>,
) -> anyhow::Result<BTreeMap<ApiId, Contract>> {
    let has_none = |id: &&ApiId| tree.sound(id).is_some_and(|api| Contract::of(api).is_none());
    let ids = ids.filter(has_none).cloned().collect();
    match boot(settings, tree, &ids).await {
        Ok(tried) => {
            for (id, finding) in tried.findings.iter().flat_map(|(id, all)| all.iter().map(move |one| (id, one))) {
                anstream::eprintln!("warning: what {id} promises is not known: {}", plain(&finding.message));
            }
            Ok(tried.contracts)
        }
        Err(error) if error.is::<Interrupted>() => Err(error),
        Err(error) => {
            anstream::eprintln!("warning: nothing could be tried: {}", plain(&format!("{error:#}")));
            Ok(BTreeMap::new())
        }
    }
}

fn finding(path: String, failure: &Failure) -> Diagnostic {
    let (code, hint) = match failure.kind {
        FailureKind::Hindered => (code::NOT_BOOTED, "this says nothing of the API; put it right, and try again"),
        FailureKind::Install => (code::BOOT_FAILED, "look at requirements.txt, and at the installer's last lines"),
        FailureKind::NotReady => (code::BOOT_FAILED, "look at `health` in api.yaml, and at what the app printed last"),
        FailureKind::OutOfMemory => (code::BOOT_FAILED, "raise `resources.memory` in api.yaml, or have it load less"),
        _ => (code::BOOT_FAILED, "look at what it printed last"),
    };
    let message = failure.message.clone();
    Diagnostic { output: failure.output.clone(), ..Diagnostic::error(code, path, message, hint) }
}
