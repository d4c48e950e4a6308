//! A Postgres of a test's own: a fresh cluster in a folder of its own, gone when it is dropped or the test is killed.

#![allow(dead_code, reason = "each binary of tests uses what it needs")]

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server, which trusts everybody on loopback. Its superuser is `postgres`.
pub struct Postgres {
    folder: tempfile::TempDir,
    port: u16,
    server: Option<Child>,
    settings: Vec<String>,
    has_small_disk: bool,
}

impl Postgres {
    /// Makes a cluster and starts it.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`Postgres::start`], with settings as in `postgresql.conf`, one a string.
    pub fn start_with(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the cluster");
        // The server refuses to run as root, and then needs a folder that its own user may enter.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).expect("a folder for all");
        let data = folder.path().join("data");
        run(as_server(&program("initdb"))
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "-D"])
            .arg(&data));
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut postgres = Self { folder, port: free_port(), server: None, settings, has_small_disk: false };
        postgres.resume();
        postgres
    }

    /// As [`Postgres::start`], with a disk of a few megabytes more, at [`Postgres::small_disk`]. Only the server sees it,
    /// and it goes with the server. Its log of transactions is elsewhere, so that it goes on when that disk is full.
    pub fn start_with_small_disk() -> Self {
        let mut postgres = Self::start();
        postgres.stop();
        std::fs::create_dir(postgres.small_disk()).expect("a place for a disk");
        postgres.has_small_disk = true;
        postgres.resume();
        postgres
    }

    /// Where the small disk is.
    pub fn small_disk(&self) -> PathBuf {
        self.folder.path().join("small")
    }

    /// Settings that hold from its next start on.
    pub fn set(&mut self, settings: &[String]) {
        self.settings.extend_from_slice(settings);
    }

    /// Where it listens on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder, for files that it is to read.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The address of a database.
    pub fn url(&self, database: &str) -> String {
        Self::url_at(self.port, database)
    }

    /// The address of a database behind another port, as of a proxy.
    pub fn url_at(port: u16, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{port}/{database}")
    }

    /// Makes a database, and gives its address.
    pub fn database(&self, name: &str) -> String {
        self.sql("postgres", &format!("CREATE DATABASE \"{name}\""));
        self.url(name)
    }

    /// Runs SQL by `psql`, as the superuser; what it prints, columns apart by `|`.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.sql_as("postgres", database, sql).unwrap_or_else(|error| panic!("{error}\n{sql}"))
    }

    /// As [`Postgres::sql`], as somebody else; what went wrong where it did.
    pub fn sql_as(&self, user: &str, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = Command::new(program("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", user, "-d", database]);
        psql.args(["-p", &self.port.to_string(), "-c", sql]);
        let output = psql.output().expect("psql");
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// A schema as it is now, in a file for [`Postgres::restore`].
    pub fn dump(&self, database: &str, schema: &str) -> PathBuf {
        let file = self.folder.path().join(format!("{database}.sql"));
        let mut dump = Command::new(program("pg_dump"));
        dump.args(["-h", "127.0.0.1", "-U", "postgres", "-n", schema, "-d", database, "-p", &self.port.to_string()]);
        run(dump.arg("-f").arg(&file));
        file
    }

    /// Puts a schema in the place of what is there, as people do who restore a backup: in one transaction. `before` is SQL
    /// that sees what goes, when nobody can add to it any more; answers with what that prints.
    pub fn restore(&self, database: &str, schema: &str, dump: &Path, before: &str) -> String {
        let script = self.folder.path().join("restore.sql");
        let text = format!(
            "SET client_min_messages = error;
            SELECT 'LOCK TABLE ' || string_agg(format('%I.%I', schemaname, tablename), ', ') || ' IN ACCESS EXCLUSIVE MODE'
                FROM pg_tables WHERE schemaname = '{schema}' \\gexec
            {before};
            DROP SCHEMA {schema} CASCADE;
            \\o /dev/null
            \\i {}\n",
            dump.display()
        );
        std::fs::write(&script, text).expect("a script");
        // Whoever writes at the same time may be in the way, and one of the two gives up.
        for _ in 0..20 {
            let mut psql = Command::new(program("psql"));
            psql.args(["-X", "-q", "-A", "-t", "-1", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres"]);
            psql.args(["-d", database, "-p", &self.port.to_string()]).arg("-f").arg(&script);
            let output = psql.output().expect("psql");
            if output.status.success() {
                return String::from_utf8_lossy(&output.stdout).trim().to_owned();
            }
            eprintln!("the restore is tried again: {}", String::from_utf8_lossy(&output.stderr));
        }
        panic!("the restore never succeeds");
    }

    /// A standby of this server: a copy that follows it, and takes no writes until it is promoted. From then on this server
    /// takes none back before the standby has it.
    pub fn standby(&self) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the cluster");
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).expect("a folder for all");
        run(as_server(&program("pg_basebackup"))
            .args(["-h", "127.0.0.1", "-U", "postgres", "-p", &self.port.to_string(), "-X", "stream", "-R"])
            .args(["--checkpoint=fast", "--no-sync", "-D"])
            .arg(folder.path().join("data")));
        let mut standby = Self { folder, port: free_port(), server: None, settings: Vec::new(), has_small_disk: false };
        standby.resume();
        let deadline = Instant::now() + PATIENCE;
        while self.sql("postgres", "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") != "1" {
            assert!(Instant::now() < deadline, "the standby does not follow: {}", standby.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.sql("postgres", "SELECT pg_reload_conf()");
        standby
    }

    /// Ends it at once, by `kill -9` of all its processes: nothing is flushed, no client is told.
    pub fn kill(&mut self) {
        let pid = std::fs::read_to_string(self.folder.path().join("data/postmaster.pid")).expect("a running server");
        let pid = pid.lines().next().expect("a process id").to_owned();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        // The first one first: it would else begin others anew.
        let all: Vec<&str> = std::iter::once(pid.as_str()).chain(children.split_whitespace()).collect();
        let _ = as_server(Path::new("kill")).arg("-KILL").args(&all).stderr(Stdio::null()).status();
        self.wait();
        let deadline = Instant::now() + PATIENCE;
        while all.iter().any(|pid| Path::new("/proc").join(pid).exists()) {
            assert!(Instant::now() < deadline, "processes of the server stay");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it as an operator does: clients are cut off, what is committed is safe.
    pub fn stop(&mut self) {
        drop(self.server.as_mut().and_then(|server| server.stdin.take()));
        self.wait();
    }

    /// Starts it again, on the same port.
    pub fn resume(&mut self) {
        let mut arguments = String::new();
        for setting in &self.settings {
            arguments.push_str(&format!(" -c '{setting}'"));
        }
        let (program, folder, port) = (program("postgres"), self.folder.path(), self.port);
        // Ends the server when standard input ends, which it does also where this process is killed.
        let script = format!(
            "'{program}' -D '{folder}/data' -k '{folder}' -p {port} -c listen_addresses=127.0.0.1 -c fsync=off \
             -c shared_buffers=64MB -c max_connections=60{arguments} >>'{folder}/log' 2>&1 </dev/null & server=$!
             (cat >/dev/null; kill -INT $server 2>/dev/null) <&3 & watcher=$!
             wait $server; kill $watcher 2>/dev/null",
            program = program.display(),
            folder = folder.display(),
        );
        let script = format!("exec 3<&0; {script}");
        let mut server = as_server(Path::new("sh"));
        server.args(["-c", &script]);
        let mut server = if self.has_small_disk { with_disk(&server, &self.small_disk()) } else { server };
        let server =
            server.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a server");
        self.server = Some(server);
        let deadline = Instant::now() + PATIENCE;
        while self.sql_as("postgres", "postgres", "SELECT 1").is_err() {
            assert!(Instant::now() < deadline, "Postgres does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the server has said.
    pub fn log(&self) -> String {
        let mut text = String::new();
        let read =
            std::fs::File::open(self.folder.path().join("log")).and_then(|mut log| log.read_to_string(&mut text));
        read.map_or_else(|error| error.to_string(), |_| text)
    }

    fn wait(&mut self) {
        if let Some(mut server) = self.server.take() {
            drop(server.stdin.take());
            let _ = server.wait();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.wait();
        // Its files are its own user's.
        let _ = as_server(Path::new("rm")).args(["-rf", "--"]).arg(self.folder.path().join("data")).status();
        let _ = std::fs::remove_dir_all(self.folder.path());
    }
}

/// A port of 127.0.0.1 that nobody listens on now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

/// A program of Postgres 15, as Supabase has it and Debian 12; or of the newest one that is installed.
pub fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<_> =
        versions.map(|entry| entry.path().join("bin").join(name)).filter(|path| path.exists()).collect();
    found.sort_by_key(|path| (path.starts_with("/usr/lib/postgresql/15"), path.clone()));
    found.pop().unwrap_or_else(|| PathBuf::from(name))
}

/// A command as a user who is not root: Postgres refuses to run as root.
pub fn as_server(program: &Path) -> Command {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    if !is_root {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program).current_dir("/");
    command
}

/// The same command with a disk of 16 MiB at that path, which nobody but the command and what it starts sees.
fn with_disk(command: &Command, path: &Path) -> Command {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    let mut within = Command::new("unshare");
    if is_root {
        let script = "mount -t tmpfs -o size=16m,mode=700,uid=$(id -u postgres) tmpfs \"$1\" && shift && exec \"$@\"";
        within.args(["--mount", "--", "sh", "-c", script, "sh"]);
    } else {
        // Root of a world of its own for as long as it takes to mount, and then itself again: the server runs as no root.
        let script =
            "mount -t tmpfs -o size=16m,mode=700 tmpfs \"$1\" && shift && exec unshare --user --map-user=$0 -- \"$@\"";
        let user = std::fs::metadata("/proc/self").expect("a process").uid().to_string();
        within.args(["--user", "--map-root-user", "--mount", "--", "sh", "-c", script, &user]);
    }
    within.arg(path).arg(command.get_program()).args(command.get_args());
    within
}

fn run(command: &mut Command) {
    let output = command.output().expect("a program that starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
