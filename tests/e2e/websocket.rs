//! As much of a WebSocket client (RFC 6455) as a test needs: short text messages both ways.

use std::io::Read;
use std::net::SocketAddr;

use crate::http::Connection;

pub struct WebSocket {
    connection: Connection,
    /// What the server chose.
    pub protocol: Option<String>,
}

impl WebSocket {
    #[track_caller]
    pub fn open(address: SocketAddr, target: &str) -> Self {
        let mut connection = Connection::open(address).unwrap();
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: skep.test\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-protocol: telling\r\n\r\n"
        );
        connection.write(request.as_bytes()).unwrap();
        let head = connection.head().unwrap().expect(101);
        // The answer to that key in RFC 6455, section 1.3.
        assert_eq!(head.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        Self { connection, protocol: head.header("sec-websocket-protocol").map(ToOwned::to_owned) }
    }

    pub fn say(&mut self, text: &str) {
        let length = u8::try_from(text.len()).unwrap();
        assert!(length < 126, "a test needs no long messages");
        // A mask of zeros changes nothing and is one.
        let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
        frame.extend(text.as_bytes());
        self.connection.write(&frame).unwrap();
    }

    /// The next message.
    pub fn hear(&mut self) -> String {
        let mut head = [0; 2];
        self.connection.reader.read_exact(&mut head).unwrap();
        assert_eq!(head[0], 0x81, "this is no whole text message");
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.connection.reader.read_exact(&mut length).unwrap();
                usize::from(u16::from_be_bytes(length))
            }
            length => usize::from(length),
        };
        let mut text = vec![0; length];
        self.connection.reader.read_exact(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }
}
