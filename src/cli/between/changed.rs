//! Which API folders one side has otherwise than the other, by what git knows of both.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::git::difference::Place;
use crate::git::store::WITHIN;
use crate::git::{GitError, Repository};
use crate::report::style::plain;

/// Folders that there are, and those among them, and among what is gone, that are otherwise.
pub(super) type Changed = (BTreeSet<String>, BTreeSet<String>);

/// The folders that a commit has, and those that another has otherwise. `apis` is where they are, from the root of the
/// repository.
///
/// # Errors
/// Where git cannot say, or the commit has no such folder: that is never one without any API.
pub(super) async fn between_commits(
    repository: &Repository,
    base: &str,
    head: &str,
    apis: &str,
) -> anyhow::Result<Changed> {
    let place = |commit| Place { commit, folder: apis };
    let difference = repository.difference(Some(place(base)), place(head));
    let (difference, there) = tokio::try_join!(difference, repository.folders(head, apis))?;
    if there.is_empty() {
        let short = head.get(..10).unwrap_or(head);
        bail!(
            "{short} has no folder {apis}, so that nothing says which APIs there should be; a push of it is refused too"
        );
    }
    Ok((there.into_keys().collect(), difference.changed.into_iter().chain(difference.gone).collect()))
}

/// The folders that lie in `root` now, and those that are not as a commit has them.
///
/// # Errors
/// Where git cannot say, the folder cannot be read, or part of it was left out of the checkout.
pub(super) async fn in_folder(repository: &Repository, root: &Path, base: &str, apis: &str) -> anyhow::Result<Changed> {
    // With what people's own settings may change of it said: paths are from the root of the repository.
    let fixed = ["diff", "--name-only", "--no-relative", "--no-renames", "--no-ext-diff", "--no-textconv", "-z"];
    let tracked: Vec<&str> = fixed.into_iter().chain([base, "--", "apis"]).collect();
    let new = ["ls-files", "--others", "--exclude-standard", "--full-name", "-z", "--", "apis"];
    let paths = lines(repository.ask(&tracked, WITHIN).await?).into_iter();
    let mut changed = BTreeSet::new();
    for path in paths.chain(lines(repository.ask(&new, WITHIN).await?)) {
        match path.strip_prefix(apis).and_then(|rest| rest.strip_prefix('/')?.split('/').next()) {
            Some(name) => _ = changed.insert(name.to_owned()),
            // `apis` itself, which is then no folder any more.
            None if path == apis => {}
            None => bail!("git says that {} has changed, which is not below {apis}", plain(&path)),
        }
    }
    let there = std::fs::read_dir(root.join("apis"));
    let there = there.with_context(|| format!("cannot read {}", root.join("apis").display()))?;
    let there: BTreeSet<String> =
        there.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let left_out = left_out(repository, apis, changed.difference(&there)).await?;
    if !left_out.is_empty() {
        let all: Vec<String> = left_out.iter().map(|name| plain(&format!("{apis}/{name}"))).collect();
        bail!(
            "this is a sparse checkout, without {}; name the commit that is meant, as with --head HEAD, or have all checked out \
             with `git sparse-checkout disable`",
            all.join(" and ")
        );
    }
    Ok((there, changed))
}

/// Those of the folders that are not there since the checkout is a sparse one, and not since somebody removed them.
async fn left_out(
    repository: &Repository,
    apis: &str,
    names: impl Iterator<Item = &String>,
) -> Result<BTreeSet<String>, GitError> {
    let mut names: BTreeSet<String> = names.cloned().collect();
    if names.is_empty() {
        return Ok(names);
    }
    let listed = lines(repository.ask(&["ls-files", "-t", "--full-name", "-z", "--", "apis"], WITHIN).await?);
    // `S` is what git calls an entry that it leaves out on purpose.
    let name = |line: &String| {
        let path = line.strip_prefix("S ")?.strip_prefix(apis)?.strip_prefix('/')?;
        Some(path.split('/').next()?.to_owned())
    };
    let left_out: BTreeSet<String> = listed.iter().filter_map(name).collect();
    names.retain(|name| left_out.contains(name));
    Ok(names)
}

fn lines(printed: Vec<u8>) -> Vec<String> {
    String::from_utf8_lossy(&printed).split('\0').filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect()
}
