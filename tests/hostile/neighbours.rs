//! What the neighbours of hostile code notice, which is nothing but perhaps a little time. How much is for
//! `benches/hostile.rs` to measure.

use std::time::Duration;

use crate::alone;
use crate::bombs::{self, BOMB, BOMBS, Bomb, RAW};
use crate::world::World;

/// For each bomb. Long enough to fill what it can fill, and for probes to come by.
const LENGTH: Duration = Duration::from_secs(3);

/// What the daemon may have in memory meanwhile, in bytes: far less than any of the bombs sends.
const MEMORY: u64 = 200 << 20;

pub const NEIGHBOUR: &str = r#"
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("only HTTP")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"quiet"})
"#;

#[test]
fn neighbours_see_no_error_from_what_eats_processors_and_memory() {
    go_off(|bomb| bomb.app == BOMB && ["fork", "busy", "memory", "shared", "temporary"].contains(&bomb.path));
}

#[test]
fn neighbours_see_no_error_from_what_fills_disks_and_tables() {
    go_off(|bomb| bomb.app == BOMB && ["disk", "logs", "descriptors", "crash"].contains(&bomb.path));
}

#[test]
fn neighbours_see_no_error_from_what_is_slow_or_has_no_end() {
    go_off(|bomb| bomb.app == BOMB && ["drip", "deaf", "endless"].contains(&bomb.path));
}

#[test]
fn neighbours_see_no_error_from_what_is_no_http() {
    go_off(|bomb| bomb.app == RAW);
}

fn go_off(is_wanted: impl Fn(&Bomb) -> bool) {
    let _alone = alone();
    let world = World::new();
    // Each bomb is removed, which many in a row would be held for.
    let settings = World::apart("policy: { max_deletes: { count: 1000 } }\ndefaults:\n  route: { public: true }\n");
    world.write("skep.yaml", &settings);
    world.code("neighbour", NEIGHBOUR);
    world.serve();
    world.expect_answer("neighbour", "/", "quiet");
    let bombs: Vec<Bomb> = BOMBS.into_iter().filter(is_wanted).collect();
    assert!(!bombs.is_empty());
    for bomb in bombs {
        let id = bomb.id();
        world.settings(&id, bombs::SETTINGS);
        world.code(&id, bomb.app);
        world.expect_status(&id, "/calm", 200);
        let going = bomb.set_off(world.address());
        let seen = bombs::load(world.address(), "/run/neighbour/", LENGTH);
        let memory = resident(world.pid());
        drop(going);
        assert!(seen.errors.is_empty(), "{}: {:#?}", bomb.name, seen.errors);
        assert!(!seen.spans.is_empty());
        assert!(memory < MEMORY, "{}: the daemon has {} MiB", bomb.name, memory >> 20);
        world.delete(&id);
        world.until("the bomb is gone", || world.instances(&id).is_empty());
    }
    assert_eq!(world.get("neighbour", "/").expect(200).text(), "quiet");
}

/// Bytes of a process that are in memory.
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
}
