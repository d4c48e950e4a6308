//! An address is where a Postgres is, who we are there, and how far the way to it is trusted.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// How long one try to connect may take.
const CONNECT: Duration = Duration::from_secs(5);

/// After how much silence of a server that ought to answer its connection is given up.
const SILENCE: Duration = Duration::from_secs(15);

/// What other clients put into connection strings, and what says nothing to this one.
const OTHERS: [&str; 5] = ["pgbouncer", "connection_limit", "pool_timeout", "statement_cache_size", "prepareThreshold"];

/// Options whose names are worth repeating where their values cannot be.
const OPTIONS: [&str; 7] = [
    "port",
    "connect_timeout",
    "target_session_attrs",
    "channel_binding",
    "keepalives",
    "load_balance_hosts",
    "sslnegotiation",
];

/// Where a Postgres is, and how far it is trusted. Its `Debug` and its place leave the password out.
#[derive(Clone)]
pub struct Address {
    /// What the client goes by; without TLS of its own making.
    pub(super) config: Config,
    /// How far the server must show who it is.
    pub trust: Trust,
    /// The file of the authority that signs its certificate; the host's own authorities where none is named.
    pub ca: Option<PathBuf>,
    /// Whether the string asks for the host's own authorities.
    is_system: bool,
    place: String,
}

/// How far a server must show who it is: `sslmode`, as libpq has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// `disable`: plain text.
    Plain,
    /// `prefer`: TLS where the server has it, by whatever certificate.
    Prefer,
    /// `require`: TLS, by whatever certificate.
    Encrypted,
    /// `verify-ca`: TLS, by a certificate of a trusted authority.
    Authority,
    /// `verify-full`: TLS, by a certificate of a trusted authority for this very name.
    Full,
}

impl Address {
    /// Reads a connection string, as `postgres://user:password@host:port/database?sslmode=verify-full` or as
    /// `host=… user=…`.
    ///
    /// Without `sslmode` the server must show who it is (`verify-full`), unless it is on this host.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it, and repeats no secret.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.contains("[YOUR-PASSWORD]") || text.contains("[YOUR_PASSWORD]") {
            return Err(
                "the connection string still says [YOUR-PASSWORD]; put the database's password there".to_owned()
            );
        }
        let (rest, mut ours) = split(text);
        let mut config = Config::from_str(&rest).map_err(|error| without_secrets(&error))?;
        let hosts = config.get_hosts();
        if hosts.is_empty() && config.get_hostaddrs().is_empty() {
            return Err("it names no host, as in postgres://user:password@host:5432/postgres".to_owned());
        }
        let is_here = hosts.iter().all(is_here) && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback);
        let root = ours.remove("sslrootcert");
        let is_system = root.as_deref() == Some("system");
        let ca = root.filter(|_| !is_system).map(PathBuf::from);
        let trust = match ours.remove("sslmode").as_deref() {
            None if is_here => Trust::Prefer,
            None | Some("verify-full") => Trust::Full,
            Some("disable") => Trust::Plain,
            // As in libpq: whoever trusts the host's authorities wants the name checked too.
            Some("allow" | "prefer" | "require" | "verify-ca") if is_system => Trust::Full,
            Some("allow" | "prefer") => Trust::Prefer,
            // As libpq does: whoever names an authority wants it asked.
            Some("require") if ca.is_some() => Trust::Authority,
            Some("require") => Trust::Encrypted,
            Some("verify-ca") => Trust::Authority,
            Some(_) => {
                return Err("sslmode is one of disable, prefer, require, verify-ca, verify-full".to_owned());
            }
        };
        let mode = match trust {
            Trust::Plain => SslMode::Disable,
            Trust::Prefer => SslMode::Prefer,
            Trust::Encrypted | Trust::Authority | Trust::Full => SslMode::Require,
        };
        config.ssl_mode(mode).connect_timeout(CONNECT).tcp_user_timeout(SILENCE);
        config.keepalives_idle(SILENCE).keepalives_interval(SILENCE / 3).keepalives_retries(3);
        if config.get_application_name().is_none() {
            config.application_name("skep");
        }
        let place = place(&config);
        Ok(Self { config, trust, ca, is_system, place })
    }

    /// The same, with this file of the authority where the string names none.
    #[must_use]
    pub fn or_ca(mut self, ca: Option<&PathBuf>) -> Self {
        if self.ca.is_none() && !self.is_system && ca.is_some() {
            self.ca = ca.cloned();
            if self.trust == Trust::Encrypted {
                self.trust = Trust::Authority;
            }
        }
        self
    }

    /// Host, port and database, for people; no user and no password.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Address").field("place", &self.place).field("trust", &self.trust).finish_non_exhaustive()
    }
}

/// Takes out of a connection string what the client does not know; the rest, and what was taken out.
fn split(text: &str) -> (String, std::collections::BTreeMap<String, String>) {
    let mut ours = std::collections::BTreeMap::new();
    let mut is_ours = |pair: &str| {
        let Some((key, value)) = pair.split_once('=') else { return false };
        let key = key.trim();
        if key != "sslmode" && key != "sslrootcert" {
            return OTHERS.contains(&key);
        }
        ours.insert(key.to_owned(), unescape(value.trim().trim_matches('\'')));
        true
    };
    let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    let rest = if is_url {
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let kept: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty() && !is_ours(pair)).collect();
        if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) }
    } else {
        words(text).into_iter().filter(|pair| !is_ours(pair)).collect::<Vec<_>>().join(" ")
    };
    (rest, ours)
}

/// The `key=value` pairs of a text as they stand; spaces between quotes belong to a value, and `\` takes the next as it is.
fn words(text: &str) -> Vec<&str> {
    let (mut words, mut begin, mut is_quoted, mut is_taken) = (Vec::new(), None, false, false);
    for (place, c) in text.char_indices() {
        match begin {
            Some(start) if c.is_whitespace() && !is_quoted && !is_taken => {
                words.extend(text.get(start..place));
                begin = None;
            }
            None if !c.is_whitespace() => begin = Some(place),
            _ => {}
        }
        is_quoted ^= c == '\'' && !is_taken;
        is_taken = c == '\\' && !is_taken;
    }
    words.extend(begin.and_then(|start| text.get(start..)));
    words
}

/// A value of a query string: `%2F` is a slash.
fn unescape(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'%').then(|| after.get(..2)).flatten().and_then(|code| {
            let code = std::str::from_utf8(code).ok()?;
            u8::from_str_radix(code, 16).ok()
        });
        bytes.push(code.unwrap_or(byte));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn is_here(host: &Host) -> bool {
    match host {
        Host::Unix(_) => true,
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

fn place(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts: Vec<String> = (config.get_hosts().iter().enumerate())
        .map(|(place, host)| {
            let port = ports.get(place).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}/.s.PGSQL.{port}", path.display()),
            }
        })
        .collect();
    format!("{}/{}", hosts.join(","), config.get_dbname().or(config.get_user()).unwrap_or_default())
}

/// What is wrong with a connection string, in words of ours: the client's quote what may be a password that is out of place.
fn without_secrets(error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let known = ["invalid port", "invalid value for option", "unterminated quoted", "unexpected EOF"];
    let what = known.into_iter().find(|known| cause.contains(known)).unwrap_or("it is not of that form");
    let option = OPTIONS.into_iter().find(|option| cause.contains(&format!("`{option}`")));
    let option = option.map(|option| format!(" {option}")).unwrap_or_default();
    format!(
        "the connection string cannot be read ({what}{option}); write it as in \
         postgres://user:password@host:5432/postgres, and a password's special characters as in %40"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn a_server_elsewhere_must_show_who_it_is_unless_something_else_is_said() {
        let url = "postgres://me:secret@db.example.com:6543/postgres";
        for (query, trust) in [
            ("", Trust::Full),
            ("?sslmode=disable", Trust::Plain),
            ("?sslmode=prefer", Trust::Prefer),
            ("?sslmode=require", Trust::Encrypted),
            ("?pgbouncer=true&sslmode=verify-ca&connection_limit=1", Trust::Authority),
            ("?sslmode=require&sslrootcert=system", Trust::Full),
            ("?sslmode=require&sslrootcert=%2Fetc%2Fca.crt", Trust::Authority),
            ("?sslmode=verify-full&application_name=mine", Trust::Full),
        ] {
            assert_eq!(parse(&format!("{url}{query}")).trust, trust, "{query}");
        }
        assert_eq!(parse("postgres://me@localhost/db").trust, Trust::Prefer);
        assert_eq!(parse("host=/run/postgresql user=me dbname=db").trust, Trust::Prefer);
        assert_eq!(parse("host=10.0.0.1 user=me sslmode=verify-full").trust, Trust::Full);
        let named = parse(&format!("{url}?sslmode=require&sslrootcert=%2Fetc%2Fca.crt"));
        assert_eq!(named.ca.as_deref(), Some(std::path::Path::new("/etc/ca.crt")));
        let ours = parse(&format!("{url}?sslmode=require")).or_ca(Some(&"ours.crt".into()));
        assert_eq!((ours.trust, ours.ca), (Trust::Authority, Some("ours.crt".into())));
    }

    #[test]
    fn what_stands_between_quotes_is_one_value_whatever_it_holds() {
        let address = parse(r"host=db.example.com password='a  b sslmode=disable \' c' sslmode='require' user=me");
        assert_eq!(address.config.get_password(), Some(&b"a  b sslmode=disable ' c"[..]));
        assert_eq!((address.trust, address.config.get_user()), (Trust::Encrypted, Some("me")));
    }

    #[test]
    fn a_place_names_no_secret_and_neither_does_an_error() {
        let address = parse("postgres://me:s3cret@db.example.com:6543/main?sslmode=require");
        assert_eq!(address.place(), "db.example.com:6543/main");
        assert!(!format!("{address:?}").contains("s3cret"));
        for bad in [
            "postgres://me:s3cret@db.example.com/main?sslmode=maybe",
            "postgres://me:s3cret@db.example.com:port/main",
            "postgres://me:s3cret@db.example.com/main?colour=s3cret",
            "host=db.example.com user=me password='s3cret",
            "user=me password=s3cret",
            "mysql://me:s3cret@host/db",
            "postgres://me:[YOUR-PASSWORD]@db.example.com/s3cret",
        ] {
            let error = Address::parse(bad).unwrap_err();
            assert!(!error.contains("s3cret") && error.len() > 20, "{bad}: {error}");
        }
    }
}
