//! A watch is what whoever pushes sees of the deploy, until it has come to rest, is another's by now, or nobody looks any more.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tokio::process::Command;

use super::context::Context;
use super::hook::Update;
use crate::git::place::Placing;
use crate::git::store::{PREVIEWS, Store};
use crate::git::tether::End;
use crate::reconcile::status::{Health, Sync};
use crate::report::style::{BOLD, NAME, WARN, paint, plain};
use crate::tree::ApiId;

/// How often it is looked whether there is still something to see.
const EVERY: Duration = Duration::from_millis(500);

/// How a watch ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// All has come to rest; whether it is as was asked for.
    Rested(bool),
    /// Something else was pushed; what.
    Superseded(String),
    /// Whoever pushed has gone away, or too many others watch.
    Left,
}

/// A watch of one push that is taken.
pub(super) struct Watch<'a> {
    context: &'a Context,
    store: &'a Store,
    /// What must go on being so, for it to be this push's deploy; `None` where nothing can come instead.
    update: Option<&'a Update>,
    tether: Option<End>,
    /// Whether it goes on to its end whatever comes: what it runs is more than an onlooker.
    is_needed: bool,
}

impl<'a> Watch<'a> {
    /// Says that the push is taken: from here on nothing of it can be lost.
    pub(super) fn of_taken(context: &'a Context, store: &'a Store, update: Option<&'a Update>) -> Self {
        let mut tether = End::of_environment();
        if let Some(tether) = &mut tether {
            tether.say_taken();
        }
        // Where no daemon deploys, this does.
        Self { context, store, update, tether, is_needed: !is_served(context) }
    }

    /// The same, which goes on to its end where that is needed.
    pub(super) fn needed(self, is_needed: bool) -> Self {
        Self { is_needed: self.is_needed || is_needed, ..self }
    }

    /// Runs `skep` with these arguments, and watches.
    pub(super) async fn see(mut self, arguments: &[&str]) -> anyhow::Result<Seen> {
        let mut apply = command(self.context, arguments)?.kill_on_drop(true).spawn().context(CANNOT)?;
        let git = rustix::process::getppid();
        let serves = loop {
            tokio::select! {
                status = apply.wait() => break status.context(CANNOT)?.success(),
                () = tokio::time::sleep(EVERY) => {}
            }
            if self.is_needed {
                continue;
            }
            if self.tether.as_mut().is_some_and(End::is_cut) || rustix::process::getppid() != git {
                let _ = apply.kill().await;
                anstream::eprintln!(
                    "{}",
                    paint("Taken, and not watched to its end; `skep status` says how it goes.", WARN)
                );
                return Ok(Seen::Left);
            }
            if self.may_have_moved()
                && let Some(now) = self.later().await
            {
                let _ = apply.kill().await;
                return Ok(superseded(now));
            }
        };
        Ok(self.later().await.map_or(Seen::Rested(serves), superseded))
    }

    /// Whether it is worth asking git, which costs a process.
    fn may_have_moved(&self) -> bool {
        self.update.is_some_and(|update| {
            let now = std::fs::read_to_string(self.store.folder().join(&update.name));
            now.map_or(true, |now| now.trim() != update.new)
        })
    }

    /// What there is instead of what was pushed.
    async fn later(&self) -> Option<String> {
        let update = self.update?;
        later(self.store, update, &update.new).await?;
        // It may be on its way into the tree, and come to nothing yet.
        let waits = Placing::pushed(self.store, &self.context.settings).lock(true);
        let now = later(self.store, update, &update.new).await;
        drop(waits);
        now
    }
}

fn superseded(now: String) -> Seen {
    anstream::eprintln!("{}", paint(format!("Superseded; in its place: {now}."), BOLD));
    Seen::Superseded(now)
}

/// Whether a daemon is at work here, which answers callers.
pub(super) fn is_served(context: &Context) -> bool {
    context.installation.holder().is_some_and(|holder| holder.address.is_some())
}

/// What a name in the store stands for by now, where that is not this commit any more.
pub(super) async fn later(store: &Store, update: &Update, commit: &str) -> Option<String> {
    match store.repository().commit(&update.name).await {
        Ok(Some(now)) => (now.id != commit).then(|| format!("{} {}", now.short(), plain(&now.subject))),
        // A preview may be over; the branch stays, so that git has failed to say.
        Ok(None) if update.name.starts_with(PREVIEWS) => Some("nothing".to_owned()),
        // Not known, so nobody is told of it.
        Ok(None) | Err(_) => None,
    }
}

/// Where callers reach what was pushed and serves.
pub(super) async fn say_where(context: &Context, changed: impl Iterator<Item = ApiId>) {
    const SHOWN: usize = 20;
    let base = std::env::var("SKEP_PUSHED_TO").ok().filter(|url| !url.is_empty());
    let base = base.unwrap_or_else(|| context.callers_address());
    let Ok(records) = context.records().await else { return };
    for id in changed.take(SHOWN) {
        let status = records.get(&id).await.ok().flatten().map(|record| record.status);
        if status.is_some_and(|status| status.sync == Sync::Synced && status.health == Health::Healthy) {
            anstream::eprintln!("  {}  {base}/run/{id}/", paint(&id, NAME));
        }
    }
}

/// Another command of ours, whose output goes to the pusher; answers whether it went well.
pub(super) async fn skep(context: &Context, arguments: &[&str]) -> anyhow::Result<bool> {
    Ok(command(context, arguments)?.status().await.context(CANNOT)?.success())
}

const CANNOT: &str = "cannot run this program again";

fn command(context: &Context, arguments: &[&str]) -> anyhow::Result<Command> {
    use std::os::fd::AsFd as _;
    let program = std::env::current_exe().context("cannot find this program")?;
    // Standard output is git's here.
    let said = std::io::stderr().as_fd().try_clone_to_owned()?;
    let mut command = Command::new(program);
    command.arg("--root").arg(&context.settings.root).args(arguments).stdin(Stdio::null());
    command.stdout(said).stderr(Stdio::inherit());
    Ok(command)
}
