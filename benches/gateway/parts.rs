//! The backend and the gateway, each a process of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use skep::gateway::{Gateway, Keys, Limits, Route, RouteState, Routes, TURNS_BETWEEN_LOOKS, Upstream, not_found};
use skep::metrics::Metrics;
use skep::records::postgres::{Place, Postgres};
use skep::records::sqlite::Sqlite;
use skep::records::{KeyScope, NewKey, Records};
use skep::tree::spec::RateLimit;
use skep::tree::{ApiId, Revision, Seconds, Spec};
use skep::usage::Writer;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::bench::child::wait_for_parent;

pub const API: &str = "backend";

/// Another API of the same backend, for whom some wish ill.
pub const BESIEGED: &str = "besieged";

/// A large answer.
static BIG: [u8; 1 << 20] = [b'x'; 1 << 20];

/// Whose the records are.
const OWNER: &str = "0123456789ab";

/// For how long usage is kept.
const KEEP_USAGE: Duration = Duration::from_secs(90 * 86400);

/// A limit that nobody here reaches, and that is counted all the same.
const HIGH: RateLimit = RateLimit { requests: 1_000_000_000, per: Seconds::new(1), burst: 1_000_000_000 };

pub fn run(threads: usize, part: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    // As the daemon has it.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(threads).enable_all().event_interval(TURNS_BETWEEN_LOOKS);
    let runtime = runtime.build()?;
    let done = runtime.block_on(part);
    runtime.shutdown_background();
    done
}

/// An app that costs next to nothing.
pub async fn backend() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            let answer = service_fn(async |request: Request<Incoming>| {
                let answer: &'static [u8] = match request.uri().path() {
                    "/big" => &BIG,
                    "/sink" => {
                        let mut body = request.into_body();
                        while let Some(Ok(_)) = body.frame().await {}
                        b"{}"
                    }
                    _ => br#"{"answer":"a small one"}"#,
                };
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(answer))))
            });
            // A client that hangs up is none of our business.
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    Ok(tokio::task::spawn_blocking(wait_for_parent).await?)
}

/// A proxy of hyper alone, as short as it can be: what any gateway of hyper costs. Not one to be used.
pub async fn plain(upstream: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let pool = Arc::new(Mutex::new(Vec::<SendRequest<Incoming>>::new()));
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let _ = stream.set_nodelay(true);
            let pool = Arc::clone(&pool);
            let pass_on = service_fn(move |request: Request<Incoming>| {
                let pool = Arc::clone(&pool);
                async move {
                    let idle = pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let mut sender = match idle {
                        Some(sender) => sender,
                        None => connect(upstream).await?,
                    };
                    sender.ready().await?;
                    let response = sender.send_request(request).await?;
                    // Whoever is next waits until its body has been read, for which an answer that is small does not.
                    pool.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
                    anyhow::Ok(response)
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), pass_on));
        }
    });
    Ok(tokio::task::spawn_blocking(wait_for_parent).await?)
}

async fn connect(upstream: SocketAddr) -> anyhow::Result<SendRequest<Incoming>> {
    let stream = TcpStream::connect(upstream).await?;
    stream.set_nodelay(true)?;
    let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    Ok(sender)
}

/// The gateway as the daemon has it: key, limits of the key, the API and the address, usage and metrics. `large` has
/// many routes and keys besides, `swapping` never stops changing its route, `sqlite=PATH` and `postgres=URL` write usage there.
pub async fn gateway(upstream: SocketAddr, size: &str) -> anyhow::Result<()> {
    let (routes, keys) = (Arc::new(Routes::default()), Arc::new(Keys::default()));
    let mut key = NewKey::generate("bench", KeyScope::All, Timestamp::now());
    key.key.terms.limit = Some(HIGH);
    let (many_routes, many_keys) = if size == "large" { (10_000, 100_000) } else { (0, 0) };
    let others = (0..many_keys).map(|_| NewKey::generate("other", KeyScope::All, Timestamp::now()).key);
    keys.set(others.chain([key.key]));
    let route = |id: &ApiId, upstreams: Vec<Arc<Upstream>>| {
        let mut spec = Spec::built_in(id.as_str());
        spec.route.max_in_flight = 1000;
        spec.rate_limit = Some(HIGH);
        spec.route.total_limit = Some(HIGH);
        spec.route.address_limit = Some(HIGH);
        let state = RouteState::Serving { revision: Revision::from_label("r"), upstreams };
        Route { id: id.clone(), digest: spec.digest(), settings: spec.route, rate_limit: spec.rate_limit, state }
    };
    for number in 0..many_routes {
        let id = ApiId::new(&format!("api-{number}"))?;
        let upstreams = vec![Arc::new(Upstream::new(format!("c-{number}").into(), upstream))];
        routes.set(&id, Some(route(&id, upstreams)));
    }
    let id = ApiId::new(API)?;
    let backend = Arc::new(Upstream::new("backend".into(), upstream));
    routes.set(&id, Some(route(&id, vec![Arc::clone(&backend)])));
    let besieged = ApiId::new(BESIEGED)?;
    routes.set(&besieged, Some(route(&besieged, vec![Arc::new(Upstream::new("besieged".into(), upstream))])));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{} {}", listener.local_addr()?, key.secret);
    if size == "swapping" {
        let (routes, id) = (Arc::clone(&routes), id.clone());
        let swap = move || routes.set(&id, Some(route(&id, vec![Arc::clone(&backend)])));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(10)).await;
                swap();
            }
        });
    }
    let limits = Limits { connections: 20_000, connections_per_address: 20_000, ..Limits::default() };
    let records: Option<Arc<dyn Records>> = match size.split_once('=') {
        Some(("sqlite", path)) => Some(Arc::new(Sqlite::open(path.as_ref())?)),
        Some(("postgres", url)) => Some(Arc::new(Postgres::open(&Place::parse(url, None, "skep", OWNER, 5)?).await?)),
        _ => None,
    };
    let writer = records.map(|records| Writer::new(Arc::default(), records, None, KEEP_USAGE));
    let counter = writer.as_ref().map_or_else(Arc::default, Writer::counter);
    let gateway = Arc::new(Gateway::new(routes, keys, limits).counting(Metrics::new()?).tallying(counter));
    let nothing_else = Arc::new(async |_: Request<Incoming>| not_found("-"));
    let serving = gateway.serve(listener, nothing_else, CancellationToken::new());
    match writer {
        Some(writer) => drop(tokio::spawn(writer.run_while(serving))),
        None => drop(tokio::spawn(serving)),
    }
    Ok(tokio::task::spawn_blocking(wait_for_parent).await?)
}
