//! Checking says whether folders of a commit that is pushed are taken, before anything of it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::context::Context;
use super::wishes::{Wish, Wishes};
use crate::git::Repository;
use crate::git::difference::Difference;
use crate::git::place::Placing;
use crate::git::scratch::Scratch;
use crate::git::store::{SCRATCH, Store};
use crate::report::diagnostics::Findings;
use crate::report::style::{BAD, BOLD, paint, plain};
use crate::settings::Settings;
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
    check_folders(context, &repository, commit, &difference.changed, Some(&difference)).await
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
