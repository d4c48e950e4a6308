//! Webhooks of forges: each says that a source may have something new, and is answered before anybody has looked.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::fault::Fault;
use crate::gateway::{Body, json_answer};
use crate::pull::told::{self, Told};
use crate::pull::webhook::{self, Delivery, Verdict};
use crate::pull::{Pulls, Source};

/// Where they come in, with the name of the source behind it.
const PATH: &str = "/hooks/";

/// The most bytes of one: what GitHub sends at the most. They are counted and signed, and kept where they may tell of a pull request.
const MOST: usize = 25 << 20;

/// How long one may take to come in.
const WITHIN: Duration = Duration::from_secs(20);

/// How long a source may take to be asked, and what is new of it to be fetched, by somebody who waits for it.
const TURNS_WITHIN: Duration = Duration::from_secs(20 * 60);

/// How many come in at once.
const AT_ONCE: usize = 16;

/// How many of those are in memory at once that are larger than most are.
const LARGE_AT_ONCE: usize = 2;

/// Takes webhooks, and tells how sources are.
#[derive(Debug)]
pub(super) struct Hooks {
    pulls: Arc<Pulls>,
    places: Semaphore,
    large: Semaphore,
}

/// Whether a path is one of theirs.
pub(super) fn is_hook(path: &str) -> bool {
    path.starts_with(PATH)
}

impl Hooks {
    pub(super) fn new(pulls: Arc<Pulls>) -> Self {
        Self { pulls, places: Semaphore::new(AT_ONCE), large: Semaphore::new(LARGE_AT_ONCE) }
    }

    pub(super) fn pulls(&self) -> Arc<Pulls> {
        Arc::clone(&self.pulls)
    }

    /// Which source a request is about: one that takes webhooks. That others are there is nobody's business.
    pub(super) fn source(&self, request: &Request<Incoming>) -> Result<Arc<Source>, Fault> {
        let name = request.uri().path().strip_prefix(PATH).unwrap_or_default();
        let source = self.pulls.source(name).filter(|source| source.webhook().is_some());
        let source = Arc::clone(source.ok_or(Fault::NotFound)?);
        if request.method() == Method::POST { Ok(source) } else { Err(Fault::Method("POST".to_owned())) }
    }

    /// Takes one: the source is asked soon, where it is genuine.
    pub(super) async fn take(&self, source: &Source, request: Request<Incoming>) -> Result<Response<Body>, Fault> {
        let busy = || Fault::Unavailable(format!("{AT_ONCE} webhooks are coming in; send it again"));
        let _place = self.places.try_acquire().map_err(|_| busy())?;
        let Some(place) = source.webhook() else { return Err(Fault::NotFound) };
        let (parts, body) = request.into_parts();
        // What may tell of a pull request is kept whole; all else is counted and signed.
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let is_large = source.has_previews() && length.is_none_or(|length: usize| length > told::USUAL);
        let _memory = if is_large {
            let memory = tokio::time::timeout(WITHIN, self.large.acquire()).await;
            Some(memory.map_err(|_| busy())?.map_err(|_| busy())?)
        } else {
            None
        };
        let mut kept = Vec::new();
        let verdict = match webhook::secret(place) {
            Ok(secret) => {
                source.forget_fault();
                let mut delivery = Delivery::begin(&parts.headers, &secret);
                read(body, |bytes| {
                    delivery.update(bytes);
                    if source.has_previews() {
                        kept.extend_from_slice(bytes);
                    }
                })
                .await?;
                delivery.end(source, Timestamp::now())
            }
            Err(error) => {
                // Whoever calls may be anybody, and so no log grows with it.
                if source.is_first_fault() {
                    tracing::error!("no webhook of source {} can be taken: {error}", source.name());
                }
                read(body, |_| ()).await?;
                Verdict::Forged
            }
        };
        if verdict == Verdict::New {
            if let Some(told) = Told::read(&kept) {
                source.hear(&told, Timestamp::now()).map_err(|error| {
                    // The same delivery is to count when it comes again.
                    source.forget_deliveries();
                    Fault::Unavailable(format!("what it tells cannot be kept: {error}; send it again"))
                })?;
            }
            source.look();
        }
        Ok(match verdict {
            Verdict::New => json_answer(StatusCode::ACCEPTED, &json!({ "accepted": true })),
            Verdict::Again => json_answer(StatusCode::ACCEPTED, &json!({ "accepted": true, "again": true })),
            // Which part of it was wrong is for nobody to learn.
            Verdict::Forged => {
                json_answer(StatusCode::UNAUTHORIZED, &json!({ "error": "this webhook is not signed as it should be" }))
            }
        })
    }

    /// Whether every source is followed; and in words, of which whoever may know all learns more.
    pub(super) fn health(&self, is_admin: bool) -> (bool, Value) {
        let statuses = self.pulls.statuses();
        let troubled: Vec<_> = statuses.iter().filter(|status| status.trouble.is_some()).collect();
        if is_admin {
            return (troubled.is_empty(), json!(statuses));
        }
        let since = troubled.iter().filter_map(|status| Some(status.trouble.as_ref()?.since)).min();
        let said = match since {
            None => "followed".to_owned(),
            Some(since) => format!("{} of {} sources not followed since {since:.0}", troubled.len(), statuses.len()),
        };
        (troubled.is_empty(), said.into())
    }
}

/// How the sources are.
pub(super) fn list(hooks: Option<&Hooks>) -> Value {
    let sources = hooks.map(|hooks| hooks.pulls.statuses()).unwrap_or_default();
    json!({ "version": 1, "sources": sources })
}

/// Has all sources asked now; or one, of which the answer is what came of it.
pub(super) async fn look(hooks: Option<&Hooks>, name: Option<&str>) -> Result<Value, Fault> {
    let sources = hooks.map(|hooks| hooks.pulls.sources()).unwrap_or_default();
    let Some(name) = name else {
        for source in sources {
            source.look();
        }
        let asked: Vec<_> = sources.iter().map(|source| source.name()).collect();
        return Ok(json!({ "version": 1, "asked": asked }));
    };
    let source = sources.iter().find(|source| source.name() == name);
    let source = source.ok_or_else(|| Fault::Missing(format!("no source {name} is followed")))?;
    let late =
        || Fault::Unavailable(format!("source {name} is asked, and nothing has come of it within {TURNS_WITHIN:?}"));
    let asked = tokio::time::timeout(TURNS_WITHIN, source.ask()).await.map_err(|_| late())?;
    Ok(json!(asked))
}

/// Reads a body to its end.
async fn read(mut body: Incoming, mut each: impl FnMut(&[u8])) -> Result<(), Fault> {
    let broken = |why: &str| Fault::Bad(why.to_owned());
    let reading = async {
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| broken("the body broke off"))?;
            let Some(bytes) = frame.data_ref() else { continue };
            length += bytes.len();
            if length > MOST {
                return Err(Fault::TooLarge(MOST));
            }
            each(bytes);
        }
        Ok(())
    };
    tokio::time::timeout(WITHIN, reading).await.map_err(|_| broken("the body took too long"))?
}
