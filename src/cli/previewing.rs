//! Previewing by push: a commit that is pushed to `refs/previews/N` is what pull request N would have served.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::checking::check_folders;
use super::context::Context;
use super::hook::{Outcome, Update, outcome, pusher};
use super::watching::{Watch, skep};
use super::wishes::{Wish, Wishes};
use crate::admin::Surface;
use crate::git::Repository;
use crate::git::scratch::Scratch;
use crate::git::store::{PREVIEWS, SCRATCH, Store, WITHIN, branch_ref};
use crate::previews::sweep::{self, forget_pushed, note_ended};
use crate::previews::{Offer, Previews, Whose};
use crate::records::Records;
use crate::report::style::{BOLD, WARN, paint, plain};
use crate::settings::{PreviewSettings, PushSettings, Settings};
use crate::tree::{ApiId, PullRequest};

/// Says whether a pull request is taken, as the branch would be.
pub(super) async fn judge(context: &Context, pull_request: PullRequest, update: &Update) -> anyhow::Result<bool> {
    if let Err(error) = settings(context).and_then(|_| Wishes::of_environment().map(drop)) {
        anstream::eprintln!("{error:#}");
        return Ok(false);
    }
    if update.is_removal() {
        return Ok(true);
    }
    let store = Store::of(&context.settings.state);
    let repository = store.repository().clone().in_hook();
    let Some(push) = &context.settings.push else { return Ok(false) };
    match changed(context, push, &repository, &update.new).await {
        Ok(changed) => {
            let names: BTreeSet<String> = changed.iter().map(ToString::to_string).collect();
            // A preview has no hosts, whatever its folder claims.
            check_folders(context, &repository, &update.new, &names, None).await
        }
        Err(error) => {
            anstream::eprintln!("pull request {pull_request}: {error:#}");
            Ok(false)
        }
    }
}

/// Serves a pull request, or ends that, and tells how it went.
pub(super) async fn carry_out(
    context: &Context,
    push: &PushSettings,
    pull_request: PullRequest,
    update: &Update,
    wishes: &Wishes,
) -> anyhow::Result<Outcome> {
    let (store, previews) = (Store::of(&context.settings.state), Previews::of(&context.settings));
    let (limits, whose) = (settings(context)?, Whose { source: None, pull_request });
    if update.is_removal() {
        if wishes.has(Wish::DryRun) {
            bail!("-o dry-run: what ends ends; there is nothing to plan")
        }
        forget_pushed(&store, pull_request).await?;
        let gone = previews.end(&whose).await?;
        note(context, &gone, "preview-ended", format!("{whose}: ended by {}", pusher())).await;
        if gone.is_empty() {
            anstream::eprintln!("Nothing was previewed of {whose}.");
            return Ok(Outcome::Serves);
        }
        return wait(context, pull_request, Watch::of_taken(context, &store, None), wishes, BTreeSet::new()).await;
    }
    let changed = changed(context, push, store.repository(), &update.new).await?;
    if changed.is_empty() {
        anstream::eprintln!("It changes no API folder, so there is nothing to preview.");
    }
    let prefix = context.settings.apis_name();
    let offer = Offer {
        whose: &whose,
        repository: store.repository(),
        commit: &update.new,
        prefix: &prefix,
        changed: &changed,
        policy: &context.settings.policy,
        settings: limits,
    };
    if wishes.has(Wish::DryRun) {
        return try_out(context, &previews, &offer).await;
    }
    let placed = previews.place(&offer).await?;
    if changed.is_empty() {
        // A name stands for what is previewed, and for nothing else.
        forget_pushed(&store, pull_request).await?;
    } else {
        // Whatever it stood for: a sweep may have taken it out meanwhile.
        store.repository().ask(&["update-ref", "--no-deref", &update.name, &update.new], WITHIN).await?;
    }
    let about = store.repository().commit(&update.new).await.ok().flatten();
    let about = about.map_or_else(|| update.new.clone(), |about| format!("{} {}", about.short(), about.subject));
    note(context, &placed.there, "previewed", format!("{whose} by {}: {about}", pusher())).await;
    note(context, &placed.gone, "preview-ended", format!("{whose}: it does not change it any more")).await;
    if placed.there.is_empty() && placed.gone.is_empty() {
        return Ok(Outcome::Serves);
    }
    let watch = Watch::of_taken(context, &store, (!changed.is_empty()).then_some(update));
    wait(context, pull_request, watch, wishes, placed.there).await
}

/// Says what would come of a pull request, or why it would not be served, and changes nothing.
async fn try_out(context: &Context, previews: &Previews, offer: &Offer<'_>) -> anyhow::Result<Outcome> {
    let scratch = Scratch::new(&context.settings.state, SCRATCH)?;
    previews.noted_in(scratch.path())?.place(offer).await?;
    let (state, number) = (scratch.path().to_string_lossy(), offer.whose.pull_request.to_string());
    let planned = skep(context, &["plan", "--previews", &state, "--pull-request", &number]).await?;
    anstream::eprintln!("{}", paint("A dry run: nothing has changed.", BOLD));
    if planned { Ok(Outcome::DryRun) } else { bail!("there is no plan") }
}

/// Ends what no push ends: what is merged by now, and what nobody has heard of for long.
pub(super) async fn end_what_is_over(context: &Context) {
    // Somebody who places a preview just now is nobody that a push of the branch waits for.
    let ended = match sweep::sweep_at_once(&context.settings, Timestamp::now()).await {
        Ok(ended) => ended,
        Err(error) if error.is_busy() => return,
        Err(error) => {
            // The daemon tries it again.
            anstream::eprintln!("{}", paint(format!("previews: {}", plain(&error.to_string())), WARN));
            return;
        }
    };
    if let Ok(records) = context.records().await {
        note_ended(&*records, &ended).await;
    }
}

/// Has what is over ended while this daemon reconciles.
pub(super) fn keep(
    context: &Context,
    surface: &Arc<Surface>,
    records: &Arc<dyn Records>,
    tasks: &mut JoinSet<()>,
    stop: &CancellationToken,
) {
    let (mut settings, surface) = (context.settings.clone(), Arc::clone(surface));
    let (records, stop) = (Arc::clone(records), stop.clone());
    tasks.spawn(async move {
        loop {
            // What they say of previews may have changed; while they cannot be read, what they said last holds.
            if let Ok(now) = Settings::load(&settings.root, |name| std::env::var(name).ok()) {
                settings = now;
            }
            if surface.leads() {
                match sweep::sweep(&settings, Timestamp::now()).await {
                    Ok(ended) => note_ended(&*records, &ended).await,
                    Err(error) => tracing::warn!("previews: {error}; it is tried again"),
                }
            }
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(settings.look_every.0) => {} }
        }
    });
}

/// Waits until what is previewed has come to rest.
async fn wait(
    context: &Context,
    pull_request: PullRequest,
    watch: Watch<'_>,
    wishes: &Wishes,
    there: BTreeSet<ApiId>,
) -> anyhow::Result<Outcome> {
    if wishes.has(Wish::Nowait) {
        anstream::eprintln!("Not waiting; `skep status` says how it goes.");
        return Ok(Outcome::Serves);
    }
    let seen = watch.see(&["apply", "--pull-request", &pull_request.to_string()]).await?;
    Ok(outcome(context, seen, there.into_iter()).await)
}

/// Which API folders a commit changes, of what it was made after.
async fn changed(
    context: &Context,
    push: &PushSettings,
    repository: &Repository,
    commit: &str,
) -> anyhow::Result<BTreeSet<ApiId>> {
    let branch = branch_ref(push);
    let base = repository.merge_base(&branch, commit).await?;
    let base = base.with_context(|| {
        format!(
            "it has nothing in common with {0}: push {0} first, and what was made after it (all of it: fetch-depth: 0)",
            push.branch
        )
    })?;
    Ok(repository.changed(&base, commit, &context.settings.apis_name()).await?)
}

fn settings(context: &Context) -> anyhow::Result<&PreviewSettings> {
    let settings = context.settings.previews.as_ref();
    settings.with_context(|| {
        format!("{PREVIEWS}N: no pull request is served here; `previews` in skep.yaml says whether they are")
    })
}

async fn note(context: &Context, ids: &BTreeSet<ApiId>, kind: &str, message: String) {
    if ids.is_empty() {
        return;
    }
    match context.records().await {
        Ok(records) => {
            for id in ids {
                sweep::note(&*records, id, kind, message.clone()).await;
            }
        }
        Err(error) => {
            anstream::eprintln!("{}", paint(format!("this push is not among the events: {error:#}"), WARN));
        }
    }
}
