//! What is offered is the last commit of a pull request. It is fetched into a store of its own, with as much of its past as it
//! takes to know where it began.

use std::collections::BTreeSet;

use super::remote::{ASKED, Reference, Remote, RemoteError, read_references};
use super::store::{REMOTE, Store, WITHIN};
use super::{GitError, Input, run};
use crate::tree::PullRequest;

/// How much of the past is fetched, step by step: most pull requests began a few commits ago.
const DEPTHS: [&str; 3] = ["--depth=20", "--depth=200", "--depth=2000"];

/// What serves, as it was fetched beside what is offered.
const FOLLOWED: &str = "refs/skep/followed";

impl Remote<'_> {
    /// What the remote has by these names.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub async fn named(&self, names: &[String]) -> Result<Vec<Reference>, RemoteError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut arguments = vec!["ls-remote", "--quiet", "--", self.source.url.as_str()];
        arguments.extend(names.iter().map(String::as_str));
        let git = self.way.command(std::path::Path::new("/"), self.most(), &arguments);
        let ran = self.good("ls-remote", run(git, "ls-remote", ASKED, Input::Group("")).await?)?;
        let wanted: BTreeSet<&String> = names.iter().collect();
        // It also answers with names of which these are the ends.
        let all = read_references(&String::from_utf8_lossy(&ran.out));
        Ok(all.into_iter().filter(|reference| wanted.contains(&reference.name)).collect())
    }

    /// Fetches a pull request. Answers with the last commit that it has in common with `serving`, which came by `followed`; `None`
    /// where there is none.
    ///
    /// # Errors
    /// Where the remote cannot be asked, or sends what it may not.
    pub async fn fetch_offer(
        &self,
        pull_request: PullRequest,
        head: &Reference,
        followed: &str,
        serving: &str,
    ) -> Result<Option<String>, RemoteError> {
        self.store.prepare_to_fetch(&self.source.url, head.object.len()).await?;
        let (followed, offered) = (format!("+{followed}:{FOLLOWED}"), format!("+{}:{}", head.name, name(pull_request)));
        let is_shallow = || self.store.folder().join("shallow").exists();
        for depth in DEPTHS.into_iter().chain(["--unshallow"]) {
            let is_all = depth == "--unshallow";
            let depth = Some(depth).filter(|_| !is_all || is_shallow());
            let fetched = self.fetch_both(depth, "--filter=blob:none", &followed, &offered).await;
            match fetched {
                // What an old server does not know is done without.
                Err(RemoteError::Away(_)) => self.fetch_both(depth, "--no-filter", &followed, &offered).await?,
                other => other?,
            }
            let base = self.store.repository().merge_base(serving, &head.object).await?;
            if base.is_some() {
                return Ok(base);
            }
            if !is_shallow() {
                break;
            }
        }
        Ok(None)
    }

    /// Whether a commit is part of `serving`, which came by `followed`: as far as its last commits say, which are fetched where
    /// they are not here.
    ///
    /// # Errors
    /// Where the remote cannot be asked.
    pub async fn is_part_of_followed(&self, commit: &str, followed: &str, serving: &str) -> Result<bool, RemoteError> {
        self.store.prepare_to_fetch(&self.source.url, serving.len()).await?;
        if self.store.resolve(serving).await?.is_none() {
            let to = format!("+{followed}:{FOLLOWED}");
            let fetch = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head"];
            let last = |filter: &'static str| [&fetch[..], &[DEPTHS[0], filter, REMOTE, &to]].concat();
            match self.fetched(&last("--filter=blob:none"), "").await {
                Err(RemoteError::Away(_)) => self.fetched(&last("--no-filter"), "").await?,
                other => other?,
            }
        }
        Ok(self.store.repository().is_part_of(commit, serving).await?)
    }

    async fn fetch_both(
        &self,
        depth: Option<&str>,
        filter: &str,
        followed: &str,
        offered: &str,
    ) -> Result<(), RemoteError> {
        let mut arguments = vec!["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", filter];
        arguments.extend(depth);
        arguments.extend([REMOTE, followed, offered]);
        self.fetched(&arguments, "").await
    }

    /// Forgets what was fetched of a pull request.
    ///
    /// # Errors
    /// Where git cannot be run.
    pub async fn forget_offer(store: &Store, pull_request: PullRequest) -> Result<(), GitError> {
        if store.is_there() {
            store.repository().ask(&["update-ref", "-d", &name(pull_request)], WITHIN).await?;
        }
        Ok(())
    }
}

/// The name of what was fetched of a pull request.
fn name(pull_request: PullRequest) -> String {
    format!("refs/skep/offered/{pull_request}")
}
