//! The daemon in a container, with the engine's socket and a door to the host's network: it joins the APIs' networks, and
//! holds them apart as it does from the host.

use std::net::SocketAddr;
use std::process::Command;

use crate::apps::saying;
use crate::http::Request;
use crate::world::{Ran, World};

/// All that the daemon needs besides itself, made once for all runs of this test.
const IMAGE: &str = "skep:test-surroundings";

/// The file in which the engine keeps the host's network.
const HOST_NETWORK: &str = "/var/run/docker/netns/default:/run/skep/host-net:ro";

fn docker(arguments: &[&str]) -> Ran {
    Ran::of(Command::new("docker").args(arguments).output().unwrap())
}

/// A daemon's container, which goes with it.
struct Container(String);

impl Drop for Container {
    fn drop(&mut self) {
        docker(&["rm", "--force", &self.0]);
    }
}

impl Container {
    /// Starts this very program, with the host's own loader and libraries, since it need not be a static one.
    fn start(world: &World) -> Self {
        let folder = world.aside().to_str().unwrap();
        let mount = |from: &str, to: &str| format!("{from}:{to}");
        let name = format!("skep-test-{}", folder.rsplit('/').next().unwrap().trim_start_matches('.'));
        let state = format!("SKEP_STATE_DIR={}", world.state().display());
        let root = format!("SKEP_ROOT={}", world.root().display());
        let run = ["run", "--detach", "--name", &name, "--publish", "0.0.0.0::8663"];
        let rights = ["--cap-drop", "ALL", "--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW"];
        let apart = ["--security-opt", "no-new-privileges:true", "--cap-add", "DAC_OVERRIDE"];
        let volumes = [
            mount("/var/run/docker.sock", "/var/run/docker.sock"),
            HOST_NETWORK.to_owned(),
            mount(folder, folder),
            mount(env!("CARGO_BIN_EXE_skep"), "/opt/skep:ro"),
            mount("/lib/x86_64-linux-gnu", "/opt/lib:ro"),
            mount("/etc/ssl/certs", "/etc/ssl/certs:ro"),
        ];
        let mut arguments: Vec<&str> = [run.as_slice(), &rights, &apart].concat();
        arguments.extend(volumes.iter().flat_map(|volume| ["--volume", volume.as_str()]));
        arguments.extend(["--env", &state, "--env", &root, "--env", "SKEP_LISTEN=0.0.0.0:8663"]);
        arguments.extend(["--entrypoint", "/opt/lib/ld-linux-x86-64.so.2", IMAGE]);
        arguments.extend(["--library-path", "/opt/lib", "/opt/skep", "serve"]);
        docker(&arguments).expect(0);
        Self(name)
    }

    fn address(&self) -> SocketAddr {
        docker(&["port", &self.0, "8663/tcp"]).expect(0).out.lines().next().unwrap().parse().unwrap()
    }

    fn log(&self) -> String {
        let ran = docker(&["logs", &self.0]);
        ran.out + &ran.err
    }

    /// Its addresses on the networks that it is on.
    fn addresses(&self) -> Vec<String> {
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let ran = docker(&["inspect", "--format", format, &self.0]).expect(0);
        ran.out.split_whitespace().map(str::to_owned).collect()
    }
}

/// Makes the image, and sees to it that the engine has a file for the host's network.
fn surroundings() {
    if docker(&["image", "inspect", IMAGE]).code != 0 {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/image");
        Ran::of(Command::new(script).args(["/bin/true", IMAGE]).output().unwrap()).expect(0);
    }
    docker(&["run", "--rm", "--network", "host", "--entrypoint", "true", IMAGE]).expect(0);
}

/// Whether code in an instance comes through to an address.
fn reaches(instance: &str, address: &str, port: u16) -> bool {
    let code = format!("import socket; socket.create_connection(('{address}', {port}), 2)");
    docker(&["exec", instance, "/opt/venv/bin/python", "-c", &code]).code == 0
}

#[test]
fn a_daemon_in_a_container_joins_the_networks_of_the_apis_and_holds_them_apart() {
    surroundings();
    let world = World::new();
    world.code("hello", &saying("one"));
    world.code("quiet", &saying("still"));
    world.settings("quiet", "egress: none\n");
    let daemon = Container::start(&world);
    let ask = |at: SocketAddr, id: &str| Request::get(format!("/run/{id}/")).try_send(at);
    let answers = |at: SocketAddr, id: &str, text: &str| {
        ask(at, id).is_ok_and(|reply| reply.status == 200 && reply.text() == text)
    };
    let address = daemon.address();
    let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        world.until("both answer", || answers(address, "hello", "one") && answers(address, "quiet", "still"));
    }));
    assert!(served.is_ok(), "{}", daemon.log());

    let (hello, quiet) = (world.containers("hello").remove(0), world.containers("quiet").remove(0));
    let own = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}}{{end}}";
    let of_quiet = docker(&["inspect", "--format", own, &quiet]).expect(0).out;
    let of_hello = docker(&["inspect", "--format", own, &hello]).expect(0).out;
    let (hello_at, host) = of_hello.trim().split_once(' ').unwrap();
    let quiet_at = of_quiet.split_whitespace().next().unwrap();
    assert!(reaches(&hello, "127.0.0.1", 8000), "what is tried from inside works at all");
    for (instance, neighbour) in [(&hello, quiet_at), (&quiet, hello_at)] {
        assert!(!reaches(instance, neighbour, 8000), "{instance} reaches its neighbour at {neighbour}");
        assert!(!reaches(instance, host, address.port()), "{instance} reaches the host at {host}");
        for address in daemon.addresses() {
            assert!(!reaches(instance, &address, 8663), "{instance} reaches the gateway at {address}");
        }
    }

    // A deploy, during which nobody is refused.
    world.code("hello", &saying("two"));
    world.until("the new code answers", || {
        assert_eq!(ask(address, "hello").unwrap().status, 200);
        answers(address, "hello", "two")
    });
    world.until("the old instance is gone", || world.containers("hello").len() == 1);
    let before = (world.containers("hello"), world.containers("quiet"));

    // Another container in its place finds what runs.
    drop(daemon);
    let daemon = Container::start(&world);
    let address = daemon.address();
    world.until("both answer again", || answers(address, "hello", "two") && answers(address, "quiet", "still"));
    assert_eq!((world.containers("hello"), world.containers("quiet")), before, "nothing was restarted");
    assert!(!reaches(&before.0[0], quiet_at, 8000));

    // A command beside it has the same rules, and takes none away.
    let beside = |command: &'static str| {
        ["exec", &daemon.0, "/opt/lib/ld-linux-x86-64.so.2", "--library-path", "/opt/lib", "/opt/skep", command]
    };
    // More than once, since rules follow the bridges of others, which come and go with the tests beside this one.
    world.until("both want the same rules", || {
        let found = docker(&beside("doctor")).out;
        found.contains("rules in force") && !found.contains("are not in force")
    });
    assert!(answers(address, "hello", "two"));

    // The container would end with the one that an upgrade ends.
    let refused = docker(&beside("upgrade"));
    assert!(refused.code == 1 && refused.err.contains("replace the container"), "{refused:?}");
}
