//! A world is one installation with all that it has: a tree, a state folder, a daemon, containers.

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use skep::engine::docker::Docker;
use skep::settings::Settings;

use crate::engine::{self, Container, block_on};
use crate::http::{Reply, Request};

/// How long anything may take before a test gives it up. Generous, since hosts are busy; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(180);

/// Callers need no key unless a scenario says so, and nobody waits long for an old instance.
pub const SETTINGS: &str = "defaults:\n  route: { public: true }\n  deploy: { drain: 5s }\n";

/// How many worlds there have been.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// One installation with all that it has.
pub struct World {
    folder: tempfile::TempDir,
    daemon: Mutex<Option<Daemon>>,
    /// Where the daemon is told to listen.
    pub listen: String,
    /// The Postgres that keeps the records; a file where none is named.
    pub database: Option<String>,
}

struct Daemon {
    process: Child,
    address: SocketAddr,
}

/// One more daemon on the same installation.
pub struct Beside {
    process: Child,
    pub address: SocketAddr,
}

impl Drop for Beside {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        self.process.wait().ok();
    }
}

/// How a command ended, and what it printed.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl World {
    /// An empty tree.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("project/apis")).unwrap();
        let world = Self { folder, daemon: Mutex::default(), listen: "127.0.0.1:0".to_owned(), database: None };
        world.write("skep.yaml", &Self::apart(SETTINGS));
        world
    }

    /// Settings with one more, so that no other installation of the host has the same revisions, and with them the
    /// same names of containers. `settings` ends within `defaults`.
    pub fn apart(settings: &str) -> String {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        format!("{settings}  env: {{ WORLD: {}-{number} }}\n", std::process::id())
    }

    /// Where `skep.yaml` and `apis/` are.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A folder that is neither the tree nor the state.
    pub fn aside(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file below the root, as an editor saves it: aside, and moved into its place.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let aside = self.folder.path().join("saved");
        fs::write(&aside, text).unwrap();
        fs::rename(aside, path).unwrap();
    }

    /// Writes the code of an API.
    pub fn code(&self, id: &str, text: &str) {
        self.write(&format!("apis/{id}/main.py"), text);
    }

    /// Writes the settings of an API.
    pub fn settings(&self, id: &str, text: &str) {
        self.write(&format!("apis/{id}/api.yaml"), text);
    }

    /// Deletes the folder of an API. It is moved away first, so that nobody sees half of it.
    pub fn delete(&self, id: &str) {
        let aside = self.folder.path().join("deleted");
        fs::rename(self.root().join("apis").join(id), &aside).unwrap();
        fs::remove_dir_all(aside).unwrap();
    }

    /// The command `skep` with arguments, in this world.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
        command
            .args(arguments)
            .current_dir(self.root())
            .stdin(Stdio::null())
            .env("SKEP_STATE_DIR", self.state())
            .env("SKEP_LISTEN", &self.listen)
            .env("NO_COLOR", "1");
        for variable in ["SKEP_ROOT", "SKEP_LOG", "SKEP_ADMIN_KEY", "ADMIN_API_KEY", "SUPABASE_DB_URL", "SKEP_DB_URL"] {
            command.env_remove(variable);
        }
        if let Some(database) = &self.database {
            command.env("SUPABASE_DB_URL", database);
        }
        command
    }

    /// Runs `skep` to its end.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    /// Starts the daemon, and waits until it has said where it listens.
    #[track_caller]
    pub fn serve(&self) {
        self.serve_with(&[]);
    }

    /// The same with variables of its environment. Where the control surface has an address of its own, that is what
    /// the daemon's address is taken to be.
    #[track_caller]
    pub fn serve_with(&self, environment: &[(&str, &str)]) {
        let mut daemon = self.daemon();
        assert!(daemon.is_none(), "a daemon is at work already");
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("serve.log")).unwrap();
        let mut command = self.command(&["serve"]);
        command.envs(environment.iter().copied()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut process = command.spawn().unwrap();
        let pid = u64::from(process.id());
        let address = self.wait("the daemon listens", || {
            assert!(process.try_wait().unwrap().is_none(), "the daemon ended:\n{}", self.log());
            let holder: Value = serde_json::from_slice(&fs::read(self.state().join("lock")).ok()?).ok()?;
            (holder["pid"] == pid).then(|| holder["address"].as_str().unwrap().parse().unwrap())
        });
        *daemon = Some(Daemon { process, address });
    }

    /// Starts one more daemon on this installation, which listens elsewhere. Ends with manners when it is dropped.
    #[track_caller]
    pub fn serve_beside(&self) -> Beside {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("beside-{number}.log"));
        let log = fs::File::options().create(true).append(true).open(&path).unwrap();
        let process = self.command(&["serve"]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let address = self.wait("the second daemon listens", || {
            let log = fs::read_to_string(&path).unwrap();
            let rest = log.split("APIs of").last()?.split("on http://").nth(1)?;
            rest.split_whitespace().next()?.parse().ok()
        });
        Beside { process, address }
    }

    /// Starts one more daemon, which takes the place of the one that is at work. Gives the one before, which ends by itself.
    #[track_caller]
    pub fn hand_over(&self) -> Child {
        let address = self.address();
        let before = self.daemon().take().unwrap().process;
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("serve.log")).unwrap();
        let mut command = self.command(&["serve", "--take-over"]);
        let mut process = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let pid = u64::from(process.id());
        self.wait("the new daemon has taken over", || {
            assert!(process.try_wait().unwrap().is_none(), "the new daemon ended:\n{}", self.log());
            let holder: Value = serde_json::from_slice(&fs::read(self.state().join("lock")).ok()?).ok()?;
            (holder["pid"] == pid).then_some(())
        });
        *self.daemon() = Some(Daemon { process, address });
        before
    }

    /// Ends the daemon as Ctrl-C does.
    #[track_caller]
    pub fn interrupt(&self) -> ExitStatus {
        self.end(rustix::process::Signal::INT)
    }

    /// Ends the daemon as a crash does.
    #[track_caller]
    pub fn crash(&self) {
        self.end(rustix::process::Signal::KILL);
    }

    #[track_caller]
    fn end(&self, signal: rustix::process::Signal) -> ExitStatus {
        let mut daemon = self.daemon().take().expect("a daemon is at work");
        let pid = rustix::process::Pid::from_child(&daemon.process);
        rustix::process::kill_process(pid, signal).unwrap();
        self.wait("the daemon ends", || daemon.process.try_wait().unwrap())
    }

    /// Where the daemon listens.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.daemon().as_ref().expect("a daemon is at work").address
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.daemon().as_ref().expect("a daemon is at work").process.id()
    }

    /// What the daemons of this world have logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("serve.log")).unwrap_or_default()
    }

    /// Asks an API through the gateway.
    #[track_caller]
    pub fn get(&self, id: &str, path: &str) -> Reply {
        self.send(&Request::get(format!("/run/{id}{path}")))
    }

    #[track_caller]
    pub fn send(&self, request: &Request) -> Reply {
        request.send(self.address())
    }

    /// Waits until an API answers with this text.
    #[track_caller]
    pub fn expect_answer(&self, id: &str, path: &str, text: &str) {
        self.until(&format!("{id} answers {text:?}"), || {
            let reply = self.get(id, path);
            reply.status == 200 && reply.text() == text
        });
    }

    /// Waits until an API answers with this status.
    #[track_caller]
    pub fn expect_status(&self, id: &str, path: &str, status: u16) -> Reply {
        self.wait(&format!("{id} answers {status}"), || Some(self.get(id, path)).filter(|reply| reply.status == status))
    }

    /// What `skep status` says of an API.
    #[track_caller]
    pub fn status(&self, id: &str) -> Value {
        let ran = self.run(&["status", "--output", "json"]);
        ran.json()["apis"].as_array().unwrap().iter().find(|api| api["id"] == id).cloned().unwrap_or_default()
    }

    /// Waits until `skep status` has these words for an API: sync and health.
    #[track_caller]
    pub fn expect_rest(&self, id: &str, sync: &str, health: &str) -> Value {
        self.wait(&format!("{id} is {sync} and {health}"), || {
            Some(self.status(id)).filter(|status| status["sync"] == sync && status["health"] == health)
        })
    }

    /// What `skep plan` would do.
    #[track_caller]
    pub fn plan(&self) -> Value {
        self.run(&["plan", "--output", "json"]).expect(0).json()
    }

    /// The instances of an API, in the order of their names.
    pub fn instances(&self, id: &str) -> Vec<Container> {
        engine::instances(&self.owner(), Some(id))
    }

    /// The container ids of an API's instances, in the order of their names.
    pub fn containers(&self, id: &str) -> Vec<String> {
        self.instances(id).into_iter().map(|container| container.id).collect()
    }

    /// The containers in which images of this world are being made, or were.
    pub fn build_containers(&self) -> Vec<Container> {
        engine::labelled(&[&format!("dev.skep.owner={}", self.owner()), "dev.skep.role=build"])
    }

    /// What marks this world's containers.
    pub fn owner(&self) -> String {
        fs::read_to_string(self.state().join("installation")).unwrap_or_default().trim().to_owned()
    }

    /// Waits until `is_so`.
    #[track_caller]
    pub fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        self.wait(what, || is_so().then_some(()));
    }

    /// Waits until there is something.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < deadline, "waited in vain until {what}; the daemon says:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Daemon>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon().take() {
            // A test that fails has no time for manners.
            daemon.process.kill().ok();
            daemon.process.wait().ok();
        }
        if std::thread::panicking() {
            eprintln!("the daemon's log:\n{}", self.log());
        }
        let owner = self.owner();
        if !owner.is_empty() {
            let docker = Docker::connect(&Settings::built_in(&self.root()), &owner).unwrap();
            // Another try, since what was being made when the daemon was killed may come into being after the first.
            let gone = block_on(docker.dismantle()).or_else(|_| block_on(docker.dismantle()));
            if let Err(error) = gone {
                eprintln!("{owner} has left something on the engine: {error}");
            }
        }
    }
}

impl Ran {
    /// Of a process that has ended.
    pub fn of(output: std::process::Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap_or(-1);
        Self { code, out: text(output.stdout), err: text(output.stderr) }
    }

    /// The same, or a panic that shows what it printed.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "it printed:\n{}\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}:\n{}\n{}", self.out, self.err))
    }
}

/// Reads what a process prints until `text` has come.
#[track_caller]
pub fn read_until(from: &mut impl Read, text: &str) -> String {
    let (mut read, mut buffer) = (String::new(), [0; 4096]);
    while !read.contains(text) {
        let count = from.read(&mut buffer).unwrap();
        assert!(count > 0, "it ended before it printed {text:?}:\n{read}");
        read += &String::from_utf8_lossy(&buffer[..count]);
    }
    read
}
