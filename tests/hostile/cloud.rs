//! A cloud is a network namespace that plays the hosts which apps must not reach, and one that they may.
//!
//! Only what comes from the bridges of one installation is routed there, so that nothing else on this host notices, and
//! what is sent to these addresses stays on this host.

use std::net::{IpAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Where clouds hand out credentials.
pub const METADATA: [&str; 5] = ["169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192"];

/// A mirror of packages that a house has on an address of its own.
pub const MIRROR: &str = "10.254.77.77";

/// A port on which each of them answers by TCP and by UDP; the other is that of name servers.
pub const PORT: u16 = 80;

const SERVER: &str = r"
import socket, sys, threading
def tcp(port):
    one = socket.create_server(('', port))
    while True:
        connection, _ = one.accept()
        connection.close()
def udp(address, port):
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    one.bind((address, port))
    while True:
        data, sender = one.recvfrom(1000)
        one.sendto(data, sender)
for port in (80, 53):
    threading.Thread(target=tcp, args=(port,)).start()
    for address in sys.argv[1:]:
        threading.Thread(target=udp, args=(address, port)).start()
print('ready', flush=True)
";

/// How many clouds this process has opened.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A namespace with servers; all of it goes with the value.
pub struct Cloud {
    name: String,
    table: String,
    rules: Vec<Vec<String>>,
    servers: Vec<Child>,
}

impl Cloud {
    /// Plays the hosts for whatever comes from these bridges.
    pub fn open(bridges: &[String]) -> Self {
        let pid = std::process::id();
        let number = COUNT.fetch_add(1, Ordering::Relaxed) % 64;
        let (name, near) = (format!("skep-cloud-{pid}-{number}"), format!("cld{pid}x{number}"));
        // Of the range that RFC 2544 sets aside for measuring; not the same for two that run at once.
        let (net, first) = (format!("198.18.{}", pid % 250), number * 4);
        let (here, there) = (format!("{net}.{}", first + 1), format!("{net}.{}", first + 2));
        let table = (20_000 + (pid * 8 + number) % 10_000).to_string();
        ip(&["netns", "add", &name]);
        ip(&["link", "add", &near, "type", "veth", "peer", "name", "far", "netns", &name]);
        ip(&["addr", "add", &format!("{here}/30"), "dev", &near]);
        ip(&["link", "set", &near, "up"]);
        let inside = |words: &[&str]| ip(&[&["-n", &name], words].concat());
        inside(&["addr", "add", &format!("{there}/30"), "dev", "far"]);
        inside(&["link", "set", "far", "up"]);
        inside(&["link", "set", "lo", "up"]);
        inside(&["route", "add", "default", "via", &here]);
        for address in METADATA.into_iter().chain([MIRROR]) {
            inside(&["addr", "add", &format!("{address}/32"), "dev", "lo"]);
            ip(&["route", "add", &format!("{address}/32"), "via", &there, "table", &table]);
        }
        let rule = |bridge: &String| ["iif", bridge, "lookup", &table].map(str::to_owned).to_vec();
        let rules: Vec<_> = bridges.iter().map(rule).collect();
        for rule in &rules {
            ip(&[&["rule", "add"], &rule.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
        }
        let mut cloud = Self { name, table, rules, servers: Vec::new() };
        // Datagrams are answered from the address that they were sent to.
        cloud.serve(&[&["-c", SERVER], &METADATA[..], &[MIRROR]].concat());
        cloud
    }

    /// Runs a Python program there, and waits until it says that it is ready.
    pub fn serve(&mut self, arguments: &[&str]) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "python3"]).args(arguments);
        let mut server = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        crate::world::read_until(server.stdout.as_mut().unwrap(), "ready");
        self.servers.push(server);
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        for server in &mut self.servers {
            server.kill().ok();
            server.wait().ok();
        }
        for rule in &self.rules {
            Command::new("ip").args(["rule", "del"]).args(rule).status().ok();
        }
        Command::new("ip").args(["route", "flush", "table", &self.table]).status().ok();
        // The pair of interfaces goes with it.
        Command::new("ip").args(["netns", "del", &self.name]).status().ok();
    }
}

/// Runs `ip`, which is there wherever the engine is.
#[track_caller]
fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().unwrap();
    assert!(output.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The addresses of this host by their interfaces, but the loopback's and those of bridges and pairs that come and go.
pub fn own_addresses() -> Vec<(String, IpAddr)> {
    let output = Command::new("ip").args(["-o", "addr", "show"]).output().unwrap();
    let mut found = Vec::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, interface, family, address, ..] = words[..] else { continue };
        let passes = ["lo", "br-", "veth", "cld"].iter().any(|begin| interface.starts_with(begin));
        if family.starts_with("inet") && !passes {
            found.push((interface.to_owned(), address.split('/').next().unwrap().parse().unwrap()));
        }
    }
    found
}

/// A listener on all addresses, at that port where it is free.
pub fn listener(port: u16) -> TcpListener {
    TcpListener::bind(("0.0.0.0", port)).or_else(|_| TcpListener::bind(("0.0.0.0", 0))).unwrap()
}

/// Waits until `is_so`; only a failure measures the time.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
