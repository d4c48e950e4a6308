//! A site is one installation in the arena: a tree, a state folder, a daemon behind a proxy, and what it has on the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bollard::models::ContainerSummary;
use bollard::query_parameters::{
    InspectContainerOptions, ListContainersOptions, ListImagesOptions, ListNetworksOptions, ListVolumesOptions,
    TagImageOptions,
};
use rustix::process::Signal;
use serde_json::Value;
use skep::engine::docker::Docker;
use skep::settings::Settings;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use super::engine::{Engine, tail};
use super::http;
use super::proxy::Proxy;
use super::{arena, seed};

/// Between two looks at whether all is well again.
const LOOK: Duration = Duration::from_millis(25);

/// What faults happen to, and what the engine is asked at least: callers need no key, an old instance is not waited for
/// long, many removals are nothing special, and a look at everything is never far.
const SETTINGS: &str = "look_every: 5s\npolicy: { max_deletes: { count: 1000000 } }\n\
     defaults:\n  route: { public: true }\n  deploy: { drain: 5s }\n  health: { interval: 1s, grace: 20s }\n";

/// An API that nobody changes, to see whether its callers notice what happens to others.
pub const STEADY: &str = "steady";

/// Where the next daemon listens.
static NEXT_PORT: AtomicU16 = AtomicU16::new(20_000);

/// One installation.
pub struct Site {
    folder: Arc<tempfile::TempDir>,
    pub engine: Arc<Engine>,
    pub proxy: Arc<Proxy>,
    pub address: SocketAddr,
    owner: String,
    index: PathBuf,
    daemon: Mutex<Option<Child>>,
    /// The daemon's process; 0 where there is none.
    pid: Arc<AtomicU32>,
    /// The name of its log.
    log: String,
    /// What comes before `skep` on the daemon's command line, as `faketime` does.
    pub wrapper: Vec<String>,
    pub environment: Vec<(String, String)>,
}

/// What should be: of each API what it answers, and how many instances it has.
pub type Wanted = BTreeMap<String, (String, usize)>;

/// What there is at rest, without what differs from run to run: two histories with the same end have this in common.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Rest {
    /// API, number, state; the revision is known to be the one that serves.
    pub instances: BTreeSet<(String, u64, String)>,
    /// API, sync, health, ready, failure.
    pub rows: BTreeSet<(String, String, String, u64, bool)>,
}

impl Site {
    /// An installation with one API that nobody changes, and no daemon yet.
    pub fn open(engine: &Arc<Engine>, index: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("site-").tempdir_in(engine.folder())?;
        fs::create_dir_all(folder.path().join("project/apis"))?;
        fs::create_dir_all(folder.path().join("state"))?;
        let pid = Arc::new(AtomicU32::new(0));
        let kill = {
            let pid = Arc::clone(&pid);
            move || drop(arena::signal(pid.load(Ordering::SeqCst), Signal::KILL))
        };
        let owner = hex::encode(rand::random::<[u8; 6]>());
        fs::write(folder.path().join("state/installation"), &owner)?;
        let site = Self {
            proxy: Arc::new(Proxy::open(folder.path().join("proxy.sock"), &engine.socket(), kill)?),
            engine: Arc::clone(engine),
            // The network is the arena's own, so that any port is free.
            address: (Ipv4Addr::LOCALHOST, NEXT_PORT.fetch_add(1, Ordering::SeqCst)).into(),
            owner,
            index: index.to_owned(),
            daemon: Mutex::default(),
            pid,
            folder: Arc::new(folder),
            log: "serve.log".to_owned(),
            wrapper: Vec::new(),
            environment: Vec::new(),
        };
        site.write("skep.yaml", SETTINGS)?;
        site.code(STEADY, "steady")?;
        Ok(site)
    }

    /// The same installation once more, for a second daemon: with a proxy, a port and a log of its own.
    pub fn second(&self) -> anyhow::Result<Self> {
        let pid = Arc::new(AtomicU32::new(0));
        Ok(Self {
            proxy: Arc::new(Proxy::open(self.folder.path().join("second.sock"), &self.engine.socket(), || {})?),
            engine: Arc::clone(&self.engine),
            address: (Ipv4Addr::LOCALHOST, NEXT_PORT.fetch_add(1, Ordering::SeqCst)).into(),
            owner: self.owner.clone(),
            index: self.index.clone(),
            daemon: Mutex::default(),
            pid,
            folder: Arc::clone(&self.folder),
            log: "second.log".to_owned(),
            wrapper: Vec::new(),
            environment: Vec::new(),
        })
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// Has the requirements that every API has ready, as another installation made them: an install takes its time.
    pub async fn inherit(&self, donor: &str) -> anyhow::Result<()> {
        let client = self.engine.client()?;
        let prefix = format!("skep/{donor}/deps:");
        for image in client.list_images(None::<ListImagesOptions>).await? {
            for tag in image.repo_tags.iter().filter_map(|tag| tag.strip_prefix(&prefix)) {
                let options =
                    TagImageOptions { repo: Some(format!("skep/{}/deps", self.owner)), tag: Some(tag.to_owned()) };
                client.tag_image(&image.id, Some(options)).await?;
            }
        }
        Ok(())
    }

    /// Writes a file below the root, as an editor saves it: aside, and moved into its place.
    pub fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        let aside = self.folder.path().join(format!("saved-{:08x}", rand::random::<u32>()));
        fs::write(&aside, text)?;
        Ok(fs::rename(aside, path)?)
    }

    /// Makes an API answer `text`.
    pub fn code(&self, id: &str, text: &str) -> anyhow::Result<()> {
        self.write(&format!("apis/{id}/main.py"), &include_str!("apps/plain.py").replace("{text}", text))
    }

    pub fn settings(&self, id: &str, text: &str) -> anyhow::Result<()> {
        self.write(&format!("apis/{id}/api.yaml"), text)
    }

    /// Makes an API need a package that nothing has had yet.
    pub fn require(&self, id: &str, version: &str) -> anyhow::Result<()> {
        let (name, bytes) = seed::wheel("chaospart", version);
        seed::add(&self.index, &name, &bytes)?;
        self.write(&format!("apis/{id}/requirements.txt"), &format!("chaospart=={version}\n"))
    }

    /// Deletes the folder of an API, in one go.
    pub fn delete(&self, id: &str) -> anyhow::Result<()> {
        let aside = self.folder.path().join(format!("deleted-{:08x}", rand::random::<u32>()));
        fs::rename(self.root().join("apis").join(id), &aside)?;
        Ok(fs::remove_dir_all(aside)?)
    }

    fn skep(&self, wrapper: &[String]) -> Command {
        let skep = env!("CARGO_BIN_EXE_skep");
        let mut command = match wrapper {
            [] => Command::new(skep),
            [program, words @ ..] => {
                let mut command = Command::new(program);
                command.args(words).arg(skep);
                command
            }
        };
        command.current_dir(self.root()).stdin(Stdio::null()).kill_on_drop(true);
        for variable in ["SKEP_ROOT", "SKEP_LOG", "SKEP_ADMIN_KEY", "ADMIN_API_KEY", "SUPABASE_DB_URL", "SKEP_DIAL"] {
            command.env_remove(variable);
        }
        command
            .env("SKEP_STATE_DIR", self.state())
            .env("SKEP_LISTEN", self.address.to_string())
            .env("SKEP_INDEX_URL", arena::INDEX)
            .env("NO_COLOR", "1");
        command
    }

    /// Starts a daemon behind the proxy, and doesn't wait for anything.
    pub fn spawn(&self) -> anyhow::Result<Child> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let mut command = self.skep(&self.wrapper);
        command.arg("serve").stdout(log.try_clone()?).stderr(log);
        command.env("DOCKER_HOST", format!("unix://{}", self.proxy.socket().display()));
        command.env("SKEP_LOG", "skep=debug,skep::access=off").envs(self.environment.iter().cloned());
        command.spawn().context("cannot start skep")
    }

    /// Starts the daemon.
    pub async fn serve(&self) -> anyhow::Result<()> {
        let mut daemon = self.daemon.lock().await;
        ensure!(daemon.is_none(), "a daemon is at work already");
        let started = self.spawn()?;
        self.pid.store(started.id().unwrap_or_default(), Ordering::SeqCst);
        *daemon = Some(started);
        Ok(())
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::SeqCst)
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        arena::signal(self.pid(), signal)
    }

    /// Waits until the daemon has ended, which something else brought about.
    pub async fn buried(&self) -> anyhow::Result<std::process::ExitStatus> {
        let mut daemon = self.daemon.lock().await.take().context("no daemon is at work")?;
        let status = tokio::time::timeout(Duration::from_secs(60), daemon.wait()).await;
        self.pid.store(0, Ordering::SeqCst);
        status.context("the daemon does not end")?.context("the daemon's end")
    }

    /// Ends the daemon by a signal.
    pub async fn end(&self, signal: Signal) -> anyhow::Result<std::process::ExitStatus> {
        self.signal(signal)?;
        self.buried().await
    }

    /// Whether the daemon has ended, which nobody asked it to.
    pub async fn has_ended(&self) -> bool {
        self.daemon.lock().await.as_mut().is_some_and(|daemon| daemon.try_wait().is_ok_and(|status| status.is_some()))
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join(&self.log)
    }

    /// What the daemons of this site have logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Runs `skep` to its end, past the proxy. Gives its exit code, and what it printed.
    pub async fn run(&self, words: &[&str]) -> anyhow::Result<(i32, String)> {
        let mut command = self.skep(&[]);
        command.args(words).env("DOCKER_HOST", format!("unix://{}", self.engine.socket().display()));
        let output =
            tokio::time::timeout(Duration::from_secs(60), command.output()).await.context("skep does not end")??;
        let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
        Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into_owned()))
    }

    /// What an API answers, where it answers well.
    pub async fn answer(&self, id: &str) -> anyhow::Result<String> {
        let (status, body) = http::get(self.address, &format!("/run/{id}/")).await?;
        let body = String::from_utf8_lossy(&body).into_owned();
        ensure!(status == 200, "{id} answers {status}: {body}");
        Ok(body)
    }

    /// How many instances of an API serve, as `skep status` has it.
    pub async fn routed(&self, id: &str) -> anyhow::Result<usize> {
        let (_, status) = self.run(&["status", id, "--output", "json"]).await?;
        let status: Value = serde_json::from_str(&status)?;
        Ok(usize::try_from(status["apis"][0]["ready"].as_u64().unwrap_or_default())?)
    }

    /// Waits until the world is as it should be and skep says so too; then how it is. `Err` says what is still wrong.
    pub async fn settled(&self, wanted: &Wanted, patience: Duration) -> anyhow::Result<(Instant, Rest)> {
        let deadline = Instant::now() + patience;
        loop {
            let wrong = match self.look(wanted).await {
                Ok(found) => return Ok(found),
                Err(wrong) => wrong,
            };
            if self.has_ended().await {
                bail!("the daemon has ended by itself");
            }
            if Instant::now() > deadline {
                return Err(wrong.context(format!("not as it should be after {patience:?}")));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// One look, the cheap questions first. Gives the moment at which all was as it should be: what `skep` itself says of
    /// it comes after.
    async fn look(&self, wanted: &Wanted) -> anyhow::Result<(Instant, Rest)> {
        for (id, (text, _)) in wanted {
            let answer = tokio::time::timeout(Duration::from_secs(10), self.answer(id)).await??;
            ensure!(answer == *text, "{id} answers {answer:?} and not {text:?}");
        }
        let mut instances = BTreeSet::new();
        let mut revisions = BTreeSet::new();
        for container in self.containers().await? {
            let labels = container.labels.unwrap_or_default();
            let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
            let (api, number) = (label("dev.skep.api"), label("dev.skep.number").parse().unwrap_or_default());
            let state = container.state.map_or_else(String::new, |state| state.to_string());
            ensure!(wanted.get(&api).is_some_and(|(_, count)| number <= *count as u64), "{api:?} {number} is too much");
            ensure!(instances.insert((api.clone(), number, state)), "{api} has two instances {number}");
            revisions.insert((api, label("dev.skep.revision")));
        }
        let count: usize = wanted.values().map(|(_, count)| count).sum();
        ensure!(instances.len() == count, "there are {} instances and not {count}", instances.len());
        ensure!(instances.iter().all(|(_, _, state)| state == "running"), "not all run: {instances:?}");
        ensure!(revisions.len() == wanted.len(), "an API has two revisions: {revisions:?}");
        self.look_at_containers().await?;
        let leftovers = self.leftovers(&revisions).await?;
        ensure!(leftovers.is_empty(), "left over: {leftovers:?}");
        let at = Instant::now();
        let (code, plan) = self.run(&["plan", "--detailed-exitcode", "--output", "json"]).await?;
        ensure!(code == 0, "the plan is not empty ({code}): {plan}");
        let (code, status) = self.run(&["status", "--output", "json"]).await?;
        ensure!(code == 0, "no status ({code}): {status}");
        let mut rows = BTreeSet::new();
        for api in serde_json::from_str::<Value>(&status)?["apis"].as_array().context("a list of APIs")? {
            let text = |key: &str| api[key].as_str().unwrap_or_default().to_owned();
            let id = text("id");
            ensure!(text("sync") == "synced" && text("health") == "healthy", "{id} is not well: {api}");
            ensure!(revisions.contains(&(id.clone(), text("serving"))), "{id} serves what no container runs: {api}");
            let ready = api["ready"].as_u64().unwrap_or_default();
            rows.insert((id, text("sync"), text("health"), ready, !api["failure"].is_null()));
        }
        ensure!(rows.len() == wanted.len(), "the records know other APIs: {rows:?}");
        self.compare_rows(&rows)?;
        self.look_at_firewall().await?;
        Ok((at, Rest { instances, rows }))
    }

    /// Names, networks and limits of all containers.
    async fn look_at_containers(&self) -> anyhow::Result<()> {
        let client = self.engine.client()?;
        for container in self.containers().await? {
            let id = container.id.context("a container has an id")?;
            let found = client.inspect_container(&id, None::<InspectContainerOptions>).await?;
            let config = found.config.unwrap_or_default();
            let labels = config.labels.unwrap_or_default();
            let label = |name: &str| labels.get(name).map_or("", String::as_str);
            let (api, revision, number) = (label("dev.skep.api"), label("dev.skep.revision"), label("dev.skep.number"));
            let name = found.name.unwrap_or_default();
            ensure!(
                name == format!("/skep-{api}-{revision}-{number}.{}", &self.owner[..6]),
                "a container is called {name}"
            );
            let networks = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
            let network =
                networks.get(&format!("skep-{}-internet", self.owner)).and_then(|end| end.ip_address.as_deref());
            ensure!(
                networks.len() == 1 && network.is_some_and(|address| !address.is_empty()),
                "{name} is on {:?}",
                networks.keys()
            );
            let host = found.host_config.unwrap_or_default();
            ensure!(
                (host.memory, host.pids_limit) == (Some(512 << 20), Some(128)),
                "{name} has other limits: {:?} {:?}",
                host.memory,
                host.pids_limit
            );
            let image = client.inspect_image(&config.image.unwrap_or_default()).await;
            ensure!(image.is_ok(), "the image of {name} is gone: {image:?}");
        }
        Ok(())
    }

    /// What the firewall's chain of this installation is called.
    pub fn chain(&self) -> String {
        format!("SKEP-{}", &self.owner[..8])
    }

    async fn look_at_firewall(&self) -> anyhow::Result<()> {
        let rules = Command::new("iptables").arg("-S").output().await?.stdout;
        let rules = String::from_utf8_lossy(&rules).into_owned();
        let chain = self.chain();
        let has = |begin: &str, end: &str| rules.lines().any(|line| line.starts_with(begin) && line.ends_with(end));
        ensure!(
            has(&format!("-A {chain} "), "-j DROP") && has("-A INPUT ", &format!("-j {chain}")),
            "the firewall lacks {chain}"
        );
        Ok(())
    }

    /// What the daemon has written down must be what the status says.
    fn compare_rows(&self, rows: &BTreeSet<(String, String, String, u64, bool)>) -> anyhow::Result<()> {
        let records = self.records()?;
        let mut query = records.prepare("SELECT id, sync, health FROM apis")?;
        let written = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let written: BTreeSet<(String, String, String)> = written.collect::<Result<_, _>>()?;
        let said: BTreeSet<_> =
            rows.iter().map(|(id, sync, health, ..)| (id.clone(), sync.clone(), health.clone())).collect();
        ensure!(written == said, "the records say {written:?}");
        Ok(())
    }

    /// The daemon's database, as somebody opens it with a SQL shell.
    pub fn records(&self) -> anyhow::Result<rusqlite::Connection> {
        let records = rusqlite::Connection::open(self.state().join("records.db"))?;
        records.busy_timeout(Duration::from_secs(5))?;
        Ok(records)
    }

    /// Everything of this installation that nothing needs: containers are counted elsewhere.
    async fn leftovers(&self, revisions: &BTreeSet<(String, String)>) -> anyhow::Result<BTreeSet<String>> {
        let client = self.engine.client()?;
        let mut left = BTreeSet::new();
        let known = self.known_revisions()?;
        let options = ListImagesOptions { all: true, ..ListImagesOptions::default() };
        for image in client.list_images(Some(options)).await? {
            let ours = format!("skep/{}/", self.owner);
            let tags: Vec<_> = image.repo_tags.iter().filter(|tag| tag.starts_with(&ours)).collect();
            let is_owned = image.labels.get("dev.skep.owner") == Some(&self.owner);
            let is_tagged = image.repo_tags.iter().any(|tag| tag != "<none>:<none>");
            if is_owned && !is_tagged {
                left.insert(format!("an image without a name: {}", image.id));
            }
            for tag in tags {
                // Images of code are named after their API and what is in them; dependencies are shared.
                let api = tag.strip_prefix(&format!("{ours}api-")).and_then(|rest| rest.split(':').next());
                if let Some(api) = api
                    && !revisions.iter().chain(&known).any(|(known, _)| known == api)
                {
                    left.insert(format!("an image of an API that is gone: {tag}"));
                }
            }
        }
        let networks = client.list_networks(None::<ListNetworksOptions>).await?;
        let prefix = format!("skep-{}-", self.owner);
        let mut names: BTreeSet<String> = BTreeSet::new();
        for network in networks.into_iter().filter_map(|network| network.name).filter(|name| name.starts_with(&prefix))
        {
            let rest = network.trim_start_matches(&prefix).to_owned();
            if !["internet", "none"].contains(&rest.as_str()) || !names.insert(rest) {
                left.insert(format!("a network too much: {network}"));
            }
        }
        let volumes = client.list_volumes(None::<ListVolumesOptions>).await?.volumes.unwrap_or_default();
        for volume in volumes.into_iter().map(|volume| volume.name).filter(|name| name.contains(&self.owner)) {
            if volume != format!("skep-{}-uv-cache", self.owner) {
                left.insert(format!("a volume too much: {volume}"));
            }
        }
        Ok(left)
    }

    fn known_revisions(&self) -> anyhow::Result<BTreeSet<(String, String)>> {
        let records = self.records()?;
        let mut query = records.prepare("SELECT api, revision FROM revisions")?;
        let known = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(known.collect::<Result<_, _>>()?)
    }

    /// Every container of this installation, whatever it is for.
    pub async fn containers(&self) -> anyhow::Result<Vec<ContainerSummary>> {
        let filters = [("label".to_owned(), vec![format!("dev.skep.owner={}", self.owner)])].into();
        let options = ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
        Ok(self.engine.client()?.list_containers(Some(options)).await?)
    }

    /// The ids of an API's containers, in the order of their numbers.
    pub async fn instances(&self, id: &str) -> anyhow::Result<Vec<String>> {
        let label = |container: &ContainerSummary, name: &str| {
            container.labels.as_ref().and_then(|labels| labels.get(name)).cloned().unwrap_or_default()
        };
        let mut all = self.containers().await?;
        all.retain(|container| label(container, "dev.skep.api") == id);
        all.sort_by_key(|container| label(container, "dev.skep.number"));
        Ok(all.into_iter().filter_map(|container| container.id).collect())
    }

    /// The end of what there is to say where something went wrong.
    pub fn story(&self) -> String {
        let calls: Vec<_> = self.proxy.calls().iter().map(ToString::to_string).collect();
        let calls = tail(&calls.join("\n"), 40);
        format!("--- calls\n{calls}\n--- daemon\n{}\n--- engine\n{}\n", tail(&self.log(), 120), self.engine.log())
    }

    /// Ends the daemon, if there is one.
    pub async fn close_daemon(&self) -> anyhow::Result<()> {
        if self.daemon.lock().await.is_some() {
            // It may be frozen, or dead.
            let _ = self.signal(Signal::KILL);
            self.buried().await?;
        }
        Ok(())
    }

    /// Ends the daemon, and removes all that the installation has on the engine.
    pub async fn close(self) -> anyhow::Result<()> {
        self.close_daemon().await?;
        let mut settings = Settings::built_in(&self.root());
        settings.engine.host = Some(format!("unix://{}", self.engine.socket().display()));
        Ok(Docker::connect(&settings, &self.owner)?.dismantle().await?)
    }
}
