//! The catalog: what the APIs that a caller may call say of themselves, as one OpenAPI document.
//!
//! Apps are asked for their own `/openapi.json`, at most once for each revision and some minutes, so that whoever reads
//! the catalog all the time costs them nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use http::header::{ACCEPT, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;
use tokio::sync::Mutex;

use super::download::Download;
use super::forward::{Call, forward};
use super::keys::{self, Keys, Shown};
use super::networks;
use super::openapi::{Piece, join};
use super::outgoing::Outgoing;
use super::route::{Route, RouteState, Routes};
use super::tokens::Tokens;
use super::upload::Upload;
use crate::tree::{ApiId, Auth, Revision};

/// Where apps describe themselves, as FastAPI has it.
const PLACE: &str = "/openapi.json";

/// The most bytes of one app's document, which take some fifty times that while they are read.
const MOST_EACH: usize = 512 << 10;

/// The most bytes of all that is kept, and so about those of an answer.
const MOST_TOGETHER: usize = 32 << 20;

/// How long one app may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long all of them may; who has not answered by then is missing this time.
const PATIENCE_TOGETHER: Duration = Duration::from_secs(10);

/// How many apps are asked at once.
const AT_ONCE: usize = 4;

/// How long a document holds, and how long the reason why there is none.
const HOLDS: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(10));

/// What the APIs say of themselves.
pub struct Catalog {
    routes: Arc<Routes>,
    keys: Arc<Keys>,
    tokens: Arc<Tokens>,
    /// Held while apps are asked, so that many readers ask once.
    entries: Mutex<HashMap<ApiId, Entry>>,
}

struct Entry {
    revision: Revision,
    /// Who may call, which stands in it too.
    auth: Auth,
    at: Instant,
    /// What it says, or why there is nothing.
    said: Result<Piece, Silence>,
}

/// Why there is nothing of an API.
enum Silence {
    /// It may say something the next time.
    For(String),
    /// What it says is too much.
    TooLong,
}

impl Entry {
    fn holds(&self, route: &Route, revision: &Revision) -> bool {
        let span = if matches!(self.said, Err(Silence::For(_))) { HOLDS.1 } else { HOLDS.0 };
        self.revision == *revision && self.auth == route.settings.auth && self.at.elapsed() < span
    }

    fn length(&self) -> usize {
        self.said.as_ref().map_or(0, Piece::length)
    }
}

impl Catalog {
    /// A catalog of what these routes lead to, for those whom these keys and tokens let in.
    #[must_use]
    pub fn new(routes: Arc<Routes>, keys: Arc<Keys>, tokens: Arc<Tokens>) -> Self {
        Self { routes, keys, tokens, entries: Mutex::default() }
    }

    /// The document for a caller at that address who sends these headers: public APIs, and those that its key or token
    /// opens, but none that the address is kept out of.
    pub async fn document(&self, address: IpAddr, headers: &HeaderMap) -> String {
        let token = keys::bearer(headers);
        let table = self.routes.table();
        let mut open: Vec<Arc<Route>> =
            table.values().filter(|route| self.is_open(route, address, token)).cloned().collect();
        open.sort_by(|one, other| one.id.cmp(&other.id));
        let (mut missing, mut serving) = (Vec::new(), Vec::new());
        for route in open {
            match &route.state {
                RouteState::Serving { revision, .. } => serving.push((Arc::clone(&route), revision.clone())),
                RouteState::Suspended => missing.push((route.id.clone(), "it is paused".to_owned())),
                RouteState::Unavailable { .. } => missing.push((route.id.clone(), "nothing of it is ready".to_owned())),
            }
        }
        let mut entries = self.entries.lock().await;
        entries.retain(|id, _| table.contains_key(id));
        self.ask(&mut entries, &serving).await;
        let mut pieces = Vec::new();
        for (route, _) in &serving {
            match entries.get(&route.id).map(|entry| &entry.said) {
                Some(Ok(piece)) => pieces.push(piece),
                Some(Err(Silence::For(why))) => missing.push((route.id.clone(), why.clone())),
                Some(Err(Silence::TooLong)) => missing.push((route.id.clone(), "there is no room for more".to_owned())),
                None => missing.push((route.id.clone(), "it has not answered yet; ask again".to_owned())),
            }
        }
        join(pieces, &missing)
    }

    /// Whether whoever shows that token at that address may call the API.
    fn is_open(&self, route: &Route, address: IpAddr, token: Option<&str>) -> bool {
        if !networks::let_in(&route.settings, address) {
            return false;
        }
        let shown = match route.settings.auth {
            Auth::None => return true,
            Auth::Key => self.keys.admit(token, route.id.as_str(), Method::GET.as_str(), PLACE),
            Auth::Jwt => self.tokens.admit(token),
        };
        matches!(shown, Shown::Opens(_))
    }

    /// Asks those of whom nothing is known that still holds.
    async fn ask(&self, entries: &mut HashMap<ApiId, Entry>, serving: &[(Arc<Route>, Revision)]) {
        let mut stale = Vec::new();
        for (route, revision) in serving {
            if !entries.get(&route.id).is_some_and(|entry| entry.holds(route, revision)) {
                stale.push((Arc::clone(route), revision.clone()));
            }
        }
        let asked = stream::iter(stale).map(|(route, revision)| async move {
            let said = match tokio::time::timeout(PATIENCE, self.read(&route)).await {
                Ok(said) => said,
                Err(_) => Err(format!("it did not answer within {PATIENCE:?}")),
            };
            let (auth, said) = (route.settings.auth, said.map_err(Silence::For));
            (route.id.clone(), Entry { revision, auth, at: Instant::now(), said })
        });
        let answers: Vec<(ApiId, Entry)> =
            asked.buffer_unordered(AT_ONCE).take_until(tokio::time::sleep(PATIENCE_TOGETHER)).collect().await;
        let mut kept: usize = entries.values().map(Entry::length).sum();
        for (id, mut entry) in answers {
            kept -= entries.get(&id).map_or(0, Entry::length);
            if kept + entry.length() > MOST_TOGETHER {
                entry.said = Err(Silence::TooLong);
            }
            kept += entry.length();
            entries.insert(id, entry);
        }
    }

    /// What one app says of itself.
    async fn read(&self, route: &Arc<Route>) -> Result<Piece, String> {
        let fields = [(HOST, "localhost"), (ACCEPT, "application/json")];
        let headers = fields.map(|(name, value)| (name, HeaderValue::from_static(value))).into_iter().collect();
        let mut head = Outgoing::new(&Method::GET, &PathAndQuery::from_static(PLACE));
        head.add_all(&headers);
        let call = Call::new(&Method::GET, head, headers, Upload::empty(), PATIENCE, 0);
        let no_answer = |_| "it does not answer".to_owned();
        let answer = forward(&self.routes, None, route, call).await.map_err(no_answer)?;
        if answer.response.status() != StatusCode::OK {
            return Err(format!("its {PLACE} answers {}", answer.response.status().as_u16()));
        }
        let download = Download::new(answer.hop, answer.upload, answer.in_flight, None);
        let body = Limited::new(download, MOST_EACH).collect().await;
        let bytes = body.map_err(|_| format!("its {PLACE} breaks off, or is longer than 512 KiB"))?.to_bytes();
        let (id, auth) = (route.id.clone(), route.settings.auth);
        // Not on a thread that callers are served on: a large one takes some milliseconds.
        let read = tokio::task::spawn_blocking(move || {
            let document: Value = serde_json::from_slice(&bytes).map_err(|_| format!("its {PLACE} is no JSON"))?;
            Piece::of(&id, auth, &document).map_err(str::to_owned)
        });
        read.await.unwrap_or_else(|_| Err(format!("its {PLACE} cannot be read")))
    }
}
