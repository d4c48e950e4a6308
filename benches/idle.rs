//! Memory and processor time of the daemon that has nothing to do, with 0, 1 and 100 APIs.

mod bench;

use std::time::{Duration, Instant};

use anyhow::ensure;
use bench::process::{cpu_seconds, resident_megabytes};
use bench::site::Site;

const APIS: usize = 100;

/// The aim, in MB, with all APIs.
const AIM: f64 = 40.0;

/// All instances together start within this.
const LIMIT: Duration = Duration::from_secs(200);

/// Between the last start and the measurement.
const REST: Duration = Duration::from_secs(5);

/// Over how long processor time is counted.
const WATCH: Duration = Duration::from_secs(20);

/// The smallest app there is: without FastAPI it starts in a third of the time, and a hundred of them fit on a small
/// host. To the daemon it is like any other.
const APP: &str = r#"async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
"#;

fn main() -> anyhow::Result<()> {
    let mut site = Site::new("defaults:\n  resources: { memory: 64MiB, cpu: 1.0 }\n")?;
    site.serve()?;
    std::thread::sleep(REST);
    let none = resident_megabytes(site.pid()?)?;

    add(&site, 0..1)?;
    std::thread::sleep(REST);
    let one = resident_megabytes(site.pid()?)?;

    let start = Instant::now();
    add(&site, 1..APIS)?;
    let started = start.elapsed();
    std::thread::sleep(REST);
    let all = resident_megabytes(site.pid()?)?;
    let cpu = cpu_percent(&site)?;

    site.stop();
    let start = Instant::now();
    site.serve()?;
    wait(&site, 0..APIS)?;
    let adopted = start.elapsed();
    std::thread::sleep(REST);
    let again = resident_megabytes(site.pid()?)?;

    println!("idle: the daemon's resident memory, in MB; aim below {AIM:.0} with {APIS} APIs");
    println!("{:<52} {none:>8.1}", "no API");
    println!("{:<52} {one:>8.1}", "1 API");
    println!("{:<52} {all:>8.1} {:>7.2}x of the aim", format!("{APIS} APIs, all just made"), all / AIM);
    println!(
        "{:<52} {again:>8.1} {:>7.2}x of the aim",
        format!("{APIS} APIs, taken over by a new daemon"),
        again / AIM
    );
    println!("{:<52} {cpu:>8.2} % of a core", format!("processor time with {APIS} APIs, each probed every 2 s"));
    println!("{:<52} {:>8.1} s", format!("from {} saved folders to the last answer", APIS - 1), started.as_secs_f64());
    println!("{:<52} {:>8.1} s", "from the daemon's start to all answering again", adopted.as_secs_f64());
    Ok(())
}

/// Adds APIs, and waits until each answers.
fn add(site: &Site, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    for number in numbers.clone() {
        site.save(&name(number), "main.py", &format!("# {number}\n{APP}"))?;
    }
    wait(site, numbers)
}

fn wait(site: &Site, numbers: std::ops::Range<usize>) -> anyhow::Result<()> {
    let mut client = site.client();
    for number in numbers {
        let path = format!("/run/{}/", name(number));
        site.wait(LIMIT, &path, || Ok(client.get(&path).is_ok_and(|answer| answer.status == 200)))?;
    }
    Ok(())
}

fn name(number: usize) -> String {
    format!("api-{number:03}")
}

fn cpu_percent(site: &Site) -> anyhow::Result<f64> {
    let before = cpu_seconds(site.pid()?)?;
    std::thread::sleep(WATCH);
    let used = cpu_seconds(site.pid()?)? - before;
    ensure!(used >= 0.0, "the daemon was replaced meanwhile");
    Ok(used / WATCH.as_secs_f64() * 100.0)
}
