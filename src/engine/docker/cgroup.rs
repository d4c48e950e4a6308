//! Control groups are where the kernel counts processor time and shares it out. A container has one of its own, in a place
//! that depends on the version of the host's groups and on who makes them for the engine.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::hardening::INSTANCE_SHARES;

/// Where the host's groups are. Version 1 has a tree for each resource, version 2 has one for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Groups {
    version: Version,
    cpu: PathBuf,
    accounting: PathBuf,
    sets: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The group of one container.
#[derive(Debug)]
pub(super) struct Group {
    version: Version,
    cpu: PathBuf,
    /// Kept open, since it is read all the time.
    used: File,
    set: Option<PathBuf>,
}

impl Groups {
    /// As this process sees them; `None` where it sees none that shares out processor time.
    pub(super) fn find() -> Option<Self> {
        Self::read(&fs::read_to_string("/proc/self/mountinfo").ok()?)
    }

    fn read(mounts: &str) -> Option<Self> {
        // 31 23 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
        let mounts: Vec<(&str, &str, Vec<&str>)> = mounts
            .lines()
            .filter_map(|line| {
                let (place, kind) = line.split_once(" - ")?;
                let mut kind = kind.split(' ');
                Some((place.split(' ').nth(4)?, kind.next()?, kind.nth(1)?.split(',').collect()))
            })
            .collect();
        let of = |controller: &str| {
            let mut found = mounts.iter().filter(|(_, kind, has)| *kind == "cgroup" && has.contains(&controller));
            found.next().map(|(place, ..)| PathBuf::from(*place))
        };
        if let (Some(cpu), Some(accounting)) = (of("cpu"), of("cpuacct")) {
            return Some(Self { version: Version::One, cpu, accounting, sets: of("cpuset") });
        }
        let (place, ..) = mounts.iter().find(|(_, kind, _)| *kind == "cgroup2")?;
        let all = PathBuf::from(*place);
        Some(Self { version: Version::Two, cpu: all.clone(), accounting: all.clone(), sets: Some(all) })
    }

    /// The group of a container, by its whole id; `None` where it has none that can be seen, or the kernel is older than 5.15.
    pub(super) fn of(&self, container: &str) -> Option<Group> {
        // As the engine makes them by itself, and as systemd makes them for it.
        let places = [format!("docker/{container}"), format!("system.slice/docker-{container}.scope")];
        places.iter().find_map(|place| {
            let cpu = self.cpu.join(place);
            fs::metadata(cpu.join("cpu.idle")).ok()?;
            let used = match self.version {
                Version::One => "cpuacct.usage",
                Version::Two => "cpu.stat",
            };
            let used = File::open(self.accounting.join(place).join(used)).ok()?;
            let set = self.sets.as_ref().map(|sets| sets.join(place));
            let set = set.filter(|set| set.join("cpuset.cpus").exists());
            Some(Group { version: self.version, cpu, used, set })
        })
    }
}

impl Group {
    /// Processor time of all its processes since it was made.
    pub(super) fn used(&self) -> io::Result<Duration> {
        let mut buffer = [0; 256];
        let count = self.used.read_at(&mut buffer, 0)?;
        let text = String::from_utf8_lossy(&buffer[..count]);
        let wrong = || io::Error::from(io::ErrorKind::InvalidData);
        match self.version {
            Version::One => text.trim().parse().map(Duration::from_nanos).map_err(|_| wrong()),
            Version::Two => {
                let used = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
                used.and_then(|used| used.parse().ok()).map(Duration::from_micros).ok_or_else(wrong)
            }
        }
    }

    /// How many processors' time it may use; `None` for all that there are.
    #[expect(clippy::cast_precision_loss, reason = "µs of a span of a second at most")]
    pub(super) fn limit(&self) -> io::Result<Option<f64>> {
        Ok(self.quota()?.map(|(quota, period)| quota as f64 / period as f64))
    }

    /// How many µs it may run in each span of how many; `None` for as long as it likes.
    pub(super) fn quota(&self) -> io::Result<Option<(i64, i64)>> {
        let read = |name| fs::read_to_string(self.cpu.join(name));
        let text = match self.version {
            Version::One => format!("{} {}", read("cpu.cfs_quota_us")?.trim(), read("cpu.cfs_period_us")?),
            Version::Two => read("cpu.max")?,
        };
        let mut numbers = text.split_whitespace().map(|word| word.parse().ok());
        let (quota, period) = (numbers.next().flatten(), numbers.next().flatten());
        Ok(quota.zip(period).filter(|(quota, period)| *quota > 0 && *period > 0))
    }

    /// Has it run so many µs in each span of so many.
    pub(super) fn set_quota(&self, (quota, period): (i64, i64)) -> io::Result<()> {
        let write = |name: &str, text: String| fs::write(self.cpu.join(name), text);
        match self.version {
            Version::One => {
                write("cpu.cfs_period_us", period.to_string())?;
                write("cpu.cfs_quota_us", quota.to_string())
            }
            Version::Two => write("cpu.max", format!("{quota} {period}")),
        }
    }

    /// Whether all others go before it.
    pub(super) fn is_idle(&self) -> bool {
        fs::read_to_string(self.cpu.join("cpu.idle")).is_ok_and(|text| text.trim() == "1")
    }

    /// Has all others go before it.
    pub(super) fn idle(&self) -> io::Result<()> {
        fs::write(self.cpu.join("cpu.idle"), "1")
    }

    /// Has it compete with the others again, with this share: the kernel has forgotten the one before.
    pub(super) fn stop_idling(&self, share: &str) -> io::Result<()> {
        fs::write(self.cpu.join("cpu.idle"), "0")?;
        fs::write(self.cpu.join(self.share_name()), share)
    }

    /// Its share among others, as this version of groups has it.
    pub(super) fn share(&self) -> io::Result<String> {
        fs::read_to_string(self.cpu.join(self.share_name())).map(|text| text.trim().to_owned())
    }

    /// What instances are given. The engine's runtime turns 2 to 262144 of the first version into 1 to 10000 of the second.
    pub(super) fn share_of_instances(&self) -> String {
        match self.version {
            Version::One => INSTANCE_SHARES.to_string(),
            Version::Two => (1 + (INSTANCE_SHARES - 2) * 9999 / 262_142).to_string(),
        }
    }

    /// Whether that is the share of a group that yields, or of one that nobody has given any.
    pub(super) fn is_forgotten(&self, share: &str) -> bool {
        match self.version {
            Version::One => ["3", "1024"].contains(&share),
            Version::Two => ["0", "100"].contains(&share),
        }
    }

    fn share_name(&self) -> &'static str {
        match self.version {
            Version::One => "cpu.shares",
            Version::Two => "cpu.weight",
        }
    }

    /// On which processors it runs, as the kernel writes them; `None` where that is not told.
    pub(super) fn processors(&self) -> Option<String> {
        let text = fs::read_to_string(self.set.as_ref()?.join("cpuset.cpus")).ok()?;
        Some(text.trim().to_owned())
    }

    /// On which processors it could run.
    pub(super) fn all_processors(&self) -> Option<String> {
        let parent = self.set.as_deref().and_then(Path::parent)?;
        let name = match self.version {
            Version::One => "cpuset.cpus",
            Version::Two => "cpuset.cpus.effective",
        };
        Some(fs::read_to_string(parent.join(name)).ok()?.trim().to_owned())
    }

    /// Has it run on these, `0,2-3` for one; on all that there are where the text is empty.
    pub(super) fn set_processors(&self, processors: &str) -> io::Result<()> {
        let Some(set) = &self.set else { return Ok(()) };
        // The older version knows no other way of saying all.
        let all = || self.all_processors().filter(|_| self.version == Version::One);
        let processors = if processors.is_empty() { all().unwrap_or_default() } else { processors.to_owned() };
        fs::write(set.join("cpuset.cpus"), format!("{processors}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_the_first_version_are_a_tree_for_each_resource() {
        let mounts = "25 1 0:23 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            31 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
            32 25 0:27 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n\
            33 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let both = PathBuf::from("/sys/fs/cgroup/cpu,cpuacct");
        let sets = Some(PathBuf::from("/sys/fs/cgroup/cpuset"));
        let wanted = Groups { version: Version::One, cpu: both.clone(), accounting: both, sets };
        assert_eq!(Groups::read(mounts), Some(wanted));
    }

    #[test]
    fn groups_of_the_second_version_are_one_tree() {
        let mounts = "29 22 0:25 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let all = PathBuf::from("/sys/fs/cgroup");
        let wanted = Groups { version: Version::Two, cpu: all.clone(), accounting: all.clone(), sets: Some(all) };
        assert_eq!(Groups::read(mounts), Some(wanted));
        assert_eq!(Groups::read("22 1 0:21 / /proc rw - proc proc rw\n"), None);
    }

    /// Files as a host with the second version has them.
    #[test]
    fn a_group_of_the_second_version_is_read_and_written() {
        let folder = tempfile::tempdir().unwrap();
        let scope = folder.path().join("system.slice/docker-0a1b.scope");
        fs::create_dir_all(&scope).unwrap();
        let write = |name: &str, text: &str| fs::write(scope.join(name), text).unwrap();
        write("cpu.idle", "0\n");
        write("cpu.stat", "usage_usec 1500000\nuser_usec 1\n");
        write("cpu.max", "50000 100000\n");
        write("cpuset.cpus", "\n");
        let all = folder.path().to_owned();
        let groups = Groups { version: Version::Two, cpu: all.clone(), accounting: all.clone(), sets: Some(all) };
        assert!(groups.of("ffff").is_none());
        let group = groups.of("0a1b").unwrap();
        assert_eq!(group.used().unwrap(), Duration::from_millis(1500));
        assert_eq!(group.limit().unwrap(), Some(0.5));
        group.set_quota((2_000, 100_000)).unwrap();
        assert_eq!((group.quota().unwrap(), group.limit().unwrap()), (Some((2_000, 100_000)), Some(0.02)));
        write("cpu.max", "max 100000\n");
        assert_eq!(group.limit().unwrap(), None);
        group.idle().unwrap();
        assert!(group.is_idle());
        group.stop_idling(&group.share_of_instances()).unwrap();
        assert!(!group.is_idle());
        assert_eq!(group.share().unwrap(), "10");
        assert!(!group.is_forgotten("10") && group.is_forgotten("100"));
        group.set_processors("1").unwrap();
        assert_eq!(group.processors().as_deref(), Some("1"));
        group.set_processors("").unwrap();
        assert_eq!(group.processors().as_deref(), Some(""));
    }
}
