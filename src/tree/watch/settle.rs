//! Settling is waiting until a folder has come to rest. Pure: every moment is handed in.
//!
//! Each folder settles by itself, so that a busy one holds up no other:
//! - It is reported once nothing has happened in it for [`QUIET`].
//! - While a file in it is known to be open for writing, not before nothing has happened for [`HOLD`]: a slow writer is
//!   not to be read between two halves, and one that never ends is not to block for ever.
//! - A stream of events without a pause is reported [`LONGEST`] after it began, whatever is open, and then anew.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a folder must be quiet. An editor's save is several events within a few milliseconds.
pub const QUIET: Duration = Duration::from_millis(30);

/// How long a folder must be quiet while a file in it is open for writing.
pub const HOLD: Duration = Duration::from_secs(2);

/// The longest that a folder goes unreported after its first event.
pub const LONGEST: Duration = Duration::from_secs(3);

/// How many folders, and how many files, are remembered by name. Beyond it is said that anything may have changed, so
/// that a checkout of a huge tree needs no memory.
pub const MOST: usize = 4096;

/// Where to look again. Only hints: a look at what they name decides what is so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// The names of entries directly below `apis/` in which something changed.
    pub folders: BTreeSet<String>,
    /// Anything below `apis/` may have changed, or the folder itself was replaced.
    pub everything: bool,
    /// `skep.yaml` changed.
    pub settings: bool,
}

impl Hints {
    /// Whether there is nothing to look at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.folders.is_empty() && !self.everything && !self.settings
    }
}

/// Where something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the entry of that name below `apis/`, or to it.
    Folder(String),
    /// To `skep.yaml`.
    Settings,
    /// It is not known where.
    Anywhere,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A file appeared. It may be a link to one that was complete long ago, so this alone holds nothing back.
    Created,
    /// A file was opened; with what intent is not known. A change only in one that has just appeared.
    Opened,
    /// Its bytes changed: somebody has it open for writing.
    Written,
    /// It is whole, or gone: closed after writing, removed, or renamed; with all that is below it.
    Done,
    /// Something else about it changed.
    Other,
}

/// Events on their way to rest.
#[derive(Debug, Default)]
pub struct Settle {
    folders: HashMap<String, Burst>,
    settings: Option<Burst>,
    anywhere: Option<Burst>,
    /// Files in all bursts.
    files: usize,
}

/// The unreported events of one place.
#[derive(Debug)]
struct Burst {
    first: Instant,
    last: Instant,
    /// Files that appeared, and `true` for those that are open for writing.
    files: HashMap<PathBuf, bool>,
}

impl Burst {
    fn new(now: Instant) -> Self {
        Self { first: now, last: now, files: HashMap::new() }
    }

    fn due(&self) -> Instant {
        let is_held = self.files.values().any(|is_open| *is_open);
        (self.last + if is_held { HOLD } else { QUIET }).min(self.first + LONGEST)
    }
}

impl Settle {
    /// Takes note of an event.
    pub fn note(&mut self, place: Place, path: &Path, change: Change, now: Instant) {
        let is_new = match &place {
            Place::Folder(name) => !self.folders.contains_key(name),
            Place::Settings => self.settings.is_none(),
            Place::Anywhere => self.anywhere.is_none(),
        };
        if is_new && change == Change::Opened {
            return;
        }
        let burst = match place {
            Place::Folder(name) => self.folders.entry(name).or_insert_with(|| Burst::new(now)),
            Place::Settings => self.settings.get_or_insert_with(|| Burst::new(now)),
            Place::Anywhere => self.anywhere.get_or_insert_with(|| Burst::new(now)),
        };
        let before = burst.files.len();
        match change {
            Change::Opened => match burst.files.get_mut(path) {
                Some(is_open) => *is_open = true,
                None => return,
            },
            Change::Created => {
                burst.files.entry(path.to_owned()).or_insert(false);
            }
            Change::Written => {
                burst.files.insert(path.to_owned(), true);
            }
            Change::Done => burst.files.retain(|file, _| !file.starts_with(path)),
            Change::Other => {}
        }
        burst.last = now;
        self.files = self.files + burst.files.len() - before;
        if self.folders.len() > MOST || self.files > MOST {
            self.overflow(now);
        }
    }

    /// Events were lost, or are too many to remember: anything may have changed.
    pub fn overflow(&mut self, now: Instant) {
        self.folders.clear();
        self.anywhere.get_or_insert_with(|| Burst::new(now)).last = now;
        for burst in [&mut self.settings, &mut self.anywhere].into_iter().flatten() {
            burst.files.clear();
        }
        self.files = 0;
    }

    /// When the next place comes to rest, as far as is known; `None` where nothing is waiting. Later events may bring it
    /// forward, though never to less than [`QUIET`] after them.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.folders.values().chain(&self.settings).chain(&self.anywhere).map(Burst::due).min()
    }

    /// Hands out what has come to rest.
    pub fn take(&mut self, now: Instant) -> Hints {
        let mut hints = Hints::default();
        self.folders.retain(|name, burst| {
            let is_due = burst.due() <= now;
            if is_due {
                hints.folders.insert(name.clone());
                self.files -= burst.files.len();
            }
            !is_due
        });
        let mut take = |slot: &mut Option<Burst>| {
            let burst = slot.take_if(|burst| burst.due() <= now);
            self.files -= burst.as_ref().map_or(0, |burst| burst.files.len());
            burst.is_some()
        };
        hints.settings = take(&mut self.settings);
        hints.everything = take(&mut self.anywhere);
        hints
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn folder(name: &str) -> Place {
        Place::Folder(name.to_owned())
    }

    /// A `Settle` and the moment zero.
    fn begin() -> (Settle, Instant) {
        (Settle::default(), Instant::now())
    }

    fn named(names: &[&str]) -> Hints {
        Hints { folders: names.iter().map(ToString::to_string).collect(), ..Hints::default() }
    }

    #[test]
    fn a_save_settles_after_the_quiet_time_from_its_last_event() {
        let (mut settle, zero) = begin();
        let path = Path::new("a/main.py");
        settle.note(folder("a"), path, Change::Written, zero);
        settle.note(folder("a"), path, Change::Done, zero + 5 * MS);
        assert_eq!(settle.due(), Some(zero + 5 * MS + QUIET));
        assert!(settle.take(zero + 4 * MS + QUIET).is_empty());
        assert_eq!(settle.take(zero + 5 * MS + QUIET), named(&["a"]));
        assert!(settle.due().is_none());
    }

    #[test]
    fn a_file_open_for_writing_holds_its_folder_back_and_no_other() {
        let (mut settle, zero) = begin();
        settle.note(folder("a"), Path::new("a/main.py"), Change::Written, zero);
        settle.note(folder("b"), Path::new("b/main.py"), Change::Other, zero);
        assert_eq!(settle.take(zero + QUIET), named(&["b"]));
        assert!(settle.take(zero + HOLD.saturating_sub(MS)).is_empty());
        assert_eq!(settle.take(zero + HOLD), named(&["a"]));
    }

    #[test]
    fn a_new_file_holds_from_when_it_is_opened_and_a_link_does_not() {
        let (mut settle, zero) = begin();
        for name in ["new", "link"] {
            settle.note(folder(name), &Path::new(name).join("f"), Change::Created, zero);
        }
        settle.note(folder("new"), Path::new("new/f"), Change::Opened, zero);
        settle.note(folder("reader"), Path::new("reader/f"), Change::Opened, zero);
        assert_eq!(settle.take(zero + QUIET), named(&["link"]));
        settle.note(folder("new"), Path::new("new/f"), Change::Done, zero + 50 * MS);
        assert_eq!(settle.take(zero + 50 * MS + QUIET), named(&["new"]));
        assert!(settle.due().is_none(), "reading is no change");
    }

    #[test]
    fn what_is_renamed_or_removed_with_its_folder_holds_nothing() {
        let (mut settle, zero) = begin();
        settle.note(folder("a"), Path::new("a/deep/f"), Change::Written, zero);
        settle.note(folder("a"), Path::new("a/deep"), Change::Done, zero);
        assert_eq!(settle.take(zero + QUIET), named(&["a"]));
    }

    #[test]
    fn a_writer_that_never_pauses_is_reported_again_and_again() {
        let (mut settle, zero) = begin();
        let mut reports = 0;
        for n in 0..1000 {
            let now = zero + n * 10 * MS;
            settle.note(folder("a"), Path::new("a/log"), Change::Written, now);
            reports += usize::from(!settle.take(now).is_empty());
        }
        assert_eq!(reports, 3);
    }

    #[test]
    fn more_than_can_be_remembered_is_everything() {
        let (mut settle, zero) = begin();
        for n in 0..=MOST {
            settle.note(folder(&n.to_string()), Path::new("f"), Change::Other, zero);
        }
        assert_eq!(settle.take(zero + QUIET), Hints { everything: true, ..Hints::default() });
        for n in 0..=MOST {
            settle.note(folder("a"), Path::new(&n.to_string()), Change::Created, zero);
        }
        assert_eq!(settle.take(zero + QUIET), Hints { everything: true, ..Hints::default() });
        assert_eq!((settle.due(), settle.files), (None, 0));
    }

    /// What is known of one folder by the plainest means.
    #[derive(Default)]
    struct Model {
        times: Option<(Instant, Instant)>,
        open: BTreeSet<u8>,
    }

    proptest! {
        #[test]
        fn every_change_is_reported_when_at_rest_and_never_before(
            events in prop::collection::vec((0u64..200, 0u8..3, 0u8..2, any::<bool>()), 1..200)
        ) {
            let (mut settle, mut now) = begin();
            let mut models: [Model; 3] = Default::default();
            let check = |settle: &mut Settle, models: &mut [Model; 3], until: Option<Instant>| {
                while let Some(due) = settle.due().filter(|due| until.is_none_or(|until| *due <= until)) {
                    let hints = settle.take(due);
                    prop_assert!(!hints.is_empty() && !hints.everything);
                    for name in &hints.folders {
                        let model = std::mem::take(&mut models[name.parse::<usize>().unwrap()]);
                        let (first, last) = model.times.expect("only what changed is reported");
                        let rest = if model.open.is_empty() { QUIET } else { HOLD };
                        prop_assert_eq!(due, (last + rest).min(first + LONGEST));
                    }
                }
                Ok(())
            };
            for (pause, place, file, is_done) in events {
                now += Duration::from_millis(pause * pause / 20);
                check(&mut settle, &mut models, Some(now))?;
                let change = if is_done { Change::Done } else { Change::Written };
                settle.note(folder(&place.to_string()), Path::new(&file.to_string()), change, now);
                let model = &mut models[usize::from(place)];
                model.times = Some((model.times.map_or(now, |(first, _)| first), now));
                if is_done { model.open.remove(&file); } else { model.open.insert(file); }
            }
            check(&mut settle, &mut models, None)?;
            prop_assert!(models.iter().all(|model| model.times.is_none()), "a change was never reported");
            prop_assert_eq!(settle.files, 0);
        }
    }
}
