//! Following the tree: the watcher's hints and a periodic look become trees for the controller.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::controller::Controller;
use crate::previews::{Previews, Reader};
use crate::report::with_causes;
use crate::settings::{self, Settings, SettingsError};
use crate::tree::diagnostic::code;
use crate::tree::scan::{Look, Scanner};
use crate::tree::watch::{Hints, Watcher};
use crate::tree::{ApiId, Diagnostic, TreeError};

/// How long none of a folder's files may have changed before it is read.
const QUIET: Duration = Duration::from_millis(30);

/// How long a read of the tree may take before it counts as one that cannot be read: ten thousand folders take a second.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a folder must be gone before that is handed on. What renames it by removing one and writing another, as git does
/// when it checks out, is not done by then; and nobody waits for a removal.
const GOING: Duration = Duration::from_secs(1);

/// When a folder that was changing while it was read is looked at again.
const AGAIN: Duration = Duration::from_millis(30);

/// Reads the tree and hands it to a controller, whenever something changes and from time to time.
pub struct Follower {
    scanner: Arc<Mutex<Scanner>>,
    previews: Arc<Mutex<Reader>>,
    settings: Arc<Settings>,
    controller: Arc<Controller>,
    /// What is wrong with `skep.yaml` now, where what it said before goes on.
    broken: Vec<Diagnostic>,
    /// Somebody who wants the whole tree looked at now, and to know when that is done.
    asks: mpsc::Receiver<tokio::sync::oneshot::Sender<()>>,
}

/// Asks a follower to look at the whole tree.
#[derive(Debug, Clone)]
pub struct Ask(mpsc::Sender<tokio::sync::oneshot::Sender<()>>);

impl Ask {
    /// Returns when the whole tree has been looked at; at once, and with `false`, where nobody follows it any more.
    pub async fn look(&self) -> bool {
        let (done, wait) = tokio::sync::oneshot::channel();
        self.0.send(done).await.is_ok() && wait.await.is_ok()
    }
}

/// What a watcher says next; nothing for ever where there is none.
async fn next(watcher: &mut Option<Watcher>) -> Hints {
    match watcher {
        Some(watcher) => watcher.next().await,
        None => std::future::pending().await,
    }
}

impl Follower {
    /// A follower of the tree that the settings name, and a way to ask it for a look.
    ///
    /// # Errors
    /// Where no threads can be had to read with.
    pub fn new(settings: Arc<Settings>, controller: Arc<Controller>) -> Result<(Self, Ask), TreeError> {
        let scanner = Scanner::new(&settings)?.with_quiet(QUIET);
        let previews = Arc::new(Mutex::new(Reader::new(&settings, &scanner).with_quiet(QUIET)));
        let scanner = Arc::new(Mutex::new(scanner));
        let (ask, asks) = mpsc::channel(4);
        Ok((Self { scanner, previews, settings, controller, broken: Vec::new(), asks }, Ask(ask)))
    }

    /// Follows the tree until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut watcher, mut beside) = (self.watch(), self.watch_previews());
        // It may have changed since this process began.
        self.reload();
        let mut unsettled = self.read_all().await;
        let mut looks = tokio::time::interval(self.settings.look_every.0);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        looks.tick().await;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = next(&mut beside) => unsettled.extend(self.read_folders(BTreeSet::new()).await),
                hints = next(&mut watcher) => unsettled = self.take(&hints, unsettled).await,
                () = tokio::time::sleep(AGAIN), if !unsettled.is_empty() => unsettled = self.read_folders(unsettled).await,
                Some(done) = self.asks.recv() => {
                    self.reload();
                    unsettled = self.read_settled().await;
                    let _ = done.send(());
                }
                _ = looks.tick() => {
                    watcher = watcher.or_else(|| self.watch());
                    beside = beside.filter(|_| self.settings.previews.is_some()).or_else(|| self.watch_previews());
                    self.reload();
                    unsettled = self.read_all().await;
                }
            }
        }
    }

    fn watch(&self) -> Option<Watcher> {
        Watcher::start(&self.settings.root, &self.settings.apis).inspect_err(|error| tracing::warn!("{error}")).ok()
    }

    /// Watches where previews come and go, which other processes see to.
    fn watch_previews(&self) -> Option<Watcher> {
        self.settings.previews.as_ref()?;
        let previews = Previews::of(&self.settings);
        previews.prepare().inspect_err(|error| tracing::warn!("{error}")).ok()?;
        let folder = previews.folder();
        Watcher::start(folder, folder).inspect_err(|error| tracing::warn!("{error}")).ok()
    }

    async fn take(&mut self, hints: &Hints, unsettled: BTreeSet<ApiId>) -> BTreeSet<ApiId> {
        let is_reloaded = (hints.settings || hints.everything) && self.reload();
        if hints.everything || is_reloaded {
            return self.read_all().await;
        }
        let mut ids: BTreeSet<ApiId> = hints.folders.iter().filter_map(|name| ApiId::new(name).ok()).collect();
        if ids.len() < hints.folders.len() {
            // A name that is no id is a finding of the whole tree.
            return self.read_all().await;
        }
        ids.extend(unsettled);
        self.read_folders(ids).await
    }

    /// Takes in what `skep.yaml` says now, if that is something else. With errors in it, what it said before goes on.
    fn reload(&mut self) -> bool {
        match Settings::load(&self.settings.root, |name| std::env::var(name).ok()) {
            Ok(settings) if settings == *self.settings => !std::mem::take(&mut self.broken).is_empty(),
            Ok(settings) => {
                self.broken.clear();
                self.controller.set_policy(settings.policy.clone());
                self.scanner.lock().unwrap_or_else(PoisonError::into_inner).set(&settings);
                self.previews.lock().unwrap_or_else(PoisonError::into_inner).set(&settings);
                self.settings = Arc::new(settings);
                tracing::info!("skep.yaml has changed: new defaults and policy hold now, the rest from the next start");
                true
            }
            Err(error) => {
                tracing::error!("skep.yaml cannot be used, what it said before goes on: {error}");
                self.broken = match error {
                    SettingsError::Findings(findings) => findings,
                    error @ SettingsError::Io { .. } => {
                        let hint = "see that it is a file which the daemon may read";
                        vec![Diagnostic::error(code::UNREADABLE, settings::FILE, with_causes(&error), hint)]
                    }
                };
                true
            }
        }
    }

    /// Looks until nothing is on the move any more, for a few seconds at the most.
    async fn read_settled(&self) -> BTreeSet<ApiId> {
        let mut unsettled = self.read_all().await;
        for _ in 0..100 {
            if unsettled.is_empty() {
                break;
            }
            tokio::time::sleep(AGAIN).await;
            unsettled = self.read_folders(unsettled).await;
        }
        unsettled
    }

    async fn read_all(&self) -> BTreeSet<ApiId> {
        self.read(Scanner::read).await
    }

    /// Reads these folders of the tree, and the previews that there are.
    async fn read_folders(&self, mut ids: BTreeSet<ApiId>) -> BTreeSet<ApiId> {
        // Those are read with every look; folders of the tree are none, whatever they are called.
        ids.retain(|id| !id.is_preview() || self.settings.previews.is_none());
        self.read(move |scanner| scanner.read_folders(&ids)).await
    }

    /// Reads off the async threads, and hands on what came of it; answers with the folders that were on the move.
    async fn read(
        &self,
        read: impl FnOnce(&mut Scanner) -> Result<Look, TreeError> + Send + 'static,
    ) -> BTreeSet<ApiId> {
        let look = match self.seen(read).await {
            Some(look) if look.changed.iter().any(|id| !id.is_preview() && !look.tree.folders.contains_key(id)) => {
                tokio::time::sleep(GOING).await;
                let later = self.seen(Scanner::read).await;
                later.map(|later| Look { changed: &look.changed | &later.changed, ..later })
            }
            look => look,
        };
        match look {
            Some(look) => self.hand_on(look).await,
            None => BTreeSet::new(),
        }
    }

    /// What a read saw; `None` where there is no tree, which is handed on.
    async fn seen(&self, read: impl FnOnce(&mut Scanner) -> Result<Look, TreeError> + Send + 'static) -> Option<Look> {
        let (scanner, previews) = (Arc::clone(&self.scanner), Arc::clone(&self.previews));
        let mut look = tokio::task::spawn_blocking(move || {
            // A panic while reading leaves the scanner as it was before: it takes in a look as the last thing.
            let mut look = read(&mut scanner.lock().unwrap_or_else(PoisonError::into_inner))?;
            let laid = previews.lock().unwrap_or_else(PoisonError::into_inner).lay_over(&look.tree);
            look.changed.extend(laid.changed);
            look.unsettled.extend(laid.unsettled);
            Ok::<_, TreeError>(Look { tree: laid.tree, ..look })
        });
        let look = match tokio::time::timeout(PATIENCE, &mut look).await {
            Ok(look) => look,
            Err(_) => {
                self.hand_on_trouble(format!("reading the tree has taken {PATIENCE:?} so far; does its disk answer?"))
                    .await;
                // Not read once more beside it: that would hang too.
                look.await
            }
        };
        match look {
            Ok(Ok(look)) => return Some(look),
            Ok(Err(error)) => self.hand_on_trouble(with_causes(&error)).await,
            Err(panic) => tracing::error!("reading the tree failed: {panic}"),
        }
        None
    }

    async fn hand_on(&self, mut look: Look) -> BTreeSet<ApiId> {
        if !self.broken.is_empty() {
            // Whoever asks what is wrong with the tree hears of that first.
            let tree = Arc::make_mut(&mut look.tree);
            tree.findings.splice(..0, self.broken.iter().cloned());
        }
        let was_unreadable = self.controller.tree().is_err();
        self.controller.set_tree(Ok(look.tree));
        // Whether a folder that is gone takes its API with it is decided over all of them together.
        let must_look = was_unreadable || look.changed.iter().any(|id| self.controller.must_look_for(id));
        if must_look && let Err(error) = self.controller.look().await {
            tracing::warn!("cannot look at the world: {error}");
        }
        look.changed.iter().for_each(|id| self.controller.hint(id));
        look.unsettled
    }

    async fn hand_on_trouble(&self, text: String) {
        if self.controller.tree().err().as_ref() != Some(&text) {
            tracing::error!("{text}; what serves goes on serving");
        }
        self.controller.set_tree(Err(text));
        if let Err(error) = self.controller.look().await {
            tracing::warn!("cannot look at the world: {error}");
        }
    }
}
