//! The gateway on one core, with all that it does for callers, beside nginx and `HAProxy` that only pass on.
//!
//! Who is measured has a core of its own where there are two; the backend and the load share the others.

#[path = "../bench/mod.rs"]
mod bench;
mod paced;
mod parts;
mod peers;
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a server of the tests, which say so by panicking"
)]
#[path = "../../tests/servers/postgres.rs"]
mod postgres;
mod side;
mod siege;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use bench::child::Running;
use bench::figures::Series;
use bench::process::resident_megabytes;
use parts::API;
use postgres::Postgres;
use side::{Load, Side};

/// Runs of each, in turn; the median is printed.
pub const ROUNDS: usize = 3;

/// Connections that do nothing, for their memory.
const IDLE: usize = 10_000;

/// How long paced load lasts.
const PACED: Duration = Duration::from_secs(5);

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "part", "backend"] => parts::run(2, parts::backend()),
        [_, "part", "plain", upstream] => parts::run(1, parts::plain(upstream.parse()?)),
        [_, "part", "gateway", upstream, size] => parts::run(1, parts::gateway(upstream.parse()?, size)),
        [_, "part", "paced", address, path, key, rate] => paced::run(address.parse()?, path, key, rate.parse()?, PACED),
        [_, "part", "idle", address, path, key] => paced::idle(address.parse()?, path, key, IDLE),
        [_, "part", "attack", name, address, key, count] => {
            parts::run(1, siege::attack(name.to_owned(), address.parse()?, key.to_owned(), count.parse()?))
        }
        [_, "siege", ..] => siege::run(arguments.get(2).map(String::as_str).filter(|what| !what.starts_with("--"))),
        [_, "usage", ..] => usage(),
        [_, "small", ..] => compare(&[Load::Small]),
        _ => {
            compare(&[Load::Small, Load::Download, Load::Upload])?;
            usage()?;
            siege::run(None)
        }
    }
}

fn compare(loads: &[Load]) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("skep-bench-").tempdir()?;
    let (backend, address) = Running::part(&["part", "backend"])?;
    side::elsewhere(backend.pid())?;
    let upstream: SocketAddr = address.parse()?;
    let mut peers = Peers::start(folder.path(), &backend, upstream)?;
    for load in loads.iter().copied() {
        for _ in 0..ROUNDS {
            peers = peers.anew(folder.path(), &backend, upstream)?;
            for side in &mut peers.sides {
                side.measure(load)?;
            }
        }
        let sides = &mut peers.sides;
        println!("{}", load.heading());
        println!(
            "{:<34} {:>10} {:>9} {:>12} {:>9} {:>8}",
            "", "requests/s", "to nginx", "CPU µs each", "to nginx", "p99 ms"
        );
        let (rate, cpu) = (sides[1].rate.median(), sides[1].cpu.median());
        for side in &mut *sides {
            let (own_rate, own_cpu) = (side.rate.median(), side.cpu.median());
            print!("{:<34} {own_rate:>10.0} {:>8.2}x ", side.name, own_rate / rate);
            println!("{own_cpu:>12.1} {:>8.2}x {:>8.2}", own_cpu / cpu, side.late.median());
        }
        if matches!(load, Load::Small) {
            paced_load(sides)?;
        }
        sides.iter_mut().for_each(Side::forget);
        println!();
    }
    idle(&peers.sides)
}

/// All that are compared, and the processes that they are.
struct Peers {
    sides: Vec<Side>,
    /// Ended with it.
    processes: Vec<Running>,
}

impl Peers {
    /// Starts all of them, and waits until they answer.
    fn start(folder: &Path, backend: &Running, upstream: SocketAddr) -> anyhow::Result<Self> {
        let address = upstream.to_string();
        let run = format!("/run/{API}");
        let (nginx, nginx_address) = peers::nginx(folder, upstream)?;
        let (haproxy, haproxy_address) = peers::haproxy(folder, upstream)?;
        let mut sides = vec![
            Side::new("no proxy", upstream, "", None, backend),
            Side::new("nginx, plain proxy", nginx_address, "", None, &nginx),
            Side::new("HAProxy, plain proxy", haproxy_address, "", None, &haproxy),
        ];
        let mut processes = vec![nginx, haproxy];
        for (name, size) in [
            ("skep, all on", "small"),
            ("skep, 10,000 routes, 100,000 keys", "large"),
            ("skep, a route swap every 10 ms", "swapping"),
        ] {
            let (process, line) = Running::part(&["part", "gateway", &address, size])?;
            let (address, key) = line.split_once(' ').context("the gateway did not start")?;
            sides.push(Side::new(name, address.parse()?, &run, Some(key), &process));
            processes.push(process);
        }
        let (plain, plain_address) = Running::part(&["part", "plain", &address])?;
        sides.push(Side::new("hyper alone, a proxy of 30 lines", plain_address.parse()?, "", None, &plain));
        processes.push(plain);
        sides.iter().try_for_each(Side::wait)?;
        processes.iter().try_for_each(|process| side::on_its_core(process.pid()))?;
        sides.iter().try_for_each(|side| side.load(Load::Small, 1).map(drop))?;
        Ok(Self { sides, processes })
    }

    /// The same once more, in new processes, with what has been measured so far: where the system happens to put a process in
    /// memory makes it a tenth faster or slower for as long as it lives.
    fn anew(self, folder: &Path, backend: &Running, upstream: SocketAddr) -> anyhow::Result<Self> {
        let Self { sides: before, processes } = self;
        drop(processes);
        let mut peers = Self::start(folder, backend, upstream)?;
        peers.sides.iter_mut().zip(before).for_each(|(side, before)| side.goes_on_from(before));
        Ok(peers)
    }
}

/// What it costs to write down who has asked what, each half second, beside counting it alone.
fn usage() -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("skep-bench-").tempdir()?;
    let (backend, address) = Running::part(&["part", "backend"])?;
    side::elsewhere(backend.pid())?;
    let server = Postgres::start_with(&["fsync=on"]);
    let sizes = [
        ("counted, written nowhere", "small".to_owned()),
        ("written to SQLite", format!("sqlite={}", folder.path().join("records.db").display())),
        ("written to PostgreSQL", format!("postgres={}", server.database("usage"))),
    ];
    let run = format!("/run/{API}");
    let mut processes = Vec::new();
    let mut sides = Vec::new();
    for (name, size) in sizes {
        let (process, line) = Running::part(&["part", "gateway", &address, &size])?;
        let (address, key) = line.split_once(' ').context("the gateway did not start")?;
        sides.push(Side::new(name, address.parse()?, &run, Some(key), &process));
        side::on_its_core(process.pid())?;
        processes.push(process);
    }
    for side in &sides {
        side.wait()?;
        side.load(Load::Small, 1)?;
    }
    for _ in 0..ROUNDS {
        for side in &mut sides {
            side.measure(Load::Small)?;
        }
    }
    println!("{}; usage of each request", Load::Small.heading());
    println!("{:<34} {:>10} {:>12} {:>10} {:>8}", "", "requests/s", "CPU µs each", "to counted", "p99 ms");
    let cpu = sides[0].cpu.median();
    for side in &mut sides {
        let own = side.cpu.median();
        print!("{:<34} {:>10.0} {own:>12.1} ", side.name, side.rate.median());
        println!("{:>9.2}x {:>8.2}", own / cpu, side.late.median());
    }
    println!();
    Ok(())
}

/// Latency at half of what the slower of skep and nginx can do, from the moment at which each request was due.
///
/// All of them come before all else on their cores, so that nobody waits there for what has nothing to do with it, be it the app
/// for who asks.
fn paced_load(sides: &[Side]) -> anyhow::Result<()> {
    let rate = sides[1].rate.median().min(sides[3].rate.median()) / 2.0;
    println!(
        "\nthe same at {rate:.0} requests/s, half of what the slower one can, µs from when each was due; median of {ROUNDS}"
    );
    println!("{:<34} {:>8} {:>8} {:>8} {:>11} {:>11}", "", "p50", "p99", "p99.9", "added p50", "added p99");
    sides.iter().try_for_each(Side::ahead)?;
    let mut times = vec![[(); 3].map(|()| Series::default()); sides.len()];
    for _ in 0..ROUNDS {
        for (side, times) in sides.iter().zip(&mut times) {
            let figures = side.paced(rate)?;
            times.iter_mut().zip(figures).for_each(|(series, figure)| series.add_figure(figure));
        }
    }
    sides.iter().try_for_each(Side::beside)?;
    let medians: Vec<[f64; 3]> = times.iter().map(|times| times.each_ref().map(Series::median)).collect();
    for (side, [p50, p99, p999]) in sides.iter().zip(&medians) {
        let (added50, added99) = (p50 - medians[0][0], p99 - medians[0][1]);
        println!("{:<34} {p50:>8.0} {p99:>8.0} {p999:>8.0} {added50:>11.0} {added99:>11.0}", side.name);
    }
    Ok(())
}

fn idle(sides: &[Side]) -> anyhow::Result<()> {
    println!("{IDLE} connections that have asked once and now do nothing, KB of memory each");
    // HAProxy wants two files for each connection that it may ever have, also where it needs one.
    for side in [&sides[1], &sides[3]] {
        let before = resident_megabytes(side.worker()?)?;
        let callers = side.idle()?;
        // Until what is held for who may ask again at once has been given back.
        std::thread::sleep(Duration::from_secs(8));
        let after = resident_megabytes(side.worker()?)?;
        drop(callers);
        #[expect(clippy::cast_precision_loss, reason = "some thousands")]
        let each = (after - before) * 1000.0 / IDLE as f64;
        println!("{:<34} {each:>8.1}", side.name);
    }
    Ok(())
}
