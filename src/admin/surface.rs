//! The surface answers every request that is not for an API.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, VARY};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use serde_json::json;
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

use super::call::Call;
use super::fault::{self, Fault};
use super::health::Asked;
use super::holds::{self, Wish};
use super::hooks::{self, Hooks};
use super::push::{self, Pushes};
use super::streams::{self, Query};
use super::{adopt, apply, deployments, keys, openapi, trial, usage};
use crate::callers::Callers;
use crate::gateway::{Body, Catalog, Handler, HandlerFuture, Peer, Pusher, RequestId, RouteState, Routes, json_answer};
use crate::metrics::Metrics;
use crate::pull::Pulls;
use crate::reconcile::Controller;
use crate::reconcile::follow::Ask;
use crate::records::Records;
use crate::tree::Digest;

/// How many times, and how often, it is looked whether a daemon reconciles by now.
const LEADING: (u32, Duration) = (25, Duration::from_millis(200));

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
    callers: Arc<Callers>,
    catalog: Catalog,
    /// What is at work, once something is: before that the engine has still to answer.
    work: ArcSwapOption<Work>,
    /// Compared as digests: of equal length, so that the comparison takes the same time whatever is shown.
    admin_key: Digest,
    metrics: Arc<Metrics>,
    /// Whether errors are told to Sentry.
    tells_sentry: bool,
    /// Whether this daemon is about to reconcile, another one having given up its place.
    is_to_lead: AtomicBool,
    /// What takes pushes, where they are taken.
    pushes: OnceLock<Arc<Pushes>>,
    /// What takes webhooks, where sources are followed.
    hooks: OnceLock<Hooks>,
    /// Cancelled when the daemon ends: who only watches keeps it from nothing.
    stop: OnceLock<CancellationToken>,
}

impl Surface {
    /// The surface of a daemon that has just begun.
    #[must_use]
    pub fn new(
        routes: Arc<Routes>,
        records: Arc<dyn Records>,
        callers: Arc<Callers>,
        catalog: Catalog,
        admin_key: &str,
        metrics: Arc<Metrics>,
        tells_sentry: bool,
    ) -> Arc<Self> {
        callers.withhold(admin_key);
        let admin_key = Digest::of(admin_key.as_bytes());
        Arc::new(Self {
            routes,
            records,
            callers,
            catalog,
            work: ArcSwapOption::empty(),
            admin_key,
            metrics,
            tells_sentry,
            is_to_lead: AtomicBool::new(false),
            pushes: OnceLock::new(),
            hooks: OnceLock::new(),
            stop: OnceLock::new(),
        })
    }

    /// Lets people push.
    pub fn set_to_take(&self, pushes: Arc<Pushes>) {
        // Set once, by whoever has made the surface.
        let _ = self.pushes.set(pushes);
    }

    /// Says that this daemon will reconcile in a moment: whoever asks for something meanwhile waits, and is not sent away.
    pub fn expect_to_lead(&self) {
        self.is_to_lead.store(true, Ordering::Relaxed);
    }

    /// Takes webhooks of what is followed, and tells how that is.
    pub fn set_to_pull(&self, pulls: Arc<Pulls>) {
        let _ = self.hooks.set(Hooks::new(pulls));
    }

    /// Ends what only watches when the daemon is told to end.
    pub fn set_to_end_with(&self, stop: CancellationToken) {
        let _ = self.stop.set(stop);
    }

    fn stop(&self) -> CancellationToken {
        self.stop.get().cloned().unwrap_or_default()
    }

    /// What is followed, where anything is.
    #[must_use]
    pub fn pulls(&self) -> Option<Arc<Pulls>> {
        self.hooks.get().map(Hooks::pulls)
    }

    /// Says that this daemon reconciles.
    pub fn set_to_lead(&self, controller: Arc<Controller>, tree: Ask) {
        self.is_to_lead.store(false, Ordering::Relaxed);
        self.work.store(Some(Arc::new(Work { controller, tree: Some(tree) })));
    }

    /// Says that this daemon serves, and that another one reconciles.
    pub fn set_to_follow(&self, controller: Arc<Controller>) {
        self.work.store(Some(Arc::new(Work { controller, tree: None })));
    }

    /// Whether this daemon reconciles.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.work.load().as_ref().is_some_and(|work| work.tree.is_some())
    }

    /// What is at work, once something is.
    #[must_use]
    pub fn controller(&self) -> Option<Arc<Controller>> {
        self.work.load().as_ref().map(|work| Arc::clone(&work.controller))
    }

    pub(super) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let id = request.extensions().get::<RequestId>().map(ToString::to_string).unwrap_or_default();
        self.called(request, &id).await.unwrap_or_else(|fault| fault.answer(&id))
    }

    async fn called(&self, request: Request<Incoming>, request_id: &str) -> Result<Response<Body>, Fault> {
        let path = request.uri().path().to_owned();
        if push::is_git(&path) {
            return Ok(self.git(request).await.unwrap_or_else(|fault| push::refused(&fault)));
        }
        if hooks::is_hook(&path) {
            return self.hook(request).await;
        }
        let call = Call::of(request.method(), &path);
        let is_admin = self.is_admin(&request);
        let plans = matches!(call, Some(Call::Plan | Call::PlanOf)) && self.callers.plans(token(&request));
        if !is_open(call.as_ref(), &path) && !is_admin && !plans {
            return Ok(fault::unauthorized(request_id));
        }
        let Some(call) = call else {
            let allowed = Call::allowed(&path);
            return Err(if allowed.is_empty() { Fault::NotFound } else { Fault::Method(allowed) });
        };
        if !call.is_open() && self.is_to_lead.load(Ordering::Relaxed) {
            // Where it does not come about, what was asked for says so.
            let _ = self.leading_soon().await;
        }
        let (parts, body) = request.into_parts();
        let query = Query::of(parts.uri.query());
        // The gateway says it with each request.
        let address = parts.extensions.get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0.ip());
        let shown = match call {
            Call::Root => return Ok(self.root(address)),
            Call::Health => return Ok(self.health(is_admin).await),
            Call::Metrics => return Ok(self.metrics(&parts.headers)),
            Call::Catalog => return Ok(self.catalog(address, &parts.headers).await),
            Call::OpenApi => openapi::document(),
            Call::Apply => {
                let (controller, tree) = self.leading()?;
                return apply::answer(controller, tree, &query, self.stop());
            }
            Call::Deployments => deployments::list(&*self.working()?).await?,
            Call::Deployment(id) => deployments::show(&*self.working()?, &id).await?,
            Call::Diagnostics(id) => deployments::diagnose(&*self.working()?, &id).await?,
            Call::Stop(id) => {
                let wish = Wish::read(body).await?;
                deployments::stop(&self.leading()?.0, &id, wish.why).await?
            }
            Call::Start(id) => deployments::start(&self.leading()?.0, &id).await?,
            Call::Reload(id) => {
                let (controller, tree) = self.leading()?;
                tree.look().await;
                deployments::reload(&controller, &id).await?
            }
            Call::ReloadAll => {
                let (controller, tree) = self.leading()?;
                tree.look().await;
                deployments::reload_all(&controller).await?
            }
            Call::CleanUp => deployments::clean_up(&self.leading()?.0).await?,
            Call::Plan => holds::planned(&self.leading()?.0).await?,
            Call::PlanOf => trial::planned(&self.leading()?.0, &self.callers.settings(), &parts.headers, body).await?,
            Call::Events => {
                return streams::events(Arc::clone(&self.records), &parts.headers, &query, self.stop()).await;
            }
            Call::Logs(id) => {
                return streams::logs(&*self.working()?, &id, &parts.headers, &query, self.stop()).await;
            }
            Call::History(id) => holds::history(&*self.working()?, &id).await?,
            Call::Usage => usage::answer(&*self.records, &query).await?,
            Call::Pull => hooks::list(self.hooks.get()),
            Call::PullNow(name) => {
                self.leading_soon().await?;
                hooks::look(self.hooks.get(), name.as_deref(), &self.stop()).await?
            }
            Call::Adopt => adopt::list(&*self.working()?).await?,
            Call::StopPredecessor(id) => adopt::stop(&self.leading()?.0, &id).await?,
            Call::Holds => holds::list(&*self.working()?).await?,
            Call::Hold(id) => holds::put(&self.leading()?.0, &id, Wish::read(body).await?).await?,
            Call::Release(id) => holds::release(&self.leading()?.0, &id).await?,
            Call::Keys => keys::list(&*self.records, &self.callers).await?,
            Call::MakeKey => return keys::make(Arc::clone(&self.records), Arc::clone(&self.callers), body).await,
            Call::RotateKey(id) => {
                return keys::rotate(Arc::clone(&self.records), Arc::clone(&self.callers), id, body).await;
            }
            Call::RevokeKey(id) => keys::revoke(Arc::clone(&self.records), Arc::clone(&self.callers), id).await?,
        };
        Ok(json_answer(StatusCode::OK, &shown))
    }

    /// Git speaks its own protocol, and shows who comes in its own way.
    async fn git(&self, request: Request<Incoming>) -> Result<Response<Body>, Fault> {
        let shown = push::shown(request.headers());
        let pusher = shown.and_then(|shown| {
            // Whoever holds a key of their own is who it says, whatever name they give.
            let given = || Pusher::of_all(if shown.name.is_empty() { "admin".to_owned() } else { shown.name.clone() });
            self.is_admin_key(&shown.secret).then(given).or_else(|| self.callers.pusher(&shown.secret))
        });
        let Some(pusher) = pusher else { return Ok(push::unauthorized()) };
        let Some(pushes) = self.pushes.get() else {
            return Err(Fault::Missing("no push is taken here; `push` in skep.yaml says whether they are".to_owned()));
        };
        // What a daemon that stands by took in, the one that reconciles would never see.
        if push::is_push(request.uri()) {
            self.leading_soon().await?;
        }
        pushes.answer(request, &pusher).await
    }

    /// A forge shows in its own way that it is the one that it says.
    async fn hook(&self, request: Request<Incoming>) -> Result<Response<Body>, Fault> {
        let Some(hooks) = self.hooks.get() else { return Err(Fault::NotFound) };
        let source = hooks.source(&request)?;
        // One that stands by fetches nothing.
        self.leading_soon().await?;
        hooks.take(&source, request).await
    }

    /// What is at work, whether or not it reconciles.
    fn working(&self) -> Result<Arc<Controller>, Fault> {
        let begun = || {
            Fault::Unavailable("the daemon has only just begun: its container engine does not answer yet".to_owned())
        };
        self.controller().ok_or_else(begun)
    }

    /// What reconciles, where this daemon does.
    pub(super) fn leading(&self) -> Result<(Arc<Controller>, Ask), Fault> {
        let controller = self.working()?;
        let tree = self.work.load().as_ref().and_then(|work| work.tree.clone());
        let stands_by = || Fault::Conflict("this daemon stands by; ask the one that reconciles".to_owned());
        Ok((controller, tree.ok_or_else(stands_by)?))
    }

    /// As [`Self::leading`], of a daemon that may have begun a moment ago.
    async fn leading_soon(&self) -> Result<(), Fault> {
        for _ in 0..LEADING.0 {
            if self.leading().is_ok() {
                break;
            }
            tokio::time::sleep(LEADING.1).await;
        }
        self.leading().map(drop)
    }

    fn is_admin(&self, request: &Request<Incoming>) -> bool {
        self.is_admin_key(token(request))
    }

    fn is_admin_key(&self, secret: &str) -> bool {
        bool::from(Digest::of(secret.as_bytes()).as_bytes().ct_eq(self.admin_key.as_bytes()))
    }

    fn deployed(&self) -> usize {
        let routes = self.routes.table();
        let serving = routes.values().filter(|route| matches!(route.state, RouteState::Serving { .. }));
        serving.filter(|route| !route.id.is_preview()).count()
    }

    fn root(&self, address: IpAddr) -> Response<Body> {
        json_answer(
            StatusCode::OK,
            &json!({
                "service": "skep",
                "status": "running",
                "deployed_apis": self.deployed(),
                "public_apis": self.routes.public(address),
                "timestamp": Timestamp::now(),
            }),
        )
    }

    /// What the APIs say of themselves that the caller may call.
    async fn catalog(&self, address: IpAddr, headers: &HeaderMap) -> Response<Body> {
        let mut answer = Response::new(Body::from(self.catalog.document(address, headers).await));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer.headers_mut().insert(VARY, HeaderValue::from_static("Authorization"));
        answer
    }

    /// What is counted: as text for Prometheus, or as JSON on request.
    fn metrics(&self, headers: &HeaderMap) -> Response<Body> {
        self.metrics.look_at(&self.routes);
        let accepts = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        if accepts.contains("application/json") {
            return json_answer(StatusCode::OK, &self.metrics.json());
        }
        let mut answer = Response::new(Body::from(self.metrics.text()));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
        answer
    }

    async fn health(&self, is_admin: bool) -> Response<Body> {
        let work = self.work.load();
        let follows = work.as_ref().is_some_and(|work| work.tree.is_none());
        let asked = Asked {
            records: &*self.records,
            tree: work.as_ref().map(|work| work.controller.tree()),
            follows,
            pulled: self.hooks.get().filter(|_| !follows).map(|hooks| hooks.health(is_admin)),
            deployed: self.deployed(),
            tells_sentry: self.tells_sentry,
            is_admin,
        };
        json_answer(StatusCode::OK, &asked.answer().await)
    }
}

/// Whether anybody may ask that. What is done is guarded by what it is, however its path is written; a path that is none
/// by how it looks, so that nobody learns which ones there are.
pub(super) fn is_open(call: Option<&Call>, path: &str) -> bool {
    let looks_guarded = || {
        path == "/metrics"
            || push::is_git(path)
            || hooks::is_hook(path)
            || path.starts_with("/admin/")
            || path.starts_with("/api/")
    };
    call.map_or_else(|| !looks_guarded(), Call::is_open)
}

/// What is shown as `Authorization: Bearer …`; nothing where nothing is.
fn token(request: &Request<Incoming>) -> &str {
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = shown.and_then(|value| value.split_once(' '));
    token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map_or("", |(_, token)| token.trim())
}

impl Handler for Arc<Surface> {
    fn handle(&self, request: Request<Incoming>) -> HandlerFuture {
        Box::pin(Arc::clone(self).answer(request))
    }
}
