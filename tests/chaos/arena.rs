//! The arena is where faults happen: namespaces of its own for processes, mounts and networks, with an engine that is
//! nobody else's. The host's engine is asked for images and touched by nothing else.
//!
//! All that runs or is mounted in there ends with its first process, also when that is killed: the kernel sees to it. On
//! the host there is a temporary folder, and while it lasts a control group.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Signal, WaitOptions};

use super::seed::Seed;

/// The arena's own address on the way out, and that of the other end: all the internet that there is in it.
const INSIDE: &str = "198.18.0.1/30";
const OUTSIDE: &str = "198.18.0.2/30";
/// The package index, as containers reach it.
pub const INDEX: &str = "http://198.18.0.2:8080/simple";

/// What the engine's images and containers lie on. Only what is used is taken, of memory.
const DISK: &str = "4g";

/// The part of this program that is the arena's first process, and the part that does the work there.
pub const INIT: &str = "arena-init";
pub const WORK: &str = "arena-work";

/// Runs this program once more, inside a new arena. Ends with it.
pub async fn enter(seed: &Seed, arguments: &[String]) -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("skep-chaos-").tempdir()?;
    let cgroup = Cgroup(format!("skep-chaos-{}", std::process::id()));
    let mut command = if rustix::process::geteuid().is_root() {
        tokio::process::Command::new("unshare")
    } else {
        let mut command = tokio::process::Command::new("sudo");
        command.args(["--preserve-env", "--", "env"]).arg(format!("PATH={}", path()?)).arg("unshare");
        command
    };
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.arg(std::env::current_exe()?).arg(INIT).arg(folder.path()).arg(&cgroup.0).arg(seed.folder());
    command.args(arguments);
    // Its end tells the arena that we are gone, however we went.
    command.stdin(Stdio::piped()).env("PATH", path()?).kill_on_drop(true);
    let mut arena = command.spawn().context("cannot make namespaces: `unshare` of util-linux is needed, and root")?;
    // Taken out, since waiting would close it.
    let alive = arena.stdin.take();
    let status = tokio::select! {
        status = arena.wait() => status?,
        () = told_to_stop() => {
            drop(alive);
            arena.wait().await?;
            bail!("interrupted");
        }
    };
    Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
}

/// Returns at Ctrl-C, or SIGTERM.
async fn told_to_stop() {
    let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    let Ok(mut terminate) = terminate else { return std::future::pending().await };
    tokio::select! { _ = tokio::signal::ctrl_c() => {} _ = terminate.recv() => {} }
}

/// Where `ip`, `iptables` and `dockerd` are, also for those whose own path leaves out `sbin`.
fn path() -> anyhow::Result<String> {
    Ok(format!("{}:/usr/local/sbin:/usr/sbin:/sbin", std::env::var("PATH")?))
}

/// The control group below which all containers of the arena are. Removed with this.
struct Cgroup(String);

impl Drop for Cgroup {
    fn drop(&mut self) {
        // One hierarchy for each controller, or one for all of them.
        let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
        roots.extend(fs::read_dir(&roots[0]).into_iter().flatten().flatten().map(|entry| entry.path()));
        for root in roots {
            // Processes that were killed a moment ago may still be in there.
            let deadline = Instant::now() + Duration::from_secs(5);
            let folder = root.join(&self.0);
            while folder.exists() && Instant::now() < deadline {
                remove_cgroup(&folder);
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

fn remove_cgroup(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    // One that is not empty yet is tried again.
    let _ = fs::remove_dir(folder);
}

/// The first process of the arena: sets it up, starts the one that works, and buries whoever dies.
pub fn init(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let [folder, _cgroup, seed, ..] = arguments else { bail!("an arena has a folder, a control group and a seed") };
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        end();
    });
    furnish(Path::new(folder))?;
    let index = open_the_way_out(&Path::new(seed).join("index"))?;
    let work = Command::new(std::env::current_exe()?).arg(WORK).args(arguments).stdin(Stdio::null()).spawn()?;
    loop {
        // Containers and their keepers are left to the first process when those who started them die.
        let Some((pid, status)) = rustix::process::wait(WaitOptions::empty())? else { continue };
        let pid = u32::try_from(pid.as_raw_nonzero().get())?;
        ensure!(pid != index, "the package index has ended");
        if pid == work.id() {
            return Ok(ExitCode::from(u8::try_from(status.exit_status().unwrap_or(1)).unwrap_or(1)));
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "whoever waits for the end of this arena is gone; the kernel ends the rest"
)]
fn end() {
    std::process::exit(1);
}

fn furnish(folder: &Path) -> anyhow::Result<()> {
    let (disk, cgroups) = (disk(folder), folder.join("cgroup"));
    fs::create_dir_all(&disk)?;
    fs::create_dir_all(&cgroups)?;
    let size = format!("size={DISK}");
    run("mount", &["-t", "tmpfs", "-o", &size, "skep-chaos", text(&disk)?])?;
    // The interfaces that /sys shows are those of the network it was mounted in.
    run("mount", &["--rbind", "/sys/fs/cgroup", text(&cgroups)?])?;
    run("mount", &["-t", "sysfs", "sysfs", "/sys"])?;
    run("mount", &["--rbind", text(&cgroups)?, "/sys/fs/cgroup"])?;
    run("ip", &["link", "set", "lo", "up"])
}

/// Another network namespace, in which a package index is all that there is. Gives the index's process.
fn open_the_way_out(index: &Path) -> anyhow::Result<u32> {
    let server = Command::new("unshare")
        .args(["--net", "python3", "-m", "http.server", "8080", "--bind", "0.0.0.0", "--directory"])
        .arg(index)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?
        .id();
    let (ours, theirs) = (fs::read_link("/proc/self/ns/net")?, format!("/proc/{server}/ns/net"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::read_link(&theirs)? == ours {
        ensure!(Instant::now() < deadline, "no second network");
        std::thread::sleep(Duration::from_millis(5));
    }
    let pid = server.to_string();
    run("ip", &["link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", &pid])?;
    run("ip", &["address", "add", INSIDE, "dev", "uplink"])?;
    run("ip", &["link", "set", "uplink", "up"])?;
    for words in [&["address", "add", OUTSIDE, "dev", "eth0"][..], &["link", "set", "eth0", "up"]] {
        run("nsenter", &[&["--target", &pid, "--net", "ip"], words].concat())?;
    }
    Ok(server)
}

/// The file system of bounded size on which the arena's engine keeps everything.
pub fn disk(folder: &Path) -> PathBuf {
    folder.join("disk")
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a temporary folder has a plain name")
}

/// Runs a program of the host to its end.
pub fn run(program: &str, words: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", words.join(" "), said.trim());
    Ok(())
}

/// Sends a signal to one process.
pub fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).context("no process")?;
    rustix::process::kill_process(pid, signal).with_context(|| format!("cannot signal {pid:?}"))
}
