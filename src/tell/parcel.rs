//! A parcel is one request to somebody else, ready to be sent, and what it tells them.

use bytes::Bytes;
use http::Request;
use jiff::Timestamp;
use serde_json::Value;

use super::answer::Hidden;
use super::commit::{Deployment, State, Tracked, Word};
use super::forge::{self, Call};
use super::letter::Letter;
use super::placed::Place;
use super::state::Told;
use crate::git::access::Secret;
use crate::report::with_causes;
use crate::settings::{Address, Notified};
use crate::tree::Digest;

/// What is sent.
#[derive(Debug, Clone)]
pub enum What {
    /// How a commit is.
    Status {
        /// Which.
        commit: String,
        /// How.
        word: Word,
    },
    /// That a deployment of a commit begins.
    Begin {
        /// Of which.
        commit: String,
        /// How it is, where that is said at once.
        state: Option<State>,
    },
    /// Which deployment of a commit there is already.
    Find {
        /// Of which.
        commit: String,
    },
    /// How a deployment of a commit is.
    Deployment {
        /// Of which.
        commit: String,
        /// How.
        state: State,
    },
    /// A letter.
    Letter {
        /// Which.
        id: String,
    },
}

/// Something to send, and what nobody may read of it.
pub struct Parcel {
    /// What it tells.
    pub what: What,
    /// As it goes over the wire.
    pub request: Request<Bytes>,
    /// What of it nobody may read.
    pub hidden: Hidden,
}

/// Who is told, in what people read.
#[must_use]
pub fn addressee(to: &Notified) -> String {
    format!("notification {}", to.name)
}

/// What the next thing is that a forge is to be told of a commit.
#[must_use]
pub fn next(place: &Place, commit: &Tracked, word: &Word, takes_deployments: bool) -> Option<(What, Call)> {
    let (report, id) = (&place.report, commit.id.clone());
    if commit.told.as_ref() != Some(word) {
        let call = forge::status(report, commit, word);
        return Some((What::Status { commit: id, word: word.clone() }, call));
    }
    let environment = report.environment.as_deref().filter(|_| takes_deployments && commit.has_deployment())?;
    let find = forge::find(report, environment, commit).filter(|_| commit.has_sent && commit.deployment.is_none());
    if let Some(call) = find {
        return Some((What::Find { commit: id }, call));
    }
    match &commit.deployment {
        None => {
            let state = forge::begins_with_state(report.forge).then_some(word.state);
            Some((
                What::Begin { commit: id, state },
                forge::begin(report, environment, place.follows_tags(), commit, word),
            ))
        }
        // One that the forge gave no number cannot be spoken of.
        Some(Deployment { told, id }) if *told == Some(word.state) || *id == 0 => None,
        Some(Deployment { id: number, .. }) => {
            let call = forge::deployment(report, environment, *number, word);
            Some((What::Deployment { commit: id, state: word.state }, call))
        }
    }
}

/// Something for a forge, ready to be sent.
///
/// # Errors
/// Where its token cannot be used.
pub fn to_forge(place: &Place, what: What, call: &Call) -> Result<Parcel, String> {
    let token = Secret::read(&place.report.token).map_err(|error| error.to_string())?;
    let token = String::from_utf8_lossy(token.as_bytes()).into_owned();
    let request = call.request(&place.report, &token).map_err(|error| with_causes(&error))?;
    let hidden = Hidden { texts: vec![token], has_address: false };
    Ok(Parcel { what, request, hidden })
}

/// A letter, ready to be sent.
///
/// # Errors
/// Where their address or their secret cannot be used.
pub fn to_people(to: &Notified, letter: &Letter) -> Result<Parcel, String> {
    let read = |place| Secret::read(place).map_err(|error| error.to_string());
    let text = |secret: &Secret| String::from_utf8_lossy(secret.as_bytes()).into_owned();
    let (url, mut texts) = match &to.url {
        Address::Plain(url) => (url.clone(), Vec::new()),
        Address::Secret(place) => {
            let url = text(&read(place)?);
            (url.clone(), vec![url])
        }
    };
    let secret = to.secret.as_ref().map(crate::pull::webhook::secret).transpose().map_err(|error| error.to_string())?;
    texts.extend(secret.as_ref().map(text));
    // What is wrong with an address that is a secret is not said: it would be repeated.
    let is_address = crate::settings::is_web(&url);
    let request = letter.request(&url, secret.as_ref().map(Secret::as_bytes), Timestamp::now());
    let request = request.ok().filter(|_| is_address).ok_or("its address is none, or holds a password")?;
    let hidden = Hidden { texts, has_address: matches!(to.url, Address::Secret(_)) };
    Ok(Parcel { what: What::Letter { id: letter.id.clone() }, request, hidden })
}

/// By which secrets somebody is told, without saying them.
#[must_use]
pub fn digest(parcel: &Result<Parcel, String>) -> Digest {
    Digest::of(parcel.as_ref().map_or_else(Clone::clone, |parcel| parcel.hidden.texts.join("\n")).as_bytes())
}

/// Notes that something was told.
pub fn note(told: &mut Told, whom: &str, what: What, body: &Bytes) {
    let known = match &what {
        What::Letter { id } => return told.letters.retain(|letter| letter.id != *id),
        What::Status { commit, .. }
        | What::Begin { commit, .. }
        | What::Find { commit }
        | What::Deployment { commit, .. } => {
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
        What::Find { .. } => {
            let found = serde_json::from_slice::<Value>(body).ok();
            let number = found.and_then(|found| found.get(0)?.get("id")?.as_u64());
            known.deployment = number.map(|id| Deployment { id, told: None });
            known.has_sent = false;
        }
        What::Deployment { state, .. } => {
            if let Some(deployment) = &mut known.deployment {
                deployment.told = Some(state);
            }
        }
        What::Letter { .. } => {}
    }
}
