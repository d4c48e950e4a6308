//! A bridge is a switch inside the host, as the kernel shows it in `/sys/class/net`: which there are, and their ports.

use std::fs;
use std::path::Path;

const INTERFACES: &str = "/sys/class/net";

/// The bridges of this host that `prefix` does not begin and that are no way out of the host: behind them are other
/// containers and virtual machines.
pub(super) fn others(prefix: &str) -> Vec<String> {
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
pub(super) fn isolate_ports(bridge: &str) {
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
    fn every_default_route_is_a_way_out() {
        let table =
            "Iface\tDestination\tGateway\nbr0\t00000000\t0102A8C0\nbr0\t0002A8C0\t00000000\nwlan0\t00000000\t1\n";
        assert_eq!(ways_out(table), ["br0", "wlan0"]);
    }
}
