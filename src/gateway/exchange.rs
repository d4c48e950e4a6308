//! An exchange is one request and its answer, from the first look at the path to the last header.

mod back;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use http::header::{AUTHORIZATION, CONNECTION, EXPECT, HOST, TE, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::access::Access;
use super::activity::Activity;
use super::body::Body;
use super::compress::Wish;
use super::cors::{self, Sharing};
use super::download::Patience;
use super::forward::{Call, Timing, forward};
use super::headers::{self, X_FORWARDED_PREFIX, X_PROCESS_TIME, X_REQUEST_ID, X_SERVER_TIMING};
use super::keys::{self, Shown};
use super::networks;
use super::origin::Origin;
use super::outgoing::Outgoing;
use super::pass::{Pass, address_rule, rules, tell};
use super::rate::{Allowances, Rules};
use super::refusal::Refusal;
use super::route::Route;
use super::server::{HandlerFuture, Server};
use super::target::Target;
use super::trace;
use super::upload::{State, Upload};
use super::version::as_http1;
use crate::tree::Auth;
use crate::usage::UsedBy;

/// Headers that a caller gets from us with most answers.
const OURS_IN_AN_ANSWER: usize = 8;

/// What a request asks for.
enum Asked {
    Api(Box<Asking>),
    /// What is outside of `/run/`, being answered.
    Other(HandlerFuture),
}

/// What an API is asked.
struct Asking {
    id: String,
    path: PathAndQuery,
    parts: Parts,
    upload: Upload,
}

/// What a caller wants of the answer.
struct Wishes {
    /// To know what took how long.
    timing: bool,
    is_http2: bool,
    compressed: Option<Wish>,
    /// To leave HTTP.
    tunnel: Option<OnUpgrade>,
    /// How long it may take.
    patience: Patience,
}

/// One request and its answer.
pub(super) struct Exchange<'a> {
    began: Instant,
    server: &'a Server,
    origin: &'a Origin,
    /// `None` once a tunnel has taken it over.
    access: Option<Box<Access>>,
    request_id: HeaderValue,
    allowance: Option<Box<Allowances>>,
    /// What a page of another origin is told, where the gateway does that.
    sharing: Option<Sharing>,
    /// To a host that is one API's alone.
    at_its_host: bool,
    /// What took how long, where the caller wants to know.
    timing: Option<Timing>,
}

impl<'a> Exchange<'a> {
    pub(super) fn new(server: &'a Server, origin: &'a Origin, method: Method) -> Self {
        let gateway = &server.gateway;
        let began = Instant::now();
        let mut access = Box::new(Access::new(began, method, gateway.metrics.clone(), gateway.usage.clone()));
        access.tell(gateway.traces.clone());
        Self {
            began,
            server,
            origin,
            request_id: access.request_id().header(),
            access: Some(access),
            allowance: None,
            sharing: None,
            at_its_host: false,
            timing: None,
        }
    }

    /// Counts in the activity of its connection, where that is one of HTTP/2.
    pub(super) fn of(mut self, activity: &Arc<Activity>) -> Self {
        if let Some(access) = &mut self.access {
            access.open(Activity::begin(activity, self.began.into()));
        }
        self
    }

    /// Answers the request, whatever happens.
    ///
    /// In a box from its beginning: hyper moves what this returns from hand to hand, and keeps room for it on each idle
    /// connection.
    pub(super) fn run(self, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send + use<'a> {
        // A stream of HTTP/2 ends by itself, and its neighbours go on.
        let is_http2 = request.version() == Version::HTTP_2;
        let unread = !request.body().is_end_stream() && !is_http2;
        let mut all = Box::new((self, Some(request)));
        async move {
            let (exchange, request) = &mut *all;
            let answered = AssertUnwindSafe(exchange.answer(request)).catch_unwind().await;
            let answered = answered.unwrap_or_else(|_| {
                // What it was, the panic hook has said.
                tracing::error!(request_id = ?exchange.request_id, "a request made its handler panic");
                Err(Refusal::Internal)
            });
            exchange.finish(answered, is_http2, unread)
        }
    }

    /// Puts ours into the headers of the answer.
    fn finish(&mut self, answered: Result<Response<Body>, Refusal>, is_http2: bool, unread: bool) -> Response<Body> {
        let mut response = answered.unwrap_or_else(|refusal| {
            let mut response = refusal.answer(self.request_id.to_str().unwrap_or_default());
            if unread {
                // The rest of the body is thrown away, for a while; nothing can follow it.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        });
        let headers = response.headers_mut();
        headers.reserve(OURS_IN_AN_ANSWER);
        if let Some(sharing) = self.sharing.take() {
            sharing.write_to(headers);
        }
        if let Some(allowance) = &self.allowance {
            allowance.write_to(headers);
        }
        let now = Instant::now();
        let took = now.saturating_duration_since(self.began);
        headers.insert(X_PROCESS_TIME, headers::millis(took));
        if let Some(timing) = self.timing {
            timing.write_to(headers, took, now);
        }
        headers.insert(X_REQUEST_ID, std::mem::replace(&mut self.request_id, HeaderValue::from_static("")));
        if !is_http2 && self.server.gateway.leaving.sends_away() && !headers.contains_key(UPGRADE) {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(mut access) = self.access.take() {
            access.answered(response.status());
            response.body_mut().log(access);
        }
        response
    }

    async fn answer(&mut self, request: &mut Option<Request<Incoming>>) -> Result<Response<Body>, Refusal> {
        match self.read(request.take().ok_or(Refusal::Internal)?)? {
            Asked::Api(call) => self.call(call).await,
            Asked::Other(answer) => Ok(answer.await),
        }
    }

    /// Reads who is asked for what, and refuses what can be understood in two ways.
    fn read(&mut self, mut request: Request<Incoming>) -> Result<Asked, Refusal> {
        let has_body = !request.body().is_end_stream();
        let read = if request.version() == Version::HTTP_2 { as_http1(&mut request, has_body) } else { Ok(()) };
        let target = read
            .and_then(|()| headers::check_request(request.method(), request.version(), request.headers()))
            .and_then(|()| self.access.as_ref().and_then(|access| access.fault()).map_or(Ok(()), Err))
            .and_then(|()| {
                let host = self.server.gateway.routes.at_host(request.headers().get(HOST));
                self.at_its_host = host.is_some();
                host.map_or_else(|| Target::of(request.uri()), |id| Target::at_host_of(id.as_str(), request.uri()))
            })
            .map_err(Refusal::Bad);
        if let Ok(Target::Other) = target {
            request.extensions_mut().insert(self.origin.peer);
            if let Some(access) = &self.access {
                request.extensions_mut().insert(access.request_id());
            }
            return Ok(Asked::Other(self.server.other.handle(request)));
        }
        let expected = request.headers().get(EXPECT).map(HeaderValue::as_bytes);
        let expects_continue = expected.is_some_and(|what| what.eq_ignore_ascii_case(b"100-continue"));
        let (parts, incoming) = request.into_parts();
        // HTTP/2 can end one body and keep the connection, so nobody has to send what nobody wants.
        let held_back = expects_continue || parts.version == Version::HTTP_2;
        // From here on the body is in good hands, however this ends.
        let upload = Upload::new(incoming, self.began.into(), self.server.gateway.limits.body_silence, held_back);
        match target? {
            Target::Api { id, path } => Ok(Asked::Api(Box::new(Asking { id, path, parts, upload }))),
            Target::Other => Err(Refusal::Internal),
        }
    }

    /// Passes a request on to an API, if its caller may.
    async fn call(&mut self, asking: Box<Asking>) -> Result<Response<Body>, Refusal> {
        let gateway = &self.server.gateway;
        let Asking { id, path, parts, upload } = &*asking;
        if let Some(access) = &mut self.access {
            access.upload(upload.progress());
        }
        let route = gateway.routes.for_caller(id);
        if let Some(route) = &route
            && let Some(response) = self.receive(route, parts, upload.progress().state() != State::Ended)?
        {
            return Ok(response);
        }
        let pass = match self.enter(route.as_deref(), id, path.path(), parts) {
            Err(Refusal::UnknownSigner) => {
                // In a box, as all that is rare: each idle connection has room for what its requests may wait for.
                Box::pin(gateway.tokens.refresh()).await;
                self.enter(route.as_deref(), id, path.path(), parts)?
            }
            entered => entered?,
        };
        let route = route.ok_or(Refusal::Unauthorized)?;
        let (call, wishes) = self.pass_on(asking, &route, pass)?;
        let metrics = gateway.metrics.as_deref();
        let answer = forward(&gateway.routes, metrics, &route, call).await.inspect_err(|refusal| {
            if let (Refusal::Overloaded, Some(metrics)) = (refusal, metrics) {
                metrics.shed(route.id.as_str());
            }
        })?;
        self.bring_back(answer, wishes)
    }

    /// Makes a request of a caller that may come in the one that its app is sent.
    fn pass_on(&mut self, asking: Box<Asking>, route: &Route, pass: Option<Pass>) -> Result<(Call, Wishes), Refusal> {
        let gateway = &self.server.gateway;
        let Asking { path, mut parts, mut upload, .. } = *asking;
        let rules = rules(route, pass.as_ref(), self.origin.peer.0.ip());
        if !rules.is_empty() {
            self.allowance = gateway.rates.count(&rules).map_err(Refusal::TooMany)?;
        }
        let max_body = route.settings.max_body.0;
        upload.allow(max_body).map_err(|_| Refusal::TooLarge(max_body))?;

        let websocket = headers::wants_websocket(&parts.headers);
        let wishes = Wishes {
            timing: parts.headers.contains_key(X_SERVER_TIMING),
            is_http2: parts.version == Version::HTTP_2,
            compressed: route.settings.compress.then(|| Wish::of(&parts)),
            tunnel: parts.extensions.remove::<OnUpgrade>().filter(|_| websocket),
            patience: Patience {
                idle: route.settings.idle.0,
                until: tokio::time::Instant::from(self.began) + route.settings.total.0,
            },
        };
        let mut head = Outgoing::new(&parts.method, &path);
        self.prepare(&mut head, route, pass, wishes.tunnel.is_some(), &mut parts.headers);
        let timeout = route.settings.timeout.0.min(route.settings.total.0);
        Ok((Call::new(&parts.method, head, parts.headers, upload, timeout, max_body), wishes))
    }

    /// What comes before keys and limits, and needs only the route: who may call from where. The answer, where a browser
    /// asks for no more than that.
    fn receive(&mut self, route: &Route, parts: &Parts, has_body: bool) -> Result<Option<Response<Body>>, Refusal> {
        let asks = route.settings.cors.is_some() && cors::is_preflight(parts, has_body);
        self.sharing = route.settings.cors.as_ref().map(|cors| Sharing::of(cors, &parts.headers, asks));
        let address = self.origin.peer.0.ip();
        let is_let_in = networks::let_in(&route.settings, address);
        if let Some(access) = self.access.as_mut().filter(|_| asks || !is_let_in) {
            access.api(&route.id);
            access.count_for(&route.id, UsedBy::Nobody);
        }
        if !is_let_in {
            return Err(Refusal::Forbidden("this API is not for callers from that address"));
        }
        if !asks {
            return Ok(None);
        }
        if let Some(rule) = address_rule(route, address) {
            self.allowance = self.server.gateway.rates.count(&Rules::from_iter([rule])).map_err(Refusal::TooMany)?;
        }
        Ok(Some(cors::answer_preflight()))
    }

    /// What lets the caller in to the API of that route. Takes the same way, whatever is missing or wrong.
    pub(super) fn enter(
        &mut self,
        route: Option<&Route>,
        id: &str,
        path: &str,
        parts: &Parts,
    ) -> Result<Option<Pass>, Refusal> {
        let gateway = &self.server.gateway;
        let token = keys::bearer(&parts.headers);
        let key = gateway.keys.admit(token, id, parts.method.as_str(), path);
        let route = route.ok_or(Refusal::Unauthorized)?;
        let shown = if route.settings.auth == Auth::Jwt { gateway.tokens.admit(token) } else { key };
        if let Some(access) = &mut self.access {
            access.count_for(&route.id, shown.by());
        }
        let pass = match shown {
            Shown::Opens(pass) => Some(pass),
            _ if route.settings.auth == Auth::None => None,
            Shown::OutOfScope(_, reason) => return Err(Refusal::Forbidden(reason)),
            Shown::UnknownSigner => return Err(Refusal::UnknownSigner),
            Shown::Nothing => return Err(Refusal::Unauthorized),
        };
        if let Some(access) = &mut self.access {
            access.api(&route.id);
        }
        Ok(pass)
    }

    /// Makes the headers of a request those that an app should see, and writes them down with ours behind them.
    pub(super) fn prepare(
        &mut self,
        head: &mut Outgoing,
        route: &Route,
        pass: Option<Pass>,
        upgrade: bool,
        headers: &mut HeaderMap,
    ) {
        headers::prepare_request(headers);
        // An app must not learn its callers' keys. What a caller of a public API sends and is no key of ours is meant
        // for the app.
        if pass.is_some() || route.settings.auth != Auth::None || self.server.gateway.keys.shown_in(headers) {
            headers.remove(AUTHORIZATION);
        }
        tell(headers, pass);
        if upgrade {
            // An answer that opens a tunnel has no trailers, and `TE` would have to be named in `Connection` too.
            headers.remove(TE);
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        let parent = self.access.as_mut().map(|access| {
            let (link, parent) = trace::continue_or_begin(headers, access.request_id().uuid(), access.traces());
            access.hangs(link);
            parent
        });
        head.add_all(headers);
        if let Some(parent) = parent {
            head.add(trace::TRACEPARENT.as_str(), &[&parent]);
        }
        self.origin.write_to(head, headers.get(HOST));
        if !self.at_its_host {
            head.add(X_FORWARDED_PREFIX.as_str(), &[b"/run/", route.id.as_str().as_bytes()]);
        }
        head.add(X_REQUEST_ID.as_str(), &[self.request_id.as_bytes()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<F>(_: impl FnOnce(Exchange<'static>, Request<Incoming>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_takes_little_room_on_its_connection() {
        let bytes = size(Exchange::run);
        assert!(bytes <= 2048, "{bytes} bytes are moved from hand to hand");
    }
}
