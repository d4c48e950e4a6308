//! A sending is a request on its way to an upstream, as the bytes of HTTP/1.1 that it consists of.
//!
//! Its head and what there is of its body go in one write. Nothing of it is let go before it has been written, so that one
//! that met a connection which had ended can be written again, to another.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Method};
use http_body::{Body as _, Frame};
use tokio::io::AsyncWrite;

use super::headers::may_follow;
use super::outgoing::{Outgoing, write_field};
use super::upload::Upload;

/// What a piece of a body may be long and still be copied behind what goes before it.
const SHORT: usize = 4 * 1024;

/// What may wait to be written before no more of the body is asked for.
const MOST_WAITING: usize = 16 * 1024;

/// How many turns in a row a short part of a body waits while more of it comes.
const MOST_TURNS: u8 = 64;

/// A request on its way to an upstream.
#[derive(Debug)]
pub(super) struct Sending {
    method: Method,
    is_harmless_twice: bool,
    /// What is written first: the head, short pieces of the body, and what chunks are made of.
    text: BytesMut,
    /// A long piece of the body behind it.
    piece: Bytes,
    /// What belongs behind that piece.
    end: &'static [u8],
    /// How much of these three has been written.
    written: usize,
    /// Whether anything has been written since the beginning.
    has_begun: bool,
    /// Turns for which what there is has waited for more.
    turns: u8,
    /// `None` once all of it is in the above.
    upload: Option<Upload>,
    coding: Coding,
    room: HeaderMap,
}

/// How one says where a body ends.
#[derive(Debug)]
enum Coding {
    /// So many bytes are still to come.
    Length(u64),
    /// In chunks, with these trailers.
    Chunks(Vec<HeaderName>),
}

/// Why a request could not be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// The connection takes nothing, and has taken nothing of the request.
    #[error("nothing of the request could be written: {0}")]
    Unsent(#[source] io::Error),
    /// The connection takes no more of it.
    #[error("the rest of the request could not be written: {0}")]
    Broken(#[source] io::Error),
    /// There is no more of it; why, its progress tells.
    #[error("the request body stopped")]
    Stopped,
}

impl Sending {
    /// A request of which nothing has been sent. `headers` are those that its head has been made of.
    pub(super) fn new(method: &Method, head: Outgoing, mut headers: HeaderMap, upload: Upload) -> Self {
        let has_body = !upload.is_end_stream();
        let mut text = head.into_text();
        let length = if has_body { upload.size_hint().exact() } else { Some(0) };
        let length = length.filter(|_| !has_body || !headers.contains_key(TRANSFER_ENCODING));
        let says_length = length.is_some() && announced(&headers) == length;
        match length {
            None => write_field(&mut text, TRANSFER_ENCODING.as_str(), &[b"chunked"]),
            Some(length) if has_body || says_length => {
                let mut digits = itoa::Buffer::new();
                write_field(&mut text, CONTENT_LENGTH.as_str(), &[digits.format(length).as_bytes()]);
            }
            Some(_) => {}
        }
        text.extend_from_slice(b"\r\n");
        let coding = length.map_or_else(|| Coding::Chunks(named(&headers)), Coding::Length);
        headers.clear();
        Self {
            is_harmless_twice: !has_body && method.is_idempotent(),
            method: method.clone(),
            text,
            piece: Bytes::new(),
            end: b"",
            written: 0,
            has_begun: false,
            turns: 0,
            upload: has_body.then_some(upload),
            coding,
            room: headers,
        }
    }

    /// The method, and room for the headers of the answer, those of the request having been written.
    pub(super) fn for_answer(&mut self) -> (&Method, &mut HeaderMap) {
        (&self.method, &mut self.room)
    }

    /// Whether all of it has been written.
    pub(super) fn is_over(&self) -> bool {
        self.upload.is_none() && self.written == self.length()
    }

    /// Whether all of it is still there, to be written again, and means the same when it comes twice (RFC 9110, section
    /// 9.2.2).
    pub(super) fn is_harmless_twice(&self) -> bool {
        self.is_harmless_twice
    }

    /// Begins again, on another connection. Only where nothing has been written, or it is harmless twice.
    pub(super) fn begin_again(&mut self) {
        self.written = 0;
        self.has_begun = false;
    }

    /// Lets go of the rest: nobody takes it.
    pub(super) fn give_up(&mut self) {
        self.upload = None;
        self.written = self.length();
    }

    /// Writes as much as there is and the connection takes. Ready when all of it has been written.
    ///
    /// # Errors
    /// Where there will be no more.
    pub(super) fn poll<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut W,
    ) -> Poll<Result<(), SendError>> {
        loop {
            let before = if self.written == self.length() { 0 } else { self.length() };
            self.gather(cx)?;
            if self.written == self.length() {
                return if self.upload.is_none() { Poll::Ready(Ok(())) } else { Poll::Pending };
            }
            if self.waits_for_more(before) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let written = match ready!(self.write(cx, connection)) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                written => written,
            };
            let wrong = if self.has_begun { SendError::Broken } else { SendError::Unsent };
            self.written += written.map_err(wrong)?;
            self.has_begun = true;
        }
    }

    /// Whether what there is is short, and has grown since it was so long: more may be at hand, and a chunk of a byte must not
    /// cost a packet.
    fn waits_for_more(&mut self, before: usize) -> bool {
        let is_short = self.upload.is_some() && self.has_begun && self.written == 0 && self.length() < SHORT;
        let waits = is_short && self.length() > before && self.turns < MOST_TURNS;
        self.turns = if waits { self.turns + 1 } else { 0 };
        waits
    }

    fn length(&self) -> usize {
        self.text.len() + self.piece.len() + self.end.len()
    }

    fn write<W: AsyncWrite + Unpin>(&self, cx: &mut Context<'_>, connection: &mut W) -> Poll<io::Result<usize>> {
        let connection = Pin::new(connection);
        if self.piece.is_empty() {
            return connection.poll_write(cx, &self.text[self.written..]);
        }
        let mut before = self.written;
        let slices = [&self.text[..], &self.piece[..], self.end].map(|part| {
            let done = before.min(part.len());
            before -= done;
            IoSlice::new(&part[done..])
        });
        // None that is empty in front, which some take for the whole.
        let first = slices.iter().position(|slice| !slice.is_empty()).unwrap_or(0);
        connection.poll_write_vectored(cx, &slices[first..])
    }

    /// Takes what there is of the body.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), SendError> {
        while let Some(upload) = &mut self.upload {
            if self.written > 0 && self.written == self.text.len() + self.piece.len() + self.end.len() {
                self.text.clear();
                (self.piece, self.end, self.written) = (Bytes::new(), b"", 0);
            }
            if !self.piece.is_empty() || self.text.len() >= MOST_WAITING {
                break;
            }
            let Poll::Ready(frame) = Pin::new(&mut *upload).poll_frame(cx) else { break };
            let is_last = match frame {
                Some(Ok(frame)) => {
                    let is_last = upload.is_end_stream();
                    self.take(frame)?;
                    is_last
                }
                Some(Err(_)) => return Err(SendError::Stopped),
                None => true,
            };
            if is_last {
                self.upload = None;
                self.finish()?;
            }
        }
        Ok(())
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<(), SendError> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                if let (Ok(trailers), Coding::Chunks(named)) = (frame.into_trailers(), &self.coding) {
                    self.text.extend_from_slice(b"0\r\n");
                    let told = trailers.iter().filter(|(name, _)| named.contains(name) && may_follow(name.as_str()));
                    told.for_each(|(name, value)| write_field(&mut self.text, name.as_str(), &[value.as_bytes()]));
                    self.text.extend_from_slice(b"\r\n");
                    self.coding = Coding::Length(0);
                }
                return Ok(());
            }
        };
        if data.is_empty() {
            return Ok(());
        }
        let end: &'static [u8] = match &mut self.coding {
            Coding::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(SendError::Stopped)?;
                b""
            }
            Coding::Chunks(_) => {
                self.text.extend_from_slice(format!("{:X}\r\n", data.len()).as_bytes());
                b"\r\n"
            }
        };
        if data.len() <= SHORT {
            self.text.extend_from_slice(&data);
            self.text.extend_from_slice(end);
        } else {
            (self.piece, self.end) = (data, end);
        }
        Ok(())
    }

    /// Puts the end behind what there is.
    fn finish(&mut self) -> Result<(), SendError> {
        match &self.coding {
            Coding::Length(0) => Ok(()),
            // The one that is cut off must not look whole.
            Coding::Length(_) => Err(SendError::Stopped),
            Coding::Chunks(_) if self.piece.is_empty() => {
                self.text.extend_from_slice(b"0\r\n\r\n");
                Ok(())
            }
            Coding::Chunks(_) => {
                self.end = b"\r\n0\r\n\r\n";
                Ok(())
            }
        }
    }
}

/// The length that a head announces.
fn announced(headers: &HeaderMap) -> Option<u64> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next().filter(|_| lengths.next().is_none())?;
    length.to_str().ok()?.parse().ok()
}

/// The trailers that a head announces.
fn named(headers: &HeaderMap) -> Vec<HeaderName> {
    let names = headers.get_all(TRAILER).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http::HeaderValue;
    use http::header::{HOST, TE};
    use http::uri::PathAndQuery;

    use super::*;

    /// A connection that takes so many bytes at once, and so many in all.
    struct Narrow {
        at_once: usize,
        most: usize,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let count = bytes.len().min(self.at_once).min(self.most - self.taken.len());
            self.taken.extend(&bytes[..count]);
            let ended = io::ErrorKind::BrokenPipe;
            Poll::Ready(if count == 0 { Err(ended.into()) } else { Ok(count) })
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn sending(method: &Method) -> Sending {
        let fields = [(HOST, "a"), (CONTENT_LENGTH, "0"), (TRANSFER_ENCODING, "chunked"), (TE, "trailers")];
        let headers = fields.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect();
        let mut head = Outgoing::new(method, &PathAndQuery::from_static("/a?b"));
        head.add_all(&headers);
        Sending::new(method, head, headers, Upload::empty())
    }

    const WHOLE: &str = "GET /a?b HTTP/1.1\r\nhost: a\r\nte: trailers\r\ncontent-length: 0\r\n\r\n";

    fn send(sending: &mut Sending, at_once: usize, most: usize) -> (Poll<Result<(), SendError>>, String) {
        let mut connection = Narrow { at_once, most, taken: Vec::new() };
        let sent = sending.poll(&mut Context::from_waker(Waker::noop()), &mut connection);
        (sent, String::from_utf8(connection.taken).unwrap())
    }

    #[test]
    fn a_request_is_written_whole_however_little_is_taken_at_once() {
        for at_once in [1, 7, usize::MAX] {
            let mut sending = sending(&Method::GET);
            assert!(!sending.is_over());
            let (sent, text) = send(&mut sending, at_once, usize::MAX);
            assert!(matches!(sent, Poll::Ready(Ok(()))) && sending.is_over());
            assert_eq!(text, WHOLE);
        }
    }

    #[test]
    fn what_met_a_connection_that_had_ended_is_written_again_from_its_beginning() {
        let mut sending = sending(&Method::GET);
        for (most, text) in [(0, ""), (9, "GET /a?b ")] {
            let (sent, taken) = send(&mut sending, 4, most);
            let is_told = match sent {
                Poll::Ready(Err(SendError::Unsent(_))) => most == 0,
                Poll::Ready(Err(SendError::Broken(_))) => most > 0,
                _ => false,
            };
            assert!(is_told && taken == text, "{most}: {taken:?}");
            sending.begin_again();
        }
        assert_eq!(send(&mut sending, 4, usize::MAX).1, WHOLE);
        sending.begin_again();
        assert_eq!(send(&mut sending, 4, usize::MAX).1, WHOLE);
    }

    #[test]
    fn only_what_means_the_same_twice_is_harmless_twice() {
        for (method, expected) in [(Method::GET, true), (Method::DELETE, true), (Method::POST, false)] {
            assert_eq!(sending(&method).is_harmless_twice(), expected, "{method}");
        }
    }
}
