//! A deploy key is what opens a remote over SSH. It and the file of known hosts are looked at before ssh is, which says of whatever
//! is wrong with them that permission is denied.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;

/// The most bytes that are read of a key.
const MOST: usize = 64 * 1024;

/// What a key of OpenSSH's own form begins with, and then the length of what it is encrypted with.
const OPENSSH: &[u8] = b"openssh-key-v1\0";

/// Why ssh need not be asked.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is no such key, or it is in nobody's reach.
    #[error(
        "cannot read the deploy key {}; where there is none yet, make it with: ssh-keygen -t ed25519 -N '' -f {0}, and add {0}.pub \
         to the forge", path.display()
    )]
    Unreadable {
        /// Its file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody would have to type something.
    #[error(
        "the deploy key {0} has a passphrase, and nobody is there to type it; take that off with: ssh-keygen -p -N '' -f {0}"
    )]
    Passphrase(String),
    /// It is the half that the forge has.
    #[error("{0} is no private key; `key` names the file without .pub, and the forge gets the one with it")]
    NoKey(String),
    /// Others may read it, and ssh does not take it then.
    #[error("the deploy key {0} may be read by others, so that ssh does not take it; mend that with: chmod 600 {0}")]
    Open(String),
    /// There are no hosts that are known.
    #[error(
        "cannot read the keys of known hosts in {}; write them there with: {scan} > {0}, and compare them with what the \
         forge's own pages say", path.display()
    )]
    Hosts {
        /// The file.
        path: PathBuf,
        /// What prints the keys that should be there.
        scan: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Looks at what ssh is about to use.
///
/// # Errors
/// Where it would be of no use.
pub(super) fn look(key: &Path, known_hosts: &Path, scan: &str) -> Result<(), KeyError> {
    let unreadable = |source| KeyError::Unreadable { path: key.to_owned(), source };
    let text = fs::read(key).map_err(unreadable)?;
    let name = || key.display().to_string();
    match form(&text) {
        Form::Sealed => return Err(KeyError::Passphrase(name())),
        Form::None => return Err(KeyError::NoKey(name())),
        Form::Usable => {}
    }
    let about = fs::metadata(key).map_err(unreadable)?;
    // As ssh has it: of its own files alone it says that they must be closed.
    if about.uid() == rustix::process::geteuid().as_raw() && about.mode() & 0o077 != 0 {
        return Err(KeyError::Open(name()));
    }
    let hosts = |source| KeyError::Hosts { path: known_hosts.to_owned(), scan: scan.to_owned(), source };
    fs::File::open(known_hosts).map(drop).map_err(hosts)
}

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
enum Form {
    Usable,
    Sealed,
    None,
}

fn form(text: &[u8]) -> Form {
    let text = String::from_utf8_lossy(text.get(..MOST).unwrap_or(text));
    let lines = || text.lines().map(str::trim);
    if !lines().any(|line| line.starts_with("-----BEGIN ") && line.ends_with("PRIVATE KEY-----")) {
        return Form::None;
    }
    let is_sealed =
        |line: &str| line == "-----BEGIN ENCRYPTED PRIVATE KEY-----" || line.starts_with("Proc-Type: 4,ENCRYPTED");
    if lines().any(is_sealed) {
        return Form::Sealed;
    }
    let body: String = lines().filter(|line| !line.starts_with('-')).collect();
    // Only its beginning counts; three bytes are four letters.
    let begin = body.get(..64).unwrap_or_default();
    let decoded = base64::engine::general_purpose::STANDARD.decode(begin).unwrap_or_default();
    match decoded.strip_prefix(OPENSSH) {
        Some(rest) if !rest.starts_with(b"\0\0\0\x04none") => Form::Sealed,
        _ => Form::Usable,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_ssh_could_not_use_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str, phrase: &str, form: &[&str]| {
            let path = folder.path().join(name);
            let mut made = Command::new("ssh-keygen");
            made.args(["-q", "-t", "rsa", "-b", "2048", "-N", phrase]).args(form).arg("-f").arg(&path);
            assert!(made.status().unwrap().success());
            path
        };
        let hosts = folder.path().join("hosts");
        let said = |key: &Path| look(key, &hosts, "ssh-keyscan git.example").map_err(|error| error.to_string());
        let (plain, old) = (make("plain", "", &[]), make("old", "", &["-m", "PEM"]));
        assert!(said(&plain).unwrap_err().contains("ssh-keyscan git.example > "));
        fs::write(&hosts, "").unwrap();
        assert_eq!((said(&plain), said(&old)), (Ok(()), Ok(())));
        for sealed in [
            make("new-sealed", "secret", &[]),
            make("old-sealed", "secret", &["-m", "PEM"]),
            make("pkcs8", "secret", &["-m", "PKCS8"]),
        ] {
            assert!(said(&sealed).unwrap_err().contains("has a passphrase"), "{}", sealed.display());
        }
        assert!(said(&plain.with_extension("pub")).unwrap_err().contains("is no private key"));
        assert!(said(Path::new("/nowhere/key")).unwrap_err().contains("ssh-keygen -t ed25519 -N '' -f /nowhere/key"));
        fs::set_permissions(&plain, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        assert!(said(&plain).unwrap_err().ends_with(&format!("chmod 600 {}", plain.display())));
    }
}
