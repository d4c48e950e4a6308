//! Webhooks of forges: each says that a source may have something new, and is answered before anybody has looked.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::fault::Fault;
use crate::gateway::{Body, Crowd, Member, Peer, json_answer};
use crate::pull::told::{self, Told};
use crate::pull::webhook::{self, Delivery, Verdict};
use crate::pull::{Pulls, Source};

/// Where they come in, with the name of the source behind it.
const PATH: &str = "/hooks/";

/// The most bytes of one: what GitHub sends at the most. They are counted and signed, and kept where they may tell of a pull request.
const MOST: usize = 25 << 20;

/// How long one may take to come in, whatever comes: what is large takes its time.
const WITHIN: Duration = Duration::from_secs(20);

/// How long nothing of one may come; and how many bytes buy it another second.
const BEGUN_WITHIN: Duration = Duration::from_secs(3);
const A_SECOND: usize = 64 << 10;

/// How long a source may take to be asked, and what is new of it to be fetched, by somebody who waits for it.
const TURNS_WITHIN: Duration = Duration::from_secs(20 * 60);

/// How many come in at once, and how many of those from one address, or one /64 of IPv6.
const AT_ONCE: usize = 32;
const OF_ONE_ADDRESS: usize = 8;

/// How long one waits for a place, and how often it is looked whether one of its address is free.
const WAITS: Duration = Duration::from_secs(5);
const LOOKS_EVERY: Duration = Duration::from_millis(20);

/// How many of those are in memory at once that are larger than most are.
const LARGE_AT_ONCE: usize = 2;

/// Takes webhooks, and tells how sources are.
#[derive(Debug)]
pub(super) struct Hooks {
    pulls: Arc<Pulls>,
    places: Semaphore,
    crowd: Arc<Crowd>,
    large: Semaphore,
}

/// Whether a path is one of theirs.
pub(super) fn is_hook(path: &str) -> bool {
    path.starts_with(PATH)
}

impl Hooks {
    pub(super) fn new(pulls: Arc<Pulls>) -> Self {
        Self { pulls, places: Semaphore::new(AT_ONCE), crowd: Arc::default(), large: Semaphore::new(LARGE_AT_ONCE) }
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
        let Some(place) = source.webhook() else { return Err(Fault::NotFound) };
        if !webhook::is_shown(request.headers()) {
            // Of what shows nothing, nothing is read.
            return Ok(forged());
        }
        let address = request.extensions().get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
        let (parts, mut body) = request.into_parts();
        // A place is for what comes in, not for whoever only says that something will.
        let first = tokio::time::timeout(BEGUN_WITHIN, body.frame()).await.map_err(|_| slow())?;
        let _place = tokio::time::timeout(WAITS, self.place(address)).await.map_err(|_| busy())?;
        // What may tell of a pull request is kept whole; all else is counted and signed.
        let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let is_large = source.has_previews() && length.is_none_or(|length: usize| length > told::USUAL);
        let _memory = if is_large {
            let memory = tokio::time::timeout(WAITS, self.large.acquire()).await;
            Some(memory.map_err(|_| busy())?.map_err(|_| busy())?)
        } else {
            None
        };
        let mut kept = Vec::new();
        let verdict = match webhook::secret(place) {
            Ok(secret) => {
                source.forget_fault();
                let mut delivery = Delivery::begin(&parts.headers, &secret);
                read(first, body, |bytes| {
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
                read(first, body, |_| ()).await?;
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
            Verdict::Forged => forged(),
        })
    }

    /// A place for one from there, as soon as there is one.
    async fn place(&self, address: IpAddr) -> (Member, Option<SemaphorePermit<'_>>) {
        let member = loop {
            match Crowd::join(&self.crowd, address, OF_ONE_ADDRESS) {
                Some(member) => break member,
                None => tokio::time::sleep(LOOKS_EVERY).await,
            }
        };
        // Nobody closes it.
        (member, self.places.acquire().await.ok())
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
pub(super) async fn look(hooks: Option<&Hooks>, name: Option<&str>, stop: &CancellationToken) -> Result<Value, Fault> {
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
    let asked = stop.run_until_cancelled(tokio::time::timeout(TURNS_WITHIN, source.ask())).await;
    let ends = || Fault::Unavailable(format!("the daemon ends; the next one asks source {name} as it begins"));
    let asked = asked.ok_or_else(ends)?.map_err(|_| late())?;
    Ok(json!(asked))
}

/// Which part of it was wrong is for nobody to learn.
fn forged() -> Response<Body> {
    json_answer(StatusCode::UNAUTHORIZED, &json!({ "error": "this webhook is not signed as it should be" }))
}

fn busy() -> Fault {
    Fault::Unavailable("so many webhooks are coming in; send it again".to_owned())
}

fn slow() -> Fault {
    Fault::Bad("the body took too long".to_owned())
}

/// What has come of a body.
type First = Option<Result<Frame<Bytes>, hyper::Error>>;

/// Reads a body to its end, of which something has come already.
async fn read(first: First, mut body: Incoming, mut each: impl FnMut(&[u8])) -> Result<(), Fault> {
    let (begun, mut length, mut next) = (Instant::now(), 0, first);
    while let Some(frame) = next {
        let frame = frame.map_err(|_| Fault::Bad("the body broke off".to_owned()))?;
        if let Some(bytes) = frame.data_ref() {
            length += bytes.len();
            if length > MOST {
                return Err(Fault::TooLarge(MOST));
            }
            each(bytes);
        }
        let until = begun + WITHIN.min(BEGUN_WITHIN + Duration::from_secs((length / A_SECOND) as u64));
        next = timeout_at(until, body.frame()).await.map_err(|_| slow())?;
    }
    Ok(())
}
