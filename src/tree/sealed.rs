//! Sealed is what the tree has of an API's secrets: their encrypted file, which only the key of an installation opens.

use std::fmt;
use std::io::BufReader;
use std::sync::Arc;

use age::armor::ArmoredReader;
use age::{DecryptError, Decryptor};
use serde::{Deserialize, Serialize};

use super::diagnostic::{Diagnostic, code};
use super::revision::Digest;

/// What the file is called.
pub const FILE: &str = "secrets.age";

/// The most bytes of the file: it is kept with every revision.
pub const LONGEST: usize = 256 * 1024;

/// An encrypted file as text, as `age --armor` writes it. Records keep this, and never what is in it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(Arc<str>);

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({:?})", self.digest())
    }
}

impl Sealed {
    /// Takes a text for what was encrypted, unlooked at.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(text.into())
    }

    /// Reads the file, without a key: whether it is one that some key opens. `None` with a finding.
    #[must_use]
    pub fn read(path: &str, text: &str, findings: &mut Vec<Diagnostic>) -> Option<Self> {
        // No excerpt: somebody may have saved secrets here without encrypting them.
        let mut refuse = |code, message: String, hint: &str| {
            findings.push(Diagnostic::error(code, path, message, hint));
            None
        };
        if text.len() > LONGEST {
            let message = format!("{} KiB of secrets, at most {} are taken", text.len() / 1024, LONGEST / 1024);
            return refuse(code::OUT_OF_BOUNDS, message, "put large files where the app can fetch them");
        }
        if !text.trim_start().starts_with("-----BEGIN AGE ENCRYPTED FILE-----") {
            let message = "not encrypted as it should be".to_owned();
            let hint = "write it with `skep secrets set`, or with age --armor; if secrets stand in it, they are known now: \
                        choose others";
            return refuse(code::BAD_SECRETS, message, hint);
        }
        match Decryptor::new_buffered(BufReader::new(ArmoredReader::new(text.as_bytes()))) {
            Ok(decryptor) if decryptor.is_scrypt() => {
                let message = "encrypted with a passphrase, which no daemon can be asked for".to_owned();
                refuse(code::BAD_SECRETS, message, "encrypt it to what `skep secrets key` prints")
            }
            Ok(_) => Some(Self::of(text)),
            Err(DecryptError::UnknownFormat) => {
                let hint = "write it with `skep secrets set`, or with age 1.0 or later";
                refuse(code::BAD_SECRETS, "encrypted in a format that is not known here".to_owned(), hint)
            }
            Err(_) => refuse(code::BAD_SECRETS, "damaged".to_owned(), "bring the file back as it was written"),
        }
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Of the encrypted text: another each time that it is encrypted.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }
}
