//! A source is one remote repository that is followed, settled: nothing of it is left open.

use std::path::PathBuf;

use super::remote::Protocol;
use super::report::ReportSettings;
use crate::tree::{Seconds, Size};

/// One remote repository that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullSource {
    /// What people call it, and what its webhook's path ends with.
    pub name: String,
    /// Where it is; without a password.
    pub url: String,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// What of it is followed.
    pub follows: Follows,
    /// The folder of API folders in it, without a slash at either end.
    pub folder: String,
    /// How often it is asked.
    pub every: Seconds,
    /// The most that it may send at once.
    pub max_size: Size,
    /// How skep gets in.
    pub access: Access,
    /// The secret that its webhooks are signed with; without one, no webhook is taken.
    pub webhook: Option<SecretPlace>,
    /// Who must have signed what is served.
    pub signed_by: Option<SignedBy>,
    /// Whether what hands changed here may be written over.
    pub overwrite: bool,
    /// Where its forge is told what became of commits.
    pub report: Option<ReportSettings>,
    /// Which of its pull requests are served; `None` serves none.
    pub previews: Option<SourcePreviews>,
}

/// Which pull requests of a source are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePreviews {
    /// Also those of other repositories, as anybody can make them.
    pub forks: bool,
}

/// What of a source is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follows {
    /// This branch.
    Branch(String),
    /// The highest tag of this pattern.
    Tags(String),
}

/// How skep gets into a remote repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// As anybody does.
    Open,
    /// With a name and a token, over HTTP.
    Token {
        /// The name.
        user: String,
        /// The token.
        token: SecretPlace,
    },
    /// With a key, over SSH, to a host that shows a known key itself.
    Key {
        /// The file of the private key.
        file: PathBuf,
        /// The file of the hosts' keys.
        known_hosts: PathBuf,
    },
}

/// Where a secret is: it is read each time that it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlace {
    /// In a variable of the environment.
    Env(String),
    /// In a file.
    File(PathBuf),
}

/// Who may sign. Either is enough.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SignedBy {
    /// A file of allowed signers, as `ssh-keygen` has it.
    pub ssh: Option<PathBuf>,
    /// A file of `OpenPGP` public keys.
    pub gpg: Option<PathBuf>,
}

/// Whether a source may be called that.
pub(super) fn is_name(name: &str) -> bool {
    (1..=40).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Whether a text is a pattern of tags that surprises nobody.
pub(super) fn is_pattern(text: &str) -> bool {
    (1..=200).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/*?-".contains(&byte))
        && !text.starts_with(['-', '.', '/'])
        && !text.contains("..")
        && !text.ends_with('/')
}

/// Whether a text is a folder below the root of a repository.
pub(super) fn is_folder(text: &str) -> bool {
    let is_part = |part: &str| {
        !matches!(part, "" | "." | ".." | ".git") && !part.chars().any(|c| c.is_control() || "*?[]\\:\"".contains(c))
    };
    text.len() <= 500 && text.split('/').all(is_part)
}
