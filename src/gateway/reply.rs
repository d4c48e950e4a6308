//! A reply is the head of an answer of HTTP/1, read as strictly as those of requests are: what two readers could
//! understand in two ways is none.

use std::mem::MaybeUninit;

use arrayvec::ArrayVec;
use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;

use super::framing::{Chunk, Framing, MOST_FIELDS, Malformed};
use super::pool::READ_AHEAD;

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) response: Response<()>,
    /// Where its body ends.
    pub(super) framing: Framing,
    /// Whether another request may follow on its connection.
    pub(super) goes_on: bool,
}

/// Finds the head of an answer in what is read of a connection.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// Bytes that hold no whole head.
    seen: usize,
}

/// With what every answer begins.
const START: &[u8] = b"HTTP/1.";

const NO_HTTP: Malformed = Malformed("it is no HTTP");

/// A field of a head: from where to where its name goes, and its value.
type Field = [usize; 4];

/// What there is besides the fields.
struct StatusLine {
    status: StatusCode,
    version: Version,
    reason: Option<ReasonPhrase>,
}

impl Search {
    /// Takes the head of an answer to a request by that method, once it is whole; interim ones are passed over. `room` is
    /// where its headers go.
    ///
    /// # Errors
    /// Where what was read is no answer, or one that can be understood in two ways.
    pub(super) fn next(
        &mut self,
        read: &mut BytesMut,
        method: &Method,
        room: &mut HeaderMap,
    ) -> Result<Option<Reply>, Malformed> {
        while self.may_be_whole(read)? {
            let mut fields = ArrayVec::new();
            let Some((line, length)) = parse(read, &mut fields)? else { break };
            self.seen = 0;
            let head = read.split_to(length).freeze();
            if line.status.is_informational() && line.status != StatusCode::SWITCHING_PROTOCOLS {
                continue;
            }
            let mut headers = std::mem::take(room);
            headers.clear();
            headers.reserve(fields.len());
            for &[name, name_end, value, value_end] in &fields {
                let name = HeaderName::from_bytes(&head[name..name_end]).map_err(|_| Malformed("a bad header name"))?;
                // A part of what was read rather than a copy.
                let value = HeaderValue::from_maybe_shared(head.slice(value..value_end));
                headers.append(name, value.map_err(|_| Malformed("a bad header value"))?);
            }
            let framing = framing(&line, method, &mut headers)?;
            let leaves_http = line.status == StatusCode::SWITCHING_PROTOCOLS || method == Method::CONNECT;
            let goes_on = !leaves_http && framing != Framing::ToEnd && goes_on(line.version, &headers);
            let mut response = Response::new(());
            *response.status_mut() = line.status;
            *response.version_mut() = line.version;
            *response.headers_mut() = headers;
            if let Some(reason) = line.reason {
                response.extensions_mut().insert(reason);
            }
            return Ok(Some(Reply { response, framing, goes_on }));
        }
        if read.len() >= READ_AHEAD { Err(Malformed("the head is too long")) } else { Ok(None) }
    }

    /// Whether there is something to parse. One whose app sends it byte by byte is not parsed anew for each, but once an
    /// empty line has come, be it one that ends in the wrong way.
    fn may_be_whole(&mut self, read: &[u8]) -> Result<bool, Malformed> {
        let start = read.len().min(START.len());
        // The parser skips empty lines before the first.
        if read[..start] != START[..start] {
            return Err(NO_HTTP);
        }
        let fresh = &read[self.seen.saturating_sub(3)..];
        let ends = |end: &[u8]| end.starts_with(b"\n\n") || end.starts_with(b"\n\r\n");
        let has_news = read.len() > self.seen;
        let may_be = has_news && (self.seen == 0 || (0..fresh.len()).any(|at| ends(&fresh[at..])));
        self.seen = read.len();
        Ok(may_be)
    }
}

/// Parses a head: what its first line says, where its fields are, and its length.
fn parse(read: &[u8], fields: &mut ArrayVec<Field, MOST_FIELDS>) -> Result<Option<(StatusLine, usize)>, Malformed> {
    let mut room = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut head = httparse::Response::new(&mut []);
    let parsed = ParserConfig::default().parse_response_with_uninit_headers(&mut head, read, &mut room);
    let Status::Complete(length) = parsed.map_err(|_| NO_HTTP)? else { return Ok(None) };
    if length > READ_AHEAD {
        return Err(NO_HTTP);
    }
    let status = head.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(NO_HTTP)?;
    let version = if head.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let given = head.reason.filter(|reason| status.canonical_reason() != Some(reason));
    let reason = given.map(|reason| ReasonPhrase::try_from(reason.as_bytes())).transpose().map_err(|_| NO_HTTP)?;
    let start = read.as_ptr() as usize;
    let place = |part: &[u8]| {
        let from = part.as_ptr() as usize - start;
        (from, from + part.len())
    };
    for field in head.headers.iter() {
        let ((name, name_end), (value, value_end)) = (place(field.name.as_bytes()), place(field.value));
        // The parser takes a line that ends with a line feed alone.
        if !read[..name].ends_with(b"\r\n") {
            return Err(Malformed("a line ends in the wrong way"));
        }
        fields.push([name, name_end, value, value_end]);
    }
    if !read[..length].ends_with(b"\r\n\r\n") {
        return Err(Malformed("a line ends in the wrong way"));
    }
    Ok(Some((StatusLine { status, version, reason }, length)))
}

/// Where the body ends, by RFC 9112, section 6.3; but for what that leaves to the reader, which is refused.
fn framing(line: &StatusLine, method: &Method, headers: &mut HeaderMap) -> Result<Framing, Malformed> {
    let has_none = line.status.is_informational()
        || matches!(line.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || method == Method::HEAD
        || (method == Method::CONNECT && line.status.is_success());
    if has_none {
        return Ok(Framing::Ended);
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => length(headers).map(|length| length.map_or(Framing::ToEnd, Framing::of_length)),
        _ if headers.contains_key(CONTENT_LENGTH) => Err(Malformed("a body has one length, and this one has two")),
        _ if line.version == Version::HTTP_10 => Err(Malformed("HTTP/1.0 knows no Transfer-Encoding")),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunks(Chunk::Size)),
        _ => Err(Malformed("the only Transfer-Encoding that is understood is chunked")),
    }
}

/// The length that is announced. One that is said several times is said once from then on.
fn length(headers: &mut HeaderMap) -> Result<Option<u64>, Malformed> {
    const BAD_LENGTH: Malformed = Malformed("the Content-Length cannot be read");
    let mut length = None;
    let mut count = 0;
    for text in headers.get_all(CONTENT_LENGTH).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
        let digits = text.trim_ascii();
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(BAD_LENGTH);
        }
        let read = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(BAD_LENGTH)?;
        if length.is_some_and(|length: u64| length != read) {
            return Err(Malformed("a body has one length, and this one has two"));
        }
        length = Some(read);
        count += 1;
    }
    if let Some(length) = length.filter(|_| count > 1) {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    Ok(length)
}

/// Whether the connection stays open behind an answer with these headers.
fn goes_on(version: Version, headers: &HeaderMap) -> bool {
    let says = |what: &[u8]| {
        let words = headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        words.map(<[u8]>::trim_ascii).any(|word| word.eq_ignore_ascii_case(what))
    };
    !says(b"close") && (version == Version::HTTP_11 || says(b"keep-alive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(method: &Method, text: &str) -> Result<Option<Reply>, Malformed> {
        let mut whole = Search::default().next(&mut text.as_bytes().into(), method, &mut HeaderMap::new());
        let (mut search, mut read) = (Search::default(), BytesMut::new());
        let mut in_pieces = Ok(None);
        for byte in text.bytes() {
            read.extend_from_slice(&[byte]);
            in_pieces = search.next(&mut read, method, &mut HeaderMap::new());
            if !matches!(in_pieces, Ok(None)) {
                break;
            }
        }
        assert_eq!(format!("{:?}", in_pieces.as_mut().ok()), format!("{:?}", whole.as_mut().ok()), "{text:?}");
        whole
    }

    fn read(text: &str) -> Result<Option<Reply>, Malformed> {
        read_as(&Method::GET, text)
    }

    /// How the body is framed of an answer with these lines.
    fn framing_of(lines: &str) -> Result<Framing, Malformed> {
        read(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n")).map(|reply| reply.unwrap().framing)
    }

    #[test]
    fn a_head_is_read_once_it_is_whole_however_it_comes() {
        let text = "HTTP/1.1 207 Some\r\nA: 1\r\nb:2 \r\nA: \t3\r\nC:\r\nD: \t \r\n\r\n";
        let reply = read(text).unwrap().unwrap();
        assert_eq!((reply.response.status().as_u16(), reply.response.version()), (207, Version::HTTP_11));
        let headers = reply.response.headers();
        assert_eq!(headers.get_all("a").iter().collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!((&headers["b"], &headers["c"], headers.len()), (&"2".parse().unwrap(), &"".parse().unwrap(), 5));
        assert_eq!(reply.response.extensions().get::<ReasonPhrase>().unwrap().as_bytes(), b"Some");
        assert!(read(&text[..text.len() - 1]).unwrap().is_none());
        let usual = read("HTTP/1.1 200 OK\r\n\r\n").unwrap().unwrap();
        assert!(usual.response.extensions().get::<ReasonPhrase>().is_none());
    }

    #[test]
    fn interim_answers_are_passed_over_and_a_switch_is_none() {
        let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
        assert!(read(interim).unwrap().is_none());
        let reply = read(&format!("{interim}HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).unwrap().unwrap();
        assert_eq!((reply.response.status(), reply.goes_on), (StatusCode::OK, true));
        assert!(!reply.response.headers().contains_key("link"));
        let reply = read("HTTP/1.1 101 Switching Protocols\r\n\r\n").unwrap().unwrap();
        assert_eq!((reply.framing, reply.goes_on), (Framing::Ended, false));
    }

    #[test]
    fn where_a_body_ends_is_said_in_one_way() {
        assert_eq!(framing_of("Content-Length: 5\r\n"), Ok(Framing::Length(5)));
        assert_eq!(framing_of("Content-Length: 0\r\n"), Ok(Framing::Ended));
        assert_eq!(framing_of("Content-Length: 18446744073709551615\r\n"), Ok(Framing::Length(u64::MAX)));
        assert_eq!(framing_of("Transfer-Encoding: Chunked\r\n"), Ok(Framing::Chunks(Chunk::Size)));
        assert_eq!(framing_of(""), Ok(Framing::ToEnd));
        for lines in ["Content-Length: 5\r\nContent-Length: 5\r\n", "Content-Length: 5, 5\r\n"] {
            let reply = read(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n")).unwrap().unwrap();
            assert_eq!(reply.framing, Framing::Length(5));
            assert_eq!(reply.response.headers().get_all(CONTENT_LENGTH).iter().collect::<Vec<_>>(), ["5"]);
        }
        for lines in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5, 6\r\n",
            "Content-Length: 5,\r\n",
            "Content-Length:\r\n",
            "Content-Length: +5\r\n",
            "Content-Length: -5\r\n",
            "Content-Length: 5 5\r\n",
            "Content-Length: 0x5\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked, identity\r\n",
            "Transfer-Encoding: identity\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding:\r\n",
        ] {
            assert!(framing_of(lines).is_err(), "{lines:?}");
        }
        assert!(read("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn some_answers_have_no_body_whatever_they_say() {
        for (method, status, lines) in [
            (Method::HEAD, "200 OK", "Content-Length: 5\r\n"),
            (Method::HEAD, "200 OK", "Transfer-Encoding: chunked\r\n"),
            (Method::HEAD, "200 OK", ""),
            (Method::GET, "204 No Content", ""),
            (Method::GET, "304 Not Modified", "Content-Length: 5\r\n"),
        ] {
            let reply = read_as(&method, &format!("HTTP/1.1 {status}\r\n{lines}\r\n")).unwrap().unwrap();
            assert_eq!((reply.framing, reply.goes_on), (Framing::Ended, true), "{method} {status} {lines:?}");
        }
    }

    #[test]
    fn a_connection_goes_on_where_both_its_answer_and_its_version_let_it() {
        for (version, lines, expected) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: x, Close\r\nConnection: keep-alive\r\n", false),
            ("1.1", "Connection: \u{e9}, close\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            let reply = read(&format!("HTTP/{version} 200 OK\r\nContent-Length: 0\r\n{lines}\r\n")).unwrap().unwrap();
            assert_eq!(reply.goes_on, expected, "{version} {lines:?}");
        }
        assert!(!read("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n").unwrap().unwrap().goes_on);
    }

    #[test]
    fn what_is_no_head_or_could_be_read_in_two_ways_is_refused() {
        for text in [
            "220 mail ready\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/0.9 200 OK\r\n\r\n",
            "http/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 099 Low\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1  200 OK\r\n\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            "\nHTTP/1.1 200 OK\r\n\r\n",
            " HTTP/1.1 200 OK\r\n\r\n",
            "\r\n\r\n",
            "\r\n\r",
            "HTTP/1.1 200 OK\n\r\n",
            "HTTP/1.1 200 OK\r\n\n",
            "HTTP/1.1 200 OK\nA: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: 1\nB: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: 1\n\r\n",
            "HTTP/1.1 200 OK\r\nA: 1\rB: 2\r\n\r\n",
            "HTTP/1.1 200 O\rK\r\n\r\n",
            "HTTP/1.1 200 O\0K\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: 1\0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: 1\r\n more\r\n\r\n",
            "HTTP/1.1 200 OK\r\n A: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA\r\n\r\n",
            "HTTP/1.1 200 OK\r\n: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA B: 1\r\n\r\n",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_head_is_bounded() {
        let lines = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: 1\r\n".repeat(count));
        assert!(read(&lines(MOST_FIELDS)).unwrap().is_some());
        assert!(read(&lines(MOST_FIELDS + 1)).is_err());
        let long = |length: usize| format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\n", "x".repeat(length));
        assert!(read(&long(60_000)).unwrap().is_some());
        assert!(read(&long(READ_AHEAD)).is_err());
        assert!(read(&long(READ_AHEAD)[..READ_AHEAD]).is_err());
    }
}
