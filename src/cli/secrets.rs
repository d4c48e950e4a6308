//! `skep secrets`: what an app is given and nobody else may read, encrypted beside its code.

mod draft;
mod edit;
mod files;
mod rotate;

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde::Serialize;
use zeroize::Zeroizing;

use super::Output;
use crate::secrets::{self, Opened, RECIPIENTS};
use crate::tree::ApiId;
use files::Files;

/// The longest value that is read, in bytes; past any that is taken, so that the reason is said.
const LONGEST: u64 = 1 << 20;

/// Arguments of `skep secrets`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  skep secrets set thumbnails API_KEY               asks for the value, and shows none of it
  skep secrets set thumbnails API_KEY < key.txt     takes it from a file
  skep secrets list                                 names only
  skep secrets edit thumbnails                      all of them, in your editor
  skep secrets key                                  whom to encrypt to, for somebody without this command
  skep secrets rotate                               a new key, and everything encrypted to it

See docs/secrets.md.")]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Set one secret; its value comes from standard input, or is asked for
    Set {
        /// Of which API.
        id: ApiId,
        /// What it is called: as a file below /run/secrets, and as a variable where api.yaml asks for that.
        name: String,
    },
    /// Take one secret away
    Unset {
        /// Of which API.
        id: ApiId,
        /// Which one.
        name: String,
    },
    /// Edit all secrets of an API in $VISUAL or $EDITOR
    Edit {
        /// Of which API.
        id: ApiId,
    },
    /// List the names of secrets
    List {
        /// Of which API; of all where left out.
        id: Option<ApiId>,
        /// How to print it.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Make a new key, and encrypt all secrets of the tree to it
    Rotate(rotate::Rotate),
    /// Print whom to encrypt to; makes the key of this installation where it has none
    Key,
}

/// The names of one API's secrets.
#[derive(Debug, Serialize)]
struct Listed {
    id: ApiId,
    names: Vec<String>,
}

/// What `list --output json` prints.
#[derive(Debug, Serialize)]
struct List {
    version: u32,
    apis: Vec<Listed>,
}

/// Runs `skep secrets`.
///
/// # Errors
/// Where a key or a file is not what it should be.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    draft::sweep();
    let files = Files::of(root)?;
    match &args.action {
        Action::Set { id, name } => set(&files, id, name),
        Action::Unset { id, name } => unset(&files, id, name),
        Action::Edit { id } => edit::edit(&files, id).await,
        Action::List { id, output } => list(&files, id.as_ref(), *output),
        Action::Rotate(args) => rotate::rotate(args, &files, root).await,
        Action::Key => key(&files),
    }
}

fn set(files: &Files, id: &ApiId, name: &str) -> anyhow::Result<ExitCode> {
    // Before anybody types in a value that is refused then.
    secrets::check_name(name)?;
    files.check_variables(id, [name])?;
    files.open(id)?;
    let value = value_of(name)?;
    // What somebody else has set while this was typed in stays.
    let held = files.hold()?;
    let mut opened = files.open(id)?.unwrap_or_default();
    opened.set(name, value)?;
    files.seal(id, &opened, &held)?;
    anstream::eprintln!(
        "{name} of {id} is set; a new revision takes over once the file is committed or saved in the tree"
    );
    Ok(ExitCode::SUCCESS)
}

fn unset(files: &Files, id: &ApiId, name: &str) -> anyhow::Result<ExitCode> {
    let held = files.hold()?;
    let mut opened = files.open(id)?.unwrap_or_default();
    if !opened.unset(name) {
        bail!("{id} has no secret {name}; see: skep secrets list {id}");
    }
    files.seal(id, &opened, &held)?;
    anstream::eprintln!("{name} of {id} is taken away");
    Ok(ExitCode::SUCCESS)
}

fn list(files: &Files, id: Option<&ApiId>, output: Output) -> anyhow::Result<ExitCode> {
    let ids = match id {
        Some(id) => vec![id.clone()],
        None => files.with_secrets()?,
    };
    let mut apis = Vec::new();
    let mut code = ExitCode::SUCCESS;
    for id in ids {
        match files.open(&id) {
            Ok(opened) => {
                let names = opened.as_ref().map(Opened::names).into_iter().flatten().map(ToOwned::to_owned).collect();
                apis.push(Listed { id, names });
            }
            Err(error) => {
                anstream::eprintln!("error: {error:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    match output {
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(&List { version: 1, apis })?),
        Output::Text => {
            for Listed { id, names } in apis {
                let names = if names.is_empty() { "no secrets".to_owned() } else { names.join(", ") };
                anstream::println!("{id}: {names}");
            }
        }
    }
    Ok(code)
}

fn key(files: &Files) -> anyhow::Result<ExitCode> {
    let held = files.hold()?;
    let is_new = !files.keyring.exists();
    let recipient = files.keyring.make()?;
    if is_new {
        anstream::eprintln!(
            "made {}; keep a copy of it where only you can read it: without it, nobody can read the secrets",
            files.keyring.path().display()
        );
    }
    files.leave_out_old(&held)?;
    if files.name_recipient(&recipient, &held)? {
        anstream::eprintln!("commit {RECIPIENTS}, so that others encrypt to this key too");
    }
    anstream::println!("{recipient}");
    Ok(ExitCode::SUCCESS)
}

/// The value of a secret: asked for on a terminal, where nothing of it is shown, else what comes on standard input. Never
/// an argument, which every user of the host can see.
fn value_of(name: &str) -> anyhow::Result<String> {
    let mut stdin = std::io::stdin();
    if stdin.is_terminal() {
        return rpassword::prompt_password(format!("{name} (nothing is shown): ")).context("cannot read the value");
    }
    let mut bytes = Zeroizing::new(Vec::new());
    stdin.by_ref().take(LONGEST).read_to_end(&mut bytes).context("cannot read the value")?;
    let text = str::from_utf8(&bytes).ok().context("the value is no UTF-8 text; encode it, as with base64")?;
    Ok(without_line_end(text).to_owned())
}

/// The end of an only line is the shell's. A text of several lines is as it is.
fn without_line_end(text: &str) -> &str {
    match text.strip_suffix('\n') {
        Some(line) if !line.contains('\n') => line.strip_suffix('\r').unwrap_or(line),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::without_line_end;

    #[test]
    fn the_end_of_an_only_line_is_no_part_of_a_value() {
        let values = ["a\n", "a\r\n", "a", "a\nb\n", "\n"];
        assert_eq!(values.map(without_line_end), ["a", "a", "a", "a\nb\n", ""]);
    }
}
