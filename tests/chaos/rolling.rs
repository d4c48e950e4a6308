//! Rolling changes under load: one API changes again and again, and its callers must not notice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::Arena;
use super::site::{STEADY, Wanted};
use super::table::Row;

const API: &str = "busy";

/// For one answer, the slow ones included.
const PATIENCE: Duration = Duration::from_secs(40);

/// For one change to be what callers get, and for the world to come to rest at the end.
const CHANGE: Duration = Duration::from_secs(60);

/// Longer than any request or stream here, so that none of them may be cut.
const SETTINGS: &str = "deploy: { drain: 30s }\nroute: { timeout: 30s }\nhealth: { interval: 1s }\n";

/// Pieces of a body that takes a second or two.
const PIECES: usize = 32;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// On a connection that is kept.
    Kept,
    /// On a connection of its own.
    Fresh,
    /// Answered after 5 s.
    Slow,
    Upload,
    Download,
    Events,
    WebSocket,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Kept => "on kept connections",
            Self::Fresh => "on new connections",
            Self::Slow => "of 5 s",
            Self::Upload => "uploads",
            Self::Download => "downloads",
            Self::Events => "event streams",
            Self::WebSocket => "WebSockets",
        }
    }

    /// How many callers there are of each, and how long each rests between two requests.
    fn callers(self) -> (usize, Duration) {
        match self {
            Self::Kept => (6, Duration::from_millis(8)),
            Self::Fresh => (2, Duration::from_millis(25)),
            Self::Slow => (3, Duration::from_millis(10)),
            Self::Upload | Self::Download => (2, Duration::from_millis(50)),
            Self::Events | Self::WebSocket => (2, Duration::from_millis(100)),
        }
    }
}

const KINDS: [Kind; 7] =
    [Kind::Kept, Kind::Fresh, Kind::Slow, Kind::Upload, Kind::Download, Kind::Events, Kind::WebSocket];

/// What all callers share.
#[derive(Default)]
struct Tally {
    requests: [AtomicU64; KINDS.len()],
    failures: Mutex<BTreeMap<(Kind, String), u64>>,
}

impl Tally {
    fn total(&self) -> u64 {
        self.requests.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Writes down what there was, of which kinds of changes and requests.
    fn tell(&self, row: &mut Row, changes: &BTreeMap<&str, u32>) -> anyhow::Result<()> {
        let failures = self.failures();
        row.requests = usize::try_from(self.total())?;
        row.failed = usize::try_from(failures.values().sum::<u64>())?;
        row.wrong.extend(failures.iter().map(|((kind, what), count)| format!("{count} {}: {what}", kind.name())));
        let counts = KINDS.iter().zip(&self.requests);
        let kinds: Vec<_> =
            counts.map(|(kind, count)| format!("{} {}", count.load(Ordering::Relaxed), kind.name())).collect();
        let changes: Vec<_> = changes.iter().map(|(what, count)| format!("{count} of {what}")).collect();
        row.note = format!(
            "{}; {}. Seconds are from the save to the first answer of the new state",
            changes.join(", "),
            kinds.join(", ")
        );
        Ok(())
    }

    fn failures(&self) -> MutexGuard<'_, BTreeMap<(Kind, String), u64>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `changes` changes, and at least so many requests.
pub async fn run(arena: &Arc<Arena>, changes: u32, requests: u64) -> anyhow::Result<Vec<Row>> {
    let site = arena.site().await?;
    let code =
        |text: &str| site.write(&format!("apis/{API}/main.py"), &include_str!("apps/busy.py").replace("{text}", text));
    let mut replicas = 2;
    let settings = |env: u32, replicas: usize, timeout: u32| {
        let text = SETTINGS.replace("timeout: 30s", &format!("timeout: {timeout}s"));
        site.settings(API, &format!("{text}replicas: {replicas}\nenv: {{ ROUND: \"{env}\" }}\n"))
    };
    // Two sets of requirements, both installed before anybody calls.
    let mut wanted = Wanted::from([(STEADY.to_owned(), (STEADY.to_owned(), 1))]);
    site.serve().await?;
    for version in ["1.1", "1.0"] {
        code("0")?;
        settings(0, replicas, 30)?;
        site.require(API, version)?;
        wanted.insert(API.to_owned(), ("0".to_owned(), replicas));
        site.settled(&wanted, CHANGE).await.with_context(|| site.story())?;
    }

    let tally = Arc::new(Tally::default());
    let mut callers = JoinSet::new();
    for kind in KINDS {
        for _ in 0..kind.callers().0 {
            callers.spawn(call(site.address, kind, Arc::clone(&tally)));
        }
    }
    let mut row = Row::new(format!("{changes} rolling changes under load"));
    let mut of = BTreeMap::new();
    for round in 1..=changes {
        let text = round.to_string();
        let begun = Instant::now();
        let what = match round % 4 {
            1 => {
                code(&text)?;
                "code"
            }
            2 => {
                // Code as well, so that its coming is seen from outside.
                code(&text)?;
                site.require(API, if round % 8 == 2 { "1.1" } else { "1.0" })?;
                "requirements"
            }
            3 => {
                code(&text)?;
                settings(round, replicas, 30 + round % 2)?;
                "settings"
            }
            _ => {
                replicas = if replicas == 2 { 3 } else { 2 };
                settings(round - 1, replicas, 30)?;
                "replicas"
            }
        };
        let done = if what == "replicas" {
            wait(&site, || async { Ok(site.routed(API).await? == replicas) }).await
        } else {
            wait(&site, || async { Ok(site.answer(API).await? == text) }).await
        };
        let failed: u64 = tally.failures().values().sum();
        match done {
            Ok(()) => row.good(begun.elapsed()),
            Err(error) => {
                let file = arena.tell(&format!("change {round}: {what}"), &site.story())?;
                row.bad(format!("change {round} of {what}: {error:#} ({})", file.display()));
            }
        }
        *of.entry(what).or_insert(0) += 1;
        arena.say(&format!(
            "change {round}/{changes}: {what}: {:.1} s; {} requests, {failed} failed",
            begun.elapsed().as_secs_f64(),
            tally.total()
        ));
        wanted.insert(API.to_owned(), (site.answer(API).await.unwrap_or_default(), replicas));
    }
    while tally.total() < requests && !callers.is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    if let Err(error) = site.settled(&wanted, CHANGE).await {
        let file = arena.tell("at the end", &site.story())?;
        row.wrong.push(format!("at the end: {error:#} ({})", file.display()));
    }
    callers.shutdown().await;

    tally.tell(&mut row, &of)?;
    let mut rows = vec![row, long_stream(arena, &site).await?];
    if rows.iter().any(|row| !row.is_good()) {
        let file = arena.tell("rolling changes", &site.story())?;
        rows[0].note += &format!(" ({})", file.display());
    }
    site.close().await?;
    Ok(rows)
}
async fn wait<F: Future<Output = anyhow::Result<bool>>>(
    site: &super::Site,
    is_so: impl Fn() -> F,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + CHANGE;
    loop {
        let found = is_so().await;
        if matches!(found, Ok(true)) {
            return Ok(());
        }
        ensure!(!site.has_ended().await, "the daemon has ended by itself");
        ensure!(Instant::now() < deadline, "not there after {CHANGE:?}: {found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A stream that is longer than the drain time is cut when that is over, and not before.
async fn long_stream(arena: &Arena, site: &super::Site) -> anyhow::Result<Row> {
    const DRAIN: Duration = Duration::from_secs(4);
    let mut row = Row::noted(
        "a stream longer than the drain time",
        "seconds are from the new revision's first answer to the end of the stream; the drain time is 4 s",
    );
    site.settings(API, "deploy: { drain: 4s }\nreplicas: 1\n")?;
    site.write(&format!("apis/{API}/main.py"), &include_str!("apps/busy.py").replace("{text}", "old"))?;
    wait(site, || async { Ok(site.answer(API).await? == "old" && site.routed(API).await? == 1) }).await?;
    let address = site.address;
    let stream = tokio::spawn(async move {
        let mut connection = Connection::open(address).await?;
        let response =
            connection.ask(Method::GET, "/run/busy/events?1000", Empty::new().map_err(never).boxed()).await?;
        // However it ends: with an end that is none, or a reset.
        let (mut body, mut heard) = (response.into_body(), String::new());
        while let Some(Ok(frame)) = body.frame().await {
            heard += &frame.into_data().map(|data| String::from_utf8_lossy(&data).into_owned()).unwrap_or_default();
        }
        Ok::<_, anyhow::Error>((heard, Instant::now()))
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    site.write(&format!("apis/{API}/main.py"), &include_str!("apps/busy.py").replace("{text}", "new"))?;
    wait(site, || async { Ok(site.answer(API).await? == "new") }).await?;
    let moved = Instant::now();
    let (heard, ended) = tokio::time::timeout(CHANGE, stream).await.context("the stream does not end")???;
    let took = ended.saturating_duration_since(moved);
    if heard.contains("new") || took + Duration::from_secs(1) < DRAIN || took > DRAIN + Duration::from_secs(10) {
        let file = arena.tell("a long stream", &site.story())?;
        row.bad(format!("it ended after {took:?} ({})", file.display()));
    } else {
        row.good(took);
    }
    Ok(row)
}

async fn call(address: SocketAddr, kind: Kind, tally: Arc<Tally>) {
    let mut connection = None;
    loop {
        let asked = tokio::time::timeout(PATIENCE, ask(address, kind, &mut connection)).await;
        let asked = asked.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {PATIENCE:?}")));
        tally.requests[kind as usize].fetch_add(1, Ordering::Relaxed);
        if let Err(error) = asked {
            connection = None;
            *tally.failures().entry((kind, format!("{error:#}"))).or_default() += 1;
        }
        if kind == Kind::Fresh {
            connection = None;
        }
        tokio::time::sleep(kind.callers().1).await;
    }
}

async fn ask(address: SocketAddr, kind: Kind, kept: &mut Option<Connection>) -> anyhow::Result<()> {
    if kind == Kind::WebSocket {
        return web_socket(address).await;
    }
    let connection = match kept {
        Some(connection) => connection,
        None => kept.insert(Connection::open(address).await?),
    };
    let get = |path: &'static str| (Method::GET, path, Empty::new().map_err(never).boxed());
    let mut expected = None;
    let (method, path, body) = match kind {
        Kind::Kept | Kind::Fresh | Kind::WebSocket => get("/run/busy/"),
        Kind::Slow => get("/run/busy/slow"),
        Kind::Download => get("/run/busy/down"),
        Kind::Events => get("/run/busy/events"),
        Kind::Upload => {
            let piece = Bytes::from(rand::random::<[u8; 1024]>().repeat(32));
            let digest = (0..PIECES).fold(Sha256::new(), |digest, _| digest.chain_update(&piece));
            expected = Some(hex::encode(digest.finalize()));
            let pieces = stream::unfold(0, move |count| {
                let piece = piece.clone();
                async move {
                    tokio::time::sleep(Duration::from_millis(40)).await;
                    (count < PIECES).then(|| (Ok(Frame::data(piece)), count + 1))
                }
            });
            (Method::POST, "/run/busy/up", BodyExt::boxed(StreamBody::new(Box::pin(pieces))))
        }
    };
    let response = connection.ask(method, path, body).await?;
    let (parts, body) = response.into_parts();
    let told = parts.headers.get("x-text").and_then(|text| text.to_str().ok()).unwrap_or_default().to_owned();
    let body = body.collect().await.context("the body broke off")?.to_bytes();
    ensure!(parts.status == 200, "{}: {}", parts.status, String::from_utf8_lossy(&body));
    let text = || String::from_utf8_lossy(&body);
    match kind {
        Kind::Upload => ensure!(Some(text().into_owned()) == expected, "another digest"),
        Kind::Download => {
            let piece: Vec<u8> = (0..=255).collect::<Vec<u8>>().repeat(128);
            ensure!(body.len() == piece.len() * PIECES, "{} bytes", body.len());
            ensure!(body.chunks(piece.len()).all(|found| found == piece), "other bytes");
        }
        Kind::Events => {
            let expected = format!("data: {told}\n\n").repeat(30) + "data: end\n\n";
            ensure!(text() == expected, "other events");
        }
        _ => ensure!(text() == told && !told.is_empty(), "{:?} and not {told:?}", text()),
    }
    Ok(())
}

fn never(never: std::convert::Infallible) -> anyhow::Error {
    match never {}
}

type Body = BoxBody<Bytes, anyhow::Error>;

struct Connection {
    sender: SendRequest<Body>,
    _driver: AbortOnDropHandle<()>,
}

impl Connection {
    async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let (sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(driver.await) }));
        Ok(Self { sender, _driver: driver })
    }

    async fn ask(&mut self, method: Method, path: &str, body: Body) -> anyhow::Result<http::Response<Incoming>> {
        self.sender.ready().await.context("the connection has ended")?;
        let request = Request::builder().method(method).uri(path).header("host", "chaos").body(body)?;
        self.sender.send_request(request).await.context("no answer")
    }
}

/// As much of RFC 6455 as it takes: some short texts there and back, and a proper end.
async fn web_socket(address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await.context("cannot connect")?;
    let head = "GET /run/busy/ws HTTP/1.1\r\nhost: chaos\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.context("no answer")?);
    }
    ensure!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    let mut first = None;
    for _ in 0..25 {
        // A mask of zeros changes nothing and is one.
        stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await?;
        let mut frame = [0; 2];
        stream.read_exact(&mut frame).await.context("it broke off")?;
        ensure!(frame[0] == 0x81, "no text but {frame:?}");
        let mut text = vec![0; usize::from(frame[1])];
        stream.read_exact(&mut text).await.context("it broke off")?;
        if first.get_or_insert_with(|| text.clone()) != &text {
            bail!("one WebSocket, two revisions");
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, 3, 0xe8]).await?;
    let mut frame = [0; 2];
    stream.read_exact(&mut frame).await.context("it broke off at its end")?;
    ensure!(frame[0] == 0x88, "no end but {frame:?}");
    Ok(())
}
