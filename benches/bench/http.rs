//! A client that asks one thing at a time over one connection, and waits for nothing but the answer.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// For one answer. Nothing that is measured here takes nearly as long.
const LIMIT: Duration = Duration::from_secs(10);

/// One connection, opened when it is first needed and kept.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    key: Option<String>,
    connection: Option<BufReader<TcpStream>>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

impl Client {
    /// A client that shows `key`, where there is one.
    pub fn new(address: SocketAddr, key: Option<String>) -> Self {
        Self { address, key, connection: None }
    }

    /// The answer to `GET path`. A connection that fails is not used again.
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        let answer = self.exchange(path);
        if answer.is_err() {
            self.connection = None;
        }
        answer
    }

    fn exchange(&mut self, path: &str) -> Result<Answer> {
        let authorization = self.key.as_ref().map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{authorization}\r\n");
        let stream = match &mut self.connection {
            Some(stream) => stream,
            empty @ None => {
                let stream = TcpStream::connect_timeout(&self.address, LIMIT)?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(LIMIT))?;
                empty.insert(BufReader::new(stream))
            }
        };
        stream.get_mut().write_all(request.as_bytes())?;
        let (mut status, mut length, mut is_last) = (0, 0, false);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(rest) = line.strip_prefix("http/1.1 ") {
                let code = rest.split(' ').next().and_then(|code| code.parse().ok());
                status = code.ok_or_else(|| Error::new(ErrorKind::InvalidData, line.clone()))?;
            } else if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(|_| Error::new(ErrorKind::InvalidData, line.clone()))?;
            } else if line == "connection: close" {
                is_last = true;
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        if is_last {
            self.connection = None;
        }
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
    }
}
