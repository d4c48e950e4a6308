//! Access is what git is given to speak to one remote repository: one protocol, one way in, and nothing else of this process.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use base64::Engine as _;
use tokio::process::Command;

use super::advice;
use super::deploy_key::{self, KeyError};
use super::store::{MEMORY, quoted};
use crate::settings::{Access, Protocol, PullSource, SecretPlace};

/// The most bytes of a secret.
const MOST: u64 = 16 * 1024;

/// What of this process's environment git and ssh get to see: where programs, certificates and proxies are. Keys of ours, and
/// what would make git run or tell something else, are not among it.
const PASSED: [&str; 18] = [
    "PATH",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "TZ",
    "GIT_EXEC_PATH",
    "GIT_SSL_CAINFO",
    "GIT_SSL_CAPATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "LD_LIBRARY_PATH",
];

/// Settings for speaking to a remote repository. What a server sends is checked, wherever it asks us to go we don't, and
/// neither the host's files of settings nor its keys are used.
const CAREFUL: [&str; 15] = [
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.pager=cat",
    "core.askPass=",
    "credential.helper=",
    "fetch.fsckObjects=true",
    "transfer.fsckObjects=true",
    "fetch.recurseSubmodules=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "http.followRedirects=false",
    "http.lowSpeedLimit=1000",
    "http.lowSpeedTime=60",
    "protocol.version=2",
    "advice.detachedHead=false",
];

/// What git asks for a name and a password, of the one host that they are for: of a proxy it would ask too. Both come to it in its environment, and stand on no command line.
const HELPER: &str =
    r#"helper=!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$SKEP_GIT_USER" "$SKEP_GIT_TOKEN"; }; f"#;

/// Why a secret cannot be used. Says where it should be, and never what it is.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is no such variable.
    #[error("the daemon's environment has no {0}; set it, and start the daemon again")]
    Unset(String),
    /// The file cannot be read.
    #[error("cannot read the secret in {}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is none.
    #[error("{0} holds no secret: one line of visible characters")]
    Odd(String),
    /// It is a key that ssh could not use.
    #[error(transparent)]
    Key(#[from] KeyError),
}

/// A secret, for as long as it is needed; its `Debug` leaves it out.
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// Reads it from its place, each time anew: whoever changes it need not tell.
    ///
    /// # Errors
    /// Where it is not there, or is none.
    pub fn read(place: &SecretPlace) -> Result<Self, SecretError> {
        let (text, name) = match place {
            SecretPlace::Env(name) => {
                let text = std::env::var(name).ok().filter(|text| !text.is_empty());
                (text.ok_or_else(|| SecretError::Unset(name.clone()))?, name.clone())
            }
            SecretPlace::File(path) => {
                let io = |source| SecretError::Io { path: path.clone(), source };
                let mut text = String::new();
                fs::File::open(path).map_err(io)?.take(MOST).read_to_string(&mut text).map_err(io)?;
                (text, path.display().to_string())
            }
        };
        let text = text.trim_end_matches(['\r', '\n']).to_owned();
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(SecretError::Odd(name));
        }
        Ok(Self(text))
    }

    /// The secret itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Git for a remote repository, and what must be in nothing that it says.
#[derive(Debug)]
pub(super) struct Way {
    settings: Vec<String>,
    /// The file of settings that git reads, where it reads one.
    pub file: Option<PathBuf>,
    environment: Vec<(&'static str, String)>,
    /// As they are, and as they go over the wire.
    secrets: Vec<String>,
}

impl Way {
    /// The way to a source.
    ///
    /// # Errors
    /// Where the secret that opens it is not there.
    pub(super) fn to(source: &PullSource) -> Result<Self, SecretError> {
        let mut settings: Vec<String> = CAREFUL.iter().map(ToString::to_string).collect();
        let mut environment = vec![("GIT_ALLOW_PROTOCOL", source.protocol.as_str().to_owned())];
        let mut secrets = Vec::new();
        match &source.access {
            Access::Open => {}
            Access::Token { user, token } => {
                let token = Secret::read(token)?;
                settings.push(format!("credential.{}.{HELPER}", host(&source.url)));
                environment.push(("SKEP_GIT_USER", user.clone()));
                environment.push(("SKEP_GIT_TOKEN", token.0.clone()));
                secrets.push(base64::engine::general_purpose::STANDARD.encode(format!("{user}:{}", token.0)));
                secrets.push(token.0);
            }
            Access::Key { file, known_hosts } => {
                deploy_key::look(file, known_hosts, &advice::scan(&source.url))?;
                environment.push(("GIT_SSH_COMMAND", ssh(file, known_hosts)));
                environment.push(("GIT_SSH_VARIANT", "ssh".to_owned()));
            }
        }
        if source.protocol == Protocol::Ssh && !matches!(source.access, Access::Key { .. }) {
            // Not the keys of whoever the daemon runs as.
            environment.push(("GIT_SSH_COMMAND", "false".to_owned()));
        }
        Ok(Self { settings, file: None, environment, secrets })
    }

    /// Git with arguments in a folder, which may write no file larger than `most` bytes.
    pub(super) fn command(&self, folder: &Path, most: u64, arguments: &[&str]) -> Command {
        let mut command = Command::new("sh");
        // The shell is everywhere, and is what sets a limit for a child without more of this process's own doing. A file that
        // would be too large is then an error of writing, and no signal.
        let script = "ulimit -S -v \"$0\"; ulimit -S -f \"$1\"; shift; trap '' XFSZ; exec git \"$@\"";
        command.args(["-c", script, MEMORY, &(most / 512).to_string(), "-C"]).arg(folder);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command.args(arguments).env_clear();
        for name in PASSED {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs([
            // In the home of whoever the daemon runs as there may be a `.netrc`.
            ("HOME", "/nonexistent"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_ATTR_NOSYSTEM", "1"),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_LFS_SKIP_SMUDGE", "1"),
            ("LC_ALL", "C.UTF-8"),
        ]);
        command.env("GIT_CONFIG_GLOBAL", self.file.as_deref().unwrap_or(Path::new("/dev/null")));
        command.envs(self.environment.iter().map(|(name, value)| (*name, value.as_str())));
        // Its own group, so that all that it starts can be ended with it.
        command.stdin(Stdio::null()).kill_on_drop(true).process_group(0);
        command
    }

    /// What was said, without secrets, should a server have said one back.
    pub(super) fn hush(&self, said: &str) -> String {
        self.secrets.iter().fold(said.to_owned(), |said, secret| said.replace(secret, "…"))
    }
}

/// The beginning of an address, up to the host and its port, without a user.
fn host(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}")
}

/// `ssh` that shows one key to a host that it knows, asks nobody, and does nothing else.
fn ssh(key: &Path, known_hosts: &Path) -> String {
    // It takes `%` in paths for something else.
    let path = |path: &Path| path.to_string_lossy().replace('%', "%%");
    let hosts = format!("UserKnownHostsFile=\"{}\"", path(known_hosts));
    let key = format!("IdentityFile=\"{}\"", path(key));
    let fixed = [
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        "StrictHostKeyChecking=yes",
        "UpdateHostKeys=no",
        "GlobalKnownHostsFile=/dev/null",
        "ForwardAgent=no",
        "ForwardX11=no",
        "ClearAllForwardings=yes",
        "PermitLocalCommand=no",
        "ControlMaster=no",
        "ControlPath=none",
        "ProxyCommand=none",
        "ConnectTimeout=15",
        "ServerAliveInterval=15",
        "ServerAliveCountMax=4",
        "LogLevel=ERROR",
    ];
    let options = fixed.into_iter().chain([hosts.as_str(), key.as_str()]);
    let options: Vec<String> = options.map(|option| format!("-o {}", quoted(option))).collect();
    format!("ssh -F /dev/null {}", options.join(" "))
}

#[cfg(test)]
mod tests {
    use super::super::Input;
    use super::*;

    #[test]
    fn a_secret_is_read_from_its_place_and_shown_to_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            Secret::read(&SecretPlace::File(path.clone()))
        };
        let secret = read("hunter2\r\n").unwrap();
        assert_eq!(secret.as_bytes(), b"hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
        for odd in ["", "\n", "a\nb", "a\0b"] {
            assert!(matches!(read(odd), Err(SecretError::Odd(_))), "{odd:?}");
        }
        let none = Secret::read(&SecretPlace::Env("SKEP_NO_SUCH_VARIABLE".to_owned())).unwrap_err();
        assert!(none.to_string().contains("SKEP_NO_SUCH_VARIABLE"));
    }

    #[tokio::test]
    async fn a_token_is_for_its_own_host_and_for_no_proxy_on_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, "t0ken").unwrap();
        let settings =
            "pull: [{ name: a, url: 'https://git.example:8443/team/a.git', user: ada, token: { file: FILE } }]";
        let settings = settings.replace("FILE", &file.display().to_string());
        let (settings, _) = crate::settings::Settings::settle(Path::new("/srv"), settings.as_bytes(), |_| None);
        let way = Way::to(&settings.pull[0]).unwrap();
        for (protocol, host, is_asked) in [
            ("https", "git.example:8443", true),
            ("https", "git.example", false),
            ("http", "git.example:8443", false),
            ("http", "proxy.example:3128", false),
        ] {
            let lines = format!("protocol={protocol}\nhost={host}\n\n");
            let git = way.command(folder.path(), 1 << 20, &["credential", "fill"]);
            let ran = super::super::run(git, "credential", std::time::Duration::from_secs(30), Input::Lines(&lines));
            let ran = ran.await.unwrap();
            let has = String::from_utf8_lossy(&ran.out).contains("password=t0ken");
            assert_eq!(has, is_asked, "{protocol}://{host}: {}", ran.said);
        }
        // `ada:t0ken`, as it goes over the wire.
        assert_eq!(way.hush("t0ken, Basic YWRhOnQwa2Vu"), "…, Basic …");
        assert_eq!(host("https://ada@[::1]:80/x@y"), "https://[::1]:80");
    }

    #[test]
    fn a_path_cannot_add_an_option_to_ssh() {
        let text = ssh(Path::new("/srv/a key'; touch x; '"), Path::new("/srv/%h"));
        assert!(text.contains(r#"-o 'IdentityFile="/srv/a key'\''; touch x; '\''"'"#), "{text}");
        assert!(text.contains(r#"UserKnownHostsFile="/srv/%%h""#), "{text}");
    }
}
