//! Outgoing is the head of a request as an app gets it: what its caller has sent and may, and what we say of it.
//!
//! Written down at once, rather than put into a map of headers that is then written: what is ours is said once and looked up
//! by nobody.

use bytes::BytesMut;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};

/// What most heads fit into.
const ROOM: usize = 768;

/// The head of a request as an app gets it, but for where its body ends, which is said by who [sends](super::sending) it.
#[derive(Debug)]
pub(super) struct Outgoing {
    text: BytesMut,
}

impl Outgoing {
    /// The request line.
    pub(super) fn new(method: &Method, path: &PathAndQuery) -> Self {
        let mut text = BytesMut::with_capacity(ROOM);
        for part in [method.as_str(), " ", path.as_str(), " HTTP/1.1\r\n"] {
            text.extend_from_slice(part.as_bytes());
        }
        Self { text }
    }

    /// Adds all of these but for where the body ends.
    pub(super) fn add_all(&mut self, headers: &HeaderMap) {
        for (name, value) in headers {
            if name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
                self.add(name.as_str(), &[value.as_bytes()]);
            }
        }
    }

    /// Adds a field whose value has these parts, none of which may hold the end of a line.
    pub(super) fn add(&mut self, name: &str, value: &[&[u8]]) {
        debug_assert!(!value.iter().any(|part| part.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))), "{name}");
        write_field(&mut self.text, name, value);
    }

    /// What has been written.
    pub(super) fn into_text(self) -> BytesMut {
        self.text
    }
}

/// Writes a line.
pub(super) fn write_field(text: &mut BytesMut, name: &str, value: &[&[u8]]) {
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(b": ");
    for part in value {
        text.extend_from_slice(part);
    }
    text.extend_from_slice(b"\r\n");
}
