//! What the neighbours of hostile code notice: answers of an API before and during each bomb.

mod bench;
#[path = "../tests/hostile/bombs.rs"]
mod bombs;

use std::net::SocketAddr;
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bench::figures::Series;
use bench::process::{cpu_seconds, resident_megabytes};
use bench::site::Site;
use bombs::{BOMBS, Bomb, Seen};

/// How long each load lasts.
const LENGTH: Duration = Duration::from_secs(10);

/// Times that each bomb is set off; the median of each figure is printed.
const ROUNDS: usize = 3;

/// For an API to be up, and for one to be calm again after what it did.
const PATIENCE: Duration = Duration::from_secs(180);

const NEIGHBOUR: &str = "/run/neighbour/";

const SETTINGS: &str =
    "defaults:\n  route: { public: true }\n  deploy: { drain: 1s }\npolicy: { max_deletes: { count: 1000 } }\n";

const APP: &str = r#"
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def root() -> dict[str, str]:
    return {"hello": "world"}
"#;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, part, gateway] = &arguments[..]
        && part == "callers"
    {
        call(gateway.parse()?);
        return Ok(());
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let mut site = Site::new(SETTINGS)?;
    site.save("neighbour", "main.py", APP)?;
    site.serve()?;
    expect(&site, NEIGHBOUR)?;
    let _ = load(site.address)?;

    println!(
        "hostile: 100 requests/s to a neighbour over 20 connections kept open, {ROUNDS} times {} s each",
        LENGTH.as_secs()
    );
    println!(
        "{:<38} {:>7} {:>7} {:>7} {:>7} {:>6} {:>8} {:>7} {:>9} {:>8}",
        "", "p50", "then", "p99", "then", "ratio", "of floor", "errors", "daemon MB", "its CPU"
    );
    let processors = std::thread::available_parallelism()?.get();
    let floor = floor(&site, processors - 1)?;
    for bomb in BOMBS {
        if wanted.is_empty() || wanted.iter().any(|word| bomb.name.contains(word.as_str())) {
            measure(&site, bomb, floor)?;
        }
    }
    Ok(())
}

fn measure(site: &Site, bomb: Bomb, floor: f64) -> anyhow::Result<()> {
    let id = bomb.id();
    let mut row = Row::default();
    for _ in 0..ROUNDS {
        site.save(&id, "api.yaml", bombs::SETTINGS)?;
        site.save(&id, "main.py", bomb.app)?;
        expect(site, &format!("/run/{id}/calm"))?;
        row.round(site, || Ok(bomb.set_off(site.address)))?;
        site.remove(&id)?;
    }
    row.print(bomb.name, floor);
    Ok(())
}

/// A loop of the host's own, behind everything else and on one processor: no container that uses one can be quieter.
/// Answers with its ratio, which is as much the host's own as anybody's.
fn floor(site: &Site, last: usize) -> anyhow::Result<f64> {
    let mut row = Row::default();
    for _ in 0..ROUNDS {
        row.round(site, || turn(last))?;
    }
    row.print("floor: a loop behind everything else", row.ratio());
    Ok(row.ratio())
}

/// A loop on that processor, which goes on where nobody else wants it.
fn turn(processor: usize) -> anyhow::Result<Loop> {
    let mut command = Command::new("chrt");
    command.args(["--idle", "0", "taskset", "-c", &processor.to_string(), "sh", "-c", "while :; do :; done"]);
    Ok(Loop(command.spawn().context("cannot run chrt, of util-linux")?))
}

/// Ends with this.
struct Loop(Child);

impl Drop for Loop {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What came of some rounds, of each of which there is one figure.
#[derive(Default)]
struct Row {
    first: Series,
    then: Series,
    first_late: Series,
    then_late: Series,
    cpu: Series,
    memory: f64,
    errors: Vec<String>,
}

impl Row {
    /// Measures before something goes on, and while it does.
    fn round<T>(&mut self, site: &Site, set_off: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<()> {
        let before = load(site.address)?;
        let going = set_off()?;
        std::thread::sleep(Duration::from_secs(1));
        let used = cpu_seconds(site.pid()?)?;
        let during = load(site.address)?;
        self.cpu.add_figure((cpu_seconds(site.pid()?)? - used) / LENGTH.as_secs_f64() * 100.0);
        self.memory = self.memory.max(resident_megabytes(site.pid()?)?);
        drop(going);
        let (calm, loud) = (series(&before), series(&during));
        self.first.add_figure(calm.median());
        self.then.add_figure(loud.median());
        self.first_late.add_figure(calm.quantile(0.99));
        self.then_late.add_figure(loud.quantile(0.99));
        self.errors.extend(before.errors.into_iter().chain(during.errors));
        Ok(())
    }

    fn ratio(&self) -> f64 {
        self.then_late.median() / self.first_late.median()
    }

    fn print(&self, name: &str, floor: f64) {
        println!(
            "{name:<38} {:>7.2} {:>7.2} {:>7.2} {:>7.2} {:>5.2}x {:>7.2}x {:>7} {:>9.1} {:>7.0}%",
            self.first.median(),
            self.then.median(),
            self.first_late.median(),
            self.then_late.median(),
            self.ratio(),
            self.ratio() / floor,
            self.errors.len(),
            self.memory,
            self.cpu.median(),
        );
        for error in self.errors.iter().take(3) {
            println!("    {error}");
        }
    }
}

/// Calls the neighbour from a process of its own, which goes before all others where the host lets it: real callers are
/// elsewhere, and wait for no processor of this host.
fn load(gateway: SocketAddr) -> anyhow::Result<Seen> {
    let program = std::env::current_exe()?;
    let mut command = Command::new("chrt");
    command.args(["--fifo", "1"]).arg(&program);
    let mut output = command.args(["callers", &gateway.to_string()]).output();
    if !output.as_ref().is_ok_and(|output| output.status.success()) {
        output = Command::new(&program).args(["callers", &gateway.to_string()]).output();
    }
    let output = output?;
    ensure!(output.status.success(), "the callers failed: {}", String::from_utf8_lossy(&output.stderr));
    let mut seen = Seen::default();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match line.parse() {
            Ok(micros) => seen.spans.push(Duration::from_micros(micros)),
            Err(_) => seen.errors.push(line.to_owned()),
        }
    }
    Ok(seen)
}

/// The callers: a line for each answer, in µs, or an error.
fn call(gateway: SocketAddr) {
    let seen = bombs::load(gateway, NEIGHBOUR, LENGTH);
    let mut text: String = seen.spans.iter().map(|span| format!("{}\n", span.as_micros())).collect();
    text.extend(seen.errors.iter().map(|error| format!("{error}\n")));
    print!("{text}");
}

fn series(seen: &Seen) -> Series {
    let mut series = Series::default();
    seen.spans.iter().for_each(|span| series.add(*span));
    series
}

fn expect(site: &Site, path: &str) -> anyhow::Result<()> {
    let mut client = site.client();
    site.wait(PATIENCE, path, || Ok(client.get(path).is_ok_and(|answer| answer.status == 200)))
        .with_context(|| format!("{path} does not answer"))
}
