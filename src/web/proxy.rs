//! A proxy is what our requests to others go by, where the environment names one: in the variables that curl goes by, and git.

use std::net::IpAddr;
use std::sync::OnceLock;

use bytes::Bytes;
use http::header::{HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::{Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Cause, Connection, Wire, tls};

/// Those for requests by HTTP and by TLS, each with the name of its variable; and for which hosts there is none.
#[derive(Default)]
pub(super) struct Proxies {
    http: Option<(&'static str, String)>,
    https: Option<(&'static str, String)>,
    none_for: String,
}

/// The one for a request.
pub(super) struct Proxy {
    variable: &'static str,
    at: Intercept,
}

impl Proxies {
    pub(super) fn of_process() -> &'static Self {
        static PROXIES: OnceLock<Proxies> = OnceLock::new();
        PROXIES.get_or_init(|| Self::of(|name| std::env::var(name).ok()))
    }

    /// By an environment. `HTTP_PROXY` counts for nothing, since servers set it to what callers say.
    pub(super) fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|name| Some((*name, variable(name).filter(|value| !value.is_empty())?)))
        };
        Self {
            http: first(&["http_proxy", "all_proxy", "ALL_PROXY"]),
            https: first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            none_for: first(&["no_proxy", "NO_PROXY"]).unwrap_or_default().1,
        }
    }

    /// The one that a request to an address goes by.
    pub(super) fn proxy(&self, uri: &Uri) -> Result<Option<Proxy>, Cause> {
        let named = if uri.scheme_str() == Some("https") { &self.https } else { &self.http };
        let Some((variable, value)) = named.as_ref().filter(|_| !is_here(uri) && !self.has_none(uri)) else {
            return Ok(None);
        };
        let at = Matcher::builder().all(value.as_str()).build().intercept(uri);
        let is_spoken = |at: &Intercept| matches!(at.uri().scheme_str(), Some("http" | "https"));
        // The value itself may hold a password.
        let at = at.filter(|at| is_spoken(at) && is_plain(value)).ok_or_else(|| {
            format!(
                "the proxy that {variable} names cannot be used here; write http://USER:PASSWORD@HOST:PORT, with what is special \
                 in a password as in %40 for @"
            )
        })?;
        Ok(Some(Proxy { variable, at }))
    }

    /// Whether there is none for a host, by `no_proxy`: names with all below them, addresses, and networks.
    fn has_none(&self, uri: &Uri) -> bool {
        let any = Matcher::builder().all("http://any").no(self.none_for.as_str()).build();
        self.none_for.split(',').any(|part| part.trim() == "*") || any.intercept(uri).is_none()
    }
}

impl Proxy {
    /// The host and the port, for people.
    fn name(&self) -> &str {
        self.at.uri().authority().map_or("", |authority| authority.as_str())
    }

    /// What lets us use it, where its address holds that.
    pub(super) fn login(&self) -> Option<&HeaderValue> {
        self.at.basic_auth()
    }

    /// Connects to it.
    pub(super) async fn connect(&self) -> Result<Wire, Cause> {
        let uri = self.at.uri();
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_tls = uri.scheme_str() == Some("https");
        // The ports that curl takes where none is named.
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 1080 });
        let failed = |cause: Cause| format!("cannot reach the proxy {} of {}: {cause}", self.name(), self.variable);
        let stream = TcpStream::connect((host, port)).await.map_err(|error| failed(error.into()))?;
        let stream: Wire = Box::new(stream);
        if !is_tls {
            return Ok(stream);
        }
        Ok(Box::new(tls::connect(host, stream).await.map_err(failed)?))
    }

    /// Has it connect us to a server behind it (RFC 9110, section 9.3.6).
    pub(super) async fn tunnel(&self, stream: Wire, target: &str) -> Result<Wire, Cause> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = Connection(tokio::spawn(connection.with_upgrades()));
        let mut ask = Request::connect(target).header(HOST, target).body(Empty::<Bytes>::new())?;
        if let Some(login) = self.login() {
            ask.headers_mut().insert(PROXY_AUTHORIZATION, login.clone());
        }
        let answer = sender.send_request(ask).await?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer.status(), target));
        }
        let stream = hyper::upgrade::on(answer).await?;
        drop(connection);
        Ok(Box::new(TokioIo::new(stream)))
    }

    /// What is told where it says no.
    pub(super) fn refusal(&self, status: StatusCode, target: &str) -> Cause {
        let (name, variable) = (self.name(), self.variable);
        match (status, self.login()) {
            (StatusCode::PROXY_AUTHENTICATION_REQUIRED, None) => format!(
                "the proxy {name} wants a login (407); write it into {variable}, as in http://USER:PASSWORD@HOST:PORT"
            ),
            (StatusCode::PROXY_AUTHENTICATION_REQUIRED, Some(_)) => {
                format!("the proxy {name} does not take the login that {variable} has (407)")
            }
            _ => format!(
                "the proxy {name} does not connect us to {target}: it answers {status}; have it let us, or name the host in no_proxy"
            ),
        }
        .into()
    }
}

/// Whether nothing of an address can be taken for something else: a password with a slash or an at sign in it would be half a host.
fn is_plain(value: &str) -> bool {
    let rest = value.split_once("://").map_or(value, |(_, rest)| rest);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    !rest.contains(['/', '?', '#']) && rest.matches('@').count() <= 1
}

/// Whether an address is one of this host, which no proxy is asked for.
fn is_here(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(environment: &[(&str, &str)], uri: &str) -> Result<Option<String>, String> {
        let value = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let found = Proxies::of(value).proxy(&uri.parse().unwrap()).map_err(|cause| cause.to_string())?;
        Ok(found.map(|proxy| proxy.name().to_owned()))
    }

    #[test]
    fn the_environment_says_which_host_is_reached_by_which_proxy() {
        let both = [("http_proxy", "http://plain:1"), ("HTTPS_PROXY", "u:p@secure:2"), ("ALL_PROXY", "http://all:3")];
        let is = |environment: &[(&str, &str)], uri: &str, name: &str| {
            assert_eq!(
                at(environment, uri),
                Ok(Some(name).filter(|name| !name.is_empty()).map(str::to_owned)),
                "{uri}"
            );
        };
        is(&both, "http://a.example/", "plain:1");
        is(&both, "https://a.example/", "secure:2");
        is(&both[2..], "http://a.example/", "all:3");
        is(&[("HTTP_PROXY", "http://set-by-a-caller:1")], "http://a.example/", "");
        is(&[("https_proxy", ""), ("ALL_PROXY", "http://all:3")], "https://a.example/", "all:3");
        for here in [
            "http://localhost/",
            "https://x.LOCALHOST./",
            "http://127.1.2.3:80/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
        ] {
            is(&both, here, "");
        }
        let but = |no: &'static str| [("https_proxy", "http://p:1"), ("no_proxy", no)];
        for (no, uri, name) in [
            ("example.org,.corp.example", "https://git.corp.example/", ""),
            ("example.org, .corp.example", "https://api.example.org:8443/", ""),
            ("example.org", "https://notexample.org/", "p:1"),
            ("10.0.0.0/8", "https://10.1.2.3/", ""),
            ("10.0.0.0/8", "https://11.1.2.3/", "p:1"),
            ("2001:db8::/32,192.0.2.7", "https://[2001:db8::1]/", ""),
            ("2001:db8::/32,192.0.2.7", "https://192.0.2.7/", ""),
            ("*", "https://192.0.2.7/", ""),
        ] {
            is(&but(no), uri, name);
        }
        for odd in [
            "socks5://u:s3cret@p:1",
            "http://u:s3cret/@p:1",
            "http://u:x@s3cret@p:1",
            "http://u:x?s3cret@p:1",
            "ftp://u:s3cret@p",
        ] {
            let said = at(&[("all_proxy", odd)], "https://a.example/").unwrap_err();
            assert!(said.contains("all_proxy") && !said.contains("s3cret"), "{said}");
            assert_eq!(at(&[("all_proxy", odd), ("NO_PROXY", "a.example")], "https://a.example/"), Ok(None));
        }
    }
}
