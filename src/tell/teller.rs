//! The teller tells, while this daemon reconciles: it takes its turns, sends what waits, and writes down what was told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, Unwanted, send};
use super::commit::{State, Word};
use super::letter::Letter;
use super::news::age;
use super::pace::Pace;
use super::parcel::{Parcel, What, addressee, digest, next, note, to_forge, to_people};
use super::placed::Place;
use super::state::Told;
use super::turn::{Sight, find_commits, find_news, find_words, hear, look, rows};
use crate::admin::Surface;
use crate::metrics::Metrics;
use crate::reconcile::Controller;
use crate::records::{Records, RecordsError};
use crate::settings::Settings;
use crate::tree::Digest;

/// Between two turns.
const EVERY: Duration = Duration::from_millis(500);

/// How often it is looked which commit lies in the tree, where no event says that there is another one.
const PLACED_EVERY: Duration = Duration::from_secs(10);

/// How long a letter may wait for somebody who cannot be told.
const LETTER_FOR: Duration = Duration::from_secs(86_400);

/// How long a forge is left alone with a word on a commit that it does not want.
const UNWANTED_FOR: Duration = Duration::from_secs(900);

/// What is unwanted where a forge takes no deployments of ours.
const DEPLOYMENTS: &str = "deployments";

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
    /// Words that a forge does not want of a commit, or of deployments, and until when it is left alone with them.
    unwanted: HashMap<(String, String), (State, Instant)>,
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
    /// Nothing where this daemon did not reconcile any more before there was any.
    answer: Option<Answer>,
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
            unwanted: HashMap::new(),
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
        let Some((controller, tree)) = self.surface.at_work().filter(|(controller, _)| controller.world().role.leads())
        else {
            *book = None;
            // What this one says last may be older than what the next one says first.
            self.sent.abort_all();
            self.busy.clear();
            return Ok(());
        };
        let (records, pulls, settings) = (Arc::clone(&self.records), self.surface.pulls(), Arc::clone(&self.settings));
        let (records, pulls) = (&*records, pulls.as_deref());
        let sight = Sight { controller: &controller, tree: &tree, records, pulls, settings: &settings };
        if book.is_none() {
            let text = records.told().await?;
            *book =
                Some(Book { told: Told::read(text.as_deref()), written: text.unwrap_or_default(), has_looked: false });
        }
        let Some(Book { told, written, has_looked }) = book else { return Ok(()) };
        self.forget_others(told, places);
        if controller.tree().is_err() {
            // What comes to rest by the next one is not so at once.
            *has_looked = false;
        }
        // Before that, how an API is says nothing: neither of a commit, nor of what happens.
        let is_clear = controller.tree().is_ok() && (*has_looked || look(&sight).await);
        *has_looked = is_clear;
        let has_heard = Box::pin(hear(&mut told.news, &sight, self.begun)).await?;
        let mut known = rows(told, &sight).await?;
        let mut words = BTreeMap::new();
        if is_clear && !places.is_empty() {
            // What is in force already is that, before a later commit takes its place.
            words = find_words(told, places, &sight, &known);
            let is_asked = has_heard || self.asked.is_none_or(|asked| asked.elapsed() >= PLACED_EVERY);
            if is_asked {
                self.asked = Some(Instant::now());
            }
            if Box::pin(find_commits(told, places, &sight, is_asked)).await {
                known = rows(told, &sight).await?;
                words = find_words(told, places, &sight, &known);
            }
        }
        let known = is_clear.then_some(&known);
        Box::pin(find_news(told, &settings.notifications, &sight, known, &self.installation)).await;
        let text = told.text();
        if text != *written {
            // Before anything of it is sent: else it might be sent twice.
            records.put_told(&text).await?;
            *written = text;
        }
        self.send_what_waits(told, places, &words, &controller).await
    }

    /// Forgets what is of nobody that the settings name any more.
    fn forget_others(&self, told: &mut Told, places: &[Place]) {
        let notified = &self.settings.notifications;
        told.reports.retain(|name, _| places.iter().any(|place| place.name == *name));
        told.letters.retain(|letter| notified.iter().any(|to| to.name == letter.to));
        told.troubles.retain(|whom, _| {
            places.iter().any(|place| is_of(&place.name, place.report.environment.is_some(), whom))
                || notified.iter().any(|to| addressee(to) == *whom)
        });
        let now = Timestamp::now();
        let is_young = |letter: &Letter| age(letter.at, now) < LETTER_FOR;
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
        controller: &Arc<Controller>,
    ) -> Result<(), RecordsError> {
        let now = Instant::now();
        // Kept for longer than it is so, since the same again is no news.
        self.unwanted.retain(|_, (_, until)| now < *until + UNWANTED_FOR);
        let mut parcels = Vec::new();
        for place in places {
            let (Some(report), Some(words)) = (told.reports.get(&place.name), words.get(&place.name)) else { continue };
            let known = |id: &String| report.commits.iter().find(|commit| commit.id == *id);
            let is_wanted = |id: &String, word: &Word| {
                let unwanted = self.unwanted.get(&(place.name.clone(), id.clone()));
                unwanted.is_none_or(|(state, until)| *state != word.state || now >= *until)
            };
            let wanted: Vec<_> = words.iter().filter(|(id, word)| is_wanted(id, word)).collect();
            let takes =
                |what: String| self.unwanted.get(&(place.name.clone(), what)).is_none_or(|(_, until)| now >= *until);
            let takes_any = takes(DEPLOYMENTS.to_owned());
            let status = wanted.iter().find_map(|(id, word)| next(place, known(id)?, word, false));
            // The deployment that is begun last is the one that an environment shows.
            let wanted = status.or_else(|| {
                let takes = |id: &str| takes_any && takes(deployment_of(id));
                wanted.iter().rev().find_map(|(id, word)| next(place, known(id)?, word, takes(id)))
            });
            if let Some((what, call)) = wanted.filter(|_| !self.busy.contains(&place.name)) {
                parcels.push((place.name.clone(), to_forge(place, what, &call)));
            }
        }
        for to in &self.settings.notifications {
            let whom = addressee(to);
            if let Some(letter) = told.letters.iter().find(|letter| letter.to == to.name && !self.busy.contains(&whom))
            {
                parcels.push((whom, to_people(to, letter)));
            }
        }
        let pace = |whom: &str, secrets: &Digest| self.paces.get(whom).is_none_or(|pace| pace.is_due(secrets, now));
        parcels.retain(|(whom, parcel)| pace(whom, &digest(parcel)));
        if parcels.is_empty() {
            return Ok(());
        }
        // One that was asleep while another daemon took over tells nothing.
        self.records.check_fence().await?;
        let begun = parcels.iter().filter_map(|(whom, parcel)| match parcel {
            Ok(Parcel { what: What::Begin { commit, .. }, .. }) => Some((whom, commit)),
            _ => None,
        });
        if begun.filter(|(whom, commit)| send_begin(told, whom, commit)).count() > 0 {
            // Before it is sent: whoever goes on asks first whether it was taken.
            self.records.put_told(&told.text()).await?;
        }
        for (whom, parcel) in parcels {
            let secrets = digest(&parcel);
            match parcel {
                Ok(Parcel { what, request, hidden }) => {
                    self.busy.insert(whom.clone());
                    let controller = Arc::clone(controller);
                    self.sent.spawn(async move {
                        // At once where another one may reconcile: it may have the next word already.
                        let answer = tokio::select! {
                            answer = send(request, &hidden) => Some(answer),
                            () = controller.world().role.lost() => None,
                        };
                        Sent { whom, secrets, what, answer }
                    });
                }
                Err(why) => {
                    say(told, &whom, &why);
                    self.paces.entry(whom).or_default().refused(secrets, Instant::now());
                }
            }
        }
        Ok(())
    }

    /// Takes in what came of what was sent.
    fn take(&mut self, told: &mut Told, sent: Sent) {
        let Sent { whom, secrets, what, answer } = sent;
        let Some(answer) = answer else { return };
        let answer = match (&what, answer) {
            // What it says is what counts: without it nobody knows which deployment that is.
            (What::Begin { .. } | What::Find { .. }, Answer::Done(body))
                if serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_err() =>
            {
                Answer::Again { after: None, why: "its answer is no JSON, or has broken off".to_owned() }
            }
            (_, answer) => answer,
        };
        // A forge that takes no deployments of ours may well take statuses.
        let is_deployment = matches!(what, What::Begin { .. } | What::Find { .. } | What::Deployment { .. });
        let subject = if is_deployment { format!("{whom} ({DEPLOYMENTS})") } else { whom.clone() };
        self.metrics.told(
            if matches!(what, What::Letter { .. }) { "notification" } else { "report" },
            match answer {
                Answer::Done(_) => "done",
                Answer::Again { .. } => "again",
                Answer::Refused { .. } => "refused",
            },
        );
        match answer {
            Answer::Done(body) => {
                self.paces.remove(&whom);
                if told.troubles.remove(&subject).is_some() {
                    tracing::info!("{subject} is told again");
                }
                note(told, &whom, what, &body);
            }
            Answer::Again { after, why } => {
                let count = self.paces.entry(whom.clone()).or_default().again(after, Instant::now());
                if count < TOLD_AFTER {
                    tracing::debug!("{subject} is not told: {why}; it is tried again");
                } else if told.fail(&subject, &why, Timestamp::now()) && count == TOLD_AFTER {
                    tracing::warn!("{subject} is not told: {why}; it is tried again, for some time");
                }
            }
            Answer::Refused { of, why } => {
                let until = Instant::now() + UNWANTED_FOR;
                let mut unwanted = |what: String, state: State| {
                    let known = self.unwanted.insert((whom.clone(), what), (state, until));
                    known.is_some_and(|(before, _)| before == state)
                };
                let is_known = match what {
                    // It is about this commit, and the next one may well be wanted.
                    What::Status { commit, word } if of != Unwanted::Key => unwanted(commit, word.state),
                    What::Begin { commit, .. } | What::Find { commit } | What::Deployment { commit, .. } => {
                        let what = if of == Unwanted::Key { DEPLOYMENTS.to_owned() } else { deployment_of(&commit) };
                        unwanted(what, State::Pending)
                    }
                    // It is about this message, and whoever takes none of its form may well take the next.
                    What::Letter { ref id } if of == Unwanted::Words => {
                        tracing::warn!("{whom} does not want a message, which is thrown away: {why}");
                        self.paces.remove(&whom);
                        told.troubles.remove(&subject);
                        told.letters.retain(|letter| letter.id != *id);
                        return;
                    }
                    What::Status { .. } | What::Letter { .. } => {
                        self.paces.entry(whom).or_default().refused(secrets, Instant::now());
                        false
                    }
                };
                if is_known {
                    told.fail(&subject, &why, Timestamp::now());
                } else {
                    say(told, &subject, &why);
                }
            }
        }
    }
}

/// Notes that it is sent that a deployment begins; answers whether that was not known.
fn send_begin(told: &mut Told, whom: &str, commit: &str) -> bool {
    let report = told.reports.get_mut(whom);
    let known = report.and_then(|report| report.commits.iter_mut().find(|known| known.id == commit));
    known.is_some_and(|known| !std::mem::replace(&mut known.has_sent, true))
}

/// What is unwanted where a forge does not take that of one commit.
fn deployment_of(commit: &str) -> String {
    format!("{DEPLOYMENTS} {commit}")
}

/// Whether that is the forge of that name, told of commits or, where it is, of deployments.
fn is_of(name: &str, has_deployments: bool, whom: &str) -> bool {
    whom.strip_prefix(name)
        .is_some_and(|rest| rest.is_empty() || (has_deployments && rest == format!(" ({DEPLOYMENTS})")))
}

/// Says once that somebody cannot be told before somebody mends that.
fn say(told: &mut Told, whom: &str, why: &str) {
    if told.fail(whom, why, Timestamp::now()) {
        tracing::warn!("{whom} is not told: {why}; deploying goes on");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_of_one_forge_and_not_of_each_whose_name_begins_so() {
        let (team, other) = ("forge of source team", "forge of source team-two");
        assert!(is_of(team, false, team) && !is_of(team, true, other));
        let deployments = format!("{team} ({DEPLOYMENTS})");
        assert!(is_of(team, true, &deployments) && !is_of(team, false, &deployments));
    }
}
