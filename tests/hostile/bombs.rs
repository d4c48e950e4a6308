//! Bombs are what hostile code does to a host, each with the requests that set it off; and a neighbour's load beside
//! them. Shared by the tests, which assert, and the benchmark, which measures. Needs nothing but the standard library.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

/// An app that goes off when it is asked to.
pub const BOMB: &str = include_str!("apps/bomb.py");

/// An app that speaks to the gateway past any server.
pub const RAW: &str = include_str!("apps/raw.py");

/// The settings of both: the probes say nothing of what they do, so that nothing is restarted for it alone.
pub const SETTINGS: &str =
    "health: { probe: tcp, timeout: 5s, interval: 10s }\nroute: { public: true, timeout: 30s }\n";

/// One thing that hostile code does.
#[derive(Debug, Clone, Copy)]
pub struct Bomb {
    pub name: &'static str,
    /// Which of the two apps, and what of it is asked.
    pub app: &'static str,
    pub path: &'static str,
    pub way: Way,
    pub callers: usize,
}

/// How it is set off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Asked again and again, since it may have ended by what it did; answers are read and forgotten.
    Ask,
    /// Asked with a body that has no end.
    Upload,
    /// Asked, and the answer is never read.
    Unread,
}

const fn bomb(name: &'static str, app: &'static str, path: &'static str, way: Way, callers: usize) -> Bomb {
    Bomb { name, app, path, way, callers }
}

pub const BOMBS: [Bomb; 24] = [
    // Beside which the others are to be seen.
    bomb("nothing at all", BOMB, "calm", Way::Ask, 1),
    bomb("fork bomb", BOMB, "fork", Way::Ask, 1),
    bomb("busy loop on 64 processes", BOMB, "busy", Way::Ask, 1),
    bomb("memory bomb", BOMB, "memory", Way::Ask, 1),
    bomb("memory bomb in /dev/shm", BOMB, "shared", Way::Ask, 1),
    bomb("memory bomb in /tmp", BOMB, "temporary", Way::Ask, 1),
    bomb("disk filler", BOMB, "disk", Way::Ask, 1),
    bomb("log flood", BOMB, "logs", Way::Ask, 1),
    bomb("log flood of empty lines", BOMB, "lines", Way::Ask, 1),
    bomb("file descriptors", BOMB, "descriptors", Way::Ask, 1),
    bomb("crash loop", BOMB, "crash", Way::Ask, 1),
    bomb("answers a byte a second", BOMB, "drip", Way::Ask, 50),
    bomb("never reads an endless body", BOMB, "deaf", Way::Upload, 16),
    bomb("endless answer", BOMB, "endless", Way::Ask, 4),
    bomb("caller never reads an endless answer", BOMB, "endless", Way::Unread, 16),
    bomb("endless headers", RAW, "headers", Way::Ask, 4),
    bomb("endless header line", RAW, "header", Way::Ask, 4),
    bomb("endless status line", RAW, "status", Way::Ask, 4),
    bomb("endless interim answers", RAW, "interim", Way::Ask, 4),
    bomb("endless small chunks", RAW, "chunks", Way::Ask, 4),
    bomb("endless length of a chunk", RAW, "chunk", Way::Ask, 4),
    bomb("endless extension of a chunk", RAW, "extension", Way::Ask, 4),
    bomb("endless trailers", RAW, "trailers", Way::Ask, 4),
    bomb("body of 100 TB", RAW, "length", Way::Ask, 4),
];

/// Threads that go on until this is dropped.
pub struct Going {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Bomb {
    /// The API that does it, and nothing else.
    pub fn id(self) -> String {
        format!("hostile-{}-{}", self.path, if self.way == Way::Unread { "unread" } else { "read" }).replace("--", "-")
    }

    /// Sets it off, again and again, at a gateway.
    pub fn set_off(self, gateway: SocketAddr) -> Going {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..self.callers).map(|_| {
            let stop = Arc::clone(&stop);
            spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    // What comes of it is for the neighbours to say.
                    let _ = self.call(gateway, &stop);
                    for _ in 0..if self.way == Way::Ask { 5 } else { 1 } {
                        if !stop.load(Ordering::Relaxed) {
                            sleep(Duration::from_millis(100));
                        }
                    }
                }
            })
        });
        let threads = threads.collect();
        Going { stop, threads }
    }

    fn call(self, gateway: SocketAddr, stop: &AtomicBool) -> io::Result<()> {
        let mut stream = TcpStream::connect(gateway)?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.set_write_timeout(Some(Duration::from_millis(500)))?;
        let head = |more: &str| format!("HTTP/1.1\r\nhost: skep.test\r\n{more}\r\n");
        let target = format!("/run/{}/{}", self.id(), self.path);
        let is_over = || stop.load(Ordering::Relaxed);
        // Nobody is short of time for as long as the bomb is to last, but for the end.
        let is_patient = |error: &io::Error| matches!(error.kind(), io::ErrorKind::WouldBlock) && !is_over();
        if self.way == Way::Upload {
            stream.write_all(format!("POST {target} {}", head("transfer-encoding: chunked\r\n")).as_bytes())?;
            let chunk = [b"10000\r\n".as_slice(), &vec![0; 0x10000], b"\r\n"].concat();
            let mut at = 0;
            while !is_over() {
                match stream.write(&chunk[at..]) {
                    Ok(count) => at = (at + count) % chunk.len(),
                    Err(error) if is_patient(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            return Ok(());
        }
        stream.write_all(format!("GET {target} {}", head("connection: close\r\n")).as_bytes())?;
        let mut buffer = vec![0; 0x10000];
        while !is_over() {
            if self.way == Way::Unread {
                sleep(Duration::from_millis(100));
                continue;
            }
            match stream.read(&mut buffer) {
                Ok(0) => break,
                // A caller on a line of some 10 MB/s, so that what is measured is not how fast this machine copies.
                Ok(_) => sleep(Duration::from_millis(5)),
                Err(error) if is_patient(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// What a neighbour's callers saw.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// How long each answer took.
    pub spans: Vec<Duration>,
    /// Everything that was no good answer.
    pub errors: Vec<String>,
}

/// Calls a path steadily for that long: 20 connections that are kept open, each with 5 requests a second.
pub fn load(gateway: SocketAddr, path: &str, length: Duration) -> Seen {
    const CONNECTIONS: u32 = 20;
    const EVERY: Duration = Duration::from_millis(200);
    let seen = Arc::new(Mutex::new(Seen::default()));
    let begin = Instant::now();
    let callers: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let (seen, path) = (Arc::clone(&seen), path.to_owned());
            spawn(move || {
                let mut client = None;
                let mut at = begin + EVERY * number / CONNECTIONS;
                while at < begin + length {
                    sleep(at.saturating_duration_since(Instant::now()));
                    let asked = Instant::now();
                    let came = ask(&mut client, gateway, &path);
                    let span = asked.elapsed();
                    let mut seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    match came {
                        Ok(200) => seen.spans.push(span),
                        other => {
                            client = None;
                            seen.errors.push(format!("{other:?} after {span:?}"));
                        }
                    }
                    at += EVERY;
                }
            })
        })
        .collect();
    for caller in callers {
        let _ = caller.join();
    }
    let seen = seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    seen.clone()
}

/// One request over a connection that is kept; gives the status.
fn ask(client: &mut Option<BufReader<TcpStream>>, gateway: SocketAddr, path: &str) -> io::Result<u16> {
    let stream = match client {
        Some(stream) => stream,
        empty @ None => {
            let stream = TcpStream::connect(gateway)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            empty.insert(BufReader::new(stream))
        }
    };
    stream.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nhost: skep.test\r\n\r\n").as_bytes())?;
    let (mut status, mut length) = (0, 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(rest) = line.strip_prefix("http/1.1 ") {
            status = rest.split(' ').next().and_then(|code| code.parse().ok()).unwrap_or_default();
        } else if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or_default();
        } else if line.is_empty() {
            break;
        }
    }
    stream.read_exact(&mut vec![0; length])?;
    Ok(status)
}
