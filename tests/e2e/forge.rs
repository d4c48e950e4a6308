//! A forge: a bare repository, and somebody with a checkout who pushes to it. By file, or by HTTP as a real forge serves it.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::apps::saying;
use crate::world::{Ran, World};

/// A repository that is followed.
pub struct Forge {
    pub bare: PathBuf,
    pub folder: PathBuf,
    /// Settings for each run of git in the checkout.
    pub with: Vec<String>,
    /// When commits are made, where that is not now.
    pub date: Option<String>,
}

impl Forge {
    /// An empty one beside a world, of the branch `main`.
    pub fn new(world: &World, name: &str) -> Self {
        let (bare, folder) = (world.aside().join(format!("{name}.git")), world.aside().join(name));
        std::fs::create_dir_all(&folder).unwrap();
        let forge = Self { bare, folder, with: Vec::new(), date: None };
        forge.git(&["init", "--quiet", "-b", "main"]).expect(0);
        forge.git(&["init", "--quiet", "--bare", "-b", "main", forge.bare.to_str().unwrap()]).expect(0);
        forge.git(&["remote", "add", "origin", forge.bare.to_str().unwrap()]).expect(0);
        forge
    }

    pub fn url(&self) -> String {
        format!("file://{}", self.bare.display())
    }

    pub fn git(&self, arguments: &[&str]) -> Ran {
        let mut git = Command::new("git");
        git.current_dir(&self.folder).args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]);
        for setting in &self.with {
            git.args(["-c", setting]);
        }
        git.args(arguments)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        if let Some(date) = &self.date {
            git.env("GIT_COMMITTER_DATE", date).env("GIT_AUTHOR_DATE", date);
        }
        Ran::of(git.output().unwrap())
    }

    /// What git prints, without the line feed.
    #[track_caller]
    pub fn ask(&self, arguments: &[&str]) -> String {
        self.git(arguments).expect(0).out.trim().to_owned()
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[track_caller]
    pub fn commit(&self, subject: &str) {
        self.git(&["add", "-A"]).expect(0);
        self.git(&["commit", "--quiet", "-m", subject]).expect(0);
    }

    #[track_caller]
    pub fn push(&self) {
        self.git(&["push", "--quiet", "--force", "origin", "HEAD:main"]).expect(0);
    }

    /// Commits and pushes the code of an API, in `apis/`.
    #[track_caller]
    pub fn code(&self, id: &str, text: &str) {
        self.write(&format!("apis/{id}/main.py"), &saying(text));
        self.commit(&format!("{id} says {text}"));
        self.push();
    }

    /// Sets something of the bare repository.
    pub fn set(&self, key: &str, value: &str) {
        self.git(&["-C", self.bare.to_str().unwrap(), "config", key, value]).expect(0);
    }
}

/// A server that speaks HTTP by git's own `http-backend`, to those who show a password.
pub struct Server {
    pub port: u16,
    /// The first lines of the requests that came.
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Serves the repositories in a folder until the process ends.
    pub fn start(root: &Path, authorization: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (root, asked) = (root.to_owned(), Arc::new(Mutex::new(Vec::new())));
        let seen = Arc::clone(&asked);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (root, seen) = (root.clone(), Arc::clone(&seen));
                std::thread::spawn(move || answer(socket.unwrap(), &root, authorization, &seen));
            }
        });
        Self { port, asked }
    }
}

/// The lines of a request's head; `None` where it ends before they do.
pub fn read_head(reader: &mut impl BufRead) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        if line.trim().is_empty() {
            return Some(lines);
        }
        lines.push(line.trim().to_owned());
    }
}

/// Answers one request. What git sends is small enough to come with its length.
fn answer(mut socket: TcpStream, root: &Path, authorization: &str, seen: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let Some(lines) = read_head(&mut reader) else { return };
    let header = |name: &str| {
        let found = lines.iter().find(|line| line.to_lowercase().starts_with(&format!("{name}:")));
        found.map(|line| line.split_once(':').unwrap().1.trim().to_owned()).unwrap_or_default()
    };
    let is_let_in = header("authorization") == authorization;
    seen.lock().unwrap().push(format!("{} {is_let_in}", lines[0]));
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    let target = lines[0].split(' ').nth(1).unwrap();
    if target.starts_with("/moved") {
        let to = target.replace("/moved", "");
        write!(socket, "HTTP/1.1 301 Moved\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .unwrap();
        return;
    }
    if target.starts_with("/page") {
        write!(socket, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 14\r\n\r\n<h1>Log in</h1>")
            .unwrap();
        return;
    }
    if !is_let_in {
        let head = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"forge\"\r\n";
        write!(socket, "{head}Content-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        return;
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut git = Command::new("git");
    git.arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("REQUEST_METHOD", lines[0].split(' ').next().unwrap())
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut git = git.spawn().unwrap();
    git.stdin.take().unwrap().write_all(&body).unwrap();
    let output = git.wait_with_output().unwrap().stdout;
    let end = output.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&output[..end]).into_owned();
    let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
    let rest = &output[end + 4..];
    let length = rest.len();
    write!(socket, "HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").unwrap();
    socket.write_all(rest).unwrap();
}
