//! The teller tells, while this daemon reconciles: it takes its turns, sends what waits, and writes down what was told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use jiff::Timestamp;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, send};
use super::commit::{Deployment, State, Tracked, Word};
use super::forge;
use super::letter::Letter;
use super::pace::Pace;
use super::placed::Place;
use super::state::Told;
use super::turn::{Sight, find_commits, find_news, find_words, look};
use crate::admin::Surface;
use crate::git::access::Secret;
use crate::metrics::Metrics;
use crate::records::{Records, RecordsError};
use crate::report::with_causes;
use crate::settings::{Address, Notified, Settings};
use crate::tree::Digest;

/// Between two turns.
const EVERY: Duration = Duration::from_millis(500);

/// How often it is looked which commit was pushed, where no event says that one was.
const PUSHED_EVERY: Duration = Duration::from_secs(10);

/// How long a letter may wait for somebody who cannot be told.
const LETTER_FOR: Duration = Duration::from_secs(86_400);

/// After how many tries in vain somebody hears of it.
const TOLD_AFTER: u32 = 3;

/// Tells others.
pub struct Teller {
    settings: Arc<Settings>,
    surface: Arc<Surface>,
    records: Arc<dyn Records>,
    metrics: Arc<Metrics>,
    installation: String,
    begun: Timestamp,
    paces: HashMap<String, Pace>,
    /// Who is being told something just now.
    busy: BTreeSet<String>,
    asked: Option<Instant>,
    sent: JoinSet<Sent>,
}

/// What was told, in this term.
struct Book {
    told: Told,
    /// As the records have it.
    written: String,
    /// The tree was looked at since the term began.
    has_looked: bool,
}

/// What was sent, and what came of it.
struct Sent {
    whom: String,
    secrets: Digest,
    what: What,
    answer: Answer,
}

/// What is sent.
#[derive(Debug, Clone)]
enum What {
    Status { commit: String, word: Word },
    Begin { commit: String, state: Option<State> },
    Deployment { commit: String, state: State },
    Letter { id: String },
}

/// Something to send, and what nobody may read of it.
struct Parcel {
    what: What,
    request: Request<Bytes>,
    secrets: Vec<String>,
}

impl Teller {
    /// One that tells what the settings say; `None` where they name nobody.
    #[must_use]
    pub fn new(
        settings: Arc<Settings>,
        surface: Arc<Surface>,
        records: Arc<dyn Records>,
        metrics: Arc<Metrics>,
        installation: &str,
    ) -> Option<Self> {
        let reports = settings.pull.iter().any(|source| source.report.is_some())
            || settings.push.as_ref().is_some_and(|push| push.report.is_some());
        (reports || !settings.notifications.is_empty()).then(|| Self {
            settings,
            surface,
            records,
            metrics,
            // Enough to tell one from another, and as containers' names have it.
            installation: installation.chars().take(6).collect(),
            begun: Timestamp::now(),
            paces: HashMap::new(),
            busy: BTreeSet::new(),
            asked: None,
            sent: JoinSet::new(),
        })
    }

    /// Tells until `stop`. What is on its way then is told again by whoever reconciles next.
    pub async fn run(mut self, stop: CancellationToken) {
        let places = Place::all(&self.settings, self.surface.pulls().as_deref());
        let mut book: Option<Book> = None;
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let sent = tokio::select! {
                () = stop.cancelled() => return,
                Some(sent) = self.sent.join_next() => sent.ok(),
                _ = ticks.tick() => None,
            };
            if let Some(sent) = sent {
                self.busy.remove(&sent.whom);
                if let Some(book) = &mut book {
                    self.take(&mut book.told, sent);
                }
            }
            let turn = self.turn(&mut book, &places);
            match tokio::select! { () = stop.cancelled() => return, turned = turn => turned } {
                Ok(()) => {}
                Err(RecordsError::Fenced) => book = None,
                Err(error) => tracing::debug!("nobody is told anything for now: {error}"),
            }
        }
    }

    async fn turn(&mut self, book: &mut Option<Book>, places: &[Place]) -> Result<(), RecordsError> {
        let Some((controller, tree)) = self.surface.at_work() else {
            *book = None;
            return Ok(());
        };
        let (records, pulls) = (Arc::clone(&self.records), self.surface.pulls());
        let sight = Sight { controller: &controller, tree: &tree, records: &*records, pulls: pulls.as_deref() };
        if book.is_none() {
            let text = records.told().await?;
            *book =
                Some(Book { told: Told::read(text.as_deref()), written: text.unwrap_or_default(), has_looked: false });
        }
        let Some(Book { told, written, has_looked }) = book else { return Ok(()) };
        self.forget_others(told, places);
        let now = (self.installation.as_str(), self.begun);
        let has_heard = Box::pin(find_news(told, &self.settings.notifications, &sight, now)).await?;
        let mut words = BTreeMap::new();
        // Before the tree can be gone by, how an API is says nothing of a commit.
        if !places.is_empty() && controller.tree().is_ok() {
            if !*has_looked {
                look(&tree).await;
                *has_looked = true;
            }
            let is_asked = has_heard || self.asked.is_none_or(|asked| asked.elapsed() >= PUSHED_EVERY);
            if is_asked {
                self.asked = Some(Instant::now());
            }
            Box::pin(find_commits(told, places, &sight, is_asked)).await;
            words = find_words(told, places, &sight).await?;
        }
        let text = told.text();
        if text != *written {
            // Before anything of it is sent: else it might be sent twice.
            records.put_told(&text).await?;
            *written = text;
        }
        self.send_what_waits(told, places, &words).await
    }

    /// Forgets what is of nobody that the settings name any more.
    fn forget_others(&self, told: &mut Told, places: &[Place]) {
        let notified = &self.settings.notifications;
        told.reports.retain(|name, _| places.iter().any(|place| place.name == *name));
        told.letters.retain(|letter| notified.iter().any(|to| to.name == letter.to));
        told.troubles.retain(|whom, _| {
            places.iter().any(|place| place.name == *whom) || notified.iter().any(|to| addressee(to) == *whom)
        });
        let now = Timestamp::now();
        let is_young = |letter: &Letter| now.duration_since(letter.at).unsigned_abs() < LETTER_FOR;
        let old = told.letters.iter().filter(|letter| !is_young(letter)).count();
        if old > 0 {
            tracing::warn!(
                "{old} messages to those who want to know what happens were thrown away: nobody has taken them in a day"
            );
            told.letters.retain(is_young);
        }
    }

    async fn send_what_waits(
        &mut self,
        told: &mut Told,
        places: &[Place],
        words: &BTreeMap<String, Vec<(String, Word)>>,
    ) -> Result<(), RecordsError> {
        let mut parcels = Vec::new();
        for place in places {
            let (Some(report), Some(words)) = (told.reports.get(&place.name), words.get(&place.name)) else { continue };
            let known = |id: &String| report.commits.iter().find(|commit| commit.id == *id);
            let wanted = words.iter().find_map(|(id, word)| next(place, known(id)?, word));
            if let Some((what, call)) = wanted.filter(|_| !self.busy.contains(&place.name)) {
                let token = Secret::read(&place.report.token).map_err(|error| error.to_string());
                let parcel = token.and_then(|token| {
                    let token = String::from_utf8_lossy(token.as_bytes()).into_owned();
                    let request = call.request(&place.report, &token).map_err(|error| with_causes(&error))?;
                    Ok(Parcel { what, request, secrets: vec![token] })
                });
                parcels.push((place.name.clone(), parcel));
            }
        }
        for to in &self.settings.notifications {
            let whom = addressee(to);
            if let Some(letter) = told.letters.iter().find(|letter| letter.to == to.name && !self.busy.contains(&whom))
            {
                parcels.push((whom, parcel(to, letter)));
            }
        }
        let now = Instant::now();
        let pace = |whom: &str, secrets: &Digest| self.paces.get(whom).is_none_or(|pace| pace.is_due(secrets, now));
        parcels.retain(|(whom, parcel)| pace(whom, &digest(parcel)));
        if parcels.is_empty() {
            return Ok(());
        }
        // One that was asleep while another daemon took over tells nothing.
        self.records.check_fence().await?;
        for (whom, parcel) in parcels {
            let secrets = digest(&parcel);
            match parcel {
                Ok(Parcel { what, request, secrets: hidden }) => {
                    self.busy.insert(whom.clone());
                    self.sent.spawn(async move {
                        let answer = send(request, &hidden).await;
                        Sent { whom, secrets, what, answer }
                    });
                }
                Err(why) => self.cannot(told, &whom, why, secrets),
            }
        }
        Ok(())
    }

    /// Takes in what came of what was sent.
    fn take(&mut self, told: &mut Told, sent: Sent) {
        let Sent { whom, secrets, what, answer } = sent;
        self.metrics.told(
            if matches!(what, What::Letter { .. }) { "notification" } else { "report" },
            match answer {
                Answer::Done(_) => "done",
                Answer::Again { .. } => "again",
                Answer::Refused(_) => "refused",
            },
        );
        match answer {
            Answer::Done(body) => {
                self.paces.remove(&whom);
                if told.troubles.remove(&whom).is_some() {
                    tracing::info!("{whom} is told again");
                }
                note(told, &whom, what, &body);
            }
            Answer::Again { after, why } => {
                let count = self.paces.entry(whom.clone()).or_default().again(after, Instant::now());
                if count < TOLD_AFTER {
                    tracing::debug!("{whom} is not told: {why}; it is tried again");
                } else if told.fail(&whom, why.clone(), Timestamp::now()) && count == TOLD_AFTER {
                    tracing::warn!("{whom} is not told: {why}; it is tried again, for some time");
                }
            }
            Answer::Refused(why) => self.cannot(told, &whom, why, secrets),
        }
    }

    /// Notes that somebody cannot be told before somebody mends that.
    fn cannot(&mut self, told: &mut Told, whom: &str, why: String, secrets: Digest) {
        self.paces.entry(whom.to_owned()).or_default().refused(secrets, Instant::now());
        if told.fail(whom, why.clone(), Timestamp::now()) {
            tracing::warn!("{whom} is not told: {why}; deploying goes on");
        }
    }
}

/// Who is told, in what people read.
fn addressee(to: &Notified) -> String {
    format!("notification {}", to.name)
}

/// What the next thing is that a forge is to be told of a commit.
fn next(place: &Place, commit: &Tracked, word: &Word) -> Option<(What, forge::Call)> {
    let (report, id) = (&place.report, commit.id.clone());
    if commit.told.as_ref() != Some(word) {
        let call = forge::status(report, commit, word);
        return Some((What::Status { commit: id, word: word.clone() }, call));
    }
    let environment = report.environment.as_deref().filter(|_| commit.has_deployment())?;
    match &commit.deployment {
        None => {
            let state = forge::begins_with_state(report.forge).then_some(word.state);
            Some((What::Begin { commit: id, state }, forge::begin(report, environment, commit, word)))
        }
        Some(Deployment { told, .. }) if *told == Some(word.state) => None,
        Some(Deployment { id: number, .. }) => {
            let call = forge::deployment(report, environment, *number, word);
            Some((What::Deployment { commit: id, state: word.state }, call))
        }
    }
}

/// A letter, ready to be sent.
fn parcel(to: &Notified, letter: &Letter) -> Result<Parcel, String> {
    let read = |place| Secret::read(place).map_err(|error| error.to_string());
    let text = |secret: &Secret| String::from_utf8_lossy(secret.as_bytes()).into_owned();
    let (url, mut secrets) = match &to.url {
        Address::Plain(url) => (url.clone(), Vec::new()),
        Address::Secret(place) => {
            let url = text(&read(place)?);
            (url.clone(), vec![url])
        }
    };
    let secret = to.secret.as_ref().map(crate::pull::webhook::secret).transpose().map_err(|error| error.to_string())?;
    secrets.extend(secret.as_ref().map(text));
    // What is wrong with an address that is a secret is not said: it would be repeated.
    let is_address = crate::settings::is_web(&url);
    let request = letter.request(&url, secret.as_ref().map(Secret::as_bytes), Timestamp::now());
    let request = request.ok().filter(|_| is_address).ok_or("its address is none, or holds a password")?;
    Ok(Parcel { what: What::Letter { id: letter.id.clone() }, request, secrets })
}

/// By which secrets somebody is told, without saying them.
fn digest(parcel: &Result<Parcel, String>) -> Digest {
    Digest::of(parcel.as_ref().map_or_else(|why| why.clone(), |parcel| parcel.secrets.join("\n")).as_bytes())
}

/// Notes that something was told.
fn note(told: &mut Told, whom: &str, what: What, body: &Bytes) {
    let known = match &what {
        What::Letter { id } => return told.letters.retain(|letter| letter.id != *id),
        What::Status { commit, .. } | What::Begin { commit, .. } | What::Deployment { commit, .. } => {
            let report = told.reports.get_mut(whom);
            report.and_then(|report| report.commits.iter_mut().find(|known| known.id == *commit))
        }
    };
    let Some(known) = known else { return };
    match what {
        What::Status { word, .. } => known.told = Some(word),
        What::Begin { state, .. } => {
            let number = serde_json::from_slice::<Value>(body).ok().and_then(|answer| answer.get("id")?.as_u64());
            known.deployment = Some(Deployment { id: number.unwrap_or_default(), told: state });
        }
        What::Deployment { state, .. } => {
            if let Some(deployment) = &mut known.deployment {
                deployment.told = Some(state);
            }
        }
        What::Letter { .. } => {}
    }
}
