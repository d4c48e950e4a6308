//! A siege: somebody attacks one API, or the gateway itself, while good callers go on calling another one. What is
//! printed is what the good ones notice, and the memory that it takes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use super::ROUNDS;
use super::bench::child::{Running, wait_for_parent};
use super::bench::figures::Series;
use super::bench::process::{cpu_seconds, resident_megabytes};
use super::parts::{API, BESIEGED};
use super::side::{Side, ahead, elsewhere, on_its_core};

/// Requests a second of the good callers: well below what the gateway can, as on most days.
const RATE: f64 = 2000.0;

/// Attackers that do nothing but take up room.
const CROWD: usize = 2000;

/// Attackers that send as fast as they can.
const FLOOD: usize = 8;

/// All attacks: their names, how many take part, and what each of them does.
const ATTACKS: [(&str, usize); 12] = [
    ("slow heads", CROWD),
    ("slow bodies", CROWD),
    ("slow readers", CROWD),
    ("huge heads", FLOOD),
    ("chunks without end", FLOOD),
    ("unknown keys", FLOOD),
    ("http2 resets", FLOOD),
    ("http2 CONTINUATION", FLOOD),
    ("http2 empty DATA", FLOOD),
    ("http2 SETTINGS", FLOOD),
    ("http2 PING", FLOOD),
    ("http2 windows", FLOOD),
];

/// How the attacks that are named `filter`, or all, are borne.
pub fn run(filter: Option<&str>) -> anyhow::Result<()> {
    let (backend, address) = Running::part(&["part", "backend"])?;
    elsewhere(backend.pid())?;
    // As is who calls: what is looked for is what they notice of the gateway, not of attackers on their own core.
    ahead(backend.pid())?;
    println!(
        "good callers, {RATE:.0} requests a second on one core, while one API or the gateway is attacked; µs from due, median of \
         {ROUNDS}"
    );
    println!("{:<22} {:>7} {:>7} {:>7} {:>7} {:>9}", "", "p50", "p99", "to calm", "CPU %", "memory MB");
    for (attack, count) in ATTACKS.into_iter().filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter))) {
        let (gateway, line) = Running::part(&["part", "gateway", &address, "small"])?;
        let (at, key) = line.split_once(' ').context("the gateway did not start")?;
        on_its_core(gateway.pid())?;
        let side = Side::new(attack, at.parse()?, &format!("/run/{API}"), Some(key), &gateway);
        side.wait()?;
        side.favour()?;
        side.paced(RATE)?;
        let before = (often(&side)?, resident_megabytes(gateway.pid())?);
        let (_attackers, _) = Running::part(&["part", "attack", attack, at, key, &count.to_string()])?;
        // A crowd takes some seconds to fill what there is between an app and readers who do not read.
        std::thread::sleep(Duration::from_secs(if count == CROWD { 8 } else { 2 }));
        let (began, used) = (Instant::now(), cpu_seconds(gateway.pid())?);
        let [p50, p99] = often(&side)?;
        let busy = (cpu_seconds(gateway.pid())? - used) / began.elapsed().as_secs_f64() * 100.0;
        let memory = resident_megabytes(gateway.pid())?;
        let ([calm50, calm99], calm_memory) = before;
        println!("{attack:<22} {p50:>7.0} {p99:>7.0} {:>6.1}x {busy:>7.0} {memory:>9.1}", p99 / calm99);
        println!("{:<22} {calm50:>7.0} {calm99:>7.0} {:>7} {:>7} {calm_memory:>9.1}", "  calm before it", "", "");
    }
    Ok(())
}

/// What the good callers notice, p50 and p99: the medians of several runs, since a pause of the machine's own, of some milliseconds
/// and once a second, is in the p99 of one and not of the next.
fn often(side: &Side) -> anyhow::Result<[f64; 2]> {
    let mut both = [(); 2].map(|()| Series::default());
    for _ in 0..ROUNDS {
        both.iter_mut().zip(side.paced(RATE)?).for_each(|(series, figure)| series.add_figure(figure));
    }
    Ok(both.each_mut().map(|series| series.median()))
}

/// Attacks until whoever started this is gone.
pub async fn attack(name: String, address: SocketAddr, key: String, count: usize) -> anyhow::Result<()> {
    // The good callers and the app share a core with this, and it is not theirs that is attacked.
    rustix::process::setpriority_process(None, 19)?;
    for number in 0..count {
        let (name, key) = (name.clone(), key.clone());
        tokio::spawn(async move {
            // Each of a crowd in its own time, and not all of them at once in each second.
            sleep(Duration::from_secs(1).mul_f64(rand::random())).await;
            loop {
                // Sent away, or refused: again, after a breath.
                let _ = attack_once(&name, address, &key, number).await;
                sleep(Duration::from_millis(20)).await;
            }
        });
    }
    println!("begun");
    Ok(tokio::task::spawn_blocking(wait_for_parent).await?)
}

async fn attack_once(name: &str, address: SocketAddr, key: &str, number: usize) -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    // From many addresses, as such a crowd does.
    let [high, low] = u16::try_from(2 + number % 50_000)?.to_be_bytes();
    socket.bind(SocketAddr::from(([127, 1, high, low], 0)))?;
    let mut stream = socket.connect(address).await?;
    let head = |line: &str, more: &str| {
        format!("{line} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n{more}\r\n").into_bytes()
    };
    match name {
        "slow heads" => {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: bench\r\nX-Slow: ").await?;
            loop {
                stream.write_all(b"x").await?;
                sleep(Duration::from_secs(1)).await;
            }
        }
        "slow bodies" => {
            let more = "Content-Length: 100000\r\n";
            stream.write_all(&head(&format!("POST /run/{BESIEGED}/sink"), more)).await?;
            loop {
                stream.write_all(b"x").await?;
                sleep(Duration::from_secs(1)).await;
            }
        }
        "slow readers" => {
            stream.write_all(&head(&format!("GET /run/{BESIEGED}/big"), "")).await?;
            sleep(Duration::from_secs(3600)).await;
            Ok(())
        }
        "huge heads" => {
            stream.write_all(format!("GET / HTTP/1.1\r\nHost: {}", "x".repeat(1 << 20)).as_bytes()).await?;
            drain(&mut stream).await
        }
        "chunks without end" => {
            let more = "Transfer-Encoding: chunked\r\n";
            stream.write_all(&head(&format!("POST /run/{BESIEGED}/sink"), more)).await?;
            let chunks = b"1\r\nx\r\n".repeat(1000);
            loop {
                stream.write_all(&chunks).await?;
            }
        }
        "unknown keys" => loop {
            let token: u128 = rand::random();
            let request =
                format!("GET /run/{API}/ HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer skep_{token:064x}\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            anyhow::ensure!(stream.read(&mut [0; 2048]).await? > 0, "sent away");
        },
        _ => flood(name, stream, key).await,
    }
}

/// Frames as fast as they are taken.
async fn flood(name: &str, mut stream: TcpStream, key: &str) -> anyhow::Result<()> {
    const END: u8 = 5;
    let field = |name: &str, value: &str| -> anyhow::Result<Vec<u8>> {
        // Without compression (RFC 7541, section 6.2.2).
        let lengths = [u8::try_from(name.len())?, u8::try_from(value.len())?];
        Ok([&[0, lengths[0]], name.as_bytes(), &[lengths[1]], value.as_bytes()].concat())
    };
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    };
    let path = format!("/run/{BESIEGED}/sink");
    let authorization = format!("Bearer {key}");
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", &path),
        (":authority", "bench"),
        ("authorization", &authorization),
    ];
    let fields = fields.iter().map(|(name, value)| field(name, value)).collect::<anyhow::Result<Vec<_>>>()?.concat();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
    stream.write_all(&frame(4, 0, 0, b"")).await?;
    let many = |frame: Vec<u8>| frame.repeat(200);
    let mut next = 1;
    let (mut reader, mut writer) = stream.split();
    let write = async {
        if matches!(name, "http2 empty DATA" | "http2 windows") {
            writer.write_all(&frame(1, 4, 1, &fields)).await?;
        }
        if name == "http2 CONTINUATION" {
            writer.write_all(&frame(1, 0, 1, &fields)).await?;
        }
        loop {
            let frames = match name {
                "http2 resets" => {
                    let frames: Vec<u8> = (0..50)
                        .flat_map(|n| [frame(1, END, next + 2 * n, &fields), frame(3, 0, next + 2 * n, &[0, 0, 0, 8])])
                        .flatten()
                        .collect();
                    next += 100;
                    frames
                }
                "http2 CONTINUATION" => many(frame(9, 0, 1, &field("x-more", "x")?)),
                "http2 empty DATA" => many(frame(0, 0, 1, b"")),
                "http2 SETTINGS" => many(frame(4, 0, 0, &[0, 4, 0, 1, 0, 0])),
                "http2 PING" => many(frame(6, 0, 0, b"12345678")),
                "http2 windows" => many(frame(8, 0, 1, &[0, 0, 0, 1])),
                other => anyhow::bail!("no attack is called {other}"),
            };
            writer.write_all(&frames).await?;
        }
    };
    let mut buffer = vec![0; 65536];
    let read = async {
        while reader.read(&mut buffer).await? > 0 {}
        anyhow::Ok(())
    };
    tokio::select! { done = write => done, done = read => done }
}

/// Reads to the end, for a while.
async fn drain(stream: &mut TcpStream) -> anyhow::Result<()> {
    let mut buffer = vec![0; 65536];
    while timeout(Duration::from_secs(5), stream.read(&mut buffer)).await?? > 0 {}
    Ok(())
}
