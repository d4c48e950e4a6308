//! A site is a real daemon on a folder, a state and a port of its own. All that it has made goes with it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use skep::engine::docker::Docker;
use skep::settings::Settings;

use super::child::Running;
use super::http::Client;

/// For the daemon to answer. The first start on a host may have to make the base image.
const START: Duration = Duration::from_secs(180);

/// A daemon, and the folder that it serves.
#[derive(Debug)]
pub struct Site {
    folder: tempfile::TempDir,
    pub address: SocketAddr,
    /// Opens all APIs.
    pub key: String,
    daemon: Option<Running>,
}

impl Site {
    /// A site with no APIs, and no daemon yet.
    pub fn new(settings: &str) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("skep-bench-").tempdir()?;
        fs::create_dir(folder.path().join("apis"))?;
        fs::write(folder.path().join("skep.yaml"), settings)?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut site = Self { folder, address, key: String::new(), daemon: None };
        site.key = site.make_key(&[])?;
        Ok(site)
    }

    /// A key that may do what these options say.
    pub fn make_key(&self, options: &[&str]) -> anyhow::Result<String> {
        let made = self.skep(&[&["keys", "create", "--name", "bench"], options].concat()).output()?;
        ensure!(made.status.success(), "cannot make a key: {}", String::from_utf8_lossy(&made.stderr));
        Ok(String::from_utf8(made.stdout)?.trim().to_owned())
    }

    /// Starts the daemon, and waits until it answers.
    pub fn serve(&mut self) -> anyhow::Result<()> {
        let log = File::create(self.log_path())?;
        let mut command = self.skep(&["serve", "--log-format", "json"]);
        command.env("SKEP_LOG", "skep=debug,skep::access=off").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.daemon = Some(Running::start(&mut command)?);
        let mut client = self.client();
        self.wait(START, "the daemon to answer", || Ok(client.get("/health").is_ok_and(|answer| answer.status == 200)))
    }

    /// Stops the daemon; what it runs goes on running.
    pub fn stop(&mut self) {
        self.daemon = None;
    }

    /// The daemon's process.
    pub fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.daemon.as_ref().context("no daemon runs")?.pid())
    }

    /// Writes a file of an API in place, as an editor does.
    pub fn save(&self, id: &str, name: &str, text: &str) -> anyhow::Result<()> {
        let folder = self.folder.path().join("apis").join(id);
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join(name), text)?)
    }

    /// Removes an API, and waits until nothing of it runs.
    pub fn remove(&self, id: &str) -> anyhow::Result<()> {
        let apis = self.folder.path().join("apis");
        // At once: nobody sees half a folder.
        let aside = self.folder.path().join(format!("removed-{id}"));
        fs::rename(apis.join(id), &aside)?;
        let docker = self.docker()?;
        let id = skep::tree::ApiId::new(id)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        self.wait(START, "an API to go", || {
            Ok(runtime.block_on(skep::engine::Engine::instances(&docker, Some(&id)))?.is_empty())
        })?;
        Ok(fs::remove_dir_all(aside)?)
    }

    /// A client with the key.
    pub fn client(&self) -> Client {
        Client::new(self.address, Some(self.key.clone()))
    }

    /// Waits until `is_done`, with a look every 20 ms; on failure shows the end of the daemon's log.
    pub fn wait(
        &self,
        limit: Duration,
        what: &str,
        mut is_done: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        while !is_done()? {
            let log = || {
                let log = self.log().unwrap_or_default();
                log[log.len().saturating_sub(20)..].join("\n")
            };
            ensure!(Instant::now() < deadline, "waited {limit:?} in vain for {what}; the daemon's log:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The daemon's log, a JSON object a line.
    pub fn log(&self) -> anyhow::Result<Vec<String>> {
        Ok(fs::read_to_string(self.log_path())?.lines().map(str::to_owned).collect())
    }

    /// What marks this site's containers.
    pub fn owner(&self) -> anyhow::Result<String> {
        Ok(fs::read_to_string(self.state().join("installation"))?.trim().to_owned())
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("serve.log")
    }

    fn skep(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
        command.args(arguments).env("SKEP_ROOT", self.folder.path());
        command.env("SKEP_LISTEN", self.address.to_string()).env("SKEP_STATE_DIR", self.state());
        command.env_remove("SUPABASE_DB_URL").env_remove("ADMIN_API_KEY").env_remove("SKEP_ADMIN_KEY");
        command
    }

    fn docker(&self) -> anyhow::Result<Docker> {
        let settings = Settings::load(self.folder.path(), |name| std::env::var(name).ok())?;
        Ok(Docker::connect(&settings, &self.owner()?)?)
    }

    fn dismantle(&self) -> anyhow::Result<()> {
        let docker = self.docker()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(docker.dismantle())?)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop();
        if let Err(error) = self.dismantle() {
            eprintln!("something stays behind on the engine: {error:#}");
        }
    }
}
