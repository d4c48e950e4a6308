//! Terms are what a caller's key is good for, besides which APIs it opens.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::quantity::Seconds;
use super::spec::RateLimit;

/// What a key is good for. The default is: everything, for ever, without a limit of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyTerms {
    /// From when on the key opens nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The methods that it may be used with; none named is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<KeyMethod>,
    /// The paths, below those of its APIs, that it may be used for; none named is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<KeyPath>,
    /// The plan that says how many requests it may make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// How many requests it may make, of all APIs together; goes before the plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<RateLimit>,
}

impl KeyTerms {
    /// Whether it is over at that moment.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    /// Whether such a request is within its scope.
    ///
    /// # Errors
    /// A sentence for the caller.
    pub fn allow(&self, method: &str, path: &str) -> Result<(), &'static str> {
        if !self.methods.is_empty() && !self.methods.iter().any(|known| known.covers(method)) {
            return Err("this key is not for that method");
        }
        if !self.paths.is_empty() && !self.paths.iter().any(|known| known.covers(path)) {
            return Err("this key is not for that path");
        }
        Ok(())
    }
}

/// A method, in capitals. `GET` covers `HEAD`, which is a `GET` without the body.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyMethod(String);

impl KeyMethod {
    fn covers(&self, method: &str) -> bool {
        self.0 == method || (self.0 == "GET" && method == "HEAD")
    }
}

impl FromStr for KeyMethod {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let is_method = (1..=20).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphabetic() || c == '-');
        if is_method { Ok(Self(text.to_ascii_uppercase())) } else { Err("a method is a word, as in GET".to_owned()) }
    }
}

/// The beginning of a path, in whole segments: `/items` covers `/items` and `/items/1`, not `/itemsets`.
///
/// Compared byte for byte with what a caller sends. So a path that is written in another way, with escapes say, is not
/// covered; it is never the other way round.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyPath(String);

impl KeyPath {
    fn covers(&self, path: &str) -> bool {
        path.strip_prefix(self.0.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for KeyPath {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '?' | '#' | '\\'));
        let is_path = text.starts_with('/') && is_plain && text.len() <= 1000;
        if is_path && !text.split('/').any(|segment| matches!(segment, "." | "..")) {
            Ok(Self(text.to_owned()))
        } else {
            Err("a path begins with `/`, as in /items, and holds no query and no spaces".to_owned())
        }
    }
}

/// Reads and shows as text.
macro_rules! as_text {
    ($type:ty) => {
        impl TryFrom<String> for $type {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.0
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}
as_text!(KeyMethod);
as_text!(KeyPath);

/// A limit in short: `60/1m`. The burst is as large as the limit.
impl FromStr for RateLimit {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no limit; write requests and a period, as in 60/1m");
        let (requests, per) = text.split_once('/').ok_or_else(wrong)?;
        let requests: u32 = requests.trim().parse().map_err(|_| wrong())?;
        let per: Seconds = per.parse()?;
        let periods = Seconds::new(1)..=Seconds::new(30 * 86_400);
        if !(1..=1_000_000).contains(&requests) || !periods.contains(&per) {
            return Err("a limit is of 1 to 1000000 requests in 1s to 30d".to_owned());
        }
        Ok(Self { requests, per, burst: requests })
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.requests, self.per)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(methods: &[&str], paths: &[&str]) -> KeyTerms {
        KeyTerms {
            methods: methods.iter().map(|text| text.parse().unwrap()).collect(),
            paths: paths.iter().map(|text| text.parse().unwrap()).collect(),
            ..KeyTerms::default()
        }
    }

    #[test]
    fn a_scope_names_methods_and_whole_segments() {
        let reads = terms(&["get"], &["/items", "/v1/"]);
        for (method, path, is_in) in [
            ("GET", "/items", true),
            ("GET", "/items/1", true),
            ("HEAD", "/items/", true),
            ("GET", "/v1", true),
            ("GET", "/v1/x", true),
            ("GET", "/itemsets", false),
            ("GET", "/", false),
            ("GET", "//items", false),
            ("GET", "/%69tems", false),
            ("POST", "/items", false),
            ("get", "/items", false),
        ] {
            assert_eq!(reads.allow(method, path).is_ok(), is_in, "{method} {path}");
        }
        assert!(terms(&[], &["/"]).allow("PATCH", "//any/thing").is_ok());
        assert!(KeyTerms::default().allow("PATCH", "/x").is_ok());
    }

    #[test]
    fn what_is_no_method_path_or_limit_is_refused() {
        for text in ["", "GET POST", "G\u{e4}T"] {
            assert!(text.parse::<KeyMethod>().is_err(), "{text:?}");
        }
        for text in ["", "items", "/a b", "/a?b", "/a/../b", "/a/.", "/\u{e4}"] {
            assert!(text.parse::<KeyPath>().is_err(), "{text:?}");
        }
        for text in ["60", "60/", "/1m", "0/1m", "60/1", "60/31d", "-1/1m", "1.5/1m"] {
            assert!(text.parse::<RateLimit>().is_err(), "{text:?}");
        }
        let limit: RateLimit = "60/1m".parse().unwrap();
        assert_eq!(limit, RateLimit { requests: 60, per: Seconds::new(60), burst: 60 });
        assert_eq!(limit.to_string(), "60/1m");
    }
}
