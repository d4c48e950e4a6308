//! A difference is which folders one commit has otherwise than another, by the names of git's objects alone.

use std::collections::BTreeSet;

use super::store::WITHIN;
use super::{GitError, Repository};

/// What git is asked. Of submodules too, whatever the commit's own settings say of them.
const ASKED: [&str; 8] = [
    "diff-tree",
    "-z",
    "--raw",
    "--no-renames",
    "--no-abbrev",
    "--no-ext-diff",
    "--ignore-submodules=none",
    "--end-of-options",
];

/// What one commit has otherwise than another.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The folders that it has otherwise than the one before, or that this one has not.
    pub changed: BTreeSet<String>,
    /// The folders that it has no more.
    pub gone: BTreeSet<String>,
}

/// A folder of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The commit.
    pub commit: &'a str,
    /// The folder in it, from the root of the repository.
    pub folder: &'a str,
}

impl Repository {
    /// What is right below `after` otherwise than below `before`. Plain files there are named too, so that whoever compares sees
    /// them come and go.
    ///
    /// Git compares the two lists of names and says only where they part: among ten thousand folders, those that are the same
    /// cost nothing that we do.
    ///
    /// # Errors
    /// Where git cannot say.
    pub async fn difference(&self, before: Option<Place<'_>>, after: Place<'_>) -> Result<Difference, GitError> {
        if let Some(before) = before {
            let tree = |place: Place<'_>| format!("{}:{}", place.commit, place.folder);
            match self.ask(&[&ASKED[..], &[&tree(before), &tree(after)]].concat(), WITHIN).await {
                Ok(printed) => return Ok(Difference::read(&String::from_utf8_lossy(&printed))),
                // One of the two has no such folder, which the lists show as well.
                Err(GitError::Failed { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let old = match before {
            Some(before) => self.folders(before.commit, before.folder).await?,
            None => super::export::Folders::new(),
        };
        let new = self.folders(after.commit, after.folder).await?;
        let changed = new.iter().filter(|(name, object)| old.get(*name) != Some(object));
        let gone = old.keys().filter(|name| !new.contains_key(*name));
        Ok(Difference { changed: changed.map(|(name, _)| name.clone()).collect(), gone: gone.cloned().collect() })
    }
}

impl Difference {
    /// Of what `diff-tree -z --raw` prints: `:mode mode object object status`, and a name.
    fn read(printed: &str) -> Self {
        let mut difference = Self::default();
        let mut parts = printed.split('\0');
        while let (Some(head), Some(name)) = (parts.next(), parts.next()) {
            let words: Vec<&str> = head.split(' ').collect();
            let [_, _, before, after, status] = words[..] else { continue };
            // A mode alone is nothing that is placed.
            if status == "D" {
                difference.gone.insert(name.to_owned());
            } else if before != after {
                difference.changed.insert(name.to_owned());
            }
        }
        difference
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(of: &BTreeSet<String>) -> Vec<&str> {
        of.iter().map(String::as_str).collect()
    }

    #[test]
    fn what_git_prints_is_read_and_a_mode_alone_is_no_difference() {
        let (a, b, none) = ("a".repeat(40), "b".repeat(40), "0".repeat(40));
        let printed = format!(
            ":040000 040000 {a} {b} M\0one\0:000000 040000 {none} {a} A\0two words\0:040000 000000 {a} {none} D\0three\0\
             :100644 100755 {a} {a} M\0four\0:100644 120000 {a} {b} T\0five\0"
        );
        let read = Difference::read(&printed);
        assert_eq!(names(&read.changed), ["five", "one", "two words"]);
        assert_eq!(names(&read.gone), ["three"]);
        assert_eq!(Difference::read(""), Difference::default());
    }

    #[tokio::test]
    async fn the_short_way_and_the_long_one_say_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let git = |arguments: &[&str]| {
            let mut git = std::process::Command::new("git");
            git.current_dir(root).args(["-c", "user.name=Ada", "-c", "user.email=a@example.com"]).args(arguments);
            assert!(git.output().unwrap().status.success());
        };
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        git(&["init", "--quiet"]);
        for (path, text) in
            [("apis/a/main.py", "1"), ("apis/b/main.py", "1"), ("apis/c/main.py", "1"), ("apis/file", "1")]
        {
            write(path, text);
        }
        git(&["add", "."]);
        git(&["commit", "-q", "-m", "one"]);
        write("apis/b/main.py", "2");
        write("apis/d e/main.py", "1");
        write("apis/file", "2");
        std::fs::remove_dir_all(root.join("apis/c")).unwrap();
        git(&["add", "-A"]);
        git(&["commit", "-q", "-m", "two"]);
        git(&["mv", "apis", "services"]);
        git(&["commit", "-q", "-m", "three"]);

        let repository = Repository::at(root);
        let place = |commit, folder| Place { commit, folder };
        let between = |before, after| repository.difference(Some(before), after);
        let two = between(place("HEAD~2", "apis"), place("HEAD~1", "apis")).await.unwrap();
        assert_eq!((names(&two.changed), names(&two.gone)), (vec!["b", "d e", "file"], vec!["c"]));
        // Under another name the same folders are no others.
        assert_eq!(between(place("HEAD~2", "apis"), place("HEAD", "services")).await.unwrap(), two);
        assert_eq!(between(place("HEAD~1", "apis"), place("HEAD", "services")).await.unwrap(), Difference::default());
        // Of what has no such folder, all is new, or all is gone.
        let all = ["a", "b", "d e", "file"];
        let moved = between(place("HEAD", "apis"), place("HEAD~1", "apis")).await.unwrap();
        assert_eq!((names(&moved.changed), names(&moved.gone)), (all.to_vec(), vec![]));
        let moved = between(place("HEAD~1", "apis"), place("HEAD", "apis")).await.unwrap();
        assert_eq!((names(&moved.changed), names(&moved.gone)), (vec![], all.to_vec()));
        assert_eq!(repository.difference(None, place("HEAD", "services")).await.unwrap().changed.len(), 4);
        assert!(between(place("HEAD~9", "apis"), place("HEAD", "services")).await.is_err());
    }
}
