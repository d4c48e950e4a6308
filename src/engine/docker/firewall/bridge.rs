//! A bridge is a switch inside the host, as the kernel shows it in `/sys/class/net`: which there are, and their ports.

use std::fs;
use std::path::Path;

use super::program::ask;
use crate::engine::docker::host;

const INTERFACES: &str = "/sys/class/net";

/// The bridges of this host that `prefix` does not begin and that are no way out of the host: behind them are other
/// containers and virtual machines.
pub(super) async fn others(prefix: &str) -> Vec<String> {
    if host::has_door() {
        return others_of_host(prefix).await;
    }
    let ways_out = ways_out(&fs::read_to_string("/proc/net/route").unwrap_or_default());
    let mut others: Vec<String> = names(Path::new(INTERFACES))
        .filter(|name| Path::new(INTERFACES).join(name).join("bridge").is_dir())
        .filter(|name| !name.starts_with(prefix) && !ways_out.contains(name))
        .collect();
    others.sort();
    others
}

/// Lets no port of a bridge pass anything on to another port, only to the host: containers do not hear each other, not
/// even asking for addresses. Holds without any firewall, also where somebody has turned off that bridges pass through
/// it (`net.bridge.bridge-nf-call-iptables`).
///
/// A port that cannot be told so, on a kernel before 4.18 or for want of rights, is left to the firewall.
pub(super) async fn isolate_ports(bridge: &str) {
    if host::has_door() {
        return isolate_ports_of_host(bridge).await;
    }
    let ports = Path::new(INTERFACES).join(bridge).join("brif");
    for port in names(&ports) {
        let switch = ports.join(port).join("isolated");
        if fs::read_to_string(&switch).is_ok_and(|state| state.trim() == "0")
            && let Err(error) = fs::write(&switch, "1")
        {
            tracing::debug!(bridge, %error, "a port cannot be isolated");
        }
    }
}

/// The same from inside a container, whose `/sys` shows its own interfaces alone.
async fn others_of_host(prefix: &str) -> Vec<String> {
    let bridges = ask("ip", &["-o", "link", "show", "type", "bridge"]).await.unwrap_or_default();
    let routes = ask("ip", &["-o", "-4", "route", "show", "default"]).await.unwrap_or_default();
    let words: Vec<&str> = routes.split_whitespace().collect();
    let ways_out: Vec<&str> = words.windows(2).filter(|pair| pair[0] == "dev").map(|pair| pair[1]).collect();
    let others = links(&bridges).map(|link| link.name.to_owned());
    let mut others: Vec<String> =
        others.filter(|name| !name.starts_with(prefix) && !ways_out.contains(&name.as_str())).collect();
    others.sort();
    others
}

/// The same from inside a container. Its own port hears the others, and they hear it.
async fn isolate_ports_of_host(bridge: &str) {
    let Ok(ports) = ask("ip", &["-o", "-d", "link", "show", "master", bridge]).await else { return };
    let own = host::own_ports();
    for port in links(&ports).filter(|port| port.is_open && !own.contains(&port.number)) {
        if let Err(error) = ask("bridge", &["link", "set", "dev", port.name, "isolated", "on"]).await {
            tracing::debug!(bridge, %error, "a port cannot be isolated");
        }
    }
}

/// An interface as `ip -o link` shows it: `12: veth0@if11: <BROADCAST,…> … bridge_slave … isolated off …`.
struct Link<'a> {
    number: u32,
    name: &'a str,
    /// Passes on to other ports.
    is_open: bool,
}

fn links(shown: &str) -> impl Iterator<Item = Link<'_>> {
    shown.lines().filter_map(|line| {
        let mut columns = line.splitn(3, ": ");
        let (number, name, rest) = (columns.next()?.trim().parse().ok()?, columns.next()?, columns.next()?);
        let name = name.split('@').next()?;
        Some(Link { number, name, is_open: rest.contains(" isolated off ") })
    })
}

fn names(folder: &Path) -> impl Iterator<Item = String> {
    fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok())
}

/// The interfaces of the default routes, in the kernel's table: interface, destination, gateway, … The default route's
/// destination is nought.
fn ways_out(table: &str) -> Vec<String> {
    let columns = table.lines().map(str::split_whitespace);
    columns
        .filter_map(|mut route| route.next().filter(|_| route.next() == Some("00000000")))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_as_they_are_shown() {
        let shown = "3: docker0: <NO-CARRIER,BROADCAST> mtu 1500 state DOWN\\    bridge forward_delay 1500\n\
             12: veth0a@if11: <UP> mtu 1500 master skx\\    bridge_slave state forwarding isolated off locked off\n\
             14: veth0b@if13: <UP> mtu 1500 master skx\\    bridge_slave state forwarding isolated on locked off\n";
        let read: Vec<_> = links(shown).map(|link| (link.number, link.name, link.is_open)).collect();
        assert_eq!(read, [(3, "docker0", false), (12, "veth0a", true), (14, "veth0b", false)]);
    }

    #[test]
    fn every_default_route_is_a_way_out() {
        let table =
            "Iface\tDestination\tGateway\nbr0\t00000000\t0102A8C0\nbr0\t0002A8C0\t00000000\nwlan0\t00000000\t1\n";
        assert_eq!(ways_out(table), ["br0", "wlan0"]);
    }
}
