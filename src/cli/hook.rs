//! `skep hook`: what git runs while a push comes in. What it prints stands in the pusher's terminal.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use super::checking::check;
use super::context::Context;
use super::previewing;
use super::watching::{Seen, Watch, is_served, later, say_where, skep};
use super::wishes::{Wish, Wishes};
use crate::admin::client;
use crate::admin::push::{ONLY_PREVIEWS, PUSHES};
use crate::git::difference::Difference;
use crate::git::pkt;
use crate::git::place::{PlaceError, Placing};
use crate::git::scratch::Scratch;
use crate::git::store::{PREVIEWS, SCRATCH, Store, branch_ref, previewed};
use crate::records::NewEvent;
use crate::report::style::{BAD, BOLD, WARN, paint, plain};
use crate::settings::PushSettings;
use crate::tree::ApiId;

/// Arguments of `skep hook`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which hook.
    #[arg(value_enum)]
    hook: Hook,
}

/// The hooks of git that skep answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Hook {
    /// Whether what comes is taken at all.
    PreReceive,
    /// What is done with it.
    ProcReceive,
}

/// How many times, and how often, it is looked whether the daemon reconciles by now: it may have begun a moment ago.
const LEADING: (u32, Duration) = (10, Duration::from_millis(500));

/// What is asked of one name in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Update {
    pub(super) old: String,
    pub(super) new: String,
    pub(super) name: String,
}

/// Runs `skep hook`.
///
/// # Errors
/// Where the hook was not started by git, or the settings or the store cannot be used.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let context = Context::open(root)?;
    let Some(push) = context.settings.push.clone() else {
        bail!("pushes are not taken here; `push` in skep.yaml says whether they are")
    };
    if let Some(leader) = stands_by(&context).await {
        bail!("{leader}");
    }
    match args.hook {
        Hook::PreReceive => judge(&context, &push).await,
        Hook::ProcReceive => take(&context, &push).await,
    }
}

/// Why this host takes no push: the daemon here only stands by, and what it would take, the one that reconciles would never see.
async fn stands_by(context: &Context) -> Option<&'static str> {
    let address = context.installation.holder()?.address?;
    for _ in 0..LEADING.0 {
        if client::role(address).await.ok()? != "follower" {
            return None;
        }
        tokio::time::sleep(LEADING.1).await;
    }
    Some("the daemon on this host stands by; push to the one that reconciles")
}

/// Says whether a push is taken: whatever is wrong with it stands in the pusher's terminal, and nothing of it is kept.
async fn judge(context: &Context, push: &PushSettings) -> anyhow::Result<ExitCode> {
    let mut lines = String::new();
    std::io::stdin().read_to_string(&mut lines).context("cannot read what is pushed")?;
    let updates: Vec<Update> = lines.lines().filter_map(Update::read).collect();
    let branch = branch_ref(push);
    for update in &updates {
        if let Some(pull_request) = previewed(&update.name) {
            if !previewing::judge(context, pull_request, update).await? {
                return Ok(ExitCode::FAILURE);
            }
            continue;
        }
        if update.name.starts_with(PREVIEWS) {
            let what =
                "what is previewed is pushed to HEAD:refs/previews/NUMBER, by the number of a pull request, from 1 on";
            anstream::eprintln!("{}: {what}", plain(&update.name));
            return Ok(ExitCode::FAILURE);
        }
        if std::env::var(PUSHES).is_ok_and(|pushes| pushes == ONLY_PREVIEWS) {
            anstream::eprintln!("{}: this key is for previews, HEAD:{PREVIEWS}NUMBER, alone", plain(&update.name));
            return Ok(ExitCode::FAILURE);
        }
        if update.name != branch {
            let to = &push.branch;
            let how = if update.name.starts_with("refs/tags/") { "--no-follow-tags " } else { "" };
            anstream::eprintln!("{}: only {to} is served here: git push {how}skep HEAD:{to}", plain(&update.name));
            return Ok(ExitCode::FAILURE);
        }
        if update.is_removal() {
            anstream::eprintln!("{}: it says what serves, and cannot be deleted", push.branch);
            return Ok(ExitCode::FAILURE);
        }
        if let Err(error) = Wishes::of_environment() {
            anstream::eprintln!("{error:#}");
            return Ok(ExitCode::FAILURE);
        }
        if !check(context, &update.new).await? {
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Does what a push asks for, and tells git how it went.
async fn take(context: &Context, push: &PushSettings) -> anyhow::Result<ExitCode> {
    let (mut from, mut to) = (std::io::stdin().lock(), std::io::stdout().lock());
    let said = pkt::read_section(&mut from)?;
    let can = |what: &str| said.iter().any(|line| line.split(['\0', ' ']).any(|word| word == what));
    let options = can("push-options");
    pkt::write_section(&mut to, &[format!("version=1{}", if options { "\0push-options" } else { "" })])?;
    let updates: Vec<Update> = pkt::read_section(&mut from)?.iter().filter_map(|line| Update::read(line)).collect();
    let wishes = if options { Wishes::read(pkt::read_section(&mut from)?)? } else { Wishes::default() };
    let mut answers = Vec::new();
    for update in updates {
        let carried_out = match previewed(&update.name) {
            Some(pull_request) => previewing::carry_out(context, push, pull_request, &update, &wishes).await,
            None => carry_out(context, push, &update, &wishes).await,
        };
        match carried_out {
            Ok(Outcome::Serves) => answers.push(format!("ok {}", update.name)),
            Ok(Outcome::DryRun) => {
                // So that the pusher's git goes on knowing where the branch really is.
                answers.push(format!("ok {}", update.name));
                answers.push(format!("option new-oid {}", update.old));
            }
            Ok(Outcome::DoesNotServe) => {
                answers.push(format!("ng {} taken, but not all of it serves", update.name));
            }
            Ok(Outcome::Left) => answers.push(format!("ng {} taken, and not watched to its end", update.name)),
            Ok(Outcome::NobodyAnswers) => {
                answers.push(format!("ng {} taken, but no daemon is at work to serve it", update.name));
            }
            Ok(Outcome::Superseded(now)) => {
                answers.push(format!("ng {} taken, and superseded; in its place: {now}", update.name));
            }
            Err(error) => {
                anstream::eprintln!("{}", paint(format!("error: {}", plain(&format!("{error:#}"))), BAD));
                answers.push(format!("ng {} not done", update.name));
            }
        }
    }
    pkt::write_section(&mut to, &answers)?;
    Ok(ExitCode::SUCCESS)
}

/// What came of a push.
pub(super) enum Outcome {
    Serves,
    DoesNotServe,
    /// By what was pushed later.
    Superseded(String),
    /// How it goes on is nobody's here to tell.
    Left,
    /// It runs, and there is no daemon to let callers in.
    NobodyAnswers,
    DryRun,
}

async fn carry_out(
    context: &Context,
    push: &PushSettings,
    update: &Update,
    wishes: &Wishes,
) -> anyhow::Result<Outcome> {
    if update.name != branch_ref(push) || update.is_removal() {
        bail!("only {} is served here", push.branch);
    }
    let store = Store::of(&context.settings.state);
    let place = Placing::pushed(&store, &context.settings);
    // One push at a time, from here until its folders lie in the tree: else the branch could say one thing, and they another.
    let lock = place.lock(true)?;
    let ready = place.ready(&update.new, wishes.has(Wish::Overwrite)).await;
    if let Err(PlaceError::Edited(_)) = &ready {
        anstream::eprintln!("To have it written over: git push -o overwrite");
    }
    let ready = ready?;
    if wishes.has(Wish::DryRun) {
        let scratch = Scratch::new(&context.settings.state, SCRATCH)?;
        let apis = scratch.path().join(&place.prefix);
        ready.overlay(place.apis, &apis)?;
        let (apis, deletes) = (apis.to_string_lossy(), wishes.has(Wish::AllowDeletes).then_some("--allow-deletes"));
        let arguments: Vec<&str> = ["plan", "--apis", &apis].into_iter().chain(deletes).collect();
        let planned = skep(context, &arguments).await?;
        anstream::eprintln!("{}", paint("A dry run: nothing has changed.", BOLD));
        return if planned { Ok(Outcome::DryRun) } else { bail!("there is no plan") };
    }
    let is_new = update.old.bytes().all(|digit| digit == b'0');
    if let Err(error) = store.move_ref(&update.name, &update.new, (!is_new).then_some(&update.old)).await {
        return match later(&store, update, &update.old).await {
            Some(now) => {
                bail!("somebody else has pushed {now} meanwhile; git fetch, and push again what is made after it")
            }
            None => Err(error.into()),
        };
    }
    let placed = match place.put(ready).await {
        Ok(placed) => placed,
        Err(error) => {
            // As if it had not come: else the next push would find nothing to do.
            undo(&store, update, is_new).await;
            return Err(error.into());
        }
    };
    drop(lock);
    note(context, &store, update).await;
    let watch = Watch::of_taken(context, &store, Some(update));
    previewing::end_what_is_over(context).await;
    say_what_comes(&placed);
    if wishes.has(Wish::Nowait) {
        anstream::eprintln!("Not waiting; `skep status` says how it goes.");
        return Ok(Outcome::Serves);
    }
    let deletes = wishes.has(Wish::AllowDeletes);
    let arguments: &[&str] = if deletes { &["apply", "--allow-deletes"] } else { &["apply"] };
    // The word that they may go is said by what is run.
    let seen = watch.needed(deletes).see(arguments).await?;
    Ok(outcome(context, seen, placed.changed.iter().filter_map(|name| ApiId::new(name).ok())).await)
}

/// What came of a push whose watch has ended, and where callers reach what serves.
pub(super) async fn outcome(context: &Context, seen: Seen, changed: impl Iterator<Item = ApiId>) -> Outcome {
    let serves = match seen {
        Seen::Superseded(now) => return Outcome::Superseded(now),
        Seen::Left => return Outcome::Left,
        Seen::Rested(serves) => serves,
    };
    if !is_served(context) {
        let nobody = "No daemon is at work on this host: what runs is in its containers, and nobody answers callers.";
        anstream::eprintln!("{}", paint(nobody, WARN));
        anstream::eprintln!("There, start it: skep --root {} serve", context.settings.root.display());
        return if serves { Outcome::NobodyAnswers } else { Outcome::DoesNotServe };
    }
    say_where(context, changed).await;
    if serves { Outcome::Serves } else { Outcome::DoesNotServe }
}

async fn undo(store: &Store, update: &Update, is_new: bool) {
    let back = if is_new {
        let arguments = ["update-ref", "-d", &update.name, &update.new];
        store.repository().ask(&arguments, crate::git::store::WITHIN).await.map(drop)
    } else {
        store.move_ref(&update.name, &update.old, Some(&update.new)).await
    };
    if let Err(error) = back {
        anstream::eprintln!("{error}");
    }
}

/// Writes down who pushed what.
async fn note(context: &Context, store: &Store, update: &Update) {
    let by = pusher();
    let commit = store.repository().commit(&update.new).await.ok().flatten();
    let what =
        commit.as_ref().map_or_else(|| update.new.clone(), |commit| format!("{} {}", commit.short(), commit.subject));
    let event = NewEvent {
        at: jiff::Timestamp::now(),
        api: None,
        revision: None,
        kind: "pushed".to_owned(),
        message: format!("by {by}: {what}"),
    };
    let noted = async { anyhow::Ok(context.records().await?.add_event(&event).await?) };
    if let Err(error) = noted.await {
        anstream::eprintln!("{}", paint(format!("this push is not among the events: {error:#}"), WARN));
    }
}

/// Who pushes: whom the gateway, or `skep receive`, has let in.
pub(super) fn pusher() -> String {
    std::env::var("REMOTE_USER").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| "somebody".to_owned())
}

fn say_what_comes(placed: &Difference) {
    if placed.changed.is_empty() && placed.gone.is_empty() {
        anstream::eprintln!("No API folder has changed.");
    }
}

impl Update {
    fn read(line: &str) -> Option<Self> {
        let mut words = line.splitn(3, ' ').map(ToOwned::to_owned);
        Some(Self { old: words.next()?, new: words.next()?, name: words.next()? })
    }

    pub(super) fn is_removal(&self) -> bool {
        self.new.bytes().all(|digit| digit == b'0')
    }
}
