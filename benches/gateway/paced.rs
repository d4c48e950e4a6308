//! Load at a pace: requests are sent when they are due, whether or not those before have been answered, and their time
//! counts from then on. Whoever waits for an answer before asking again measures the server at its best.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rand::{Rng as _, SeedableRng as _};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

use super::bench::child::wait_for_parent;
use super::side::ahead;

/// Connections that share the load.
const CONNECTIONS: u32 = 64;

/// Prints p50, p99 and p99.9 in µs.
///
/// Callers come independently of each other, as they do: the times between two are drawn from an exponential
/// distribution, the same for each side. One thread sleeps in `ppoll` until an answer or the next request is due: the
/// timers of a runtime have a grain of a millisecond, and would send what is due within it as one burst.
pub fn run(address: SocketAddr, path: &str, key: &str, rate: f64, length: Duration) -> anyhow::Result<()> {
    ahead(std::process::id())?;
    let request = request(path, key);
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        streams.push(stream);
    }
    let mut callers: Vec<Caller> =
        streams.iter().map(|stream| Caller { stream, due: None, answer: Vec::new() }).collect();
    let mut random = rand::rngs::SmallRng::seed_from_u64(1);
    let mut pause = || Duration::from_secs_f64(-(1.0 - random.random::<f64>()).ln() / rate);
    let begin = Instant::now() + Duration::from_millis(10);
    let (mut next, mut waiting, mut times) = (begin, VecDeque::new(), Vec::new());
    while next < begin + length {
        let now = Instant::now();
        while next <= now {
            waiting.push_back(next);
            next += pause();
        }
        for caller in callers.iter_mut().filter(|caller| caller.due.is_none()) {
            let Some(due) = waiting.pop_front() else { break };
            caller.ask(due, &request)?;
        }
        let sleep = next.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: 0, tv_nsec: sleep.subsec_nanos().into() };
        let mut ready: Vec<PollFd<'_>> =
            callers.iter().map(|caller| PollFd::new(caller.stream, PollFlags::IN)).collect();
        poll(&mut ready, Some(&timeout))?;
        let ready: Vec<bool> = ready.iter().map(|one| !one.revents().is_empty()).collect();
        for (caller, _) in callers.iter_mut().zip(ready).filter(|(_, is_ready)| *is_ready) {
            times.extend(caller.read()?);
        }
    }
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 1000).copied().unwrap_or_default().as_secs_f64() * 1e6;
    println!("{:.1} {:.1} {:.1}", at(500), at(990), at(999));
    wait_for_parent();
    Ok(())
}

/// One connection, and since when its request has been due.
struct Caller<'a> {
    stream: &'a TcpStream,
    due: Option<Instant>,
    answer: Vec<u8>,
}

impl Caller<'_> {
    fn ask(&mut self, due: Instant, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request)?;
        self.due = Some(due);
        Ok(())
    }

    /// The time that the answer took, once it is whole.
    fn read(&mut self) -> anyhow::Result<Option<Duration>> {
        let mut buffer = [0; 4096];
        let read = self.stream.read(&mut buffer)?;
        ensure!(read > 0, "the connection ended");
        self.answer.extend_from_slice(&buffer[..read]);
        if !is_whole(&self.answer)? {
            return Ok(None);
        }
        self.answer.clear();
        Ok(self.due.take().map(|due| due.elapsed()))
    }
}

/// Whether a small answer is there to its end.
fn is_whole(answer: &[u8]) -> anyhow::Result<bool> {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(answer));
    let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    let body = text.lines().find_map(|line| line.strip_prefix("content-length:")).context("no length")?;
    Ok(answer.len() >= head + 4 + body.trim().parse::<usize>()?)
}

/// Opens connections, asks once on each, says `open`, and keeps them until whoever started this is gone.
pub fn idle(address: SocketAddr, path: &str, key: &str, count: usize) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let request = request(path, key);
    let mut open = Vec::new();
    for number in 0..count {
        // Of several addresses, as callers are: one has no more ports than the system gives it.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let last = u8::try_from(2 + number / 2000).unwrap_or(2);
        socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into())?;
        socket.connect(&address.into())?;
        let stream = TcpStream::from(socket);
        let mut caller = Caller { stream: &stream, due: None, answer: Vec::new() };
        caller.ask(Instant::now(), &request)?;
        while caller.read()?.is_none() {}
        open.push(stream);
    }
    println!("open");
    wait_for_parent();
    Ok(())
}

fn request(path: &str, key: &str) -> Vec<u8> {
    let authorization = if key.is_empty() { String::new() } else { format!("Authorization: Bearer {key}\r\n") };
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{authorization}\r\n").into_bytes()
}
