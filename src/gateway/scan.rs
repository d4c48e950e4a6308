//! A scan follows the requests of one connection of HTTP/1 as they come, and tells where each ends. It refuses nothing and takes
//! nothing apart, which is for hyper to do: it tells what hyper does not.

/// As much of a line of a head as tells what it is.
const LONGEST: usize = 48;

/// Where a connection is in what its caller sends.
#[derive(Debug)]
pub(super) struct Scan {
    place: Place,
    head: Head,
    verdict: Option<Result<(), &'static str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Head,
    /// So many bytes of a body are left.
    Body(u64),
    Chunks(Chunks),
    /// A request wants to leave HTTP, so that nobody knows what comes next until it is answered.
    Unknown,
}

/// Where in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunks {
    /// In the line that says how long the next is: so long, as far as it has come, and whether that is all.
    Size(u64, bool),
    /// So many bytes of one are left, with its end of line.
    Data(u64),
    /// In a line after the last one, of so many bytes.
    Trailer(u64),
}

/// What has come of a head.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is what a head may have, beside any of the others")]
struct Head {
    /// The beginning of the line that has begun.
    line: Line,
    length: Option<u64>,
    is_chunked: bool,
    leaves: bool,
    has_begun: bool,
    has_bare_end: bool,
}

#[derive(Debug)]
struct Line {
    text: [u8; LONGEST],
    length: usize,
    /// Whether the last byte was a CR.
    ends: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self { text: [0; LONGEST], length: 0, ends: false }
    }
}

impl Default for Scan {
    fn default() -> Self {
        Self { place: Place::Head, head: Head::default(), verdict: None }
    }
}

impl Scan {
    /// Follows these bytes to the end of the request that ends in them, or to their own; how far that is. `is_busy` tells whether
    /// a request is being answered.
    pub(super) fn pass(&mut self, bytes: &[u8], is_busy: &dyn Fn() -> bool) -> usize {
        if self.place == Place::Unknown && !is_busy() {
            self.place = Place::Head;
        }
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let (taken, ends) = match &mut self.place {
                Place::Unknown => (rest.len(), false),
                Place::Head => match self.head.pass(rest) {
                    (taken, false) => (taken, false),
                    (taken, true) => {
                        let head = std::mem::take(&mut self.head);
                        self.verdict = Some(head.fault().map_or(Ok(()), Err));
                        self.place = head.next();
                        (taken, self.place == Place::Head)
                    }
                },
                Place::Body(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= taken as u64;
                    (taken, *left == 0)
                }
                Place::Chunks(chunks) => chunks.pass(rest),
            };
            at += taken;
            if ends {
                self.place = Place::Head;
                break;
            }
        }
        at
    }

    /// Whether all that has come is whole requests, as far as anybody can tell.
    pub(super) fn is_between(&self) -> bool {
        self.place == Place::Head && !self.head.has_begun
    }

    /// What is to be said of the head that has ended since this was last asked; `None` where none has.
    pub(super) fn verdict(&mut self) -> Option<Result<(), &'static str>> {
        self.verdict.take()
    }
}

impl Head {
    /// Follows these bytes to the end of the head, or to their own: how far that is, and whether it has ended.
    fn pass(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < bytes.len() {
            let end = memchr::memchr(b'\n', &bytes[at..]);
            self.line.add(&bytes[at..end.map_or(bytes.len(), |end| at + end)]);
            let Some(end) = end else { return (bytes.len(), false) };
            at += end + 1;
            if self.ends_line() {
                return (at, true);
            }
        }
        (at, false)
    }

    /// Whether the head ends with the line that has ended.
    fn ends_line(&mut self) -> bool {
        let line = std::mem::take(&mut self.line);
        let text = line.text[..line.length].strip_suffix(b"\r").unwrap_or(&line.text[..line.length]);
        let is_empty = text.is_empty();
        // Empty lines before the first are skipped, by hyper too.
        let is_over = is_empty && self.has_begun;
        self.has_begun |= !is_empty;
        self.has_bare_end |= !line.ends && self.has_begun;
        let value = |name: &str| {
            let begins = text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()));
            begins.then(|| text[name.len()..].trim_ascii())
        };
        match text.first().map(u8::to_ascii_lowercase) {
            Some(b'c') => {
                if let Some(length) = value("content-length:") {
                    self.length = std::str::from_utf8(length).ok().and_then(|text| text.parse().ok()).or(Some(0));
                }
            }
            Some(b't') => self.is_chunked |= value("transfer-encoding:").is_some(),
            Some(b'u') => self.leaves |= value("upgrade:").is_some(),
            _ => {}
        }
        is_over
    }

    fn fault(&self) -> Option<&'static str> {
        if self.has_bare_end {
            return Some("each line of a head ends in CR and LF, and one of these in LF alone");
        }
        (self.is_chunked && self.length.is_some()).then_some("a body has one length, and this one has two")
    }

    fn next(&self) -> Place {
        match self.length {
            _ if self.is_chunked => Place::Chunks(Chunks::Size(0, false)),
            None | Some(0) if self.leaves => Place::Unknown,
            None | Some(0) => Place::Head,
            Some(length) => Place::Body(length),
        }
    }
}

impl Line {
    fn add(&mut self, part: &[u8]) {
        let kept = part.len().min(LONGEST - self.length);
        self.text[self.length..self.length + kept].copy_from_slice(&part[..kept]);
        self.length += kept;
        self.ends = part.last().map_or(self.ends, |last| *last == b'\r');
    }
}

impl Chunks {
    /// Follows these bytes to the end of the body, or to their own: how far that is, and whether it has ended.
    fn pass(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < bytes.len() {
            match self {
                Self::Data(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    *left -= taken as u64;
                    at += taken;
                    if *left == 0 {
                        *self = Self::Size(0, false);
                    }
                    continue;
                }
                Self::Size(size, is_whole) => match (bytes[at], char::from(bytes[at]).to_digit(16)) {
                    (b'\n', _) if *size == 0 => *self = Self::Trailer(0),
                    (b'\n', _) => *self = Self::Data(size.saturating_add(2)),
                    (_, Some(digit)) if !*is_whole => *size = size.saturating_mul(16).saturating_add(digit.into()),
                    _ => *is_whole = true,
                },
                Self::Trailer(length) => match bytes[at] {
                    b'\n' if *length == 0 => return (at + 1, true),
                    b'\n' => *length = 0,
                    b'\r' => {}
                    _ => *length += 1,
                },
            }
            at += 1;
        }
        (at, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Option<&str> = Some("a body has one length, and this one has two");
    const BARE: Option<&str> = Some("each line of a head ends in CR and LF, and one of these in LF alone");

    /// What is wrong with each head, and where each request ends, where what comes is cut into pieces of that length.
    fn scan(text: &str, cut: usize) -> (Vec<Option<&'static str>>, Vec<usize>) {
        let (mut scan, mut faults, mut ends, mut at) = (Scan::default(), Vec::new(), Vec::new(), 0);
        for mut part in text.as_bytes().chunks(cut) {
            while !part.is_empty() {
                let looked = scan.pass(part, &|| false);
                faults.extend(scan.verdict().map(Result::err));
                at += looked;
                part = &part[looked..];
                let is_at_start = scan.place == Place::Head && !scan.head.has_begun && scan.head.line.length == 0;
                if is_at_start && ends.last() != Some(&at) {
                    ends.push(at);
                }
            }
        }
        (faults, ends)
    }

    #[test]
    fn faults_and_ends_are_found_wherever_what_is_read_is_cut() {
        let get = "GET / HTTP/1.1\r\nX: Content-Length: 5\r\n\r\n";
        let length = "POST / HTTP/1.1\r\nContent-Length: 45\r\n\r\nTransfer-Encoding: chunked\nContent-Length: 5\n";
        let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
             1a;x=\"y\"\r\nGET / HTTP/1.1\r\n\r\n\r\n\r\n\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n";
        let both = "POST / HTTP/1.1\r\nContent-Length: 5\r\nTRANSFER-ENCODING: chunked\r\n\r\n0\r\n\r\n";
        let bare = "GET / HTTP/1.1\nHost: a\r\n\r\n";
        let parts = [get, length, chunked, both, get, bare, get];
        let faults = [None, None, None, BOTH, None, BARE, None];
        let whole = parts.concat();
        let ends: Vec<usize> = (1..=parts.len()).map(|count| parts[..count].concat().len()).collect();
        for cut in 1..whole.len() {
            let found = scan(&whole, cut);
            assert_eq!(found.0, faults, "{cut}");
            let missing: Vec<&usize> = ends.iter().filter(|end| !found.1.contains(end)).collect();
            assert!(missing.is_empty(), "{cut}: {missing:?} of {ends:?} in {:?}", found.1);
        }
    }

    #[test]
    fn empty_lines_before_a_request_and_either_end_of_a_last_line_are_seen() {
        for (text, fault) in [
            ("\r\n\r\nGET / HTTP/1.1\r\n\r\n", None),
            ("\nGET / HTTP/1.1\r\n\r\n", None),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", BARE),
            ("\r\nPOST / HTTP/1.1\r\nTransfer-Encoding:chunked\r\nHost: a\r\ncontent-length:5\r\n\r\n", BOTH),
        ] {
            assert_eq!(scan(text, usize::MAX).0, [fault], "{text:?}");
        }
    }

    #[test]
    fn what_leaves_http_is_followed_again_once_it_is_answered() {
        let mut scan = Scan::default();
        let wish = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(scan.pass(wish, &|| false), wish.len());
        assert_eq!(scan.verdict(), Some(Ok(())));
        assert_eq!((scan.pass(b"\n\n\n", &|| true), scan.verdict()), (3, None));
        let both = b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!((scan.pass(both, &|| false), scan.verdict().map(Result::err)), (both.len(), Some(BOTH)));
    }
}
