//! `skep receive`: takes a push that comes over SSH, as the forced command of a key.

use std::io::Write as _;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, bail};

use tokio::io::AsyncReadExt as _;
use tokio::process::ChildStdout;

use super::context::Context;
use crate::git::gloss::Gloss;
use crate::git::store::Store;

/// Arguments of `skep receive`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A line of ~/.ssh/authorized_keys, for each person one:\n  restrict,command=\"skep --root /srv/apis receive --as ada\" ssh-ed25519 AAAA… ada@laptop\n\nThen, from that person's machine:\n  git remote add skep ssh://skep@HOST/apis\n  git push skep main"
)]
pub struct Args {
    /// Who pushes, as events say it.
    #[arg(long = "as", value_name = "NAME")]
    name: String,
}

/// Runs `skep receive`.
///
/// # Errors
/// Where no push is taken here, or what is asked for is none.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let context = Context::open(root)?;
    let Some(push) = &context.settings.push else {
        bail!("pushes are not taken here; `push` in skep.yaml says whether they are")
    };
    let asked = std::env::var("SSH_ORIGINAL_COMMAND").unwrap_or_default();
    // Which repository they name does not matter: there is one.
    let service = match asked.split(' ').next() {
        Some("git-receive-pack") => "receive-pack",
        Some("git-upload-pack") => "upload-pack",
        _ => bail!("this key is for `git push` and `git fetch`, and for nothing else"),
    };
    let store = Store::of(&context.settings.state);
    let program = std::env::current_exe().context("cannot find this program")?;
    store.prepare(push, &context.settings.root, &program).await?;
    let mut git = store.serve([service]);
    git.arg(store.folder()).env("REMOTE_USER", &args.name);
    git.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    let is_push = service == "receive-pack";
    if is_push {
        git.stdout(Stdio::piped());
    }
    let mut git = git.spawn().context("cannot run `git`; is it installed?")?;
    if let Some(said) = git.stdout.take().filter(|_| is_push) {
        // Who pushes may have gone away; git then sees it too.
        let _ = pass_on(said, Gloss::new(push.max_size)).await;
    }
    let status = git.wait().await.context("cannot run `git`")?;
    Ok(u8::try_from(status.code().unwrap_or(1)).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Passes on what git answers to a push.
async fn pass_on(mut from: ChildStdout, mut gloss: Gloss) -> std::io::Result<()> {
    let (mut to, mut buffer) = (std::io::stdout(), vec![0; 16 * 1024]);
    while let length @ 1.. = from.read(&mut buffer).await? {
        to.write_all(&gloss.pass(buffer.get(..length).unwrap_or_default()))?;
        to.flush()?;
    }
    to.write_all(&gloss.rest())?;
    to.flush()
}
