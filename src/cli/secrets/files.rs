//! The files that `skep secrets` reads and writes: those of the tree, and the key of the installation.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::cli::write::replace;
use crate::installation::Installation;
use crate::secrets::{Held, Keyring, Opened, RECIPIENTS, SecretsError, read_recipients};
use crate::settings::Settings;
use crate::tree::sealed::{self, Sealed};
use crate::tree::{ApiId, Scanner};

/// What stands at the top of the file of recipients.
const HEAD: &str = "# Whom the secrets of this tree are encrypted to: see docs/secrets.md of skep. Nothing in here is secret.\n\
                    # After a change: skep secrets rotate --keep-key\n";

/// A tree and a key, which need not be of the same installation.
pub(super) struct Files {
    pub(super) settings: Settings,
    pub(super) keyring: Keyring,
}

impl Files {
    /// Those of the tree at `root`, and of the state folder that the settings name.
    pub(super) fn of(root: &Path) -> anyhow::Result<Self> {
        let root = root.canonicalize().with_context(|| format!("cannot use {} as the root", root.display()))?;
        let settings = Settings::load(&root, |name| std::env::var(name).ok())?;
        let keyring = Keyring::of(&settings.state);
        Ok(Self { settings, keyring })
    }

    /// Keeps others from changing keys or secrets of this installation until the answer is dropped. Makes the state folder
    /// where there is none, so that nobody else can read it.
    pub(super) fn hold(&self) -> anyhow::Result<Held> {
        Installation::open(&self.settings)?;
        let wait = || anstream::eprintln!("waiting for another `skep secrets`, which may have an editor open");
        Ok(self.keyring.hold(wait)?)
    }

    /// The APIs that have secrets.
    pub(super) fn with_secrets(&self) -> anyhow::Result<Vec<ApiId>> {
        let entries = fs::read_dir(&self.settings.apis);
        let entries = entries.with_context(|| format!("cannot read {}", self.settings.apis.display()))?;
        let names = entries.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut ids: Vec<ApiId> = names.filter_map(|name| ApiId::new(&name).ok()).collect();
        ids.retain(|id| fs::symlink_metadata(self.path(id)).is_ok_and(|found| found.is_file()));
        ids.sort();
        Ok(ids)
    }

    /// The secrets of an API; `None` where it has none.
    pub(super) fn open(&self, id: &ApiId) -> anyhow::Result<Option<Opened>> {
        let Some(sealed) = self.sealed(id)? else { return Ok(None) };
        let opened = self.keyring.open(id, &sealed).with_context(|| Self::shown(id))?;
        Ok(Some(opened))
    }

    /// The encrypted secrets of an API; `None` where it has none.
    pub(super) fn sealed(&self, id: &ApiId) -> anyhow::Result<Option<Sealed>> {
        let folder = self.settings.apis.join(id.as_str());
        if !folder.is_dir() {
            bail!("there is no API {id}: {} is no folder", folder.display());
        }
        let path = self.path(id);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Ok(found) if !found.is_file() => bail!("{} is no file; put the file itself there", path.display()),
            _ => {}
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Some(Sealed::of(&text)))
    }

    /// Writes the secrets of an API, encrypted to everybody who is to read them.
    pub(super) fn seal(&self, id: &ApiId, opened: &Opened, held: &Held) -> anyhow::Result<()> {
        if opened.names().next().is_none() {
            return fs::remove_file(self.path(id)).with_context(|| format!("cannot remove {}", Self::shown(id)));
        }
        let sealed = Keyring::seal(id, opened, &self.recipients(held)?)?;
        replace(&self.path(id), sealed.text())
    }

    /// Everybody whom the tree names, and this installation where it has a key. Where there is nobody yet, the
    /// installation gets a key.
    fn recipients(&self, held: &Held) -> anyhow::Result<Vec<String>> {
        self.leave_out_old(held)?;
        let mut recipients = read_recipients(&self.settings.root)?;
        let own = match self.keyring.recipient() {
            Ok(own) => own,
            Err(SecretsError::NoKey(_)) if !recipients.is_empty() => return Ok(recipients),
            Err(SecretsError::NoKey(_)) => {
                let own = self.keyring.make()?;
                self.name_recipient(&own, held)?;
                anstream::eprintln!(
                    "made {}; keep a copy of it where only you can read it, and commit {RECIPIENTS}",
                    self.keyring.path().display()
                );
                own
            }
            Err(error) => return Err(error.into()),
        };
        if !recipients.contains(&own) {
            recipients.push(own);
        }
        Ok(recipients)
    }

    /// Puts the key of this installation in the place of those before it, where the tree names one of them: whoever has
    /// seen such a key must not read what is encrypted from now on. A tree that pushes come into has its file of
    /// recipients from before a rotation, since a push brings APIs alone. Others stay.
    pub(super) fn leave_out_old(&self, _held: &Held) -> anyhow::Result<()> {
        let former = match self.keyring.former() {
            Err(SecretsError::NoKey(_)) => return Ok(()),
            former => former?,
        };
        let named = read_recipients(&self.settings.root)?;
        let count = named.iter().filter(|name| former.contains(name)).count();
        if count > 0 {
            self.replace_recipients(&self.public()?, &former, &self.keyring.recipient()?)?;
            anstream::eprintln!(
                "{RECIPIENTS} named {count} of this installation's keys from before a rotation; now it names the one that \
                 there is, and nothing is encrypted to the old any more: commit it where it is under version control"
            );
        }
        Ok(())
    }

    /// Adds a recipient to those that the tree names; whether it was not among them. Only the first adds itself: who else
    /// may read the secrets, somebody decides who can already.
    pub(super) fn name_recipient(&self, recipient: &str, _held: &Held) -> anyhow::Result<bool> {
        let public = self.public()?;
        if !read_recipients(&self.settings.root)?.is_empty() {
            return Ok(false);
        }
        replace(&self.settings.root.join(RECIPIENTS), &format!("{public}{recipient}\n"))?;
        Ok(true)
    }

    /// The tree's file of recipients, each line of which is one or a note; its head where there is no such file yet.
    pub(super) fn public(&self) -> anyhow::Result<String> {
        read_recipients(&self.settings.root)?;
        let path = self.settings.root.join(RECIPIENTS);
        match fs::read_to_string(&path) {
            Ok(text) if text.is_empty() => Ok(HEAD.to_owned()),
            Ok(text) if text.ends_with('\n') => Ok(text),
            Ok(text) => Ok(text + "\n"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(HEAD.to_owned()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Puts a recipient in the place of others in the tree's file, which was `public`, and whose other lines stay.
    pub(super) fn replace_recipients(&self, public: &str, old: &[String], new: &str) -> anyhow::Result<()> {
        let is_old = |line: &str| old.iter().any(|old| line.trim_start().starts_with(old.as_str()));
        let mut lines: Vec<&str> = public.lines().collect();
        let place = lines.iter().position(|line| is_old(line)).unwrap_or(lines.len());
        if !lines.iter().any(|line| line.trim_start().starts_with(new)) {
            lines.insert(place, new);
        }
        lines.retain(|line| !is_old(line));
        replace(&self.settings.root.join(RECIPIENTS), &(lines.join("\n") + "\n"))
    }

    /// Whether one of these is a variable of `api.yaml` too.
    pub(super) fn check_variables<'a>(
        &self,
        id: &ApiId,
        names: impl IntoIterator<Item = &'a str>,
    ) -> anyhow::Result<()> {
        let look = Scanner::new(&self.settings)?.read_folders(&BTreeSet::from([id.clone()]))?;
        let Some(api) = look.tree.sound(id) else { return Ok(()) };
        match names.into_iter().find(|name| api.spec.env.contains_key(*name)) {
            Some(name) => bail!("{name} is a variable of {id} too (`env`); give one of them another name"),
            None => Ok(()),
        }
    }

    fn path(&self, id: &ApiId) -> PathBuf {
        self.settings.apis.join(id.as_str()).join(sealed::FILE)
    }

    fn shown(id: &ApiId) -> String {
        format!("apis/{id}/{}", sealed::FILE)
    }
}
