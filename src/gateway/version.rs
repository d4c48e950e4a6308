//! A request of HTTP/2 is read as the one of HTTP/1.1 that stands for the same, since that is what apps are sent.

use http::header::{CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Request, Uri};

/// The most header fields; as many as hyper takes of HTTP/1.1.
const FIELDS: usize = 100;

/// Writes a request of HTTP/2 as one of HTTP/1.1; `has_body` where more than its head is still to come.
///
/// # Errors
/// A sentence for the caller, where the two could be read differently.
pub(super) fn as_http1<B>(request: &mut Request<B>, has_body: bool) -> Result<(), &'static str> {
    let uri = std::mem::take(request.uri_mut());
    let headers = request.headers_mut();
    if headers.len() > FIELDS {
        return Err("the request has too many header fields");
    }
    // Where it goes (RFC 9113, section 8.3.1).
    if let Some(authority) = uri.authority() {
        if authority.as_str().contains('@') {
            return Err(":authority must not name a user");
        }
        let mut hosts = headers.get_all(HOST).iter();
        if hosts.any(|host| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())) {
            return Err(":authority and Host must not differ");
        }
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| ":authority cannot be read")?;
        headers.insert(HOST, host);
    } else if !headers.contains_key(HOST) {
        return Err("a request needs :authority or exactly one Host header");
    }
    // One field of it may have come in pieces (section 8.2.3), which HTTP/1.1 does not know.
    if headers.get_all(COOKIE).iter().nth(1).is_some() {
        let pieces: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        let whole = HeaderValue::from_bytes(&pieces.join(&b"; "[..])).map_err(|_| "the cookies cannot be read")?;
        headers.insert(COOKIE, whole);
    }
    // Where it ends.
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next().map(HeaderValue::as_bytes), lengths.next()) {
        (None, _) if has_body => {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        (None, _) => {}
        (Some(length), None) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            if !has_body && length.iter().any(|digit| *digit != b'0') {
                return Err("the request ends before its Content-Length");
            }
        }
        (Some(_), _) => return Err("a request has one Content-Length, in digits"),
    }
    let Some(path) = uri.path_and_query() else { return Err("a request needs a path") };
    *request.uri_mut() = Uri::from(path.clone());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str, headers: &[(&str, &str)], has_body: bool) -> Result<Request<()>, &'static str> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        as_http1(&mut request, has_body).map(|()| request)
    }

    #[test]
    fn authority_becomes_host_and_the_rest_of_the_target_the_path() {
        let request = read("http://a.test:81/run/x?y=%2F", &[("host", "A.test:81")], false).unwrap();
        assert_eq!(request.headers().get_all(HOST).iter().collect::<Vec<_>>(), ["a.test:81"]);
        assert_eq!(request.uri(), "/run/x?y=%2F");
        assert!(request.uri().authority().is_none() && request.uri().scheme().is_none());
        assert_eq!(read("/x", &[("host", "b")], false).unwrap().headers()[HOST], "b");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (uri, headers, has_body) in [
            ("http://a/x", &[("host", "b")][..], false),
            ("http://a/x", &[("host", "a"), ("host", "b")], false),
            ("http://u@a/x", &[], false),
            ("/x", &[], false),
            ("a:443", &[], false),
            ("http://a/x", &[("content-length", "1"), ("content-length", "1")], true),
            ("http://a/x", &[("content-length", "+1")], true),
            ("http://a/x", &[("content-length", "1")], false),
        ] {
            assert!(read(uri, headers, has_body).is_err(), "{uri} {headers:?}");
        }
    }

    #[test]
    fn cookies_are_put_together_and_a_body_without_a_length_is_chunked() {
        let request = read("http://a/x", &[("cookie", "a=1"), ("cookie", "b=2; c=3")], true).unwrap();
        assert_eq!(request.headers().get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
        assert_eq!(request.headers()[TRANSFER_ENCODING], "chunked");
        let request = read("http://a/x", &[("content-length", "5")], true).unwrap();
        assert!(!request.headers().contains_key(TRANSFER_ENCODING));
        assert!(!read("http://a/x", &[], false).unwrap().headers().contains_key(TRANSFER_ENCODING));
    }
}
