//! A client writes bytes and reads answers as they stand on the wire, so that a test sees what a caller sees.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub struct Client {
    pub stream: TcpStream,
    read: Vec<u8>,
}

/// An answer, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// As they stand after a chunked body.
    pub trailers: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap().to_owned()
    }
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }

    pub fn over(stream: TcpStream) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends a request and reads its answer.
    pub async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Reply {
        self.send(bytes).await;
        self.reply().await
    }

    /// Reads one answer to a request other than `HEAD`.
    pub async fn reply(&mut self) -> Reply {
        let mut reply = self.head().await;
        if let Some(length) = reply.header("content-length") {
            let length = length.parse().unwrap();
            reply.body = self.exactly(length).await;
        } else if reply.header("transfer-encoding") == Some("chunked") {
            loop {
                let line = self.until("\r\n").await;
                let length = usize::from_str_radix(line.trim_end(), 16).unwrap();
                if length == 0 {
                    break;
                }
                reply.body.extend(self.exactly(length).await);
                assert_eq!(self.exactly(2).await, b"\r\n");
            }
            loop {
                let line = self.until("\r\n").await;
                if line == "\r\n" {
                    break;
                }
                reply.trailers += &line;
            }
        }
        reply
    }

    /// Reads the head of an answer.
    pub async fn head(&mut self) -> Reply {
        let head = self.until("\r\n\r\n").await;
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap()).map(|(n, v)| (n.to_lowercase(), v.to_owned()));
        Reply { status, headers: headers.collect(), body: Vec::new(), trailers: String::new() }
    }

    /// Reads up to and with `end`.
    pub async fn until(&mut self, end: &str) -> String {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|part| part == end.as_bytes()) {
                let rest = self.read.split_off(at + end.len());
                return String::from_utf8(std::mem::replace(&mut self.read, rest)).unwrap();
            }
            assert!(self.more().await, "the connection ended after {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    pub async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            assert!(self.more().await, "the connection ended {} bytes early", length - self.read.len());
        }
        let rest = self.read.split_off(length);
        std::mem::replace(&mut self.read, rest)
    }

    /// Whether the other side ends the connection, with nothing more to read, within ten seconds.
    pub async fn ends(&mut self) -> bool {
        self.read.is_empty() && !self.more().await
    }

    /// Reads on to where the other side ends the connection, and forgets what came; false where that takes over a minute.
    pub async fn drain(&mut self) -> bool {
        let to_the_end = async {
            while self.more().await {
                self.read.clear();
            }
        };
        timeout(Duration::from_secs(60), to_the_end).await.is_ok()
    }

    async fn more(&mut self) -> bool {
        self.read.reserve(65536);
        let read = timeout(Duration::from_secs(10), self.stream.read_buf(&mut self.read)).await;
        let count = read.expect("nothing to read").unwrap_or(0);
        count > 0
    }
}
