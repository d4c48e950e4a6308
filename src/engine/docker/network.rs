//! A network is a bridge that all instances of one egress share, with traffic between them turned off. Few bridges for
//! many containers: the engine's default address pools end at about thirty networks.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};
use bollard::query_parameters::ListNetworksOptions;

use super::Docker;
use super::addresses::Subnet;
use super::call::{Fault, QUICK, WORK};
use super::{host, labels};
use crate::engine::EngineError;
use crate::tree::Egress;

/// How often a network is made anew where others are at it too.
const ATTEMPTS: u32 = 8;

/// What one waits for at most after the first of them; after the second twice as long, and so on. Not all of them equally long:
/// several that begin at once, as on a host that has just started, would be in each other's way again.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(100);

/// One bridge of this installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Network {
    /// What the engine calls it.
    pub(super) name: String,
    /// The host's interface, 15 characters at most; firewall rules match it.
    pub(super) interface: String,
    egress: Egress,
    /// Its addresses; `None` where the engine alone gives them out.
    pub(super) subnet: Option<Subnet>,
}

impl Network {
    /// What instances on it may reach.
    pub(super) fn egress(&self) -> Egress {
        self.egress
    }

    /// Whether this process sees the bridge. It does not where the engine is remote, rootless or in a virtual machine,
    /// or where skep itself is in a container without a door to the host's network: then the host cannot dial instances,
    /// and its firewall cannot hold them.
    pub(super) fn is_visible(&self) -> bool {
        host::has_door() || Path::new("/sys/class/net").join(&self.interface).exists()
    }
}

impl Docker {
    /// What the names of all our networks begin with.
    pub(super) fn network_prefix(&self) -> String {
        format!("skep-{}-", self.owner())
    }

    /// What the names of all our interfaces begin with.
    pub(super) fn interface_prefix(&self) -> String {
        format!("sk{}", self.short_owner())
    }

    /// The network of that egress, made where it is not there.
    pub(super) async fn network(&self, egress: Egress) -> Result<Network, EngineError> {
        let mut network = self.name_network(egress);
        let mut seen = self.shared.networks.lock().await;
        network.subnet = match seen.get(&network.name) {
            Some(subnet) => *subnet,
            None => {
                let subnet = self.ensure_network(&network).await?;
                self.join(&network).await?;
                seen.insert(network.name.clone(), subnet);
                subnet
            }
        };
        Ok(network)
    }

    /// Looks at all networks again when one is next needed: somebody removed one.
    pub(super) async fn forget_networks(&self) {
        self.shared.networks.lock().await.clear();
    }

    /// Whether one of our networks is on this host.
    pub(super) fn has_visible_network(&self) -> bool {
        self.names_of_networks().iter().any(Network::is_visible)
    }

    /// Both networks, whether they are there or not.
    pub(super) fn names_of_networks(&self) -> [Network; 2] {
        [Egress::Internet, Egress::None].map(|egress| self.name_network(egress))
    }

    pub(super) fn name_network(&self, egress: Egress) -> Network {
        let (word, letter) = match egress {
            Egress::Internet => ("internet", 'i'),
            Egress::None => ("none", 'n'),
        };
        Network {
            name: format!("{}{word}", self.network_prefix()),
            interface: format!("{}{letter}", self.interface_prefix()),
            egress,
            subnet: None,
        }
    }

    /// Makes the network where it is not there.
    ///
    /// Which addresses are free only the engine knows, so it is asked by making a network without a word about them; the
    /// one that stays names them, since an address can be chosen only on a network whose addresses were.
    async fn ensure_network(&self, network: &Network) -> Result<Option<Subnet>, EngineError> {
        for attempt in 0..ATTEMPTS {
            // Not before the first: each start of an instance comes by here, and a sleep of no time takes a millisecond.
            if attempt > 0 {
                tokio::time::sleep((BETWEEN_ATTEMPTS * attempt).mul_f64(rand::random())).await;
            }
            if let Some(found) = self.find_network(network).await? {
                return Ok(found);
            }
            let Some(asked) = self.make_network(network, None).await? else { continue };
            let subnet = self.inspect_subnet(&asked).await?;
            let Some(subnet) = subnet else { continue };
            self.remove_network(&asked).await?;
            // Where another process was quicker with these addresses, the next attempt has others.
            self.make_network(network, Some(subnet)).await?;
        }
        match self.find_network(network).await? {
            Some(found) => Ok(found),
            None => Err(EngineError::Refused {
                action: "create a network",
                cause: format!("{} was in the way of itself {ATTEMPTS} times; is another skep at work?", network.name),
            }),
        }
    }

    /// Makes a network, and gives its id; `None` where somebody was quicker with its name or its addresses.
    async fn make_network(&self, network: &Network, subnet: Option<Subnet>) -> Result<Option<String>, EngineError> {
        let mut labels = labels::of_role(self.owner(), "network");
        labels.extend(self.shared.mark.iter().map(|mark| (labels::BOOT.to_owned(), mark.clone())));
        let request = NetworkCreateRequest {
            name: network.name.clone(),
            driver: Some("bridge".to_owned()),
            internal: Some(network.egress == Egress::None),
            enable_ipv6: Some(false),
            options: Some(options(network)),
            labels: Some(labels),
            ipam: subnet.map(|subnet| Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(subnet.text()),
                    ip_range: Some(subnet.engine_part()),
                    gateway: Some(subnet.gateway()),
                    ..IpamConfig::default()
                }]),
                ..Ipam::default()
            }),
            ..NetworkCreateRequest::default()
        };
        let create = |client: bollard::Docker| async move { client.create_network(request).await };
        match self.call("create a network", WORK, create).await {
            Ok(made) => Ok(Some(made.id)),
            Err(fault) if fault.says(&["already exists", "overlaps", "conflicts with"]) => Ok(None),
            Err(fault) => Err(explain(fault)),
        }
    }

    async fn inspect_subnet(&self, id: &str) -> Result<Option<Subnet>, EngineError> {
        let inspect = |client: bollard::Docker| async move { client.inspect_network(id, None).await };
        match self.call("look at a network", QUICK, inspect).await {
            Ok(found) => Ok(found.ipam.and_then(|ipam| subnet(&ipam))),
            Err(fault) if fault.is_missing() => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    async fn remove_network(&self, id: &str) -> Result<(), EngineError> {
        let remove = |client: bollard::Docker| async move { client.remove_network(id).await };
        match self.call("remove a network", WORK, remove).await {
            Err(fault) if !fault.is_missing() => Err(fault.into()),
            _ => Ok(()),
        }
    }

    /// What of the network is for instances; the outer `None` where it is not there.
    async fn find_network(&self, network: &Network) -> Result<Option<Option<Subnet>>, EngineError> {
        // The engine's filter matches parts of names.
        let filters = HashMap::from([("name".to_owned(), vec![network.name.clone()])]);
        let options = ListNetworksOptions { filters: Some(filters) };
        let networks = self
            .call("list networks", QUICK, |client| async move { client.list_networks(Some(options)).await })
            .await?;
        let Some(found) = networks.into_iter().find(|found| found.name.as_ref() == Some(&network.name)) else {
            return Ok(None);
        };
        let owner = found.labels.as_ref().and_then(|labels| labels.get(labels::OWNER));
        if owner.map(String::as_str) != Some(self.owner()) {
            return Err(EngineError::Unsupported(format!(
                "there is a network {} that this installation did not make; rename or remove it",
                network.name
            )));
        }
        if found.internal.unwrap_or_default() != (network.egress == Egress::None) {
            return Err(EngineError::Unsupported(format!(
                "somebody made the network {} anew with another `internal`; remove it, and skep makes it again",
                network.name
            )));
        }
        let ipam = found.ipam.unwrap_or_default();
        let is_divided = ipam.config.iter().flatten().any(|config| config.ip_range.is_some());
        if !is_divided && let Some(id) = &found.id {
            // As a crash between two steps leaves it, or an earlier version made it. While something is on it the engine
            // keeps it, and goes on giving out its addresses.
            let id = id.as_str();
            let remove = |client: bollard::Docker| async move { client.remove_network(id).await };
            if self.call("remove a network", WORK, remove).await.is_ok() {
                return Ok(None);
            }
        }
        Ok(Some(subnet(&ipam).filter(|_| is_divided)))
    }
}

fn subnet(ipam: &Ipam) -> Option<Subnet> {
    ipam.config.iter().flatten().find_map(|config| Subnet::parse(config.subnet.as_deref()?))
}

fn options(network: &Network) -> HashMap<String, String> {
    let mut options = HashMap::from([
        ("com.docker.network.bridge.name".to_owned(), network.interface.clone()),
        ("com.docker.network.bridge.enable_icc".to_owned(), "false".to_owned()),
        ("com.docker.network.bridge.enable_ip_masquerade".to_owned(), "true".to_owned()),
    ]);
    if let Some(bytes) = uplink_packet() {
        options.insert("com.docker.network.driver.mtu".to_owned(), bytes.to_string());
    }
    options
}

/// The largest packet of this host's way out, in bytes, where it is smaller than the engine's 1,500, as it is on a VPN
/// and in some clouds. Larger packets would leave the container and never arrive.
fn uplink_packet() -> Option<u32> {
    let routes = std::fs::read_to_string("/proc/net/route").ok()?;
    // Interface, destination, …: the default route's destination is nought.
    let mut columns = routes.lines().map(str::split_whitespace);
    let interface = columns.find_map(|mut route| route.next().filter(|_| route.next() == Some("00000000")))?;
    let bytes: u32 = std::fs::read_to_string(format!("/sys/class/net/{interface}/mtu")).ok()?.trim().parse().ok()?;
    (576..1500).contains(&bytes).then_some(bytes)
}

fn explain(fault: Fault) -> EngineError {
    let is_out_of_addresses = fault.says(&["address pool", "fully subnetted"]);
    match EngineError::from(fault) {
        EngineError::Refused { action, cause } if is_out_of_addresses => EngineError::Refused {
            action,
            cause: format!(
                "{cause}; remove networks that nobody needs (`docker network prune`), or give the engine more \
                 addresses (`default-address-pools` in /etc/docker/daemon.json)"
            ),
        },
        other => other,
    }
}
