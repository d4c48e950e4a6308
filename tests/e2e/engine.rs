//! The engine as somebody sees it who stands beside skep: containers, killed and counted by hand.

use bollard::Docker;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerUpdateBody, NetworkConnectRequest, NetworkDisconnectRequest,
};
use bollard::query_parameters::{
    InspectContainerOptions, KillContainerOptions, ListContainersOptions, RemoveContainerOptions, RemoveImageOptions,
    RenameContainerOptions, StartContainerOptions,
};

/// A container, in few words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub is_running: bool,
}

/// Runs a future to its end.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn client() -> Docker {
    let address = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
    Docker::connect_with_host(&address).unwrap()
}

/// The instances of an API, or of all, in the order of their names; what is stopped is among them.
pub fn instances(owner: &str, api: Option<&str>) -> Vec<Container> {
    let api = api.map_or_else(|| "dev.skep.api".to_owned(), |api| format!("dev.skep.api={api}"));
    labelled(&[&format!("dev.skep.owner={owner}"), &api])
}

/// The containers with all of these labels, in the order of their names; what is stopped is among them.
pub fn labelled(labels: &[&str]) -> Vec<Container> {
    let labels = labels.iter().map(|&label| label.to_owned()).collect();
    let options = ListContainersOptions {
        all: true,
        filters: Some([("label".to_owned(), labels)].into()),
        ..ListContainersOptions::default()
    };
    let found = block_on(async { client().list_containers(Some(options)).await.unwrap() });
    let read = |container: bollard::models::ContainerSummary| Container {
        id: container.id.unwrap(),
        name: container.names.unwrap_or_default().first().map_or("", |name| name.trim_start_matches('/')).to_owned(),
        is_running: container.state.is_some_and(|state| state.to_string() == "running"),
    };
    let mut found: Vec<Container> = found.into_iter().map(read).collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

/// What the engine knows of a container; `None` where it is gone.
pub fn inspect(id: &str) -> Option<ContainerInspectResponse> {
    block_on(async { client().inspect_container(id, None::<InspectContainerOptions>).await.ok() })
}

/// The owners of all networks with this label, and what it says.
pub fn networks_labelled(label: &str) -> Vec<(String, String)> {
    let filters = Some([("label".to_owned(), vec![label.to_owned()])].into());
    let options = bollard::query_parameters::ListNetworksOptions { filters };
    let found = block_on(async { client().list_networks(Some(options)).await.unwrap() });
    let read = |labels: std::collections::HashMap<String, String>| {
        Some((labels.get("dev.skep.owner")?.clone(), labels.get(label)?.clone()))
    };
    found.into_iter().filter_map(|network| read(network.labels?)).collect()
}

/// The names of all networks of skep, whoever they are of.
pub fn networks() -> Vec<String> {
    let options = None::<bollard::query_parameters::ListNetworksOptions>;
    let found = block_on(async { client().list_networks(options).await.unwrap() });
    found.into_iter().filter_map(|network| network.name).filter(|name| name.starts_with("skep-")).collect()
}

/// The id of an image to make containers of: whichever skep stands on here.
pub fn base_image() -> String {
    let options = bollard::query_parameters::ListImagesOptions::default();
    let images = block_on(async { client().list_images(Some(options)).await.unwrap() });
    let is_base = |tag: &String| tag.starts_with("skep/runtime:");
    images.into_iter().find(|image| image.repo_tags.iter().any(is_base)).expect("a runtime image is there").id
}

/// Makes an image of a container, with labels and without a tag; gives its id.
pub fn commit_untagged(container: &str, labels: &[(&str, &str)]) -> String {
    let options = bollard::query_parameters::CommitContainerOptions {
        container: Some(container.to_owned()),
        ..Default::default()
    };
    let labels = labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    let config = bollard::models::ContainerConfig { labels: Some(labels), ..Default::default() };
    block_on(async { client().commit_container(options, config).await.unwrap().id })
}

pub fn has_image(id: &str) -> bool {
    block_on(async { client().inspect_image(id).await.is_ok() })
}

/// As `docker kill`.
pub fn kill(id: &str) {
    block_on(async { client().kill_container(id, None::<KillContainerOptions>).await.unwrap() });
}

/// As `docker rm --force`.
pub fn remove(id: &str) {
    let options = RemoveContainerOptions { force: true, ..RemoveContainerOptions::default() };
    block_on(async { client().remove_container(id, Some(options)).await.unwrap() });
}

/// Starts a container that sleeps, made of that image, with these labels; gives its id.
pub fn start_foreign(image: &str, labels: &[(&str, &str)]) -> String {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec!["sleep".to_owned()]),
        cmd: Some(vec!["600".to_owned()]),
        labels: Some(labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()),
        ..ContainerCreateBody::default()
    };
    block_on(async {
        let client = client();
        let options = None::<bollard::query_parameters::CreateContainerOptions>;
        let id = client.create_container(options, body).await.unwrap().id;
        client.start_container(&id, None::<StartContainerOptions>).await.unwrap();
        id
    })
}

/// What a container of the system before runs in these tests: it answers `old`, on `/slow` after a second, and ends when it
/// is asked to with what it has begun.
const PREDECESSOR: &str = r#"
import http.server, os, signal, threading, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version, timeout = "HTTP/1.1", 5
    def do_GET(self):
        if self.path.endswith("/slow"):
            time.sleep(1)
        self.send_response(200)
        self.send_header("content-length", "3")
        self.end_headers()
        self.wfile.write(b"old")
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
server = Server(("0.0.0.0", 8000), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
time.sleep(1.5)
os._exit(0)
"#;

/// Starts a container as the system before skep did: port 8000 published, restarted unless stopped. Gives its id.
pub fn start_predecessor(image: &str, name: &str, labels: &[(&str, &str)]) -> String {
    let binding = bollard::models::PortBinding { host_ip: None, host_port: Some(String::new()) };
    let policy = bollard::models::RestartPolicy {
        name: Some(bollard::models::RestartPolicyNameEnum::UNLESS_STOPPED),
        maximum_retry_count: None,
    };
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec!["python3".to_owned()]),
        cmd: Some(vec!["-c".to_owned(), PREDECESSOR.to_owned()]),
        labels: Some(labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()),
        exposed_ports: Some(vec!["8000/tcp".to_owned()]),
        host_config: Some(bollard::models::HostConfig {
            memory: Some(512 << 20),
            restart_policy: Some(policy),
            port_bindings: Some([("8000/tcp".to_owned(), Some(vec![binding]))].into()),
            ..Default::default()
        }),
        ..ContainerCreateBody::default()
    };
    block_on(async {
        let client = client();
        let options =
            bollard::query_parameters::CreateContainerOptions { name: Some(name.to_owned()), ..Default::default() };
        let id = client.create_container(Some(options), body).await.unwrap().id;
        client.start_container(&id, None::<StartContainerOptions>).await.unwrap();
        id
    })
}

/// Where the port 8000 of a container is published.
pub fn published(id: &str) -> std::net::SocketAddr {
    let ports = inspect(id).unwrap().network_settings.unwrap().ports.unwrap();
    // The engine may give a container one port on IPv4 and another on IPv6.
    let mut bindings = ports["8000/tcp"].iter().flatten();
    let binding = bindings.find(|binding| binding.host_ip.as_deref() == Some("0.0.0.0")).unwrap();
    let port = binding.host_port.clone().unwrap();
    std::net::SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()))
}

/// As `docker start`.
pub fn start(id: &str) {
    block_on(async { client().start_container(id, None::<StartContainerOptions>).await.unwrap() });
}

/// As `docker restart`.
pub fn restart(id: &str) {
    block_on(async { client().restart_container(id, None).await.unwrap() });
}

/// As `docker pause`.
pub fn pause(id: &str) {
    block_on(async { client().pause_container(id).await.unwrap() });
}

/// As `docker rename`.
pub fn rename(id: &str, name: &str) {
    let options = RenameContainerOptions { name: name.to_owned() };
    block_on(async { client().rename_container(id, options).await.unwrap() });
}

/// As `docker update`, in bytes and microseconds of the processor in each period.
pub fn limit(id: &str, memory: i64, cpu_quota: i64) {
    let body = ContainerUpdateBody {
        memory: Some(memory),
        memory_swap: Some(memory),
        cpu_quota: Some(cpu_quota),
        ..ContainerUpdateBody::default()
    };
    block_on(async { client().update_container(id, body).await.unwrap() });
}

/// As `docker network disconnect --force`.
pub fn disconnect(network: &str, id: &str) {
    let request = NetworkDisconnectRequest { container: id.to_owned(), force: Some(true) };
    block_on(async { client().disconnect_network(network, request).await.unwrap() });
}

/// As `docker network connect`.
pub fn connect(network: &str, id: &str) {
    let request = NetworkConnectRequest { container: id.to_owned(), endpoint_config: None };
    block_on(async { client().connect_network(network, request).await.unwrap() });
}

/// As `docker network rm`.
pub fn remove_network(network: &str) {
    block_on(async { client().remove_network(network).await.unwrap() });
}

/// As `docker rmi --force`.
pub fn remove_image(image: &str) {
    let options = RemoveImageOptions { force: true, ..RemoveImageOptions::default() };
    block_on(async { client().remove_image(image, Some(options), None).await.unwrap() });
}
