//! A container is how an instance exists on the engine: created from one value, known by its labels.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::PoisonError;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerState, EndpointIpamConfig, EndpointSettings, HealthConfig,
    NetworkingConfig, PortBinding,
};
use bollard::query_parameters::{
    CreateContainerOptions, ListContainersOptions, RemoveContainerOptions, StopContainerOptions,
};
use serde_json::Value;

use super::Docker;
use super::call::{Fault, QUICK, WORK};
use super::handover::expect_secrets;
use super::hardening::{Kind, Limits, USER, host_config};
use super::labels::LimitsGiven;
use super::network::Network;
use super::{host, labels, ports, runtime};
use crate::engine::{EngineError, Start};
use crate::settings::Dial;
use crate::tree::{Digest, Egress};

/// The port that every app listens on, inside its container.
pub(super) const APP_PORT: u16 = 8000;

/// How often a start is tried anew after something that trying anew can mend: a network that is gone, a port that
/// somebody else has taken, a container that another version of skep left.
const ATTEMPTS: u32 = 8;

/// For how long an app may finish what it is doing once it is asked to end. The gateway has drained it before that.
const GRACEFUL_SECONDS: &str = "10";

/// Longer than the gateway keeps an idle connection, so that it never writes into one that the app is just closing.
const KEEP_ALIVE_SECONDS: &str = "75";

/// What came of one attempt to start.
enum Attempt {
    Started,
    /// Something was mended; try again.
    Again,
}

/// The pause before the second attempt; it grows with each.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(25);

impl Docker {
    pub(super) async fn start_instance(&self, job: &Start) -> Result<(), EngineError> {
        for attempt in 0..ATTEMPTS {
            // A name is taken a moment before the container that takes it can be seen.
            tokio::time::sleep(BETWEEN_ATTEMPTS * attempt).await;
            let network = self.network(job.run.egress).await?;
            self.guard(&network, job.run.egress).await?;
            if let Attempt::Started = self.try_start(job, &network).await? {
                Self::set_apart(&network).await;
                return Ok(());
            }
        }
        Err(EngineError::Refused {
            action: "start a container",
            cause: format!("{} was in the way of itself {ATTEMPTS} times; is another skep at work?", job.name),
        })
    }

    async fn try_start(&self, job: &Start, network: &Network) -> Result<Attempt, EngineError> {
        let mut body = self.describe(job, network);
        let spec = digest(&body)?;
        let labels = body.labels.get_or_insert_default();
        labels.insert(labels::SPEC.to_owned(), spec.to_string());
        let host = body.host_config.as_ref();
        let given = LimitsGiven {
            memory: host.and_then(|host| host.memory).unwrap_or_default(),
            cpu_quota: host.and_then(|host| host.cpu_quota).unwrap_or_default(),
            cpu_period: host.and_then(|host| host.cpu_period).unwrap_or_default(),
            pids: host.and_then(|host| host.pids_limit).unwrap_or_default(),
        };
        let labels = body.labels.get_or_insert_default();
        labels.insert(labels::LIMITS.to_owned(), given.to_string());
        labels.insert(labels::NETWORK.to_owned(), network.name.clone());
        if let Some(address) = self.free_address(network).await? {
            labels.insert(labels::ADDRESS.to_owned(), address.to_string());
            let ends = HashMap::from([(network.name.clone(), end_at(address))]);
            body.networking_config = Some(NetworkingConfig { endpoints_config: Some(ends) });
        }
        let mut port = None;
        let created = if self.is_published(network, job.run.egress)? {
            // Held until the container is there, whose label then says that the port is taken.
            let mut refused = self.shared.ports.lock().await;
            let taken = self.taken_ports(&refused).await?;
            let (first, last) = self.shared.engine.ports;
            let Some(free) = ports::choose(job.name.as_str(), &taken, (first, last)) else {
                // Those that the host refused may be free by now.
                refused.clear();
                return Err(EngineError::Unsupported(format!(
                    "all loopback ports from {first} to {last} are taken; widen the range, or remove APIs"
                )));
            };
            publish(&mut body, free);
            port = Some(free);
            self.create(job, body).await
        } else {
            self.create(job, body).await
        };
        match created {
            Ok(id) => self.run(job, &id, port).await,
            Err(fault) if fault.status() == Some(409) => self.adopt(job, &spec).await,
            // What it was asked for is at fault, as less memory than the engine's least: the next push may mend it.
            Err(fault) if fault.status() == Some(400) => {
                Err(EngineError::Failed { message: EngineError::from(fault).to_string(), output: Vec::new() })
            }
            Err(fault) => Err(fault.into()),
        }
    }

    async fn create(&self, job: &Start, body: ContainerCreateBody) -> Result<String, Fault> {
        let name = Some(self.container_name(&job.name));
        let options = CreateContainerOptions { name, ..CreateContainerOptions::default() };
        let create = |client: bollard::Docker| async move { client.create_container(Some(options), body).await };
        self.call("create a container", WORK, create).await.map(|created| created.id)
    }

    /// Starts what was just created; takes it away again where it does not start.
    async fn run(&self, job: &Start, id: &str, port: Option<u16>) -> Result<Attempt, EngineError> {
        let handover = match &job.secrets {
            Some(secrets) => Some((self.prepare_handover(id).await?, secrets)),
            None => None,
        };
        let start = |client: bollard::Docker| async move { client.start_container(id, None).await };
        let Err(fault) = self.call("start a container", WORK, start).await else {
            self.neighbours().note(id);
            if let Some((handover, secrets)) = handover {
                handover.give(secrets).await?;
            }
            return Ok(Attempt::Started);
        };
        if fault.status().is_none() {
            // No answer: it may well have started.
            return Err(fault.into());
        }
        self.force_remove(id).await?;
        if fault.says(&["port is already allocated", "address already in use"])
            && let Some(port) = port
        {
            self.shared.ports.lock().await.insert(port);
            return Ok(Attempt::Again);
        }
        // Its address is taken, by somebody who does not say so on a label: the next attempt has another.
        let is_taken = fault.says(&["address already in use"]);
        if is_taken || fault.says(&["marked for removal", "removal of container"]) {
            return Ok(Attempt::Again);
        }
        let is_another = fault.says(&["user configured subnet", "no configured subnet"]);
        if is_another || (fault.is_missing() && fault.says(&["network"])) {
            self.forget_networks().await;
            return Ok(Attempt::Again);
        }
        Err(fault.into())
    }

    /// A container of that name is there already.
    async fn adopt(&self, job: &Start, spec: &Digest) -> Result<Attempt, EngineError> {
        let Some(found) = self.inspect_container(&self.container_name(&job.name)).await? else {
            return Ok(Attempt::Again);
        };
        if !self.is_ours(&found) {
            return Err(EngineError::Unsupported(format!(
                "there is a container {} that this installation did not make; rename or remove it",
                self.container_name(&job.name)
            )));
        }
        let Some(id) = found.id.as_deref() else { return Ok(Attempt::Again) };
        let made_of = label(&found, labels::SPEC);
        let is_removing = found.state.as_ref().is_some_and(|state| state.dead == Some(true));
        if made_of == Some(&spec.to_string()) && !is_removing {
            return self.run(job, id, None).await;
        }
        if found.state.as_ref().is_some_and(|state| state.running == Some(true)) && !is_removing {
            // Somebody made it a moment ago, and may be sending callers to it: the next look at the world decides.
            return Ok(Attempt::Started);
        }
        self.force_remove(id).await?;
        Ok(Attempt::Again)
    }

    pub(super) async fn remove_instance(&self, id: &str, grace: Duration) -> Result<(), EngineError> {
        let Some(found) = self.inspect_container(id).await? else { return Ok(()) };
        if !self.is_ours(&found) {
            return Err(EngineError::Unsupported(format!("the container {id} is not of this installation, and stays")));
        }
        // By its own id from here on: a name may change hands.
        let id = found.id.as_deref().unwrap_or(id);
        let state = found.state.unwrap_or_default();
        if !grace.is_zero() {
            match self.end(id, &state, grace).await {
                Err(fault) if fault.status().is_none() => return Err(fault.into()),
                // Whatever it says, removing by force is next, and says it better.
                _ => {}
            }
        }
        self.force_remove(id).await
    }

    /// Asks a container that runs to end, and kills it after `grace`.
    pub(super) async fn end(&self, id: &str, state: &ContainerState, grace: Duration) -> Result<(), Fault> {
        if state.running != Some(true) {
            return Ok(());
        }
        if state.paused == Some(true) {
            // A frozen process cannot hear the signal.
            let thaw = |client: bollard::Docker| async move { client.unpause_container(id).await };
            let _ = self.call("unpause a container", QUICK, thaw).await;
        }
        let seconds = i32::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
        let options = StopContainerOptions { t: Some(seconds), signal: None };
        let stop = |client: bollard::Docker| async move { client.stop_container(id, Some(options)).await };
        self.call("stop a container", grace + WORK, stop).await
    }

    /// Removes a container, running or not, and waits until its name is free.
    pub(super) async fn force_remove(&self, id: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        let deadline = tokio::time::Instant::now() + WORK;
        loop {
            let options = options.clone();
            let remove = |client: bollard::Docker| async move { client.remove_container(id, Some(options)).await };
            match self.call("remove a container", WORK, remove).await {
                Ok(()) => return Ok(()),
                Err(fault) if fault.is_missing() => return Ok(()),
                // Somebody is removing it already; it is not gone before they are done.
                Err(fault) if fault.status() == Some(409) && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(fault) => return Err(fault.into()),
            }
        }
    }

    /// What the engine knows of a container, or `None` where it is not there.
    pub(super) async fn inspect_container(&self, id: &str) -> Result<Option<ContainerInspectResponse>, EngineError> {
        let inspect = |client: bollard::Docker| async move { client.inspect_container(id, None).await };
        match self.call("look at a container", QUICK, inspect).await {
            Ok(found) => Ok(Some(found)),
            Err(fault) if fault.is_missing() => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    pub(super) fn is_ours(&self, container: &ContainerInspectResponse) -> bool {
        label(container, labels::OWNER).map(String::as_str) == Some(self.owner())
    }

    /// Everything that an instance is created from, save for its port and the digest of all this.
    fn describe(&self, job: &Start, network: &Network) -> ContainerCreateBody {
        let resources = job.run.resources;
        let command = [
            ("-m", "uvicorn"),
            ("--app-dir", runtime::APP),
            ("--host", "0.0.0.0"),
            ("--port", "8000"),
            ("--timeout-keep-alive", KEEP_ALIVE_SECONDS),
            ("--timeout-graceful-shutdown", GRACEFUL_SECONDS),
            // Nobody but the gateway reaches the app, so what it forwards can be believed.
            ("--forwarded-allow-ips", "*"),
        ];
        let mut words: Vec<_> = command.iter().flat_map(|(name, value)| [*name, *value]).map(str::to_owned).collect();
        words.extend(["--proxy-headers".to_owned(), "--no-access-log".to_owned()]);
        words.extend(["--root-path".to_owned(), format!("/run/{}", job.api), job.run.app.clone()]);
        let mut host = host_config(&Limits {
            cpu: resources.cpu,
            memory: resources.memory,
            pids: resources.pids,
            tmp: resources.tmp,
            network: network.name.clone(),
            kind: Kind::Instance,
        });
        if job.run.egress == Egress::None {
            // The engine's name server would ask the host's on the container's behalf, which is a way out. Nobody
            // listens at this address, so it answers no.
            host.dns = Some(vec!["127.0.0.1".to_owned()]);
        }
        let mut body = ContainerCreateBody {
            image: Some(job.image.to_string()),
            user: Some(USER.to_owned()),
            working_dir: Some(runtime::APP.to_owned()),
            entrypoint: Some(vec![runtime::PYTHON.to_owned()]),
            cmd: Some(words),
            env: Some(environment(job)),
            labels: Some(labels::of_instance(self.owner(), job)),
            // One that the base image brings would start processes in every instance for nobody.
            healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
            stop_signal: Some("SIGTERM".to_owned()),
            host_config: Some(host),
            ..ContainerCreateBody::default()
        };
        if job.secrets.is_some() {
            expect_secrets(&mut body, job.run.secrets);
        }
        body
    }

    /// Whether an instance is reached by a loopback port rather than by its own address.
    fn is_published(&self, network: &Network, egress: Egress) -> Result<bool, EngineError> {
        let is_visible = network.is_visible();
        match (self.shared.engine.dial, egress) {
            (Dial::Address, _) => Ok(false),
            // The engine publishes nothing from a network without a way out.
            (_, Egress::None) if is_visible => Ok(false),
            (_, Egress::None) => Err(EngineError::Unsupported(
                "`egress: none` needs a host that can dial its containers; this engine's networks are elsewhere"
                    .to_owned(),
            )),
            (Dial::Loopback, _) => Ok(true),
            (Dial::Auto, _) if !is_visible && host::own_container().is_some() => Err(EngineError::Unsupported(
                "skep is in a container, from which it cannot reach APIs; give it the host's network, or a door to it, as \
                 docs/install.md describes"
                    .to_owned(),
            )),
            (Dial::Auto, _) => Ok(!is_visible),
        }
    }

    /// An address that nobody has, and that nobody had a short while ago; `None` where the engine gives them out.
    pub(super) async fn free_address(&self, network: &Network) -> Result<Option<Ipv4Addr>, EngineError> {
        let Some(subnet) = network.subnet else { return Ok(None) };
        let filters = labels::filter(&[(labels::OWNER, self.owner()), (labels::ADDRESS, "")]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
        let list = |client: bollard::Docker| async move { client.list_containers(Some(options)).await };
        let containers = self.call("list containers", QUICK, list).await?;
        let taken = containers.iter().filter_map(|one| one.labels.as_ref()?.get(labels::ADDRESS)?.parse().ok());
        let taken: BTreeSet<Ipv4Addr> = taken.collect();
        let mut cursor = self.shared.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        match cursor.next(subnet, &taken) {
            Some(address) => Ok(Some(address)),
            None => Err(EngineError::Unsupported(format!(
                "all addresses of the network {} are taken; give the engine larger pools (`default-address-pools` in \
                 /etc/docker/daemon.json), or remove APIs",
                network.name
            ))),
        }
    }

    /// The ports of all containers that skep made here, whichever installation, and those that the host refused.
    async fn taken_ports(&self, refused: &BTreeSet<u16>) -> Result<BTreeSet<u16>, EngineError> {
        let filters = labels::filter(&[(labels::PORT, "")]);
        let options = ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
        let list = |client: bollard::Docker| async move { client.list_containers(Some(options)).await };
        let containers = self.call("list containers", QUICK, list).await?;
        let labelled =
            containers.iter().filter_map(|container| container.labels.as_ref()?.get(labels::PORT)?.parse().ok());
        Ok(labelled.chain(refused.iter().copied()).collect())
    }
}

/// The end of a container on a network, at that address.
pub(super) fn end_at(address: Ipv4Addr) -> EndpointSettings {
    let ipam = EndpointIpamConfig { ipv4_address: Some(address.to_string()), ..EndpointIpamConfig::default() };
    EndpointSettings { ipam_config: Some(ipam), ..EndpointSettings::default() }
}

/// The app's variables: ours, then the API's over them, and its id last.
fn environment(job: &Start) -> Vec<String> {
    let ours = [("HOME", "/tmp"), ("PYTHONUNBUFFERED", "1"), ("PYTHONDONTWRITEBYTECODE", "1")];
    let mut all: BTreeMap<&str, &str> = ours.into();
    all.extend(job.run.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    all.insert("API_ID", job.api.as_str());
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn publish(body: &mut ContainerCreateBody, port: u16) {
    let inner = format!("{APP_PORT}/tcp");
    body.labels.get_or_insert_default().insert(labels::PORT.to_owned(), port.to_string());
    body.exposed_ports = Some(vec![inner.clone()]);
    let binding = PortBinding { host_ip: Some("127.0.0.1".to_owned()), host_port: Some(port.to_string()) };
    body.host_config.get_or_insert_default().port_bindings = Some(HashMap::from([(inner, Some(vec![binding]))]));
}

/// The digest of what a container is created from.
fn digest(body: &ContainerCreateBody) -> Result<Digest, EngineError> {
    let mut value: Value = serde_json::to_value(body).map_err(|error| EngineError::Failed {
        message: format!("cannot describe the container: {error}"),
        output: Vec::new(),
    })?;
    // The maps of the engine's types have no order of their own.
    value.sort_all_objects();
    Ok(Digest::of_value(&value))
}

fn label<'a>(container: &'a ContainerInspectResponse, name: &str) -> Option<&'a String> {
    container.config.as_ref()?.labels.as_ref()?.get(name)
}
