//! The world that the tests share: one installation on the engine, an app to run on it, and words to ask it with.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bollard::models::ContainerInspectResponse;
use serde_json::Value;
use skep::engine::docker::Docker;
use skep::engine::{Build, Engine, ImageTag, Install, Progress, Start};
use skep::settings::{BuildSettings, CaBundle, Dial, EngineSettings, Policy, Settings};
use skep::tree::{
    ApiId, Cpu, Digest, Egress, Requirement, Requirements, Resources, Seconds, SecretsAs, Size, spec::RunSpec,
};
use skep::world::Instance;
use skep::world::instance::{ContainerId, InstanceName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// For an app to end by itself.
pub const GRACE: Duration = Duration::from_secs(5);

/// One installation on the engine. Goes with the last test that holds it, whether that ends well or not.
pub struct World {
    pub docker: Docker,
    pub owner: String,
}

static WORLD: Mutex<Weak<World>> = Mutex::new(Weak::new());

impl World {
    pub fn get() -> Arc<Self> {
        let mut shared = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(world) = shared.upgrade() {
            return world;
        }
        let world = Arc::new(Self::alone(settings(Dial::Auto)));
        *shared = Arc::downgrade(&world);
        world
    }

    /// An installation that no other test shares.
    pub fn alone(settings: Settings) -> Self {
        let owner = format!("{:012x}", rand::random::<u64>() >> 16);
        Self { docker: Docker::connect(&settings, &owner).unwrap(), owner }
    }

    /// The containers in which images of this installation are being made.
    pub async fn build_containers(&self) -> Vec<String> {
        let labels = vec![format!("dev.skep.owner={}", self.owner)];
        let options = bollard::query_parameters::ListContainersOptions {
            all: true,
            filters: Some([("label".to_owned(), labels), ("name".to_owned(), vec!["skep-build-".to_owned()])].into()),
            ..Default::default()
        };
        let found = engine().list_containers(Some(options)).await.unwrap();
        found.into_iter().filter_map(|container| container.id).collect()
    }

    /// An image with the tests' app in it.
    pub async fn image(&self) -> ImageTag {
        let dependencies = self.tag("deps:app");
        let requirements = requirements(&["fastapi", "uvicorn", "python-multipart"]);
        let job = Install { tag: dependencies.clone(), requirements };
        self.docker.install(&job, &Progress::silent()).await.unwrap();
        let tag = self.tag("api-app:1");
        let job = Build { tag: tag.clone(), dependencies, files: files() };
        self.docker.build(&job, &Progress::silent()).await.unwrap();
        tag
    }

    pub fn tag(&self, rest: &str) -> ImageTag {
        ImageTag(format!("skep/{}/{rest}", self.owner).into())
    }

    pub async fn job(&self, api: &str, egress: Egress) -> Start {
        let api = ApiId::new(api).unwrap();
        let revision = Digest::of(self.owner.as_bytes()).into();
        Start {
            name: InstanceName::new(&api, &revision, 1),
            api,
            revision,
            number: 1,
            image: self.image().await,
            run: RunSpec {
                app: "main:app".to_owned(),
                resources: Resources { cpu: Cpu(1000), memory: Size::mib(256), pids: 64, tmp: Size::mib(16) },
                env: BTreeMap::from([("WORD".to_owned(), "honey".to_owned())]),
                secrets: SecretsAs::Files,
                egress,
            },
            secrets: None,
        }
    }

    /// Starts an instance and waits until it answers.
    pub async fn serve(&self, api: &str, egress: Egress) -> Served {
        let job = self.job(api, egress).await;
        self.docker.start(&job).await.unwrap();
        Served::wait(&self.docker, &job.api).await
    }

    pub async fn only(&self, api: &ApiId) -> Instance {
        let mut found = self.docker.instances(Some(api)).await.unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let docker = self.docker.clone();
        let dismantle = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(docker.dismantle())
        };
        // A thread of its own: this may be dropped within a runtime, which cannot block.
        let outcome = std::thread::spawn(dismantle).join().unwrap();
        if !std::thread::panicking() {
            outcome.unwrap();
        }
    }
}

/// An instance that answers.
pub struct Served {
    pub api: ApiId,
    pub container: ContainerId,
    pub address: SocketAddr,
}

impl Served {
    pub async fn wait(docker: &Docker, api: &ApiId) -> Self {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut last = String::new();
        while Instant::now() < deadline {
            let found = docker.instances(Some(api)).await.unwrap();
            if let Some(address) = found.first().and_then(Instance::address) {
                match get(address, "/").await {
                    Ok((200, _)) => {
                        return Self { api: api.clone(), container: found[0].container.clone(), address };
                    }
                    other => last = format!("{other:?}"),
                }
            } else {
                last = format!("{found:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{api} never answered: {last}");
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = get(self.address, path).await.unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    pub async fn reaches(&self, host: &str, port: u16) -> bool {
        self.get(&format!("/reach?host={host}&port={port}")).await["reached"].as_bool().unwrap()
    }
}

pub async fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        Ok((status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
    };
    tokio::time::timeout(Duration::from_secs(20), exchange).await?
}

pub fn settings(dial: Dial) -> Settings {
    Settings {
        build: BuildSettings {
            base_image: "python:3.11-slim".to_owned(),
            ca_bundle: CaBundle::Auto,
            index_url: None,
            concurrency: 2,
            timeout: Seconds::new(300),
            memory: Size::mib(1024),
            cpu: Cpu(2000),
        },
        policy: Policy {
            max_deletes: 3,
            max_deletes_percent: 30,
            max_file: Size::mib(1),
            max_folder: Size::mib(4),
            keep_revisions: 5,
            keep_events: Seconds::new(86_400),
            keep_usage: Seconds::new(86_400),
            min_free_disk: Size::mib(0),
            max_files: 100,
        },
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        gateway: Settings::built_in(std::path::Path::new("")).gateway,
        engine: EngineSettings { host: std::env::var("DOCKER_HOST").ok(), dial, ports: (31_000, 31_999) },
        look_every: Seconds::new(10),
        ..Settings::built_in(&std::env::temp_dir())
    }
}

pub fn requirements(lines: &[&str]) -> Requirements {
    Requirements(lines.iter().map(|line| Requirement((*line).to_owned())).collect())
}

pub fn files() -> Vec<(String, bytes::Bytes)> {
    vec![
        ("deep/inner.py".to_owned(), "VALUE = 'from below'\n".into()),
        ("main.py".to_owned(), include_str!("app/main.py").into()),
    ]
}

pub async fn inspect(id: &str) -> ContainerInspectResponse {
    engine().inspect_container(id, None).await.unwrap()
}

pub fn engine() -> bollard::Docker {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    bollard::Docker::connect_with_host(&host).unwrap()
}

/// Collects what a long call prints.
pub fn recorder() -> (Progress, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    (Progress::new(move |line| sink.lock().unwrap().push(line.to_owned())), lines)
}

/// A way to the engine that can be cut, and that refuses requests which begin with some words.
pub struct Wire {
    pub settings: Settings,
    pub cut: tokio::sync::watch::Sender<()>,
    _folder: tempfile::TempDir,
}

impl Wire {
    pub fn lay(refused: &'static [&'static str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let (cut, watch) = tokio::sync::watch::channel(());
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let mut watch = watch.clone();
                watch.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        () = carry(near, refused) => {}
                        _ = watch.changed() => {}
                    }
                });
            }
        });
        let mut settings = settings(Dial::Auto);
        settings.engine.host = Some(format!("unix://{}", socket.display()));
        Self { settings, cut, _folder: folder }
    }
}

/// Carries one connection, which holds one request.
async fn carry(mut near: tokio::net::UnixStream, refused: &[&str]) {
    let mut far = tokio::net::UnixStream::connect("/var/run/docker.sock").await.unwrap();
    let mut begin = vec![0; 4096];
    let read = near.read(&mut begin).await.unwrap();
    if refused.iter().any(|words| begin.starts_with(words.as_bytes())) {
        near.write_all(b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        return;
    }
    far.write_all(&begin[..read]).await.unwrap();
    // Whoever hangs up first is none of our business.
    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
}
