//! A pool before a Postgres: the distribution's pgbouncer, as Supabase has one at port 6543 (by transaction) and at 5432 (by
//! session).

#![allow(dead_code, reason = "each binary of tests uses what it needs")]

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use super::server::{Postgres, as_server, free_port};

/// A running pool; dropping it ends it.
pub struct Pool {
    process: Child,
    port: u16,
}

impl Pool {
    /// Hands out connections for each `session` or `transaction`.
    pub fn start(server: &Postgres, mode: &str) -> Self {
        Self::start_as(server, mode, "postgres")
    }

    /// As [`Pool::start`], for that user of the server's, whoever comes.
    pub fn start_as(server: &Postgres, mode: &str, user: &str) -> Self {
        let port = free_port();
        let settings = server.folder().join(format!("pool-{mode}.ini"));
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={} user={user}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = 6\n\
             server_reset_query_always = 0\n",
            server.port()
        );
        std::fs::write(&settings, text).unwrap();
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].into_iter().find(|path| Path::new(path).exists());
        let mut command = as_server(Path::new(program.unwrap_or("pgbouncer")));
        let process = command.arg(&settings).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the pool does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, port }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
