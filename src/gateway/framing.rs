//! Framing is how the end of an answer's body is found in what is read of its connection (RFC 9112, sections 6 and 7).

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use httparse::Status;

/// The longest line that says how long a chunk is. Nobody says more there than a number.
const LONGEST_SIZE: usize = 1024;

/// The most bytes of trailers, and of fields in a head or in trailers; as hyper has it for those of callers.
const MOST_TRAILERS: usize = 16 * 1024;
pub(super) const MOST_FIELDS: usize = 100;

/// Why what came is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// What is still to come of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// Nothing.
    Ended,
    /// So many bytes, at least one.
    Length(u64),
    /// Chunks, until there is one of nought.
    Chunks(Chunk),
    /// All until the connection ends.
    ToEnd,
}

/// What comes next in a body of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunk {
    /// The length of one.
    Size,
    /// So many bytes of one, at least one.
    Data(u64),
    /// The end of the line behind one.
    End,
    /// Trailers, or the empty line where there are none.
    Trailers,
}

/// What was found in what has been read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Some of the body.
    Data(Bytes),
    /// What comes after the body, which ends with it.
    Trailers(HeaderMap),
    /// The end of the body.
    End,
    /// Nothing; more must be read.
    Missing,
}

impl Framing {
    /// For a body of so many bytes.
    pub(super) fn of_length(bytes: u64) -> Self {
        if bytes == 0 { Self::Ended } else { Self::Length(bytes) }
    }

    /// Takes the next part out of what has been read.
    ///
    /// # Errors
    /// Where chunks or trailers are not what they should be.
    pub(super) fn next(&mut self, read: &mut BytesMut) -> Result<Part, Malformed> {
        loop {
            let is_empty = read.is_empty();
            match self {
                Self::Ended => return Ok(Part::End),
                _ if is_empty => return Ok(Part::Missing),
                Self::Length(left) => {
                    let (data, rest) = take(read, *left);
                    *self = Self::of_length(rest);
                    return Ok(Part::Data(data));
                }
                Self::ToEnd => return Ok(Part::Data(read.split().freeze())),
                Self::Chunks(Chunk::Data(left)) => {
                    let (data, rest) = take(read, *left);
                    *self = Self::Chunks(if rest == 0 { Chunk::End } else { Chunk::Data(rest) });
                    return Ok(Part::Data(data));
                }
                Self::Chunks(Chunk::Size) => match size(read)? {
                    Some(0) => *self = Self::Chunks(Chunk::Trailers),
                    Some(size) => *self = Self::Chunks(Chunk::Data(size)),
                    None => return Ok(Part::Missing),
                },
                Self::Chunks(Chunk::End) => {
                    if !end_of_line(read).ok_or(Malformed("a chunk is longer than it says"))? {
                        return Ok(Part::Missing);
                    }
                    *self = Self::Chunks(Chunk::Size);
                }
                Self::Chunks(Chunk::Trailers) => match end_of_line(read) {
                    Some(true) => *self = Self::Ended,
                    Some(false) => return Ok(Part::Missing),
                    None => {
                        let Some(trailers) = trailers(read)? else { return Ok(Part::Missing) };
                        *self = Self::Ended;
                        return Ok(Part::Trailers(trailers));
                    }
                },
            }
        }
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// Where the body has not.
    pub(super) fn end(&mut self) -> Result<(), Malformed> {
        match self {
            Self::Ended | Self::ToEnd => {
                *self = Self::Ended;
                Ok(())
            }
            Self::Length(_) | Self::Chunks(_) => Err(Malformed("the answer broke off")),
        }
    }
}

/// As many as there are of so many bytes, and how many are left of those.
fn take(read: &mut BytesMut, left: u64) -> (Bytes, u64) {
    let count = usize::try_from(left).map_or(read.len(), |left| left.min(read.len()));
    (read.split_to(count).freeze(), left - count as u64)
}

/// Takes the line that says how long a chunk is.
fn size(read: &mut BytesMut) -> Result<Option<u64>, Malformed> {
    const NO_SIZE: Malformed = Malformed("a chunk does not say how long it is");
    if !read.first().is_some_and(u8::is_ascii_hexdigit) {
        return Err(NO_SIZE);
    }
    match httparse::parse_chunk_size(read).map_err(|_| NO_SIZE)? {
        Status::Complete((length, size)) => {
            // What follows a semicolon is passed over, but not beyond the end of the line that others may see.
            if length > LONGEST_SIZE || read[..length - 2].iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
                return Err(NO_SIZE);
            }
            read.advance(length);
            Ok(Some(size))
        }
        Status::Partial if read.len() >= LONGEST_SIZE => Err(NO_SIZE),
        Status::Partial => Ok(None),
    }
}

/// Takes the end of a line: `None` where there is something else, false where it is not whole yet.
fn end_of_line(read: &mut BytesMut) -> Option<bool> {
    match &read[..] {
        [b'\r', b'\n', ..] => {
            read.advance(2);
            Some(true)
        }
        [b'\r'] | [] => Some(false),
        _ => None,
    }
}

/// Takes trailers, once they are whole.
fn trailers(read: &mut BytesMut) -> Result<Option<HeaderMap>, Malformed> {
    const NO_TRAILERS: Malformed = Malformed("the trailers cannot be read");
    let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
    let Status::Complete((length, fields)) = httparse::parse_headers(read, &mut fields).map_err(|_| NO_TRAILERS)?
    else {
        return if read.len() >= MOST_TRAILERS { Err(NO_TRAILERS) } else { Ok(None) };
    };
    if length >= MOST_TRAILERS || !has_whole_lines(&read[..length]) {
        return Err(NO_TRAILERS);
    }
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| NO_TRAILERS)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| NO_TRAILERS)?;
        trailers.append(name, value);
    }
    read.advance(length);
    Ok(Some(trailers))
}

/// Whether each line ends as it should, with both characters.
fn has_whole_lines(text: &[u8]) -> bool {
    text.split_inclusive(|byte| *byte == b'\n').all(|line| line.ends_with(b"\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of a body that comes in pieces of so many bytes: its bytes, its trailers, and what is left over.
    fn read(mut framing: Framing, text: &[u8], piece: usize) -> Result<(Vec<u8>, HeaderMap, Vec<u8>), Malformed> {
        let (mut body, mut trailers, mut read) = (Vec::new(), HeaderMap::new(), BytesMut::new());
        let mut pieces = text.chunks(piece);
        loop {
            match framing.next(&mut read)? {
                Part::Data(data) => body.extend(data),
                Part::Trailers(found) => trailers = found,
                Part::End => return Ok((body, trailers, [&read[..], &pieces.collect::<Vec<_>>().concat()].concat())),
                Part::Missing => match pieces.next() {
                    Some(piece) => read.extend_from_slice(piece),
                    None => framing.end()?,
                },
            }
        }
    }

    fn chunks(text: &str) -> Result<(Vec<u8>, HeaderMap, Vec<u8>), Malformed> {
        let whole = read(Framing::Chunks(Chunk::Size), text.as_bytes(), usize::MAX);
        for piece in 1..text.len().min(40) {
            assert_eq!(read(Framing::Chunks(Chunk::Size), text.as_bytes(), piece), whole, "{text:?} by {piece}");
        }
        whole
    }

    #[test]
    fn a_body_ends_where_its_framing_says_and_what_follows_is_left() {
        for piece in 1..10 {
            let (body, _, left) = read(Framing::of_length(5), b"hello HTTP", piece).unwrap();
            assert_eq!((&body[..], &left[..]), (&b"hello"[..], &b" HTTP"[..]));
            assert_eq!(read(Framing::ToEnd, b"hello", piece).unwrap().0, b"hello");
            assert_eq!(read(Framing::of_length(0), b"hello", piece).unwrap().2, b"hello");
            assert!(read(Framing::of_length(6), b"hello", piece).is_err());
        }
    }

    #[test]
    fn chunks_are_put_together_and_their_trailers_told() {
        let (body, trailers, left) =
            chunks("5\r\nhello\r\n1;a=\"b\"\r\n!\r\n0\r\nX-Sum: 6\r\nX-Sum: 7\r\n\r\nHTTP").unwrap();
        assert_eq!((&body[..], &left[..]), (&b"hello!"[..], &b"HTTP"[..]));
        assert_eq!(trailers.get_all("x-sum").iter().collect::<Vec<_>>(), ["6", "7"]);
        let (body, trailers, left) = chunks("00A \r\n0123456789\r\n000\r\n\r\n").unwrap();
        assert_eq!((&body[..], trailers.len(), left.len()), (&b"0123456789"[..], 0, 0));
    }

    #[test]
    fn chunks_that_can_be_read_in_two_ways_are_refused() {
        for text in [
            "\r\n",
            ";\r\n",
            " 5\r\nhello\r\n",
            "+5\r\nhello\r\n",
            "-1\r\n",
            "0x5\r\nhello\r\n",
            "5g\r\nhello\r\n",
            "5 6\r\nhello\r\n",
            "5\nhello\r\n",
            "5\rhello\r\n",
            "5;a\nb\r\nhello\r\n",
            "5;a\rb\r\nhello\r\n",
            "10000000000000000\r\n",
            "00000000000000000\r\n",
            "5\r\nhello!\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello\r0\r\n\r\n",
            "5\r\nhello\r\n",
            "5\r\nhel",
            "0\r\n",
            "0\r\n\r",
            "0\r\nX-Sum: 6\r\n",
            "0\r\nX-Sum: 6\n\r\n",
            "0\r\nX-Sum: 6\r\n\n",
            "0\r\n\n",
            "0\r\nX-Sum: 6\r\n more\r\n\r\n",
            "0\r\nX Sum: 6\r\n\r\n",
            "0\r\nX-Sum\r\n\r\n",
            "0\r\nX-Sum : 6\r\n\r\n",
            "0\r\n: 6\r\n\r\n",
            "0\r\nX-Sum: \0\r\n\r\n",
        ] {
            assert!(chunks(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_said_of_chunks_is_bounded() {
        assert!(chunks(&format!("5;{}", "x".repeat(LONGEST_SIZE))).is_err());
        assert!(chunks(&format!("0\r\nX-Sum: {}", "x".repeat(MOST_TRAILERS))).is_err());
        assert!(chunks(&format!("0\r\n{}\r\n", "X-Sum: 6\r\n".repeat(MOST_FIELDS))).is_ok());
        assert!(chunks(&format!("0\r\n{}\r\n", "X-Sum: 6\r\n".repeat(MOST_FIELDS + 1))).is_err());
    }
}
