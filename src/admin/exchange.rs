//! An exchange is one request of git's, answered by git's own `http-backend`, from its first byte to the end of all that it started.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::fault::Fault;
use super::opening::{SILENCE, next};
use super::places::Places;
use crate::gateway::Body;
use crate::git::gloss::Gloss;
use crate::git::tether::Tether;

/// How long one push or fetch may take at the longest.
const LONGEST: Duration = Duration::from_secs(2 * 3600);

/// How long git has to end by itself: once it gets no more to read, once nobody waits for it, once it is told to end.
const READ_ALL: Duration = Duration::from_secs(10);
const LET_GO: Duration = Duration::from_secs(60);
const TOLD: Duration = Duration::from_secs(5);

/// How much of git's answer is in memory at once.
const CHUNK: usize = 16 * 1024;

/// One request of git's.
pub(super) struct Exchange {
    /// Git's program, in a group of processes of its own, with all its streams at hand.
    pub git: Child,
    /// What has been read of the request already.
    pub opening: Vec<u8>,
    /// The rest of it.
    pub body: Incoming,
    /// Where it is a push: what its hook says by.
    pub tether: Option<Tether>,
    /// The same: what git's answer is read along by.
    pub gloss: Option<Gloss>,
    /// Held until the push is taken, or the fetch is over.
    pub place: OwnedSemaphorePermit,
    /// Where whoever waits for the end of a push has theirs.
    pub places: Arc<Places>,
}

/// Why git gets no more of a request.
enum Fed {
    /// That was all, or git wants no more.
    Whole,
    /// It broke off.
    Short,
}

impl Exchange {
    /// Has git answer. What it began goes on to its end, also where whoever asked has gone away.
    pub(super) async fn answer(self) -> Result<Response<Body>, Fault> {
        let (begun, begins) = oneshot::channel();
        let (chunks, stream) = mpsc::channel::<Bytes>(4);
        let gone = CancellationToken::new();
        // Of the answer, and so of whoever reads it.
        let there = gone.clone().drop_guard();
        tokio::spawn(self.run(begun, chunks, gone));
        let failed = |why: String| Fault::Unavailable(format!("git: {why}"));
        let head = begins.await.map_err(|_| failed("it ended without an answer".to_owned()))?;
        let mut answer = head.map_err(|error| failed(error.to_string()))?;
        let frames = ReceiverStream::new(stream).map(move |chunk| {
            let _ = &there;
            Ok::<_, io::Error>(Frame::data(chunk))
        });
        *answer.body_mut() = Body::stream(StreamBody::new(frames));
        Ok(answer)
    }

    async fn run(
        mut self,
        begun: oneshot::Sender<io::Result<Response<Body>>>,
        chunks: mpsc::Sender<Bytes>,
        gone: CancellationToken,
    ) {
        let (to, from, said) = (self.git.stdin.take(), self.git.stdout.take(), self.git.stderr.take());
        if let (Some(to), Some(from), Some(said)) = (to, from, said) {
            let fed = AbortOnDropHandle::new(tokio::spawn(feed(self.opening, self.body, to)));
            let talk = async {
                let ((), said, status) =
                    tokio::join!(pass_on(BufReader::new(from), begun, chunks, self.gloss), note(said), self.git.wait());
                if !said.is_empty() {
                    tracing::debug!("git ended with {status:?}: {}", said.trim());
                }
            };
            tokio::select! {
                () = talk => {}
                () = attend(fed, self.tether, (self.place, &self.places), gone) => {}
                () = sleep(LONGEST) => tracing::warn!("a push or fetch took longer than {LONGEST:?} and is ended"),
            }
        }
        end(&mut self.git).await;
    }
}

/// Returns where git is to be ended, whatever it does.
async fn attend(
    fed: AbortOnDropHandle<Fed>,
    tether: Option<Tether>,
    (place, places): (OwnedSemaphorePermit, &Places),
    gone: CancellationToken,
) {
    let broke_off = async {
        if matches!(fed.await, Ok(Fed::Whole)) {
            return std::future::pending().await;
        }
        // Git reads what there is to its end, sees that it is none, and tidies up.
        sleep(READ_ALL).await;
    };
    let Some(mut tether) = tether else {
        return tokio::select! { () = broke_off => {}, () = gone.cancelled() => {} };
    };
    // Until it is taken it goes on, whoever has gone away: that is how a push is interrupted.
    tokio::select! { () = tether.taken() => {}, () = broke_off => return }
    drop(place);
    let watches = places.watch();
    if watches.is_some() {
        gone.cancelled().await;
    }
    // The hook ends its watch, and with it all the others end.
    drop(tether);
    sleep(LET_GO).await;
}

/// Gives git what is sent. Where that breaks off, git reads that it is at its end.
async fn feed(opening: Vec<u8>, mut body: Incoming, mut to: ChildStdin) -> Fed {
    if to.write_all(&opening).await.is_err() {
        return Fed::Whole;
    }
    loop {
        match next(&mut body).await {
            Ok(Some(bytes)) if to.write_all(&bytes).await.is_err() => return Fed::Whole,
            Ok(Some(_)) => {}
            Ok(None) => return Fed::Whole,
            Err(error) => {
                tracing::debug!("a push or fetch broke off: {error}");
                return Fed::Short;
            }
        }
    }
}

/// The headers of the answer, as a program behind a web server prints them.
async fn head(from: &mut BufReader<ChildStdout>) -> io::Result<Response<Body>> {
    let mut answer = Response::new(Body::from(Bytes::new()));
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended without an answer"));
        }
        let line = line.trim_end();
        if line.is_empty() {
            return Ok(answer);
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        if name.eq_ignore_ascii_case("status") {
            let code = value.split(' ').next().and_then(|code| code.parse().ok());
            *answer.status_mut() = code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        } else if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            answer.headers_mut().append(name, value);
        }
    }
}

/// Passes on what git answers. Whoever goes away in the middle, or reads nothing of it for long, changes nothing about what git does.
async fn pass_on(
    mut from: BufReader<ChildStdout>,
    begun: oneshot::Sender<io::Result<Response<Body>>>,
    chunks: mpsc::Sender<Bytes>,
    mut gloss: Option<Gloss>,
) {
    let mut is_there = begun.send(head(&mut from).await).is_ok();
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = from.read(&mut buffer).await.unwrap_or(0);
        let read = buffer.get(..length).unwrap_or_default();
        let chunk = match &mut gloss {
            Some(gloss) if length > 0 => gloss.pass(read),
            gloss if length == 0 => gloss.take().map(Gloss::rest).unwrap_or_default(),
            _ => read.to_vec(),
        };
        if is_there && !chunk.is_empty() {
            is_there = matches!(timeout(SILENCE, chunks.send(Bytes::from(chunk))).await, Ok(Ok(())));
        }
        if length == 0 {
            break;
        }
    }
    // The last byte is the end of the answer, whatever git still tidies up.
}

/// The beginning of what git says to whoever runs it.
async fn note(mut from: ChildStderr) -> String {
    let mut said = Vec::new();
    let _ = (&mut from).take(CHUNK as u64).read_to_end(&mut said).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&said).into_owned()
}

/// Ends git and all that it has started, where they have not ended by themselves. It gets a moment to tidy up.
async fn end(git: &mut Child) {
    let Some(group) = git.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw) else {
        return;
    };
    let _ = rustix::process::kill_process_group(group, Signal::TERM);
    if timeout(TOLD, git.wait()).await.is_err() {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        let _ = git.wait().await;
    }
}
