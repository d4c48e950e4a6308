//! Checking says whether folders of a commit that is pushed are taken, before anything of it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::context::Context;
use super::wishes::{Wish, Wishes};
use crate::git::Repository;
use crate::git::difference::Difference;
use crate::git::place::Placing;
use crate::git::scratch::Scratch;
use crate::git::store::{SCRATCH, Store};
use crate::reconcile::goals::too_many;
use crate::reconcile::look::recently_removed;
use crate::report::diagnostics::Findings;
use crate::report::style::{BAD, BOLD, paint, plain};
use crate::settings::Settings;
use crate::tree::ApiId;
use crate::tree::hosts::taken_beside;
use crate::tree::scan::Scanner;

/// Checks the folders that a commit changes, as `skep check` would; answers whether they are sound.
pub(super) async fn check(context: &Context, commit: &str) -> anyhow::Result<bool> {
    let store = Store::of(&context.settings.state);
    let place = Placing::pushed(&store, &context.settings);
    let repository = store.repository().clone().in_hook();
    let difference = place.difference(&repository, commit).await?;
    // Git keeps no empty folder: either nothing is to be served any more, or the folder goes by another name, or it is another
    // repository. Only the first is what somebody means by it, and they can say so.
    if repository.folders(commit, &place.prefix).await?.is_empty() {
        let is_wanted = difference != Difference::default() && Wishes::of_environment()?.has(Wish::AllowDeletes);
        if !is_wanted {
            let prefix = &place.prefix;
            anstream::eprintln!("there is no folder {prefix}/ in this commit; nothing would be served from it");
            if difference != Difference::default() {
                anstream::eprintln!("To have every API removed: git push -o allow-deletes");
            }
            return Ok(false);
        }
    }
    Ok(check_folders(context, &repository, commit, &difference.changed, Some(&difference)).await?
        && check_removals(context, &difference).await?)
}

/// Checks whether so many APIs may go. What is taken and then held somebody would have to let go on the host.
async fn check_removals(context: &Context, difference: &Difference) -> anyhow::Result<bool> {
    if difference.gone.is_empty() || Wishes::of_environment()?.has(Wish::AllowDeletes) {
        return Ok(true);
    }
    let records = context.records().await?;
    let confirmed = records.confirmed_removals().await?;
    let recent = recently_removed(&*records, Timestamp::now()).await?;
    let apis = records.each().await?.into_keys().filter(|id| !id.is_preview());
    let apis: BTreeSet<ApiId> = apis.collect();
    let is_there = |id: &ApiId| {
        let (name, folder) = (id.as_str(), context.settings.apis.join(id.as_str()));
        difference.changed.contains(name) || !difference.gone.contains(name) && folder.is_dir()
    };
    let gone: Vec<&str> =
        apis.iter().filter(|id| !is_there(id) && !confirmed.contains(id)).map(ApiId::as_str).collect();
    let recent = recent.iter().filter(|id| !id.is_preview() && !apis.contains(*id) && !is_there(id)).count();
    let Some(many) = too_many(&context.settings.policy, gone.len(), recent, apis.len()) else { return Ok(true) };
    anstream::eprintln!("{}", paint(format!("error: by this push {many}: {}", gone.join(", ")), BAD));
    anstream::eprintln!("To have them removed: git push -o allow-deletes");
    anstream::eprintln!("{}", paint("This push is refused, and nothing has changed.", BOLD));
    Ok(false)
}

/// Checks these folders of a commit, and where they come to lie in the tree, whether they get on with what stays there.
pub(super) async fn check_folders(
    context: &Context,
    repository: &Repository,
    commit: &str,
    changed: &BTreeSet<String>,
    into_tree: Option<&Difference>,
) -> anyhow::Result<bool> {
    let folder = Scratch::new(&context.settings.state, SCRATCH)?;
    let settings = settings_in(&folder, &context.settings);
    let prefix = settings.apis_name();
    let refused = repository.export_whole(commit, &prefix, changed, &settings.policy, &settings.apis).await?;
    for refusal in &refused {
        anstream::eprintln!("{}", paint(format!("error: {}", plain(&refusal.to_string())), BAD));
    }
    let mut tree = Scanner::new(&settings)?.read()?.tree;
    if let Some(difference) = into_tree {
        let replaced = difference.changed.union(&difference.gone).cloned().collect();
        let taken = taken_beside(&tree, &context.settings, &replaced)?;
        Arc::make_mut(&mut tree).findings.extend(taken);
    }
    let findings = Findings::new(&[], &tree, None, "");
    let is_sound = refused.is_empty() && findings.summary().errors == 0;
    if tree.all_findings().next().is_some() {
        anstream::eprint!("{}", findings.text(true));
    }
    if !is_sound {
        anstream::eprintln!("{}", paint("This push is refused, and nothing has changed.", BOLD));
    }
    Ok(is_sound)
}

/// As those of the tree, but for where it is.
fn settings_in(scratch: &Scratch, settings: &Settings) -> Settings {
    let root = scratch.path().to_owned();
    Settings { apis: root.join(settings.apis_name()), root, ..settings.clone() }
}
