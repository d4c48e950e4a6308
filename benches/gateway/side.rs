//! A side is one thing that is asked, and what came of it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::Once;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use super::bench::child::Running;
use super::bench::figures::Series;
use super::bench::http::Client;
use super::bench::process::cpu_seconds;

/// Kept open by the client all the while.
const CONNECTIONS: &str = "64";

/// How long each run lasts, in seconds.
const SECONDS: u32 = 5;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub enum Load {
    /// A small answer.
    Small,
    /// An answer of 1 MiB.
    Download,
    /// A request of 1 MiB.
    Upload,
}

impl Load {
    pub fn heading(self) -> String {
        let what = match self {
            Self::Small => "small answers",
            Self::Download => "answers of 1 MiB",
            Self::Upload => "requests of 1 MiB",
        };
        format!(
            "gateway on one core: {what}, {CONNECTIONS} connections kept open, runs of {SECONDS} s each in turn, in new processes"
        )
    }

    fn path(self) -> &'static str {
        match self {
            Self::Small => "/",
            Self::Download => "/big",
            Self::Upload => "/sink",
        }
    }
}

/// One thing that is asked.
pub struct Side {
    pub name: &'static str,
    address: SocketAddr,
    prefix: String,
    key: Option<String>,
    pid: u32,
    /// Requests a second.
    pub rate: Series,
    /// Processor time of the process that is asked, in µs a request.
    pub cpu: Series,
    /// The 99th percentile of the time to an answer, in ms.
    pub late: Series,
}

impl Side {
    pub fn new(name: &'static str, address: SocketAddr, prefix: &str, key: Option<&str>, process: &Running) -> Self {
        let [rate, cpu, late] = [(); 3].map(|()| Series::default());
        let (prefix, key) = (prefix.to_owned(), key.map(str::to_owned));
        Self { name, address, prefix, key, pid: process.pid(), rate, cpu, late }
    }

    /// Takes over what was measured of the same one before.
    pub fn goes_on_from(&mut self, before: Self) {
        [self.rate, self.cpu, self.late] = [before.rate, before.cpu, before.late];
    }

    /// Forgets what was measured.
    pub fn forget(&mut self) {
        [self.rate, self.cpu, self.late] = [(); 3].map(|()| Series::default());
    }

    /// Waits until it answers.
    pub fn wait(&self) -> anyhow::Result<()> {
        let mut client = Client::new(self.address, self.key.clone());
        let deadline = Instant::now() + Duration::from_secs(10);
        let path = format!("{}/", self.prefix);
        loop {
            match client.get(&path) {
                Ok(answer) if answer.status == 200 => return Ok(()),
                answer if Instant::now() > deadline => bail!("{}: {answer:?}", self.name),
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    pub fn measure(&mut self, load: Load) -> anyhow::Result<()> {
        let before = cpu_seconds(self.pid)?;
        let said = self.load(load, SECONDS)?;
        let used = cpu_seconds(self.pid)? - before;
        self.rate.add_figure(said.rate);
        self.late.add_figure(said.late);
        self.cpu.add_figure(used * 1e6 / said.requests);
        Ok(())
    }

    pub fn load(&self, load: Load, seconds: u32) -> anyhow::Result<Said> {
        let mut wrk = Command::new("wrk");
        wrk.args(["-t", "1", "-c", CONNECTIONS, "-d", &format!("{seconds}s"), "--latency"]);
        if let Some(key) = &self.key {
            wrk.args(["-H", &format!("Authorization: Bearer {key}")]);
        }
        let mut script = tempfile::NamedTempFile::new()?;
        if matches!(load, Load::Upload) {
            writeln!(script, "wrk.method = 'POST'\nwrk.body = string.rep('x', 1048576)")?;
            wrk.arg("-s").arg(script.path());
        }
        let output = wrk.arg(format!("http://{}{}{}", self.address, self.prefix, load.path())).output();
        let output = output.context("cannot run wrk; scripts/setup bench installs it")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let is_clean = !text.contains("Non-2xx") && !text.contains("Socket errors");
        ensure!(output.status.success() && is_clean, "{}: requests failed:\n{text}", self.name);
        Said::read(&text).with_context(|| format!("cannot read what wrk says:\n{text}"))
    }

    /// The time to an answer at that many requests a second: p50, p99 and p99.9, in µs.
    pub fn paced(&self, rate: f64) -> anyhow::Result<[f64; 3]> {
        let (address, path, key) = self.arguments();
        let (mut process, line) = Running::part(&["part", "paced", &address, &path, &key, &rate.to_string()])?;
        process.stop();
        let figures: Vec<f64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        figures.try_into().map_err(|_| anyhow::anyhow!("{}: {line}", self.name))
    }

    /// Connections that do nothing, as long as the answer is kept.
    pub fn idle(&self) -> anyhow::Result<Running> {
        let (address, path, key) = self.arguments();
        let (process, line) = Running::part(&["part", "idle", &address, &path, &key])?;
        ensure!(line == "open", "{}: {line}", self.name);
        Ok(process)
    }

    fn arguments(&self) -> (String, String, String) {
        (self.address.to_string(), format!("{}/", self.prefix), self.key.clone().unwrap_or_default())
    }

    /// Puts it [ahead] of all else on its core; for loads that leave it time to spare.
    pub fn ahead(&self) -> anyhow::Result<()> {
        ahead(self.pid).and_then(|()| ahead(self.worker()?))
    }

    /// Takes that back.
    pub fn beside(&self) -> anyhow::Result<()> {
        beside(self.pid).and_then(|()| beside(self.worker()?))
    }

    /// Gives it precedence on its core over what has nothing to do with it. Not more than that: the kernel stops who comes
    /// before all else for 50 ms, once it has taken 950.
    pub fn favour(&self) -> anyhow::Result<()> {
        for pid in [self.pid, self.worker()?] {
            let mut renice = Command::new("renice");
            renice.args(["-n", "-20", "-p"]);
            for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
                renice.arg(thread?.file_name());
            }
            say_if_refused(&renice.output().context("cannot run renice, of util-linux")?);
        }
        Ok(())
    }

    /// The process that holds connections: nginx has one for that.
    pub fn worker(&self) -> anyhow::Result<u32> {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid))?;
        Ok(children.split_whitespace().next().and_then(|pid| pid.parse().ok()).unwrap_or(self.pid))
    }
}

/// What `wrk` says.
pub struct Said {
    requests: f64,
    rate: f64,
    late: f64,
}

impl Said {
    fn read(text: &str) -> Option<Self> {
        let after = |label: &str| text.lines().find_map(|line| line.trim().strip_prefix(label)).map(str::trim);
        let requests = text.lines().find(|line| line.contains(" requests in "))?;
        Some(Self {
            requests: requests.split_whitespace().next()?.parse().ok()?,
            rate: after("Requests/sec:")?.parse().ok()?,
            late: milliseconds(after("99%")?)?,
        })
    }
}

/// Reads `1.25ms`, `980.00us` or `1.02s`.
fn milliseconds(text: &str) -> Option<f64> {
    let (number, factor) = [("us", 0.001), ("ms", 1.0), ("s", 1000.0)]
        .into_iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    Some(number.parse::<f64>().ok()? * factor)
}

/// Gives a process, and what it has started, the first core for itself.
pub fn on_its_core(pid: u32) -> anyhow::Result<()> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    pin(pid, "0")?;
    children.split_whitespace().filter_map(|child| child.parse().ok()).try_for_each(|child| pin(child, "0"))
}

/// Keeps this process, what it starts, and another one, away from that core, where there are others.
pub fn elsewhere(pid: u32) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    if cores > 1 {
        let others = format!("1-{}", cores - 1);
        pin(std::process::id(), &others)?;
        pin(pid, &others)?;
    }
    Ok(())
}

/// Puts a process ahead of all that share its core with it, which is what it is in a machine of its own: whoever has an
/// answer to take, or one to give, must not wait for somebody else's slice of time to end.
pub fn ahead(pid: u32) -> anyhow::Result<()> {
    schedule(pid, ["-f", "1"])
}

/// Takes that back.
pub fn beside(pid: u32) -> anyhow::Result<()> {
    schedule(pid, ["-o", "0"])
}

fn schedule(pid: u32, [policy, priority]: [&str; 2]) -> anyhow::Result<()> {
    let output = Command::new("chrt").args(["-a", policy, "-p", priority, &pid.to_string()]).output();
    let output = output.context("cannot run chrt, of util-linux")?;
    say_if_refused(&output);
    Ok(())
}

/// Only a superuser may say who comes first. Others measure all the same, and the figures are those of a shared core.
fn say_if_refused(output: &Output) {
    static SAID: Once = Once::new();
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        SAID.call_once(|| {
            eprintln!("note: on a core that others share: {}", why.trim());
        });
    }
}

fn pin(pid: u32, cores: &str) -> anyhow::Result<()> {
    let output = Command::new("taskset").args(["-a", "-c", "-p", cores, &pid.to_string()]).output();
    let output = output.context("cannot run taskset, of util-linux")?;
    ensure!(output.status.success(), "taskset: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
