//! Cors are the rules by which pages of other origins may call an API from a browser (the Fetch standard calls it the
//! CORS protocol).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::diagnostic::code;
use super::manifest::{CorsManifest, CorsRulesManifest};
use super::quantity::Seconds;
use super::settle::Settler;
use super::suggest::shorten;
use super::terms::KeyMethod;
use super::yaml::At;

/// The methods where none is named.
pub(super) const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// The headers where none is named: without the first no page could show a key, without the second none send JSON.
pub(super) const HEADERS: [&str; 2] = ["Authorization", "Content-Type"];

/// Which pages of other origins may call an API from a browser, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cors {
    /// Where the pages come from; never empty, and [`Origin::Any`] stands alone and without `credentials`.
    pub origins: Vec<Origin>,
    /// The methods that they may use.
    pub methods: Vec<KeyMethod>,
    /// The headers that they may send, each the name of one.
    pub headers: Vec<String>,
    /// The headers of an answer that they may read, each the name of one.
    pub expose: Vec<String>,
    /// Whether cookies and the like go along.
    pub credentials: bool,
    /// For how long a browser may go by the answer to a preflight.
    pub max_age: Seconds,
}

/// Where pages come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Origin {
    /// From anywhere.
    Any,
    /// From that origin, as a browser writes it.
    One(String),
    /// From any host below one.
    Below {
        /// With what follows it: `https://`.
        scheme: String,
        /// With what goes before it, and the port if any: `.example.com:8443`.
        host: String,
    },
}

impl Origin {
    /// Whether a page is from there; `origin` as a browser says it. Compared byte for byte: browsers have one way of
    /// writing each.
    #[must_use]
    pub fn covers(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::One(one) => one == origin,
            Self::Below { scheme, host } => {
                let inner = origin.strip_prefix(scheme.as_str()).and_then(|rest| rest.strip_suffix(host.as_str()));
                inner.is_some_and(is_host)
            }
        }
    }
}

/// Whether a text is the name of a host, or the front part of one, in lower case.
fn is_host(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    text.len() <= 253 && text.split('.').all(|label| !label.is_empty() && label.bytes().all(is_plain))
}

impl FromStr for Origin {
    type Err = &'static str;

    /// # Errors
    /// What to write instead.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        const AS_IN: &str = "write it as browsers do, in lower case and without a path, as in https://app.example.com";
        if text == "*" {
            return Ok(Self::Any);
        }
        if text == "null" {
            return Err("any page in a sandbox calls itself that; name the page's own origin");
        }
        let (scheme, authority) = text.split_once("://").ok_or(AS_IN)?;
        let is_scheme = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c));
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !authority.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let is_port = |port: &str| !port.starts_with('0') && !port.starts_with('+') && port.parse::<u16>().is_ok();
        if !is_scheme || !port.is_none_or(is_port) {
            return Err(AS_IN);
        }
        if let ("https", Some("443")) | ("http", Some("80")) = (scheme, port) {
            return Err("leave the port out, as browsers do with the one that goes without saying");
        }
        if let Some(below) = host.strip_prefix("*.") {
            if !is_host(below) || !(below.contains('.') || below == "localhost") {
                return Err("put a host that somebody has behind the `*.`, as in https://*.example.com");
            }
            return Ok(Self::Below { scheme: format!("{scheme}://"), host: authority[1..].to_owned() });
        }
        let is_v6 = || {
            let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            inner
                .and_then(|inner| inner.parse::<std::net::Ipv6Addr>().ok().filter(|v6| v6.to_string() == inner))
                .is_some()
        };
        if is_host(host) || is_v6() { Ok(Self::One(text.to_owned())) } else { Err(AS_IN) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::One(one) => f.write_str(one),
            Self::Below { scheme, host } => write!(f, "{scheme}*{host}"),
        }
    }
}

impl TryFrom<String> for Origin {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.to_string()
    }
}

/// Lays what a file says over the rules that hold without it.
pub(super) fn settle(settler: &mut Settler<'_, '_>, written: &At<CorsManifest>, cors: &mut Option<Arc<Cors>>) {
    let CorsRulesManifest { origins, methods, headers, expose, credentials, max_age } = match &written.value {
        CorsManifest::None => {
            *cors = None;
            return;
        }
        CorsManifest::Rules(rules) => rules,
    };
    if origins.as_ref().is_none_or(|origins| origins.value.is_empty()) && (cors.is_none() || origins.is_some()) {
        let hint = "name the pages that may call, as in { origins: [https://app.example.com] }, or write none";
        settler.error(code::MISSING_KEY, written, "CORS needs `origins`", hint);
        return;
    }
    let mut settled = cors.take().map_or_else(unnamed, Arc::unwrap_or_clone);
    if let Some(origins) = origins {
        take(settler, &origins.value, 100, &mut settled.origins, |text| {
            let wrong = |hint| (format!("{:?} is no origin of pages", shorten(text)), hint);
            text.parse().map_err(wrong)
        });
        if settled.origins.len() > 1 && settled.origins.contains(&Origin::Any) {
            let hint = "write `*` alone, or leave it out";
            settler.error(code::BAD_VALUE, origins, "`*` is any page already", hint);
        }
    }
    if let Some(methods) = methods {
        take(settler, methods, 20, &mut settled.methods, |text| {
            text.parse().map_err(|_| (format!("{:?} is no method", shorten(text)), "write a word, as in GET"))
        });
    }
    for (written, names) in [(headers, &mut settled.headers), (expose, &mut settled.expose)] {
        if let Some(written) = written {
            take(settler, written, 100, names, header);
        }
    }
    if let Some(credentials) = credentials {
        settled.credentials = credentials.value;
    }
    settler.within(max_age.as_ref(), Seconds::new(0)..=Seconds::new(86_400), &mut settled.max_age);
    if settled.credentials && settled.origins.contains(&Origin::Any) {
        let message = "with `credentials`, `*` would let any page act as whoever looks at it, and browsers refuse it";
        let hint = "name the origins that may, or leave `credentials` out: a key in `Authorization` needs none";
        match (credentials, origins) {
            (Some(credentials), _) => settler.error(code::BAD_VALUE, credentials, message, hint),
            (None, Some(origins)) => settler.error(code::BAD_VALUE, origins, message, hint),
            (None, None) => settler.error(code::BAD_VALUE, written, message, hint),
        }
    }
    *cors = Some(Arc::new(settled));
}

/// What holds where nothing else is said; but for the origins, without which it is nothing.
fn unnamed() -> Cors {
    Cors {
        origins: Vec::new(),
        methods: METHODS.iter().filter_map(|method| method.parse().ok()).collect(),
        headers: HEADERS.map(str::to_owned).into(),
        expose: Vec::new(),
        credentials: false,
        max_age: Seconds::new(600),
    }
}

/// Takes the items of a list that can be read, each once.
fn take<T: PartialEq>(
    settler: &mut Settler<'_, '_>,
    written: &[At<String>],
    most: usize,
    taken: &mut Vec<T>,
    read: impl Fn(&str) -> Result<T, (String, &'static str)>,
) {
    taken.clear();
    for item in written {
        if taken.len() == most {
            settler.error(code::OUT_OF_BOUNDS, item, format!("{most} are the most"), "leave some out");
            return;
        }
        match read(&item.value) {
            Ok(value) if taken.contains(&value) => {
                settler.error(code::BAD_VALUE, item, "this is there already", "write it once");
            }
            Ok(value) => taken.push(value),
            Err((message, hint)) => settler.error(code::BAD_VALUE, item, message, hint),
        }
    }
}

/// The name of a header. Not `*`: to browsers that is all but `Authorization`, and so not what most would mean by it.
fn header(text: &str) -> Result<String, (String, &'static str)> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=100).contains(&text.len()) && text.bytes().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err((format!("{:?} is no name of a header", shorten(text)), "name each, as in Content-Type"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Spec;
    use crate::tree::diagnostic::Diagnostic;
    use crate::tree::settle::read_manifest;
    use crate::tree::source::Source;

    fn read(base: Option<&Cors>, cors: &str) -> (Option<Cors>, Vec<Diagnostic>) {
        let (mut spec, mut findings) = (Spec::built_in("a"), Vec::new());
        spec.route.cors = base.cloned().map(Arc::new);
        let text = format!("route:\n  cors: {cors}\n");
        let spec = read_manifest(&spec, Source::new("api.yaml", &text), &mut findings);
        (spec.route.cors.map(Arc::unwrap_or_clone), findings)
    }

    #[test]
    fn an_origin_covers_what_browsers_say_of_pages_from_there_and_nothing_that_looks_like_it() {
        for (origin, pages, others) in [
            ("*", &["https://a.test", "null", "file://"][..], &[][..]),
            (
                "https://a.test",
                &["https://a.test"],
                &["http://a.test", "https://a.test:8443", "https://b.a.test", "https://a.test.evil", "HTTPS://a.test"],
            ),
            (
                "https://*.a.test",
                &["https://b.a.test", "https://c.b.a.test", "https://x_1.a.test"],
                &[
                    "https://a.test",
                    "https://.a.test",
                    "https://evila.test",
                    "http://b.a.test",
                    "https://b.a.test:8443",
                    "https://evil.test/.a.test",
                    "https://evil.test:1@b.a.test",
                    "https://evil.test?.a.test",
                    "https://b.a.test.evil",
                    "https://..a.test",
                ],
            ),
            ("http://*.localhost:5173", &["http://app.localhost:5173"], &["http://app.localhost"]),
            ("http://[::1]:3000", &["http://[::1]:3000"], &["http://[::1]"]),
            ("capacitor://localhost", &["capacitor://localhost"], &[]),
        ] {
            let read: Origin = origin.parse().unwrap();
            assert_eq!(read.to_string(), origin);
            for page in pages {
                assert!(read.covers(page), "{origin} {page}");
            }
            for other in others {
                assert!(!read.covers(other), "{origin} {other}");
            }
        }
    }

    #[test]
    fn what_no_browser_would_say_is_no_origin() {
        for text in [
            "",
            "null",
            "a.test",
            "//a.test",
            "https://",
            "https://a.test/",
            "https://A.test",
            "https://a.test:443",
            "http://a.test:80",
            "https://a.test:",
            "https://a.test:070",
            "https://a.test:70000",
            "https://u@a.test",
            "https://*",
            "https://*.com",
            "https://a.*.test",
            "https://*a.test",
            "https://b\u{fc}cher.test",
            "http://[::0001]",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn rules_are_laid_over_those_of_the_defaults() {
        let (base, findings) = read(None, "{ origins: [https://a.test], expose: [X-Sum], max_age: 1h }");
        assert_eq!(findings, []);
        let base = base.unwrap();
        assert_eq!(base.methods.iter().map(ToString::to_string).collect::<Vec<_>>(), METHODS);
        assert_eq!((&base.headers[..], base.credentials), (&HEADERS.map(str::to_owned)[..], false));
        let (over, findings) = read(Some(&base), "{ methods: [get], headers: [], credentials: true }");
        assert_eq!(findings, []);
        let expected =
            Cors { methods: vec!["GET".parse().unwrap()], headers: vec![], credentials: true, ..base.clone() };
        assert_eq!(over, Some(expected));
        assert_eq!(read(Some(&base), "none"), (None, vec![]));
    }

    #[test]
    fn a_finding_points_at_what_is_wrong_and_says_what_to_do() {
        for (cors, code, column, end_column, hint) in [
            ("{ methods: [GET] }", code::MISSING_KEY, 9, 27, "name the pages that may call"),
            ("{ origins: [] }", code::MISSING_KEY, 9, 24, "name the pages that may call"),
            ("{ origins: [https://a.test/] }", code::BAD_VALUE, 21, 36, "write it as browsers do"),
            ("{ origins: ['null'] }", code::BAD_VALUE, 21, 27, "any page in a sandbox"),
            ("{ origins: ['*', https://a.test] }", code::BAD_VALUE, 20, 41, "write `*` alone"),
            ("{ origins: ['*'], credentials: true }", code::BAD_VALUE, 40, 44, "name the origins that may"),
            ("{ origins: ['*'], methods: [G T] }", code::BAD_VALUE, 37, 40, "write a word"),
            ("{ origins: ['*'], headers: ['*'] }", code::BAD_VALUE, 37, 40, "name each"),
            ("{ origins: ['*'], expose: [a, a] }", code::BAD_VALUE, 39, 40, "write it once"),
            ("{ origins: ['*'], max_age: 2d }", code::OUT_OF_BOUNDS, 36, 38, "write a value from 0s to 1d"),
            ("some", code::WRONG_TYPE, 9, 13, ""),
            ("{ origin: ['*'] }", code::UNKNOWN_KEY, 11, 17, "did you mean `origins`?"),
        ] {
            let (_, findings) = read(None, cors);
            let finding = &findings[0];
            let span = finding.span.unwrap();
            assert_eq!(
                (finding.code, span.line, span.column, span.end_column),
                (code, 2, column, end_column),
                "{cors}"
            );
            assert!(finding.hint.starts_with(hint), "{cors}: {}", finding.hint);
        }
        let (base, _) = read(None, "{ origins: ['*'] }");
        assert_eq!(read(base.as_ref(), "{ credentials: true }").1[0].code, code::BAD_VALUE);
    }
}
