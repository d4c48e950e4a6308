//! Rotating makes a new key, and encrypts all secrets of a tree to it.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;

use super::files::Files;
use crate::cli::context::{Context, REMEMBERED};
use crate::secrets::RECIPIENTS;

/// Arguments of `skep secrets rotate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "What serves was encrypted to the key before, which is kept until --forget-old: so everything \
                        goes on being started, healed and rolled back. A key that somebody has seen opens what they have \
                        copied, for ever: give the secrets themselves other values, too.")]
pub(super) struct Rotate {
    /// Make no new key; encrypt everything anew, as after a change of secrets.pub.
    #[arg(long)]
    keep_key: bool,

    /// Forget the keys before the newest, once nothing that serves or could be rolled back to needs them.
    #[arg(long, conflicts_with = "keep_key")]
    forget_old: bool,
}

pub(super) async fn rotate(args: &Rotate, files: &Files, root: &Path) -> anyhow::Result<ExitCode> {
    if args.forget_old {
        return forget(files, root).await;
    }
    let held = files.hold()?;
    // All is opened before anything is written: one that cannot be opened would be lost to the new key.
    let mut opened = Vec::new();
    for id in files.with_secrets()? {
        if let Some(secrets) = files.open(&id)? {
            opened.push((id, secrets));
        }
    }
    if !args.keep_key {
        let public = files.public()?;
        let old = files.keyring.recipients()?;
        let new = files.keyring.renew(&held)?;
        files.replace_recipients(&public, &old, &new)?;
    }
    for (id, secrets) in &opened {
        files.seal(id, secrets, &held)?;
    }
    let key = if args.keep_key { "" } else { "there is a new key; " };
    anstream::eprintln!("{key}{} files are encrypted anew; commit apis/ and {RECIPIENTS}", opened.len());
    if !args.keep_key {
        anstream::eprintln!(
            "copies of the key from before, as in backups and on other hosts, are out of date: they open nothing of this; \
             copy {} anew, to each",
            files.keyring.path().display()
        );
        anstream::eprintln!("once all of them serve: skep secrets rotate --forget-old");
    }
    Ok(ExitCode::SUCCESS)
}

/// Forgets old keys, unless something would be lost with them.
async fn forget(files: &Files, root: &Path) -> anyhow::Result<ExitCode> {
    let held = files.hold()?;
    if files.keyring.recipients()?.len() == 1 {
        anstream::eprintln!("0 old keys are forgotten");
        return Ok(ExitCode::SUCCESS);
    }
    let mut needed = Vec::new();
    for id in files.with_secrets()? {
        if let Some(sealed) = files.sealed(&id)?
            && files.keyring.needs_old(&sealed)?
        {
            needed.push(format!("apis/{id}/secrets.age"));
        }
    }
    let context = Context::open(root)?;
    check_records(&context)?;
    let records = context.records().await?;
    for (id, record) in records.all().await? {
        let held = record.hold.as_ref().and_then(|hold| hold.serve.as_deref());
        let past = records.revisions(&id).await?;
        for served in record.served.iter().chain(held).chain(&past) {
            let is_needed = served.secrets.as_ref().map(|sealed| files.keyring.needs_old(sealed)).transpose()?;
            let what = format!("revision {} of {id}", served.revision);
            if is_needed == Some(true) && !needed.contains(&what) {
                needed.push(what);
            }
        }
    }
    if !needed.is_empty() {
        bail!(
            "the keys before the newest are needed still, for {}; they are kept as long as that can serve: see \
             policy.keep.revisions in skep.yaml",
            needed.join(", ")
        );
    }
    if let Some((count, kept)) = files.keyring.forget_old(&held)? {
        anstream::eprintln!(
            "{count} old keys are forgotten; they lie in {} still, which nothing reads: remove it once all is well",
            kept.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether the records that these settings lead to are those of what serves. Ones that are made now know of nothing that
/// needs a key.
fn check_records(context: &Context) -> anyhow::Result<()> {
    if context.settings.records.url.is_some() {
        return Ok(());
    }
    let state = &context.settings.state;
    if state.join(REMEMBERED).try_exists()? {
        bail!(
            "the records of this installation are in a database, as {REMEMBERED} in {} says, and no URL of one is set, so \
             nobody knows what needs the old keys; set SKEP_DB_URL as for the daemon. Where the records are in a file by \
             now, remove {REMEMBERED}",
            state.display()
        );
    }
    if !context.installation.records().try_exists()? {
        bail!(
            "there are no records at {}, so nobody knows what needs the old keys; run this on the host of the daemon, with \
             its SKEP_STATE_DIR, or its SKEP_DB_URL where a database keeps the records",
            context.installation.records().display()
        );
    }
    Ok(())
}
