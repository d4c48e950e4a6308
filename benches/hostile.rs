//! What the neighbours of hostile code notice: answers of an API before and during each bomb.

mod bench;
#[path = "../tests/hostile/bombs.rs"]
mod bombs;

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bench::figures::Series;
use bench::process::{cpu_seconds, resident_megabytes};
use bench::site::Site;
use bombs::{BOMBS, Bomb, Seen};

/// How long each load lasts.
const LENGTH: Duration = Duration::from_secs(10);

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

    println!("hostile: 100 requests/s to a neighbour over 20 connections kept open, {} s each", LENGTH.as_secs());
    println!(
        "{:<38} {:>7} {:>7} {:>7} {:>7} {:>6} {:>7} {:>9} {:>8}",
        "", "p50", "then", "p99", "then", "ratio", "errors", "daemon MB", "its CPU"
    );
    for bomb in BOMBS {
        if wanted.is_empty() || wanted.iter().any(|word| bomb.name.contains(word.as_str())) {
            measure(&site, bomb)?;
        }
    }
    Ok(())
}

fn measure(site: &Site, bomb: Bomb) -> anyhow::Result<()> {
    let id = bomb.id();
    site.save(&id, "api.yaml", bombs::SETTINGS)?;
    site.save(&id, "main.py", bomb.app)?;
    expect(site, &format!("/run/{id}/calm"))?;
    let before = load(site.address)?;
    let going = bomb.set_off(site.address);
    std::thread::sleep(Duration::from_secs(1));
    let cpu = cpu_seconds(site.pid()?)?;
    let during = load(site.address)?;
    let cpu = (cpu_seconds(site.pid()?)? - cpu) / LENGTH.as_secs_f64() * 100.0;
    let memory = resident_megabytes(site.pid()?)?;
    drop(going);
    site.remove(&id)?;
    let (first, then) = (series(&before), series(&during));
    println!(
        "{:<38} {:>7.2} {:>7.2} {:>7.2} {:>7.2} {:>5.2}x {:>7} {:>9.1} {:>7.0}%",
        bomb.name,
        first.median(),
        then.median(),
        first.quantile(0.99),
        then.quantile(0.99),
        then.quantile(0.99) / first.quantile(0.99),
        before.errors.len() + during.errors.len(),
        memory,
        cpu,
    );
    for error in before.errors.iter().chain(&during.errors).take(3) {
        println!("    {error}");
    }
    Ok(())
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
