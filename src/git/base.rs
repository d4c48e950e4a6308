//! The base of a pull request is the last commit that it has in common with what it is to be merged into.

use std::collections::BTreeSet;

use super::store::WITHIN;
use super::{GitError, Repository};
use crate::tree::ApiId;

impl Repository {
    /// The last commit that two have in common, as far as is known here; `None` where there is none.
    ///
    /// # Errors
    /// Where git cannot be run.
    pub async fn merge_base(&self, one: &str, other: &str) -> Result<Option<String>, GitError> {
        match self.ask(&["merge-base", "--end-of-options", one, other], WITHIN).await {
            Ok(printed) => Ok(String::from_utf8_lossy(&printed).lines().next().map(ToOwned::to_owned)),
            Err(GitError::Failed { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a commit is one that another was made after, as far as is known here.
    ///
    /// # Errors
    /// Where git cannot be run.
    pub async fn is_part_of(&self, commit: &str, whole: &str) -> Result<bool, GitError> {
        match self.ask(&["merge-base", "--is-ancestor", "--end-of-options", commit, whole], WITHIN).await {
            Ok(_) => Ok(true),
            Err(GitError::Failed { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The API folders below `prefix` that `head` has otherwise than `base`, or that are new with it.
    ///
    /// # Errors
    /// Where git cannot say.
    pub async fn changed(&self, base: &str, head: &str, prefix: &str) -> Result<BTreeSet<ApiId>, GitError> {
        let before = self.folders(base, prefix).await?;
        let after = self.folders(head, prefix).await?;
        let changed = after.iter().filter(|(name, object)| before.get(*name) != Some(object));
        Ok(changed.filter_map(|(name, _)| ApiId::new(name).ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_a_pull_request_changes_is_what_differs_from_where_it_began() {
        let folder = tempfile::tempdir().unwrap();
        let repository = Repository::at(folder.path());
        let git = |arguments: &[&str]| {
            let mut git = std::process::Command::new("git");
            git.current_dir(folder.path()).args(["-c", "user.name=Ada", "-c", "user.email=a@example.com"]);
            let ran = git.args(arguments).output().unwrap();
            assert!(ran.status.success(), "{ran:?}");
            String::from_utf8(ran.stdout).unwrap().trim().to_owned()
        };
        let commit = |files: &[(&str, &str)]| {
            for (path, text) in files {
                let path = folder.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            git(&["add", "-A"]);
            git(&["commit", "--quiet", "-m", "x"]);
            git(&["rev-parse", "HEAD"])
        };
        git(&["init", "--quiet", "-b", "main"]);
        let begun = commit(&[("apis/a/main.py", "1"), ("apis/b/main.py", "1"), ("apis/README.md", "1")]);
        git(&["checkout", "--quiet", "-b", "pr"]);
        let head = commit(&[("apis/a/main.py", "2"), ("apis/c/main.py", "1"), ("apis/README.md", "2")]);
        git(&["checkout", "--quiet", "main"]);
        let main = commit(&[("apis/b/main.py", "2")]);
        let base = repository.merge_base(&main, &head).await.unwrap().unwrap();
        assert_eq!(base, begun);
        let changed = repository.changed(&base, &head, "apis").await.unwrap();
        assert_eq!(changed.iter().map(ApiId::as_str).collect::<Vec<_>>(), ["a", "c"], "and not b, which moved on");
        assert!(repository.is_part_of(&begun, &main).await.unwrap());
        assert!(!repository.is_part_of(&head, &main).await.unwrap());
        assert_eq!(repository.merge_base(&main, &"0".repeat(40)).await.unwrap(), None);
    }
}
