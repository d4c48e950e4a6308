//! The arena's engine: a real one that may be killed, stopped, frozen and filled up.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bollard::Docker as Client;
use bollard::query_parameters::ImportImageOptions;
use futures_util::TryStreamExt;
use rustix::process::Signal;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio_util::io::ReaderStream;

use super::arena;
use super::seed::Seed;

/// For an engine to answer, also one that has to put the world in order first.
const PATIENCE: Duration = Duration::from_secs(60);

/// The arena's engine.
#[derive(Debug)]
pub struct Engine {
    folder: PathBuf,
    disk: PathBuf,
    log: PathBuf,
    cgroup: String,
    process: Mutex<Option<Child>>,
    /// Whether containers go on running while the engine is away: its own setting, `live-restore`. Holds from the next
    /// start on.
    pub outlives: AtomicBool,
}

impl Engine {
    /// Starts an engine that has nothing but the seed's images.
    pub async fn open(folder: &Path, cgroup: &str, seed: &Seed) -> anyhow::Result<Self> {
        let (disk, log) = (arena::disk(folder), folder.join("engine.log"));
        let engine = Self {
            folder: folder.to_owned(),
            disk,
            log,
            cgroup: cgroup.to_owned(),
            process: Mutex::default(),
            outlives: AtomicBool::new(false),
        };
        engine.start().await?;
        let images = ReaderStream::with_capacity(tokio::fs::File::open(seed.images()).await?, 1 << 20);
        let options = ImportImageOptions { quiet: true, platform: None };
        let client = engine.client()?;
        client.import_image(options, bollard::body_try_stream(images), None).try_collect::<Vec<_>>().await?;
        Ok(engine)
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.disk.join("engine.sock")
    }

    /// Where everything of the arena may lie.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A client that nothing stands between.
    pub fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::connect_with_host(&format!("unix://{}", self.socket().display()))?)
    }

    /// Starts the engine, and waits until it answers.
    pub async fn start(&self) -> anyhow::Result<()> {
        let mut process = self.process.lock().await;
        ensure!(process.is_none(), "the engine runs already");
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new("dockerd");
        for (option, name) in [
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "engine.pid"),
            ("--config-file", "none.json"),
        ] {
            command.arg(option).arg(self.disk.join(name));
        }
        let outlives = self.outlives.load(Ordering::SeqCst);
        fs::write(self.disk.join("none.json"), format!("{{\"live-restore\": {outlives}}}"))?;
        // What a killed engine leaves; it would refuse to start beside a process that has the same number by chance.
        let _ = fs::remove_file(self.disk.join("engine.pid"));
        command.arg("--host").arg(format!("unix://{}", self.socket().display()));
        command.args(["--bridge", "none", "--cgroup-parent", &format!("/{}", self.cgroup)]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        *process = Some(command.spawn().context("cannot start dockerd")?);
        let deadline = Instant::now() + PATIENCE;
        while !self.answers().await {
            ensure!(Instant::now() < deadline, "the engine does not answer; {} says why", self.log.display());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn answers(&self) -> bool {
        let Ok(client) = self.client() else { return false };
        tokio::time::timeout(Duration::from_secs(2), client.ping()).await.is_ok_and(|answer| answer.is_ok())
    }

    /// Ends the engine by that signal, and waits until it has ended.
    pub async fn end(&self, signal: Signal) -> anyhow::Result<()> {
        let mut process = self.process.lock().await.take().context("the engine does not run")?;
        arena::signal(process.id().context("it has ended")?, signal)?;
        process.wait().await?;
        Ok(())
    }

    /// Freezes the engine, or lets it go on.
    pub async fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = self.process.lock().await;
        arena::signal(process.as_ref().and_then(Child::id).context("the engine does not run")?, signal)
    }

    /// Takes up the disk but for that many bytes. Freed when the guard is dropped.
    pub fn fill(&self, but_for: u64) -> anyhow::Result<Filled> {
        let path = self.disk.join("ballast");
        let file = File::create(&path)?;
        let filled = Filled(path);
        let stat = rustix::fs::statvfs(&self.disk)?;
        let free = stat.f_bavail * stat.f_frsize;
        let size = free.checked_sub(but_for).context("the disk is fuller than that")?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size)?;
        Ok(filled)
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        tail(&fs::read_to_string(&self.log).unwrap_or_default(), 40)
    }
}

/// A disk that is full. Freed with this.
#[derive(Debug)]
pub struct Filled(PathBuf);

impl Drop for Filled {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
