//! Pushes and fetches over HTTP: who comes is let in here, and git's own `http-backend` does the rest.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
};
use http::{Request, Response, StatusCode, Uri};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::fault::Fault;
use crate::gateway::{Body, Pusher};
use crate::git::store::Store;

/// Where the repository is, below the control surface.
const PATH: &str = "/git";

/// The variable that tells the hook what may be pushed, and what it then says.
pub const PUSHES: &str = "SKEP_PUSHES";
/// Pull requests to be previewed, and nothing else.
pub const ONLY_PREVIEWS: &str = "previews";

/// How long one push or fetch may take at the longest.
const LONGEST: Duration = Duration::from_secs(2 * 3600);

/// How many pushes and fetches there are at once.
const AT_ONCE: usize = 4;

/// How many of those there are at once that come with keys for previews alone: they wait until those serve, and take no place of others.
const PREVIEWS_AT_ONCE: usize = 2;

/// How much of git's answer is in memory at once.
const CHUNK: usize = 16 * 1024;

/// The paths of git's protocol over HTTP that are answered, and by which methods.
const SERVED: [(&str, &str); 3] =
    [("GET", "/git/info/refs"), ("POST", "/git/git-receive-pack"), ("POST", "/git/git-upload-pack")];

/// Takes pushes into a store.
#[derive(Debug)]
pub struct Pushes {
    store: Store,
    /// How callers' addresses begin, where this is the address that callers use too.
    scheme: Option<&'static str>,
    /// Bounds how many pushes and fetches there are at once: each is some processes, and their memory.
    places: Arc<Semaphore>,
    /// The same for keys that push previews alone.
    previews: Arc<Semaphore>,
}

/// Who comes, as the `Authorization` header says: a name, and what shows that it is theirs.
pub(super) struct Shown {
    pub name: String,
    pub secret: String,
}

/// Whether a path is git's.
pub(super) fn is_git(path: &str) -> bool {
    path == PATH || path.strip_prefix(PATH).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a request is part of a push, and not of a fetch: as git asks, and in no other words, of which its `http-backend` knows more.
pub(super) fn is_push(uri: &Uri) -> bool {
    match uri.path() {
        "/git/info/refs" => uri.query() == Some("service=git-receive-pack"),
        path => path == "/git/git-receive-pack",
    }
}

/// What git sends after it was refused once: a name and a password.
pub(super) fn shown(headers: &HeaderMap) -> Option<Shown> {
    let (scheme, coded) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = base64::engine::general_purpose::STANDARD.decode(coded.trim()).ok()?;
    let text = String::from_utf8(text).ok()?;
    let (name, secret) = text.split_once(':')?;
    // It stands in events, and in the environment of git.
    if name.len() > 100 || name.chars().any(char::is_control) {
        return None;
    }
    Some(Shown { name: name.to_owned(), secret: secret.to_owned() })
}

/// Asks for a name and a password, as git understands it.
pub(super) fn unauthorized() -> Response<Body> {
    let text =
        "skep: a key is the password, as in http://ada:KEY@host/git; skep keys create --name ada --push makes one\n";
    let mut answer = Response::new(Body::from(Bytes::from_static(text.as_bytes())));
    *answer.status_mut() = StatusCode::UNAUTHORIZED;
    let headers = answer.headers_mut();
    headers.insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"skep\", charset=\"UTF-8\""));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

/// What git is refused with, as text: it shows people no other.
pub(super) fn refused(fault: &Fault) -> Response<Body> {
    let (status, why) = fault.said();
    let mut answer = Response::new(Body::from(Bytes::from(format!("skep: {why}\n"))));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

impl Pushes {
    /// Into a store that is there. `scheme` is how callers' addresses begin, where callers come to the same address.
    #[must_use]
    pub fn new(store: Store, scheme: Option<&'static str>) -> Arc<Self> {
        let (places, previews) = (Semaphore::new(AT_ONCE), Semaphore::new(PREVIEWS_AT_ONCE));
        Arc::new(Self { store, scheme, places: Arc::new(places), previews: Arc::new(previews) })
    }

    /// A place among those of whoever comes.
    fn place(&self, pusher: &Pusher) -> Result<OwnedSemaphorePermit, Fault> {
        let (places, most) =
            if pusher.previews_only { (&self.previews, PREVIEWS_AT_ONCE) } else { (&self.places, AT_ONCE) };
        let busy = |_| Fault::Unavailable(format!("{most} pushes or fetches are going on; try again"));
        Arc::clone(places).try_acquire_owned().map_err(busy)
    }

    /// Has git answer. What it began goes on to its end, also where whoever asked has gone away.
    pub(super) async fn answer(&self, request: Request<Incoming>, pusher: &Pusher) -> Result<Response<Body>, Fault> {
        let (parts, body) = request.into_parts();
        if !SERVED.contains(&(parts.method.as_str(), parts.uri.path())) {
            return Err(Fault::NotFound);
        }
        let text =
            |header: HeaderName| parts.headers.get(header).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if pusher.previews_only && !is_push(&parts.uri) {
            return Err(Fault::Missing("this key is for previews alone, and fetches nothing".to_owned()));
        }
        let place = self.place(pusher)?;
        let host = parts.uri.authority().map_or_else(|| text(HOST), |authority| authority.as_str());
        let mut git = self.store.serve(["http-backend"]);
        git.env("GIT_PROJECT_ROOT", self.store.folder().parent().unwrap_or(self.store.folder()))
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("PATH_INFO", parts.uri.path())
            .env("REQUEST_METHOD", parts.method.as_str())
            .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
            .env("CONTENT_TYPE", text(CONTENT_TYPE))
            .env("HTTP_CONTENT_ENCODING", text(CONTENT_ENCODING))
            .env("GIT_PROTOCOL", text(HeaderName::from_static("git-protocol")))
            .env("REMOTE_USER", &pusher.name)
            .env(PUSHES, if pusher.previews_only { ONLY_PREVIEWS } else { "" })
            .env("SKEP_PUSHED_TO", self.scheme.map(|scheme| format!("{scheme}://{host}")).unwrap_or_default())
            // Its own group, so that all that it starts can be ended with it.
            .process_group(0);
        match text(CONTENT_LENGTH) {
            "" => git.env_remove("CONTENT_LENGTH"),
            length => git.env("CONTENT_LENGTH", length),
        };
        let missing = |error: io::Error| Fault::Unavailable(format!("cannot run git: {error}; is it installed?"));
        let mut git = git.spawn().map_err(missing)?;
        let (Some(to), Some(from)) = (git.stdin.take(), git.stdout.take()) else {
            return Err(Fault::Unavailable("git has no way to speak".to_owned()));
        };
        tokio::spawn(feed(body, to));
        let mut from = BufReader::new(from);
        let answer = tokio::time::timeout(LONGEST, head(&mut from)).await.unwrap_or_else(|slow| Err(slow.into()));
        let (chunks, stream) = mpsc::channel::<Bytes>(4);
        let is_well = answer.is_ok();
        tokio::spawn(async move {
            if is_well {
                pass_on(&mut git, from, chunks).await;
            }
            end(&mut git).await;
            drop(place);
        });
        let mut answer = answer.map_err(|error| Fault::Unavailable(format!("git: {error}")))?;
        let frames = ReceiverStream::new(stream).map(|chunk| Ok::<_, io::Error>(Frame::data(chunk)));
        *answer.body_mut() = Body::stream(StreamBody::new(frames));
        Ok(answer)
    }
}

/// Gives git what is sent. Where it ends too early git notices, and takes nothing.
async fn feed(mut body: Incoming, mut to: ChildStdin) {
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(bytes) = frame.data_ref()
            && to.write_all(bytes).await.is_err()
        {
            return;
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

/// Passes on what git answers. Whoever goes away in the middle changes nothing about what git does.
async fn pass_on(git: &mut Child, mut from: BufReader<ChildStdout>, chunks: mpsc::Sender<Bytes>) {
    let mut stderr = git.stderr.take();
    let said = async {
        let mut said = String::new();
        if let Some(stderr) = &mut stderr {
            let _ = stderr.take(CHUNK as u64).read_to_string(&mut said).await;
            let _ = tokio::io::copy(stderr, &mut tokio::io::sink()).await;
        }
        said
    };
    let answered = async {
        let mut is_there = true;
        let mut buffer = vec![0; CHUNK];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if is_there {
                let chunk = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
                is_there = chunks.send(chunk).await.is_ok();
            }
        }
        // The last byte is the end of the answer, whatever git still tidies up.
        drop(chunks);
    };
    match tokio::time::timeout(LONGEST, async { tokio::join!(said, answered, git.wait()) }).await {
        Ok((said, (), status)) if !said.is_empty() => tracing::debug!("git ended with {status:?}: {}", said.trim()),
        Ok(_) => {}
        Err(_) => tracing::warn!("a push or fetch took longer than {LONGEST:?} and is ended"),
    }
}

/// Ends git and all that it has started, where they have not ended by themselves.
async fn end(git: &mut Child) {
    if let Some(pid) = git.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        let _ = git.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_git_asks_for_a_push_is_one() {
        let is_push = |uri: &str| is_push(&uri.parse().unwrap());
        assert!(is_push("/git/info/refs?service=git-receive-pack") && is_push("/git/git-receive-pack"));
        for other in [
            "/git/info/refs",
            "/git/info/refs?service=git-upload-pack",
            "/git/info/refs?service=git-upload-pack&x=git-receive-pack",
            "/git/info/refs?service=git-receive-pack&service=git-upload-pack",
            "/git/git-upload-pack",
            "/git/git-upload-pack?service=git-receive-pack",
            "/git/x/git-receive-pack",
        ] {
            assert!(!is_push(other), "{other}");
        }
    }

    #[test]
    fn pushes_of_previews_take_no_place_of_others() {
        let pushes = Pushes::new(Store::of(std::path::Path::new("/nowhere")), None);
        let all = Pusher::of_all("ada".to_owned());
        let ci = Pusher { previews_only: true, ..Pusher::of_all("ci".to_owned()) };
        let previews: Vec<_> = (0..PREVIEWS_AT_ONCE).map(|_| pushes.place(&ci).unwrap()).collect();
        assert!(pushes.place(&ci).is_err());
        let others: Vec<_> = (0..AT_ONCE).map(|_| pushes.place(&all).unwrap()).collect();
        assert!(pushes.place(&all).is_err());
        drop((previews, others));
        assert!(pushes.place(&ci).is_ok() && pushes.place(&all).is_ok());
    }
}
