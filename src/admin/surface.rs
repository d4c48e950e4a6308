//! The surface answers every request that is not for an API.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::ApplyLine;
use crate::gateway::{Body, Handler, HandlerFuture, RequestId, RouteState, Routes, json_answer, not_found};
use crate::reconcile::Controller;
use crate::reconcile::follow::Ask;
use crate::records::Records;
use crate::tree::Digest;

/// What is at work behind the surface.
struct Work {
    controller: Arc<Controller>,
    /// Where this daemon reconciles; one that only follows reads no tree.
    tree: Option<Ask>,
}

/// Answers every request that is not for an API.
pub struct Surface {
    routes: Arc<Routes>,
    records: Arc<dyn Records>,
    /// What is at work, once something is: before that the engine has still to answer.
    work: ArcSwapOption<Work>,
    /// Compared as digests: of equal length, so that the comparison takes the same time whatever is shown.
    admin_key: Digest,
}

impl Surface {
    /// The surface of a daemon that has just begun.
    #[must_use]
    pub fn new(routes: Arc<Routes>, records: Arc<dyn Records>, admin_key: &str) -> Arc<Self> {
        Arc::new(Self { routes, records, work: ArcSwapOption::empty(), admin_key: Digest::of(admin_key.as_bytes()) })
    }

    /// Says that this daemon reconciles.
    pub fn set_to_lead(&self, controller: Arc<Controller>, tree: Ask) {
        self.work.store(Some(Arc::new(Work { controller, tree: Some(tree) })));
    }

    /// Says that this daemon serves, and that another one reconciles.
    pub fn set_to_follow(&self, controller: Arc<Controller>) {
        self.work.store(Some(Arc::new(Work { controller, tree: None })));
    }

    /// What is at work, once something is.
    #[must_use]
    pub fn controller(&self) -> Option<Arc<Controller>> {
        self.work.load().as_ref().map(|work| Arc::clone(&work.controller))
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let id = request.extensions().get::<RequestId>().map(ToString::to_string).unwrap_or_default();
        let path = request.uri().path();
        if path.starts_with("/admin/") && !self.is_admin(&request) {
            let mut answer = json_answer(
                StatusCode::UNAUTHORIZED,
                &json!({ "error": "Missing or invalid admin key. Include 'Authorization: Bearer ADMIN_KEY' header", "request_id": id }),
            );
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return answer;
        }
        match (request.method(), path) {
            (&Method::GET | &Method::HEAD, "/") => self.root(),
            (&Method::GET | &Method::HEAD, "/health") => self.health().await,
            (&Method::POST, "/admin/apply") => match self.work.load().as_deref() {
                Some(Work { controller, tree: Some(tree) }) => apply(Arc::clone(controller), tree.clone()),
                Some(Work { tree: None, .. }) => {
                    let error = "this daemon stands by; ask the one that reconciles";
                    json_answer(StatusCode::CONFLICT, &json!({ "error": error, "request_id": id }))
                }
                None => {
                    let error = "the daemon has only just begun: its container engine does not answer yet";
                    json_answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": error, "request_id": id }))
                }
            },
            (_, "/" | "/health" | "/admin/apply") => {
                let error = "this path does not know that method";
                json_answer(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": error, "request_id": id }))
            }
            _ => not_found(&id),
        }
    }

    fn is_admin(&self, request: &Request<Incoming>) -> bool {
        let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = shown.and_then(|value| value.split_once(' '));
        let token =
            token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map_or("", |(_, token)| token.trim());
        bool::from(Digest::of(token.as_bytes()).as_bytes().ct_eq(self.admin_key.as_bytes()))
    }

    fn deployed(&self) -> usize {
        let routes = self.routes.table();
        routes.values().filter(|route| matches!(route.state, RouteState::Serving { .. })).count()
    }

    fn root(&self) -> Response<Body> {
        json_answer(
            StatusCode::OK,
            &json!({
                "service": "skep",
                "status": "running",
                "deployed_apis": self.deployed(),
                "public_apis": self.routes.public(),
                "timestamp": Timestamp::now(),
            }),
        )
    }

    async fn health(&self) -> Response<Body> {
        let database = self.records.version().await;
        let work = self.work.load();
        let follows = work.as_ref().is_some_and(|work| work.tree.is_none());
        let is_reading = follows || work.as_ref().is_some_and(|work| work.controller.tree().is_ok());
        let is_well = database.is_ok() && is_reading;
        json_answer(
            StatusCode::OK,
            &json!({
                "status": if is_well { "healthy" } else { "degraded" },
                "deployed_apis": self.deployed(),
                "database": if database.is_ok() { "connected" } else { "disconnected" },
                "role": if follows { "follower" } else { "leader" },
                "sentry_enabled": false,
                "timestamp": Timestamp::now(),
            }),
        )
    }
}

/// Looks at tree and world now, and tells, line by line, what comes of it.
///
/// The work goes on whether or not somebody listens to the end.
fn apply(controller: Arc<Controller>, tree: Ask) -> Response<Body> {
    let (lines, answer) = mpsc::channel::<ApplyLine>(64);
    tokio::spawn(tell(controller, tree, lines));
    let frames = tokio_stream::StreamExt::map(ReceiverStream::new(answer), |line| {
        let mut text = serde_json::to_vec(&line)?;
        text.push(b'\n');
        Ok::<_, serde_json::Error>(Frame::data(Bytes::from(text)))
    });
    let mut response = Response::new(Body::stream(StreamBody::new(frames)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response
}

async fn tell(controller: Arc<Controller>, tree: Ask, lines: mpsc::Sender<ApplyLine>) {
    let mut news = controller.world().news.subscribe();
    let done = async {
        tree.look().await;
        match controller.look().await {
            // All of them, since one may have been at work before this look, and so have nothing left for it.
            Ok(_) => ApplyLine::Done(controller.rested(&controller.known()).await),
            Err(error) => ApplyLine::Failed(error.to_string()),
        }
    };
    tokio::pin!(done);
    loop {
        let line = tokio::select! {
            // News first, so that the last line really is the last.
            biased;
            news = news.recv() => match news {
                Ok(news) => ApplyLine::News(news),
                // Whoever reads slowly misses some lines of output, and no more than that.
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return,
            },
            last = &mut done => last,
        };
        let is_last = !matches!(line, ApplyLine::News(_));
        if lines.send(line).await.is_err() || is_last {
            return;
        }
    }
}

impl Handler for Arc<Surface> {
    fn handle(&self, request: Request<Incoming>) -> HandlerFuture {
        Box::pin(Arc::clone(self).answer(request))
    }
}
