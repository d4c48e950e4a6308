//! A signature says who vouches for a commit or a tag. Whose counts is said by files of this host, never by the repository.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

use super::scratch::Scratch;
use super::store::Store;
use super::{GitError, Input, run};
use crate::settings::SignedBy;

/// How long checking may take.
const WITHIN: Duration = Duration::from_secs(30);

/// What folders are called in which `OpenPGP` keys are laid out for a check.
const KEYS: &str = "keys-";

/// Why a commit is not known to be signed by whom it should be.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// Nobody signed it.
    #[error("it is not signed")]
    None,
    /// Somebody did whom the settings do not name, or the signature is no good.
    #[error("its signature does not count: {0}")]
    Bad(String),
    /// What it should be checked with cannot be used.
    #[error("cannot check its signature: {0}")]
    Unready(String),
    /// Git could not be asked.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// Who signed a commit, or the tag that it was fetched by: an object, and the name that the remote has it by. A signed tag says
/// its own name, so that nobody can give out an old version as a new one.
///
/// # Errors
/// Where nobody did who counts, and where that cannot be checked.
pub async fn signer(
    store: &Store,
    tag: Option<(&str, &str)>,
    commit: &str,
    by: &SignedBy,
) -> Result<String, SignatureError> {
    let keys = keys(store, by).await?;
    if let Some((tag, name)) = tag {
        match verify(store, ("verify-tag", tag), by, keys.path()).await {
            Err(SignatureError::None) => {}
            Ok(signer) => {
                let object = store.repository().ask(&["cat-file", "tag", tag], super::store::WITHIN).await?;
                let signed = tag_name(&object).unwrap_or_default();
                if signed == name.as_bytes() {
                    return Ok(signer);
                }
                let signed: String = String::from_utf8_lossy(signed).chars().filter(|c| !c.is_control()).collect();
                return Err(SignatureError::Bad(format!("what was signed as tag {signed} is given out as {name}")));
            }
            Err(error) => return Err(error),
        }
    }
    verify(store, ("verify-commit", commit), by, keys.path()).await
}

async fn verify(
    store: &Store,
    (action, object): (&str, &str),
    by: &SignedBy,
    keys: &Path,
) -> Result<String, SignatureError> {
    let ssh = match &by.ssh {
        Some(file) if !file.is_file() => {
            return Err(SignatureError::Unready(format!("there is no file {}", file.display())));
        }
        Some(file) => file.as_path(),
        // Nobody.
        None => Path::new("/dev/null"),
    };
    let signers = format!("gpg.ssh.allowedSignersFile={}", ssh.display());
    let mut git = store.repository().command([
        "-c",
        &signers,
        "-c",
        "gpg.minTrustLevel=undefined",
        "-c",
        "gpg.program=gpg",
        "-c",
        "gpg.ssh.program=ssh-keygen",
        "-c",
        "gpg.ssh.revocationFile=",
        "-c",
        "gpg.x509.program=false",
        action,
        "--raw",
        object,
    ]);
    git.env("GNUPGHOME", keys);
    let ran = run(git, action, WITHIN, Input::None).await?;
    let said = ran.said.as_str();
    if ran.is_good() {
        return Ok(name(said));
    }
    if said.contains("No principal matched") {
        let key = said.lines().find_map(|line| line.split(" with ").nth(1)).unwrap_or("a key").trim();
        return Err(SignatureError::Bad(format!("{key} is not among those of signed_by.ssh")));
    }
    if let Some(key) = said.lines().find_map(|line| line.strip_prefix("[GNUPG:] NO_PUBKEY ")) {
        return Err(SignatureError::Bad(format!("the OpenPGP key {key} is not among those of signed_by.gpg")));
    }
    for (word, why) in [
        ("EXPKEYSIG", "its key has expired"),
        ("REVKEYSIG", "its key was revoked"),
        ("EXPSIG", "it has expired"),
        ("BADSIG", "it is not of this content"),
    ] {
        if said.contains(&format!("[GNUPG:] {word} ")) {
            return Err(SignatureError::Bad(why.to_owned()));
        }
    }
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    // Nothing at all is said of what nobody signed; of a tag, that much.
    if last.is_empty() || last.contains("no signature found") || last.contains("cannot verify a non-tag object") {
        return Err(SignatureError::None);
    }
    let last: String = last.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    Err(if last.contains("cannot run") { SignatureError::Unready(last) } else { SignatureError::Bad(last) })
}

/// The name that a tag says it has.
fn tag_name(object: &[u8]) -> Option<&[u8]> {
    let header = object.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    header.into_iter().find_map(|line| line.strip_prefix(b"tag "))
}

/// A home for `gpg` in which there are the keys that count and no other, so that what the daemon's own user trusts does not.
async fn keys(store: &Store, by: &SignedBy) -> Result<Scratch, SignatureError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| SignatureError::Git(GitError::Io { path, source })
    };
    let home = Scratch::new(store.folder(), KEYS).map_err(io(store.folder()))?;
    let path = home.path();
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(io(path))?;
    // No server of keys is asked, no agent started, no other store of keys used.
    let settings = "no-auto-key-retrieve\nno-auto-key-import\nno-autostart\ntrust-model always\n";
    for (file, text) in [("gpg.conf", settings), ("common.conf", "")] {
        fs::write(path.join(file), text).map_err(io(path))?;
    }
    if let Some(file) = &by.gpg {
        let mut gpg = Command::new("gpg");
        gpg.args(["--batch", "--quiet", "--no-tty", "--import", "--"]).arg(file).env("GNUPGHOME", path);
        gpg.env("LC_ALL", "C.UTF-8").stdin(std::process::Stdio::null()).kill_on_drop(true);
        let ran = run(gpg, "import", WITHIN, Input::None).await.map_err(|error| match error {
            GitError::Missing(error) => SignatureError::Unready(format!("cannot run `gpg`: {error}; is it installed?")),
            other => SignatureError::Git(other),
        })?;
        if !ran.is_good() {
            let said = ran.said.lines().last().unwrap_or_default();
            return Err(SignatureError::Unready(format!("the keys in {}: {said}", file.display())));
        }
    }
    Ok(home)
}

/// Whose signature is good, as the checking program says it.
fn name(said: &str) -> String {
    let gpg =
        |line: &str| line.strip_prefix("[GNUPG:] GOODSIG ").and_then(|rest| Some(rest.split_once(' ')?.1.to_owned()));
    let ssh = |line: &str| {
        let rest = line.strip_prefix("Good \"git\" signature for ")?;
        Some(rest.rsplit_once(" with ").map_or(rest, |(name, _)| name).to_owned())
    };
    let name = said.lines().find_map(|line| gpg(line).or_else(|| ssh(line))).unwrap_or_else(|| "somebody".to_owned());
    name.chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::{name, tag_name};

    #[test]
    fn a_tag_says_its_name_in_its_header_and_nowhere_else() {
        let tag = b"object abc\ntype commit\ntag v1.0\ntagger Ada <a@x> 0 +0000\n\ntag v9.0\n";
        assert_eq!(tag_name(tag), Some(&b"v1.0"[..]));
        assert_eq!(tag_name(b"object abc\n\ntag v9.0\n"), None);
    }

    #[test]
    fn whoever_signed_is_named() {
        assert_eq!(name("Good \"git\" signature for ada@x.org with ED25519 key SHA256:abc\n"), "ada@x.org");
        assert_eq!(name("[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG 0123456789ABCDEF Ada <ada@x.org>\n"), "Ada <ada@x.org>");
        assert_eq!(name(""), "somebody");
    }
}
