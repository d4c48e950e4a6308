//! The real engine, end to end: images made, instances started, watched and removed, and kept from what is not theirs.
//!
//! Everything here belongs to an owner of its own, made up for this run, and is taken away when the last test ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by panicking what is wrong")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use futures_util::StreamExt;
use serde_json::Value;
use skep::engine::docker::Docker;
use skep::engine::{Build, Engine, EngineError, Hint, ImageTag, Install, Progress, Start};
use skep::settings::{BuildSettings, CaBundle, Dial, EngineSettings, Policy, Settings};
use skep::tree::{ApiId, Cpu, Digest, Egress, Requirement, Requirements, Resources, Seconds, Size, spec::RunSpec};
use skep::world::instance::{ContainerId, InstanceName};
use skep::world::{Instance, Run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A host that is not the one the tests run on, and a port that it listens on.
const ELSEWHERE: (&str, u16) = ("deb.debian.org", 80);

const GRACE: Duration = Duration::from_secs(5);

// ---- the world that the tests share ----

/// One installation on the engine. Goes with the last test that holds it, whether that ends well or not.
struct World {
    docker: Docker,
    owner: String,
}

static WORLD: Mutex<Weak<World>> = Mutex::new(Weak::new());

impl World {
    fn get() -> Arc<Self> {
        let mut shared = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(world) = shared.upgrade() {
            return world;
        }
        let owner = format!("{:012x}", rand::random::<u64>() >> 16);
        let world = Arc::new(Self { docker: Docker::connect(&settings(Dial::Auto), &owner).unwrap(), owner });
        *shared = Arc::downgrade(&world);
        world
    }

    /// An image with the tests' app in it.
    async fn image(&self) -> ImageTag {
        let dependencies = self.tag("deps:app");
        let requirements = requirements(&["fastapi", "uvicorn", "python-multipart"]);
        let job = Install { tag: dependencies.clone(), requirements };
        self.docker.install(&job, &Progress::silent()).await.unwrap();
        let tag = self.tag("api-app:1");
        let job = Build { tag: tag.clone(), dependencies, files: files() };
        self.docker.build(&job, &Progress::silent()).await.unwrap();
        tag
    }

    fn tag(&self, rest: &str) -> ImageTag {
        ImageTag(format!("skep/{}/{rest}", self.owner).into())
    }

    async fn job(&self, api: &str, egress: Egress) -> Start {
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
                egress,
            },
        }
    }

    /// Starts an instance and waits until it answers.
    async fn serve(&self, api: &str, egress: Egress) -> Served {
        let job = self.job(api, egress).await;
        self.docker.start(&job).await.unwrap();
        Served::wait(&self.docker, &job.api).await
    }

    async fn only(&self, api: &ApiId) -> Instance {
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
struct Served {
    api: ApiId,
    container: ContainerId,
    address: SocketAddr,
}

impl Served {
    async fn wait(docker: &Docker, api: &ApiId) -> Self {
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

    async fn get(&self, path: &str) -> Value {
        let (status, body) = get(self.address, path).await.unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn reaches(&self, host: &str, port: u16) -> bool {
        self.get(&format!("/reach?host={host}&port={port}")).await["reached"].as_bool().unwrap()
    }
}

async fn get(address: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
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

fn settings(dial: Dial) -> Settings {
    let root = std::env::temp_dir();
    Settings {
        apis: root.join("apis"),
        state: root.join(".skep"),
        root,
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
            max_files: 100,
        },
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        engine: EngineSettings { host: std::env::var("DOCKER_HOST").ok(), dial, ports: (31_000, 31_999) },
        admin_key: None,
        look_every: Seconds::new(10),
    }
}

fn requirements(lines: &[&str]) -> Requirements {
    Requirements(lines.iter().map(|line| Requirement((*line).to_owned())).collect())
}

fn files() -> Vec<(String, bytes::Bytes)> {
    vec![
        ("deep/inner.py".to_owned(), "VALUE = 'from below'\n".into()),
        ("main.py".to_owned(), include_str!("engine_app/main.py").into()),
    ]
}

async fn inspect(id: &str) -> ContainerInspectResponse {
    engine().inspect_container(id, None).await.unwrap()
}

fn engine() -> bollard::Docker {
    let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    bollard::Docker::connect_with_host(&host).unwrap()
}

/// Collects what a long call prints.
fn recorder() -> (Progress, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = lines.clone();
    (Progress::new(move |line| sink.lock().unwrap().push(line.to_owned())), lines)
}

// ---- images ----

#[tokio::test]
async fn an_api_goes_from_nothing_to_an_answer_and_back_to_nothing() {
    let world = World::get();
    let served = world.serve("chain", Egress::Internet).await;
    let answer = served.get("/").await;
    assert_eq!(answer["api"], "chain");
    assert_eq!(answer["word"], "honey");
    assert_eq!(answer["inner"], "from below");

    let instance = world.only(&served.api).await;
    let job = world.job("chain", Egress::Internet).await;
    assert_eq!((instance.name, instance.revision, instance.number), (job.name, job.revision, 1));
    assert!(instance.spec.is_some());
    let age = jiff::Timestamp::now().duration_since(instance.created).as_secs();
    assert!((0..120).contains(&age), "{age}");

    world.docker.remove(&served.container, GRACE).await.unwrap();
    assert_eq!(world.docker.instances(Some(&served.api)).await.unwrap(), []);
    world.docker.remove(&served.container, GRACE).await.unwrap();
}

#[tokio::test]
async fn the_base_is_the_same_when_asked_again_and_by_another_skep() {
    let world = World::get();
    let first = world.docker.base(&Progress::silent()).await.unwrap();
    assert_eq!(world.docker.base(&Progress::silent()).await.unwrap(), first);
    let (progress, lines) = recorder();
    let other = Docker::connect(&settings(Dial::Auto), "0123456789ab").unwrap();
    assert_eq!(other.base(&progress).await.unwrap(), first);
    assert_eq!(*lines.lock().unwrap(), Vec::<String>::new(), "nothing was to be made");
}

#[tokio::test]
async fn what_is_installed_already_is_not_installed_again() {
    let world = World::get();
    world.image().await;
    let images = world.docker.images().await.unwrap();
    assert!(images.contains(&world.tag("deps:app")) && images.contains(&world.tag("api-app:1")), "{images:?}");
    let (progress, lines) = recorder();
    let job = Install { tag: world.tag("deps:app"), requirements: requirements(&["no-such-package-xyzzy"]) };
    world.docker.install(&job, &progress).await.unwrap();
    assert_eq!(*lines.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn two_installs_of_the_same_make_it_once() {
    let world = World::get();
    let job = Install { tag: world.tag("deps:twice"), requirements: requirements(&["idna"]) };
    let (progress, lines) = recorder();
    let (one, two) = tokio::join!(world.docker.install(&job, &progress), world.docker.install(&job, &progress));
    one.unwrap();
    two.unwrap();
    let lines = lines.lock().unwrap();
    assert_eq!(lines.iter().filter(|line| line.starts_with(" + idna")).count(), 1, "{lines:?}");
    drop(lines);
    world.docker.remove_image(&job.tag).await.unwrap();
    world.docker.remove_image(&job.tag).await.unwrap();
    assert!(!world.docker.images().await.unwrap().contains(&job.tag));
}

#[tokio::test]
async fn a_requirement_that_cannot_be_met_is_named_and_leaves_nothing_behind() {
    let world = World::get();
    let job = Install {
        tag: world.tag("deps:impossible"),
        requirements: requirements(&["idna", "fastapi==99.99", "uvicorn"]),
    };
    let Err(EngineError::Failed { message, output }) = world.docker.install(&job, &Progress::silent()).await else {
        panic!("it cannot be installed");
    };
    assert_eq!(message, "cannot install fastapi==99.99: the package index has no such version");
    assert!(output.iter().any(|line| line.contains("fastapi==99.99")), "{output:?}");
    assert!(!world.docker.images().await.unwrap().contains(&job.tag));
}

#[tokio::test]
async fn no_build_code_of_a_package_runs() {
    let world = World::get();
    let job = Install { tag: world.tag("deps:source"), requirements: requirements(&["pycrypto==2.6.1"]) };
    let Err(error) = world.docker.install(&job, &Progress::silent()).await else {
        panic!("it has no wheel");
    };
    assert!(error.to_string().starts_with("cannot install pycrypto==2.6.1: there is no wheel"), "{error}");
}

#[tokio::test]
async fn the_index_is_used_and_its_password_is_kept_nowhere() {
    let world = World::get();
    let mut settings = settings(Dial::Auto);
    settings.build.index_url = Some("http://someone:s3cret@127.0.0.1:9/simple".to_owned());
    let docker = Docker::connect(&settings, &world.owner).unwrap();
    let (progress, lines) = recorder();
    let job = Install { tag: world.tag("deps:secret"), requirements: requirements(&["idna"]) };
    let Err(EngineError::Failed { message, output }) = docker.install(&job, &progress).await else {
        panic!("nobody listens there");
    };
    let all = format!("{message} {output:?} {:?}", lines.lock().unwrap());
    assert!(message.contains("127.0.0.1:9"), "{message}");
    assert!(!all.contains("s3cret"), "{all}");
}

#[tokio::test]
async fn code_on_dependencies_that_are_not_there_is_refused() {
    let world = World::get();
    let job = Build { tag: world.tag("api-x:1"), dependencies: world.tag("deps:absent"), files: files() };
    let error = world.docker.build(&job, &Progress::silent()).await.unwrap_err();
    assert!(error.to_string().contains("deps:absent is not there"), "{error}");
}

// ---- hardening ----

#[tokio::test]
async fn an_instance_has_no_more_than_it_needs() {
    let world = World::get();
    let served = world.serve("hardened", Egress::Internet).await;
    let inside = served.get("/inside").await;
    assert_eq!((&inside["uid"], &inside["gid"]), (&10_001.into(), &10_001.into()));
    assert_eq!(inside["groups"], serde_json::json!([10_001]));
    for set in inside["capabilities"].as_array().unwrap() {
        assert_eq!(set, "0000000000000000");
    }
    assert_eq!(inside["no_new_privileges"], "1");
    assert_eq!(inside["seccomp"], "2", "the engine's filter is on");
    assert!(inside["root"].as_str().unwrap().starts_with("ro,"), "{inside}");
    assert_eq!(inside["writable"], serde_json::json!([]));
    for option in ["noexec", "nosuid", "nodev"] {
        assert!(inside["tmp"].as_str().unwrap().contains(option), "{inside}");
    }
    assert_eq!((&inside["tmp_is_writable"], &inside["tmp_is_bounded"]), (&true.into(), &true.into()));
    assert_eq!(inside["tmp_bytes"], 16 << 20);
    assert!(inside["first"].as_str().unwrap().contains("init"), "{inside}");
    assert_eq!(inside["ipv6"], serde_json::json!([]), "no second way out");
    assert_eq!(inside["prefix"], "/opt/venv");
    assert_eq!(inside["compiled"], true);
    let environment = inside["environment"].to_string();
    for word in ["UV_", "PIP_", "INDEX"] {
        assert!(!environment.contains(word), "{environment}");
    }
    let threads = served.get("/threads").await["count"].as_u64().unwrap();
    assert!(threads < 64, "{threads} threads within a limit of 64");

    let host = inspect(&served.container).await.host_config.unwrap();
    assert_eq!((host.memory, host.memory_swap), (Some(256 << 20), Some(256 << 20)));
    assert_eq!((host.nano_cpus, host.pids_limit), (Some(1_000_000_000), Some(64)));
    assert_eq!(host.privileged, Some(false));
    assert_eq!(host.binds.unwrap_or_default(), Vec::<String>::new());
    assert!(host.mounts.unwrap_or_default().is_empty());
    assert!(host.port_bindings.unwrap_or_default().is_empty(), "the host dials the container's address");
    assert_eq!(host.log_config.unwrap().config.unwrap()["max-size"], "5m");
    assert_eq!(host.ipc_mode.as_deref(), Some("private"));
}

// ---- networks ----

/// A service of this host, listening on all addresses.
fn host_service() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn gateway(world: &World, network: &str) -> String {
    let name = format!("skep-{}-{network}", world.owner);
    let found = engine().inspect_network(&name, None).await.unwrap();
    let ipam = found.ipam.unwrap().config.unwrap().remove(0);
    // An internal network has a bridge with an address all the same: the first of its subnet.
    ipam.gateway.unwrap_or_else(|| panic!("{name} has no gateway"))
}

#[tokio::test]
async fn without_egress_an_instance_reaches_nobody_and_the_host_reaches_it() {
    let world = World::get();
    let (_listener, port) = host_service();
    let lonely = world.serve("lonely", Egress::None).await;
    let neighbour = world.serve("lonely-neighbour", Egress::None).await;
    let gateway = gateway(&world, "none").await;
    assert!(TcpStream::connect((gateway.as_str(), port)).await.is_ok(), "the service is there, for the host");
    let outer = host_address();

    assert!(!lonely.reaches(&gateway, port).await, "the host through the bridge");
    assert!(!lonely.reaches(&outer, port).await, "the host through its own address");
    assert!(!lonely.reaches(ELSEWHERE.0, ELSEWHERE.1).await, "the internet");
    assert!(!lonely.reaches(&neighbour.address.ip().to_string(), 8000).await, "a neighbour");
    assert_eq!(lonely.get(&format!("/resolve?name={}", ELSEWHERE.0)).await["resolved"], false, "names are a way out");
}

#[tokio::test]
async fn with_egress_an_instance_reaches_the_internet_and_neither_host_nor_neighbour() {
    let world = World::get();
    let (_listener, port) = host_service();
    let open = world.serve("open", Egress::Internet).await;
    let neighbour = world.serve("open-neighbour", Egress::Internet).await;
    let lonely = world.serve("open-and-lonely", Egress::None).await;
    let gateway = gateway(&world, "internet").await;
    assert!(TcpStream::connect((gateway.as_str(), port)).await.is_ok(), "the service is there, for the host");

    assert!(open.reaches(ELSEWHERE.0, ELSEWHERE.1).await, "the internet, by name");
    assert!(!open.reaches(&gateway, port).await, "the host through the bridge");
    assert!(!open.reaches(&host_address(), port).await, "the host through its own address");
    assert!(!open.reaches(&neighbour.address.ip().to_string(), 8000).await, "a neighbour");
    assert!(!open.reaches(&lonely.address.ip().to_string(), 8000).await, "a neighbour on the other network");
    assert!(!open.reaches("169.254.169.254", 80).await, "a cloud's credentials");
}

#[tokio::test]
async fn rules_that_somebody_flushed_come_back() {
    let world = World::get();
    world.docker.ensure_firewall().await.unwrap();
    let chain = format!("SKEP-{}", &world.owner[..8]);
    let rules = || {
        let output = std::process::Command::new("iptables").args(["-w", "-S", &chain]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let before = rules();
    assert_eq!(before.lines().count(), 5, "{before}");
    world.docker.ensure_firewall().await.unwrap();
    assert_eq!(rules(), before, "nothing is doubled");
    assert!(std::process::Command::new("iptables").args(["-w", "-F", &chain]).status().unwrap().success());
    world.docker.ensure_firewall().await.unwrap();
    assert_eq!(rules(), before);
}

/// The host's address on its way to the internet.
fn host_address() -> String {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    // Sends nothing: connecting a datagram socket only picks the route.
    socket.connect((Ipv4Addr::new(198, 51, 100, 1), 9)).unwrap();
    socket.local_addr().unwrap().ip().to_string()
}

#[tokio::test]
async fn a_loopback_port_serves_where_addresses_cannot_be_dialled() {
    let world = World::get();
    let docker = Docker::connect(&settings(Dial::Loopback), &world.owner).unwrap();
    let jobs = [world.job("port-a", Egress::Internet).await, world.job("port-b", Egress::Internet).await];
    let (one, two) = tokio::join!(docker.start(&jobs[0]), docker.start(&jobs[1]));
    one.unwrap();
    two.unwrap();
    let mut addresses = Vec::new();
    for job in &jobs {
        let served = Served::wait(&docker, &job.api).await;
        assert_eq!(served.get("/").await["api"], job.api.as_str());
        assert!(served.address.ip().is_loopback() && (31_000..=31_999).contains(&served.address.port()));
        addresses.push(served.address);
    }
    assert_ne!(addresses[0], addresses[1]);
}

#[tokio::test]
async fn a_port_that_somebody_else_took_is_passed_over() {
    let world = World::get();
    let job = world.job("port-taken", Egress::Internet).await;
    let wish =
        skep::engine::docker::ports::choose(job.name.as_str(), &std::collections::BTreeSet::new(), (31_000, 31_999));
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, wish.unwrap())).unwrap();
    let docker = Docker::connect(&settings(Dial::Loopback), &world.owner).unwrap();
    docker.start(&job).await.unwrap();
    let served = Served::wait(&docker, &job.api).await;
    assert_ne!(Some(served.address.port()), wish);
}

// ---- instances ----

#[tokio::test]
async fn starting_twice_is_one_container_and_another_spec_replaces_it() {
    let world = World::get();
    let mut job = world.job("twice", Egress::Internet).await;
    let (one, two) = tokio::join!(world.docker.start(&job), world.docker.start(&job));
    one.unwrap();
    two.unwrap();
    let first = world.only(&job.api).await;
    world.docker.start(&job).await.unwrap();
    assert_eq!(world.only(&job.api).await.container, first.container);

    engine().stop_container(&first.container, None).await.unwrap();
    assert!(matches!(world.only(&job.api).await.run, Run::Exited { out_of_memory: false, .. }));
    world.docker.start(&job).await.unwrap();
    let again = world.only(&job.api).await;
    assert_eq!(again.container, first.container);
    assert!(matches!(again.run, Run::Running { .. }), "{again:?}");

    job.run.resources.memory = Size::mib(300);
    world.docker.start(&job).await.unwrap();
    let other = world.only(&job.api).await;
    assert_ne!(other.container, first.container);
    assert_ne!(other.spec, first.spec);
}

#[tokio::test]
async fn what_is_not_ours_is_never_touched() {
    let world = World::get();
    let job = world.job("foreign", Egress::Internet).await;
    let body = ContainerCreateBody {
        image: Some(job.image.to_string()),
        // The owner alone tells what is whose; all else may look alike.
        labels: Some([("dev.skep.owner".to_owned(), "ffffffffffff".to_owned())].into()),
        ..ContainerCreateBody::default()
    };
    let options = bollard::query_parameters::CreateContainerOptions {
        name: Some(job.name.as_str().to_owned()),
        ..Default::default()
    };
    let foreign = engine().create_container(Some(options), body).await.unwrap().id;
    let started = world.docker.start(&job).await;
    let removed = world.docker.remove(&foreign.as_str().into(), Duration::ZERO).await;
    let listed = world.docker.instances(Some(&job.api)).await.unwrap();
    let after = engine().inspect_container(&foreign, None).await;
    engine().remove_container(&foreign, None).await.unwrap();

    assert!(after.is_ok(), "it is still there");
    assert!(started.unwrap_err().to_string().contains("did not make"));
    assert!(removed.unwrap_err().to_string().contains("not of this installation"));
    assert_eq!(listed, []);
}

#[tokio::test]
async fn every_state_of_a_container_is_told() {
    let world = World::get();
    let served = world.serve("states", Egress::Internet).await;
    engine().pause_container(&served.container).await.unwrap();
    assert_eq!(world.only(&served.api).await.run, Run::Paused);
    engine().unpause_container(&served.container).await.unwrap();
    let _ = get(served.address, "/exit?code=7").await;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match world.only(&served.api).await.run {
            Run::Exited { code, out_of_memory } => {
                assert_eq!((code, out_of_memory), (7, false));
                break;
            }
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_container_whose_labels_make_no_sense_hides_no_other() {
    let world = World::get();
    let served = world.serve("sensible", Egress::Internet).await;
    let body = ContainerCreateBody {
        image: Some(world.image().await.to_string()),
        labels: Some(
            [("dev.skep.owner", world.owner.as_str()), ("dev.skep.api", "sensible"), ("dev.skep.number", "many")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        ),
        ..ContainerCreateBody::default()
    };
    let odd = engine().create_container(None, body).await.unwrap().id;
    assert_eq!(world.only(&served.api).await.container, served.container);
    world.docker.remove(&odd.as_str().into(), Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_network_that_somebody_removed_is_made_again() {
    let world = World::get();
    let owner = format!("{:012x}", rand::random::<u64>() >> 16);
    let other = Arc::new(World { docker: Docker::connect(&settings(Dial::Auto), &owner).unwrap(), owner });
    let mut job = world.job("healing", Egress::Internet).await;
    other.docker.start(&job).await.unwrap();
    let first = other.only(&job.api).await;
    other.docker.remove(&first.container, Duration::ZERO).await.unwrap();
    engine().remove_network(&format!("skep-{}-internet", other.owner)).await.unwrap();
    job.name = InstanceName::new(&job.api, &job.revision, 2);
    other.docker.start(&job).await.unwrap();
    Served::wait(&other.docker, &job.api).await;
}

// ---- what it tells ----

#[tokio::test]
async fn output_is_told_line_by_line_and_is_safe_to_show() {
    let world = World::get();
    let served = world.serve("talker", Egress::Internet).await;
    let mut follow = world.docker.logs(&served.container, 0, true).await.unwrap();
    served.get("/print").await;
    let read = async {
        let mut lines = Vec::new();
        while let Some(line) = follow.next().await {
            lines.push(line.unwrap());
            if lines.iter().any(|line| line.text.starts_with("bad ")) && lines.iter().any(|line| line.is_error) {
                break;
            }
        }
        lines
    };
    let lines = tokio::time::timeout(Duration::from_secs(10), read).await.unwrap();
    let text = |wanted: &str| {
        lines.iter().find(|line| line.text.starts_with(wanted)).unwrap_or_else(|| panic!("{wanted}: {lines:?}"))
    };
    assert!(text("plain line").at.is_some() && !text("plain line").is_error);
    assert_eq!(text("red").text, "red \u{fffd}nul");
    assert!(text("on error").is_error);
    assert_eq!(text("bad").text, "bad \u{fffd}\u{fffd} bytes");
    let long = text("xxx");
    assert!(long.text.ends_with("(cut)") && long.text.len() < 10_000, "{}", long.text.len());
    assert_eq!(lines.iter().filter(|line| line.text.starts_with("xxx")).count(), 1);

    let tail: Vec<_> = world.docker.logs(&served.container, 2, false).await.unwrap().collect().await;
    assert_eq!(tail.len(), 2, "{tail:?}");

    world.docker.remove(&served.container, GRACE).await.unwrap();
    let rest = tokio::time::timeout(Duration::from_secs(10), follow.collect::<Vec<_>>()).await;
    assert!(rest.is_ok(), "following ends with the container");
    assert!(world.docker.logs(&served.container, 2, false).await.is_err());
}

#[tokio::test]
async fn events_hint_at_the_api_that_something_happened_to() {
    let world = World::get();
    let job = world.job("eventful", Egress::Internet).await;
    let mut events = world.docker.events();
    let first = tokio::time::timeout(Duration::from_secs(10), events.next()).await.unwrap();
    assert_eq!(first, Some(Hint::Everything), "what came before was missed");
    // The engine says nothing when it has begun to listen; polling is what makes the request.
    let (sender, mut hints) = tokio::sync::mpsc::unbounded_channel();
    let listener = tokio::spawn(async move {
        while let Some(hint) = events.next().await {
            if sender.send(hint).is_err() {
                break;
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.docker.start(&job).await.unwrap();
    let mut wait = async || loop {
        let hint = tokio::time::timeout(Duration::from_secs(10), hints.recv()).await.expect("a hint comes").unwrap();
        if hint == Hint::Api(job.api.clone()) {
            break;
        }
    };
    wait().await;
    let container = world.only(&job.api).await.container;
    engine().kill_container(&container, None).await.unwrap();
    wait().await;
    listener.abort();
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_told_from_one_that_refuses() {
    let mut settings = settings(Dial::Auto);
    settings.engine.host = Some("unix:///nowhere/docker.sock".to_owned());
    let docker = Docker::connect(&settings, "0123456789ab").unwrap();
    assert!(matches!(docker.instances(None).await, Err(EngineError::Unreachable { .. })));
    settings.engine.host = Some("ssh://somewhere".to_owned());
    assert!(matches!(Docker::connect(&settings, "0123456789ab"), Err(EngineError::Unsupported(_))));
}
