//! Pushes and fetches over HTTP: who comes is let in here, and git's own `http-backend` does the rest.

use std::io;
use std::sync::Arc;

use base64::Engine as _;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;

use super::exchange::Exchange;
use super::fault::Fault;
use super::opening::Opening;
use super::places::{Places, Purpose};
use crate::gateway::{Body, Pusher};
use crate::git::gloss::Gloss;
use crate::git::store::Store;
use crate::git::tether::{TETHER, Tether};
use crate::tree::Size;

/// Where the repository is, below the control surface.
const PATH: &str = "/git";

/// The variable that tells the hook what may be pushed, and what it then says.
pub const PUSHES: &str = "SKEP_PUSHES";
/// Pull requests to be previewed, and nothing else.
pub const ONLY_PREVIEWS: &str = "previews";

/// The paths of git's protocol over HTTP that are answered, and by which methods.
const SERVED: [(&str, &str); 3] =
    [("GET", "/git/info/refs"), ("POST", "/git/git-receive-pack"), ("POST", "/git/git-upload-pack")];

/// Takes pushes into a store.
#[derive(Debug)]
pub struct Pushes {
    store: Store,
    /// How callers' addresses begin, where this is the address that callers use too.
    scheme: Option<&'static str>,
    /// Bounds how many pushes and fetches there are at once.
    places: Arc<Places>,
    /// How large a push may be.
    max_size: Size,
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
    pub fn new(store: Store, scheme: Option<&'static str>, max_size: Size) -> Arc<Self> {
        Arc::new(Self { store, scheme, places: Arc::default(), max_size })
    }

    /// Has git answer. What it began goes on to its end, also where whoever asked has gone away.
    pub(super) async fn answer(&self, request: Request<Incoming>, pusher: &Pusher) -> Result<Response<Body>, Fault> {
        let (parts, mut body) = request.into_parts();
        if !SERVED.contains(&(parts.method.as_str(), parts.uri.path())) {
            return Err(Fault::NotFound);
        }
        let text =
            |header: HeaderName| parts.headers.get(header).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let is_push = is_push(&parts.uri);
        if pusher.previews_only && !is_push {
            return Err(Fault::Missing("this key is for previews alone, and fetches nothing".to_owned()));
        }
        let is_question = parts.method == Method::GET;
        let mut opening = Opening::default();
        if is_push && !is_question {
            let broke_off = |error: io::Error| Fault::Bad(format!("this push breaks off: {error}"));
            opening = Opening::read(&mut body).await.map_err(broke_off)?;
        }
        let purpose = match is_push {
            _ if is_question || opening.brings_nothing => Purpose::Moment,
            false => Purpose::Fetch,
            true if pusher.previews_only => Purpose::Preview,
            true => Purpose::Push,
        };
        let place = self.places.take(purpose).await?;
        let tether = (is_push && !is_question).then(|| Tether::new(self.store.folder())).transpose();
        let tether = tether.map_err(|error| Fault::Unavailable(format!("cannot make a pipe: {error}")))?;
        let host = parts.uri.authority().map_or_else(|| text(HOST), |authority| authority.as_str());
        let mut git = self.store.serve(["http-backend"]);
        git.env("GIT_PROJECT_ROOT", self.store.folder().parent().unwrap_or(self.store.folder()))
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("PATH_INFO", parts.uri.path())
            .env("REQUEST_METHOD", parts.method.as_str())
            .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
            .env("CONTENT_TYPE", text(CONTENT_TYPE))
            .env("HTTP_CONTENT_ENCODING", text(CONTENT_ENCODING))
            // Told how much is to come, it waits for that for ever, at full speed, where less does. Untold, it reads to the end.
            .env_remove("CONTENT_LENGTH")
            .env("GIT_PROTOCOL", text(HeaderName::from_static("git-protocol")))
            .env("REMOTE_USER", &pusher.name)
            .env(PUSHES, if pusher.previews_only { ONLY_PREVIEWS } else { "" })
            .env(TETHER, tether.as_ref().map(Tether::path).unwrap_or_default())
            .env("SKEP_PUSHED_TO", self.scheme.map(|scheme| format!("{scheme}://{host}")).unwrap_or_default())
            // Its own group, so that all that it starts can be ended with it.
            .process_group(0);
        let missing = |error: io::Error| Fault::Unavailable(format!("cannot run git: {error}; is it installed?"));
        let git = git.spawn().map_err(missing)?;
        let gloss = tether.as_ref().map(|_| Gloss::new(self.max_size));
        let places = Arc::clone(&self.places);
        Exchange { git, opening: opening.bytes, body, tether, gloss, place, places }.answer().await
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
}
