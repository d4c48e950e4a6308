//! The host's network, where the firewall's rules are: this process's own, or, from inside a container, one that is entered
//! by a door that was mounted for it. There the gateway joins the APIs' networks, since it cannot dial into them otherwise.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use bollard::models::NetworkConnectRequest;
use tokio::process::Command;

use super::Docker;
use super::call::WORK;
use super::network::Network;
use crate::engine::EngineError;

/// The host's network namespace, mounted into skep's own container. The engine keeps it in a file,
/// `/var/run/docker/netns/default`, once a container has run in it.
pub(super) const DOOR: &str = "/run/skep/host-net";

/// What `statfs`(2) says of a file that is a namespace.
const NAMESPACES: u64 = 0x6e73_6673;

/// Where interfaces are shown: those of this process's own network.
const INTERFACES: &str = "/sys/class/net";

/// Whether the host's network is entered by the door. Without one, it is this process's own, or out of reach.
pub(super) fn has_door() -> bool {
    is_door(Path::new(DOOR))
}

/// Whether a network lies at that path, and not the folder that an engine makes where it is to mount what is not there.
fn is_door(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|system| system.f_type.cast_unsigned() == NAMESPACES)
}

/// A command in the host's network.
pub(super) fn command(program: &str) -> Command {
    if !has_door() {
        return Command::new(program);
    }
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={DOOR}")).arg("--").arg(program);
    command
}

/// Whether this process is in a container of a Docker engine.
#[must_use]
pub fn is_in_container() -> bool {
    own_container().is_some()
}

/// The id of the container that this process is in; `None` where it is in none, or in one that looks like none.
///
/// The engine mounts three files of its own into each container, and their paths on the host bear its id.
pub(super) fn own_container() -> Option<String> {
    read_own_container(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

fn read_own_container(mounts: &str) -> Option<String> {
    mounts.lines().find_map(|line| {
        let mut columns = line.split(' ').skip(3);
        let (root, point) = (columns.next()?, columns.next()?);
        let id = root.strip_suffix("/hostname").filter(|_| point == "/etc/hostname")?.rsplit('/').next()?;
        (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| id.to_owned())
    })
}

/// The host's numbers of the interfaces that are the other ends of this process's own.
pub(super) fn own_ports() -> BTreeSet<u32> {
    let names = fs::read_dir(INTERFACES).into_iter().flatten().flatten();
    names.filter_map(|entry| fs::read_to_string(entry.path().join("iflink")).ok()?.trim().parse().ok()).collect()
}

impl Docker {
    /// Joins the networks that are there already, once: what runs is on them.
    pub(super) async fn join_networks(&self) -> Result<(), EngineError> {
        if !has_door() {
            if Path::new(DOOR).exists() {
                return Err(EngineError::Unsupported(format!(
                    "what is mounted at {DOOR} is not the host's network; on the host, stop this container, remove \
                     /var/run/docker/netns/default where that is an empty folder, have the engine make it anew \
                     (`docker run --rm --network host IMAGE true`), and start this container again"
                )));
            }
            return Ok(());
        }
        let mut joined = self.shared.joined.lock().await;
        if joined.is_some() {
            return Ok(());
        }
        let mut addresses = BTreeSet::new();
        for network in self.names_of_networks() {
            addresses.extend(self.join_network(&network).await?);
        }
        *joined = Some(addresses);
        drop(joined);
        if let Err(cause) = self.put_in_force().await {
            tracing::warn!(%cause, "this gateway cannot reach the APIs that run, since firewall rules cannot be made");
        }
        Ok(())
    }

    /// Joins one that has just been made, or made anew.
    pub(super) async fn join(&self, network: &Network) -> Result<(), EngineError> {
        if !has_door() {
            return Ok(());
        }
        let address = self.join_network(network).await?;
        self.shared.joined.lock().await.get_or_insert_default().extend(address);
        // Its address is in the rules.
        self.shared.firewall.lock().await.forget();
        Ok(())
    }

    /// Where the gateway is on the APIs' networks. A command that runs beside it, in the same container, has joined nothing,
    /// and its rules are to be the same.
    pub(super) async fn own_addresses(&self) -> BTreeSet<Ipv4Addr> {
        if let Some(joined) = &*self.shared.joined.lock().await {
            return joined.clone();
        }
        let Some(id) = own_container().filter(|_| has_door()) else { return BTreeSet::new() };
        let found = self.inspect_container(&id).await.ok().flatten();
        let ends = found.and_then(|found| found.network_settings?.networks).unwrap_or_default();
        let ours = ends.into_iter().filter(|(name, _)| name.starts_with(&self.network_prefix()));
        ours.filter_map(|(_, end)| end.ip_address?.parse().ok()).collect()
    }

    /// This gateway's address on a network; `None` where that is not there.
    async fn join_network(&self, network: &Network) -> Result<Option<Ipv4Addr>, EngineError> {
        let Some(id) = own_container() else {
            return Err(EngineError::Unsupported(format!(
                "{DOOR} is mounted, and this process is in no container of a Docker engine; unmount it"
            )));
        };
        let request = NetworkConnectRequest { container: id.clone(), endpoint_config: None };
        let name = network.name.as_str();
        let join = |client: bollard::Docker| async move { client.connect_network(name, request).await };
        match self.call("join a network", WORK, join).await {
            Ok(()) => {}
            Err(fault) if fault.says(&["already exists in network", "is already attached to network"]) => {}
            Err(fault) if fault.is_missing() => return Ok(None),
            Err(fault) => return Err(fault.into()),
        }
        let found = self.inspect_container(&id).await?;
        let ends = found.and_then(|found| found.network_settings?.networks);
        Ok(ends.and_then(|mut ends| ends.remove(name)?.ip_address?.parse().ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_is_a_network_and_no_folder_or_other_file() {
        assert!(is_door(Path::new("/proc/self/ns/net")));
        let folder = tempfile::tempdir().unwrap();
        assert!(!is_door(folder.path()));
        fs::write(folder.path().join("file"), "").unwrap();
        assert!(!is_door(&folder.path().join("file")));
        assert!(!is_door(Path::new("/nowhere")));
    }

    #[test]
    fn the_own_container_is_known_by_its_mounts() {
        let id = "0123456789abcdef".repeat(4);
        let line =
            format!("633 617 254:0 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/vda rw");
        let others = "25 30 0:23 / /sys rw,nosuid - sysfs sysfs rw\n632 617 254:0 /x/resolv.conf /etc/resolv.conf rw -";
        assert_eq!(read_own_container(&format!("{others}\n{line}\n")), Some(id));
        assert_eq!(read_own_container(others), None);
        assert_eq!(read_own_container("1 1 254:0 /srv/hostname /etc/hostname rw - ext4 /dev/vda rw\n"), None);
    }
}
