//! Advice is what is told of a remote that does not let us in: what it is, where, and what to do, before git's own words.

use super::store::quoted;
use crate::settings::{Access, Protocol, PullSource};

/// What a server of the web answered, as curl saw it on git's behalf.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answered {
    /// Where it sends us.
    pub location: Option<String>,
    /// What it says that it sends.
    pub kind: Option<String>,
}

impl Answered {
    /// Of git's trace of its last answer, in which secrets are left out already.
    pub(super) fn read(trace: &str) -> Self {
        let mut answered = Self::default();
        for line in trace.lines().filter_map(|line| line.split_once("<= Recv header: ")) {
            let line = line.1.trim();
            if line.starts_with("HTTP/") {
                answered = Self::default();
            } else if let Some((name, value)) = line.split_once(':') {
                let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
                match name.to_ascii_lowercase().as_str() {
                    "location" => answered.location = value.map(|value| repository_of(&value)),
                    "content-type" => answered.kind = value,
                    _ => {}
                }
            }
        }
        answered
    }

    /// Whether it is a page for people.
    pub(super) fn is_page(&self) -> bool {
        self.kind.as_ref().is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"))
    }
}

/// What is wrong, by what git or ssh said of it, and what to do; `None` where that says enough.
pub(super) fn advice(said: &str, source: &PullSource, answered: &Answered) -> Option<String> {
    let has = |words: &str| said.contains(words);
    match (&source.access, source.protocol) {
        (Access::Key { file, known_hosts }, _) => {
            let (host, hosts) = (host(&source.url), known_hosts.display());
            if has("REMOTE HOST IDENTIFICATION HAS CHANGED") || has("differs from the key for the IP address") {
                return Some(format!(
                    "{host} shows another key than the one of it in {hosts}; ask whoever runs it whether it was changed on purpose, \
                     and only where it was, put the new one there in place of the old one"
                ));
            }
            if has("host key is known for") || has("Host key verification failed") {
                return Some(format!(
                    "the key that {host} shows is not in {hosts}; get it with: {}, and compare it with what the forge's own pages \
                     say before it goes there",
                    scan(&source.url)
                ));
            }
            if has("Permission denied (") {
                return Some(format!(
                    "{host} does not take the deploy key {0}; add {0}.pub to the repository there as a key that may read it, and see \
                     that `url` has the user that the forge wants",
                    file.display()
                ));
            }
        }
        (_, Protocol::Ssh) => {
            return Some(
                "nothing opens it: over SSH it takes `key` and `known_hosts` (docs/pull.md, Getting in)".to_owned(),
            );
        }
        (access, Protocol::Http | Protocol::Https) => {
            let has_token = matches!(access, Access::Token { .. });
            if let Some(code) =
                ["301", "302", "303", "307", "308"].into_iter().find(|code| has(&format!("returned error: {code}")))
            {
                let to = answered.location.as_ref().map(|to| format!(", to {to}")).unwrap_or_default();
                return Some(format!(
                    "it sends us elsewhere ({code}){to}, and redirects are not followed; where the repository has moved, set `url` to \
                     its new address; where that is a page to log in at, set `token`"
                ));
            }
            if has("terminal prompts disabled") || has("Authentication failed for") || has("returned error: 403") {
                return Some(if has_token {
                    "it does not take the token; see that it has not expired, that it may read this repository, and that `user` is \
                     the one that the forge wants with it"
                        .to_owned()
                } else {
                    "it wants a login, and none is set; make a token there that may read the repository, and set `token` (and `user` \
                     where the forge wants one)"
                        .to_owned()
                });
            }
            if answered.is_page() || has("not valid: is this a git repository?") {
                return Some(
                    "a web page answers there, and no git repository: a page to log in at, or one about the repository; set `url` to \
                     the address that the forge shows for cloning, and `token` where it is not open to everybody"
                        .to_owned(),
                );
            }
            if has("' not found") || has("Repository not found") {
                let who = if has_token {
                    "the token may not see it"
                } else {
                    "it is not open to everybody, and `token` is not set"
                };
                return Some(format!("there is no such repository at that address, or {who}"));
            }
        }
        (_, Protocol::File) => {
            if has("does not appear to be a git repository") || has("Permission denied") {
                return Some(
                    "there is no repository at that path which the user that skep runs as may read; mend `url`, or let that user in"
                        .to_owned(),
                );
            }
        }
    }
    None
}

/// The repository that an address is of, without what is asked of it, and without a login.
fn repository_of(address: &str) -> String {
    let address = address.split(['?', '#']).next().unwrap_or_default();
    let address = address.strip_suffix("/info/refs").unwrap_or(address);
    match address.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => address.to_owned(),
    }
}

/// The host of an address, with its port where it has one.
fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let ends: &[char] = if url.contains("://") { &['/'] } else { &['/', ':'] };
    let authority = rest.split(ends).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host).to_owned()
}

/// What prints the keys of the host of an address.
pub(super) fn scan(url: &str) -> String {
    let host = host(url);
    match host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit())) {
        Some((name, port)) => format!("ssh-keyscan -p {port} {}", plain_or_quoted(name)),
        None => format!("ssh-keyscan {}", plain_or_quoted(&host)),
    }
}

/// A host as a shell takes it for one word.
fn plain_or_quoted(host: &str) -> String {
    let is_plain = host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
    if is_plain { host.to_owned() } else { quoted(host) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::Settings;

    #[test]
    fn the_last_answer_of_a_trace_counts_and_shows_no_login() {
        let trace = "12:00:00.000000 http.c:845  <= Recv header: HTTP/1.1 401 Unauthorized\n\
                     12:00:00.000000 http.c:845  <= Recv header: Content-Type: text/html\n\
                     12:00:00.000000 http.c:845  <= Recv header: HTTP/1.1 302 Found\n\
                     12:00:00.000000 http.c:845  <= Recv header: LOCATION: https://u:p@new.example/t/a.git/info/refs?service=x\n";
        let answered = Answered::read(trace);
        assert_eq!(answered.location.as_deref(), Some("https://new.example/t/a.git"));
        assert_eq!(answered.kind, None);
        assert!(Answered { kind: Some("Text/HTML; charset=x".to_owned()), ..Answered::default() }.is_page());
    }

    #[test]
    fn each_way_of_not_being_let_in_says_what_to_do() {
        let advised = |settings: &str, said: &str| {
            let settings = format!("pull: [{{ name: a, {settings} }}]");
            let (settings, findings) = Settings::settle(Path::new("/srv"), settings.as_bytes(), |_| None);
            assert!(findings.is_empty(), "{findings:?}");
            advice(said, &settings.pull[0], &Answered::default()).unwrap_or_default()
        };
        let ssh = "url: 'ssh://git@h.example:22/a', key: k, known_hosts: /etc/hosts.known";
        assert!(
            advised(ssh, "No ED25519 host key is known for h").contains("get it with: ssh-keyscan -p 22 h.example")
        );
        assert!(advised(ssh, "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @").contains("another key"));
        assert!(advised(ssh, "git@h: Permission denied (publickey).").contains("/srv/k.pub"));
        let (web, token) = ("url: 'https://h.example/a'", "url: 'https://h.example/a', token: { env: A }");
        let prompt = "fatal: could not read Username for 'https://h': terminal prompts disabled";
        assert!(advised(web, prompt).contains("it wants a login"));
        assert!(advised(token, "fatal: Authentication failed for 'https://h/a'").contains("does not take the token"));
        assert!(advised(web, "The requested URL returned error: 302").contains("redirects are not followed"));
        assert_eq!(advised(web, "Could not resolve host: h.example"), "");
    }
}
