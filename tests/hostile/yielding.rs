//! Who burns all the processor time that it may has the others go before it, for as long as it does.

use std::fs;
use std::path::PathBuf;

use crate::alone;
use crate::engine;
use crate::neighbours::NEIGHBOUR;
use crate::world::World;

/// Burns a processor for as many seconds as its path says, in a process beside the one that answers.
const BURNER: &str = r#"
import os
import time

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("only HTTP")
    seconds = int(scope["path"].rpartition("/")[2] or 0)
    if seconds and os.fork() == 0:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        os._exit(0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"#;

#[test]
fn who_burns_all_that_it_may_yields_and_only_while_it_does() {
    let _alone = alone();
    let (world, [burner, neighbour]) = beside_a_neighbour("burner", BURNER);
    let (idle, place) = (file(&burner, "cpu", "cpu.idle"), file(&burner, "cpuset", "cpuset.cpus"));
    // Its start may have burnt as much.
    world.until("it has come to rest", || read(&idle) == "0");
    let everywhere = read(&place);
    let [share, limit] =
        [["cpu.shares", "cpu.weight"], ["cpu.cfs_quota_us", "cpu.max"]].map(|names| either(&burner, names));
    let usual = read(&share);

    assert_eq!(world.get("burner", "/8").expect(200).text(), "ok");
    world.until("it yields", || read(&idle) == "1");
    world.until("it is kept to one processor", || read(&place).parse::<u32>().is_ok());
    // Its start may have burnt as much, too.
    let calm = file(&neighbour, "cpu", "cpu.idle");
    world.until("the neighbour does not", || read(&calm) == "0");
    assert_eq!(read(&idle), "1");
    assert_eq!(read(&file(&neighbour, "cpuset", "cpuset.cpus")), everywhere);
    world.until("it yields no more", || read(&idle) == "0" && read(&place) == everywhere);

    assert_eq!(read(&share), usual, "the kernel forgets it meanwhile");

    // A limit that somebody changes meanwhile is put right as ever.
    assert_eq!(world.get("burner", "/20").expect(200).text(), "ok");
    world.until("it yields", || read(&idle) == "1");
    engine::limit(&burner, 512 << 20, 40_000);
    world.until("its limit is back", || read(&limit).starts_with("10000"));
    world.until("it yields still", || read(&idle) == "1");
    assert_eq!(world.containers("burner"), [burner], "it was repaired, not replaced");

    // A daemon that is killed leaves it as it is, or with the kernel's own share where it had just given back the rest.
    world.crash();
    let forgotten = if share.ends_with("cpu.shares") { "1024" } else { "100" };
    fs::write(&idle, "0").unwrap();
    assert_eq!(read(&share), forgotten);
    world.serve();
    world.until("it has its share, or yields", || read(&share) == usual || read(&idle) == "1");
    world.until("it yields no more", || read(&idle) == "0" && read(&share) == usual && read(&place) == everywhere);

    assert_eq!(world.get("burner", "/20").expect(200).text(), "ok");
    world.until("it yields", || read(&idle) == "1");
    assert!(world.interrupt().success());
    assert_eq!([&idle, &place, &share].map(read), ["0", &everywhere, &usual], "nobody would ever see to it");
}

/// An app that does nothing yet, on half a processor, beside one that does nothing ever; and their containers.
pub fn beside_a_neighbour(id: &str, app: &str) -> (World, [String; 2]) {
    let world = World::new();
    world.write("skep.yaml", &World::apart("defaults:\n  route: { public: true }\n  resources: { cpu: 0.5 }\n"));
    world.code(id, app);
    world.code("neighbour", NEIGHBOUR);
    world.serve();
    world.expect_answer(id, "/0", "ok");
    world.expect_answer("neighbour", "/", "quiet");
    let containers = [id, "neighbour"].map(|id| world.containers(id).remove(0));
    (world, containers)
}

/// The one of two files of a container's control group that this version of groups has.
pub fn either(container: &str, [first, second]: [&str; 2]) -> PathBuf {
    find(container, "cpu", first).unwrap_or_else(|| file(container, "cpu", second))
}

/// A file of a container's control group.
pub fn file(container: &str, controller: &str, name: &str) -> PathBuf {
    find(container, controller, name).unwrap_or_else(|| panic!("there is no {name} of {container}"))
}

fn find(container: &str, controller: &str, name: &str) -> Option<PathBuf> {
    let first = PathBuf::from(format!("/sys/fs/cgroup/{controller}"));
    let roots = [first, PathBuf::from("/sys/fs/cgroup")];
    let places = [format!("docker/{container}"), format!("system.slice/docker-{container}.scope")];
    let mut all = roots.iter().flat_map(|root| places.iter().map(|place| root.join(place).join(name)));
    all.find(|path| path.exists())
}

pub fn read(path: &PathBuf) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}
