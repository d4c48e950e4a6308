//! Which headers go on, which stay behind, and which are ours.

use std::time::Duration;

use arrayvec::ArrayString;
use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
    VARY,
};
use http::{Method, Version};

pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const X_PROCESS_TIME: HeaderName = HeaderName::from_static("x-process-time");
/// By which a caller asks for `Server-Timing`.
pub(super) const X_SERVER_TIMING: HeaderName = HeaderName::from_static("x-server-timing");
pub(super) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
pub(super) const X_RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
pub(super) const X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
pub(super) const X_RATELIMIT_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Whether a header is about one connection and ends with it (RFC 9110, section 7.6.1, and its older kin).
/// `Trailer` is not among them: it announces what comes after the body, and we pass that on.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// What only we tell an app: where a request comes from and what it is called, with each request ([`super::outgoing`]) or not.
const OURS: [&str; 3] = ["forwarded", "x-real-ip", "x-request-id"];

/// How the names of more of them begin.
const OURS_BEGIN: [&str; 2] = ["x-forwarded-", "x-skep-"];

/// Whether a caller could pass itself off as somebody else by that header, or trailer; an app may only hear it from us.
pub(super) fn is_ours(name: &str) -> bool {
    // Most begin with another letter.
    matches!(name.as_bytes(), [b'f' | b'x', ..])
        && (OURS.iter().any(|ours| reads_as(name, ours)) || OURS_BEGIN.iter().any(|ours| begins_as(name, ours)))
}

/// Whether two names are one to a server that hands names on with `_` in the place of `-`, as those of WSGI do.
fn reads_as(name: &str, ours: &str) -> bool {
    name.len() == ours.len() && begins_as(name, ours)
}

fn begins_as(name: &str, start: &str) -> bool {
    let same = |(a, b): (u8, u8)| a == b || (a == b'_' && b == b'-');
    name.len() >= start.len() && name.bytes().zip(start.bytes()).all(same)
}

/// Whether a field may come after the body of a request: not one that says where that ends, how it is read, who sends it or what
/// the head alone may say (RFC 9110, section 6.5.1). Some servers put both together.
pub(super) fn may_follow(name: &str) -> bool {
    const MAY_NOT: [&str; 17] = [
        "authorization",
        "cache-control",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "host",
        "max-forwards",
        "origin",
        "referer",
        "set-cookie",
        "traceparent",
        "tracestate",
        "trailer",
        "x-http-method-override",
    ];
    let name = &*name.replace('_', "-");
    !is_ours(name) && !is_hop_by_hop(name) && !MAY_NOT.contains(&name)
}

/// Whether a header of an answer speaks for the whole origin, which one API shares with all others.
fn is_origin_wide(name: &str) -> bool {
    matches!(name, "alt-svc" | "clear-site-data" | "service-worker-allowed" | "strict-transport-security")
}

/// Takes out what an answer may not say: what is about the connection to the app, and what an API may not decide for
/// its neighbours.
pub(super) fn prepare_response(headers: &mut HeaderMap) {
    remove_hop_by_hop_and(headers, is_origin_wide);
}

/// Takes out what is about the connection that a request came on, or about who sent it, before ours is put in.
///
/// What decides the length of the body is settled by its own type, so it stays consistent whatever is removed here;
/// only that there is a body of unknown length must be said, since hyper takes `GET` to have none.
pub(super) fn prepare_request(headers: &mut HeaderMap) {
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    let trailers = has_token(headers, &TE, "trailers");
    // `Expect` has done its work when we read the body: the caller is told to go on only after keys and limits have passed.
    remove_hop_by_hop_and(headers, |name| is_ours(name) || name == "expect");
    if chunked {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
}

/// Takes out what is about one connection.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    remove_hop_by_hop_and(headers, |_| false);
}

/// Takes out what is about one connection, and what else is not wanted.
fn remove_hop_by_hop_and(headers: &mut HeaderMap, is_unwanted: impl Fn(&str) -> bool) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        // As bytes: one that is no ASCII must not hide the names beside it.
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        // What says where a message goes and where it ends is not the sender's to take away.
        .filter(|name| name != HOST && name != CONTENT_LENGTH)
        .collect();
    for name in &named {
        headers.remove(name);
    }
    remove_where(headers, |name| is_hop_by_hop(name) || is_unwanted(name));
}

/// Takes out every header whose name is of that kind. One look at the few that there are costs less than a search for each
/// that there could be.
pub(super) fn remove_where(headers: &mut HeaderMap, is_unwanted: impl Fn(&str) -> bool) {
    let found: Vec<HeaderName> = headers.keys().filter(|name| is_unwanted(name.as_str())).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// Whether a request asks to become a WebSocket. Other upgrades (`h2c` above all, which would carry requests past us)
/// are not offered; a server may ignore the wish, and the request goes on as a plain one.
pub(super) fn wants_websocket(headers: &HeaderMap) -> bool {
    has_token(headers, &CONNECTION, "upgrade") && has_token(headers, &UPGRADE, "websocket")
}

/// Whether an answer is a stream of events, which lasts for as long as its caller listens.
pub(super) fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    kind.get(..17).is_some_and(|start| start.eq_ignore_ascii_case(b"text/event-stream"))
}

/// Whether one of a header's comma-separated words is `token`.
pub(super) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let words = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    words.map(str::trim).any(|word| word.eq_ignore_ascii_case(token))
}

/// Says that an answer depends on that header of its request.
pub(super) fn vary(headers: &mut HeaderMap, on: HeaderName) {
    if !has_token(headers, &VARY, "*") && !has_token(headers, &VARY, on.as_str()) {
        headers.append(VARY, on.into());
    }
}

/// Refuses what hyper lets pass and an upstream might read in another way.
///
/// # Errors
/// A sentence for the caller.
pub(super) fn check_request(method: &Method, version: Version, headers: &HeaderMap) -> Result<(), &'static str> {
    if method == Method::CONNECT {
        return Err("this is no proxy to be connected through");
    }
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && version == Version::HTTP_11) {
        return Err("a request needs exactly one Host header");
    }
    if headers.get(HOST).is_some_and(|host| !is_host(host.as_bytes())) {
        return Err("the Host header must be a name or an address, with a port or without");
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err("the only Transfer-Encoding that is understood is chunked"),
    }
}

/// Whether that is what a `Host` header may hold (RFC 9110, section 7.2): nothing, or a name, an IPv4 address or an IPv6 one in
/// brackets, and maybe a port.
fn is_host(host: &[u8]) -> bool {
    let is_port = |port: &[u8]| {
        let text = std::str::from_utf8(port).unwrap_or("-");
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text.is_empty() || text.parse::<u16>().is_ok())
    };
    if let [b'[', rest @ ..] = host {
        let Some(end) = rest.iter().position(|byte| *byte == b']') else { return false };
        let is_address = std::str::from_utf8(&rest[..end]).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok());
        return is_address
            && matches!(&rest[end + 1..], [] | [b':', ..])
            && is_port(rest.get(end + 2..).unwrap_or_default());
    }
    let (name, port) = match host.iter().position(|byte| *byte == b':') {
        Some(colon) => (&host[..colon], &host[colon + 1..]),
        None => (host, &b""[..]),
    };
    // Names, as far as URLs know them, but for the comma, which makes two of one where headers are joined.
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte);
    name.iter().all(is_of_name) && is_port(port)
}

/// A header value of text that we made ourselves or that came out of a header.
pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// A time in milliseconds, to the hundredth.
pub(super) fn millis(span: Duration) -> HeaderValue {
    let hundredths = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX).saturating_add(5_000) / 10_000;
    let (mut whole, mut part) = (itoa::Buffer::new(), itoa::Buffer::new());
    let point = if hundredths % 100 < 10 { ".0" } else { "." };
    let mut text = ArrayString::<24>::new();
    for piece in [whole.format(hundredths / 100), point, part.format(hundredths % 100)] {
        // It fits.
        let _ = text.try_push_str(piece);
    }
    value(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn what_is_about_one_connection_stays_behind() {
        let mut map = headers(&[
            ("connection", "close, X-Private"),
            ("connection", "host, content-length"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers, deflate"),
            ("upgrade", "h2c"),
            ("host", "here"),
            ("content-length", "3"),
            ("forwarded", "for=1.2.3.4"),
            ("expect", "100-continue"),
            ("accept", "a"),
            ("accept", "b"),
            ("trailer", "x-sum"),
        ]);
        prepare_request(&mut map);
        let expected = headers(&[
            ("host", "here"),
            ("content-length", "3"),
            ("accept", "a"),
            ("accept", "b"),
            ("trailer", "x-sum"),
            ("te", "trailers"),
            ("connection", "te"),
        ]);
        assert_eq!(map, expected);
    }

    #[test]
    fn what_only_we_say_is_ours_in_all_that_a_server_reads_as_the_same() {
        for name in
            ["forwarded", "x-forwarded-for", "x_forwarded_for", "x-forwarded_server", "X_Request_Id", "x_real-ip"]
        {
            let name = name.to_lowercase();
            assert!(is_ours(&name) && !may_follow(&name), "{name}");
        }
        for name in ["x-skep-subject", "x_skep_claim_email", "x-skep-"] {
            assert!(is_ours(name) && !may_follow(name), "{name}");
        }
        for name in ["x-forwarded", "x-request", "x-request-id-of-theirs", "from", "x-skepsis", "grpc-status", "x-sum"]
        {
            assert!(!is_ours(name) && may_follow(name), "{name}");
        }
        for name in
            ["cookie", "authorization", "content_type", "transfer_encoding", "te", "proxy-authorization", "host"]
        {
            assert!(!may_follow(name), "{name}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_maybe_a_port() {
        for host in [
            "",
            "a",
            "a.example.com",
            "a:80",
            "a:",
            "127.0.0.1:8663",
            "[::1]",
            "[::1]:80",
            "a_b",
            "xn--bcher-kva.example.",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "a b",
            "a/b",
            "a@b",
            "a,b",
            "a:abc",
            "a:99999",
            "a:+1",
            "[::1",
            "[::1]x",
            "[::1]:x",
            "::1",
            "[a]",
            "b\u{fc}cher",
            "a?b",
            "a#b",
            "[]",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn a_time_is_told_to_the_hundredth_of_a_millisecond() {
        for (micros, expected) in [(0, "0.00"), (14, "0.01"), (16, "0.02"), (1_250, "1.25"), (71_030, "71.03")] {
            assert_eq!(millis(Duration::from_micros(micros)), expected);
        }
    }

    #[test]
    fn a_byte_that_is_no_ascii_does_not_hide_the_names_beside_it() {
        let mut map = headers(&[("x-private", "1")]);
        map.insert(CONNECTION, HeaderValue::from_bytes(b"\xff, x-private").unwrap());
        remove_hop_by_hop(&mut map);
        assert_eq!(map, headers(&[]));
    }

    #[test]
    fn only_a_websocket_is_an_upgrade() {
        assert!(wants_websocket(&headers(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")])));
        assert!(!wants_websocket(&headers(&[("connection", "upgrade"), ("upgrade", "h2c")])));
        assert!(!wants_websocket(&headers(&[("upgrade", "websocket")])));
    }

    #[test]
    fn a_message_whose_end_or_host_is_doubtful_is_refused() {
        let check =
            |lines: &[(&'static str, &'static str)]| check_request(&Method::GET, Version::HTTP_11, &headers(lines));
        assert!(check(&[("host", "a")]).is_ok());
        assert!(check(&[("host", "a"), ("transfer-encoding", "Chunked")]).is_ok());
        assert!(check(&[]).is_err());
        assert!(check(&[("host", "a"), ("host", "b")]).is_err());
        assert!(check(&[("host", "a"), ("transfer-encoding", "gzip, chunked")]).is_err());
        assert!(check(&[("host", "a"), ("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")]).is_err());
        assert!(check_request(&Method::GET, Version::HTTP_10, &headers(&[])).is_ok());
    }
}
