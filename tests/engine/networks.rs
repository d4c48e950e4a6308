//! Networks: who reaches whom.

use std::net::{Ipv4Addr, TcpListener};

use skep::engine::Engine;
use skep::engine::docker::Docker;
use skep::settings::Dial;
use skep::tree::Egress;
use tokio::net::TcpStream;

use crate::world::{Served, World, engine, inspect, settings};

/// A host that is not the one the tests run on, and that answers on port 80: where this host's own packages come from,
/// since a host that reaches nothing else reaches that.
fn elsewhere() -> String {
    let listed = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let text: String = std::iter::once("/etc/apt/sources.list".into())
        .chain(listed)
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    let (_, rest) = text.split_once("http://").unwrap_or(("", "example.com/"));
    rest.split('/').next().unwrap_or(rest).to_owned()
}

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
    let (outer, elsewhere) = (host_address(), elsewhere());

    let wishes = [
        ("the host through the bridge", gateway.as_str(), port),
        ("the host through its own address", &outer, port),
        ("the internet", elsewhere.as_str(), 80),
        ("a neighbour", &neighbour.address.ip().to_string(), 8000),
    ];
    assert_eq!(reached(&lonely, &wishes).await, Vec::<&str>::new());
    assert_eq!(lonely.get(&format!("/resolve?name={elsewhere}")).await["resolved"], false, "names are a way out");
    // Whether a name server of the host answers differs from host to host; that ours are told to ask nobody does not.
    let dns = inspect(&lonely.container).await.host_config.unwrap().dns;
    assert_eq!(dns, Some(vec!["127.0.0.1".to_owned()]));
}

#[tokio::test]
async fn with_egress_an_instance_reaches_the_internet_and_neither_host_nor_neighbour() {
    let world = World::get();
    let (_listener, port) = host_service();
    let open = world.serve("open", Egress::Internet).await;
    let neighbour = world.serve("open-neighbour", Egress::Internet).await;
    let lonely = world.serve("open-and-lonely", Egress::None).await;
    let (gateway, elsewhere) = (gateway(&world, "internet").await, elsewhere());
    assert!(TcpStream::connect((gateway.as_str(), port)).await.is_ok(), "the service is there, for the host");

    let wishes = [
        ("the internet, by name", elsewhere.as_str(), 80),
        ("the host through the bridge", gateway.as_str(), port),
        ("the host through its own address", &host_address(), port),
        ("a neighbour", &neighbour.address.ip().to_string(), 8000),
        ("a neighbour on the other network", &lonely.address.ip().to_string(), 8000),
        ("a cloud's credentials", "169.254.169.254", 80),
    ];
    assert_eq!(reached(&open, &wishes).await, ["the internet, by name"]);
}

/// Those of the wishes that the instance reached.
async fn reached<'a>(served: &Served, wishes: &[(&'a str, &str, u16)]) -> Vec<&'a str> {
    let mut reached = Vec::new();
    for (what, host, port) in wishes {
        if served.reaches(host, *port).await {
            reached.push(*what);
        }
    }
    reached
}

#[tokio::test]
async fn rules_that_somebody_flushed_come_back() {
    let world = World::get();
    world.serve("guarded", Egress::Internet).await;
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
    // By us, or by somebody else already, who has it from the system's own range: it is taken either way.
    let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, wish.unwrap()));
    let docker = Docker::connect(&settings(Dial::Loopback), &world.owner).unwrap();
    docker.start(&job).await.unwrap();
    let served = Served::wait(&docker, &job.api).await;
    assert_ne!(Some(served.address.port()), wish);
}
