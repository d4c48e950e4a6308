//! A container that writes more into its log than the engine can take in beside its other work is held back until it does not.
//!
//! The engine copies each line by itself, at some 20 ms of processor time for each MB of short ones: many times what it costs the
//! container to write them, and outside of the container's own limit. So who floods its log takes its neighbours' time, whatever it
//! may use itself. What holds it back is to let it run less, as far as the kernel goes; who floods its log even then is killed, which
//! is a crash like any other, tried again after a growing pause.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::cgroup::Group;
use super::hardening::LOG_FILE;

/// Bytes a second that a log may grow by, which costs the engine a twentieth of a processor at most. With what it writes of each
/// line beside it, that is 7,000 lines of 200 bytes.
const MOST: f64 = 2.0 * 1024.0 * 1024.0;

/// Bytes beyond that that it may have grown by before anything is done: who says much for a moment is let be.
const BURST: f64 = 2.0 * MOST;

/// … and before one is killed that has been left the least of its time.
const BEYOND: f64 = 10.0 * MOST;

/// Looks in a row that see less than half of what is let be before it may run more again.
const CALM_LOOKS: u32 = 4;

/// The least part of its time that it is left.
const LOWEST: f64 = 0.001;

/// The shortest and the longest span, in µs, in which a container that is held back has its time, and the least that the kernel
/// lets it have in one.
const SPANS: (i64, i64) = (100_000, 1_000_000);
const LEAST: i64 = 1_000;

/// What a container may use as a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    /// Whose it is.
    pub(super) api: String,
    /// In µs; of each of such spans that many.
    pub(super) quota: i64,
    pub(super) period: i64,
}

/// A container's log, and how it is held back for it.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    /// The file that was full before it.
    before: PathBuf,
    given: Given,
    /// At the last look.
    seen: Option<Seen>,
    pace: Pace,
    /// Its limit is known to be what it was given, or what we have made of it.
    is_settled: bool,
}

/// What there is of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    length: u64,
    /// When the file before this one was written last, which is when this one was begun.
    begun: Option<SystemTime>,
}

/// How much of its time one has, how much too much it has said, and for how many looks it has said little.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Pace {
    part: f64,
    excess: f64,
    calm: u32,
}

impl Log {
    /// The log of a container of an engine that keeps its own in `folder`.
    pub(super) fn new(folder: &Path, container: &str, given: Given) -> Self {
        let folder = folder.join("containers").join(container);
        let [path, before] = ["", ".1"].map(|end| folder.join(format!("{container}-json.log{end}")));
        Self { path, before, given, seen: None, pace: Pace { part: 1.0, excess: 0.0, calm: 0 }, is_settled: false }
    }

    /// Looks by how much it has grown in so many seconds, and holds its container back, or no longer.
    pub(super) fn look(&mut self, group: &Group, seconds: f64) -> std::io::Result<()> {
        let Some(grown) = self.now().and_then(|now| self.grown(now)) else { return Ok(()) };
        #[expect(clippy::cast_precision_loss, reason = "some GB at most")]
        let grown = grown as f64;
        let after = self.pace.after(grown, seconds);
        let before = std::mem::replace(&mut self.pace, after);
        let (api, is_held) = (&self.given.api, self.pace.part < 1.0);
        if is_held && before.part >= 1.0 {
            let megabytes = grown / seconds / f64::from(1 << 20);
            tracing::warn!(
                api,
                "its log grows by {megabytes:.1} MiB a second, which the engine has to copy: it is held back"
            );
        } else if before.part < 1.0 && !is_held {
            tracing::info!(api, "it floods its log no longer, and has all its processor time again");
        }
        // Written once more where somebody else did, a repair for one; and at first, since a daemon before this one may have been killed.
        if is_held || !self.is_settled || before.part < 1.0 {
            self.is_settled = false;
            self.set(group, self.pace.part)?;
            self.is_settled = true;
        }
        Ok(())
    }

    /// What there is of it now; `None` where it is not there, or changes all the while.
    fn now(&self) -> Option<Seen> {
        let begun = || fs::metadata(&self.before).and_then(|file| file.modified()).ok();
        (0..3).find_map(|_| {
            let (before, length) = (begun(), fs::metadata(&self.path).ok()?.len());
            // Else it may be the length of the one before.
            (begun() == before).then_some(Seen { length, begun: before })
        })
    }

    /// Whether it floods its log in spite of all that was done.
    pub(super) fn is_beyond(&self) -> bool {
        self.pace.excess > BEYOND
    }

    /// Something is done about that; where it comes to nothing, it is found out once more.
    pub(super) fn begin_anew(&mut self) {
        self.pace.excess = BURST;
    }

    /// Gives the container all that it may use.
    pub(super) fn let_be(&self, group: &Group) {
        if self.pace.part < 1.0
            && let Err(error) = self.set(group, 1.0)
        {
            tracing::debug!(api = self.given.api, %error, "cannot give it its processor time back");
        }
    }

    fn set(&self, group: &Group, part: f64) -> std::io::Result<()> {
        let wanted = self.given.part(part);
        if group.quota()? == Some(wanted) { Ok(()) } else { group.set_quota(wanted) }
    }

    /// By how much it has grown since the last look, if there was one; where it began anew more than once meanwhile, by that much at
    /// least.
    fn grown(&mut self, now: Seen) -> Option<u64> {
        let before = self.seen.replace(now)?;
        Some(match now.length.checked_sub(before.length) {
            _ if before.begun != now.begun => LOG_FILE.saturating_sub(before.length) + now.length,
            Some(grown) => grown,
            // Somebody has emptied it.
            None => now.length,
        })
    }
}

impl Given {
    /// The quota and the span of a part of it.
    fn part(&self, part: f64) -> (i64, i64) {
        if part >= 1.0 {
            return (self.quota, self.period);
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "µs of a second, on some processors"
        )]
        let each_second = (self.quota as f64 / self.period as f64 * 1e6 * part) as i64;
        let span = (LEAST * 1_000_000 / each_second.max(1)).clamp(SPANS.0, SPANS.1);
        ((each_second * span / 1_000_000).max(LEAST), span)
    }
}

impl Pace {
    /// After so many seconds in which the log grew by so many bytes.
    fn after(self, grown: f64, seconds: f64) -> Self {
        let (most, rate) = (MOST * seconds, grown / seconds);
        let excess = (self.excess + grown - most).max(0.0);
        if excess > BURST {
            let part = (self.part * (MOST / rate.max(1.0) * 0.8).clamp(0.1, 1.0)).max(LOWEST);
            // As long as there is more to be done about it, what was too much is forgotten.
            return Self { part, excess: if part > LOWEST { BURST } else { excess }, calm: 0 };
        }
        match self.calm + 1 {
            _ if grown > most / 2.0 => Self { excess, calm: 0, ..self },
            calm if calm >= CALM_LOOKS => Self { part: (self.part * 2.0).min(1.0), excess, calm: 0 },
            calm => Self { excess, calm, ..self },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds between two looks.
    const LOOK: f64 = 0.25;

    const GIVEN: Given = Given { api: String::new(), quota: 10_000, period: 20_000 };

    fn after(rates: &[f64]) -> Pace {
        rates.iter().fold(Pace { part: 1.0, excess: 0.0, calm: 0 }, |pace, rate| pace.after(rate * MOST * LOOK, LOOK))
    }

    #[test]
    fn who_floods_its_log_may_run_less_until_it_does_not() {
        assert!(after(&[8.0]).part >= 1.0, "a moment");
        assert!(after(&[8.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 8.0]).part >= 1.0, "a moment now and then");
        let held = after(&[10.0]);
        assert!((0.05..=0.1).contains(&held.part), "{held:?}");
        assert!((after(&[10.0, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8]).part - held.part).abs() < 1e-9, "as much as it may");
        assert!((after(&[10.0, 0.1, 0.1, 0.1, 0.1]).part - 2.0 * held.part).abs() < 1e-9);
        assert!(after(&[[10.0; 2].as_slice(), &[0.0; 60]].concat()).part >= 1.0);
    }

    #[test]
    fn who_floods_its_log_in_spite_of_that_is_beyond_it() {
        let log = |rates: &[f64]| Log { pace: after(rates), ..Log::new(Path::new("/nowhere"), "0a1b", GIVEN) };
        assert!(!log(&[50.0; 3]).is_beyond(), "it has had no time to be held back");
        assert!(log(&[50.0; 6]).is_beyond());
        assert!(!log(&[[50.0; 3].as_slice(), &[0.9; 100]].concat()).is_beyond());
        assert!(log(&[[50.0; 3].as_slice(), &[3.0; 40]].concat()).is_beyond());
    }

    #[test]
    fn a_part_of_what_one_has_is_never_less_than_the_kernel_gives() {
        assert_eq!(GIVEN.part(1.0), (10_000, 20_000));
        assert_eq!(GIVEN.part(0.1), (5_000, 100_000));
        assert_eq!(GIVEN.part(0.01), (LEAST, 200_000));
        assert_eq!(GIVEN.part(LOWEST), (LEAST, 1_000_000));
        assert_eq!(GIVEN.part(0.0), (LEAST, 1_000_000));
    }

    #[test]
    fn a_log_is_followed_from_file_to_file() {
        let mut log = Log::new(Path::new("/nowhere"), "0a1b", GIVEN);
        let mut look = |length, begun: Option<u64>| {
            let begun = begun.map(|seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds));
            log.grown(Seen { length, begun })
        };
        assert_eq!(look(100, None), None);
        assert_eq!(look(300, None), Some(200));
        assert_eq!(look(50, Some(1)), Some(LOG_FILE - 300 + 50));
        assert_eq!(look(50, Some(1)), Some(0));
        assert_eq!(look(60, Some(2)), Some(LOG_FILE - 50 + 60), "however long it is");
        assert_eq!(look(20, Some(2)), Some(20), "emptied by hand");
    }
}
