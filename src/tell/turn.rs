//! A turn of telling looks at what is so now, and takes in what of it is to be told. It sends nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::commit::{Report, Standing, Word};
use super::letter::write;
use super::news::{Failing, INSTALLATION, News, SOURCE, View, age};
use super::placed::Place;
use super::standing::{standing, view};
use super::state::Told;
use super::without_folders;
use crate::git::Commit;
use crate::git::commit::Last;
use crate::pull::Pulls;
use crate::reconcile::Controller;
use crate::reconcile::follow::Ask;
use crate::records::{Records, RecordsError, Row};
use crate::settings::{Notified, Settings};
use crate::tree::ApiId;

/// How many events are read at once.
const AT_ONCE: usize = 1000;

/// How long a look at the whole tree is waited for.
const LOOK_WITHIN: Duration = Duration::from_secs(60);

/// For how long a commit may wait for a forge that cannot be told of it, or be left as somebody's word leaves it.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(7 * 86_400);

/// What there is to look at.
pub(super) struct Sight<'a> {
    pub controller: &'a Arc<Controller>,
    pub tree: &'a Ask,
    pub records: &'a dyn Records,
    pub pulls: Option<&'a Pulls>,
    pub settings: &'a Settings,
}

impl Sight<'_> {
    /// A text for a forge, whose statuses strangers may read: where this host has its folders is nothing of theirs.
    fn for_forge(&self, text: &str) -> String {
        let Settings { state, apis, root, .. } = self.settings;
        without_folders(text, &[state, root, apis.parent().unwrap_or(root)])
    }
}

/// Has the whole tree looked at; answers whether that is done, and how all is now can be gone by.
pub(super) async fn look(sight: &Sight<'_>) -> bool {
    let has_looked = tokio::time::timeout(LOOK_WITHIN, sight.tree.look()).await;
    has_looked == Ok(true) && sight.controller.tree().is_ok() && sight.controller.world().role.leads()
}

/// Takes in which commits were placed, and which were not let in. Which lies in the tree costs a process of
/// git to know, and is looked for where `is_asked`. Answers whether there is another one.
pub(super) async fn find_commits(told: &mut Told, places: &[Place], sight: &Sight<'_>, is_asked: bool) -> bool {
    let mut has_found = false;
    for place in places {
        let report = told.reports.entry(place.name.clone()).or_default();
        if is_asked {
            has_found |= find_placed(report, place, sight).await;
        }
        if let Some((commit, why)) = place.refused() {
            has_found |= report.refuse(&commit, &sight.for_forge(&why), Timestamp::now());
        }
    }
    has_found
}

/// Takes in each commit that was placed since the last that is known, in their order. Answers whether there is one.
async fn find_placed(report: &mut Report, place: &Place, sight: &Sight<'_>) -> bool {
    let placed = match place.placed_since(report.seen.as_deref()).await {
        Ok(placed) => placed,
        Err(error) => {
            tracing::debug!("what was placed of {} is not known: {error}", place.name);
            return false;
        }
    };
    let mut known = Vec::new();
    for (commit, reference) in placed {
        let before = known.last().map(|(before, _, _): &(String, _, _)| before.as_str()).or(report.seen.as_deref());
        match place.difference(before, &commit).await {
            Ok(difference) => known.push((commit, reference, difference)),
            Err(error) => tracing::debug!("what {commit} changes is not known: {error}"),
        }
    }
    if known.is_empty() {
        return false;
    }
    // From then on, how their APIs are is how they are with the last of them.
    if !look(sight).await {
        tracing::debug!("{} waits for a look at the tree", place.name);
        return false;
    }
    for (commit, reference, (changed, gone)) in known {
        report.place((&commit, &reference), &changed, &gone, Timestamp::now());
    }
    true
}

/// The rows of all APIs, where there is something to judge by them.
pub(super) async fn rows(told: &Told, sight: &Sight<'_>) -> Result<BTreeMap<ApiId, Row>, RecordsError> {
    let mut commits = told.reports.values().flat_map(|report| &report.commits);
    let are_needed = told.news.needs_rows() || commits.any(|commit| !commit.is_over());
    if are_needed { sight.records.each().await } else { Ok(BTreeMap::new()) }
}

/// What there is to tell of each commit now, the newest first. Those of which there is nothing more to tell are forgotten.
pub(super) fn find_words(
    told: &mut Told,
    places: &[Place],
    sight: &Sight<'_>,
    rows: &BTreeMap<ApiId, Row>,
) -> BTreeMap<String, Vec<(String, Word)>> {
    let of = |id: &ApiId| {
        let standing = match rows.get(id) {
            Some(Ok(record)) => standing(sight.controller, id, Some(record)),
            Some(Err(_)) => Standing::UnderWay,
            None => standing(sight.controller, id, None),
        };
        match standing {
            Standing::Failed(why) => Standing::Failed(sight.for_forge(&why)),
            Standing::Held(why) => Standing::Held(sight.for_forge(&why)),
            other => other,
        }
    };
    let now = Timestamp::now();
    let mut words = BTreeMap::new();
    for place in places {
        let Some(report) = told.reports.get_mut(&place.name) else { continue };
        let has_deployments = place.report.environment.is_some();
        let mut all = Vec::new();
        report.commits.retain_mut(|commit| {
            let word = commit.word(of);
            let is_old = age(commit.at, now) > FORGOTTEN_AFTER;
            if is_old && commit.told.as_ref() != Some(&word) {
                tracing::warn!(
                    "{} was not told what became of {}: nobody has taken it in a week",
                    place.name,
                    commit.id
                );
            }
            let is_kept = !is_old && !commit.is_done(&word, has_deployments);
            if is_kept {
                all.push((commit.id.clone(), word));
            }
            is_kept
        });
        all.reverse();
        words.insert(place.name.clone(), all);
    }
    words
}

/// Takes in what has happened since. Answers whether anything has.
pub(super) async fn hear(news: &mut News, sight: &Sight<'_>, begun: Timestamp) -> Result<bool, RecordsError> {
    if news.heard.is_none() {
        // What happened before anybody listened is no news.
        let last = sight.records.last_events(None, AT_ONCE).await?;
        let before = last.iter().rfind(|event| event.event.at < begun).map(|event| event.number);
        let first = last.first().map_or(0, |event| event.number.saturating_sub(1));
        news.heard = Some(before.unwrap_or(first));
    }
    let mut has_heard = false;
    loop {
        let events = sight.records.events(None, news.heard.unwrap_or_default(), AT_ONCE).await?;
        has_heard |= !events.is_empty();
        for event in &events {
            news.hear(event, Timestamp::now());
        }
        if events.len() < AT_ONCE {
            return Ok(has_heard);
        }
    }
}

/// Judges what was heard of, and writes to those who want to know. Without `rows`, nothing can be said of any API.
pub(super) async fn find_news(
    told: &mut Told,
    notified: &[Notified],
    sight: &Sight<'_>,
    rows: Option<&BTreeMap<ApiId, Row>>,
    installation: &str,
) {
    let (news, now) = (&mut told.news, Timestamp::now());
    if notified.is_empty() {
        return news.forget();
    }
    let look = |key: &str| match ApiId::new(key) {
        Ok(id) => match rows?.get(&id) {
            Some(Ok(record)) => Some(view(sight.controller, &id, Some(record))),
            Some(Err(_)) => None,
            None => Some(view(sight.controller, &id, None)),
        },
        Err(_) => Some(view_of_source(key, sight.pulls)),
    };
    let mut views: BTreeMap<String, View> =
        news.open().into_iter().filter_map(|key| look(&key).map(|view| (key, view))).collect();
    for (key, view) in &mut views {
        // Git is asked once of each failure, and not at each look.
        if let Some(failing) = view.failed.as_mut().filter(|failing| news.is_new_failure(key, failing))
            && let Ok(id) = ApiId::new(key)
        {
            failing.commit = commit_of(&id, sight).await;
        }
    }
    news.judge(now, |key| views.get(key).cloned());
    if let (Some(rows), Ok(tree)) = (rows, sight.controller.tree()) {
        let is_due = |id: &ApiId| rows.contains_key(id) && !tree.folders.contains_key(id);
        news.hold_removals(&sight.controller.held_removals(), is_due, now);
    }
    let items = news.take(now, sight.controller.is_busy());
    let left_out = news.take_left_out(&items);
    if !items.is_empty() || !left_out.is_empty() {
        let letters = notified.iter().flat_map(|to| write(&items, &left_out, to, installation, now)).collect();
        let lost = told.send(letters);
        if lost > 0 {
            tracing::warn!("{lost} messages to those who want to know what happens were thrown away: too many wait");
        }
    }
}

/// The commit that an API's folder is, as it lies in the tree.
async fn commit_of(id: &ApiId, sight: &Sight<'_>) -> Option<Commit> {
    let commits = sight.controller.world().commits.as_ref()?;
    match commits.of(&sight.settings.apis.join(id.as_str())).await {
        Ok(last) => last.and_then(Last::known),
        Err(error) => {
            tracing::debug!(api = %id, "its commit is not known: {error}");
            None
        }
    }
}

/// How a source is, or the installation as a whole.
fn view_of_source(key: &str, pulls: Option<&Pulls>) -> View {
    let none = View {
        name: None,
        is_well: false,
        is_suspended: false,
        is_gone: false,
        failed: None,
        revision: None,
        since: Timestamp::MIN,
        commit: None,
        because: None,
    };
    if key == INSTALLATION {
        return View { is_well: true, ..none };
    }
    let source = key.strip_prefix(SOURCE).zip(pulls).and_then(|(name, pulls)| pulls.source(name));
    let Some(status) = source.map(|source| source.status()) else { return View { is_gone: true, ..none } };
    match status.trouble {
        Some(trouble) => {
            let key = if trouble.kind.is_in_any_words() { trouble.kind.as_str() } else { &trouble.what }.to_owned();
            let failed = Failing { key, why: trouble.what, revision: None, commit: None };
            View { failed: Some(failed), ..none }
        }
        None => View { is_well: true, ..none },
    }
}
