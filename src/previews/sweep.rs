//! Sweeping ends the previews that nobody ends: of pull requests that are merged, or not heard of for long.

use jiff::Timestamp;

use super::{PreviewError, Previews, Whose};
use crate::git::store::{PLACED, PREVIEWS, Store, WITHIN, preview_ref, previewed};
use crate::records::{NewEvent, Records};
use crate::settings::Settings;
use crate::tree::{ApiId, Preview, PullRequest};

/// What ended.
#[derive(Debug)]
pub struct Ended {
    /// Of which pull request.
    pub whose: Whose,
    /// The previews of it.
    pub ids: Vec<ApiId>,
    /// Why, in words.
    pub why: String,
}

/// Ends what is to end; what was pushed leaves the store as well.
///
/// # Errors
/// Where the previews cannot be read, or git does not answer.
pub async fn sweep(settings: &Settings, now: Timestamp) -> Result<Vec<Ended>, PreviewError> {
    sweep_in(&Previews::of(settings), settings, now).await
}

/// As [`sweep`], and waits for nobody who changes them meanwhile.
///
/// # Errors
/// As [`sweep`], and where somebody does.
pub async fn sweep_at_once(settings: &Settings, now: Timestamp) -> Result<Vec<Ended>, PreviewError> {
    sweep_in(&Previews::of(settings).at_once(), settings, now).await
}

async fn sweep_in(previews: &Previews, settings: &Settings, now: Timestamp) -> Result<Vec<Ended>, PreviewError> {
    let there = previews.list()?;
    let mut whose: Vec<Whose> = there.iter().map(|(_, preview)| Whose::of(preview)).collect();
    whose.sort();
    whose.dedup();
    let mut ended = Vec::new();
    for whose in &whose {
        let Some((_, preview)) = there.iter().find(|(_, preview)| Whose::of(preview) == *whose) else { continue };
        if let Some(why) = over(settings, whose, preview, now).await? {
            let ids = previews.end(whose).await?.into_iter().collect();
            ended.push(Ended { whose: whose.clone(), ids, why });
        }
    }
    // Where nothing was ever previewed, git has nothing to be asked.
    if settings.push.is_some() && previews.folder().exists() && Store::of(&settings.state).is_there() {
        forget(&Store::of(&settings.state), previews).await?;
    }
    Ok(ended)
}

/// Ends all of them, for that reason.
///
/// # Errors
/// Where they cannot be read or moved.
pub async fn end_all(previews: &Previews, why: &str) -> Result<Vec<Ended>, PreviewError> {
    let mut all: Vec<Whose> = previews.list()?.iter().map(|(_, preview)| Whose::of(preview)).collect();
    all.sort();
    all.dedup();
    let mut ended = Vec::new();
    for whose in all {
        let ids = previews.end(&whose).await?.into_iter().collect();
        ended.push(Ended { whose, ids, why: why.to_owned() });
    }
    Ok(ended)
}

/// Why a preview is over, where it is.
async fn over(
    settings: &Settings,
    whose: &Whose,
    preview: &Preview,
    now: Timestamp,
) -> Result<Option<String>, PreviewError> {
    let Some(limits) = &settings.previews else {
        return Ok(Some("skep.yaml has no `previews` any more".to_owned()));
    };
    match &whose.source {
        None if settings.push.is_some() => {}
        // Whoever follows it hears more of it than is noted here.
        Some(name) if settings.pull.iter().any(|source| source.name == *name && source.previews.is_some()) => {
            return Ok(None);
        }
        _ => return Ok(Some("skep.yaml has it served no more".to_owned())),
    }
    if now.duration_since(preview.updated).as_secs_f64() > limits.keep.0.as_secs_f64() {
        return Ok(Some(format!("it was not pushed for {} (previews.keep)", limits.keep)));
    }
    let store = Store::of(&settings.state);
    if !store.is_there() {
        return Ok(None);
    }
    let Some(placed) = store.resolve(PLACED).await? else { return Ok(None) };
    let is_merged = store.repository().is_part_of(&preview.commit, &placed).await?;
    Ok(is_merged.then(|| "it is merged".to_owned()))
}

/// Takes names of pushed pull requests out of the store of which nothing is previewed any more.
async fn forget(store: &Store, previews: &Previews) -> Result<(), PreviewError> {
    // Nobody is just about to place what one of them stands for.
    let _one_at_a_time = if previews.folder().exists() { Some(previews.lock().await?) } else { None };
    let there = previews.list()?;
    let names = store.repository().ask(&["for-each-ref", "--format=%(refname)", PREVIEWS], WITHIN).await?;
    for name in String::from_utf8_lossy(&names).lines() {
        let pull_request = previewed(name);
        let is_there = |(_, it): &(ApiId, Preview)| it.source.is_none() && Some(it.pull_request) == pull_request;
        if !there.iter().any(is_there) {
            store.repository().ask(&["update-ref", "-d", name], WITHIN).await?;
        }
    }
    Ok(())
}

/// Takes the name of a pull request out of the store of what is pushed.
///
/// # Errors
/// Where git cannot be run.
pub async fn forget_pushed(store: &Store, pull_request: PullRequest) -> Result<(), PreviewError> {
    store.repository().ask(&["update-ref", "-d", &preview_ref(pull_request)], WITHIN).await?;
    Ok(())
}

/// Writes down what ended.
pub async fn note_ended(records: &dyn Records, ended: &[Ended]) {
    for Ended { whose, ids, why } in ended {
        for id in ids {
            note(records, id, "preview-ended", format!("{whose}: {why}")).await;
        }
    }
}

/// Writes down that a preview came or went.
pub async fn note(records: &dyn Records, id: &ApiId, kind: &str, message: String) {
    tracing::info!(api = %id, "{kind}: {message}");
    let event =
        NewEvent { at: Timestamp::now(), api: Some(id.clone()), revision: None, kind: kind.to_owned(), message };
    if let Err(error) = records.add_event(&event).await {
        tracing::warn!("this is not among the events: {error}");
    }
}
