//! Looking takes all looks that a judgement needs, side by side where none waits for another.

use std::io::IsTerminal as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;

use super::host;
use super::waiting::Waiting;
use crate::admin;
use crate::doctor::engine::NO_ENGINE;
use crate::doctor::facts::{Daemon, Hosted, State};
use crate::doctor::{Blank, Examination, Found};
use crate::engine::Images;
use crate::engine::docker::Docker;
use crate::engine::docker::examine::{BaseFacts, EngineFacts, NetworkFacts, Removed};
use crate::installation::{Holder, Installation};
use crate::previews::Reader;
use crate::reconcile::desired::Target;
use crate::records::postgres::{self, Place, Postgres};
use crate::records::sqlite::Sqlite;
use crate::records::{Records, RecordsError};
use crate::settings::{Settings, SettingsError};
use crate::tree::{Digest, Folder, Scanner, TreeError};

/// For what the host answers from memory or its disk.
const QUICK: Duration = Duration::from_secs(5);
/// For what the engine answers from memory.
const ENGINE: Duration = Duration::from_secs(20);
/// For reading a tree, or a file of records of some gigabytes.
const READING: Duration = Duration::from_secs(30);
/// For what asks beyond this host; each part of it has a shorter deadline of its own.
const BEYOND: Duration = Duration::from_secs(80);

/// Why there are no looks at a folder of the engine's.
const NOT_HERE: &str = "the engine's folder is not on this host";

/// What all looks stand on.
struct Looker {
    settings: Settings,
    /// The installation; `None` where there is none yet, or where it cannot be used.
    installation: Option<Installation>,
    /// Why it cannot be used.
    trouble: Option<String>,
    /// An engine for our owner mark, or for one that is made up and goes when the looks are over.
    docker: Result<Docker, String>,
    waiting: Waiting,
}

/// Takes all looks, and with `fix` removes leftovers before the one that would find them.
///
/// # Errors
/// Where there is no such root, or somebody interrupts.
pub(super) async fn look(root: &Path, fix: bool) -> anyhow::Result<Examination> {
    let root = root.canonicalize().with_context(|| format!("cannot use {} as the root", root.display()))?;
    let (settings, errors) = read_settings(&root);
    let looker = Looker::new(settings);
    let seen = tokio::select! {
        seen = looker.look(errors, fix) => Ok(seen),
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    // What asked the index for a made-up owner leaves a network and a firewall chain: nothing stays where nothing was.
    if looker.installation.is_none()
        && let Ok(docker) = &looker.docker
        && seen.as_ref().map_or(true, |seen| seen.engine.is_ok())
        && let Err(error) = docker.dismantle().await
    {
        anstream::eprintln!("something of this look stays on the engine: {error}");
    }
    seen
}

/// The settings with what is sound of them, and what is not.
fn read_settings(root: &Path) -> (Settings, Vec<String>) {
    match Settings::read(root, |name| std::env::var(name).ok()) {
        Ok((settings, findings)) => {
            let line = |finding: &crate::tree::Diagnostic| match finding.span {
                Some(span) => format!("{}:{}:{}: {}", finding.path, span.line, span.column, finding.message),
                None => format!("{}: {}", finding.path, finding.message),
            };
            (settings, findings.iter().filter(|finding| finding.is_error()).map(line).collect())
        }
        Err(error @ SettingsError::Io { .. }) => (Settings::built_in(root), vec![crate::report::with_causes(&error)]),
        Err(error) => (Settings::built_in(root), vec![error.to_string()]),
    }
}

impl Looker {
    fn new(settings: Settings) -> Self {
        let mark = settings.state.join("installation");
        let (installation, trouble) = match mark.try_exists() {
            Ok(false) => (None, None),
            Ok(true) => match Installation::open(&settings) {
                Ok(installation) => (Some(installation), None),
                Err(error) => (None, Some(crate::report::with_causes(&error))),
            },
            Err(error) => (None, Some(format!("cannot use {}: {error}", settings.state.display()))),
        };
        let owner = installation
            .as_ref()
            .map_or_else(|| hex::encode(rand::random::<[u8; 6]>()), |installation| installation.owner().to_owned());
        let docker = Docker::connect(&settings, &owner).map_err(|error| error.to_string());
        let waiting = Waiting::new(std::io::stderr().is_terminal());
        Self { settings, installation, trouble, docker, waiting }
    }

    async fn look(&self, settings: Vec<String>, fix: bool) -> Examination {
        // The firewall and the networks are looked at before the index is asked, since that makes what is missing.
        let (engine, firewall, state, state_disk, daemon) = tokio::join!(
            self.engine(),
            self.firewall(),
            self.state(),
            self.host("the disk of the state folder", QUICK, {
                let folder = self.settings.state.clone();
                move || host::space(&folder)
            }),
            self.daemon(),
        );
        let (networks, base, engine_disk) =
            tokio::join!(self.networks(&engine), self.base(&engine), self.engine_disk(&engine));
        let digest = base.as_ref().ok().and_then(|base| base.digest);
        let (visit, holdings) = tokio::join!(self.visit(&base), self.holdings(&engine, &state, digest, &networks, fix));
        let held = match &daemon {
            Daemon::AtWork { holder, .. } => holder.address,
            Daemon::None => None,
        };
        Examination {
            now: Timestamp::now(),
            settings,
            routes: if engine.as_ref().is_ok_and(|engine| engine.is_local) { host::routes() } else { Vec::new() },
            engine,
            networks,
            firewall,
            is_root: rustix::process::geteuid().is_root(),
            engine_disk,
            state_disk,
            base,
            has_mmdebstrap: host::has_program("mmdebstrap"),
            bundle: host::bundle(&self.settings.build.ca_bundle),
            visit,
            has_proxy: host::has_proxy(),
            state,
            port: host::port(self.settings.listen, held),
            daemon,
            open_files: host::open_files(),
            holdings,
        }
    }

    fn docker(&self) -> Result<&Docker, String> {
        self.docker.as_ref().map_err(Clone::clone)
    }

    /// A look that asks the system and nobody else, on a thread of its own.
    async fn host<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
        &self,
        what: &'static str,
        limit: Duration,
        look: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Found<T> {
        let looking = tokio::task::spawn_blocking(look);
        let look = async { looking.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string()) };
        self.waiting.of(what, limit, look).await
    }

    async fn engine(&self) -> Found<EngineFacts> {
        let look = async { self.docker()?.examine_engine().await.map_err(|error| error.to_string()) };
        self.waiting.of("the engine", ENGINE, look).await
    }

    async fn firewall(&self) -> Found<crate::engine::docker::examine::FirewallFacts> {
        let look = async { self.docker()?.examine_firewall().await };
        self.waiting.of("the firewall", ENGINE, look).await
    }

    async fn networks(&self, engine: &Found<EngineFacts>) -> Found<NetworkFacts> {
        needs(engine)?;
        let look = async { self.docker()?.examine_networks().await.map_err(|error| error.to_string()) };
        self.waiting.of("networks", ENGINE, look).await
    }

    async fn base(&self, engine: &Found<EngineFacts>) -> Found<BaseFacts> {
        needs(engine)?;
        let look = async { self.docker()?.examine_base().await.map_err(|error| error.to_string()) };
        self.waiting.of("the base image", BEYOND, look).await
    }

    async fn engine_disk(&self, engine: &Found<EngineFacts>) -> Found<crate::doctor::facts::Space> {
        let engine = needs(engine)?;
        let Some(root) = engine.root.clone().filter(|root| engine.is_local && root.exists()) else {
            return Err(Blank::Skipped(NOT_HERE));
        };
        self.host("the engine's disk", QUICK, move || host::space(&root)).await
    }

    async fn visit(&self, base: &Found<BaseFacts>) -> Found<crate::engine::docker::examine::Visit> {
        let base = match base {
            Ok(base) if base.visited.is_some() => base,
            Ok(_) => return Err(Blank::Skipped("there is no base image yet to ask from; `skep plan` gets one")),
            Err(Blank::Skipped(why)) => return Err(Blank::Skipped(why)),
            Err(_) => return Err(Blank::Skipped("the base image cannot be looked at")),
        };
        let look = async { self.docker()?.visit_index(base).await.map_err(|error| error.to_string()) };
        Box::pin(self.waiting.of("the package index, from a container", BEYOND, look)).await
    }

    async fn state(&self) -> Found<State> {
        if let Some(trouble) = &self.trouble {
            return Err(Blank::Failed(trouble.clone()));
        }
        if let Some(place) = self.place() {
            let place = match place {
                Ok(place) => place,
                Err(error) => return Ok(State::Away(error.to_string())),
            };
            let owner = self.installation.as_ref().map(|installation| installation.owner().to_owned());
            let look = async { Ok::<_, RecordsError>(postgres::examine::examine(&place).await) };
            return Ok(match self.waiting.of("the records", BEYOND, look).await? {
                Ok(condition) => State::Database(Box::new(condition), owner),
                Err(error) => State::Away(error.to_string()),
            });
        }
        let folder = self.settings.state.clone();
        self.host("the records", READING, move || host::state(&folder)).await
    }

    /// The Postgres that keeps the records, where one does.
    fn place(&self) -> Option<Result<Place, RecordsError>> {
        let records = &self.settings.records;
        let (url, ca) = (records.url.as_ref()?, records.ca.as_ref());
        let owner = self.installation.as_ref().map_or("", Installation::owner);
        Some(Place::parse(&url.0, ca, &records.schema, owner, 1))
    }

    async fn daemon(&self) -> Daemon {
        let Some(holder) = self.installation.as_ref().and_then(Installation::holder) else { return Daemon::None };
        let answers = match holder.address {
            None => None,
            Some(address) => Some(match tokio::time::timeout(QUICK, admin::client::health(address)).await {
                Ok(answer) => answer.map_err(|error| crate::report::with_causes(&error)),
                Err(_) => Err(format!("no answer within {QUICK:?}")),
            }),
        };
        Daemon::AtWork { holder, answers }
    }

    async fn holdings(
        &self,
        engine: &Found<EngineFacts>,
        state: &Found<State>,
        base: Option<Digest>,
        networks: &Found<NetworkFacts>,
        fix: bool,
    ) -> Found<Hosted> {
        needs(engine)?;
        let removed = match (&self.installation, fix) {
            (Some(installation), true) => Some(self.fix(installation).await?),
            _ => None,
        };
        let look = async { self.docker()?.examine_holdings().await.map_err(|error| error.to_string()) };
        let mut holdings = self.waiting.of("what is on the engine", ENGINE, look).await?;
        if let (None, Ok(docker)) = (&self.installation, &self.docker) {
            // What asks the index beside this is a guest that leaves.
            holdings.forget(docker.mark());
        }
        let needed = match &self.installation {
            Some(installation) => self.needed(installation, state, base).await,
            None => None,
        };
        let (apis, tags) = match needed {
            Some((apis, tags)) => (Some(apis), tags),
            None => (None, None),
        };
        Ok(Hosted {
            owner: self.installation.as_ref().map(|installation| installation.owner().to_owned()),
            holdings,
            apis,
            tags,
            networks: networks
                .as_ref()
                .map_or_else(|_| Vec::new(), |all| all.ours.iter().map(|own| own.name.clone()).collect()),
            removed,
        })
    }

    /// Removes what can be removed without thinking twice.
    async fn fix(&self, installation: &Installation) -> Found<Removed> {
        let holder = Holder {
            pid: std::process::id(),
            command: "doctor --fix".to_owned(),
            address: None,
            root: self.settings.root.clone(),
            base: None,
            records: None,
        };
        // While we hold it, nobody of this installation makes images.
        let lock = installation.lock(&holder);
        let fix = async { self.docker()?.remove_leftovers(lock.is_ok()).await.map_err(|error| error.to_string()) };
        self.waiting.of("leftovers, and removing them", BEYOND, fix).await
    }

    /// Whether the records can be read as they are.
    fn is_usable(state: &Found<State>) -> bool {
        match state {
            Ok(State::Records(_, condition)) => condition.is_usable(),
            Ok(State::Database(found, owner)) => found.schema == Some(found.known) && found.owner == *owner,
            _ => false,
        }
    }

    /// The ids that the tree or the records know, and the images that those need; `None` where either cannot be read:
    /// what is needed by something that we cannot read must not look like a leftover.
    async fn needed(
        &self,
        installation: &Installation,
        state: &Found<State>,
        base: Option<Digest>,
    ) -> Option<(Vec<String>, Option<Vec<String>>)> {
        let settings = self.settings.clone();
        let read = move || {
            let mut scanner = Scanner::new(&settings)?;
            let tree = scanner.read()?.tree;
            Ok::<_, TreeError>(Reader::new(&settings, &scanner).lay_over(&tree).tree)
        };
        let tree = self.host("the tree", READING, read).await.ok()?;
        if tree.without_previews.is_some() {
            return None;
        }
        let owner = installation.owner();
        let mut apis: Vec<String> = tree.folders.keys().map(ToString::to_string).collect();
        let mut images: Vec<Images> = Vec::new();
        for folder in tree.folders.values() {
            if let (Folder::Sound(api), Some(base)) = (folder, &base) {
                images.push(Target::of_api(api, base, owner).images);
            }
        }
        match state.as_ref().ok()? {
            State::Records(..) | State::Database(..) if Self::is_usable(state) => {
                let look = async {
                    let records: Box<dyn Records> = match (state, self.place()) {
                        (Ok(State::Records(path, _)), _) => Box::new(Sqlite::open(path)?),
                        (_, Some(place)) => Box::new(Postgres::open(&place?).await?),
                        _ => return Ok(Vec::new()),
                    };
                    let mut served = Vec::new();
                    for id in records.all().await?.into_keys() {
                        let revisions = records.revisions(&id).await?;
                        served.push((id, revisions));
                    }
                    Ok::<_, RecordsError>(served)
                };
                for (id, revisions) in self.waiting.of("the records", READING, look).await.ok()? {
                    images.extend(revisions.iter().map(|served| Target::of_served(&id, served, owner).images));
                    apis.push(id.to_string());
                }
            }
            State::Records(..) | State::Database(..) | State::Away(_) => return None,
            State::None(_) | State::WithoutRecords(_) => {}
        }
        let tags = images.into_iter().flat_map(|images| [images.dependencies.to_string(), images.code.to_string()]);
        Some((apis, base.map(|_| tags.collect())))
    }
}

/// What the engine said of itself, or why nothing that needs it was looked at.
fn needs(engine: &Found<EngineFacts>) -> Found<&EngineFacts> {
    engine.as_ref().map_err(|_| Blank::Skipped(NO_ENGINE))
}
