//! The watcher says where in the tree something may have changed, soon after it has come to rest.
//!
//! All that it says is a hint. It may say too much; what it misses the periodic look finds.

mod settle;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RenameMode};
use notify::{Config, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::sleep_until;

use self::settle::{Change, Place, Settle};
pub use self::settle::{HOLD, Hints, LONGEST, QUIET};

/// How often is looked whether the watched folders are still the same ones: a `mv` further up, or a link that now
/// points elsewhere, makes no event.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// `EMFILE` on Linux: the system's limit of inotify instances.
const TOO_MANY_OPEN: i32 = 24;

/// Watches the folder of API folders and `skep.yaml`.
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
    seat: Arc<Mutex<Seat>>,
    next_check: Instant,
}

/// Why a folder cannot be watched. The periodic look goes on without.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// It is not there, or is no folder.
    #[error("cannot watch {path}: {cause}")]
    Missing {
        /// As it was given.
        path: String,
        /// What the system said.
        cause: String,
    },
    /// The system lets one user watch so many folders, and no more.
    #[error(
        "cannot watch all of {path}: the system's limit of watched folders is reached; changes are found by the \
         periodic look meanwhile; to have them found at once: sysctl fs.inotify.max_user_watches=1048576"
    )]
    TooManyFolders {
        /// As it was given.
        path: String,
    },
    /// The system lets one user have so many watchers, and no more.
    #[error(
        "cannot watch {path}: the system's limit of watchers, or of open files, is reached; changes are found by the \
         periodic look meanwhile; to have them found at once: sysctl fs.inotify.max_user_instances=1024"
    )]
    TooManyWatchers {
        /// As it was given.
        path: String,
    },
    /// The system refused for another reason.
    #[error("cannot watch {path}: {cause}; changes are found by the periodic look meanwhile")]
    Refused {
        /// As it was given.
        path: String,
        /// What the system said.
        cause: String,
    },
}

impl Watcher {
    /// Begins to watch `apis`, with all that is below it, and `skep.yaml` in `root`. Blocks while it walks the folders:
    /// about 100 ms for 10,000.
    ///
    /// # Errors
    /// Where one of the folders is missing or the system's limits are reached.
    pub fn start(root: &Path, apis: &Path) -> Result<Self, WatchError> {
        let shared = Arc::new(Shared::default());
        let handler = Arc::clone(&shared);
        let on_event = move |event: notify::Result<notify::Event>| handler.note(event);
        // Links are findings of the tree, not ways out of it.
        let notify = RecommendedWatcher::new(on_event, Config::default().with_follow_symlinks(false))
            .map_err(|e| WatchError::from_notify(apis, &e))?;
        let mut seat = Seat {
            notify,
            root: Watched::new(root, RecursiveMode::NonRecursive),
            apis: Watched::new(apis, RecursiveMode::Recursive),
            said: None,
        };
        seat.sit(&shared)?;
        Ok(Self { shared, seat: Arc::new(Mutex::new(seat)), next_check: Instant::now() + CHECK_EVERY })
    }

    /// Waits until something has come to rest, and says where; never empty. May be dropped and called again without
    /// losing a hint.
    pub async fn next(&mut self) -> Hints {
        loop {
            let now = Instant::now();
            let due = {
                let mut state = self.shared.state();
                let hints = state.settle.take(now);
                if !hints.is_empty() {
                    return hints;
                }
                state.settle.due()
            };
            // No event can come to rest sooner than the quiet time from now, so until then none need wake us.
            let wake = due.map_or(self.next_check, |due| due.min(now + QUIET)).min(self.next_check);
            tokio::select! {
                () = sleep_until(wake.into()) => {}
                () = self.shared.noted.notified(), if due.is_none() => {}
                () = self.shared.moved.notified() => self.next_check = now,
            }
            if Instant::now() >= self.next_check {
                let (shared, seat) = (Arc::clone(&self.shared), Arc::clone(&self.seat));
                // Off the async threads, since it may walk the whole tree. Goes on where we are dropped.
                let check = tokio::task::spawn_blocking(move || lock(&seat).check(&shared));
                self.next_check = Instant::now() + CHECK_EVERY;
                if check.await.is_err() {
                    self.shared.state().settle.overflow(Instant::now());
                }
            }
        }
    }
}

/// What the thread that reads events, and the one that waits for them, have in common.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is an event.
    noted: Notify,
    /// See [`State::is_lost`].
    moved: Notify,
}

#[derive(Debug, Default)]
struct State {
    settle: Settle,
    /// The folders as events name them: without links on the way.
    root: PathBuf,
    apis: PathBuf,
    /// A watched folder was itself removed, renamed or made, and with that the system's watch on it is gone.
    is_lost: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn note(&self, event: notify::Result<notify::Event>) {
        let now = Instant::now();
        let mut state = self.state();
        match event {
            Err(error) => {
                let error = WatchError::from_notify(&state.apis, &error);
                tracing::warn!("{error}");
                state.settle.overflow(now);
            }
            Ok(event) if event.need_rescan() => state.settle.overflow(now),
            Ok(event) => {
                let Some(change) = change(event.kind) else { return };
                for path in &event.paths {
                    if state.is_move(path, event.kind) {
                        state.is_lost = true;
                        self.moved.notify_one();
                    }
                    let Some(place) = state.place(path) else { continue };
                    // Editors keep their own hidden files open for as long as they run.
                    let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                    let change = if is_hidden && change != Change::Done { Change::Other } else { change };
                    state.settle.note(place, path, change, now);
                }
            }
        }
        drop(state);
        self.noted.notify_one();
    }
}

impl State {
    fn is_move(&self, path: &Path, kind: EventKind) -> bool {
        let is_ours = path == self.apis || path == self.root;
        is_ours && matches!(kind, EventKind::Create(_) | EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)))
    }

    fn place(&self, path: &Path) -> Option<Place> {
        if let Ok(below) = path.strip_prefix(&self.apis) {
            // A name that is no text is no id either; the tree reports it once it is read.
            return Some(match below.components().next().map(|first| first.as_os_str().to_str()) {
                Some(Some(name)) => Place::Folder(name.to_owned()),
                Some(None) | None => Place::Anywhere,
            });
        }
        (path.parent() == Some(&self.root) && path.file_name() == Some("skep.yaml".as_ref())).then_some(Place::Settings)
    }
}

/// What an event says happened to its paths; `None` where it says nothing of interest.
fn change(kind: EventKind) -> Option<Change> {
    Some(match kind {
        EventKind::Access(AccessKind::Open(_)) => Change::Opened,
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Change::Done,
        // `Both` repeats a `From` and a `To`.
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return None,
        EventKind::Create(CreateKind::File) => Change::Created,
        EventKind::Modify(ModifyKind::Data(_)) => Change::Written,
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => Change::Done,
        EventKind::Any | EventKind::Other | EventKind::Create(_) | EventKind::Modify(_) => Change::Other,
    })
}

/// The system's watcher, and what it sits on.
#[derive(Debug)]
struct Seat {
    notify: RecommendedWatcher,
    root: Watched,
    apis: Watched,
    /// The trouble that was last told, so that it is told once.
    said: Option<String>,
}

/// A folder that is to be watched.
#[derive(Debug)]
struct Watched {
    path: PathBuf,
    mode: RecursiveMode,
    /// Which folder the path named when it was last watched.
    identity: Option<Identity>,
}

/// Which folder it is. Numbers are used again for new folders; the time of making tells those apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    place: PathBuf,
    number: (u64, u64),
    made: Option<SystemTime>,
}

impl Watched {
    fn new(path: &Path, mode: RecursiveMode) -> Self {
        Self { path: path.to_owned(), mode, identity: None }
    }

    fn look(&self) -> Result<Identity, WatchError> {
        let missing = |error: std::io::Error| {
            let path = self.path.display().to_string();
            WatchError::Missing { path, cause: error.to_string() }
        };
        let place = fs::canonicalize(&self.path).map_err(missing)?;
        let metadata = fs::metadata(&place).map_err(missing)?;
        if !metadata.is_dir() {
            return Err(missing(std::io::ErrorKind::NotADirectory.into()));
        }
        Ok(Identity { place, number: (metadata.dev(), metadata.ino()), made: metadata.created().ok() })
    }
}

impl Seat {
    /// Watches whatever the paths name now, where that is not what is watched already; `true` where it changed.
    fn sit(&mut self, shared: &Shared) -> Result<bool, WatchError> {
        // One that was renamed away and back is the same folder, and no longer watched.
        let mut has_moved = std::mem::take(&mut shared.state().is_lost);
        if has_moved {
            self.leave();
        }
        for watched in [&mut self.root, &mut self.apis] {
            let now = watched.look();
            if now.as_ref().ok() == watched.identity.as_ref() && watched.identity.is_some() {
                continue;
            }
            has_moved = true;
            if let Some(before) = watched.identity.take() {
                let _ = self.notify.unwatch(&before.place);
            }
            let now = now?;
            let slot = |state: &mut State| match watched.mode {
                RecursiveMode::NonRecursive => state.root.clone_from(&now.place),
                RecursiveMode::Recursive => state.apis.clone_from(&now.place),
            };
            slot(&mut shared.state());
            self.notify.watch(&now.place, watched.mode).map_err(|e| WatchError::from_notify(&watched.path, &e))?;
            watched.identity = Some(now);
        }
        Ok(has_moved)
    }

    fn leave(&mut self) {
        for watched in [&mut self.root, &mut self.apis] {
            if let Some(before) = watched.identity.take() {
                // It may be gone by itself.
                let _ = self.notify.unwatch(&before.place);
            }
        }
    }

    /// Follows folders that were replaced, and says that everything may have changed where one was.
    fn check(&mut self, shared: &Shared) {
        let outcome = self.sit(shared);
        let said = outcome.as_ref().err().map(ToString::to_string);
        let is_news = said != self.said;
        if is_news && let Some(trouble) = &said {
            tracing::warn!("{trouble}");
        }
        self.said = said;
        if is_news || matches!(outcome, Ok(true)) {
            let now = Instant::now();
            let mut state = shared.state();
            state.settle.overflow(now);
            state.settle.note(Place::Settings, Path::new(""), Change::Other, now);
        }
    }
}

impl WatchError {
    fn from_notify(path: &Path, error: &notify::Error) -> Self {
        let path = path.display().to_string();
        match &error.kind {
            notify::ErrorKind::MaxFilesWatch => Self::TooManyFolders { path },
            notify::ErrorKind::Io(io) if io.raw_os_error() == Some(TOO_MANY_OPEN) => Self::TooManyWatchers { path },
            notify::ErrorKind::Io(io) => Self::Refused { path, cause: io.to_string() },
            _ => Self::Refused { path, cause: error.to_string() },
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
