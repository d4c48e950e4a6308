//! A scene is what the reach of an API is measured in: two that try, two neighbours, and a host with services.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as LocalAddress, UnixListener};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::cloud::{Cloud, listener, until};
use crate::engine;
use crate::http::Request;
use crate::world::World;

const PROBE: &str = include_str!("apps/probe.py");

/// The two that try, by their egress: `internet` and `none`; and a neighbour of each.
pub const TRIERS: [&str; 2] = ["trier-internet", "trier-none"];
pub const NEIGHBOURS: [&str; 2] = ["neighbour-internet", "neighbour-none"];

/// The group that the probe listens to.
pub const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 77, 77);

pub struct Scene {
    pub host: Host,
    _cloud: Cloud,
    /// The interfaces of the two bridges, by egress.
    pub bridges: [String; 2],
    pub world: World,
}

/// Services of this host, on all its addresses.
pub struct Host {
    pub service: u16,
    pub database: u16,
    pub engine: u16,
    pub datagrams: u16,
    pub six: u16,
    /// In the abstract namespace, which no file system bounds.
    pub local: String,
    /// What came as datagrams.
    heard: Arc<Mutex<BTreeSet<String>>>,
    ear: UdpSocket,
}

impl Scene {
    pub fn open() -> Self {
        let mut world = World::new();
        "0.0.0.0:0".clone_into(&mut world.listen);
        for (id, egress) in TRIERS.into_iter().chain(NEIGHBOURS).zip(["internet", "none", "internet", "none"]) {
            world.code(id, PROBE);
            world.settings(id, &format!("egress: {egress}\n"));
        }
        world.serve();
        for id in TRIERS.into_iter().chain(NEIGHBOURS) {
            world.expect_rest(id, "synced", "healthy");
        }
        let bridges = ["i", "n"].map(|letter| format!("sk{}{letter}", &world.owner()[..8]));
        let host = Host::open();
        let scene = Self { host, _cloud: Cloud::open(&bridges), bridges, world };
        for id in TRIERS {
            scene.host.ear.join_multicast_v4(&GROUP, &scene.gateway(id)).unwrap();
        }
        scene
    }

    /// Where the host dials the app, past the gateway.
    pub fn address(&self, id: &str) -> SocketAddr {
        (self.end(id).0, 8000).into()
    }

    /// The address of an app, and how many of its bits are those of its network.
    fn end(&self, id: &str) -> (Ipv4Addr, u32) {
        let found = engine::inspect(&self.world.containers(id)[0]).unwrap();
        let networks = found.network_settings.unwrap().networks.unwrap();
        let end = networks.into_values().next().unwrap();
        (end.ip_address.unwrap().parse().unwrap(), end.ip_prefix_len.unwrap().try_into().unwrap())
    }

    /// The host's address on the bridge of an API: the first of its network.
    pub fn gateway(&self, id: &str) -> Ipv4Addr {
        let (address, bits) = self.end(id);
        Ipv4Addr::from_bits((address.to_bits() & (u32::MAX << (32 - bits))) + 1)
    }

    /// The networks of both bridges.
    pub fn subnets(&self) -> [String; 2] {
        TRIERS.map(|id| {
            let bits = self.end(id).1;
            format!("{}/{bits}", Ipv4Addr::from_bits(self.gateway(id).to_bits() - 1))
        })
    }

    pub fn ask(&self, id: &str, path: &str, body: &Value) -> Value {
        Request::json(path, body).send(self.address(id)).expect(200).json()
    }

    /// What came of each wish of one API.
    pub fn attempt(&self, id: &str, wishes: &[Value]) -> Vec<String> {
        let came: Vec<String> = serde_json::from_value(self.ask(id, "/try", &json!(wishes))).unwrap();
        // What was shouted has been heard, or never will be.
        std::thread::sleep(std::time::Duration::from_millis(300));
        let mut heard = self.host.heard();
        for id in NEIGHBOURS {
            heard.extend(serde_json::from_value::<BTreeSet<String>>(self.ask(id, "/heard", &json!({}))).unwrap());
        }
        let is_heard = |wish: &Value| wish["token"].as_str().is_some_and(|token| heard.contains(token));
        wishes.iter().zip(came).map(|(wish, came)| if is_heard(wish) { "reached".to_owned() } else { came }).collect()
    }

    /// Whether an API reaches a service of the host by the host's address on its own bridge.
    pub fn reaches_host(&self, id: &str) -> bool {
        let wish = json!({ "try": "tcp", "host": self.gateway(id), "port": self.host.service });
        self.attempt(id, &[wish])[0] == "reached"
    }

    /// The lines of the firewall's rules that are this installation's.
    pub fn rules(&self) -> Vec<String> {
        let chain = format!("SKEP-{}", &self.world.owner()[..8]);
        let listed = run("iptables", &["-w", "-S"]);
        listed.lines().filter(|line| line.contains(&chain)).map(str::to_owned).collect()
    }

    /// Takes this installation's rules away, and lets the ports of its bridges pass on what they get. What a daemon at work
    /// has put back meanwhile is in the way of some of it.
    pub fn flush(&self) {
        let rules = self.rules();
        for rule in rules.iter().filter(|rule| rule.contains(" -j SKEP-")) {
            let words: Vec<&str> = rule.split(' ').skip(1).collect();
            Command::new("iptables").args([&["-w", "-D"], &words[..]].concat()).output().unwrap();
        }
        let chains: Vec<&str> = rules.iter().filter_map(|rule| rule.strip_prefix("-N ")).collect();
        for verb in ["-F", "-X"] {
            for chain in &chains {
                Command::new("iptables").args(["-w", verb, chain]).output().unwrap();
            }
        }
        for bridge in &self.bridges {
            for port in std::fs::read_dir(format!("/sys/class/net/{bridge}/brif")).unwrap() {
                std::fs::write(port.unwrap().path().join("isolated"), "0").unwrap();
            }
        }
    }

    /// Lets all apps forget whose addresses they have learnt, so that what they know afterwards is what they hear then.
    pub fn forget_neighbours(&self) {
        for id in TRIERS.into_iter().chain(NEIGHBOURS) {
            let found = engine::inspect(&self.world.containers(id)[0]).unwrap();
            let pid = found.state.unwrap().pid.unwrap().to_string();
            run("nsenter", &["--target", &pid, "--net", "ip", "neigh", "flush", "all"]);
        }
    }

    /// Waits until the rules hold again.
    #[track_caller]
    pub fn expect_held(&self) {
        for id in TRIERS {
            until("the host is out of reach again", || !self.reaches_host(id));
        }
    }
}

/// How many hosts there have been.
static COUNT: AtomicUsize = AtomicUsize::new(0);

impl Host {
    fn open() -> Self {
        let [service, database, engine] = [0, 5432, 2375].map(|port| echo(listener(port)));
        let six = TcpListener::bind("[::]:0").map_or(0, echo);
        let datagrams = UdpSocket::bind("0.0.0.0:0").unwrap();
        let local = format!("skep-hostile-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let listener = UnixListener::bind_addr(&LocalAddress::from_abstract_name(&local).unwrap()).unwrap();
        std::thread::spawn(move || while listener.accept().is_ok() {});
        let ear = datagrams.try_clone().unwrap();
        let heard: Arc<Mutex<BTreeSet<String>>> = Arc::default();
        let host = Self {
            service,
            database,
            engine,
            six,
            local,
            datagrams: ear.local_addr().unwrap().port(),
            heard: Arc::clone(&heard),
            ear,
        };
        std::thread::spawn(move || {
            let mut buffer = [0; 1000];
            while let Ok((count, sender)) = datagrams.recv_from(&mut buffer) {
                heard.lock().unwrap().insert(String::from_utf8_lossy(&buffer[..count]).into_owned());
                datagrams.send_to(&buffer[..count], sender).ok();
            }
        });
        host
    }

    fn heard(&self) -> BTreeSet<String> {
        self.heard.lock().unwrap().clone()
    }
}

/// Answers on every connection with what came; gives the port.
fn echo(listener: TcpListener) -> u16 {
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            std::thread::spawn(move || {
                let mut buffer = [0; 100];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    stream.write_all(&buffer[..count]).ok();
                }
            });
        }
    });
    port
}

/// Lets everything be forwarded to and from the bridges of a scene, as on a host whose firewall somebody turned off,
/// without touching what is anybody else's.
pub struct Bypass {
    rules: Vec<[String; 5]>,
}

impl Bypass {
    pub fn open(scene: &Scene) -> Self {
        let words = |side: &str, subnet: &String| ["FORWARD", side, subnet, "-j", "ACCEPT"].map(str::to_owned);
        let rules: Vec<_> =
            scene.subnets().iter().flat_map(|subnet| [words("-s", subnet), words("-d", subnet)]).collect();
        for rule in &rules {
            run("iptables", &[&["-w", "-I"], &rule.each_ref().map(String::as_str)[..]].concat());
        }
        Self { rules }
    }
}

impl Drop for Bypass {
    fn drop(&mut self) {
        for rule in &self.rules {
            Command::new("iptables").args(["-w", "-D"]).args(rule).status().ok();
        }
    }
}

#[track_caller]
fn run(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
