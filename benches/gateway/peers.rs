//! What the gateway is compared with, as their own documentation has it for a proxy on one core.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use super::bench::child::Running;

/// nginx with connections to the backend kept open, and without a log.
pub fn nginx(folder: &Path, backend: SocketAddr) -> anyhow::Result<(Running, SocketAddr)> {
    let address = free_address()?;
    let configuration = format!(
        "daemon off;\nworker_processes 1;\nworker_rlimit_nofile 20000;\npid {0}/nginx.pid;\nerror_log {0}/error.log;\n\
         events {{ worker_connections 15000; }}\n\
         http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  keepalive_timeout 300s;\n  \
         client_max_body_size 8m;\n  client_body_temp_path {0}/body;\n\
         proxy_temp_path {0}/proxy;\n  fastcgi_temp_path {0}/fastcgi;\n  uwsgi_temp_path {0}/uwsgi;\n  \
         scgi_temp_path {0}/scgi;\n\
         upstream backend {{ server {backend}; keepalive 64; keepalive_requests 1000000000; }}\n\
         server {{\n    listen {address};\n    location / {{\n      proxy_pass http://backend;\n      \
         proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n    }}\n  }}\n}}\n",
        folder.display(),
    );
    let path = folder.join("nginx.conf");
    fs::write(&path, configuration)?;
    let mut nginx = program("nginx");
    nginx.arg("-p").arg(folder).arg("-c").arg(&path).stdin(Stdio::null());
    Ok((Running::start(&mut nginx).context("scripts/setup bench installs it")?, address))
}

/// `HAProxy` with one thread.
pub fn haproxy(folder: &Path, backend: SocketAddr) -> anyhow::Result<(Running, SocketAddr)> {
    let address = free_address()?;
    let configuration = format!(
        "global\n  nbthread 1\n  maxconn 2000\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client 300s\n  timeout server 60s\n  http-reuse always\n\
         frontend callers\n  bind {address}\n  default_backend app\n\
         backend app\n  server app {backend}\n"
    );
    let path = folder.join("haproxy.cfg");
    fs::write(&path, configuration)?;
    let mut haproxy = program("haproxy");
    haproxy.arg("-db").arg("-q").arg("-f").arg(&path).stdin(Stdio::null());
    Ok((Running::start(&mut haproxy).context("scripts/setup bench installs it")?, address))
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn program(name: &str) -> Command {
    let places = ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).join(name));
    let found = places.into_iter().find(|path| path.exists());
    found.map_or_else(|| Command::new(name), Command::new)
}
