//! Load at a pace: requests are sent when they are due, whether or not those before have been answered, and their time
//! counts from then on. Whoever waits for an answer before asking again measures the server at its best.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::bench::child::wait_for_parent;

/// Connections that share the load.
const CONNECTIONS: u32 = 64;

/// Prints p50, p99 and p99.9 in µs.
pub fn run(address: SocketAddr, path: &str, key: &str, rate: f64, length: Duration) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let request = request(path, key);
    let mut times = runtime.block_on(async move {
        let begin = Instant::now() + Duration::from_millis(100);
        let every = Duration::from_secs_f64(f64::from(CONNECTIONS) / rate);
        let callers = (0..CONNECTIONS).map(|number| {
            let first = begin + every * number / CONNECTIONS;
            tokio::spawn(caller(address, request.clone(), first, every, begin + length))
        });
        let mut times = Vec::new();
        for caller in callers.collect::<Vec<_>>() {
            times.extend(caller.await??);
        }
        anyhow::Ok(times)
    })?;
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 1000).copied().unwrap_or_default().as_secs_f64() * 1e6;
    println!("{:.1} {:.1} {:.1}", at(500), at(990), at(999));
    wait_for_parent();
    Ok(())
}

async fn caller(
    address: SocketAddr,
    request: Vec<u8>,
    first: Instant,
    every: Duration,
    end: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (mut due, mut times, mut buffer) = (first, Vec::new(), vec![0; 4096]);
    while due < end {
        tokio::time::sleep_until(due.into()).await;
        // The timer has a grain of a millisecond, and what it is late is not the server's; what is later than that is due
        // to an answer that did not come.
        let woken = Instant::now();
        let since = if woken - due < Duration::from_millis(2) { woken } else { due };
        ask(&mut stream, &request, &mut buffer).await?;
        times.push(since.elapsed());
        due += every;
    }
    Ok(times)
}

/// One request, and its answer, which is small.
async fn ask(stream: &mut TcpStream, request: &[u8], buffer: &mut [u8]) -> anyhow::Result<()> {
    stream.write_all(request).await?;
    let mut length = 0;
    loop {
        let read = stream.read(buffer.get_mut(length..).context("a long answer")?).await?;
        ensure!(read > 0, "the connection ended");
        length += read;
        let answer = &buffer[..length];
        let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(answer));
        let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
        let body = text.lines().find_map(|line| line.strip_prefix("content-length:")).context("no length")?;
        if length >= head + 4 + body.trim().parse::<usize>()? {
            return Ok(());
        }
    }
}

/// Opens connections, asks once on each, says `open`, and keeps them until whoever started this is gone.
pub fn idle(address: SocketAddr, path: &str, key: &str, count: usize) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let request = request(path, key);
    let _open = runtime.block_on(async move {
        let (mut open, mut buffer) = (Vec::new(), vec![0; 4096]);
        for number in 0..count {
            // Of several addresses, as callers are: one has no more ports than the system gives it.
            let socket = tokio::net::TcpSocket::new_v4()?;
            let last = u8::try_from(2 + number / 2000).unwrap_or(2);
            socket.bind(SocketAddr::from(([127, 0, 0, last], 0)))?;
            let mut stream = socket.connect(address).await?;
            ask(&mut stream, &request, &mut buffer).await?;
            open.push(stream);
        }
        anyhow::Ok(open)
    })?;
    println!("open");
    wait_for_parent();
    Ok(())
}

fn request(path: &str, key: &str) -> Vec<u8> {
    let authorization = if key.is_empty() { String::new() } else { format!("Authorization: Bearer {key}\r\n") };
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{authorization}\r\n").into_bytes()
}
