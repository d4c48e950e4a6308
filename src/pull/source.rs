//! A source at work: one remote repository, where its commits are kept, and how it is.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::{Notify, watch};

use super::asked::Asked;
use super::offers::Offers;
use super::status::{SourceStatus, TroubleKind};
use super::turn::Stop;
use super::webhook::Deliveries;
use crate::git::hands::Known;
use crate::git::remote::Follows;
use crate::git::store::Store;
use crate::settings::{PullSource, SecretPlace};

/// One remote repository that is followed.
#[derive(Debug)]
pub struct Source {
    pub(super) settings: PullSource,
    pub(super) store: Store,
    /// What was fetched last, and where it stands, as long as this process lives.
    pub(super) fetched: Mutex<Option<(String, Follows)>>,
    /// What was fetched in vain, and why: it is not fetched time and again.
    pub(super) refused: Mutex<Option<(String, Stop)>>,
    /// By what somebody last vouched for a commit: where that is as it was, nobody is asked again.
    pub(super) vouched: Mutex<Option<[u8; 32]>>,
    /// How its folders lay in the tree when they were looked at last.
    pub(super) known: Mutex<Known>,
    /// Somebody has said that there may be something new.
    pub(super) hint: Notify,
    pub(super) deliveries: Mutex<Deliveries>,
    /// Something may have become of its pull requests.
    pub(super) offered: Notify,
    /// Held while what is known of those is read and written.
    pub(super) offering: Mutex<()>,
    /// Whether it was said that the secret of its webhooks cannot be used.
    has_told: AtomicBool,
    /// How many turns it has begun to take.
    begun: AtomicU64,
    /// The last of them that has ended, by its number, and what came of it.
    ended: watch::Sender<(u64, Option<Asked>)>,
    /// Whether what it has lies in the tree.
    pub(super) is_current: watch::Sender<bool>,
    state: PathBuf,
    status: Mutex<SourceStatus>,
}

impl Source {
    /// The one that the settings name, as this state folder remembers it.
    #[must_use]
    pub fn new(settings: PullSource, state: &Path) -> Self {
        Self {
            store: Store::of_source(state, &settings.name),
            fetched: Mutex::default(),
            refused: Mutex::default(),
            vouched: Mutex::default(),
            known: Mutex::default(),
            hint: Notify::new(),
            deliveries: Mutex::default(),
            offered: Notify::new(),
            offering: Mutex::default(),
            has_told: AtomicBool::new(false),
            begun: AtomicU64::new(0),
            ended: watch::Sender::new((0, None)),
            is_current: watch::Sender::new(false),
            state: state.to_owned(),
            status: Mutex::new(SourceStatus::remembered(state, &settings)),
            settings,
        }
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Whether it is followed by its tags.
    #[must_use]
    pub fn follows_tags(&self) -> bool {
        matches!(self.settings.follows, crate::settings::Follows::Tags(_))
    }

    /// The state folder.
    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    /// The branch or tag that the placed commit came by; empty where that is not known.
    #[must_use]
    pub fn reference_of(&self, commit: &str) -> String {
        let placed = self.status().placed.filter(|placed| placed.commit.id == commit);
        match (placed, &self.settings.follows) {
            (Some(placed), _) => placed.reference,
            (None, crate::settings::Follows::Branch(branch)) => branch.clone(),
            (None, crate::settings::Follows::Tags(_)) => String::new(),
        }
    }

    /// Takes in that a commit is placed which another daemon of this host has placed, as that one wrote it down. Answers whether
    /// anybody has.
    pub(super) fn recall(&self, commit: &str) -> bool {
        let is_it = |status: &SourceStatus| status.placed.as_ref().is_some_and(|placed| placed.commit.id == commit);
        if is_it(&self.status()) {
            return true;
        }
        let kept = SourceStatus::remembered(&self.state, &self.settings);
        let is_kept = is_it(&kept);
        if is_kept {
            self.set(|status| status.placed = kept.placed);
        }
        is_kept
    }

    /// Notes that what is placed is called otherwise by now, as by another tag.
    pub(super) fn note_name(&self, reference: &str) {
        self.set(|status| {
            if let Some(placed) = status.placed.as_mut().filter(|placed| placed.reference != reference) {
                reference.clone_into(&mut placed.reference);
            }
        });
    }

    /// Where the secret of its webhooks is; without one, none is taken.
    #[must_use]
    pub fn webhook(&self) -> Option<&SecretPlace> {
        self.settings.webhook.as_ref()
    }

    /// Whether its pull requests are served.
    #[must_use]
    pub fn has_previews(&self) -> bool {
        self.settings.previews.is_some()
    }

    /// Notes that the secret of its webhooks cannot be used; answers whether that is news.
    pub fn is_first_fault(&self) -> bool {
        !self.has_told.swap(true, Ordering::Relaxed)
    }

    /// Notes that it can.
    pub fn forget_fault(&self) {
        self.has_told.store(false, Ordering::Relaxed);
    }

    /// Takes the next delivery for new, whichever it is.
    pub(crate) fn forget_deliveries(&self) {
        *lock(&self.deliveries) = Deliveries::default();
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> SourceStatus {
        let refused = Offers::remembered(&self.state, self.name()).unwrap_or_default().refused();
        SourceStatus { refused, ..lock(&self.status).clone() }
    }

    /// Has it asked now rather than in its time.
    pub fn look(&self) {
        self.hint.notify_one();
    }

    /// Has it asked now, and answers with what came of that. A turn that goes on already may have asked before; another one
    /// follows, and counts.
    pub async fn ask(&self) -> Option<Asked> {
        let begun = self.begun.load(Ordering::Acquire);
        let mut ended = self.ended.subscribe();
        self.look();
        // Only a source that is no more would end the waiting without an answer.
        ended.wait_for(|(number, _)| *number > begun).await.ok()?.1.clone()
    }

    /// Notes that a turn begins; answers with its number.
    pub(super) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Tells whoever waits what came of a turn.
    pub(super) fn end(&self, number: u64, asked: Asked) {
        self.ended.send_replace((number, Some(asked)));
    }

    /// Changes how it is, and remembers that.
    pub(super) fn set<T>(&self, change: impl FnOnce(&mut SourceStatus) -> T) -> T {
        let (before, after, answer) = {
            let mut status = lock(&self.status);
            let before = status.clone();
            let answer = change(&mut status);
            (before, status.clone(), answer)
        };
        // When it answered last is not worth a write each time.
        let is_same = before.placed == after.placed && before.trouble == after.trouble;
        if !is_same && let Err(error) = after.remember(&self.state) {
            tracing::warn!("the status of source {} is not kept: {error}", self.name());
        }
        answer
    }

    /// Says that something keeps it from being followed; answers whether that is news.
    pub(super) fn fail(&self, kind: TroubleKind, what: &str, commit: Option<String>) -> bool {
        self.set(|status| {
            let is_news = status.fail(kind, what, Timestamp::now());
            if let Some(trouble) = &mut status.trouble {
                trouble.commit = commit;
            }
            is_news
        })
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
