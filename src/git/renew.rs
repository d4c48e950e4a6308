//! A store is renewed when it has grown too large: what is still needed of it is copied into a new one, which takes its place.
//!
//! Git itself takes nothing out of a store that has been fetched in part, since all in it was promised by the remote. So what a
//! forced push has left behind would stay for ever.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::remote::SEEN;
use super::scratch::Scratch;
use super::store::{PLACED, Store, WITHIN};
use super::{GitError, Input, Repository, run};

/// How long copying may take.
const COPIED: Duration = Duration::from_secs(15 * 60);

/// What the new store is called while it is made.
const ASIDE: &str = "git-new-";

/// The file in a store that says how many bytes it had when it was new.
const RENEWED: &str = "renewed";

/// What is copied as it is, besides objects and names.
const FILES: [&str; 3] = ["config", "whole", "placed-folder"];

impl Store {
    /// Whether it has more bytes than `most`, and twice as many as when it was new.
    #[must_use]
    pub fn is_large(&self, most: u64) -> bool {
        let renewed = fs::read_to_string(self.folder().join(RENEWED)).ok().and_then(|text| text.parse().ok());
        size(&self.folder().join("objects")) > most.max(2 * renewed.unwrap_or(0))
    }

    /// Copies what is needed into a new store, which takes this one's place in one moment: the commit that was placed, the one
    /// that was fetched last, their trees and such of their files as are here. The history of both stays where it takes less
    /// than half of `most` bytes, without its files. Answers with how many bytes it has now.
    ///
    /// To be called while nobody else writes to it. Whoever reads it just then may have to read again.
    ///
    /// # Errors
    /// Where git cannot say what is needed, or it cannot be written: then it stays as it is.
    pub async fn renew(&self, most: u64) -> Result<u64, GitError> {
        let folder = self.folder();
        let io = |source| GitError::Io { path: folder.to_owned(), source };
        let mut names = Vec::new();
        for name in [PLACED, SEEN] {
            // As it is, a commit or a tag.
            let asked = ["rev-parse", "--verify", "--quiet", name];
            match self.repository().ask(&asked, WITHIN).await {
                Ok(object) => names.push((name, String::from_utf8_lossy(&object).trim().to_owned())),
                Err(GitError::Failed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let tips: Vec<&str> = names.iter().map(|(_, object)| object.as_str()).collect();
        let mut needed = listed(self.repository(), &["--no-walk"], &tips).await?;
        needed.extend(tips.iter().map(|tip| (*tip).to_owned()));
        let mut history = listed(self.repository(), &["--filter=blob:none"], &tips).await?;
        history.extend(needed.iter().cloned());

        let beside = folder.parent().unwrap_or(folder);
        let aside = Scratch::new(beside, ASIDE).map_err(io)?;
        let ends = fs::read_to_string(folder.join("shallow")).unwrap_or_default();
        let ends: Vec<&str> = ends.lines().filter(|end| history.contains(*end)).collect();
        let mut new = self.copy(&aside.path().join("whole"), &history, &ends).await?;
        if size(&new.folder().join("objects")) > most / 2 {
            let mut ends = Vec::new();
            for tip in &tips {
                ends.extend(self.resolve(tip).await?);
            }
            let ends: Vec<&str> = ends.iter().map(String::as_str).collect();
            new = self.copy(&aside.path().join("tips"), &needed, &ends).await?;
        }
        for (name, object) in &names {
            new.move_ref(name, object, None).await?;
        }
        // Whatever it was that went wrong: a store that lacks something is not put into the place of one that has it.
        let mut there = listed(new.repository(), &["--no-walk"], &tips).await?;
        there.extend(tips.iter().map(|tip| (*tip).to_owned()));
        if there != needed {
            let said = format!("{} of {} objects are in the new store", there.len(), needed.len());
            return Err(GitError::Failed { action: "pack-objects".to_owned(), said });
        }
        let size = size(&new.folder().join("objects"));
        fs::write(new.folder().join(RENEWED), size.to_string()).map_err(io)?;
        renameat_with(CWD, new.folder(), CWD, folder, RenameFlags::EXCHANGE).map_err(|errno| io(errno.into()))?;
        Ok(size)
    }

    /// Makes a store with these objects of this one, whose history ends with these commits.
    async fn copy(&self, folder: &Path, objects: &BTreeSet<String>, ends: &[&str]) -> Result<Self, GitError> {
        let io = |source| GitError::Io { path: folder.to_owned(), source };
        let config = fs::read_to_string(self.folder().join("config")).map_err(io)?;
        let new = Self::at(folder);
        new.make(if config.contains("objectFormat = sha256\n") { "sha256" } else { "sha1" }).await?;
        for file in FILES {
            match fs::copy(self.folder().join(file), folder.join(file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
                _ => {}
            }
        }
        if !ends.is_empty() {
            fs::write(folder.join("shallow"), ends.iter().map(|end| format!("{end}\n")).collect::<String>())
                .map_err(io)?;
        }
        let packs = folder.join("objects/pack");
        fs::create_dir_all(&packs).map_err(io)?;
        let lines: String = objects.iter().map(|object| format!("{object}\n")).collect();
        let mut git = self.repository().command(["pack-objects", "--quiet"]);
        git.arg(packs.join("pack")).process_group(0);
        let names = run(git, "pack-objects", COPIED, Input::Group(&lines)).await?.good("pack-objects")?;
        for name in String::from_utf8_lossy(&names).lines() {
            // What they name and is not here, the remote has promised.
            fs::write(packs.join(format!("pack-{name}.promisor")), "").map_err(io)?;
        }
        Ok(new)
    }
}

/// The objects that are here of what these stand for.
async fn listed(repository: &Repository, options: &[&str], tips: &[&str]) -> Result<BTreeSet<String>, GitError> {
    let fixed = ["rev-list", "--objects", "--no-object-names", "--missing=allow-any"];
    let list = run(repository.command([&fixed[..], options, tips].concat()), "rev-list", COPIED, Input::None).await?;
    Ok(String::from_utf8_lossy(&list.good("rev-list")?).lines().map(str::to_owned).collect())
}

/// How many bytes the files below a folder have.
fn size(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.filter_map(Result::ok).map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
