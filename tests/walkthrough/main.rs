//! Every README below `examples/` is a walkthrough; here its commands are run as they stand, against the real program
//! and a real engine, and what they print is compared with what the README shows.
//!
//! Only blocks fenced as `console` count:
//!
//! - a line that begins with `$ ` is a command, in the same shell as those before it; `> ` continues it;
//! - the lines that follow are what it prints, on both of its outputs;
//! - a line `...` stands for any number of lines, and `...` within a line for any text;
//! - a last line `[1]` says that the command ends with that exit code instead of 0.
//!
//! The README of the repository itself is played as well, in a real terminal; see `readme`.

#![allow(clippy::expect_used, clippy::panic, reason = "a test says by panicking what was not as it should be")]

mod readme;
mod terminal;

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use skep::engine::docker::Docker;
use skep::settings::Settings;

/// The port that walkthroughs name, since it is the default; a free one takes its place.
const PORT: &str = "8663";

/// For all commands of one walkthrough, in seconds. The first may have to make the base image.
const TIMEOUT: u32 = 600;

#[test]
fn every_walkthrough_shows_what_really_happens() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let walkthroughs: Vec<PathBuf> = fs::read_dir(examples)
        .expect("there is a folder of examples")
        .map(|entry| entry.expect("its entries can be read").path())
        .filter(|folder| folder.join("README.md").is_file())
        .collect();
    assert!(!walkthroughs.is_empty(), "no example has a README.md");
    for folder in walkthroughs {
        let readme = fs::read_to_string(folder.join("README.md")).expect("the README is text");
        let steps = parse(&readme);
        assert!(!steps.is_empty(), "{} has no console blocks", folder.display());
        let site = Site::copy_of(&folder);
        let outcomes = site.run(&steps);
        if let Some(report) = first_difference(&steps, &outcomes) {
            panic!("{}/README.md:{report}\n\nthe daemon's log:\n{}", folder.display(), site.daemon_log());
        }
    }
}

/// One command of a walkthrough, and what it should print.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    /// Where it stands in the README, from 1.
    line: usize,
    command: String,
    expected: Vec<String>,
    exit_code: i32,
}

/// What a command did.
#[derive(Debug)]
struct Outcome {
    output: Vec<String>,
    exit_code: i32,
}

/// The steps of all console blocks, in order.
fn parse(readme: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut in_console = false;
    for (index, line) in readme.lines().enumerate() {
        if line.starts_with("```") {
            in_console = line == "```console";
        } else if !in_console {
        } else if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { line: index + 1, command: command.to_owned(), expected: Vec::new(), exit_code: 0 });
        } else {
            let step = steps.last_mut().expect("a console block begins with a command");
            match line.strip_prefix("> ") {
                Some(more) if step.expected.is_empty() => step.command = format!("{}\n{more}", step.command),
                _ => match exit_code(line) {
                    Some(code) => step.exit_code = code,
                    None => step.expected.push(line.to_owned()),
                },
            }
        }
    }
    steps
}

/// Reads `[1]`.
fn exit_code(line: &str) -> Option<i32> {
    line.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Says where the first step went otherwise than the README shows; `None` where all went well.
fn first_difference(steps: &[Step], outcomes: &[Outcome]) -> Option<String> {
    for (index, step) in steps.iter().enumerate() {
        let Some(outcome) = outcomes.get(index) else {
            return Some(format!("{}: was not run to its end within {TIMEOUT} s:\n$ {}", step.line, step.command));
        };
        if outcome.exit_code != step.exit_code || !matches(&step.expected, &outcome.output) {
            return Some(format!(
                "{}: $ {}\nshould end with {} and print:\n{}\nbut ended with {} and printed:\n{}",
                step.line,
                step.command,
                step.exit_code,
                indented(&step.expected),
                outcome.exit_code,
                indented(&outcome.output),
            ));
        }
    }
    None
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n")
}

/// Whether `lines` are as `expected`, in which `...` stands for any lines.
fn matches(expected: &[String], lines: &[String]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((wildcard, rest)) if wildcard == "..." => {
            (0..=lines.len()).any(|skipped| matches(rest, &lines[skipped..]))
        }
        Some((first, rest)) => {
            lines.split_first().is_some_and(|(line, others)| matches_line(first, line) && matches(rest, others))
        }
    }
}

/// Whether `line` is as `expected`, in which `...` stands for any text.
fn matches_line(expected: &str, line: &str) -> bool {
    match expected.split_once("...") {
        None => expected == line.trim_end(),
        Some((start, rest)) => line.strip_prefix(start).is_some_and(|tail| {
            (0..=tail.len()).any(|skipped| tail.is_char_boundary(skipped) && matches_line(rest, &tail[skipped..]))
        }),
    }
}

/// A copy of an example to work in, with a state folder and a port of its own.
struct Site {
    folder: tempfile::TempDir,
    port: u16,
}

impl Site {
    fn copy_of(example: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let project = folder.path().join("project");
        copy(example, &project);
        // With a file of its own no API has the same revision, and with it the same name of its container, as one that
        // somebody runs from this example on the same host.
        for api in fs::read_dir(project.join("apis")).expect("the example has a folder of APIs") {
            let api = api.expect("its entries can be read").path();
            fs::write(api.join("site.txt"), folder.path().as_os_str().as_encoded_bytes())
                .expect("a file can be written");
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        Self { folder, port }
    }

    /// Runs the commands in one shell. Each is followed by a mark of its own with its exit code.
    fn run(&self, steps: &[Step]) -> Vec<Outcome> {
        const MARK: &str = "---- end of step";
        let mut script = String::from("exec 2>&1\ntrap 'kill $(jobs -p) 2>/dev/null; wait' EXIT\n");
        for step in steps {
            let command = step.command.replace(PORT, &self.port.to_string());
            writeln!(script, "{command}\nprintf '\\n{MARK} %s\\n' $?").expect("a string takes all that is written");
        }
        let script_path = self.folder.path().join("script");
        fs::write(&script_path, script).expect("the temporary folder can be written to");

        let program = Path::new(env!("CARGO_BIN_EXE_skep"));
        let path = format!(
            "{}:{}",
            program.parent().expect("a program stands in a folder").display(),
            std::env::var("PATH").unwrap_or_default(),
        );
        let mut shell = Command::new("timeout");
        shell
            .args(["--kill-after", "20", &TIMEOUT.to_string(), "bash"])
            .arg(&script_path)
            .current_dir(self.folder.path().join("project"))
            .stdin(Stdio::null())
            .env("PATH", path)
            .env("NO_COLOR", "1")
            .env("SKEP_LISTEN", format!("127.0.0.1:{}", self.port))
            .env("SKEP_STATE_DIR", self.state())
            .env_remove("SKEP_ROOT")
            .env_remove("SUPABASE_DB_URL")
            .env_remove("ADMIN_API_KEY");
        let output = shell.output().expect("bash and timeout are there");
        let transcript = String::from_utf8_lossy(&output.stdout);

        let mut outcomes = Vec::new();
        let mut lines: Vec<String> = Vec::new();
        for line in transcript.lines() {
            match line.strip_prefix(MARK) {
                Some(code) => {
                    // The mark begins with a line feed, so that it stands on a line of its own whatever came before.
                    if lines.last().is_some_and(String::is_empty) {
                        lines.pop();
                    }
                    let exit_code = code.trim().parse().expect("the mark ends with an exit code");
                    outcomes.push(Outcome { output: std::mem::take(&mut lines), exit_code });
                }
                None => lines.push(line.to_owned()),
            }
        }
        outcomes
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn daemon_log(&self) -> String {
        fs::read_to_string(self.folder.path().join("project/serve.log")).unwrap_or_else(|_| "(none)".to_owned())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        dismantle(self.folder.path(), &self.state());
    }
}

/// Removes what this installation, and no other, has left on the engine. The daemon has ended with its shell.
fn dismantle(root: &Path, state: &Path) {
    let Ok(owner) = fs::read_to_string(state.join("installation")) else { return };
    let engine = Docker::connect(&Settings::built_in(root), owner.trim());
    let engine = engine.expect("the owner mark is whole");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("threads can be had");
    if let Err(error) = runtime.block_on(engine.dismantle()) {
        eprintln!("the walkthrough has left something on the engine: {error}");
    }
}

/// Copies a folder with all that is in it, except for what a run by hand may have left there.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    for entry in fs::read_dir(from).expect("the example can be read") {
        let entry = entry.expect("its entries can be read");
        let target = to.join(entry.file_name());
        if entry.file_name() == ".skep" {
        } else if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file can be copied");
        }
    }
}

#[test]
fn a_console_block_becomes_commands_with_what_they_print() {
    let readme = "text\n```console\n$ one \\\n> two\nout\n[2]\n$ three\n```\n```sh\n$ not run\n```\n";
    let step = |line, command: &str, expected: &[&str], exit_code| Step {
        line,
        command: command.to_owned(),
        expected: expected.iter().map(|&line| line.to_owned()).collect(),
        exit_code,
    };
    assert_eq!(parse(readme), [step(3, "one \\\ntwo", &["out"], 2), step(7, "three", &[], 0)]);
}

#[test]
fn three_dots_stand_for_any_lines_or_any_text() {
    let fits = |expected: &[&str], output: &[&str]| {
        let owned = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        matches(&owned(expected), &owned(output))
    };
    assert!(fits(&["a", "...", "d"], &["a", "b", "c", "d"]));
    assert!(fits(&["...", "a", "..."], &["a"]));
    assert!(fits(&["a...c...e"], &["abcde"]));
    assert!(!fits(&["a"], &["a", "b"]));
    assert!(!fits(&["a...c"], &["abcde"]));
    assert!(!fits(&["...", "x", "..."], &["a", "b"]));
    assert!(!fits(&[], &["a"]));
}
