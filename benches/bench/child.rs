//! A child is a process of its own, so that its processor time can be told from ours. It ends with us, however we end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::Context as _;

/// A running process.
#[derive(Debug)]
pub struct Running {
    process: Child,
    /// Open for as long as the process may write.
    output: Option<BufReader<ChildStdout>>,
}

impl Running {
    /// Starts a program that runs until it is killed.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let program = command.get_program().to_owned();
        let process = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { process, output: None })
    }

    /// Starts this very program in another part, and waits for the first line that it prints.
    pub fn part(arguments: &[&str]) -> anyhow::Result<(Self, String)> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Self::start(&mut command)?;
        let mut output = BufReader::new(running.process.stdout.take().context("no pipe")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        running.output = Some(output);
        Ok((running, line.trim_end().to_owned()))
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw) {
            // One that has ended by itself needs no asking.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.process.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// In a part started by [`Running::part`]: returns when whoever started it is gone.
pub fn wait_for_parent() {
    let _ = std::io::stdin().read(&mut [0]);
}
