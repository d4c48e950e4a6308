//! The address of a remote repository, which holds no secret and names nothing but a place.

/// How a remote repository is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP over TLS.
    Https,
    /// Plain HTTP.
    Http,
    /// SSH.
    Ssh,
    /// None: it is on this host.
    File,
}

impl Protocol {
    /// As git calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
            Self::Ssh => "ssh",
            Self::File => "file",
        }
    }
}

/// How an address is spoken to; else what is wrong with it, and what to write.
pub(super) fn check_url(url: &str) -> Result<Protocol, (&'static str, &'static str)> {
    const WRITE: &str = "write it as in https://git.example/team/apis.git or git@git.example:team/apis.git";
    const SECRET: &str = "leave the password out; `token` says where it is";
    let no_address = Err(("this is no address of a repository", WRITE));
    let is_odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '\\' | '"' | '\'' | '?' | '#');
    if url.is_empty() || url.len() > 1000 || url.chars().any(is_odd) {
        return no_address;
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        // As in git@git.example:team/apis.git.
        let Some((place, path)) = url.split_once(':') else { return no_address };
        let Some((user, host)) = place.split_once('@') else { return no_address };
        return if is_word(user) && is_host(host) && !path.is_empty() && !path.starts_with('-') {
            Ok(Protocol::Ssh)
        } else {
            no_address
        };
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    match scheme {
        "file" => {
            if authority.is_empty() && !path.is_empty() {
                Ok(Protocol::File)
            } else {
                no_address
            }
        }
        "https" | "http" => {
            if authority.contains('@') {
                return Err(("an address with a name or a password in it would be shown to many", SECRET));
            }
            let protocol = if scheme == "https" { Protocol::Https } else { Protocol::Http };
            if is_host_and_port(authority) && !path.is_empty() { Ok(protocol) } else { no_address }
        }
        "ssh" => {
            let (user, place) = authority.split_once('@').unwrap_or(("git", authority));
            if user.contains(':') {
                return Err((
                    "an address with a password in it would be shown to many",
                    "leave it out; `key` opens it",
                ));
            }
            if is_word(user) && is_host_and_port(place) && !path.is_empty() { Ok(Protocol::Ssh) } else { no_address }
        }
        _ => Err(("repositories are spoken to by https, ssh and file, and by nothing else", WRITE)),
    }
}

/// Whether an address is of this host, to which nobody else can listen.
pub(super) fn is_loopback(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority
        .strip_prefix('[')
        .and_then(|rest| rest.split(']').next())
        .unwrap_or_else(|| authority.rsplit_once(':').map_or(authority, |(host, _)| host));
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What of an address of a repository names its forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place<'a> {
    /// The host, without a port.
    pub host: &'a str,
    /// Where a browser would find it, as far as the address says so; `ssh` where it is of SSH.
    pub web: &'a str,
    /// The path of the repository, without a slash before it.
    pub path: &'a str,
}

/// What of an address that [`check_url`] takes names its forge; `None` where it names none.
pub(super) fn authority_and_path(url: &str) -> Option<Place<'_>> {
    let Some((scheme, rest)) = url.split_once("://") else {
        let (place, path) = url.split_once(':')?;
        let host = place.split_once('@').map_or(place, |(_, host)| host);
        return Some(Place { host, web: "ssh", path: path.trim_start_matches('/') });
    };
    let (authority, path) = rest.split_once('/')?;
    let named = authority.rsplit_once('@').map_or(authority, |(_, named)| named);
    let host = match named.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => named,
    };
    let web = match scheme {
        "https" | "http" => url.get(..url.len() - path.len() - 1)?,
        "ssh" => "ssh",
        _ => return None,
    };
    Some(Place { host, web, path: path.trim_start_matches('/') })
}

/// Whether a text is an address of HTTP that holds no name and no password.
pub(crate) fn is_web(text: &str) -> bool {
    let is_odd = |c: char| c.is_control() || c.is_whitespace() || !c.is_ascii();
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let is_open =
        uri.authority().is_some_and(|authority| !authority.as_str().contains('@') && !authority.host().is_empty());
    text.len() <= 2000 && !text.chars().any(is_odd) && matches!(uri.scheme_str(), Some("http" | "https")) && is_open
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte))
}

fn is_host(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inner.map_or_else(|| is_word(text), |address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

fn is_host_and_port(text: &str) -> bool {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => is_host(host) && port.parse::<u16>().is_ok(),
        _ => is_host(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_place_and_holds_no_secret() {
        for (url, protocol) in [
            ("https://git.example/team/apis.git", Protocol::Https),
            ("http://127.0.0.1:3000/a", Protocol::Http),
            ("https://[::1]:8443/a", Protocol::Https),
            ("ssh://git@git.example:2222/a.git", Protocol::Ssh),
            ("ssh://git.example/a.git", Protocol::Ssh),
            ("git@git.example:team/apis.git", Protocol::Ssh),
            ("file:///srv/apis.git", Protocol::File),
        ] {
            assert_eq!(check_url(url), Ok(protocol), "{url}");
        }
        for url in [
            "",
            "apis.git",
            "/srv/apis.git",
            "--upload-pack=touch",
            "ext::sh -c touch% /tmp/x",
            "ext::sh",
            "git://git.example/a",
            "ftp://git.example/a",
            "https://ada:secret@git.example/a",
            "https://token@git.example/a",
            "https://git.example/a?private_token=secret",
            "https://",
            "https://git.example",
            "https:///a",
            "ssh://-oProxyCommand=touch/a",
            "ssh://git:secret@git.example/a",
            "-oProxyCommand=x@h:a",
            "git@-oProxyCommand=x:a",
            "git@h:-x",
            "file://host/a",
            "https://git.example/a b",
            "https://git.example/a\nb",
        ] {
            assert!(check_url(url).is_err(), "{url}");
        }
        for (url, is_here) in [
            ("http://127.0.0.1:3000/a", true),
            ("http://localhost/a", true),
            ("http://[::1]:1/a", true),
            ("http://127.0.0.1.evil.example/a", false),
            ("http://git.example/a", false),
        ] {
            assert_eq!(is_loopback(url), is_here, "{url}");
        }
    }
}
