//! From the save of a file to the answer of the new code, beside what the engine alone needs for the same container.

mod bench;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail, ensure};
use bench::figures::Series;
use bench::http::Client;
use bench::site::Site;
use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptions, ListContainersOptions, RemoveContainerOptions};
use jiff::Timestamp;
use serde_json::Value;

/// Each round saves once and takes the floor once.
const ROUNDS: u64 = 15;

/// The first rounds fill caches, on both sides, and are not counted.
const WARM_UP: u64 = 2;

const API: &str = "greeter";

/// Between two requests of the client that calls all the while. The floor is taken under the same calls.
const POLL: Duration = Duration::from_millis(2);

const LIMIT: Duration = Duration::from_secs(120);

/// The parts of the way from a save to its answer, each named by what it ends with: the first step in the daemon's log
/// that begins with one of these words, or the answer.
const PARTS: [(&str, &[&str]); 6] = [
    ("noticed: the folder at rest, read, checked", &["RecordStatus", "Build"]),
    ("decided: status written, engine asked", &["Build"]),
    ("built: one layer with the new code", &["Start"]),
    ("started: container created and started", &["AwaitReady"]),
    ("ready: Python imports, first good probe", &["Route"]),
    ("routed: the new code answers a caller", &[]),
];

fn main() -> anyhow::Result<()> {
    let mut site = Site::new("look_every: 1h\n")?;
    site.save(API, "main.py", &source(0))?;
    site.serve()?;
    let mut client = site.client();
    site.wait(LIMIT, "the API to serve", || {
        Ok(client.get(&format!("/run/{API}/")).is_ok_and(|answer| answer.status == 200))
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let engine = Engine { docker: Docker::connect_with_defaults()?, owner: site.owner()? };
    let caller = Caller::start(&site);

    let (mut floors, mut saves) = (Series::default(), Series::default());
    let mut parts = PARTS.map(|_| Series::default());
    let mut gaps = Series::default();
    for round in 1..=ROUNDS + WARM_UP {
        runtime.block_on(engine.wait_for_one())?;
        let floor = runtime.block_on(engine.floor())?;
        std::thread::sleep(Duration::from_millis(300));

        let (saved, saved_at) = (Instant::now(), SystemTime::now());
        site.save(API, "main.py", &source(round))?;
        site.wait(LIMIT, "the new code to answer", || Ok(caller.first_answer(round).is_some()))?;
        let answered = caller.first_answer(round).context("it has answered")?.duration_since(saved);
        if round <= WARM_UP {
            continue;
        }
        floors.add(floor);
        saves.add(answered);
        gaps.add(answered.saturating_sub(floor));
        let log = site.log()?;
        for (series, span) in parts.iter_mut().zip(spans(&log, saved_at, answered)?) {
            series.add(span);
        }
    }
    let (requests, failures) = caller.stop();

    println!(
        "save: one FastAPI API; {ROUNDS} rounds of floor and save in turn; a caller every {} ms",
        POLL.as_millis()
    );
    println!("{:<52} {:>8} {:>8}", "", "median", "p90");
    println!("{:<52} {} ms", "floor: create, start, first answer, by the engine", floors.text());
    println!("{:<52} {} ms", "save to the first answer of the new code", saves.text());
    for ((name, _), series) in PARTS.iter().zip(&parts) {
        println!("  {name:<50} {} ms", series.text());
    }
    println!("{:<52} {} ms", "save less floor, round by round", gaps.text());
    println!("{:<52} {:>7.2}x", "save to floor, of the medians", saves.median() / floors.median());
    println!("requests meanwhile: {requests}, of which failed: {failures}");
    ensure!(failures == 0, "{failures} requests failed");
    Ok(())
}

/// The API, in that version.
fn source(version: u64) -> String {
    format!(
        "from fastapi import FastAPI\n\napp = FastAPI()\n\n\n@app.get(\"/\")\nasync def read() -> int:\n    return {version}\n"
    )
}

/// How long each part took, from the daemon's log since the save.
fn spans(log: &[String], saved: SystemTime, answered: Duration) -> anyhow::Result<Vec<Duration>> {
    let saved = Timestamp::try_from(saved)?;
    let mut steps = Vec::new();
    for line in log {
        let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
        let (Some(at), Some(action)) = (entry["timestamp"].as_str(), entry["fields"]["action"].as_str()) else {
            continue;
        };
        let since = at.parse::<Timestamp>()?.duration_since(saved);
        if let Ok(since) = Duration::try_from(since) {
            steps.push((since, action.to_owned()));
        }
    }
    let mut spans = Vec::new();
    let mut before = Duration::ZERO;
    for (name, words) in PARTS {
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
struct Caller {
    seen: Arc<Mutex<HashMap<u64, Instant>>>,
    counts: Arc<[AtomicU64; 2]>,
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Caller {
    fn start(site: &Site) -> Self {
        let (seen, counts, stop) = (Arc::default(), Arc::default(), Arc::default());
        let caller = (Arc::clone(&seen), Arc::clone(&counts), Arc::clone(&stop));
        let client = site.client();
        let thread = std::thread::spawn(move || call(client, &caller.0, &caller.1, &caller.2));
        Self { seen, counts, stop, thread }
    }

    fn first_answer(&self, version: u64) -> Option<Instant> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&version).copied()
    }

    /// How many requests were made, and how many of them failed.
    fn stop(self) -> (u64, u64) {
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
struct Engine {
    docker: Docker,
    /// Whose container is copied.
    owner: String,
}

impl Engine {
    /// Waits until one instance is left: the old one is gone, and disturbs no longer.
    async fn wait_for_one(&self) -> anyhow::Result<()> {
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

    /// Creates and starts a copy of the instance that serves, with the same image, hardening and network, and asks it
    /// until it answers: what no way of deploying a container can be faster than.
    async fn floor(&self) -> anyhow::Result<Duration> {
        let [original] = &self.instances().await?[..] else { bail!("not one instance") };
        let found = self.docker.inspect_container(original, None).await?;
        let mut body: ContainerCreateBody =
            serde_json::from_value(serde_json::to_value(found.config.context("no configuration")?)?)?;
        body.host_config = found.host_config;
        // Nobody's, so that the daemon leaves it alone.
        body.labels = None;
        body.hostname = None;
        let options = CreateContainerOptions {
            name: Some(format!("skep-bench-{:08x}", rand::random::<u32>())),
            ..CreateContainerOptions::default()
        };

        let start = Instant::now();
        let id = self.docker.create_container(Some(options), body).await?.id;
        let answered = self.first_answer(&id, start).await;
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        self.docker.remove_container(&id, Some(options)).await?;
        answered
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
