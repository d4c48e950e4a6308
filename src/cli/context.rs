//! What commands stand on: the settings, the installation, and a world to look at.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tokio_util::sync::CancellationToken;

use crate::admin::Surface;
use crate::admin::push::Pushes;
use crate::engine::docker::Docker;
use crate::engine::{Base, Engine, Progress};
use crate::gateway::{Routes, TURNS_BETWEEN_LOOKS};
use crate::git::commit::{Commits, Origin};
use crate::git::place::Placing;
use crate::git::store::{PLACED, Store, branch_ref};
use crate::installation::{Holder, Installation};
use crate::previews::Reader;
use crate::reconcile::look::Look;
use crate::reconcile::prober::Prober;
use crate::reconcile::turn::SystemClock;
use crate::reconcile::{Basis, Controller, Desired, World};
use crate::records::postgres::{Place, Postgres};
use crate::records::remembering::Remembering;
use crate::records::sqlite::Sqlite;
use crate::records::{Records, RecordsError};
use crate::report::diagnostics::Findings;
use crate::report::style::{WARN, paint};
use crate::secrets::Keyring;
use crate::settings::{Offline, Settings};
use crate::tree::diagnostic::code;
use crate::tree::{ApiId, Diagnostic, Scanner, Tree};
use crate::world::Observed;

/// What a daemon remembers of records in a database, in the state folder.
pub const REMEMBERED: &str = "remembered.json";

/// The settings and the installation that a command works with.
#[derive(Debug)]
pub struct Context {
    /// All settings.
    pub settings: Settings,
    /// The state folder.
    pub installation: Installation,
}

/// Everything that a command needs to look at the world or to change it.
pub struct Parts {
    /// What steps are performed on.
    pub world: Arc<World>,
    /// What probes instances.
    pub prober: Prober,
    /// What gives APIs their turns.
    pub controller: Arc<Controller>,
}

/// A tree, a look at the world, and what both say about each API.
pub struct Comparison {
    /// The tree.
    pub tree: Arc<Tree>,
    /// The world.
    pub look: Look,
    /// What should be and what is, of each API.
    pub apis: BTreeMap<ApiId, (Desired, Observed)>,
}

/// Runs a command's future to its end.
///
/// # Errors
/// As the command, or where no threads can be had.
pub fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().event_interval(TURNS_BETWEEN_LOOKS);
    let runtime = runtime.build().context("cannot start threads")?;
    let done = runtime.block_on(command);
    // A file that is being read somewhere must not keep a command that has its answer.
    runtime.shutdown_background();
    done
}

/// Errors after which nothing of a file is known.
const UNREAD: [&str; 5] =
    [code::YAML_SYNTAX, code::YAML_FEATURE, code::DUPLICATE_KEY, code::NOT_TEXT, code::UNREADABLE];

impl Context {
    /// Reads the settings below `root` and opens the installation.
    ///
    /// # Errors
    /// Where either cannot be used.
    pub fn open(root: &Path) -> anyhow::Result<Self> {
        let root = absolute(root)?;
        let (settings, findings) = Settings::read(&root, |name| std::env::var(name).ok())?;
        if findings.iter().any(Diagnostic::is_error) {
            anstream::eprint!("{}", Findings::new(&findings, &Tree::default(), None, "").text(true));
            bail!("the settings cannot be used as they are");
        }
        let installation = Installation::open(&settings)?;
        Ok(Self { settings, installation })
    }

    /// As [`Context::open`], for commands that only look at what is there: they make no installation.
    ///
    /// # Errors
    /// As [`Context::open`], and where there is no installation.
    pub fn open_existing(root: &Path) -> anyhow::Result<Self> {
        let settings = Settings::load(&absolute(root)?, |name| std::env::var(name).ok())?;
        Self::open_what_is_there(settings)
    }

    /// As [`Context::open_existing`], for commands that are wanted most while something is wrong, and need little of the settings:
    /// errors in `skep.yaml` are told, and what is sound of it holds.
    ///
    /// # Errors
    /// As [`Context::open_existing`], but for those.
    pub fn open_in_spite(root: &Path) -> anyhow::Result<Self> {
        let (settings, findings) = Settings::read(&absolute(root)?, |name| std::env::var(name).ok())?;
        let errors: Vec<&Diagnostic> = findings.iter().filter(|finding| finding.is_error()).collect();
        if let [first, more @ ..] = &errors[..] {
            // Of what cannot be read at all nothing is sound, and where the records of a database are might be among what is not.
            if errors.iter().any(|error| UNREAD.contains(&error.code)) || settings.records.url.is_some() {
                return Self::open(root);
            }
            let more = if more.is_empty() { String::new() } else { format!(", and {} more", more.len()) };
            anstream::eprintln!("{}", paint(format!("{first}{more}; going by what is sound of it"), WARN));
        }
        Self::open_what_is_there(settings)
    }

    fn open_what_is_there(settings: Settings) -> anyhow::Result<Self> {
        if !settings.state.is_dir() {
            bail!("there is no installation at {}; name the tree's folder with --root", settings.state.display());
        }
        let installation = Installation::open(&settings)?;
        Ok(Self { settings, installation })
    }

    /// Opens the records for a command.
    ///
    /// # Errors
    /// Where they cannot be opened, and where the installation has others.
    pub async fn records(&self) -> anyhow::Result<Arc<dyn Records>> {
        self.check_records()?;
        self.open_records().await
    }

    async fn open_records(&self) -> anyhow::Result<Arc<dyn Records>> {
        Ok(match self.place()? {
            None => Arc::new(Sqlite::open(&self.installation.records())?),
            Some(place) => Arc::new(Postgres::open(&place).await?),
        })
    }

    /// Opens the records for a daemon that may have to begin without them, where the settings let it.
    ///
    /// # Errors
    /// Where they cannot be opened, or a newer skep has written them, and there is nothing to begin with.
    pub async fn records_to_serve(&self) -> anyhow::Result<Arc<dyn Records>> {
        let Some(place) = self.place()? else { return self.open_records().await };
        if self.settings.records.offline == Offline::Refuse {
            return self.open_records().await;
        }
        let postgres = Arc::new(Postgres::lazy(&place)?);
        let (path, name) =
            (self.settings.state.join(REMEMBERED), format!("{} {}", place.address.place(), place.schema));
        let remembering = Arc::new(Remembering::new(postgres.clone(), &name, &path));
        match postgres.prepare().await {
            Err(error @ (RecordsError::Open { .. } | RecordsError::TooNew { .. })) if remembering.is_filled() => {
                tracing::warn!("{error}; serving as last known, and changing nothing until the database is back");
            }
            opened => opened?,
        }
        tokio::spawn(Arc::clone(&remembering).keep());
        Ok(remembering)
    }

    /// The Postgres that keeps the records, where one does.
    ///
    /// # Errors
    /// Where its address cannot be used.
    pub fn place(&self) -> anyhow::Result<Option<Place>> {
        let records = &self.settings.records;
        let Some(url) = &records.url else { return Ok(None) };
        let (owner, connections) = (self.installation.owner(), usize::from(records.connections));
        Ok(Some(Place::parse(&url.0, records.ca.as_ref(), &records.schema, owner, connections)?))
    }

    /// What this process writes into the lock.
    #[must_use]
    pub fn holder(&self, command: &str, address: Option<std::net::SocketAddr>) -> Holder {
        let (command, root) = (command.to_owned(), self.settings.root.clone());
        Holder { pid: std::process::id(), command, address, root, base: None, records: self.records_mark() }
    }

    /// Has a surface take pushes, where the settings say that they are taken.
    ///
    /// # Errors
    /// Where git is not there, or the repository cannot be set up.
    pub async fn take_pushes(&self, surface: &Surface) -> anyhow::Result<()> {
        let (settings, Some(push)) = (&self.settings, &self.settings.push) else { return Ok(()) };
        let store = Store::of(&settings.state);
        let program = std::env::current_exe().context("cannot find this program")?;
        store.prepare(push, &settings.root, &program).await?;
        let scheme = settings.scheme();
        surface.set_to_take(Pushes::new(store, settings.admin_listen.is_none().then_some(scheme), push.max_size));
        Ok(())
    }

    /// Places what was pushed last, where whoever took it in was ended before it lay in the tree.
    ///
    /// # Errors
    /// Where git does not answer, or the folders cannot be placed.
    pub async fn place_pushed(settings: &Settings) -> anyhow::Result<()> {
        let Some(push) = &settings.push else { return Ok(()) };
        let store = Store::of(&settings.state);
        let place = Placing::pushed(&store, settings);
        let Some(_lock) = place.lock(false)? else { return Ok(()) };
        let commit = store.resolve(&branch_ref(push)).await?;
        if let Some(commit) = commit.filter(|_| store.folder().join("HEAD").exists())
            && store.resolve(PLACED).await?.as_ref() != Some(&commit)
        {
            place.put(place.ready(&commit, false).await?).await?;
        }
        Ok(())
    }

    /// An engine, not yet asked anything.
    ///
    /// # Errors
    /// Where its address is of a kind that skep does not speak.
    pub fn engine(&self) -> anyhow::Result<Docker> {
        Ok(Docker::connect(&self.settings, self.installation.owner())?)
    }

    /// Puts the parts together, on a base image that is there, or will be: without one they only serve what served.
    #[must_use]
    pub fn assemble(
        &self,
        engine: Docker,
        records: Arc<dyn Records>,
        routes: Arc<Routes>,
        base: Option<Base>,
        stop: CancellationToken,
    ) -> Parts {
        let prober = Prober::new();
        let owner = self.installation.owner().to_owned();
        let (engine, readings) = (Arc::new(engine), Arc::new(prober.clone()));
        let mut world = World::new(owner, engine, records, routes, readings, Arc::new(SystemClock));
        // Whose a lease is can be seen from another host.
        world.daemon = format!("{}.{}", self.installation.host(), world.daemon);
        world.commits = Some(self.commits());
        world.keyring = Some(Keyring::of(&self.settings.state));
        world.build_logs = Some(self.settings.state.join("builds"));
        let world = Arc::new(world);
        let controller = Controller::new(Arc::clone(&world), base, self.settings.policy.clone(), stop);
        Parts { world, prober, controller }
    }

    /// Who is asked which commit a folder of the tree is.
    fn commits(&self) -> Commits {
        let Settings { state, policy, .. } = &self.settings;
        let pushed = self.settings.push.as_ref();
        let pushed = pushed.map(|_| Origin { store: Store::of(state), prefix: self.settings.apis_name() });
        let pulled = self.settings.pull.iter();
        let pulled =
            pulled.map(|source| Origin { store: Store::of_source(state, &source.name), prefix: source.folder.clone() });
        let origins = pushed.into_iter().chain(pulled).collect();
        Commits { origins, policy: policy.clone(), state: state.clone() }
    }

    /// Parts for a command that has no gateway.
    ///
    /// # Errors
    /// Where the engine cannot be asked for the base image, or the records cannot be opened.
    pub async fn assemble_for_command(&self) -> anyhow::Result<Parts> {
        let engine = self.engine()?;
        let progress = Progress::new(|line| anstream::eprintln!("base image: {line}"));
        let base = engine.base(&progress).await?;
        let records = self.records().await?;
        Ok(self.assemble(engine, records, Arc::default(), Some(base), CancellationToken::new()))
    }

    /// Reads the tree once, with the previews beside it.
    ///
    /// # Errors
    /// Where it cannot be read: never an empty tree instead.
    pub fn read_tree(&self) -> anyhow::Result<Arc<Tree>> {
        self.read_tree_beside(&self.settings.state)
    }

    /// The same, with the previews of another state folder.
    ///
    /// # Errors
    /// As [`Context::read_tree`].
    pub fn read_tree_beside(&self, state: &Path) -> anyhow::Result<Arc<Tree>> {
        let mut scanner = Scanner::new(&self.settings)?;
        let tree = scanner.read()?.tree;
        let settings = Settings { state: state.to_owned(), ..self.settings.clone() };
        Ok(Reader::new(&settings, &scanner).lay_over(&tree).tree)
    }

    /// How the addresses begin by which callers reach APIs, as far as this host knows.
    #[must_use]
    pub fn callers_address(&self) -> String {
        let settings = &self.settings;
        let control = self.installation.holder().and_then(|holder| holder.address);
        let mut address = control.filter(|_| settings.admin_listen.is_none()).unwrap_or(settings.listen).to_string();
        if settings.listen.ip().is_unspecified() {
            address = format!("HOST:{}", settings.listen.port());
        }
        let scheme = settings.scheme();
        format!("{scheme}://{address}")
    }
}

impl Parts {
    /// Compares a tree with the world, with routes as a daemon would have them.
    ///
    /// # Errors
    /// Where the world cannot be looked at.
    pub async fn compare(&self, tree: Arc<Tree>) -> anyhow::Result<Comparison> {
        self.controller.set_tree(Ok(Arc::clone(&tree)));
        Ok(self.compare_with(tree, self.world.look().await?).await)
    }

    /// The same comparison, as if somebody had said that what is gone may go. Writes nothing down.
    pub async fn as_confirmed(&self, comparison: Comparison) -> Comparison {
        let Comparison { tree, mut look, apis } = comparison;
        let held = apis.into_iter().filter(|(_, (desired, _))| matches!(desired.basis, Basis::RemovalHeld(_)));
        look.confirmed.extend(held.map(|(id, _)| id));
        self.compare_with(tree, look).await
    }

    async fn compare_with(&self, tree: Arc<Tree>, look: Look) -> Comparison {
        let goals = self.controller.goals(&look);
        self.world.assume_routes(&look, &goals).await;
        let observe = |(id, desired): (ApiId, Desired)| {
            let observed = self.world.observed(&look, &desired);
            (id, (desired, observed))
        };
        let apis = goals.into_iter().map(observe).collect();
        Comparison { tree, look, apis }
    }
}

/// The folder itself, so that whatever is kept of it means the same to a process that was started elsewhere.
fn absolute(root: &Path) -> anyhow::Result<PathBuf> {
    root.canonicalize().with_context(|| format!("cannot use {} as the root", root.display()))
}
