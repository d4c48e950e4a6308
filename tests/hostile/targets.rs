//! All that is tried.

use serde_json::{Value, json};

use crate::cloud::{METADATA, MIRROR, PORT, own_addresses};
use crate::matrix::Target;
use crate::scene::{GROUP, NEIGHBOURS, Scene, TRIERS};

const RULES: &str = "our firewall rules";
const RULES_AND_PORTS: &str = "our firewall rules, isolated ports, the engine's rules";
const NO_CAPABILITIES: &str = "no capabilities";
const CALLS: &str = "our list of system calls";
const NAMESPACES: &str = "namespaces: the container has its own";
const READ_ONLY: &str = "nothing of the host is mounted, what is shown is read-only";

/// Calls that would lead out of a container, or to more of the kernel than an app needs.
const REFUSED_CALLS: [&str; 20] = [
    "mount",
    "unshare",
    "setns",
    "pivot_root",
    "chroot",
    "ptrace",
    "process_vm_readv",
    "keyctl",
    "add_key",
    "bpf",
    "userfaultfd",
    "io_uring_setup",
    "perf_event_open",
    "memfd_create",
    "open_by_handle_at",
    "init_module",
    "kexec_load",
    "syslog",
    "clone3",
    "name_to_handle_at",
];

/// A host that is not this one and that answers on port 80: where this host's own packages come from, since a host that
/// reaches nothing else reaches that.
fn elsewhere() -> String {
    let listed = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let texts = std::iter::once("/etc/apt/sources.list".into())
        .chain(listed)
        .filter_map(|path| std::fs::read_to_string(path).ok());
    let lines: Vec<String> = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let mut used = lines.iter().filter(|line| !line.trim_start().starts_with('#'));
    let host = used.find_map(|line| line.split_once("http://")?.1.split('/').next());
    host.unwrap_or("example.com").trim().to_owned()
}

pub fn all(scene: &Scene) -> Vec<Target> {
    let mut all = Vec::new();
    meant(&mut all);
    host(scene, &mut all);
    neighbours(scene, &mut all);
    clouds(&mut all);
    sockets(scene, &mut all);
    kernel(&mut all);
    all
}

/// The same for both.
fn add(all: &mut Vec<Target>, what: impl Into<String>, by: &'static str, wish: Value) {
    all.push(Target {
        what: what.into(),
        by,
        wishes: [wish.clone(), wish],
        meant: [false, false],
        is_held_by_rules: by == RULES,
    });
}

fn meant(all: &mut Vec<Target>) {
    let name = elsewhere();
    let address =
        std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), 80)).ok().and_then(|mut found| found.next());
    let address = address.map_or_else(|| name.clone(), |found| found.ip().to_string());
    for (what, wish) in [
        ("the internet, by name", json!({ "try": "tcp", "host": name, "port": 80 })),
        ("the internet, by address", json!({ "try": "tcp", "host": address, "port": 80 })),
        ("names, by the engine's resolver", json!({ "try": "resolve", "name": name })),
        ("a house's mirror at a private address", json!({ "try": "tcp", "host": MIRROR, "port": PORT })),
        ("a name server at a private address, UDP", json!({ "try": "udp", "host": MIRROR, "port": 53 })),
        ("a name server at a link-local address, UDP", json!({ "try": "udp", "host": METADATA[0], "port": 53 })),
        ("a name server at a link-local address, TCP", json!({ "try": "tcp", "host": METADATA[0], "port": 53 })),
    ] {
        let by = "`none`: our firewall rules, no route, no resolver";
        all.push(Target {
            what: what.to_owned(),
            by,
            wishes: [wish.clone(), wish],
            meant: [true, false],
            is_held_by_rules: false,
        });
    }
}

fn host(scene: &Scene, all: &mut Vec<Target>) {
    let host = &scene.host;
    let gateways = TRIERS.map(|id| scene.gateway(id));
    let by_bridge = |wish: &dyn Fn(&str) -> Value| [wish(&gateways[0].to_string()), wish(&gateways[1].to_string())];
    let gateway = scene.world.address().port();
    for (what, port) in [
        ("skep's gateway and admin port", gateway),
        ("a database", host.database),
        ("the engine's TCP port", host.engine),
        ("a service", host.service),
    ] {
        all.push(Target {
            what: format!("the host: {what}, at the bridge's address"),
            by: RULES,
            wishes: by_bridge(&|address| json!({ "try": "tcp", "host": address, "port": port })),
            meant: [false, false],
            is_held_by_rules: true,
        });
    }
    all.push(Target {
        what: "the host: a service, UDP".to_owned(),
        by: RULES,
        wishes: by_bridge(&|address| json!({ "try": "udp", "host": address, "port": host.datagrams })),
        meant: [false, false],
        is_held_by_rules: true,
    });
    all.push(Target {
        what: "the host: an echo request (ICMP)".to_owned(),
        by: RULES,
        wishes: by_bridge(&|address| json!({ "try": "ping", "host": address })),
        meant: [false, false],
        is_held_by_rules: true,
    });
    let is_ours = |interface: &str| scene.bridges.iter().any(|bridge| bridge == interface);
    let addresses = own_addresses();
    let four = addresses.iter().filter(|(interface, address)| address.is_ipv4() && !interface.starts_with("sk"));
    for (interface, address) in four {
        let what = format!("the host: a service, at its address on `{interface}`");
        add(all, what, RULES, json!({ "try": "tcp", "host": address, "port": host.service }));
    }
    let others = TRIERS
        .map(|id| scene.gateway(id))
        .map(|address| json!({ "try": "tcp", "host": address, "port": host.service }));
    let [internet, none] = others;
    all.push(Target {
        what: "the host: a service, at the other bridge's address".to_owned(),
        by: RULES,
        wishes: [none, internet],
        meant: [false, false],
        is_held_by_rules: true,
    });
    for port in [gateway, host.service] {
        let what = format!("the host: {}, at 127.0.0.1", if port == gateway { "skep's gateway" } else { "a service" });
        add(all, what, NAMESPACES, json!({ "try": "tcp", "host": "127.0.0.1", "port": port }));
    }
    let no_six = "no IPv6 inside";
    let six = |of: &str| addresses.iter().find(|(name, address)| name == of && address.is_ipv6());
    let wish = |address: String| json!({ "try": "tcp", "host": address, "port": host.six });
    let link_local = |bridge: &String| {
        let own = six(bridge).map_or_else(|| "fe80::1".to_owned(), |(_, address)| address.to_string());
        wish(format!("{own}%eth0"))
    };
    all.push(Target {
        what: "the host: a service, at the bridge's link-local IPv6 address".to_owned(),
        by: no_six,
        wishes: scene.bridges.each_ref().map(link_local),
        meant: [false, false],
        is_held_by_rules: false,
    });
    let outward = addresses
        .iter()
        .filter(|(name, address)| address.is_ipv6() && !is_ours(name) && !address.to_string().starts_with("fe80"));
    for (interface, address) in outward {
        let what = format!("the host: a service, at its IPv6 address on `{interface}`");
        add(all, what, no_six, wish(address.to_string()));
    }
    add(
        all,
        "the host, by broadcast",
        RULES,
        json!({ "try": "shout", "host": "255.255.255.255", "port": host.datagrams, "token": "host-broadcast" }),
    );
    add(
        all,
        "the host, by multicast",
        RULES,
        json!({ "try": "shout", "host": GROUP.to_string(), "port": host.datagrams, "token": "host-multicast" }),
    );
}

fn neighbours(scene: &Scene, all: &mut Vec<Target>) {
    let addresses = NEIGHBOURS.map(|id| scene.address(id).ip().to_string());
    for (place, order) in [("on the same bridge", [0, 1]), ("on the other bridge", [1, 0])] {
        let by = if order[0] == 0 { RULES_AND_PORTS } else { "our firewall rules, the engine's rules" };
        for (what, wish) in [
            ("its app", json!({ "try": "tcp", "port": 8000 })),
            ("UDP", json!({ "try": "udp", "port": 9999 })),
            ("an echo request (ICMP)", json!({ "try": "ping" })),
        ] {
            let at = |egress: usize| {
                let mut wish = wish.clone();
                wish["host"] = addresses[order[egress]].clone().into();
                wish
            };
            all.push(Target {
                what: format!("a neighbour {place}: {what}"),
                by,
                wishes: [at(0), at(1)],
                meant: [false, false],
                is_held_by_rules: true,
            });
        }
    }
    let at = |egress: usize| json!({ "try": "neighbour", "host": addresses[egress] });
    all.push(Target {
        what: "a neighbour on the same bridge: whether it is there (ARP)".to_owned(),
        by: "isolated ports",
        wishes: [at(0), at(1)],
        meant: [false, false],
        is_held_by_rules: true,
    });
    let broadcast = json!({ "try": "shout", "host": "255.255.255.255", "token": "broadcast" });
    let multicast = json!({ "try": "shout", "host": GROUP.to_string(), "token": "multicast" });
    add(all, "neighbours, by broadcast", RULES_AND_PORTS, broadcast);
    add(all, "neighbours, by multicast", RULES_AND_PORTS, multicast);
    let mine = |egress: usize| json!({ "try": "readdress", "host": addresses[egress] });
    all.push(Target {
        what: "a neighbour's address, taken for its own".to_owned(),
        by: NO_CAPABILITIES,
        wishes: [mine(0), mine(1)],
        meant: [false, false],
        is_held_by_rules: false,
    });
}

fn clouds(all: &mut Vec<Target>) {
    for address in METADATA {
        add(
            all,
            format!("a cloud's metadata at {address}"),
            RULES,
            json!({ "try": "tcp", "host": address, "port": PORT }),
        );
    }
    add(all, "a cloud's metadata, UDP", RULES, json!({ "try": "udp", "host": METADATA[0], "port": PORT }));
    add(all, "a cloud's metadata, an echo request (ICMP)", RULES, json!({ "try": "ping", "host": METADATA[0] }));
    let six = json!({ "try": "tcp", "host": "fd00:ec2::254", "port": 80 });
    add(all, "a cloud's metadata at fd00:ec2::254", "no IPv6 inside", six);
}

fn sockets(scene: &Scene, all: &mut Vec<Target>) {
    for path in ["/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock"] {
        add(all, format!("`{path}`"), READ_ONLY, json!({ "try": "unix", "path": path }));
    }
    let local = json!({ "try": "unix", "path": format!("@{}", scene.host.local) });
    add(all, "an abstract local socket of the host", NAMESPACES, local);
    for (what, family, kind, protocol) in [("raw IPv4", 2, 3, 1), ("raw IPv6", 10, 3, 58)] {
        let wish = json!({ "try": "open_socket", "family": family, "type": kind, "protocol": protocol });
        add(all, format!("a socket: {what}"), NO_CAPABILITIES, wish);
    }
    for (what, family, kind, protocol) in [
        ("raw packets (`AF_PACKET`)", 17, 3, 0x0300),
        ("to the hypervisor (`AF_VSOCK`)", 40, 1, 0),
        ("to the kernel's ciphers (`AF_ALG`)", 38, 5, 0),
        ("Bluetooth", 31, 3, 0),
    ] {
        let wish = json!({ "try": "open_socket", "family": family, "type": kind, "protocol": protocol });
        add(all, format!("a socket: {what}"), CALLS, wish);
    }
}

fn kernel(all: &mut Vec<Target>) {
    for name in REFUSED_CALLS {
        add(all, format!("`{name}`"), CALLS, json!({ "try": "call", "name": name }));
    }
    add(all, "root, by `setuid(0)`", NO_CAPABILITIES, json!({ "try": "become_root" }));
    add(all, "root, by a file with the set-user-id bit", "no new privileges", json!({ "try": "setuid_files" }));
    let names = ["dockerd", "containerd", "skep", "sshd", "systemd"];
    add(all, "processes of the host", NAMESPACES, json!({ "try": "processes", "names": names }));
    for path in ["/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/proc/kcore", "/proc/keys", "/proc/timer_list"] {
        add(all, format!("`{path}`, to read"), READ_ONLY, json!({ "try": "read", "path": path }));
    }
    for path in [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/net/ipv4/ip_forward",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/release_agent",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory.max",
        "/etc/passwd",
        "/app/main.py",
        "/opt/venv/bin/python",
    ] {
        add(all, format!("`{path}`, to write"), READ_ONLY, json!({ "try": "write", "path": path }));
    }
    let favour = json!({ "try": "write", "path": "/proc/self/oom_score_adj", "text": "-1" });
    add(all, "to be spared before the host's processes where memory runs out", NO_CAPABILITIES, favour);
    let device = json!({ "try": "device", "path": "/tmp/disk", "major": 254, "minor": 0 });
    add(all, "a device of the host, made anew", NO_CAPABILITIES, device);
}
