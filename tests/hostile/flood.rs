//! Who floods its log is held back while it does: the engine pays more for each line than the app that writes it.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::alone;
use crate::engine;
use crate::yielding::{beside_a_neighbour, either, read};

/// Floods its log for as many seconds as its path says, in a process beside the one that answers, with long lines or with `/short`
/// ones, each of which costs the engine as much.
const FLOODER: &str = r#"
import os
import time

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("only HTTP")
    seconds = int(scope["path"].rpartition("/")[2] or 0)
    if seconds and os.fork() == 0:
        end = time.monotonic() + seconds
        lines = b"x\n" * 32768 if "short" in scope["path"] else (b"x" * 8191 + b"\n") * 8
        while time.monotonic() < end:
            os.write(1, lines)
        os._exit(0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})
"#;

/// Twice of what a log may grow by in a second.
const MUCH: u64 = 4 << 20;

#[test]
fn who_floods_its_log_is_held_back_and_only_while_it_does() {
    let _alone = alone();
    let (world, [flooder, neighbour]) = beside_a_neighbour("flooder", FLOODER);
    let [quota, quiet] = [&flooder, &neighbour].map(|id| either(id, ["cpu.cfs_quota_us", "cpu.max"]));
    let usual = read(&quota);
    assert_eq!(read(&quiet), usual);

    assert_eq!(world.get("flooder", "/15").expect(200).text(), "ok");
    world.until("it is held back", || read(&quota) != usual);
    // What it is left is found out within some looks.
    sleep(Duration::from_secs(2));
    let log = engine::inspect(&flooder).unwrap().log_path.unwrap();
    let grown = grown(Path::new(&log), Duration::from_secs(5));
    assert!(grown < 5 * MUCH, "its log grew by {grown} bytes in 5 s");
    assert_eq!(read(&quiet), usual);
    world.until("it has all its time again", || read(&quota) == usual);
    assert_eq!(world.containers("flooder"), std::slice::from_ref(&flooder), "it was held back, not replaced");

    // A daemon that is killed leaves it held back, and the next one finds out whether it still floods.
    assert_eq!(world.get("flooder", "/8").expect(200).text(), "ok");
    world.until("it is held back", || read(&quota) != usual);
    world.crash();
    sleep(Duration::from_secs(9));
    assert_ne!(read(&quota), usual);
    world.serve();
    world.until("it has all its time again", || read(&quota) == usual);

    // That is no use with lines that are nothing but work: it is killed, and begun again like all that crashes.
    assert_eq!(world.get("flooder", "/short/60").expect(200).text(), "ok");
    world.until("it is killed", || world.log().contains("it floods its log however little it may run"));
    world.until("that is a crash", || world.run(&["events", "flooder"]).out.contains("exit code 137"));
    world.expect_answer("flooder", "/0", "ok");
    let flooder = world.containers("flooder").remove(0);
    let quota = either(&flooder, ["cpu.cfs_quota_us", "cpu.max"]);
    world.until("it has all its time", || read(&quota) == usual);

    // A daemon that ends lets it be.
    assert_eq!(world.get("flooder", "/20").expect(200).text(), "ok");
    world.until("it is held back", || read(&quota) != usual);
    assert!(world.interrupt().success());
    assert_eq!(read(&quota), usual, "nobody would ever see to it");
}

/// By how many bytes a log grows meanwhile, looked at often enough to follow it from file to file.
fn grown(log: &Path, span: Duration) -> u64 {
    let length = || fs::metadata(log).map_or(0, |file| file.len());
    let (end, mut before, mut sum) = (Instant::now() + span, length(), 0);
    while Instant::now() < end {
        sleep(Duration::from_millis(20));
        let now = length();
        // Less than before is another file, which began with nothing.
        sum += if now >= before { now - before } else { now };
        before = now;
    }
    sum
}
