//! Editing secrets as one text, which lies in memory meanwhile and on no disk.

use std::io::{self, IsTerminal as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use futures_util::FutureExt as _;
use tokio::process::Command;
use tokio::signal::unix::{Signal, SignalKind, signal};
use zeroize::Zeroizing;

use super::draft::Draft;
use super::files::Files;
use crate::secrets::{Opened, SecretsError};
use crate::tree::ApiId;

/// How long an editor that is told to end is waited for.
const EDITOR_ENDS_WITHIN: Duration = Duration::from_secs(2);

/// Editors that are taken where nobody names one, the first that is there: Debian's choice, the one that git takes, and a small one.
const EDITORS: [&str; 3] = ["editor", "vi", "nano"];

/// What a shell ends with that does not find a program.
const NO_SUCH_PROGRAM: i32 = 127;

/// What somebody sees who edits the secrets of an API that has none.
const EMPTY: &str = "# NAME: value, one in a line. What is saved is encrypted; this text is gone then.\n";

pub(super) async fn edit(files: &Files, id: &ApiId) -> anyhow::Result<ExitCode> {
    let held = files.hold()?;
    let (before, is_elsewhere) = match files.open(id) {
        Err(error) if matches!(error.downcast_ref(), Some(SecretsError::Elsewhere(_))) => {
            anstream::eprintln!("{error:#}\nwhat you save is encrypted for {id}");
            (files.sealed(id)?.map(|sealed| files.keyring.open_any(&sealed)).transpose()?, true)
        }
        before => (before?, false),
    };
    let text = before.as_ref().map_or_else(|| Zeroizing::new(EMPTY.to_owned()), Opened::text);
    // Not before: whoever waits for somebody else's editor is to be ended by any signal.
    let mut signals = Signals::catch().context("cannot catch signals")?;
    let draft = Draft::new(&text)?;
    let after = loop {
        if let Some(kind) = run_editor(&draft, &mut signals).await? {
            draft.wipe();
            return Ok(ended_by(kind));
        }
        let text = draft.read()?;
        let read = Opened::parse(&text).map_err(of_editor);
        match read.and_then(|opened| files.check_variables(id, opened.names()).map(|()| opened)) {
            Ok(opened) => break opened,
            Err(error) if io::stdin().is_terminal() => {
                anstream::eprintln!(
                    "error: {error:#}\nnothing is written; press Enter to edit it again, Ctrl-C to give up"
                );
                if let Some(kind) = wait_for_enter(&mut signals).await? {
                    draft.wipe();
                    return Ok(ended_by(kind));
                }
            }
            Err(error) => return Err(error.context("nothing is written")),
        }
    };
    let had_some = before.as_ref().is_some_and(|before| before.names().next().is_some());
    if had_some && after.names().next().is_none() {
        draft.wipe();
        bail!(
            "the text that you saved has no secrets, which counts as giving up: nothing is written, and those of {id} stay; take them \
             away one by one with: skep secrets unset {id} NAME"
        );
    }
    if !is_elsewhere && Some(&after) == before.as_ref() || before.is_none() && after.names().next().is_none() {
        anstream::eprintln!("nothing changed");
        return Ok(ExitCode::SUCCESS);
    }
    files.seal(id, &after, &held)?;
    let names: Vec<&str> = after.names().collect();
    anstream::eprintln!("{id} has {}", if names.is_empty() { "no secrets".to_owned() } else { names.join(", ") });
    Ok(ExitCode::SUCCESS)
}

/// What is wrong with what somebody has written, in words of that.
fn of_editor(error: SecretsError) -> anyhow::Error {
    match error {
        SecretsError::NoList { line } => {
            anyhow!("what you wrote is not a list of NAME: value (line {line}), as in API_KEY: s3cret")
        }
        SecretsError::BadLine { line, reason } => anyhow!("line {line} of what you wrote cannot be a secret: {reason}"),
        other => other.into(),
    }
}

/// The editor, as people name it; else the first that is there.
fn editor() -> anyhow::Result<String> {
    let get = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    if let Some(editor) = get("VISUAL").or_else(|| get("EDITOR")) {
        return Ok(editor);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&&str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    let editor = EDITORS.iter().find(is_there).map(|name| (*name).to_owned());
    editor.with_context(|| {
        format!(
            "there is no editor: VISUAL and EDITOR are not set, and none of {} is in the PATH; install one, or set EDITOR to one, \
             as in: EDITOR=nano skep secrets edit …; without one: skep secrets set",
            EDITORS.join(", ")
        )
    })
}

/// Runs the editor as git does: by a shell, since people put options into the variable. A signal that ends this command
/// ends the editor too, and is the answer; one of the keyboard is the editor's, which may well go on.
async fn run_editor(draft: &Draft, signals: &mut Signals) -> anyhow::Result<Option<SignalKind>> {
    let editor = editor()?;
    let mut shell = Command::new("sh");
    let mut shell = shell
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(draft.file())
        .spawn()
        .context("cannot start a shell for the editor")?;
    let mut pressed = None;
    let status = loop {
        tokio::select! {
            status = shell.wait() => break status.context("cannot wait for the editor")?,
            kind = signals.next() => {
                if is_of_keyboard(kind) {
                    pressed = Some(kind);
                    continue;
                }
                // Before anything that could take long: who sends these may send the one that nobody can catch next.
                draft.wipe();
                let pid = shell.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
                if let Some(pid) = pid {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
                }
                let _ = tokio::time::timeout(EDITOR_ENDS_WITHIN, shell.wait()).await;
                return Ok(Some(kind));
            }
        }
    };
    // Both hear of it at once, and the editor may have ended by it first.
    pressed = pressed.or(signals.next().now_or_never());
    let interrupt = SignalKind::interrupt().as_raw_value();
    match pressed {
        Some(kind) if !is_of_keyboard(kind) => Ok(Some(kind)),
        _ if status.success() => Ok(None),
        Some(kind) => Ok(Some(kind)),
        None if status.signal() == Some(interrupt) || status.code() == Some(128 + interrupt) => {
            Ok(Some(SignalKind::interrupt()))
        }
        None if status.code() == Some(NO_SUCH_PROGRAM) => {
            bail!(
                "there is no editor {editor}; set EDITOR to one that is there, or VISUAL where that is set; nothing is written"
            )
        }
        None => bail!("the editor ({editor}) ended with {status}; nothing is written"),
    }
}

/// Waits for a line that somebody enters; answers with the signal by which they give up instead.
async fn wait_for_enter(signals: &mut Signals) -> anyhow::Result<Option<SignalKind>> {
    let (entered, line) = tokio::sync::oneshot::channel();
    // No task: a runtime waits for those when it ends, and nothing ends this read.
    std::thread::spawn(move || entered.send(io::stdin().read_line(&mut String::new())));
    tokio::select! {
        line = line => match line.context("cannot read from the terminal")?.context("cannot read from the terminal")? {
            0 => bail!("nothing is written"),
            _ => Ok(None),
        },
        kind = signals.next() => Ok(Some(kind)),
    }
}

/// The signals that end a command, caught, so that nothing stays behind that can be read.
struct Signals {
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.hang_up.recv() => SignalKind::hangup(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.quit.recv() => SignalKind::quit(),
        }
    }
}

/// Whether a terminal sends it to all that runs in it, when somebody presses a key.
fn is_of_keyboard(kind: SignalKind) -> bool {
    kind == SignalKind::interrupt() || kind == SignalKind::quit()
}

/// The exit code of a command that a signal has ended, as shells have it.
fn ended_by(kind: SignalKind) -> ExitCode {
    anstream::eprintln!("nothing is written, and the text is wiped");
    u8::try_from(128 + kind.as_raw_value()).map_or(ExitCode::FAILURE, ExitCode::from)
}
