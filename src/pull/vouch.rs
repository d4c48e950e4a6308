//! Whether somebody who counts vouches for a commit: for one that comes, and for the one that serves, whenever who counts has changed.

use std::io::Read as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::source::{Source, lock};
use super::turn::{Ground, Stop};
use crate::git::remote::{Reference, Remote, SEEN};
use crate::git::signature::signer;
use crate::settings::SignedBy;

/// The most bytes of a file of signers by which it is seen to be another.
const MOST: u64 = 16 << 20;

impl Source {
    /// Who signed a commit, or the tag that it was fetched by; nobody where nobody has to.
    pub(super) async fn signer(&self, reference: &Reference, commit: &str) -> Result<Option<String>, Stop> {
        let Some(by) = &self.settings.signed_by else { return Ok(None) };
        // As they are before it is judged by them: what changes meanwhile is judged by with the next turn.
        let judged = by_whom(by, reference, commit);
        let tag = reference.name.strip_prefix("refs/tags/").filter(|_| reference.peeled.is_some());
        let signer = signer(&self.store, tag.map(|name| (SEEN, name)), commit, by).await?;
        *lock(&self.vouched) = Some(judged);
        Ok(Some(signer))
    }

    /// Sees to it that somebody who counts by now vouches for the commit that lies in the tree. Where nobody does, it goes on being
    /// served, and is trouble.
    pub(super) async fn vouch(
        &self,
        ground: &Ground<'_>,
        remote: &Remote<'_>,
        reference: &Reference,
        placed: &str,
    ) -> Result<(), Stop> {
        let Some(by) = &self.settings.signed_by else { return Ok(()) };
        if lock(&self.vouched).as_ref() == Some(&by_whom(by, reference, placed)) {
            return Ok(());
        }
        if reference.peeled.is_some() {
            // The tag that is there now may be another than the one that the commit came by.
            self.fetch(ground, remote, reference, Some(placed)).await?;
        }
        match self.signer(reference, placed).await {
            Ok(signer) => {
                self.set(|status| {
                    if let Some(placed) = &mut status.placed {
                        placed.signed_by = signer;
                    }
                });
                Ok(())
            }
            Err(stop) => {
                let what =
                    format!("it serves, and {}: have it signed by somebody who counts, or serve another", stop.what);
                Err(Stop { what, lies: true, ..stop }.of(placed, reference))
            }
        }
    }
}

/// Tells one question from another: of which commit by which name, and what the files say of whose signature counts.
fn by_whom(by: &SignedBy, reference: &Reference, commit: &str) -> [u8; 32] {
    let mut digest = Sha256::new();
    for part in [&reference.name, &reference.object, commit] {
        digest.update(part);
        digest.update([0]);
    }
    for file in [&by.ssh, &by.gpg] {
        let content = file.as_deref().map(content);
        digest.update(format!("{content:?}"));
    }
    digest.finalize().into()
}

/// What is in a file, as a digest; nothing where it cannot be read.
fn content(file: &Path) -> Option<[u8; 32]> {
    let mut bytes = Vec::new();
    std::fs::File::open(file).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
    Some(Sha256::digest(&bytes).into())
}
