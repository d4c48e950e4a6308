//! Editing secrets as one text, which lies in memory meanwhile and on no disk.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail};
use zeroize::Zeroizing;

use super::files::Files;
use crate::secrets::{Opened, SecretsError};
use crate::tree::ApiId;

/// A file system in memory, on every Linux.
const MEMORY: &str = "/dev/shm";

/// What somebody sees who edits the secrets of an API that has none.
const EMPTY: &str = "# NAME: value, one in a line. What is saved is encrypted; this text is gone then.\n";

/// A folder in memory with one file. Goes when it is dropped, and what is left of the file is wiped before.
struct Draft(PathBuf);

pub(super) fn edit(files: &Files, id: &ApiId) -> anyhow::Result<ExitCode> {
    let held = files.hold()?;
    let (before, is_elsewhere) = match files.open(id) {
        Err(error) if matches!(error.downcast_ref(), Some(SecretsError::Elsewhere(_))) => {
            anstream::eprintln!("{error:#}\nwhat you save is encrypted for {id}");
            (files.sealed(id)?.map(|sealed| files.keyring.open_any(&sealed)).transpose()?, true)
        }
        before => (before?, false),
    };
    let text = before.as_ref().map_or_else(|| Zeroizing::new(EMPTY.to_owned()), Opened::text);
    let draft = Draft::new(&text)?;
    let after = loop {
        run_editor(&draft.file())?;
        let text = draft.read()?;
        let read = Opened::parse(&text).map_err(anyhow::Error::from);
        match read.and_then(|opened| files.check_variables(id, opened.names()).map(|()| opened)) {
            Ok(opened) => break opened,
            Err(error) if io::stdin().is_terminal() => {
                anstream::eprintln!(
                    "error: {error:#}\nnothing is written; press Enter to edit it again, Ctrl-C to give up"
                );
                io::stdin().read_line(&mut String::new()).context("cannot read from the terminal")?;
            }
            Err(error) => return Err(error.context("nothing is written")),
        }
    };
    if !is_elsewhere && Some(&after) == before.as_ref() || before.is_none() && after.names().next().is_none() {
        anstream::eprintln!("nothing changed");
        return Ok(ExitCode::SUCCESS);
    }
    files.seal(id, &after, &held)?;
    let names: Vec<&str> = after.names().collect();
    anstream::eprintln!("{id} has {}", if names.is_empty() { "no secrets".to_owned() } else { names.join(", ") });
    Ok(ExitCode::SUCCESS)
}

/// Runs the editor as git does: by a shell, since people put options into the variable.
fn run_editor(path: &Path) -> anyhow::Result<()> {
    let get = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = get("VISUAL").or_else(|| get("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let status = Command::new("sh").args(["-c", &format!("{editor} \"$1\""), "sh"]).arg(path).status();
    let status = status.context("cannot start a shell for the editor")?;
    if !status.success() {
        bail!("the editor ({editor}) ended with {status}; nothing is written");
    }
    Ok(())
}

impl Draft {
    fn new(text: &str) -> anyhow::Result<Self> {
        let place = [Some(PathBuf::from(MEMORY)), std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)];
        let place = place.into_iter().flatten().find(|place| place.is_dir());
        let place = place.with_context(|| format!("there is no {MEMORY} to edit in; use: skep secrets set"))?;
        let folder = place.join(format!("skep-secrets-{:016x}", rand::random::<u64>()));
        DirBuilder::new().mode(0o700).create(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let draft = Self(folder);
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft.file())?;
            file.write_all(text.as_bytes())
        };
        write().with_context(|| format!("cannot write {}", draft.file().display()))?;
        Ok(draft)
    }

    fn file(&self) -> PathBuf {
        self.0.join("secrets.yaml")
    }

    fn read(&self) -> anyhow::Result<Zeroizing<String>> {
        let mut text = Zeroizing::new(String::new());
        let read = fs::File::open(self.file()).and_then(|mut file| file.read_to_string(&mut text));
        read.context("cannot read what the editor wrote; nothing is changed")?;
        Ok(text)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Ok(found) = fs::metadata(self.file()) {
            let zeros = vec![0; usize::try_from(found.len()).unwrap_or_default()];
            let _ = OpenOptions::new().write(true).open(self.file()).and_then(|mut file| file.write_all(&zeros));
        }
        let _ = fs::remove_dir_all(&self.0);
    }
}
