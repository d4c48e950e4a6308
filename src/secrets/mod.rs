//! Secrets are what an app is given and nobody else may read: encrypted in the tree and in the records, opened in memory
//! when an instance starts, and handed to it.

mod keyring;
mod opened;

use std::path::PathBuf;

use crate::tree::ApiId;

pub use keyring::{Held, Keyring, RECIPIENTS, read_recipients};
pub use opened::{Opened, check_name, check_value};

/// Why secrets could not be had. No variant holds anything of what is secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// This host has no key.
    #[error("there is no key of secrets at {0}; bring it from where they were encrypted, or run: skep secrets key")]
    NoKey(PathBuf),
    /// The key of this host opens something else.
    #[error(
        "it is encrypted to other keys than that of this host ({0}); encrypt it to what `skep secrets key` prints, or bring \
         the right key"
    )]
    WrongKey(PathBuf),
    /// The encrypted text is not what was written.
    #[error("it is damaged; bring the file back as it was written")]
    Damaged,
    /// It was written for another API: whoever may put a file beside one app must not get what another is given.
    #[error("it was encrypted for the API {0}; to use it here as well, look through it with: skep secrets edit")]
    Elsewhere(ApiId),
    /// What was encrypted is no list of secrets.
    #[error("what is encrypted in it is not a list of NAME: value (line {line}); mend it with: skep secrets edit")]
    NoList {
        /// From 1, of the opened text.
        line: u32,
    },
    /// A secret that cannot be handed over, among those that were encrypted. What stands for its name may be a value that
    /// somebody has put into the wrong place.
    #[error("line {line} of what is encrypted in it cannot be handed over: {reason}; mend it with: skep secrets edit")]
    BadLine {
        /// From 1, of the opened text.
        line: u32,
        /// Why not.
        reason: String,
    },
    /// A name that no secret may have.
    #[error("{name} cannot be the name of a secret: {reason}")]
    BadName {
        /// Which one.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A value that cannot be handed over.
    #[error("the value of {name} cannot be handed over: {reason}")]
    BadValue {
        /// Whose.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A key file that others can read.
    #[error("{0} can be read by others than its owner; change the key, and run: chmod 600 {0}")]
    Exposed(PathBuf),
    /// A key file that holds something else.
    #[error("{path}:{line} is no key; bring the file back as it was")]
    BadKey {
        /// Which file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// Nobody to encrypt to.
    #[error("there is nobody to encrypt to: {0} names no recipient; run: skep secrets key")]
    NoRecipient(PathBuf),
    /// The operating system refused.
    #[error("cannot use {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

#[cfg(test)]
mod tests;
