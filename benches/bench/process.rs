//! What the kernel knows of a process: its memory and its processor time.

use std::fs;

use anyhow::Context as _;

/// The unit of times in `/proc`: `USER_HZ`, which Linux keeps at 100 on every machine that skep runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory of one process that is in RAM, in MB of a million bytes.
pub fn resident_megabytes(pid: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024.0 / 1e6)
}

/// Processor time of one process and of those that it started, user and system together, in seconds. In steps of
/// 10 ms.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let mut ticks = ticks(pid)?;
    for entry in fs::read_dir("/proc")? {
        let Some(other) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that has ended meanwhile has no file any more.
        if fields(other).is_ok_and(|fields| fields.get(1).is_some_and(|parent| *parent == pid.to_string())) {
            ticks += self::ticks(other)?;
        }
    }
    Ok(ticks / TICKS_PER_SECOND)
}

fn ticks(pid: u32) -> anyhow::Result<f64> {
    let fields = fields(pid)?;
    let field = |index: usize| anyhow::Ok(fields.get(index).context("a short /proc/<pid>/stat")?.parse::<f64>()?);
    Ok(field(11)? + field(12)?)
}

/// The fields of `/proc/<pid>/stat` from the third on: what stands before may hold spaces.
fn fields(pid: u32) -> anyhow::Result<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = stat.rsplit_once(')').context("no name in /proc/<pid>/stat")?.1;
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}
