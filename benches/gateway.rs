//! Throughput and processor time of the gateway, beside nginx as a plain proxy and beside no proxy at all.

mod bench;

use std::convert::Infallible;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bench::child::{Running, wait_for_parent};
use bench::figures::Series;
use bench::http::Client;
use bench::process::cpu_seconds;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use skep::gateway::{Gateway, Keys, Limits, Route, RouteState, Routes, Upstream, not_found};
use skep::records::{KeyScope, NewKey};
use skep::tree::{ApiId, Revision, Spec};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Kept open by the client all the while.
const CONNECTIONS: &str = "64";

/// How long each run lasts, in seconds.
const SECONDS: u32 = 5;

/// Runs of each, in turn; the median is printed.
const ROUNDS: usize = 3;

const API: &str = "backend";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "part", "backend"] => run(serve_backend()),
        [_, "part", "gateway", upstream] => run(serve_gateway(upstream.parse()?)),
        _ => compare(),
    }
}

fn compare() -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("skep-bench-").tempdir()?;
    let (backend, address) = Running::part(&["part", "backend"])?;
    let backend_address: SocketAddr = address.parse()?;
    let (nginx, nginx_address) = start_nginx(folder.path(), backend_address)?;
    let (gateway, line) = Running::part(&["part", "gateway", &address])?;
    let (gateway_address, key) = line.split_once(' ').context("the gateway did not start")?;
    let gateway_address: SocketAddr = gateway_address.parse()?;

    // Each is asked at the same path of the backend.
    let mut sides = [
        Side::new("no proxy", backend_address, "/", None, &backend),
        Side::new("nginx, plain proxy", nginx_address, "/", None, &nginx),
        Side::new("skep, key checked", gateway_address, &format!("/run/{API}/"), Some(key), &gateway),
    ];
    for side in &sides {
        side.wait()?;
        side.load(1)?;
    }
    for _ in 0..ROUNDS {
        for side in &mut sides {
            side.measure()?;
        }
    }

    println!("gateway: {CONNECTIONS} connections kept open, small answers, {ROUNDS} runs of {SECONDS} s each in turn");
    println!(
        "{:<22} {:>10} {:>9} {:>14} {:>9} {:>8}",
        "", "requests/s", "to nginx", "CPU µs/request", "to nginx", "p99 ms"
    );
    let (rate, cpu) = (sides[1].rate.median(), sides[1].cpu.median());
    for side in &sides {
        let (own_rate, own_cpu) = (side.rate.median(), side.cpu.median());
        print!("{:<22} {own_rate:>10.0} {:>8.2}x ", side.name, own_rate / rate);
        println!("{own_cpu:>14.1} {:>8.2}x {:>8.2}", own_cpu / cpu, side.late.median());
    }
    Ok(())
}

/// One thing that is asked.
struct Side {
    name: &'static str,
    address: SocketAddr,
    path: String,
    key: Option<String>,
    pid: u32,
    /// Requests a second.
    rate: Series,
    /// Processor time of the process that is asked, in µs a request.
    cpu: Series,
    /// The 99th percentile of the time to an answer, in ms.
    late: Series,
}

impl Side {
    fn new(name: &'static str, address: SocketAddr, path: &str, key: Option<&str>, process: &Running) -> Self {
        let [rate, cpu, late] = [(); 3].map(|()| Series::default());
        Self { name, address, path: path.to_owned(), key: key.map(str::to_owned), pid: process.pid(), rate, cpu, late }
    }

    fn wait(&self) -> anyhow::Result<()> {
        let mut client = Client::new(self.address, self.key.clone());
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            match client.get(&self.path) {
                Ok(answer) if answer.status == 200 => return Ok(()),
                answer if Instant::now() > deadline => bail!("{}: {answer:?}", self.name),
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn measure(&mut self) -> anyhow::Result<()> {
        let before = cpu_seconds(self.pid)?;
        let load = self.load(SECONDS)?;
        let used = cpu_seconds(self.pid)? - before;
        self.rate.add_figure(load.rate);
        self.late.add_figure(load.late);
        self.cpu.add_figure(used * 1e6 / load.requests);
        Ok(())
    }

    fn load(&self, seconds: u32) -> anyhow::Result<Load> {
        let mut wrk = Command::new("wrk");
        wrk.args(["-t", "1", "-c", CONNECTIONS, "-d", &format!("{seconds}s"), "--latency"]);
        if let Some(key) = &self.key {
            wrk.args(["-H", &format!("Authorization: Bearer {key}")]);
        }
        let output = wrk.arg(format!("http://{}{}", self.address, self.path)).output();
        let output = output.context("cannot run wrk; scripts/setup bench installs it")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let is_clean = !text.contains("Non-2xx") && !text.contains("Socket errors");
        ensure!(output.status.success() && is_clean, "{}: requests failed:\n{text}", self.name);
        Load::read(&text).with_context(|| format!("cannot read what wrk says:\n{text}"))
    }
}

/// What `wrk` says.
struct Load {
    requests: f64,
    rate: f64,
    late: f64,
}

impl Load {
    fn read(text: &str) -> Option<Self> {
        let after = |label: &str| text.lines().find_map(|line| line.trim().strip_prefix(label)).map(str::trim);
        let requests = text.lines().find(|line| line.contains(" requests in "))?;
        Some(Self {
            requests: requests.split_whitespace().next()?.parse().ok()?,
            rate: after("Requests/sec:")?.parse().ok()?,
            late: milliseconds(after("99%")?)?,
        })
    }
}

/// Reads `1.25ms`, `980.00us` or `1.02s`.
fn milliseconds(text: &str) -> Option<f64> {
    let (number, factor) = [("us", 0.001), ("ms", 1.0), ("s", 1000.0)]
        .into_iter()
        .find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    Some(number.parse::<f64>().ok()? * factor)
}

/// nginx as its own documentation says that a proxy keeps connections open, and without a log.
fn start_nginx(folder: &Path, backend: SocketAddr) -> anyhow::Result<(Running, SocketAddr)> {
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let configuration = format!(
        "daemon off;\nworker_processes auto;\npid {0}/nginx.pid;\nerror_log {0}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  client_body_temp_path {0}/body;\n\
         proxy_temp_path {0}/proxy;\n  fastcgi_temp_path {0}/fastcgi;\n  uwsgi_temp_path {0}/uwsgi;\n  \
         scgi_temp_path {0}/scgi;\n\
         upstream backend {{ server {backend}; keepalive {CONNECTIONS}; keepalive_requests 1000000000; }}\n\
         server {{\n    listen {address};\n    location / {{\n      proxy_pass http://backend;\n      \
         proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n    }}\n  }}\n}}\n",
        folder.display(),
    );
    let path = folder.join("nginx.conf");
    fs::write(&path, configuration)?;
    let program = ["/usr/sbin/nginx", "/sbin/nginx"].into_iter().find(|path| Path::new(path).exists());
    let mut nginx = Command::new(program.unwrap_or("nginx"));
    nginx.arg("-p").arg(folder).arg("-c").arg(&path).stdin(Stdio::null());
    Ok((Running::start(&mut nginx).context("scripts/setup bench installs it")?, address))
}

fn run(part: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(part);
    runtime.shutdown_background();
    done
}

/// An app that costs next to nothing.
async fn serve_backend() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let answer = service_fn(async |_: Request<Incoming>| {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(br#"{"answer":"a small one"}"#))))
            });
            // A client that hangs up is none of our business.
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    Ok(tokio::task::spawn_blocking(wait_for_parent).await?)
}

/// The gateway as the daemon has it, with one key and one route.
async fn serve_gateway(upstream: SocketAddr) -> anyhow::Result<()> {
    let (routes, keys) = (Arc::new(Routes::default()), Arc::new(Keys::default()));
    let key = NewKey::generate("bench", KeyScope::All, Timestamp::now());
    keys.set(vec![key.key]);
    let (id, spec) = (ApiId::new(API)?, Spec::built_in(API));
    let upstreams = vec![Arc::new(Upstream::new("backend".into(), upstream))];
    let state = RouteState::Serving { revision: Revision::from_label("r"), upstreams };
    let digest = spec.digest();
    let route = Route { id: id.clone(), settings: spec.route, rate_limit: spec.rate_limit, digest, state };
    routes.set(&id, Some(route));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{} {}", listener.local_addr()?, key.secret);
    let gateway = Arc::new(Gateway::new(routes, keys, Limits::default()).tallying(Arc::default()));
    let nothing_else = Arc::new(async |_: Request<Incoming>| not_found("-"));
    tokio::spawn(gateway.serve(listener, nothing_else, CancellationToken::new()));
    Ok(tokio::task::spawn_blocking(wait_for_parent).await?)
}
