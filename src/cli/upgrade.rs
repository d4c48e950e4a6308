//! `skep upgrade`: has the daemon give its place to the program that lies at its path by now.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::context::Context;
use super::hand_over::{Outcome, Wish, knock};
use super::passing::receive;

/// How many times, and how often, it is looked for a daemon that has just begun.
const LOOKS: (u32, Duration) = (10, Duration::from_millis(200));

/// How long the daemon may take to say what came of it: longer than a hand-over may take, and shorter than systemd waits.
const OUTCOME_WITHIN: Duration = Duration::from_secs(240);

/// Arguments of `skep upgrade`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The daemon starts the program that lies at its own path now, with its own arguments and environment, and\ngoes on until that one serves all that it serves itself. Then the new one accepts callers and reconciles; the old\none answers who is connected to it, and ends. No request is lost. skep.yaml is read anew, and all of it;\nthe environment is the old one's.\n\nWhere the new one cannot serve, the old one stays, and this command says why.\n\nExit codes:\n  0  the new daemon serves\n  1  the old one does\n\nExamples:\n  apt-get install ./skep_0.2.0_amd64.deb && systemctl reload skep\n  install skep /usr/local/bin/skep && skep --root /srv/apis upgrade"
)]
pub struct Args {}

/// Runs `skep upgrade`.
///
/// # Errors
/// Where no daemon is at work here, or it goes on as before.
pub async fn run(_: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let context = Context::open_existing(root)?;
    let door = context.installation.door();
    for _ in 0..LOOKS.0 {
        let knocked = knock(&door, Wish::Upgrade).await;
        if let Some(stream) = knocked.with_context(|| format!("cannot speak to the daemon at {}", door.display()))? {
            let (outcome, _) = tokio::time::timeout(OUTCOME_WITHIN, receive::<Outcome>(&stream))
                .await
                .context("the daemon does not say what came of it; its log does")?
                .context("the daemon has ended meanwhile")?;
            match outcome {
                Ok(pid) => anstream::println!("process {pid} has taken over"),
                Err(cause) => bail!("no upgrade: {cause}"),
            }
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(LOOKS.1).await;
    }
    bail!("no `skep serve` reconciles in {}; start one", context.settings.state.display())
}
