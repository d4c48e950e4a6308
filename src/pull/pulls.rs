//! All sources of an installation: each is asked in its time, and at once where somebody hints at something new.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::asked::Asked;
use super::source::Source;
use super::status::{SourceStatus, Trouble, TroubleKind};
use super::turn::{Ground, News, Stop, some};
use crate::git::store::{PLACED, Store, WITHIN};
use crate::records::{NewEvent, Records};
use crate::report::status::age;
use crate::settings::{PullSource, Settings};

/// The shortest time between two turns of a source, however many hints there are.
const BREATH: Duration = Duration::from_millis(500);

/// How often one that does not reconcile looks whether it does by now.
const STANDING_BY: Duration = Duration::from_millis(200);

/// Whether this daemon reconciles.
pub type Leads = Arc<dyn Fn() -> bool + Send + Sync>;

/// All sources of an installation.
#[derive(Debug)]
pub struct Pulls {
    settings: Arc<Settings>,
    sources: Vec<Arc<Source>>,
    placing: Mutex<()>,
}

impl Pulls {
    /// Those that the settings name.
    #[must_use]
    pub fn new(settings: Arc<Settings>) -> Arc<Self> {
        let source = |source: &PullSource| Arc::new(Source::new(source.clone(), &settings.state));
        let sources = settings.pull.iter().map(source).collect();
        Arc::new(Self { settings, sources, placing: Mutex::new(()) })
    }

    /// Each of them.
    #[must_use]
    pub fn sources(&self) -> &[Arc<Source>] {
        &self.sources
    }

    /// The one of that name.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<&Arc<Source>> {
        self.sources.iter().find(|source| source.name() == name)
    }

    /// How each of them is.
    #[must_use]
    pub fn statuses(&self) -> Vec<SourceStatus> {
        self.sources.iter().map(|source| source.status()).collect()
    }

    /// Follows one source until `stop`, while this daemon reconciles.
    pub async fn follow(
        self: Arc<Self>,
        source: Arc<Source>,
        records: Arc<dyn Records>,
        leads: Leads,
        stop: CancellationToken,
    ) {
        loop {
            if leads() {
                tokio::select! { () = stop.cancelled() => return, () = self.turn(&source, &*records, &*leads) => {} }
                tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(BREATH) => {} }
                let pause = jittered(source.settings.every.0).saturating_sub(BREATH);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = source.hint.notified() => {}
                    // Of a clock that nobody sets.
                    () = tokio::time::sleep(pause) => {}
                }
            } else {
                tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(STANDING_BY) => {} }
            }
        }
    }

    /// Serves the pull requests of one source until `stop`, while this daemon reconciles. Beside the source itself, which waits for
    /// none of them, and after each turn of it.
    pub async fn follow_offers(
        self: Arc<Self>,
        source: Arc<Source>,
        records: Arc<dyn Records>,
        leads: Leads,
        stop: CancellationToken,
    ) {
        loop {
            tokio::select! { () = stop.cancelled() => return, () = source.offered.notified() => {} }
            if leads() {
                let settings = self.settings_now();
                tokio::select! { () = stop.cancelled() => return, () = source.preview(&settings, &*records) => {} }
            }
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(BREATH) => {} }
        }
    }

    /// What they allow may have changed since the start; whom they follow changes with the next.
    fn settings_now(&self) -> Settings {
        let now = Settings::load(&self.settings.root, |name| std::env::var(name).ok());
        now.unwrap_or_else(|_| (*self.settings).clone())
    }

    /// Whether another host has reconciled since this one did, in whose last term before now the lease had that number: then what
    /// serves may be younger than the tree here.
    #[must_use]
    pub fn is_behind(&self, before: u64) -> bool {
        let last = std::fs::read_to_string(self.term()).ok().and_then(|text| text.trim().parse::<u64>().ok());
        // A file of records is of this host alone. Before the first term nobody has reconciled, and a host that remembers none
        // has not been in any.
        self.settings.records.url.is_some() && last.unwrap_or(0) != before
    }

    /// Returns once the tree is as all sources are.
    pub async fn caught_up(&self) {
        for source in &self.sources {
            source.is_current.send_replace(false);
            source.look();
        }
        for source in &self.sources {
            // Only a source that is no more would end the waiting without an answer.
            let _ = source.is_current.subscribe().wait_for(|is_current| *is_current).await;
        }
    }

    /// Forgets what was placed of sources that the settings name no more: their folders are anybody's, and one that comes back
    /// begins anew.
    pub async fn forget_others(&self) {
        let Ok(entries) = std::fs::read_dir(self.settings.state.join("pull")) else { return };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name().to_string_lossy().into_owned();
            let store = Store::of_source(&self.settings.state, &name);
            if self.source(&name).is_some() || !store.is_there() {
                continue;
            }
            let forgotten = store.repository().ask(&["update-ref", "-d", PLACED], WITHIN).await;
            match forgotten {
                Ok(_) => drop(std::fs::remove_file(entry.path().join("status.json"))),
                Err(error) => {
                    tracing::warn!("what was placed of source {name}, which is no more, stays known: {error}");
                }
            }
        }
    }

    /// Remembers that this host goes by its tree, in a term with that number.
    pub fn sign(&self, epoch: u64) {
        let path = self.term();
        let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = made.and_then(|()| std::fs::write(&path, epoch.to_string())) {
            tracing::warn!("cannot use {}: {error}", path.display());
        }
    }

    fn term(&self) -> PathBuf {
        self.settings.state.join("pull").join("term")
    }

    async fn turn(&self, source: &Source, records: &dyn Records, leads: &(dyn Fn() -> bool + Send + Sync)) {
        let settings = self.settings_now();
        let ground = Ground { settings: &settings, sources: &self.sources, placing: &self.placing, leads };
        let number = source.begin();
        let turned = source.turn(&ground).await;
        let mut righted = source.put_right(&ground).await;
        if turned.is_err() {
            // Where what it has now is not here, hands' work on what it had is not what is to be told of.
            righted.stop = None;
        }
        // What hands changed here is this host's tree, and its own.
        let is_there = righted.stop.as_ref().is_none_or(|stop| stop.kind == TroubleKind::Edited);
        let lies = turned.as_ref().map_or_else(|stop| stop.lies, |_| true);
        source.is_current.send_replace(lies && is_there);
        let asked = Asked::of(&turned, &righted, source.status());
        tell_of_hands(source, records, &righted.back).await;
        match righted.stop {
            Some(stop) => {
                if matches!(turned, Ok(Some(_))) {
                    self.tell(source, records, turned).await;
                }
                self.tell(source, records, Err(stop)).await;
            }
            None => self.tell(source, records, turned).await,
        }
        source.end(number, Asked { status: source.status(), ..asked });
        source.offered.notify_one();
    }

    /// Notes what came of a turn, and tells of it, where that is news.
    async fn tell(&self, source: &Source, records: &dyn Records, turned: Result<Option<News>, Stop>) {
        let (kind, message) = match turned {
            Ok(Some(news)) => {
                let message = told(source.name(), &news);
                source.set(|status| (status.placed, status.trouble) = (Some(news.placed), None));
                // An API that this source gives up, another may have waited for.
                if !news.difference.gone.is_empty() {
                    for other in self.sources.iter().filter(|other| other.name() != source.name()) {
                        other.look();
                    }
                }
                ("pulled", message)
            }
            Ok(None) => match source.set(|status| status.trouble.take()) {
                Some(Trouble { kind, since, .. }) => {
                    let took = age(since, Timestamp::now());
                    ("pull-recovered", format!("{}: followed again, after {took} of {}", source.name(), kind.as_str()))
                }
                None => return,
            },
            Err(Stop { kind, what, commit, .. }) => {
                // Whoever sends the same delivery again wants it tried again.
                source.forget_deliveries();
                if !source.fail(kind, &what, commit) {
                    tracing::debug!("source {}: {what}", source.name());
                    return;
                }
                let (kind, rest) = (kind.as_str(), kind.meanwhile());
                ("pull-trouble", format!("{}: {kind}: {what}; {rest}", source.name()))
            }
        };
        if kind == "pull-trouble" {
            tracing::warn!("source {message}");
        } else {
            tracing::info!("source {message}");
        }
        note(records, kind, message).await;
    }
}

/// Tells which folders were put back.
async fn tell_of_hands(source: &Source, records: &dyn Records, back: &BTreeSet<String>) {
    if back.is_empty() {
        return;
    }
    let names: Vec<String> = back.iter().cloned().collect();
    let message =
        format!("{}: puts back {}, which somebody changed or removed here by hand", source.name(), some(&names));
    tracing::info!("source {message}");
    note(records, "pulled", message).await;
}

async fn note(records: &dyn Records, kind: &str, message: String) {
    let event = NewEvent { at: Timestamp::now(), api: None, revision: None, kind: kind.to_owned(), message };
    if let Err(error) = records.add_event(&event).await {
        tracing::warn!("this is not among the events: {error}");
    }
}

/// What came, as an event says it.
fn told(name: &str, news: &News) -> String {
    let commit = &news.placed.commit;
    let mut text =
        format!("{name}: {} at {} {}, by {}", news.placed.reference, commit.short(), commit.subject, commit.author);
    for (word, names) in [("changes", &news.difference.changed), ("removes", &news.difference.gone)] {
        if !names.is_empty() {
            let names: Vec<String> = names.iter().cloned().collect();
            text.push_str(&format!("; {word} {}", some(&names)));
        }
    }
    if let Some(signer) = &news.placed.signed_by {
        text.push_str(&format!("; signed by {signer}"));
    }
    if let Some(note) = &news.placed.note {
        text.push_str(&format!("; {note}"));
    }
    text
}

/// A span, up to a tenth longer or shorter.
fn jittered(span: Duration) -> Duration {
    span.mul_f64(0.9 + 0.2 * rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_behind_unless_the_last_term_was_its_own() {
        let state = tempfile::tempdir().unwrap();
        let database = |name: &str| (name == "SKEP_DB_URL").then(|| "postgres://ada@db.example/skep".to_owned());
        let (mut settings, _) = Settings::settle(state.path(), b"", database);
        settings.state = state.path().to_owned();
        assert!(settings.records.url.is_some());
        let pulls = Pulls::new(Arc::new(settings));
        assert!(!pulls.is_behind(0), "nobody has ever reconciled");
        assert!(pulls.is_behind(7), "somebody has, and it was not this host");
        pulls.sign(7);
        assert!(!pulls.is_behind(7));
        assert!(pulls.is_behind(8));
        assert!(pulls.is_behind(0), "the records are others than they were");
    }

    #[test]
    fn no_pause_is_more_than_a_tenth_off() {
        let spans: Vec<Duration> = (0..1000).map(|_| jittered(Duration::from_secs(100))).collect();
        assert!(spans.iter().all(|span| (90..=110).contains(&span.as_secs())));
        assert!(spans.iter().collect::<BTreeSet<_>>().len() > 900);
    }
}
