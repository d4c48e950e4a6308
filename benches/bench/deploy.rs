//! A deploy is watched from the outside: a caller who calls all the while, the daemon's log, and the engine, asked directly.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail, ensure};
use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    BuildImageOptions, CreateContainerOptions, ListContainersOptions, ListImagesOptions, RemoveContainerOptions,
    RemoveImageOptions,
};
use futures_util::StreamExt as _;
use jiff::Timestamp;
use serde_json::Value;

use super::http::Client;
use super::site::Site;

/// The one API.
pub const API: &str = "greeter";

/// Between two requests of the client that calls all the while. The floor is taken under the same calls.
pub const POLL: Duration = Duration::from_millis(2);

/// For anything that is waited for.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A part of the way from a change to its answer, named by what it ends with: the first step in the daemon's log that begins
/// with one of these words, or the answer.
pub type Part = (&'static str, &'static [&'static str]);

/// What all ways have in common, once it is decided what is to be done.
pub const BUILT: Part = ("built: one layer with the new code", &["Start"]);
pub const STARTED: Part = ("started: container created and started", &["AwaitReady"]);
pub const READY: Part = ("ready: Python imports, first good probe", &["Route"]);
pub const ROUTED: Part = ("routed: the new code answers a caller", &[]);

/// The API, in that version.
pub fn source(version: u64) -> String {
    format!(
        "from fastapi import FastAPI\n\napp = FastAPI()\n\n\n@app.get(\"/\")\nasync def read() -> int:\n    return {version}\n"
    )
}

/// How long each part took, from the daemon's log since the change.
pub fn spans(parts: &[Part], log: &[String], changed: SystemTime, answered: Duration) -> anyhow::Result<Vec<Duration>> {
    let changed = Timestamp::try_from(changed)?;
    let mut steps = Vec::new();
    for line in log {
        let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
        let (Some(at), Some(action)) = (entry["timestamp"].as_str(), entry["fields"]["action"].as_str()) else {
            continue;
        };
        let since = at.parse::<Timestamp>()?.duration_since(changed);
        if let Ok(since) = Duration::try_from(since) {
            steps.push((since, action.to_owned()));
        }
    }
    let mut spans = Vec::new();
    let mut before = Duration::ZERO;
    for (name, words) in parts {
        let begins = |action: &str| words.iter().any(|word| action.starts_with(word));
        let end = match words {
            [] => answered,
            _ => steps.iter().find(|(_, action)| begins(action)).with_context(|| format!("no step after {name:?}"))?.0,
        };
        spans.push(end.saturating_sub(before));
        before = end;
    }
    Ok(spans)
}

/// Calls the API all the while, and remembers when each version first answered.
pub struct Caller {
    seen: Arc<Mutex<HashMap<u64, Instant>>>,
    counts: Arc<[AtomicU64; 2]>,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Caller {
    pub fn start(site: &Site) -> Self {
        let (seen, counts, stop) = (Arc::default(), Arc::default(), Arc::default());
        let caller = (Arc::clone(&seen), Arc::clone(&counts), Arc::clone(&stop));
        let client = site.client();
        let thread = std::thread::spawn(move || call(client, &caller.0, &caller.1, &caller.2));
        Self { seen, counts, stop, thread }
    }

    /// When a version first answered.
    pub fn first_answer(&self, version: u64) -> Option<Instant> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&version).copied()
    }

    /// How many requests were made, and how many of them failed.
    pub fn stop(self) -> (u64, u64) {
        self.stop.store(true, Ordering::Relaxed);
        // It cannot panic.
        let _ = self.thread.join();
        let [requests, failures] = &*self.counts;
        (requests.load(Ordering::Relaxed), failures.load(Ordering::Relaxed))
    }
}

fn call(mut client: Client, seen: &Mutex<HashMap<u64, Instant>>, counts: &[AtomicU64; 2], stop: &AtomicBool) {
    let path = format!("/run/{API}/");
    while !stop.load(Ordering::Relaxed) {
        let answer = client.get(&path);
        counts[0].fetch_add(1, Ordering::Relaxed);
        let version = answer.ok().filter(|answer| answer.status == 200).and_then(|answer| answer.body.parse().ok());
        match version {
            Some(version) => {
                let now = Instant::now();
                seen.lock().unwrap_or_else(PoisonError::into_inner).entry(version).or_insert(now);
            }
            None => drop(counts[1].fetch_add(1, Ordering::Relaxed)),
        }
        std::thread::sleep(POLL);
    }
}

/// The engine, asked directly.
pub struct Engine {
    docker: Docker,
    /// Whose containers are copied.
    owner: String,
}

impl Engine {
    /// The one that a site's daemon uses.
    pub fn of(site: &Site) -> anyhow::Result<Self> {
        Ok(Self { docker: Docker::connect_with_defaults()?, owner: site.owner()? })
    }

    /// Waits until one instance is left: the old one is gone, and disturbs no longer.
    pub async fn wait_for_one(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + LIMIT;
        while self.instances().await?.len() != 1 {
            ensure!(Instant::now() < deadline, "the old instance does not go");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(())
    }

    async fn instances(&self) -> anyhow::Result<Vec<String>> {
        let labels = vec![format!("dev.skep.owner={}", self.owner), "dev.skep.api".to_owned()];
        let filters = Some([("label".to_owned(), labels)].into());
        let options = ListContainersOptions { all: true, filters, ..ListContainersOptions::default() };
        let found = self.docker.list_containers(Some(options)).await?;
        Ok(found.into_iter().filter_map(|container| container.id).collect())
    }

    /// What the instance that serves was made of, so that a copy has the same image, hardening and network.
    pub async fn original(&self) -> anyhow::Result<ContainerCreateBody> {
        let [original] = &self.instances().await?[..] else { bail!("not one instance") };
        let found = self.docker.inspect_container(original, None).await?;
        let mut body: ContainerCreateBody =
            serde_json::from_value(serde_json::to_value(found.config.context("no configuration")?)?)?;
        body.host_config = found.host_config;
        // Nobody's, so that the daemon leaves it alone.
        body.labels = None;
        body.hostname = None;
        Ok(body)
    }

    /// Creates and starts a container, asks it until it answers, and says how long that was since `start`: what no way of
    /// deploying one can be faster than.
    pub async fn run(&self, body: ContainerCreateBody, start: Instant) -> anyhow::Result<Duration> {
        let options = CreateContainerOptions {
            name: Some(format!("skep-bench-{:08x}", rand::random::<u32>())),
            ..CreateContainerOptions::default()
        };
        let id = self.docker.create_container(Some(options), body).await?.id;
        let answered = self.first_answer(&id, start).await;
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        self.docker.remove_container(&id, Some(options)).await?;
        answered
    }

    /// The image that holds the packages of the one API and none of its files, by its id.
    pub async fn packages(&self) -> anyhow::Result<String> {
        let reference = vec![format!("skep/{}/deps", self.owner)];
        let filters = Some([("reference".to_owned(), reference)].into());
        let found =
            self.docker.list_images(Some(ListImagesOptions { filters, ..ListImagesOptions::default() })).await?;
        let [image] = &found[..] else { bail!("{} dependency images", found.len()) };
        Ok(image.id.clone())
    }

    /// Has the engine's own builder put one file on top of an image, as a recipe of two lines says.
    pub async fn build(&self, below: &str, tag: &str, file: &[u8]) -> anyhow::Result<()> {
        let mut context = tar::Builder::new(Vec::new());
        for (path, bytes) in
            [("Dockerfile", format!("FROM {below}\nCOPY app/ /app/\n").as_bytes()), ("app/main.py", file)]
        {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o444);
            header.set_size(bytes.len() as u64);
            context.append_data(&mut header, path, bytes)?;
        }
        let options = BuildImageOptions { t: Some(tag.to_owned()), rm: true, ..BuildImageOptions::default() };
        let context = bollard::body_full(context.into_inner()?.into());
        let mut messages = self.docker.build_image(options, None, Some(context));
        while let Some(message) = messages.next().await {
            message?;
        }
        Ok(())
    }

    /// Removes an image that was built.
    pub async fn forget(&self, tag: &str) -> anyhow::Result<()> {
        self.docker.remove_image(tag, None::<RemoveImageOptions>, None).await?;
        Ok(())
    }

    async fn first_answer(&self, id: &str, start: Instant) -> anyhow::Result<Duration> {
        self.docker.start_container(id, None).await?;
        let found = self.docker.inspect_container(id, None).await?;
        let networks = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let address = networks.values().find_map(|network| network.ip_address.as_deref()?.parse().ok());
        let address = SocketAddr::new(address.context("the container has no address")?, 8000);
        let mut client = Client::new(address, None);
        while client.get("/").map_or(true, |answer| answer.status != 200) {
            ensure!(start.elapsed() < LIMIT, "the container does not answer");
            tokio::time::sleep(POLL).await;
        }
        Ok(start.elapsed())
    }
}
