//! Compress decides whether an answer is compressed on its way, and how; see [`super::encoder`] for doing it.

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderMap, HeaderName, HeaderValue,
};
use http::request::Parts;
use http::{Method, StatusCode};

use super::headers::{has_token, is_event_stream, vary};

/// An answer below this many bytes fits into one packet as it is.
const WORTH_IT: u64 = 1024;

/// Headers that say what the very bytes are, which would not hold any more.
const SUMS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("repr-digest"),
];

/// How an answer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Zstd,
    Brotli,
    Gzip,
}

/// What a caller has said of compression, in a request to an API that compresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    coding: Option<Coding>,
    is_head: bool,
}

/// What becomes of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on as it is.
    Plain,
    /// It is compressed. Its caller has yet to write that into the headers, with [`compressed`].
    Compressed(Coding),
}

impl Coding {
    /// By how much work they are for what they save, the least first.
    pub(super) const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }
}

impl Wish {
    pub(super) fn of(request: &Parts) -> Self {
        Self { coding: preferred(&request.headers), is_head: request.method == Method::HEAD }
    }

    /// Whether the answer is one without a body, which only says what it would be with one.
    pub(super) fn is_head(self) -> bool {
        self.is_head
    }

    /// What becomes of an answer with that status and those headers. Whatever it is, the headers then say that another
    /// caller may get it in another coding.
    pub(super) fn decide(self, status: StatusCode, headers: &mut HeaderMap) -> Verdict {
        if status == StatusCode::NOT_MODIFIED {
            // It speaks of an answer that the caller has, which we have compressed.
            vary(headers, ACCEPT_ENCODING);
            if self.coding.is_some() {
                weaken(headers);
            }
            return Verdict::Plain;
        }
        if !is_fit(status, headers) {
            return Verdict::Plain;
        }
        vary(headers, ACCEPT_ENCODING);
        self.coding.map_or(Verdict::Plain, Verdict::Compressed)
    }
}

/// Makes the headers of an answer those of the same answer in that coding.
pub(super) fn compressed(coding: Coding, headers: &mut HeaderMap) {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    headers.remove(CONTENT_LENGTH);
    // Of what we compress, no part can be asked for.
    headers.remove(ACCEPT_RANGES);
    weaken(headers);
}

/// A strong `ETag` promises the very bytes, a weak one what they mean (RFC 9110, section 8.8.1).
fn weaken(headers: &mut HeaderMap) {
    let Some(strong) = headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")) else { return };
    if let Ok(weak) = HeaderValue::from_bytes(&[b"W/", strong.as_bytes()].concat()) {
        headers.insert(ETAG, weak);
    }
}

/// Whether an answer may be compressed, and is the better for it.
fn is_fit(status: StatusCode, headers: &HeaderMap) -> bool {
    let has_body = !status.is_informational() && !matches!(status.as_u16(), 204 | 205 | 304);
    let is_whole = status != StatusCode::PARTIAL_CONTENT && !headers.contains_key(CONTENT_RANGE);
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    has_body
        && is_whole
        && !headers.contains_key(CONTENT_ENCODING)
        && !has_token(headers, &CACHE_CONTROL, "no-transform")
        && !SUMS.iter().any(|sum| headers.contains_key(sum))
        && length.is_none_or(|length| length >= WORTH_IT)
        && is_text(headers)
}

/// Whether an answer is of a type that is not compressed already. What lasts is left alone: each event is for now.
fn is_text(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_known = matches!(
        kind.as_str(),
        "application/json"
            | "application/x-ndjson"
            | "application/javascript"
            | "application/x-javascript"
            | "application/xml"
            | "application/wasm"
    );
    let is_text = is_known || kind.starts_with("text/") || kind.ends_with("+json") || kind.ends_with("+xml");
    is_text && !is_event_stream(headers)
}

/// The coding that a caller likes best (RFC 9110, section 12.5.3), and of several that one that costs us least.
fn preferred(headers: &HeaderMap) -> Option<Coding> {
    let mut named: Vec<(String, f32)> = Vec::new();
    for entry in
        headers.get_all(ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok()).flat_map(|l| l.split(','))
    {
        let mut parts = entry.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        // What cannot be read is no wish.
        let weight = weight.map_or(Some(1.0), |weight| weight.trim().parse().ok());
        named.push((name, weight.filter(|weight| (0.0..=1.0).contains(weight)).unwrap_or(0.0)));
    }
    let weight = |name: &str| named.iter().find(|(known, _)| known == name).map(|(_, weight)| *weight);
    let mut best = (None, weight("identity").unwrap_or(0.0));
    for coding in Coding::ALL {
        let alias = (coding == Coding::Gzip).then(|| weight("x-gzip")).flatten();
        let weight = weight(coding.name()).or(alias).or_else(|| weight("*")).unwrap_or(0.0);
        if weight > best.1 || (best.0.is_none() && weight > 0.0 && weight >= best.1) {
            best = (Some(coding), weight);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, line) in lines {
            map.append(*name, HeaderValue::from_str(line).unwrap());
        }
        map
    }

    #[test]
    fn the_coding_is_the_one_that_the_caller_likes_best() {
        use Coding::{Brotli, Gzip, Zstd};
        for (asked, coding) in [
            (&["gzip, deflate, br, zstd"][..], Some(Zstd)),
            (&["gzip, deflate, br"], Some(Brotli)),
            (&["gzip", "br;q=0.9"], Some(Gzip)),
            (&["gzip", "br"], Some(Brotli)),
            (&["br;q=1.0, gzip;q=0.8, *;q=0.1"], Some(Brotli)),
            (&["GZIP; Q=0.5"], Some(Gzip)),
            (&["x-gzip"], Some(Gzip)),
            (&["*"], Some(Zstd)),
            (&["*, zstd;q=0, br;q=0"], Some(Gzip)),
            (&["identity, gzip"], Some(Gzip)),
            (&["identity, gzip;q=0.5"], None),
            (&["identity;q=0.5, gzip;q=0.6"], Some(Gzip)),
            (&["gzip;q=0"], None),
            (&["gzip;q=2, br;q=-1, zstd;q=NaN"], None),
            (&["deflate, compress"], None),
            (&["identity"], None),
            (&[""], None),
            (&[], None),
        ] {
            let lines: Vec<_> = asked.iter().map(|line| ("accept-encoding", *line)).collect();
            assert_eq!(preferred(&map(&lines)), coding, "{asked:?}");
        }
    }

    const GZIP: Wish = Wish { coding: Some(Coding::Gzip), is_head: false };

    #[test]
    fn only_what_is_whole_large_enough_and_text_is_compressed() {
        let page = ("content-type", "text/html; charset=utf-8");
        for (status, lines, is_fit) in [
            (200, &[page][..], true),
            (404, &[page], true),
            (200, &[page, ("content-length", "1024")], true),
            (200, &[page, ("content-length", "1023")], false),
            (200, &[page, ("content-encoding", "br")], false),
            (200, &[page, ("content-encoding", "identity")], false),
            (200, &[page, ("cache-control", "public, No-Transform")], false),
            (200, &[page, ("cache-control", "no-transform-at-all")], true),
            (200, &[page, ("content-range", "bytes 0-1/2")], false),
            (200, &[page, ("content-digest", "sha-256=:x:")], false),
            (206, &[page], false),
            (204, &[page], false),
            (205, &[page], false),
            (101, &[page], false),
            (200, &[], false),
            (200, &[("content-type", "text/event-stream; charset=utf-8")], false),
            (200, &[("content-type", "Application/JSON")], true),
            (200, &[("content-type", "application/problem+json;x=y")], true),
            (200, &[("content-type", "image/svg+xml")], true),
            (200, &[("content-type", "application/wasm")], true),
            (200, &[("content-type", "image/png")], false),
            (200, &[("content-type", "application/zip")], false),
            (200, &[("content-type", "application/octet-stream")], false),
        ] {
            let mut headers = map(lines);
            let expected = if is_fit { Verdict::Compressed(Coding::Gzip) } else { Verdict::Plain };
            assert_eq!(
                GZIP.decide(StatusCode::from_u16(status).unwrap(), &mut headers),
                expected,
                "{status} {lines:?}"
            );
            assert_eq!(headers.contains_key("vary"), is_fit, "{status} {lines:?}");
        }
    }

    #[test]
    fn what_could_have_been_compressed_varies_also_where_it_was_not() {
        let none = Wish { coding: None, is_head: false };
        for (vary, expected) in
            [(None, &["accept-encoding"][..]), (Some("*"), &["*"]), (Some("Accept-Encoding"), &["Accept-Encoding"])]
        {
            let mut headers = map(&[("content-type", "text/plain")]);
            headers.extend(vary.map(|vary| (http::header::VARY, HeaderValue::from_static(vary))));
            assert_eq!(none.decide(StatusCode::OK, &mut headers), Verdict::Plain);
            assert_eq!(headers.get_all("vary").iter().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn the_headers_are_those_of_the_compressed_answer() {
        let mut headers =
            map(&[("content-length", "5"), ("accept-ranges", "bytes"), ("etag", "\"x\""), ("x-own", "1")]);
        compressed(Coding::Brotli, &mut headers);
        assert_eq!(headers, map(&[("content-encoding", "br"), ("etag", "W/\"x\""), ("x-own", "1")]));
        compressed(Coding::Brotli, &mut headers);
        assert_eq!(headers["etag"], "W/\"x\"");
        // One that says that nothing has changed names the answer that we had compressed.
        let mut headers = map(&[("etag", "\"x\"")]);
        assert_eq!(GZIP.decide(StatusCode::NOT_MODIFIED, &mut headers), Verdict::Plain);
        assert_eq!(headers, map(&[("etag", "W/\"x\""), ("vary", "accept-encoding")]));
    }
}
