//! A world is a running gateway, its routes and keys, and the apps behind it, all on real sockets.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use skep::gateway::{Body, Gateway, Handler, Keys, Limits, Route, RouteState, Routes, Tls, Tokens, Upstream};
use skep::records::{KeyScope, NewKey};
use skep::tree::{ApiId, Digest, Revision, Spec};
use skep::usage::Counter;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::Client;

pub type AppBody = BoxBody<Bytes, hyper::Error>;

/// A running gateway.
pub struct World {
    pub address: SocketAddr,
    pub routes: Arc<Routes>,
    pub keys: Arc<Keys>,
    /// Opens all APIs.
    pub key: String,
    pub stop: CancellationToken,
    pub served: JoinHandle<()>,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub async fn with(limits: Limits) -> Self {
        Self::made(limits, None, None, None).await
    }

    pub async fn with_tls(limits: Limits, tls: Option<Tls>) -> Self {
        Self::made(limits, tls, None, None).await
    }

    pub async fn with_tokens(tokens: Arc<Tokens>) -> Self {
        Self::made(Limits::default(), None, Some(tokens), None).await
    }

    pub async fn tallying(limits: Limits, usage: Arc<Counter>) -> Self {
        Self::made(limits, None, None, Some(usage)).await
    }

    async fn made(limits: Limits, tls: Option<Tls>, tokens: Option<Arc<Tokens>>, usage: Option<Arc<Counter>>) -> Self {
        let (routes, keys) = (Arc::new(Routes::default()), Arc::new(Keys::default()));
        let key = NewKey::generate("test", KeyScope::All, Timestamp::now());
        keys.set(vec![key.key.clone()]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut gateway = Gateway::new(Arc::clone(&routes), Arc::clone(&keys), limits);
        if let Some(tls) = tls {
            gateway = gateway.with_tls(tls);
        }
        if let Some(tokens) = tokens {
            gateway = gateway.with_tokens(tokens);
        }
        if let Some(usage) = usage {
            gateway = gateway.tallying(usage);
        }
        let gateway = Arc::new(gateway);
        let stop = CancellationToken::new();
        let served = tokio::spawn(gateway.serve(listener, other(), stop.clone()));
        Self { address, routes, keys, key: key.secret, stop, served }
    }

    /// Routes `id` to the instances at those addresses, with settings changed by `change`.
    pub fn route(&self, id: &str, at: &[SocketAddr], change: impl FnOnce(&mut Spec)) -> Vec<Arc<Upstream>> {
        let upstreams: Vec<_> = at.iter().map(upstream).collect();
        let state = RouteState::Serving { revision: Revision::from_label("r"), upstreams: upstreams.clone() };
        self.route_to(id, state, change);
        upstreams
    }

    pub fn route_to(&self, id: &str, state: RouteState, change: impl FnOnce(&mut Spec)) {
        let id = ApiId::new(id).unwrap();
        self.routes.set(&id.clone(), Some(route(id, state, change)));
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// A request head with key and host; more header lines, each with its CRLF, in `more`.
    pub fn head(&self, line: &str, more: &str) -> String {
        format!("{line} HTTP/1.1\r\nHost: skep.test\r\nAuthorization: Bearer {}\r\n{more}\r\n", self.key)
    }
}

pub fn upstream(address: &SocketAddr) -> Arc<Upstream> {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    Arc::new(Upstream::new(format!("c{number}").into(), *address))
}

pub fn route(id: ApiId, state: RouteState, change: impl FnOnce(&mut Spec)) -> Route {
    let mut spec = Spec::built_in(id.as_str());
    change(&mut spec);
    Route { id, settings: spec.route, rate_limit: spec.rate_limit, digest: Digest::of(b""), state }
}

/// The neighbour of the gateway on the same port; panics where it is asked to.
fn other() -> Arc<dyn Handler> {
    Arc::new(async |request: Request<Incoming>| {
        assert_ne!(request.uri().path(), "/panic");
        Response::new(Body::from(format!("other {}", request.uri())))
    })
}

/// Starts an app; it runs until the test ends.
pub async fn app<A, F>(answer: A) -> SocketAddr
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<AppBody>> + Send + 'static,
{
    raw_app(move |stream| {
        let answer = answer.clone();
        async move {
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, std::convert::Infallible>(answer.await) }
            });
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _ = connection.await;
        }
    })
    .await
}

/// Starts an app that is handed each connection as it is.
pub async fn raw_app<A, F>(answer: A) -> SocketAddr
where
    A: Fn(TcpStream) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(stream));
        }
    });
    address
}

/// An address where nothing listens.
pub async fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

pub fn text(text: impl Into<Bytes>) -> Response<AppBody> {
    Response::new(Full::new(text.into()).map_err(|never| match never {}).boxed())
}

/// An app that tells what it was asked, one header a line.
pub async fn telling_app() -> SocketAddr {
    app(async |request| {
        let mut told = format!("{} {}\n", request.method(), request.uri());
        for (name, value) in request.headers() {
            told += &format!("{name}: {}\n", value.to_str().unwrap());
        }
        text(told)
    })
    .await
}

/// An app that sends back what it is sent, frame by frame.
pub async fn echoing_app() -> SocketAddr {
    app(async |request| {
        let mut response = Response::new(());
        for name in ["content-type", "trailer"] {
            if let Some(value) = request.headers().get(name) {
                response.headers_mut().insert(http::HeaderName::try_from(name).unwrap(), value.clone());
            }
        }
        response.map(|()| request.into_body().boxed())
    })
    .await
}

/// Waits until `what` holds, for five seconds at most.
pub async fn eventually(what: impl Fn() -> bool) {
    for _ in 0..500 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come about within five seconds");
}
