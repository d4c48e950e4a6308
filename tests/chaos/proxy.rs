//! The proxy stands between one skep and the engine's socket. It numbers the calls, and does to one of them what a bad
//! day would.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::UPGRADE;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

type Body = BoxBody<Bytes, hyper::Error>;

/// How long the engine gets to take up a call before whoever asked is killed under it.
const TAKEN_UP: Duration = Duration::from_millis(25);

/// Which call: the world of an installation changes by the calls that have an effect, so those divide a history into
/// parts, and what is only asked is counted within its part. That way a call has the same address in every run, however
/// often something was asked while waiting.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// How many calls that have an effect came before.
    pub after: usize,
    /// What is called, with `{}` for names.
    pub call: String,
    /// Counted from 1 within the part.
    pub occurrence: usize,
}

impl Address {
    /// Whether the call may change something.
    pub fn has_effect(&self) -> bool {
        !self.call.starts_with("GET ") && !self.call.starts_with("HEAD ")
    }

    /// Whether it divides a history. What is cleaned up from time to time comes when it comes.
    fn divides(&self) -> bool {
        self.has_effect() && self.call != "DELETE /images/{}"
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{} after {} effects", self.call, self.occurrence, self.after)
    }
}

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The engine answers 500 and does nothing.
    Refused,
    /// The connection breaks before the engine hears of it.
    CutBefore,
    /// The engine does it, and the connection breaks before its answer.
    ReplyLost,
    /// It takes some seconds longer.
    Delayed(Duration),
    /// It is never answered, and never done.
    Unanswered,
    /// Whoever asks is killed before the engine hears of it.
    KilledBefore,
    /// … while the engine is at it.
    KilledDuring,
    /// … when it is done, before the answer.
    KilledAfter,
}

/// What happens to the engine's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Events {
    #[default]
    Whole,
    /// None arrives.
    Dropped,
    /// Each arrives twice.
    Doubled,
}

/// The proxy of one skep. Ends with this.
pub struct Proxy {
    socket: PathBuf,
    state: Arc<State>,
    _server: AbortOnDropHandle<()>,
}

struct State {
    engine: PathBuf,
    record: Mutex<Record>,
    /// Whether the fault that was armed has happened.
    has_struck: watch::Sender<bool>,
    kill: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Record {
    calls: Vec<Address>,
    effects: usize,
    seen: HashMap<String, usize>,
    armed: Option<(Address, Fault)>,
    events: Events,
}

impl Proxy {
    /// Listens at `socket` for one skep, which `kill` kills.
    pub fn open(socket: PathBuf, engine: &Path, kill: impl Fn() + Send + Sync + 'static) -> anyhow::Result<Self> {
        let listener = UnixListener::bind(&socket)?;
        let state = Arc::new(State {
            engine: engine.to_owned(),
            record: Mutex::default(),
            has_struck: watch::channel(false).0,
            kill: Box::new(kill),
        });
        let server = AbortOnDropHandle::new(tokio::spawn(serve(listener, Arc::clone(&state))));
        Ok(Self { socket, state, _server: server })
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Counts from here on, and does `fault` to the call at `address`.
    pub fn arm(&self, armed: Option<(Address, Fault)>) {
        self.state.has_struck.send_replace(false);
        let events = self.state.record().events;
        *self.state.record() = Record { armed, events, ..Record::default() };
    }

    /// Forgets a fault that did not happen.
    pub fn disarm(&self) {
        self.state.record().armed = None;
    }

    /// Waits until the fault has happened.
    pub async fn struck(&self) {
        // The sender lives as long as this.
        let _ = self.state.has_struck.subscribe().wait_for(|has| *has).await;
    }

    pub fn has_struck(&self) -> bool {
        *self.state.has_struck.borrow()
    }

    pub fn set_events(&self, events: Events) {
        self.state.record().events = events;
    }

    /// Every call since the last [`Proxy::arm`].
    pub fn calls(&self) -> Vec<Address> {
        self.state.record().calls.clone()
    }
}

async fn serve(listener: UnixListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let handle = service_fn(move |request| handle(Arc::clone(&state), request));
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), handle);
            // A connection that breaks is what this is for.
            let _ = connection.with_upgrades().await;
        });
    }
}

impl State {
    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers a call. Gives what is to happen to it.
    fn count(&self, call: String) -> Option<Fault> {
        let mut record = self.record();
        let record = &mut *record;
        let occurrence = record.seen.entry(call.clone()).or_default();
        *occurrence += 1;
        let address = Address { after: record.effects, occurrence: *occurrence, call };
        if address.divides() {
            record.effects += 1;
            record.seen.clear();
        }
        let armed = record.armed.take_if(|(armed, _)| *armed == address);
        record.calls.push(address);
        armed.map(|(_, fault)| fault)
    }

    /// One event of the engine's stream, which sends each as a piece of its own.
    fn distort(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match self.record().events {
            Events::Whole => frame,
            Events::Dropped => frame.map_data(|_| Bytes::new()),
            Events::Doubled => frame.map_data(|data| [&data[..], &data[..]].concat().into()),
        }
    }

    fn strike(&self, is_deadly: bool) {
        if is_deadly {
            (self.kill)();
        }
        self.has_struck.send_replace(true);
    }
}

async fn handle(state: Arc<State>, request: Request<Incoming>) -> io::Result<Response<Body>> {
    let cut = || Err(io::ErrorKind::ConnectionReset.into());
    let is_events = request.uri().path() == "/events";
    let fault = state.count(template(request.method(), request.uri().path()));
    match fault {
        Some(Fault::Refused) => {
            state.strike(false);
            let body = Full::from("{\"message\":\"the engine is not itself today\"}")
                .map_err(|never: Infallible| match never {});
            let mut response = Response::new(body.boxed());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return Ok(response);
        }
        Some(Fault::CutBefore) => {
            state.strike(false);
            return cut();
        }
        Some(Fault::KilledBefore) => {
            state.strike(true);
            return cut();
        }
        Some(Fault::Delayed(time)) => {
            state.strike(false);
            tokio::time::sleep(time).await;
        }
        Some(Fault::Unanswered) => {
            state.strike(false);
            // Until whoever asks has had enough: its end of the connection takes this future with it.
            std::future::pending::<()>().await;
        }
        _ => {}
    }
    let forwarded = forward(&state, request);
    let (mut response, connection, caller) = if fault == Some(Fault::KilledDuring) {
        tokio::select! {
            _ = forwarded => {}
            () = tokio::time::sleep(TAKEN_UP) => {}
        }
        state.strike(true);
        return cut();
    } else {
        forwarded.await?
    };
    if matches!(fault, Some(Fault::ReplyLost | Fault::KilledAfter)) {
        finish(response).await?;
        state.strike(fault == Some(Fault::KilledAfter));
        return cut();
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(caller) = caller
    {
        let engine = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            let (Ok(caller), Ok(engine)) = tokio::join!(caller, engine) else { return };
            let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(caller), &mut TokioIo::new(engine)).await;
            drop(connection);
        });
        return Ok(response.map(BodyExt::boxed));
    }
    // The connection lives as long as the body does.
    let is_events = is_events && response.status() == StatusCode::OK;
    Ok(response.map(|body| {
        body.map_frame(move |frame| {
            let _alive = &connection;
            if is_events { state.distort(frame) } else { frame }
        })
        .boxed()
    }))
}

type Forwarded = (Response<Incoming>, AbortOnDropHandle<()>, Option<hyper::upgrade::OnUpgrade>);

/// Sends a call on, each over a connection of its own.
async fn forward(state: &State, mut request: Request<Incoming>) -> io::Result<Forwarded> {
    let caller = request.headers().contains_key(UPGRADE).then(|| hyper::upgrade::on(&mut request));
    let stream = UnixStream::connect(&state.engine).await?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(io::Error::other)?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    }));
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    Ok((response, connection, caller))
}

/// Waits until the engine has done all of it.
async fn finish(mut response: Response<Incoming>) -> io::Result<()> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let engine = hyper::upgrade::on(&mut response).await.map_err(io::Error::other)?;
        tokio::io::copy(&mut TokioIo::new(engine), &mut tokio::io::sink()).await?;
    } else {
        response.into_body().collect().await.map_err(io::Error::other)?;
    }
    Ok(())
}

/// A call without its names: `GET /containers/{}/json`.
fn template(method: &Method, path: &str) -> String {
    /// Words in the place of a name that are none.
    const WORDS: [&str; 6] = ["json", "create", "load", "get", "prune", "search"];
    let mut parts = path.trim_start_matches('/').split('/');
    let kind = parts.next().unwrap_or_default();
    let rest: Vec<&str> = parts.collect();
    let rest = match rest[..] {
        [] => String::new(),
        [word] if WORDS.contains(&word) => format!("/{word}"),
        [_] => "/{}".to_owned(),
        // Names of images have slashes of their own.
        [.., last] if *method != Method::DELETE => format!("/{{}}/{last}"),
        _ => "/{}".to_owned(),
    };
    format!("{method} /{kind}{rest}")
}
