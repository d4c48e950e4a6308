//! Upgrades in place: one daemon takes the place of another, and no caller notices.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;

use crate::apps::saying;
use crate::http::{Connection, Request};
use crate::websocket::WebSocket;
use crate::world::{Ran, World};

const LASTING: &str = include_str!("apps/lasting.py");

/// What callers of one kind have seen.
#[derive(Default)]
struct Seen {
    answers: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Seen {
    fn note(&self, what: &str, answer: io::Result<String>, expected: &str) {
        match answer {
            Ok(text) if text == expected => _ = self.answers.fetch_add(1, Ordering::Relaxed),
            Ok(text) => self.failures.lock().unwrap().push(format!("{what}: answered {text:?}")),
            Err(error) => self.failures.lock().unwrap().push(format!("{what}: {error}")),
        }
    }
}

fn text(reply: io::Result<crate::http::Reply>) -> io::Result<String> {
    reply.map(|reply| if reply.status == 200 { reply.text() } else { format!("{} {}", reply.status, reply.text()) })
}

/// One connection for as long as the gateway keeps it, and then another.
fn keep_asking(address: SocketAddr, pause: Duration, seen: &Seen, stop: &AtomicBool) {
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let mut ask = || {
            let mut open = match connection.take() {
                Some(open) => open,
                None => Connection::open(address)?,
            };
            let reply = open.ask(&Request::get("/run/lasting/"))?;
            if reply.header("connection") != Some("close") {
                connection = Some(open);
            }
            Ok(reply)
        };
        let answer = text(ask());
        seen.note("on a connection that is kept", answer, "here");
        thread::sleep(pause);
    }
}

/// The same with HTTP/2. What a caller has not sent yet when it hears that the connection is going away, it sends on another.
fn keep_asking_http2(address: SocketAddr, seen: &Seen, stop: &AtomicBool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = async |sender: &mut http2::SendRequest<Empty<Bytes>>| {
        sender.ready().await?;
        let request = hyper::Request::get(format!("http://{address}/run/lasting/")).body(Empty::new()).unwrap();
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok::<_, hyper::Error>(if head.status == 200 {
            String::from_utf8_lossy(&body).into_owned()
        } else {
            head.status.to_string()
        })
    };
    runtime.block_on(async {
        while !stop.load(Ordering::Relaxed) {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            let connection = tokio::spawn(connection);
            while !stop.load(Ordering::Relaxed) && !sender.is_closed() {
                match ask(&mut sender).await {
                    Err(error) if error.is_canceled() || error.is_closed() => break,
                    answer => seen.note("with HTTP/2", answer.map_err(io::Error::other), "here"),
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            connection.abort();
        }
    });
}

/// A body of 64 pieces, over some two seconds.
fn upload(address: SocketAddr) -> io::Result<crate::http::Reply> {
    let mut connection = Connection::open(address)?;
    connection.write(b"POST /run/lasting/count HTTP/1.1\r\nhost: skep.test\r\ncontent-length: 65536\r\n\r\n")?;
    for _ in 0..64 {
        connection.write(&[b'a'; 1024])?;
        thread::sleep(Duration::from_millis(30));
    }
    connection.reply("POST")
}

fn ticks() -> String {
    (0..40).map(|tick| format!("data: {tick}\n\n")).collect()
}

fn signal(pid: u64, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

fn lives(pid: u64) -> bool {
    test_kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap()).is_ok()
}

#[test]
fn three_hand_overs_under_load_lose_no_request() {
    let world = World::new();
    world.code("lasting", LASTING);
    world.serve();
    world.expect_answer("lasting", "/", "here");
    world.expect_rest("lasting", "synced", "healthy");
    let (address, containers) = (world.address(), world.containers("lasting"));
    let admin_key = fs::read_to_string(world.state().join("admin.key")).unwrap();
    let control = Request::get("/admin/deployments").key(admin_key.trim());
    let stop = AtomicBool::new(false);
    let seen: [Seen; 8] = std::array::from_fn(|_| Seen::default());
    let mut before: Vec<Child> = Vec::new();
    thread::scope(|scope| {
        let [new, kept, rare, second, slow, body, stream, told] = &seen;
        let stop = &stop;
        let until_stopped = move |seen: &Seen, what: &str, ask: &dyn Fn() -> io::Result<String>, expected: &str| {
            while !stop.load(Ordering::Relaxed) {
                seen.note(what, ask(), expected);
            }
        };
        scope.spawn(move || {
            let ask = || text(Request::get("/run/lasting/").try_send(address));
            until_stopped(new, "on a connection of its own", &ask, "here");
        });
        scope.spawn(move || keep_asking(address, Duration::from_millis(1), kept, stop));
        scope.spawn(move || keep_asking(address, Duration::from_millis(700), rare, stop));
        scope.spawn(move || keep_asking_http2(address, second, stop));
        scope.spawn(move || {
            let ask = || text(Request::get("/run/lasting/slow").try_send(address));
            until_stopped(slow, "slow", &ask, "here");
        });
        scope.spawn(move || until_stopped(body, "upload", &|| text(upload(address)), "65536"));
        scope.spawn(move || {
            let ask = || text(Request::get("/run/lasting/ticks").try_send(address));
            until_stopped(stream, "stream", &ask, &ticks());
        });
        let control = &control;
        scope.spawn(move || {
            let ask = || Ok(control.try_send(address)?.status.to_string());
            until_stopped(told, "control surface", &ask, "200");
        });
        let mut socket = WebSocket::open(address, "/run/lasting/ws");
        let hand_overs = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for number in 0..3 {
                before.push(world.hand_over());
                for word in 0..20 {
                    socket.say(&format!("{number} {word}"));
                    assert_eq!(socket.hear(), format!("{number} {word}"));
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }));
        stop.store(true, Ordering::Relaxed);
        hand_overs.unwrap();
    });
    for seen in &seen {
        assert_eq!(*seen.failures.lock().unwrap(), Vec::<String>::new());
        assert!(seen.answers.load(Ordering::Relaxed) > 0);
    }
    // The WebSocket has ended too, with which the first one lived on.
    for mut process in before {
        let status = world.wait("a daemon ends that was taken over from", || process.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
    assert_eq!(world.containers("lasting"), containers, "a hand-over restarts nothing");
    world.code("lasting", &saying("changed"));
    world.expect_answer("lasting", "/", "changed");
}

#[test]
fn a_successor_that_ends_once_it_is_ready_leaves_the_old_one_at_work() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_answer("hello", "/", "one");
    for count in 1..=2 {
        let mut door = world.wait("there is a door", || UnixStream::connect(world.state().join("hand-over")).ok());
        door.write_all(b"\"take_over\"\n").unwrap();
        let mut offer = String::new();
        BufReader::new(door.try_clone().unwrap()).read_line(&mut offer).unwrap();
        assert!(offer.contains("hello"), "{offer}");
        door.write_all(b"{\"pid\":1}\n").unwrap();
        drop(door);
        world.until("it says so", || world.log().matches("did not take over").count() == count);
    }
    // It accepts, and reconciles, and another one can take its place.
    world.code("hello", &saying("two"));
    world.expect_answer("hello", "/", "two");
    let mut before = world.hand_over();
    world.code("hello", &saying("three"));
    world.expect_answer("hello", "/", "three");
    assert!(world.wait("the old one ends", || before.try_wait().unwrap()).success());
}

#[test]
fn a_predecessor_that_ends_before_it_has_handed_over_is_not_waited_for() {
    let world = World::new();
    world.code("hello", &saying("one"));
    fs::create_dir_all(world.state()).unwrap();
    let door = UnixListener::bind(world.state().join("hand-over")).unwrap();
    let log = fs::File::create(world.aside().join("serve.log")).unwrap();
    let mut daemon =
        world.command(&["serve", "--take-over"]).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let (mut stream, _) = door.accept().unwrap();
    let mut wish = String::new();
    BufReader::new(stream.try_clone().unwrap()).read_line(&mut wish).unwrap();
    assert_eq!(wish.trim(), "\"take_over\"");
    // Nobody will ever serve that one.
    stream.write_all(b"{\"pid\":1,\"serving\":[\"ghost\"]}\n").unwrap();
    let pid = u64::from(daemon.id());
    let now = world.wait("it has the lock", || holder(&world).filter(|now| now["pid"] == pid));
    world.until("it waits for the ghost", || world.log().contains("this daemon reconciles"));
    assert!(!world.log().contains("serving 1 APIs"), "{}", world.log());
    drop((stream, door));
    let answers = || Request::get("/run/hello/").send(where_it_listens(&now)).text() == "one";
    world.until("it serves", answers);
    assert!(world.log().contains("has ended before it gave its place away"), "{}", world.log());
    signal(pid, Signal::TERM);
    assert!(world.wait("it ends", || daemon.try_wait().unwrap()).success());
}

/// A copy of the program in a folder of its own, as an installation has it.
fn installed(world: &World) -> std::path::PathBuf {
    let program = world.aside().join("bin/skep");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    install(world, &fs::read(env!("CARGO_BIN_EXE_skep")).unwrap());
    program
}

/// Puts another program into its place, as a package does: beside, and moved.
fn install(world: &World, program: &[u8]) {
    let aside = world.aside().join("bin/skep.new");
    fs::write(&aside, program).unwrap();
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(aside, world.aside().join("bin/skep")).unwrap();
}

/// A command with the environment that all commands of this world have.
fn command_of(world: &World, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(world.root()).stdin(Stdio::null());
    for (name, value) in world.command(&[]).get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn holder(world: &World) -> Option<Value> {
    serde_json::from_slice(&fs::read(world.state().join("lock")).ok()?).ok()
}

fn where_it_listens(holder: &Value) -> SocketAddr {
    holder["address"].as_str().unwrap().parse().unwrap()
}

#[test]
fn an_upgrade_starts_what_lies_at_the_daemons_path_and_tells_the_service_manager() {
    let world = World::new();
    world.code("hello", &saying("one"));
    let program = installed(&world);
    let manager = UnixDatagram::bind(world.aside().join("notify")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let hear = || {
        let mut told = [0; 256];
        let length = manager.recv(&mut told).unwrap();
        String::from_utf8_lossy(&told[..length]).into_owned()
    };
    let log = fs::File::create(world.aside().join("serve.log")).unwrap();
    let mut first = command_of(&world, program.to_str().unwrap(), &["serve"])
        .env("NOTIFY_SOCKET", world.aside().join("notify"))
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let old = u64::from(first.id());
    assert_eq!(hear().trim(), "READY=1");
    let address = where_it_listens(&world.wait("it has the lock", || holder(&world).filter(|now| now["pid"] == old)));
    let answers = || Request::get("/run/hello/").send(address).text() == "one";
    world.until("it serves", answers);
    let upgrade = || Ran::of(command_of(&world, program.to_str().unwrap(), &["upgrade"]).output().unwrap());

    // One that cannot begin costs nothing.
    install(&world, b"#!/bin/sh\necho 'no such library' >&2\nexit 3\n");
    let with_the_new = Ran::of(world.command(&["upgrade"]).output().unwrap());
    assert_eq!(with_the_new.code, 1, "{with_the_new:?}");
    let why = "ended before it could serve (exit status: 3): no such library";
    assert!(with_the_new.err.contains(why), "{}", with_the_new.err);
    assert!(hear().contains("RELOADING=1"));
    assert_eq!(hear().trim(), "READY=1");
    assert!(answers() && first.try_wait().unwrap().is_none(), "the old one goes on");

    // Of one that is skep and cannot serve, whoever asked hears what it says.
    install(&world, &fs::read(env!("CARGO_BIN_EXE_skep")).unwrap());
    let settings = fs::read_to_string(world.root().join("skep.yaml")).unwrap();
    world.write("skep.yaml", &format!("{settings}gateway: {{ tls: {{ certificate: none.pem, key: none.pem }} }}\n"));
    let refused = upgrade().expect(1).err;
    assert!(
        refused.contains("ended before it could serve (exit status: 1): ") && refused.contains("cannot speak TLS"),
        "{refused}"
    );
    assert!(hear().contains("RELOADING=1"));
    assert_eq!(hear().trim(), "READY=1");
    assert!(answers());
    world.write("skep.yaml", &settings);
    let printed = upgrade().expect(0).out;
    assert!(hear().contains("RELOADING=1"));
    let told = hear();
    let now = world.wait("the new one has the lock", || holder(&world).filter(|now| now["pid"] != old));
    let new = now["pid"].as_u64().unwrap();
    assert_eq!(told.lines().collect::<Vec<_>>(), [format!("MAINPID={new}").as_str(), "READY=1"]);
    assert_eq!(printed.trim(), format!("process {new} has taken over"));
    assert_eq!(where_it_listens(&now), address);
    assert!(answers());
    let status = world.wait("the old one ends", || first.try_wait().unwrap());
    assert!(status.success(), "{status}");

    // The signal does the same.
    signal(new, Signal::USR2);
    assert!(hear().contains("RELOADING=1") && hear().contains("MAINPID="));
    let last = world.wait("the third one has the lock", || holder(&world).filter(|now| now["pid"] != new));
    assert!(answers());
    signal(last["pid"].as_u64().unwrap(), Signal::TERM);
    world.until("both have ended", || !lives(new) && !lives(last["pid"].as_u64().unwrap()));
    upgrade().expect(1);
}

#[test]
fn sockets_that_the_service_manager_opens_are_those_that_it_listens_at() {
    let world = World::new();
    world.code("hello", &saying("one"));
    // What systemd does: a socket from descriptor 3 on, and two variables.
    let manager = "import os, socket, sys\n\
                   s = socket.create_server(('127.0.0.1', 0))\n\
                   print(s.getsockname()[1], flush=True)\n\
                   os.dup2(s.fileno(), 3); os.set_inheritable(3, True)\n\
                   os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n\
                   os.execv(sys.argv[1], sys.argv[1:])\n";
    let arguments = ["-c", manager, env!("CARGO_BIN_EXE_skep"), "serve"];
    let log = fs::File::create(world.aside().join("serve.log")).unwrap();
    let mut command = command_of(&world, "python3", &arguments);
    // Taken by nobody, and not to be taken.
    command.env("SKEP_LISTEN", "127.0.0.1:1");
    let mut daemon = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let port = crate::world::read_until(daemon.stdout.as_mut().unwrap(), "\n");
    let address: SocketAddr = format!("127.0.0.1:{}", port.trim()).parse().unwrap();
    // From its first moment on nobody is refused.
    Request::get("/health").send(address).expect(200);
    world.until("it serves", || Request::get("/run/hello/").send(address).text() == "one");
    signal(u64::from(daemon.id()), Signal::TERM);
    assert!(world.wait("it ends", || daemon.try_wait().unwrap()).success());
}
