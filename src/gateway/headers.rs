//! Which headers go on, which stay behind, and which are ours.

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE, VARY,
};

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

/// Headers that are about one connection and end with it (RFC 9110, section 7.6.1, and their older kin).
/// `Trailer` is not among them: it announces what comes after the body, and we pass that on.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Headers by which a caller could pass itself off as somebody else; an app may only hear them from us.
const SPOOFABLE: [HeaderName; 4] = [
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-ssl"),
];

/// Headers of an answer that speak for the whole origin, which one API shares with all others.
const ORIGIN_WIDE: [HeaderName; 4] = [
    HeaderName::from_static("alt-svc"),
    HeaderName::from_static("clear-site-data"),
    HeaderName::from_static("service-worker-allowed"),
    HeaderName::from_static("strict-transport-security"),
];

/// Takes out what an answer may not say: what is about the connection to the app, and what an API may not decide for
/// its neighbours.
pub(super) fn prepare_response(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
    for name in &ORIGIN_WIDE {
        headers.remove(name);
    }
}

/// Takes out what is about the connection that a request came on, or about who sent it, before ours is put in.
///
/// What decides the length of the body is settled by its own type, so it stays consistent whatever is removed here;
/// only that there is a body of unknown length must be said, since hyper takes `GET` to have none.
pub(super) fn prepare_request(headers: &mut HeaderMap) {
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    let trailers = has_token(headers, &TE, "trailers");
    remove_hop_by_hop(headers);
    for name in &SPOOFABLE {
        headers.remove(name);
    }
    // It has done its work when we read the body: the caller is told to go on only after keys and limits have passed.
    headers.remove(EXPECT);
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
    for name in &HOP_BY_HOP {
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
pub(super) fn check_request(version: http::Version, headers: &HeaderMap) -> Result<(), &'static str> {
    let hosts = headers.get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && version == http::Version::HTTP_11) {
        return Err("a request needs exactly one Host header");
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err("the only Transfer-Encoding that is understood is chunked"),
    }
}

/// A header value of text that we made ourselves or that came out of a header.
pub(super) fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
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
        let check = |lines: &[(&'static str, &'static str)]| check_request(http::Version::HTTP_11, &headers(lines));
        assert!(check(&[("host", "a")]).is_ok());
        assert!(check(&[("host", "a"), ("transfer-encoding", "Chunked")]).is_ok());
        assert!(check(&[]).is_err());
        assert!(check(&[("host", "a"), ("host", "b")]).is_err());
        assert!(check(&[("host", "a"), ("transfer-encoding", "gzip, chunked")]).is_err());
        assert!(check(&[("host", "a"), ("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")]).is_err());
        assert!(check_request(http::Version::HTTP_10, &headers(&[])).is_ok());
    }
}
