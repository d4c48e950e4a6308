//! A keyring holds the keys of one installation: the one that secrets are encrypted to, and those before it.

use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, BufReader, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::secrecy::ExposeSecret as _;
use age::x25519::{Identity, Recipient};
use age::{DecryptError, Decryptor, Encryptor};
use zeroize::Zeroizing;

use super::{Opened, SecretsError};
use crate::tree::ApiId;
use crate::tree::sealed::{LONGEST, Sealed};

/// The file beside `skep.yaml` that says whom secrets are encrypted to, one in a line. It holds nothing secret.
pub const RECIPIENTS: &str = "secrets.pub";

/// The first line of what is encrypted says for which API. What other tools encrypt may lack it.
const FOR: &str = "# secrets of ";

/// What stands before the recipient of a key that was forgotten, in the file of keys: whoever has that key may be named
/// still, in a tree from before.
const FORGOTTEN: &str = "# forgotten: ";

/// The keys of one installation, in a file that is read anew each time.
#[derive(Debug, Clone)]
pub struct Keyring {
    path: PathBuf,
}

/// Says that nobody else changes the keys of this installation, or what is encrypted to them, while it is there.
#[derive(Debug)]
pub struct Held {
    _file: fs::File,
}

impl Keyring {
    /// That of a state folder, whether there is one yet or not.
    #[must_use]
    pub fn of(state: &Path) -> Self {
        Self { path: state.join("secrets.key") }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a key.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Whom this installation has secrets encrypted to.
    ///
    /// # Errors
    /// Where there is no key, or it cannot be read.
    pub fn recipient(&self) -> Result<String, SecretsError> {
        Ok(self.read()?.first().ok_or_else(|| SecretsError::NoKey(self.path.clone()))?.to_public().to_string())
    }

    /// The recipients of all keys, the newest first.
    ///
    /// # Errors
    /// As [`Keyring::recipient`].
    pub fn recipients(&self) -> Result<Vec<String>, SecretsError> {
        Ok(self.read()?.iter().map(|key| key.to_public().to_string()).collect())
    }

    /// The recipients of keys that were this installation's before the newest, and are to be encrypted to no more: of those
    /// that it has still, and of those that were forgotten.
    ///
    /// # Errors
    /// As [`Keyring::recipient`].
    pub fn former(&self) -> Result<Vec<String>, SecretsError> {
        let (keys, mut forgotten) = self.read_all()?;
        forgotten.extend(keys.iter().skip(1).map(|key| key.to_public().to_string()));
        // A file that somebody has put together may have the newest twice.
        let newest = keys.first().map(|key| key.to_public().to_string());
        forgotten.retain(|former| Some(former) != newest.as_ref());
        Ok(forgotten)
    }

    /// Waits until nobody else changes these keys or what is encrypted to them, and keeps others from it until the answer is
    /// dropped. Has `wait` called where somebody else is at it.
    ///
    /// # Errors
    /// Where there is no state folder, or no file can be made in it.
    pub fn hold(&self, wait: impl FnOnce()) -> Result<Held, SecretsError> {
        let path = self.path.with_extension("lock");
        let hold = || -> io::Result<Held> {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    wait();
                    file.lock()?;
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            Ok(Held { _file: file })
        };
        hold().map_err(|source| SecretsError::Io { path: path.clone(), source })
    }

    /// Makes the first key, unless there is one. Whoever else makes one at once gets the same.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn make(&self) -> Result<String, SecretsError> {
        if !self.exists() {
            self.write(&[Identity::generate()], &[], |aside| match fs::hard_link(aside, &self.path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
                _ => fs::remove_file(aside),
            })?;
        }
        self.recipient()
    }

    /// Puts a new key before those that there are: secrets that were encrypted to them can be opened still.
    ///
    /// # Errors
    /// Where there is none yet, or it cannot be written.
    pub fn renew(&self, _held: &Held) -> Result<String, SecretsError> {
        let (mut keys, forgotten) = self.read_all()?;
        keys.insert(0, Identity::generate());
        self.write(&keys, &forgotten, |aside| fs::rename(aside, &self.path))?;
        self.recipient()
    }

    /// Keeps the newest key alone, and the file with those before it under another name: how many those are, and where.
    /// `None` where there are none.
    ///
    /// # Errors
    /// Where there is no key, or it cannot be written.
    pub fn forget_old(&self, _held: &Held) -> Result<Option<(usize, PathBuf)>, SecretsError> {
        let forgotten = self.former()?;
        let mut keys = self.read()?;
        let old = keys.len().saturating_sub(1);
        if old == 0 {
            return Ok(None);
        }
        keys.truncate(1);
        let mut kept = self.path.with_extension("key.old");
        for number in 2.. {
            match fs::hard_link(&self.path, &kept) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    kept = self.path.with_extension(format!("key.old.{number}"));
                }
                Err(source) => return Err(SecretsError::Io { path: kept, source }),
            }
        }
        self.write(&keys, &forgotten, |aside| fs::rename(aside, &self.path))?;
        Ok(Some((old, kept)))
    }

    /// Opens what was encrypted for an API.
    ///
    /// # Errors
    /// Where no key of this installation opens it, it was encrypted for another API, or there is no list of secrets in it.
    pub fn open(&self, id: &ApiId, sealed: &Sealed) -> Result<Opened, SecretsError> {
        let text = self.open_with(sealed, &self.read()?)?;
        match text.lines().next().and_then(|line| line.strip_prefix(FOR)).map(ApiId::new) {
            Some(Ok(other)) if other != *id => Err(SecretsError::Elsewhere(other)),
            _ => Opened::parse(&text),
        }
    }

    /// The same, for whichever API it was encrypted: for a person who looks through it.
    ///
    /// # Errors
    /// As [`Keyring::open`], but for the other API.
    pub fn open_any(&self, sealed: &Sealed) -> Result<Opened, SecretsError> {
        Opened::parse(&self.open_with(sealed, &self.read()?)?)
    }

    /// Whether only a key before the newest opens it. What no key opens needs none.
    ///
    /// # Errors
    /// Where the keys cannot be read.
    pub fn needs_old(&self, sealed: &Sealed) -> Result<bool, SecretsError> {
        let keys = self.read()?;
        Ok(self.open_with(sealed, &keys[..1]).is_err() && self.open_with(sealed, &keys).is_ok())
    }

    fn open_with(&self, sealed: &Sealed, keys: &[Identity]) -> Result<Zeroizing<String>, SecretsError> {
        let decryptor = Decryptor::new_buffered(BufReader::new(ArmoredReader::new(sealed.text().as_bytes())));
        let decryptor = decryptor.map_err(|_| SecretsError::Damaged)?;
        let identities = keys.iter().map(|key| -> &dyn age::Identity { key });
        let reader = decryptor.decrypt(identities).map_err(|error| match error {
            DecryptError::NoMatchingKeys | DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
                SecretsError::WrongKey(self.path.clone())
            }
            _ => SecretsError::Damaged,
        })?;
        let mut text = Zeroizing::new(String::with_capacity(sealed.text().len()));
        let read = reader.take(LONGEST as u64).read_to_string(&mut text);
        read.map_err(|_| SecretsError::Damaged)?;
        Ok(text)
    }

    /// Encrypts secrets for an API, to these recipients.
    ///
    /// # Errors
    /// Where there are none, or one is no recipient.
    pub fn seal(id: &ApiId, opened: &Opened, recipients: &[String]) -> Result<Sealed, SecretsError> {
        // What cannot be read again must not take the place of what can.
        if Opened::parse(&opened.text())? != *opened {
            return Err(SecretsError::NoList { line: 1 });
        }
        let no_recipient = || SecretsError::NoRecipient(RECIPIENTS.into());
        let parsed: Result<Vec<Recipient>, _> = recipients.iter().map(|text| text.parse()).collect();
        let parsed = parsed.map_err(|_| no_recipient())?;
        let recipients = parsed.iter().map(|recipient| -> &dyn age::Recipient { recipient });
        let encryptor = Encryptor::with_recipients(recipients).map_err(|_| no_recipient())?;
        let write = || -> io::Result<Vec<u8>> {
            let armor = ArmoredWriter::wrap_output(Vec::new(), Format::AsciiArmor)?;
            let mut writer = encryptor.wrap_output(armor)?;
            writer.write_all(format!("{FOR}{id}\n").as_bytes())?;
            writer.write_all(opened.text().as_bytes())?;
            writer.finish()?.finish()
        };
        let bytes = write().map_err(|source| SecretsError::Io { path: RECIPIENTS.into(), source })?;
        Ok(Sealed::of(&String::from_utf8_lossy(&bytes)))
    }

    fn read(&self) -> Result<Vec<Identity>, SecretsError> {
        Ok(self.read_all()?.0)
    }

    /// The keys, and the recipients of those that were forgotten.
    fn read_all(&self) -> Result<(Vec<Identity>, Vec<String>), SecretsError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => SecretsError::NoKey(self.path.clone()),
            _ => SecretsError::Io { path: self.path.clone(), source },
        };
        let mut file = fs::File::open(&self.path).map_err(failed)?;
        if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
            return Err(SecretsError::Exposed(self.path.clone()));
        }
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(failed)?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
        let bad = |number: usize| SecretsError::BadKey { path: self.path.clone(), line: number + 1 };
        let keys: Result<Vec<Identity>, _> =
            lines.map(|(number, line)| line.trim().parse().map_err(|_| bad(number))).collect();
        let keys = keys?;
        let forgotten = text.lines().filter_map(|line| line.strip_prefix(FORGOTTEN)).map(|name| name.trim().to_owned());
        // Anything else there is a note of somebody's, and would be taken for the beginning of any line.
        let forgotten: Vec<String> = forgotten.filter(|name| name.parse::<Recipient>().is_ok()).collect();
        if keys.is_empty() { Err(SecretsError::NoKey(self.path.clone())) } else { Ok((keys, forgotten)) }
    }

    /// Writes a file for its owner alone, and has it put in its place.
    fn write(
        &self,
        keys: &[Identity],
        forgotten: &[String],
        put: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), SecretsError> {
        let aside = self.path.with_extension(format!("key.{:016x}", rand::random::<u64>()));
        let mut text = Zeroizing::new(String::from(
            "# The keys of this installation's secrets, the newest first. Whoever has this file can read all secrets.\n",
        ));
        for key in keys {
            text.push_str(key.to_string().expose_secret());
            text.push('\n');
        }
        for recipient in forgotten {
            text.push_str(FORGOTTEN);
            text.push_str(recipient);
            text.push('\n');
        }
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            put(&aside)
        };
        write().map_err(|source| {
            let _ = fs::remove_file(&aside);
            SecretsError::Io { path: self.path.clone(), source }
        })
    }
}

/// The recipients that a tree names, in the order of its file; none where it has no such file.
///
/// # Errors
/// Where the file cannot be read, or a line of it is no recipient.
pub fn read_recipients(root: &Path) -> Result<Vec<String>, SecretsError> {
    let path = root.join(RECIPIENTS);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(SecretsError::Io { path, source }),
    };
    let mut recipients = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if line.parse::<Recipient>().is_err() {
            return Err(SecretsError::BadKey { path, line: number + 1 });
        }
        recipients.push(line.to_owned());
    }
    Ok(recipients)
}
