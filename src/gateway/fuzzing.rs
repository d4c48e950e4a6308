//! The door of the fuzzers to what the gateway makes of a request's headers and path, of the requests of a connection, and of an answer; see [`crate::fuzzing`].

mod answer;
mod requests;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};

use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE};
use http::header::{TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri, Version};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::exchange::Exchange;
use super::headers::{check_request, prepare_response, wants_websocket};
use super::origin::Origin;
use super::outgoing::Outgoing;
use super::server::Server;
use super::target::Target;
use super::{Body, Gateway, Keys, Limits, Peer, Route, RouteState, Routes};
use crate::records::{Key, KeyScope, NewKey};
use crate::tree::{ApiId, Auth, Digest, Spec};

pub use answer::answer;
pub use requests::requests;

/// Reads the target of a request line.
pub fn path(data: &[u8]) {
    let Ok(uri) = Uri::try_from(data) else { return };
    let whole = uri.path_and_query().map_or("", |whole| whole.as_str());
    let is_path = uri.scheme().is_none() && uri.authority().is_none() && !whole.is_empty();
    let (id, rest) = match Target::of(&uri) {
        Ok(Target::Api { id, path }) => (id, path),
        Ok(Target::Other) => {
            let (path, _) = whole.split_once('?').unwrap_or((whole, ""));
            return assert!(is_path && (!path.starts_with("/run/") || path == "/run/"), "{whole:?}");
        }
        Err(_) => return assert!(!is_path || is_ambiguous(whole), "{whole:?} is refused for nothing"),
    };
    assert!(is_path && !is_ambiguous(whole), "{whole:?} can be read in two ways");
    assert!(!id.contains(['/', '?', '#']), "{whole:?}: {id:?}");
    // The two are the whole, byte for byte; a slash aside that was put where a path was missing.
    let joined = format!("/run/{id}{rest}");
    let without_slash = format!("/run/{id}{}", rest.as_str().strip_prefix('/').expect("a path"));
    assert!(whole == joined || whole == without_slash, "{whole:?}: {id:?} and {rest:?}");
    let again = joined.parse().map(|uri| Target::of(&uri));
    assert_eq!(again.ok(), Some(Ok(Target::Api { id, path: rest })));
}

/// Whether the part of a path below the id means something else to one who decodes it, or who drops dot segments.
fn is_ambiguous(whole: &str) -> bool {
    let (path, _) = whole.split_once('?').unwrap_or((whole, ""));
    let below = path.strip_prefix("/run/").and_then(|rest| rest.split_once('/')).map_or("", |(_, below)| below);
    let decoded = decode(below.as_bytes());
    let slashes = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'/').count();
    decoded.contains(&b'\\')
        || decoded.contains(&0)
        || slashes(&decoded) != slashes(below.as_bytes())
        || decoded.split(|byte| *byte == b'/').any(|segment| segment == b"." || segment == b"..")
}

/// Percent-decodes once, as the servers of apps do; what is no hexadecimal stays.
fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, after @ ..] = rest {
        let digits = rest.get(1..3).filter(|_| *first == b'%').and_then(|digits| hex::decode(digits).ok());
        let is_encoded = digits.is_some();
        decoded.extend(digits.unwrap_or_else(|| vec![*first]));
        rest = if is_encoded { &rest[3..] } else { after };
    }
    decoded
}

/// Keys of callers: what each opens.
const KEYS: [(&str, &[&str]); 4] =
    [("skep_all", &["mine", "open"]), ("skep_mine", &["mine"]), ("skep_open", &["open"]), ("skep_gone", &[])];

/// A server with a private route, a public one, and the keys of [`KEYS`].
static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let routes = Routes::default();
    for (name, auth) in [("mine", Auth::Key), ("open", Auth::None)] {
        let spec = Spec::built_in(name);
        let mut settings = spec.route.clone();
        settings.auth = auth;
        let id = ApiId::new(name).expect("an id");
        let route =
            Route { id: id.clone(), settings, rate_limit: None, digest: spec.digest(), state: RouteState::Suspended };
        routes.set(&id, Some(route));
    }
    let keys = Keys::default();
    keys.set(KEYS.map(|(secret, apis)| key(secret, apis)));
    let gateway = Gateway::new(Arc::new(routes), Arc::new(keys), Limits::default());
    let other = |_| async { Response::new(Body::empty()) };
    Server {
        gateway: Arc::new(gateway),
        other: Arc::new(other),
        tasks: TaskTracker::new(),
        end: CancellationToken::new(),
    }
});

fn key(secret: &str, apis: &[&str]) -> Key {
    let ids = apis.iter().map(|id| ApiId::new(id).expect("an id")).collect();
    let scope = if apis.len() > 1 { KeyScope::All } else { KeyScope::Apis(ids) };
    let scope = if apis.is_empty() { KeyScope::All } else { scope };
    let revoked = apis.is_empty().then_some(Timestamp::UNIX_EPOCH);
    let hash = Digest::of(secret.as_bytes());
    let made = NewKey::generate("", scope, Timestamp::UNIX_EPOCH).key;
    Key { hash, revoked, ..made }
}

/// Reads the headers of a request, and of an answer. The first byte says for which API and in which version, the lines
/// after it are headers.
pub fn headers(data: &[u8]) {
    let Some((flags, lines)) = data.split_first() else { return };
    let given = parse(lines);
    check_answer(&given);
    let id = if flags & 1 == 0 { "mine" } else { "open" };
    let version = if flags & 2 == 0 { Version::HTTP_11 } else { Version::HTTP_10 };
    if check_request(&Method::GET, version, &given).is_err() {
        return;
    }
    assert!(given.get_all(HOST).iter().count() == 1 || !given.contains_key(HOST) && version == Version::HTTP_10);
    assert!(given.get_all(TRANSFER_ENCODING).iter().all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked")));
    assert!(given.get_all(TRANSFER_ENCODING).iter().count() <= 1);

    let peer = Peer(SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped(), 4711)));
    let origin = Origin::new(peer, false);
    let mut exchange = Exchange::new(&SERVER, &origin, Method::GET);
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.headers = given.clone();
    let opens = opens(&given, id);
    let route = SERVER.gateway.routes.get(id);
    let entered = exchange.enter(route.as_deref(), id, "/", &parts);
    assert_eq!(entered.is_ok(), opens || id == "open", "{given:?}");
    let (Some(route), Ok(pass)) = (route, entered) else { return };
    assert_eq!(pass.is_some(), opens, "{given:?}");
    let upgrade = wants_websocket(&given);
    let mut head = Outgoing::new(&Method::GET, &PathAndQuery::from_static("/"));
    exchange.prepare(&mut head, &route, pass, upgrade, &mut parts.headers);
    // As the app reads it, and where the body ends as it is said to who sends it.
    let text = head.into_text();
    let lines = text.strip_prefix(b"GET / HTTP/1.1\r\n").expect("a request line");
    let mut prepared = parse(lines);
    assert_eq!(prepared.len(), lines.split(|byte| *byte == b'\n').count() - 1, "each line is a field");
    for name in [CONTENT_LENGTH, TRANSFER_ENCODING] {
        assert!(!prepared.contains_key(&name), "{name} is for who sends it to say");
        prepared.extend(parts.headers.get_all(&name).iter().map(|value| (name.clone(), value.clone())));
    }
    check_prepared(&given, &prepared, id, upgrade);
    let shown = prepared.get(AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
    assert!(shown.is_empty() || id == "open" && !opens, "{shown:?} is for us, not for the app");
}

/// Headers as a connection would read them; lines that are none are left out.
fn parse(lines: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

/// Whether a key opens the API: by the one token of the one header.
fn opens(headers: &HeaderMap, id: &str) -> bool {
    let values: Vec<_> = headers.get_all(AUTHORIZATION).iter().collect();
    let [value] = values.as_slice() else { return false };
    let Some((scheme, token)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else { return false };
    scheme.eq_ignore_ascii_case("bearer")
        && KEYS.iter().any(|(secret, apis)| *secret == token.trim() && apis.contains(&id))
}

/// What the sender has named as being about its connection.
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    let words = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    words.filter_map(|word| HeaderName::from_bytes(word.trim_ascii()).ok()).collect()
}

/// Whether a header is about one connection, as RFC 9110 and its elders have it, or by the sender's own word.
fn is_about_connection(name: &HeaderName, named: &[HeaderName]) -> bool {
    let fixed = ["connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te"];
    fixed.contains(&name.as_str())
        || name == TRANSFER_ENCODING
        || name == UPGRADE
        || (named.contains(name) && name != HOST && name != CONTENT_LENGTH)
}

/// An app hears of its caller from us alone, and all else as it came.
fn check_prepared(given: &HeaderMap, prepared: &HeaderMap, id: &str, upgrade: bool) {
    let named = named(given);
    let spoofable = ["x-real-ip", "x-request-id", "forwarded", "expect"];
    let prefix = format!("/run/{id}");
    let ours = [
        ("x-forwarded-for", Some(&b"192.0.2.7"[..])),
        ("x-forwarded-proto", Some(b"http")),
        ("x-forwarded-host", given.get(HOST).map(HeaderValue::as_bytes)),
        ("x-forwarded-prefix", Some(prefix.as_bytes())),
        ("transfer-encoding", given.contains_key(TRANSFER_ENCODING).then_some(b"chunked")),
        ("upgrade", upgrade.then_some(b"websocket")),
    ];
    for (name, value) in ours {
        let found: Vec<_> = prepared.get_all(name).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(found, value.into_iter().collect::<Vec<_>>(), "{name}");
    }
    let forwarded: Vec<_> = prepared.get_all("forwarded").iter().collect();
    let [forwarded] = forwarded.as_slice() else { panic!("{forwarded:?}") };
    let forwarded = forwarded.to_str().expect("ASCII");
    assert!(forwarded.starts_with("for=192.0.2.7;proto=http"), "{forwarded}");
    // Outside of quotes it says one thing of each, and nothing of another hop.
    let outside: String = forwarded.split('"').step_by(2).collect();
    assert!(outside.matches("for=").count() == 1 && !outside.contains(','), "{forwarded}");
    let traces: Vec<_> = prepared.get_all("traceparent").iter().collect();
    let [trace] = traces.as_slice() else { panic!("{traces:?}") };
    assert_eq!(trace.len(), 55, "{trace:?}");
    let request_ids: Vec<_> = prepared.get_all("x-request-id").iter().collect();
    let [request_id] = request_ids.as_slice() else { panic!("{request_ids:?}") };
    let request_id = Uuid::try_parse(request_id.to_str().unwrap_or_default()).expect("a UUID");
    assert_eq!(request_id.get_version_num(), 7);
    assert!(prepared.get_all(TE).iter().all(|value| value == "trailers"));
    // Who says what is about the connection to the app, is us: each name is there, and is one of these two.
    for name in self::named(prepared) {
        assert!((name == TE || name == UPGRADE) && prepared.contains_key(&name), "{prepared:?}");
    }
    assert_eq!(prepared.contains_key(TE), self::named(prepared).contains(&TE), "{prepared:?}");
    for name in given.keys().chain(prepared.keys()) {
        let traces = ["forwarded", "traceparent", "tracestate"];
        let is_ours = ours.iter().any(|(ours, _)| ours == name) || name == "x-request-id" || name == TE;
        let is_ours = is_ours || traces.contains(&name.as_str());
        if is_ours || name == CONNECTION || name == AUTHORIZATION {
            continue;
        }
        // As a server reads it that makes one of both.
        let read = name.as_str().replace('_', "-");
        let is_of_caller =
            read.starts_with("x-skep-") || read.starts_with("x-forwarded-") || spoofable.contains(&&*read);
        if is_about_connection(name, &named) || is_of_caller {
            assert!(!prepared.contains_key(name), "{name} must stay behind");
        } else {
            assert!(given.get_all(name).iter().eq(prepared.get_all(name)), "{name} must go on as it came");
        }
    }
    if prepared.contains_key(AUTHORIZATION) {
        let values = prepared.get_all(AUTHORIZATION);
        assert!(given.get_all(AUTHORIZATION).iter().eq(values.iter()) && !named.contains(&AUTHORIZATION));
        assert!(!values.iter().any(|value| KEYS.iter().any(|(key, _)| holds(value.as_bytes(), key))), "{values:?}");
    }
}

fn holds(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}

/// Of an answer, all goes on but what is about the connection to the app, or about the whole origin.
fn check_answer(given: &HeaderMap) {
    let mut prepared = given.clone();
    prepare_response(&mut prepared);
    let named = named(given);
    let origin = ["alt-svc", "clear-site-data", "service-worker-allowed", "strict-transport-security"];
    for name in given.keys().chain(prepared.keys()) {
        if is_about_connection(name, &named) || origin.contains(&name.as_str()) {
            assert!(!prepared.contains_key(name), "{name} must stay behind");
        } else {
            assert!(given.get_all(name).iter().eq(prepared.get_all(name)), "{name} must go on as it came");
        }
    }
}
