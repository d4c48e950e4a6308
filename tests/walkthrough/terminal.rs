//! A terminal is a real one: a shell that somebody types into, and a screen that is read.

use std::fs;
use std::io::{Read, Write};
use std::num::NonZero;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What ends the prompt; the exit code of the command before stands in front of it. No command prints it.
const PROMPT: &str = "] >>> ";

/// For whatever is waited for: a first install on a busy host takes minutes.
const LIMIT: Duration = Duration::from_secs(300);

/// Wide enough that no line that matters is broken, so that it can be found.
const SIZE: (u16, u16) = (50, 180);

/// Ctrl-C.
pub const INTERRUPT: &str = "\x03";

/// A shell in a terminal of its own.
pub struct Terminal {
    shell: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Where what is being looked at begins.
    from: usize,
    device: String,
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub command: String,
    /// What was written to the terminal, colours and all.
    pub raw: String,
    /// The same without them.
    pub text: String,
    pub exit_code: i32,
}

impl Terminal {
    /// Opens one in a folder, with nothing in its environment that a new user would not have.
    pub fn open(folder: &Path, home: &Path, environment: &[(&str, &str)]) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_skep"));
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", program.parent().expect("a program stands in a folder").display());
        // One line after the other, as they were typed; and a prompt that says how the last command ended.
        for (file, text) in [(".inputrc", "set enable-bracketed-paste off\n"), (".bashrc", "PS1='[exit $?] >>> '\n")] {
            fs::write(home.join(file), text).expect("the home can be written to");
        }
        let mut script = Command::new("script");
        script.args(["--quiet", "--flush", "--return", "--command", "exec bash --noprofile -i", "/dev/null"]);
        script.current_dir(folder).env_clear();
        for name in ["DOCKER_HOST", "SSL_CERT_FILE", "https_proxy", "HTTPS_PROXY", "http_proxy", "no_proxy", "NO_PROXY"]
        {
            if let Ok(value) = std::env::var(name) {
                script.env(name, value);
            }
        }
        script
            .envs([("TERM", "xterm-256color"), ("LANG", "C.UTF-8"), ("SHELL", "/bin/bash")])
            .env("PATH", path)
            .env("HOME", home)
            .envs(environment.iter().copied());
        let shell = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut shell = shell.spawn().expect("`script` is there");
        let keys = shell.stdin.take().expect("it has keys");
        let mut from = shell.stdout.take().expect("it has a screen");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..length]);
            }
        });
        let mut terminal = Self { shell, keys, shown, from: 0, device: String::new() };
        terminal.wait_for(PROMPT);
        let (rows, columns) = SIZE;
        terminal.run(&format!("stty rows {rows} columns {columns}")).good();
        terminal.run("tty").good().text.trim().clone_into(&mut terminal.device);
        terminal
    }

    /// Types a command, and waits until the prompt is back.
    pub fn run(&mut self, command: &str) -> Ran {
        self.begin(command);
        self.end(command)
    }

    /// Types a command, and does not wait.
    pub fn begin(&mut self, command: &str) {
        // Shown where the test fails.
        println!("$ {command}");
        self.from = self.all().len();
        self.press(&format!("{command}\r"));
    }

    /// Waits until the prompt is back.
    pub fn end(&mut self, command: &str) -> Ran {
        self.wait_for(PROMPT);
        let raw = self.raw();
        let (body, code) = raw.rsplit_once("[exit ").unwrap_or_default();
        let exit_code = code.split_once(PROMPT).and_then(|(code, _)| code.parse().ok());
        // What was typed stands in the first line, as everything that is typed does.
        let raw = body.split_once('\n').map_or("", |(_, rest)| rest).to_owned();
        let text = anstream::adapter::strip_str(&raw).to_string().replace('\r', "");
        let exit_code = exit_code.unwrap_or_else(|| panic!("no exit code after {command}: {raw}"));
        Ran { command: command.to_owned(), raw, text, exit_code }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush()).expect("the terminal is open");
    }

    /// Waits until a text is written that was not there when the last command was typed.
    pub fn wait_for(&self, text: &str) {
        self.wait_until(&format!("{text:?}"), |shown| shown.contains(text));
    }

    /// Waits until what is typed is not shown: whoever asks for a secret says so a moment before.
    pub fn wait_until_hidden(&self) {
        self.wait_until("keys not to be shown", |_| {
            let asked = Command::new("stty").args(["-F", &self.device, "-a"]).output().expect("stty is there");
            String::from_utf8_lossy(&asked.stdout).split([' ', ';', '\n']).any(|word| word == "-echo")
        });
    }

    fn wait_until(&self, what: &str, is_so: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !is_so(&anstream::adapter::strip_str(&self.raw()).to_string()) {
            assert!(Instant::now() < deadline, "waited in vain for {what}; the terminal shows\n{}", self.screen());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What a person sees now.
    pub fn screen(&self) -> String {
        let [rows, columns] = [SIZE.0, SIZE.1].map(|size| NonZero::new(size).expect("it has a size"));
        let mut screen = vt100::Parser::new(rows, columns, 0);
        screen.process(&self.all());
        screen.screen().contents()
    }

    /// What was written since the last command was typed.
    fn raw(&self) -> String {
        String::from_utf8_lossy(self.all().get(self.from..).unwrap_or_default()).into_owned()
    }

    fn all(&self) -> Vec<u8> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whoever closes a terminal ends what runs in it.
impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.keys.write_all(format!("{INTERRUPT}\rexit\r").as_bytes());
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.shell.try_wait().is_ok_and(|status| status.is_none()) {
            if Instant::now() > deadline {
                let _ = self.shell.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Ran {
    /// It went well.
    #[track_caller]
    pub fn good(self) -> Self {
        self.ends_with(0)
    }

    /// It ended with that code.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Self {
        assert_eq!(self.exit_code, code, "$ {}\n{}", self.command, self.text);
        self
    }

    /// It did not end well, by an interrupt. Most times git ends by the signal; where its helper goes first, it says 1.
    #[track_caller]
    pub fn interrupted(self) -> Self {
        assert!([130, 1].contains(&self.exit_code), "$ {}\n{}", self.command, self.text);
        self
    }

    /// It printed all of these.
    #[track_caller]
    pub fn says(self, all: &[&str]) -> Self {
        for text in all {
            assert!(self.text.contains(text), "{text:?} is not in\n$ {}\n{}", self.command, self.text);
        }
        self
    }

    /// It printed in colour.
    #[track_caller]
    pub fn in_colour(self) -> Self {
        assert!(self.raw.contains("\x1b[1m") || self.raw.contains("\x1b[3"), "$ {}\n{:?}", self.command, self.raw);
        self
    }
}
